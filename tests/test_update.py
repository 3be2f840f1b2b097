"""The update stage on the tiny policy: direction, exactness, refusal."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from varro.config import GuardConfig, LeashConfig, PolicyConfig, UpdateConfig
from varro.domain import Forecast, Group, Headline, Role
from varro.errors import StalePolicyError
from varro.policy.checkpoint import TrainerState
from varro.policy.head import (
    Head,
    Seen,
    compare,
    plain_token_logprobs,
    rows_at_once,
    token_logprobs,
)
from varro.policy.load import load_policy
from varro.policy.logprobs import behaviour_logprobs, pad_responses, response_logprobs
from varro.policy.memory import plan_update
from varro.policy.mlx import mx, nn
from varro.policy.sample import SamplingSettings, sample_groups
from varro.training import measure, steps
from varro.training.advantage import plain_advantages
from varro.training.gradients import Gradients, add_up, differentiated
from varro.training.measure import (
    distances_before,
    measure_after,
    measure_before,
    n_after,
    n_guarded,
)
from varro.training.steps import StepBatch
from varro.training.update import n_update_ticks, reset_reference, update_policy

ROOT = Path(__file__).resolve().parent.parent
NOW = datetime(2026, 1, 5, tzinfo=UTC)
# Nothing steered, so that each test says what moves; and no weight for the sampler's mismatch, for
# some forecasts here are made by hand or used twice.
CONFIG = UpdateConfig(
    lr=2e-3, clip_low=0.05, clip_high=0.05, n_minibatches=2, steer_clip=False, steer_lr=False,
    n_warmup=0, tis=False,
)  # fmt: skip
OPEN = GuardConfig(
    min_spike=1e9, kl_redo=1e9, kl_refuse=1e9, max_length_correlation=1.0, max_kl_sampler=1e9
)
LEASH = LeashConfig(kl_coef=0.0, min_kl_coef=0.0, gain=0.0)
FRESH = TrainerState(kl_coef=0.0)
SHORT = SamplingSettings(temperature=0.8, max_tokens=16, stop_at_paragraph=True, max_rows=256)
TITLES = ["Norvik Energy reports strong gas demand", "Fed holds rates", "Ports shut", "Rain helps"]


@dataclass(frozen=True)
class Rewarded:
    group: Group
    rewards: tuple[float, ...]


def make_groups(policy, reward, *, titles=TITLES, n=4, seed=0, settings=SHORT):
    """Groups sampled now, rewarded by `reward(token_ids)`."""
    prompts = [policy.prompts.encode(t) for t in titles]
    seeds = [[seed + 1000 * i + k for k in range(n)] for i in range(len(titles))]
    sampled = sample_groups(policy, prompts, seeds=seeds, settings=settings)
    return [
        rewarded(policy, title, prompt, [(s.token_ids, s.logprobs) for s in samples], reward)
        for title, prompt, samples in zip(titles, prompts, sampled, strict=True)
    ]


def rewarded(policy, title, prompt, samples, reward):
    headline = Headline(title, "w", "f", "s", title, title, "", None, NOW)
    forecasts = tuple(
        Forecast(f"{title}-{k}", title, k, tuple(ids), logprobs, "", "stop", k)
        for k, (ids, logprobs) in enumerate(samples)
    )
    group = Group(
        title, "r", "d", Role.TRAIN, headline, policy.version, NOW, "p", tuple(prompt), forecasts
    )
    return Rewarded(group, tuple(float(reward(f.token_ids)) for f in forecasts))


def earned_by(groups):
    rewards = np.array([g.rewards for g in groups])
    return plain_advantages(rewards, weights=(0.0, 1.0), format_=np.zeros_like(rewards))


def advantages_of(groups):
    return earned_by(groups).total


def update(
    policy, groups, advantages=None, *, config=CONFIG, leash=LEASH, guard=OPEN, state=FRESH, **more
):
    earned = earned_by(groups)
    return update_policy(
        policy,
        [g.group for g in groups],
        earned.total if advantages is None else advantages,
        state,
        low_variance=earned.low_variance
        if advantages is None
        else np.zeros(len(groups), dtype=bool),
        config=config,
        leash=leash,
        guard=guard,
        temperature=0.8,
        seed_parts=(0,),
        **more,
    )


def adapter_bytes(policy):
    return {name: np.array(a).tobytes() for name, a in policy.adapter().items()}


def varied(token_ids):
    return sum(token_ids) % 7


def test_the_first_inner_step_has_ratio_one_and_no_clip(policy):
    """Catches old log-probs that are the sampler's, the reference's, or at another temperature."""
    groups = make_groups(policy, varied)
    update(policy, groups)  # so that policy and reference differ
    again = make_groups(policy, varied, seed=50)
    metrics = update(policy, again, config=replace_lr(n_minibatches=1)).metrics
    assert metrics["ratio_min"] == pytest.approx(1.0, abs=1e-6)
    assert metrics["ratio_max"] == pytest.approx(1.0, abs=1e-6)
    assert metrics["clip_frac"] == 0.0
    assert 0.0 < metrics["kl_sampler"] < 1e-5
    assert metrics["kl_ref"] != 0.0


@pytest.fixture(scope="module")
def half_policy():
    """The tiny policy with weights in bfloat16, its adapter in float32 and away from its start."""
    config = PolicyConfig(model=str(ROOT / "data" / "tiny-policy"), dtype="bfloat16")
    policy = load_policy(config, lora_seed=7)
    rng = np.random.default_rng(0)
    policy.set_adapter(
        {n: mx.array(rng.normal(0, 0.02, a.shape), a.dtype) for n, a in policy.adapter().items()}
    )
    return policy


@pytest.mark.parametrize("variant", ["whole groups", "longest left out", "layers recomputed"])
def test_in_bfloat16_the_first_inner_step_has_ratio_one(half_policy, variant):
    """Catches old log-probs that round otherwise than the training pass: a bfloat16 logit's last
    bit is 0.06 nats, thirty times the clip range. Leaving out the longest answer changes the shapes
    of all products; recomputing, the order of work."""
    assert half_policy.hidden(mx.array([[5, 6]])).dtype == mx.bfloat16
    assert {a.dtype for a in half_policy.adapter().values()} == {mx.float32}
    groups = make_groups(half_policy, varied)
    policy = half_policy
    if variant == "longest left out":
        groups = [with_longest_cut(g) for g in groups]
    if variant == "layers recomputed":
        policy = replace(half_policy, budget_bytes=budget_that_recomputes(half_policy, groups))
    start = dict(half_policy.adapter())
    try:
        metrics = update(policy, groups, config=replace_lr(n_minibatches=1)).metrics
    finally:
        half_policy.set_adapter(start)
    assert metrics["n_steps"] == 1
    assert metrics["n_trained"] == (12 if variant == "longest left out" else 16)
    assert metrics["ratio_min"] == pytest.approx(1.0, abs=1e-6)
    assert metrics["ratio_max"] == pytest.approx(1.0, abs=1e-6)
    assert metrics["kl_ref"] != 0.0


def with_longest_cut(rewarded_group):
    """The group whose longest forecast is said to be cut, and made longer than all others."""
    group = rewarded_group.group
    n = max(range(len(group.forecasts)), key=lambda k: len(group.forecasts[k].token_ids))
    forecast = group.forecasts[n]
    longer = replace(
        forecast,
        token_ids=(*forecast.token_ids[:-1], 5, 6, 7),
        sampler_logprobs=np.append(forecast.sampler_logprobs, [0, 0]).astype(np.float32),
        finish_reason="length",
    )
    forecasts = (*group.forecasts[:n], longer, *group.forecasts[n + 1 :])
    return replace(rewarded_group, group=replace(group, forecasts=forecasts))


def budget_that_recomputes(policy, groups):
    """Bytes with which no group's layers can be kept, but can be computed again."""
    sizes = {
        "prompt_tokens": max(len(g.group.prompt_ids) for g in groups),
        "answer_tokens": max(len(f.token_ids) for g in groups for f in g.group.forecasts),
        "group_size": 4,
        "n_streams": 1,
    }
    plan = plan_update(policy.shape(), budget_bytes=10**12, **sizes)
    while not plan.recompute:
        plan = plan_update(policy.shape(), budget_bytes=plan.peak_bytes - 1, **sizes)
    return plan.peak_bytes


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_old_and_new_log_probs_are_read_alike_in_pieces_of_any_size(dtype):
    """Catches a head that rounds by the size of its pieces: old log-probs are read beside the
    reference's, half as many positions at once as the training pass. Here 2 and 3 pieces."""
    mx.random.seed(0)
    weight = (0.3 * mx.random.normal((30_000, 32))).astype(dtype)
    hidden = mx.random.normal((200, 32)).astype(dtype)
    tokens = mx.array(np.random.default_rng(0).integers(0, 30_000, 200))
    assert rows_at_once(30_000) < 200 < 2 * rows_at_once(30_000)
    head = Head(weight)
    new = token_logprobs(head, hidden, tokens, temperature=0.8)
    beside = Seen(mx.zeros_like(hidden), head)
    old = compare(Seen(hidden, head), [beside], tokens, temperature=0.8).logprobs
    alone = plain_token_logprobs(head, hidden, tokens, temperature=0.8)
    for found in (old, alone):
        np.testing.assert_allclose(np.array(found), np.array(new), atol=1e-6)


