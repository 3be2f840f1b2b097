"""Verbs that look, and change nothing: status, show, doctor, score, config show."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from varro.cli_options import (
    ConfigOption,
    HomeOption,
    JsonOption,
    RunOption,
    SeedOption,
    SetOption,
    as_arguments,
    print_result,
    resolve_config,
)
from varro.errors import ConfigError, StageError

config_app = typer.Typer(help="The resolved configuration.", no_args_is_help=True)


def status(
    config: ConfigOption = None,
    overrides: SetOption = None,
    home: HomeOption = None,
    run: RunOption = None,
    prometheus: Annotated[
        Path | None,
        typer.Option("--prometheus", help="Write the figures to a file of Prometheus's text form."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """What each run has done, what was missed, and what is due.

    Example: varro status --json
    """
    from varro.files import disk_errors
    from varro.service.status import describe, in_lines, write_prometheus

    resolved = resolve_config(config, overrides, home=home, run=run)
    facts = describe(resolved, datetime.now(UTC))
    if prometheus is not None:
        try:
            with disk_errors("the figures for Prometheus"):
                write_prometheus(prometheus, facts)
        except OSError as error:
            raise ConfigError(f"cannot write {prometheus}: {error.strerror}") from error
    print_result(as_json, facts, in_lines(facts))


def show(
    what: Annotated[str, typer.Argument(help="A day (YYYY-MM-DD) or a forecast's id.")],
    config: ConfigOption = None,
    overrides: SetOption = None,
    home: HomeOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """A day's report, or one forecast with all that is known of it.

    Example: varro show 2026-01-06
    """
    from varro.day import report_folder
    from varro.ledger.place import in_words, is_begun, ledger_place
    from varro.ledger.store import open_ledger_of
    from varro.service.slots import is_cycle

    resolved = resolve_config(config, overrides, home=home, run=run)
    place = ledger_place(resolved)
    if not is_begun(place):
        raise StageError(f"no ledger at {in_words(place)}; begin with 'varro train-day'")
    with open_ledger_of(resolved) as ledger:
        if is_cycle(what):
            folder = report_folder(resolved.home, resolved.run.name, what)
            file = folder / ("report.json" if as_json else "report.md")
            if not file.exists():
                raise StageError(f"run {resolved.run.name!r} has no report of {what}")
            print(file.read_text(encoding="utf-8"))
            return
        found = ledger.forecast(what) if len(what) >= 4 else None
        if found is None:
            raise StageError(f"{what!r} is neither a day nor the unique beginning of a forecast id")
        forecast, group, settlements = found
        facts = {
            "forecast_id": forecast.id,
            "day": group.day,
            "role": str(group.role),
            "headline": group.headline.title,
            "made_at": group.made_at.isoformat(),
            "policy_version": group.policy_version,
            "k": forecast.k,
            "seed": forecast.seed,
            "finish_reason": forecast.finish_reason,
            "n_tokens": len(forecast.token_ids),
            "text": forecast.text,
            "token_ids": list(forecast.token_ids),
            "sampler_logprobs": [float(x) for x in forecast.sampler_logprobs],
            "settlements": [
                {
                    "day": s.day,
                    "reward_version": s.reward_version,
                    "reward": s.reward,
                    "components": s.components,
                    "outcome": h.title
                    if s.outcome_id and (h := ledger.headline(s.outcome_id))
                    else None,
                    "void_reason": s.void_reason,
                }
                for s in settlements
            ],
        }
    hidden = ("token_ids", "sampler_logprobs")
    text = "\n".join(f"{k:>16}  {v}" for k, v in facts.items() if k not in hidden)
    print_result(as_json, facts, text)


def doctor(
    config: ConfigOption = None,
    overrides: SetOption = None,
    home: HomeOption = None,
    run: RunOption = None,
    seed: SeedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check news, feeds, ledger, disk, BLAS, policy, embedder, schedule and the newest report.

    Exit 1 if one is in error. Feeds are not fetched: the ledger says how they have been.

    Example: varro doctor --config configs/live.toml
    """
    from varro.service.doctor import examine

    checks = examine(
        resolve_config(config, overrides, home=home, run=run, seed=seed),
        datetime.now(UTC),
        arguments=as_arguments(config, overrides, home=home, run=run, seed=seed),
    )
    print_result(
        as_json,
        [asdict(c) for c in checks],
        "\n".join(f"{c.status:<8} {c.name:<9} {c.text}" for c in checks),
    )
    if any(c.status == "error" for c in checks):
        raise typer.Exit(1)


def score(
    headline: Annotated[str, typer.Option("--headline", help="What the forecasts are about.")],
    outcomes: Annotated[
        Path, typer.Option("--outcomes", help="What was then published, a title a line.")
    ],
    forecasts: Annotated[Path, typer.Option("--forecasts", help='JSON lines of {"id", "text"}.')],
    nulls: Annotated[
        Path | None,
        typer.Option(
            "--nulls",
            help="Placebo days, a JSON list of titles a line; without them a placebo of 0.30 is "
            "assumed.",
        ),
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """What forecasts on a headline earn, given what was then published. Trains and stores nothing.

    Example:
    varro score --headline "Oil waits for OPEC" --outcomes tomorrow.txt --forecasts mine.jsonl
    """
    from varro.news.clean import clean_title
    from varro.reward.embed import RememberingEmbedder, load_embedder
    from varro.reward.files import (
        read_forecasts,
        read_placebo_days,
        read_titles,
        score_forecasts,
    )

    resolved = resolve_config(config, overrides)
    title = clean_title(headline)
    if not title:
        raise ConfigError(f"--headline wants a headline, found {headline!r}")
    texts, told = read_forecasts(forecasts), read_titles(outcomes)
    placebo_days = read_placebo_days(nulls) if nulls else []
    found = score_forecasts(
        texts,
        title,
        told,
        placebo_days,
        embedder=RememberingEmbedder(
            lambda: load_embedder(resolved.embedder), resolved.embedder.sha256
        ),
        config=resolved.reward,
        seed=resolved.run.seed,
    )
    print_result(as_json, found, _scored_text(found))


@config_app.command("show")
def config_show(
    config: ConfigOption = None,
    overrides: SetOption = None,
    home: HomeOption = None,
    run: RunOption = None,
    seed: SeedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the resolved configuration as TOML.

    Example: varro config show --set update.lr=1e-5
    """
    from varro.config import render_toml

    resolved = resolve_config(config, overrides, home=home, run=run, seed=seed)
    print_result(as_json, resolved.model_dump(mode="json"), render_toml(resolved).rstrip())


def _scored_text(found: dict[str, Any]) -> str:
    from varro.news.clean import clean_label

    rows = [("id", "reward", "format", "semantic", "valid", "matched")] + [
        (
            clean_label(str(row["id"])),
            f"{row['reward']:.3f}",
            f"{row['format']:.3f}",
            "—" if row["semantic"] is None else f"{row['semantic']:.3f}",
            row["invalid_reason"] or "yes",
            row["matched"] or "—",
        )
        for row in found["forecasts"]
    ]
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:-1]]
    lines = [
        "  ".join([*(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    ]
    linked = "\n".join(f"linked: {title}" for title in found["linked"]) or (
        "unresolved: no outcome is near enough to the headline, format alone pays"
    )
    head = f"{found['version']}, placebo {found['placebo']}"
    return "\n".join([head, linked, "", *lines])
