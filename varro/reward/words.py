"""Text cut into words and sentences, the same way wherever texts are compared. Pure."""

from __future__ import annotations

import re
import unicodedata

FUNCTION_WORDS = frozenset(
    """a an the this that these those some any each every no such both either neither all most more
    less few many much other another own same
    i you he she it we they me him her us them my your his its our their who whom whose which what
    of to in on at by for from with into onto over under between among against during through
    across along around about above below behind before after since until till within without
    upon amid amidst despite near per than via toward towards as off out up down
    and or but nor so yet if because although though while whereas unless whether when where how
    why then also not only just even still again there here very too
    is are was were be been being am do does did have has had having will would shall should can
    could may might must dont doesnt didnt wont cant isnt arent wasnt werent hasnt havent couldnt
    wouldnt shouldnt theyre weve youre""".split()
)
"""English, as `words_in` gives them: lower case, no apostrophes"""

_ACRONYM = re.compile(r"\b(?:[^\W\d_]\.){2,}")
_APOSTROPHE = re.compile(r"(?<=\w)['’](?=\w)")
_WORD = re.compile(r"\d+(?:[.,]\d+)+|[^\W_]+")

_BREAK = re.compile(r"(?<![.!?…])([.!?…]++)[\"'”’»)\]]*\s+|\n\s*")
_OPENING = "\"'“‘([«"
_NEVER_ENDS = frozenset(
    "mr mrs ms dr prof gov sen rep gen lt col capt sgt rev hon vs e.g i.e cf approx".split()
)
_NUMBERS = frozenset("no nos fig art sec".split())
_MAY_END = frozenset(
    """jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri sat sun
    inc corp co ltd plc llc bros etc pct jr sr st ave dept""".split()
)
_STARTERS = frozenset(
    """the a an this these those it its he she they we there his her their but however if when
    verify check confirm look see expect watch officials investors traders analysts""".split()
)
"""words that open a sentence after an abbreviation; a title's "U.S. Will Pause" is one sentence"""


def words_in(text: str) -> list[str]:
    """Words and numbers in order, folded so that case, punctuation and invisible characters
    cannot hide a copy.

    Note: "U.S." and "US" are one word, so are "Trump's" and "Trump’s"; "2.5%" is "2.5".
    """
    visible = "".join(c for c in text if unicodedata.category(c) != "Cf")
    plain = unicodedata.normalize("NFKC", visible).casefold()
    plain = _ACRONYM.sub(lambda found: found.group().replace(".", ""), plain)
    return _WORD.findall(_APOSTROPHE.sub("", plain))


def sentences_in(text: str) -> list[str]:
    """Sentences in order, stripped; "2.5%", "U.S.", "Jan. 3" and "vs." do not end one."""
    found, start = [], 0
    for stop in _BREAK.finditer(text):
        after = text[stop.end() : stop.end() + 40]
        if "\n" in stop.group() or _ends_sentence(text[start : stop.start()], stop.group(1), after):
            found.append(text[start : stop.end()].strip())
            start = stop.end()
    return [sentence for sentence in (*found, text[start:].strip()) if sentence]


def _ends_sentence(before: str, mark: str, after: str) -> bool:
    """Whether a mark between two texts ends the first: an abbreviation's full stop may not."""
    following = after.lstrip(_OPENING)
    if mark != ".":
        return not following[:1].islower()
    last = before.split()[-1].lstrip(_OPENING).casefold() if before.split() else ""
    if last in _NEVER_ENDS:
        return False
    if last in _NUMBERS:
        return not following[:1].isdigit()
    if last in _MAY_END or "." in last.strip("0123456789,.%") or _is_initial(last):
        return following[:1].isupper() and (words_in(following) or [""])[0] in _STARTERS
    return True


def _is_initial(word: str) -> bool:
    return len(word) == 1 and word.isalpha()
