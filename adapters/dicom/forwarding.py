"""A PACS elsewhere as a destination of the gateway: C-STORE of the instances of a study.

An attempt lasts one turn. What has not gone when its time is over goes in the next one, and is
not begun anew; that is remembered here only, so that after a restart objects are sent again,
which a storage SCP takes for the same objects (PS3.4 B.2.3).
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from adapters.dicom import storage_answers as answers
from adapters.dicom.committing import Committing
from adapters.dicom.forward_settings import StorageSettings
from adapters.dicom.part10 import FileMeta, NotPart10, read_file_meta
from adapters.dicom.rewriting import CannotRewrite, Rewriter
from adapters.dicom.sender import ACCEPTED, CONTEXTS_MAX, Outgoing, Sent
from adapters.dicom.storing import PLAIN, Context, NotAssociated, StoreLine, proposals
from adapters.kept import KeptLines
from gateway.model import Again, Cause, CauseCode, Delivered, Delivery, Outcome, Payload, Refused
from gateway.model import Wait as WaitOutcome

BATCH_INSTANCES = 200
"""Objects whose heads are read before an association is asked for what they need."""
REMEMBERED = 256
"""Deliveries whose progress is remembered."""
REFUSED_IN_A_ROW_MAX = 20
"""A peer that refuses so many objects, and takes none, refuses the others too."""
ACCESS_WAIT = timedelta(minutes=1)
BEHIND = timedelta(milliseconds=100)
JOURNAL_WAIT = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Original:
    """An object that is kept: the number of its message, SOP class and instance UID."""

    number: int
    sop_class: str
    sop_instance: str


class OriginalsUnavailable(Exception):
    """Where the objects, or what was asked of peers, are kept cannot be asked now."""


class Originals(Protocol):
    """The objects of the studies, as they came. From any thread; every method raises
    OriginalsUnavailable."""

    def instances(self, message_id: int) -> Sequence[Original]:
        """What a delivered message stands for, in order of arrival: the objects that came since
        its study went the last time."""
        ...

    def payload(self, number: int) -> Payload:
        """The object as a DICOM file. Raises KeyError when its bytes are not there any more."""
        ...


class Ended(Exception):
    """An attempt is at its end before everything was sent."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome


@dataclass(slots=True)
class Progress:
    """What became of the objects of one delivery so far, by the number of their message."""

    sent: dict[int, Context] = field(default_factory=dict)
    """SOP class and instance UID under which each went."""
    refused: dict[int, Cause] = field(default_factory=dict)
    warnings: Counter[int] = field(default_factory=Counter)


class Turn:
    """The time of an attempt. In its first half objects are begun, so that each has at least
    the other half to go."""

    def __init__(self, seconds: Callable[[], float], whole: float) -> None:
        self._seconds = seconds
        self._half, self._end = seconds() + whole / 2, seconds() + whole

    def late(self) -> bool:
        """Whether nothing more is to be begun."""
        return self._seconds() >= self._half

    def left(self) -> float:
        """Seconds that are left."""
        return self._end - self._seconds()