@pytest.mark.parametrize("recompute", [False, True])
def test_a_table_that_is_embedding_and_head_has_the_gradient_of_both(policy, recompute):
    """Catches a gradient of the embedding that is lost, or goes to other tokens, where it is taken
    apart from the head's: the sum is autodiff's own."""
    from mlx.utils import tree_flatten

    config = PolicyConfig(model=str(policy.model_path), fine_tune="full")
    full = load_policy(config, lora_seed=0)
    assert full.model.args.tie_word_embeddings
    rng = np.random.default_rng(0)
    tokens = mx.array(rng.integers(10, 1900, (3, 7)))
    nothing = mx.zeros((3,))
    batch = StepBatch((9, 10, 11, 10), tokens, tokens, tokens, tokens, nothing, nothing)

    def loss_of(batch, *, embedded=None):
        found = response_logprobs(
            full, batch.prompt_ids, batch.tokens, temperature=0.8, trains=True,
            recompute=recompute, embedded=embedded,
        )  # fmt: skip
        return ((found * mx.arange(7)).mean(),)

    built = [differentiated(full, loss_of)(batch) for _ in range(2)]
    total = {}
    add_up(total, [gradients for _, gradients in built])
    (plain_value,), plain = nn.value_and_grad(full.model, loss_of)(batch)
    assert built[0][0][0].item() == plain_value.item()
    assert total.keys() == dict(tree_flatten(plain)).keys()
    for name, b in tree_flatten(plain):
        size = float(mx.abs(b).max().item())
        np.testing.assert_allclose(
            np.array(total[name]) / 2, np.array(b), atol=2e-6 * size, err_msg=name
        )


def test_a_head_of_its_own_trains(policy, tmp_path):
    """Catches a model whose head is no embedding (Qwen3 from 4B on) and is read or trained as if it
    were: log-probs' gradients are those of the stock model."""
    from mlx.utils import tree_flatten
    from mlx_lm.utils import load_model

    folder = tmp_path / "untied"
    shutil.copytree(policy.model_path, folder)
    shape = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(shape))
    weights = dict(mx.load(str(folder / "model.safetensors")))
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"][::-1] * 1.5
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    full = load_policy(PolicyConfig(model=str(folder), fine_tune="full"), lora_seed=0)
    prompt = (9, 10, 11, 10)
    tokens = mx.array(np.random.default_rng(0).integers(10, 1900, (3, 7)))
    batch = StepBatch(prompt, tokens, tokens, tokens, tokens, mx.zeros((3,)), mx.zeros((3,)))

    def loss_of(batch, **_):
        found = response_logprobs(full, prompt, batch.tokens, temperature=0.8, trains=True)
        return ((found * mx.arange(7)).mean(),)

    _, gradients = differentiated(full, loss_of)(batch)
    found = {}
    add_up(found, [gradients])
    stock, _ = load_model(folder)

    def plain(tokens):
        ids = mx.concatenate([mx.array([prompt] * 3), tokens], axis=1)
        logits = stock(ids)[:, len(prompt) - 1 : -1] / 0.8
        logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        chosen = mx.take_along_axis(logprobs, tokens[..., None], axis=-1)[..., 0]
        return (chosen * mx.arange(7)).mean()

    _, expected = nn.value_and_grad(stock, plain)(tokens)
    expected = dict(tree_flatten(expected))
    assert found.keys() == expected.keys() and "lm_head.weight" in found
    for name, b in expected.items():
        size = float(mx.abs(b).max().item())
        np.testing.assert_allclose(
            np.array(found[name]), np.array(b), atol=2e-5 * size, err_msg=name
        )


