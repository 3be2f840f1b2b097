"""Memory is planned: estimates hold what MLX reports, plans give way in order, and recomputed
layers have the gradients of kept ones."""

from __future__ import annotations

import gc
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from varro.config import GuardConfig, PolicyConfig, UpdateConfig
from varro.errors import PolicyError
from varro.policy import head, memory, mlx
from varro.policy.load import Policy, load_policy
from varro.policy.logprobs import behaviour_logprobs, response_logprobs
from varro.policy.memory import ModelShape, pass_bytes, plan_passes, plan_rows, plan_update
from varro.policy.mlx import mx, nn
from varro.policy.sample import SamplingSettings, sample_groups
from varro.training import gradients as module
from varro.training.gradients import add_up, differentiated
from varro.training.measure import Given, _recomputed
from varro.training.steps import StepBatch, run_steps

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

# Qwen3-0.6B in float32 with a rank-16 adapter.
QWEN = ModelShape(
    weights_bytes=2_424_000_000,
    trainable_bytes=40_370_176,
    value_bytes=4,
    n_layers=28,
    hidden=1024,
    feed_forward=3072,
    n_heads=16,
    n_kv_heads=8,
    head_dim=128,
    n_vocab=151_936,
)

SMALL_BLOCKS = {
    "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "head_dim": 16,
    "num_key_value_heads": 2, "intermediate_size": 192, "vocab_size": 2100,
}  # fmt: skip


def test_keys_and_values_are_counted_by_hand():
    """Catches a plan that forgets keys, layers or the width of a number: 2 x 28 layers x 8 heads x
    128 x 4 bytes = 229,376 bytes a token."""
    assert QWEN.kv_bytes(1) == 229_376


def test_rows_are_whole_groups_and_grow_with_the_budget():
    """Catches a batch taken on hope. At 8 GB: 8 - 2.46 GB weights - 0.05 GB for a layer that reads
    a prompt = 5.49 GB, and a group takes 0.05 GB for its prompt, 8 x 0.044 GB for its answers and
    0.03 GB for its logits: 12 groups. At 16 GB one stream reads 128 rows' logits at a time, 0.54
    GB, and there are 32 groups; where two streams do, 31."""
    sizes = {"prompt_tokens": 200, "max_tokens": 176, "group_size": 8, "n_streams": 1}
    plans = [plan_rows(QWEN, **sizes, budget_bytes=int(gb * 1e9)) for gb in (4, 8, 16)]
    assert plans[1] == 96
    assert all(n % 8 == 0 for n in plans) and plans[0] < plans[1] < plans[2]
    on_two = plan_rows(QWEN, **sizes | {"n_streams": 2}, budget_bytes=int(16e9))
    assert (plans[2], on_two) == (256, 248)
    with pytest.raises(PolicyError, match=r"takes 2\.9 GB and memory.budget_gb allows 2\.7"):
        plan_rows(QWEN, **sizes, budget_bytes=int(2.7e9))


def test_each_stream_reads_a_prompt_where_there_are_several():
    """Catches two long prompts read at once that were planned for one, and one group refused for a
    second prompt that it does not have: behind 2,000 tokens a group takes 2.46 GB of weights, 1.42
    for the layer that reads them and 0.85 of its own."""
    sizes = {"prompt_tokens": 2000, "max_tokens": 176, "group_size": 8}

    def plan(gb, n_streams):
        return plan_rows(QWEN, **sizes, n_streams=n_streams, budget_bytes=int(gb * 1e9))

    assert [plan(5, 1), plan(5, 2)] == [8, 8]
    assert [plan(6.2, 1), plan(6.2, 2)] == [16, 8]


def test_an_update_gives_way_in_order():
    """Catches a plan that keeps layers it has no room for, or recomputes where there is room."""

    def plan(gb):
        return plan_update(
            QWEN, prompt_tokens=200, answer_tokens=176, group_size=8, n_streams=2,
            budget_bytes=int(gb * 1e9),
        )  # fmt: skip

    found = [plan(gb) for gb in (40, 9, 7, 4.5)]
    ways = [(p.n_side_by_side, p.n_rows, p.recompute) for p in found]
    assert ways == [(2, 4, False), (2, 2, False), (2, 4, True), (1, 4, True)]
    assert all(p.peak_bytes <= gb * 1e9 for p, gb in zip(found, (40, 9, 7, 4.5), strict=True))
    with pytest.raises(PolicyError, match="training on one group takes"):
        plan(3)


