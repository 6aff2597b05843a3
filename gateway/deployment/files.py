"""The whole set of an installation's mapping files: from folders, packed, and back to folders.

In a set each file has a path of its own: ``base/…`` is what ships, ``folder-1/…`` the first of
``mappings.folders``, ``sites/<site>/…`` the site's. What a path stands for inside its folder
is the same wherever the set lies, so that flags and digests are.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from gateway.mapping import packaged_mappings
from gateway.mapping.document import Many, Table, Text, read_list
from gateway.mapping.findings import Findings
from gateway.mapping.loading import files_named_yaml

if TYPE_CHECKING:
    from gateway.settings import MappingSettings

FILES_MAX = 5_000
FOLDERS_MAX = 1_000
FILE_BYTES_MAX = 16 << 20
SET_BYTES_MAX = 64 << 20
PACKED_BYTES_MAX = 16 << 20
HEADER_BYTES_MAX = 4 << 20

_MAGIC = b"ecluse mappings 1\n"
_BASE = "base"
_SITES = "sites"


class NotASet(Exception):
    """These bytes are no packed set of files, or these folders cannot be one. Says why."""


@dataclass(frozen=True, slots=True)
class MappingFolders:
    """Where mappings are loaded from: folders, and whose changes apply (empty: nobody's)."""

    folders: tuple[Path, ...]
    sites: Path | None = None
    site: str = ""

    @classmethod
    def of(cls, settings: MappingSettings) -> MappingFolders:
        """What ships, and what the settings name."""
        folders = (packaged_mappings(), *settings.folders)
        return cls(folders, settings.sites, settings.site)


@dataclass(frozen=True)
class FileSet:
    """A set of files by their paths in it. ``folders`` counts those of the settings."""

    files: Mapping[str, bytes]
    site: str = ""
    folders: int = 0
    places: Mapping[str, Path] = field(default_factory=dict, compare=False)
    """Where each was read, when it came from the disk."""

    @classmethod
    def read(cls, given: MappingFolders) -> FileSet:
        """The files of some folders. Raises NotASet."""
        places: dict[str, Path] = {}
        for number, folder in enumerate(given.folders):
            root = _BASE if number == 0 else f"folder-{number}"
            skip = (given.sites or folder / _SITES).absolute()
            for path in _files(folder):
                if not path.absolute().is_relative_to(skip):
                    places[f"{root}/{path.relative_to(folder).as_posix()}"] = path
        if given.site:
            _demand_site(given.site)
            folder = (given.sites or given.folders[0] / _SITES) / given.site
            if not folder.is_dir():
                raise NotASet(f"{folder}: no folder for the site {given.site!r}")
            for path in _files(folder):
                places[f"{_SITES}/{given.site}/{path.relative_to(folder).as_posix()}"] = path
        if len(places) > FILES_MAX:
            raise NotASet(f"more than {FILES_MAX} files")
        files = {name: _content(path) for name, path in sorted(places.items())}
        return cls(files, given.site, len(given.folders) - 1, places)

    @cached_property
    def manifest(self) -> dict[str, str]:
        """The SHA-256 (hex) of each file by its path."""
        return {name: hashlib.sha256(data).hexdigest() for name, data in sorted(self.files.items())}

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the whole set: the same files, the same digest."""
        return hashlib.sha256(
            json.dumps([self.site, self.folders, self.manifest]).encode()
        ).hexdigest()

    @property
    def site_root(self) -> str:
        """What the paths of the site's own files begin with; empty without a site."""
        return f"{_SITES}/{self.site}/" if self.site else ""

    def with_files(self, changed: Mapping[str, bytes | None]) -> FileSet:
        """The same set with files added or replaced, or taken away (None)."""
        files = {**self.files, **{name: data for name, data in changed.items() if data is not None}}
        for name, data in changed.items():
            if data is None:
                files.pop(name, None)
        return FileSet(dict(sorted(files.items())), self.site, self.folders, self.places)

    # --- packed ---------------------------------------------------------------------

    def pack(self) -> bytes:
        """The set as bytes, compressed; the same set, the same bytes. Raises NotASet for more
        than 64 MiB."""
        if sum(map(len, self.files.values())) > SET_BYTES_MAX:
            raise NotASet(f"more than {SET_BYTES_MAX} bytes in all")
        head = {
            "site": self.site,
            "folders": self.folders,
            "files": [[name, len(data)] for name, data in sorted(self.files.items())],
        }
        header = json.dumps(head).encode() + b"\n"
        body = b"".join(self.files[name] for name in sorted(self.files))
        packed = _MAGIC + zlib.compress(header + body, 9)
        if len(packed) > PACKED_BYTES_MAX:
            raise NotASet(f"more than {PACKED_BYTES_MAX} bytes when packed")
        return packed

    @classmethod
    def unpack(cls, packed: bytes) -> FileSet:
        """The set that :meth:`pack` wrote. Raises NotASet."""
        if not packed.startswith(_MAGIC) or len(packed) > PACKED_BYTES_MAX:
            raise NotASet("not a packed set of mapping files")
        inflate = zlib.decompressobj()
        try:
            data = inflate.decompress(packed[len(_MAGIC) :], SET_BYTES_MAX + HEADER_BYTES_MAX)
            head = json.loads(data[: data.index(b"\n")])
            listed = [(str(name), int(size)) for name, size in head["files"]]
            site, folders = str(head["site"]), int(head["folders"])
        except (zlib.error, ValueError, KeyError, TypeError) as error:
            raise NotASet(f"the packed files are damaged ({type(error).__name__})") from None
        if site:
            _demand_site(site)
        if not 0 <= folders <= FOLDERS_MAX:
            raise NotASet(f"{folders} cannot be a number of folders")
        at, files = data.index(b"\n") + 1, dict[str, bytes]()
        if len(listed) > FILES_MAX:
            raise NotASet(f"more than {FILES_MAX} files")
        for name, size in listed:
            _demand_path(name, site, folders)
            files[name] = data[at : at + size]
            at += size
        if at != len(data) or not inflate.eof or any(size < 0 for _, size in listed):
            raise NotASet("the packed files are damaged (cut)")
        return cls(files, site, folders)

    # --- folders --------------------------------------------------------------------

    def folders_below(self, root: Path) -> MappingFolders:
        """Where :meth:`extract` puts the set's folders."""
        names = [_BASE, *(f"folder-{number}" for number in range(1, self.folders + 1))]
        return MappingFolders(tuple(root / name for name in names), root / _SITES, self.site)

    def extract(self, parent: Path) -> Path:
        """Write the set to ``<parent>/<digest>``, once; that folder. Raises OSError."""
        root = parent / self.digest
        if root.is_dir() and _as_written(root, self.files):
            return root
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix="incoming-", dir=parent))
        try:
            given = self.folders_below(partial)
            site = partial / _SITES / self.site
            for folder in (*given.folders, site):
                folder.mkdir(parents=True, exist_ok=True)
            for name, data in self.files.items():
                path = partial / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            if root.exists():
                shutil.rmtree(root)
            partial.replace(root)
        except OSError:
            shutil.rmtree(partial, ignore_errors=True)
            if not _as_written(root, self.files):  # another process was first
                raise
        return root


