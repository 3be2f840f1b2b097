"""Days after something went wrong: a damaged checkpoint, a backup restored, a version rolled back.

The tiny policy and the real ledger; texts are embedded by their words, for speed.
"""

from __future__ import annotations

import json
import resource
import shutil
import sys
import threading
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from conftest import (
    copy_home,
    ledger_at,
    lend_embedder,
    of_postgres,
    on_the_server,
    raw_sql,
    small_config,
)
from sqlalchemy import Engine, event

from varro.day import DueDay, end_of_day, report_folder, run_day
from varro.domain import EvaluationInfo, Role, Stage, StageRun
from varro.errors import (
    CheckpointError,
    DiskError,
    FeedError,
    LedgerError,
    StageError,
    StaleLeaseError,
)
from varro.evaluation.evaluate import PARTS
from varro.files import new_folder, sha256_file, write_file
from varro.ledger.store import open_ledger
from varro.run import live_policy, open_run
from varro.service import backup
from varro.service.rollback import roll_back

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import crash_test
from crash_test import WordVectors, differences, doubled

NOW = datetime(2026, 11, 20, tzinfo=UTC)
KEEP_ALL = ("checkpoints.keep_newest=99",)


def url_of(home):
    """Where its ledger is, if not in its SQLite file."""
    place = ledger_at(home)
    return place if isinstance(place, str) else None


def state_of(home):
    return crash_test.state_of(home, url_of(home))


def torn_in(home):
    return crash_test.torn_in(home, url_of(home))


def back_up(home, target, **settings):
    return backup.back_up(home, target, made_at=NOW, url=url_of(home), **settings)


def restore(source, home):
    return backup.restore(source, home, url=url_of(home))


def day_of(n):
    day = date(2026, 1, 5) + timedelta(days=n)
    return DueDay(day.isoformat(), end_of_day(day))


class Heard:
    """A progress that keeps the warnings."""

    def __init__(self):
        self.warnings = []

    def started(self, day, stage, *, total, unit): ...
    def advanced(self, n, spared=0): ...
    def finished(self, day, stage, *, seconds, summary): ...

    def warned(self, text):
        self.warnings.append(text)


def run_days(home, *days, settings=KEEP_ALL):
    """The warnings of some days, each in a process's life of its own."""
    heard = Heard()
    for n in days:
        with open_run(small_config(home, *settings)) as work:
            work.progress = heard
            lend_embedder(work, WordVectors())
            run_day(work, day_of(n))
    return heard.warnings


def report_of(home, n):
    file = report_folder(home, "main", day_of(n).day) / "report.json"
    return json.loads(file.read_text())


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    """A home after three days, at v2. Only copy from it."""
    home = tmp_path_factory.mktemp("lived") / "home"
    run_days(home, 0, 1, 2)
    with open_ledger(ledger_at(home)) as ledger:
        assert ledger.checkpoint("main").version == 2
    return home


@pytest.fixture
def home(lived, tmp_path):
    return copy_home(lived, tmp_path / "home")


@pytest.fixture(scope="module")
def next_day(lived, tmp_path_factory):
    """What that home holds after one day more."""
    home = copy_home(lived, tmp_path_factory.mktemp("next") / "home")
    run_days(home, 3)
    return state_of(home)


def weights(home, version):
    file = home / f"checkpoints/main/v{version:05d}/manifest.json"
    return json.loads(file.read_text())["sha256"]["adapters.safetensors"]


