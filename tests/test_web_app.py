"""The live view's answers: what may be seen, by whom, and what its buttons do."""

from __future__ import annotations

import http.client
import json
import queue
import re
from contextlib import closing, contextmanager
from datetime import timedelta
from urllib.parse import urlencode, urlsplit

import pytest
from test_tick import MORNING, Service

from varro.domain import Stage
from varro.lock import hold_lock, lock_path
from varro.service.doing import DoingFile
from varro.service.pause import load_pause, pause
from varro.service.tick import state_path
from varro.web.doors import is_from_our_page, is_loopback, is_token
from varro.web.server import live_view

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class View:
    """A live view of a home, asked over a real connection."""

    def __init__(self, service, address, woken):
        self.service, self.home, self.woken = service, service.config.home, woken
        parts = urlsplit(address)
        self.host, self.token = parts.netloc, parts.query.partition("=")[2]

    def ask(self, path, *, method="GET", body=None, host=None, **headers):
        connection = http.client.HTTPConnection(self.host, timeout=10)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        headers = {"Host": host or self.host, **headers}
        content = (body or "").encode()
        if content:
            headers["Content-Length"] = str(len(content))
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders(content or None)
        answer = connection.getresponse()
        answer.text = answer.read().decode()
        connection.close()
        return answer

    def press(self, button, *, token=None, **headers):
        body = urlencode({"token": self.token if token is None else token})
        return self.ask(f"/{button}", method="POST", body=body, **FORM | headers)

    def page(self):
        answer = self.ask(f"/?token={self.token}")
        assert answer.status == 200
        return answer.text


@pytest.fixture
def view(tmp_path):
    service, woken, said = Service(tmp_path), queue.SimpleQueue(), []
    with live_view(service.config, lambda: woken.put(None), port=0, say=said.append) as address:
        assert said == [f"live view: {address}"]
        yield View(service, address, woken)


def test_every_answer_has_the_headers_that_keep_a_page_in_its_place(view):
    """Catches a page that may run a stranger's script, be framed or kept, for an error as well."""
    (view.home / "reports/live").mkdir(parents=True)
    (view.home / "reports/live/report.html").write_text("<p>report")
    (view.home / "service").mkdir(exist_ok=True)
    live = "script-src 'self'; connect-src 'self'; form-action 'self'"
    for path, status, policy in (
        ("/", 200, live),
        ("/live.js", 200, live),
        ("/nothing", 404, live),
        ("/?token=wrong", 403, live),
        ("/pause", 405, live),
        ("/reports/live/report.html", 200, "form-action 'none'"),
        ("/reports/nothing", 404, "form-action 'none'"),
    ):
        answer = view.ask(path)
        assert answer.status == status, path
        assert answer.headers["Content-Security-Policy"] == (
            "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
            f"{policy}; frame-ancestors 'none'"
        )
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers.get_content_type() == {
            "/": "text/html", "/live.js": "text/javascript",
            "/reports/live/report.html": "text/html",
        }.get(path, "text/plain")  # fmt: skip
        assert not answer.headers["Server"] and not answer.headers["Set-Cookie"]


@pytest.mark.parametrize(
    "path",
    [
        "/reports/../secret",
        "/reports/live/../../secret",
        "/reports/%2e%2e/secret",
        "/reports/%2e%2e%2fsecret",
        "/reports/..%2fsecret",
        "/reports/..%5csecret",
        "/reports/.%2e/secret",
        "/reports//etc/hostname",
        "/reports/%2fetc/hostname",
        "/reports/live/%00",
        "/reports/" + "a" * 5000,
        "/reports/leaves",
        "/reports/leaves_too/secret",
        "/reports/live/.report.html.partial",
        "/reports/live",
        "/secret",
        "/../secret",
    ],
)
def test_nothing_outside_the_reports_is_served(view, path):
    """Catches a path, encoded or not, or a link that leads out of the folder; and a file that is
    being written."""
    reports = view.home / "reports"
    (reports / "live").mkdir(parents=True, exist_ok=True)
    (view.home / "secret").write_text("SECRET")
    (reports / "live/.report.html.partial").write_text("SECRET")
    (reports / "leaves").symlink_to(view.home / "secret")
    (reports / "leaves_too").symlink_to(view.home)
    answer = view.ask(path)
    assert answer.status == 404 and "SECRET" not in answer.text