class Remembered:
    """The progress of the deliveries that are under way, the latest ones."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Progress] = OrderedDict()

    def of(self, key: str) -> Progress:
        """That of one delivery, empty at first."""
        with self._lock:
            found = self._known.setdefault(key, Progress())
            self._known.move_to_end(key)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
            return found

    def forget(self, key: str) -> None:
        """A delivery is at its end."""
        with self._lock:
            self._known.pop(key, None)


class DicomDestination:
    """Sends objects to a storage SCP. Implements ``gateway.destinations.Destination``.

    Safe to share between threads: each has an association of its own.
    """

    transactional = False

    def __init__(
        self,
        name: str,
        settings: StorageSettings,
        originals: Originals,
        rewriter: Rewriter,
        *,
        committing: Committing | None = None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._settings = settings
        self._originals = originals
        self._rewriter = rewriter
        self._committing = committing
        self._seconds = seconds
        self._progress = Remembered()
        self._lines = KeptLines(lambda: StoreLine(settings))

    def deliver(self, delivery: Delivery, connection: Any | None) -> Outcome:
        """Make one attempt, within the settings' time. No exception leaves."""
        del connection
        line = self._lines.mine()
        key = delivery.idempotency_key
        progress = self._progress.of(key)
        turn = Turn(self._seconds, self._settings.timeout_seconds)
        try:
            outcome = self._deliver(line, delivery, progress, turn)
        except Ended as end:
            outcome = end.outcome
        except NotAssociated as error:
            outcome = self._not_associated(error)
        except OriginalsUnavailable:
            outcome = journal_away()
        finally:
            line.keep()
        if isinstance(outcome, Delivered | Refused):
            self._progress.forget(key)
        return outcome

    def close(self) -> None:
        """Release the associations. To be called when no attempt is made any more."""
        self._lines.close()

    def _not_associated(self, error: NotAssociated) -> Outcome:
        code = ":".join(map(str, error.rejected or ()))
        cause = answers.unavailable(str(error), code)
        if error.rejected is not None and error.rejected[0] == 1:
            if self._settings.permanent_rejection == "refuse":
                return Refused(
                    cause=Cause(
                        code=CauseCode.DESTINATION_REFUSED, detail=str(error), protocol_code=code
                    )
                )
            return WaitOutcome(cause=cause, after=ACCESS_WAIT)
        return Again(cause=cause)

    def _deliver(
        self, line: StoreLine, delivery: Delivery, progress: Progress, turn: Turn
    ) -> Outcome:
        committing, key = self._committing, delivery.idempotency_key
        if committing is not None and delivery.begun:
            pending = committing.pending(key, delivery.begun)
            if pending is not None:
                return self._asked(key, pending)
        instances = instances_of(self._originals, delivery)
        left = [
            each
            for each in instances
            if each.number not in progress.sent and each.number not in progress.refused
        ]
        for start in range(0, len(left), BATCH_INSTANCES):
            found = prepared(
                self._originals, self._rewriter, left[start : start + BATCH_INSTANCES], progress
            )
            for part in _by_contexts(found):
                self._send(line, part, progress, turn)
        outcome = concluded(progress)
        if committing is None or not isinstance(outcome, Delivered):
            return outcome
        line.close()
        sent = list(progress.sent.values())
        return self._asked(key, committing.ask(key, delivery.begun, sent))

    def _asked(self, key: str, outcome: Outcome) -> Outcome:
        """What came of a request for commitment: without one everything is sent again."""
        if isinstance(outcome, Again) and outcome.cause.code is CauseCode.OUTCOME_UNKNOWN:
            self._progress.forget(key)
        return outcome

    def _send(
        self,
        line: StoreLine,
        part: Sequence[tuple[Original, Outgoing]],
        progress: Progress,
        turn: Turn,
    ) -> None:
        wanted = frozenset((each.meta.sop_class, each.meta.transfer_syntax) for _, each in part)
        kept = line.stand(wanted, turn.left())
        for original, outgoing in part:
            if turn.late():
                raise Ended(behind(progress))
            fitting = self._fitting(line, outgoing)
            if isinstance(fitting, Cause):
                progress.refused[original.number] = fitting
                continue
            sent = line.store(*fitting, turn.left())
            if sent.status is None and kept and not turn.late():
                # The peer has closed what was kept; that it has the object by now does no harm.
                line.stand(wanted, turn.left())
                sent = line.store(*fitting, turn.left())
            kept = False
            self._judge(original, fitting[0], sent, progress)

    def _judge(
        self, original: Original, outgoing: Outgoing, sent: Sent, progress: Progress
    ) -> None:
        if sent.status is None:
            raise Ended(Again(cause=answers.unknown(f"an object was sent, and {sent.reason}")))
        outcome = answers.judged(sent.status)
        if isinstance(outcome, Delivered):
            meta = outgoing.meta
            progress.sent[original.number] = (meta.sop_class, meta.sop_instance)
            if sent.status in ACCEPTED and sent.status:
                progress.warnings[sent.status] += 1
            return
        if not isinstance(outcome, Refused):
            raise Ended(outcome)
        progress.refused[original.number] = outcome.cause
        if len(progress.refused) >= REFUSED_IN_A_ROW_MAX and not progress.sent:
            raise Ended(concluded(progress))

    def _fitting(self, line: StoreLine, outgoing: Outgoing) -> tuple[Outgoing, int] | Cause:
        """The object as the peer takes it, with its context; else why it takes it not."""
        meta = outgoing.meta
        context = line.context(meta.sop_class, meta.transfer_syntax)
        if context is not None:
            return outgoing, context
        if not line.takes(meta.sop_class):
            return answers.refused("the peer does not take objects of this SOP class", "0x0122")
        plain = next((each for each in PLAIN if line.context(meta.sop_class, each)), None)
        if plain is None:
            return answers.refused("the peer takes no transfer syntax in which it could be sent")
        if not self._settings.transcode:
            return answers.refused("the peer does not take the object's transfer syntax")
        try:
            changed = self._rewriter.decompressed(outgoing, plain)
        except CannotRewrite as error:
            return answers.refused(f"the peer does not take the object's transfer syntax: {error}")
        found = line.context(meta.sop_class, plain)
        assert found is not None, "the context was found before"
        return changed, found