def test_behind_a_long_prompt_layers_are_computed_again_before_it_is_read_twice_as_often():
    """Catches one order of ways for all prompts. Three times as long as the answers (528 tokens,
    176), the prompt read for each half of a share makes 43 % more of a pass, recomputed layers
    19 %."""
    sizes = {"prompt_tokens": 528, "answer_tokens": 176, "group_size": 8, "n_streams": 2}
    first = plan_update(QWEN, budget_bytes=10**12, **sizes)
    second = plan_update(QWEN, budget_bytes=first.peak_bytes - 1, **sizes)
    assert (first.n_rows, first.n_side_by_side, first.recompute) == (4, 2, False)
    assert (second.n_rows, second.n_side_by_side, second.recompute) == (4, 2, True)


def test_groups_are_measured_one_after_the_other_where_memory_is_short():
    """Catches passes before and after the steps that take every stream on hope: with answers of 512
    tokens two groups at once took more than the training that had been planned."""
    sizes = {"prompt_tokens": 200, "answer_tokens": 512, "group_size": 8, "n_streams": 2}
    found = [plan_passes(QWEN, **sizes, budget_bytes=int(gb * 1e9)) for gb in (16, 5, 3)]
    assert found == [2, 1, 1]


@pytest.mark.parametrize("budget, at_once", [(10**12, 2), (1, 1)])
def test_a_day_is_measured_within_the_budget(policy, budget, at_once, monkeypatch):
    """Catches a plan of the passes that no pass follows."""
    tokens = mx.array(np.random.default_rng(0).integers(10, 1900, (4, 12)))
    group = Given((5, 6, 7), np.arange(4), tokens, mx.ones((4, 12)), mx.zeros((4, 12)), 48)
    asked = []

    def spy(self, work, items, *, at_once):
        asked.append(at_once)
        return []

    monkeypatch.setattr(Policy, "side_by_side", spy)
    one = pass_bytes(policy.shape(), 3, 12, n_rows=4)
    small = replace(
        policy,
        budget_bytes=max(budget, policy.shape().update_bytes() + one),
        streams=(mx.default_stream(mx.default_device()),) * 2,
    )
    with pytest.raises(ValueError, match="zip"):
        list(_recomputed(small, [group], 0.8))
    assert asked == [at_once]


def test_the_budget_is_half_of_what_the_device_has(monkeypatch):
    """Catches a card of 8 GB that is planned for as the 64 GB of the machine around it."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert memory.default_budget_bytes() == machine // 2
    monkeypatch.setattr(mlx, "device_name", lambda: "cuda")
    monkeypatch.setattr(mlx.mx, "device_info", lambda: {"total_memory": 8 * 10**9})
    assert memory.default_budget_bytes() == 4 * 10**9


def test_a_policy_is_loaded_with_its_budget_as_limit(deep_policy):
    """Catches a budget that only Varro's plans know."""
    before = mx.get_memory_limit()
    try:
        config = PolicyConfig(model=str(deep_policy.model_path))
        load_policy(config, lora_seed=0, budget_bytes=3_000_000_000)
        assert mx.get_memory_limit() == 3_000_000_000
    finally:
        mx.set_memory_limit(before)


def test_a_policy_that_does_not_fit_is_refused_before_it_samples(policy):
    """Catches an out-of-memory kill where a sentence would do."""
    settings = SamplingSettings(0.8, 64, stop_at_paragraph=True, max_rows=64)
    with pytest.raises(PolicyError, match=r"memory\.budget_gb"):
        sample_groups(
            replace(policy, budget_bytes=policy.shape().weights_bytes),
            [(5, 6, 7)],
            seeds=[[1, 2]],
            settings=settings,
        )


def least_peak(work):
    """The peak of memory besides what was there, where MLX never runs ahead of what is computed, as
    it does with room to spare."""
    mx.clear_cache()
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    limit = mx.set_memory_limit(before)
    try:
        work()
    finally:
        mx.set_memory_limit(limit)
    return mx.get_peak_memory() - before