def test_gradients_are_added_up_and_used_up():
    """Catches a sum that leaves out a micro-batch, or holds on to what was added."""
    total = {"a.b.0.c": mx.array([1.0])}
    found = [
        Gradients({"a.b.0.c": mx.array([10.0]), "a.b.1.c": mx.array([20.0])}),
        Gradients({"a.b.0.c": mx.array([100.0]), "a.b.1.c": mx.array([200.0])}),
    ]
    add_up(total, found)
    assert {name: array.item() for name, array in total.items()} == {
        "a.b.0.c": 111.0, "a.b.1.c": 220.0,
    }  # fmt: skip
    assert not any(one.by_name for one in found)


def test_processes_bring_their_gradients_in_the_order_of_the_weights(policy, monkeypatch):
    """Catches gradients in the order in which they were found: processes are summed place by place,
    and one that got no group brings zeros in the order of the weights."""
    from mlx.utils import tree_flatten

    seen = []
    monkeypatch.setattr(policy.cluster, "sum_gradients", lambda tree: (seen.append(tree), tree)[1])
    update(policy, make_groups(policy, varied))
    for tree in seen:
        assert [name for name, _ in tree_flatten(tree)] == list(policy.adapter())
    assert seen


def replace_lr(**changes):
    return CONFIG.model_copy(update=changes)


@pytest.mark.parametrize("sign", [+1, -1])
def test_a_toy_reward_rises_and_falls_with_its_sign(policy, sign):
    """Catches a wrong sign anywhere between reward and weight; chance cannot explain it: the
    share of one common token moves by a third in twelve updates, up or down as asked."""
    token = _common_token(policy)

    def share(ids):
        return ids.count(token) / len(ids)

    state, shares = FRESH, []
    for i in range(12):
        groups = make_groups(policy, lambda ids: sign * share(ids), n=8, seed=10_000 * i)
        shares.append(np.mean([share(f.token_ids) for g in groups for f in g.group.forecasts]))
        state = update(policy, groups, config=replace_lr(lr=5e-3), state=state).state
        policy.version = 0
    first, last = np.mean(shares[:2]), np.mean(shares[-2:])
    assert (last / first - 1) * sign > 1 / 3


def _common_token(policy):
    """The token sampled most often that is not in every forecast's same place."""
    groups = make_groups(policy, varied, n=8)
    ids = [i for g in groups for f in g.group.forecasts for i in f.token_ids]
    values, counts = np.unique(ids, return_counts=True)
    return int(values[np.argsort(counts)[-2]])


def test_the_stop_token_is_trained(policy):
    """Catches a mask that leaves the stop token out: nothing would teach the policy to stop."""
    stop = next(iter(policy.eos_ids))
    prompt = policy.prompts.encode(TITLES[0])
    samples = [((stop,), np.zeros(1, np.float32)), ((5,), np.zeros(1, np.float32))]

    def logprob():
        tokens, _ = pad_responses([(stop,)])
        return response_logprobs(policy, prompt, tokens, temperature=0.8).item()

    before = logprob()
    group = rewarded(policy, TITLES[0], prompt, samples, lambda ids: ids[0] == stop)
    update(policy, [group])
    assert logprob() > before + 0.01


def test_equal_rewards_are_refused_and_leave_the_policy_as_it_was(policy):
    """Catches a scorer that says the same of everything: there is nothing to learn, and a leash
    alone is no day's work."""
    before = adapter_bytes(policy)
    state = TrainerState(kl_coef=0.1, n_updates=3, lr_scale=0.5)
    result = update(policy, make_groups(policy, lambda ids: 0.3), state=state)
    assert result.refused == "no group left to learn from: n_low_variance 4"
    assert result.metrics["n_zero_variance"] == result.metrics["n_low_variance"] == len(TITLES)
    assert result.metrics["guard"] == [f"refuse: {result.refused}"]
    assert adapter_bytes(policy) == before
    # No step was taken, so none is to blame.
    assert result.state == state


def test_the_gradient_depends_on_the_prompt(policy):
    """Catches training on the answer alone."""
    groups = make_groups(policy, varied)
    elsewhere = policy.prompts.encode("A wholly different headline about penguins")
    moved = [Rewarded(replace(g.group, prompt_ids=tuple(elsewhere)), g.rewards) for g in groups]
    norms = []
    for variant in (groups, moved):
        start = dict(policy.adapter())
        norms.append(update(policy, variant).metrics["grad_norm"])
        policy.set_adapter(start)
    assert abs(norms[0] - norms[1]) > 1e-3 * norms[0]


def test_order_of_groups_and_forecasts_changes_nothing(policy):
    """Catches an update that depends on the order in which rows left the database."""
    groups = make_groups(policy, varied)
    shuffled = [
        Rewarded(replace(g.group, forecasts=g.group.forecasts[::-1]), tuple(reversed(g.rewards)))
        for g in reversed(groups)
    ]
    start = dict(policy.adapter())
    update(policy, groups)
    straight = policy.adapter()
    policy.set_adapter(start)
    update(policy, shuffled)
    for name, array in policy.adapter().items():
        # Adam divides by the gradient's own size, so last bits of a small one show; 2 % of a step.
        np.testing.assert_allclose(np.array(array), np.array(straight[name]), atol=4e-5)


def test_an_advantage_belongs_to_its_own_forecast(policy):
    """Catches rows of advantages that are not reordered with their groups: of two forecasts of one
    token each, the one with the advantage becomes likelier, in every group."""
    first, second = 5, 6
    samples = [((first,), np.zeros(1, np.float32)), ((second,), np.zeros(1, np.float32))]
    prompts = [policy.prompts.encode(title) for title in TITLES]
    groups = [
        rewarded(policy, title, prompt, samples, lambda ids: 0.0)
        for title, prompt in zip(TITLES, prompts, strict=True)
    ]
    advantages = np.array([[1.0, -1.0], [-1.0, 1.0], [-1.0, 1.0], [1.0, -1.0]])
    tokens, _ = pad_responses([(first,), (second,)])

    def leads():
        found = [response_logprobs(policy, p, tokens, temperature=0.8) for p in prompts]
        return np.array([(row[0] - row[1]).item() for row in found])

    before, state = leads(), FRESH
    for _ in range(8):
        # Clip wide open, so that each step counts.
        config = replace_lr(lr=5e-3, n_minibatches=1, clip_low=0.9, clip_high=9.0)
        state = update(policy, groups, advantages, config=config, state=state).state
    assert ((leads() - before) * advantages[:, 0] > 0.01).all()


