"""The update stage on the tiny policy: direction, exactness, refusal."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import pytest

from varro.config import LeashConfig, UpdateConfig
from varro.domain import Forecast, Group, Headline, Role
from varro.errors import StalePolicyError
from varro.policy.checkpoint import TrainerState
from varro.policy.logprobs import pad_responses, response_logprobs
from varro.policy.sample import SamplingSettings, sample_groups
from varro.training.advantage import plain_advantages
from varro.training.update import n_update_ticks, update_policy

NOW = datetime(2026, 1, 5, tzinfo=UTC)
CONFIG = UpdateConfig(lr=2e-3, clip_low=0.05, clip_high=0.05, n_minibatches=2)
LEASH = LeashConfig(kl_coef=0.0, min_kl_coef=0.0)
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


def advantages_of(groups):
    rewards = np.array([g.rewards for g in groups])
    return plain_advantages(rewards, weights=(0.0, 1.0), format_=np.zeros_like(rewards)).total


def update(policy, groups, advantages=None, *, config=CONFIG, leash=LEASH, state=FRESH, **more):
    return update_policy(
        policy,
        [g.group for g in groups],
        advantages_of(groups) if advantages is None else advantages,
        state,
        config=config,
        leash=leash,
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
    assert metrics["ratio_min"] == pytest.approx(1.0, abs=2.5e-6)
    assert metrics["ratio_max"] == pytest.approx(1.0, abs=2.5e-6)
    assert metrics["clip_frac"] == 0.0
    assert metrics["kl_sampler"] < 1e-5
    assert metrics["kl_ref"] != 0.0


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


def test_equal_rewards_leave_the_policy_as_it_was(policy):
    """Catches a baseline that is not the group's: where all are equal there is nothing to learn."""
    before = adapter_bytes(policy)
    result = update(policy, make_groups(policy, lambda ids: 0.3))
    assert result.metrics["grad_norm"] == 0.0
    assert result.metrics["n_zero_variance"] == len(TITLES)
    assert adapter_bytes(policy) == before


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
        # Adam divides by the gradient's own size, so last bits of a small one show; 1 % of a step.
        np.testing.assert_allclose(np.array(array), np.array(straight[name]), atol=2e-5)


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
    start, kl = dict(policy.adapter()), {}
    for kl_coef in (0.0, 30.0):
        policy.set_adapter(start)
        state = TrainerState(kl_coef=kl_coef)
        leash = LeashConfig(kl_coef=kl_coef, min_kl_coef=kl_coef, max_kl_coef=max(kl_coef, 0.1))
        for i in range(6):
            groups = make_groups(policy, lambda ids: ids.count(ids[0]), n=8, seed=777 * i)
            result = update(policy, groups, leash=leash, state=state, config=replace_lr(lr=5e-3))
            state = result.state
        kl[kl_coef] = result.metrics["kl_ref_after"]
    assert kl[30.0] < kl[0.0] / 2


def test_a_policy_past_the_limit_may_come_back(policy):
    """Catches a policy that is refused every step for being where it should be leaving."""
    state = FRESH
    for i in range(4):
        groups = make_groups(policy, lambda ids: ids.count(ids[0]), n=8, seed=777 * i)
        state = update(policy, groups, state=state, config=replace_lr(lr=5e-3)).state
    tight = LeashConfig(kl_coef=30.0, min_kl_coef=30.0, max_kl_coef=30.0, kl_limit=1e-6)
    groups = make_groups(policy, lambda ids: 0.5, n=8, seed=9999)
    result = update(policy, groups, leash=tight, state=replace(state, kl_coef=30.0))
    assert result.metrics["kl_ref"] > tight.kl_limit
    assert result.metrics["kl_ref_after"] < result.metrics["kl_ref"]
    assert result.refused is None


def test_a_step_that_is_too_long_is_taken_again_shorter(policy):
    """Catches a day lost to a step that half its length would have kept inside the leash."""
    groups = make_groups(policy, varied, n=8)
    start = dict(policy.adapter())
    reached = []
    for lr in (4e-3, 2e-3, 1e-3):
        policy.set_adapter(start)
        config = replace_lr(lr=lr)
        reached.append(update(policy, groups, config=config).metrics["kl_ref_after"])
    assert reached[0] > reached[2]
    policy.set_adapter(start)
    leash = LeashConfig(kl_coef=0.0, min_kl_coef=0.0, kl_limit=(reached[0] + reached[2]) / 2)
    result = update(policy, groups, leash=leash, config=replace_lr(lr=4e-3))
    assert result.refused is None
    assert result.metrics["n_attempts"] in (2, 3)
    assert result.metrics["lr"] == 4e-3 / 2 ** (result.metrics["n_attempts"] - 1)
    assert result.metrics["kl_ref_after"] <= leash.kl_limit
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
        config=replace_lr(lr=5e-3),
        state=TrainerState(kl_coef=0.05),
    )
    assert "past the limit" in result.refused
    # 0.05 doubled for each of two more attempts, and once more for tomorrow, to the bound of 0.3.
    assert result.metrics["n_attempts"] == 3
    assert result.state.kl_coef == leash.max_kl_coef
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


def test_progress_counts_every_pass(policy):
    """Catches a bar that stops at half or runs past its end."""
    groups = make_groups(policy, varied)
    ticks = []
    update(policy, groups, on_group=lambda: ticks.append(1))
    assert len(ticks) == n_update_ticks(len(groups))
