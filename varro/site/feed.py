"""The Atom feed: an entry a day and a week, with ids that stay and the ledger's times. Pure.

Source: RFC 4287 (Atom), RFC 4151 (tag URIs).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from varro.report.page import show_controls
from varro.site.build import SiteFacts
from varro.site.chain import Link
from varro.site.record import moment_text
from varro.site.tally import ListedDay, Tally, Week, in_words

N_ENTRIES = 30
_ATOM = "http://www.w3.org/2005/Atom"
_NOT_XML = re.compile("[\ufffe\uffff]")
HEAD = re.compile(r"Head of the chain at place (\d+): ([0-9a-f]{64})")
"""how the feed tells it"""


def atom_feed(
    facts: SiteFacts, tag: str, listed: Sequence[ListedDay], tally: Tally, links: Sequence[Link]
) -> bytes:
    """The feed of the newest days, and of the weeks that were settled since."""
    feed = Element("feed", xmlns=_ATOM)
    head = links[-1]
    _text(feed, "id", tag)
    _text(feed, "title", facts.title)
    _text(feed, "subtitle", f"Head of the chain at place {head.place}: {head.sha256()}")
    _text(feed, "updated", moment_text(facts.updated))
    _text(SubElement(feed, "author"), "name", "Varro")
    SubElement(feed, "link", rel="alternate", type="text/html", href=_address(facts, "index.html"))
    if facts.base_url:
        own = _address(facts, "feed.xml")
        SubElement(feed, "link", rel="self", type="application/atom+xml", href=own)
    days = listed[-N_ENTRIES:]
    weeks = [week for week in tally.weeks.values() if week.last >= days[0].day]
    entries = [_of_day(facts, one) for one in days] + [_of_week(week) for week in weeks]
    for last, page, title, summary in sorted(entries, reverse=True):
        entry = SubElement(feed, "entry")
        _text(entry, "id", f"{tag}/{page}")
        _text(entry, "title", title)
        _text(entry, "updated", moment_text(facts.clocks[last]))
        _text(entry, "summary", summary)
        address = _address(facts, f"{page}.html")
        SubElement(entry, "link", rel="alternate", type="text/html", href=address)
    indent(feed)
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n{tostring(feed, encoding="unicode")}\n'.encode()
    )


def _of_day(facts: SiteFacts, one: ListedDay) -> tuple[str, str, str, str]:
    """(day that last changed it, page, title, summary)"""
    title = f"{one.counts.total()} forecasts on {one.n_headlines} headlines of {one.day}"
    late = "" if one.in_time else " Published after they were due."
    return one.settled_on or one.day, f"d/{one.day}", title, f"{in_words(one.counts)}.{late}"


def _of_week(week: Week) -> tuple[str, str, str, str]:
    mean = (
        ""
        if week.reward.value is None
        else f", mean score {week.reward.value:.3f} over {week.reward.n:,} scored forecasts"
    )
    summary = f"settled {week.n_settled:,}, void {week.n_void:,}{mean}."
    return week.last, f"postmortems/{week.name}", f"Post-mortem of week {week.name}", summary


def _address(facts: SiteFacts, path: str) -> str:
    return f"{facts.base_url.rstrip('/')}/{path}" if facts.base_url else path


def _text(parent: Element, tag: str, text: str) -> None:
    SubElement(parent, tag).text = _NOT_XML.sub("\ufffd", show_controls(text))
