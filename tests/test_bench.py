"""The benchmark of peers: its arithmetic, and that it refuses what is not the same work."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
sys.path.insert(0, str(ROOT / "scripts" / "peers"))

from bench_peers import race  # noqa: E402
from bench_scaling import scaling_table  # noqa: E402
from floor import check_result, flop_floor, paired_ratios, scaled  # noqa: E402
from launch import (  # noqa: E402
    FastBlas,
    Run,
    RunFailed,
    Setting,
    System,
    process_environment,
    run_process,
    run_system,
)
from race_report import Race, report, shares_of_floor, write_section  # noqa: E402
from workload import MODELS, Result, Shape, WrongWork, check_answers, prompt_ids  # noqa: E402
from write_model import write_model  # noqa: E402

# Body: q 2·2, k 2·2, v 2·2, o 2·2, three of 3·2 = 34. Head: 5·2 = 10.
HAND = Shape(hidden=2, layers=1, heads=1, kv_heads=1, head_dim=2, intermediate=3, vocab=5)
MICRO = Shape(32, 1, 2, 1, 16, 64, 64)
NO_BLAS = FastBlas("own", None, {})


def a_result(**changes: object) -> Result:
    shape = MODELS["tiny"]
    tokens = 16 * 8 * 160
    base = Result(
        *("varro", "tiny", "full", shape.n_parameters, shape.n_parameters, 128, tokens),
        *(10.0, 30.0, 40.0, 1.5, {"mlx": "1"}, "some BLAS"),
    )
    return replace(base, **changes)


def a_setting(folder: Path, **changes: object) -> Setting:
    return replace(Setting("full", 16, 1, 160, 1, False, folder), **changes)


def a_runner(tmp_path: Path, body: str) -> System:
    """A system whose runner is this Python."""
    path = tmp_path / "runner.py"
    path.write_text(body)
    return System("fake", str(path))


def test_the_floor_counts_what_the_method_needs():
    """Catches a head that is counted for prompts, or a prompt that is counted once an answer."""
    floor = flop_floor(HAND, [3], 2, "full")
    # 3 prompt tokens × 34, and 8 answers × 2 tokens × 44: 102 + 704 = 806 products.
    assert floor.sampling == 2 * 806
    assert floor.update == (2 + 6) * 806
    assert flop_floor(HAND, [3], 2, "lora").update == (2 + 4) * 806
    # Positions seen: 1 + 2 + 3 by the prompt; 4 + 5 by each of 8 answers: 6 + 72 = 78.
    # 4 FLOP × head_dim 2 each, once to sample, once for the reference, three times to train.
    assert floor.attention == 5 * 4 * 2 * 78


def test_the_floor_takes_its_seconds_from_the_rate_of_each_part():
    """Catches an update that is held against the rate of narrow products."""
    floor = flop_floor(HAND, [3], 2, "full")
    # 1,612 FLOP at 1 FLOP/s and 6,448 at 2 FLOP/s.
    assert floor.seconds({8: 0.0, 128: 1e-9, 2048: 2e-9}) == pytest.approx((1612, 3224))


def test_parameters_are_counted_with_norms_and_one_embedding():
    """Catches a model that is not of the size its name says."""
    # 34 + 10, two norms of 2 and two of 2 in the block, one of 2 at the end.
    assert HAND.n_parameters == 34 + 10 + 8 + 2
    assert MODELS["qwen3-0.6b"].n_parameters == 596_049_920  # as its model card says: 0.6 B
    assert MODELS["small"].n_parameters == pytest.approx(60.8e6, rel=1e-3)


def test_prompts_are_of_the_stated_lengths_and_the_same_each_time():
    """Catches systems that are given different work; the first stands for all when scaled."""
    prompts = prompt_ids(16, 4096)
    lengths = [len(p) for p in prompts]
    assert (min(lengths), max(lengths)) == (51, 62)
    assert abs(lengths[0] - sum(lengths) / 16) < 1
    assert prompts == prompt_ids(16, 4096) and prompts[:2] == prompt_ids(2, 4096)
    assert all(2 < t < 4096 for p in prompts for t in p)


def test_ratios_are_paired_by_round():
    """Catches a ratio of medians: in the slow round 2 both took ten times as long."""
    assert paired_ratios([2.0, 40.0], [1.0, 10.0]) == [2.0, 4.0]


def test_scaling_multiplies_work_and_seconds_but_not_memory():
    """Catches a system that looks sixteen times too good, or too large."""
    one = a_result(n_answers=8, n_tokens=1280, sampling_s=1.0, update_s=2.0, whole_s=3.0)
    found = scaled(one, 16)
    assert (found.n_answers, found.n_tokens) == (128, 16 * 1280)
    assert (found.sampling_s, found.update_s, found.whole_s) == (16.0, 32.0, 48.0)
    assert found.peak_rss_gb == one.peak_rss_gb


def test_cost_against_work_is_that_of_both_stages_and_marked_past_a_fifth():
    """Catches a total that leaves a stage out, and a mark on what is within 20 % of the first row.
    2 + 4 ms a token, then 1 + 4.5: sampling has changed by half, both by a twelfth."""
    small = a_result(n_tokens=1000, sampling_s=2.0, update_s=4.0)
    large = a_result(n_tokens=2000, sampling_s=2.0, update_s=9.0)
    runs = {(8, 64): [Run(small, 1.0, 1)], (256, 64): [Run(large, 1.0, 1)]}
    table = scaling_table("headlines", runs)
    assert "| 8 | 64 | 2.000 | 4.000 | 6.000 |" in table[-2]
    assert "| 256 | 64 | 1.000 **-50%** | 4.500 | 5.500 |" in table[-1]


def test_a_scaled_row_says_so_and_rows_have_ratios(tmp_path):
    """Catches an extrapolation that passes for a measurement."""
    gemm = [{8: 1.0, 128: 100.0, 2048: 200.0}] * 2
    slow = [Run(a_result(whole_s=s), None, 16) for s in (80.0, 160.0)]
    fast = [Run(a_result(whole_s=s), 2.5, 1) for s in (40.0, 40.0)]
    runs = {"varro": fast, "slow": slow}
    text = report(Race("tiny", a_setting(tmp_path), "some BLAS", runs, gemm, {}))
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if "|" in line}
    assert "3.00 (2.00–4.00)" in rows["slow, 1 of 16 prompts × 16"]
    assert "2.50 (1.50)" in rows["varro"]


def test_shares_of_the_floor_are_told_for_the_whole_and_its_parts():
    """Catches a share of sampling that is taken of the whole day. Floors of 1 + 6 s and 2 + 3 s:
    of 4 + 8 s they are 7/12 and 5/12, of the sampling 1/4 and 2/4, of the update 6/8 and 3/8."""
    run = a_result(sampling_s=4.0, update_s=8.0, whole_s=12.0)
    assert shares_of_floor([(1.0, 6.0), (2.0, 3.0)], [run, run]) == "50% (38%, 56%)"


def test_a_model_for_memory_has_no_seconds(tmp_path):
    """Catches a table that times a single cold run."""
    run = Run(a_result(model="qwen3-0.6b", whole_s=1234.0), 2.5, 1)
    setting = a_setting(tmp_path)
    text = report(Race("qwen3-0.6b", setting, "some BLAS", {"varro": [run]}, [], {}))
    assert "2.50 (1.50)" in text and "1,234" not in text


@pytest.mark.parametrize("answers", [[[1] * 160] * 127, [[1] * 160] * 127 + [[1] * 159]])
def test_answers_of_another_number_or_length_are_refused(answers):
    """Catches a system that is fast because its answers ended early."""
    with pytest.raises(WrongWork, match="same tokens, same work"):
        check_answers(answers, n_prompts=16, n_tokens=160)


@pytest.mark.parametrize("change", [{"n_tokens": 20_479}, {"n_answers": 127}, {"n_parameters": 5}])
def test_a_result_of_other_work_is_refused(change):
    """Catches a runner that does not look at its own answers, or loaded another model."""
    check_result(a_result(), MODELS["tiny"], n_prompts=16, n_tokens=160)
    with pytest.raises(WrongWork, match="expected"):
        check_result(a_result(**change), MODELS["tiny"], n_prompts=16, n_tokens=160)


def test_a_runner_with_answers_of_the_wrong_length_is_refused(tmp_path):
    """Catches the same, through a real process."""
    line = json.dumps(asdict(a_result(n_tokens=128 * 159)))
    system = a_runner(tmp_path, f"print({line!r})")
    with pytest.raises(WrongWork):
        run_system(system, "tiny", a_setting(tmp_path), NO_BLAS)


def test_a_failing_runner_keeps_its_row_and_its_last_words(tmp_path):
    """Catches a table from which the slow or the broken quietly vanish."""
    system = a_runner(tmp_path, "import sys; sys.exit('no such wheel in /home/me/lib/a.py')")
    with pytest.raises(RunFailed, match="no such wheel in /home/me"):
        run_system(system, "tiny", a_setting(tmp_path), NO_BLAS)
    found = race("qwen3-0.6b", [system], a_setting(tmp_path), rounds=1, warm_up=False)
    text = report(found)
    assert "| fake | **failed** |" in text and "no such wheel in a.py" in text


def test_a_last_line_that_is_no_result_is_a_failure(tmp_path):
    """Catches a library that prints after the result."""
    with pytest.raises(RunFailed, match="not a result: 'bye'"):
        run_system(a_runner(tmp_path, "print('bye')"), "tiny", a_setting(tmp_path), NO_BLAS)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_that_of_the_whole_tree():
    """Catches a system whose workers' memory nobody counts: 2 × 100 MB here."""
    child = "b = bytearray(100_000_000); import time; time.sleep(0.5); print(len(b))"
    parent = f"import subprocess, sys; b = bytearray(100_000_000); c = {child!r}; "
    parent += "subprocess.run([sys.executable, '-c', c], check=True)"
    line, peak = run_process([sys.executable, "-c", parent], {})
    assert line == "100000000"
    if peak is None:
        pytest.skip("this kernel does not list a process's children")
    assert 0.2 < peak < 0.3


