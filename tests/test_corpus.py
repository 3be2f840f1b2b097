"""Every feed of three parsers' test suites: none breaks the parser, each titled entry kept once."""

from __future__ import annotations

import ast
import random
import re
import tarfile
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from varro.news.clean import clean_title
from varro.news.parse import ParsedFeed, ParseError
from varro.news.parse_apart import ParserProcesses

Outcome = ParsedFeed | ParseError

N_TITLED = {
    # CDF, a dialect of 1997 without a namespace for entries, which feedparser reads.
    "feedparser/tests/wellformed/base/cdf_item_abstract_xml_base.xml": (0, 1),
    "feedparser/tests/wellformed/cdf/item_title.xml": (0, 1),
    # The title of an image within the item's category is taken for that of the item.
    "feedparser/tests/wellformed/rss/item_category_image.xml": (0, 1),
    # An item within an item (an edit in conflict, of Simple Sharing Extensions): one of two.
    "rome/rome-modules/src/test/resources/xml/ep/ep1_v4a.xml": (18, 17),
    "rome/rome-modules/src/test/resources/xml/ep/ep2_v4a.xml": (18, 17),
    "rome/rome-modules/src/test/resources/xml/v/v4.xml": (18, 17),
    "rome/rome-modules/src/test/resources/xml/v/v5.xml": (18, 17),
    "rome/rome-modules/src/test/resources/xml/v/v6.xml": (18, 17),
    # An entry within the source of an entry, which is not allowed there.
    "w3c_feedvalidator/testcases/atom/4.2.11/missing-self.xml": (1, 0),
    "w3c_feedvalidator/testcases/atom/4.2.11/source-entry.xml": (1, 0),
    # RSS 1.1, a proposal of 2005 with elements of its own.
    "w3c_feedvalidator/testcases/rss11/must/neg-anyarss.xml": (1, 0),
}
"""well-formed files in which the titled entries that an XML parser counts are not those we keep:
(counted, kept)"""
TITLES = {
    # Script that was commented out: feedparser's sanitizer takes it for text, we for markup.
    "feedparser/tests/wellformed/sanitize/entry_title_crazy.xml": 0,
}
"""files in which a title is not as feedparser expects it, and which entry's"""


@pytest.fixture(scope="module")
def bodies() -> dict[str, bytes]:
    """The corpus by path; skips where it is not installed."""
    path = Path(__file__).resolve().parents[2] / "shared" / "data" / "feeds" / "corpus.tar.xz"
    if not path.exists():
        pytest.skip(f"NOT TESTED on real data: no {path}")
    found: dict[str, bytes] = {}
    with tarfile.open(path) as bundle:
        for member in bundle:
            stream = bundle.extractfile(member)
            if stream is not None:
                found[member.name.removeprefix("./")] = stream.read()
    return found


@pytest.fixture(scope="module")
def outcomes(bodies: dict[str, bytes]) -> dict[str, Outcome]:
    with ParserProcesses() as parser:
        return {path: outcome_of(parser, body) for path, body in bodies.items()}


def outcome_of(parser: ParserProcesses, body: bytes) -> Outcome:
    try:
        return parser.parse(body, {})
    except ParseError as error:
        return error


def titles(outcome: Outcome) -> list[str]:
    return [] if isinstance(outcome, ParseError) else [entry.title for entry in outcome.entries]


def status(outcome: Outcome) -> str:
    if isinstance(outcome, ParseError):
        return outcome.kind
    return "ok" if outcome.entries else "empty"


def test_no_feed_of_the_corpus_breaks_or_holds_the_parser(outcomes: dict[str, Outcome]) -> None:
    """One feed in thousands that raises what feedparser promises never to."""
    assert len(outcomes) == 4467
    by_status = Counter(map(status, outcomes.values()))
    assert by_status == {"ok": 1378, "empty": 2745, "failed": 344}


def test_each_titled_entry_is_kept_once(
    bodies: dict[str, bytes], outcomes: dict[str, Outcome]
) -> None:
    """Entries lost or doubled, seen by a parser that knows nothing of feeds."""
    differing: dict[str, tuple[int, int]] = {}
    n_counted = 0
    for path, outcome in outcomes.items():
        try:
            root = ET.fromstring(bodies[path])
        except (ET.ParseError, ValueError, LookupError):
            continue  # not well formed
        n_counted += 1
        n_titled = sum(
            any(local_name(child) == "title" and clean_title(text_of(child)) for child in entry)
            for entry in root.iter()
            if local_name(entry) in ("item", "entry")
        )
        if n_titled != len(titles(outcome)):
            differing[path] = n_titled, len(titles(outcome))
    assert n_counted == 4138
    assert differing == N_TITLED