def test_a_damaged_checkpoint_costs_days_and_every_one_is_said(home):
    """Catches a run that goes on from its parent in silence, trains the parent on what the lost
    version forecast, or gives one version number two meanings."""
    lost = home / "checkpoints/main/v00002/adapters.safetensors"
    content = bytearray(lost.read_bytes())
    content[1000] ^= 1
    lost.write_bytes(content)
    (warning,) = run_days(home, 3)
    assert "v2 of run 'main' cannot be used" in warning
    assert "adapters.safetensors is damaged" in warning
    assert f"v1 serves, what {day_of(2).day} trained is lost" in warning
    with open_ledger(ledger_at(home)) as ledger:
        update, forecast, evaluate = (
            ledger.stage_run("main", day_of(3).day, stage).detail
            for stage in (Stage.UPDATE, Stage.FORECAST, Stage.EVALUATE)
        )
        # What v2 forecast was settled, and none of it trains v1.
        assert len(ledger.settled_groups("main", day=day_of(3).day, role=Role.TRAIN)) == 6
        assert (update["updated"], update["n_stale"]) == (False, 6)
        assert update["reason"].endswith("2 are needed; 6 of another version")
        assert forecast["policy_version"] == 1
        for detail in (update, forecast, evaluate):
            ((version, day),) = [(d["version"], d["day"]) for d in detail["damaged"]]
            assert (version, day) == (2, day_of(2).day)
    report = report_of(home, 3)
    found = {alarm["name"]: alarm["found"] for alarm in report["alarms"]}
    assert "v2 could not be used" in found["checkpoint"] and day_of(2).day in found["checkpoint"]
    assert report["checkpoint"]["version"] == 1
    page = report_folder(home, "main", day_of(3).day) / "report.md"
    assert "v2 could not be used" in page.read_text()

    assert len(run_days(home, 4)) == 1
    with open_ledger(ledger_at(home)) as ledger:
        made = ledger.checkpoint("main")
        assert (made.version, made.parent) == (3, 1)
        update = ledger.update("main", day_of(4).day)
        assert (update.from_version, update.to_version) == (1, 3)
        assert ledger.rollbacks("main") == []
        assert "damaged" in ledger.stage_run("main", day_of(4).day, Stage.UPDATE).detail
        assert "damaged" not in ledger.stage_run("main", day_of(4).day, Stage.FORECAST).detail
    assert torn_in(home)  # v2 lies there as it was found
    assert run_days(home, 5) == []
    assert "checkpoint" not in {alarm["name"] for alarm in report_of(home, 5)["alarms"]}


def adopted(home, *settings):
    """Another configuration, as if the run had been begun with it."""
    config = small_config(home, *settings)
    with open_ledger(ledger_at(home)) as ledger:
        version = ledger.run("main").config["reward.version"]
    text = json.dumps(config.identity() | {"reward.version": version})
    raw_sql(ledger_at(home), "UPDATE runs SET config = ?", parameters=(text,))
    return config


def test_the_steering_of_a_refused_day_belongs_to_the_version_it_steered(home):
    """Catches a parent that goes on with what a lost version's refused days made of the rate."""
    refuse = (*KEEP_ALL, "guard.kl_redo=1e-9", "guard.kl_refuse=1e-9")
    config = adopted(home, *refuse)
    run_days(home, 3, settings=refuse)
    with open_run(config) as work:
        live_policy(work)
        assert work.policy.version == 2
        steered = work.trainer.lr_scale
        detail = work.ledger.stage_run("main", day_of(3).day, Stage.UPDATE).detail
        assert detail["policy_version"] == 2
        assert steered == detail["trainer_next"]["lr_scale"]
    (home / "checkpoints/main/v00002/state.json").unlink()
    with open_run(config) as work:
        live_policy(work)
        assert work.policy.version == 1
        state = json.loads((home / "checkpoints/main/v00001/state.json").read_text())
        assert work.trainer.lr_scale == state["lr_scale"]
        assert work.trainer.lr_scale != steered