def gradients(policy, tokens, *, recompute):
    """Loss, gradients by name, and the peak of memory besides what was there."""
    nothing = mx.zeros(tokens.shape[:1])
    batch = StepBatch(tuple(range(30, 90)), tokens, tokens, tokens, tokens, nothing, nothing)

    def loss_of(batch, *, embedded=None):
        found = response_logprobs(
            policy, batch.prompt_ids, batch.tokens, temperature=0.8, trains=True,
            recompute=recompute, embedded=embedded,
        )  # fmt: skip
        return ((found * mx.arange(tokens.shape[1])).mean(),)

    mx.eval(tokens, nothing)
    mx.clear_cache()
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    (value,), found = differentiated(policy, loss_of)(batch)
    total = {}
    add_up(total, [found], along=[value])
    return value.item(), total, mx.get_peak_memory() - before


def test_recomputed_layers_have_the_same_gradients_and_take_less(policy):
    """Catches checkpointing that drops the gradient into the prompt's keys and values, leaves
    traced arrays in the model, or saves nothing."""
    rng = np.random.default_rng(0)
    policy.set_adapter(
        {n: mx.array(rng.normal(0, 0.05, a.shape)) for n, a in policy.adapter().items()}
    )
    tokens = mx.array(rng.integers(10, 1900, (8, 120)))
    before = {name: np.array(a) for name, a in policy.adapter().items()}
    kept, recomputed = (gradients(policy, tokens, recompute=r) for r in (False, True))
    assert recomputed[0] == pytest.approx(kept[0], rel=1e-5)
    assert kept[1].keys() == recomputed[1].keys() == policy.adapter().keys()
    for name, a in kept[1].items():
        np.testing.assert_allclose(
            np.array(a),
            np.array(recomputed[1][name]),
            atol=1e-5 * float(mx.abs(a).max().item()),
            err_msg=name,
        )
    assert recomputed[2] < 0.8 * kept[2]
    for name, array in policy.adapter().items():
        np.testing.assert_array_equal(np.array(array), before[name])


@pytest.fixture(scope="module")
def deep_policy(tmp_path_factory):
    """A policy of 20 small blocks."""
    from build_random_policy import build_random_policy

    out = tmp_path_factory.mktemp("deep")
    build_random_policy(out, shape=SMALL_BLOCKS | {"num_hidden_layers": 20}, seed=0)
    return load_policy(PolicyConfig(model=str(out)), lora_seed=0)


def test_recomputing_saves_in_every_layer(deep_policy):
    """Catches gradients of weights that are all taken last: what each block recomputed is then
    kept, and of 20 blocks' activations hardly one is saved."""
    tokens = mx.array(np.random.default_rng(0).integers(10, 1900, (8, 96)))
    kept, recomputed = (gradients(deep_policy, tokens, recompute=r)[2] for r in (False, True))
    assert recomputed < 0.45 * kept


def test_recomputed_micro_batches_do_not_wait_for_each_other(policy, tmp_path):
    """Catches a backward pass that leaves its own arrays in the model: whatever is built next would
    hang on all of it, and two streams would work one after the other."""
    tokens = mx.array(np.random.default_rng(0).integers(10, 1900, (4, 20)))

    def n_edges(recompute):
        def loss(model):
            return response_logprobs(
                policy, range(30, 60), tokens, temperature=0.8, trains=True, recompute=recompute
            ).mean()

        grads = nn.value_and_grad(policy.model, loss)(policy.model)[1]
        mx.export_to_dot(str(tmp_path / "graph.dot"), *policy.adapter().values())
        mx.eval(grads)
        return (tmp_path / "graph.dot").read_text().count("->")

    assert n_edges(recompute=True) == n_edges(recompute=False)


def test_gradients_are_taken_a_layer_at_a_time(deep_policy, monkeypatch):
    """Catches gradients that are all evaluated at once: two micro-batches then hold two trees of
    them beside their sum, where those of two layers are enough."""
    full = load_policy(
        PolicyConfig(model=str(deep_policy.model_path), fine_tune="full"), lora_seed=0
    )
    tokens = mx.array([[5, 6, 7]])
    batch = StepBatch((8, 9), tokens, tokens, tokens, tokens, mx.zeros((1,)), mx.zeros((1,)))

    def loss_of(batch, *, embedded=None):
        return (
            response_logprobs(
                full,
                batch.prompt_ids,
                batch.tokens,
                temperature=0.8,
                trains=True,
                embedded=embedded,
            ).mean(),
        )

    def peak_and_sum():
        built = [differentiated(full, loss_of)(batch) for _ in range(2)]
        mx.clear_cache()
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        total = {}
        add_up(total, [gradients for _, gradients in built])
        return mx.get_peak_memory() - before, total

    peak, by_layer = peak_and_sum()
    monkeypatch.setattr(module, "_backward", lambda names, *, tied: [names])
    peak_at_once, at_once = peak_and_sum()
    assert peak < 0.7 * peak_at_once
    for name, gradient in by_layer.items():
        np.testing.assert_allclose(np.array(gradient), np.array(at_once[name]), atol=1e-6)


