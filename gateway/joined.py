"""Messages that came in fragments: what must be judged of the whole, and only now can be.

Each fragment was acknowledged when it was kept, so that a whole that breaks a profile is no
refusal at the door: it is a dead letter, and its later acknowledgement (enhanced mode) says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gateway.model import Cause, Flag
from gateway.normalise import Normaliser, Original, Reading, Unusable


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """``cause`` when the whole must not go on; ``flags`` to keep with one that may."""

    cause: Cause | None = None
    flags: tuple[Flag, ...] = ()


JudgeJoined = Callable[[str, Sequence[bytes]], Judged]
"""What a source (by its name) demands of the fragments of one message. Any thread."""


def unjudged(_source: str, _fragments: Sequence[bytes]) -> Judged:
    """Where no source demands anything."""
    return Judged()


def normalise_joined(
    normaliser: Normaliser, original: Original, judge: JudgeJoined
) -> Reading | Unusable:
    """As :meth:`gateway.normalise.Normaliser.normalise`, for all fragments of a message."""
    judged = judge(original.source, [payload.read() for payload in original.payloads])
    if judged.cause is not None:
        return Unusable(cause=judged.cause)
    reading = normaliser.normalise(original)
    if not judged.flags or isinstance(reading, Unusable):
        return reading
    mapped = replace(reading.mapped, flags=(*reading.mapped.flags, *judged.flags))
    return replace(reading, mapped=mapped)
