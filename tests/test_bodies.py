"""Feed bodies are kept as they came, for as long as was asked, and no longer."""

from __future__ import annotations

import gzip
import hashlib
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from varro.news.bodies import body_path, keep_body, read_body, remove_old_bodies
from varro.news.gather import FeedReading, FeedState
from varro.news.opml import Feed
from varro.news.parse import ParseError

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def reading(body: bytes) -> FeedReading:
    sha256 = hashlib.sha256(body).hexdigest()
    return FeedReading(
        Feed("f", "https://f.org/", ""),
        "ok",
        FeedState(body_sha256=sha256),
        body=body,
    )


def files(home: Path) -> dict[str, bytes]:
    return {
        str(f.relative_to(home)): f.read_bytes()
        for f in sorted(home.rglob("*"))
        if f.is_file() and f.name != ".lock"
    }


def test_a_body_comes_back_byte_for_byte(tmp_path: Path) -> None:
    """A body re-encoded on the way: what made the parser fail is gone."""
    body = b"\xff\xfe<rss>\x00\r\n\xa0" * 1000
    keep_body(tmp_path, reading(body), as_of=NOON)
    sha256 = hashlib.sha256(body).hexdigest()
    path = body_path(tmp_path, as_of=NOON, sha256=sha256)
    assert read_body(path, max_bytes=len(body)) == body
    assert list(files(tmp_path)) == [f"bodies/2026-01-05/{sha256}.gz"]


def test_a_file_is_read_plain_or_gzipped_up_to_a_limit(tmp_path: Path) -> None:
    """A bomb in a folder of bodies, or a damaged one that stops the whole folder."""
    path = tmp_path / "body"
    for content in (b"x" * 100, gzip.compress(b"x" * 100)):
        path.write_bytes(content)
        assert read_body(path, max_bytes=100) == b"x" * 100
        with pytest.raises(ParseError, match="larger than 99 bytes"):
            read_body(path, max_bytes=99)
    path.write_bytes(gzip.compress(b"x" * 50_000_000))
    tracemalloc.start()
    with pytest.raises(ParseError, match="larger"):
        read_body(path, max_bytes=1000)
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()
    for damaged in (gzip.compress(b"x" * 100)[:-4], b"\x1f\x8bno", b"\x1f\x8b"):
        path.write_bytes(damaged)
        with pytest.raises(ParseError, match="gzip damaged"):
            read_body(path, max_bytes=1000)


def test_a_day_that_is_run_again_leaves_the_same_files(tmp_path: Path) -> None:
    """The time of compression inside the file: no two runs of a day are alike."""
    keep_body(tmp_path, reading(b"<rss/>"), as_of=NOON)
    before = files(tmp_path)
    keep_body(tmp_path, reading(b"<rss/>"), as_of=NOON + timedelta(hours=1))
    assert files(tmp_path) == before
    assert [content[4:8] for content in before.values()] == [bytes(4)]  # gzip's own clock


def test_two_runs_of_a_home_keep_one_body_at_the_same_moment(tmp_path: Path) -> None:
    """The same partial file written by both: the rename of the slower one fails its whole day. By
    chance all goes well once in two times, and so not in a hundred."""
    bodies = [reading(b"%d" % n + bytes(range(256)) * 400) for n in range(100)]
    together = threading.Barrier(2)

    def keep() -> None:
        try:
            for body in bodies:
                together.wait(30)
                keep_body(tmp_path, body, as_of=NOON)
        except OSError:
            together.abort()
            raise

    with ThreadPoolExecutor(2) as pool:
        for run in [pool.submit(keep) for _ in range(2)]:
            run.result()
    for body in bodies:
        path = body_path(tmp_path, as_of=NOON, sha256=body.state.body_sha256)
        assert read_body(path, max_bytes=1_000_000) == body.body


@pytest.mark.parametrize(("keep_days", "n_left"), [(0, 1), (1, 1), (3, 3), (30, 10)])
def test_days_go_when_their_time_is_over(tmp_path: Path, keep_days: int, n_left: int) -> None:
    """A disk that fills over the years; or today's bodies removed with the old ones."""
    days = [NOON - timedelta(days=n) for n in range(10)]
    for day in days:
        keep_body(tmp_path, reading(b"<rss/>"), as_of=day)
    (tmp_path / "bodies" / "2000-99-99").mkdir()
    (tmp_path / "bodies" / "my notes").mkdir()
    removed = remove_old_bodies(tmp_path, as_of=NOON, keep_days=keep_days)
    left = sorted(f.name for f in (tmp_path / "bodies").iterdir() if f.is_dir())
    assert left[:-1] == sorted(["2000-99-99", *(f"{d:%Y-%m-%d}" for d in days[:n_left])])
    assert left[-1] == "my notes"
    assert len(removed) == 10 - n_left
    assert remove_old_bodies(tmp_path, as_of=NOON, keep_days=keep_days) == []


def test_a_home_without_bodies_has_none_to_remove(tmp_path: Path) -> None:
    """The first day of a run ends in an error."""
    assert remove_old_bodies(tmp_path, as_of=NOON, keep_days=3) == []