def test_a_day_after_a_restore_is_the_day_after_the_original(home, tmp_path):
    """Catches a backup that lacks something that only the next day needs."""
    made = back_up(home, tmp_path / "backup")
    assert len(made.checkpoints) == 3 and made.left_out == {}
    assert made.made_at == "2026-11-20T00:00:00Z"
    again = tmp_path / "again" / "home"
    assert restore(tmp_path / "backup", again) == made
    files = ["checkpoints", "home.id"] if url_of(again) else ["checkpoints", "ledger.sqlite"]
    assert sorted(p.name for p in again.iterdir()) == files
    run_days(home, 3)
    run_days(again, 3)
    original = {k: v for k, v in state_of(home).items() if is_of_state(k)}
    assert differences({k: v for k, v in state_of(again).items() if is_of_state(k)}, original) == []
    assert len(original["rows of updates"]) == 3


def test_a_restored_home_is_nobodys_even_in_the_place_of_the_original(home, tmp_path):
    """Catches a first writer that is refused for the original's holder; and that holder, or one
    that came after the backup, committing to the home that has taken its place: it opens the ledger
    by its path, with a number that both ledgers know."""
    config = small_config(home, *KEEP_ALL)
    run = open_run(config, now=NOW)
    numbers = [run.ledger.lease_number]
    back_up(home, tmp_path / "backup")
    with open_ledger(ledger_at(home)) as later:
        numbers += [later.take_lease("main", f"process {n}", NOW) for n in range(3)]
    home.rename(tmp_path / "lost")
    restore(tmp_path / "backup", home)
    with open_run(small_config(home, *KEEP_ALL), now=NOW) as first:
        rows = first.ledger.stage_runs("main")
        for number in [*numbers, numbers[-1] + 1]:
            with open_ledger(ledger_at(home)) as stale:
                stale.continue_lease("main", number)
                with pytest.raises(StaleLeaseError, match="was taken over by process"):
                    stale.finish_stage(StageRun("main", day_of(3).day, Stage.INGEST, NOW, 0.0, {}))
        assert first.ledger.stage_runs("main") == rows
    run.__exit__()
    # Nor may it before anyone has written there, nor one of a home that was itself restored.
    with open_ledger(ledger_at(home)) as ledger:
        restored = ledger.take_lease("main", "process of the first restore", NOW)
    home.rename(tmp_path / "lost again")
    restore(tmp_path / "backup", home)
    for number in (*numbers, restored, restored + 1):
        with open_ledger(ledger_at(home)) as stale:
            stale.continue_lease("main", number)
            with pytest.raises(StaleLeaseError, match="was taken over by a restored backup"):
                stale.check_lease()
    run_days(home, 3)


