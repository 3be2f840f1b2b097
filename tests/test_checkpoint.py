"""Checkpoints: atomic, hashed, loadable by stock mlx_lm."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from varro.errors import CheckpointError
from varro.policy.checkpoint import TrainerState, load_checkpoint, publish_checkpoint
from varro.policy.mlx import mx


def publish(home, policy, *, version=1, state=None):
    return publish_checkpoint(
        home,
        policy,
        state or TrainerState(0.03, 1, {"step": mx.array(4, dtype=mx.uint64)}),
        run="main",
        version=version,
        parent=version - 1,
        day="2026-01-05",
        seed=0,
        config_toml="home = 'x'\n",
    )


@pytest.fixture
def trained(policy):
    """A policy whose adapter does something."""
    rng = np.random.default_rng(1)
    policy.set_adapter(
        {
            n: mx.array(rng.normal(0, 0.1, a.shape).astype(np.float32))
            for n, a in policy.adapter().items()
        }
    )
    return policy


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path, trained):
    """Catches weights or optimiser state rounded on the way through a file."""
    before = {n: np.array(a) for n, a in trained.adapter().items()}
    state = TrainerState(0.1 + 0.2, 7, {"m": mx.array([0.1, 1e-30])})
    path, sha256 = publish(tmp_path, trained, version=3, state=state)
    trained.set_adapter({n: mx.zeros_like(a) for n, a in trained.adapter().items()})
    found = load_checkpoint(tmp_path, trained, path=path, sha256=sha256)
    assert trained.version == 3
    assert (found.kl_coef, found.n_updates) == (0.1 + 0.2, 7)
    np.testing.assert_array_equal(found.optimizer["m"], state.optimizer["m"])
    for name, array in trained.adapter().items():
        np.testing.assert_array_equal(np.array(array), before[name])


def test_all_that_steers_the_trainer_comes_back(tmp_path, trained):
    """Catches a field that is carried from day to day and forgotten at a restart."""
    state = TrainerState(
        0.05, 9, clip_scale=1.25, lr_scale=0.64, grad_norm_ema=0.1 + 0.2, entropy_first=2.5,
        last_reset=None,
    )  # fmt: skip
    path, sha256 = publish(tmp_path, trained, state=state)
    assert load_checkpoint(tmp_path, trained, path=path, sha256=sha256) == state


def test_an_adapter_of_another_scale_or_kind_is_refused(tmp_path, trained):
    """Catches a policy that is another one though every tensor fits: the scale is no tensor."""
    path, sha256 = publish(tmp_path, trained)
    for other in (replace(trained, lora_scale=20.0), replace(trained, fine_tune="full")):
        with pytest.raises(CheckpointError, match=r"rank 16 and scale 2\.0, the policy"):
            load_checkpoint(tmp_path, other, path=path, sha256=sha256)


def test_a_fully_trained_policy_comes_back_and_loads_in_stock_mlx_lm(tmp_path, policy):
    """Catches a full fine-tune that is saved as an adapter nobody can load."""
    from mlx_lm import load

    from varro.config import PolicyConfig
    from varro.policy.load import load_policy

    config = PolicyConfig(model=str(policy.model_path), fine_tune="full")
    full = load_policy(config, lora_seed=0)
    full.set_adapter({name: a * 1.01 for name, a in full.adapter().items()})
    path, sha256 = publish(tmp_path, full)
    again = load_policy(config, lora_seed=0)
    load_checkpoint(tmp_path, again, path=path, sha256=sha256)
    ids = mx.array([[5, 6, 7, 8]])
    expected = np.array(full.model(ids))
    np.testing.assert_array_equal(np.array(again.model(ids)), expected)
    stock, _ = load(str(policy.model_path), adapter_path=str(tmp_path / path))
    np.testing.assert_allclose(np.array(stock(ids)), expected, atol=1e-4)


def rewritten(folder, **changes):
    """The checkpoint with other values in state.json (None: without the key), its hashes mended."""
    from varro.files import sha256_file

    state = json.loads((folder / "state.json").read_text()) | changes
    state = {key: value for key, value in state.items() if value is not None}
    (folder / "state.json").write_text(json.dumps(state))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"]["state.json"] = sha256_file(folder / "state.json")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return sha256_file(folder / "manifest.json")


def test_a_checkpoint_of_the_first_format_reads_with_defaults(tmp_path, trained):
    """Catches a policy of weeks that a new version cannot load."""
    path, _ = publish(tmp_path, trained, state=TrainerState(0.05, 9, lr_scale=0.5))
    new = dict.fromkeys(("clip_scale", "lr_scale", "grad_norm_ema", "entropy_first", "last_reset"))
    sha256 = rewritten(tmp_path / path, format=1, **new)
    found = load_checkpoint(tmp_path, trained, path=path, sha256=sha256)
    assert found == TrainerState(0.05, 9)
    sha256 = rewritten(tmp_path / path, format=3)
    with pytest.raises(CheckpointError, match="has format 3, this Varro reads up to 2"):
        load_checkpoint(tmp_path, trained, path=path, sha256=sha256)


def test_the_reference_comes_back_and_is_missed(tmp_path, trained):
    """Catches a leash that is tied to the frozen base again after a restart, or to what another
    checkpoint left in memory."""
    plain, plain_sha256 = publish(tmp_path, trained, version=1)
    assert not (tmp_path / plain / "reference.safetensors").exists()
    own = {n: np.array(a) for n, a in trained.adapter().items()}
    trained.set_reference(trained.adapter())
    path, sha256 = publish(tmp_path, trained, version=2, state=TrainerState(0.05, 9, last_reset=9))
    manifest = json.loads((tmp_path / path / "manifest.json").read_text())
    assert "reference.safetensors" in manifest["sha256"]
    load_checkpoint(tmp_path, trained, path=plain, sha256=plain_sha256)
    assert trained.reference is None
    load_checkpoint(tmp_path, trained, path=path, sha256=sha256)
    assert trained.reference.keys() == own.keys()
    for name, array in trained.reference.items():
        np.testing.assert_array_equal(np.array(array), own[name])
    file = tmp_path / path / "reference.safetensors"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"reference.safetensors is damaged"):
        load_checkpoint(tmp_path, trained, path=path, sha256=sha256)
    file.unlink()
    with pytest.raises(CheckpointError, match=r"lacks reference.safetensors"):
        load_checkpoint(tmp_path, trained, path=path, sha256=sha256)
    del manifest["sha256"]["reference.safetensors"]
    (tmp_path / path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=r"lacks reference.safetensors"):
        load_checkpoint(tmp_path, trained, path=path, sha256=rewritten(tmp_path / path))


def test_equal_states_are_equal_files(tmp_path, trained):
    """Catches files whose bytes depend on the order in which a dictionary was filled."""
    arrays = {f"layer.{i}.v": mx.array([float(i)]) for i in range(50)}
    backwards = dict(reversed(arrays.items()))
    paths = [
        tmp_path / publish(tmp_path, trained, version=v, state=TrainerState(0.1, 1, state))[0]
        for v, state in enumerate((arrays, backwards), start=1)
    ]
    for name in ("optimizer.safetensors", "adapters.safetensors"):
        assert (paths[0] / name).read_bytes() == (paths[1] / name).read_bytes()


def test_stock_mlx_lm_loads_the_folder_with_the_same_logits(tmp_path, trained):
    """Catches a folder that only our own code can read, or a scale that is not in the config."""
    from mlx_lm import load

    path, _ = publish(tmp_path, trained)
    model, _ = load(str(trained.model_path), adapter_path=str(tmp_path / path))
    tokens = mx.array([list(trained.prompts.encode("Norvik Energy shares rise"))])
    theirs, ours = np.array(model(tokens)), np.array(trained.model(tokens))
    np.testing.assert_allclose(theirs, ours, atol=1e-5)
    with trained.adapter_off():
        assert np.abs(np.array(trained.model(tokens)) - ours).max() > 0.1


def test_stock_mlx_lm_generates_from_the_folder(tmp_path, trained):
    """Catches an adapter_config.json that the command line refuses."""
    path, _ = publish(tmp_path, trained)
    command = [sys.executable, "-m", "mlx_lm", "generate", "--model", str(trained.model_path)]
    command += ["--adapter-path", str(tmp_path / path), "--prompt", "Hi", "--max-tokens", "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Generation: 5 tokens" in done.stdout or "Generation:" in done.stdout


@pytest.mark.parametrize("name", ["adapters.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_damage_is_found_before_anything_is_loaded(tmp_path, trained, name, damage):
    """Catches a flipped bit that would quietly become the policy."""
    path, sha256 = publish(tmp_path, trained)
    file = tmp_path / path / name
    content = bytearray(file.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    elif damage == "truncate":
        file.write_bytes(content[:-1])
    else:
        file.unlink()
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(tmp_path, trained, path=path, sha256=sha256)


def test_another_checkpoint_in_its_place_is_found(tmp_path, trained):
    """Catches a swapped folder: whole, but not the one the ledger recorded."""
    path, sha256 = publish(tmp_path, trained, version=1)
    other, _ = publish(tmp_path, trained, version=2)
    shutil.rmtree(tmp_path / path)
    shutil.copytree(tmp_path / other, tmp_path / path)
    with pytest.raises(CheckpointError, match="not the one the ledger recorded"):
        load_checkpoint(tmp_path, trained, path=path, sha256=sha256)


def test_a_checkpoint_of_another_base_is_refused(tmp_path, trained, monkeypatch):
    """Catches an adapter put over weights it was not trained with."""
    path, sha256 = publish(tmp_path, trained)
    monkeypatch.setattr(trained, "base_sha256", "0" * 64)
    with pytest.raises(CheckpointError, match="trained over a base"):
        load_checkpoint(tmp_path, trained, path=path, sha256=sha256)


def test_a_crash_before_the_ledger_row_is_harmless(tmp_path, trained):
    """Catches a second publish that fails, or mixes its files with those of the first."""
    publish(tmp_path, trained)
    (tmp_path / "checkpoints/main/v00001/stray.txt").write_text("left behind")
    path, sha256 = publish(tmp_path, trained)
    assert not (tmp_path / path / "stray.txt").exists()
    load_checkpoint(tmp_path, trained, path=path, sha256=sha256)
    assert [p.name for p in (tmp_path / "checkpoints/main").iterdir()] == ["v00001"]


def test_the_manifest_names_every_file(tmp_path, trained):
    """Catches a file that is not covered by any hash."""
    path, _ = publish(tmp_path, trained)
    manifest = json.loads((tmp_path / path / "manifest.json").read_text())
    files = {p.name for p in (tmp_path / path).iterdir()}
    assert set(manifest["sha256"]) == files - {"manifest.json"}
    assert manifest["n_tensors"] == len(trained.adapter())
