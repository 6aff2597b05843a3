"""DICOM objects for the tests: pydicom's own files, and small ones made here byte by byte."""

from __future__ import annotations

import struct
from pathlib import Path

import pydicom.data
import pynetdicom

from adapters.dicom.part10 import NotPart10, file_head, read_file_meta

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
PUBLISHED = Path(pydicom.data.__file__).parent
STUDY = "1.2.826.0.1.3680043.9.1"


def element(tag: int, vr: str, value: bytes | str, *, length: int | None = None) -> bytes:
    """One explicit VR little endian element; ``length`` overrides the true one."""
    raw = value.encode("ascii") if isinstance(value, str) else value
    if len(raw) % 2:
        raw += b"\0" if vr in ("UI", "OB") else b" "
    size = len(raw) if length is None else length
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    if vr in ("OB", "OW", "SQ", "UN", "UT"):
        return head + struct.pack("<HL", 0, size) + raw
    return head + struct.pack("<H", size) + raw


def data_set(
    instance: str = f"{STUDY}.1.1",
    *,
    study: str | None = STUDY,
    sop_class: str = CT,
    patient: bytes = b"",
    extra: bytes = b"",
    pixels: bytes = b"\1\2" * 64,
) -> bytes:
    """A small explicit VR data set. ``patient`` and ``extra`` are elements of their groups."""
    parts = [element(0x00080016, "UI", sop_class), element(0x00080018, "UI", instance)]
    parts.append(element(0x00080060, "CS", "CT"))
    parts.append(patient or element(0x00100020, "LO", "123"))
    if study is not None:
        parts.append(element(0x0020000D, "UI", study))
    parts.append(element(0x0020000E, "UI", f"{STUDY}.1"))
    parts.append(extra)
    parts.append(element(0x7FE00010, "OW", pixels))
    return b"".join(parts)


def write(
    path: Path, body: bytes, instance: str = f"{STUDY}.1.1", *, sop_class: str = CT,
    syntax: str = EXPLICIT,
) -> Path:  # fmt: skip
    """A DICOM file with the given data set bytes."""
    path.write_bytes(file_head(sop_class, instance, syntax) + body)
    return path


def data_set_of(path: Path) -> bytes:
    """The data set bytes of a DICOM file."""
    with path.open("rb") as stream:
        offset = read_file_meta(stream, path.stat().st_size).data_set_offset
    return path.read_bytes()[offset:]


def published_files() -> list[Path]:
    """Test files of pydicom and pynetdicom that are DICOM files of a storage SOP class."""
    folders = [PUBLISHED / "test_files", PUBLISHED / "charset_files"]
    folders.append(Path(pynetdicom.__file__).parent / "tests" / "dicom_files")
    found = []
    for path in sorted(path for folder in folders for path in folder.rglob("*")):
        if not path.is_file() or path.suffix in (".py", ".pyc", ".json"):
            continue
        try:
            with path.open("rb") as stream:
                meta = read_file_meta(stream, path.stat().st_size)
        except NotPart10:
            continue
        # A DICOMDIR (media storage directory) is no object that is stored over the network.
        if meta.sop_class and not meta.sop_class.startswith("1.2.840.10008.1.3"):
            found.append(path)
    return found
