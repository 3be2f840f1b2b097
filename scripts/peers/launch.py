"""Systems, their environments, and one run of one of them in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from floor import check_result, scaled
from workload import MODELS, Result

PEERS = Path(__file__).resolve().parent
ROOT = PEERS.parents[1]

MALLOC = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "268435456",
}
"""glibc keeps what it once had, instead of giving pages back and faulting them in again"""
LEAN_BUDGET_GB = {"tiny": 0.45, "small": 3.1, "qwen3-0.6b": 7.0}
"""`memory.budget_gb` of a lean Varro: it plans by upper estimates, and takes less"""
_POLL_S = 0.05
_LAST_LINES = 15


@dataclass(frozen=True)
class System:
    """One contestant: a runner, the environment it runs in, and what it can do."""

    name: str
    runner: str
    environment: str | None = None
    """None is the project's own"""
    give_blas: bool = False
    """hand it the BLAS that Varro found"""
    modes: tuple[str, ...] = ("full", "lora")
    slow: bool = False
    """run on few prompts, its seconds multiplied"""
    lean: bool = False
    """told to take no more than LEAN_BUDGET_GB"""


SYSTEMS = {
    s.name: s
    for s in (
        System("varro", "run_varro.py"),
        System("varro-lean", "run_varro.py", lean=True),
        System("trl", "run_trl.py", "trl"),
        System("mlx-lm-lora", "run_mlx_lm_lora.py", "mlx-lm-lora", give_blas=True),
        System(
            "mlx-lm-lora-shipped",
            "run_mlx_lm_lora.py",
            "mlx-lm-lora",
            slow=True,
        ),
        System("one-at-a-time", "run_one_at_a_time.py", modes=("full",), slow=True),
    )
}


class RunFailed(Exception):
    """A runner ended badly, or did other work. Holds what it said last."""


@dataclass(frozen=True)
class FastBlas:
    """What Varro's own search for a BLAS came to, so that a peer can have the same."""

    name: str
    library: str | None
    environment: dict[str, str]
    """variables it set on the way"""


@dataclass(frozen=True)
class Setting:
    """All that decides what a run does, but the system and the model."""

    mode: str
    n_prompts: int
    slow_prompts: int
    """what a slow system runs; divides `n_prompts`"""
    n_tokens: int
    threads: int
    malloc: bool
    folder: Path
    """environments and models"""


@dataclass(frozen=True)
class Run:
    """One run, scaled to the whole workload."""

    result: Result
    tree_rss_gb: float | None
    """peak of the sum over the process and its children; None where /proc does not tell"""
    scale: int

    @property
    def rss_gb(self) -> float:
        return max(self.result.peak_rss_gb, self.tree_rss_gb or 0.0)


def run_system(system: System, model: str, setting: Setting, fast: FastBlas) -> Run:
    """One run in its own process.  Raises: RunFailed with its last lines, or WrongWork."""
    n_prompts = setting.slow_prompts if system.slow else setting.n_prompts
    command = [
        str(python_of(system.environment, setting.folder)),
        str(PEERS / system.runner),
        "--folder",
        str(setting.folder / "models" / model),
        *("--mode", setting.mode),
        *("--prompts", str(n_prompts)),
        *("--tokens", str(setting.n_tokens)),
    ]
    if system.lean:
        command += ["--budget-gb", str(LEAN_BUDGET_GB[model])]
    environment = process_environment(setting)
    if system.give_blas:
        environment |= fast.environment
        if fast.library:
            command += ["--blas-library", fast.library]
    line, tree_rss_gb = run_process(command, environment)
    try:
        result = Result(**json.loads(line))
    except (TypeError, ValueError) as error:
        raise RunFailed(f"its last line is not a result: {line[:200]!r}") from error
    check_result(result, MODELS[model], n_prompts=n_prompts, n_tokens=setting.n_tokens)
    scale = setting.n_prompts // n_prompts
    return Run(scaled(result, scale), tree_rss_gb, scale)


