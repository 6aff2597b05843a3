"""What binds a message to those that its source sent before: its number and its control id.

Decided within the transaction that keeps the message. The sequence number protocol is
that of HL7 v2.9.1 chapter 2, section 2.10.1: the number of the last message that was
accepted is kept per source, in the commit that keeps the message.
"""

from __future__ import annotations

from collections.abc import MutableSequence, Sequence
from typing import Protocol

from sqlalchemy import Connection, select

from gateway.journal import tables
from gateway.journal.arrival import Arrival
from gateway.journal.dialects import upsert
from gateway.journal.states import MessageState
from gateway.model import Cause, CauseCode, Format, Received

ANY_NUMBER = -1
"""Expected of a source whose next positive number will do (section 2.10.1, b and e)."""

_message = tables.message
_number = tables.sequence_number
_GATE = frozenset({CauseCode.FEEDING_OPPOSED, CauseCode.RECORD_CLOSED})


class Bound(Protocol):
    """A message on its way into the journal: ``gateway.journal.writer.Submission``."""

    received: Received

    def refused(self, cause: Cause) -> Arrival: ...


def check(
    connection: Connection,
    bound: Sequence[tuple[int, Bound]],
    arrivals: MutableSequence[Arrival],
) -> dict[int, int]:
    """Refuse what its number or its control id forbids, in place; advance the numbers.

    ``bound`` gives the messages to look at by their place in ``arrivals``. Returned is,
    by place, the number that the source should send next, for each message that had one.
    A message that was accepted before is left to be found a duplicate.
    """
    numbers = _Numbers(connection)
    # In one order, so that two processes never wait for each other in a circle.
    for source in sorted(
        {each.received.source for _, each in bound if each.received.sequence_number is not None}
    ):
        numbers.expected(source)
    before: dict[str, list[Arrival]] = {}
    expected = {}
    for place, submission in bound:
        received = submission.received
        cause = None
        earlier = before.setdefault(received.source, [])
        if received.sequence_number is not None:
            cause = numbers.take(received.source, received.sequence_number, arrivals[place])
            if cause is not None and _accepted(connection, arrivals[place], earlier):
                cause = None
        if cause is None and received.control_id_unique:
            cause = _reused(connection, arrivals[place], earlier, received.format)
        if cause is not None:
            arrivals[place] = submission.refused(cause)
        elif received.sequence_number is not None:
            numbers.accept(received.source, received.sequence_number, arrivals[place])
        if received.sequence_number is not None:
            expected[place] = numbers.expected(received.source)
        earlier.append(arrivals[place])
    numbers.store()
    return expected


class _Numbers:
    """The last accepted number of each source, as this transaction sees and changes it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._last: dict[str, int | None] = {}
        self._changed: set[str] = set()

    def expected(self, source: str) -> int:
        last = self._read(source)
        return ANY_NUMBER if last is None else last + 1

    def take(self, source: str, number: int, arrival: Arrival) -> Cause | None:
        """Why a message with a positive number cannot come now; None when it can."""
        expected = self.expected(source)
        if number <= 0 or arrival.state is MessageState.REFUSED or expected in (ANY_NUMBER, number):
            return None
        return Cause(
            code=CauseCode.SEQUENCE_NUMBER,
            detail=f"The expected sequence number is {expected}, not {number}",
            location="MSH-13",
            protocol_code="199",
        )

    def accept(self, source: str, number: int, arrival: Arrival) -> None:
        """Advance to the number of an accepted message; forget the last one on -1.

        A message that the patient's permission keeps out has been taken in its turn: no
        repetition could be accepted, so its number is not waited for.
        """
        refused = arrival.state is MessageState.REFUSED
        last = self._read(source)
        if number > 0:
            mine = last is None or number == last + 1
            gate = arrival.cause is not None and arrival.cause.code in _GATE
            if not mine or (refused and not gate):
                return
            self._last[source] = number
        elif number == ANY_NUMBER and _controls(arrival):
            self._last[source] = None
        else:
            return
        self._changed.add(source)

    def store(self) -> None:
        """Write what changed, in the order of the sources' names."""
        for source in sorted(self._changed):
            statement = upsert(self._connection, _number)
            self._connection.execute(
                statement.on_conflict_do_update(
                    index_elements=[_number.c.source], set_={"last": statement.excluded.last}
                ),
                {"source": source, "last": self._last[source]},
            )

    def _read(self, source: str) -> int | None:
        if source not in self._last:
            # A row to lock, so that two processes never accept the same number.
            self._connection.execute(
                upsert(self._connection, _number).on_conflict_do_nothing(),
                {"source": source, "last": None},
            )
            self._last[source] = self._connection.execute(
                select(_number.c.last).where(_number.c.source == source).with_for_update()
            ).scalar_one()
        return self._last[source]


def _controls(arrival: Arrival) -> bool:
    return arrival.cause is not None and arrival.cause.code is CauseCode.LINK_CONTROL


def _accepted(connection: Connection, arrival: Arrival, earlier: Sequence[Arrival]) -> bool:
    """Whether these very bytes were accepted before, in this transaction or an earlier one."""
    if any(each.key == arrival.key and each.state is not MessageState.REFUSED for each in earlier):
        return True
    source, control_id, key = arrival.key
    found = connection.execute(
        select(_message.c.id).where(
            _message.c.source == source,
            _message.c.control_id == control_id,
            _message.c.dedupe_key == key,
            _message.c.state != MessageState.REFUSED.value,
        )
    )
    return found.first() is not None


def _reused(
    connection: Connection, arrival: Arrival, earlier: Sequence[Arrival], form: Format
) -> Cause | None:
    """Why a control id may not come again; None when it is new, or the message the same.

    What was refused at the door does not count: it may be corrected and sent again.
    """
    source, control_id, key = arrival.key
    if not control_id or arrival.state is MessageState.REFUSED:
        return None
    same_batch = any(
        each.key[1] == control_id and each.key != arrival.key
        for each in earlier
        if each.state is not MessageState.REFUSED
    )
    if not same_batch:
        found = connection.execute(
            select(_message.c.dedupe_key).where(
                _message.c.source == source,
                _message.c.control_id == control_id,
                _message.c.state != MessageState.REFUSED.value,
                _message.c.parent_id.is_(None),
            )
        )
        keys = set(found.scalars())
        if not keys or key in keys:
            return None
    if form is Format.CDA:
        return Cause(
            code=CauseCode.CONTROL_ID_REUSED,
            detail="Another document was sent with this id",
            location="/ClinicalDocument/id",
        )
    return Cause(
        code=CauseCode.CONTROL_ID_REUSED,
        detail="Another message was sent with this control id",
        location="MSH-10",
        protocol_code="205",
    )