@pytest.mark.parametrize("way", ["plain", "frozen", "compared"])
def test_a_head_takes_no_more_for_more_positions(way):
    """Catches a piece of logits that something still waits for when the next one is made: at four
    times as many positions the peak of a comparison grew to 2.6 times."""
    rng = np.random.default_rng(0)
    weight = mx.array(rng.normal(0, 0.1, (32_000, 16)).astype(np.float32))
    one = head.Head(weight)
    n = 4 * head.rows_at_once(32_000)

    def read(hidden, tokens):
        if way == "plain":
            return head.plain_token_logprobs(one, hidden, tokens, temperature=0.8)
        if way == "frozen":
            return head.token_logprobs(one, hidden, tokens, temperature=0.8)
        other = head.Seen(hidden + 1, one)
        found = head.compare(head.Seen(hidden, one), [other], tokens, temperature=0.8)
        return found.logprobs, found.entropy, found.others, found.kl

    def peak_of(n_positions):
        hidden = mx.array(rng.normal(0, 1, (n_positions, 16)).astype(np.float32))
        tokens = mx.array(rng.integers(0, 32_000, n_positions))
        mx.eval(weight, hidden, tokens)
        mx.clear_cache()
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        mx.eval(read(hidden, tokens))
        return mx.get_peak_memory() - before

    assert peak_of(4 * n) < 1.2 * peak_of(n)


@pytest.mark.parametrize("recompute", [False, True])
def test_the_estimate_holds_what_mlx_reports(policy, recompute):
    """Catches an estimate that was fitted once and no longer bounds what is used."""

    def plan(budget_bytes):
        return plan_update(
            policy.shape(), prompt_tokens=60, answer_tokens=120, group_size=8, n_streams=1,
            budget_bytes=budget_bytes,
        )  # fmt: skip

    planned = plan(10**12)
    while planned.recompute is not recompute:
        planned = plan(planned.peak_bytes - 1)
    tokens = mx.array(np.random.default_rng(0).integers(10, 1900, (planned.n_rows, 120)))
    shape = policy.shape()
    _, _, peak = gradients(policy, tokens, recompute=recompute)
    assert peak < planned.peak_bytes - shape.weights_bytes - 5 * shape.trainable_bytes


WIDE = {"hidden_size": 256, "num_attention_heads": 8, "num_hidden_layers": 3}


@pytest.mark.parametrize(
    "changes, n_prompt, n_answer",
    [({}, 60, 120), ({"vocab_size": 151_936}, 60, 40), (WIDE, 60, 400), (WIDE, 1000, 10)],
)
def test_the_estimate_holds_where_a_group_is_measured(changes, n_prompt, n_answer, tmp_path):
    """Catches a pass that takes more than planned, for its logits, its answers or its prompt."""
    from build_random_policy import build_random_policy

    build_random_policy(tmp_path, shape=SMALL_BLOCKS | changes, seed=0)
    policy = load_policy(PolicyConfig(model=str(tmp_path)), lora_seed=0)
    tokens = mx.array(np.random.default_rng(0).integers(10, 1900, (8, n_answer)))
    mx.eval(tokens)

    def measure():
        found = behaviour_logprobs(policy, range(30, 30 + n_prompt), tokens, temperature=0.8)
        mx.eval(found.old, found.ref, found.kl, found.entropy, found.hidden)

    planned = pass_bytes(policy.shape(), n_prompt, n_answer, n_rows=8)
    assert 0.3 * planned < least_peak(measure) < planned


