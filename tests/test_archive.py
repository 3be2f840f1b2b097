"""The past comes from dated files: every line is a headline or a counted reason why not."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from varro.domain import headline_id
from varro.errors import FeedError
from varro.news.archive import load_archive
from varro.news.times import format_time, parse_time

NOON = datetime(2025, 4, 18, 12, 0, tzinfo=UTC)


def row(title: object = "Rates rise", **fields: object) -> str:
    base = {"title": title, "source": "ft.com", "link": "https://ft.com/1"}
    return json.dumps(base | {"first_seen": "2025-04-18T12:00:00Z"} | fields)


def written(folder: Path, *lines: str, name: str = "news.jsonl") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_line_becomes_a_headline_with_every_field_in_its_place(tmp_path: Path) -> None:
    """Fields swapped, times left in local zones, a title stored uncleaned."""
    line = row(
        "<b>Rates</b> rise &amp; fall",
        feed="ft-home",
        guid="g1",
        first_seen="2025-04-18T14:00:00+02:00",
        published="2025-04-18T11:30:00Z",
    )
    archive = load_archive(written(tmp_path, line))
    (headline,) = archive.headlines
    assert archive.corpus == headline.corpus == "news"
    assert headline.id == headline_id("news", "ft-home", "g1", "Rates rise & fall")
    assert (headline.feed, headline.source, headline.guid) == ("ft-home", "ft.com", "g1")
    assert (headline.title, headline.link) == ("Rates rise & fall", "https://ft.com/1")
    assert headline.first_seen == NOON
    assert headline.published == datetime(2025, 4, 18, 11, 30, tzinfo=UTC)


def test_identity_falls_back_from_guid_to_link_to_title(tmp_path: Path) -> None:
    """All headlines without a guid sharing one identity."""
    lines = [row(guid=7), row(link="https://ft.com/2"), row("Other", link=None)]
    ids = {headline.id for headline in load_archive(written(tmp_path, *lines)).headlines}
    assert ids == {
        headline_id("news", "ft.com", "7", "Rates rise"),
        headline_id("news", "ft.com", "https://ft.com/2", "Rates rise"),
        headline_id("news", "ft.com", "Other", "Other"),
    }


def test_a_source_that_is_missing_is_the_host_of_the_link(tmp_path: Path) -> None:
    """Archives without a source column all fall into one unnamed feed."""
    (headline,) = load_archive(written(tmp_path, row(source=None))).headlines
    assert (headline.source, headline.feed) == ("ft.com", "ft.com")


def test_gzip_is_told_by_its_bytes_and_the_corpus_by_the_file_name(tmp_path: Path) -> None:
    """A gzip without .gz read as text, or plain text named .gz refused."""
    packed = tmp_path / "a.jsonl"
    packed.write_bytes(gzip.compress((row() + "\n").encode()))
    plain = written(tmp_path, row(), name="b.v2.jsonl.gz")
    assert load_archive(packed).corpus == "a"
    assert load_archive(plain).corpus == "b.v2"
    assert load_archive(plain, corpus="c").headlines[0].corpus == "c"


def test_the_same_headline_twice_keeps_the_earliest_first_seen(tmp_path: Path) -> None:
    """A later copy moves a headline past its own outcomes."""
    times = ["2025-04-18T12:00:00Z", "2025-04-18T09:00:00Z", "2025-04-19T09:00:00Z"]
    path = written(tmp_path, *(row(first_seen=text) for text in times), row("Other"))
    archive = load_archive(path)
    assert archive.n_duplicates == 2
    assert [format_time(h.first_seen) for h in archive.headlines] == [times[1], times[0]]


def test_headlines_are_sorted_by_first_seen_then_id(tmp_path: Path) -> None:
    """The order of a file, or of a capture, leaks into the order of a day."""
    lines = [row(f"t{i}", first_seen=f"2025-04-{18 + i % 3}T12:00:00Z") for i in range(9)]
    headlines = load_archive(written(tmp_path, *lines)).headlines
    assert list(headlines) == sorted(headlines, key=lambda h: (h.first_seen, h.id))
    assert len(headlines) == 9


def test_between_leaves_out_its_start_and_takes_in_its_end(tmp_path: Path) -> None:
    """A headline at midnight belongs to two days, or to none."""
    lines = [row(f"t{i}", first_seen=f"2025-04-18T12:00:0{i}Z") for i in range(5)]
    archive = load_archive(written(tmp_path, *lines))

    def titles(after: int | None, until: int) -> list[str]:
        start = None if after is None else NOON + timedelta(seconds=after)
        found = archive.between(start, NOON + timedelta(seconds=until))
        return [headline.title for headline in found]

    assert titles(1, 3) == ["t2", "t3"]
    assert titles(None, 1) == ["t0", "t1"]
    assert titles(4, 9) == []
    assert titles(3, 1) == []


def test_days_are_the_utc_dates_that_have_headlines(tmp_path: Path) -> None:
    """Dates taken in the offset of the capture: 01:00+02:00 is the day before in UTC."""
    lines = [
        row("a", first_seen="2025-04-20T01:00:00+02:00"),
        row("b", first_seen="2025-04-18T12:00:00Z"),
        row("c", first_seen="2025-04-18T13:00:00Z"),
    ]
    days = load_archive(written(tmp_path, *lines)).days()
    assert days == (date(2025, 4, 18), date(2025, 4, 19))


def test_blank_lines_a_byte_order_mark_and_line_separators_in_titles_do_no_harm(
    tmp_path: Path,
) -> None:
    """str.splitlines cuts a JSON string at U+2028; a BOM makes line one not JSON."""
    lines = ["\ufeff" + row(), "", "   ", row("a\u2028b").replace("\\u2028", "\u2028")]
    path = tmp_path / "news.jsonl"
    path.write_bytes("\r\n".join(lines).encode())
    archive = load_archive(path)
    assert (archive.n_lines, archive.malformed) == (2, ())
    assert {headline.title for headline in archive.headlines} == {"Rates rise", "a b"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{not json", "not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("[1, 2]", "expected a JSON object, found a list"),
        ("null", "expected a JSON object, found null"),
        (row(None), "title is missing or empty"),
        (row("<b> </b>\u200b"), "title is missing or empty"),
        (row(3), "title must be text, found a number"),
        (row(source=["ft"]), "source must be text, found a list"),
        (row(first_seen=None), "first_seen is missing or empty"),
        (row(first_seen=1745), "first_seen must be text, found a number"),
        (row(first_seen="2025-04-18T12:00:00"), "has no time zone; write 2025-04-18T12:00:00Z"),
        (row(first_seen="2025-02-30T12:00:00Z"), "is not a time"),
        (row(first_seen="yesterday"), "is not a time"),
        (row(first_seen="1989-12-31T23:59:59Z"), "is before 1990 or after 2100"),
    ],
)
def test_a_line_without_a_headline_is_counted_with_its_number_and_reason(
    tmp_path: Path, line: str, reason: str
) -> None:
    """A bad line stops the file, vanishes without a count, or is blamed on its neighbour."""
    path = written(tmp_path, row("one"), "", line, row("two"))
    archive = load_archive(path, max_malformed_frac=0.5)
    ((number, found),) = [(bad.line, bad.reason) for bad in archive.malformed]
    assert number == 3
    assert reason in found
    assert (archive.n_lines, len(archive.headlines)) == (3, 2)


@pytest.mark.parametrize("published", [None, 5, "yesterday", "2025-04-18T12:00:00", "0001-01-01T"])
def test_a_publisher_date_that_cannot_be_read_is_none(tmp_path: Path, published: object) -> None:
    """Publisher dates decide nothing, so they cannot make a line malformed either."""
    archive = load_archive(written(tmp_path, row(published=published)))
    assert archive.headlines[0].published is None
    assert archive.malformed == ()


def test_an_archive_with_too_many_malformed_lines_is_refused_at_the_first(tmp_path: Path) -> None:
    """Half an archive read as if it were whole."""
    path = written(tmp_path, *(row(f"t{i}") for i in range(18)), "{", row(5))
    with pytest.raises(FeedError) as caught:
        load_archive(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:19: not JSON: ")
    assert message.endswith("(first of 2 malformed lines in 20, more than 5%); mend or remove them")
    assert "\n" not in message


def test_just_the_allowed_share_of_malformed_lines_is_accepted(tmp_path: Path) -> None:
    """The limit itself refused: 1 line in 20 is 5%, not more than 5%."""
    path = written(tmp_path, *(row(f"t{i}") for i in range(19)), "{")
    assert len(load_archive(path).malformed) == 1
    with pytest.raises(FeedError, match="more than 0%"):
        load_archive(path, max_malformed_frac=0)


def test_a_file_that_cannot_be_an_archive_is_an_error_that_names_it(tmp_path: Path) -> None:
    """A traceback from gzip or the codec instead of one line with the path and the way out."""
    packed = gzip.compress((row() + "\n").encode() * 2000)
    bad_check = packed[:-8] + b"\0" * 8
    cases = {
        "cut.gz": (packed[: len(packed) // 2], "gzip damaged"),
        "sum.gz": (bad_check, "gzip damaged"),
        "head.gz": (b"\x1f\x8b\xff\xff" + b"x" * 50, "gzip damaged"),
        "latin.jsonl": (row().encode() + b"\n\xe9\n", "latin.jsonl:2: not UTF-8"),
        "empty.jsonl": (b"", "holds no headline"),
        "blank.jsonl": (b"\n \n", "holds no headline"),
    }
    for name, (content, reason) in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(FeedError) as caught:
            load_archive(path)
        assert str(path) in str(caught.value)
        assert reason in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_missing_file_or_a_folder_is_an_error_that_says_what_to_set(tmp_path: Path) -> None:
    """FileNotFoundError or IsADirectoryError reaching the user."""
    for path in (tmp_path / "absent.jsonl", tmp_path):
        with pytest.raises(FeedError, match=r"set news\.archive") as caught:
            load_archive(path)
        assert str(path) in str(caught.value)
        assert caught.value.__cause__ is not None


def test_a_time_needs_a_zone_and_a_plausible_year() -> None:
    """Naive times read in the machine's zone; year 9999 overflowing in astimezone."""
    assert parse_time("2025-04-18T14:00:00.75+02:00") == NOON + timedelta(seconds=0.75)
    assert parse_time(" 2025-04-18T12:00:00Z ") == NOON
    for text, reason in {
        "2025-04-18": "write 2025-04-18T00:00:00Z",
        "2016-12-31T23:59:60Z": "is not a time",
        "2101-01-01T00:00:00Z": "after 2100",
        "9999-12-31T23:59:59-05:00": "out of range",
        "0001-01-01T00:00:00+05:00": "out of range",
        "": "is not a time",
    }.items():
        with pytest.raises(ValueError, match=reason):
            parse_time(text)


def test_a_time_is_written_in_utc_to_the_second() -> None:
    """A fraction or an offset in a table of times."""
    assert format_time(parse_time("2025-04-18T14:00:00.75+02:00")) == "2025-04-18T12:00:00Z"
    with pytest.raises(ValueError, match="no time zone"):
        format_time(datetime(2025, 4, 18))


def test_the_real_archive_loads_whole(shared_data: Callable[[str], Path]) -> None:
    """Real titles, links or times that the rules above refuse."""
    archive = load_archive(shared_data("replay/finance-2025-04-18--2025-06-30.jsonl.gz"))
    assert archive.corpus == "finance-2025-04-18--2025-06-30"
    assert archive.n_lines == 3016
    assert archive.malformed == ()
    assert len(archive.headlines) + archive.n_duplicates == 3016
    assert len(archive.days()) == 74
    assert archive.days()[0] == date(2025, 4, 18)
