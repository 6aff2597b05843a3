"""The national health identity (INS): its roots and its key.

An INS is a NIR or a NIA: 13 characters and a key of two digits. The key is
``97 - (n mod 97)``; in Corsica ``2A`` counts as ``19`` and ``2B`` as ``18``
(annexe INS of the CI-SIS; the arithmetic was verified against the national
agency's published samples). Nothing else of the number is judged: the month
may be 20 to 42 or above 50 for people whose date of birth is not known, and
other digits have their own exceptions, so a rule more would turn away people.
"""

from __future__ import annotations

import re
from enum import Enum

from gateway.model import Identifier

NIR = "urn:oid:1.2.250.1.213.1.4.8"
"""Assigning authority of the INS-NIR, production."""
NIA = "urn:oid:1.2.250.1.213.1.4.9"
"""Assigning authority of the INS-NIA, production."""
NIR_TEST = "urn:oid:1.2.250.1.213.1.4.10"
"""Assigning authority of the INS-NIR, test."""
NIR_DEMONSTRATION = "urn:oid:1.2.250.1.213.1.4.11"
"""Assigning authority of the INS-NIR, demonstration."""

PRODUCTION_ROOTS = frozenset({NIR, NIA})
TEST_ROOTS = frozenset({NIR_TEST, NIR_DEMONSTRATION})
ROOTS = PRODUCTION_ROOTS | TEST_ROOTS

_NUMBER = re.compile(r"[0-9]{5}(?:[0-9]{2}|2A|2B)[0-9]{6}")
_KEY = re.compile(r"[0-9]{2}")
_CORSICA = {"2A": "19", "2B": "18"}


class InsFault(Enum):
    """What is wrong with a number, in words that hold no digit of it."""

    LENGTH = "an INS has 15 characters: 13 and a key of 2"
    CHARACTERS = "an INS has digits only, apart from 2A and 2B as the sixth and seventh character"
    ZERO = "an INS of zeros is a filler, not a person"
    KEY = "the key does not agree with the number"


def is_ins(identifier: Identifier) -> bool:
    """Whether an identifier claims to be an INS, by its assigning authority alone.

    The root .13 (a NIR used as social security number) and the root .2 (the
    former INS-C) are no INS: the first may be that of another member of the
    family, the second was computed from traits.
    """
    return identifier.system in ROOTS


def key(number: str) -> str:
    """The two digits of the key of a number of 13 characters.

    Raises ValueError when the number has another shape.
    """
    if _NUMBER.fullmatch(number) is None:
        raise ValueError(InsFault.CHARACTERS.value)
    digits = number[:5] + _CORSICA.get(number[5:7], number[5:7]) + number[7:]
    return f"{97 - int(digits) % 97:02d}"


def fault(value: str) -> InsFault | None:
    """What is wrong with an INS of 15 characters; None when nothing is."""
    if len(value) != 15:
        return InsFault.LENGTH
    number, given = value[:13], value[13:]
    if _NUMBER.fullmatch(number) is None or _KEY.fullmatch(given) is None:
        return InsFault.CHARACTERS
    if set(number) == {"0"}:
        return InsFault.ZERO
    return None if given == key(number) else InsFault.KEY
