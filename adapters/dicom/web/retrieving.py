"""The Retrieve transaction, WADO-RS (PS3.18 section 10.4): bodies of answers, block by block.

Everything here blocks and is iterated by the server's threads; nothing is longer in memory than
one block, one instance's header or one bulk value.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import orjson

from adapters.dicom.dataset import Instance, Level, TooLarge
from adapters.dicom.holdings import PAGE_MAX, HeldInstance, Holdings
from adapters.dicom.json_model import attributes_of
from adapters.dicom.reading import READING_FAULTS
from adapters.dicom.web.media import ANY_SYNTAX, EXPLICIT_LITTLE
from gateway.model import Payload

log = logging.getLogger("ecluse.dicom")

BLOCK_BYTES = 1 << 18
INSTANCES_MAX = 100_000
"""Instances of one answer."""


class NotHeld(Exception):
    """There is nothing of that name, or not any more."""


class NotAcceptable(Exception):
    """It is held, but not in a form that is accepted. The message is for who asked."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A study, a series of it, or one instance of that."""

    study: str
    series: str = ""
    instance: str = ""

    def path(self) -> str:
        """Its address below the service's."""
        found = f"/studies/{self.study}"
        if self.series:
            found += f"/series/{self.series}"
        return found + (f"/instances/{self.instance}" if self.instance else "")


def held_of(holdings: Holdings, resource: Resource) -> Iterator[HeldInstance]:
    """The instances of a resource, page by page."""
    for offset in range(0, INSTANCES_MAX, PAGE_MAX):
        page = holdings.instances(
            study=resource.study, series=resource.series, instance=resource.instance,
            offset=offset,
        )  # fmt: skip
        yield from page
        if len(page) < PAGE_MAX:
            return


def one(holdings: Holdings, resource: Resource) -> HeldInstance:
    """The one instance of a resource. Raises NotHeld."""
    for held in held_of(holdings, resource):
        return held
    raise NotHeld


class Multipart:
    """A body of several parts (RFC 2387)."""

    def __init__(self, root: str) -> None:
        self.boundary = secrets.token_hex(16)
        self.content_type = f'multipart/related; type="{root}"; boundary={self.boundary}'

    def head(self, content_type: str, location: str = "") -> bytes:
        """What stands before a part's content."""
        lines = [f"--{self.boundary}", f"Content-Type: {content_type}"]
        if location:
            lines.append(f"Content-Location: {location}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")

    def end(self) -> bytes:
        """What stands after the last part."""
        return f"--{self.boundary}--\r\n".encode("ascii")


Transcode = Callable[[Payload], Payload]
"""Makes explicit VR little endian of an instance. Raises NotAcceptable."""


class Parts:
    """Instances as parts of ``application/dicom``, in the first of the transfer syntaxes that are
    wanted in which each of them is, or can be, had."""

    def __init__(
        self, holdings: Holdings, wanted: Sequence[str], transcode: Transcode | None
    ) -> None:
        self._holdings, self._wanted, self._transcode = holdings, wanted, transcode

    def ready(self, held: HeldInstance) -> tuple[str, Payload]:
        """An instance's transfer syntax and file, for an answer. Raises NotHeld,
        NotAcceptable."""
        try:
            payload = self._holdings.payload(held)
        except KeyError:
            raise NotHeld from None
        if held.transfer_syntax in self._wanted or ANY_SYNTAX in self._wanted:
            return held.transfer_syntax, payload
        if EXPLICIT_LITTLE not in self._wanted or self._transcode is None:
            raise NotAcceptable(
                f"it is held as {held.transfer_syntax}; ask for that, or for transfer-syntax=*"
            )
        return EXPLICIT_LITTLE, self._transcode(payload)

    def body(self, multipart: Multipart, instances: Iterable[HeldInstance], base: str
             ) -> Iterator[bytes]:  # fmt: skip
        """The body of an answer. An instance that cannot be given is left out, as the log says:
        the answer has begun."""
        for held in instances:
            try:
                syntax, payload = self.ready(held)
            except (NotHeld, NotAcceptable) as error:
                log.warning("an instance is left out of a retrieval: %s", type(error).__name__)
                continue
            resource = Resource(held.study, held.series, held.sop_instance)
            yield multipart.head(
                f"application/dicom; transfer-syntax={syntax}", base + resource.path()
            )
            yield from blocks_of(payload)
            yield b"\r\n"
        yield multipart.end()


def blocks_of(payload: Payload) -> Iterator[bytes]:
    """The bytes of a file."""
    with payload.open() as stream:
        while block := stream.read(BLOCK_BYTES):
            yield block


# --- metadata --------------------------------------------------------------------------


def metadata(holdings: Holdings, instances: Iterable[HeldInstance], base: str) -> Iterator[bytes]:
    """The instances without bulk data as an array of the DICOM JSON model (10.4.1.1.2, F.2)."""
    yield b"["
    first = True
    for held in instances:
        try:
            level = Instance(holdings.payload(held)).level
        except (KeyError, *READING_FAULTS) as error:
            log.warning("an instance is left out of metadata: %s", type(error).__name__)
            continue
        address = base + Resource(held.study, held.series, held.sop_instance).path()
        model = attributes_of(level, bulk=lambda path, at=address: f"{at}/bulkdata/{path}")  # type: ignore[misc]
        # Which one it is stored in, as PS3.18 F.2.1 has no place for group 0002.
        model["00083002"] = {"vr": "UI", "Value": [held.transfer_syntax]}
        yield (b"" if first else b",") + orjson.dumps(dict(sorted(model.items())))
        first = False
    yield b"]"


# --- bulk data -------------------------------------------------------------------------


def bulk_value(payload: Payload, path: str) -> bytes:
    """One value of an instance by its path of tags and item numbers. Raises NotHeld,
    NotAcceptable for one that is too long to be given so."""
    try:
        level = Instance(payload).level
        *way, last = path.split("/")
        for tag, number in zip(way[::2], way[1::2], strict=True):
            level = level.items(int(tag, 16))[int(number) - 1]
        return _bytes(level, int(last, 16))
    except TooLarge as error:
        raise NotAcceptable(f"{error}; ask for the instance or its frames") from None
    except (ValueError, IndexError, *READING_FAULTS):
        raise NotHeld from None


def _bytes(level: Level, tag: int) -> bytes:
    raw = level.raw(tag)
    if raw is None:
        raise NotHeld
    return raw