def process_environment(setting: Setting) -> dict[str, str]:
    """Every system gets the same threads and the same allocator."""
    left_out = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", *MALLOC)
    environment = {k: v for k, v in os.environ.items() if k not in left_out}
    environment |= {
        "OMP_NUM_THREADS": str(setting.threads),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    return environment | (MALLOC if setting.malloc else {})


def run_process(command: Sequence[str], environment: Mapping[str, str]) -> tuple[str, float | None]:
    """The last line of stdout, and the peak memory of the process and its children.

    Raises: RunFailed with the last lines of stderr.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, env=dict(environment))
        peak: float | None = None
        while True:
            rss = tree_rss_gb(process.pid)
            peak = rss if peak is None or (rss or 0.0) > peak else peak
            try:
                code = process.wait(_POLL_S)
                break
            except subprocess.TimeoutExpired:
                continue
        out.seek(0)
        err.seek(0)
        lines = out.read().splitlines()
        said = err.read().splitlines()
    if code or not lines:
        raise RunFailed(f"exit {code}\n" + "\n".join(said[-_LAST_LINES:]))
    return lines[-1], peak


def tree_rss_gb(pid: int) -> float | None:
    """Resident memory of a process and all below it, now. Units: GB (10^9 bytes).

    Note: a page that two of them share counts twice.
    """
    page = os.sysconf("SC_PAGE_SIZE")
    total, todo = 0, [pid]
    try:
        while todo:
            proc = Path("/proc") / str(todo.pop())
            total += int((proc / "statm").read_text().split()[1]) * page
            for task in (proc / "task").iterdir():
                todo += map(int, (task / "children").read_text().split())
    except (OSError, IndexError):
        # No such /proc, or a process of the tree ended under our eyes: the next look will tell.
        return None
    return total / 1e9


def fast_blas(setting: Setting) -> FastBlas:
    """Ask the project's own search, in a process of its own."""
    code = (
        "import json, os; before = dict(os.environ)\n"
        "from varro.policy import blas\n"
        "name = blas.load_fast_blas()\n"
        "library = os.environ.get('VARRO_BLAS') or dict(blas._candidates()).get(name)\n"
        "new = {k: v for k, v in os.environ.items() if before.get(k) != v}\n"
        "print(json.dumps([name, library, new]))\n"
    )
    environment = process_environment(setting) | {"PYTHONPATH": str(ROOT)}
    line, _ = run_process([sys.executable, "-c", code], environment)
    return FastBlas(*json.loads(line))


def measure_gemm(model: str, setting: Setting) -> dict[int, float]:
    """GFLOP/s of the model's own products by number of rows, with Varro's BLAS."""
    command = [sys.executable, str(PEERS / "run_gemm.py"), model]
    line, _ = run_process(command, process_environment(setting))
    return {int(rows): rate for rows, rate in json.loads(line).items()}


def python_of(environment: str | None, folder: Path) -> Path:
    return Path(sys.executable) if environment is None else folder / environment / "bin" / "python"


def make_environment(name: str, folder: Path) -> None:
    """A virtual environment with a peer's pinned versions; again if they have changed."""
    requirements = PEERS / f"{name}.txt"
    done = folder / name / "requirements.txt"
    if done.exists() and done.read_text() == requirements.read_text():
        return
    say(f"installing {name}")
    venv.create(folder / name, with_pip=True, clear=True)
    install = [str(python_of(name, folder)), "-m", "pip", "install", "--quiet"]
    lines = requirements.read_text().splitlines()
    # torch by itself first: what follows then finds it there, in whatever build was installed.
    for torch in [line for line in lines if line.startswith("torch==")]:
        subprocess.run([*install, torch], check=True)
    subprocess.run([*install, "-r", str(requirements)], check=True)
    done.write_text(requirements.read_text())


def make_model(name: str, folder: Path) -> None:
    """Written by a process of its own, so that this one stays small.

    Note: Linux hands the peak memory of a process on to what it starts.
    """
    out = folder / "models" / name
    if not (out / "config.json").exists():
        say(f"writing the model {name}")
        subprocess.run([sys.executable, PEERS / "write_model.py", name, "--out", out], check=True)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
