"""Adapters and models on their way out: the same policy on the other side, or nothing at all."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, ledger_at, of_sqlite, small_config

from varro.domain import CheckpointInfo, EvaluationInfo, RunInfo, Stage, StageRun, UpdateInfo
from varro.errors import (
    CheckpointError,
    ConfigError,
    DamagedCheckpointError,
    DiskError,
    PolicyError,
    StageError,
)
from varro.evaluation.evaluate import PARTS
from varro.export.chosen import choose, opened_ledger
from varro.export.fused import export_fused
from varro.export.hub import base_licence, check_push, export_hf, push
from varro.export.peft import export_peft
from varro.ledger.store import open_ledger
from varro.policy.arrays import load_arrays
from varro.policy.checkpoint import TrainerState, publish_checkpoint
from varro.policy.fuse import probe_logits
from varro.policy.mlx import mx

BASE = ROOT / "data" / "tiny-policy"
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
DAYS = [f"2026-01-{5 + n:02}" for n in range(9)]


def evaluation(day, lift):
    detail = {
        "differences": {part: [lift, lift + 0.01] for part in PARTS}
        | {name: [0.001, -0.001] for name in ("shuffled", "base_against_base", "heldout")}
        | {name: [lift] for name in ("echo", "template")}
    }
    return EvaluationInfo("main", day, 2, lift, lift - 0.01, lift + 0.01, detail)


@pytest.fixture
def home(tmp_path, policy):
    """Configuration of a home with versions 0 to 2 of run `main`, and what nine days measured."""
    config = small_config(tmp_path / "home")
    rng = np.random.default_rng(0)
    with open_ledger(ledger_at(config.home)) as ledger:
        identity = config.identity() | {"reward.version": "contrast/x"}
        ledger.add_run(RunInfo("main", 7, "world", "hash", identity, "0"))
        for version in range(3):
            fill = {
                name: mx.array(rng.normal(0, 0.05 * version, a.shape).astype(np.float32))
                for name, a in policy.adapter().items()
            }
            policy.set_adapter(fill)
            parent = version - 1 if version else None
            path, sha256 = publish_checkpoint(
                config.home, policy, TrainerState(0.03, version), run="main", version=version,
                parent=parent, day=DAYS[4 * version], seed=0, config_toml="",
            )  # fmt: skip
            ledger.add_checkpoint(
                CheckpointInfo("main", version, parent, DAYS[4 * version], path, sha256)
            )
        for n, day in enumerate(DAYS):
            update = UpdateInfo("main", day, 1, 2, {"kl_ref": 2.5, "entropy": 0.4})
            ledger.finish_stage(
                StageRun("main", day, Stage.EVALUATE, NOON, 1.0, {}),
                evaluation=evaluation(day, 0.02 + 0.001 * n),
                update=update if n == 8 else None,
            )
    return config


def chosen_of(config, version=None):
    with opened_ledger(config) as (ledger, run):
        return choose(config, ledger, run, version)


def export(config, out, version=None, **more):
    with opened_ledger(config) as (ledger, run):
        return export_hf(config, ledger, choose(config, ledger, run, version), out, **more)


def card_of(folder):
    from huggingface_hub import ModelCard

    return ModelCard.load(folder / "README.md")


def test_an_adapter_for_mlx_is_what_was_published_and_names_no_path(home, tmp_path):
    """Catches weights that are not the version's, and a folder name of this machine on the hub."""
    export(home, tmp_path / "out", base_id="someone/tiny")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "README.md", "adapter_config.json", "adapters.safetensors",
    ]  # fmt: skip
    published = home.home / "checkpoints/main/v00002"
    assert (tmp_path / "out/adapters.safetensors").read_bytes() == (
        published / "adapters.safetensors"
    ).read_bytes()
    said = (tmp_path / "out/adapter_config.json").read_text()
    assert str(ROOT) not in said and json.loads(said)["model"] == "someone/tiny"
    assert str(tmp_path) not in (tmp_path / "out/README.md").read_text()
    np.testing.assert_array_equal(
        probe_logits(BASE, tmp_path / "out"), probe_logits(BASE, published)
    )


