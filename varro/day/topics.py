"""Source and topic of headlines, by their embedding."""

from __future__ import annotations

from collections.abc import Sequence

from varro.domain import Headline
from varro.reward.embed import Embedder
from varro.run import OpenRun, embedder_of
from varro.training.curriculum import TOPICS, bucket_of, topic_of


def topics_of(embedder: Embedder, titles: Sequence[str]) -> list[str]:
    """What each title is about."""
    if not titles:
        return []
    names = list(TOPICS)
    found = topic_of(embedder.encode(list(titles)), embedder.encode(list(TOPICS.values())))
    return [names[i] for i in found]


def buckets_of(work: OpenRun, headlines: Sequence[Headline]) -> list[str]:
    """Source and topic of each headline."""
    topics = topics_of(embedder_of(work), [h.title for h in headlines])
    return [bucket_of(h.source, topic) for h, topic in zip(headlines, topics, strict=True)]
