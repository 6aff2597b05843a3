"""Checks of FHIR R4 primitive values (R4 «Data types», 2.24.0.1).

The regular expressions are those of the definitions, with these differences, each
because the expression alone is not what the text of the standard asks:

- they are matched with ASCII classes, so that a no-break space is a character of a
  string like any other (a French text is full of them);
- a string that is only white space is refused: in XML it is an empty value;
- a string, code or URI with NUL or half a surrogate pair is refused: no store keeps it;
- dates must exist in the calendar;
- base64Binary is matched without its white space, in linear time.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import date
from typing import Any

from gateway.mapping.r4.problems import Finding, ProblemCode
from gateway.mapping.serialise import DecimalText

STRING_CHARACTERS_MAX = 1_048_576
"""R4: «strings SHALL NOT exceed 1MB (1024*1024 characters)»."""

BASE64_CHARACTERS_MAX = 64 * 1_048_576
DECIMAL_CHARACTERS_MAX = 64
INTEGER_MAX = 2_147_483_647
DECIMAL_INTEGER_MAX = 10**18
"""A longer integer comes as a DecimalText; see ``gateway.serialise``."""

REMEMBERED_MAX = 4_096
"""Values of one type that were right and are remembered; beyond it starts anew."""

REMEMBERED_CHARACTERS_MAX = 128

_REPEATED = ("code", "uri", "url", "canonical", "dateTime", "instant")
"""Types whose values come again and name no person: systems, codes, times of one message.

``date`` is not among them, for it is the type of a birth date.
"""

_TEXT = "[ \\t\\r\\n]*[^\\s\\x00\\ud800-\\udfff][^\\x00\\x0b\\x0c\\ud800-\\udfff]*"
_URI = "[^\\s\\x00\\ud800-\\udfff]+"
_CODE = f"{_URI}(\\s{_URI})*"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:.", re.ASCII)
_BASE64 = re.compile(r"[0-9A-Za-z+/]*={0,2}", re.ASCII)
_SPACES = str.maketrans("", "", " \t\r\n")
_DATED = ("date", "dateTime", "instant")
_NOT_STRINGS = ("boolean", "decimal", "integer", "unsignedInt", "positiveInt")
_INTEGERS = {"integer": -INTEGER_MAX - 1, "unsignedInt": 0, "positiveInt": 1}


class Primitive:
    """The check of one primitive type, or of one of its required bindings.

    ``right`` holds values known to be right, which need not be asked about again.
    """

    __slots__ = ("name", "right")

    def __init__(self, name: str, right: Collection[str] = ()) -> None:
        self.name = name
        self.right: set[str] = set(right)

    def check(self, value: Any) -> list[Finding] | None:
        """What is wrong with one value; None when nothing is."""
        raise NotImplementedError


class Text(Primitive):
    """A type that is written as its regular expression says, in at most 1 MB."""

    __slots__ = ("_match", "_remembers")

    def __init__(self, name: str, expression: str, *, remembers: bool = False) -> None:
        super().__init__(name)
        self._match = re.compile(expression, re.ASCII).fullmatch
        self._remembers = remembers

    def check(self, value: Any) -> list[Finding] | None:
        """See :class:`Primitive`."""
        # A DecimalText equals its text and is none.
        if type(value) is not str:
            return wrong(self.name, value)
        if value in self.right:
            return None
        if len(value) > STRING_CHARACTERS_MAX:
            return [("", ProblemCode.TOO_LONG, f"over {STRING_CHARACTERS_MAX} characters")]
        if self._match(value) is None:
            return wrong(self.name, value)
        found = self.further(value)
        if found is None and self._remembers and len(value) <= REMEMBERED_CHARACTERS_MAX:
            if len(self.right) >= REMEMBERED_MAX:
                self.right.clear()
            self.right.add(value)
        return found

    def further(self, value: str) -> list[Finding] | None:
        """What is wrong with a text that its expression lets pass."""
        del value
        return None


class Dated(Text):
    """A date, dateTime or instant: also its day is in the calendar."""

    __slots__ = ()

    def further(self, value: str) -> list[Finding] | None:
        """See :class:`Text`. Only a day after the 28th can be missing."""
        if len(value) >= 10 and value[8:10] > "28":
            try:
                date(int(value[:4]), int(value[5:7]), int(value[8:10]))
            except ValueError:
                return [("", ProblemCode.FORMAT, "a day that the calendar does not have")]
        return None


class Prefixed(Text):
    """A URI: one that says that it is an OID or a UUID is written as such.

    ``oid`` and ``uuid`` are the expressions of these two types.
    """

    __slots__ = ("_oid", "_uuid")

    def __init__(self, name: str, oid: str, uuid: str) -> None:
        super().__init__(name, _URI, remembers=True)
        self._oid = re.compile(oid, re.ASCII)
        self._uuid = re.compile(uuid, re.ASCII | re.IGNORECASE)

    def further(self, value: str) -> list[Finding] | None:
        """See :class:`Text`."""
        if value.startswith("urn:oid:") and self._oid.fullmatch(value) is None:
            return [("", ProblemCode.FORMAT, "urn:oid: without an OID after it")]
        if value.startswith("urn:uuid:") and self._uuid.fullmatch(value) is None:
            return [("", ProblemCode.FORMAT, "urn:uuid: without a UUID after it")]
        return None


class Absolute(Prefixed):
    """A URI with a scheme: a naming system means nothing relative to where it is read."""

    __slots__ = ()

    def further(self, value: str) -> list[Finding] | None:
        """See :class:`Text`."""
        if _SCHEME.match(value) is None:
            return [("", ProblemCode.FORMAT, "not an absolute URI")]
        return super().further(value)


class Words(Text):
    """A string or markdown. Nearly all are short and printable, which is quickly seen."""

    __slots__ = ()

    def __init__(self, name: str, *, remembers: bool = False) -> None:
        super().__init__(name, _TEXT, remembers=remembers)


class Code(Primitive):
    """A code that must be one of a required value set's."""

    __slots__ = ()

    def __init__(self, codes: Collection[str]) -> None:
        super().__init__("code", codes)

    def check(self, value: Any) -> list[Finding] | None:
        """See :class:`Primitive`."""
        if type(value) is str and value in self.right:
            return None
        if isinstance(value, str) and not isinstance(value, DecimalText) and value:
            return [("", ProblemCode.CODE, "the code is not in the required value set")]
        return wrong("code", value)


