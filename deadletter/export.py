"""A folder in a zip with all that is known of some dead letters, to be attached to a ticket.

De-identified on demand: the message by its format's own de-identifier, and what the gateway says
of it without identifiers, destinations' answers and people's words. What cannot be de-identified
is left out, and the folder says so.
"""

from __future__ import annotations

import json
import secrets
import zipfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, BinaryIO

from sqlalchemy import Connection

from deadletter.causes import CAUSES
from gateway.journal import deadletters, deliveries, desk_actions, messages
from gateway.journal.desk_actions import What
from gateway.journal.journal import Journal
from gateway.journal.values import DeadLetter, DeadLetterFilter, Message
from gateway.masking import Deidentifier, NotDeidentifiable, pseudonym
from gateway.model import Cause, Format, TraceStep
from gateway.serialise import dumps

LETTERS_MAX = 200
BYTES_MAX = 256 << 20
"""Of messages in one export; what comes after is left out, and named."""
TRACE_MAX = 20_000
_SUFFIXES = {Format.HL7V2: "hl7", Format.CDA: "xml", Format.DICOM: "dcm", Format.HPRIM: "hpr"}

Trace = Callable[[Message], Sequence[TraceStep]]

_README = """\
Dead letters of an Ecluse gateway, {at}
{kind}

letters.json        what died, why, and what to do
NUMBER/letter.json  one dead letter with its message's life: events, attempts, who did what
NUMBER/message.*    the message{bytes}
NUMBER/entries.json what the mapping made of it{entries}
NUMBER/trace.json   which rule made each value of which place (only from a running gateway)
"""
_OPEN = "This holds data of patients: the exact bytes, and people's notes."
_CLOSED = """\
De-identified: names, identifiers, addresses, dates but for the year, free text, pictures, the
destinations' answers and people's notes are masked or left out. Codes and measured values stay, so
that a rare diagnosis together with a place and a year may still tell who it is: look at it before
you give it to others."""


class Exporter:
    """Writes exports. ``trace`` runs a message's mapping again; without it there is no trace."""

    def __init__(
        self,
        journal: Journal,
        deidentifiers: Mapping[Format, Deidentifier],
        trace: Trace | None = None,
    ) -> None:
        self._journal = journal
        self._deidentifiers = deidentifiers
        self._trace = trace

    def write(
        self,
        stream: BinaryIO,
        wanted: DeadLetterFilter,
        *,
        limit: int,
        deidentify: bool,
        actor: str,
    ) -> int:
        """Write the newest letters of a filter; how many. Raises ValueError for a limit that is
        not 1 to 200, OSError. A journal that may be written keeps who took it away."""
        if not 1 <= limit <= LETTERS_MAX:
            raise ValueError(f"an export has 1 to {LETTERS_MAX} dead letters")
        with self._journal.read() as connection:
            letters = deadletters.page(connection, wanted, limit=limit)
        if not letters:
            return 0
        salt = secrets.token_bytes(32) if deidentify else b""
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            self._letters(archive, letters, salt)
        if not self._journal.read_only:
            self._note(letters, wanted, actor, deidentify=deidentify)
        return len(letters)

    def _letters(
        self, archive: zipfile.ZipFile, letters: Sequence[DeadLetter], salt: bytes
    ) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        told = _README.format(
            at=now,
            kind=_CLOSED if salt else _OPEN,
            bytes=", masked" if salt else ", exactly as it arrived",
            entries=" (left out)" if salt else "",
        )
        archive.writestr("dead-letters/README.txt", told)
        _put(archive, "letters.json", [_letter(each, salt) for each in letters])
        left = BYTES_MAX
        for letter in letters:
            folder = str(letter.id)
            with self._journal.read() as connection:
                message = messages.get(connection, letter.message_id)
                if message is None:
                    continue
                life = _life(connection, letter, message, salt)
                made = messages.normalised(connection, message.id)
            left -= message.size
            name, body, why = self._body(message, salt, left)
            if body is not None:
                archive.writestr(f"dead-letters/{folder}/{name}", body)
            else:
                life["message_left_out"] = why
            if made is not None and not salt:
                entries = dumps([each.resource for each in made.entries], indent=True)
                archive.writestr(f"dead-letters/{folder}/entries.json", entries)
            if self._trace is not None:
                steps = self._trace(message)[:TRACE_MAX]
                _put(archive, f"{folder}/trace.json", [_step(each, salt) for each in steps])
            _put(archive, f"{folder}/letter.json", life)

    def _body(self, message: Message, salt: bytes, left: int) -> tuple[str, bytes | None, str]:
        name = f"message.{_SUFFIXES.get(message.format, 'bin')}"
        if left < 0:
            return name, None, "the export is large enough without it"
        try:
            data = messages.payload(self._journal, message).read()
        except KeyError:
            return name, None, "the bytes are not in the store any more"
        if not salt:
            return name, data, ""
        deidentifier = self._deidentifiers.get(message.format)
        if deidentifier is None:
            return name, None, "this format cannot be de-identified"
        try:
            return name, deidentifier.deidentify(data, encoding=message.encoding, salt=salt), ""
        except NotDeidentifiable as reason:
            return name, None, f"it cannot be de-identified: {reason}"

    def _note(
        self,
        letters: Sequence[DeadLetter],
        wanted: DeadLetterFilter,
        actor: str,
        *,
        deidentify: bool,
    ) -> None:
        only = letters[0] if len(letters) == 1 else None
        with self._journal.write() as connection:
            desk_actions.write(
                connection, What.EXPORT, actor=actor, number=len(letters),
                fingerprint=wanted.fingerprint or (only.fingerprint if only else ""),
                dead_letter_id=only.id if only else None,
                message_id=only.message_id if only else None,
                detail={"deidentified": deidentify},
            )  # fmt: skip