def test_the_same_update_gives_the_same_bits(policy):
    """Catches hidden randomness: a resumed day must end in the same weights."""
    groups = make_groups(policy, varied)
    start, found = dict(policy.adapter()), []
    for _ in range(2):
        policy.set_adapter(start)
        update(policy, groups)
        found.append(adapter_bytes(policy))
    assert found[0] == found[1]


def test_a_group_dealt_out_to_streams_is_the_same_update(policy):
    """Catches micro-batches that lose a forecast, or weigh their halves as wholes: odd groups on
    one stream, two and three come to the same steps."""
    start, streams = dict(policy.adapter()), policy.streams
    groups = make_groups(policy, varied, n=5)
    found = []
    try:
        for n in (1, 2, 3):
            policy.set_adapter(start)
            policy.streams = streams[:1] * n
            metrics = update(policy, groups).metrics
            found.append((metrics["loss"], metrics["grad_norm"], metrics["ratio_max"]))
    finally:
        policy.streams = streams
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-4, atol=1e-7)


def test_kl_is_zero_at_the_start_and_positive_after_a_step(policy):
    """Catches a reference that moves with the policy, and a KL with the wrong sign."""
    first = update(policy, make_groups(policy, varied), config=replace_lr(lr=5e-3))
    assert first.metrics["kl_ref"] == pytest.approx(0.0, abs=1e-4)
    assert first.metrics["kl_update"] > 0.0
    groups = make_groups(policy, varied, n=16, seed=99)
    second = update(policy, groups, state=first.state, config=replace_lr(lr=5e-3))
    assert second.metrics["kl_ref"] > 1e-3


def test_a_tight_leash_holds_the_policy_back(policy):
    """Catches a KL term with the wrong sign: it would push away from the reference."""
    start, kl, token = dict(policy.adapter()), {}, _common_token(policy)
    for kl_coef in (0.0, 30.0):
        policy.set_adapter(start)
        state = TrainerState(kl_coef=kl_coef)
        leash = LeashConfig(kl_coef=kl_coef, min_kl_coef=kl_coef, max_kl_coef=max(kl_coef, 0.1))
        for i in range(6):
            groups = make_groups(policy, lambda ids: ids.count(token), n=8, seed=777 * i)
            result = update(policy, groups, leash=leash, state=state, config=replace_lr(lr=5e-3))
            state = result.state
        kl[kl_coef] = result.metrics["kl_ref_after"]
    assert kl[30.0] < kl[0.0] / 2


@pytest.mark.parametrize("kind", ["reward", "loss"])
@pytest.mark.parametrize("looks_at_all", [True, False])
def test_a_policy_past_the_limit_may_come_back(policy, kind, looks_at_all, monkeypatch):
    """Catches a policy that is refused every step for being where it should be leaving, and a leash
    of either kind that pushes instead of pulling."""
    if looks_at_all:
        monkeypatch.setattr(measure, "_MIN_GUARDED", 1000)
    state, token = FRESH, _common_token(policy)
    for i in range(4):
        groups = make_groups(policy, lambda ids: ids.count(token), n=8, seed=777 * i)
        state = update(policy, groups, state=state, config=replace_lr(lr=5e-3)).state
    tight = LeashConfig(kind=kind, kl_coef=30.0, min_kl_coef=30.0, max_kl_coef=30.0, kl_limit=1e-6)
    groups = make_groups(policy, varied, n=8, seed=9999)
    # Without the moments that took it there, which would carry it on for a while.
    state = replace(state, kl_coef=30.0, optimizer={})
    result = update(policy, groups, leash=tight, state=state)
    assert result.metrics["kl_ref"] > tight.kl_limit
    if looks_at_all:  # else they are of other forecasts
        assert result.metrics["kl_ref_after"] < result.metrics["kl_ref"]
    assert result.refused is None


def test_a_step_that_is_too_long_is_taken_again_shorter(policy):
    """Catches a day lost to a step that half its length would have kept inside the leash."""
    groups = make_groups(policy, varied, n=8)
    start = dict(policy.adapter())
    reached = []
    for lr in (4e-3, 2e-3):
        policy.set_adapter(start)
        config = replace_lr(lr=lr)
        reached.append(update(policy, groups, config=config).metrics["kl_ref_after"])
    assert reached[0] > reached[1]
    policy.set_adapter(start)
    leash = LeashConfig(kl_coef=0.0, min_kl_coef=0.0, kl_limit=(reached[0] + reached[1]) / 2)
    result = update(policy, groups, leash=leash, config=replace_lr(lr=4e-3))
    assert result.refused is None
    assert result.metrics["n_attempts"] == 2
    assert result.metrics["lr"] == 2e-3
    assert result.metrics["kl_ref_after"] == reached[1]
    assert int(result.state.optimizer["step"].item()) == 2


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_advantage_that_is_not_finite_stops_the_update(policy, bad):
    """Catches a NaN that reaches the weights; the parent must stay live, bit for bit."""
    before = adapter_bytes(policy)
    groups = make_groups(policy, varied)
    advantages = advantages_of(groups)
    advantages[1, 0] = bad
    result = update(policy, groups, advantages)
    assert "finite" in result.refused
    assert adapter_bytes(policy) == before
    assert result.state.n_updates == 0


def test_an_update_past_the_hard_end_of_the_leash_is_undone(policy):
    """Catches a limit that is logged and not kept."""
    before = adapter_bytes(policy)
    leash = LeashConfig(kl_limit=1e-6)
    result = update(
        policy,
        make_groups(policy, varied),
        leash=leash,
        config=replace_lr(lr=5e-3, steer_lr=True),
        state=TrainerState(kl_coef=0.05),
    )
    assert "past the limit" in result.refused
    # Twice the leash for the second attempt, and twice for tomorrow, when there is more behind it:
    # at a lower rate it could not pull the policy back.
    assert result.metrics["n_attempts"] == 2
    assert result.metrics["leash_strength"] == result.state.kl_coef == 0.1
    assert result.state.lr_scale == 1.0
    assert result.state.n_updates == 0 and not result.state.optimizer
    assert adapter_bytes(policy) == before


def test_exploding_weights_are_refused(policy):
    """Catches a non-finite weight or log-prob that is published."""
    before = adapter_bytes(policy)
    result = update(policy, make_groups(policy, varied), config=replace_lr(lr=1e30))
    assert result.refused
    assert adapter_bytes(policy) == before


