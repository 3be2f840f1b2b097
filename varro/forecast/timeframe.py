"""Times that a text names, as dates. Pure.

Every phrase is resolved against the date the forecast was made on: "by Friday" to that Friday,
"next week" to its Monday and Sunday, "in 2-4 weeks" to the days from a fortnight to four weeks on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta

TIME_WORDS = frozenset(
    """monday tuesday wednesday thursday friday saturday sunday january february march april may
    june july august september october november december today tonight tomorrow weekend hour hours
    day days week weeks month months quarter quarters year years morning afternoon evening night
    noon midnight overnight soon term""".split()
)

_NOMINAL = date(2025, 7, 16)
"""stands for the date of a forecast without one: a Wednesday in mid-month, early in a quarter"""
_NAMED_DAY = 0.9
"""nearness of a named day when nobody knows how far off it is"""
_FALL = 0.6
"""exponent of the fall beyond the window: for two days, a week 0.47, a month 0.20, a year 0.04"""
_CENTURY = 36_500
_FEW = 3
_COUNTS = {
    "a": 1, "an": 1, "one": 1, "two": 2, "couple of": 2, "a couple of": 2, "three": 3,
    "a few": _FEW, "few": _FEW, "four": 4, "five": 5, "several": 5, "six": 6, "seven": 7,
    "eight": 8, "nine": 9, "ten": 10, "twelve": 12, "twenty-four": 24, "forty-eight": 48,
}  # fmt: skip
_UNITS = {
    "hour": 1 / 24, "day": 1, "session": 1, "week": 7, "fortnight": 14, "month": 30, "quarter": 91,
    "year": 365, "decade": 3650,
}  # fmt: skip
_VAGUE = {"near": 30, "short": 30, "medium": 365, "long": 1095, "foreseeable": 365}
_DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
_ORDINALS = "first second third fourth".split()
_DEADLINES = frozenset("by before until till through within".split())

Frame = tuple[date, date]


@dataclass(frozen=True, slots=True)
class TimePhrase:
    """A time named in a text."""

    start: int
    end: int
    """character span"""
    first: date
    last: date
    """the days it covers; counted from a nominal date where the forecast's own is not known"""
    is_day: bool
    """names a day of the calendar"""


def find_times(text: str, *, made_on: date | None) -> list[TimePhrase]:
    """Times named in a text, in their order; of overlapping ones the first and longest.

    A weekday is its next occurrence, `made_on` itself included: "by Friday", said on a Friday, is
    today. A day of a month without a year is the occurrence nearest to `made_on`, so that a day
    just past stays past.
    """
    found = sorted(_all_times(text, made_on or _NOMINAL), key=lambda t: (t.start, -t.end))
    kept: list[TimePhrase] = []
    for phrase in found:
        if not kept or phrase.start >= kept[-1].end:
            kept.append(phrase)
    return kept


def nearness(phrase: TimePhrase, *, made_on: date | None, window_days: float) -> float:
    """1 if the time ends within the window, else (window / days)^0.6; 0 if it is past.

    The window is rounded up to whole days. Without `made_on` a named day counts 0.9.
    """
    if made_on is None and phrase.is_day:
        return _NAMED_DAY
    window = max(1, math.ceil(window_days))
    days = (phrase.last - (made_on or _NOMINAL)).days
    if days < 0 and made_on is not None:
        return 0.0
    return float(min(1.0, (window / max(abs(days), 1)) ** _FALL))


def _all_times(text: str, today: date) -> Iterator[TimePhrase]:
    for pattern, resolve, is_day in _PHRASES:
        for match in pattern.finditer(text):
            frame = resolve(match, today)
            if frame is not None:
                yield TimePhrase(*match.span(), *frame, is_day=is_day)


def _near_day(match: re.Match[str], today: date) -> Frame:
    """ "tonight", "by tomorrow's close", "the next session"."""
    word = match["word"].lower()
    days = 2 if word.startswith("day") else 0 if word.startswith(("to", "this")) else 1
    days = 1 if word == "tomorrow" else days
    return today + timedelta(days), today + timedelta(days)


def _next_close(match: re.Match[str], today: date) -> Frame:
    return today, today + timedelta(1)


def _length(match: re.Match[str], today: date) -> Frame:
    """ "within 24 hours", "in 2-4 weeks"."""
    low = _count(match["low"])
    high = 2 if match["or_two"] else _count(match["high"] or match["low"])
    first = low if match["lead"].lower() == "in" else 0
    unit = _UNITS[match["unit"].lower()]
    return _ahead(first * unit, today), _ahead(max(low, high) * unit, today)


