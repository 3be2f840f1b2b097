"""Several processes at one policy: really started, really killed, on the ring back end."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from varro.domain import Forecast, Group, Headline, Role, group_as_dict, group_from_dict
from varro.errors import ClusterError
from varro.launch import launched_backend, processes_here
from varro.policy.cluster import join_cluster
from varro.policy.mlx import mx
from varro.policy.wire import pack, unpack

ROOT = Path(__file__).resolve().parent.parent
WORLD = ROOT / "data" / "sample" / "world.jsonl.gz"
SCRIPT = Path(__file__).with_name("two_ranks.py")

# What two processes may differ from one by, in float32: gradients are added in another order, and
# groups are decoded beside other ones.
SAME_GRADIENT = 1e-6
"""of the gradient's own length; seen: 6e-8"""
SAME_LOGPROB = 1e-5
"""nats a token; seen: 4e-6"""
SAME_WEIGHT = 1e-4
"""a twentieth of a step at the rate 2e-3, for AdamW divides by gradients near 0; seen: 2e-5"""


@pytest.fixture
def ranks(tmp_path):
    """Starts processes as ranks of one cluster, rank 1 first; all are ended with the test."""
    with ExitStack() as running:

        def start(*commands):
            hostfile = tmp_path / "hosts.json"
            hostfile.write_text(json.dumps([[f"127.0.0.1:{p}"] for p in free_ports(len(commands))]))
            started = {}
            for rank in (*range(1, len(commands)), 0):
                variables = {"MLX_RANK": str(rank), "MLX_HOSTFILE": str(hostfile)}
                if rank == 0:
                    variables["RANK_1_PID"] = str(started[1].pid)
                started[rank] = running.enter_context(
                    subprocess.Popen(
                        [sys.executable, *map(str, commands[rank])],
                        env=os.environ | {"OMP_NUM_THREADS": "1"} | variables,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE,
                        text=True,
                    )
                )
                running.callback(started[rank].kill)
            return [started[rank] for rank in range(len(commands))]

        yield start


def free_ports(n):
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(n)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def scenario(ranks, name):
    """Both ranks' processes, and what rank 0 found."""
    main, worker = ranks([SCRIPT, name], [SCRIPT, name])
    out, said = main.communicate(timeout=240)
    assert main.returncode == 0, said
    return main, worker, json.loads(out)


def test_exchanges_give_every_rank_the_same(ranks):
    """Catches a gather that loses the order of the groups, a rank's own bits where rank 0's were
    asked for, and a worker that failed and is waited for."""
    _, worker, found = scenario(ranks, "protocol")
    assert found["gathered"] == [[n, "ü"] for n in range(5)]
    assert found["n_others"] == 2
    assert found["uneven"] == ["a", "x", "y", "z"]
    assert found["from_main"] == ["rank", 0]
    assert found["mirrored"] == [0.5]
    assert found["summed"] == [3.0, 30.0]
    assert found["error"] == "rank 1 has failed: ValueError: no such thing"
    assert "no more" in found["afterwards"]
    assert worker.wait(20) == 0


def test_ranks_at_different_places_are_found_out(ranks):
    """Catches numbers of two meanings added up."""
    _, _, found = scenario(ranks, "out-of-step")
    assert "rank 0 gathering, rank 1 waiting for a job" in found["error"]


def test_a_silent_process_is_not_waited_for_beyond_the_limit(ranks):
    """Catches a main process that hangs for ever behind a worker that was stopped."""
    main, worker = ranks([SCRIPT, "silent"], [SCRIPT, "silent"])
    _, said = main.communicate(timeout=60)
    assert main.returncode == 8
    last = said.strip().splitlines()[-1]
    assert last.startswith("varro: rank 0 has waited 2 s (cluster.timeout_s)")
    worker.kill()


