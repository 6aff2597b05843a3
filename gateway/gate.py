"""The permission gate at the door: refuses early what stage 4 would refuse.

Stage 4 decides; the gate only spares the sender a positive answer for something
that will not go in. It is asked within the transaction that keeps the messages. It may
let too much in, and never keeps too much out:

- "may pass" is remembered per identifier for ``remember_seconds`` and forgotten
  at once when this process changes a permission; another process's change is
  seen when the memory expires;
- "may not pass" is never remembered: each refusal is read from the journal;
- the bytes of a message that was accepted before the patient opposed pass: its sender
  missed our answer, and gets the stored one instead of a refusal;
- a message whose patient is named by a message of this process that carries a
  permission and is not processed yet passes: what that message says is not
  known here, and stage 4, which has the order of arrival, knows it.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from sqlalchemy import Connection, select

from gateway.index import read_patients, survivor_of
from gateway.journal.arrival import dedupe_key
from gateway.journal.enrolment import owners
from gateway.journal.fitting import fit
from gateway.journal.states import MessageState
from gateway.journal.tables import KEY_MAX
from gateway.journal.tables import message as message_table
from gateway.journal.values import Patient
from gateway.model import Cause, Identifier, Received
from gateway.permit import denial
from gateway.subjects import Key, key_of

REMEMBERED_MAX = 100_000
"""Identifiers remembered as passing; the longest known ones go first."""

PENDING_MAX = 10_000
"""Permission-carrying messages tracked; beyond it the oldest are looked up no more."""


class PermissionGate:
    """Thread-safe. One per process that takes messages or runs stage 4."""

    def __init__(
        self,
        *,
        remember_seconds: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._remember = remember_seconds
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._passing: OrderedDict[Key, float] = OrderedDict()
        self._pending: OrderedDict[object, tuple[frozenset[Key], int | None]] = OrderedDict()
        self._generation = 0

    def remembered(self, subject: Sequence[Identifier]) -> bool:
        """Whether the memory alone lets this patient pass. Never touches the disk."""
        with self._lock:
            return self._remembered(subject, self._monotonic())

    def _remembered(self, subject: Sequence[Identifier], now: float) -> bool:
        """Called with the lock held."""
        passing = self._passing
        for each in subject:
            if passing.get((each.system, each.value), 0.0) > now:
                return True
        return not subject

    def judge(self, connection: Connection, messages: Sequence[Received]) -> list[Cause | None]:
        """For each message the cause for which it may not go in, or None.

        Reads the journal as ``connection`` sees it, at most a few statements for all.
        """
        now = self._monotonic()
        with self._lock:
            asked = [each for each in messages if not self._remembered(each.subject, now)]
        if not asked:
            return [None] * len(messages)
        with self._lock:
            generation = self._generation
        verdicts = self._judge_all(connection, [each.subject for each in asked])
        until = self._monotonic() + self._remember
        with self._lock:
            if generation == self._generation:
                for each, verdict in zip(asked, verdicts, strict=True):
                    if verdict is None:
                        self._remember_all(each.subject, until)
        causes = {
            id(each): cause
            for each, cause in zip(asked, verdicts, strict=True)
            if cause is not None and not _kept_before(connection, each)
        }
        return [causes.get(id(each)) for each in messages]

    def _judge_all(
        self, connection: Connection, subjects: Sequence[Sequence[Identifier]]
    ) -> list[Cause | None]:
        owned = owners(connection, (each for subject in subjects for each in subject))
        patients: dict[str, Patient] = {}
        read_patients(connection, owned.values(), patients)
        verdicts: list[Cause | None] = []
        for subject in subjects:
            named = {owned[key_of(each)] for each in subject if key_of(each) in owned}
            found = {survivor_of(patients, each).id for each in named}
            cause = None
            # When they name several, stage 3 will say so; at the door nothing is known.
            if len(found) == 1:
                patient = patients[found.pop()]
                cause = denial(patient.feeding, patient.record)
            if cause is not None and self._statement_pending(connection, subject):
                cause = None
            verdicts.append(cause)
        return verdicts

    def _remember_all(self, subject: Sequence[Identifier], until: float) -> None:
        for each in subject:
            self._passing[key_of(each)] = until
            self._passing.move_to_end(key_of(each))
        while len(self._passing) > REMEMBERED_MAX:
            self._passing.popitem(last=False)

    def _statement_pending(self, connection: Connection, subject: Iterable[Identifier]) -> bool:
        keys = {key_of(each) for each in subject}
        with self._lock:
            named = {
                token: message_id
                for token, (identifiers, message_id) in self._pending.items()
                if not keys.isdisjoint(identifiers)
            }
        ids = [message_id for message_id in named.values() if message_id is not None]
        waiting = set(
            connection.execute(
                select(message_table.c.id).where(
                    message_table.c.id.in_(ids), message_table.c.state == MessageState.RECEIVED
                )
            ).scalars()
        )
        with self._lock:
            for token, message_id in named.items():
                if message_id is not None and message_id not in waiting:
                    self._pending.pop(token, None)
        return bool(waiting) or len(ids) < len(named)

    def expect(self, subject: Sequence[Identifier]) -> object:
        """A message that carries a permission is about to be kept; gives its token."""
        token = object()
        with self._lock:
            self._pending[token] = (frozenset(key_of(each) for each in subject), None)
            while len(self._pending) > PENDING_MAX:
                self._pending.popitem(last=False)
        return token

    def kept(self, token: object, message_id: int | None) -> None:
        """It was kept under this id, or not at all (None)."""
        with self._lock:
            expected = self._pending.get(token)
            if expected is None:
                return
            if message_id is None:
                del self._pending[token]
            else:
                self._pending[token] = (expected[0], message_id)

    def changed(self) -> None:
        """A permission or a link of the index changed: forget every "may pass"."""
        with self._lock:
            self._generation += 1
            self._passing.clear()


def _kept_before(connection: Connection, received: Received) -> bool:
    """Whether these very bytes were accepted before."""
    accepted = dedupe_key("accepted", received.control_id, received.payload.sha256)
    known = connection.execute(
        select(message_table.c.id)
        .where(
            message_table.c.source == received.source,
            message_table.c.control_id == fit(received.control_id, KEY_MAX),
            message_table.c.dedupe_key == accepted,
            message_table.c.state != MessageState.REFUSED.value,
        )
        .limit(1)
    ).first()
    return known is not None
