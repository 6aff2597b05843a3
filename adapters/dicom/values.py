"""Values of a data set as the mapping engine sees them (PS3.5 section 6.2)."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from adapters.dicom.charset import declared, decode
from gateway.ports import Value, ValueState

TEXT_BYTES_MAX = 1 << 20
"""Text longer than this is not decoded; it is no attribute of a study."""

PERSON_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
"""Component groups of a person name, in their order (PS3.5 6.2.1.1)."""

PERSON_COMPONENTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
"""Components of a person name, in their order (PS3.5 6.2.1.1)."""

TEMPORAL = frozenset({"DA", "DT", "TM"})
"""VRs whose value may be a range (PS3.5 6.2, PS3.4 C.2.2.2.5)."""

RANGE_ENDS = ("From", "To")

_MOMENT = r"[0-9]{2,14}(?:\.[0-9]{1,6})?(?:[+-][0-9]{4})?"
_RANGE = re.compile(rf"(?P<From>{_MOMENT})?-(?P<To>{_MOMENT})?")
_WITH_OFFSET = re.compile(r"[0-9]{4,14}(?:\.[0-9]{1,6})?[+-](?:0[0-9]|1[0-4])[0-5][0-9]")
"""A year and an offset, never two years: what can be read as an offset is one (PS3.5 6.2, DT)."""

_ONE_VALUE = frozenset({"LT", "ST", "UT", "UR"})
_WITH_CHARACTER_SET = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_TEXTUAL = _WITH_CHARACTER_SET | {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"}
_NUMBERS = {
    "US": "H", "SS": "h", "UL": "L", "SL": "l", "UV": "Q", "SV": "q", "FL": "f", "FD": "d",
}  # fmt: skip
_LEADING_SPACE_COUNTS = frozenset({"LT", "ST", "UT", "UC", "UR"})

Report = Callable[[str, str, str], None]
"""Takes a flag's code, its detail and the source path."""


@dataclass(frozen=True, slots=True)
class Absent:
    """Nothing stands at the path."""

    path: str
    datatype: str = ""

    @property
    def state(self) -> ValueState:
        return ValueState.ABSENT

    @property
    def text(self) -> str:
        return ""

    def part(self, path: str) -> Value:
        return Absent(f"{self.path}.{path}")

    def parts(self, path: str) -> Sequence[Value]:  # noqa: ARG002
        return ()

    def raw(self) -> bytes:
        return b""


@dataclass(frozen=True, slots=True)
class Text:
    """One decoded value. A person name has parts; its text is its alphabetic group."""

    content: str
    path: str
    datatype: str
    undecoded: bytes = b""

    @property
    def state(self) -> ValueState:
        return ValueState.PRESENT if self.text else ValueState.EMPTY

    @property
    def text(self) -> str:
        if self.datatype == "PN":
            return _group(self.content, 0)
        return self.content

    def part(self, path: str) -> Value:
        """``FamilyName``, ``Ideographic``, ``Ideographic.FamilyName``… of a person name.

        ``From`` and ``To`` of a date or time that is a range; absent for one that is none.
        """
        where = f"{self.path}.{path}"
        if self.datatype in TEMPORAL:
            end = _range_end(self.content, self.datatype, path)
            return Text(end, where, self.datatype, end.encode()) if end else Absent(where)
        if self.datatype != "PN":
            return Absent(where)
        group, _, component = path.rpartition(".")
        if not group and component in PERSON_GROUPS:
            group, component = component, ""
        if (group and group not in PERSON_GROUPS) or (
            component and component not in PERSON_COMPONENTS
        ):
            return Absent(where)
        text = _group(self.content, PERSON_GROUPS.index(group) if group else 0)
        if component:
            components = text.split("^")
            place = PERSON_COMPONENTS.index(component)
            text = components[place].strip(" ") if place < len(components) else ""
        return Text(text, where, "LO", text.encode()) if text else Absent(where, "LO")

    def parts(self, path: str) -> Sequence[Value]:
        found = self.part(path)
        return () if found.state is ValueState.ABSENT else (found,)

    def raw(self) -> bytes:
        return self.undecoded


