"""Break the learning code on purpose, one line at a time: every mutant must fail a test.

A trainer with the wrong sign still runs, still logs a loss and still changes its weights. This
proves that the tests would notice. Exit code 1 if a mutant survives.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = (
    "tests/test_gspo.py",
    "tests/test_leash.py",
    "tests/test_selection.py",
    "tests/test_steering.py",
    "tests/test_training_guard.py",
    "tests/test_policy.py",
    "tests/test_update.py",
)


CLUSTER_TESTS = (
    "tests/test_cluster.py::test_exchanges_give_every_rank_the_same",
    "tests/test_cluster.py::test_two_processes_give_what_one_gives",
    "tests/test_cluster.py::test_a_killed_worker_stops_the_update_and_the_parent_stays",
)
REWARD_TESTS = ("tests/test_advantage.py", "tests/test_contrast.py", "tests/test_score.py")


@dataclass(frozen=True)
class Mutant:
    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...] = TESTS


MUTANTS = (
    Mutant(
        "sign of the loss",
        "training/steps.py",
        "loss = -(batch.weights * objective).sum() / n_forecasts",
        "loss = (batch.weights * objective).sum() / n_forecasts",
    ),
    Mutant(
        "the embedding's gradient is lost",
        "training/gradients.py",
        "            total[TABLE] = total[TABLE].at[ids].add(rows)\n",
        "",
    ),
    Mutant(
        "gradients not in the order of the weights",
        "training/steps.py",
        "            for name, array in policy.adapter().items()\n        ]",
        "            for name, array in reversed(policy.adapter().items())\n        ]",
    ),
    Mutant(
        "a head in pieces takes the first one's totals",
        "policy/head.py",
        "columns = zip(*((r.logprobs, r.powers, r.total) for r in reads), strict=True)",
        "columns = zip(*((r.logprobs, r.powers, reads[0].total) for r in reads), strict=True)",
        ("tests/test_policy.py",),
    ),
    Mutant(
        "only the last micro-batch's gradients",
        "training/gradients.py",
        "total[name] = total[name] + gradient if name in total else gradient",
        "total[name] = gradient",
    ),
    Mutant(
        "sign of the advantage",
        "training/advantage.py",
        "return np.where(valid, values - mean, 0.0)",
        "return np.where(valid, mean - values, 0.0)",
        REWARD_TESTS,
    ),
    Mutant(
        "sign of the plain advantage",
        "training/advantage.py",
        "centred = rewards - rewards.mean(axis=1, keepdims=True)",
        "centred = rewards.mean(axis=1, keepdims=True) - rewards",
        REWARD_TESTS,
    ),
    Mutant(
        "advantages of other groups",
        "training/update.py",
        "        advantages[order],\n",
        "        advantages[: len(order)],\n",
    ),
    Mutant(
        "clip sides swapped",
        "training/gspo.py",
        "ratio = mx.exp(log_ratio)\n    clipped = mx.clip(ratio, 1.0 - clip_low, 1.0 + clip_high)",
        "ratio = mx.exp(log_ratio)\n    clipped = mx.clip(ratio, 1.0 - clip_high, 1.0 + clip_low)",
    ),
    Mutant(
        "clip sides swapped in the token form",
        "training/gspo.py",
        "(B, T)\n    clipped = mx.clip(ratio, 1.0 - clip_low, 1.0 + clip_high)",
        "(B, T)\n    clipped = mx.clip(ratio, 1.0 - clip_high, 1.0 + clip_low)",
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
        "training/steps.py",
        "log_ratio = sequence_log_ratio(new, batch.old, batch.mask)",
        "log_ratio = sequence_log_ratio(new, batch.ref, batch.mask)",
    ),
    Mutant(
        "sign of the KL in the advantage",
        "training/gspo.py",
        "np.clip(advantages - leash,",
        "np.clip(advantages + leash,",
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
        "flat = read(policy.head(), hidden, tokens.reshape(-1), temperature=temperature)",
        "flat = read(policy.head(), hidden, tokens.reshape(-1), temperature=1.0)",
    ),
    Mutant(
        "temperature missing in the sampler",
        "policy/sample.py",
        "scaled_logits(head, hidden, settings.temperature)",
        "scaled_logits(head, hidden, 1.0)",
    ),
    Mutant(
        "all pieces of a step's logits at once",
        "policy/sample.py",
        "hidden = after(part.hidden[a : a + n_rows], drawn[-1] if drawn else ())",
        "hidden = part.hidden[a : a + n_rows]",
        ("tests/test_memory.py",),
    ),
    Mutant(
        "one stream's logits planned for all",
        "policy/memory.py",
        "most = n_streams * rows_at_once(shape.n_vocab)",
        "most = rows_at_once(shape.n_vocab)",
        ("tests/test_memory.py",),
    ),
    Mutant(
        "prompts read one stream after the other",
        "policy/sample.py",
        "(read, places, at_once=len(policy.streams))",
        "(read, places, at_once=1)",
    ),
    Mutant(
        "the guard's before of more forecasts than its after",
        "training/measure.py",
        "prompt_ids, kl_ref = group.prompt_ids, group.kl[:n_rows]",
        "prompt_ids, kl_ref = group.prompt_ids, group.kl",
    ),
    Mutant(
        "log-probs wait for the next look",
        "policy/sample.py",
        "self.chosen[-1], self.logprobs[-1], self.entropies[-1]",
        "self.chosen[-1]",
        ("tests/test_memory.py",),
    ),
    Mutant(
        "prompt left out of the log-probs",
        "policy/logprobs.py",
        "answer_memories(prompt))",
        "None)",
    ),
    Mutant(
        "answer placed at the start of the prompt",
        "policy/attention.py",
        "Positions(prompt[0].keys.shape[2])",
        "Positions(0)",
    ),
    Mutant(
        "room for tokens to come is attended to",
        "policy/attention.py",
        "np.where(past, _MASKED, 0.0)",
        "np.where(past, 0.0, 0.0)",
    ),
    Mutant(
        "a decoded token stands where the last one stood",
        "policy/attention.py",
        "self.positions.move(1)",
        "self.positions.move(0)",
    ),
    Mutant(
        "the frozen base pays for the adapter",
        "policy/blocks.py",
        "if self.scale == 0:",
        "if self.scale is None:",
    ),
    Mutant(
        "answer sees its own future",
        "policy/attention.py",
        "return mx.concatenate([one]",
        "return 0 * mx.concatenate([one]",
    ),
    Mutant(
        "rows that stay are mixed up",
        "policy/attention.py",
        "slot = order * n_slots + (np.arange(len(order)) - starts[order])",
        "slot = np.arange(len(order))",
    ),
    Mutant(
        "a short prompt attends to its padding",
        "policy/attention.py",
        "np.where(short, _MASKED, 0.0)",
        "np.where(short, 0.0, 0.0)",
    ),
    Mutant(
        "the frozen head pulls the wrong way",
        "policy/head.py",
        "slope = (weight[tokens[a:b]] - expected) / temperature",
        "slope = (expected - weight[tokens[a:b]]) / temperature",
    ),
    Mutant(
        "exact KL the wrong way round",
        "policy/head.py",
        "part += [its.logprobs, gap + mx.log(its.total) - log_total]",
        "part += [its.logprobs, log_total - gap - mx.log(its.total)]",
    ),
    Mutant(
        "the new policy held against itself",
        "training/measure.py",
        "others = [one.old, one.ref]",
        "others = [now, one.ref]",
    ),
    Mutant(
        "reference with the adapter on",
        "policy/load.py",
        "            with self.adapter_off():\n                yield\n",
        "            yield\n",
    ),
    Mutant(
        "leash loosens as the policy runs away",
        "training/leash.py",
        "1.0 + error * n_forecasts / horizon",
        "1.0 - error * n_forecasts / horizon",
    ),
    Mutant(
        "leash that does not grow with the distance",
        "training/leash.py",
        "return kl_coef + gain * max(0.0, kl_ref - dead_band[0])",
        "return kl_coef",
        ("tests/test_leash.py",),
    ),
    Mutant(
        "attention's gradient without its centre",
        "policy/attention.py",
        "of_own = own * (slope @ values.swapaxes(-1, -2) - centre)",
        "of_own = own * (slope @ values.swapaxes(-1, -2))",
        ("tests/test_policy.py",),
    ),
    Mutant(
        "optimiser forgets",
        "training/steps.py",
        "    if optimizer_state:\n",
        "    if False:\n",
    ),
    Mutant(
        "sign of k2",
        "training/gspo.py",
        "return 0.5 * kl_coef * log_r * log_r / mask.sum(axis=-1)",
        "return -0.5 * kl_coef * log_r * log_r / mask.sum(axis=-1)",
    ),
    Mutant(
        "k2 not scaled by the length",
        "training/gspo.py",
        "return 0.5 * kl_coef * log_r * log_r / mask.sum(axis=-1)",
        "return 0.5 * kl_coef * log_r * log_r",
    ),
    Mutant(
        "token form with its ratio not stopped",
        "training/gspo.py",
        "mx.exp(mx.stop_gradient(log_ratio)[:, None] + own)",
        "mx.exp(log_ratio[:, None] + own)",
    ),
    Mutant(
        "sampler's weight upside down",
        "training/gspo.py",
        "mx.exp(sequence_kl(old, sampler, mask))",
        "mx.exp(sequence_kl(sampler, old, mask))",
    ),
    Mutant(
        "sampler's weight not used",
        "training/steps.py",
        "loss = -(batch.weights * objective).sum() / n_forecasts",
        "loss = -objective.sum() / n_forecasts",
    ),
    Mutant(
        "overlong trains",
        "training/selection.py",
        "trains = ~(empty | cut | off_sampler)",
        "trains = ~(empty | off_sampler)",
    ),
    Mutant(
        "low variance trains",
        "training/selection.py",
        "trains &= ~(low_variance | too_few)[:, None]",
        "trains &= ~too_few[:, None]",
    ),
    Mutant(
        "a redo starts where the first attempt ended",
        "training/update.py",
        '        policy.set_adapter(parent)\n        if verdict.action == "refuse":\n',
        '        if verdict.action == "refuse":\n            policy.set_adapter(parent)\n',
    ),
    Mutant(
        "a refused update stays",
        "training/update.py",
        '        policy.set_adapter(parent)\n        if verdict.action == "refuse":\n',
        '        if verdict.action != "refuse":\n            policy.set_adapter(parent)\n'
        "        else:\n",
    ),
    Mutant(
        "a redo at the full rate",
        "training/update.py",
        "        lr /= 2\n",
        "",
    ),
    Mutant(
        "learning rate steered the wrong way",
        "training/steering.py",
        "    if kl_update > kl_high:",
        "    if kl_update < kl_high:",
    ),
    Mutant(
        "clip range steered the wrong way",
        "training/steering.py",
        "    if clip_frac > high:\n        scale *= CLIP_STEP",
        "    if clip_frac > high:\n        scale /= CLIP_STEP",
    ),
    Mutant(
        "clip scale not used",
        "training/steps.py",
        '        "clip_low": config.clip_low * clip_scale,\n'
        '        "clip_high": config.clip_high * clip_scale,\n',
        '        "clip_low": config.clip_low,\n        "clip_high": config.clip_high,\n',
        ("tests/test_update.py::test_steering_follows_what_was_measured_and_is_obeyed",),
    ),
    Mutant(
        "a reset keeps the optimiser",
        "training/update.py",
        "replace(state, optimizer={}, last_reset=state.n_updates)",
        "replace(state, last_reset=state.n_updates)",
    ),
    Mutant(
        "a spike steps all the same",
        "training/steps.py",
        "            del clipped_grads\n            continue\n",
        "",
    ),
    Mutant(
        "a leash that pays is let pass",
        "training/guard.py",
        "if total > 1e-9 *",
        "if total < -1e9 *",
    ),
    Mutant(
        "length is not watched",
        "training/guard.py",
        "and abs(length_correlation) > limits.max_length_correlation",
        "and length_correlation > 2.0",
    ),
    Mutant(
        "the reference's weights stay in the policy",
        "policy/load.py",
        "            self.model.load_weights(list(mine.items()), strict=False)\n",
        "            pass\n",
    ),
    Mutant(
        "coefficients of the components swapped",
        "training/advantage.py",
        "return t * b, b",
        "return b, t * b",
        REWARD_TESTS,
    ),
    Mutant(
        "invalid forecasts counted in the mean",
        "training/advantage.py",
        "mean = np.where(valid, values, 0.0).sum(axis=1, keepdims=True) / n",
        "mean = values.mean(axis=1, keepdims=True)",
        REWARD_TESTS,
    ),
    Mutant(
        "placebo added instead of subtracted",
        "reward/score.py",
        "else matches.similarity - null",
        "else matches.similarity + null",
        REWARD_TESTS,
    ),
    Mutant(
        "every headline is linked",
        "reward/contrast.py",
        "[n, row[0]] >= MIN_LINK else ()",
        "[n, row[0]] >= -1.0 else ()",
        REWARD_TESTS,
    ),
    Mutant(
        "copies pass the gate",
        "reward/contrast.py",
        "return np.asarray(bigrams * run)",
        "return np.ones_like(bigrams)",
        REWARD_TESTS,
    ),
    Mutant(
        "what ends a loss is a loss",
        "forecast/direction.py",
        "return 0.5 * min(entry.level, 0.0), -of",
        "return 0.5 * min(entry.level, 0.0), of",
        ("tests/test_direction.py",),
    ),
    Mutant(
        "the passive names the winner",
        "forecast/direction.py",
        "if negated != _is_passive(tokens, i)",
        "if negated",
        ("tests/test_direction.py",),
    ),
    Mutant(
        "every list item after a cause is forecast",
        "forecast/direction.py",
        "inside = inside and last_modal[i] < i",
        "inside = False",
        ("tests/test_direction.py",),
    ),
    Mutant(
        "sign of the direction vote",
        "reward/contrast.py",
        "np.where(vote < 0, 0.85 + 0.25 * vote, 0.85 + 0.15 * vote)",
        "np.where(vote > 0, 0.85 - 0.25 * vote, 0.85 - 0.15 * vote)",
        REWARD_TESTS,
    ),
    Mutant(
        "guard ignored",
        "day/settle.py",
        "if reason and (outcomes.headlines or outcomes.n_repeats):",
        "if False:",
        ("tests/test_day.py::test_a_refused_day_is_void_with_its_reason_and_later_days_go_on",),
    ),
    Mutant(
        "canaries ignored",
        "day/update.py",
        'if broken := (notes.get("canaries") or {}).get("broken"):',
        'if broken := "":',
        (
            "tests/test_day.py::test_a_day_whose_canaries_are_out_of_order_does_not_train_and_says_so",
        ),
    ),
    Mutant(
        "placebo rewards dealt out across groups",
        "day/advantages.py",
        "settled = [_permuted(item, config.run.seed, due.day) for item in settled]",
        "settled = [*settled[1:], settled[0]]",
        (
            "tests/test_day.py::test_the_placebo_run_learns_from_the_same_rewards_dealt_out_at_random",
        ),
    ),
    Mutant(
        "trained on other than what is stored",
        "day/update.py",
        "                earned.total,\n",
        "                earned.format,\n",
        ("tests/test_day.py::test_the_trainer_uses_exactly_what_the_ledger_holds",),
    ),
    Mutant(
        "shuffled day is always the nearest",
        "reward/score.py",
        "drawn = seed % len(pools)",
        "drawn = 0",
        REWARD_TESTS,
    ),
    Mutant(
        "the day before is the headlines' own",
        "reward/settle.py",
        "DAY_BEFORE = 2",
        "DAY_BEFORE = 1",
        ("tests/test_day.py::test_the_day_before_and_the_outcomes_are_equally_far",),
    ),
    Mutant(
        "gradients of the other processes left out",
        "training/steps.py",
        "return cluster.sum_gradients(gradients), cluster",
        "return gradients, cluster",
        CLUSTER_TESTS,
    ),
    Mutant(
        "gradients averaged instead of summed",
        "policy/cluster.py",
        "lambda gradient: gradient * self.size",
        "lambda gradient: gradient",
        CLUSTER_TESTS,
    ),
    Mutant(
        "one share on every process",
        "policy/cluster.py",
        "return list(items[self.rank :: self.size])",
        "return list(items[0 :: self.size])",
        CLUSTER_TESTS,
    ),
    Mutant(
        "a worker keeps its own adapter",
        "policy/load.py",
        "            self.set_adapter(dict(adapter))\n        if reference",
        "            pass\n        if reference",
        CLUSTER_TESTS,
    ),
    Mutant(
        "a worker keeps its own reference",
        "policy/load.py",
        "            self.set_reference(dict(reference) or None)",
        "            pass",
        CLUSTER_TESTS,
    ),
    Mutant(
        "a worker samples the base with its adapter",
        "worker.py",
        "with policy.adapter_off() if of_base else nullcontext():",
        "with nullcontext():",
        CLUSTER_TESTS,
    ),
    Mutant(
        "the parent is not restored when a process is lost",
        "training/update.py",
        "        except BaseException:\n            policy.set_adapter(parent)\n",
        "        except BaseException:\n",
        CLUSTER_TESTS,
    ),
    Mutant(
        "base on other seeds",
        "forecast/stage.py",
        "[stable_seed(seed, day, headline.id, k) for k in range(n_forecasts)]\n"
        "        for headline, _ in requests",
        "[stable_seed(seed, day, headline.id, role, k) for k in range(n_forecasts)]\n"
        "        for headline, role in requests",
        ("tests/test_day.py::test_held_out_headlines_never_train_and_the_base_shares_all_seeds",),
    ),
)


def not_to_be_made(mutant: Mutant) -> str | None:
    """Why a mutant can not be made, or None: the line that it breaks has moved on."""
    n = (ROOT / "varro" / mutant.file).read_text(encoding="utf-8").count(mutant.old)
    return None if n == 1 else f"{mutant.what}: {mutant.file} holds {mutant.old!r} {n} times"


def killed_by(mutant: Mutant) -> str | None:
    """The first test that fails on a copy of the project with this mutant in it; None if none does.

    Raises: SystemExit if the tests could not be run.
    """
    with tempfile.TemporaryDirectory() as folder:
        return _killed_by(mutant, Path(folder))


def _killed_by(mutant: Mutant, folder: Path) -> str | None:
    shutil.copytree(ROOT / "varro", folder / "varro")
    for name in ("tests", "configs", "data", "pyproject.toml"):
        os.symlink(ROOT / name, folder / name)
    file = folder / "varro" / mutant.file
    source = file.read_text(encoding="utf-8")
    file.write_text(source.replace(mutant.old, mutant.new), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *mutant.tests]
    environment = os.environ | {
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{mutant.what}: the tests did not run\n{done.stdout}{done.stderr}")
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    return None if done.returncode == 0 else failed[0].split(" ")[1] if failed else "?"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="mutants whose name or file contains this")
    parser.add_argument("--at-once", type=int, default=os.cpu_count(), help="mutants tried at once")
    options = parser.parse_args()
    chosen = [m for m in MUTANTS if options.only in m.what or options.only in m.file]
    stale = [reason for m in chosen if (reason := not_to_be_made(m))]
    if stale:
        raise SystemExit("\n".join(stale))
    alive = []
    with ThreadPoolExecutor(options.at_once) as pool:
        for mutant, killer in zip(chosen, pool.map(killed_by, chosen), strict=True):
            if killer is None:
                alive.append(mutant)
            print(
                f"{'killed   ' if killer else 'SURVIVED '} {mutant.what:<40} {killer or ''}",
                flush=True,
            )
    print(f"{len(chosen) - len(alive)} of {len(chosen)} mutants killed")
    sys.exit(bool(alive) or not chosen)


if __name__ == "__main__":
    main()
