"""Strings that try to leave their place, and pages compared with their twins: the same page with as
many harmless characters in each place.

The corpus (`data/hostile.json`) is our own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from itertools import chain, count, repeat
from pathlib import Path
from typing import Any

import html5lib
from markdown_it import MarkdownIt

from varro.report.page import is_web_link
from varro.reward.summary import BEATS

DATA = Path(__file__).parent / "data"
CORPUS: list[str] = json.loads((DATA / "hostile.json").read_text(encoding="utf-8"))
N = len(CORPUS)
HARMLESS = "https://example.org/"
WORKING = {"class", "src", "srcset", "srcdoc", "action", "formaction", "data", "poster", "style",
             "content", "background", "http-equiv", "ping", "cite"}  # fmt: skip

Shape = list[tuple[str, tuple[str, ...]]]
Say = Callable[[str], str]


def hostile(attack: str) -> str:
    return attack


def plain(attack: str) -> str:
    """As many characters that mean nothing, and other ones for each attack."""
    number = PLACES.get(attack, 0)
    letters = chain((chr(97 + number % 20), chr(97 + number // 20)), repeat("x"))
    return re.sub(r"\S", lambda _: next(letters), attack)


def storable(text: str) -> str:
    """As a ledger and a disk can hold it: they take no half of a surrogate pair."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


PLACES = {form: n for n, attack in enumerate(CORPUS) for form in (attack, storable(attack))}
SIDES: tuple[Say, Say] = (hostile, plain)


def link_of(attack: str, say: Say) -> str:
    """The attack as an address; in the twin, a harmless one where it is an address of the web."""
    return attack if say is hostile else HARMLESS if is_web_link(attack) else ""


def shape(html: str) -> Shape:
    """Elements with the names of their attributes, and what their addresses can do; `mark` alone is
    left out, for it follows the words."""
    found: Shape = []
    for element in html5lib.HTMLParser(namespaceHTMLElements=False).parse(html).iter():
        tag = str(element.tag) if isinstance(element.tag, str) else "comment or doctype"
        attributes = sorted(f"{name}={does(name, value)}" for name, value in element.attrib.items())
        if tag == "mark":
            assert set(element.attrib) <= {"class", "title"}, attributes
            assert element.get("class") in (*BEATS, "copied"), attributes
        else:
            found.append((tag, tuple(attributes)))
    return found


def does(name: str, value: str) -> str:
    """What an attribute may do: an address by its scheme, a style or a handler as it stands."""
    if name.startswith("on") or name in WORKING:
        return value
    if name.rpartition("}")[2] != "href":
        return ""
    bare = re.sub(r"[\x00-\x20]", "", value).lower()
    if re.match(r"https?://[^/]", bare):
        return "web"
    scheme = re.match(r"[^/?#.]*:|//|\\", bare)
    return scheme[0] + bare.partition(",")[0] if scheme else "here"


def planted(value: Any, say: Say, corpus: Iterator[str], name: str = "") -> Any:
    """A report with the corpus in each text, address, and key that is itself text."""
    free = {"void_reasons", "invalid_reasons", "refused", "means", "rivals", "finish_reasons",
            "versions", "timings", "memory", "invalid"}  # fmt: skip
    if isinstance(value, dict):
        return {
            f"{say(next(corpus))} {n}" if name in free else key: planted(child, say, corpus, key)
            for n, (key, child) in enumerate(value.items())
        }
    if isinstance(value, list):
        return [planted(child, say, corpus, name) for child in value]
    if not isinstance(value, str):
        return value
    return link_of(next(corpus), say) if name.endswith("_link") else say(next(corpus))


def from_place(start: int) -> Iterator[str]:
    return (CORPUS[n % N] for n in count(start))


def assert_twins(pages: dict[str, str], twins: dict[str, str]) -> int:
    """Pages by name, and how many were parsed."""
    assert pages.keys() == twins.keys() and pages
    for name, page in pages.items():
        page.encode()
        told, expected = shape(page), shape(twins[name])
        wrong = next((pair for pair in zip(told, expected, strict=False) if pair[0] != pair[1]), "")
        assert told == expected, (name, wrong)
    return len(pages)


def outline(markdown: str) -> list[tuple[str, str]]:
    """What a reader of Markdown makes of it, but for text: blocks, links, pictures, HTML."""
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    blocks = [t for block in reader.parse(markdown) for t in (block, *(block.children or ()))]
    return [
        (token.type, does("href", str(token.attrGet("href") or "")) if token.attrs else "")
        for token in blocks
        if token.type not in ("text", "softbreak", "text_special")
    ]


def is_formula(cell: str) -> bool:
    """As a spreadsheet takes it; a number below 0 is none."""
    return cell.startswith(("=", "+", "@", "\t", "＝")) or bool(re.match(r"-(?![\d.e-]*$)", cell))
