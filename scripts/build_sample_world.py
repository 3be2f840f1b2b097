"""Write the sample world and its negative control: `data/sample/{world,shuffled}.jsonl.gz`.

The world is an invented news stream with a known rule, so that a learner's gain on it can be told
from luck. Every day has 48 headlines: two on each of 24 storylines, from two sources and in two
wordings. A storyline has an entity, an aspect of it and a driver, lasts 4-6 days, and its entity
never comes back.

Rule: the driver's sign fixes the direction. A positive driver makes the aspect rise on each day
after the first, a negative one makes it fall. Day 1 announces the driver and states no direction
("Norvik Energy reports strong gas demand"); later days state the move, a small magnitude and the
driver ("Norvik Energy shares rise 2% on strong gas demand"). So the direction can be read from
the headline on later days, and on day 1 only from the words of the driver. Magnitudes are noise.

Storylines that began before the world did are cut at its first day, and those that outlive it at
its last.

`shuffled` holds the same days in another order, stamped with their new dates: no day keeps its
place or its successor, and a day shares no more storylines with the next one than with the days
that serve as placebo, so nothing in a day tells of the next one in particular.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random

FIRST_DAY = datetime(2026, 1, 5, tzinfo=UTC)
STORYLINES_PER_DAY = 24
HEADLINES_PER_DAY = 2 * STORYLINES_PER_DAY
LONGEST = 6
"""days a storyline may last"""

SOURCES = {
    "meridian-post": "The Meridian Post",
    "harbour-wire": "Harbour Wire",
    "daily-lantern": "The Daily Lantern",
    "northgate-journal": "Northgate Journal",
    "civic-ledger": "The Civic Ledger",
    "field-and-sky": "Field & Sky",
    "orbit-dispatch": "Orbit Dispatch",
}

DRIVERS: dict[str, dict[int, tuple[str, ...]]] = {
    "commerce": {
        1: (
            "strong gas demand",
            "robust export demand",
            "record new orders",
            "a landmark supply deal",
            "lower fuel costs",
            "a praised product launch",
        ),
        -1: (
            "a dockworkers strike",
            "weak export demand",
            "cancelled orders",
            "a costly product recall",
            "a factory fire",
            "a crippling cyber attack",
        ),
    },
    "public": {
        1: (
            "a popular pension reform",
            "strong jobs data",
            "a historic peace accord",
            "a successful debt auction",
            "broad coalition support",
        ),
        -1: (
            "a bribery scandal",
            "weak jobs data",
            "a bitter coalition rift",
            "a failed debt auction",
            "angry street protests",
        ),
    },
    "nature": {
        1: (
            "welcome spring rain",
            "mild sunny weather",
            "ample mountain snowmelt",
            "healthy fertile soil",
            "a successful conservation scheme",
        ),
        -1: (
            "a severe drought",
            "a damaging late frost",
            "a locust outbreak",
            "a violent hailstorm",
            "toxic algae",
        ),
    },
    "civic": {
        1: (
            "a generous federal grant",
            "a breakthrough discovery",
            "a championship win",
            "a fast new rail link",
            "an acclaimed festival",
        ),
        -1: (
            "a sudden funding freeze",
            "a measles outbreak",
            "a doping scandal",
            "a rail shutdown",
            "a water contamination scare",
        ),
    },
}


@dataclass(frozen=True)
class Kind:
    """What an entity is called, what can be said of it, and whether it can speak."""

    domain: str
    forms: tuple[str, ...]
    aspects: tuple[str, ...]
    speaks: bool = True


KINDS = (
    Kind(
        "commerce",
        tuple(
            f"{{name}} {what}"
            for what in """Energy Motors Foods Robotics Steel Pharma Airlines Telecom""".split()
        ),
        ("shares", "sales", "orders", "output", "profit"),
    ),
    Kind(
        "commerce",
        ("Port {name}", "{name} Harbour", "{name} Freight", "{name} Railways"),
        ("traffic", "exports", "cargo volumes", "arrivals"),
    ),
    Kind(
        "public",
        tuple(f"{{name}} {what} Ministry" for what in ["Finance", "Transport", "Trade", "Health"]),
        ("approval", "tax receipts", "bond prices", "spending"),
    ),
    Kind(
        "public",
        tuple(
            f"{title} {{name}} {{name}}" for title in ["President", "Premier", "Senator", "Mayor"]
        ),
        ("approval", "poll numbers", "campaign donations"),
    ),
    Kind(
        "public",
        tuple(f"{{name}} {what}" for what in ["crown", "florin", "thaler", "dinar"]),
        ("trading", "reserves", "exchange rates"),
        speaks=False,
    ),
    Kind(
        "nature",
        tuple(
            f"{{name}} {what}" for what in ["wheat", "coffee", "rice", "cotton", "barley", "cocoa"]
        ),
        ("harvest", "yields", "exports", "acreage"),
        speaks=False,
    ),
    Kind(
        "nature",
        ("Lake {name}", "{name} River", "{name} Reservoir", "{name} Wetlands"),
        ("water levels", "fish stocks", "bird counts"),
        speaks=False,
    ),
    Kind(
        "civic",
        tuple(f"{{name}} {what}" for what in ["Institute", "Observatory", "University", "Clinic"]),
        ("enrolment", "funding", "patient numbers", "publications"),
    ),
    Kind(
        "civic",
        ("{name} City", "New {name}", "{name} Valley", "{name} Island"),
        ("tourism", "house prices", "hotel bookings", "employment"),
    ),
    Kind(
        "civic",
        tuple(f"{{name}} {what}" for what in ["United", "Rovers", "Athletic", "Wanderers"]),
        ("ticket sales", "attendance", "merchandise sales"),
    ),
)

SINGULAR = {
    "output", "profit", "traffic", "approval", "spending", "trading", "harvest", "acreage",
    "enrolment", "funding", "tourism", "employment", "attendance",
}  # fmt: skip

ANNOUNCED = (
    "{entity} {aspect} in focus after {driver}",
    "{entity} {aspect} outlook hinges on {driver}",
    "{entity} makes headlines over {driver}",
)
SPOKEN = ("{entity} reports {driver}", "{entity} confirms {driver}")
MOVED = {
    1: (
        "{entity} {aspect} rise{s} {size}% on {driver}",
        "{entity} {aspect} climb{s} {size}% by {weekday}, driven by {driver}",
        "{entity} {aspect} gain{s} {size}%, lifted by {driver}, {weekday} report shows",
        "{entity} {aspect} up {size}% amid {driver}, official figures confirm on {weekday}",
        "{entity} {aspect} rise{s} another {size}% after {driver}",
    ),
    -1: (
        "{entity} {aspect} fall{s} {size}% on {driver}",
        "{entity} {aspect} drop{s} {size}% by {weekday}, driven by {driver}",
        "{entity} {aspect} slip{s} {size}%, hurt by {driver}, {weekday} report shows",
        "{entity} {aspect} down {size}% amid {driver}, official figures confirm on {weekday}",
        "{entity} {aspect} fall{s} another {size}% after {driver}",
    ),
}
SIZES = ("0.5", "0.8", "1", "1.2", "1.5", "1.8", "2", "2.5", "3")

ONSETS = """b br c ch d dr f fl g gr h j k kr l m n p pr qu r s sk st t tr v w y z""".split()
NUCLEI = """a e i o u a e i o ei or ar el an en il um""".split()
CODAS = ["", "", "l", "n", "r", "s", "t", "x", "nd", "rk", "sk", "lm", "th", "v", "m", "ck"]


@dataclass(frozen=True)
class Storyline:
    """One entity's story; `start` counts from the world's first day and may precede it."""

    entity: str
    kind: Kind
    aspect: str
    driver: str
    sign: int
    start: int
    days: int


def build_world(rng: Random, days: int) -> tuple[list[Storyline], list[list[dict[str, str]]]]:
    """The storylines in order of their start, and the headlines of each day."""
    storylines = list(_draw_storylines(rng, days))
    number = 0
    world = []
    for day in range(days):
        alive = [line for line in storylines if line.start <= day < line.start + line.days]
        titles = [pair for line in alive for pair in _tell(rng, line, day)]
        rng.shuffle(titles)
        minutes = sorted(rng.sample(range(5 * 60, 22 * 60), len(titles)))
        items = []
        for (title, feed), minute in zip(titles, minutes, strict=True):
            number += 1
            seen = FIRST_DAY + timedelta(days=day, minutes=minute, seconds=rng.randrange(60))
            items.append(
                {
                    "feed": feed,
                    "source": SOURCES[feed],
                    "guid": f"{feed}-{number:05d}",
                    "title": title,
                    "link": f"https://example.org/{feed}/{number:05d}",
                    "published": _stamp(seen - timedelta(minutes=rng.randint(3, 90))),
                    "first_seen": _stamp(seen),
                }
            )
        world.append(items)
    return storylines, world


def shuffle_days(
    rng: Random, storylines: list[Storyline], world: list[list[dict[str, str]]]
) -> list[list[dict[str, str]]]:
    """The same days in an order where the next day is no closer to a day than its placebo days.

    Note: what must vanish is the advantage of the real outcomes over days 2 to 10 back, which are
    the placebo days of the evaluation; in the mean over all days and over the first half it does.
    Raises: ValueError if there are too few days for such an order.
    """
    order = _draw_order(rng, len(world), _shared_storylines(storylines, len(world)))
    shuffled = []
    for new, old in enumerate(order):
        shift = timedelta(days=new - old)
        shuffled.append(
            [
                item | {key: _restamp(item[key], shift) for key in ("published", "first_seen")}
                for item in world[old]
            ]
        )
    return shuffled


def draw_name(rng: Random) -> str:
    """A name of two or three syllables, such as "Norvik"."""
    syllables = rng.choice((2, 2, 3))
    name = "".join(rng.choice(ONSETS) + rng.choice(NUCLEI) for _ in range(syllables))
    return (name + rng.choice(CODAS)).capitalize()


def draw_entity(rng: Random, kind: Kind) -> tuple[str, list[str]]:
    """An entity of a kind, and the invented names in it."""
    form = rng.choice(kind.forms)
    names = [draw_name(rng) for _ in range(form.count("{name}"))]
    for name in names:
        form = form.replace("{name}", name, 1)
    return form, names


def announcements(kind: Kind) -> tuple[str, ...]:
    """Wordings for the first day of a storyline."""
    return ANNOUNCED + SPOKEN if kind.speaks else ANNOUNCED


def write_days(path: Path, days: list[list[dict[str, str]]]) -> None:
    """Gzipped JSON lines; the same days give the same bytes."""
    text = "".join(json.dumps(item, ensure_ascii=False) + "\n" for day in days for item in day)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))


def _draw_storylines(rng: Random, days: int) -> Iterator[Storyline]:
    taken: set[str] = set()
    drawn = []
    for slot in range(STORYLINES_PER_DAY):
        start = -rng.randrange(4)
        while start < days:
            kind = KINDS[rng.randrange(len(KINDS))]
            entity, names = draw_entity(rng, kind)
            while taken.intersection(names) or len(set(names)) < len(names):
                entity, names = draw_entity(rng, kind)
            taken.update(names)
            sign = rng.choice((1, -1))
            length = rng.randint(4, LONGEST)
            line = Storyline(
                entity=entity,
                kind=kind,
                aspect=rng.choice(kind.aspects),
                driver=rng.choice(DRIVERS[kind.domain][sign]),
                sign=sign,
                start=start,
                days=length,
            )
            drawn.append((start, slot, line))
            start += length
    return (line for _, _, line in sorted(drawn, key=lambda entry: entry[:2]))


def _tell(rng: Random, line: Storyline, day: int) -> list[tuple[str, str]]:
    wordings = announcements(line.kind) if day == line.start else MOVED[line.sign]
    feeds = rng.sample(sorted(SOURCES), 2)
    weekday = (FIRST_DAY + timedelta(days=day)).strftime("%A")
    return [
        (
            wording.format(
                entity=line.entity,
                aspect=line.aspect,
                driver=line.driver,
                s="s" if line.aspect in SINGULAR else "",
                size=rng.choice(SIZES),
                weekday=weekday,
            ),
            feed,
        )
        for wording, feed in zip(rng.sample(wordings, 2), feeds, strict=True)
    ]


def _shared_storylines(storylines: list[Storyline], days: int) -> list[list[int]]:
    alive = [
        {n for n, line in enumerate(storylines) if line.start <= day < line.start + line.days}
        for day in range(days)
    ]
    return [[len(a & b) for b in alive] for a in alive]


def _draw_order(rng: Random, days: int, shared: list[list[int]]) -> list[int]:
    def cost(order: list[int]) -> tuple[int, float]:
        kept = sum(new == old for new, old in enumerate(order))
        kept += sum(b == a + 1 for a, b in pairwise(order))
        favours = [favour(order, n) for n in range(2, days - 1)]
        sums = abs(sum(favours)) + abs(sum(favours[: days // 2 - 2]))
        return kept, sums + 0.5 * sum(map(abs, favours))

    def favour(order: list[int], n: int) -> float:
        """How many more storylines a day shares with the next than with its placebo days."""
        placebo = [shared[order[n]][order[n - back]] for back in range(2, min(n, 10) + 1)]
        return shared[order[n]][order[n + 1]] - sum(placebo) / len(placebo)

    best: tuple[tuple[int, float], list[int]] | None = None
    for _ in range(8):
        order = list(range(days))
        rng.shuffle(order)
        least = cost(order)
        for _ in range(2000):
            a, b = rng.randrange(days), rng.randrange(days)
            order[a], order[b] = order[b], order[a]
            now = cost(order)
            if now <= least:
                least = now
            else:
                order[a], order[b] = order[b], order[a]
        if best is None or least < best[0]:
            best = least, order
    assert best is not None
    if best[0][0] or days < 2 * LONGEST:
        raise ValueError(f"{days} days are too few to shuffle: expected at least {2 * LONGEST}")
    return best[1]


def _stamp(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def _restamp(stamp: str, shift: timedelta) -> str:
    return _stamp(datetime.fromisoformat(stamp) + shift)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the sample world and its shuffled control.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--days", type=int, default=28)
    parser.add_argument("--out", type=Path, default=Path("data/sample"))
    args = parser.parse_args()
    rng = Random(args.seed)
    storylines, world = build_world(rng, args.days)
    write_days(args.out / "world.jsonl.gz", world)
    write_days(args.out / "shuffled.jsonl.gz", shuffle_days(rng, storylines, world))


if __name__ == "__main__":
    main()
