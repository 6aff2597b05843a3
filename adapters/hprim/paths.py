"""The notation of HPRIM paths, that of HL7 v2 without conditions in brackets.

==================== ==========================================================
``P-5.1``            component 1 of the first repetition of P-5
``OBR-4(*).2``       every repetition; ``OBR-4(2)`` the second
``OBX-15.3.1``       a subcomponent
``C(*)-3``           field 3 of every comment in reach; ``C(2)-3`` of the second
``$`` ``$.1``        the repetition that ``each: {path: …}`` walks, and its parts
==================== ==========================================================

A path gives one value, the first, unless it has a ``*``. In the scope of a segment, its own
name means it, the names of segments below it those, ``C`` its own comments, and any other
name the nearest segment around it.

Of HPRIM Médecin, ``ENT-2`` is line 2 of the header. ``ENT-7.1`` and ``ENT-10.1`` are the dates
as ISO 8601, ``ENT-8.1`` and ``ENT-8.2`` number and key, ``ENT-11.1`` and ``ENT-11.2`` code and
label of the sender, ``ENT-11.3`` the coding system of its codes (``L``, local); ``ADR-1`` to
``ADR-4`` street, second line, postal code, city; ``TXT-1`` the letter, ``LAB-1`` the text of
the laboratory block, ``RES-4`` a result's value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from gateway.ports import PathError

_PATH = re.compile(
    r"(?P<segment>[A-Z]{1,3})(?:\((?P<which>\*|[1-9]\d{0,5})\))?"
    r"(?:-(?P<field>[1-9]\d?)(?:\((?P<repetition>\*|[1-9]\d{0,5})\))?"
    r"(?:\.(?P<component>[1-9]\d?)(?:\.(?P<sub>[1-9]\d?))?)?)?\Z"
)
_HERE = re.compile(r"\$(?:\.(?P<component>[1-9]\d?)(?:\.(?P<sub>[1-9]\d?))?)?\Z")
_LOOSE = re.compile(r"([A-Za-z]{1,3})[-._](\d+)(\([^()]*\))?(?:[-._](\d+))?(?:[-._](\d+))?\Z")


@dataclass(frozen=True, slots=True)
class HprimPath:
    """A parsed path. ``segment`` is empty for ``$``; ``field`` 0 for a whole segment.

    ``which`` and ``repetition`` are a number from 1, or 0 for every one.
    """

    text: str
    segment: str = ""
    which: int = 1
    field: int = 0
    repetition: int = 1
    component: int = 0
    subcomponent: int = 0

    @property
    def here(self) -> bool:
        """Is it relative to the repetition that a scope walks?"""
        return not self.segment


@lru_cache(maxsize=2048)
def parse(text: str) -> HprimPath:
    """Parse a path. Raises PathError with a suggestion where one is at hand."""
    text = text.strip()
    here = _HERE.match(text)
    if here:
        return HprimPath(
            text, component=int(here["component"] or 0), subcomponent=int(here["sub"] or 0)
        )
    match = _PATH.match(text)
    if match is None:
        raise PathError(f"{text!r} is not an HPRIM path", _corrected(text))
    return HprimPath(
        text,
        segment=match["segment"],
        which=_number(match["which"]),
        field=int(match["field"] or 0),
        repetition=_number(match["repetition"]),
        component=int(match["component"] or 0),
        subcomponent=int(match["sub"] or 0),
    )


def _number(selector: str | None) -> int:
    if selector is None:
        return 1
    return 0 if selector == "*" else int(selector)


def _corrected(text: str) -> str:
    match = _LOOSE.match(text)
    if match is None:
        return ""
    segment, field, selector, *parts = match.groups()
    return f"{segment.upper()}-{field}{selector or ''}" + "".join(f".{p}" for p in parts if p)
