"""Verbs that take something out of the house: `varro export ...`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from varro.cli_options import (
    ConfigOption,
    HomeOption,
    JsonOption,
    RunOption,
    SetOption,
    print_result,
    resolve_config,
)
from varro.errors import StageError

if TYPE_CHECKING:
    from varro.config import Config

export_app = typer.Typer(
    help="Take out adapters, models, an environment, tables, numbers for trackers.",
    no_args_is_help=True,
)

OutFolder = Annotated[Path, typer.Option("--out", help="A new folder.")]
OutTable = Annotated[
    Path, typer.Option("--out", help="A new file with the kind's own ending, or a new folder.")
]
VersionOption = Annotated[
    int | None, typer.Option("--version", min=0, help="Version of the policy; default the newest.")
]


@export_app.command("hf")
def hf(
    out: OutFolder,
    version: VersionOption = None,
    base: Annotated[
        str | None, typer.Option("--base", help="The base on the model hub, OWNER/NAME.")
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option("--licence", help="Licence of the base; default what its own card says."),
    ] = None,
    push: Annotated[
        str | None,
        typer.Option("--push", help="Send it to OWNER/NAME on the model hub, private if new."),
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    home: HomeOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """An adapter that mlx_lm loads, with its model card. Writes files; sends nothing by itself.

    Example: varro export hf --out ~/varro-hf
    """
    from varro.export.chosen import choose, opened_ledger
    from varro.export.hub import base_licence, check_push, export_hf
    from varro.export.hub import push as push_folder

    resolved = resolve_config(config, overrides, home=home, run=run)
    if push is not None:
        check_push(push, licence=licence or base_licence(resolved.policy.model))
    with opened_ledger(resolved) as (ledger, info):
        chosen = choose(resolved, ledger, info, version)
        made = export_hf(resolved, ledger, chosen, out.resolve(), base_id=base, licence=licence)
    made |= {"pushed": push and push_folder(out.resolve(), push, name=made["name"], hub=_hub)}
    _tell(as_json, out, chosen, made, f"\npushed: {made['pushed']}" if push else "")


@export_app.command("peft")
def peft(
    out: OutFolder,
    version: VersionOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    home: HomeOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """The adapter as PEFT has it, for PyTorch: the same deltas to the last bit.

    Example: varro export peft --out ~/varro-peft
    """
    from varro.export.chosen import choose, opened_ledger
    from varro.export.peft import export_peft

    resolved = resolve_config(config, overrides, home=home, run=run)
    with opened_ledger(resolved) as (ledger, info):
        chosen = choose(resolved, ledger, info, version)
    made = export_peft(chosen, out.resolve())
    _tell(as_json, out, chosen, made, f", {made['n_tensors']} tensors, alpha {made['alpha']}")


@export_app.command("fused")
def fused(
    out: OutFolder,
    version: VersionOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    home: HomeOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """A model of its own, adapter merged, whose logits are compared with base and adapter's.

    Example: varro export fused --out ~/varro-fused
    """
    from varro.export.chosen import choose, opened_ledger
    from varro.export.fused import export_fused

    resolved = resolve_config(config, overrides, home=home, run=run)
    with opened_ledger(resolved) as (ledger, info):
        chosen = choose(resolved, ledger, info, version)
    made = export_fused(resolved, chosen, out.resolve())
    measured = (
        f", {made['n_merged']} weights in {made['dtype']}; logits within "
        f"{made['max_difference']:.2g} of base and adapter's, the largest being "
        f"{made['max_logit']:.3g}"
    )
    _tell(as_json, out, chosen, made, measured)


@export_app.command("verifiers")
def verifiers(
    out: OutFolder,
    eval_frac: Annotated[
        float,
        typer.Option("--eval-frac", min=0.01, max=0.9, help="Newest share of days to evaluate on."),
    ] = 0.2,
    config: ConfigOption = None,
    overrides: SetOption = None,
    home: HomeOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Settled days as an environment of the verifiers library, with Varro's own reward.

    Split by date, an embargo between. Example: varro export verifiers --out ~/varro_news
    """
    from varro.export.chosen import opened_ledger
    from varro.export.taskset import export_taskset
    from varro.reward.embed import RememberingEmbedder, load_embedder

    resolved = resolve_config(config, overrides, home=home, run=run)
    with opened_ledger(resolved) as (ledger, info):
        embedder = RememberingEmbedder(
            lambda: load_embedder(resolved.embedder),
            resolved.embedder.sha256,
            known=ledger.embeddings,
        )
        made = export_taskset(
            resolved, ledger, info, out.resolve(), embedder=embedder, eval_frac=eval_frac
        )
    print_result(
        as_json,
        {"export": str(out.resolve()), **made},
        f"export: {out}, {made['n_train']} tasks to train on ({made['train_first']} to "
        f"{made['train_last']}), {made['n_eval']} to evaluate on ({made['eval_first']} to "
        f"{made['eval_last']}), embargo {made['embargo']}; {made['n_left_out']} headlines left "
        f"out; {made['n_checked']} stored rewards computed again, within "
        f"{made['max_difference']:.1e}",
    )


