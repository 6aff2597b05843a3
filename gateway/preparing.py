"""What a turn in a source's lane does with no transaction open: messages are read and mapped.

Whatever can be done there is done there: the transaction that follows then waits for no disk and
for no process. What takes a worker down with it is counted before its work begins.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from gateway.joined import JudgeJoined, normalise_joined
from gateway.journal import gatherings, messages
from gateway.journal.journal import Journal, JournalUnavailable
from gateway.journal.values import Message
from gateway.mapping_ahead import Accused, Ahead, Not, Prepared
from gateway.mapping_processes import MappingProcesses
from gateway.model import Cause, CauseCode, Format, Payload
from gateway.normalise import Normaliser, Original, Reading, Unusable
from gateway.reported import HearReports

BATCH_MAX = 64
"""Messages in one transaction."""

BATCH_BYTES_MAX = 16 * 1024 * 1024
"""Bytes of the messages that are read into memory together; one is taken whatever its size."""

UNFINISHED_MAX = 3
"""Claims, with nothing else in hand, that never ended after which a message is set apart.
Those before, in company (``messages.SUSPECT_STARTS``), accuse no single message."""


@dataclass(frozen=True, slots=True)
class Reads:
    """What messages are read and mapped with: another one after a deployment, as a whole."""

    normaliser: Normaliser
    processes: MappingProcesses | None = None


@dataclass(slots=True)
class Turn:
    """One worker's stay in a lane."""

    lane: str
    token: int
    batch: list[Message]
    reads: Reads
    ahead: Ahead
    prepared: dict[int, Prepared] = field(default_factory=dict)
    heard: set[int] = field(default_factory=set)
    """Messages of which was told what they report on."""
    begun: set[int] = field(default_factory=set)
    """Suspects whose work was counted as begun, and not given back since."""
    unread: int | None = None
    """The message whose bytes the machine could not read."""


class Preparing:
    """Reads and maps the messages of turns. Safe to share between threads, each with a turn of
    its own."""

    def __init__(
        self,
        journal: Journal,
        *,
        lease: timedelta,
        judge_joined: JudgeJoined,
        hear_reports: HearReports,
    ) -> None:
        self.accused = Accused()
        self._journal = journal
        self._lease = lease
        self._judge_joined = judge_joined
        self._hear_reports = hear_reports

    def turn(self, lane: str, token: int, batch: list[Message], reads: Reads) -> Turn:
        """A stay in a lane that was leased with a ``token``, and its first batch."""
        ahead = Ahead(reads.processes, self.accused, self._payload, reads.normaliser.contexts)
        return Turn(lane, token, batch, reads, ahead)

    def prepare(self, turn: Turn, *, ahead: bool) -> None:
        """Read and map what is not yet: as much as may be in memory at once, and for no
        longer than leaves the lease time enough.

        With ``ahead`` a mapping process gets what follows as well, for the next batch.
        Raises JournalUnavailable, LeaseLost; when the machine cannot read a message's bytes,
        ``turn.unread`` says which.
        """
        until = time.monotonic() + self._lease.total_seconds() / 3
        kept = {message.id for message in turn.batch}
        turn.prepared = {each: done for each, done in turn.prepared.items() if each in kept}
        held = list(_within_memory(turn.batch))
        turn.ahead.send(held if ahead else held[:BATCH_MAX])
        for message in held[:BATCH_MAX]:
            first = message is turn.batch[0]
            if time.monotonic() > until and not first:
                return
            if message.id in turn.prepared or is_poison(message):
                continue
            try:
                done = self._prepared(turn, message, until, first=first)
            except OSError as error:
                # Not given back, so that the lane is not blocked by it for ever.
                turn.unread = message.id
                raise JournalUnavailable(f"bytes cannot be read ({_errno(error)})") from None
            if done is None:
                return
            turn.prepared[message.id] = done

    def _prepared(
        self, turn: Turn, message: Message, until: float, *, first: bool
    ) -> Prepared | None:
        """The result of one message; None when it must wait for the next batch."""

        def begin(each: Message) -> None:
            self._count(turn, each)

        done = turn.ahead.take(message, until)
        if done is Not.THERE and turn.ahead.suspect(message):
            # Those before it are settled first: it may take another process with it.
            done = turn.ahead.take_alone(message, until, begin) if first else Not.YET
        if isinstance(done, Not):
            return self._read(turn, message) if done is Not.THERE else None
        return self._with_attachments(done)

    def _read(self, turn: Turn, message: Message) -> Prepared:
        """The result of one message, made in this thread."""
        self._count(turn, message)
        try:
            original = self._original(message)
        except KeyError:
            cause = Cause(
                code=CauseCode.UNREADABLE, detail="the message's bytes are not in the store"
            )
            return Unusable(cause=cause)
        except OverflowError:
            cause = Cause(
                code=CauseCode.HOSTILE_CONTENT, detail="the study has more instances than allowed"
            )
            return Unusable(cause=cause)
        normaliser = turn.reads.normaliser
        if message.group_key and message.format is Format.HL7V2:
            return self._with_attachments(
                normalise_joined(normaliser, original, self._judge_joined)
            )
        return self._with_attachments(normaliser.normalise(original))

    def _count(self, turn: Turn, message: Message) -> None:
        """Count, in a transaction of its own, that the work on a suspect begins. All others
        were counted by their claim. Raises JournalUnavailable, LeaseLost."""
        if messages.suspect(message) and message.id not in turn.begun:
            with self._journal.write() as connection:
                messages.begin(connection, turn.lane, turn.token, message.id)
            turn.begun.add(message.id)

    def _with_attachments(self, prepared: Prepared) -> Prepared:
        """The same, its attachments stored before the transaction, which then finds them
        and waits for no disk."""
        if isinstance(prepared, Reading):
            for attachment in prepared.mapped.attachments:
                self._journal.blobs.put(attachment.data)
        return prepared

    def tell_reports(self, turn: Turn) -> None:
        """Tell what is reported on. Raises JournalUnavailable."""
        # A study says nothing by its own objects of whether it is complete.
        told = [
            (message.id, reading.reported)
            for message in turn.batch
            if message.format is not Format.DICOM
            and message.id not in turn.heard
            and isinstance(reading := turn.prepared.get(message.id), Reading)
            and reading.reported is not None
        ]
        if told:
            self._hear_reports(told)
            turn.heard.update(number for number, _ in told)

    def _payload(self, message: Message) -> Payload:
        return messages.payload(self._journal, message)

    def _original(self, message: Message) -> Original:
        encoding = message.encoding
        if not message.group_key:
            payloads = [self._payload(message)]
        else:
            with self._journal.read() as connection:
                members = gatherings.belonging(connection, message)
                encoding = gatherings.encoding(members)
                payloads = [self._payload(member) for member in members]
        return Original(
            source=message.source,
            format=message.format,
            payloads=payloads,
            encoding=encoding,
        )


def _errno(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, type(error).__name__)


def _within_memory(batch: Sequence[Message]) -> Iterator[Message]:
    """The first messages of a batch, as many as may be in memory together."""
    total = 0
    for message in batch:
        total += message.size
        if total > BATCH_BYTES_MAX and message is not batch[0]:
            return
        yield message


def is_poison(message: Message) -> bool:
    """Whether as many workers as are allowed began it before and never ended."""
    return message.starts > UNFINISHED_MAX + messages.SUSPECT_STARTS