@pytest.mark.slow
def test_two_processes_give_what_one_gives(ranks):
    """Catches a gradient that is averaged twice or not at all, a group left out or counted on both
    ranks, and a worker without the reference, the adapter or the optimiser of rank 0."""
    _, worker, found = scenario(ranks, "equal")
    assert worker.wait(20) == 0
    for name, this in found.items():
        assert this["refused"] is None, name
        assert this["same_tokens"] == [True] * 3, name
        assert this["logprobs"] < SAME_LOGPROB, name
        assert this["weights"] < SAME_WEIGHT, name
        assert this["moved"] > 1e-3, name
        assert this["ticks"][0] == this["ticks"][1], name
        assert this["verdicts"][0] == this["verdicts"][1], name
        for metric, (one, two) in this["metrics"].items():
            assert two == pytest.approx(one, rel=1e-4, abs=2e-6), (name, metric)
    # One minibatch: the optimiser's first moment is the gradient, by a factor.
    assert found["gradients"]["gradients"] < SAME_GRADIENT
    assert [this["old_from"] for this in found.values()] == ["recomputed"] * 3 + ["sampler"]


def test_a_killed_worker_stops_the_update_and_the_parent_stays(ranks):
    """Catches an update that hangs, goes on with half of its gradients, or leaves half a step."""
    _, worker, found = scenario(ranks, "killed")
    assert worker.wait(20) == -signal.SIGKILL
    assert "rank 0 has lost the others" in found["error"]
    assert "run the same command again" in found["error"]
    assert found["parent"]
    assert found["ticks"] < 10
    assert "no more" in found["afterwards"]


def test_a_worker_ends_when_rank_0_is_gone(ranks):
    """Catches workers that stay behind on every machine, waiting for a job."""
    main, worker = ranks([SCRIPT, "gone"], [SCRIPT, "gone"])
    out, _ = worker.communicate(timeout=60)
    assert main.wait(20) == -signal.SIGKILL
    assert "rank 1 has lost the others" in out


SMALL = [
    "--set", "news.n_headlines=6", "--set", "evaluate.n_headlines=3",
    "--set", "sampling.n_forecasts=4", "--set", "evaluate.n_base_forecasts=2",
    "--set", "evaluate.placebo_lags=[1, 3]", "--set", "sampling.max_tokens=48",
    "--set", "evaluate.n_bootstrap=200", "--set", "display.n_headlines=1",
    "--run", "r", "--json",
]  # fmt: skip


def replay_command(home, *more):
    return ["-m", "varro.cli", "replay", "--archive", WORLD, "--home", home, *SMALL, *more]


def test_a_worker_with_other_base_weights_is_refused(ranks, tmp_path):
    """Catches a cluster whose machines have different models behind one name: their gradients are
    of different functions. Nothing is written."""
    from safetensors.numpy import load_file, save_file

    other = tmp_path / "tiny-policy"
    other.mkdir()
    for file in (ROOT / "data" / "tiny-policy").iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    weights = load_file(other / "model.safetensors")
    name = sorted(weights)[0]
    weights[name] = weights[name] * 1.01
    save_file(weights, other / "model.safetensors", metadata={"format": "mlx"})
    home = tmp_path / "home"
    main, worker = ranks(
        replay_command(home, "--to", "2026-01-05"),
        replay_command(tmp_path / "none", "--set", f"policy.model={other}"),
    )
    for process in (main, worker):
        _, said = process.communicate(timeout=240)
        assert process.returncode == 8, said
        assert "rank 1 on" in said and "base weights with sha256" in said
        assert "Traceback" not in said
    assert not (tmp_path / "none").exists()
    assert rows(home, "stage_runs") == []


def test_values_survive_the_wire():
    """Catches an array of another type or shape, and a float that lost bits, on the other side."""
    value = {
        "none": None,
        "nested": [1, 2.5, "ü", {"deep": mx.array([[1, 2], [3, 4]], dtype=mx.int32)}],
        "float": 0.1 + 0.2,
        "seed": 2**64 - 1,
        "nan": float("nan"),
        "flags": np.array([[True], [False]]),
        "empty": np.zeros((0, 3), dtype=np.float32),
        "scalar": mx.array(1.5),
    }
    found = unpack(pack(value))
    assert found["none"] is None and found["seed"] == 2**64 - 1
    assert found["float"] == value["float"] and np.isnan(found["nan"])
    deep = found["nested"][3]["deep"]
    assert isinstance(deep, mx.array) and deep.dtype == mx.int32
    assert deep.tolist() == [[1, 2], [3, 4]]
    assert found["flags"].dtype == bool and found["flags"].tolist() == [[True], [False]]
    assert found["empty"].shape == (0, 3)
    assert found["scalar"].item() == 1.5
    assert found["nested"][:3] == [1, 2.5, "ü"]


