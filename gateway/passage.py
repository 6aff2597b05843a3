"""Stages 3 to 5 for a batch of read messages, inside one transaction.

Whose, whether and where to are decided message by message, in order, because
each may change the index for the next. What follows from it (entries,
deliveries, new states) is written at the end, in few statements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select, tuple_, update

from gateway.identify import Awaited, Identified, identify
from gateway.index import PatientIndex
from gateway.journal import deadletters, deliveries, messages, reprocessing, tables
from gateway.journal.blobs import Blobs
from gateway.journal.states import DeliveryState, MessageState
from gateway.journal.values import Message, Move, NewDelivery
from gateway.model import Cause, CauseCode, Mapped, Stage
from gateway.normalise import Reading, Unusable
from gateway.permit import permit
from gateway.route import DestinationRule, route
from gateway.written import name


@dataclass(frozen=True, slots=True)
class _Passed:
    message: Message
    mapped: Mapped
    entries: bytes
    patient_id: str
    deliveries: tuple[NewDelivery, ...]


class Passage:
    """One batch on its way from entries to deliveries.

    ``denied`` tells, after :meth:`finish`, whether a patient whose messages may
    have passed the gate now denies: the gate must forget what it remembers.
    """

    def __init__(
        self,
        connection: Connection,
        blobs: Blobs,
        index: PatientIndex,
        rules: Sequence[DestinationRule],
    ) -> None:
        self._connection = connection
        self._blobs = blobs
        self._index = index
        self._rules = rules
        self._passed: list[_Passed] = []
        self.denied = False

    def take(self, message: Message, prepared: Reading | Unusable) -> bool:
        """Decide on one message. False when it releases messages of its own lane that came
        before it: it keeps its place behind them and must be claimed again."""
        if isinstance(prepared, Unusable):
            self._stop(message, prepared.stage, prepared.cause)
            return True
        if isinstance(prepared.subjects, Cause):
            self._stop(message, Stage.IDENTIFY, prepared.subjects)
            return True
        found = identify(self._index, message.id, prepared.subjects)
        if isinstance(found, Cause):
            self._stop(message, Stage.IDENTIFY, found)
            return True
        if isinstance(found, Awaited):
            self._index.awaits(found.identifiers)
            return messages.hold(self._connection, message.id, found.identifiers, found.cause)
        if found.linked and self._index.is_awaited(found.linked):
            self._index.write()
            released = messages.release(self._connection, found.linked)
            if released and self._came_before(message, released):
                return False
        self._merge(found)
        self._pass_on(message, prepared, found)
        return True

    def _came_before(self, message: Message, released: Sequence[int]) -> bool:
        column = tables.message.c
        earlier = self._connection.execute(
            select(column.id)
            .where(
                column.id.in_(released),
                column.lane == message.lane,
                tuple_(column.sequence, column.id) < (message.sequence, message.id),
            )
            .limit(1)
        )
        return earlier.first() is not None

    def _merge(self, found: Identified) -> None:
        if not found.merged:
            return
        # What this batch has for the subsumed patient must move with the rest.
        self._write()
        for subsumed in found.merged:
            deliveries.move_lane(self._connection, subsumed, found.patient_id)

    def _pass_on(self, message: Message, reading: Reading, found: Identified) -> None:
        judged = permit(
            self._index,
            patient_id=found.patient_id,
            message_id=message.id,
            statement=reading.statement,
        )
        if judged.cause is not None:
            self.denied = self.denied or judged.changed or bool(found.linked or found.merged)
            messages.move(
                self._connection,
                message.id,
                MessageState.REFUSED,
                event="refused",
                stage=Stage.PERMIT,
                cause=judged.cause,
                patient_id=found.patient_id,
            )
            return
        named = name(reading.written, found.renamed, drop=found.dropped)
        revision = reprocessing.revision(self._connection, message.id) if _was_here(message) else 0
        routed = route(
            named.digest,
            patient_id=found.patient_id,
            source=message.source,
            sequence=message.sequence,
            rules=self._rules,
            revision=revision,
            format=message.format,
        )
        if isinstance(routed, Cause):
            self._stop(message, Stage.ROUTE, routed)
            return
        new = tuple(
            NewDelivery(
                message_id=message.id,
                lane=each.lane,
                patient_id=found.patient_id,
                destination=each.destination,
                sequence=message.sequence,
                idempotency_key=each.idempotency_key,
                merged_patients=found.merged,
                revision=revision,
                source=message.source,
            )
            for each in routed
        )
        self._passed.append(_Passed(message, reading.mapped, named.kept, found.patient_id, new))

    def _stop(self, message: Message, stage: Stage, cause: Cause) -> None:
        if cause.code is CauseCode.UNMAPPED:
            messages.move(
                self._connection,
                message.id,
                MessageState.UNMAPPED,
                event="unmapped",
                stage=stage,
                cause=cause,
            )
        else:
            deadletters.bury(self._connection, message.id, stage, cause)

    def finish(self) -> None:
        """Write what the index learnt, and entries, deliveries and states of all that passed."""
        self._write()

    def _write(self) -> None:
        self._index.write()
        passed, self._passed = self._passed, []
        if not passed:
            return
        # First, because it locks the messages in the order of their ids.
        messages.move_all(self._connection, [_routed(each) for each in passed])
        messages.store_all(
            self._connection,
            self._blobs,
            [(each.message.id, each.mapped, each.entries) for each in passed],
        )
        deliveries.insert(self._connection, [new for each in passed for new in each.deliveries])
        self._discard_replaced([each.message for each in passed])
        # A replay that made the same entries finds its deliveries done already.
        deliveries.conclude(
            self._connection, [each.message.id for each in passed if _was_here(each.message)]
        )

    def _discard_replaced(self, passed: Sequence[Message]) -> None:
        """Discard what a replaced message did not deliver and its repaired copy does not take
        over: the copy's own deliveries stand for it now."""
        parents = [message.parent_id for message in passed if message.parent_id is not None]
        if parents:
            column = tables.delivery.c
            self._connection.execute(
                update(tables.delivery)
                .where(
                    column.message_id.in_(parents),
                    column.state.in_((DeliveryState.DEAD.value, DeliveryState.WITHHELD.value)),
                )
                .values(state=DeliveryState.DISCARDED.value)
            )


def _was_here(message: Message) -> bool:
    """Whether a message, or the one that it replaces, was mapped before: it is a replay."""
    return bool(message.mapping) or message.parent_id is not None


def _routed(passed: _Passed) -> Move:
    return Move(
        message_id=passed.message.id,
        to=MessageState.ROUTED,
        event="routed",
        stage=Stage.ROUTE,
        patient_id=passed.patient_id,
        detail={"destinations": [new.destination for new in passed.deliveries]},
    )
