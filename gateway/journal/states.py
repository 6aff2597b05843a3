"""The states of a message and of a delivery, and the only ways between them."""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import overload


class MessageState(StrEnum):
    """Where a message stands."""

    RECEIVED = "received"
    """Kept and acknowledged; its lane will normalise it."""
    GATHERING = "gathering"
    """An instance that waits until its study has been quiet."""
    GATHERED = "gathered"
    """An instance whose study was normalised; ``carrier_id`` names the message that did."""
    HELD = "held"
    """Waits for an identity; goes by itself when a message brings it."""
    UNMAPPED = "unmapped"
    """No mapping takes it yet."""
    ROUTED = "routed"
    """Its deliveries are on their way."""
    DELIVERED = "delivered"
    """Every destination has it."""
    REFUSED = "refused"
    """Refused by the protocol or by the patient's permission; kept as evidence."""
    DEAD = "dead"
    """Could not go; a dead letter says why."""
    DISCARDED = "discarded"
    """A person decided that it does not go."""
    REPLACED = "replaced"
    """A repaired child took its place."""


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"
    DISCARDED = "discarded"
    WITHHELD = "withheld"
    """Not sent because the patient's permission forbids it."""


class AnswerState(StrEnum):
    """Where the answer to a message's end stands, which its sender wanted."""

    AWAITED = "awaited"
    """The message has not reached its end."""
    DUE = "due"
    """Worded, and on its way: perhaps sent, not yet confirmed."""
    SENT = "sent"
    """The sender has it."""
    UNWANTED = "unwanted"
    """The message ended in a way of which the sender does not want to hear."""
    REFUSED = "refused"
    """The sender refused it."""
    DEAD = "dead"
    """It could not be given: every attempt failed."""
    UNLINKED = "unlinked"
    """The source has no return link."""


class IllegalTransition(Exception):
    """A change of state that the table does not know."""

    def __init__(self, before: StrEnum, after: StrEnum) -> None:
        super().__init__(f"{type(before).__name__}: {before} may not become {after}")
        self.before = before
        self.after = after


_M = MessageState
_D = DeliveryState

TRANSITIONS: MappingProxyType[MessageState, frozenset[MessageState]] = MappingProxyType(
    {
        _M.RECEIVED: frozenset(
            {_M.HELD, _M.UNMAPPED, _M.ROUTED, _M.DELIVERED, _M.REFUSED, _M.DEAD, _M.DISCARDED}
        ),
        _M.GATHERING: frozenset({_M.RECEIVED, _M.GATHERED, _M.DEAD, _M.DISCARDED}),
        _M.GATHERED: frozenset(),
        _M.HELD: frozenset({_M.RECEIVED, _M.REFUSED, _M.DEAD, _M.DISCARDED, _M.REPLACED}),
        _M.UNMAPPED: frozenset({_M.RECEIVED, _M.DEAD, _M.DISCARDED, _M.REPLACED}),
        _M.ROUTED: frozenset(
            {_M.RECEIVED, _M.HELD, _M.DELIVERED, _M.REFUSED, _M.DEAD, _M.DISCARDED}
        ),
        _M.DELIVERED: frozenset({_M.RECEIVED, _M.ROUTED}),
        _M.REFUSED: frozenset({_M.RECEIVED, _M.ROUTED, _M.DISCARDED, _M.REPLACED}),
        # A second destination may fail after the first one did; and a person may
        # discard the delivery that died where the others went through.
        _M.DEAD: frozenset(
            {
                _M.RECEIVED,
                _M.ROUTED,
                _M.DELIVERED,
                _M.REFUSED,
                _M.DEAD,
                _M.DISCARDED,
                _M.REPLACED,
            }
        ),
        _M.DISCARDED: frozenset(),
        _M.REPLACED: frozenset(),
    }
)
"""For each state of a message, the states that may follow."""

DELIVERY_TRANSITIONS: MappingProxyType[DeliveryState, frozenset[DeliveryState]] = MappingProxyType(
    {
        # Pending to pending is one attempt that failed and will be made again.
        _D.PENDING: frozenset(DeliveryState),
        _D.DELIVERED: frozenset(),
        _D.DEAD: frozenset({_D.PENDING, _D.DEAD, _D.DISCARDED}),
        _D.DISCARDED: frozenset(),
        _D.WITHHELD: frozenset({_D.PENDING, _D.DISCARDED}),
    }
)
"""For each state of a delivery, the states that may follow."""


@overload
def check(before: MessageState, after: MessageState) -> None: ...
@overload
def check(before: DeliveryState, after: DeliveryState) -> None: ...
def check(before: MessageState | DeliveryState, after: MessageState | DeliveryState) -> None:
    """Raise :class:`IllegalTransition` unless ``after`` may follow ``before``."""
    if isinstance(before, MessageState) and isinstance(after, MessageState):
        legal = after in TRANSITIONS[before]
    elif isinstance(before, DeliveryState) and isinstance(after, DeliveryState):
        legal = after in DELIVERY_TRANSITIONS[before]
    else:
        legal = False
    if not legal:
        raise IllegalTransition(before, after)
