"""Repair: the text of a dead HL7 v2 message is edited, tried, and replayed as a linked copy.

The original is never touched. What is sent on is exactly the edited text in the message's own
character set and with its own segment terminators; when the bytes cannot be shown and written
back unchanged, there is no editing here, and the command line takes a file instead.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request
from sqlalchemy import Connection
from starlette.responses import HTMLResponse, RedirectResponse, Response

from adapters.hl7.message import Message as Er7Message
from deadletter import replay as desk
from deadletter.selection import Verdict
from gateway.console.context import Alone, Console, actor
from gateway.console.differences import changed_segments
from gateway.console.typography import size
from gateway.journal import deadletters, messages
from gateway.journal.values import DeadLetter, Message
from gateway.model import Cause, Format, Payload
from gateway.normalise import Original, Unusable
from gateway.ports import Unreadable
from gateway.row_number import RowNumber
from gateway.shapes import explanation
from gateway.wording import plural

EDITED_BYTES_MAX = 1 << 20
TEXT_MAX = 1_200_000
REASON_MIN = 3


class NotEditable(Exception):
    """The message cannot be edited as text here. The message says why."""


@dataclass(frozen=True, slots=True)
class Editable:
    """A message as editable lines, and how to write them back."""

    lines: tuple[str, ...]
    codec: str
    charset: str
    terminator: str
    ends_with_terminator: bool

    @classmethod
    def of(cls, data: bytes, encoding: str) -> Editable:
        """Read the bytes. Raises NotEditable unless writing them back gives the same bytes."""
        try:
            message = Er7Message.read(data, encoding=encoding)
            codec, charset = message.charset.codec, message.charset.name
        except Unreadable as fault:
            codec, charset = _guess(data, fault), "UTF-8"
        try:
            text = data.decode(codec)
        except UnicodeDecodeError:
            raise NotEditable("the bytes are not in their declared character set") from None
        terminator = "\r\n" if "\r\n" in text else "\n" if "\r" not in text else "\r"
        lines = text.split(terminator)
        ends = lines[-1] == ""
        found = cls(tuple(lines[:-1] if ends else lines), codec, charset, terminator, ends)
        if found.write(found.text) != data:
            raise NotEditable("it mixes line ends, which a text field would change")
        return found

    @property
    def text(self) -> str:
        """The lines as a text field holds them."""
        return "\n".join(self.lines)

    def write(self, text: str) -> bytes:
        """The edited text as bytes. Raises NotEditable for a character that the set has not."""
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        while len(lines) > 1 and not lines[-1]:
            lines.pop()
        whole = self.terminator.join(lines) + (self.terminator if self.ends_with_terminator else "")
        try:
            return whole.encode(self.codec)
        except UnicodeEncodeError as error:
            line = whole[: error.start].count(self.terminator) + 1
            raise NotEditable(
                f"line {line} has a character that {self.charset} does not have"
            ) from None


def _guess(data: bytes, fault: Unreadable) -> str:
    """UTF-8 for bytes that are no message at all but are text all the same."""
    if b"\0" in data:
        raise NotEditable(f"it is no text: {fault}") from None
    return "utf-8"


@dataclass(frozen=True, slots=True)
class Opened:
    """A dead letter that is open for repair."""

    letter: DeadLetter
    message: Message
    data: bytes
    editable: Editable


def repair_routes(console: Console) -> APIRouter:
    """``/dead/{number}/repair``."""
    router = APIRouter(include_in_schema=False)

    @router.get("/dead/{letter_id}/repair", response_class=HTMLResponse)
    def open_form(request: Request, letter_id: RowNumber) -> Response:
        try:
            opened = _open(console, letter_id)
        except NotEditable as reason:
            return _cannot(console, request, letter_id, str(reason))
        console.saw(request, "bytes shown", message_id=opened.message.id, dead_letter=letter_id)
        return _form(console, request, opened, opened.editable.text, key=secrets.token_hex(16))

    @router.post("/dead/{letter_id}/repair", response_class=HTMLResponse)
    def submit(
        request: Request, letter_id: RowNumber, *,
        text: Annotated[str, Form(max_length=TEXT_MAX)],
        base: Annotated[str, Form(max_length=64)],
        key: Annotated[str, Form(min_length=8, max_length=64)],
        reason: Annotated[str, Form(max_length=500)] = "",
        action: Annotated[str, Form(max_length=16)] = "preview",
    ) -> Response:  # fmt: skip
        if action == "replay":
            pressed = _pressed(console, key)
            if pressed:
                return RedirectResponse(f"/dead/operations/{key}", 303)
        opened = _open(console, letter_id)
        if opened.message.sha256 != base:
            raise HTTPException(409, "Another message stands here now; open it again.")
        try:
            payload = Payload.from_bytes(opened.editable.write(text))
            problem = _problem(opened, payload, reason if action == "replay" else "preview")
        except NotEditable as fault:
            payload, problem = None, f"Not sent: {fault}."
        if action != "replay" or problem or payload is None:
            shown = _tried(console, opened, payload) if payload and not problem else problem
            return _form(console, request, opened, text, key=key, reason=reason, said=shown)
        return _replay(console, request, opened, payload, key=key, reason=reason.strip())

    return router


def _open(console: Console, letter_id: int) -> Opened:
    """The dead letter with its text. Raises HTTPException and NotEditable."""
    with console.journal.read() as connection:
        letter, message = _read(connection, letter_id)
    if message.format is not Format.HL7V2:
        raise NotEditable("only HL7 v2 is edited as text")
    if message.size > EDITED_BYTES_MAX:
        raise NotEditable(f"{size(message.size)} are too many for a text field")
    try:
        data = messages.payload(console.journal, message).read()
    except KeyError:
        raise HTTPException(410, "The bytes are not in the store any more.") from None
    return Opened(letter, message, data, Editable.of(data, message.encoding))


def _read(connection: Connection, letter_id: int) -> tuple[DeadLetter, Message]:
    letter = deadletters.get(connection, letter_id)
    message = messages.get(connection, letter.message_id) if letter else None
    if letter is None or message is None:
        raise HTTPException(404, f"There is no dead letter {letter_id}.")
    if letter.resolved_at is not None:
        raise HTTPException(409, "Somebody has settled this dead letter meanwhile.")
    return letter, message


def _pressed(console: Console, key: str) -> bool:
    from gateway.journal import operations

    with console.journal.read() as connection:
        known = operations.get(connection, key)
    return known is not None and known.result is not None


def _problem(opened: Opened, payload: Payload, reason: str) -> str:
    """What keeps the copy from being replayed, or an empty text."""
    if payload.sha256 == opened.message.sha256:
        return "Nothing has been changed."
    if len(reason.strip()) < REASON_MIN:
        return "Say why it is repaired: the reason is kept with the message."
    try:
        Er7Message.read(payload.read(), encoding=opened.message.encoding)
    except Unreadable as fault:
        return f"Not readable as HL7 v2: {fault} {fault.location}".rstrip() + "."
    return ""


def _tried(console: Console, opened: Opened, payload: Payload) -> str:
    """What the mappings of today would make of the copy."""
    found = console.gateway.normaliser.normalise(
        Original(
            source=opened.message.source, format=opened.message.format, payloads=[payload],
            encoding=opened.message.encoding,
        )
    )  # fmt: skip
    cause = found.cause if isinstance(found, Unusable) else found.subjects
    if isinstance(cause, Cause):
        words = explanation(cause.code)["title"]
        place = f" at {cause.location}" if cause.location else ""
        return f"It would still fail{place}: {words}. {cause.detail}".strip()
    assert not isinstance(found, Unusable)
    count = len(found.mapped.entries)
    return f"It would be read: {count} {plural(count, 'entry', 'entries')}."


def _form(
    console: Console, request: Request, opened: Opened, text: str, *, key: str, reason: str = "",
    said: str = "",
) -> Response:  # fmt: skip
    lines = text.replace("\r\n", "\n").rstrip("\n").split("\n")
    changes = changed_segments(opened.editable.lines, lines)
    fine = said.startswith("It would be read")
    context = {
        "letter_id": opened.letter.id,
        "text": text,
        "rows": min(max(len(lines) + 2, 8), 32),
        "text_max": TEXT_MAX,
        "encoding_label": opened.editable.charset,
        "base": opened.message.sha256,
        "key": key,
        "reason": reason,
        "changes": changes,
        "said": said,
        "said_tone": "done" if fine else "dead",
    }
    alone = Alone(
        heading=f"Repair of message {opened.message.id}",
        back=f"/dead/{opened.letter.id}",
        back_label=f"Dead letter {opened.letter.id}",
        current="Dead letters",
        status=422 if said and not fine else 200,
    )
    return console.fragment(request, "repair.html", context, alone)


def _cannot(console: Console, request: Request, letter_id: int, reason: str) -> Response:
    alone = Alone(
        heading="Repair", back=f"/dead/{letter_id}", back_label=f"Dead letter {letter_id}",
        current="Dead letters",
    )  # fmt: skip
    context = {"letter_id": letter_id, "reason": reason}
    return console.fragment(request, "not_editable.html", context, alone)


def _replay(
    console: Console, request: Request, opened: Opened, payload: Payload, *, key: str, reason: str
) -> Response:
    report = desk.repair(
        console.journal, opened.letter.id, payload, actor=actor(request), key=key, reason=reason
    )
    console.counts.forget()
    if report.items and report.items[0].verdict is Verdict.GONE:
        raise HTTPException(409, "Somebody has settled this dead letter meanwhile.")
    if not report.again:
        console.saw(
            request, "dead letter repaired", dead_letter=opened.letter.id, operation=key,
            message_id=opened.message.id,
        )  # fmt: skip
    return RedirectResponse(f"/dead/operations/{key}", 303)
