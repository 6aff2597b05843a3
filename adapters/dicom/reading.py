"""Values of one data set or sequence item, found by a checked path."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from adapters.dicom.dataset import Level, TooLarge
from adapters.dicom.elements import DataSetError
from adapters.dicom.part10 import NotPart10
from adapters.dicom.paths import TIMEZONE_OFFSET, DicomPath, Step, parse
from adapters.dicom.values import Absent, Bulk, Report, Text, texts
from gateway.ports import PathError, Value, ValueState

READING_FAULTS = (NotPart10, DataSetError, TooLarge, OSError)
"""What keeps one instance, or one value of it, from being read."""

CODING_SCHEME_DESIGNATOR = 0x00080102
CODING_SCHEME_UID = 0x0008010C
CODING_SCHEME_IDENTIFICATION = 0x00080110
ENCAPSULATED_DOCUMENT = 0x00420011
ENCAPSULATED_DOCUMENT_LENGTH = 0x00420015

CODE_BYTES_MAX = 4 << 10

_LOCAL_DATE_TIME = re.compile(r"[0-9]{10,14}(?:\.[0-9]{1,6})?")


@dataclass(frozen=True, slots=True)
class Sequenced:
    """A sequence item as a value with parts."""

    level: Level
    path: str
    report: Report
    datatype: str = "SQ"

    @property
    def state(self) -> ValueState:
        return ValueState.PRESENT

    @property
    def text(self) -> str:
        return ""

    def part(self, path: str) -> Value:
        """The first value at a path relative to the item."""
        found = self.parts(path)
        return found[0] if found else Absent(f"{self.path}.{path}")

    def parts(self, path: str) -> Sequence[Value]:
        try:
            wanted = parse(path)
            found = read(self.level, wanted.steps, f"{self.path}.", self.report)
        except (PathError, *READING_FAULTS):
            return ()
        return wanted.parts_of(found)

    def raw(self) -> bytes:
        return b""


@dataclass(frozen=True, slots=True)
class ItemScope:
    """One item of a sequence."""

    path: str
    level: Level
    report: Report


def read(level: Level, steps: Sequence[Step], prefix: str, report: Report) -> list[Value]:
    """The values at a path below one level. ``prefix`` ends with its separator.

    Raises DataSetError or TooLarge for a sequence that cannot be read.
    """
    step, rest = steps[0], steps[1:]
    length = level.length(step.tag)
    if length is None:
        if step.tag == CODING_SCHEME_UID and not rest:
            return _declared_scheme(level, prefix)
        return []
    where = prefix + step.keyword
    vr = level.vr(step.tag)
    if vr == "SQ":
        return _of_sequence(level, step, rest, where, report)
    if rest:
        return []
    found: list[Value] = []
    try:
        known = texts(
            level.raw(step.tag) or b"", vr, level.sets,
            little=level.encoding.little, path=where, report=report,
        ) if _is_text(vr) else None  # fmt: skip
    except TooLarge as fault:
        report("unreadable-value", str(fault), where)
        return []
    if known is None:
        fetch = partial(_bytes, level, step.tag, where, report)
        found.append(Bulk(where, vr, length, fetch))
    else:
        found.extend(_with_offset(level, known) if vr == "DT" else known)
    if step.place:
        return [found[step.place - 1]] if step.place <= len(found) else []
    return found


def read_instant(level: Level, path: DicomPath, prefix: str, report: Report) -> Sequence[Value]:
    """A date with its time and the data set's offset as one DT; the date alone without a time."""
    dates = read(level, path.steps, prefix, report)
    if not dates or dates[0].state is not ValueState.PRESENT:
        return dates[:1]
    date = dates[0].text.replace(".", "")  # yyyy.mm.dd of ACR-NEMA (PS3.5 6.2, DA note)
    times = read(level, path.time, prefix, report)
    time = times[0].text.replace(":", "") if times else ""
    text = f"{date}{time}{_offset(level) if time else ''}"
    return [Text(text, dates[0].path, "DT", text.encode())]


def _offset(level: Level) -> str:
    """The offset of all times of the data set that say none (PS3.3 C.12.1.1.8)."""
    return level.root.text(TIMEZONE_OFFSET)


def _with_offset(level: Level, found: list[Text]) -> list[Text]:
    offset = _offset(level)
    if not offset:
        return found
    return [
        replace(value, content=value.content + offset)
        if _LOCAL_DATE_TIME.fullmatch(value.content)
        else value
        for value in found
    ]


def _declared_scheme(level: Level, prefix: str) -> list[Value]:
    """The UID that the data set's header gives for the designator of a code (PS3.3 C.12.1).

    Private designators mean nothing without it.
    """
    designator = level.text(CODING_SCHEME_DESIGNATOR)
    if not designator or level is level.root:
        return []
    for item in level.root.items(CODING_SCHEME_IDENTIFICATION):
        uid = item.text(CODING_SCHEME_UID)
        if uid and item.text(CODING_SCHEME_DESIGNATOR) == designator:
            return [Text(uid, f"{prefix}CodingSchemeDesignator", "UI", uid.encode())]
    return []


def code_token(level: Level, tag: int) -> Hashable:
    """What tells the values of a code sequence from others; None when there is none.

    Its bytes, how they are encoded, and what the header says of private schemes. Bytes that
    are not ASCII are never equal: reading them may have something to report each time.
    """
    length = level.length(tag)
    if length is None:
        return None
    raw = level.raw(tag) if length <= CODE_BYTES_MAX else None
    if raw is None or not raw.isascii():
        return object() if length else ""
    if not raw:
        return ""
    schemes = level.root.raw(CODING_SCHEME_IDENTIFICATION) or b""
    return raw, level.sets, level.encoding_in(tag), schemes


def _is_text(vr: str) -> bool:
    return vr not in ("OB", "OD", "OF", "OL", "OV", "OW", "UN")


def _bytes(level: Level, tag: int, where: str, report: Report) -> bytes:
    """The bytes of a value, without what padded a document to an even length.

    Empty, and a flag, when they are more than are ever read.
    """
    try:
        data = level.raw(tag) or b""
    except READING_FAULTS as fault:
        report("unreadable-value", str(fault), where)
        return b""
    if tag != ENCAPSULATED_DOCUMENT:
        return data
    found = read(level, (Step(ENCAPSULATED_DOCUMENT_LENGTH, ""),), "", report)
    length = int(found[0].text) if found and found[0].text.isdecimal() else 0
    if length and len(data) - 1 <= length <= len(data):
        return data[:length]
    if length:
        report("document-length", "EncapsulatedDocumentLength is not that of the document", where)
    # Without its length: PDF and XML end with no NUL, so one at the end is the padding.
    return data[:-1] if data.endswith(b"\0") else data


def _of_sequence(
    level: Level, step: Step, rest: Sequence[Step], where: str, report: Report
) -> list[Value]:
    items = level.items(step.tag)
    if not items and not rest:
        return [Text("", where, "SQ")]
    found: list[Value] = []
    for place, item in enumerate(items, 1):
        if step.place not in (0, place):
            continue
        at = f"{where}({place})"
        if rest:
            found.extend(read(item, rest, f"{at}.", report))
        else:
            found.append(Sequenced(item, f"{at}", report))
    return found
