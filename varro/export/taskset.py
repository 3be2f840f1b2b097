"""Settled days as an environment of the verifiers library: a package that needs no ledger.

The scorer goes along as the code that it is: `varro.reward.score` and what it imports, copied with
nothing changed but the names of imports. So the package's reward is Varro's, and is held against
the ledger's before anything is written.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import varro
from varro.config import Config
from varro.day.headlines import headlines_of
from varro.day.settle import SETTLED_ROLES, known_outcomes
from varro.domain import Group, Headline, RunInfo, Settlement, Stage
from varro.errors import ConfigError, PolicyError
from varro.export.split import Split, split_days
from varro.files import new_folder
from varro.ledger.store import Ledger
from varro.policy.prompt import SYSTEM, USER
from varro.reward.canaries import MIN_LEAD, NONSENSE, foretold, ungated
from varro.reward.embed import Embedder
from varro.reward.score import News, reward_version, score_texts
from varro.reward.settle import Outcomes, made_on, news_of, placebo_seed

PACKAGE = "varro_news"
DRIFT = 1e-6
"""by which a reward may differ from the ledger's"""
_TEMPLATES = Path(__file__).parent / "environment"
_SCORER = "varro.reward.score"


@dataclass
class World:
    """What is written of the days: titles once, days by their numbers, tasks."""

    titles: dict[str, int] = field(default_factory=dict)
    """title → its number"""
    days: dict[str, dict[str, Any]] = field(default_factory=dict)
    tasks: list[dict[str, Any]] = field(default_factory=list)
    n_left_out: int = 0
    n_checked: int = 0
    """stored rewards that were computed again"""
    max_difference: float = 0.0
    """of them from the ledger's"""

    def numbers(self, headlines: Sequence[Headline]) -> list[int]:
        return [self.titles.setdefault(h.title, len(self.titles)) for h in headlines]


def export_taskset(
    config: Config,
    ledger: Ledger,
    run: RunInfo,
    out: Path,
    *,
    embedder: Embedder,
    eval_frac: float,
) -> dict[str, Any]:
    """Write the package to a new folder; returns what is in it.

    Raises: StageError if too few days are settled; ConfigError if the configuration scores
    otherwise than the run did; PolicyError if a reward is not the ledger's.
    """
    _refuse_other_scoring(config, run)
    version = reward_version(config.reward)
    with new_folder(out, f"export to {out}") as partial:
        world = World()
        made_at: dict[str, datetime] = {}
        for day, groups, settled, outcomes in _settled_days(config, ledger, run, version):
            if _add_day(world, config, day, groups, settled, outcomes, embedder=embedder):
                made_at[day] = groups[0].made_at
        split = split_days(
            sorted(made_at.items()),
            eval_frac=eval_frac,
            window=timedelta(hours=config.reward.window_h),
            cycle=config.schedule.period(),
        )
        kept = [t | {"split": s} for t in world.tasks if (s := split.of(t["day"])) is not None]
        facts = _facts(run, version, config, world, split, kept)
        _write_package(partial, facts, config, world, split, kept)
    return facts


def scorer_modules() -> dict[str, str]:
    """Path in the package → source of the scorer's modules, their imports renamed."""
    found: dict[str, str] = {}
    waiting = [_SCORER]
    seen = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        file = Path(varro.__file__).parent.joinpath(*name.split(".")[1:]).with_suffix(".py")
        source = file.read_text(encoding="utf-8")
        waiting += [
            node.module
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("varro.")
            if node.module is not None
        ]
        renamed = re.sub(r"^(\s*)from varro\.", rf"\1from {PACKAGE}.varro.", source, flags=re.M)
        path = "/".join(name.split("."))
        found[f"{path}.py"] = renamed
        for folder in list(Path(path).parents)[:-1]:
            found.setdefault(f"{folder}/__init__.py", "")
    return dict(sorted(found.items()))


def _settled_days(
    config: Config, ledger: Ledger, run: RunInfo, version: str
) -> Iterator[tuple[str, list[Group], dict[str, Settlement], Outcomes]]:
    """(day, its groups, their settlements by forecast, what they were settled against)."""
    for settle in ledger.stage_runs(run.name, stage=Stage.SETTLE):
        pairs = [
            (s, g)
            for s, g in ledger.settlements(run.name, day=settle.day)
            if s.reward is not None and s.reward_version == version and g.role in SETTLED_ROLES
        ]
        for day in sorted({group.day for _, group in pairs}):
            of_day = [(s, g) for s, g in pairs if g.day == day]
            groups = list({g.id: g for _, g in of_day}.values())
            outcomes = known_outcomes(
                ledger,
                config,
                run.corpus,
                made_at=groups[0].made_at,
                as_of=settle.as_of,
                headlines=headlines_of(groups),
            )
            yield day, groups, {s.forecast_id: s for s, _ in of_day}, outcomes