def test_feed_bodies_are_in_a_backup_unless_they_are_not_wanted(home, tmp_path):
    """Catches a restored home in which what the feeds said can not be looked at again; and one with
    a body that rotted."""
    for day, name in (("2026-01-05", "a.gz"), ("2026-01-06", "b.gz")):
        write_file(home / "bodies" / day / name, f"body {name}".encode())
    (home / "bodies" / "2026-01-06" / ".c.gz.partial").write_text("half")
    made = back_up(home, tmp_path / "backup")
    assert list(made.bodies) == ["bodies/2026-01-05/a.gz", "bodies/2026-01-06/b.gz"]
    restore(tmp_path / "backup", tmp_path / "again")
    found = {p.name: p.read_bytes() for p in (tmp_path / "again/bodies").rglob("*.*")}
    assert found == {"a.gz": b"body a.gz", "b.gz": b"body b.gz"}
    (tmp_path / "backup/bodies/2026-01-06/b.gz").write_bytes(b"body b.gy")
    with pytest.raises(FeedError, match=r"b\.gz is missing or damaged"):
        restore(tmp_path / "backup", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    lean = back_up(home, tmp_path / "lean", with_bodies=False)
    assert lean.bodies == {} and not (tmp_path / "lean/bodies").exists()
    # A backup of an earlier version has no word of bodies.
    facts = json.loads((tmp_path / "lean/backup.json").read_text())
    del facts["bodies"]
    (tmp_path / "lean/backup.json").write_text(json.dumps(facts))
    restore(tmp_path / "lean", tmp_path / "old")


def is_of_state(name):
    """Reports of days before the backup are not in it, nor is the lock."""
    earlier = [day_of(n).day for n in range(3)]
    return not any(day in name for day in earlier if name.startswith("file reports"))


def test_backups_made_while_a_day_runs_all_end_as_the_day_did(home, tmp_path):
    """Catches a backup of two moments: a ledger that names what was not yet copied, or forgets what
    was."""
    done = threading.Event()
    backups, failures = [], []

    def keep_backing_up():
        while not done.is_set():
            target = tmp_path / f"backup{len(backups)}"
            try:
                back_up(home, target)
            except Exception as error:
                failures.append(error)
                return
            backups.append(target)

    thread = threading.Thread(target=keep_backing_up)
    thread.start()
    try:
        run_days(home, 3)
    finally:
        done.set()
        thread.join()
    assert failures == [] and len(backups) >= 3
    whole = {k: v for k, v in state_of(home).items() if is_of_state(k)}
    stages = []
    for n in {0, len(backups) // 2, len(backups) - 1}:
        again = tmp_path / f"again{n}" / "home"
        restore(backups[n], again)
        with open_ledger(ledger_at(again)) as ledger:
            stages.append(len(ledger.stage_runs("main", day_of(3).day)))
        run_days(again, 3)
        found = {k: v for k, v in state_of(again).items() if is_of_state(k)}
        missing = differences(found, whole)
        # A report written before the backup was made is not written again.
        assert [line for line in missing if "reports" not in line] == []
        assert doubled(found, whole) == []


def test_a_backup_is_refused_where_something_is_and_leaves_nothing_half(home, tmp_path):
    """Catches a backup mixed with an older one, and a folder that looks like one and is none."""
    target = tmp_path / "backup"
    target.mkdir()
    (target / "photo.jpg").write_text("mine")
    with pytest.raises(StageError, match="exists; name a new folder"):
        back_up(home, target)
    with pytest.raises(StageError, match="there is nothing to back up"):
        back_up(tmp_path / "nowhere", tmp_path / "new")
    with pytest.raises(StageError, match=r"is no backup: it has no backup\.json"):
        restore(target, tmp_path / "new")
    for version in range(3):
        (home / f"checkpoints/main/v0000{version}/state.json").unlink()
    with pytest.raises(CheckpointError, match="no version of run 'main' is whole"):
        back_up(home, tmp_path / "new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["backup", "home"]
    assert [p.name for p in target.iterdir()] == ["photo.jpg"]


def test_two_backups_to_one_folder_do_not_mix(home, tmp_path):
    """Catches a backup whose files are removed by a second one beside it, and that is published
    and said to be verified all the same; and what a killed one has left, in the way for ever."""
    target = tmp_path / "backup"
    (tmp_path / ".backup.partial" / "checkpoints").mkdir(parents=True)
    with new_folder(target, "the first one") as partial:
        assert list(partial.iterdir()) == []
        (partial / "mine").touch()
        with pytest.raises(StageError, match=r"backup to .*: another process is at it"):
            back_up(home, target)
    assert [p.name for p in target.iterdir()] == ["mine"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["backup", "home"]


def test_a_damaged_checkpoint_is_left_out_of_a_backup_by_name(home, tmp_path):
    """Catches a backup that carries the damage on, and one that cannot be made because of it."""
    (home / "checkpoints/main/v00002/optimizer.safetensors").unlink()
    shutil.rmtree(home / "checkpoints/main/v00001")
    made = back_up(home, tmp_path / "backup")
    assert list(made.checkpoints) == ["checkpoints/main/v00000"]
    assert made.left_out["checkpoints/main/v00001"] == "removed"
    assert "lacks optimizer.safetensors" in made.left_out["checkpoints/main/v00002"]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("ledger.sqlite", LedgerError),
        ("checkpoints/main/v00001/adapters.safetensors", CheckpointError),
        ("checkpoints/main/v00000/manifest.json", CheckpointError),
    ],
)
def test_a_damaged_backup_is_not_restored(home, tmp_path, name, error):
    """Catches a home made of a backup that rotted in a drawer."""
    back_up(home, tmp_path / "backup")
    content = bytearray((tmp_path / "backup" / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "backup" / name).write_bytes(content)
    with pytest.raises(error):
        restore(tmp_path / "backup", tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("kind", ["checkpoints", "bodies"])
@pytest.mark.parametrize("place", ["../outside", "/tmp/outside", "checkpoints/../../outside"])
def test_a_backup_that_names_what_lies_outside_of_it_is_not_restored(tmp_path, kind, place):
    """Catches a backup from a stranger that writes files where it likes."""
    source, home = tmp_path / "backup", tmp_path / "new"
    ledger = source / "ledger.sqlite"  # so wherever the run's own is
    with open_ledger(ledger):
        pass
    (tmp_path / "outside").write_text("theirs")
    facts = {
        "made_at": "", "varro_version": "", "left_out": {}, "checkpoints": {}, "bodies": {},
        "ledger_sha256": sha256_file(ledger),
        kind: {place: sha256_file(tmp_path / "outside")},
    }  # fmt: skip
    (source / "backup.json").write_text(json.dumps(facts))
    with pytest.raises(StageError, match="lies outside of it"):
        restore(source, home)
    assert not home.exists()
    (source / "backup.json").write_text(json.dumps(facts | {kind: []}))
    with pytest.raises(StageError, match="is not what 'varro backup' writes"):
        restore(source, home)


def test_a_rollback_is_a_new_version_with_old_weights(home):
    """Catches a rollback that rewrites history, trains on what the version left behind forecast,
    or is not to be seen in the next report."""
    with open_run(small_config(home, *KEEP_ALL)) as work:
        made = roll_back(work, None)
        assert (made.version, made.parent, made.day) == (3, 1, day_of(2).day)
        assert work.ledger.checkpoint("main").version == 3
    assert weights(home, 3) == weights(home, 1) != weights(home, 2)
    before = report_of(home, 2)
    assert run_days(home, 3) == []
    with open_ledger(ledger_at(home)) as ledger:
        assert ledger.stage_run("main", day_of(3).day, Stage.FORECAST).detail["policy_version"] == 3
        update = ledger.stage_run("main", day_of(3).day, Stage.UPDATE).detail
        assert (update["updated"], update["n_stale"]) == (False, 6)
    found = {alarm["name"]: alarm["found"] for alarm in report_of(home, 3)["alarms"]}
    assert found["checkpoint"] == "rolled back to the weights of v1, as v3"
    run_days(home, 4)
    with open_ledger(ledger_at(home)) as ledger:
        assert ledger.checkpoint("main").version == 4
        assert ledger.update("main", day_of(4).day).from_version == 3
    assert "checkpoint" not in {alarm["name"] for alarm in report_of(home, 4)["alarms"]}
    # The day before the rollback is still v2's.
    with open_run(small_config(home, *KEEP_ALL)) as work:
        from varro.day import write_day_report

        lend_embedder(work, WordVectors())
        write_day_report(work, day_of(2).day)
    assert report_of(home, 2)["checkpoint"] == before["checkpoint"]
    assert before["checkpoint"]["version"] == 2


def test_going_back_twice_goes_back_two_versions(home):
    """Catches a second rollback that publishes the first one's weights again."""
    with open_run(small_config(home, *KEEP_ALL)) as work:
        assert roll_back(work, None).parent == 1
        assert (roll_back(work, None).version, weights(home, 4)) == (4, weights(home, 0))
        with pytest.raises(StageError, match="there are none before it"):
            roll_back(work, None)


def test_a_rollback_needs_a_version_and_a_whole_day(home):
    """Catches weights changed under a day that has trained and not yet forecast."""
    config = small_config(home, *KEEP_ALL)
    with open_run(config) as work:
        lend_embedder(work, WordVectors())
        for to, said in ((2, "is the newest version already"), (9, "has no version 9")):
            with pytest.raises(StageError, match=said):
                roll_back(work, to)
        (home / "checkpoints/main/v00001/state.json").unlink()
        with pytest.raises(CheckpointError, match=r"v1 cannot be gone back to: .*kept are v0, v1"):
            roll_back(work, 1)
        run_day(work, day_of(3), only=Stage.INGEST)
        with pytest.raises(StageError, match=f"day {day_of(3).day} .* is half done; finish it"):
            roll_back(work, 0)
    with (
        open_run(small_config(home, "run.name=other")) as work,
        pytest.raises(StageError, match="has no version to go back to yet"),
    ):
        roll_back(work, None)


@pytest.mark.parametrize(
    ("lift", "shuffled", "asked", "back"),
    [(-0.05, 0.0, True, True), (-0.05, 0.0, False, False), (-0.05, -0.05, True, False),
     (0.05, 0.0, True, False)],
    ids=["worse", "not asked for", "a control is off", "better"],
)  # fmt: skip
def test_a_policy_that_is_proven_worse_gives_way_to_the_base(home, lift, shuffled, asked, back):
    """Catches a policy that is worse than the one it was made of and serves on; and a way back that
    is taken without being asked for, or on the word of a measurement that is itself in doubt."""
    settings = (*KEEP_ALL, f"guard.back_to_base={str(asked).lower()}")
    adopted(home, *settings)
    names = (*PARTS, "base_against_base", "heldout", "echo", "template")
    with open_ledger(ledger_at(home)) as ledger:
        detail = ledger.evaluations("main")[-1].detail
        for n in range(20):
            day = date(2025, 12, 10) + timedelta(days=n)
            values = {part: [0.0, 0.001 * (n % 3 - 1)] for part in names}
            values["even_contrast"] = [lift + 0.001 * (n % 3), lift]
            values["shuffled"] = [shuffled, shuffled + 0.001 * (n % 3)]
            evaluation = EvaluationInfo(
                "main", day.isoformat(), 2, lift, None, None, detail | {"differences": values}
            )
            row = StageRun("main", day.isoformat(), Stage.EVALUATE, end_of_day(day), 0.0,
                           {"machine": {}})  # fmt: skip
            ledger.finish_stage(row, evaluation=evaluation)
    run_days(home, 3, settings=settings)
    with open_ledger(ledger_at(home)) as ledger:
        newest = ledger.checkpoint("main")
        update = ledger.stage_run("main", day_of(3).day, Stage.UPDATE).detail
        assert ledger.update("main", day_of(3).day) is None or not back
    assert (newest.version, newest.parent) == (3, 0 if back else 2)
    assert (weights(home, 3) == weights(home, 0)) == back
    if not back:
        assert update["updated"]
        return
    assert update["reason"].startswith("rolled back: worse than the frozen base over 22 days")
    state = json.loads((home / "checkpoints/main/v00003/state.json").read_text())
    before = json.loads((home / "checkpoints/main/v00002/state.json").read_text())
    assert state["lr_scale"] == before["lr_scale"] / 2
    report = report_of(home, 3)
    assert report["verdict"]["reason"] == "rolled back"
    found = {alarm["name"]: alarm["found"] for alarm in report["alarms"]}
    assert found["checkpoint"] == "rolled back to the weights of v0, as v3"
    assert report["forecast"]["policy_version"] == 3
    # Its days are counted anew: it does not go back again on the same evidence.
    run_days(home, 4, settings=settings)
    with open_ledger(ledger_at(home)) as ledger:
        assert ledger.update("main", day_of(4).day).from_version == 3


def test_old_versions_go_and_are_named_once(home):
    """Catches a disk that fills up over the years, a live version without its parent, and a folder
    that is gone without a word."""
    settings = ("checkpoints.keep_newest=1", "checkpoints.keep_monthly=false")
    run_days(home, 3, 4, settings=settings)
    kept = sorted(p.name for p in (home / "checkpoints/main").iterdir())
    assert kept == ["v00000", "v00003", "v00004"]
    with open_ledger(ledger_at(home)) as ledger:
        named = [
            ledger.stage_run("main", day_of(n).day, Stage.REPORT).detail["removed_versions"]
            for n in (3, 4)
        ]
        assert named == [[1], [2]]
        assert [c.version for c in ledger.checkpoints("main")] == [0, 1, 2, 3, 4]
    with (
        open_run(small_config(home, *settings)) as work,
        pytest.raises(CheckpointError, match=r"no checkpoint at .*kept are v0, v3, v4"),
    ):
        roll_back(work, 1)
    assert run_days(home, 5, settings=settings) == []


def test_a_disk_without_room_stops_the_day_before_it_begins(home):
    """Catches a check of free space that nothing asks for."""
    before = state_of(home)
    settings = (*KEEP_ALL, "checkpoints.min_free_gb=1e9")
    with pytest.raises(DiskError, match="are needed for a checkpoint"):
        run_days(home, 3, settings=settings)
    told = differences(state_of(home), before)
    assert told and all(
        d.startswith("file reports/main/2026-01-08") and d.endswith(" is left over") for d in told
    ), "nothing but the page of the day that failed"
    page = json.loads((home / "reports/main/2026-01-08/report.json").read_text())
    assert page["verdict"]["word"] == "FAILED"
    run_days(home, 3)


@pytest.mark.parametrize("limit", [100_000, 500_000, 1_000_000])
def test_a_disk_that_takes_no_more_stops_the_day_cleanly(home, next_day, limit):
    """Catches half a checkpoint under its name, and a night that ends in a traceback. No file may
    grow beyond the limit, so the system itself refuses: the ledger, weights, or moments."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(DiskError, match="what was finished stays"):
            run_days(home, 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert torn_in(home) == []
    assert list(home.glob("checkpoints/main/.*")) == []
    run_days(home, 3)
    assert differences(state_of(home), next_day) == []


class Statements:
    """Counts what is sent to a database's server, and ends the session before the n-th."""

    def __init__(self, end_before=0):
        self.n, self.end_before = 0, end_before

    def __enter__(self):
        event.listen(Engine, "before_cursor_execute", self._on_statement)
        event.listen(Engine, "commit", self._on_commit)
        return self

    def __exit__(self, *exc):
        event.remove(Engine, "before_cursor_execute", self._on_statement)
        event.remove(Engine, "commit", self._on_commit)

    def _on_statement(self, connection, *_):
        self.n += 1
        if self.n == self.end_before:
            pid = connection.connection.driver_connection.info.backend_pid
            on_the_server(f"SELECT pg_terminate_backend({pid}, 5000)")

    def _on_commit(self, connection):
        self._on_statement(connection)


@of_postgres
def test_a_server_that_goes_at_any_statement_costs_no_more_than_a_stage(home, next_day, tmp_path):
    """Catches rows of half a stage, an update done twice, and an error that is no LedgerError: the
    session is ended before some of a day's statements and commits, each in another try."""
    tries = [copy_home(home, tmp_path / str(n)) for n in range(6)]
    with Statements() as counted:
        run_days(home, 3)
    assert differences(state_of(home), next_day) == []
    assert counted.n > 60
    for again, end_before in zip(tries, np.linspace(1, counted.n, len(tries)), strict=True):
        with Statements(int(end_before)) as ended, pytest.raises(LedgerError):
            run_days(again, 3)
        assert ended.n >= int(end_before)
        assert torn_in(again) == []
        run_days(again, 3)
        assert differences(state_of(again), next_day) == [], end_before


def test_weights_of_a_version_are_its_own(home):
    """The control of the tests above: each day's training changes the weights."""
    assert len({weights(home, n) for n in range(3)}) == 3
    assert np.isfinite([report_of(home, n)["forecast"]["n_tokens"] for n in range(3)]).all()
