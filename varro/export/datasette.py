"""What Datasette should say of the ledger: tables, columns and units, and a few questions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from varro.export.chosen import write_json
from varro.files import new_file

_RUN = "the run"
_DAY = "ISO date of the day, or of the cycle, with its time"
_OF_A_FEED = {
    "run": _RUN,
    "day": _DAY,
    "url": "address of the feed",
    "as_of": "the day's clock (UTC)",
    "feed": "its name in the list",
    "status": "ok, unchanged, resting (not asked), unreached (no time for it) or failed",
    "reason": "why it failed, rests or was not reached",
    "http_status": "the server's answer",
    "etag": "sent back next time",
    "last_modified": "sent back next time",
    "body_sha256": "of the last body that was a feed",
    "n_entries": "entries of that body",
    "n_untitled": "of them without a title",
    "n_new": "headlines that today's body added",
    "n_failures": "in a row, up to this one",
    "next_at": "not to be asked before (UTC)",
    "moved_to": "new address, if it has moved for good",
    "seconds": "how long it took (s)",
}

TABLES: dict[str, tuple[str, dict[str, str]]] = {
    "runs": (
        "One lineage of policy and configuration.",
        {
            "name": "the run's name",
            "seed": "every random choice is a hash of it",
            "corpus": "the stream of headlines it reads: live, or the name of an archive",
            "config_hash": "hash of `config`",
            "config": "JSON: what may not change within the run",
            "varro_version": "the Varro that began it",
        },
    ),
    "headlines": (
        "News items as ingested. Their clock is first_seen, never the publisher's date.",
        {
            "id": "hash of corpus, feed, guid and title",
            "corpus": "the stream it belongs to",
            "feed": "name of the feed in the list",
            "source": "who published it, as the feed says",
            "guid": "the feed's own identifier",
            "title": "clean text, at most 512 characters",
            "link": "address, as published",
            "published": "what the publisher says (UTC)",
            "first_seen": "when Varro first saw it (UTC)",
        },
    ),
    "groups": (
        "The forecasts for one headline, made together by one version of the policy.",
        {
            "id": "hash",
            "run": _RUN,
            "day": _DAY,
            "role": "train, heldout (never trained on) or base (by the frozen base)",
            "headline_id": "what it is about",
            "policy_version": "the version that sampled it",
            "made_at": "when (UTC); outcomes are first seen later",
            "prompt_version": "the wording of the prompt",
            "prompt_ids": "token ids, little-endian int32",
        },
    ),
    "forecasts": (
        "One sampled answer, exactly as sampled.",
        {
            "id": "hash",
            "group_id": "its group",
            "k": "place within the group, from 0",
            "token_ids": "sampled ids, the stop token included, little-endian int32",
            "sampler_logprobs": "log-probs at the sampling temperature (nats), little-endian "
            "float32",
            "sampler_entropies": "entropy of what each token was drawn from (nats), little-endian "
            "float32; null in older forecasts",
            "text": "what it says",
            "finish_reason": "stop, paragraph, or length: cut at the token limit",
            "seed": "of its random numbers",
        },
    ),
    "settlements": (
        "What a forecast earned against what was then published.",
        {
            "forecast_id": "the forecast",
            "reward_version": "the formula and each of its parts",
            "group_id": "its group",
            "day": "the day that settled it",
            "reward": "the scalar of record, 0 to 1; null if void",
            "components": "JSON: named parts (shares and cosines), without semantic if nothing was "
            "published about the headline",
            "outcome_id": "the headline that matched best",
            "void_reason": "why there is no reward",
            "invalid_reason": "why the text earns nothing, though it was settled",
        },
    ),
    "advantages": (
        "What an update made of a forecast's reward, before the leash.",
        {
            "run": _RUN,
            "forecast_id": "the forecast",
            "day": "the update's day",
            "advantage": "in running spreads",
            "components": "JSON: component and its part of the advantage (running spreads)",
        },
    ),
    "embeddings": (
        "Sentence vectors, kept so that a text is encoded once.",
        {"key": "hash of text and embedder", "vector": "unit vector, little-endian float32"},
    ),
    "checkpoints": (
        "Published versions of the policy; the folders of old ones may be gone.",
        {
            "run": _RUN,
            "version": "0 is the frozen base",
            "parent": "the version it came from",
            "day": "the day that published it",
            "path": "folder, relative to home",
            "sha256": "of the manifest, which holds the sha256 of every file",
        },
    ),
    "updates": (
        "Updates of the policy that were taken.",
        {
            "run": _RUN,
            "day": _DAY,
            "from_version": "the version that was trained",
            "to_version": "the version that came of it",
            "metrics": "JSON: kl_ref (nats a sequence), entropy (nats a token), clip_frac (share), "
            "and the rest of the report's table",
        },
    ),
    "evaluations": (
        "Served policy against frozen base, on the headlines that both forecast.",
        {
            "run": _RUN,
            "day": _DAY,
            "n_headlines": "that could be compared",
            "lift": "mean paired difference in contrast (cosine)",
            "lift_low": "95 % bootstrap over headlines, low end (cosine)",
            "lift_high": "95 % bootstrap over headlines, high end (cosine)",
            "detail": "JSON: differences by headline, means of both sides",
        },
    ),
    "stage_runs": (
        "Finished stages. One with a row is never run again.",
        {
            "run": _RUN,
            "day": _DAY,
            "stage": "ingest, settle, update, publish, forecast, evaluate, report",
            "as_of": "the day's clock (UTC): nothing first seen later was read",
            "seconds": "how long it took (s)",
            "detail": "JSON: what it counted",
        },
    ),
    "feed_reads": ("What came of a feed on a day.", _OF_A_FEED),
    "feed_tries": (
        "What came of a feed in a try at a cycle that then had no news.",
        _OF_A_FEED,
    ),
    "homes": (
        "The home that a Postgres database belongs to.",
        {"id": "what home.id in that home holds", "told": "where it lay when it took the database"},
    ),
    "missed_cycles": (
        "Cycles of live feeds that nobody ran while they could be run.",
        {
            "run": _RUN,
            "day": _DAY,
            "due_at": "when it was due (UTC)",
            "noted_on": "the day that was begun next",
        },
    ),
    "leases": (
        "Who may write to a run.",
        {
            "run": _RUN,
            "number": "fencing number: a smaller one has lost the run",
            "holder": "process and host",
            "since": "(UTC)",
        },
    ),
}

_OUTCOME = "LEFT JOIN headlines AS o ON o.id = s.outcome_id"
_TOLD = (
    "FROM settlements AS s JOIN forecasts AS f ON f.id = s.forecast_id "
    "JOIN groups AS g ON g.id = s.group_id JOIN headlines AS h ON h.id = g.headline_id"
)

QUERIES: dict[str, tuple[str, str]] = {
    "lift_by_day": (
        "Is it learning: policy minus frozen base, by day",
        "SELECT run, day, n_headlines, round(lift, 4) AS lift, round(lift_low, 4) AS low, "
        "round(lift_high, 4) AS high FROM evaluations ORDER BY run, day",
    ),
    "best_forecasts": (
        "What earned most",
        "SELECT s.day, g.run, round(s.reward, 3) AS reward, h.title AS headline, f.text, "
        f"o.title AS outcome, f.id AS forecast {_TOLD} {_OUTCOME} "
        "WHERE s.reward IS NOT NULL AND g.role != 'base' ORDER BY s.reward DESC LIMIT 100",
    ),
    "most_divided": (
        "Headlines whose forecasts earned least alike",
        "SELECT g.run, g.day, h.title AS headline, round(min(s.reward), 3) AS least, "
        "round(max(s.reward), 3) AS most, count(*) AS n FROM settlements AS s "
        "JOIN groups AS g ON g.id = s.group_id JOIN headlines AS h ON h.id = g.headline_id "
        "WHERE s.reward IS NOT NULL AND g.role = 'train' "
        "GROUP BY g.id ORDER BY max(s.reward) - min(s.reward) DESC LIMIT 100",
    ),
    "components_by_day": (
        "The reward taken apart, by day and role",
        "SELECT g.run, s.day, g.role, count(*) AS n, round(avg(s.reward), 3) AS reward, "
        "round(avg(json_extract(s.components, '$.format')), 3) AS format, "
        "round(avg(json_extract(s.components, '$.semantic')), 3) AS semantic, "
        "round(avg(json_extract(s.components, '$.words')), 1) AS words "
        "FROM settlements AS s JOIN groups AS g ON g.id = s.group_id WHERE s.reward IS NOT NULL "
        "GROUP BY g.run, s.day, g.role ORDER BY g.run, s.day, g.role",
    ),
    "open_forecasts": (
        "Not settled yet",
        "SELECT g.run, g.day, g.role, h.title AS headline, f.text FROM forecasts AS f "
        "JOIN groups AS g ON g.id = f.group_id JOIN headlines AS h ON h.id = g.headline_id "
        "WHERE NOT EXISTS (SELECT 1 FROM settlements AS s WHERE s.forecast_id = f.id) "
        "ORDER BY g.day DESC, g.run, g.headline_id, f.k LIMIT 500",
    ),
    "updates_by_day": (
        "Is it safe: leash, entropy, clipping",
        "SELECT run, day, from_version, to_version, "
        "round(json_extract(metrics, '$.kl_ref'), 3) AS kl_ref, "
        "round(json_extract(metrics, '$.entropy'), 3) AS entropy, "
        "round(json_extract(metrics, '$.clip_frac'), 3) AS clip_frac FROM updates "
        "ORDER BY run, day",
    ),
    "feeds_that_fail": (
        "Feeds whose newest read brought nothing",
        "SELECT feed, url, day, status, reason, n_failures FROM feed_reads AS r "
        "WHERE as_of = (SELECT max(as_of) FROM feed_reads WHERE url = r.url) "
        "AND status = 'failed' ORDER BY n_failures DESC, feed",
    ),
    "time_by_stage": (
        "Where the time goes, seconds",
        "SELECT run, stage, count(*) AS n, round(avg(seconds), 1) AS mean, "
        "round(max(seconds), 1) AS longest FROM stage_runs GROUP BY run, stage "
        "ORDER BY run, mean DESC",
    ),
}
_HIDDEN = ("embeddings", "leases")


def datasette_metadata() -> dict[str, Any]:
    """The content of metadata.json for a database called `ledger`."""
    tables: dict[str, Any] = {
        name: {"description": about, "columns": columns}
        for name, (about, columns) in TABLES.items()
    }
    tables["headlines"] |= {"label_column": "title", "sort_desc": "first_seen"}
    for name in _HIDDEN:
        tables[name]["hidden"] = True
    return {
        "title": "Varro's ledger",
        "description": "Facts, appended and never edited: headlines, forecasts, what they earned.",
        "databases": {
            "ledger": {
                "tables": tables,
                "queries": {
                    name: {"title": title, "sql": sql} for name, (title, sql) in QUERIES.items()
                },
            }
        },
    }


def export_datasette(out: Path) -> dict[str, int]:
    """Write metadata.json to a new file; returns how much it describes."""
    with new_file(out, f"export to {out}") as partial:
        write_json(partial, datasette_metadata())
    return {"n_tables": len(TABLES), "n_queries": len(QUERIES)}