def test_groups_of_another_version_are_refused(policy):
    """Catches off-policy data passed for on-policy."""
    groups = make_groups(policy, varied)
    policy.version = 3
    with pytest.raises(StalePolicyError, match=r"made by policy v0 but the live policy is v3"):
        update(policy, groups)


def test_optimizer_state_goes_on_where_it_was(policy):
    """Catches an optimiser that starts anew every day: bias correction would double the step."""
    groups = make_groups(policy, varied)
    first = update(policy, groups)
    second = update(policy, groups, state=first.state)
    steps = [int(s.state.optimizer["step"].item()) for s in (first, second)]
    assert steps == [2, 4]  # two minibatches a day
    assert second.state.n_updates == 2


def test_a_small_day_is_measured_on_a_quarter_of_it():
    """Catches a guard whose passes cost a small day a forward pass more than a large one."""
    sizes = (1, 2, 4, 8, 16, 20, 32, 256)
    assert [n_guarded(n, 8) for n in sizes] == [8, 8, 4, 2, 4, 5, 8, 8]
    assert [n_guarded(n, 8) * n_after(n) for n in sizes] == [8, 16, 16, 16, 32, 40, 64, 64]
    assert n_guarded(8, 5) == 2  # 16 of 40


def test_the_guard_holds_before_against_after_on_the_same_forecasts(policy, monkeypatch):
    """Catches a KL of all the group's forecasts set against one of its first, or of as many others;
    and hidden states of those that are left out kept through the steps."""
    monkeypatch.setattr(measure, "_MIN_GUARDED", len(TITLES))
    update(policy, make_groups(policy, varied), config=replace_lr(lr=5e-3))
    groups = [rewarded.group for rewarded in make_groups(policy, varied, seed=90)]
    before = measure_before(
        policy, groups, from_sampler=False, max_kl_sampler=0.0, n_first=1, temperature=0.8,
        on_group=lambda: None,
    )  # fmt: skip
    firsts = [measured.kl[:1] for measured in before.groups]
    assert distances_before(policy, before.guarded).kl_ref == pytest.approx(np.mean(firsts))
    assert np.mean(firsts) != pytest.approx(np.mean([m.kl for m in before.groups]), rel=1e-3)
    for one, group in zip(before.guarded, groups, strict=True):
        n_tokens = len(group.forecasts[0].token_ids)
        assert one.tokens.shape == (1, n_tokens) and one.mask.sum().item() == n_tokens
        assert one.old.hidden.shape[0] == one.ref.hidden.shape[0] == n_tokens
    now = measure_after(policy, before.guarded, temperature=0.8, on_group=lambda: None)
    assert now.kl_update == pytest.approx(0.0, abs=1e-5)
    assert now.kl_ref == pytest.approx(np.mean(firsts), rel=1e-4)


def test_progress_counts_every_pass(policy):
    """Catches a bar that stops at half or runs past its end."""
    groups = make_groups(policy, varied)
    ticks = []
    update(policy, groups, on_group=lambda: ticks.append(1))
    assert len(ticks) == n_update_ticks(len(groups))


def test_progress_goes_on_between_the_groups_of_a_minibatch(policy, monkeypatch):
    """Catches a bar that stands still for a minibatch and then jumps: between the ticks of two
    groups there are gradients that are added up."""
    groups = make_groups(policy, varied)
    seen = []
    add = steps.add_up
    monkeypatch.setattr(steps, "add_up", lambda *a, **k: (seen.append("+"), add(*a, **k)))
    update(policy, groups, config=replace_lr(n_minibatches=1), on_group=lambda: seen.append("."))
    in_steps = "".join(seen)[len(groups) : -len(groups)]
    assert in_steps.count(".") == len(groups) and "+.+" in in_steps and ".." not in in_steps


# -- what trains


def answers(policy, *, title=TITLES[0], tokens=((5,), (6,)), sampler_off=None, reasons=None):
    """One hand-made group; `sampler_off` is added to what the sampler says of each answer."""
    prompt = policy.prompts.encode(title)
    padded, _ = pad_responses([t or (0,) for t in tokens])
    true = np.array(response_logprobs(policy, prompt, padded, temperature=0.8))
    offs = sampler_off or [0.0] * len(tokens)
    samples = [(t, (true[i, : len(t)] + offs[i]).astype(np.float32)) for i, t in enumerate(tokens)]
    made = rewarded(policy, title, prompt, samples, lambda ids: 0.0)
    forecasts = tuple(
        replace(f, finish_reason=reason)
        for f, reason in zip(made.group.forecasts, reasons or ["stop"] * len(tokens), strict=True)
    )
    return Rewarded(replace(made.group, forecasts=forecasts), made.rewards)


def bytes_after(policy, groups, advantages, **changes):
    """Adapter after an update from the same start, which is put back."""
    start = dict(policy.adapter())
    result = update(policy, groups, np.array(advantages), **changes)
    found = adapter_bytes(policy)
    policy.set_adapter(start)
    return found, result


def test_a_forecast_that_was_cut_has_no_part_in_the_update(policy):
    """Catches an overlong answer that trains: whatever its advantage, the weights are the same."""
    group = answers(policy, tokens=((5,), (6,), (7, 8)), reasons=["stop", "stop", "length"])
    first, result = bytes_after(policy, [group], [[1.0, -1.0, -1.0]])
    other, _ = bytes_after(policy, [group], [[1.0, -1.0, 2.0]])
    assert first == other
    assert result.metrics["n_overlong"] == 1
    assert result.metrics["n_trained"] == 2
    config = replace_lr(mask_overlong=False)
    kept = [bytes_after(policy, [group], [[1.0, -1.0, a]], config=config)[0] for a in (-1.0, 2.0)]
    assert kept[0] != kept[1]


def test_an_answer_without_a_token_is_left_out_and_counted(policy):
    """Catches a day that ends in an exception, or a length of 0 that becomes NaN."""
    group = answers(policy, tokens=((5,), (), (6,)))
    empty = answers(policy, title=TITLES[1], tokens=((), (), ()))
    found, result = bytes_after(policy, [group, empty], [[1.0, 0.5, -1.0], [1.0, 0.0, -1.0]])
    assert result.refused is None
    assert result.metrics["n_trained"] == 2
    assert (result.metrics["n_empty"], result.metrics["n_too_few"]) == (4, 1)
    alone, _ = bytes_after(policy, [answers(policy)], [[1.0, -1.0]])
    assert found == alone
    none, refusal = bytes_after(policy, [empty], [[1.0, 0.0, -1.0]])
    assert refusal.refused == "no group left to learn from: 1 without a token"
    assert none == adapter_bytes(policy)


