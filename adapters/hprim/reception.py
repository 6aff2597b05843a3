"""From a file of either form to the messages in it, one for each patient."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

from adapters.doors.reception import Arrived, Contents
from adapters.doors.reception import Reception as FileReception
from adapters.hprim import medecin, sante
from adapters.hprim.charset import Undecodable, choose
from adapters.hprim.faults import NotReadable, undecodable
from adapters.hprim.identity import subject_of
from adapters.hprim.language import kind_of, names_of, read_message
from adapters.hprim.settings import HprimFolderSourceSettings, HprimHttpSourceSettings
from gateway.model import Cause, CauseCode, Format, Payload, Received
from gateway.ports import Intake

CONTROL_ID_MAX = 199
LOOK_BYTES = 1 << 18
"""How much of a file is looked at to tell whether it is HPRIM."""
_NAMES = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "windows-1252": "windows-1252",
    "cp1252": "windows-1252",
    "iso-8859-1": "iso-8859-1",
    "latin1": "iso-8859-1",
    "iso-8859-15": "iso-8859-15",
    "ibm850": "cp850",
    "cp850": "cp850",
    "ibm437": "cp437",
    "cp437": "cp437",
    "macintosh": "mac-roman",
}
"""The character sets that a Content-Type may name (IANA's names and usual ones)."""


class Reception(FileReception):
    """One source's way from a file to messages."""

    format = Format.HPRIM
    phrases: ClassVar[Mapping[CauseCode, str]] = {
        CauseCode.NOT_THE_FORMAT: "ce fichier n'est pas un fichier HPRIM lisible",
        CauseCode.FRAME_TRUNCATED: "le fichier HPRIM est incomplet",
        CauseCode.REQUIRED_FIELD_MISSING: "une donnée obligatoire manque",
        CauseCode.UNSUPPORTED_VERSION: "cette version d'HPRIM n'est pas prise en charge",
        CauseCode.CHARACTER_SET: "le jeu de caractères n'est aucun de ceux que la source accepte",
    }

    def __init__(
        self, settings: HprimHttpSourceSettings | HprimFolderSourceSettings, intake: Intake
    ) -> None:
        super().__init__(settings, intake, bytes_max=settings.file_bytes_max)
        self._settings = settings

    async def open(self, arrived: Arrived) -> Contents:
        """Take the file apart and read each message. The work is done in a thread."""
        if arrived.fault is not None:
            return Contents((self.refused(arrived, arrived.fault),))
        return await asyncio.to_thread(self._open, arrived)

    def _open(self, arrived: Arrived) -> Contents:
        content = arrived.payload.read()
        try:
            messages = messages_of(content, self._settings.messages_max)
            encoding = self._encoding(content, arrived.encoding)
        except NotReadable as fault:
            return Contents((self.refused(arrived, _cause(fault)),))
        whole = len(messages) == 1 and messages[0] == content
        return Contents(
            tuple(
                self._received(
                    arrived, arrived.payload if whole else Payload.from_bytes(message), encoding,
                    number, len(messages),
                )
                for number, message in enumerate(messages, 1)
            )
        )  # fmt: skip

    def _encoding(self, content: bytes, declared: str) -> str:
        """The transport's character set when it names one, else the first of the list that fits."""
        names: tuple[str, ...] = self._settings.charsets
        if declared:
            known = _NAMES.get(declared.strip().lower())
            if known is None:
                raise NotReadable(
                    CauseCode.CHARACTER_SET, "Content-Type names an unsupported character set"
                )
            names = (known,)
        offset = 0
        try:
            return choose(content, names)
        except Undecodable as wrong:
            offset = wrong.offset
        # Raised outside the handler: what it handled may hold the patient's bytes.
        raise undecodable(offset)

    def _received(
        self, arrived: Arrived, payload: Payload, encoding: str, number: int, total: int
    ) -> Received:
        attributes = dict(arrived.attributes)
        if total > 1:
            attributes["file_message"] = f"{number} of {total}"
        arrived = Arrived(
            payload=payload, received_at=arrived.received_at, peer=arrived.peer,
            encoding=encoding, attributes=attributes,
        )  # fmt: skip
        try:
            message = read_message(payload.read(), encoding)
        except NotReadable as fault:
            return self.refused(arrived, _cause(fault))
        names = names_of(message)
        control_id = _storable(names.pop("control_id"))
        return Received(
            source=self.name,
            format=Format.HPRIM,
            payload=payload,
            received_at=arrived.received_at,
            peer=arrived.peer,
            control_id=control_id,
            kind=_storable(kind_of(message)),
            encoding=encoding,
            subject=subject_of(message, self._settings.authorities),
            attributes={
                **attributes,
                "version": message.version,
                **{name: _storable(text) for name, text in names.items()},
            },
        )


def is_hprim(path: Path) -> bool:
    """Whether a file begins like HPRIM Santé or has the marks of HPRIM Médecin."""
    with path.open("rb") as stream:
        content = stream.read(LOOK_BYTES)
    return sante.is_sante(content) or (
        not content.lstrip().startswith((b"<", b"MSH", b"FHS", b"BHS", b"\x0b"))
        and medecin.is_medecin(content)
    )


def messages_of(content: bytes, messages_max: int) -> list[bytes]:
    """The messages of a file, one for each patient. Raises NotReadable."""
    return _splitter(content)(content, messages_max)


def _splitter(content: bytes) -> Callable[[bytes, int], list[bytes]]:
    if sante.is_sante(content):
        return sante.split
    if medecin.is_medecin(content):
        return medecin.split
    raise NotReadable(
        CauseCode.NOT_THE_FORMAT,
        "neither a header of HPRIM Santé (H|~^\\&|) nor an end mark of HPRIM Médecin",
        "line 1",
    )


def _cause(fault: NotReadable) -> Cause:
    return Cause(code=fault.code, detail=str(fault), location=fault.location)


def _storable(text: str) -> str:
    """A piece of the file as a database keeps it: bounded, without control characters."""
    return "".join(each for each in text[:CONTROL_ID_MAX] if each.isprintable())
