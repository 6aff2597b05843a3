"""A watched folder, whatever a format makes of what lies in it: looking, waiting until it is
finished, and saying what is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Protocol

from adapters.doors.dropfolder import DropFolder, Found, Signature
from gateway.ports import IntakeUnavailable

_LOG = logging.getLogger("ecluse.folder")


class WatchSettings(Protocol):
    """What watching asks of a source's settings."""

    @property
    def name(self) -> str: ...
    @property
    def poll_seconds(self) -> float: ...
    @property
    def settle_seconds(self) -> float: ...


class WatchedFolder(ABC):
    """Looks every ``poll_seconds`` and as long as there is work. Belongs to one event loop."""

    def __init__(self, settings: WatchSettings, drop: DropFolder) -> None:
        self.settings = settings
        self.name = settings.name
        self.drop = drop
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
    async def _look(self) -> bool:
        """Take up what is ready; True when more was ready than one look takes."""

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

    def _report(self, left: dict[str, str]) -> None:
        """Log what is newly left, by reason and number and never by name."""
        fresh: dict[str, int] = {}
        for name, reason in left.items():
            if self._left.get(name) != reason:
                fresh[reason] = fresh.get(reason, 0) + 1
        for reason, count in fresh.items():
            _LOG.warning("folder %s: %d file(s) left in incoming: %s", self.name, count, reason)
        self._left = left
