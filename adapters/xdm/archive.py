"""A zip that may have been made to do harm: everything is looked at before anything is unpacked.

Only what the standard allows is read: a single-volume zip of stored and deflated regular files
(ITI TF-2 3.32.4.1.2; APPNOTE.TXT 6.3 of the zip format for the records). No file is written.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO, Self

from adapters.ebrim.faults import Refused, hostile
from adapters.xdm.faults import no_archive
from gateway.model import CauseCode

NAME_CHARACTERS_MAX = 255
DIRECTORY_BYTES_MAX = 4 << 20
"""Of the central directory, all of which is read."""
RATIO_FROM_BYTES = 1 << 20
"""Smaller files may be packed as tightly as they can: a page of blanks is no bomb."""

_END = struct.Struct("<4s4H2LH")  # end of central directory record, section 4.3.16
_LOCAL = struct.Struct("<4s5H3L2H")  # local file header, section 4.3.7
_END_BYTES_MAX = _END.size + 0xFFFF
_ENCRYPTED, _UTF8 = 0x1, 0x800


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """``unpacked_bytes_max`` is for all files together, ``ratio_max`` unpacked to packed."""

    files_max: int = 1000
    file_bytes_max: int = 64 << 20
    unpacked_bytes_max: int = 128 << 20
    ratio_max: int = 200


class Archive:
    """The files of a checked archive by name. Holds the stream; reads one file at a time."""

    def __init__(self, archive: zipfile.ZipFile, files: Mapping[str, zipfile.ZipInfo]) -> None:
        self._archive = archive
        self._files = files

    @classmethod
    def open(cls, stream: BinaryIO, limits: ArchiveLimits = ArchiveLimits()) -> Self:
        """Look at the whole directory. Raises Refused."""
        _check_end(stream, limits)
        try:
            archive = zipfile.ZipFile(stream)
        except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, ValueError):
            raise no_archive("it is no zip archive, or a damaged one") from None
        entries = archive.infolist()
        if len(entries) > limits.files_max:
            raise hostile(f"the archive holds more than {limits.files_max} files")
        files: dict[str, zipfile.ZipInfo] = {}
        known: set[str] = set()
        for entry in entries:
            _check_name(entry)
            _check_kind(entry)
            _check_size(entry, limits)
            name = _slashed(entry.filename)
            if name.casefold() in known:
                raise hostile("two files of the archive have one name", name)
            known.add(name.casefold())
            if not name.endswith("/"):
                files[name] = entry
        if sum(entry.file_size for entry in entries) > limits.unpacked_bytes_max:
            raise hostile(f"unpacked it is more than {limits.unpacked_bytes_max} bytes")
        _check_places(stream, archive, entries)
        return cls(archive, files)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the files, as the directory has them."""
        return tuple(self._files)

    def read(self, name: str) -> bytes:
        """One file, its CRC checked. Raises Refused."""
        entry = self._files[name]
        try:
            with self._archive.open(entry) as stream:
                data = stream.read(entry.file_size + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
            raise Refused(
                CauseCode.UNREADABLE, "a file of the archive is damaged (CRC, length)", name
            ) from None
        if len(data) != entry.file_size:
            raise Refused(CauseCode.UNREADABLE, "a file of the archive is cut", name)
        return data

    def close(self) -> None:
        """Let go of the archive, not of the stream."""
        self._archive.close()


def _check_end(stream: BinaryIO, limits: ArchiveLimits) -> None:
    """What the last record says, before Python reads a directory of any length."""
    size = stream.seek(0, 2)
    stream.seek(max(0, size - _END_BYTES_MAX))
    tail = stream.read(_END_BYTES_MAX)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END.size:
        raise no_archive("it is no zip archive, or the end of it is missing")
    _, disk, first_disk, here, count, length, offset, comment = _END.unpack_from(tail, at)
    zip64 = count == 0xFFFF or 0xFFFFFFFF in (length, offset)
    if disk or first_disk or here != count or zip64:
        raise hostile("the archive is of several volumes, or a ZIP64")
    if count > limits.files_max:
        raise hostile(f"the archive holds more than {limits.files_max} files")
    if length > DIRECTORY_BYTES_MAX:
        raise hostile(f"the directory of the archive is larger than {DIRECTORY_BYTES_MAX} bytes")
    end = max(0, size - _END_BYTES_MAX) + at
    if offset + length != end or end + _END.size + comment != size:
        # Something before the zip or behind it: two readers would see two archives.
        raise hostile("there is more in the file than the archive")
    stream.seek(0)


def _check_name(entry: zipfile.ZipInfo) -> None:
    # The second is the first, or what an extra field of the entry says instead.
    for name in (entry.orig_filename, entry.filename):
        parts = _slashed(name).removesuffix("/").split("/")
        if (
            len(name) > NAME_CHARACTERS_MAX
            or not name.isprintable()
            or ":" in name
            or any(part in ("", ".", "..") for part in parts)
        ):
            raise hostile("the name of a file in the archive leaves it, or is none")


def _slashed(name: str) -> str:
    """With the separator of the standard (4.4.17.1); older software of Windows writes its own."""
    return name.replace("\\", "/")


def _check_kind(entry: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = "a symbolic link" if kind == stat.S_IFLNK else "no regular file"
        raise hostile(f"the archive holds {what}", entry.filename)
    if entry.flag_bits & _ENCRYPTED:
        raise hostile("the archive is encrypted: nobody here has its password", entry.filename)
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise hostile("a file is packed by another method than deflate", entry.filename)


def _check_size(entry: zipfile.ZipInfo, limits: ArchiveLimits) -> None:
    if entry.file_size > limits.file_bytes_max:
        raise hostile(f"a file is larger than {limits.file_bytes_max} bytes", entry.filename)
    if entry.is_dir() and entry.file_size:
        raise hostile("a folder of the archive has content", entry.filename)
    packed = max(entry.compress_size, 1)
    if entry.file_size > RATIO_FROM_BYTES and entry.file_size > limits.ratio_max * packed:
        raise hostile(
            f"a file unpacks to more than {limits.ratio_max} times its size", entry.filename
        )


def _check_places(
    stream: BinaryIO, archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo]
) -> None:
    """No two files share bytes, and each says of itself what the directory says of it."""
    end = 0
    for entry in sorted(entries, key=lambda each: each.header_offset):
        if entry.header_offset < end:
            raise hostile("files of the archive overlap", entry.filename)
        stream.seek(entry.header_offset)
        header = stream.read(_LOCAL.size)
        if len(header) < _LOCAL.size or header[:4] != b"PK\x03\x04":
            raise no_archive("the directory of the archive points to no file")
        *_, name_length, extra_length = _LOCAL.unpack(header)
        encoding = "utf-8" if entry.flag_bits & _UTF8 else "cp437"
        name = stream.read(name_length).decode(encoding, "replace")
        if name != entry.orig_filename:
            raise hostile("a file has another name than in the directory", entry.filename)
        end = entry.header_offset + _LOCAL.size + name_length + extra_length + entry.compress_size
        if end > archive.start_dir:
            raise hostile("files of the archive overlap its directory", entry.filename)
