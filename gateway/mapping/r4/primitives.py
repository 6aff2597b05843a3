"""Checks of FHIR R4 primitive values (R4 «Data types», 2.24.0.1).

The regular expressions are those of the definitions, with these differences, each
because the expression alone is not what the text of the standard asks:

- they are matched with ASCII classes, so that a no-break space is a character of a
  string like any other (a French text is full of them);
- a string that is only white space is refused: in XML it is an empty value;
- a string with NUL or half a surrogate pair is refused: no store keeps it;
- dates must exist in the calendar;
- base64Binary is matched without its white space, in linear time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any

from gateway.mapping.r4.problems import Check, Finding, ProblemCode
from gateway.mapping.serialise import DecimalText

STRING_CHARACTERS_MAX = 1_048_576
"""R4: «strings SHALL NOT exceed 1MB (1024*1024 characters)»."""

BASE64_CHARACTERS_MAX = 64 * 1_048_576
DECIMAL_CHARACTERS_MAX = 64
INTEGER_MAX = 2_147_483_647

REMEMBERED_MAX = 4_096
"""Values of one type that were right and are remembered; beyond it starts anew."""

REMEMBERED_CHARACTERS_MAX = 128

_REPEATED = frozenset({"code", "uri", "url", "canonical"})
"""Types whose values come again in every message and name no person: systems, codes."""

_TEXT = "[ \\t\\r\\n]*[^\\s\\x00\\ud800-\\udfff][^\\x00\\x0b\\x0c\\ud800-\\udfff]*"
_BASE64 = re.compile(r"[0-9A-Za-z+/]*={0,2}", re.ASCII)
_SPACES = str.maketrans("", "", " \t\r\n")
_DATED = ("date", "dateTime", "instant")
_NOT_STRINGS = ("boolean", "decimal", "integer", "unsignedInt", "positiveInt")
_INTEGERS = {"integer": -INTEGER_MAX - 1, "unsignedInt": 0, "positiveInt": 1}


def primitive_checks(expressions: Mapping[str, str]) -> dict[str, Check]:
    """One check per primitive type, from the definitions' regular expressions.

    ``xhtml`` is not among them: see ``narrative``.
    """
    checks: dict[str, Check] = {
        "boolean": _boolean,
        "decimal": _decimal_check(expressions["decimal"]),
        "base64Binary": _base64,
        "string": _text_check("string", _TEXT),
        "markdown": _text_check("markdown", _TEXT),
    }
    for name in ("uri", "url", "canonical"):
        checks[name] = _text_check(name, "[^\\s\\x00\\ud800-\\udfff]+")
    for name, least in _INTEGERS.items():
        checks[name] = _integer_check(name, least)
    for name, expression in expressions.items():
        if name not in checks and name != "xhtml":
            checks[name] = _text_check(name, expression)
    for name in _REPEATED:
        checks[name] = _repeated_check(checks[name])
    for name in _DATED:
        checks[name] = _dated_check(checks[name])
    return checks


def code_check(codes: frozenset[str]) -> Check:
    """A code that must be one of a required value set's."""

    def check(value: Any) -> list[Finding] | None:
        if type(value) is str and value in codes:
            return None
        if isinstance(value, str):
            return [("", ProblemCode.CODE, "the code is not in the required value set")]
        return _wrong("code", value)

    return check


def _wrong(name: str, value: Any) -> list[Finding]:
    """Say why a value that failed is not of its type."""
    if value is None:
        return [("", ProblemCode.NULL, "null stands only where an extension takes its place")]
    if isinstance(value, list):
        return [("", ProblemCode.NOT_SINGLE, "an array where R4 has a single value")]
    if not isinstance(value, str) or isinstance(value, DecimalText) or name in _NOT_STRINGS:
        return [("", ProblemCode.WRONG_TYPE, f"not a {name} but a JSON {_json_name(value)}")]
    if not value or value.isspace():
        return [("", ProblemCode.EMPTY, f"an empty {name}")]
    return [("", ProblemCode.FORMAT, f"not written as R4 writes a {name}")]


def _json_name(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float, DecimalText)):
        return "number"
    if isinstance(value, dict):
        return "object"
    return "string" if isinstance(value, str) else type(value).__name__


def _text_check(name: str, expression: str) -> Check:
    match = re.compile(expression, re.ASCII).fullmatch

    def check(value: Any) -> list[Finding] | None:
        if type(value) is str and len(value) <= STRING_CHARACTERS_MAX and match(value):
            return None
        if type(value) is str and len(value) > STRING_CHARACTERS_MAX:
            return [("", ProblemCode.TOO_LONG, f"over {STRING_CHARACTERS_MAX} characters")]
        return _wrong(name, value)

    return check


def _repeated_check(check: Check) -> Check:
    """A check of texts that asks nothing of one that was right before."""
    right: set[str] = set()

    def run(value: Any) -> list[Finding] | None:
        # A DecimalText equals the text and is none.
        if type(value) is not str:
            return check(value)
        if value in right:
            return None
        findings = check(value)
        if findings is None and len(value) <= REMEMBERED_CHARACTERS_MAX:
            if len(right) >= REMEMBERED_MAX:
                right.clear()
            right.add(value)
        return findings

    return run


def _dated_check(form: Check) -> Check:
    """The form, and the day in the calendar (only a day after the 28th can fail)."""

    def check(value: Any) -> list[Finding] | None:
        findings = form(value)
        if findings is None and len(value) >= 10 and value[8:10] > "28":
            try:
                date(int(value[:4]), int(value[5:7]), int(value[8:10]))
            except ValueError:
                return [("", ProblemCode.FORMAT, "a day that the calendar does not have")]
        return findings

    return check


def _boolean(value: Any) -> list[Finding] | None:
    if value is True or value is False:
        return None
    return _wrong("boolean", value)


def _integer_check(name: str, least: int) -> Check:
    def check(value: Any) -> list[Finding] | None:
        if type(value) is int:
            if least <= value <= INTEGER_MAX:
                return None
            return [("", ProblemCode.FORMAT, f"outside the range of {name}")]
        return _wrong(name, value)

    return check


def _decimal_check(expression: str) -> Check:
    match = re.compile(expression, re.ASCII).fullmatch

    def check(value: Any) -> list[Finding] | None:
        if type(value) is DecimalText:
            if len(value) <= DECIMAL_CHARACTERS_MAX and match(value):
                return None
            return [("", ProblemCode.FORMAT, "not written as R4 writes a decimal")]
        if type(value) is int:
            return None
        if isinstance(value, float):
            reason = "a float has lost the decimal's precision; use DecimalText"
            return [("", ProblemCode.WRONG_TYPE, reason)]
        return _wrong("decimal", value)

    return check


def _base64(value: Any) -> list[Finding] | None:
    if type(value) is not str:
        return _wrong("base64Binary", value)
    if len(value) > BASE64_CHARACTERS_MAX:
        return [("", ProblemCode.TOO_LONG, f"over {BASE64_CHARACTERS_MAX} characters")]
    text = value.translate(_SPACES)
    if text and len(text) % 4 == 0 and _BASE64.fullmatch(text):
        return None
    return _wrong("base64Binary", value)