def _put(archive: zipfile.ZipFile, name: str, value: Any) -> None:
    archive.writestr(f"dead-letters/{name}", json.dumps(value, indent=2, ensure_ascii=False))


def _cause(cause: Cause | None) -> dict[str, str] | None:
    if cause is None:
        return None
    note = CAUSES[cause.code]
    return {
        "code": cause.code.value, "title": note.title, "detail": cause.detail,
        "location": cause.location, "protocol_code": cause.protocol_code, "means": note.means,
        "do": note.do,
    }  # fmt: skip


def _letter(letter: DeadLetter, salt: bytes) -> dict[str, Any]:
    return {
        "id": letter.id,
        "group": letter.fingerprint,
        "source": letter.source,
        "kind": letter.kind,
        "stage": letter.stage.value,
        "destination": letter.destination,
        "cause": _cause(letter.cause),
        "buried_at": letter.buried_at.isoformat(),
        "attempts": letter.attempts,
        "resolution": letter.resolution.value if letter.resolution else None,
        **({} if salt else {"reason": letter.reason, "actor": letter.actor}),
    }


def _life(
    connection: Connection, letter: DeadLetter, message: Message, salt: bytes
) -> dict[str, Any]:
    """``salt`` empty: everything. Else what could name somebody is left out or a pseudonym."""
    sent = deliveries.of_message(connection, message.id)
    told = desk_actions.page(connection, dead_letter_id=letter.id, fingerprint=letter.fingerprint)
    private = {
        "control_id": message.control_id,
        "peer": message.peer,
        "sha256": message.sha256,
        "patient": message.patient_id,
    }
    return {
        **_letter(letter, salt),
        "message": {
            "id": message.id,
            "format": message.format.value,
            "encoding": message.encoding,
            "size": message.size,
            "state": message.state.value,
            "received_at": message.received_at.isoformat(),
            "mapping": message.mapping,
            "mapping_version": message.mapping_version,
            "flags": [dict(flag) for flag in message.flags],
            **({n: pseudonym(str(v), salt) for n, v in private.items() if v} if salt else private),
        },
        "events": [
            {
                "at": event.at.isoformat(), "stage": event.stage.value, "what": event.what,
                **({} if salt else {"detail": dict(event.detail)}),
            }
            for event in messages.events(connection, message.id, limit=1_000)
        ],
        "deliveries": [
            {
                "destination": each.destination,
                "state": each.state.value,
                "attempts": [
                    {
                        "number": attempt.number,
                        "started_at": attempt.started_at.isoformat(),
                        "ended_at": attempt.ended_at.isoformat() if attempt.ended_at else None,
                        "outcome": attempt.outcome,
                        "cause": _cause(attempt.cause),
                        **({} if salt else {"answer": attempt.evidence}),
                    }
                    for attempt in deliveries.attempts(connection, each.id, limit=100)
                ],
            }
            for each in sent
        ],
        "actions": [
            {
                "at": each.at.isoformat(), "what": each.what.value,
                **({} if salt else {"actor": each.actor, "reason": each.reason}),
            }
            for each in told
        ],
    }  # fmt: skip


def _step(step: TraceStep, salt: bytes) -> dict[str, Any]:
    kind, _, rest = step.target.partition("/")
    name, _, path = rest.partition("#")
    return {
        "target": f"{kind}/{pseudonym(name, salt)}#{path}" if salt else step.target,
        "rule": step.rule,
        "source": step.source,
        "steps": list(step.steps),
    }