def local_name(element: ET.Element) -> str:
    return str(element.tag).rpartition("}")[2]


def text_of(element: ET.Element) -> str:
    return "".join(element.itertext())


def test_titles_are_those_that_feedparser_expects(
    bodies: dict[str, bytes], outcomes: dict[str, Outcome]
) -> None:
    """Another entry's title, or one cut short by its markup or encoding."""
    differing: dict[str, int] = {}
    n_expected = 0
    for path, body in bodies.items():
        for place, expected in expected_titles(body):
            n_expected += 1
            wanted = clean_title(expected)
            kept = titles(outcomes[path])
            # An entry without a title is not kept.
            is_as_expected = kept[place : place + 1] == [wanted] if wanted else not kept[place:]
            if not is_as_expected:
                differing[path] = place
    assert n_expected == 73
    assert differing == TITLES


TITLE_OF_ENTRY = re.compile(r"entries\[(\d+)\](?:\['title'\]|\.title)")


def expected_titles(body: bytes) -> Iterator[tuple[int, str]]:
    """(place of the entry, its title) of each `entries[0]['title'] == '…'` in the `Expect:`."""
    for encoding in ("utf-8", "utf-16", "utf-32", "latin-1"):
        text = body.decode(encoding, "ignore")
        found = re.search(r"Expect:\s*(.*)", text)
        if found is None:
            continue
        try:
            expectation = ast.parse(found[1].replace("-->", "").strip(), mode="eval")
        except SyntaxError:
            return
        for node in ast.walk(expectation):
            if isinstance(node, ast.Compare) and isinstance(node.ops[-1], ast.Eq):
                expected = literal(node.comparators[-1])
                for side in (node.left, *node.comparators):
                    of_entry = TITLE_OF_ENTRY.fullmatch(ast.unparse(side))
                    if of_entry and expected is not None:
                        yield int(of_entry[1]), expected
        return


def literal(node: ast.expr) -> str | None:
    """A string, or a sum of them; None for what is no text."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return (literal(left) or "") + (literal(right) or "")
    return None


@pytest.mark.parametrize("n", [300, pytest.param(100_000, marks=pytest.mark.slow)])
@pytest.mark.timeout(3000)
def test_damaged_feeds_end_as_entries_or_as_an_error(bodies: dict[str, bytes], n: int) -> None:
    """A feed cut, doubled, mixed with another: what hangs or kills a parser is found by chance."""
    chance = random.Random(1)
    seeds = [body for path, body in sorted(bodies.items()) if 0 < len(body) < 20_000]
    kinds: Counter[str] = Counter()
    with ParserProcesses() as parser:
        for _ in range(n):
            kinds[status(outcome_of(parser, damaged(chance, seeds)))] += 1
    assert sum(kinds.values()) == n
    assert kinds["timeout"] == 0
    # feedparser raises at a few: a KeyError at half a licence, a ValueError at a NUL.
    assert kinds["exception"] <= max(2, n // 200)
    assert kinds["ok"] > n / 10


PIECES = (
    b"<![CDATA[ ]]> <!-- <!DOCTYPE&#32;x> &#xFFFFFFFF; &#55296; <title> </item> <item> xmlns:a='' "
    b"encoding='utf-16' xml:base='http://['"
)


def damaged(chance: random.Random, seeds: list[bytes]) -> bytes:
    body = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        start = chance.randrange(len(body) + 1)
        end = min(len(body), start + chance.choice((1, 1, 2, 8, 64, 512)))
        match chance.randrange(5):
            case 0:
                body[start:end] = chance.randbytes(end - start)
            case 1:
                del body[start:end]
            case 2:
                body[start:start] = body[start:end] * chance.choice((1, 2, 50))
            case 3:
                body[start:start] = chance.choice(PIECES.split())
            case 4:
                other = chance.choice(seeds)
                cut = chance.randrange(len(other))
                body[start:end] = other[cut : cut + chance.choice((8, 64, 512))]
    return bytes(body)