def _add_day(
    world: World,
    config: Config,
    day: str,
    groups: Sequence[Group],
    settled: dict[str, Settlement],
    outcomes: Outcomes,
    *,
    embedder: Embedder,
) -> bool:
    """Add a day's tasks, if it has any: headlines that something was published about."""
    news = news_of(headlines_of(groups), outcomes)
    seed = placebo_seed(config.run.seed, day)
    tasks = []
    for group in {g.headline.id: g for g in groups}.values():
        forecast = group.forecasts[0]
        stored = settled[forecast.id]
        if "semantic" not in stored.components:
            continue
        alone = News((group.headline.title,), news.outcomes, news.placebo_days)
        outcome = _nearest(alone, embedder=embedder)
        texts = [forecast.text, foretold(outcome), f"{group.headline.title}.", NONSENSE]
        again, gold, *others = score_texts(
            texts,
            [0] * len(texts),
            alone,
            embedder=embedder,
            config=config.reward,
            seed=seed,
            finish_reasons=[forecast.finish_reason, None, None, None],
            made_on=made_on(group.made_at),
        )
        difference = abs(again.reward - (stored.reward or 0.0))
        world.n_checked += 1
        world.max_difference = max(world.max_difference, difference)
        if difference > DRIFT:
            raise PolicyError(
                f"forecast {forecast.id[:12]} of {day} earned {stored.reward} and would now earn "
                f"{again.reward}: nothing was written; score and embedder must be the run's"
            )
        told = ungated(gold.components)
        if told - max(other.components["semantic"] for other in others) <= MIN_LEAD:
            world.n_left_out += 1
            continue
        tasks.append(
            {
                "id": group.headline.id,
                "day": day,
                "headline": group.headline.title,
                "system_prompt": SYSTEM,
                "prompt": USER.format(headline=group.headline.title),
                "outcome": outcome,
                "gold": foretold(outcome),
                "gold_semantic": told,
            }
        )
    if tasks:
        world.tasks += sorted(tasks, key=lambda task: str(task["id"]))
        world.days[day] = {
            "outcomes": world.numbers(outcomes.headlines),
            "placebo_days": [world.numbers(pool) for pool in outcomes.placebo_days],
            "seed": seed,
            "made_on": made_on(groups[0].made_at).isoformat(),
        }
    return bool(tasks)


def _nearest(news: News, *, embedder: Embedder) -> str:
    """The outcome that is nearest to the only headline."""
    to_headline = embedder.encode(news.outcomes) @ embedder.encode(news.headlines)[0]
    return news.outcomes[int(to_headline.argmax())]


def _facts(
    run: RunInfo,
    version: str,
    config: Config,
    world: World,
    split: Split,
    kept: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    return {
        "run": run.name,
        "version": f"0.1.{len(world.days)}",
        "varro_version": varro.__version__,
        "reward_version": version,
        "semantic_weight": config.reward.semantic_weight,
        "format_weight": config.reward.format_weight,
        "n_train": sum(task["split"] == "train" for task in kept),
        "n_eval": sum(task["split"] == "eval" for task in kept),
        "n_left_out": world.n_left_out,
        "n_embargo": len(split.embargo),
        "embargo": ", ".join(split.embargo),
        "train_first": split.train[0],
        "train_last": split.train[-1],
        "eval_first": split.eval[0],
        "eval_last": split.eval[-1],
        "n_checked": world.n_checked,
        "max_difference": world.max_difference,
    }


def _write_package(
    folder: Path,
    facts: dict[str, Any],
    config: Config,
    world: World,
    split: Split,
    kept: Sequence[dict[str, Any]],
) -> None:
    from jinja2 import Environment, StrictUndefined

    fill = Environment(undefined=StrictUndefined, keep_trailing_newline=True).from_string
    package = folder / PACKAGE
    for name, target in (
        ("pyproject.toml", folder),
        ("README.md", folder),
        ("__init__.py", package),
        ("reward.py", package),
        ("taskset.py", package),
    ):
        template = (_TEMPLATES / f"{name}.txt").read_text(encoding="utf-8")
        _write(target / name, fill(template).render(facts))
    for name, source in scorer_modules().items():
        _write(package / name, source)
    _write(package / "tasks.jsonl", "".join(f"{json.dumps(task)}\n" for task in kept))
    used = {*split.train, *split.eval}
    days = {
        "reward": config.reward.model_dump(mode="json"),
        "embedder_sha256": config.embedder.sha256,
        "nonsense": NONSENSE,
        "days": {day: found for day, found in world.days.items() if day in used},
        "titles": list(world.titles),
    }
    _write(package / "days.json", json.dumps(days))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _refuse_other_scoring(config: Config, run: RunInfo) -> None:
    """The reward of another configuration is not the one that the run's forecasts earned."""
    if config.reward.kind != "contrast":
        raise ConfigError(
            "an environment of kind 'similarity' would pay for topics; export a run of kind "
            "'contrast'"
        )
    mine = config.identity() | {"reward.version": reward_version(config.reward)}
    of_score = ("reward.", "embedder.", "evaluate.placebo_lags", "run.seed")
    for key in sorted(mine.keys() | run.config.keys()):
        if key.startswith(of_score) and mine.get(key) != run.config.get(key):
            raise ConfigError(
                f"run {run.name!r} was settled with {key} = {run.config.get(key)!r}, the "
                f"configuration says {mine.get(key)!r}: give the run's with --config"
            )
