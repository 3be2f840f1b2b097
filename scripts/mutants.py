"""Break the learning code on purpose, one line at a time: every mutant must fail a test.

A trainer with the wrong sign still runs, still logs a loss and still changes its weights. This
proves that the tests would notice. Exit code 1 if a mutant survives.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = (
    "tests/test_gspo.py",
    "tests/test_leash.py",
    "tests/test_policy.py",
    "tests/test_update.py",
)


@dataclass(frozen=True)
class Mutant:
    what: str
    file: str
    old: str
    new: str


MUTANTS = (
    Mutant(
        "sign of the loss",
        "training/update.py",
        "return -objective.sum() / n_forecasts",
        "return objective.sum() / n_forecasts",
    ),
    Mutant(
        "sign of the advantage",
        "training/gspo.py",
        "rewards - rewards.mean(axis=1, keepdims=True)",
        "rewards.mean(axis=1, keepdims=True) - rewards",
    ),
    Mutant(
        "clip sides swapped",
        "training/gspo.py",
        "mx.clip(ratio, 1.0 - clip_low, 1.0 + clip_high)",
        "mx.clip(ratio, 1.0 - clip_high, 1.0 + clip_low)",
    ),
    Mutant(
        "clip blocks losses instead of gains",
        "training/gspo.py",
        "return mx.minimum(ratio * advantages, clipped * advantages)",
        "return mx.maximum(ratio * advantages, clipped * advantages)",
    ),
    Mutant(
        "mask inverted in the ratio",
        "training/gspo.py",
        "difference = mx.where(mask > 0, new - old, 0.0)",
        "difference = mx.where(mask > 0, 0.0, new - old)",
    ),
    Mutant(
        "mask left out of the ratio",
        "training/gspo.py",
        "difference = mx.where(mask > 0, new - old, 0.0)",
        "difference = new - old",
    ),
    Mutant(
        "ratio summed instead of averaged",
        "training/gspo.py",
        "return difference.sum(axis=-1) / lengths",
        "return difference.sum(axis=-1)",
    ),
    Mutant(
        "ratio against the reference",
        "training/update.py",
        "log_ratio = sequence_log_ratio(new, batch.old, batch.mask)",
        "log_ratio = sequence_log_ratio(new, batch.ref, batch.mask)",
    ),
    Mutant(
        "sign of the KL in the advantage",
        "training/gspo.py",
        "centred / spread - leash",
        "centred / spread + leash",
    ),
    Mutant(
        "sign of the KL estimate",
        "training/gspo.py",
        "return mx.where(mask > 0, logprobs - other, 0.0).sum(axis=-1)",
        "return mx.where(mask > 0, other - logprobs, 0.0).sum(axis=-1)",
    ),
    Mutant(
        "stop token left out of the mask",
        "policy/logprobs.py",
        "mx.arange(width)[None] < lengths[:, None]",
        "mx.arange(width)[None] < lengths[:, None] - 1",
    ),
    Mutant(
        "stop token dropped by the sampler",
        "policy/sample.py",
        "else int(hits[0]) + 1",
        "else int(hits[0])",
    ),
    Mutant(
        "temperature missing in the trainer",
        "policy/logprobs.py",
        "policy.logits(hidden) / temperature",
        "policy.logits(hidden)",
    ),
    Mutant(
        "temperature missing in the sampler",
        "policy/sample.py",
        "scaled = logits / settings.temperature",
        "scaled = logits",
    ),
    Mutant(
        "prompt left out of the log-probs",
        "policy/logprobs.py",
        "forked = [_ForkedCache(layer) for layer in prefix]",
        "forked = None",
    ),
    Mutant(
        "answer placed at the start of the prompt",
        "policy/logprobs.py",
        "self.offset = prefix.keys.shape[2]",
        "self.offset = 0",
    ),
    Mutant(
        "answer sees its own future",
        "policy/logprobs.py",
        """        return _behind(self._prefix.keys, keys), _behind(self._prefix.values, values)

    def make_mask(self, n: int, **_: object) -> str | None:
        return "causal" if n > 1 else None
""",
        """        return _behind(self._prefix.keys, keys), _behind(self._prefix.values, values)

    def make_mask(self, n: int, **_: object) -> str | None:
        return None
""",
    ),
    Mutant(
        "reference with the adapter on",
        "training/update.py",
        "with policy.adapter_off():",
        "if True:",
    ),
    Mutant(
        "leash loosens as the policy runs away",
        "training/leash.py",
        "1.0 + error * n_forecasts / horizon",
        "1.0 - error * n_forecasts / horizon",
    ),
    Mutant(
        "optimiser forgets",
        "training/update.py",
        "    if state.optimizer:\n",
        "    if False:\n",
    ),
)


def survives(mutant: Mutant, folder: Path) -> bool:
    """Whether the tests pass on a copy of the project with this mutant in it."""
    shutil.copytree(ROOT / "varro", folder / "varro")
    for name in ("tests", "configs", "data", "pyproject.toml"):
        os.symlink(ROOT / name, folder / name)
    file = folder / "varro" / mutant.file
    source = file.read_text(encoding="utf-8")
    if source.count(mutant.old) != 1:
        raise SystemExit(f"{mutant.what}: {mutant.file} does not hold {mutant.old!r} once")
    file.write_text(source.replace(mutant.old, mutant.new), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *TESTS]
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{mutant.what}: the tests did not run\n{done.stdout}{done.stderr}")
    if done.returncode == 1:
        failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
        print(
            f"killed    {mutant.what:<40} {failed[0].split(' ')[1] if failed else ''}", flush=True
        )
    return done.returncode == 0


def main() -> None:
    alive = []
    for mutant in MUTANTS:
        with tempfile.TemporaryDirectory() as folder:
            if survives(mutant, Path(folder)):
                alive.append(mutant)
                print(f"SURVIVED  {mutant.what}", flush=True)
    print(f"{len(MUTANTS) - len(alive)} of {len(MUTANTS)} mutants killed")
    sys.exit(bool(alive))


if __name__ == "__main__":
    main()
