"""A DICOMweb server elsewhere as a destination of the gateway: STOW-RS (PS3.18 10.5).

Objects go as the files that they are, some at a time in one multipart/related request. What the
server says of each is what a storage SCP would say.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any

from adapters.dicom import storage_answers as answers
from adapters.dicom.forward_settings import StorageSettings
from adapters.dicom.forwarding import (
    Ended,
    Original,
    Originals,
    OriginalsUnavailable,
    Progress,
    Remembered,
    Turn,
    behind,
    concluded,
    instances_of,
    journal_away,
    prepared,
)
from adapters.dicom.rewriting import Rewriter
from adapters.dicom.sender import Outgoing
from adapters.kept import KeptLines
from adapters.line import Answer, Line, NoAnswer, NotSent, Unusable, stream_blocks
from gateway.model import Again, Delivered, Delivery, Outcome, Refused, Wait

BATCH_INSTANCES = 100
BATCH_BYTES = 16 << 20
"""Objects of one request: so many, or so many bytes, whichever comes first. A larger object goes
alone."""
REST_MAX = timedelta(hours=1)
REST_DEFAULT = timedelta(seconds=5)

FAILED_SEQUENCE, STORED_SEQUENCE, OTHERS_SEQUENCE = "00081198", "00081199", "0008119A"
REASON, INSTANCE = "00081197", "00081155"
UNSAID = answers.PROCESSING_FAILURE
"""The reason of a failure for which the server gives none."""
_ACCESS = frozenset({401, 403, 404, 405, 407})
_REST = frozenset({429, 503, 507})
_UNKNOWN = frozenset({408, 425, 500, 502, 504})

Batch = list[tuple[Original, Outgoing, int]]


class StowDestination:
    """Sends objects to a DICOMweb server. Implements ``gateway.destinations.Destination``.

    Safe to share between threads: each has a connection of its own.
    """

    transactional = False

    def __init__(
        self, name: str, settings: StorageSettings, originals: Originals, rewriter: Rewriter
    ) -> None:
        self.name = name
        self._settings = settings
        self._originals = originals
        self._rewriter = rewriter
        self._progress = Remembered()
        self._lines = KeptLines(lambda: Line(settings))

    def deliver(self, delivery: Delivery, connection: Any | None) -> Outcome:
        """Make one attempt, within the settings' time. No exception leaves."""
        del connection
        line = self._lines.mine()
        line.begin()
        key = delivery.idempotency_key
        progress = self._progress.of(key)
        try:
            outcome = self._deliver(line, delivery, progress)
        except Ended as end:
            outcome = end.outcome
        except NotSent as error:
            outcome = Again(cause=answers.unavailable(f"it cannot be reached: {error}"))
        except NoAnswer as error:
            outcome = Again(cause=answers.unknown(f"no answer came: {error}"))
        except Unusable as error:
            outcome = Wait(cause=answers.unavailable(str(error)), after=answers.ACCESS_WAIT)
        except OriginalsUnavailable:
            outcome = journal_away()
        if isinstance(outcome, Delivered | Refused):
            self._progress.forget(key)
        return outcome

    def close(self) -> None:
        """Close the connections. To be called when no attempt is made any more."""
        self._lines.close()

    def _deliver(self, line: Line, delivery: Delivery, progress: Progress) -> Outcome:
        turn = Turn(time.monotonic, self._settings.timeout_seconds)
        left = [
            each
            for each in instances_of(self._originals, delivery)
            if each.number not in progress.sent and each.number not in progress.refused
        ]
        for batch in _batches(prepared(self._originals, self._rewriter, left, progress)):
            if turn.late():
                raise Ended(behind(progress))
            _judge(_posted(line, batch), batch, progress)
        return concluded(progress)


