"""Text from outside, made plain: no markup, no invisible characters, bounded length."""

from __future__ import annotations

import html
import re
import unicodedata
from html.entities import html5
from urllib.parse import parse_qsl, quote, urlsplit

from w3lib.url import canonicalize_url, url_query_cleaner

MAX_TITLE = 512
"""characters"""
MAX_LABEL = 2048
"""characters of a guid, a feed or a source name"""
MAX_LINK = 2048
"""characters; a longer link is no link"""
MAX_RAW = 16_384
"""characters of a raw title that are looked at: room for markup around a title of MAX_TITLE"""
MIN_KEY = 8
"""characters of a parameter that may be a key; a shorter one may stand anywhere"""
MAX_ROUNDS = 16
"""markup inside escapes inside markup: honest titles settle in three rounds"""

# Controls that are not white space, Default_Ignorable_Code_Point of Unicode 15 (bidi, zero-width,
# fillers, variation selectors, tags), surrogates and non-characters. Spelled out because
# unicodedata's categories change with the Python version, and headline ids must not.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufdd0-\ufdef\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff0-\ufffb\ufffe\uffff\ud800-\udfff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U0001fffe\U0001ffff\U000e0000-\U000e0fff]"
)
_HIDDEN_CONTENT = re.compile(r"<(script|style)\b[^<>]*>.*?(?:</\1\b[^<>]*>|\Z)", re.I | re.S)
# `<` opens a tag only before a letter, `/letter`, `!--`, `!letter`, `![` or `?`: "a < b" and "<3"
# are text. Quoted values may hold `>`. Possessive, so that hostile text costs linear time.
_TAG = re.compile(
    r"<!--(?:[^-<]|-(?!->)|<(?!!--))*+-->"
    r"|</?([A-Za-z][^\s<>/\"']*+)(?:[^<>\"']|\"[^\"<]*\"|'[^'<]*')*+>"
    r"|</?([A-Za-z][^\s<>/\"']*+)[^<>]*+>"
    r"|<!(?:[A-Za-z]|\[)[^<>]*+>"
    r"|<\?[^<>]*+>"
)
_INLINE_TAGS = re.compile(
    "a|abbr|b|bdi|bdo|big|cite|code|del|dfn|em|font|i|ins|kbd|mark|q|s|samp|small|span|strike|"
    "strong|sub|sup|tt|u|var|wbr",
    re.I,
)
_ESCAPED_AMPERSANDS = re.compile(r"&(?:(?:amp|AMP|#0*38|#[xX]0*26);)+")
_ENTITY = re.compile(r"&(#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")


_LOGIN = re.compile(r"^([a-z][a-z0-9+.-]*:)?//[^/]*@", re.I)
_TRACKING = re.compile(
    "(?:utm|at|ns|stm|hsa|pk|mtm|vero|oly|__s?)_[a-z_]+|[a-z]{0,4}clid|gbraid|wbraid|igshid|mc_[ce]id|"
    "_hs(?:enc|mi)|mkt_tok|s?cmp(?:id)?|xtor|smid|taid|ito|ocid|ftag|maca|traffic_source|__source",
    re.I,
)
"""names of parameters that newsletters, networks and broadcasters put on their links"""


def clean_title(raw: str) -> str:
    """Plain text of a title, at most MAX_TITLE characters; "" if nothing is left.

    Note: cleaning a clean title changes nothing, however deep the escapes were.
    """
    text = raw[:MAX_RAW]
    for _ in range(MAX_ROUNDS):
        before = text
        text = _clean_once(text)
        if text == before:
            break
    else:
        text = _clean_once(re.sub("[<>&]", " ", text))
    return text[:MAX_TITLE].rstrip()


def clean_label(raw: str) -> str:
    """A guid, feed or source name without invisible characters, white space collapsed."""
    return _visible(raw[:MAX_LABEL])


def is_visible(text: str) -> bool:
    """Whether a text is free of what cleaning takes out: controls, halves of characters, …"""
    return _INVISIBLE.search(text) is None


def clean_link(raw: str) -> str:
    """The link if it is a whole http or https address, else ""."""
    link = re.sub("[\t\r\n]", "", raw[: 2 * MAX_LINK]).strip()
    if len(link) > MAX_LINK or _INVISIBLE.search(link):
        return ""
    try:
        parts = urlsplit(link)
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        return ""
    # What could end an attribute or a line is written as its percent code; the rest stays as is.
    return re.sub(r"[\s\"'<>\\^`{|}]", lambda m: quote(m[0]), link) if is_web else ""


def shown_address(address: str) -> str:
    """An address, whole or not, as it may stand where others read: without its query, which may
    hold a key, and without a user's name and password. That there is a query is said by `?…`."""
    plain, question, _ = address.partition("#")[0].partition("?")
    return clean_label(_LOGIN.sub(r"\1//", plain)[:200]) + ("?…" if question else "")


def hide_query(text: str, address: str) -> str:
    """A text that may quote an address, with its query hidden, and what of it may be a key."""
    query = urlsplit(address).query
    if not query:
        return text
    values = [value for _, value in parse_qsl(query) if len(value) >= MIN_KEY]
    hidden = text.replace(f"?{query}", "?…")
    for value in sorted(values, key=len, reverse=True):
        for form in (value, html.escape(value), quote(value), quote(value, safe="")):
            hidden = hidden.replace(form, "…")
    return hidden


def canonical_link(link: str) -> str:
    """A clean link in the one spelling that it shares with others to the same page: host in lower
    case, parameters in order and without those that only say where the reader came from, no mark
    within the page.

    Note: what is canonical stays as it is; a link that has no such spelling is given back.
    """
    try:
        parts = urlsplit(link)
        names = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
        tracking = [name for name in names if _TRACKING.fullmatch(name)]
        # What begins with ! or / is no mark but an address within a page that loads itself.
        is_address = parts.fragment.startswith(("!", "/"))
        plain = url_query_cleaner(
            link, tracking, remove=True, unique=False, keep_fragments=is_address
        )
        return clean_link(canonicalize_url(plain, keep_fragments=is_address)) or link
    except ValueError:  # w3lib reads a host in brackets more strictly than Python 3.11 does
        return link


def _clean_once(text: str) -> str:
    text = _visible(text)
    text = _ESCAPED_AMPERSANDS.sub("&", text)
    text = _ENTITY.sub(_unescape, text)
    text = _HIDDEN_CONTENT.sub(" ", text)
    text = _TAG.sub(_gap, text)
    return unicodedata.normalize("NFC", _visible(text))


def _visible(text: str) -> str:
    return " ".join(_INVISIBLE.sub("", text).split())


def _unescape(match: re.Match[str]) -> str:
    # Only with its semicolon: html.unescape alone would read "&GT" in "AT&GT" as a sign.
    name = match[1]
    if name.startswith("#"):
        return html.unescape(match[0])
    return html5.get(name + ";", match[0])


def _gap(match: re.Match[str]) -> str:
    name = match[1] or match[2] or ""
    return "" if _INLINE_TAGS.fullmatch(name) else " "
