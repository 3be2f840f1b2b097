"""A day whose stages run in a process each: when a stage has ended, all its memory is the system's
again, what torch, MLX and malloc hold back included. The process that waits stays small.
"""

from __future__ import annotations

import os
import threading
import traceback
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.reduction import DupFd
from typing import Any

from rich.console import Console

from varro.config import Config
from varro.day import run_day
from varro.day.order import told_on_page
from varro.domain import Stage
from varro.errors import StageError
from varro.files import disk_errors
from varro.lineage import refuse_full_disk
from varro.policy.folder import check_policy, trained_bytes
from varro.reward.embed import check_embedder
from varro.run import OpenRun, open_run
from varro.service.doing import DoingFile
from varro.service.ending import deaf_children, ending_of
from varro.service.progress import StageProgress
from varro.service.slots import DueDay


def run_day_apart(work: OpenRun, due: DueDay) -> None:
    """`run_day`, each unfinished stage in a process of its own, under this one's lock.

    Raises: what the stage raises, with the child's traceback as a note; StageError if its process
    ended without a word; before the first, DiskError if there is no room for what the day makes.
    """
    finished = {s.stage for s in work.ledger.stage_runs(work.name, due.day)}
    if Stage.REPORT not in finished:
        with told_on_page(work, due, "start"), disk_errors(f"before {due.day}"):
            check_policy(work.config.policy)
            check_embedder(work.config.embedder)
            trained = trained_bytes(work.config.policy)
            refuse_full_disk(work.home, trained, work.config.checkpoints)
    for stage in Stage:
        if stage not in finished and stage is not Stage.PUBLISH:
            _run_stage_apart(work, due, stage)


def _run_stage_apart(work: OpenRun, due: DueDay, stage: Stage) -> None:
    # Spawned, not forked: MLX and torch do not survive a fork.
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    is_watched = isinstance(work.progress, StageProgress)
    child = context.Process(
        target=_stage,
        args=(
            theirs,
            (_Inherited(work.lock.fileno()), work.ledger.lease_number),
            work.config,
            due,
            stage,
            is_watched,
        ),
    )
    try:
        with deaf_children():
            child.start()
        theirs.close()
        error = ours.recv()
    except EOFError:
        child.join()
        with told_on_page(work, due, stage):  # an error of its own it has told itself
            raise StageError(
                f"the process of stage {stage} of {due.day} ended without a word "
                f"({ending_of(child.exitcode)}); what was finished before stays, run the day again",
                day=due.day,
                stage=stage,
            ) from None
    finally:
        if child.pid is not None:
            child.kill()  # of no effect on one that has ended; else we were interrupted
            child.join()
    if error is not None:
        raise error


class _Inherited:
    """A file descriptor that a spawned process has too: one lock, held by both."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (DupFd(self.fd),)


def _received(duplicate: Any) -> _Inherited:
    return _Inherited(duplicate.detach())


def _end_with_parent() -> None:
    """A parent that was killed can end nobody, and this process would go on with its lock."""
    waiting = parent_process()
    assert waiting is not None
    waiting.join()
    os._exit(1)  # a stage writes all or nothing


def _stage(
    answer: Connection,
    held: tuple[_Inherited, int],
    config: Config,
    due: DueDay,
    stage: Stage,
    is_watched: bool,
) -> None:
    """The child: one stage, and None or what it raised as the answer."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        if not _embeds(stage, config):
            from varro.policy.load import leave_out_torch

            leave_out_torch()
        with open_run(config, held=(os.fdopen(held[0].fd, "ab"), held[1])) as work:
            if is_watched:
                file = DoingFile(work.home, work.name)
                work.progress = StageProgress(Console(stderr=True), file)
            run_day(work, due, only=stage)
    except Exception as error:  # whatever it is, it is the parent's
        error.add_note(traceback.format_exc())
        answer.send(error)
    else:
        answer.send(None)


def _embeds(stage: Stage, config: Config) -> bool:
    """Whether a stage may encode a text."""
    if stage is Stage.FORECAST:
        return config.curriculum.enabled
    if stage is Stage.INGEST:
        return bool(config.news.topics)
    return stage in (Stage.SETTLE, Stage.REPORT)
