"""What a wrong clock has left in the lanes, put right.

A machine's clock may have been ahead for a while, and the process that trusted it may have ended.
Then lanes are leased until, or have work from, an instant that is far away; what is in them
would wait for it. A lease that was taken away is safe: its fencing token is another one.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection

from gateway.bulk import Statement
from gateway.journal.lanes import rooms

RETRY_MAX = timedelta(days=1)
"""No retry waits longer for its turn than this, whatever its policy says."""


def put_right(connection: Connection, now: datetime, lease: timedelta) -> int:
    """End leases of more than twice ``lease`` from ``now``, and ring what is due already.

    Returns how many lanes were put right. Costs a look at the lanes that have work later.
    """
    beyond, soon = now + 2 * lease, now + lease
    count = 0
    for room in rooms(connection):
        count += len(_LEASED.rows(connection, room=room, beyond=beyond))
        _POSTPONED.rows(connection, room=room, now=now, beyond=now + RETRY_MAX)
        count += len(_DUE.rows(connection, room=room, now=now, soon=soon))
    return count


_LEASED = Statement(
    """
    UPDATE lane SET token = token + 1, lease_owner = NULL, lease_until = NULL
    WHERE room = :room AND next_at IS NOT NULL AND lease_until > :beyond RETURNING name
    """
)
_POSTPONED = Statement(
    """
    UPDATE delivery SET due_at = :now
    WHERE state = 'pending' AND due_at > :beyond AND lane IN (
      SELECT l.name FROM lane AS l WHERE l.room = :room AND l.next_at > :beyond)
    """
)
_DUE = Statement(
    """
    UPDATE lane SET next_at = :now
    WHERE room = :room AND next_at > :soon AND (
      EXISTS (SELECT 1 FROM message AS m WHERE m.lane = lane.name AND m.state = 'received')
      OR (SELECT d.due_at IS NULL OR d.due_at <= :now FROM delivery AS d
        WHERE d.lane = lane.name AND d.state = 'pending' ORDER BY d.sequence, d.id LIMIT 1))
    RETURNING name
    """
)
