"""The model card: what it is, how it was trained, what was measured, and what that does not say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from varro import __version__
from varro.export.chosen import Chosen
from varro.policy.prompt import SYSTEM, USER
from varro.report.metrics import find_metric, format_value
from varro.report.page import between

CLAIMED_BESIDE = ("reward", "format", "semantic", "copy_frac", "repetition_frac", "words")
"""differences to the frozen base that stand beside the lift"""
_LINEAGE = 10
_CLAIMS = {
    "learned": "The claim stands: the lift is above 0.",
    "worse": "The policy is worse than its base: the lift is below 0.",
    "not yet distinguishable": "No lift is claimed: the confidence sequence includes 0.",
    "not enough days": "No lift is claimed: there are too few days to claim anything.",
    "blocked": "No lift is claimed: a control that must be 0 is not.",
}


@dataclass(frozen=True)
class CardFacts:
    """What a card says; all of it from the ledger, but for base and licence."""

    chosen: Chosen
    base_id: str | None
    """the base on the hub; None if it is known by its folder only"""
    licence: str | None
    """of the base"""
    claim: Mapping[str, Any]
    """`evaluation.claim` of the days up to the version's last"""
    first_day: str | None
    last_day: str | None
    n_updates: int
    update: Mapping[str, Any]
    """metrics of the update that made the version; empty if none did"""
    reward_version: str
    lineage: Sequence[tuple[int, str]]
    """(version, day), newest first, down to 0"""
    feeds: Sequence[tuple[str, int]]
    """(name, headlines seen), most first"""
    is_placebo: bool


def render_card(facts: CardFacts) -> str:
    """The card's text, front matter first. All that others wrote stands there as it is."""
    sections = [_what(facts), _use(facts), _training(facts), _results(facts), _limits(facts),
                _feeds(facts), _lineage(facts)]  # fmt: skip
    return f"---\n{front_matter(facts).to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n"


def front_matter(facts: CardFacts) -> Any:
    """`huggingface_hub.ModelCardData`, with the lift and its interval as evaluation results."""
    from huggingface_hub import ModelCardData

    chosen = facts.chosen
    tags = ["mlx", "gspo", "reinforcement-learning", "forecasting", "varro"]
    known: dict[str, Any] = {}
    if facts.base_id is not None:
        relation = "finetune" if chosen.is_full else "adapter"
        known |= {"base_model": facts.base_id, "base_model_relation": relation}
    if facts.licence is not None:
        known["license"] = facts.licence
    if results := _eval_results(facts):
        known |= {"model_name": model_name(chosen), "eval_results": results}
    return ModelCardData(
        language="en",
        library_name="mlx",
        pipeline_tag="text-generation",
        tags=tags if chosen.is_full else ["lora", *tags],
        **known,
    )


def model_name(chosen: Chosen) -> str:
    return f"varro-{chosen.run.name}-v{chosen.checkpoint.version}"


def _eval_results(facts: CardFacts) -> list[Any]:
    """The lift, and the two ends of its interval, each a result: a model index has no intervals."""
    from huggingface_hub import EvalResult

    lift = facts.claim["lift"]
    if lift["mean"] is None:
        return []
    counted = {key: lift[key] for key in ("n_days", "n_headlines")}
    values = [
        ("lift", "Lift over the frozen base", lift["mean"], {}),
        ("lift_low", "Lift, low end", lift["low"], {"interval": _BOOTSTRAP}),
        ("lift_high", "Lift, high end", lift["high"], {"interval": _BOOTSTRAP}),
        ("lift_claim_low", "Lift, low end", lift["claim_low"], {"interval": _SEQUENCE}),
        ("lift_claim_high", "Lift, high end", lift["claim_high"], {"interval": _SEQUENCE}),
    ]
    return [
        EvalResult(
            task_type="text-generation",
            task_name="Forecasting the next day's news",
            dataset_type="varro-news",
            dataset_name=f"Headlines of {facts.first_day} to {facts.last_day}",
            metric_type=kind,
            metric_name=name,
            metric_value=round(value, 6),
            metric_args={**counted, **more},
        )
        for kind, name, value, more in values
        if value is not None
    ]


_BOOTSTRAP = "95 %, bootstrap over days"
_SEQUENCE = "95 %, confidence sequence over days, valid however often it is read"


def _what(facts: CardFacts) -> str:
    chosen = facts.chosen
    form = "Every weight of it was trained." if chosen.is_full else (
        f"A LoRA adapter (rank {chosen.rank}, scale {chosen.scale:g}, on every linear layer) for "
        "mlx-lm."
    )  # fmt: skip
    control = (
        " **This run is a control**: its rewards were permuted within each group before training, "
        "so there was nothing to learn."
        if facts.is_placebo
        else ""
    )
    return (
        f"# {model_name(chosen)}\n\n"
        f"`{chosen.base}`, trained day by day on what the news of the next day made of its "
        "forecasts: it writes one paragraph on a headline, with an object, a direction with a "
        "small magnitude, a time, drivers, and how to verify it. "
        f"{form} Made by Varro {__version__}, run "
        f"`{chosen.run.name}`, version {chosen.checkpoint.version} of "
        f"{chosen.checkpoint.day}.{control}\n\n"
        "Research software. What it writes is not advice, and not a fact."
    )


