"""Alerts: once when a group is born, once when it passes a threshold, once when it has ended.

Never one per message, and no value of a patient. What people were told stands in the journal,
so that a restart does not tell it again. A channel that is down is tried again, with growing
waits, in a thread of its own; nothing else waits for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

import structlog

from deadletter.causes import CAUSES
from gateway.failure import internal
from gateway.journal import alerting
from gateway.journal.alerting import LEASE, Alert, AlertState
from gateway.journal.journal import Journal, JournalUnavailable
from gateway.model import CauseCode

THRESHOLDS = (10, 100, 1_000, 10_000)
CALM = timedelta(seconds=60)
GIVE_UP = timedelta(days=3)
WAITS_SECONDS = (5, 15, 60, 300, 900)
"""Between attempts; the last one is repeated."""
LOOK_SECONDS = 2.0

log = structlog.get_logger("ecluse.desk")


class NotSent(Exception):
    """A channel did not take an alert. Says why, without a value of the alert."""


class Channel(Protocol):
    """A way to people."""

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        ...

    def send(self, alert: Alert) -> str:
        """Send it; what the other end answered. Raises NotSent. Returns within 30 seconds."""
        ...


class Alerts:
    """Decides and sends. :meth:`start` gives it a thread, :meth:`stop` takes it away."""

    def __init__(
        self,
        journal: Journal,
        channels: Sequence[Channel],
        *,
        thresholds: Sequence[int] = THRESHOLDS,
        calm: timedelta = CALM,
        link: Callable[[str], str] = lambda _fingerprint: "",
    ) -> None:
        self._journal = journal
        self._channels = {channel.name: channel for channel in channels}
        self._thresholds = tuple(sorted({1, *thresholds}))
        self._calm = calm
        self._link = link
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The ways to people that are configured."""
        return tuple(self._channels.values())

    def start(self) -> None:
        """Begin, when there is a channel."""
        if self._channels:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, name="ecluse-alerts", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End; an attempt in hand is given a second. Idempotent."""
        self._stopping.set()
        if self._thread is not None:
            # What is cut off here is sent again after the restart, under the same number.
            self._thread.join(1.0)
            self._thread = None

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.decide()
                self.send_due()
            except JournalUnavailable:
                log.debug("the journal is away")
            except Exception as error:  # noqa: BLE001  the thread must outlive any fault
                fault = internal(error)
                log.critical("alerts failed", error=fault.detail, at=fault.location)
            self._stopping.wait(LOOK_SECONDS)

    # --- what is worth an alert ---------------------------------------------------------

    def decide(self) -> int:
        """Write down what people should be told now; how many alerts."""
        now = self._journal.now()
        with self._journal.read() as connection:
            sizes = alerting.sizes(connection)
            levels = alerting.levels(connection)
        changes: list[tuple[str, str, int, int]] = []
        emptied: list[str] = []
        filled: list[str] = []
        for name, size in sizes.items():
            known = levels.get(name)
            reached = max(each for each in self._thresholds if each <= size)
            if known is None or reached > known.level:
                kind = "born" if known is None else "grown"
                changes.append((kind, name, known.level if known else 0, reached))
            elif known.empty_at is not None:
                filled.append(name)
        for name, known in levels.items():
            if name in sizes:
                continue
            if known.empty_at is None:
                emptied.append(name)
            elif now - known.empty_at >= self._calm:
                changes.append(("ended", name, known.level, 0))
        if not (changes or emptied or filled):
            return 0
        with self._journal.write() as connection:
            for name in emptied:
                alerting.note_empty(connection, name, now)
            for name in filled:
                alerting.note_empty(connection, name, None)
            told = 0
            for kind, name, before, after in sorted(changes, key=lambda each: each[1]):
                if not alerting.raise_level(connection, name, before, after, now):
                    continue
                body = self._body(kind, alerting.describe(connection, name))
                alerting.write(connection, kind, name, list(self._channels), body=body, now=now)
                told += 1
        return told

    def _body(self, kind: str, group: Mapping[str, Any]) -> dict[str, Any]:
        note = CAUSES[CauseCode(group["code"])]
        link = self._link(str(group["group"]))
        return {
            "kind": kind,
            **group,
            "title": note.title,
            "do": note.do,
            **({"link": link} if link else {}),
        }

    # --- sending ------------------------------------------------------------------------

    def send_due(self) -> int:
        """Make one attempt for each alert that is due; how many arrived."""
        with self._journal.read() as connection:
            found = alerting.due(connection, self._journal.now())
        sent = 0
        for alert in found:
            if self._stopping.is_set():
                break
            with self._journal.write() as connection:
                mine = alerting.take(connection, alert, self._journal.now() + LEASE)
            if mine:
                sent += self._attempt(alert)
        return sent

    def _attempt(self, alert: Alert) -> bool:
        channel = self._channels.get(alert.channel)
        if channel is None:
            self._settle(alert, AlertState.FAILED, "this channel is no longer configured")
            return False
        try:
            answer = channel.send(alert)
        except NotSent as fault:
            self._failed(alert, str(fault))
            return False
        except Exception as error:  # noqa: BLE001  a channel's fault is one of this alert only
            cause = internal(error)
            self._failed(alert, f"{cause.detail} at {cause.location}")
            return False
        self._settle(alert, AlertState.SENT, answer)
        log.info("an alert was sent", alert=alert.id, kind=alert.kind, channel=alert.channel)
        return True

    def _failed(self, alert: Alert, why: str) -> None:
        wait = timedelta(seconds=WAITS_SECONDS[min(alert.attempts, len(WAITS_SECONDS) - 1)])
        over = self._journal.now() + wait - alert.at >= GIVE_UP
        log.warning("an alert was not sent", alert=alert.id, channel=alert.channel, reason=why)
        if over:
            self._settle(alert, AlertState.FAILED, why)
        else:
            self._settle(alert, AlertState.DUE, why, wait)

    def _settle(
        self, alert: Alert, state: AlertState, answer: str, wait: timedelta | None = None
    ) -> None:
        now = self._journal.now()
        with self._journal.write() as connection:
            alerting.settle(
                connection, alert.id, state, answer, now=now,
                due_at=now + wait if wait is not None else None,
            )  # fmt: skip


def trial(now: datetime, channel: str) -> Alert:
    """An alert that says only that alerts arrive."""
    return Alert(
        id=0, at=now, kind="test", fingerprint="", channel=channel,
        body={"kind": "test", "title": "This is a test: alerts arrive here."},
        state=AlertState.DUE, attempts=0, due_at=now, answer="", ended_at=None,
    )  # fmt: skip