@export_app.command("csv")
def csv(
    out: OutTable,
    config: ConfigOption = None,
    overrides: SetOption = None,
    home: HomeOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forecasts and settlements as CSV: one file of both for FILE.csv, else a folder of two.

    Example: varro export csv --out forecasts.csv
    """
    _tables("csv", out, resolve_config(config, overrides, home=home, run=run), as_json)


@export_app.command("parquet")
def parquet(
    out: OutTable,
    config: ConfigOption = None,
    overrides: SetOption = None,
    home: HomeOption = None,
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forecasts and settlements as Parquet: one file of both for FILE.parquet, else a folder.

    Needs the extra `parquet`. Example: varro export parquet --out forecasts.parquet
    """
    _tables("parquet", out, resolve_config(config, overrides, home=home, run=run), as_json)


@export_app.command("datasette")
def datasette(
    out: Annotated[Path, typer.Option("--out", help="A new file.")] = Path("metadata.json"),
    config: ConfigOption = None,
    overrides: SetOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """What Datasette should say of the ledger: tables, columns and units, and canned queries.

    Example: varro export datasette --out metadata.json
    """
    from varro.export.datasette import export_datasette
    from varro.ledger.place import ledger_place

    place = ledger_place(resolve_config(config, overrides, home=home))
    made = export_datasette(out.resolve())
    file = place if isinstance(place, Path) else "BACKUP/ledger.sqlite"
    print_result(
        as_json,
        {"export": str(out.resolve()), "ledger": str(file), **made},
        f"export: {out}, {made['n_tables']} tables, {made['n_queries']} queries; see "
        f"'datasette {file} --metadata {out}'",
    )


def _tracker_command(sink: str, about: str) -> None:
    def command(
        config: ConfigOption = None,
        overrides: SetOption = None,
        home: HomeOption = None,
        run: RunOption = None,
        as_json: JsonOption = False,
    ) -> None:
        from varro.day import report_folder
        from varro.export.chosen import opened_ledger
        from varro.export.sinks import feed, report_numbers

        resolved = resolve_config(config, overrides, home=home, run=run)
        with opened_ledger(resolved) as (ledger, info):
            begun, done = ledger.days_begun(info.name), ledger.days_done(info.name)
        if not done:
            raise StageError(f"no finished day in run {info.name!r}; see 'varro status'")
        rows = [
            report_numbers(report_folder(resolved.home, info.name, day), step=begun.index(day))
            for day in done
        ]
        timeout_s = resolved.sinks.timeout_s + len(rows)
        n_new = feed(
            sink, rows, run=info, home=resolved.home, config=resolved.sinks, timeout_s=timeout_s
        )
        print_result(
            as_json,
            {"sink": sink, "run": info.name, "n_days": len(rows), "n_new": n_new},
            f"{sink}: {n_new} of {len(rows)} days of run {info.name!r} were new to it",
        )

    command.__doc__ = (
        f"{about} What it has already stays as it is.\n\nNeeds the extra `{sink}`. "
        f"Example: varro export {sink} --run main"
    )
    export_app.command(sink)(command)


_tracker_command("trackio", "Give the numbers of all finished days to trackio.")
_tracker_command("wandb", "Give the numbers of all finished days to Weights & Biases.")
_tracker_command("tensorboard", "Write the numbers of all finished days as TensorBoard's files.")


def _tables(kind: str, out: Path, config: Config, as_json: bool) -> None:
    from varro.export.chosen import opened_ledger
    from varro.export.tables import export_tables

    with opened_ledger(config) as (ledger, info):
        made = export_tables(ledger, info.name, out.resolve(), kind=kind)
    counted = ", ".join(f"{n} {name}" for name, n in made.items())
    facts = {"export": str(out.resolve()), "run": info.name, **made}
    print_result(as_json, facts, f"export: {out}, {counted}")


def _hub() -> Any:
    from huggingface_hub import HfApi

    return HfApi(library_name="varro")


def _tell(as_json: bool, out: Path, chosen: Any, made: dict[str, Any], more: str) -> None:
    version, run = chosen.checkpoint.version, chosen.run.name
    facts = {"export": str(out.resolve()), "run": run, "version": version, **made}
    print_result(as_json, facts, f"export: {out}, v{version} of run {run!r}{more}")
