"""A worker: a process of the cluster that holds the policy and does its share of rank 0's jobs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from varro.config import Config, GuardConfig, LeashConfig, UpdateConfig
from varro.domain import group_from_dict, stable_seed
from varro.errors import ClusterError

if TYPE_CHECKING:
    from varro.policy.cluster import Cluster
    from varro.policy.load import Policy


def serve(config: Config, cluster: Cluster) -> None:
    """Do what rank 0 calls for until it is done.

    Raises: ClusterError if another process has failed or holds another policy; whatever stops this
    one, after the others were told.
    """
    from varro.policy.cluster import MainIsDone
    from varro.policy.load import load_policy

    try:
        policy = load_policy(
            config.policy,
            lora_seed=stable_seed(config.run.seed, "lora"),
            budget_bytes=config.memory.budget_bytes(),
        )
        policy.join(cluster)
        work_for_main(policy)
    except MainIsDone:
        return
    except ClusterError:
        raise
    except Exception as error:
        cluster.leave(f"{type(error).__name__}: {error}")
        raise


def work_for_main(policy: Policy) -> None:
    """Jobs, one after another, with a policy that has joined its cluster.

    Raises: MainIsDone.
    """
    optimizer: Mapping[str, Any] = {}
    while True:
        job = policy.cluster.next_job()
        if job.pop("job") == "sample":
            _sample(policy, **job)
        else:
            optimizer = _update(policy, optimizer, **job)


def _sample(
    policy: Policy, *, prompts: Any, seeds: Any, settings: dict[str, Any], of_base: bool
) -> None:
    from varro.policy.sample import SamplingSettings, sample_groups

    with policy.adapter_off() if of_base else nullcontext():
        sample_groups(policy, prompts, seeds=seeds, settings=SamplingSettings(**settings))


def _update(
    policy: Policy,
    optimizer: Mapping[str, Any],
    *,
    groups: list[dict[str, Any]],
    advantages: Any,
    low_variance: Any,
    state: dict[str, Any],
    config: dict[str, Any],
    leash: dict[str, Any],
    guard: dict[str, Any],
    temperature: float,
    seed_parts: list[object],
) -> Mapping[str, Any]:
    """The optimiser's state after the update, so that it need not be sent again."""
    from varro.policy.checkpoint import TrainerState
    from varro.training.update import update_policy

    result = update_policy(
        policy,
        [group_from_dict(facts) for facts in groups],
        advantages,
        TrainerState(**state, optimizer=optimizer),
        low_variance=low_variance,
        config=UpdateConfig(**config),
        leash=LeashConfig(**leash),
        guard=GuardConfig(**guard),
        temperature=temperature,
        seed_parts=tuple(seed_parts),
    )
    return result.state.optimizer