def test_a_group_with_one_finished_forecast_does_not_train(policy):
    """Catches an advantage over forecasts that are not there any more."""
    lone = answers(policy, reasons=["stop", "length"])
    other = answers(policy, title=TITLES[1])
    found, result = bytes_after(policy, [lone, other], [[1.0, -1.0], [1.0, -1.0]])
    assert (result.metrics["n_too_few"], result.metrics["n_trained"]) == (1, 2)
    assert result.metrics["n_groups"] == 2
    alone, _ = bytes_after(policy, [other], [[1.0, -1.0]])
    assert found == alone


def test_a_group_that_hardly_differs_does_not_train(policy):
    """Catches a decision that is counted and not obeyed."""
    groups = [answers(policy), answers(policy, title=TITLES[1])]
    args = {"config": CONFIG, "leash": LEASH, "guard": OPEN, "temperature": 0.8, "seed_parts": (0,)}
    result = update_policy(
        policy,
        [g.group for g in groups],
        np.array([[1.0, -1.0], [1.0, -1.0]]),
        FRESH,
        low_variance=np.array([False, True]),
        **args,
    )
    assert (result.metrics["n_low_variance"], result.metrics["n_trained"]) == (1, 2)


def test_what_the_sampler_made_too_rarely_counts_for_more(policy):
    """Catches a weight upside down, one that is computed and not used, and one without bounds."""
    config = replace_lr(tis=True, n_minibatches=1)
    # exp(0.405465) = 1.5: the trainer finds the first answer half as likely again.
    group = answers(policy, sampler_off=[-0.405465, 0.0])
    _, result = bytes_after(policy, [group], [[1.0, -1.0]], config=config)
    # At a ratio of 1 the loss is −(1.5 · 1 − 1 · 1) / 2.
    assert result.metrics["loss"] == pytest.approx(-0.25, abs=1e-4)
    assert result.metrics["tis_mean"] == pytest.approx(1.25, abs=1e-4)
    # exp(1) = 2.7 is outside [0.5, 2].
    far = answers(policy, tokens=((5,), (6,), (7,)), sampler_off=[0.0, 0.0, -1.0])
    found, result = bytes_after(policy, [far], [[1.0, -1.0, 0.5]], config=config)
    assert (result.metrics["n_off_sampler"], result.metrics["n_trained"]) == (1, 2)
    other, _ = bytes_after(policy, [far], [[1.0, -1.0, -2.0]], config=config)
    assert found == other


@pytest.mark.parametrize(
    ("allowed", "old_from", "ratio"), [(1e-3, "sampler", 0.9999), (1e-5, "recomputed", 1.0)]
)
def test_the_ratio_is_against_the_log_probs_that_are_called_old(policy, allowed, old_from, ratio):
    """Catches a switch that compares with the sampler's numbers and trains against others, or that
    takes them though they are off."""
    groups = [answers(policy, title=f"Headline {n}", sampler_off=[1e-4, 1e-4]) for n in range(12)]
    config = replace_lr(old_logprobs="sampler", max_kl_sampler=allowed, n_minibatches=1, tis=True)
    _, result = bytes_after(policy, groups, [[1.0, -1.0]] * 12, config=config)
    assert result.metrics["old_from"] == old_from
    assert result.metrics["kl_sampler"] == pytest.approx(1e-4, abs=5e-6)
    assert result.metrics["ratio_mean"] == pytest.approx(ratio, abs=5e-6)


def test_both_forms_take_the_same_step(policy):
    """Catches a form that is configured and not used right: with one advantage a forecast, GSPO and
    GSPO-token are one."""
    groups = make_groups(policy, varied)
    advantages = advantages_of(groups)
    found = [
        bytes_after(policy, groups, advantages, config=replace_lr(form=form))[1].metrics
        for form in ("sequence", "token")
    ]
    for name in ("loss", "grad_norm", "kl_update", "clip_frac"):
        assert found[1][name] == pytest.approx(found[0][name], rel=1e-2), name


# -- the guard


def test_a_rate_a_thousand_times_too_high_is_refused_at_once(policy):
    """Catches a slip of three digits that costs a policy of weeks; the next day is calmer."""
    before = adapter_bytes(policy)
    groups = make_groups(policy, varied, n=8)
    config = replace_lr(lr=CONFIG.lr * 1000, steer_lr=True)
    for guard in (GuardConfig(), GuardConfig(kl_redo=3.0, kl_refuse=6.0)):
        result = update(policy, groups, config=config, guard=guard)
        assert result.refused
        assert result.metrics["guard"][-1] == f"refuse: {result.refused}"
        assert adapter_bytes(policy) == before
        assert result.state.lr_scale == 0.5
        assert result.state.n_updates == 0 and not result.state.optimizer


def test_a_redo_starts_from_the_parent_at_half_the_rate(policy):
    """Catches a second attempt on top of the first, or with the first one's optimiser: bit for bit
    it is the update that half the rate would have made."""
    groups = make_groups(policy, varied, n=8)
    advantages = advantages_of(groups)
    plain, first = bytes_after(policy, groups, advantages, config=replace_lr(lr=4e-3))
    half, _ = bytes_after(policy, groups, advantages, config=replace_lr(lr=2e-3))
    guard = OPEN.model_copy(update={"kl_redo": 0.9 * first.metrics["kl_update"]})
    ticks = []
    redone, result = bytes_after(
        policy,
        groups,
        advantages,
        config=replace_lr(lr=4e-3, steer_lr=True, kl_day_high=guard.kl_redo),
        guard=guard,
        on_group=lambda: ticks.append(1),
    )
    assert plain != half
    assert redone == half
    assert (result.metrics["n_attempts"], result.metrics["lr"]) == (2, 2e-3)
    assert [line.split(":")[0] for line in result.metrics["guard"]] == ["accept", "redo", "accept"]
    # Steered by what the rate itself came to, not by what half of it did.
    assert result.state.lr_scale == pytest.approx(2 / 3)
    assert len(ticks) == n_update_ticks(len(groups))


