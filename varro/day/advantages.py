"""The advantages a day trains on: of the settled rewards, and stored with them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from varro.domain import AdvantageInfo, SettledGroup, Stage, stable_seed
from varro.reward.summary import component_array
from varro.run import OpenRun
from varro.service.slots import DueDay
from varro.training.advantage import (
    Advantages,
    Moments,
    component_advantages,
    plain_advantages,
    running_moments,
)


def day_advantages(
    work: OpenRun, due: DueDay, settled: Sequence[SettledGroup]
) -> tuple[Advantages, dict[str, Any]]:
    """Advantages of the day's groups by the configured reward, and the facts about them."""
    config = work.config
    weights = (config.reward.format_weight, config.reward.semantic_weight)
    if config.update.placebo:
        settled = [_permuted(item, config.run.seed, due.day) for item in settled]
    format_ = component_array(settled, "format")
    semantic = component_array(settled, "semantic")
    if config.reward.kind == "similarity":
        rewards = np.array([[s.reward for s in i.settlements] for i in settled], dtype=np.float64)
        earned = plain_advantages(rewards, weights=weights, format_=format_)
        return earned, {f"share_{k}": v for k, v in (earned.shares or {}).items()}
    days = [
        Moments(**s.detail["moments"])
        for s in work.ledger.stage_runs(work.name, stage=Stage.SETTLE)
        if s.day <= due.day and s.detail.get("moments")
    ]
    moments = running_moments(days, decay=config.reward.scale_decay)
    earned = component_advantages(
        format_,
        semantic,
        component_array(settled, "valid") > 0,
        moments=moments,
        weights=weights,
        per_component=config.reward.scale_per_component,
    )
    facts = {f"share_{k}": v for k, v in (earned.shares or {}).items()}
    if moments:
        facts["spread_format"] = math.sqrt(moments.var_format)
        facts["spread_semantic"] = math.sqrt(moments.var_semantic)
    return earned, facts


def _permuted(item: SettledGroup, seed: int, day: str) -> SettledGroup:
    """The group with its settlements dealt out at random: the placebo adapter's reward."""
    draw = np.random.Generator(np.random.PCG64(stable_seed("permute", seed, day, item.group.id)))
    order = draw.permutation(len(item.settlements))
    return replace(item, settlements=tuple(item.settlements[i] for i in order))


def advantage_rows(
    work: OpenRun, due: DueDay, settled: Sequence[SettledGroup], earned: Advantages | None
) -> list[AdvantageInfo]:
    """The advantage of each forecast that was trained on, for the ledger."""
    if earned is None:
        return []
    return [
        AdvantageInfo(
            work.name,
            forecast.id,
            due.day,
            float(earned.total[n, g]),
            {"format": float(earned.format[n, g]), "semantic": float(earned.semantic[n, g])},
        )
        for n, item in enumerate(settled)
        for g, forecast in enumerate(item.group.forecasts)
    ]