class Prohibited(Primitive):
    """What a profile of a datatype has not; ``name`` says so."""

    __slots__ = ()

    def check(self, value: Any) -> list[Finding] | None:
        """See :class:`Primitive`."""
        del value
        return [("", ProblemCode.PROHIBITED, self.name)]


class Boolean(Primitive):
    """true or false."""

    __slots__ = ()

    def check(self, value: Any) -> list[Finding] | None:
        """See :class:`Primitive`."""
        return None if value is True or value is False else wrong("boolean", value)


class Integer(Primitive):
    """A whole number of 32 bits, from ``least`` on."""

    __slots__ = ("_least",)

    def __init__(self, name: str, least: int) -> None:
        super().__init__(name)
        self._least = least

    def check(self, value: Any) -> list[Finding] | None:
        """See :class:`Primitive`."""
        if type(value) is int:
            if self._least <= value <= INTEGER_MAX:
                return None
            return [("", ProblemCode.FORMAT, f"outside the range of {self.name}")]
        return wrong(self.name, value)


class DecimalNumber(Primitive):
    """A DecimalText, or an int of a size that can be written as JSON. Never a float."""

    __slots__ = ("_match",)

    def __init__(self, expression: str) -> None:
        super().__init__("decimal")
        self._match = re.compile(expression, re.ASCII).fullmatch

    def check(self, value: Any) -> list[Finding] | None:
        """See :class:`Primitive`."""
        if type(value) is DecimalText:
            if len(value) <= DECIMAL_CHARACTERS_MAX and self._match(value) is not None:
                return None
            return [("", ProblemCode.FORMAT, "not written as R4 writes a decimal")]
        if type(value) is int:
            if -DECIMAL_INTEGER_MAX < value < DECIMAL_INTEGER_MAX:
                return None
            return [("", ProblemCode.FORMAT, "an integer of more than 18 digits")]
        if isinstance(value, float):
            reason = "a float has lost the decimal's precision; use DecimalText"
            return [("", ProblemCode.WRONG_TYPE, reason)]
        return wrong("decimal", value)


class Base64(Primitive):
    """base64Binary."""

    __slots__ = ()

    def check(self, value: Any) -> list[Finding] | None:
        """See :class:`Primitive`."""
        if type(value) is not str:
            return wrong("base64Binary", value)
        if len(value) > BASE64_CHARACTERS_MAX:
            return [("", ProblemCode.TOO_LONG, f"over {BASE64_CHARACTERS_MAX} characters")]
        text = value.translate(_SPACES)
        if text and len(text) % 4 == 0 and _BASE64.fullmatch(text):
            return None
        return wrong("base64Binary", value)


def primitive_checks(expressions: Mapping[str, str]) -> dict[str, Primitive]:
    """One check per primitive type, from the definitions' regular expressions.

    ``xhtml`` is not among them: see ``narrative``.
    """
    checks: dict[str, Primitive] = {
        "boolean": Boolean("boolean"),
        "decimal": DecimalNumber(expressions["decimal"]),
        "base64Binary": Base64("base64Binary"),
        "string": Words("string"),
        "markdown": Words("markdown"),
        "code": Text("code", _CODE, remembers=True),
    }
    for name in ("uri", "url", "canonical"):
        checks[name] = Prefixed(name, expressions["oid"], expressions["uuid"])
    for name, least in _INTEGERS.items():
        checks[name] = Integer(name, least)
    for name, expression in expressions.items():
        if name not in checks and name != "xhtml":
            kind = Dated if name in _DATED else Text
            checks[name] = kind(name, expression, remembers=name in _REPEATED)
    return checks


def wrong(name: str, value: Any) -> list[Finding]:
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
