"""What a public site is made of, from a run's ledger; and whether a site is still what it says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from varro.config import Config
from varro.domain import Role, RunInfo, Stage, ToldGroup
from varro.errors import ConfigError, StageError
from varro.evaluation.stats import medoid
from varro.files import disk_errors
from varro.ledger.place import in_words, is_begun, ledger_place
from varro.ledger.store import Ledger, open_ledger
from varro.news.opml import load_opml
from varro.reward.embed import RememberingEmbedder, load_embedder
from varro.reward.score import reward_version
from varro.site.against import ledger_problems
from varro.site.build import SiteFacts
from varro.site.chain import load_chain
from varro.site.pages import MAX_NOTE
from varro.site.tally import week_of
from varro.site.verify import Verified, verify_site
from varro.site.write import Published, publish_site

SHOWN = (Role.TRAIN, Role.HELDOUT)
"""the served policy's groups; the frozen base's are its control"""


def publish(config: Config, folder: Path, now: datetime, *, anew: bool = False) -> Published:
    """Bring the run's site up to date.

    Raises: StageError if there is nothing to publish yet; SiteError, ConfigError, DiskError.
    """
    place, name = ledger_place(config), config.run.name
    if not is_begun(place):
        raise StageError(f"no ledger at {in_words(place)}; begin with 'varro train-day'")
    with open_ledger(place) as ledger:
        info = ledger.run(name)
        if info is None:
            known = ", ".join(repr(run.name) for run in ledger.runs()) or "none"
            raise StageError(f"no run {name!r} in {in_words(place)}; there is {known}, see --run")
        with _facts(config, ledger, info, now) as facts:
            if not facts.days:
                raise StageError(
                    f"run {name!r} has made no forecasts yet: there is nothing to publish"
                )
            return publish_site(folder, facts, anew=anew)


def verify(config: Config, folder: Path, now: datetime) -> tuple[Verified, str | None]:
    """What is wrong with a site, and the ledger that it was compared with, if its run has one."""
    found = verify_site(folder)
    place = ledger_place(config)
    if not is_begun(place):
        return found, None
    with open_ledger(place) as ledger:
        info = ledger.run(found.run)
        if info is None:
            return found, None
        with (
            _facts(config, ledger, info, now) as facts,
            disk_errors(f"cannot read the site in {folder}"),
        ):
            found.problems += ledger_problems(folder, facts, load_chain(folder)[0])
    return found, in_words(place)


@contextmanager
def _facts(config: Config, ledger: Ledger, info: RunInfo, now: datetime) -> Iterator[SiteFacts]:
    """What the ledger has of a run; its settings are those that the run was begun with."""
    run, settings = info.name, info.config
    version = settings.get("reward.version", reward_version(config.reward))
    stages = ledger.stage_runs(run)
    embedder = RememberingEmbedder(
        lambda: load_embedder(config.embedder), config.embedder.sha256, known=ledger.embeddings
    )

    def told(day: str) -> list[ToldGroup]:
        embedder.forget()
        return ledger.told_groups(run, day=day, roles=SHOWN, reward_version=version)

    def nearest(texts: Sequence[str]) -> int:
        return int(medoid(embedder.encode(texts)))

    publish = config.publish
    clocks = {stage.day: stage.as_of for stage in stages}
    yield SiteFacts(
        run=run,
        title=publish.title,
        base_url=publish.base_url,
        scores_only=publish.scores_only,
        is_replay=info.corpus != "live",
        n_days=publish.n_days,
        n_data_days=publish.n_data_days,
        updated=max(clocks.values(), default=now),
        now=max(clocks.values(), default=now) if info.corpus != "live" else now,
        days=sorted(s.day for s in stages if s.stage is Stage.FORECAST),
        clocks=clocks,
        told=told,
        medoid=nearest,
        window_h=float(settings.get("reward.window_h", config.reward.window_h)),
        min_window_h=float(settings.get("reward.min_window_h", config.reward.min_window_h)),
        seed=info.seed,
        evaluations=ledger.evaluations(run),
        probabilities=[
            (float(p), bool(happened))
            for s in stages
            if s.stage is Stage.SETTLE
            for p, happened in s.detail.get("probabilities", ())
        ],
        changes=_changes(ledger, run),
        feeds=_feeds(config) if info.corpus == "live" else (),
        notes=_notes(publish.notes or config.home / "notes"),
    )


def _changes(ledger: Ledger, run: str) -> list[tuple[str, str]]:
    """What became of the policy, by day."""
    found = [
        (
            update.day,
            f"version {update.from_version} became {update.to_version}, trained on "
            f"{update.metrics.get('n_trained', '—')} of {update.metrics['n_forecasts']} forecasts",
        )
        for update in ledger.updates(run)
    ]
    for stage in ledger.stage_runs(run, stage=Stage.UPDATE):
        reason = str(stage.detail.get("reason") or "")
        if not stage.detail.get("updated") and reason:
            found.append((stage.day, f"no update: {reason}"))
    for version in ledger.rollbacks(run):
        weights = f"version {version.version} has the weights of {version.parent} again"
        found.append((version.day, weights))
    return sorted(found, key=lambda item: item[0])


def _feeds(config: Config) -> list[tuple[str, str]]:
    if config.news.source != "feeds" or config.news.feeds is None:
        return []
    feeds = load_opml(config.news.feeds)
    return [(feed.name, urlsplit(feed.url).hostname or "") for feed in feeds]


def _notes(folder: Path) -> dict[str, str]:
    """Notes written by hand, by week.

    Raises: ConfigError for one that is not UTF-8 text, is too long, or is named after no week.
    """
    notes = {}
    for file in sorted(folder.glob("*.md")) if folder.is_dir() else []:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the note {file}: {error}") from error
        if len(text) > MAX_NOTE:
            raise ConfigError(
                f"the note {file} has {len(text):,} characters, and a page has room for "
                f"{MAX_NOTE:,}: shorten it, or lead to the rest with an address"
            )
        if not _is_week(file.stem):
            raise ConfigError(f"the note {file} is to be named after its week, as 2026-W35.md")
        notes[file.stem] = text
    return notes


def _is_week(name: str) -> bool:
    try:
        return week_of(datetime.strptime(f"{name}-1", "%G-W%V-%u").date().isoformat()) == name
    except ValueError:
        return False