def _batches(found: Iterator[tuple[Original, Outgoing]]) -> Iterator[Batch]:
    batch: Batch = []
    size = 0
    for original, outgoing in found:
        length = len(outgoing.data) if outgoing.data is not None else outgoing.path.stat().st_size
        if batch and (len(batch) >= BATCH_INSTANCES or size + length > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append((original, outgoing, length))
        size += length
    if batch:
        yield batch


def _posted(line: Line, batch: Batch) -> Answer:
    """One request (PS3.18 10.5.1). Raises NotSent, NoAnswer, Unusable."""
    uids = "\0".join(each.meta.sop_instance for _, each, _ in batch)
    # No object holds it but by chance, of which there is none in 128 bits.
    boundary = f"ecluse-{sha256(uids.encode()).hexdigest()[:32]}"
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    end = f"--{boundary}--\r\n".encode()
    length = sum(len(head) + size + 2 for _, _, size in batch) + len(end)

    def content() -> Iterator[bytes]:
        for _, outgoing, _ in batch:
            yield head
            if outgoing.data is not None:
                yield outgoing.data
            else:
                with outgoing.path.open("rb") as stream:
                    yield from stream_blocks(stream)
            yield b"\r\n"
        yield end

    headers = {
        "Accept": "application/dicom+json",
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
        "Content-Length": str(length),
    }
    return line.ask("POST", "studies", content=content(), headers=headers)


def _judge(answer: Answer, batch: Batch, progress: Progress) -> None:
    """Note what became of each object (PS3.18 10.5.3). Raises Ended."""
    if answer.status not in {200, 202, 409}:
        raise Ended(_failed(answer))
    said = _said(answer.body)
    if said is None:
        if answer.status != 200 or answer.body.strip():
            raise Ended(
                Again(cause=answers.unknown("its answer cannot be read", str(answer.status)))
            )
        said = _Said({}, frozenset())
    passing: Outcome | None = None
    for original, outgoing, _ in batch:
        meta = outgoing.meta
        reason = said.failures.get(meta.sop_instance)
        if reason is None and (answer.status == 409 or said.leaves_out(meta.sop_instance)):
            reason = said.failures.get("", UNSAID)
        outcome = answers.judged(reason) if reason is not None else Delivered()
        if isinstance(outcome, Delivered):
            progress.sent[original.number] = (meta.sop_class, meta.sop_instance)
        elif isinstance(outcome, Refused):
            progress.refused[original.number] = outcome.cause
        else:
            passing = outcome
    if passing is not None:
        raise Ended(passing)


@dataclass(frozen=True, slots=True)
class _Said:
    """What a server says of instances: those that failed with their reasons (under no UID: of
    some it cannot name), and those that it has stored."""

    failures: dict[str, int]
    stored: frozenset[str]

    def leaves_out(self, uid: str) -> bool:
        """Whether it names what is stored, or says that others failed, and not this one: what is
        stored is in the list (PS3.18 table I.1-1)."""
        return uid not in self.stored and bool(self.stored or "" in self.failures)


def _said(body: bytes) -> _Said | None:
    """What an answer says, in one data set or several; None when it is none."""
    try:
        read = json.loads(body)
        failures: dict[str, int] = {}
        stored: set[str] = set()
        for module in read if isinstance(read, list) else [read]:
            for name in (FAILED_SEQUENCE, OTHERS_SEQUENCE):
                for item in module.get(name, {}).get("Value", ()):
                    uid = str(_first(item, INSTANCE) or "")
                    failures[uid] = int(_first(item, REASON) or answers.PROCESSING_FAILURE)
            listed = module.get(STORED_SEQUENCE, {}).get("Value", ())
            stored.update(str(_first(item, INSTANCE) or "") for item in listed)
        return _Said(failures, frozenset(stored - {""}))
    except (ValueError, AttributeError, IndexError, TypeError):
        return None


def _first(item: dict[str, Any], tag: str) -> Any:
    values: Sequence[Any] = item.get(tag, {}).get("Value") or [None]
    return values[0]


def _failed(answer: Answer) -> Outcome:
    status = answer.status
    said, code = f"the server answered {status}", str(status)
    if status in _ACCESS or 300 <= status < 400:
        return Wait(cause=answers.unavailable(said, code), after=answers.ACCESS_WAIT)
    if status in _REST:
        given = answer.headers.get("retry-after", "")
        rest = timedelta(seconds=int(given)) if given.isdigit() else REST_DEFAULT
        return Wait(cause=answers.unavailable(said, code), after=min(rest, REST_MAX))
    if status in _UNKNOWN or status >= 500 or status < 300:
        return Again(cause=answers.unknown(said, code))
    return Refused(cause=answers.refused(said, code))
