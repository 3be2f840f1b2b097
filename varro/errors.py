"""The exception tree.

VarroError                 anything Varro refuses, with a message a person can act on
├── ConfigError            a configuration file, key or value (exit 3)
├── FeedError              an archive or a feed: what comes in from outside (exit 4)
│   └── EmptyCycleError    feeds that are well and have nothing new, so far (exit 13)
├── LedgerError            the database: newer schema, conflicting facts (exit 5)
│   └── StaleLeaseError    another process has taken the run over from this one (exit 11)
├── PolicyError            model, tokenizer or embedder that cannot be used (exit 6)
│   ├── StalePolicyError   data sampled by another version than the live one
│   └── CheckpointError    a checkpoint that is foreign, or not what was asked for
│       └── DamagedCheckpointError   one whose files are missing or not those that were written
├── StageError             a stage of a day that cannot go on (exit 7); carries day and stage
│   └── HeldError          another process is at work on the run (exit 10)
├── ClusterError           other processes that are gone, or do not agree (exit 8)
├── SiteError              a published site that is not what its chain or the ledger says (exit 14)
└── DiskError              a disk that is full, broken or not writable; no descriptor left (exit 9)
"""

DEGRADED = 12
"""exit code of a day that is done, but whose news was too thin to be trained on: no error"""


class VarroError(Exception):
    """Base of every error Varro raises on purpose; `exit_code` is what the command line returns."""

    exit_code = 1


class ConfigError(VarroError):
    exit_code = 3


class FeedError(VarroError):
    exit_code = 4


class EmptyCycleError(FeedError):
    exit_code = 13


class LedgerError(VarroError):
    exit_code = 5


class StaleLeaseError(LedgerError):
    exit_code = 11


class PolicyError(VarroError):
    exit_code = 6


class StalePolicyError(PolicyError):
    pass


class CheckpointError(PolicyError):
    pass


class DamagedCheckpointError(CheckpointError):
    pass


class StageError(VarroError):
    exit_code = 7

    def __init__(self, message: str, *, day: object = None, stage: str | None = None) -> None:
        super().__init__(message)
        self.day = day
        self.stage = stage


class HeldError(StageError):
    exit_code = 10


class ClusterError(VarroError):
    exit_code = 8


class DiskError(VarroError):
    exit_code = 9


class SiteError(VarroError):
    exit_code = 14