def test_a_spike_is_left_out_and_a_second_one_ends_the_day(policy):
    """Catches a guard that looks after the optimiser has stepped."""
    groups = make_groups(policy, varied)
    advantages = advantages_of(groups)
    _, plain = bytes_after(policy, groups, advantages)
    # Between the two steps' norms, so that one of them is a spike; then below both.
    guard = OPEN.model_copy(update={"min_spike": plain.metrics["grad_norm"]})
    moved, result = bytes_after(policy, groups, advantages, guard=guard)
    assert (result.metrics["n_skipped_steps"], result.metrics["n_steps"]) == (1, 1)
    assert int(result.state.optimizer["step"].item()) == 1
    assert [line for line in result.metrics["guard"] if line.startswith("skip: gradient norm")]
    assert moved != adapter_bytes(policy)
    guard = OPEN.model_copy(update={"min_spike": 1e-9})
    found, result = bytes_after(policy, groups, advantages, guard=guard)
    assert "the second step of the day" in result.refused
    assert found == adapter_bytes(policy)
    # The running norm is of accepted updates, and raises what counts as a spike.
    state = replace(FRESH, grad_norm_ema=plain.metrics["max_grad_norm"])
    _, result = bytes_after(policy, groups, advantages, guard=guard, state=state)
    assert result.refused is None
    assert result.state.grad_norm_ema == pytest.approx(
        0.9 * plain.metrics["max_grad_norm"] + 0.1 * plain.metrics["grad_norm"]
    )


def test_a_reward_for_length_is_refused(policy):
    """Catches a scorer that pays by the word: every day would look like progress."""
    lengths = (2, 4, 6, 8, 10, 12, 14, 16)
    groups = [
        answers(policy, title=title, tokens=[tuple(range(5, 5 + n)) for n in lengths])
        for title in TITLES
    ]
    paid = (np.array(lengths) - 9.0) / 5
    before = adapter_bytes(policy)
    result = update(policy, groups, np.tile(paid, (4, 1)), guard=GuardConfig())
    assert "advantages follow the length of the answer: correlation +1.00 over 32" in result.refused
    assert adapter_bytes(policy) == before
    assert result.state == FRESH


def test_forecasts_of_another_temperature_are_refused(policy):
    """Catches a sampler and a trainer that do not mean the same policy."""
    settings = replace(SHORT, temperature=1.2)
    groups = make_groups(policy, varied, settings=settings)
    result = update(policy, groups, guard=GuardConfig(), config=replace_lr(tis=True))
    assert "sampler and trainer disagree" in result.refused


def test_a_policy_that_has_lost_its_entropy_is_refused(policy):
    """Catches a guard that compares the day's entropy with nothing, or with another day's than the
    run's first update's."""
    groups = make_groups(policy, varied)
    found = update(policy, groups).metrics["entropy"]
    before = adapter_bytes(policy)
    for factor, is_fine in ((3.5, True), (4.5, False), (0.4, False)):
        state = replace(FRESH, n_updates=9, entropy_first=factor * found)
        result = update(policy, make_groups(policy, varied, seed=9), state=state, guard=OPEN)
        assert (result.refused is None) == is_fine
        if not is_fine:
            assert f"at the first update {factor * found:.3g}: outside" in result.refused
            assert adapter_bytes(policy) == before and result.state == state
        before = adapter_bytes(policy)


# -- steering and state


def test_steering_follows_what_was_measured_and_is_obeyed(policy):
    """Catches a factor that is written down and not multiplied in, or moved on a refused day."""
    groups = make_groups(policy, varied)
    advantages = advantages_of(groups)
    on = {"steer_lr": True, "steer_clip": True}
    slow = replace_lr(kl_day_low=1e6, kl_day_high=1e7, clip_low=0.9, clip_high=9.0, **on)
    fast = replace_lr(kl_day_low=0.0, kl_day_high=1e-9, clip_low=1e-7, clip_high=1e-7, **on)
    _, found = bytes_after(policy, groups, advantages, config=slow)
    assert (found.state.lr_scale, found.state.clip_scale) == (1.25, 0.8)
    _, found = bytes_after(policy, groups, advantages, config=fast)
    assert found.metrics["clip_frac"] > 0.2
    assert (found.state.lr_scale, found.state.clip_scale) == (pytest.approx(2 / 3), 1.25)
    # 0.05 lets all pass; a hundredth of it does not.
    narrow = {"clip_low": 0.05 * 0.01, "clip_high": 0.05 * 0.01}
    made = {
        name: bytes_after(policy, groups, advantages, config=replace_lr(**config), state=state)[0]
        for name, config, state in (
            ("plain", {}, FRESH),
            ("narrow", {}, replace(FRESH, clip_scale=0.01)),
            ("narrow by config", narrow, FRESH),
            ("slow", {}, replace(FRESH, lr_scale=0.5)),
            ("slow by config", {"lr": 1e-3}, FRESH),
        )
    }
    assert made["narrow"] == made["narrow by config"] != made["plain"]
    assert made["slow"] == made["slow by config"] != made["plain"]
    _, still = bytes_after(policy, groups, advantages)
    assert (still.state.lr_scale, still.state.clip_scale) == (1.0, 1.0)


def test_a_runs_first_updates_are_held_back(policy):
    """Catches a first step of full length, when Adam's moments are those of one batch."""
    groups = make_groups(policy, varied)
    config = replace_lr(n_warmup=2)
    rates = [
        update(policy, groups, config=config, state=replace(FRESH, n_updates=n)).metrics["lr"]
        for n in range(3)
    ]
    assert rates == pytest.approx([6e-4, 6e-4, 2e-3])


def test_the_first_entropy_is_kept(policy):
    """Catches an entropy measured against yesterday's, which falls by a little every day."""
    groups = make_groups(policy, varied)
    first = update(policy, groups)
    assert first.state.entropy_first == first.metrics["entropy"]
    second = update(policy, make_groups(policy, varied, seed=70), state=first.state)
    assert second.metrics["entropy"] != first.metrics["entropy"]
    assert second.state.entropy_first == first.metrics["entropy"]


def test_entropy_and_kl_are_those_of_the_whole_vocabulary(policy):
    """Catches an estimate from the sampled tokens under an exact name: the KL's estimates agree
    with it on the mean of many samples, and it is never below zero for any of them."""
    state, token = FRESH, _common_token(policy)
    for i in range(3):
        groups = make_groups(policy, lambda ids: ids.count(token), n=8, seed=777 * i)
        state = update(policy, groups, state=state, config=replace_lr(lr=5e-3)).state
    groups = make_groups(policy, varied, n=32, seed=5)
    found = update(policy, groups).metrics
    assert found["kl_ref"] > 0.1
    assert found["kl_k3"] == pytest.approx(found["kl_ref"], rel=0.4)
    assert found["kl_k1"] == pytest.approx(found["kl_ref"], rel=0.4)
    assert found["kl_base_after"] == found["kl_ref_after"]


