"""Stage 5: to which destinations a message's entries go. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.model import Cause, CauseCode, Format

LANE_SEPARATOR = "@"
INBOUND_PREFIX = "in:"


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationRule:
    """One destination's share. An empty ``sources`` or ``formats`` means all of them."""

    destination: str
    sources: frozenset[str] = frozenset()
    formats: frozenset[Format] = frozenset()

    def takes(self, source: str, format: Format | None = None) -> bool:  # noqa: A002
        """Whether messages of a source, in a format, go there."""
        if self.sources and source not in self.sources:
            return False
        return not self.formats or format in self.formats


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """One delivery to be made: which lane, under which idempotency key."""

    destination: str
    lane: str
    idempotency_key: str


def inbound_lane(source: str) -> str:
    """The lane in which one source's messages are normalised, in order of arrival."""
    return INBOUND_PREFIX + source


def delivery_lane(patient_id: str, destination: str) -> str:
    """The lane in which one patient's deliveries reach one destination, in order."""
    return f"{patient_id}{LANE_SEPARATOR}{destination}"


def lane_source(lane: str) -> str | None:
    """The source of an inbound lane; None for a delivery lane."""
    return lane[len(INBOUND_PREFIX) :] if lane.startswith(INBOUND_PREFIX) else None


def lane_destination(lane: str) -> str:
    """The destination of a delivery lane. Raises ValueError for another lane."""
    if lane.startswith(INBOUND_PREFIX) or LANE_SEPARATOR not in lane:
        raise ValueError("not a delivery lane")
    return lane.rsplit(LANE_SEPARATOR, 1)[1]


def idempotency_key(sequence: int, destination: str, digest: str, revision: int = 0) -> str:
    """The same for every attempt, retry and replay of the same entries.

    ``sequence`` is the message's place in the order of arrival; a repaired copy
    has its parent's, so that a repair which changes nothing in the entries is
    no second delivery. A ``revision`` (the number of a reprocessing) makes it another:
    what was said first, then otherwise, is said again when the mapping is taken back.
    """
    said = f"{sequence}\0{destination}\0{digest}" + (f"\0{revision}" if revision else "")
    return hashlib.sha256(said.encode()).hexdigest()


def route(
    digest: str,
    *,
    patient_id: str,
    source: str,
    sequence: int,
    rules: Sequence[DestinationRule],
    revision: int = 0,
    format: Format | None = None,  # noqa: A002
) -> tuple[Routed, ...] | Cause:
    """The deliveries of a message whose entries have this digest (``gateway.written``), or
    NO_DESTINATION when none takes its source."""
    routed = tuple(
        Routed(
            destination=rule.destination,
            lane=delivery_lane(patient_id, rule.destination),
            idempotency_key=idempotency_key(sequence, rule.destination, digest, revision),
        )
        for rule in rules
        if rule.takes(source, format)
    )
    if not routed:
        return Cause(
            code=CauseCode.NO_DESTINATION, detail="no destination is configured for this source"
        )
    return routed