def _use(facts: CardFacts) -> str:
    chosen = facts.chosen
    model = "." if chosen.is_full else (facts.base_id or "PATH_OF_THE_BASE")
    adapter = "" if chosen.is_full else " --adapter-path ."
    chat = (
        f"mlx_lm.generate --model {model}{adapter} \\\n"
        f'    --system-prompt "{SYSTEM}" --temp 0.8 --max-tokens 176 \\\n'
        "    --chat-template-config '{\"enable_thinking\": false}' \\\n"
        f'    --prompt "{USER.format(headline="Oil steadies as OPEC meets")}"'
    ).replace("\nWrite", "\\nWrite")
    base = (
        ""
        if chosen.is_full
        else f"\n\nThe base is `{chosen.base}`, sha256 of its weights `{chosen.base_sha256}`. "
        "Another base, or another scale than the one in `adapter_config.json`, is another policy."
    )
    return f"## How to use\n\nIn a copy of this folder:\n\n```sh\n{chat}\n```{base}"


def _training(facts: CardFacts) -> str:
    update = facts.update
    kl = update.get("kl_ref_after", update.get("kl_ref"))  # an older one's is of before its steps
    rows = [
        ("Updates so far", str(facts.n_updates)),
        ("Days with a comparison", f"{facts.first_day or '—'} to {facts.last_day or '—'}"),
        ("Reward", f"`{facts.reward_version}`"),
        ("Distance to the reference", _written("kl_ref", kl)),
        ("Entropy", _written("entropy", update.get("entropy"))),
        ("Seed of the run", str(facts.chosen.run.seed)),
    ]
    lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    return (
        "## How it was trained\n\nEach day: eight forecasts a headline, settled against the "
        "headlines first seen after they were made; GSPO on the sampled tokens, on a KL leash; a "
        "share of the headlines is held out and never trained on.\n\n" + "\n".join(lines)
    )


def _results(facts: CardFacts) -> str:
    claim = facts.claim
    lift = claim["lift"]
    if lift["mean"] is None:
        return "## Results\n\nNothing was compared with the frozen base yet."
    rows = [("lift", lift), *((f"lift_{name}", claim[name]) for name in CLAIMED_BESIDE)]
    rows += [("base_against_base", claim["base_against_base"]), ("shuffled", claim["shuffled"])]
    rows += [("echo", claim["echo"]), ("template", claim["template"])]
    lines = [
        f"| {_label(name)} | {_value(part)} | {_interval(part, 'low', 'high')} | "
        f"{_interval(part, 'claim_low', 'claim_high')} | {part['n_days']} | "
        f"{part['n_headlines']} |"
        for name, part in rows
    ]
    return (
        "## Results\n\n"
        "Policy minus frozen base, on the same headlines with the same seeds, forecast before the "
        f"outcomes were published, by the version that served that day. {_CLAIMS[claim['word']]} "
        f"Lift: {find_metric('lift').definition}.\n\n"
        "| Difference | Mean | 95 %, bootstrap | 95 %, confidence sequence | Days | Headlines |\n"
        "|---|---|---|---|---|---|\n" + "\n".join(lines)
    )


def _limits(facts: CardFacts) -> str:
    return (
        "## Limits\n\n"
        "- The reward is nearness to the next day's headlines, beyond what other days' headlines "
        "would have paid. It is not truth: a forecast may match a headline that is wrong.\n"
        "- A higher reward alone says nothing: form counts in it. Only the lift is claimed, and "
        "only as far as its interval goes.\n"
        "- Headlines are those of the feeds below, with their choice of what is news.\n"
        "- It forecasts tomorrow. Of a headline from another time it knows nothing more than its "
        "base does.\n"
        "- It states magnitudes and times because that is rewarded, not because it knows them."
    )


def _feeds(facts: CardFacts) -> str:
    if not facts.feeds:
        return "## Feeds\n\nNone."
    lines = [f"| {_plain(name)} | {n} |" for name, n in facts.feeds]
    return "## Feeds\n\n| Feed | Headlines seen |\n|---|---|\n" + "\n".join(lines)


def _lineage(facts: CardFacts) -> str:
    shown = [f"v{version} ({day})" for version, day in facts.lineage]
    if len(shown) > _LINEAGE:
        shown = [*shown[: _LINEAGE - 1], f"… {len(shown) - _LINEAGE} more …", shown[-1]]
    licence = facts.licence or "not stated"
    return (
        "## Lineage and licence\n\n"
        f"{' ← '.join(shown)}, version 0 being the frozen base. Manifest sha256 "
        f"`{facts.chosen.checkpoint.sha256}`.\n\nLicence of the base: {_plain(licence)}."
    )


def _plain(text: str) -> str:
    """A stranger's label without anything that Markdown or HTML could take for its own."""
    return " ".join(re.sub(r"[^\w .,:'()-]|_", " ", text).split())


def _label(name: str) -> str:
    return find_metric(name).label


def _value(part: Mapping[str, Any]) -> str:
    return format_value("lift", part["mean"])


def _interval(part: Mapping[str, Any], low: str, high: str) -> str:
    return between("lift", part[low], part[high])


def _written(name: str, value: float | None) -> str:
    return f"{format_value(name, value)} {find_metric(name).unit}"
