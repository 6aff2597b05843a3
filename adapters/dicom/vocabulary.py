"""Texts of which only the words of a list stay: the Clean Descriptors option (PS3.15 E.3.5).

Nobody can tell of a text that it names no one. So nothing is looked for that would have to go; what
may stay is listed (E.3.5, note 2). The list that ships, ``vocabulary.txt``, has words of anatomy
and acquisition (``tools/build_vocabulary.py`` says where they are from); a site may have its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

from adapters.dicom.identifying import words_of

FILE_BYTES_MAX = 1 << 20
ENTRIES_MAX = 20_000
PHRASE_WORDS_MAX = 8
DEFAULT = "default"
"""In the place of a file: the list that ships."""
_TITLES = frozenset(
    {
        *("dr", "docteur", "doctor", "doc", "pr", "prof", "professeur", "professor", "m", "mme"),
        *("mlle", "madame", "monsieur", "mister", "mrs", "miss", "herr", "frau", "dott", "sig"),
        *("patient", "patiente"),
    }
)
"""What announces a name: the standard's own example is «M. Genou». MR and MS are modalities."""
_AFTER_TITLE = 2
"""Words that go with a title: a given and a family name."""
_NUMBER = re.compile(r"[0-9]{4}")


class VocabularyError(ValueError):
    """A list that cannot be used. ``problems`` are lines ``file[:line]: what``."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Vocabulary:
    """Words and phrases that may stay. Thread-safe."""

    def __init__(self, entries: Iterable[str]) -> None:
        phrases: dict[str, set[tuple[str, ...]]] = {}
        for entry in entries:
            phrase = tuple(folded for _, folded in words_of(entry))
            if phrase:
                phrases.setdefault(phrase[0], set()).add(phrase)
        self._phrases = {
            first: tuple(sorted(each, key=len, reverse=True)) for first, each in phrases.items()
        }

    def phrases(self) -> frozenset[tuple[str, ...]]:
        """The entries, each as its folded words."""
        return frozenset(each for same in self._phrases.values() for each in same)

    def cleaned(self, text: str, identifying: frozenset[str]) -> str:
        """Those words of a text that are in the list and are not ``identifying`` (folded), as they
        are written, with one space between them. Of a phrase all words stay or, unless they are
        listed on their own, none. A title goes with the two words after it."""
        words = list(words_of(text))
        plain = [folded for _, folded in words]
        left: list[str] = []
        at = 0
        while at < len(words):
            if plain[at] in _TITLES:
                at += 1 + _AFTER_TITLE
                continue
            size = self._stays(plain, at, identifying)
            left += (written for written, _ in words[at : at + size])
            at += size or 1
        return " ".join(left)

    def _stays(self, plain: list[str], at: int, identifying: frozenset[str]) -> int:
        """How many words from a place on are in the list together."""
        for phrase in self._phrases.get(plain[at], ()):
            here = tuple(plain[at : at + len(phrase)])
            if here == phrase and identifying.isdisjoint(here) and _TITLES.isdisjoint(here):
                return len(phrase)
        return 0


def read_vocabulary(paths: Iterable[Path | None]) -> Vocabulary:
    """The words of several files together; ``None`` is the list that ships.

    A file is UTF-8, with a word or a phrase a line; ``#`` begins a comment. Raises VocabularyError:
    a file cannot be read or is too large, an entry holds nothing, a number or a title.
    """
    entries: list[str] = []
    problems: list[str] = []
    for path in paths:
        if path is None:
            shipped = files("adapters.dicom").joinpath("vocabulary.txt").read_text("utf-8")
            entries += _entries("vocabulary.txt", shipped, problems)
            continue
        try:
            if path.stat().st_size > FILE_BYTES_MAX:
                problems.append(f"{path}: larger than {FILE_BYTES_MAX} bytes")
                continue
            entries += _entries(str(path), path.read_text("utf-8"), problems)
        except OSError as error:
            problems.append(f"{path}: cannot be read: {error.strerror}")
        except UnicodeDecodeError:
            problems.append(f"{path}: not UTF-8")
    if len(entries) > ENTRIES_MAX:
        problems.append(f"more than {ENTRIES_MAX} words in the vocabulary")
    if problems:
        raise VocabularyError(problems)
    return Vocabulary(entries)


def _entries(name: str, text: str, problems: list[str]) -> list[str]:
    found: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        words = [folded for _, folded in words_of(entry)]
        wrong = _wrong(words)
        if wrong:
            problems.append(f"{name}:{number}: {wrong}")
        else:
            found.append(entry)
    return found


def _wrong(words: list[str]) -> str:
    if not words:
        return "no letter and no digit stands here"
    if len(words) > PHRASE_WORDS_MAX:
        return f"a phrase has at most {PHRASE_WORDS_MAX} words"
    if any(word.isdigit() or _NUMBER.search(word) for word in words):
        return "a number may be a date or an identifier: it cannot be let through"
    titles = sorted(_TITLES.intersection(words))
    if titles:
        return f"{titles[0]} announces a name: it goes, with what follows it"
    return ""
