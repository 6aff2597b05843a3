"""Interchange media (PS3.10 section 8, PS3.3 annex F): which files a CD or a folder holds.

A medium says in its DICOMDIR what is on it; a folder without one is taken file by file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from adapters.dicom.dataset import Instance
from adapters.dicom.elements import DataSetError
from adapters.dicom.part10 import NotPart10
from adapters.dicom.reading import READING_FAULTS
from gateway.model import Payload

DICOMDIR = "DICOMDIR"
DIRECTORY_CLASS = "1.2.840.10008.1.3.10"
RECORDS, FILE_ID = 0x00041220, 0x00041500
DIRECTORY_BYTES_MAX = 64 << 20
FILES_MAX = 200_000
COMPONENTS_MAX = 16
"""Components of a File ID: the standard has 8 (PS3.10 8.2), media in the field have more."""


class NoMedium(Exception):
    """The folder holds nothing that could be sent, or its DICOMDIR cannot be read."""


@dataclass(frozen=True, slots=True)
class Medium:
    """What a medium holds. ``missing``: named by its DICOMDIR, and not there."""

    files: tuple[Path, ...]
    missing: tuple[str, ...] = ()
    directory: Path | None = None


def medium_of(path: Path) -> Medium:
    """The files of a medium: ``path`` is its folder or its DICOMDIR. Raises NoMedium, OSError."""
    root = path if path.is_dir() else path.parent
    directory = path if path.is_file() else _named(root, DICOMDIR)
    if directory is None or not directory.is_file():
        found = tuple(sorted(islice(_files(root), FILES_MAX + 1)))
        if len(found) > FILES_MAX:
            raise NoMedium(f"{root} holds more than {FILES_MAX} files")
        if not found:
            raise NoMedium(f"{root} holds no files")
        return Medium(found)
    files: dict[Path, None] = {}
    missing: list[str] = []
    for parts in _file_ids(directory):
        place = _inside(root, parts)
        if place is None:
            missing.append("/".join(map(_shown, parts)))
        else:
            files[place] = None
        if len(files) > FILES_MAX:
            raise NoMedium(f"{directory} names more than {FILES_MAX} files")
    if not files and not missing:
        raise NoMedium(f"{directory} names no files")
    return Medium(tuple(files), tuple(missing), directory)


def _files(root: Path) -> Iterator[Path]:
    """All files below a folder; symbolic links are not followed out of it."""
    for each in root.rglob("*"):
        if each.is_file() and not each.is_symlink():
            yield each


def _file_ids(directory: Path) -> Iterator[tuple[str, ...]]:
    """The File IDs of the directory's records (PS3.3 F.3.2.2). Raises NoMedium."""
    try:
        if directory.stat().st_size > DIRECTORY_BYTES_MAX:
            raise NoMedium(f"{directory} is larger than {DIRECTORY_BYTES_MAX} bytes")
        instance = Instance(Payload.from_file(directory))
        if instance.meta.sop_class != DIRECTORY_CLASS:
            raise NoMedium(f"{directory} is no DICOMDIR")
        for record in instance.level.items(RECORDS):
            # ASCII by the standard (PS3.10 8.2); else its bytes are those of the disc.
            text = os.fsdecode(record.raw(FILE_ID) or b"")
            parts = tuple(part.strip(" \0") for part in text.split("\\"))
            if any(parts):
                yield parts
    except (NotPart10, DataSetError, *READING_FAULTS) as error:
        raise NoMedium(f"{directory} cannot be read ({type(error).__name__})") from None


def _inside(root: Path, parts: tuple[str, ...]) -> Path | None:
    """The file of a File ID under the medium's root, whatever case the file system gave its
    names; None when there is none. Nothing outside the root is ever named."""
    if len(parts) > COMPONENTS_MAX:
        return None
    place = root
    for part in parts:
        if part in {"", ".", ".."} or "/" in part or "\0" in part:
            return None
        found = _named(place, part)
        if found is None or found.is_symlink():
            return None
        place = found
    return place if place.is_file() else None


def _shown(name: str) -> str:
    """A name for people, of whose bytes some are no UTF-8: they are Latin-1 then."""
    raw = os.fsencode(name)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("iso8859-1")


def _named(folder: Path, name: str) -> Path | None:
    exact = folder / name
    if exact.exists():
        return exact
    # ISO 9660 without extensions gives lower case, and a version behind a semicolon.
    # And a reader that takes Latin-1 for what it is, gives it in Unicode.
    wanted = {name.casefold(), _shown(name).casefold()}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.partition(";")[0].rstrip(".").casefold() in wanted:
                    return Path(entry.path)
    except OSError:
        return None
    return None
