"""The characters that separate a message's parts (HL7 v2.7 chapter 2, section 2.5.4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from gateway.ports import Unreadable


@dataclass(frozen=True, slots=True)
class Delimiters:
    """The delimiters of one message. One that the message leaves out is empty.

    ``escaped`` gives for each letter of an escape sequence the character that it
    stands for.
    """

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"
    truncation: str = ""
    escaped: Mapping[str, str] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        meaning = {
            "F": self.field,
            "S": self.component,
            "T": self.subcomponent,
            "R": self.repetition,
            "E": self.escape,
            "P": self.truncation,
        }
        object.__setattr__(self, "escaped", {k: v for k, v in meaning.items() if v})

    @property
    def encoding_characters(self) -> str:
        """MSH-2."""
        return self.component + self.repetition + self.escape + self.subcomponent + self.truncation

    @property
    def all(self) -> str:
        """MSH-1 and MSH-2."""
        return self.field + self.encoding_characters


DEFAULT = Delimiters()


def is_separator(character: str) -> bool:
    """Can it be MSH-1: one character, printed, no letter, digit or space?"""
    printed = character.isprintable() and character != " "
    return len(character) == 1 and printed and not character.isalnum()


@lru_cache(maxsize=128)
def read_delimiters(separator: str, encoding_characters: str) -> Delimiters:
    """Delimiters from MSH-1 and MSH-2.

    MSH-2 has two to five characters: the escape and subcomponent characters may
    be left out by a sender that uses neither, the truncation character came with
    2.7 and is seen before. Raises Unreadable (location MSH-1 or MSH-2) when a
    separator is missing, is a letter, digit, space or control character in
    MSH-1's case, or is used twice.
    """
    if not is_separator(separator):
        raise Unreadable("MSH-1 is not a field separator", "MSH-1")
    if not 2 <= len(encoding_characters) <= 5:
        raise Unreadable("MSH-2 does not have the two to five encoding characters", "MSH-2")
    if not encoding_characters.isprintable():
        raise Unreadable("MSH-2 holds a control character", "MSH-2")
    characters = separator + encoding_characters
    if len(set(characters)) != len(characters):
        raise Unreadable("MSH-2 uses one character for two purposes", "MSH-2")
    left_out = [""] * (5 - len(encoding_characters))
    return Delimiters(separator, *encoding_characters, *left_out)