@pytest.mark.parametrize("published", [None, datetime(2026, 1, 4, tzinfo=UTC)])
def test_a_group_survives_the_wire(published):
    """Catches a worker that trains on other tokens than were sampled."""
    now = datetime(2026, 1, 5, 7, tzinfo=UTC)
    headline = Headline("h", "c", "f", "s", "g", "Ports shut", "", published, now)
    logprobs = np.array([-0.1, -2.0], dtype=np.float32)
    forecasts = (Forecast("f0", "g", 0, (3, 1), logprobs, "up", "stop", 2**63),)
    group = Group("g", "r", "d", Role.TRAIN, headline, 4, now, "p", (1, 2, 3), forecasts)
    found = group_from_dict(unpack(pack(group_as_dict(group))))
    again, forecast = group_as_dict(found), found.forecasts[0]
    assert forecast.sampler_logprobs.dtype == np.float32
    assert forecast.sampler_logprobs.tolist() == logprobs.tolist()
    assert isinstance(found.role, Role) and isinstance(found.prompt_ids, tuple)
    assert isinstance(forecast.token_ids, tuple)
    for facts in (again, original := group_as_dict(group)):
        del facts["forecasts"][0]["sampler_logprobs"]
    assert again == original


def test_the_launcher_is_read_without_loading_mlx(monkeypatch, tmp_path):
    """Catches a lone process that waits for others, and two on one machine that take all of its
    threads each."""
    for name in ("MLX_RANK", "MLX_HOSTFILE", "MLX_JACCL_COORDINATOR", "NCCL_HOST_IP",
                 "OMPI_COMM_WORLD_SIZE"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    assert (launched_backend(), processes_here()) == (None, 1)
    hostfile = tmp_path / "hosts.json"
    hostfile.write_text('[["10.0.0.1:5000", "10.0.1.1:5001"], ["10.0.0.2:5000"], ["10.0.0.1:6"]]')
    monkeypatch.setenv("MLX_RANK", "2")
    monkeypatch.setenv("MLX_HOSTFILE", str(hostfile))
    assert (launched_backend(), processes_here()) == ("ring", 2)
    monkeypatch.setenv("MLX_RANK", "1")
    assert (launched_backend(), processes_here()) == ("ring", 1)
    hostfile.write_text("")  # what mlx.launch -n 1 writes
    assert (launched_backend(), processes_here()) == (None, 1)
    for broken in ('[["10.0.0.1:5000"],', "{}x"):
        hostfile.write_text(broken)
        assert (launched_backend(), processes_here()) == ("ring", 1)
    with pytest.raises(ClusterError, match="hostfile"):  # not: run the day alone
        join_cluster(timeout_s=5)
    monkeypatch.setenv("MLX_JACCL_COORDINATOR", "10.0.0.1:5000")
    assert (launched_backend(), processes_here()) == ("jaccl", 1)
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "3")
    assert (launched_backend(), processes_here()) == ("mpi", 3)


def rows(home, table, columns="*"):
    """A ledger's rows, as it is now, while another process may be writing."""
    with closing(sqlite3.connect(f"file:{home / 'ledger.sqlite'}?mode=ro", uri=True)) as ledger:
        return sorted(ledger.execute(f"SELECT {columns} FROM {table}"), key=repr)


@pytest.fixture(scope="module")
def three_days_alone(tmp_path_factory):
    """The home of a replay of three days in one process, and what it printed."""
    home = tmp_path_factory.mktemp("alone") / "home"
    return home, run_alone(home)