@pytest.mark.parametrize("n_looked_at", [4, 1])
@pytest.mark.parametrize("fine_tune", ["lora", "full"])
def test_the_distances_of_an_update_are_exact(request, fine_tune, n_looked_at, monkeypatch):
    """Catches an estimate in their place, a KL the wrong way round, one of other forecasts than
    those that the guard looks at, and parent, reference and base mistaken for each other: all
    three differ here, the head too where every weight trains."""
    monkeypatch.setattr(measure, "_MIN_GUARDED", n_looked_at * len(TITLES))
    if fine_tune == "lora":
        policy = request.getfixturevalue("policy")
    else:
        path = request.getfixturevalue("policy").model_path
        policy = load_policy(PolicyConfig(model=str(path), fine_tune="full"), lora_seed=0)
    rate = replace_lr(lr=2e-3 if fine_tune == "lora" else 3e-4)
    update(policy, make_groups(policy, varied), config=rate)
    policy.set_reference(policy.adapter())
    update(policy, make_groups(policy, varied, seed=50), config=rate)
    groups = make_groups(policy, varied, seed=90)
    parent = dict(policy.adapter())
    base = dict(policy.base) if fine_tune == "full" else None
    found = update(policy, groups, config=rate).metrics
    assert found["refused"] is None
    new = _log_softmax(policy, groups)
    with policy.as_reference():
        ref = _log_softmax(policy, groups)
    with policy.tied_to_base(), policy.as_reference():
        from_base = _log_softmax(policy, groups)
    policy.set_adapter(parent)
    old = _log_softmax(policy, groups)
    for name, other in (("kl_update", old), ("kl_ref_after", ref), ("kl_base_after", from_base)):
        looked_at = _mean_kl(*(_firsts(rows, groups, n_looked_at) for rows in (new, other)))
        assert found[name] == pytest.approx(looked_at, rel=1e-3, abs=1e-3)
    assert found["kl_ref"] == pytest.approx(_mean_kl(old, ref), rel=1e-3, abs=1e-3)
    assert found["kl_update"] > 0.01
    assert len({round(found[n], 3) for n in ("kl_update", "kl_ref_after", "kl_base_after")}) == 3
    assert base is None or all(mx.array_equal(base[n], policy.base[n]).item() for n in base)


def _log_softmax(policy, groups):
    """(T, V) log-probs of each forecast, one at a time and by mlx_lm's own forward pass."""
    rows = []
    for group in (g.group for g in groups):
        for forecast in group.forecasts:
            ids = mx.array([[*group.prompt_ids, *forecast.token_ids]])
            logits = policy.model(ids)[0, len(group.prompt_ids) - 1 : -1] / 0.8
            logits = np.array(logits, dtype=np.float64)
            rows.append(logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True))
    return rows


def _firsts(rows, groups, n):
    """Of each forecast's row those of each group's first n."""
    return [row for row, k in zip(rows, [*range(4)] * len(groups), strict=True) if k < n]


def _mean_kl(ones, others):
    sums = [(np.exp(a) * (a - b)).sum() for a, b in zip(ones, others, strict=True)]
    return float(np.mean(sums))


# -- the reference


def test_a_reset_ties_the_leash_to_the_policy_as_it_is(policy):
    """Catches a reference that moves with the policy, an optimiser that goes on pulling at the old
    leash, and a frozen base that is forgotten."""
    groups = make_groups(policy, varied, n=8)
    first = update(policy, groups, config=replace_lr(lr=5e-3))
    assert first.state.optimizer
    state = reset_reference(policy, first.state)
    assert not state.optimizer
    assert state.last_reset == 1
    assert replace(state, optimizer=first.state.optimizer, last_reset=None) == first.state
    again = make_groups(policy, varied, n=8, seed=40)
    second = update(policy, again, state=state, config=replace_lr(lr=5e-3)).metrics
    assert second["kl_ref"] == pytest.approx(0.0, abs=1e-4)
    assert second["kl_ref_after"] > 1e-3
    assert second["kl_base_after"] > second["kl_ref_after"]


def test_the_frozen_base_keeps_a_ceiling_of_its_own(policy):
    """Catches a policy that walks away from the base by one reference after the other."""
    policy.set_reference(policy.adapter())
    before = adapter_bytes(policy)
    leash = LeashConfig(kl_coef=0.0, min_kl_coef=0.0, kl_limit=1e9, base_kl_limit=1e-6)
    result = update(policy, make_groups(policy, varied), leash=leash)
    assert "KL to the frozen base would be" in result.refused
    assert adapter_bytes(policy) == before


def test_the_reference_is_left_exactly_even_by_an_error(policy):
    """Catches a policy that serves its reference's weights after a failed pass."""
    groups = make_groups(policy, varied)
    update(policy, groups)
    policy.set_reference(policy.adapter())
    update(policy, groups)
    before = adapter_bytes(policy)
    prompt = policy.prompts.encode(TITLES[0])
    tokens, _ = pad_responses([(5, 6, 7)])
    with pytest.raises(RuntimeError), policy.as_reference():
        assert adapter_bytes(policy) != before
        raise RuntimeError
    assert adapter_bytes(policy) == before
    seen = behaviour_logprobs(policy, prompt, tokens, temperature=0.8)
    own = response_logprobs(policy, prompt, tokens, temperature=0.8)
    assert adapter_bytes(policy) == before
    np.testing.assert_array_equal(np.array(seen.old), np.array(own))
    policy.set_adapter(dict(policy.reference))
    ref = response_logprobs(policy, prompt, tokens, temperature=0.8)
    np.testing.assert_array_equal(np.array(seen.ref), np.array(ref))


@pytest.mark.parametrize("after", [5, 9])
def test_an_update_that_is_stopped_leaves_the_parent(policy, after):
    """Catches a day that fails halfway and leaves a policy no checkpoint knows."""
    before = adapter_bytes(policy)
    groups = make_groups(policy, varied)
    ticks = []

    def stop():
        ticks.append(1)
        if len(ticks) == after:
            raise KeyboardInterrupt

    # Four passes before, four with gradients, the rest after the steps.
    with pytest.raises(KeyboardInterrupt):
        update(policy, groups, on_group=stop)
    assert adapter_bytes(policy) == before
