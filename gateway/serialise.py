"""FHIR resources to JSON bytes and back, without touching a decimal's text.

FHIR R4 (datatypes, decimal): «the precision of the decimal value has
significance: 0.010 is regarded as different to 0.01». Neither a float nor
orjson keeps it, so a decimal is a :class:`DecimalText` from the mapping to the
record. Every room that stores or sends a resource goes through this module.
"""

from __future__ import annotations

import json
import re
from functools import partial
from typing import Any

import orjson

INTEGER_DIGITS_MAX = 18
"""Longer integers may not fit into 64 bits, which is what orjson writes."""

_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


class DecimalText(str):
    """A JSON number as text, written without quotation marks by :func:`dumps`.

    ``DecimalText("1.10")`` equals the string ``"1.10"`` and nothing else:
    compare ``Decimal(value)`` where the quantity counts. Raises ValueError when
    the text is not a JSON number (RFC 8259 section 6).
    """

    __slots__ = ()

    def __new__(cls, text: str) -> DecimalText:
        """Wrap a text that is a JSON number."""
        if _JSON_NUMBER.fullmatch(text) is None:
            raise ValueError("a decimal must be written as a JSON number")
        return str.__new__(cls, text)


def _unusual(value: object) -> Any:
    if isinstance(value, DecimalText):
        return orjson.Fragment(str.__str__(value))
    raise TypeError(f"{type(value).__name__} has no place in a resource")


def dumps(resource: Any, *, indent: bool = False, sort_keys: bool = False) -> bytes:
    """Write a resource (dicts, lists, str, int, bool, DecimalText) as UTF-8 JSON.

    ``sort_keys`` gives the canonical form that hashes and comparisons use.
    Raises TypeError for a type that is none of these: a float among them would
    not be refused by orjson, and the mapping engine never makes one.
    """
    option = orjson.OPT_PASSTHROUGH_SUBCLASS
    if indent:
        option |= orjson.OPT_INDENT_2
    if sort_keys:
        option |= orjson.OPT_SORT_KEYS
    return orjson.dumps(resource, default=_unusual, option=option)


def _integer(text: str) -> int | DecimalText:
    """An int; a DecimalText for -0 and for what orjson could not write again."""
    return DecimalText(text) if text == "-0" or len(text) > INTEGER_DIGITS_MAX else int(text)


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def loads(data: bytes | str) -> Any:
    """Read JSON; a number with a point or an exponent becomes a DecimalText.

    ``dumps(loads(dumps(x))) == dumps(x)`` for every resource. Raises ValueError
    on text that is not JSON (NaN and Infinity among it).
    """
    return json.loads(
        data, parse_float=_parsed_decimal, parse_int=_integer, parse_constant=_constant
    )


_parsed_decimal = partial(str.__new__, DecimalText)
"""A DecimalText of what the JSON parser has taken for a number: looked at once is enough."""