def run_alone(home):
    done = subprocess.run(
        [sys.executable, *map(str, replay_command(home, "--to", "2026-01-07"))],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def assert_same_run(home, other):
    """Texts and rewards equal; weights, and what is computed from them, within tolerance."""
    for table, columns in (
        ("headlines", "*"),
        ("groups", "*"),
        ("forecasts", "id, group_id, k, token_ids, text, finish_reason, seed"),
        ("settlements", "*"),
        ("advantages", "*"),
        ("evaluations", "*"),
        ("stage_runs", "run, day, stage, as_of"),
        ("updates", "run, day, from_version, to_version"),
        ("checkpoints", "run, version, parent, day, path"),
    ):
        assert rows(home, table, columns) == rows(other, table, columns), table
    updates = [rows(h, "updates", "day, metrics") for h in (home, other)]
    for (day, one), (_, two) in zip(*updates, strict=True):
        one, two = json.loads(one), json.loads(two)
        assert one.keys() == two.keys()
        for name, value in one.items():
            if isinstance(value, int | float) and name != "tokens_per_s":
                assert two[name] == pytest.approx(value, rel=1e-3, abs=1e-5), (day, name)
    files = [
        sorted((h / "checkpoints" / "r").glob("*/adapters.safetensors")) for h in (home, other)
    ]
    assert len(files[0]) == 3  # the base, and an update on each day that had something to settle
    for mine, theirs in zip(*files, strict=True):
        one, two = mx.load(str(mine)), mx.load(str(theirs))
        worst = max(float(mx.abs(one[name] - two[name]).max()) for name in one)
        print(f"{mine.parent.name}: weights differ by at most {worst:.1e}")
        assert worst < SAME_WEIGHT


@pytest.mark.slow
def test_three_days_by_mlx_launch_equal_three_days_alone(three_days_alone, tmp_path):
    """Catches whatever makes a run on several machines another run: Must show 8."""
    home, printed = three_days_alone
    (port, _) = free_ports(2)
    launch = [Path(sys.executable).with_name("mlx.launch"), "-n", 2, "--backend", "ring",
              "--starting-port", port, "--env", "OMP_NUM_THREADS=1", "--", sys.executable,
              *replay_command(tmp_path / "home", "--to", "2026-01-07")]  # fmt: skip
    done = subprocess.run(
        list(map(str, launch)), stdin=subprocess.PIPE, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    assert "rank 1 of 2" in done.stderr
    together = json.loads(done.stdout)
    assert [day["updated"] for day in together["days"]] == [False, True, True]
    assert together["total"]["claim"] == printed["total"]["claim"]
    for name in ("reward", "lift", "kl_ref", "entropy", "n_compared"):
        assert together["total"][name] == pytest.approx(printed["total"][name], rel=1e-3), name
    assert_same_run(home, tmp_path / "home")


@pytest.mark.slow
def test_a_killed_worker_leaves_the_ledger_as_it_was_before_the_update(
    ranks, three_days_alone, tmp_path
):
    """Catches half an update on disk: Must show 8. The same command, in one process, goes on."""
    home = tmp_path / "home"
    command = replay_command(home, "--to", "2026-01-07")
    main, worker = ranks(command, replay_command(tmp_path / "none", "--to", "2026-01-07"))
    tables = ("stage_runs", "updates", "checkpoints", "advantages", "forecasts", "settlements")

    def has_settled():
        with suppress(sqlite3.OperationalError):
            return ("2026-01-06", "settle") in rows(home, "stage_runs", "day, stage")

    while not has_settled():
        assert main.poll() is None, main.stderr.read()
        time.sleep(0.02)
    before = {table: rows(home, table) for table in tables}
    worker.kill()
    _, said = main.communicate(timeout=120)
    assert main.returncode == 8
    assert said.strip().splitlines()[-1].startswith("varro: rank 0 has lost the others")
    assert {table: rows(home, table) for table in tables} == before
    assert before["updates"] == []
    assert [path.name for path in (home / "checkpoints" / "r").iterdir()] == ["v00000"]
    run_alone(home)
    assert_same_run(three_days_alone[0], home)
