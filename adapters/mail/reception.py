"""From a mail to its documents, each handed over as if it had come alone.

A mail is taken as a whole or refused as a whole, as is an archive: where one of its archives or
documents cannot be read nothing of it goes in, and the mail itself is the evidence that is kept.
A mail of an MSSanté client is about one patient and carries ``IHE_XDM.zip`` and the same documents
as PDF/A-1 (Référentiel socle MSSanté no. 2, ECO.2.1.1): the PDFs go no further.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from adapters.doors.reception import Arrived, Contents
from adapters.doors.reception import Reception as FileReception
from adapters.mail.mime import Bytes, MimeLimits, Part, Refused, parts_of, read_header
from adapters.mail.settings import MailSourceSettings
from gateway.model import Cause, CauseCode, Format, Payload, Received
from gateway.ports import Intake

Kind = Literal["cda", "xdm"]
Receptions = Callable[[MailSourceSettings, Intake], Mapping[Kind, FileReception]]
"""Makes what opens an attachment of each kind, under the settings of a mail's source."""

HEADER_CHARACTERS_MAX = 255
_ZIP_TYPES = frozenset({"application/zip", "application/x-zip-compressed", "application/x-zip"})
_XML_TYPES = frozenset({"application/xml", "text/xml"})
_NOTED = {"Message-ID": "mail_id", "X-MSS-NIL": "mss_nil", "X-MSS-CODECDA": "mss_code_cda"}
"""Header fields that are noted with each message (X-MSS: Référentiel socle no. 2, ECO.2.4)."""


@dataclass(frozen=True, slots=True)
class _Attachment:
    part: Part
    kind: Kind | None
    data: bytes


class MailReception(FileReception):
    """One source's way from a mail to receipts, with its limits."""

    format = Format.CDA

    def __init__(
        self, settings: MailSourceSettings, intake: Intake, receptions: Receptions
    ) -> None:
        super().__init__(settings, intake, bytes_max=settings.mail_bytes_max)
        self.receptions = receptions
        self._of_kind = receptions(settings, intake)
        self._limits = MimeLimits(parts_max=settings.parts_max, depth_max=settings.depth_max)
        self._keeps_others = settings.others == "keep"
        self._reading = asyncio.Semaphore(settings.reads_max)

    async def open(self, arrived: Arrived) -> Contents:
        """Take the mail apart in a thread, at most ``reads_max`` at a time; open what it has."""
        if arrived.fault is not None:
            return Contents((self.refused(arrived, arrived.fault),))
        async with self._reading:
            try:
                noted, found = await asyncio.to_thread(self._take_apart, arrived.payload)
                return await self._opened(arrived, noted, found)
            except Refused as refused:
                return Contents((self.refused(arrived, refused.cause),))

    def _take_apart(self, payload: Payload) -> tuple[dict[str, str], list[_Attachment]]:
        with _mapped(payload) as data:
            header, _ = read_header(data)
            noted = {
                attribute: _plain(str(value))
                for name, attribute in _NOTED.items()
                if (value := header.get(name))
            }
            found: list[_Attachment] = []
            for part in parts_of(data, self._limits):
                if part.media_type == "multipart/report":
                    if not found:
                        raise Refused(
                            CauseCode.UNSUPPORTED_TYPE,
                            "the mail is a report on another mail (delivery or disposition "
                            "notification)",
                        )
                elif part.attached:
                    content = part.content(data)
                    found.append(_Attachment(part, _kind(part, content), content))
        return noted, found

    async def _opened(
        self, arrived: Arrived, noted: Mapping[str, str], found: list[_Attachment]
    ) -> Contents:
        """All messages of the mail. Raises Refused where it goes back as a whole."""
        taken: list[Received] = []
        others: list[tuple[_Attachment, Arrived, Cause]] = []
        for number, each in enumerate(found, 1):
            alone = Arrived(
                payload=Payload.from_bytes(each.data),
                received_at=arrived.received_at,
                peer=arrived.peer,
                encoding=each.part.header.get_content_charset("") if each.kind == "cda" else "",
                attributes={**arrived.attributes, **noted, **_named(each.part)},
            )
            if each.kind is None:
                others.append((each, alone, _other(each.part)))
                continue
            received = await self._judged(each.kind, alone)
            fault = next((one.refusal for one in received if one.refusal is not None), None)
            if fault is None or any(one.refusal is None for one in received):
                taken += received
            elif each.kind == "cda" and fault.code is CauseCode.NOT_THE_FORMAT:
                others.append((each, alone, fault))  # some other XML
            else:
                raise _of_attachment(fault, number)
        if not taken:
            raise _of_attachment(others[0][2], 1) if len(others) == 1 else _nothing(bool(others))
        if self._keeps_others:
            taken += [self.refused(alone, cause) for _, alone, cause in others]
        return Contents(tuple(taken))

    async def _judged(self, kind: Kind, alone: Arrived) -> tuple[Received, ...]:
        reception = self._of_kind[kind]
        if alone.payload.size > reception.bytes_max:
            return (self.refused(alone, reception.oversized()),)
        return tuple((await reception.open(alone)).received)


@contextlib.contextmanager
def _mapped(payload: Payload) -> Iterator[Bytes]:
    """The bytes of a mail; of a spooled one without reading it as a whole."""
    if payload.path is None or not payload.size:
        yield payload.read()
        return
    with (
        payload.path.open("rb") as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view,
    ):
        yield view


def _kind(part: Part, content: bytes) -> Kind | None:
    """What an attachment claims to be, by its type, else by its name; an archive by its bytes."""
    name, media_type = part.name.lower(), part.media_type
    if media_type in _ZIP_TYPES or name.endswith(".zip") or content.startswith(b"PK\x03\x04"):
        return "xdm"
    if media_type in _XML_TYPES or media_type.endswith("+xml") or name.endswith(".xml"):
        # A picture is XML too, and is none of a record's documents.
        return None if media_type == "image/svg+xml" else "cda"
    return None


def _named(part: Part) -> dict[str, str]:
    return {"file_name": part.name} if part.name else {}


def _plain(text: str) -> str:
    return "".join(each for each in text if each.isprintable()).strip()[:HEADER_CHARACTERS_MAX]


def _other(part: Part) -> Cause:
    return Cause(
        code=CauseCode.UNSUPPORTED_TYPE,
        detail=f"an attachment of type {_plain(part.media_type)[:80]} is neither an XDM archive "
        "nor a CDA document: kept, and goes no further",
        location=f"part {part.number}",
    )


def _of_attachment(cause: Cause, number: int) -> Refused:
    """The same with the attachment that it is about; its name might be a patient's."""
    refused = Refused(cause.code, cause.detail, f"attachment {number} {cause.location}".strip())
    refused.cause = Cause(
        code=cause.code,
        detail=cause.detail,
        location=refused.cause.location,
        protocol_code=cause.protocol_code,
    )
    return refused


def _nothing(others: bool) -> Refused:
    what = "no attachment is an XDM archive or a CDA document" if others else "it has no attachment"
    return Refused(CauseCode.NOT_THE_FORMAT, f"the mail carries no document: {what}")
