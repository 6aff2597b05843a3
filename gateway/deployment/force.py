"""The mappings in force: one frozen value, replaced as a whole."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from gateway.deployment.files import FileSet, MappingFolders, NotASet
from gateway.mapping import Library
from gateway.mapping_processes import MappingProcesses
from gateway.normalise import Normaliser

log = structlog.get_logger("ecluse.mapping")


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """What messages are read with. ``version`` 0 stands for the files that were found at the
    start, when nothing was ever deployed; ``loaded`` is the digest of what went into it
    (``gateway.mapping_wire.content_digest``)."""

    version: int
    files: FileSet
    folders: MappingFolders
    library: Library
    normaliser: Normaliser
    processes: MappingProcesses | None
    loaded: str


def undeployed(now: InForce, configured: MappingFolders) -> tuple[str, ...]:
    """The files of folders that are not in force as they are, by their paths in the set; those
    that are gone, too. None for folders that cannot be read as a set."""
    try:
        wanted = FileSet.read(configured).manifest
    except NotASet as error:
        log.warning("the folders of mappings cannot be read", reason=str(error))
        return ()
    known = now.files.manifest
    names = sorted(wanted.keys() | known.keys())
    return tuple(name for name in names if wanted.get(name) != known.get(name))


class Mappings:
    """Holds what is in force. ``on_switch`` is called with each that takes its place, once it
    is in force; messages that are being read finish with the one before."""

    def __init__(self, first: InForce) -> None:
        self._now = first
        self._turn = threading.Lock()
        self.on_switch: Callable[[InForce], None] = lambda _: None

    @property
    def now(self) -> InForce:
        """What is in force."""
        return self._now

    def switch(self, new: InForce) -> None:
        """Put another in its place."""
        with self._turn:
            before, self._now = self._now, new
            self.on_switch(new)
        log.info("mappings are in force", version=new.version, count=len(new.library.programs))
        if before.processes is not None and before.processes is not new.processes:
            # What they still work on is finished; closing waits for them.
            threading.Thread(
                target=before.processes.close, name="ecluse-mapping-close", daemon=True
            ).start()

    def close(self) -> None:
        """End the processes of what is in force. Idempotent."""
        with self._turn:
            if self._now.processes is not None:
                self._now.processes.close()
