"""A run's checkpoints over time: damage is found and named, its parent serves, old ones go."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from conftest import ledger_at

from varro.config import CheckpointsConfig
from varro.domain import CheckpointInfo, RunInfo
from varro.errors import CheckpointError, DamagedCheckpointError, DiskError
from varro.files import remove_folder
from varro.ledger.store import open_ledger
from varro.lineage import kept_versions, load_live, refuse_full_disk
from varro.policy.checkpoint import TrainerState, publish_checkpoint
from varro.policy.manifest import verify_checkpoint
from varro.policy.mlx import mx

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


@pytest.fixture
def published(tmp_path, policy):
    """(home, ledger, adapters) of versions 0, 1 and 2; adapter n is all of 0.01 · n."""
    adapters = []
    with open_ledger(ledger_at(tmp_path)) as ledger:
        ledger.add_run(RunInfo("main", 0, "world", "hash", {}, "0"))
        for version in range(3):
            fill = {n: mx.full(a.shape, 0.01 * version) for n, a in policy.adapter().items()}
            policy.set_adapter(fill)
            adapters.append({n: np.array(a) for n, a in fill.items()})
            moments = {"m": mx.full((400,), float(version))} if version else {}
            path, sha256 = publish_checkpoint(
                tmp_path, policy, TrainerState(0.03, version, moments), run="main",
                version=version, parent=version - 1 if version else None,
                day=f"2026-01-0{5 + version}", seed=0, config_toml="",
            )  # fmt: skip
            parent = version - 1 if version else None
            ledger.add_checkpoint(
                CheckpointInfo("main", version, parent, f"2026-01-0{5 + version}", path, sha256)
            )
        yield tmp_path, ledger, adapters


def cut(n_bytes):
    def damage(folder):
        file = folder / "adapters.safetensors"
        content = file.read_bytes()
        file.write_bytes(content[: n_bytes if n_bytes >= 0 else len(content) + n_bytes])

    return damage


def cut_in_half(folder):
    file = folder / "adapters.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip_a_bit(name):
    def damage(folder):
        content = bytearray((folder / name).read_bytes())
        content[-1] ^= 1
        (folder / name).write_bytes(content)

    return damage


def swap_files(folder):
    one, other, third = (folder / n for n in ("adapters.safetensors", "optimizer.safetensors", "x"))
    one.rename(third)
    other.rename(one)
    third.rename(other)


def swap_with_the_parent(folder):
    shutil.copy(folder.with_name("v00001") / "adapters.safetensors", folder)


DAMAGE = {
    "nothing left": cut(0),
    "1 KB left": cut(1024),
    "half left": cut_in_half,
    "all but a byte left": cut(-1),
    "a bit of the weights": flip_a_bit("adapters.safetensors"),
    "a bit of the optimiser": flip_a_bit("optimizer.safetensors"),
    "a bit of the manifest": flip_a_bit("manifest.json"),
    "files swapped": swap_files,
    "the parent's weights": swap_with_the_parent,
    "no optimiser": lambda folder: (folder / "optimizer.safetensors").unlink(),
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "no folder": shutil.rmtree,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_version_is_named_and_its_parent_serves(published, policy, damage):
    """Catches weights of chance that would quietly be the policy, and a run that ends for good
    because its newest file is broken."""
    home, ledger, adapters = published
    damage(home / ledger.checkpoint("main", 2).path)
    live = load_live(home, ledger, policy, ledger.checkpoint("main"))
    assert (live.checkpoint.version, policy.version) == (1, 1)
    assert live.trainer.n_updates == 1
    (lost,) = live.damaged
    assert (lost.version, lost.day) == (2, "2026-01-07")
    assert "v00002" in lost.reason
    for name, array in policy.adapter().items():
        np.testing.assert_array_equal(np.array(array), adapters[1][name])


def test_a_whole_version_is_live_and_nothing_is_said(published, policy):
    """Catches a way back that is taken without need."""
    home, ledger, _ = published
    live = load_live(home, ledger, policy, ledger.checkpoint("main"))
    assert (live.checkpoint.version, policy.version, live.damaged) == (2, 2, ())


def test_all_that_is_lost_is_listed_and_without_an_ancestor_nothing_serves(published, policy):
    """Catches the second broken version passed over in silence, and a policy made of nothing."""
    home, ledger, _ = published
    for version in (2, 1):
        flip_a_bit("adapters.safetensors")(home / ledger.checkpoint("main", version).path)
    live = load_live(home, ledger, policy, ledger.checkpoint("main"))
    assert [lost.version for lost in live.damaged] == [2, 1]
    shutil.rmtree(home / ledger.checkpoint("main", 0).path)
    with pytest.raises(CheckpointError, match="no version of run 'main' is whole") as caught:
        load_live(home, ledger, policy, ledger.checkpoint("main"))
    assert not isinstance(caught.value, DamagedCheckpointError)


def test_another_kind_of_policy_is_no_damage(published, policy):
    """Catches a wrong setting that sets the run back, version by version, to its beginning."""
    home, ledger, _ = published
    with pytest.raises(CheckpointError, match="rank 16 and scale"):
        load_live(home, ledger, replace(policy, lora_scale=9.0), ledger.checkpoint("main"))


def version(n, day, parent=None):
    return CheckpointInfo("main", n, n - 1 if parent is None else parent, day, f"v{n}", "s")


def test_versions_that_may_be_needed_are_kept():
    """Catches a clean-up that takes the parent of the live version, or the ground of the leash."""
    days = ["2026-01-30", "2026-01-31", "2026-02-01", "2026-02-27", "2026-03-01", "2026-03-02"]
    line = [version(n, day) for n, day in enumerate(days, start=1)]
    line = [CheckpointInfo("main", 0, None, "2026-01-29", "v0", "s"), *line]
    plain = CheckpointsConfig(keep_newest=1, keep_monthly=False)
    assert kept_versions(line, plain, live=6, reference=None) == {0, 5, 6}
    assert kept_versions(line, plain, live=3, reference=1) == {0, 1, 2, 3, 6}
    monthly = CheckpointsConfig(keep_newest=1)
    assert kept_versions(line, monthly, live=6, reference=None) == {0, 2, 4, 5, 6}
    assert kept_versions(line, CheckpointsConfig(keep_newest=4, keep_monthly=False), live=6,
                         reference=None) == {0, 3, 4, 5, 6}  # fmt: skip
    # v7 has the weights of v2 again: its parent is v2.
    line.append(version(7, "2026-03-02", parent=2))
    assert kept_versions(line, plain, live=7, reference=None) == {0, 2, 7}


def test_a_folder_that_was_half_removed_is_removed_the_next_time(tmp_path):
    """Catches a crash between two files that leaves half a checkpoint under its name."""
    folder = tmp_path / "v00001"
    for name in ("v00001", ".v00001.removed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.json").write_text("{}")
    remove_folder(folder)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".v00001.removed").mkdir()
    remove_folder(folder)
    assert list(tmp_path.iterdir()) == []


def test_no_day_is_trained_that_could_not_be_written(tmp_path, policy):
    """Catches a night's training that ends in a full disk."""
    refuse_full_disk(tmp_path, policy.trained_bytes(), CheckpointsConfig(min_free_gb=0))
    with pytest.raises(DiskError, match=r"GB are free .* are needed for a checkpoint"):
        refuse_full_disk(tmp_path, policy.trained_bytes(), CheckpointsConfig(min_free_gb=1e9))


def test_a_checkpoint_is_verified_without_loading_it(published):
    """Catches a backup that can only be checked where MLX runs."""
    home, ledger, _ = published
    for checkpoint in ledger.checkpoints("main"):
        verify_checkpoint(home / checkpoint.path, checkpoint.sha256)
    with pytest.raises(DamagedCheckpointError, match="not the one the ledger recorded"):
        verify_checkpoint(home / ledger.checkpoint("main", 1).path, "0" * 64)
