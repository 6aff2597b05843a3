"""Media import as a source: what is put in ``incoming/`` is stored as by C-STORE, then moved.

A medium is moved only after all of it was settled, so after a crash it is found again, its objects
are duplicates, and it is moved: nothing is lost and nothing doubled.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import stat
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from adapters.dicom.folder_settings import DicomFolderSourceSettings
from adapters.dicom.ledger import LedgerUnavailable, StudyLedger
from adapters.dicom.media import DIRECTORY_CLASS, Medium, NoMedium, medium_of
from adapters.dicom.part10 import META_BYTES_MAX, FileMeta, NotPart10, read_file_meta
from adapters.dicom.spool import SpoolFolder
from adapters.dicom.storage import CANNOT_UNDERSTAND, OUT_OF_RESOURCES, SUCCESS, Request, Storage
from adapters.dicom.syntaxes import VERIFICATION, storage_classes, transfer_syntaxes
from adapters.doors.dropfolder import REASON_SUFFIX, DropFolder
from adapters.doors.watching import WatchedFolder
from gateway.model import Cause, CauseCode
from gateway.ports import Clock, Intake, IntakeUnavailable

SERVICE = "media"
COMMITS_AT_ONCE = 8
"""Objects of one medium that wait for their commit at one time."""
BLOCK_BYTES = 1 << 20
REASONS_MAX = 200
"""Files that are named with the reason for which they were refused."""
_FILES_AT_ONCE = 64
_LOG = logging.getLogger("ecluse.folder")


@dataclass(slots=True)
class _Taken:
    """What became of one medium. ``refused`` are names with their reasons; ``foreign`` counts
    files that are no DICOM objects and of which nobody said that they were; ``again``: something
    could not be kept now."""

    kept: dict[str, list[str]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    foreign: int = 0
    again: bool = False

    @property
    def instances(self) -> int:
        return sum(len(each) for each in self.kept.values())


@dataclass(frozen=True, slots=True)
class _File:
    """What became of one file: kept as an instance of ``study``, refused, foreign, or ``again``."""

    study: str = ""
    instance: str = ""
    refused: str = ""
    foreign: bool = False
    again: bool = False


class DicomFolderSource(WatchedFolder):
    """Implements :class:`gateway.ports.Source`.

    A medium of which something is kept ends in ``accepted/``, one of which nothing is in
    ``refused/``; what was refused, and what its DICOMDIR names and is not there, stands beside
    it (``.reason.txt``).
    """

    def __init__(
        self,
        settings: DicomFolderSourceSettings,
        intake: Intake,
        clock: Clock,
        spool: Path,
        ledger: StudyLedger | None = None,
    ) -> None:
        super().__init__(settings, DropFolder(settings.path, folders=True))
        self.settings: DicomFolderSourceSettings = settings
        self._intake, self._clock, self._spool, self._ledger = intake, clock, spool, ledger
        self._folder: SpoolFolder | None = None
        self._storage: Storage | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._counts: Counter[str] = Counter()

    async def start(self) -> None:
        """Make and lock the folders, begin to look. Raises OSError."""
        if self._folder is None:
            self._folder = await asyncio.to_thread(SpoolFolder, self._spool, self.name)
            self._threads = ThreadPoolExecutor(
                COMMITS_AT_ONCE, thread_name_prefix=f"media-{self.name}"
            )
        self._make_storage()
        try:
            await super().start()
        except OSError:
            await self._end()
            raise

    async def stop(self) -> None:
        """Finish the objects in hand, release the folders. Idempotent."""
        await super().stop()
        await self._end()

    async def _end(self) -> None:
        folder, self._folder = self._folder, None
        threads, self._threads = self._threads, None
        if threads is not None:
            await asyncio.to_thread(threads.shutdown)
        if folder is not None:
            await asyncio.to_thread(folder.close)

    async def reconfigure(self, settings: DicomFolderSourceSettings) -> None:
        """Take new settings from the next medium on; watch another folder when it is another.

        Raises OSError when that cannot be watched; the former one is watched then.
        """
        before, drop = self.settings, self.drop
        watching, moved = self._task is not None, settings.path != before.path
        if not moved:
            self.settings = settings
            self._make_storage()
            return
        await self.stop()
        self.settings, self.drop = settings, DropFolder(settings.path, folders=True)
        if not watching:
            return
        try:
            await self.start()
        except OSError:
            self.settings, self.drop = before, drop
            await self.start()
            raise

    def statistics(self) -> Mapping[str, int]:
        """What happened since the start: media (``medium-accepted``, ``medium-refused``) and
        objects by their status (``store-0000``)."""
        return dict(self._counts)

    def _make_storage(self) -> None:
        if self._folder is not None:
            self._storage = Storage(
                self.settings, self._intake, self._clock, self._folder, self._ledger
            )

    # --- looking -------------------------------------------------------------------

    async def _look(self) -> bool:
        found, left = await asyncio.to_thread(self.drop.look)
        try:
            for each in self._settled(found):
                if self._stopping.is_set():
                    break
                why = await asyncio.to_thread(self._take_up, self.drop.incoming / each.name)
                if why:
                    left[each.name] = why
                else:
                    self._seen.pop(each.name, None)
        finally:
            self._report(left)
        return False

    def _take_up(self, path: Path) -> str:
        """Store one medium and move it; why it was left, where it was."""
        try:
            medium = _medium(path)
        except NoMedium as error:
            if path.is_dir() and not any(path.iterdir()):
                return "is empty"
            medium, taken = Medium(()), _Taken(refused=[f"{path.name}: {error}"])
        except OSError as error:
            return f"cannot be read ({error.strerror})"
        else:
            taken = self._store_all(path, medium)
        if taken.again:
            return "could not be kept yet"
        whole = not (medium.missing or taken.refused)
        if medium.directory is not None and whole and self.settings.medium_is_study:
            self._tell(taken)
        reasons = _reasons(taken, medium)
        beside = {REASON_SUFFIX: reasons.encode("utf-8", "replace")} if reasons else {}
        accepted = bool(taken.instances)
        move = self.drop.accept if accepted else self.drop.refuse
        try:
            move(path.name, beside)
        except OSError as error:
            return f"is kept and could not be moved ({error.strerror})"
        self._counts[f"medium-{'accepted' if accepted else 'refused'}"] += 1
        return ""

    def _store_all(self, path: Path, medium: Medium) -> _Taken:
        taken = _Taken()
        threads = self._threads
        assert threads is not None
        # Whoever names a file says that it is an object.
        named = medium.directory is not None or path.is_file()
        root = path if path.is_dir() else path.parent
        for some in _some(medium.files):
            if self._stopping.is_set():
                taken.again = True
            if taken.again:
                break
            for file, done in zip(
                some, threads.map(lambda each: self._store(each, named=named), some), strict=True
            ):
                if done.refused:
                    taken.refused.append(f"{file.relative_to(root)}: {done.refused}")
                elif done.instance:
                    taken.kept.setdefault(done.study, []).append(done.instance)
                taken.foreign += done.foreign
                taken.again |= done.again
        return taken

    def _tell(self, taken: _Taken) -> None:
        """A whole medium has its studies whole."""
        if self._ledger is None:
            return
        reference = str(uuid.uuid4())
        for study, instances in taken.kept.items():
            try:
                self._ledger.sent_together(study, f"{reference}:{study}", instances)
            except LedgerUnavailable:
                # It goes on when it has been quiet for long enough.
                _LOG.warning("folder %s: a study's evidence cannot be kept", self.name)

    # --- one file ------------------------------------------------------------------

    def _store(self, path: Path, *, named: bool) -> _File:
        storage = self._storage
        assert storage is not None
        try:
            with _opened(path) as stream:
                size = os.fstat(stream.fileno()).st_size
                try:
                    meta = read_file_meta(stream, size)
                except NotPart10 as error:
                    return self._not_an_object(stream, str(error), named=named)
                if meta.sop_class == DIRECTORY_CLASS:
                    return _File(foreign=True)
                if why := self._refused_at_once(meta, size):
                    return _File(refused=why)
                incoming = storage.begin(
                    Request(
                        sop_class=meta.sop_class, sop_instance=meta.sop_instance,
                        abstract_syntax=meta.sop_class, transfer_syntax=meta.transfer_syntax,
                        calling_aet="", called_aet="", peer="", service=SERVICE,
                    )
                )  # fmt: skip
                try:
                    stream.seek(meta.data_set_offset)
                    while block := stream.read(BLOCK_BYTES):
                        storage.take(incoming, memoryview(block))
                except BaseException:
                    incoming.discard()
                    raise
        except OSError as error:
            return _File(refused=f"cannot be read ({error.strerror})")
        try:
            status = storage.complete(incoming)
        except IntakeUnavailable:
            return _File(again=True)
        self._counts[f"store-{status.code:04X}"] += 1
        if status.code == SUCCESS:
            return _File(study=incoming.study, instance=meta.sop_instance)
        if status.code == OUT_OF_RESOURCES:
            return _File(again=True)
        return _File(refused=f"0x{status.code:04X} {status.comment}".rstrip())

    def _refused_at_once(self, meta: FileMeta, size: int) -> str:
        """Why an object is not taken for what it says of itself; empty when it is."""
        settings = self.settings
        if size - meta.data_set_offset > settings.object_bytes_max:
            return "larger than object_bytes_max"
        if meta.sop_class not in set(settings.sop_classes or storage_classes()) - {VERIFICATION}:
            return f"SOP class {meta.sop_class} is not taken"
        if meta.transfer_syntax not in (settings.transfer_syntaxes or transfer_syntaxes()):
            return f"transfer syntax {meta.transfer_syntax} is not taken"
        return ""

    def _not_an_object(self, stream: BinaryIO, why: str, *, named: bool) -> _File:
        """What is no DICOM file: a viewer on a CD is left out, what was named is evidence."""
        if not named:
            return _File(foreign=True)
        stream.seek(0)
        cause = Cause(
            code=CauseCode.NOT_THE_FORMAT, detail=why, protocol_code=f"0x{CANNOT_UNDERSTAND:04X}"
        )
        assert self._storage is not None
        self._storage.keep_refused(stream.read(META_BYTES_MAX), cause, "", SERVICE)
        return _File(refused=f"no DICOM file: {why}")


def _medium(path: Path) -> Medium:
    """The files of what was put in. Raises NoMedium, OSError."""
    return medium_of(path) if path.is_dir() else Medium((path,))


def _opened(path: Path) -> BinaryIO:
    """A regular file, never through a symbolic link. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    return os.fdopen(descriptor, "rb")


def _some(files: Sequence[Path]) -> Iterator[list[Path]]:
    left = iter(files)
    while some := list(islice(left, _FILES_AT_ONCE)):
        yield some


def _reasons(taken: _Taken, medium: Medium) -> str:
    """What stands beside a medium, for the person who finds it; empty when all of it is kept."""
    left_out = len(taken.refused) + len(medium.missing)
    if not left_out and taken.instances:
        return ""
    total = taken.instances + left_out
    lines = [
        f"{left_out} objet(s) sur {total} n'ont pas été repris.",
        f"{left_out} of {total} objects were not taken.",
    ]
    if taken.foreign:
        lines.append(f"{taken.foreign} files are no DICOM objects.")
    told = [
        *taken.refused,
        *(f"{each}: named by the DICOMDIR, not there" for each in medium.missing),
    ]
    lines += [f"  - {each}" for each in told[:REASONS_MAX]]
    if len(told) > REASONS_MAX:
        lines.append(f"  - and {len(told) - REASONS_MAX} more")
    return "\n".join(lines) + "\n"