def test_the_card_parses_and_says_what_was_measured(home, tmp_path):
    """Catches front matter that the hub refuses, a lift without its interval, and a claim that the
    days do not allow."""
    made = export(home, tmp_path / "out", base_id="someone/tiny", licence="apache-2.0")
    data = card_of(tmp_path / "out").data
    assert (data.base_model, data.license, data.library_name) == (
        "someone/tiny", "apache-2.0", "mlx",
    )  # fmt: skip
    results = {r.metric_type: r for r in data.eval_results}
    # Days' means are 0.025 to 0.033, so 0.029; each has two headlines.
    assert results["lift"].metric_value == pytest.approx(0.029)
    assert results["lift"].metric_args == {"n_days": 9, "n_headlines": 18}
    assert results["lift_low"].metric_value == pytest.approx(made["lift_low"], abs=1e-6)
    assert results["lift_low"].metric_value < 0.029 < results["lift_high"].metric_value
    assert "confidence sequence" in results["lift_claim_low"].metric_args["interval"]
    text = (tmp_path / "out/README.md").read_text()
    lines = ("## Limits", "The claim stands", "v2 (2026-01-13) ← v1 (2026-01-09) ← v0")
    for said in (*lines, "of the base: apache-2.0", "--model someone/tiny --adapter-path ."):
        assert said in text, said


def test_the_card_of_an_older_version_says_nothing_of_days_after_it(home, tmp_path):
    """Catches version 1 praised for what version 2 did."""
    export(home, tmp_path / "one", 1)
    (lift,) = [r for r in card_of(tmp_path / "one").data.eval_results if r.metric_type == "lift"]
    # Version 2 was published on the ninth day, which still compared forecasts of version 1.
    assert lift.metric_args["n_days"] == 9
    export(home, tmp_path / "zero", 0)
    (lift,) = [r for r in card_of(tmp_path / "zero").data.eval_results if r.metric_type == "lift"]
    assert lift.metric_args["n_days"] == 5


def test_what_strangers_wrote_is_text_in_the_card(home, tmp_path):
    """Catches a feed that puts a link, a table row or a script on the hub under our name."""
    from varro.domain import Headline

    nasty = "<script>alert(1)</script> [x](javascript:y) | a\n# b `c` ---"
    with open_ledger(ledger_at(home.home)) as ledger:
        headline = Headline("h", "world", nasty, "s", "g", "t", "l", None, NOON)
        stage = StageRun("main", DAYS[0], Stage.INGEST, NOON, 1.0, {})
        ledger.finish_stage(stage, headlines=[headline])
    export(home, tmp_path / "out", licence="x\n---\nevil: true")
    text = (tmp_path / "out/README.md").read_text()
    body = text.partition("\n---\n")[2]
    assert "<" not in body and "](" not in body and "\n# b" not in body
    assert "| script alert(1) script x (javascript:y) a b c --- | 1 |" in body
    data = card_of(tmp_path / "out").data
    assert data.license == "x\n---\nevil: true" or "evil" not in data.to_dict()


def test_peft_has_the_same_deltas(home, tmp_path):
    """Catches A and B not turned round, alpha without the rank, and names that PEFT passes over."""
    export_peft(chosen_of(home), tmp_path / "out")
    mine = load_arrays(home.home / "checkpoints/main/v00002/adapters.safetensors")
    theirs = load_arrays(tmp_path / "out/adapter_model.safetensors")
    config = json.loads((tmp_path / "out/adapter_config.json").read_text())
    assert len(theirs) == len(mine) == 56
    differences = []
    for layer in {name.rpartition(".")[0] for name in mine}:
        ours = 2.0 * (mine[f"{layer}.lora_a"] @ mine[f"{layer}.lora_b"]).T
        turned = f"base_model.model.{layer}.lora_"
        delta = theirs[f"{turned}B.weight"] @ theirs[f"{turned}A.weight"]
        differences.append(np.abs(ours - config["lora_alpha"] / config["r"] * delta).max())
        assert np.abs(ours).max() > 1e-3
    print(f"largest difference of a delta: {max(differences):.3g}")
    assert max(differences) <= 1e-6
    assert config["target_modules"] == sorted(
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )


@pytest.mark.slow
def test_peft_has_the_same_logits(home, tmp_path):
    """Catches an adapter that PEFT loads without a word and does not apply."""
    pytest.importorskip("peft", reason="NOT TESTED in PyTorch: peft is not installed")
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    export_peft(chosen_of(home), tmp_path / "out")
    ids = list(range(5, 40))
    model = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32), tmp_path / "out"
    )
    with torch.no_grad():
        found = model(torch.tensor([ids])).logits[0].numpy()
    from mlx_lm import load

    ours = load(str(BASE), adapter_path=str(home.home / "checkpoints/main/v00002"))[0]
    wanted = np.array(ours(mx.array([ids]))[0].astype(mx.float32))
    print(f"largest difference of a logit: {np.abs(found - wanted).max():.3g}")
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