def instances_of(originals: Originals, delivery: Delivery) -> Sequence[Original]:
    """What a delivery stands for. Raises Ended."""
    try:
        instances = originals.instances(delivery.message_id)
    except OverflowError as error:
        cause = Cause(code=CauseCode.UNREADABLE, detail=str(error))
        raise Ended(Refused(cause=cause)) from None
    if not instances:
        cause = Cause(code=CauseCode.UNREADABLE, detail="the message holds no DICOM object")
        raise Ended(Refused(cause=cause))
    return instances


def prepared(
    originals: Originals, rewriter: Rewriter, some: Sequence[Original], progress: Progress
) -> Iterator[tuple[Original, Outgoing]]:
    """Objects as they are to be sent; those that cannot be are noted as refused."""
    for original in some:
        try:
            payload = originals.payload(original.number)
            with payload.open() as stream:
                meta = read_file_meta(stream, payload.size)
            outgoing = Outgoing(
                payload.path or Path(),
                FileMeta(
                    original.sop_class,
                    original.sop_instance,
                    meta.transfer_syntax,
                    meta.data_set_offset,
                ),
                payload.data,
            )
            yield original, rewriter.changed(outgoing)
        except KeyError:
            progress.refused[original.number] = Cause(
                code=CauseCode.UNREADABLE, detail="an object's bytes are not in the store"
            )
        except (NotPart10, CannotRewrite) as error:
            progress.refused[original.number] = Cause(
                code=CauseCode.UNREADABLE, detail=f"an object cannot be sent: {error}"
            )


def journal_away() -> Outcome:
    """Our own journal does not answer: that is nobody's fault at the destination."""
    cause = answers.unavailable("the journal, from which the objects come, cannot be asked")
    return WaitOutcome(cause=cause, after=JOURNAL_WAIT, alone=True)


def behind(progress: Progress) -> Outcome:
    """The time of a turn is over: the rest goes in the next one."""
    cause = Cause(
        code=CauseCode.DESTINATION_UNAVAILABLE,
        detail=f"{len(progress.sent)} objects are there; the others follow",
    )
    return WaitOutcome(cause=cause, after=BEHIND, alone=True)


def concluded(progress: Progress) -> Outcome:
    """The outcome once everything was tried."""
    if progress.refused:
        first = next(iter(progress.refused.values()))
        number = len(progress.refused)
        every = number + len(progress.sent)
        return Refused(
            cause=Cause(
                code=first.code,
                detail=f"{number} of {every} objects are refused; the first: {first.detail}",
                location=first.location,
                protocol_code=first.protocol_code,
            )
        )
    said = f"{len(progress.sent)} objects stored"
    if progress.warnings:
        counts = ", ".join(f"{n} with 0x{code:04X}" for code, n in progress.warnings.items())
        said += f" ({counts})"
    return Delivered(evidence=said)


def _by_contexts(
    found: Iterator[tuple[Original, Outgoing]],
) -> Iterator[list[tuple[Original, Outgoing]]]:
    """The objects in order, in runs that need no more contexts than one association has."""
    part: list[tuple[Original, Outgoing]] = []
    wanted: frozenset[Context] = frozenset()
    for original, outgoing in found:
        more = wanted | {(outgoing.meta.sop_class, outgoing.meta.transfer_syntax)}
        if part and len(proposals(more)) > CONTEXTS_MAX:
            yield part
            part, more = [], frozenset({(outgoing.meta.sop_class, outgoing.meta.transfer_syntax)})
        wanted = more
        part.append((original, outgoing))
    if part:
        yield part
