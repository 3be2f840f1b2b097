"""The day: the only room that knows the order of stages, and holds both ledger and stages.

    ingest → settle → update → publish → forecast → evaluate → report

`order.run_day` is this line as code, and each stage is the module of its name. Each finished stage
is one row, committed together with what it made; a finished stage is skipped, so a day can be run
again after any crash and ends as if nothing had happened. Training comes before forecasting: every
forecast is sampled from the newest policy, and tomorrow's update starts from exactly the weights
that sampled its data.
"""

from varro.day.due import due_days, end_of_day, newest_begun
from varro.day.order import run_day
from varro.day.report import newest_report, report_folder, write_all_reports, write_day_report
from varro.service.slots import DueDay

__all__ = [
    "DueDay",
    "due_days",
    "end_of_day",
    "newest_begun",
    "newest_report",
    "report_folder",
    "run_day",
    "write_all_reports",
    "write_day_report",
]
