"""Files by a watched folder: what appears in ``incoming/`` is kept, then moved.

Writers put ``x.xml.part`` and rename it, or write elsewhere on the same disk and rename
in. A file is moved only after the journal's commit, so after a crash it is found again,
answered as a duplicate, and moved: nothing is lost and nothing doubled.
"""

from __future__ import annotations

import asyncio
import os
from abc import abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from adapters.doors.dropfolder import ANSWER_SUFFIX, REASON_SUFFIX, DropFolder, Found
from adapters.doors.reason import reason_text
from adapters.doors.reception import EVIDENCE_BYTES_MAX, Arrived, Contents, Reception, verdict
from adapters.doors.settings import FolderDoorSettings
from adapters.doors.watching import WatchedFolder
from gateway.model import Payload, Receipt
from gateway.ports import Clock, IntakeUnavailable

BATCH_BYTES_MAX = 16 << 20
BATCH_FILES_MAX = 64


@dataclass(frozen=True, slots=True)
class _Submitted:
    """A file whose commits are awaited."""

    found: Found
    contents: Contents
    futures: Sequence[Future[Receipt]]


class FolderSource(WatchedFolder):
    """One watched folder. Looks every ``poll_seconds`` and as long as there is work.

    A file of which something goes on ends in ``accepted/``, one of which nothing does in
    ``refused/``. What was refused stands beside it (``.reason.txt``), as does what the
    format's protocol answers (``.ack``).
    """

    def __init__(self, settings: FolderDoorSettings, reception: Reception, clock: Clock) -> None:
        super().__init__(settings, DropFolder(settings.path))
        self.settings: FolderDoorSettings = settings
        self.clock = clock
        self.reception = reception

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


def _errno_name(error: OSError) -> str:
    return error.strerror or type(error).__name__