def test_the_estimate_holds_where_groups_are_decoded(tmp_path):
    """Catches logits that live on after their step, or in all their pieces at once: with 151,936
    tokens and 512 rows sampling took 5.4 GB under a limit of 1.0."""
    from build_random_policy import build_random_policy

    n_vocab, n_groups, max_tokens = 32_000, 40, 20
    build_random_policy(tmp_path, shape=SMALL_BLOCKS | {"vocab_size": n_vocab}, seed=0)
    policy = load_policy(PolicyConfig(model=str(tmp_path)), lora_seed=0)
    policy.eos_ids = policy.paragraph_ids = frozenset()
    policy.streams = policy.streams[:1]
    shape = policy.shape()
    fixed = shape.weights_bytes + shape.trainable_bytes

    def n_rows(budget_bytes):
        return plan_rows(
            shape, prompt_tokens=60, max_tokens=max_tokens, group_size=8, n_streams=1,
            budget_bytes=budget_bytes,
        )  # fmt: skip

    planned = next(b for b in range(20_000_000, 10**9, 10**6) if n_rows(b) >= 8 * n_groups)
    prompts = [tuple(range(30 + n, 90 + n)) for n in range(n_groups)]
    settings = SamplingSettings(0.8, max_tokens, stop_at_paragraph=False, max_rows=10_000)
    seeds = [list(range(8 * n, 8 * n + 8)) for n in range(n_groups)]
    peak = least_peak(lambda: sample_groups(policy, prompts, seeds=seeds, settings=settings))
    assert 2 * head.rows_at_once(n_vocab) < 8 * n_groups
    assert peak < planned - fixed


def test_a_reference_of_its_own_is_planned_for(deep_policy):
    """Catches a plan made before the leash's first reset: where every weight trains, the reference
    is a copy of them all."""
    full = load_policy(
        PolicyConfig(model=str(deep_policy.model_path), fine_tune="full"), lora_seed=0
    )
    planned = full.shape().update_bytes()
    gc.collect()
    before = mx.get_active_memory()
    full.set_reference(full.adapter())
    assert full.reference is not None
    mx.eval(full.reference)
    grown = mx.get_active_memory() - before
    assert grown >= 0.99 * full.trained_bytes()
    assert full.shape().update_bytes() - planned == full.trained_bytes()


def test_an_optimiser_step_is_taken_a_weight_at_a_time(deep_policy):
    """Catches a step evaluated all at once: AdamW's intermediates of every weight are then held
    beside what it makes."""
    full = load_policy(
        PolicyConfig(model=str(deep_policy.model_path), fine_tune="full"), lora_seed=0
    )
    tokens = mx.array([[5, 6, 7]])
    ones = mx.ones((1, 3))
    batch = StepBatch((8, 9), tokens, ones, -ones, -ones, mx.array([1.0]), mx.array([1.0]))
    mx.eval(tokens, ones, batch.advantages, batch.weights)
    mx.clear_cache()
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    done = run_steps(
        full,
        [batch],
        {},
        config=UpdateConfig(),
        lr=1e-4,
        clip_scale=1.0,
        loss_kl_coef=0.0,
        norm_ema=None,
        guard=GuardConfig(),
        temperature=0.8,
        on_group=lambda: None,
    )
    assert done.metrics["n_steps"] == 1
    peak = (mx.get_peak_memory() - before) / full.trained_bytes()
    assert peak < 3.6


@pytest.mark.parametrize("kept_bytes", [0, head.MAX_KEPT_BYTES])
def test_the_estimate_holds_where_every_weight_trains(policy, kept_bytes, monkeypatch):
    """Catches a head that trains and is planned for as a frozen one: its soft-max in four pieces,
    kept or computed again, and the gradient of the table. What a plan adds for the optimiser and
    the parent is not used here, and taken off."""
    monkeypatch.setattr(head, "MAX_LOGITS_BYTES", 256 * 4 * 2005)
    monkeypatch.setattr(head, "MAX_KEPT_BYTES", kept_bytes)
    monkeypatch.setattr(memory, "MAX_KEPT_BYTES", kept_bytes)
    full = load_policy(PolicyConfig(model=str(policy.model_path), fine_tune="full"), lora_seed=0)
    tokens = mx.array(np.random.default_rng(0).integers(10, 1900, (8, 120)))
    _, _, peak = gradients(full, tokens, recompute=False)
    shape = full.shape()
    planned = plan_update(
        shape, prompt_tokens=60, answer_tokens=120, group_size=8, n_streams=1, budget_bytes=10**12
    )
    assert len(head._pieces(8 * 120, shape.n_vocab)) == 4
    assert peak < planned.peak_bytes - shape.weights_bytes - 6 * shape.trainable_bytes