def _files(folder: Path) -> Iterator[Path]:
    """The mapping files below a folder, and those that tests beside them name."""
    if not folder.is_dir():
        raise NotASet(f"{folder}: no such folder")
    seen: set[Path] = set()
    found, closed = files_named_yaml(folder)
    if closed:
        raise NotASet(f"{closed[0].filename}: {closed[0].strerror}")
    for path in found:
        if not path.is_file():
            continue
        beside = _given(path, folder) if path.name.endswith(".test.yaml") else ()
        for each in (path, *beside):
            if each not in seen:
                seen.add(each)
                yield each


def _given(twin: Path, folder: Path) -> Sequence[Path]:
    """The message files that a test file names, as far as they lie in its folder."""
    if b"given_file" not in _content(twin):  # reading it takes much longer
        return ()
    found = []
    for node in read_list(twin, twin.name, Findings()):
        listed = node.get("given_file") if isinstance(node, Table) else None
        named = listed.items if isinstance(listed, Many) else (listed,)
        for each in named:
            if isinstance(each, Text):
                path = (twin.parent / each.text).resolve()
                if path.is_file() and path.is_relative_to(folder.resolve()):
                    found.append(folder / path.relative_to(folder.resolve()))
    return found


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise NotASet(f"{path}: larger than {FILE_BYTES_MAX} bytes")
        return path.read_bytes()
    except OSError as error:
        raise NotASet(f"{path}: cannot be read: {error.strerror}") from None


def _demand_site(site: str) -> None:
    """A site's name becomes a folder's: it must not lead anywhere else."""
    if PurePosixPath(site).name != site or site.startswith(".") or "\\" in site or "\0" in site:
        raise NotASet(f"{site!r} cannot be the name of a site")


def _demand_path(name: str, site: str, folders: int) -> None:
    parts = name.split("/")
    roots = {_BASE, *(f"folder-{number}" for number in range(1, folders + 1))}
    inside = parts[0] in roots or (bool(site) and parts[:2] == [_SITES, site])
    plain = all(
        part not in ("", ".", "..") and "\\" not in part and "\0" not in part for part in parts
    )
    if not inside or not plain or len(parts) < 2 or len(name) > 400:
        raise NotASet("a file lies outside the set's folders")


def _as_written(root: Path, files: Mapping[str, bytes]) -> bool:
    """Whether a folder holds exactly these files."""
    try:
        there = {
            path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()
        }
        return there.keys() == files.keys() and all(
            path.read_bytes() == files[name] for name, path in there.items()
        )
    except OSError:
        return False
