"""What the operator of the gateway should know before anything else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from adapters.certificate import EXPIRY_NOTICE

if TYPE_CHECKING:
    from gateway.bootstrap import Gateway


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One notice: its tone, what it is about, what is the matter line by line, what to do."""

    tone: str
    heading: str
    lines: tuple[str, ...]
    advice: str


def notices(gateway: Gateway, now: datetime) -> tuple[Notice, ...]:
    """A configuration that was not taken or waits for a restart; certificates that expire."""
    last = gateway.configuration.last
    found = []
    if last.problems:
        found.append(Notice(
            tone="dead", heading="The configuration was not taken", lines=last.problems,
            advice="The gateway runs with the former one. Put it right, then: ecluse reload.",
        ))  # fmt: skip
    if last.restart:
        found.append(Notice(
            tone="held", heading="Changed settings wait for a restart", lines=last.restart,
            advice="Sources and logs have been changed already; these are read at the start.",
        ))  # fmt: skip
    return (*found, *_expiring(gateway, now))


def _expiring(gateway: Gateway, now: datetime) -> Iterator[Notice]:
    for source, held in gateway.sources.certificates().items():
        soon = [each for each in held if each.certificate.not_after - now <= EXPIRY_NOTICE]
        if not soon:
            continue
        over = any(each.certificate.not_after <= now for each in soon)
        yield Notice(
            tone="dead" if over else "held",
            heading=f"A certificate of {source} {'has expired' if over else 'expires soon'}",
            lines=tuple(
                f"{each.path} is valid until {each.certificate.not_after.date().isoformat()}"
                for each in soon
            ),
            advice="Put a new one in its place; it is taken up by itself.",
        )
