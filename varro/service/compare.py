"""What `varro compare` says: several runs beside each other, read from their ledgers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from varro import __version__
from varro.config import Config
from varro.domain import Group, RunInfo, Settlement, Stage
from varro.errors import ConfigError, StageError
from varro.evaluation.across import best_over_days, compare_served, differing, essay_means
from varro.ledger.place import Place, in_words, is_begun, ledger_path, ledger_place
from varro.ledger.store import Ledger, open_ledger
from varro.service.replay import summarize

SCHEMA = 1


@dataclass(frozen=True)
class _Read:
    """One run as its ledger has it."""

    facts: dict[str, Any]
    settings: dict[str, Any]
    scores: Sequence[tuple[Settlement, Group]]


def compare_runs(config: Config, named: Sequence[str]) -> dict[str, Any]:
    """{schema, varro_version, runs: [row], pairs: [each other run against the first], settings:
    [what differs]}, plain JSON values.

    A run is named as `RUN`, in the configured ledger, or as `HOME:RUN`. Nothing is written; a
    ledger of an older schema is migrated, as by any look at it.
    Raises: ConfigError if one is named twice; StageError if there is no such ledger or run.
    """
    if len(set(named)) < len(named):
        twice = next(name for name in named if named.count(name) > 1)
        raise ConfigError(f"{twice!r} is named twice; a run is compared with others")
    read = [_read(config, name) for name in named]
    first, *others = read
    drawn: Any = {"seed": config.run.seed, "n_bootstrap": config.evaluate.n_bootstrap}
    return {
        "schema": SCHEMA,
        "varro_version": __version__,
        "runs": [run.facts for run in read],
        "pairs": [
            {
                "run": other.facts["label"],
                "against": first.facts["label"],
                **compare_served(first.scores, other.scores, **drawn),
            }
            for other in others
        ],
        "settings": differing([run.settings for run in read]),
    }


def _read(config: Config, name: str) -> _Read:
    home, colon, run = name.rpartition(":")
    place: Place = ledger_path(Path(home)) if colon else ledger_place(config)
    if not is_begun(place):
        raise StageError(f"no ledger at {in_words(place)}, where run {run!r} was looked for")
    with open_ledger(place) as ledger:
        info = ledger.run(run)
        if info is None:
            known = ", ".join(repr(other.name) for other in ledger.runs()) or "none yet"
            raise StageError(f"no run {run!r} in {in_words(place)}; there are: {known}")
        return _described(ledger, config, info, label=name)


def _described(ledger: Ledger, config: Config, info: RunInfo, *, label: str) -> _Read:
    own = config.run.model_copy(update={"name": info.name, "seed": info.seed})
    config = config.model_copy(update={"run": own})
    total = summarize(ledger, config)["total"]
    settles = ledger.stage_runs(info.name, stage=Stage.SETTLE)
    scores = ledger.scores(info.name)
    settled = sorted({s.day for s, _ in scores if s.reward is not None})
    facts = {
        "label": label,
        "run": info.name,
        "seed": info.seed,
        "corpus": info.corpus,
        "is_placebo": bool(info.config.get("update.placebo", False)),
        "varro_version": info.varro_version,
        "first_day": settled[0] if settled else None,
        "last_day": settled[-1] if settled else None,
        "n_days": len(settled),
        "n_updates": total["n_updates"],
        "n_forecasts": len({s.forecast_id for s, _ in scores if s.reward is not None}),
        **essay_means(settles),
        "reward": total["reward"],
        "kl_ref": total["kl_ref"],
        "lift": total["lift"],
        "lift_low": total["lift_low"],
        "lift_high": total["lift_high"],
        "n_compared": total["n_compared"],
        "n_lift_days": total["n_lift_days"],
        "claim": total["claim"],
        "blocked_by": total["blocked_by"],
        "shuffled": {
            key: total["controls"]["shuffled"][key] for key in ("mean", "claim_low", "claim_high")
        },
        "best_of": best_over_days(scores, seed=info.seed, n_bootstrap=config.evaluate.n_bootstrap),
    }
    settings = info.config | {"run.corpus": info.corpus, "run.varro_version": info.varro_version}
    return _Read(facts, settings, scores)