@dataclass(frozen=True, slots=True)
class Bulk:
    """Bytes without a text: OB, OW, UN and the like, fetched only when asked for."""

    path: str
    datatype: str
    length: int
    fetch: Callable[[], bytes]

    @property
    def state(self) -> ValueState:
        return ValueState.PRESENT if self.length else ValueState.EMPTY

    @property
    def text(self) -> str:
        return ""

    def part(self, path: str) -> Value:
        return Absent(f"{self.path}.{path}")

    def parts(self, path: str) -> Sequence[Value]:  # noqa: ARG002
        return ()

    def raw(self) -> bytes:
        return self.fetch()


def _range_end(text: str, datatype: str, end: str) -> str:
    """One end of a range; empty when it is open, or when the value is no range."""
    if end not in RANGE_ENDS or (datatype == "DT" and _WITH_OFFSET.fullmatch(text)):
        return ""
    found = _RANGE.fullmatch(text)
    return (found[end] or "") if found is not None else ""


def _group(name: str, place: int) -> str:
    groups = name.split("=")
    return groups[place].rstrip(" ^") if place < len(groups) else ""


def texts(
    raw: bytes, vr: str, sets: tuple[str, ...], *, little: bool, path: str, report: Report
) -> list[Text] | None:
    """All values of an element, or None when its VR has no text.

    An element of length zero has one EMPTY value. ``report`` hears of a character set
    that did not fit and of text over :data:`TEXT_BYTES_MAX`, which gives no text.
    """
    if vr in _TEXTUAL:
        return _character_values(raw, vr, sets, path, report)
    if vr in _NUMBERS:
        return _number_values(raw, vr, "<" if little else ">", path)
    if vr == "AT":
        order = "<" if little else ">"
        pairs = struct.iter_unpack(order + "HH", raw[: len(raw) // 4 * 4])
        return _placed([(f"({g:04X},{e:04X})", b"") for g, e in pairs], path, vr)
    return None


def _character_values(
    raw: bytes, vr: str, sets: tuple[str, ...], path: str, report: Report
) -> list[Text]:
    if len(raw) > TEXT_BYTES_MAX:
        report("text-too-long", f"{len(raw)} bytes; {TEXT_BYTES_MAX} are decoded at most", path)
        return [Text("", path, vr)]
    delimiters = b"\r\n\f\t\\^=" if vr == "PN" else b"\r\n\f\t\\"
    decoded = decode(raw, sets if vr in _WITH_CHARACTER_SET else ("",), delimiters=delimiters)
    if decoded.fallback:
        report("character-set", f"not {declared(sets)}; read as {decoded.fallback}", path)
    values = [decoded.text] if vr in _ONE_VALUE else decoded.text.split("\\")
    trimmed = [
        value.rstrip(" \0") if vr in _LEADING_SPACE_COUNTS else value.strip(" \0")
        for value in values
    ]
    return _placed([(text, raw if len(trimmed) == 1 else b"") for text in trimmed], path, vr)


def _number_values(raw: bytes, vr: str, order: str, path: str) -> list[Text]:
    size = struct.calcsize(order + _NUMBERS[vr])
    numbers = struct.iter_unpack(order + _NUMBERS[vr], raw[: len(raw) // size * size])
    show = _shortest_single if vr == "FL" else repr
    return _placed([(show(number), b"") for (number,) in numbers], path, vr)


def _shortest_single(number: float) -> str:
    """The shortest decimal that is the same 32-bit number, as repr gives it for 64 bits."""
    packed = struct.pack("<f", number)
    for digits in range(6, 10):
        text = f"{number:.{digits}g}"
        if struct.pack("<f", float(text)) == packed:
            return text
    return repr(number)


def _placed(found: list[tuple[str, bytes]], path: str, vr: str) -> list[Text]:
    if not found:
        return [Text("", path, vr)]
    if len(found) == 1:
        return [Text(found[0][0], path, vr, found[0][1] or found[0][0].encode())]
    return [
        Text(text, f"{path}({place})", vr, raw or text.encode())
        for place, (text, raw) in enumerate(found, 1)
    ]
