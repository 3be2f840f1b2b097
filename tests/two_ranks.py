"""One rank of a cluster, started by tests/test_cluster.py: python two_ranks.py SCENARIO.

Rank 0 prints what it found as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from conftest import small_config
from test_update import CONFIG, FRESH, LEASH, SHORT, TITLES, make_groups, update, varied

from varro.errors import ClusterError
from varro.policy.checkpoint import TrainerState
from varro.policy.cluster import Cluster, join_cluster
from varro.policy.load import Policy, load_policy
from varro.policy.mlx import mx
from varro.worker import serve

FIVE = [*TITLES, "Copper falls on weak orders"]


def protocol(cluster):
    """What each exchange gives; at the end the worker fails."""
    others = []
    items = [[n, "ü"] for n in range(5)]
    mine = {"a": mx.array([cluster.rank + 0.5])}
    found = {
        "gathered": cluster.gather(cluster.share(items), on_other=lambda: others.append(1)),
        "n_others": len(others),
        "uneven": cluster.gather(["x", "y", "z"] if cluster.rank else ["a"]),
        "from_main": cluster.from_main(["rank", cluster.rank]),
        "mirrored": cluster.mirror(mine)["a"].tolist(),
        "summed": cluster.sum_gradients({"w": mx.array([1.0, 10.0]) * (cluster.rank + 1)})[
            "w"
        ].tolist(),
    }
    if cluster.rank:
        cluster.leave("ValueError: no such thing")
        return None
    found["error"] = error_of(lambda: cluster.gather([1]))
    found["afterwards"] = error_of(lambda: cluster.gather([1]))
    return found


def out_of_step(cluster):
    return {"error": error_of(cluster.next_job if cluster.rank else lambda: cluster.gather([1]))}


def gone(cluster):
    if cluster.rank == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    print(error_of(cluster.next_job))


def silent(cluster):
    if cluster.rank:
        os.kill(os.getpid(), signal.SIGSTOP)
    cluster.gather([1])


def error_of(action):
    try:
        action()
    except ClusterError as error:
        return str(error)
    return None


def work(cluster, scenario):
    """Scenarios that need a policy; a worker serves."""
    config = small_config(Path("/nowhere"))
    if cluster.rank:
        serve(config, cluster)
        return None
    policy = load_policy(config.policy, lora_seed=7)
    found = killed(policy, cluster) if scenario == "killed" else equal(policy, cluster)
    cluster.leave()
    return found


def equal(policy: Policy, cluster: Cluster):
    """Each experiment alone and then together, and how far apart they end."""
    fresh = dict(policy.adapter())
    experiments = {
        "gradients": {"titles": FIVE, "config": changed(n_minibatches=1)},
        "minibatches": {"titles": FIVE, "config": changed(n_minibatches=2)},
        "more ranks than groups": {"titles": FIVE[:3], "config": changed(n_minibatches=4)},
        "a reference, leash in the loss, the sampler's log-probs": {
            "titles": FIVE,
            "config": changed(old_logprobs="sampler", max_kl_sampler=1e-3, tis=True),
            "leash": LEASH.model_copy(update={"kind": "loss", "kl_limit": 1e9}),
            "state": TrainerState(kl_coef=0.05),
            "moved": True,
        },
    }
    alone = {name: experiment(policy, fresh, **how) for name, how in experiments.items()}
    policy.join(cluster)
    found = {}
    for name, how in experiments.items():
        one, two = alone[name], experiment(policy, fresh, **how)
        found[name] = {
            "same_tokens": [one[key] == two[key] for key in ("before", "base", "after")],
            "logprobs": max(map(apart, one["logprobs"], two["logprobs"])),
            "weights": max(apart(one["weights"][k], w) for k, w in two["weights"].items()),
            "moved": max(apart(fresh[k], w) for k, w in two["weights"].items()),
            "gradients": relative(one["moments"], two["moments"]),
            "metrics": {
                k: [v, two["metrics"][k]]
                for k, v in one["metrics"].items()
                if isinstance(v, int | float) and k != "tokens_per_s"
            },
            "verdicts": [len(x["metrics"]["guard"]) for x in (one, two)],
            "ticks": [one["ticks"], two["ticks"]],
            "refused": two["metrics"]["refused"],
            "old_from": two["metrics"]["old_from"],
        }
    return found


def experiment(policy, fresh, *, titles, config, leash=LEASH, state=FRESH, moved=False):
    policy.set_adapter(fresh)
    policy.set_reference(None)
    if moved:
        policy.set_reference(
            {k: a + 0.02 * mx.cos(mx.arange(a.size)).reshape(a.shape) for k, a in fresh.items()}
        )
    groups = make_groups(policy, varied, titles=titles)
    with policy.adapter_off():
        base = make_groups(policy, varied, titles=titles, seed=3)
    ticks = []
    result = update(
        policy, groups, config=config, leash=leash, state=state, on_group=lambda: ticks.append(1)
    )
    after = make_groups(policy, varied, titles=titles, seed=9)
    return {
        "before": tokens(groups),
        "base": tokens(base),
        "after": tokens(after),
        "logprobs": [f.sampler_logprobs for g in groups for f in g.group.forecasts],
        "weights": dict(policy.adapter()),
        "moments": {k: a for k, a in result.state.optimizer.items() if k.endswith(".m")},
        "metrics": result.metrics,
        "ticks": len(ticks),
    }


def killed(policy: Policy, cluster: Cluster):
    """The worker is killed in the middle of the steps."""
    groups = make_groups(policy, varied, titles=FIVE)
    before = {k: np.array(a) for k, a in policy.adapter().items()}
    state = replace(FRESH, n_updates=3)
    policy.join(cluster)
    ticks = []

    def on_group():
        ticks.append(1)
        if len(ticks) == len(FIVE) + 3:  # all measured, and a minibatch of two groups has stepped
            os.kill(int(os.environ["RANK_1_PID"]), signal.SIGKILL)

    error = error_of(
        lambda: update(
            policy, groups, config=changed(n_minibatches=2), state=state, on_group=on_group
        )
    )
    return {
        "error": error,
        "ticks": len(ticks),
        "parent": all((np.array(a) == before[k]).all() for k, a in policy.adapter().items()),
        "afterwards": error_of(lambda: make_groups(policy, varied, settings=SHORT)),
    }


def changed(**changes):
    return CONFIG.model_copy(update=changes)


def tokens(groups):
    return [f.token_ids for g in groups for f in g.group.forecasts]


def apart(one, other):
    return float(np.abs(np.array(one) - np.array(other)).max())


def relative(one, other):
    """|other − one| / |one| over all arrays."""
    off = sum(float(((np.array(other[k]) - np.array(a)) ** 2).sum()) for k, a in one.items())
    return (off / sum(float((np.array(a) ** 2).sum()) for a in one.values())) ** 0.5


if __name__ == "__main__":
    (scenario,) = sys.argv[1:]
    cluster = join_cluster(timeout_s=2.0 if scenario == "silent" else 120.0)
    light = {"protocol": protocol, "out-of-step": out_of_step, "silent": silent, "gone": gone}
    result = light[scenario](cluster) if scenario in light else work(cluster, scenario)
    if cluster.rank == 0:
        print(json.dumps(result))