def test_varro_does_the_workload(tmp_path):
    """Catches a runner that fell behind Varro's own modules; ends of text must not stop it."""
    # With 64 tokens in the vocabulary an end of text comes in every other answer of 40.
    folder = tmp_path / "micro"
    write_model(MICRO, folder)
    command = [sys.executable, str(ROOT / "scripts" / "peers" / "run_varro.py")]
    command += ["--folder", str(folder), "--mode", "lora", "--prompts", "2", "--tokens", "40"]
    line, _ = run_process(command, process_environment(a_setting(tmp_path)))
    result = Result(**json.loads(line))
    check_result(result, MICRO, n_prompts=2, n_tokens=40)
    assert result.update_s > 0 and result.sampling_s > 0


def test_a_device_is_held_against_its_own_limits(tmp_path):
    """Catches a bound that is not measured, and a share of it above the whole."""
    command = [sys.executable, str(ROOT / "scripts" / "bench_device.py"), "--model", "tiny"]
    command += ["--prompts", "2", "--tokens", "8", "--rounds", "1", "--models", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows[1:]] == ["| sampling", "| update"]
    for row in rows[1:]:
        assert 0 < float(row[-1].rstrip(" %|")) < 100
        assert float(row[1]) > 0


def test_a_section_of_the_page_is_replaced_where_it_stands(tmp_path):
    """Catches a page that grows with each run, or that loses what a person wrote."""
    page = tmp_path / "page.md"
    page.write_text("# Speed\n\nBefore.\n")
    write_section(page, "small full", "old\n")
    page.write_text(page.read_text() + "\nAfter.\n")
    write_section(page, "tiny lora", "other\n")
    write_section(page, "small full", "new\n")
    text = page.read_text()
    assert "old" not in text
    order = [text.index(word) for word in ("Before.", "new", "After.", "other")]
    assert order == sorted(order)
