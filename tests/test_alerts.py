"""Telling: once by each way, again if it was not taken, and never the secret address."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from varro.config import AlertsConfig
from varro.errors import FeedError
from varro.ledger.glance import Glance
from varro.news.post import post_message
from varro.service.alerts import channels, is_over, notification, tell
from varro.service.watch import Alert, alerts_of

NOW = datetime(2026, 1, 5, 7, tzinfo=UTC)
DAY = timedelta(days=1)
DISK = Alert("disk", "0.1 GB free")
SECRET = "T0K3N-s3cr3t"


class Door:
    """A webhook that takes messages, or does not."""

    def __init__(self, loopback):
        self.code, self.taken = 200, []
        self.address = f"{loopback(self._answer, method='POST')}/hooks/{SECRET}"

    def _answer(self, handler):
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        if self.code == 200:
            self.taken.append(json.loads(body))
        handler.send_response(self.code)
        handler.end_headers()


@pytest.fixture
def door(loopback):
    return Door(loopback)


def ways(tmp_path, address, **more):
    (tmp_path / "hook").write_text(f"{address}\n")
    config = AlertsConfig(webhook_file=tmp_path / "hook", **more)
    return channels(config, home=tmp_path, run="main", now=NOW)


def test_an_event_is_told_once_by_each_way_and_again_only_if_it_comes_again(tmp_path, door):
    """Catches a message every hour for the same full disk, and one that never comes again."""
    by, said = ways(tmp_path, door.address), []
    told = {}
    for alerts in ([DISK], [DISK], [], [DISK]):
        told = tell(alerts, told, by, now=NOW, complain=said.append)
    lines = (tmp_path / "alerts.log").read_text().splitlines()
    begins = "2026-01-05T07:00:00Z main: "
    texts = ["0.1 GB free", "recovered: 0.1 GB free", "0.1 GB free"]
    assert lines == [begins + text for text in texts]
    assert door.taken == [
        {
            "text": f"varro main: {text}",
            "run": "main",
            "event": "disk",
            "at": NOW.isoformat(),
            "recovered": text.startswith("recovered"),
        }
        for text in texts
    ]
    assert told["disk"]["by"] == ["file", "webhook"] and said == []


@pytest.mark.parametrize(
    "failure", ["answers 503", "is gone", "no address", "no host", "a long host", "no file"]
)
def test_a_way_that_fails_is_tried_again_and_its_address_stays_a_secret(tmp_path, door, failure):
    """Catches an alert that is lost because the network was away, and a token in a log."""
    address = door.address
    if failure == "answers 503":
        door.code = 503
    if failure == "is gone":
        address = f"http://127.0.0.1:1/hooks/{SECRET}"
    if failure == "no address":
        address = f"htp:/{SECRET}"
    if failure == "no host":
        address = "http://."
    if failure == "a long host":
        address = f"http://{SECRET}{'a' * 300}.example"
    by, said = ways(tmp_path, address), []
    if failure == "no file":
        (tmp_path / "hook").unlink()
    told = tell([DISK], {}, by, now=NOW, complain=said.append)
    assert told["disk"]["by"] == ["file"] and len(said) == 1
    assert "'disk' was not told by webhook" in said[0]
    everything = said[0] + json.dumps(told) + (tmp_path / "alerts.log").read_text()
    assert SECRET not in everything
    door.code = 200
    by = ways(tmp_path, door.address)
    told = tell([DISK], told, by, now=NOW, complain=said.append)
    assert told["disk"]["by"] == ["file", "webhook"]
    assert len(door.taken) == 1 and len((tmp_path / "alerts.log").read_text().splitlines()) == 1


def test_that_it_is_over_is_told_once_by_who_told_of_it(tmp_path, door):
    """Catches an all-clear of what this way never told, one every hour, one that is lost because
    the network was away, and one while the same thing goes on in other words."""

    def said_now():
        log = tmp_path / "alerts.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line.partition("main: ")[2] for line in lines], [m["text"] for m in door.taken]

    one, two = (Alert(f"failed 2026-01-0{n} 4", f"{n} failed") for n in (1, 2))
    by = ways(tmp_path, door.address)
    door.code = 503
    told = tell([one], {}, by, now=NOW, complain=lambda text: None)
    told = tell([two], told, by, now=NOW, complain=lambda text: None)  # instead of the first
    assert said_now() == (["1 failed", "2 failed"], [])
    told = tell([], told, by, now=NOW, complain=print, undecided=("failed",))
    assert list(told) == [two.key] and said_now()[0] == ["1 failed", "2 failed"]
    told = tell([], told, by, now=NOW, complain=print)
    assert told == {} and said_now() == (["1 failed", "2 failed", "recovered: 2 failed"], [])
    assert tell([], told, by, now=NOW, complain=print) == {}
    # Now the webhook hears of the event, and is away when it is over.
    door.code = 200
    told = tell([DISK], {}, by, now=NOW, complain=print)
    door.code = 503
    complaints = []
    for _ in range(2):
        told = tell([], told, by, now=NOW, complain=complaints.append)
        assert is_over(told["disk"])
    assert len(complaints) == 2 and said_now()[0][-1] == "recovered: 0.1 GB free"
    door.code = 200
    assert tell([], told, by, now=NOW, complain=print) == {}
    assert said_now()[1] == ["varro main: 0.1 GB free", "varro main: recovered: 0.1 GB free"]
    assert len(said_now()[0]) == 5
    # One that comes again before its end was told everywhere is a new one.
    again = tell([DISK], told, by, now=NOW, complain=print)
    assert said_now()[1][-1] == "varro main: 0.1 GB free" and not is_over(again["disk"])


@pytest.mark.parametrize(
    ("free_gb", "before", "now"),
    [(1.9, False, True), (2.1, False, False), (2.1, True, True), (2.3, True, False)],
)
def test_a_disk_at_its_limit_is_not_told_at_each_crossing(free_gb, before, now):
    """Catches a message for each log that is written and removed where the room is just enough."""
    told = alerts_of(
        Glance(), now=NOW, watched_since=NOW, cadence=DAY, max_quiet=DAY, failed=None,
        free_gb=free_gb, min_free_gb=2.0, is_disk_told=before,
    )  # fmt: skip
    assert [alert.key for alert in told] == ["disk"] * now


@pytest.mark.parametrize("drips", ["head", "body"])
def test_a_webhook_that_drips_does_not_hold_the_service(loopback, drips):
    """Catches an alert that waits for ever for a server that sends a byte now and then, with the
    lock for which every later wake-up waits."""
    released = threading.Event()

    def drip(handler):
        if drips == "body":
            handler.send_response(200)
            handler.end_headers()
        while not released.wait(0.1):
            handler.wfile.write(b"x")
            handler.wfile.flush()

    address = loopback(drip, method="POST")
    started = time.monotonic()
    try:
        if drips == "body":
            post_message(address, {"text": "x"}, timeout_s=1.0)  # its status is all that is wanted
        else:
            with pytest.raises(FeedError, match="has not answered within 1 s"):
                post_message(address, {"text": "x"}, timeout_s=1.0)
        assert time.monotonic() - started < 5
    finally:
        released.set()


def test_a_headline_in_a_notification_is_no_part_of_its_script():
    """Catches a headline that AppleScript runs."""
    text = '" & (do shell script "touch /tmp/x") & "'
    argv = notification(Alert("a", text), run="main")
    assert argv == [
        "osascript", "-e", "on run argv",
        "-e", "display notification (item 1 of argv) with title (item 2 of argv)",
        "-e", "end run", text, "Varro: main",
    ]  # fmt: skip


def test_ways_that_are_off_are_not_used(tmp_path):
    """Catches a file in a home that wants none, and a notification on a system that has none."""
    assert channels(AlertsConfig(file=False), home=tmp_path, run="main", now=NOW) == {}
    by = channels(AlertsConfig(file=False, notify=True), home=tmp_path, run="main", now=NOW)
    assert list(by) == ["notification"]


def test_a_headline_in_an_alert_makes_no_second_line(tmp_path):
    """Catches a feed that writes lines of its own into the log."""
    by = channels(AlertsConfig(), home=tmp_path, run="main", now=NOW)
    tell([Alert("a", "one\n2026-01-05 main: two")], {}, by, now=NOW, complain=print)
    assert len((tmp_path / "alerts.log").read_text().splitlines()) == 1