def test_merged_weights_have_the_logits_of_base_and_adapter(home, tmp_path):
    """Catches a scale left out, a transpose, and a tokenizer left behind."""
    made = export_fused(home, chosen_of(home), tmp_path / "out")
    assert (made["n_merged"], made["dtype"]) == (28, "float32")
    wanted = probe_logits(BASE, home.home / "checkpoints/main/v00002")
    found = probe_logits(tmp_path / "out", None)
    print(f"largest difference of a logit: {np.abs(found - wanted).max():.3g}")
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()
    assert np.abs(wanted - probe_logits(BASE, None)).max() > 0.1
    assert (tmp_path / "out/tokenizer.json").read_bytes() == (BASE / "tokenizer.json").read_bytes()


def test_a_merge_of_another_model_is_refused_and_leaves_nothing(home, tmp_path):
    """Catches an adapter merged at another scale than it was trained at."""
    chosen = chosen_of(home)
    adapter = {**chosen.adapter["lora_parameters"], "scale": 3.0}
    wrong = replace(chosen, adapter={**chosen.adapter, "lora_parameters": adapter})
    with pytest.raises(PolicyError, match="are not those of base and adapter"):
        export_fused(home, wrong, tmp_path / "out")
    with pytest.raises(CheckpointError, match="was trained over a base with sha256"):
        export_fused(home, replace(chosen, base_sha256="0" * 64), tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["home"]


def test_a_full_fine_tune_leaves_as_whole_weights(tmp_path):
    """Catches a model trained in full that leaves as an adapter, or as its base."""
    from varro.config import PolicyConfig
    from varro.policy.load import load_policy

    config = small_config(tmp_path / "home", "policy.fine_tune=full")
    policy = load_policy(PolicyConfig(model=str(BASE), fine_tune="full"), lora_seed=0)
    policy.set_adapter({name: a * 1.01 for name, a in policy.adapter().items()})
    with open_ledger(ledger_at(config.home)) as ledger:
        ledger.add_run(RunInfo("main", 0, "world", "h", config.identity(), "0"))
        path, sha256 = publish_checkpoint(
            config.home, policy, TrainerState(0.03), run="main", version=0, parent=None,
            day=DAYS[0], seed=0, config_toml="",
        )  # fmt: skip
        ledger.add_checkpoint(CheckpointInfo("main", 0, None, DAYS[0], path, sha256))
    made = export(config, tmp_path / "out", base_id="someone/tiny")
    assert made["max_difference"] == 0.0
    assert not (tmp_path / "out/adapter_config.json").exists()
    assert card_of(tmp_path / "out").data.base_model_relation == "finetune"
    assert "--model . " in (tmp_path / "out/README.md").read_text()
    assert np.abs(probe_logits(tmp_path / "out", None) - probe_logits(BASE, None)).max() > 0.01
    with pytest.raises(PolicyError, match="trained in full and has no adapter"):
        export_peft(chosen_of(config), tmp_path / "peft")


def test_what_is_not_there_or_not_whole_does_not_leave(home, tmp_path):
    """Catches a damaged version on the hub, and another one in its place."""
    for name, error, words in (
        ("nobody", StageError, "it has 'empty', 'main'"),
        ("empty", CheckpointError, "has no checkpoint yet"),
    ):
        with open_ledger(ledger_at(home.home)) as ledger:
            ledger.add_run(RunInfo("empty", 0, "world", "h", {}, "0"))
        other = small_config(home.home, f"run.name={name}")
        with pytest.raises(error, match=words):
            chosen_of(other)
    with pytest.raises(CheckpointError, match="has no version 9; its newest is 2"):
        chosen_of(home, 9)
    file = home.home / "checkpoints/main/v00002/adapters.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(DamagedCheckpointError, match=r"v2 is not exported: .* is damaged"):
        export(home, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert chosen_of(home, 1).checkpoint.version == 1
    with pytest.raises(StageError, match="no ledger at"):
        chosen_of(small_config(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"was trained over 'tiny-policy', .* names 'Other'"):
        chosen_of(small_config(home.home, "policy.model=Some/Other"), 1)


def test_a_folder_that_is_there_stays_as_it_is(home, tmp_path):
    """Catches an export that mixes two versions, or deletes what somebody keeps there."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    for run in (
        lambda: export(home, out),
        lambda: export_peft(chosen_of(home), out),
        lambda: export_fused(home, chosen_of(home), out),
    ):
        with pytest.raises(StageError, match="exists; name a new folder"):
            run()
    assert [p.name for p in out.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("kind", ["hf", "peft", "fused"])
def test_a_full_disk_leaves_nothing_half_written(home, tmp_path, kind):
    """Catches half an adapter under the name of a whole one."""
    chosen = chosen_of(home)
    run = {
        "hf": lambda out: export(home, out),
        "peft": lambda out: export_peft(chosen, out),
        "fused": lambda out: export_fused(home, chosen, out),
    }[kind]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(DiskError):
            run(tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [p.name for p in tmp_path.iterdir()] == ["home"]


class FakeHub:
    """Takes folders, and remembers what it was given."""

    def __init__(self, error=None):
        self.error, self.made, self.sent = error, [], []

    def create_repo(self, repo_id, *, private, exist_ok):
        if self.error:
            raise self.error
        self.made.append((repo_id, private, exist_ok))

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        names = sorted(p.name for p in Path(folder_path).iterdir())
        self.sent.append((repo_id, names, commit_message))
        return f"there/{repo_id}"


def test_a_push_sends_the_written_folder_to_a_private_repository(home, tmp_path):
    """Catches a first push that is public, and one that sends more than was written."""
    made = export(home, tmp_path / "out")
    hub = FakeHub()
    assert push(tmp_path / "out", "me/it", name=made["name"], hub=lambda: hub) == "there/me/it"
    assert hub.made == [("me/it", True, True)]
    files = ["README.md", "adapter_config.json", "adapters.safetensors"]
    assert hub.sent == [("me/it", files, "varro-main-v2")]
    down = FakeHub(ConnectionError("no route"))
    with pytest.raises(PolicyError, match="is written, but the model hub did not take it"):
        push(tmp_path / "out", "me/it", name="x", hub=lambda: down)
    assert (tmp_path / "out/README.md").exists()


def test_a_push_is_refused_before_anything_is_written(monkeypatch, tmp_path):
    """Catches an hour of merging before it turns out that there is no token."""
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(ConfigError, match="needs a token"):
        check_push("me/it", licence="mit")
    with pytest.raises(ConfigError, match="wants OWNER/NAME, found 'it'"):
        check_push("it", licence="mit")
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    with pytest.raises(ConfigError, match="does not say its licence"):
        check_push("me/it", licence=None)
    check_push("me/it", licence="mit")


def test_the_licence_is_what_the_bases_own_card_says(tmp_path):
    """Catches a licence that is guessed."""
    assert base_licence(str(tmp_path)) is None
    card = tmp_path / "README.md"
    card.write_text("---\nlicense: apache-2.0\n---\n# base\n")
    assert base_licence(str(tmp_path)) == "apache-2.0"
    card.write_text("no front matter")
    assert base_licence(str(tmp_path)) is None
    card.write_text("---\n- not: [a\n---\n")
    assert base_licence(str(tmp_path)) is None


def invoke(*arguments):
    from typer.testing import CliRunner

    from varro.cli_export import export_app

    return CliRunner().invoke(export_app, list(map(str, arguments)))


@of_sqlite
def test_the_verbs_print_facts_and_refuse_in_one_line(home, tmp_path):
    """Catches a verb that does not reach its export, JSON that is none, and a wrong exit code."""
    at = ("--home", home.home)
    for verb in ("hf", "peft", "fused"):
        done = invoke(verb, *at, "--out", tmp_path / verb, "--version", 1, "--json")
        found = json.loads(done.stdout)
        assert (found["run"], found["version"]) == ("main", 1)
        assert found["export"] == str(tmp_path / verb)
    for verb, out in (("csv", "all.csv"), ("datasette", "metadata.json")):
        assert invoke(verb, *at, "--out", tmp_path / out).stdout.startswith("export: ")
    for code, words, *arguments in (
        (7, "exists; name a new folder", "peft", *at, "--out", tmp_path / "peft"),
        (7, "no ledger at", "fused", "--home", tmp_path / "no", "--out", tmp_path / "x"),
        (6, "has no version 9", "hf", *at, "--out", tmp_path / "x", "--version", 9),
        (3, "wants OWNER/NAME", "hf", *at, "--out", tmp_path / "x", "--push", "it"),
        (7, "no finished day", "tensorboard", *at),
        (3, "give the run's with --config", "verifiers", *at, "--out", tmp_path / "x"),
    ):
        done = invoke(*arguments)
        assert done.exception.exit_code == code and done.stdout == ""
        assert words in str(done.exception) and "\n" not in str(done.exception)
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_mlx_lm_generates_with_the_exported_folder(home, tmp_path):
    """Catches a folder that only Varro can load."""
    export(home, tmp_path / "out")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mlx_lm",
            "generate",
            "--model",
            str(BASE),
            "--adapter-path",
            str(tmp_path / "out"),
            "--max-tokens",
            "12",
            "--prompt",
            "Headline: rates",
        ],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "Generation: " in done.stdout
