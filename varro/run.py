"""An open run: its config, ledger and news, and the machines it loads when they are needed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from varro import __version__
from varro.config import Config
from varro.domain import RunInfo, Stage, stable_seed
from varro.errors import ConfigError
from varro.ledger.place import is_begun, ledger_place
from varro.ledger.store import Ledger, open_ledger_of
from varro.lineage import Damaged, load_live
from varro.lock import hold_lock, lock_path
from varro.news.archive import Archive, load_archive
from varro.news.opml import Feed, load_opml
from varro.news.wanted import check_wanted
from varro.policy.folder import check_policy
from varro.reward.embed import RememberingEmbedder, check_embedder, load_embedder
from varro.reward.score import reward_version

if TYPE_CHECKING:
    from varro.policy.cluster import Cluster


class Progress(Protocol):
    """Who watches a day go by."""

    def started(self, day: str, stage: Stage, *, total: int | None, unit: str) -> None: ...
    def advanced(self, n: int, spared: int = 0) -> None: ...
    def finished(self, day: str, stage: Stage, *, seconds: float, summary: str) -> None: ...
    def warned(self, text: str) -> None: ...


class Silent:
    """Watches nothing."""

    def started(self, day: str, stage: Stage, *, total: int | None, unit: str) -> None: ...
    def advanced(self, n: int, spared: int = 0) -> None: ...
    def finished(self, day: str, stage: Stage, *, seconds: float, summary: str) -> None: ...
    def warned(self, text: str) -> None: ...


@dataclass
class OpenRun:
    """A run with its ledger, its news and, once needed, its machines."""

    config: Config
    ledger: Ledger
    info: RunInfo
    archive: Archive | None
    feeds: tuple[Feed, ...]
    embedder: RememberingEmbedder | None = None
    policy: Any = None
    trainer: Any = None
    """TrainerState of the live policy"""
    damaged: tuple[Damaged, ...] = ()
    """versions newer than the live policy that could not be used"""
    progress: Progress = field(default_factory=Silent)
    lock: Any = None
    """what holds the run for this process: a `RunLock`, or its file in a child of the holder"""
    cluster: Cluster | None = None
    """processes that share the policy's work, of which this is rank 0"""

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def home(self) -> Path:
        return self.config.home

    def __enter__(self) -> OpenRun:
        return self

    def __exit__(self, *exc: object) -> None:
        self.ledger.close()
        self.lock.close()


def open_run(
    config: Config, *, now: datetime | None = None, held: tuple[Any, int] | None = None
) -> OpenRun:
    """The run a config names, begun if it is new, for this process alone.

    `now` is when the run is taken, for others to read; `held` is lock and lease number of a parent
    that holds it already.

    What can be refused is refused before anything is written.
    Raises: FeedError for a bad archive or feed list; PolicyError; LedgerError, also for a database
    of another home; HeldError if another process holds the run; ConfigError if the run was begun
    with another configuration, or what news is wanted can not be told.
    """
    check_wanted(config.news)
    archive: Archive | None = None
    feeds: tuple[Feed, ...] = ()
    corpus = "live"
    if config.news.source == "archive":
        assert config.news.archive is not None
        archive = load_archive(
            config.news.archive, max_malformed_frac=config.news.max_malformed_frac
        )
        corpus = archive.corpus
    else:
        assert config.news.feeds is not None
        feeds = load_opml(config.news.feeds)
    wanted = RunInfo(
        name=config.run.name,
        seed=config.run.seed,
        corpus=corpus,
        config_hash=config.identity_hash(),
        config=config.identity() | {"reward.version": reward_version(config.reward)},
        varro_version=__version__,
    )
    if not is_begun(ledger_place(config)):
        check_embedder(config.embedder)
        check_policy(config.policy)
    if held is not None:
        lock = held[0]
    else:
        path = lock_path(config.home, wanted.name)
        lock = hold_lock(path, now=now, lease_s=config.schedule.lease_s)
    ledger = None
    try:
        ledger = open_ledger_of(config)
        known = ledger.run(wanted.name)
        if known is not None:
            _refuse_changed_config(known, wanted)
        if held is not None:
            ledger.continue_lease(wanted.name, held[1])
        else:
            ledger.take_home(config.home)
            ledger.take_lease(wanted.name, str(lock.holder), now)
        return OpenRun(config, ledger, known or wanted, archive, feeds, lock=lock)
    except BaseException:
        if ledger is not None:
            ledger.close()
        lock.close()
        raise


def embedder_of(work: OpenRun) -> RememberingEmbedder:
    """The embedder, its vectors kept in the ledger; loaded when a text must be encoded."""
    if work.embedder is None:
        config = work.config.embedder
        work.embedder = RememberingEmbedder(
            lambda: load_embedder(config),
            config.sha256,
            known=work.ledger.embeddings,
            keep=work.ledger.keep_embeddings,
        )
    return work.embedder


def live_policy(work: OpenRun) -> Any:
    """The policy with its newest whole checkpoint in it; a new run's is version 0, the frozen
    base."""
    if work.policy is None:
        from varro.policy.checkpoint import TrainerState

        config = work.config
        policy = load_bare_policy(config)
        newest = work.ledger.checkpoint(work.name)
        if newest is None:
            work.trainer = TrainerState(kl_coef=config.leash.kl_coef)
        else:
            live = load_live(config.home, work.ledger, policy, newest)
            work.trainer, work.damaged = live.trainer, live.damaged
            for lost in live.damaged:
                work.progress.warned(
                    f"v{lost.version} of run {work.name!r} cannot be used ({lost.reason}): "
                    f"v{live.checkpoint.version} serves, what {lost.day} trained is lost"
                )
            # Days refused since then have no checkpoint, but they have steered the trainer. Older
            # rows do not say whose steering it was: the newest version's.
            used = live.checkpoint
            for stage in work.ledger.stage_runs(work.name, stage=Stage.UPDATE):
                steered = stage.detail.get("policy_version", newest.version) == used.version
                if steered and stage.day > used.day and "trainer_next" in stage.detail:
                    work.trainer = replace(work.trainer, **stage.detail["trainer_next"])
        if work.cluster is not None:
            policy.join(work.cluster)
        work.policy = policy
    return work.policy


def load_bare_policy(config: Config) -> Any:
    """The frozen base with the run's first adapter: version 0."""
    from varro.policy.load import load_policy

    return load_policy(
        config.policy,
        lora_seed=stable_seed(config.run.seed, "lora"),
        budget_bytes=config.memory.budget_bytes(),
    )


def _refuse_changed_config(known: RunInfo, wanted: RunInfo) -> None:
    changed = [
        f"{key} = {known.config.get(key)!r}, now {wanted.config.get(key)!r}"
        for key in sorted(known.config.keys() | wanted.config.keys())
        if known.config.get(key) != wanted.config.get(key)
    ]
    if known.corpus != wanted.corpus:
        changed.append(f"archive {known.corpus!r}, now {wanted.corpus!r}")
    if known.config.keys() != wanted.config.keys():
        raise ConfigError(
            f"run {known.name!r} was begun by Varro {known.varro_version}, whose settings were "
            "not the same as this one's: begin another run with --run NAME"
        )
    if changed:
        raise ConfigError(
            f"run {known.name!r} was begun with {'; '.join(changed)}: put it back, or begin "
            "another run with --run NAME"
        )
