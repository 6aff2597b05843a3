"""The ways in that run, and how a changed configuration becomes theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import structlog

from adapters.cda.validation.validator import Validator
from adapters.dicom.holdings import Holdings
from adapters.dicom.ledger import StudyLedger
from adapters.dicom.store_settings import StoreSettings
from adapters.dicom.web.source import DicomwebSource
from adapters.dicom.worklist import Worklist
from adapters.doors.http import HttpSource
from adapters.hl7.folder import Hl7FolderSource
from adapters.hl7.http import Hl7HttpSource
from adapters.hl7.listener import MllpSource
from adapters.hl7.profile_files import ProfileError, digest_of
from adapters.hl7.return_link import MllpReturnLink
from adapters.hl7.settings import Hl7SourceSettings, MllpSourceSettings
from adapters.hl7.site_profiles import load_profile
from adapters.tls import HeldCertificate, TlsUnusable
from gateway.documents import DocumentRegistry
from gateway.joined import Judged
from gateway.mapping import MappingContext
from gateway.model import Flag
from gateway.ports import Intake, Source
from gateway.return_links import ReturnLinks
from gateway.source_making import Fragments, SourceMaker

log = structlog.get_logger("ecluse.sources")
Kind = TypeVar("Kind")


class SystemClock:
    """The machine's clock, in UTC."""

    def now(self) -> datetime:
        """The present instant."""
        return datetime.now(UTC)


@runtime_checkable
class Counting(Protocol):
    """A source that counts what happens at its door."""

    def statistics(self) -> Mapping[str, int]:
        """What happened since the start, by name."""
        ...


@runtime_checkable
class Secured(Protocol):
    """A source that relies on certificates."""

    def certificates(self) -> Sequence[HeldCertificate]:
        """Those that are in force."""
        ...


class CannotChange(Exception):
    """A changed configuration could not be put in force; what was in force still is.

    ``source`` is the name of the source that could not follow, ``setting`` the dotted name of
    what is wrong in its block, where that is known.
    """

    def __init__(self, source: str, message: str, *, setting: str = "") -> None:
        super().__init__(message)
        self.source = source
        self.setting = setting


@dataclass(frozen=True, slots=True)
class Change:
    """What a new configuration made of the sources, by name."""

    started: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()


def mapping_context(settings: Any) -> MappingContext:
    """What mappings are told of a source, from its block of the settings."""
    return MappingContext(
        zone=settings.zone, authorities=settings.authorities, source=settings.name
    )


