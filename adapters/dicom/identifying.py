"""The words by which an object names persons, places and cases (PS3.15 E.3.5).

A word is a run of letters and digits. It is compared folded: without case, accents and ligatures,
so that ``LHERMITTE``, ``Lhermitté`` and ``lhermitte`` are one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib.resources import files
from typing import Any

TEXT = frozenset({"AE", "LO", "LT", "SH", "ST", "UC", "UR", "UT"})
"""Representations of free text and of identifiers (PS3.5 table 6.2-1)."""
_MARKS = "\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
_WORD = re.compile(rf"[^\W_](?:[^\W_]|[{_MARKS}])*")
_UNSEEN = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
"""Characters without a width, which would part a word that is one to the eye."""
_LIGATURES = str.maketrans(
    {"œ": "oe", "æ": "ae", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i", "ħ": "h"}
)


def words_of(text: str) -> Iterator[tuple[str, str]]:
    """The words of a text, each as it is written and folded."""
    for found in _WORD.finditer(unicodedata.normalize("NFC", _UNSEEN.sub("", text))):
        yield found[0], folded(found[0])


def folded(word: str) -> str:
    """A word without case, accents and ligatures."""
    plain = unicodedata.normalize("NFKD", word).casefold().translate(_LIGATURES)
    return "".join(each for each in plain if not unicodedata.combining(each))


@lru_cache(maxsize=1)
def descriptor_attributes() -> frozenset[int]:
    """The attributes to which table E.1-1 gives C in its column Clean Desc., by tag."""
    text = files("adapters.dicom").joinpath("descriptor_attributes.tsv").read_text("utf-8")
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return frozenset(int(line.split("\t")[0], 16) for line in lines)


def identifying_words(found: Any, action_of: Callable[[int], str | None]) -> frozenset[str]:
    """The folded words of what names somebody or something in a data set, at any depth.

    They are those of all names of persons, and of every text that table E.1-1 has removed, emptied
    or replaced (patient ID, accession number, institution, station and so on) and that is no
    descriptor itself; of a sequence that is removed, those of all texts in it. ``action_of`` says
    what the table does with a tag. Private attributes are not looked at.
    """
    words: set[str] = set()
    _collect(found, action_of, words, removed=False)
    return frozenset(words)


def _collect(
    found: Any, action_of: Callable[[int], str | None], words: set[str], *, removed: bool
) -> None:
    descriptors = descriptor_attributes()
    for tag in list(found.keys()):
        if tag.is_private:
            continue
        element = found[tag]
        action = None if int(tag) in descriptors else action_of(int(tag))
        if element.VR == "SQ":
            for item in element.value:
                _collect(item, action_of, words, removed=removed or action == "X")
        elif element.VR == "PN" or (
            element.VR in TEXT
            and int(tag) not in descriptors
            and (removed or action in {"X", "Z", "D"})
        ):
            for value in texts_of(element):
                words.update(each for _, each in words_of(value))


def texts_of(element: Any) -> list[str]:
    """The values of an element as texts."""
    if element.is_empty:
        return []
    values = element.value if element.VM > 1 else [element.value]
    return [str(each) for each in values]
