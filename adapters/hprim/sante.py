"""HPRIM Santé: files taken apart into messages, and messages into a tree of segments.

A file is ``H {P {OBR {OBX}}} L``; ``C`` comments on the segment before it and ``A``
continues that segment where a line of 220 characters ends (HPRIM Santé 2.5 sections A and
B.1). A file with several patients becomes a message for each of them, so that what is wrong
with one holds up no other: the header's lines, the patient's own, the trailer's, each in
their exact bytes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from adapters.hprim.faults import NotReadable, text_of
from adapters.hprim.grammar import PARENTS, SANTE_VERSIONS
from adapters.hprim.lines import lines, numbered
from adapters.hprim.segments import Message, Segment, Separators
from gateway.model import CauseCode

SEGMENTS_MAX = 100_000
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BLANKS = b" \t\x1a"
"""Blanks, and the end of file that DOS programs write."""
_HEADER = re.compile(rb"H([!-/:-@\[-`{-~])([!-/:-@\[-`{-~]{4})\1")
_KNOWN = frozenset({"H", "C", "A", *PARENTS})


def is_sante(content: bytes) -> bool:
    """Whether the first line that says something is a header of HPRIM Santé."""
    return _HEADER.match(content.removeprefix(_BYTE_ORDER_MARK).lstrip(b" \t\r\n")) is not None


def split(content: bytes, messages_max: int) -> list[bytes]:
    """The messages of a file, one for each patient.

    Raises NotReadable: cut before its trailer, lines outside a message, too many.
    """
    found: list[bytes] = []
    begin = -1
    patients: list[int] = []
    trailer = -1
    separator = b"|"
    start = len(_BYTE_ORDER_MARK) if content.startswith(_BYTE_ORDER_MARK) else 0
    for line in lines(content[start:]):
        data = line.data.lstrip()
        name = data.split(separator, 1)[0]
        if _HEADER.match(data):
            if begin >= 0 and trailer < 0:
                raise _cut(line.number)
            found += _messages(content[start:], begin, patients, trailer, line.begin)
            begin, patients, trailer, separator = line.begin, [], -1, data[1:2]
        elif not data.strip(_BLANKS):
            continue
        elif begin < 0 or (trailer >= 0 and name not in (b"A", b"C")):
            raise NotReadable(
                CauseCode.NOT_THE_FORMAT, "a line stands outside a message", f"line {line.number}"
            )
        elif name == b"P":
            patients.append(line.begin)
        elif name == b"L":
            trailer = line.begin
        if len(found) + len(patients) > messages_max:
            raise NotReadable(
                CauseCode.HOSTILE_CONTENT, f"the file holds more than {messages_max} patients"
            )
    if trailer < 0:
        raise _cut(content.count(b"\n") or content.count(b"\r"))
    return found + _messages(content[start:], begin, patients, trailer, len(content) - start)


def _cut(number: int) -> NotReadable:
    return NotReadable(
        CauseCode.FRAME_TRUNCATED, "the trailer (L) is missing: the file is cut", f"line {number}"
    )


def _messages(
    content: bytes, begin: int, patients: list[int], trailer: int, end: int
) -> list[bytes]:
    if begin < 0:
        return []
    if len(patients) < 2:
        return [content[begin:end]]
    header, last = content[begin : patients[0]], content[trailer:end]
    bounds = [*patients, trailer]
    return [header + content[first:following] + last for first, following in pairwise(bounds)]


def read(content: bytes, encoding: str) -> Message:
    """Read one message. Raises NotReadable with the line or field that is wrong."""
    joined = _joined(text_of(content, encoding))
    header = joined[0][1] if joined else ""
    if not _HEADER.match(header.encode("utf-8")):
        raise NotReadable(CauseCode.NOT_THE_FORMAT, "the first segment is no header (H)", "H-1")
    separators = Separators(*header[1:6])
    if len({*header[1:6]}) < 5:
        raise NotReadable(
            CauseCode.NOT_THE_FORMAT, "one character separates two kinds of parts", "H-1"
        )
    fields = ["H", header[2:6], *header[7:].split(separators.field)]
    root = Segment("H", fields, joined[0][0])
    message = Message("", root, content, encoding, separators)
    _grow(message, joined[1:], separators)
    message.version = _checked_version(message)
    return message


def _checked_version(message: Message) -> str:
    version = message.text(message.root, 12).strip()
    if not message.text(message.root, 6).strip():
        raise NotReadable(CauseCode.REQUIRED_FIELD_MISSING, "the context is missing", "H-6")
    if not version:
        raise NotReadable(CauseCode.REQUIRED_FIELD_MISSING, "the version is missing", "H-12")
    if version not in SANTE_VERSIONS:
        known = f"{SANTE_VERSIONS[0]} to {SANTE_VERSIONS[-1]}"
        raise NotReadable(
            CauseCode.UNSUPPORTED_VERSION, f"HPRIM Santé {known} are supported", "H-12"
        )
    return version


def _joined(text: str) -> list[tuple[int, str]]:
    """The segments with the numbers of their lines, continuation lines put back."""
    found: list[tuple[int, list[str]]] = []
    continued = "A|"
    for number, line in numbered(text):
        content = line.lstrip()
        if not content:
            continue
        if not found:
            continued = "A" + content[1:2]
        if found and content.startswith(continued):
            # What follows "A|" goes on where the line before ended.
            found[-1][1].append(content[2:])
        else:
            found.append((number, [content]))
        if len(found) > SEGMENTS_MAX:
            raise NotReadable(CauseCode.HOSTILE_CONTENT, f"more than {SEGMENTS_MAX} segments")
    return [(number, "".join(pieces)) for number, pieces in found]


def _grow(message: Message, joined: Sequence[tuple[int, str]], separators: Separators) -> None:
    """Hang each segment below the one that its kind stands under."""
    open_: dict[str, Segment] = {"H": message.root}
    last = message.root
    for number, text in joined:
        fields = text.split(separators.field)
        name = fields[0].strip()
        if name not in _KNOWN or name in ("H", "A"):
            raise NotReadable(
                CauseCode.NOT_THE_FORMAT, "the line is no segment of HPRIM Santé", f"line {number}"
            )
        parent = last if name == "C" else open_.get(PARENTS[name])
        if parent is None:
            raise NotReadable(
                CauseCode.NOT_THE_FORMAT,
                f"{name} stands before any {PARENTS[name]}",
                f"line {number}",
            )
        message.counts[name] = ordinal = message.counts.get(name, 0) + 1
        segment = Segment(name, fields, number, ordinal, parent)
        parent.children.append(segment)
        if name != "C":
            last = segment
            open_[name] = segment
            _forget_below(open_, name)


def _forget_below(open_: dict[str, Segment], name: str) -> None:
    """A new P ends the OBR before it, and so on."""
    for child, parent in PARENTS.items():
        if parent == name and open_.pop(child, None) is not None:
            _forget_below(open_, child)
