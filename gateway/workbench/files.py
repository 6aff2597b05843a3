"""Files and folders as the messages that are in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters.dicom.reading import READING_FAULTS
from adapters.hl7.sender import read_messages
from adapters.hprim.reception import is_hprim, messages_of
from gateway.model import Format, Payload
from gateway.ports import Unreadable

FILE_BYTES_MAX = 256 << 20
MESSAGES_MAX = 100_000
INSTANCES_MAX = 100_000
"""DICOM files whose study is looked up before the studies are mapped."""

_HEAD_BYTES = 4096
_BLANK = b" \t\r\n\x0b\x0c\0"
_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_HL7_HEADS = (b"MSH", b"FHS", b"BHS")


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a file, or a study of several. ``name`` tells people which."""

    name: str
    format: Format
    payloads: tuple[Payload, ...]


@dataclass(frozen=True, slots=True)
class NoMessage:
    """A file, or a piece of one, that holds no message; ``reason`` says why not."""

    name: str
    reason: str


def messages_of_files(
    paths: Sequence[Path],
    format: Format | None = None,  # noqa: A002 - the field's word
) -> Iterator[Message | NoMessage]:
    """Every message of the files and of the folders' files, one after the other.

    Of each file the format is found by its first bytes unless it is given. One message is
    in memory at a time; DICOM files come last, a study at a time, read from their files.
    Raises OSError when a file cannot be read.
    """
    instances: list[Path] = []
    for path in _files(paths):
        found = format or format_of(path)
        if found is None:
            yield NoMessage(str(path), "no HL7 v2, CDA, DICOM or HPRIM")
        elif found is Format.DICOM:
            if len(instances) < INSTANCES_MAX:
                instances.append(path)
            else:
                yield NoMessage(str(path), f"more than {INSTANCES_MAX} DICOM files at once")
        elif path.stat().st_size > FILE_BYTES_MAX:
            yield NoMessage(str(path), f"larger than {FILE_BYTES_MAX} bytes")
        elif found is Format.CDA:
            yield Message(str(path), found, (Payload.from_bytes(path.read_bytes()),))
        else:
            yield from _of_text(path, found)
    yield from _studies(instances)


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    """The files, and those below the folders in the order of their names."""
    for path in paths:
        if path.is_dir():
            yield from sorted(
                each
                for each in path.rglob("*")
                if each.is_file() and not any(p.startswith(".") for p in each.parts[-1:])
            )
        else:
            yield path


def format_of(path: Path) -> Format | None:
    """The format of a file by its first bytes; None for what is none of ours."""
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    if head[128:132] == b"DICM":
        return Format.DICOM
    wide = head.startswith(_MARKS[1:])
    for mark in _MARKS:
        head = head.removeprefix(mark)
    text = (head.replace(b"\0", b"") if wide else head).lstrip(_BLANK)
    if text.startswith(_HL7_HEADS):
        return Format.HL7V2
    if text.startswith(b"<"):
        return Format.CDA
    return Format.HPRIM if is_hprim(path) else None


def _of_text(path: Path, format: Format) -> Iterator[Message | NoMessage]:  # noqa: A002
    """The messages of a file of HL7 v2 or HPRIM: several, batched, in MLLP blocks."""
    try:
        found = (
            messages_of(path.read_bytes(), MESSAGES_MAX)
            if format is Format.HPRIM
            else read_messages(path)
        )
        for number, data in enumerate(found, 1):
            name = f"{path}#{number}" if number > 1 else str(path)
            yield Message(name, format, (Payload.from_bytes(data),))
    except Unreadable as fault:
        yield NoMessage(str(path), f"{fault} {fault.location}".strip())


def _studies(paths: Sequence[Path]) -> Iterator[Message | NoMessage]:
    """DICOM files as studies, in the order of the first file of each."""
    from adapters.dicom.dataset import Instance

    studies: dict[str, list[Path]] = {}
    for path in paths:
        try:
            study = Instance(Payload.from_file(path)).study
        except READING_FAULTS as fault:
            yield NoMessage(str(path), f"no DICOM object that can be read: {fault}")
            continue
        studies.setdefault(study, []).append(path)
    for members in studies.values():
        more = f" and {len(members) - 1} more" if len(members) > 1 else ""
        payloads = tuple(Payload.from_file(path) for path in members)
        yield Message(f"{members[0]}{more}", Format.DICOM, payloads)