class Sources:
    """The running sources, in the order of the configuration.

    ``contexts`` (what mappings are told of each source), ``quiet`` (how long a study or a
    continued message must be quiet), ``patience`` (how long a study waits for what was
    announced) and ``reported`` (how long it must be quiet once its report is here) belong to
    the stages behind the sources and are kept up to date. Those of a source that is gone stay:
    its messages may still be on their way.
    ``return_links`` follow the sources, and are stopped by :meth:`hang_up`. Belongs to one
    event loop.
    """

    def __init__(
        self,
        state: Path,
        *,
        contexts: dict[str, MappingContext] | None = None,
        quiet: dict[str, timedelta] | None = None,
        patience: dict[str, timedelta] | None = None,
        return_links: ReturnLinks | None = None,
        validator: Validator | None = None,
        documents: DocumentRegistry | None = None,
    ) -> None:
        self.contexts = {} if contexts is None else contexts
        self.quiet = {} if quiet is None else quiet
        self.patience = {} if patience is None else patience
        self.reported: dict[str, timedelta] = {}
        self._return_links = return_links
        self._maker = SourceMaker(
            state / "spool", SystemClock(), validator=validator, documents=documents
        )
        self._settings: dict[str, Any] = {}
        self._running: dict[str, Source] = {}
        # What the profiles of HL7 v2 sources were read from: a file may change by itself.
        self._profiles: dict[str, str] = {}
        self._held: set[str] = set()

    def prepare(
        self,
        settings: Sequence[Any],
        intake: Intake,
        fragments: Fragments | None = None,
        ledger: Callable[[str], StudyLedger] | None = None,
        *,
        holdings: Holdings | None = None,
        worklist: Worklist | None = None,
    ) -> None:
        """Make the sources of a configuration; :meth:`start` starts them.

        ``fragments`` tells what waits of a source's continued messages, ``ledger`` makes what
        keeps account of a DICOM source's studies, ``holdings`` says what is held,
        ``worklist`` what is to be made.
        """
        self._maker.supply(intake, fragments, ledger, holdings=holdings, worklist=worklist)
        self._settings = {each.name: each for each in settings}
        self._profiles = _profiles(settings)
        self._running = {each.name: self._maker.make(each) for each in settings}
        self._tell()

    def __iter__(self) -> Iterator[Source]:
        return iter(list(self._running.values()))

    def of(self, kind: type[Kind]) -> list[Kind]:
        """The sources of one kind."""
        return [each for each in self if isinstance(each, kind)]

    def over_http(self) -> list[HttpSource]:
        """The sources that stand on the gateway's own HTTP server."""
        return [each for each in self if isinstance(each, HttpSource)]

    def over_dicomweb(self) -> list[DicomwebSource]:
        """The sources that are stored to over DICOMweb."""
        return self.of(DicomwebSource)

    # --- life ---------------------------------------------------------------------

    async def start(self) -> None:
        """Open every door. Raises OSError when a port is taken, TlsUnusable for its files."""
        await self._link({each.name: self._linked(each) for each in self._settings.values()})
        for source in self:
            await source.start()
            log.info("source listens", source=source.name, at=source.address())

    async def stop(self) -> None:
        """Close every door and finish what is in flight. Idempotent."""
        for source in self:
            await source.stop()

    async def hold(self, names: frozenset[str]) -> None:
        """Close the doors of these sources and open those of all others that were closed so."""
        for name, source in list(self._running.items()):
            if name in names and name not in self._held:
                self._held.add(name)
                await source.stop()
                log.warning("the door of a source is closed: it is being drained", source=name)
            elif name not in names and name in self._held:
                try:
                    await source.start()
                except (OSError, TlsUnusable) as error:
                    log.critical("a door cannot be opened", source=name, error=type(error).__name__)
                    continue
                self._held.discard(name)
                log.warning("the door of a source is open again", source=name)

    def hang_up(self) -> None:
        """Stop the return links, after the attempts in hand. Blocks; idempotent."""
        if self._return_links is not None:
            self._return_links.stop()

    def _linked(self, settings: Any) -> MllpReturnLink | None:
        """The return link that a source wants, if any. Raises TlsUnusable."""
        return self._return_links.make(settings) if self._return_links is not None else None

    async def _link(self, links: Mapping[str, MllpReturnLink | None]) -> None:
        if self._return_links is not None:
            wanted = {name: link for name, link in links.items() if link is not None}
            settings = list(self._settings.values())
            await asyncio.to_thread(self._return_links.follow, settings, wanted)

    async def change(self, settings: Sequence[Any]) -> Change:
        """Put another configuration in force: all of it, or nothing and CannotChange.

        New sources start, changed ones take their settings with their connections open,
        and then those that are gone stop, when what they had in flight is answered.
        """
        wanted = {each.name: each for each in settings}
        gone = [
            name
            for name, old in self._settings.items()
            if name not in wanted or wanted[name].type != old.type
        ]
        started = [name for name in wanted if name not in self._settings or name in gone]
        changed = [
            name
            for name, each in wanted.items()
            if name not in started and each != self._settings[name]
        ]
        profiles = await asyncio.to_thread(_profiles, settings)
        others = [name for name in profiles if profiles[name] != self._profiles.get(name)]
        renewed = [name for name in others if name not in (*started, *changed)]
        running = dict(self._running)
        undo: list[Callable[[], Awaitable[None]]] = []
        at = ""
        links: dict[str, MllpReturnLink | None] = {}
        try:
            for at in others:
                await asyncio.to_thread(load_profile, wanted[at].profile)
            for at in (*started, *changed):
                links[at] = self._linked(wanted[at])
            # A port or folder passes from one source to another of another name or kind.
            # MLLP sources can stand behind one port at the same time, others cannot.
            for at in [name for name in gone if self._in_the_way(name, wanted)]:
                undo.append(running[at].start)
                await running[at].stop()
            for at in changed:
                undo.append(self._back(at))
                await running[at].reconfigure(self._maker.spooled(wanted[at]))
            for at in started:
                running[at] = source = self._maker.make(wanted[at])
                undo.append(source.stop)
                await source.start()
            # Last, and found good before: a file that has changed has no former content to go
            # back to.
            for at in renewed:
                await running[at].reconfigure(self._maker.spooled(wanted[at]))
        except (OSError, TlsUnusable, ProfileError) as error:
            await self._undo(undo)
            said = getattr(error, "strerror", None) or str(error) or type(error).__name__
            setting = f"{error.block}.{error.setting}" if isinstance(error, TlsUnusable) else ""
            raise CannotChange(at, said, setting=setting) from None
        except BaseException:
            await self._undo(undo)
            raise
        before, self._profiles = self._running, profiles
        changed += renewed
        self._running = {name: running[name] for name in wanted}
        self._settings = wanted
        self._tell()
        for name in gone:
            await before[name].stop()
        for name in self._held.intersection((*changed, *started)):
            # A door that a person has closed stays so.
            await self._running[name].stop()
        self._held &= self._running.keys()
        await self._link(links)
        unchanged = tuple(each for each in wanted if each not in started and each not in changed)
        return Change(tuple(started), tuple(changed), tuple(gone), unchanged)

    def _back(self, name: str) -> Callable[[], Awaitable[None]]:
        source, settings = self._running[name], self._maker.spooled(self._settings[name])
        return lambda: source.reconfigure(settings)

    async def _undo(self, steps: list[Callable[[], Awaitable[None]]]) -> None:
        for step in reversed(steps):
            try:
                await step()
            except (OSError, TlsUnusable, ProfileError) as error:
                log.critical("a source could not go back", error=type(error).__name__)

    def _in_the_way(self, name: str, wanted: Mapping[str, Any]) -> bool:
        old = self._settings[name]
        claimed = _claim(old)
        return claimed is not None and any(
            _claim(each) == claimed
            and not (isinstance(old, MllpSourceSettings) and isinstance(each, MllpSourceSettings))
            for each in wanted.values()
        )

    def _tell(self) -> None:
        for name, each in self._settings.items():
            self.contexts[name] = mapping_context(each)
            if isinstance(each, StoreSettings):
                self.quiet[name] = timedelta(seconds=each.quiet_seconds)
                self.patience[name] = timedelta(seconds=each.partial_after_seconds)
                self.reported[name] = timedelta(seconds=each.reported_quiet_seconds)
            elif isinstance(each, Hl7SourceSettings):
                self.quiet[name] = timedelta(seconds=each.continuation_timeout_seconds)

    # --- messages that came in fragments --------------------------------------------

    def judge_joined(self, source: str, fragments: Sequence[bytes]) -> Judged:
        """What the profiles of an HL7 v2 source say of a message that is whole only now.

        Says nothing where the source is gone. Any thread.
        """
        running = self._running.get(source)
        if not isinstance(running, MllpSource | Hl7HttpSource | Hl7FolderSource):
            return Judged()
        judgement = running.reception.judge_joined(fragments)
        noted = (judgement.attributes or {}).get("profile")
        flags = (Flag(code="profile", detail=noted),) if noted else ()
        return Judged(cause=judgement.refusal, flags=flags)

    # --- what is told of them -----------------------------------------------------

    def addresses(self) -> dict[str, str]:
        """Where each source listens."""
        return {source.name: source.address() for source in self}

    def events(self) -> dict[str, Mapping[str, int]]:
        """What each source counted since its start, by its name."""
        return {each.name: each.statistics() for each in self if isinstance(each, Counting)}

    def refusals(self) -> dict[str, Mapping[str, int]]:
        """Connections refused before their source was known, by configured address."""
        ports = {each.port for each in self.of(MllpSource) if each.port is not None}
        return {port.listen: port.refusals() for port in ports}

    def certificates(self) -> dict[str, Sequence[HeldCertificate]]:
        """The certificates that each source relies on, by its name."""
        linked = self._return_links.certificates() if self._return_links is not None else {}
        return {
            each.name: (
                *(each.certificates() if isinstance(each, Secured) else ()),
                *linked.get(each.name, ()),
            )
            for each in self
        }


def _profiles(settings: Sequence[Any]) -> dict[str, str]:
    """The content of the sources' profiles, by digest."""
    return {
        each.name: digest_of(each.profile)
        for each in settings
        if isinstance(each, Hl7SourceSettings) and each.profile is not None
    }


def _claim(settings: Any) -> object:
    """What only one source of a kind may have: an address or a folder."""
    return getattr(settings, "listen", None) or getattr(settings, "path", None)
