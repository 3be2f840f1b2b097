"""The order of a day's stages, and what must be there before the first of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from varro.day.due import newest_begun
from varro.day.evaluate import evaluate_day
from varro.day.forecast import forecast_day
from varro.day.ingest import ingest_day
from varro.day.report import report_day, write_failed_report
from varro.day.settle import settle_day
from varro.day.update import update_day
from varro.domain import Stage
from varro.errors import StageError, StaleLeaseError, VarroError
from varro.files import disk_errors
from varro.lineage import refuse_full_disk
from varro.reward.embed import check_embedder
from varro.run import OpenRun, live_policy
from varro.service.slots import DueDay


def run_day(work: OpenRun, due: DueDay, *, only: Stage | None = None) -> None:
    """Run a day's unfinished stages in order, or just one of them.

    Raises: StageError if `only` names a stage whose predecessor is not finished; any VarroError of
    a stage, after which everything finished before stays.
    """
    steps: tuple[tuple[Stage, Callable[[OpenRun, DueDay], None]], ...] = (
        (Stage.INGEST, ingest_day),
        (Stage.SETTLE, settle_day),
        (Stage.UPDATE, update_day),
        (Stage.FORECAST, forecast_day),
        (Stage.EVALUATE, evaluate_day),
        (Stage.REPORT, report_day),
    )
    _refuse_disorder(work, due)
    finished = {s.stage for s in work.ledger.stage_runs(work.name, due.day)}
    if only is None and Stage.REPORT not in finished:
        with told_on_page(work, due, "start"), disk_errors(f"before {due.day}"):
            _load_machines(work)
    for stage, step in steps:
        if only is not None and stage is not only:
            if stage not in finished:
                raise StageError(
                    f"stage {only} of {due.day} needs {stage} first; run 'varro {stage}', or "
                    "'varro train-day' for the whole day",
                    day=due.day,
                    stage=only,
                )
            continue
        if stage not in finished:
            with told_on_page(work, due, stage), disk_errors(f"stage {stage} of {due.day}"):
                step(work, due)
        if stage is only:
            return


@contextmanager
def told_on_page(work: OpenRun, due: DueDay, stage: str) -> Iterator[None]:
    """What ends a stage inside is a VarroError, and stands on the day's page; but not if another
    process has taken the run over, whose page it is then."""
    try:
        yield
    except StaleLeaseError:
        raise
    except Exception as error:
        write_failed_report(work, due, stage, error)
        if isinstance(error, VarroError):
            raise
        raise StageError(
            f"stage {stage} of {due.day} failed: {type(error).__name__}: {error}",
            day=due.day,
            stage=stage,
        ) from error


def _refuse_disorder(work: OpenRun, due: DueDay) -> None:
    """A policy must not forecast a day after it has trained on a later one, nor leave one half."""
    newest = newest_begun(work.ledger, work.name)
    if newest is None or newest.cycle == due.day or due.day in work.ledger.days_done(work.name):
        return
    if due.day < newest.cycle:
        raise StageError(
            f"day {due.day} comes before {newest.cycle}, which run {work.name!r} has begun or done:"
            " its policy knows what followed; begin another run with --run NAME",
            day=due.day,
        )
    if newest.is_half:
        raise StageError(
            f"day {newest.cycle} of run {work.name!r} was begun and not finished; finish it "
            "first with 'varro train-day' (or 'varro replay' from that day)",
            day=due.day,
        )


def _load_machines(work: OpenRun) -> None:
    """Embedder, live policy and disk, checked before a day writes anything."""
    refuse_full_disk(work.home, live_policy(work).trained_bytes(), work.config.checkpoints)
    check_embedder(work.config.embedder)
