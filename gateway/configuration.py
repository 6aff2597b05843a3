"""The configuration in force, and reading it again while the gateway runs.

Sources and logs take what changed at once. Everything else is built at the start: what changed
there is named and waits for a restart. A file that cannot be used changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog
from pydantic import BaseModel

from gateway import telemetry
from gateway.settings import Loaded, Settings
from gateway.settings_file import ConfigurationError
from gateway.shapes import instant
from gateway.sources import CannotChange, Change, Sources

log = structlog.get_logger("ecluse.configuration")

LIVE_BLOCKS = frozenset({"sources", "log", "retention"})
"""What of the configuration a running gateway takes."""


class NothingToRead(Exception):
    """The gateway was started without a way to read its configuration again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One reading of the configuration, and what came of it.

    ``problems`` (``file:line:column: what``) is empty when it is in force; ``restart`` names
    the settings that wait for a restart. ``undeployed`` are mapping files, by their paths in the
    set, that are not what is in force: they wait for ``ecluse mapping deploy``.
    """

    at: datetime
    change: Change = field(default_factory=Change)
    restart: tuple[str, ...] = ()
    undeployed: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def in_force(self) -> bool:
        """Was it taken?"""
        return not self.problems

    def shape(self) -> dict[str, Any]:
        """As JSON: ``at``, ``in_force``, the sources by what became of them, and the rest."""
        return {
            "at": instant(self.at),
            "in_force": self.in_force,
            **{what: list(names) for what, names in asdict(self.change).items()},
            "restart": list(self.restart),
            "undeployed": list(self.undeployed),
            "problems": list(self.problems),
        }


class Configuration:
    """What a gateway runs with. ``reread`` reads it once more (and may raise
    ConfigurationError); None where there is nothing to read. Belongs to one event loop.

    ``on_reading`` is called after every reading. ``undeployed`` says which files of the folders
    that the settings name are not in force.
    """

    def __init__(
        self,
        settings: Settings,
        sources: Sources,
        reread: Callable[[], Loaded] | None = None,
        *,
        undeployed: Callable[[Settings], tuple[str, ...]] = lambda _: (),
    ) -> None:
        self._undeployed = undeployed
        self.settings = settings
        self.last = Reading(at=datetime.now(UTC))
        self.readings = {True: 0, False: 0}
        self.on_reading: Callable[[], None] = lambda: None
        self._sources = sources
        self._reread = reread
        self._turn = asyncio.Lock()
        self._closed = False

    async def reload(self) -> Reading:
        """Read the configuration again and put it in force, all of it or nothing.

        Raises NothingToRead.
        """
        if self._reread is None:
            raise NothingToRead("this gateway was started without a configuration to read again")
        async with self._turn:
            if self._closed:
                raise NothingToRead("the gateway is closing")
            self.last = reading = await self._read(self._reread)
            self.readings[reading.in_force] += 1
        for problem in reading.problems:
            log.error("the configuration is not taken; the former one stays", error=problem)
        if reading.in_force:
            log.info("the configuration was read again", count=len(self.settings.sources))
        for name in reading.restart:
            log.warning("a changed setting waits for a restart", reason=name)
        if reading.undeployed:
            log.warning(
                "mapping files are not those in force: ecluse mapping deploy puts them in force",
                count=len(reading.undeployed),
            )
        self.on_reading()
        return reading

    async def hold(self, names: frozenset[str]) -> None:
        """Close the doors of these sources, and open those of all others."""
        async with self._turn:
            if not self._closed:
                await self._sources.hold(names)

    async def close(self) -> None:
        """Let a reading in hand end; none begins after it."""
        async with self._turn:
            self._closed = True

    async def _read(self, reread: Callable[[], Loaded]) -> Reading:
        at = datetime.now(UTC)
        try:
            loaded = await asyncio.to_thread(reread)
        except ConfigurationError as error:
            return Reading(at=at, problems=tuple(error.problems), restart=self.last.restart)
        wanted = loaded.settings
        try:
            change = await self._sources.change(wanted.sources)
        except CannotChange as error:
            problem = loaded.problem(place_of(wanted, error.source, error.setting), str(error))
            return Reading(at=at, problems=(problem,), restart=self.last.restart)
        if wanted.log != self.settings.log:
            telemetry.configure(wanted.log.level, wanted.log.format)
        live = {name: getattr(wanted, name) for name in LIVE_BLOCKS}
        self.settings = self.settings.model_copy(update=live)
        restart = tuple(
            name
            for name in differences(self.settings, wanted)
            if name.partition(".")[0] not in LIVE_BLOCKS
        )
        undeployed = await asyncio.to_thread(self._undeployed, wanted)
        return Reading(at=at, change=change, restart=restart, undeployed=undeployed)


def place_of(settings: Settings, source: str, setting: str = "") -> tuple[str | int, ...]:
    """Where a source, its address or a setting (a dotted name) of it stands in the file."""
    index = next(i for i, each in enumerate(settings.sources) if each.name == source)
    return ("sources", index, *(setting.split(".") if setting else ("listen",)))


def differences(one: BaseModel, other: BaseModel) -> list[str]:
    """The dotted names of the settings that differ."""
    found = []
    for name in type(one).model_fields:
        mine, theirs = getattr(one, name), getattr(other, name)
        if mine == theirs:
            continue
        if isinstance(mine, BaseModel) and isinstance(theirs, type(mine)):
            found += [f"{name}.{inner}" for inner in differences(mine, theirs)]
        else:
            found.append(name)
    return found
