"""report.json from a day's facts: verdicts, parses, and what the alarms are given."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from varro.config import load_config
from varro.domain import (
    AdvantageInfo,
    CheckpointInfo,
    EvaluationInfo,
    Forecast,
    Group,
    Headline,
    Role,
    Settlement,
    Stage,
    StageRun,
    UpdateInfo,
)
from varro.evaluation.claim import claimed_means
from varro.evaluation.evaluate import PARTS
from varro.report.apart import components_apart
from varro.report.build import ReportFacts, build_report
from varro.report.history import history_rows
from varro.report.line import metrics_line
from varro.report.pages import render_html, render_markdown, write_report
from varro.report.verdict import MARKS, in_words
from varro.reward.score import News, score_texts
from varro.reward.summary import summarize_day

ROOT = Path(__file__).resolve().parent.parent
NIGHT = datetime(2026, 1, 6, tzinfo=UTC)
HEADLINE = "Copper prices steady before the strike vote"
OUTCOME = "Copper prices rise 2 % after the strike vote"
OWN = (
    "The metal's price will rise by about 1.5% by tomorrow, driven by supply cuts. "
    "Check the exchange's closing report."
)
COPIED = "Copper prices steady before the strike vote today."


def test_a_full_day_becomes_a_page_of_values_that_json_can_hold() -> None:
    """Catches a key that one side writes and the other reads under another name."""
    facts = _facts()
    report = build_report(facts)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["schema"] == 7
    for text in (render_html(report), render_markdown(report)):
        assert "Copper prices steady" in text
    assert report["display"][0]["forecast_id"] == "f-0"
    assert report["n_in_group"] == 8


def test_beats_are_read_as_the_scorer_read_them_and_placed_in_the_whole_text() -> None:
    """Catches a parse of the headline's copied sentence, which the scorer strips, and a span that
    is shifted by what was stripped."""
    text = f"{COPIED}\n{OWN}"
    report = build_report(_facts(texts=[text, OWN]))
    shown = next(e for e in report["best"] + report["worst"] if e["text"] == text)
    plain = next(e for e in report["best"] + report["worst"] if e["text"] == OWN)
    assert shown["beats"]["scores"] == plain["beats"]["scores"]
    pieces = [(beat, text[start:end]) for beat, start, end in shown["beats"]["spans"]]
    assert pieces[0] == ("copied", COPIED)
    assert pieces[1:] == [(beat, OWN[a:b]) for beat, a, b in plain["beats"]["spans"]]
    assert ("magnitude", "1.5%") in pieces and ("timeframe", "by tomorrow") in pieces
    assert shown["beats"]["dates"] == ["2026-01-06", "2026-01-06"]
    assert shown["beats"]["sign"] == 1


def test_stored_scores_are_those_of_the_shown_parse() -> None:
    """Catches a report that reads with another date or headline than the settlement did."""
    facts = _facts(texts=[OWN, COPIED + " " + OWN])
    stored = {s.forecast_id: s.components for s, _ in facts.settled}
    report = build_report(facts)
    for example in report["best"]:
        for beat, score in example["beats"]["scores"].items():
            assert stored[example["forecast_id"]][beat] == score, beat


def test_an_example_has_the_parts_of_its_score() -> None:
    """Catches an example whose reward cannot be followed back to what it was made of."""
    facts = _facts()
    example = build_report(facts)["best"][0]
    settlement = next(s for s, _ in facts.settled if s.forecast_id == example["forecast_id"])
    for part in ("format", "semantic", "contrast", "vote", "margin", "gate"):
        assert example[part] == settlement.components[part]
    assert example["advantage"] == 1.25
    assert example["outcome"] == OUTCOME
    assert example["invalid_reason"] is None


def test_best_and_worst_never_show_a_forecast_twice() -> None:
    """Catches a day of three forecasts that lists each as best and as worst."""
    report = build_report(_facts(texts=[OWN, "Rise.", "It will fall."]))
    ids = [e["forecast_id"] for e in report["best"] + report["worst"]]
    assert sorted(ids) == ["f-0", "f-1", "f-2"]
    assert [e["invalid_reason"] for e in report["best"]] == [None, "too short", "too short"]


def test_unsettled_and_base_forecasts_are_no_examples() -> None:
    """Catches the frozen base's best forecast shown as the served policy's."""
    facts = _facts()
    base = [(s, replace(g, role=Role.BASE)) for s, g in facts.settled]
    void = [(replace(s, reward=None, components={}), g) for s, g in facts.settled]
    for settled in (base, void):
        report = build_report(replace(facts, settled=settled))
        assert report["best"] == report["worst"] == []


@pytest.mark.parametrize(
    ("settle", "reason", "word", "said"),
    [
        (
            {},
            "",
            "TRAINED WITH WARNINGS (2 alarms)",
            "Policy v1 became v2 after learning from 7 of 8 settled forecasts.",
        ),
        (
            {"refused": {"2026-01-04": "7 outcomes, 10 are needed"}},
            "",
            "TRAINED WITH WARNINGS (2 alarms)",
            "The forecasts of 2026-01-04 were refused: 7 outcomes, 10 are needed.",
        ),
        (
            {"canaries": {"n_headlines": 8, "frozen": False, "means": {}, "broken": "shuffled"}},
            "the canaries are out of order: exact is not above shuffled",
            "HELD BACK (canaries out of order)",
            "Nothing was trained: the exact outcome does not score above shuffled.",
        ),
        (
            {"refused": {"2026-01-05": "too old"}},
            "2026-01-05 was refused: too old",
            "HELD BACK (day guard)",
            "Nothing was trained. The forecasts of 2026-01-05 were refused: too old.",
        ),
        (
            {},
            "refused: kl_ref 13 past 12",
            "HELD BACK (training guard)",
            "The update was refused: kl_ref 13 past 12;",
        ),
        (
            {},
            "rolled back: worse, lift -0.1",
            "HELD BACK (rolled back)",
            "rolled back: worse, lift -0.1. It has",
        ),
        (
            {"n_settled": 0, "n_void": 0},
            "0 groups",
            "NO UPDATE (first day)",
            "Nothing was due to be settled; the first forecasts were made today.",
        ),
        (
            {"n_settled": 0, "n_void": 0, "n_pending_groups": 12, "previous": "2026-01-05"},
            "0 groups",
            "NO UPDATE (nothing due)",
            "Nothing was due to be settled: 12 groups wait until their time has passed, or for",
        ),
        (
            {"n_settled": 0, "n_void": 0, "n_pending_groups": 0, "previous": "2026-01-05"},
            "0 groups",
            "NO UPDATE (nothing due)",
            "Nothing was due to be settled: no forecast of the days before waits.",
        ),
        (
            {},
            "1 settled group, 2 are needed",
            "NO UPDATE (too little to learn from)",
            "1 settled group, 2 are needed.",
        ),
        (
            {"refused": {"2026-01-05": "too old"}},
            "the day is degraded: 9 new headlines, 10 are needed",
            "HELD BACK (thin news)",
            "news is thin: 9 new headlines, 10 are needed. The forecasts of 2026-01-05 were",
        ),
    ],
)
def test_the_verdict_says_what_the_night_came_to(
    settle: dict[str, Any], reason: str, word: str, said: str
) -> None:
    """Catches a refused day, a broken scorer or a rollback that reads, or looks, like an ordinary
    night without an update; and a second day on which nothing is due yet, because the run was begun
    in the evening before, told as the first."""
    facts = replace(_facts(settle=settle), previous=settle.get("previous"))
    degraded = reason.partition("degraded: ")[2]
    if degraded:
        facts.stages[0].detail["degraded"] = degraded
    if reason:
        facts = replace(facts, update=None, advantages={})
        facts = replace(
            facts,
            stages=[
                replace(s, detail={"updated": False, "reason": reason})
                if s.stage is Stage.UPDATE
                else s
                for s in facts.stages
            ],
        )
    report = build_report(facts)
    assert in_words(report["verdict"]) == word
    assert said in report["verdict"]["text"]
    mark, tone = MARKS[report["verdict"]["word"]]
    assert f"**{mark} {word}**" in render_markdown(report)
    badge = f'<p class="badge {tone}"><span class="icon" aria-hidden="true">{mark}</span>'
    html = render_html(report)
    assert f"{badge} <strong>{word}</strong>" in html
    assert f"<title>{mark} {word}: Varro, run main, 2026-01-06</title>" in html


def test_a_refused_update_tells_of_the_policy_that_serves_on() -> None:
    """Catches a card that says "not measured" where the refused update found the policy past its
    healthy KL, or one that takes the KL, gradient and clipping of steps that were undone."""
    settled = _stage(Stage.SETTLE, {"components": {}, "n_forecasts": 0, "invalid_reasons": {}})
    measured = {"kl_ref": 9.4, "kl_ref_after": 15.0, "kl_update": 7.7, "entropy": 0.4,
                "grad_norm": 1.2, "clip_frac": 0.2, "n_groups": 8, "n_low_variance": 2}  # fmt: skip
    refused = _stage(Stage.UPDATE, {"updated": False, "metrics": measured})
    (row,) = history_rows([settled, refused], [], [], {}, changes={})
    assert (row["kl_ref"], row["kl_ref_after"], row["entropy"]) == (9.4, 9.4, 0.4)
    assert [row[name] for name in ("version", "kl_update", "grad_norm", "clip_frac")] == [None] * 4
    assert row["no_signal_frac"] == 2 / 8
    (row,) = history_rows([settled, _stage(Stage.UPDATE, {})], [], [], {}, changes={})
    assert (row["kl_ref"], row["kl_ref_after"], row["no_signal_frac"]) == (None, None, None)


def test_a_group_without_spread_is_counted_once() -> None:
    """Catches twice as many groups without signal as there are: those that earned all the same are
    among those that hardly differ."""
    metrics = {"n_groups": 32, "n_zero_variance": 2, "n_low_variance": 3}
    rows = history_rows(
        [_stage(Stage.SETTLE, {"components": {}, "n_forecasts": 0, "invalid_reasons": {}})],
        [UpdateInfo("main", "2026-01-06", 1, 2, metrics)],
        [],
        {},
        changes={},
    )
    assert rows[0]["no_signal_frac"] == 3 / 32


def test_commands_run_from_any_folder_and_in_a_home_that_was_moved() -> None:
    """Catches a rollback that looks for the run in another home, or is refused because the default
    configuration is not the run's; and a repeated day that is written to where the home once lay.
    """
    facts = _facts()
    config = facts.config.model_copy(update={"home": Path("/srv/my home")})
    served = CheckpointInfo("main", 4, 3, "2026-01-06", "checkpoints/main/v00004", "0")
    report = build_report(replace(facts, config=config, checkpoint=served))
    file = "/srv/my home/checkpoints/main/v00004/config.toml"
    options = ["--config", file, "--home", "/srv/my home"]
    rollback = shlex.split(report["rollback"])
    assert rollback == ["varro", "rollback", *options, "--to", "3", "--run", "main"]
    to_base = shlex.split(report["rollback_to_base"])
    assert to_base == ["varro", "rollback", *options, "--to", "0", "--run", "main"]
    assert report["rollback"] in [task["command"] for task in report["to_do"]]
    repeat = shlex.split(report["reproduce"])
    assert repeat[:6] == ["varro", "replay", *options]
    assert repeat[-4:] == ["--to", "2026-01-06", "--run", "main-again"]
    assert repeat[6:8] == ["--archive", str(config.news.archive)]
    first = build_report(replace(facts, checkpoint=replace(served, version=0, parent=None)))
    assert (first["rollback"], first["rollback_to_base"]) == (None, None)


def test_a_number_that_is_none_is_a_dash_and_something_to_do(tmp_path: Path) -> None:
    """Catches a night without a page because one measure was NaN, or one that shows it as 0."""
    facts = _facts()
    assert facts.update is not None
    metrics = facts.update.metrics | {"kl_ref": float("nan"), "entropy": float("inf")}
    broken = replace(facts.update, metrics=metrics)
    days = [
        replace(stage, day=day) for day in ("2026-01-05", "2026-01-06") for stage in facts.stages
    ]
    before = replace(broken, day="2026-01-05")
    rows = history_rows(days, [before, broken], facts.evaluations, {}, changes={})
    report = build_report(replace(facts, update=broken, first_update=broken, history=rows))
    assert (report["update"]["kl_ref"], report["update"]["entropy"]) == (None, None)
    assert "update.kl_ref" in report["not_finite"]
    (told,) = [t["text"] for t in report["to_do"] if t["text"].startswith("Not a finite number")]
    assert "update.kl_ref" in told
    write_report(tmp_path, report)
    page = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| KL to reference | — | nats a sequence |" in page
    assert "nan" not in page.split() and "inf" not in page.split()
    assert metrics_line(report)["kl_ref"] is None


def test_a_reward_without_its_semantic_part_is_missing_and_not_small() -> None:
    """Catches two means of the reward on one page: a forecast that nothing could be held against
    has a quarter of its form as its reward, which is no low reward."""
    facts = _facts()
    (scored, group), *_ = facts.settled
    other = replace(
        group, id="g2", forecasts=tuple(replace(f, id=f"{f.id}-2") for f in group.forecasts)
    )
    form_only = [
        (replace(s, forecast_id=f"{s.forecast_id}-2", group_id="g2", reward=0.1,
                 components={"format": 0.4, "valid": 1.0}), other)
        for s, _ in facts.settled
    ]  # fmt: skip
    whole = {part["name"]: part for part in components_apart(facts.settled)}
    mixed = {part["name"]: part for part in components_apart([*facts.settled, *form_only])}
    reward = mixed["reward"]
    assert scored.reward is not None and "semantic" in scored.components
    assert (reward["mean"], reward["n"]) == (whole["reward"]["mean"], len(facts.settled))
    assert reward["missing_frac"] == 0.5
    assert mixed["format"]["n"] == 2 * len(facts.settled)
    assert mixed["format"]["correlation"] == whole["format"]["correlation"]
    assert [p["mean"] for p in components_apart(form_only) if p["name"] == "reward"] == [None]


def test_the_guards_word_is_in_the_report_whether_or_not_there_was_an_update() -> None:
    """Catches a refused day whose figures are lost with the update that was not."""
    facts = _facts()
    report = build_report(facts)
    assert report["guard"] == ["accept: update"]
    assert "guard" not in report["update"]
    detail = {"updated": False, "reason": "refused: x", "metrics": {"guard": ["refuse: x"]}}
    stages = [*facts.stages[:2], replace(facts.stages[2], detail=detail)]
    report = build_report(replace(facts, update=None, advantages={}, stages=stages))
    assert report["guard"] == ["refuse: x"]
    assert [a["name"] for a in report["alarms"] if a["found"] == "refuse: x"] == ["training guard"]
    for text in (render_html(report), render_markdown(report)):
        assert "Guard, refuse: x" in text
    idle = [*facts.stages[:2], replace(facts.stages[2], detail={"updated": False, "reason": "x"})]
    report = build_report(replace(facts, update=None, advantages={}, stages=idle))
    assert report["guard"] == []


def test_directions_are_pooled_by_forecasts_and_not_by_days() -> None:
    """Catches a mean of days: 8 of 10 and 0 of 30 are 20 %, not 40 %."""
    days = [_evaluation("2026-01-05", n=10, frac=0.8), _evaluation("2026-01-06", n=30, frac=0.0)]
    days.append(_evaluation("2026-01-07", n=0, frac=None))
    accuracy = build_report(replace(_facts(), evaluations=days))["learned"]["accuracy"]
    assert accuracy["served"] == {"n": 40, "frac": pytest.approx(0.2)}


def test_the_week_holds_the_newest_seven_days_that_have_both_numbers() -> None:
    """Catches a style watch that looks at the run's first week for ever, or at days without a
    placebo."""
    days = [_evaluation(f"2026-01-{n:02}", n=1, frac=1.0, reward=n / 100) for n in range(1, 10)]
    days[8].detail["differences"]["placebo"] = []
    week = build_report(replace(_facts(), evaluations=days))["week"]
    assert [d["day"] for d in week] == [f"2026-01-{n:02}" for n in range(2, 9)]
    assert week[-1] == {"day": "2026-01-08", "reward": 0.08, "placebo": 0.0}


def test_the_share_of_repeating_forecasts_counts_the_trained_ones() -> None:
    """Catches a mean of repetition, which a few broken forecasts hide in."""
    # 22 words have 20 trigrams, of which "up and up and up …" leaves few distinct ones.
    babble = "Prices go up and " + "up and " * 10 + "stop."
    facts = _facts(texts=[OWN, OWN, OWN, babble])
    report = build_report(facts)
    assert report["settled"]["repeating_frac"] == 0.25
    as_base = [(s, replace(g, role=Role.BASE)) for s, g in facts.settled]
    assert build_report(replace(facts, settled=as_base))["settled"]["repeating_frac"] is None
    # All four meet the one outcome there is: a hub too.
    assert [a["name"] for a in report["alarms"]] == ["repetition", "hub"]


def test_weights_stand_beside_the_shares_that_came_of_them() -> None:
    """Catches weights shown as what the gradient saw."""
    influence = build_report(_facts())["settled"]["influence"]
    assert influence["format"] == {"weight": 0.25, "share": 0.2, "spread": None}
    assert influence["semantic"]["share"] == 0.8


def _facts(texts: list[str] | None = None, settle: dict[str, Any] | None = None) -> ReportFacts:
    """A day on which one group was settled and trained on."""
    config = load_config(ROOT / "configs" / "embedded.toml")
    headline = _headline("h", HEADLINE)
    outcome = _headline("o", OUTCOME)
    texts = texts or [OWN, "Copper could go either way this week, and nobody knows which it is."]
    forecasts = tuple(
        Forecast(f"f-{k}", "g", k, (1, 2), np.zeros(2, np.float32), text, "stop", k)
        for k, text in enumerate(texts)
    )
    group = Group(
        "g", "main", "2026-01-05", Role.TRAIN, headline, 1, NIGHT, "prompt-1", (1,), forecasts
    )
    scored = score_texts(
        texts,
        [0] * len(texts),
        News((HEADLINE,), (OUTCOME,), (("Rain in the valley",), ("A match is won",))),
        embedder=_Letters(),
        config=config.reward,
        seed=0,
        made_on=NIGHT.date(),
    )
    settlements = [
        Settlement(f.id, "g", "2026-01-06", "v", s.reward, s.components, "o", None, s.invalid)
        for f, s in zip(forecasts, scored, strict=True)
    ]
    detail = {
        "reward_version": "v",
        **summarize_day([group], settlements),
        "buckets": {},
        "refused": {},
        "canaries": None,
        "rivals": {},
        **dict.fromkeys(("n_pending_groups", "n_placebo_days", "n_outcomes", "n_repeats",
                         "n_doubles", "n_instructions"), 0),
        **(settle or {}),
    }  # fmt: skip
    ingest = {
        "corpus": "world",
        "n_new": 2,
        "n_malformed": 0,
        "n_duplicates": 0,
        "n_feeds": 1,
        "failures": [],
    }
    metrics = {
        **dict.fromkeys(("kl_ref", "kl_ref_after", "kl_coef", "kl_update", "kl_sampler",
                         "clip_frac", "ratio_mean", "entropy", "grad_norm", "loss", "lr",
                         "tokens_per_s", "kl_k1", "kl_k3", "kl_base_after", "clip_scale",
                         "lr_scale", "leash_strength", "tis_mean", "leash_loss",
                         "length_correlation"), 0.5),
        **dict.fromkeys(("n_low_variance", "n_too_few", "n_overlong", "n_off_sampler", "n_empty",
                         "n_skipped_steps"), 0),
        "n_groups": 1, "n_forecasts": 8, "n_zero_variance": 0, "n_steps": 4, "n_trained": 7,
        "n_attempts": 1, "old_from": "recomputed", "guard": ["accept: update"],
        "share_format": 0.2, "share_semantic": 0.8,
    }  # fmt: skip
    update = UpdateInfo("main", "2026-01-06", 1, 2, metrics)
    stages = [
        _stage(Stage.INGEST, ingest),
        _stage(Stage.SETTLE, detail),
        _stage(Stage.UPDATE, {"updated": True}),
    ]
    return ReportFacts(
        config=config,
        run="main",
        day="2026-01-06",
        stages=stages,
        settled=[(s, group) for s in settlements],
        outcomes={"o": outcome},
        made=[group],
        base=[replace(group, role=Role.BASE)],
        display=[(group, forecasts[0])],
        pieces=["Copper", ""],
        settles=stages[1:2],
        update=update,
        evaluations=[_evaluation("2026-01-06", n=4, frac=0.5)],
        means=claimed_means([_evaluation("2026-01-06", n=4, frac=0.5)]),
        advantages={
            f.id: AdvantageInfo("main", f.id, "2026-01-06", 1.25, {}) for f in forecasts
        },
        first_update=update,
        checkpoint=None,
        lineage=[],
        machine={
            "device": "cpu", "blas": "x", "platform": "x", "python": "3.11", "versions": {},
            "n_parameters": None, "trainable_frac": None,
        },
        history=history_rows(
            stages, [update], [_evaluation("2026-01-06", n=4, frac=0.5)],
            {"2026-01-06": [("train", "h", s.reward) for s in settlements]}, changes={},
        ),
        changes=None,
        feeds=[],
        feed_news={},
        previous=None,
    )  # fmt: skip


class _Letters:
    """Embeds a text as its letter counts: near texts are near, without a model."""

    def encode(self, texts: Any) -> Any:
        rows = [[t.casefold().count(chr(97 + n)) + 0.01 for n in range(26)] for t in texts]
        found = np.array(rows, dtype=np.float32).reshape(len(rows), 26)
        return found / np.linalg.norm(found, axis=1, keepdims=True)


def _headline(id_: str, title: str) -> Headline:
    return Headline(id_, "world", "feed", "Wire", id_, title, "https://x.example/", None, NIGHT)


def _stage(stage: Stage, detail: dict[str, Any]) -> StageRun:
    return StageRun("main", "2026-01-06", stage, NIGHT, 1.0, detail)


def _evaluation(day: str, *, n: int, frac: float | None, reward: float = 0.02) -> EvaluationInfo:
    means = dict.fromkeys(PARTS, 0.1)
    names = (*PARTS, "base_against_base", "heldout", "echo", "template")
    return EvaluationInfo(
        "main", day, 2, 0.0, None, None,
        {
            "n_shared": 2, "served": means, "base": means,
            "rivals": {"echo": 0.1, "template": 0.0},
            "accuracy": {"served": {"n": n, "frac": frac}, "base": {"n": n, "frac": frac}},
            "differences": {name: [0.0, 0.0] for name in names} | {"reward": [reward, reward]},
        },
    )  # fmt: skip
