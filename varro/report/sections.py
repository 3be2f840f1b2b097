"""What the page of a day says, section by section, as plain text: report.json in, Page out."""

from __future__ import annotations

import re
from collections.abc import Sequence

from varro.report.best_of import best_of_section
from varro.report.cadence import cadence_section
from varro.report.cards import cards_of, sentence_of
from varro.report.learning import learning_section
from varro.report.measures import (
    calibration_section,
    canary_section,
    hygiene_section,
    reward_section,
)
from varro.report.page import Badge, Page, Part, Section, Task, shown, used_metrics
from varro.report.provenance import machine_section, news_section
from varro.report.safety import safety_section
from varro.report.said import new_section, said_section
from varro.report.verdict import MARKS, in_words


def build_page(report: Part) -> Page:
    """What the page says, as plain text; every number with its n, a dash where there is none.

    Raises: KeyError if the report lacks a key of its schema.
    """
    sections = tuple(_sections(report))
    word = report["verdict"]["word"]
    icon, tone = MARKS.get(word, ("•", "calm"))
    commands = (("Repeat the day", report["reproduce"]), ("Roll back", report["rollback"]))
    return Page(
        title=f"Varro, run {shown(report['run'])}, {shown(report['day'])}",
        made=f"Made {shown(report['made_at'])} by Varro {shown(report['varro_version'])}.",
        state=Badge(in_words(report["verdict"]), shown(report["verdict"]["text"]), icon, tone),
        alarm=_alarm_badge(report["alarms"], report["settled"]) if report["settled"] else None,
        sentence=sentence_of(report),
        cards=cards_of(report),
        sections=sections,
        tasks=tuple(Task(shown(task["text"]), shown(task["command"])) for task in report["to_do"]),
        commands=tuple((what, shown(command)) for what, command in commands if command),
        metrics=used_metrics(sections),
        links=_links(report),
        previous=_day_name(report["previous"]),
    )


def _sections(report: Part) -> list[Section]:
    """In the order in which they are asked for; of a day that failed, those that there are."""
    sections = []
    history = report["history"]
    if report["learned"] is not None:
        sections += [
            learning_section(report["learned"], report["evaluation"],
                             is_placebo=report["is_placebo"], history=history),
            safety_section(report["update"], report["entropy_first"], report["guard"],
                           history=history, limits=report["limits"]),
            hygiene_section(report["settled"], report["evaluation"], report["alarms"],
                            report["week"]),
            canary_section(report["canaries"]),
            reward_section(report["settled"], report["apart"], report["histogram"],
                           report["evaluation"]),
            calibration_section(report["calibration"], report["n_probabilities"]),
            said_section("Best forecasts", report["best"], "Those that earned most."),
            said_section("Worst forecasts", report["worst"], "Those that earned least."),
            said_section("Most divided groups", report["divided"],
                         "Best and worst forecast of the groups whose rewards differ most."),
            said_section("Forecasts at random", report["random"],
                         "Drawn by the day and the run alone: the others were picked."),
            new_section(report["forecast"], report["display"], report["n_in_group"]),
        ]  # fmt: skip
    if report["best_of"] is not None:
        sections.insert(1, best_of_section(report["best_of"]))
    if report["cadence"] is not None:
        sections.append(cadence_section(report["cadence"]))
    if report["news"] is not None:
        sections.append(news_section(report["news"], report["feeds"]))
    sections.append(
        machine_section(report["machine"], report["checkpoint"], report["timings"],
                        report["memory"], report["config_changes"])
    )  # fmt: skip
    return sections


def _day_name(day: object) -> str | None:
    """The day, if it is a day's name: it becomes a part of a link."""
    found = isinstance(day, str) and re.fullmatch(r"\d{4}-\d\d-\d\d(?:T\d{4})?", day)
    return str(day) if found else None


def _links(report: Part) -> tuple[tuple[str, str], ...]:
    found = (
        ("All settled forecasts", "settled.html", report["pages"]["settled"]),
        ("All new forecasts", "made.html", report["pages"]["made"]),
    )
    return tuple((text, file) for text, file, files in found if file in files)


def _alarm_badge(alarms: Sequence[Part], settled: Part) -> Badge:
    if alarms:
        word = f"{len(alarms)} alarm{'s' if len(alarms) > 1 else ''}"
        return Badge(word, "; ".join(shown(a["name"]) for a in alarms) + ".", "⚠", "bad")
    if not settled["n_settled"]:
        return Badge("no alarm", "Nothing was settled that could raise one.", "○", "calm")
    return Badge("no alarm", "No limit of an alarm was passed.", "✓", "good")
