"""The form of report.json: its number, and older forms brought up to it. Pure.

A report that an earlier Varro wrote is rendered by this one: what it did not say yet is null or
empty, and the page leaves it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from varro.errors import VarroError
from varro.evaluation.best_of import sharpening
from varro.report.verdict import HELD_BACK, NO_UPDATE, TRAINED, with_warnings

SCHEMA = 7
_OLDEST = 5

EMPTY: dict[str, Any] = {
    **dict.fromkeys((
        "previous", "learned", "evaluation", "settled", "canaries", "calibration", "update",
        "entropy_first", "forecast", "n_in_group", "news", "checkpoint", "config_changes",
        "rollback", "rollback_to_base", "limits", "changes", "histogram", "best_of", "cadence",
    )),
    **{key: [] for key in ("week", "history", "apart", "guard", "best", "worst", "divided",
                           "random", "display", "feeds", "lineage", "alarms", "to_do",
                           "not_finite")},
    "is_placebo": False,
    "n_probabilities": 0,
    "pages": {"settled": [], "made": []},
}  # fmt: skip
"""what a report says of which nothing is known"""

_WORDS_OF_5 = {
    "trained": (TRAINED, None),
    "no update": (NO_UPDATE, "too little to learn from"),
    "first day": (NO_UPDATE, "first day"),
    "refused": (HELD_BACK, "training guard"),
    "day refused": (HELD_BACK, "day guard"),
    "degraded": (HELD_BACK, "thin news"),
    "rolled back": (HELD_BACK, "rolled back"),
    "canaries out of order": (HELD_BACK, "canaries out of order"),
}


def upgraded(report: Mapping[str, Any]) -> dict[str, Any]:
    """The report in the present form, whichever it was written in.

    Raises: VarroError, in one line, if its form is newer than this Varro, older than it can read,
    or no report at all.
    """
    schema = report.get("schema") if isinstance(report, Mapping) else None
    if schema == SCHEMA:
        return dict(report)
    day = report.get("day", "the day") if isinstance(report, Mapping) else "the day"
    if not isinstance(schema, int) or not _OLDEST <= schema < SCHEMA:
        raise VarroError(
            f"report.json of {day} has schema {schema!r}, this Varro reads {_OLDEST} to {SCHEMA}: "
            f"'varro report --day {day}' writes it again from the ledger"
        )
    return _from_6(_from_5(report) if schema == 5 else report)


def _from_6(report: Mapping[str, Any]) -> dict[str, Any]:
    """It told KL as before the update, nothing of a refused one, and of a policy that does worse
    that its forecasts differ less."""
    kl = (report["update"] or {}).get("kl_ref_after")
    after = dict.fromkeys(("mean", "low", "high")) | {"today": kl, "n_days": 0}
    changes, best_of = report["changes"], report["best_of"]
    return {
        **report,
        "schema": SCHEMA,
        "history": [
            {"kl_ref_after": kl if row["day"] == report["day"] else None, **row}
            for row in report["history"]
        ],
        "changes": None if changes is None else {"kl_ref_after": after, **changes},
        "best_of": None if best_of is None else {**best_of, "word": sharpening(best_of["pooled"])},
    }


def _from_5(report: Mapping[str, Any]) -> dict[str, Any]:
    known = report["verdict"]
    word, reason = _WORDS_OF_5[known["word"]]
    verdict = with_warnings({"word": word, "reason": reason, "text": known["text"]},
                            len(report["alarms"]))  # fmt: skip

    def with_page(part: Mapping[str, Any]) -> dict[str, Any]:
        return {"page": None, "made_at": None, **part}

    evaluation = report["evaluation"]
    new = dict.fromkeys(("reward_difference", "reward_low", "reward_high"))
    return {
        **EMPTY,
        **report,
        "schema": SCHEMA,
        "verdict": verdict,
        "learned": {"days_for_this_lift": None, **report["learned"]},
        "evaluation": None if evaluation is None else {**new, "n_reward": 0, **evaluation},
        **{
            kind: [with_page(part) for part in report[kind]]
            for kind in ("best", "worst", "display")
        },
    }
