"""The objects that one delivered message stands for, for destinations that send objects on.

Implements :class:`adapters.dicom.forwarding.Originals` over the journal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import or_, select

from adapters.dicom.forwarding import Original, OriginalsUnavailable
from gateway.journal import messages, tables
from gateway.journal.faults import JournalFault, JournalUnavailable
from gateway.journal.gatherings import MEMBERS_MAX
from gateway.journal.journal import Journal
from gateway.journal.states import MessageState
from gateway.model import Payload

_GONE = [s.value for s in (MessageState.REFUSED, MessageState.DISCARDED)]
_message = tables.message
REPAIRS_MAX = 100


class StudyRounds:
    """Rounds of studies: a carrier, and the instances that name it (``journal.gatherings``)."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def instances(self, message_id: int) -> Sequence[Original]:
        """See the protocol. Raises OverflowError for more than a study may have."""
        with asked(), self._journal.read() as connection:
            carriers, parent = [message_id], message_id
            for _ in range(REPAIRS_MAX):
                # A repaired copy takes the place of the one that the others name.
                found = connection.execute(
                    select(_message.c.parent_id).where(_message.c.id == parent)
                ).scalar_one_or_none()
                if found is None:
                    break
                parent = found
                carriers.append(parent)
            rows = connection.execute(
                select(_message.c.id, _message.c.kind, _message.c.control_id)
                .where(
                    or_(_message.c.id == message_id, _message.c.carrier_id.in_(carriers)),
                    _message.c.state.not_in(_GONE),
                    _message.c.group_key != "",
                )
                .order_by(_message.c.sequence, _message.c.id)
                .limit(MEMBERS_MAX + 1)
            ).all()
        if len(rows) > MEMBERS_MAX:
            raise OverflowError(f"a study of more than {MEMBERS_MAX} objects")
        return [Original(row.id, row.kind, row.control_id) for row in rows]

    def payload(self, number: int) -> Payload:
        """See the protocol."""
        with asked():
            with self._journal.read() as connection:
                message = messages.get(connection, number)
            if message is None:
                raise KeyError(number)
            return messages.payload(self._journal, message)


@contextmanager
def asked() -> Iterator[None]:
    """The journal's own faults as those of the destination's port."""
    try:
        yield
    except (JournalUnavailable, JournalFault) as error:
        raise OriginalsUnavailable(str(error)) from None
