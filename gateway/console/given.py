"""The message that a workbench's page works on: one of the journal, or text that was pasted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fastapi import Form

from adapters.hl7.message import Message as Er7Message
from gateway.formats import SOURCE_TYPES
from gateway.journal import messages
from gateway.journal.values import Message
from gateway.mapping import MappingContext
from gateway.model import Format, Payload
from gateway.originals import original_of
from gateway.ports import Unreadable

if TYPE_CHECKING:
    from gateway.console.context import Console

PASTED_MAX = 1_000_000

_ENCODING_HEAD = 200


class NoMessage(Exception):
    """There is nothing to work on. Says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the form above the message names: a number, else a text; and as whose it is read."""

    number: str = ""
    pasted: str = ""
    source: str = ""

    @classmethod
    def of_form(
        cls,
        number: Annotated[str, Form(max_length=20)] = "",
        pasted: Annotated[str, Form(max_length=PASTED_MAX)] = "",
        source: Annotated[str, Form(max_length=128)] = "",
    ) -> Given:
        """From a form; for ``Depends``."""
        return cls(number=number.strip(), pasted=pasted, source=source)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A message ready to be read: where it comes from decides zone and authorities.

    ``message_id`` is None for one that was pasted. ``shown`` is what is laid out.
    """

    format: Format
    encoding: str
    payloads: tuple[Payload, ...]
    context: MappingContext
    source: str
    message_id: int | None = None
    kept: Message | None = None

    @property
    def shown(self) -> Payload:
        """Its bytes; of a study those of the first instance."""
        return self.payloads[0]


def subject_of(console: Console, given: Given) -> Subject:
    """The message that a form names. Raises NoMessage."""
    if given.number:
        if not given.number.isdecimal() or len(given.number) > 15:
            raise NoMessage("A message is named by its number.")
        with console.journal.read() as connection:
            found = messages.get(connection, int(given.number))
        if found is None:
            raise NoMessage(f"There is no message {given.number}.")
        return subject_of_message(console, found)
    if not given.pasted.strip():
        raise NoMessage("Choose a message of the journal, or paste one.")
    return _pasted(console, given)


def subject_of_message(console: Console, found: Message) -> Subject:
    """A message of the journal. Raises NoMessage."""
    try:
        original = original_of(console.journal, found)
    except KeyError:
        raise NoMessage("Its bytes are not in the store any more.") from None
    except OverflowError:
        raise NoMessage("It is too large for this page.") from None
    return Subject(
        format=found.format,
        encoding=original.encoding,
        payloads=tuple(original.payloads),
        context=_context(console, found.source),
        source=found.source,
        message_id=found.id,
        kept=found,
    )


def _pasted(console: Console, given: Given) -> Subject:
    text = given.pasted.lstrip("\ufeff \t\r\n\x0b")
    kind = _format_of(text)
    if kind is None:
        raise NoMessage("This is no HL7 v2, CDA or HPRIM: nothing that is text and read here.")
    if kind is Format.HL7V2:
        text = text.replace("\r\n", "\r").replace("\n", "\r").strip("\r\x1c") + "\r"
    data = text.encode("utf-8")
    if kind is Format.HL7V2:
        data = _in_declared_set(text, data)
    source = given.source or _source_for(console, kind)
    return Subject(
        format=kind,
        encoding="",
        payloads=(Payload.from_bytes(data),),
        context=_context(console, source),
        source=source,
    )


def _format_of(text: str) -> Format | None:
    if text.startswith(("MSH", "FHS", "BHS")):
        return Format.HL7V2
    if text.startswith("<"):
        return Format.CDA
    if text.startswith("H|") or "****FIN****" in text:
        return Format.HPRIM
    return None


def _in_declared_set(text: str, data: bytes) -> bytes:
    """The text in the character set that MSH-18 declares, as the sender would have it."""
    try:
        codec = Er7Message.read(text[:_ENCODING_HEAD].encode("ascii", "replace")).charset.codec
        return text.encode(codec)
    except (Unreadable, UnicodeEncodeError, LookupError):
        return data


def _context(console: Console, source: str) -> MappingContext:
    known = console.gateway.normaliser.contexts.get(source)
    return known or MappingContext(source=source)


def _source_for(console: Console, kind: Format) -> str:
    for each in console.gateway.settings.sources:
        if each.type in SOURCE_TYPES[kind]:
            return each.name
    return "pasted"
