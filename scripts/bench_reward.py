"""How often the right forecast earns more than a wrong or hollow one: the reward's benchmark.

Items (`scripts/reward_items/*.jsonl`) hold a headline, what was published the next day, a forecast
that turned out right and the same one turned round. The rivals of the right forecast:

    flipped        the same text with the opposite direction
    echo           the headline
    echo+right     the headline, then the right forecast
    echo+flipped   the headline, then the flipped forecast
    generic        a forecast that would suit any headline
    stuffing       a heap of keywords from headline and outcome
    unrelated      the right forecast of another item
    truncated      the right forecast, broken off after 60 % of its words

All outcomes of a set are one day; the outcomes and headlines of the other sets make placebo days.
Printed: P(right beats rival), a tie counting half, of the reward and of the raw best cosine.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from varro.config import EmbedderConfig, RewardConfig  # noqa: E402
from varro.reward.embed import RememberingEmbedder, load_embedder  # noqa: E402
from varro.reward.score import TEMPLATE, News, Scored, score_texts  # noqa: E402
from varro.reward.words import words_in  # noqa: E402

ITEMS = ROOT / "scripts" / "reward_items"
RIVALS = (
    "flipped",
    "echo",
    "echo+right",
    "echo+flipped",
    "generic",
    "stuffing",
    "unrelated",
    "truncated",
)
GENERIC = (
    TEMPLATE,
    "Things will get slightly worse by tomorrow because of recent events and public opinion. "
    "Verify with the official figures when they are published.",
    "Officials will announce a modest improvement within 24 hours, thanks to ongoing efforts and "
    "good conditions. A statement on the agency's website will confirm it.",
    "The situation will change by a few percent tomorrow as new developments and expert opinion "
    "weigh in. The evening news bulletin will show it.",
)


def rivals(items: list[dict[str, Any]], n: int) -> dict[str, str]:
    """The texts that the right forecast of item n is compared with."""
    item = items[n]
    headline = item["headline"].rstrip(".") + "."
    words = item["right"].split()
    keywords = [w for w in words_in(f"{item['headline']} {item['outcomes'][0]}") if len(w) > 3]
    Random(n).shuffle(keywords)
    return {
        "flipped": item["flipped"],
        "echo": headline,
        "echo+right": f"{headline} {item['right']}",
        "echo+flipped": f"{headline} {item['flipped']}",
        "generic": GENERIC[n % len(GENERIC)],
        "stuffing": " ".join(keywords * 2),
        "unrelated": items[(n + len(items) // 2) % len(items)]["right"],
        "truncated": " ".join(words[: int(0.6 * len(words))]),
    }


def placebo_days(
    others: list[list[dict[str, Any]]], n_days: int = 8
) -> tuple[tuple[str, ...], ...]:
    """Titles of the other sets, dealt out to so many days."""
    titles = [
        t for items in others for item in items for t in (item["headline"], *item["outcomes"])
    ]
    Random(0).shuffle(titles)
    return tuple(tuple(titles[i::n_days]) for i in range(n_days))


def measure(
    items: list[dict[str, Any]], others: list[list[dict[str, Any]]], embedder: Any
) -> dict[str, dict[str, float]]:
    """P(right beats rival) for each rival, of `reward` and of `raw`."""
    texts, about = [], []
    for n, item in enumerate(items):
        made = {"right": item["right"], **rivals(items, n)}
        texts += made.values()
        about += [n] * len(made)
    news = News(
        headlines=tuple(item["headline"] for item in items),
        outcomes=tuple(title for item in items for title in item["outcomes"]),
        placebo_days=placebo_days(others),
    )
    scored = score_texts(texts, about, news, embedder=embedder, config=RewardConfig(), seed=0)
    size = 1 + len(RIVALS)
    table: dict[str, dict[str, float]] = {}
    for place, rival in enumerate(RIVALS, start=1):
        pairs = [(scored[i], scored[i + place]) for i in range(0, len(scored), size)]
        table[rival] = {
            "reward": _share(pairs, lambda s: s.reward),
            "raw": _share(pairs, lambda s: s.components["raw"]),
        }
    resolved = [scored[i].outcome is not None for i in range(0, len(scored), size)]
    valid = [scored[i].invalid is None for i in range(0, len(scored), size)]
    table["(right is resolved, valid)"] = {
        "reward": sum(resolved) / len(items),
        "raw": sum(valid) / len(items),
    }
    return table


def _share(pairs: list[tuple[Scored, Scored]], value: Any) -> float:
    wins = [value(a) > value(b) for a, b in pairs]
    ties = [value(a) == value(b) for a, b in pairs]
    return (sum(wins) + 0.5 * sum(ties)) / len(pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description="P(the right forecast beats its rivals).")
    parser.add_argument("--items", type=Path, default=ITEMS, help="folder of sets, one a file")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    sets = {
        path.stem: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in sorted(args.items.glob("*.jsonl"))
    }
    config = EmbedderConfig()
    embedder = RememberingEmbedder(lambda: load_embedder(config), config.sha256)
    tables = {
        name: measure(items, [o for k, o in sets.items() if k != name], embedder)
        for name, items in sets.items()
    }
    if args.json:
        print(json.dumps(tables, indent=1))
        return
    for name, table in tables.items():
        print(f"\n{name}: {len(sets[name])} items   reward   raw max-similarity")
        for rival, row in table.items():
            print(f"  {rival:<28} {row['reward']:.3f}    {row['raw']:.3f}")


if __name__ == "__main__":
    main()
