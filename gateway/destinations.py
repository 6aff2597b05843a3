"""What a destination implements: a place that takes entries. Protocols only.

Every destination is a :class:`Destination`; the other protocols say what some of them do
besides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from gateway.model import Delivery, Outcome


class Destination(Protocol):
    """A place that takes entries. One attempt gives one Outcome; no exceptions leave.

    ``transactional`` destinations live in the journal's own database: they get
    the open connection, and their effect and the mark are one transaction.
    Others get ``None`` and must honour ``delivery.idempotency_key``.
    """

    name: str
    transactional: bool

    def deliver(self, delivery: Delivery, connection: Any | None) -> Outcome:
        """Make one attempt."""
        ...


@runtime_checkable
class DeliversTogether(Protocol):
    """A transactional destination that takes many deliveries in one go."""

    def make_ready(self, deliveries: Sequence[Delivery]) -> Any:
        """Do what needs no transaction, so that nobody has to wait for it: what
        :meth:`deliver_together` takes. Raises as it does."""
        ...

    def deliver_together(self, ready: Any, connection: Any) -> Sequence[Outcome]:
        """Make one attempt for each delivery made ready, in their order, in the caller's
        transaction.

        Raises whatever keeps one of them from going: the caller then undoes the
        transaction and makes them one by one, which finds out which one it is.
        """
        ...


@runtime_checkable
class ReplacesEntries(Protocol):
    """A destination elsewhere at which an entry takes the place of the one of the same
    ``Type/id``, so that it must not be given an older one after a newer one."""

    replaces_entries: bool


@runtime_checkable
class Closes(Protocol):
    """A destination that keeps connections."""

    def close(self) -> None:
        """End them. Called when no attempt is made any more."""
        ...
