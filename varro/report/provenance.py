"""The sections on where it comes from: news and feeds, machine, checkpoint, configuration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from varro.domain import Stage
from varro.report.days import timing_chart
from varro.report.metrics import MEMORY, format_value
from varro.report.page import Part, Row, Section, Table, metric_row, number, shown

MAX_FEEDS = 40
"""rows of a table that grows with the world, so that the page stays light"""
_FEED_STATES = {"ok": "✓ ok", "unchanged": "✓ unchanged", "resting": "○ resting",
                "failed": "✗ failed"}  # fmt: skip


def news_section(news: Part, feeds: Sequence[Part]) -> Section:
    """What arrived, and how each feed is."""
    names = ["n_new", "n_train", "n_heldout", "n_malformed", "n_duplicates", "n_feeds", "n_alive"]
    names += [name for name in ("n_unreached", "n_missed") if news.get(name)]
    counts = tuple(metric_row(name, number(news, name)) for name in names)
    counts += tuple(
        Row(f"Left out: {shown(reason)}", (shown(n),)) for reason, n in news["left_out"].items()
    )
    failed = news["failures"]
    failures = tuple(Row(shown(f["feed"]), (shown(f["reason"]),)) for f in failed[:MAX_FEEDS])
    caption = f"Source {shown(news['source'])}, corpus {shown(news['corpus'])}"
    tables = [Table(caption, ("What arrived", "n"), counts)]
    if failures:
        caption = f"Feeds that failed, n = {len(failed)}{_more(len(failed))}"
        tables.append(Table(caption, ("Feed", "Reason"), failures))
    if feeds:
        tables.append(_feeds(feeds))
    notes = [] if failures else ["No feed failed."]
    if news["degraded"]:
        notes.append(f"The day is degraded: {shown(news['degraded'])}. It is not trained on.")
    return Section("News and feeds", notes=tuple(notes), tables=tuple(tables))


def machine_section(
    machine: Part,
    checkpoint: Part | None,
    timings: Part,
    memory: Part,
    changes: Sequence[Part] | None,
) -> Section:
    """What it ran on, how long and in how much memory, what it published, and what was configured
    otherwise than the day before."""
    facts = [Row(name, (shown(machine[name]),)) for name in ("device", "blas", "platform")]
    facts.append(Row("python", (shown(machine["python"]),)))
    if machine.get("n_processes", 1) > 1:
        facts.append(metric_row("n_processes", number(machine, "n_processes")))
    facts += [Row(name, (shown(version),)) for name, version in machine["versions"].items()]
    if revision := machine.get("revision"):
        facts.insert(0, Row("revision of the code", (shown(revision),)))
    for name in ("n_parameters", "trainable_frac"):
        facts.append(metric_row(name, number(machine, name)))
    if machine.get("disk_free_gb") is not None:
        facts.append(metric_row("disk_free_gb", f"{number(machine, 'disk_free_gb')} GB"))
    tables = [Table("Machine", ("What", "Value"), tuple(facts))]
    if memory:
        tables.append(_memory_table(memory))
    if changes:
        tables.append(_changes(changes))
    notes = (
        "What was configured the day before is not known."
        if changes is None
        else ("" if changes else "The configuration is that of the day before."),
        "" if checkpoint else "No checkpoint was published.",
    )
    said = Section(
        "Machine and provenance",
        notes=tuple(note for note in notes if note),
        charts=timing_chart([(s, timings[s]) for s in _in_order(timings)]),
        tables=tuple(tables),
    )
    if checkpoint is None:
        return said
    names = ("version", "parent", "path", "sha256")
    published = tuple(Row(name, (shown(checkpoint[name]),)) for name in names)
    table = Table("Checkpoint that serves", ("What", "Value"), published)
    return replace(said, tables=(table, *said.tables))


def _feeds(feeds: Sequence[Part]) -> Table:
    headers = ("Feed", "State", "Answer", "Entries", "New", "Failed in a row", "Newest headline",
               "Next asked", "Seconds")  # fmt: skip
    rows = tuple(
        Row(
            shown(feed["feed"]),
            (
                _state(feed),
                shown(feed["http_status"]),
                number(feed, "n_entries", "n_headlines"),
                number(feed, "n_new"),
                format_value("n_new", feed["n_failures"]),
                shown(feed["newest"]),
                shown(feed["next_at"]),
                number(feed, "seconds"),
            ),
        )
        for feed in sorted(feeds, key=_worst_first)[:MAX_FEEDS]
    )
    caption = f"Feeds, n = {len(feeds)}, the worst first{_more(len(feeds))}"
    return Table(caption, headers, rows)


def _more(n: int) -> str:
    return f"; {n - MAX_FEEDS} more not shown" if n > MAX_FEEDS else ""


def _state(feed: Part) -> str:
    said = _FEED_STATES.get(feed["status"], shown(feed["status"]))
    why = f": {feed['reason']}" if feed["reason"] else ""
    return said + why + (f"; moved to {feed['moved_to']}" if feed["moved_to"] else "")


def _worst_first(feed: Part) -> tuple[int, str]:
    return -int(feed["n_failures"] or 0), str(feed["feed"])


def _changes(changes: Sequence[Part]) -> Table:
    rows = tuple(
        Row(shown(c["key"]), (shown(c["before"]), shown(c["after"]))) for c in changes[:MAX_FEEDS]
    )
    caption = f"Configured otherwise than the day before, n = {len(changes)}{_more(len(changes))}"
    return Table(caption, ("Setting", "Before", "Now"), rows)


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
