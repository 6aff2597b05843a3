"""Files by a watched folder: what appears in ``incoming/`` is kept, then moved.

Writers put ``x.xml.part`` and rename it, or write elsewhere on the same disk and rename
in. A file is moved only after the journal's commit, so after a crash it is found again,
answered as a duplicate, and moved: nothing is lost and nothing doubled.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from adapters.doors.dropfolder import ANSWER_SUFFIX, REASON_SUFFIX, DropFolder, Found, Signature
from adapters.doors.reason import reason_text
from adapters.doors.reception import EVIDENCE_BYTES_MAX, Arrived, Contents, Reception, verdict
from adapters.doors.settings import FolderDoorSettings
from gateway.model import Payload, Receipt
from gateway.ports import Clock, IntakeUnavailable

BATCH_BYTES_MAX = 16 << 20
BATCH_FILES_MAX = 64
_LOG = logging.getLogger("ecluse.folder")


@dataclass(frozen=True, slots=True)
class _Submitted:
    """A file whose commits are awaited."""

    found: Found
    contents: Contents
    futures: Sequence[Future[Receipt]]


class FolderSource(ABC):
    """One watched folder. Looks every ``poll_seconds`` and as long as there is work.

    A file of which something goes on ends in ``accepted/``, one of which nothing does in
    ``refused/``. What was refused stands beside it (``.reason.txt``), as does what the
    format's protocol answers (``.ack``).
    """

    def __init__(self, settings: FolderDoorSettings, reception: Reception, clock: Clock) -> None:
        self.settings = settings
        self.name = settings.name
        self.clock = clock
        self.drop = DropFolder(settings.path)
        self.reception = reception
        self._seen: dict[str, tuple[Signature, float]] = {}
        self._left: dict[str, str] = {}
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Make and lock the folders, begin to look.

        Raises OSError when they cannot be made, are on several disks, or another
        process watches them.
        """
        if self._task is None:
            await asyncio.to_thread(self.drop.open)
            self._stopping.clear()
            self._task = asyncio.create_task(self._watch(), name=f"folder-{self.name}")

    async def stop(self) -> None:
        """Finish the files in hand, release the folders. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            self._stopping.set()
            await task
            self.drop.close()

    @abstractmethod
    def make_reception(self, settings: Any) -> Reception:
        """The format's reception under other settings, with the same intake."""

    async def reconfigure(self, settings: FolderDoorSettings) -> None:
        """Take new settings from the next file on; watch another folder when it is another.

        Raises OSError when that cannot be watched; the former one is watched then.
        """
        before, reception, drop = self.settings, self.reception, self.drop
        watching, moved = self._task is not None, settings.path != self.settings.path
        if moved:
            await self.stop()
            self.drop = DropFolder(settings.path)
        self.settings, self.reception = settings, self.make_reception(settings)
        if not (moved and watching):
            return
        try:
            await self.start()
        except OSError:
            self.settings, self.reception, self.drop = before, reception, drop
            await self.start()
            raise

    def address(self) -> str:
        """The folder in which files are put."""
        return str(self.drop.incoming)

    def left(self) -> Mapping[str, str]:
        """Names in ``incoming/`` that are not taken up, with the reason; for status pages.

        Not for logs: a file's name may hold a patient's name.
        """
        return dict(self._left)

    async def _watch(self) -> None:
        while not self._stopping.is_set():
            try:
                more = await self._look()
            except (OSError, IntakeUnavailable) as error:
                _LOG.warning("folder %s: %s; looking again", self.name, type(error).__name__)
                more = False
            except Exception as error:  # noqa: BLE001 - one bad file must not end the watch
                # The type only: the message might quote the file.
                _LOG.error("folder %s: unexpected %s", self.name, type(error).__name__)
                more = False
            if not more:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.settings.poll_seconds):
                        await self._stopping.wait()

    async def _look(self) -> bool:
        """Take up what is ready; True when more was ready than one look takes."""
        found, left = await asyncio.to_thread(self.drop.look)
        ready = self._settled(found)
        most = self.settings.files_per_look_max
        batch: list[_Submitted] = []
        batch_bytes = 0
        try:
            for file in ready[:most]:
                if self._stopping.is_set():
                    break
                submitted = await self._take_up(file, left)
                if submitted is None:
                    continue
                batch.append(submitted)
                batch_bytes += file.signature.size
                if batch_bytes > BATCH_BYTES_MAX or len(batch) >= BATCH_FILES_MAX:
                    await self._settle(batch, left)
                    batch, batch_bytes = [], 0
        finally:
            await self._settle(batch, left)
            self._report(left)
        return len(ready) > most

    def _settled(self, found: list[Found]) -> list[Found]:
        """The files that have not changed for ``settle_seconds``, seen at least twice."""
        now = asyncio.get_running_loop().time()
        seen: dict[str, tuple[Signature, float]] = {}
        ready: list[Found] = []
        for file in found:
            before, since = self._seen.get(file.name, (None, now))
            if before != file.signature:
                seen[file.name] = (file.signature, now)
                continue
            seen[file.name] = (file.signature, since)
            if now - since >= self.settings.settle_seconds:
                ready.append(file)
        self._seen = seen
        return ready

    async def _take_up(self, file: Found, left: dict[str, str]) -> _Submitted | None:
        """Read and submit one file; None when it was left where it is."""
        fits = file.signature.size <= self.reception.bytes_max
        wanted = file.signature.size if fits else EVIDENCE_BYTES_MAX
        try:
            data = await asyncio.to_thread(self.drop.read, file, wanted)
        except OSError as error:
            left[file.name] = f"cannot be read ({_errno_name(error)})"
            return None
        if data is None:
            return None
        try:
            contents = await self.reception.open(self._arrived(file, data, fits=fits))
        except Exception as error:  # noqa: BLE001 - one file must not hold up those behind it
            left[file.name] = f"cannot be taken apart ({type(error).__name__})"
            return None
        try:
            return _Submitted(file, contents, await self.reception.hand_over(contents))
        except IntakeUnavailable:
            left[file.name] = "could not be kept yet"
            return None

    def _arrived(self, file: Found, data: bytes, *, fits: bool) -> Arrived:
        attributes = {"file_name": os.fsencode(file.name).decode("utf-8", "replace")}
        if not fits:
            attributes["truncated"] = f"after {len(data)} bytes"
        return Arrived(
            payload=Payload.from_bytes(data),
            received_at=self.clock.now(),
            attributes=attributes,
            fault=None if fits else self.reception.oversized(),
        )

    async def _settle(self, batch: list[_Submitted], left: dict[str, str]) -> None:
        """Wait for the commits and move the files. What was not kept stays for the next look."""
        for submitted in batch:
            file = submitted.found
            try:
                receipts = await self.reception.receipts(submitted.futures)
                await asyncio.to_thread(self._move, submitted, receipts)
            except IntakeUnavailable:
                left[file.name] = "could not be kept yet"
            except OSError as error:
                left[file.name] = f"is kept and could not be moved ({_errno_name(error)})"
            else:
                self._seen.pop(file.name, None)

    def _move(self, submitted: _Submitted, receipts: Sequence[Receipt]) -> None:
        outcome = verdict(submitted.contents, receipts)
        beside: dict[str, bytes] = {}
        if outcome.cause is not None:
            reason = reason_text(outcome.cause, outcome.message_id, self.reception.phrases, outcome)
            reasons = self.reception.explain(submitted.contents, outcome)
            listed = "".join(f"  - {each}\n" for each in reasons)
            beside[REASON_SUFFIX] = f"{reason}{listed}".encode()
        answer = self.reception.answer(submitted.contents, receipts)
        if answer:
            beside[ANSWER_SUFFIX] = answer
        move = self.drop.refuse if outcome.rejected else self.drop.accept
        move(submitted.found.name, beside)

    def _report(self, left: dict[str, str]) -> None:
        """Log what is newly left, by reason and number and never by name."""
        fresh: dict[str, int] = {}
        for name, reason in left.items():
            if self._left.get(name) != reason:
                fresh[reason] = fresh.get(reason, 0) + 1
        for reason, count in fresh.items():
            _LOG.warning("folder %s: %d file(s) left in incoming: %s", self.name, count, reason)
        self._left = left


def _errno_name(error: OSError) -> str:
    return error.strerror or type(error).__name__