def _coming(match: re.Match[str], today: date) -> Frame:
    """ "over the next year", "in the coming months"."""
    count = _FEW if match["plural"] else 1
    return today, _ahead(count * _UNITS[match["unit"].lower()], today)


def _weekday(match: re.Match[str], today: date) -> Frame | None:
    lead, which = (match["lead"] or "").lower(), (match["which"] or "").lower()
    if not (lead or which or match["owner"]) and not _AFTER_BARE.match(match.string, match.end()):
        return None
    day = _DAYS.index(match["day"].lower())
    ahead = 7 - today.weekday() + day if which == "next" else (day - today.weekday()) % 7
    last = today + timedelta(ahead)
    return (today if lead in _DEADLINES else last), last


def _weekend(match: re.Match[str], today: date) -> Frame:
    sunday = today + timedelta(6 - today.weekday() + (7 if match["next"] else 0))
    return max(today, sunday - timedelta(1)), sunday


def _date(match: re.Match[str], today: date) -> Frame | None:
    day = _nearest(int(match["d"]), match["month"], match["y"], today)
    return None if day is None else (day, day)


def _iso_date(match: re.Match[str], today: date) -> Frame | None:
    try:
        day = date.fromisoformat(match[0])
    except ValueError:
        return None
    return day, day


def _month(match: re.Match[str], today: date) -> Frame | None:
    first = _nearest(1, match["month"], match["y"], today.replace(day=1))
    return None if first is None else (first, _month_end(first))


