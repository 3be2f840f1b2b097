"""Which of the new headlines are taken in: what is left out has a reason, and is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from fnmatch import fnmatchcase
from typing import Any

from varro.config import FeedRule, NewsConfig
from varro.domain import Headline
from varro.errors import ConfigError

MIN_PROBABILITY = 0.01
"""that a title is in one of the wanted languages; below it, it is surely in another. Of 1,500 real
English titles 1 in 500 is below 0.02"""

Judge = Callable[[Sequence[Headline]], list[str]]
"""for each headline why it is left out, or "" """


def sort_out(
    headlines: Sequence[Headline], judges: Sequence[Judge]
) -> tuple[list[Headline], dict[str, int]]:
    """The headlines that all judges let pass, in their order, and how many were left out by reason.
    A judge is asked about those only that the ones before it let pass."""
    left_out: Counter[str] = Counter()
    for judge in judges:
        reasons = judge(headlines)
        left_out.update(reason for reason in reasons if reason)
        headlines = [h for h, reason in zip(headlines, reasons, strict=True) if not reason]
    return list(headlines), dict(sorted(left_out.items()))


def check_wanted(config: NewsConfig) -> None:
    """Raises: ConfigError if a rule is no regular expression or a language is not known."""
    judge_rules(config.rules)
    if config.languages:
        _identifier(config.languages)


def judge_rules(rules: Sequence[FeedRule]) -> Judge:
    """By title and feed; case does not matter. RE2 takes time in proportion to the title, whatever
    the expression.

    Raises: ConfigError naming the rule that is no regular expression.
    """
    compiled = [
        # "[" is a letter like any other; to fnmatch it begins a set of letters.
        (
            rule.feed.replace("[", "[[]"),
            _expressions(rule, "include"),
            _expressions(rule, "exclude"),
        )
        for rule in rules
    ]

    def reason(headline: Headline) -> str:
        for feed, include, exclude in compiled:
            if not fnmatchcase(headline.feed, feed):
                continue
            if include and not any(e.search(headline.title) for e in include):
                return "not included"
            if any(e.search(headline.title) for e in exclude):
                return "excluded"
        return ""

    return lambda headlines: [reason(h) for h in headlines]


def judge_languages(languages: Sequence[str]) -> Judge:
    """By the title's language, where it can be told.  Raises: ConfigError."""
    identifier = _identifier(languages)

    def reason(headline: Headline) -> str:
        ranked = identifier.rank(headline.title)
        wanted = sum(probability for language, probability in ranked if language in languages)
        return f"language {ranked[0][0]}" if wanted < MIN_PROBABILITY else ""

    return lambda headlines: [reason(h) for h in headlines]


def judge_topics(topics: Collection[str], topic_of: Callable[[list[str]], list[str]]) -> Judge:
    """By the topic that `topic_of` gives each title."""

    def judge(headlines: Sequence[Headline]) -> list[str]:
        found = topic_of([h.title for h in headlines]) if headlines else []
        return ["" if topic in topics else f"topic {topic}" for topic in found]

    return judge


def judge_retold(told: Collection[tuple[str, str]]) -> Judge:
    """By what feeds have told before, (feed, title): one that gives its items new identities at
    each fetch has no news every day."""
    return lambda headlines: ["told before" if (h.feed, h.title) in told else "" for h in headlines]


def judge_number(max_per_feed: int) -> Judge:
    """The first so many of each feed."""

    def judge(headlines: Sequence[Headline]) -> list[str]:
        n: Counter[str] = Counter()
        reasons = []
        for headline in headlines:
            n[headline.feed] += 1
            reasons.append("too many of a feed" if n[headline.feed] > max_per_feed else "")
        return reasons

    return judge


def _expressions(rule: FeedRule, side: str) -> list[Any]:
    import re2

    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    found = []
    for pattern in getattr(rule, side):
        try:
            found.append(re2.compile(pattern, options))
        except re2.error as error:
            reason = error.args[0].decode() if isinstance(error.args[0], bytes) else error
            raise ConfigError(
                f"news.rules: {side} of {rule.feed!r}: {pattern!r} is no regular expression (RE2): "
                f"{reason}"
            ) from error
    return found


def _identifier(languages: Sequence[str]) -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise ConfigError(
            "news.languages needs another package: pip install -c constraints.txt "
            "'.[languages]', or leave the setting out"
        ) from error
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    unknown = sorted(set(languages) - set(identifier.labels))
    if unknown:
        raise ConfigError(
            f"news.languages: no language {', '.join(unknown)}; known are "
            f"{', '.join(sorted(identifier.labels))}"
        )
    return identifier
