"""The notation of HL7 v2 paths, parsed. Checking and reading are in ``compiling``.

==================== ===========================================================
``PID-5.1``          component 1 of the first repetition of PID-5
``PID-3(2).4.2``     second repetition, component 4, subcomponent 2
``PID-3(*).1``       every repetition
``PID-3(5=PI).1``    the first repetition whose component 5 is ``PI``
``PID-3(5 in PI INS)`` … is one of; ``(5!=PI)`` … is not; ``(5=PI, 4.2=1.2.3)`` both
``PID-3(* 5=PI).1``  every repetition whose component 5 is ``PI``
``OBX(2)-5``         the second OBX in reach; ``OBX(*)-5`` every one
``OBX(3.1=A)-5``     the first OBX whose OBX-3.1 is ``A``; ``OBX(* 3.1=A)-5`` every one
``$`` ``$.1`` ``$.4.2`` the repetition that ``each: {path: …}`` walks, and its parts
==================== ===========================================================

A path gives one value, the first that fits, unless it has a ``*``. In a
predicate a part that is not there compares as the empty text; values with
spaces or commas are written in double quotes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.ports import PathError

_PATH = re.compile(
    r"(?P<segment>[A-Z][A-Z0-9]{2})(?:\((?P<which>[^()]*)\))?"
    r"(?:-(?P<field>[1-9]\d{0,2})(?:\((?P<repetition>[^()]*)\))?"
    r"(?:\.(?P<component>[1-9]\d{0,2})(?:\.(?P<sub>[1-9]\d{0,2}))?)?)?\Z"
)
_HERE = re.compile(r"\$(?:\.(?P<component>[1-9]\d{0,2})(?:\.(?P<sub>[1-9]\d{0,2}))?)?\Z")
_CONDITION = re.compile(
    r"\s*(?P<part>[1-9]\d{0,2}(?:\.[1-9]\d{0,2}){0,2})\s*"
    r"(?P<operator>!=|=|\bin\b|\bnot in\b)\s*(?P<rest>.*)\Z",
    re.DOTALL,
)
_WORD = re.compile(r'"(?P<quoted>[^"]*)"|(?P<plain>[^\s,"]+)')
_SPLIT_CONDITIONS = re.compile(r',(?=(?:[^"]*"[^"]*")*[^"]*\Z)')


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison: the text of ``part`` is (or, negated, is not) one of ``values``."""

    part: tuple[int, ...]
    values: frozenset[str]
    negated: bool = False

    def holds(self, text: str) -> bool:
        return (text in self.values) is not self.negated


@dataclass(frozen=True, slots=True)
class Which:
    """Which of several: all or the first of those that meet the conditions, or number n."""

    every: bool = False
    number: int = 0
    conditions: tuple[Condition, ...] = ()

    @property
    def plain(self) -> bool:
        """Simply the first."""
        return not (self.every or self.number or self.conditions)


FIRST = Which()
EVERY = Which(every=True)


@dataclass(frozen=True, slots=True)
class Path:
    """A parsed path. ``segment`` is empty for ``$``; ``field`` 0 for a whole segment."""

    text: str
    segment: str = ""
    which: Which = FIRST
    field: int = 0
    repetition: Which = FIRST
    component: int = 0
    subcomponent: int = 0

    @property
    def here(self) -> bool:
        """Is it relative to the repetition that a scope walks?"""
        return not self.segment


def parse(text: str) -> Path:
    """Parse a path. Raises PathError with a suggestion where one is at hand."""
    text = text.strip()
    here = _HERE.match(text)
    if here:
        return Path(
            text,
            component=int(here["component"] or 0),
            subcomponent=int(here["sub"] or 0),
        )
    match = _PATH.match(text)
    if match is None:
        raise PathError(f"{text!r} is not an HL7 v2 path", _corrected(text))
    return Path(
        text,
        segment=match["segment"],
        which=_which(match["which"], text, "segment"),
        field=int(match["field"] or 0),
        repetition=_which(match["repetition"], text, "repetition"),
        component=int(match["component"] or 0),
        subcomponent=int(match["sub"] or 0),
    )


def _which(selector: str | None, path: str, what: str) -> Which:
    if selector is None:
        return FIRST
    selector = selector.strip()
    if selector.isdecimal() and int(selector) > 0:
        return Which(number=int(selector))
    every = selector.startswith("*")
    selector = selector.removeprefix("*").strip() if every else selector
    if not selector:
        if every:
            return EVERY
        raise PathError(f"the {what} selector of {path!r} is empty")
    conditions = tuple(_condition(part, path) for part in _SPLIT_CONDITIONS.split(selector))
    return Which(every=every, conditions=conditions)


def _condition(text: str, path: str) -> Condition:
    match = _CONDITION.match(text)
    if match is None:
        raise PathError(
            f"{text.strip()!r} in {path!r} is not a condition: write 5=PI, 5!=PI or 5 in PI INS"
        )
    operator, rest = match["operator"], match["rest"].strip()
    words = [m["quoted"] if m["quoted"] is not None else m["plain"] for m in _WORD.finditer(rest)]
    if _WORD.sub("", rest).strip(" \t"):
        raise PathError(f"the values of {text.strip()!r} in {path!r} are not well quoted")
    if operator in {"=", "!="}:
        if len(words) > 1:
            raise PathError(
                f"{text.strip()!r} in {path!r} compares with several values",
                path.replace(text, f"{match['part']} in {rest}"),
            )
        words = words or [""]
    elif not words:
        raise PathError(f"{text.strip()!r} in {path!r} names no value")
    part = tuple(int(number) for number in match["part"].split("."))
    return Condition(part, frozenset(words), operator in {"!=", "not in"})


def _corrected(text: str) -> str:
    """A path that was probably meant: capitals, hyphen after the segment, dots after it."""
    match = re.match(
        r"([A-Za-z][A-Za-z0-9]{2})[-._](\d+)(\([^()]*\))?(?:[-._](\d+))?(?:[-._](\d+))?\Z", text
    )
    if match is None:
        return ""
    segment, field, selector, *parts = match.groups()
    return f"{segment.upper()}-{field}{selector or ''}" + "".join(f".{p}" for p in parts if p)