def test_report_files_are_served_as_they_are(view):
    """Catches bytes that are changed on the way, an index that is not found, a kind that a browser
    has to guess, and a link inside the folder that is refused."""
    folder = view.home / "reports/live/2026-03-02"
    folder.mkdir(parents=True)
    for name, kind in (
        ("report.html", "text/html"), ("report.json", "application/json"),
        ("report.md", "text/markdown"), ("index.html", "text/html"),
        ("metrics.jsonl", "text/plain"),
    ):  # fmt: skip
        (folder / name).write_text(f"{name} <é>")
        answer = view.ask(f"/reports/live/2026-03-02/{name}")
        assert answer.text == f"{name} <é>"
        if name != "metrics.jsonl":  # some systems have a name for it
            assert answer.headers.get_content_type() == kind
    (view.home / "reports/live/latest").symlink_to(folder)
    assert view.ask("/reports/live/latest/").text == "index.html <é>"
    assert view.ask("/reports/live/2026-03-02/report.html", method="POST").status == 405


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8321", "127.0.0.1.evil.example", "127.0.0.2", "", "[::2]"],
)
def test_a_name_that_was_led_here_is_turned_away(view, host):
    """Catches DNS rebinding: a page of evil.example whose name now means this machine."""
    for path in ("/", "/events", "/reports/", "/live.js"):
        answer = view.ask(path, host=host or " ")
        assert answer.status == 421 and view.token not in answer.text
    answer = view.press("pause", Host=host or " ")
    assert answer.status == 421 and load_pause(view.home, "live") is None


def test_one_host_is_wanted():
    """Catches a second Host header, of which another may be believed."""
    assert is_loopback(["127.0.0.1:8321"]) and is_loopback(["LocalHost"]) and is_loopback(["[::1]"])
    assert not is_loopback([]) and not is_loopback(["localhost", "evil.example"])
    assert not is_loopback(["localhost:80\n"]) and not is_loopback(["localhost:"])


def test_buttons_want_the_token(view):
    """Catches a pause by whoever can reach the port, and buttons on a page without the token."""
    pages = [view.ask("/").text, view.page()]
    assert [view.token in page for page in pages] == [False, True]
    assert [re.findall('action="(.*?)"', page) for page in pages] == [[], ["run-now", "pause"]]
    for button in ("pause", "resume", "run-now"):
        for token in ("", "wrong", view.token[:-1], view.token + "x", "é"):
            assert view.press(button, token=token).status == 403
        assert view.ask(f"/{button}", method="POST", **FORM).status == 403
        body = urlencode({"token": view.token})
        assert view.ask(f"/{button}", method="POST", body=body).status == 415
        long = view.ask(f"/{button}", method="POST", body="a=" + "b" * 5000, **FORM)
        assert long.status == 413
        odd = view.ask(f"/{button}", method="POST", body="token=\x80&a", **FORM)
        assert odd.status == 400
    assert view.woken.empty() and load_pause(view.home, "live") is None
    assert not is_token("", "t") and is_token("t", "t")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_another_page_can_not_press_a_button(view, headers):
    """Catches a form of another page, or of another port of this machine, that a browser sends."""
    assert view.press("pause", **headers).status == 403
    assert load_pause(view.home, "live") is None


def test_our_own_page_can(view):
    """Catches a check that our own page does not pass, directly and through a tunnel."""
    own = {"Origin": f"http://{view.host}", "Sec_Fetch_Site": "same-origin"}
    answer = view.press("pause", **own)
    assert (answer.status, answer.headers["Location"]) == (303, f"/?token={view.token}")
    assert "by the live view" in str(load_pause(view.home, "live"))
    tunnel = {"host": "localhost:9000", "origin": "http://localhost:9000"}
    assert is_from_our_page(tunnel) and is_from_our_page({"host": "localhost:9000"})


