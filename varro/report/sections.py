"""What the page of a day says, section by section, as plain text: report.json in, Page out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from varro.domain import Stage
from varro.report.examples import COPIED, PARTS
from varro.report.learning import learning_section
from varro.report.measures import (
    calibration_section,
    canary_section,
    hygiene_section,
    reward_section,
)
from varro.report.metrics import MEMORY, find_metric, format_value
from varro.report.page import (
    DASH,
    Badge,
    Example,
    Page,
    Part,
    Piece,
    Row,
    Section,
    Table,
    mark_badge,
    metric_row,
    number,
    shown,
)
from varro.reward.summary import BEATS

_VERDICT_MARKS = {
    "trained": ("✓", "good"),
    "no update": ("○", "calm"),
    "first day": ("◆", "calm"),
    "refused": ("✗", "bad"),
    "day refused": ("✗", "bad"),
    "degraded": ("✗", "bad"),
    "rolled back": ("✗", "bad"),
    "canaries out of order": ("✗", "bad"),
}
_DIRECTIONS = {1: "up", -1: "down", 0: "unchanged"}


def build_page(report: Part) -> Page:
    """What the page says, as plain text; every number with its n, a dash where there is none.

    Raises: KeyError if the report lacks a key of its schema.
    """
    return Page(
        title=f"Varro, run {shown(report['run'])}, {shown(report['day'])}",
        made=f"Made {shown(report['made_at'])} by Varro {shown(report['varro_version'])}.",
        badges=(
            mark_badge(report["verdict"]["word"], report["verdict"]["text"], _VERDICT_MARKS),
            _alarm_badge(report["alarms"], report["settled"]),
        ),
        sections=(
            learning_section(
                report["learned"], report["evaluation"], is_placebo=report["is_placebo"]
            ),
            _safety(report["update"], report["entropy_first"], report["guard"]),
            reward_section(report["settled"]),
            hygiene_section(
                report["settled"], report["evaluation"], report["alarms"], report["week"]
            ),
            canary_section(report["canaries"]),
            calibration_section(report["calibration"], report["n_probabilities"]),
            _examples("Best forecasts", report["best"]),
            _examples("Worst forecasts", report["worst"]),
            _new_forecasts(report["forecast"], report["display"], report["n_in_group"]),
            _news(report["news"]),
            _machine(report["machine"], report["checkpoint"], report["timings"], report["memory"]),
        ),
        command=shown(report["reproduce"]),
    )


def _alarm_badge(alarms: Sequence[Part], settled: Part) -> Badge:
    if alarms:
        word = f"{len(alarms)} alarm{'s' if len(alarms) > 1 else ''}"
        return Badge(word, "; ".join(shown(a["name"]) for a in alarms) + ".", "⚠", "bad")
    if not settled["n_settled"]:
        return Badge("no alarm", "Nothing was settled that could raise one.", "○", "calm")
    return Badge("no alarm", "Nothing watched is past its limit.", "✓", "good")


def _safety(update: Part | None, entropy_first: float | None, guard: Sequence[str]) -> Section:
    title = "Is it safe?"
    said = tuple(f"Guard, {shown(line)}" for line in guard)
    if update is None:
        unmoved = "No update was made, so the weights are as they were."
        return Section(title, notes=(unmoved, *said))
    values = {**update, "entropy_first": entropy_first}
    names = ("kl_ref", "kl_k1", "kl_k3", "kl_ref_after", "kl_base_after", "clip_frac", "clip_scale",
             "entropy", "entropy_first", "grad_norm", "n_skipped_steps", "n_attempts", "kl_coef",
             "leash_strength", "kl_update", "kl_sampler", "tis_mean", "ratio_mean", "loss",
             "leash_loss", "lr", "lr_scale", "length_correlation", "tokens_per_s")  # fmt: skip
    left_out = ("n_low_variance", "n_too_few", "n_overlong", "n_off_sampler", "n_empty")
    caption = (
        f"Update v{shown(update['from_version'])} to v{shown(update['to_version'])}, "
        f"n = {number(update, 'n_forecasts')} forecasts in {number(update, 'n_groups')} groups, "
        f"{number(update, 'n_steps')} inner steps, "
        f"{number(update, 'n_zero_variance')} groups without spread; "
        f"{number(update, 'n_trained')} forecasts trained on, left out: "
        + ", ".join(f"{find_metric(n).label.lower()} {number(update, n)}" for n in left_out)
        + f"; old log-probs {shown(update['old_from'])}"
    )
    rows = tuple(
        metric_row(
            name, number(values, name), find_metric(name).unit, find_metric(name).healthy or DASH
        )
        for name in names
    )
    table = Table(caption, ("Measure", "Value", "Unit", "Healthy"), rows)
    return Section(title, notes=said, tables=(table,))


def _examples(title: str, parts: Iterable[Part]) -> Section:
    examples = tuple(
        _example(part, (("Earned", _earned(part)), ("Invalid", part["invalid_reason"])))
        for part in parts
    )
    return Section(
        f"{title}, n = {len(examples)}",
        notes=() if examples else ("No settled forecasts to show.",),
        legend=_legend(examples),
        examples=examples,
    )


def _earned(part: Part) -> str:
    names = ("reward", *PARTS, "advantage")
    earned = ", ".join(f"{name} {number(part, name)}" for name in names)
    return f"{earned}; k = {shown(part['k'])}, {shown(part['role'])}"


def _example(part: Part, facts: Iterable[tuple[str, str | None]] = ()) -> Example:
    present = tuple((what, shown(value)) for what, value in facts if value is not None)
    return Example(
        headline=shown(part["headline"]),
        headline_link=part["headline_link"],
        source=shown(part["source"]),
        facts=(*present, ("Read as", _read(part["beats"])), ("Id", shown(part["forecast_id"]))),
        pieces=_pieces(shown(part["text"]), part["beats"]["spans"]),
        outcome=part.get("outcome"),
        outcome_link=part.get("outcome_link"),
    )


def _read(beats: Part) -> str:
    """The parse in words: what was found of each beat, and how well it is said."""
    sign = beats["sign"]
    found = {
        "direction": None if sign is None else _DIRECTIONS.get(sign, shown(sign)),
        "magnitude": beats["magnitude"],
        "timeframe": _days(beats["dates"]),
        "drivers": ", ".join(map(shown, beats["drivers"])) or None,
    }
    scores = beats["scores"]
    said = [
        f"{beat} {format_value('beat', scores[beat])}"
        + (f" ({found[beat]})" if found.get(beat) is not None else "")
        for beat in BEATS
    ]
    if beats["probability"] is not None:
        said.append(f"probability {number(beats, 'probability')}")
    return "; ".join(said)


def _days(dates: Sequence[object] | None) -> str | None:
    """First and last day of a timeframe, or the one day that it is."""
    return None if dates is None else " to ".join(dict.fromkeys(map(shown, dates)))


def _pieces(text: str, spans: Iterable[Sequence[Any]]) -> tuple[Piece, ...]:
    pieces, end = [], 0
    for beat, start, stop in spans:
        pieces += [Piece(text[end:start]), Piece(text[start:stop], _mark(beat))]
        end = stop
    return tuple(piece for piece in (*pieces, Piece(text[end:])) if piece.text)


def _mark(beat: object) -> str | None:
    return next((known for known in (*BEATS, COPIED) if known == beat), None)


def _legend(examples: Sequence[Example]) -> tuple[Piece, ...]:
    """The marks that stand in the examples, each in its own colours."""
    used = {piece.beat for example in examples for piece in example.pieces}
    return tuple(Piece(beat, beat) for beat in (*BEATS, COPIED) if beat in used)


def _new_forecasts(forecast: Part, display: Iterable[Part], n_in_group: int | None) -> Section:
    made = (
        f"Policy v{shown(forecast['policy_version'])} wrote n = {number(forecast, 'n_forecasts')} "
        f"forecasts in {number(forecast, 'n_groups')} groups: {number(forecast, 'n_tokens')} "
        f"tokens at {number(forecast, 'tokens_per_s')} tokens/s."
    )
    endings = tuple(
        Row(reason, (format_value("n_forecasts", count),), "n_forecasts")
        for reason, count in (forecast["finish_reasons"] or {}).items()
    )
    examples = tuple(_example(part) for part in display)
    chosen = (
        f"Below, n = {len(examples)} headlines, each with the medoid of its group of "
        f"{format_value('n_forecasts', n_in_group)}: the forecast nearest in meaning to the "
        "others. They are sampled, settled and trained on like the rest."
    )
    table = Table(
        f"How they ended, n = {number(forecast, 'n_forecasts')}", ("Ending", "Forecasts"), endings
    )
    return Section(
        "Forecasts made today",
        notes=(made, chosen),
        tables=(table,) if endings else (),
        legend=_legend(examples),
        examples=examples,
    )


def _news(news: Part) -> Section:
    names = ["n_new", "n_train", "n_heldout", "n_malformed", "n_duplicates", "n_feeds", "n_alive"]
    names += [name for name in ("n_unreached", "n_missed") if news.get(name)]
    counts = tuple(metric_row(name, number(news, name)) for name in names)
    counts += tuple(
        Row(f"Left out: {shown(reason)}", (shown(n),)) for reason, n in news["left_out"].items()
    )
    failures = tuple(Row(shown(f["feed"]), (shown(f["reason"]),)) for f in news["failures"])
    caption = f"Source {shown(news['source'])}, corpus {shown(news['corpus'])}"
    tables = [Table(caption, ("What arrived", "n"), counts)]
    if failures:
        failed = f"Feeds that failed, n = {len(failures)}"
        tables.append(Table(failed, ("Feed", "Reason"), failures))
    notes = [] if failures else ["No feed failed."]
    if news["degraded"]:
        notes.append(f"The day is degraded: {shown(news['degraded'])}. It is not trained on.")
    return Section("News and feeds", notes=tuple(notes), tables=tuple(tables))


def _machine(machine: Part, checkpoint: Part | None, timings: Part, memory: Part) -> Section:
    facts = [Row(name, (shown(machine[name]),)) for name in ("device", "blas", "platform")]
    facts.append(Row("python", (shown(machine["python"]),)))
    if machine.get("n_processes", 1) > 1:
        facts.append(metric_row("n_processes", number(machine, "n_processes")))
    facts += [Row(name, (shown(version),)) for name, version in machine["versions"].items()]
    for name in ("n_parameters", "trainable_frac"):
        facts.append(metric_row(name, number(machine, name)))
    times = tuple(
        Row(s, (format_value("seconds", timings[s]),), "seconds") for s in _in_order(timings)
    )
    tables = [Table("Machine", ("What", "Value"), tuple(facts))]
    if times:
        tables.append(Table(f"Wall time, n = {len(times)} stages", ("Stage", "Seconds"), times))
    if memory:
        tables.append(_memory_table(memory))
    if checkpoint is None:
        return Section(
            "Machine and provenance",
            notes=("No checkpoint was published.",),
            tables=tuple(tables),
        )
    names = ("version", "parent", "path", "sha256")
    published = tuple(Row(name, (shown(checkpoint[name]),)) for name in names)
    return Section(
        "Machine and provenance",
        tables=(Table("Checkpoint published", ("What", "Value"), published), *tables),
    )


def _memory_table(memory: Part) -> Table:
    stages = _in_order(memory)
    return Table(
        f"Memory in GB, n = {len(stages)} stages",
        ("What", *stages),
        tuple(metric_row(name, *(number(memory[s], name) for s in stages)) for name in MEMORY),
    )


def _in_order(stages: Iterable[str]) -> list[str]:
    """Names of stages as they follow each other in a day, others after them."""
    known = [stage.value for stage in Stage]
    return sorted(stages, key=lambda s: (known.index(s) if s in known else len(known), s))
