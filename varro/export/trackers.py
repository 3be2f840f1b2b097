"""The process that feeds one tracker: days on standard input, how many were new on the last line.

Each tracker is asked what it has, and given only what comes after: giving it twice changes nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Message = dict[str, Any]


def main() -> int:
    message: Message = json.load(sys.stdin)
    feed: dict[str, Callable[[Message], int]] = {
        "trackio": _feed_trackio,
        "wandb": _feed_wandb,
        "tensorboard": _feed_tensorboard,
    }
    sink = message["sink"]
    try:
        print(f"\n{feed[sink](message)}", flush=True)
    except ImportError as error:
        print(f"it needs the extra '{sink}' ({error})", file=sys.stderr)
        return 1
    except Exception as error:
        print(f"{type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def _feed_trackio(message: Message) -> int:
    import trackio

    run = trackio.init(
        project=message["project"],
        name=message["run"],
        config=message["config"],
        resume="allow",
        embed=False,
        auto_log_gpu=False,
        auto_log_cpu=False,
    )
    # The first step it does not have. Nothing public says it.
    rows = [row for row in message["rows"] if row["step"] >= run._next_step]
    for row in rows:
        trackio.log({**row["numbers"], "day": row["day"]}, step=row["step"])
    trackio.finish()
    return len(rows)


def _feed_wandb(message: Message) -> int:
    import wandb

    run = wandb.init(
        project=message["project"],
        name=message["run"],
        id=message["id"],
        config=message["config"],
        resume="allow",
    )
    rows = [row for row in message["rows"] if not run.resumed or row["step"] >= run.step]
    for row in rows:
        run.log({**row["numbers"], "day": row["day"]}, step=row["step"])
    run.finish()
    return len(rows)


def _feed_tensorboard(message: Message) -> int:
    """A file a day, by its name: a day that is given again replaces itself."""
    from tensorboardX import SummaryWriter

    folder = Path(message["folder"])
    partial = folder.with_name(f".{folder.name}.partial")
    n_new = 0
    folder.mkdir(parents=True, exist_ok=True)
    for row in message["rows"]:
        target = folder / f"events.out.tfevents.{row['day']}"
        n_new += not target.exists()
        shutil.rmtree(partial, ignore_errors=True)
        with SummaryWriter(logdir=str(partial), write_to_disk=True) as writer:
            for name, value in row["numbers"].items():
                writer.add_scalar(name, value, row["step"], walltime=row["at"])
        (file,) = partial.iterdir()
        os.replace(file, target)
    shutil.rmtree(partial, ignore_errors=True)
    return n_new


if __name__ == "__main__":
    sys.exit(main())
