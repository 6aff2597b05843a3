"""What every test of the journal needs to do with it in one line."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from gateway.journal import deliveries, lanes, messages
from gateway.journal.append import append
from gateway.journal.arrival import prepare
from gateway.journal.journal import Journal
from gateway.journal.states import MessageState
from gateway.journal.tables import INLINE_BYTES_MAX
from gateway.journal.values import Appended, NewDelivery
from gateway.model import Cause, Entry, Format, Mapped, Payload, Received, Stage

START = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)


class HeldClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.time = START

    def __call__(self) -> datetime:
        return self.time

    def advance(self, seconds: float) -> datetime:
        self.time += timedelta(seconds=seconds)
        return self.time


class Bench:
    """A journal under test and what every test needs to do with it in one line."""

    def __init__(self, journal: Journal, clock: HeldClock) -> None:
        self.journal = journal
        self.clock = clock
        self._numbers = itertools.count(1)

    def received(
        self,
        body: bytes | None = None,
        *,
        source: str = "lab",
        control_id: str | None = None,
        group: str = "",
        answer: bytes = b"AA",
        attributes: dict[str, str] | None = None,
    ) -> Received:
        number = next(self._numbers)
        return Received(
            source=source,
            format=Format.DICOM if group else Format.HL7V2,
            payload=Payload.from_bytes(b"MSH|%d" % number if body is None else body),
            received_at=self.clock(),
            peer="192.0.2.1:4000",
            control_id=f"C{number}" if control_id is None else control_id,
            kind="ORU^R01",
            group=group,
            encoding="utf-8",
            answer=answer,
            attributes=attributes or {},
        )

    def append(
        self,
        *received: Received,
        state: MessageState = MessageState.RECEIVED,
        lane: str = "",
        cause: Cause | None = None,
        due_at: datetime | None = None,
    ) -> list[Appended]:
        """Append in one transaction, without the writer's thread."""
        arrivals = []
        for one in received:
            small = one.payload.size <= INLINE_BYTES_MAX
            if not small:
                self.journal.blobs.put(one.payload.read())
            arrivals.append(
                prepare(
                    one,
                    state=state,
                    lane=lane or f"in:{one.source}",
                    cause=cause,
                    group_due_at=due_at,
                    body=one.payload.read() if small else None,
                )
            )
        with self.journal.write() as connection:
            return append(connection, arrivals, self.clock())

    def message(self, **fields: object) -> int:
        """One more received message; its id."""
        return self.append(self.received(**fields))[0].message_id  # type: ignore[arg-type]

    def state(self, message_id: int) -> MessageState:
        with self.journal.read() as connection:
            found = messages.get(connection, message_id)
        assert found is not None
        return found.state

    def lease(self, lane: str, owner: str = "one", seconds: float = 60) -> int:
        with self.journal.write() as connection:
            token = lanes.lease(connection, lane, owner, timedelta(seconds=seconds), self.clock())
        assert token is not None
        return token

    def due(self) -> list[str]:
        with self.journal.read() as connection:
            return lanes.due(connection, self.clock())

    def route(
        self, message_id: int, patient: str, destinations: Sequence[str] = ("record",)
    ) -> list[int]:
        """Normalise and route a message to a patient's lanes; the deliveries' ids."""
        entry = Entry(resource={"resourceType": "Observation", "id": f"o{message_id}"})
        mapped = Mapped(mapping="hl7/oru", version="1", digest="d" * 64, entries=(entry,))
        with self.journal.write() as connection:
            messages.store_normalised(connection, self.journal.blobs, message_id, mapped)
            messages.move(
                connection,
                message_id,
                MessageState.ROUTED,
                event="routed",
                stage=Stage.ROUTE,
                patient_id=patient,
            )
            return deliveries.insert(
                connection,
                [
                    NewDelivery(
                        message_id=message_id,
                        lane=deliveries.lane_of(patient, destination),
                        patient_id=patient,
                        destination=destination,
                        sequence=message_id,
                        idempotency_key=f"{destination}:{message_id}",
                    )
                    for destination in destinations
                ],
            )