def _period(match: re.Match[str], today: date) -> Frame:
    """ "this week", "by the end of the month", "next quarter", "by year-end"."""
    unit = match["unit"].lower()
    step = 1 if match["which"].lower() == "next" else 0
    if unit == "day":
        return today, today + timedelta(1)
    if unit == "week":
        monday = today + timedelta(7 * step - today.weekday())
        return max(today, monday), monday + timedelta(6)
    months = {"month": 1, "quarter": 3, "year": 12}[unit]
    first = ((today.year * 12 + today.month - 1) // months + step) * months
    last = first + months - 1
    return (
        max(today, date(first // 12, first % 12 + 1, 1)),
        _month_end(date(last // 12, last % 12 + 1, 1)),
    )


def _quarter(match: re.Match[str], today: date) -> Frame:
    name = match["q"].lower()
    number = int(name[1]) if name.startswith("q") else _ORDINALS.index(name) + 1
    year = int(match["y"] or today.year)
    if not match["y"] and 3 * number < today.month:
        year += 1
    return date(year, 3 * number - 2, 1), _month_end(date(year, 3 * number, 1))


def _year(match: re.Match[str], today: date) -> Frame:
    return date(int(match["y"]), 1, 1), date(int(match["y"]), 12, 31)


def _vague(match: re.Match[str], today: date) -> Frame:
    days = next((days for word, days in _VAGUE.items() if word in match[0].lower()), 30)
    return today, today + timedelta(days)


def _count(word: str) -> int:
    return int(word) if word.isdigit() else _COUNTS[" ".join(word.lower().split())]


def _ahead(days: float, today: date) -> date:
    return today + timedelta(min(_CENTURY, math.ceil(days)))


def _month_end(first: date) -> date:
    return (first.replace(day=28) + timedelta(4)).replace(day=1) - timedelta(1)


def _nearest(day: int, month: str, year: str | None, today: date) -> date | None:
    """The occurrence nearest to today; None if there is no such day."""
    number = _MONTHS.index(month[:3].lower()) + 1
    found = []
    for each in (int(year),) if year else (today.year - 1, today.year, today.year + 1):
        try:
            found.append(date(each, number, day))
        except ValueError:
            continue
    return min(found, key=lambda d: abs((d - today).days), default=None)


# A bare weekday is a time at the end of its clause ("rise 2% Tuesday as ..."), not before a noun.
_AFTER_BARE = re.compile(
    r"\s{0,2}(?:[.,;:!?)–—]|$|(?:by|as|on|amid|after|because|due|driven|when|while|if|but|and|with"
    r"|following|in|at|to)\b)",
    re.IGNORECASE,
)
_N = rf"(?:\d{{1,4}}|{'|'.join(sorted(_COUNTS, key=len, reverse=True))})"
_LEAD = r"(?:(?P<lead>by|on|before|until|till|through|in|within|over|during|at)\s)?(?:the\s)?"
_END = r"(?:(?:end|close|start|middle)\s(?:of|on)\s(?:trading\s(?:on\s)?)?(?:the\s)?)?"
_PART = r"(?:early\s|late\s|later\s|mid-)?"
_HOUR = r"(?:(?:\s|-)(?:morning|afternoon|evening|night|noon|close)\b)?"
_YEAR = r"(?:,?\s(?P<y>20\d\d)\b)?"
_PERIOD = r"(?P<unit>week|month|quarter|year)"
_MONTH = (
    r"(?-i:(?P<month>Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?"
    r"|Sept?(?:ember)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)\b)"
)  # the case counts: "may" and "march" are verbs

Resolver = Callable[[re.Match[str], date], Frame | None]
_PHRASES: tuple[tuple[re.Pattern[str], Resolver, bool], ...] = tuple(
    (re.compile(rf"\b{pattern}", re.IGNORECASE), resolve, resolve in (_weekday, _date, _iso_date))
    for resolve, pattern in (
        (
            _near_day,
            rf"{_LEAD}{_END}(?P<word>day\safter\stomorrow|today|tonight|tomorrow|overnight"
            r"|this\s(?:morning|afternoon|evening)|(?:next|following)\s(?:trading\s|business\s)?"
            rf"(?:day|session))\b(?:[’']s\s(?:close|session|end)\b)?{_HOUR}",
        ),
        (_next_close, r"(?:by|at|before)\sthe\s(?:next\s|closing\s)?(?:close|bell)\b"),
        (
            _length,
            r"(?P<lead>within|in|over|during)\s(?:the\s)?(?:next\s|coming\s|following\s)?"
            rf"(?P<low>{_N})(?:\s?(?:-|–|to|or)\s?(?P<high>{_N}))?[\s-]"
            rf"(?:trading\s|business\s)?(?P<unit>{'|'.join(_UNITS)})s?(?P<or_two>\sor\stwo)?\b",
        ),
        (
            _coming,
            r"(?:(?:within|in|over|during)\s)?the\s(?:next|coming|following)\s"
            rf"(?P<unit>{'|'.join(_UNITS)})(?P<plural>s?)\b",
        ),
        (
            _weekday,
            rf"{_LEAD}{_END}{_PART}(?:(?P<which>this|next|coming)\s)?(?<!last\s)(?<!since\s)"
            rf"(?<!Black\s)(?<!Good\s)(?P<day>{'|'.join(_DAYS)})\b(?P<owner>[’']s)?{_HOUR}",
        ),
        (
            _weekend,
            r"(?:by|over|this|on|before|during)\s(?:the\s|this\s)?(?P<next>next\s)?weekend\b",
        ),
        (_date, rf"{_LEAD}(?P<d>\d{{1,2}})(?:st|nd|rd|th)?\s(?:of\s)?{_MONTH}{_YEAR}"),
        (_date, rf"{_LEAD}{_MONTH}\.?\s(?P<d>\d{{1,2}})(?:st|nd|rd|th)?(?![\d%]|\.\d){_YEAR}"),
        (_iso_date, r"20\d\d-\d\d-\d\d\b"),
        (
            _month,
            rf"(?:by|in|before|until|through|during|this|next)\s(?:the\s)?{_END}{_PART}{_MONTH}"
            rf"(?!\s\d{{1,2}}\b){_YEAR}",
        ),
        (
            _period,
            rf"{_LEAD}{_END}{_PART}(?<!far\s)(?<!earlier\s)(?P<which>this|next|coming)\s{_PERIOD}"
            r"(?:-end|\send)?\b(?!(?<=year)[’']s)",
        ),
        (
            _period,
            r"(?:by|before|within|until|during)\s(?:the\s)?(?P<which>)"
            r"(?:end\sof\s(?:the\s)?)?(?P<unit>week|month|quarter|year|day)"
            r"(?:(?:-|\s|[’']s\s)end)?\b",
        ),
        (
            _quarter,
            rf"(?:by|in|before|until|during)\s(?:the\s)?{_END}"
            rf"(?P<q>Q[1-4]|(?:{'|'.join(_ORDINALS)})(?=\squarter))(?:\squarter)?(?:\sof)?{_YEAR}",
        ),
        (_year, r"(?:by|in|before|until|through|during)\s(?P<y>20\d\d)\b(?![-/])"),
        (
            _vague,
            r"(?:soon|shortly|eventually|(?:(?:in|over|for)\sthe\s)?(?:near|short|medium|long"
            r"|foreseeable)[\s-](?:term|run|future))\b",
        ),
    )
)
