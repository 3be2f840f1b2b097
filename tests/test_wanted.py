"""What is left out of a day has a reason and is counted; hostile text costs nothing."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from varro.config import FeedRule, NewsConfig
from varro.domain import Headline
from varro.errors import ConfigError
from varro.news.wanted import (
    check_wanted,
    judge_languages,
    judge_number,
    judge_retold,
    judge_rules,
    judge_topics,
    sort_out,
)

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def headline(title: str, feed: str = "BBC World") -> Headline:
    return Headline(f"{feed}/{title}", "live", feed, "s", "", title, "", None, NOON)


def kept(judge, *headlines: Headline) -> list[str]:
    return [h.title for h in sort_out(headlines, [judge])[0]]


def test_rules_leave_out_titles_of_the_feeds_they_name() -> None:
    """A rule for one feed that silences another; include and exclude turned round."""
    judge = judge_rules(
        [
            FeedRule(feed="BBC*", exclude=(r"\bsport\b", "^live:")),
            FeedRule(feed="arXiv", include=("language model", "reward")),
        ]
    )
    headlines = [
        headline("Sport: a final"),
        headline("LIVE: the vote"),
        headline("Transport strike"),
        headline("Sport: a final", "NPR"),
        headline("A reward for language models", "arXiv"),
        headline("A lemma", "arXiv"),
    ]
    found, left_out = sort_out(headlines, [judge])
    assert [(h.feed, h.title) for h in found] == [
        ("BBC World", "Transport strike"),
        ("NPR", "Sport: a final"),
        ("arXiv", "A reward for language models"),
    ]
    assert left_out == {"excluded": 2, "not included": 1}


def test_a_rule_finds_its_feed_whatever_the_letters_of_its_name() -> None:
    """A feed called "arXiv [cs.AI]", whose rule is for feeds called "arXiv c" and says nothing."""
    judge = judge_rules([FeedRule(feed="arXiv [cs.A?]*", exclude=("lemma",))])
    assert kept(judge, headline("A lemma", "arXiv [cs.AI]"), headline("A lemma", "arXiv c.A")) == [
        "A lemma"
    ]
    assert kept(judge, headline("A lemma", "arXiv [cs.AI] new")) == []


def test_no_expression_takes_longer_than_its_title_is_long() -> None:
    """A rule and a title that together hang the day: Python's own engine doubles its time with each
    letter of this."""
    judge = judge_rules([FeedRule(exclude=(r"(a+)+$", r"(.*)*x$", r"(a|aa)+$"))])
    start = time.monotonic()
    assert kept(judge, headline("a" * 500 + "!")) == ["a" * 500 + "!"]
    assert time.monotonic() - start < 1


@pytest.mark.parametrize("pattern", ["(a", "a{2,1}", r"(?=a)", r"(a)\1"])
def test_a_rule_that_is_no_expression_is_named(pattern: str, capfd) -> None:
    """A typing error that leaves every headline out, or none, or writes noise."""
    rule = FeedRule(feed="BBC*", include=(pattern,))
    with pytest.raises(ConfigError) as caught:
        judge_rules([rule])
    assert "include of 'BBC*'" in str(caught.value) and repr(pattern) in str(caught.value)
    assert capfd.readouterr().err == ""


def test_what_a_feed_has_told_before_is_not_told_again() -> None:
    """A feed whose guids change at each fetch has thirty new headlines an hour; another feed's
    headline lost with it."""
    judge = judge_retold({("BBC World", "Rates rise")})
    found, left_out = sort_out(
        [headline("Rates rise"), headline("Rates rise again"), headline("Rates rise", "NPR")],
        [judge],
    )
    assert [h.feed for h in found] == ["BBC World", "NPR"]
    assert left_out == {"told before": 1}


def test_a_flood_is_cut_for_its_own_feed_and_in_its_own_order() -> None:
    """One feed's thousands take the day; or its oldest items are the ones that stay."""
    flood = [headline(f"flood {i}", "f") for i in range(10)]
    other = [headline(f"calm {i}", "g") for i in range(3)]
    found, left_out = sort_out([*flood, *other], [judge_number(4)])
    assert found == [*flood[:4], *other]
    assert left_out == {"too many of a feed": 6}


def test_a_language_is_left_out_only_where_it_is_sure() -> None:
    """Short English titles full of names taken for another language, and lost."""
    judge = judge_languages(["en"])
    foreign = {
        "EZB senkt die Zinsen zum dritten Mal in Folge": "language de",
        "La BCE baisse ses taux pour la troisième fois": "language fr",
        "日銀が金利を引き上げ": "language ja",
    }
    english = ["Norvik raises rates", "India's Sensex falls", "Fed holds rates, signals two cuts"]
    found, left_out = sort_out([headline(t) for t in (*foreign, *english)], [judge])
    assert [h.title for h in found] == english
    assert left_out == dict.fromkeys(sorted(foreign.values()), 1)
    assert kept(judge_languages(["en", "de"]), *map(headline, foreign)) == [next(iter(foreign))]


def test_an_unknown_language_is_refused_with_those_that_are_known() -> None:
    """`english` for `en`: every headline would be left out."""
    with pytest.raises(ConfigError, match=r"no language xx; known are .*\ben\b"):
        judge_languages(["en", "xx"])


def test_topics_are_asked_once_for_all_titles() -> None:
    """A model called for each title; a topic that is wanted left out."""
    asked: list[list[str]] = []

    def topic_of(titles: list[str]) -> list[str]:
        asked.append(titles)
        return ["sport" if "match" in t else "war" for t in titles]

    judge = judge_topics(("war", "economy"), topic_of)
    assert kept(judge, headline("a match"), headline("a front")) == ["a front"]
    assert asked == [["a match", "a front"]]
    assert sort_out([], [judge]) == ([], {})
    assert len(asked) == 1


def test_a_judge_sees_only_what_the_ones_before_it_let_pass() -> None:
    """An item counted under two reasons, so that the counts are more than the items."""
    seen: list[int] = []

    def watcher(headlines):
        seen.append(len(headlines))
        return [""] * len(headlines)

    headlines = [headline("Sport"), headline("Rates")]
    found, left_out = sort_out(
        headlines, [judge_rules([FeedRule(exclude=("sport",))]), watcher, judge_number(1)]
    )
    assert seen == [1]
    assert (len(found), left_out) == (1, {"excluded": 1})


def test_what_is_wanted_is_checked_before_a_day_begins() -> None:
    """A rule that turns out to be wrong when the feeds have been read."""
    news = NewsConfig(archive="x.jsonl", rules=[{"exclude": ["("]}])
    with pytest.raises(ConfigError, match=r"news\.rules"):
        check_wanted(news)
    with pytest.raises(ConfigError, match=r"news\.languages"):
        check_wanted(NewsConfig(archive="x.jsonl", languages=["zz"]))
    check_wanted(NewsConfig(archive="x.jsonl"))
