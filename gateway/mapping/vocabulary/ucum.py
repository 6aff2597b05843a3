"""Whether a text is a unit of UCUM, the code system of http://unitsofmeasure.org.

The grammar is that of the UCUM specification, section 2.2 (case sensitive form)::

    main-term  := "/" term | term
    term       := component (("." | "/") component)*
    component  := (simple-unit [exponent] | factor | "(" term ")") [annotation] | annotation
    simple-unit:= ATOM | PREFIX ATOM[metric]

The published grammar has no annotation behind a factor or a bracket, but UCUM's own table of
example codes has (``/100{WBCs}``, ``g/(8.h){shift}``), so it is read there as well. A prefix goes
before metric atoms only (section 2.3). Nothing is converted and nothing is guessed: ``mg/l`` is a
unit, ``MG/DL`` is none.
"""

from __future__ import annotations

import json
import re
from functools import cache, lru_cache
from pathlib import Path

TEXT_MAX = 100
DEPTH_MAX = 8

SYSTEM = "http://unitsofmeasure.org"

_ANNOTATION = re.compile(r"\{[!-z|~]*\}")
_FACTOR = re.compile(r"[0-9]+")
_EXPONENT = re.compile(r"[+-]?[0-9]+")
_SYMBOL = re.compile(r"10[*^]|(?:[A-Za-z%'\"_]|\[[!-Z\\^-z|~]*\])+")


@lru_cache(maxsize=8192)
def is_unit(text: str) -> bool:
    """Whether a text is a valid UCUM code, blanks included: there must be none."""
    if not text or len(text) > TEXT_MAX:
        return False
    end = _term(text, 1 if text[0] == "/" else 0, 0)
    return end == len(text)


@cache
def _atoms() -> tuple[tuple[str, ...], frozenset[str], frozenset[str]]:
    """Prefixes, metric atoms and all atoms."""
    path = Path(__file__).with_name("ucum_atoms.json")
    table = json.loads(path.read_text(encoding="utf-8"))
    metric = frozenset(table["metric"])
    return tuple(table["prefixes"]), metric, metric | frozenset(table["other"])


def _is_symbol(symbol: str) -> bool:
    prefixes, metric, atoms = _atoms()
    return symbol in atoms or any(
        symbol.startswith(prefix) and symbol[len(prefix) :] in metric for prefix in prefixes
    )


def _term(text: str, at: int, depth: int) -> int:
    """Where a term that begins at a place ends; -1 when there is none."""
    at = _component(text, at, depth)
    while 0 <= at < len(text) and text[at] in "./":
        at = _component(text, at + 1, depth)
    return at


def _component(text: str, at: int, depth: int) -> int:
    if depth > DEPTH_MAX:
        return -1
    annotation = _ANNOTATION.match(text, at)
    if annotation is not None:
        return annotation.end()
    if text.startswith("(", at):
        at = _term(text, at + 1, depth + 1)
        if at < 0 or not text.startswith(")", at):
            return -1
        at += 1
    else:
        at = _simple(text, at)
    annotation = _ANNOTATION.match(text, at) if at >= 0 else None
    return annotation.end() if annotation is not None else at


def _simple(text: str, at: int) -> int:
    """The end of a unit with its exponent, or of a factor."""
    symbol = _SYMBOL.match(text, at)
    if symbol is None:
        factor = _FACTOR.match(text, at)
        return factor.end() if factor is not None else -1
    if not _is_symbol(symbol[0]):
        return -1
    exponent = _EXPONENT.match(text, symbol.end())
    return exponent.end() if exponent is not None else symbol.end()