def test_pause_resume_and_run_now(view):
    """Catches a button that does nothing, a service that is not woken, and a second day beside the
    one at work."""
    assert view.press("run-now").status == 303
    assert view.woken.get_nowait() is None
    view.press("pause")
    assert view.service.tick(MORNING).outcome == "paused" and "PAUSED" in view.page()
    answer = view.press("run-now")
    assert answer.status == 409 and "live is paused since" in answer.text
    assert view.woken.empty()
    assert re.findall('action="(.*?)"', view.page()) == ["resume"]
    assert view.press("resume").status == 303 and view.woken.get_nowait() is None
    lock = hold_lock(lock_path(view.home, "live"), now=MORNING)
    answer = view.press("run-now")
    assert answer.status == 409 and f"process {lock.holder.pid} on" in answer.text
    assert "AT WORK" in view.page() and view.woken.empty()
    lock.close()
    assert view.service.tick(MORNING).outcome == "done"


def test_a_disk_that_does_not_take_a_pause_is_said(view):
    """Catches a button that seems to have paused."""
    (view.home / "service").write_text("no folder")
    answer = view.press("pause")
    assert answer.status == 500 and "cannot begin the pause" in answer.text


@contextmanager
def stream(view):
    """Events as they come."""
    with closing(http.client.HTTPConnection(view.host, timeout=10)) as connection:
        connection.request("GET", "/events")
        with connection.getresponse() as answer:
            assert answer.headers.get_content_type() == "text/event-stream"
            yield (json.loads(line[6:]) for line in answer if line.startswith(b"data: "))


def test_events_tell_the_progress_of_several_runs_and_when_the_page_is_old(view):
    """Catches a stream that is silent while a day moves on, that knows one run only, or that has a
    page asked for again every second."""
    with stream(view) as events:
        first = next(events)
        assert first["runs"] == {"live": {"words": "nobody is at work", "share": None}}
        locks = [hold_lock(lock_path(view.home, run), now=MORNING) for run in ("live", "seed-2")]
        seen = [MORNING]
        files = [DoingFile(view.home, r, clock=lambda: seen[0]) for r in ("live", "seed-2")]
        for file in files:
            file.started("2026-03-02", Stage.FORECAST, total=1000, unit="tokens")
        begun = next(
            e for e in events if "seed-2" in e["runs"] and e["runs"]["seed-2"]["share"] == 0
        )
        assert begun["key"] != first["key"]
        assert f'data-key="{begun["key"]}"' in view.page()
        seen[0] += timedelta(seconds=10)
        files[1]._written = float("-inf")
        files[1].advanced(250, 0)
        moved = next(e for e in events if e["runs"]["seed-2"]["share"])
        assert moved["key"] == begun["key"]
        assert moved["runs"]["seed-2"]["share"] == 0.25
        assert (
            "2026-03-02 forecast, 250 of 1,000 tokens, 25 tokens/s"
            in moved["runs"]["seed-2"]["words"]
        )
        page = view.page()
        assert (
            'data-words="live"' in page and 'data-share="seed-2"' in page and 'value="0.25"' in page
        )
        files[1].finished()
        assert next(e for e in events if e["key"] != begun["key"])
        for lock in locks:
            lock.close()


def test_what_the_service_was_told_is_shown_as_text(view):
    """Catches a script in an error: what a day said last may hold a headline."""
    view.service.days.code, view.service.days.said = 7, "varro: <script>alert(1)</script>\u202e\n"
    view.service.tick(MORNING)
    assert "<script>" in state_path(view.home, "live").read_text()
    page = view.page()
    assert "&lt;script&gt;alert(1)" in page and "\u202e" not in page
    assert re.findall("<script.*?>", page) == ['<script src="live.js" defer>']
    assert "FAILED" in page and '<noscript><meta http-equiv="refresh"' in page


def test_a_page_asks_nothing_of_others(view):
    """Catches a font, picture or script from elsewhere."""
    pause(view.home, "live", now=MORNING, by="a test")
    page = view.page()
    assert set(re.findall(r'(?:src|href|action)="(.*?)[",]', page)) == {
        "#main", "data:image/svg+xml", "live.js", "resume",
    }  # fmt: skip
    assert "url(" not in page and "@import" not in page
    asked = re.findall(r"(?:fetch|EventSource)\((.*?)[,)]", view.ask("/live.js").text)
    assert asked == ["location.href", '"events"']
