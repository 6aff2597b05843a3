"""Application acknowledgements: given in exchanges of their own when messages have ended.

The journal is the truth: that an acknowledgement is owed was committed with its message;
its words, with its own control id, are committed before the first attempt; that it was
given is committed after the receiver confirmed it. A process that dies in between gives
it again, with the same control id and the same bytes, so that the receiver can tell.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection

from gateway.failure import internal
from gateway.journal import acknowledgements, messages
from gateway.journal.acknowledgements import Ended, Owed, Wording
from gateway.journal.journal import Journal, JournalUnavailable
from gateway.journal.states import AnswerState, MessageState
from gateway.journal.times import utc_now
from gateway.model import Cause, CauseCode, Stage
from gateway.ports import ReturnLink
from gateway.retry import Bury, Decision, Retry, RetryPolicy, Settled, decide

EVERY_SECONDS = 1.0
"""How often is looked for messages that have ended."""
BATCH = 32

log = structlog.get_logger("ecluse.acknowledgements")


class Acknowledgements:
    """One thread that gives the acknowledgements of one source over its return link.

    While the link is away, all wait together, as the ``policy`` says; one is
    given up at the policy's age, which is logged; the journal counts how each ended.
    """

    def __init__(
        self,
        journal: Journal,
        link: ReturnLink,
        policy: RetryPolicy,
        *,
        every: float = EVERY_SECONDS,
        now: Callable[[], datetime] = utc_now,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._journal = journal
        self._link = link
        self._policy = policy
        self._every = every
        self._failures = 0
        self._now = now
        self._random = chance
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin. What an earlier process of this journal left unfinished goes first."""
        self._stopping.clear()
        self._thread = threading.Thread(
            target=self._run, name=f"ecluse-acknowledgements-{self._link.source}", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End after the attempt in hand. Idempotent."""
        self._stopping.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        recovered = False
        while not self._stopping.is_set():
            more = False
            try:
                if not recovered:
                    self._recover()
                    recovered = True
                more = self.step()
            except JournalUnavailable:
                log.warning("the journal is away", source=self._link.source)
            except Exception as error:  # noqa: BLE001  the thread must outlive any fault
                fault = internal(error)
                log.critical(
                    "acknowledgements failed",
                    source=self._link.source,
                    error=fault.detail,
                    at=fault.location,
                )
            if not more:
                self._stopping.wait(self._every)
        self._link.close()

    def _recover(self) -> None:
        """Nobody else works on a SQLite journal: what is in hand was a dead process's."""
        if self._journal.dialect == "sqlite":
            with self._journal.write() as connection:
                acknowledgements.recover(connection, self._link.source, self._now())

    def step(self) -> bool:
        """Word what has ended, send what is due; True when there may be more to send.

        Raises JournalUnavailable.
        """
        self._word()
        return self._send()

    # --- wording ----------------------------------------------------------------------

    def _word(self) -> None:
        after: int | None = 0
        while after is not None and not self._stopping.is_set():
            with self._journal.read() as connection:
                found, after = acknowledgements.ended(connection, self._link.source, after=after)
            if found:
                wordings = [self._wording(each) for each in found]
                with self._journal.write() as connection:
                    acknowledgements.word(connection, wordings, self._now())

    def _wording(self, ended: Ended) -> Wording:
        positive = ended.state is MessageState.DELIVERED
        if ended.condition not in ("AL", "SU" if positive else "ER"):
            return Wording(message_id=ended.message_id)
        with self._journal.read() as connection:
            message = messages.get(connection, ended.message_id)
        if message is None:
            return Wording(message_id=ended.message_id)
        cause = None if positive else ended.cause or _UNEXPLAINED[ended.state]
        try:
            with messages.payload(self._journal, message).open() as stream:
                worded = self._link.word(stream, message.encoding, cause)
        except (KeyError, OSError) as error:
            log.warning(
                "no acknowledgement: a message's bytes are gone",
                message=message.id,
                error=type(error).__name__,
            )
            return Wording(message_id=ended.message_id)
        if worded is None:
            return Wording(message_id=ended.message_id)
        return Wording(
            message_id=ended.message_id,
            control_id=worded.control_id,
            code=worded.code,
            body=worded.body,
        )

    # --- sending ----------------------------------------------------------------------

    def _send(self) -> bool:
        source, now = self._link.source, self._now()
        with self._journal.read() as connection:
            if not acknowledgements.is_due(connection, source, now):
                return False
        hold = timedelta(seconds=4 * self._link.hold_seconds)
        with self._journal.write() as connection:
            owed = acknowledgements.claim(connection, source, now, hold, BATCH)
        # The rest of a batch that takes long is given back before others may take it.
        enough = now + hold / 2
        settled: list[tuple[Owed, Decision | None]] = []
        away: datetime | None = None
        for each in owed:
            if away is not None or self._stopping.is_set() or self._now() > enough:
                settled.append((each, None))
                continue
            decision = self._attempt(each)
            settled.append((each, decision))
            if isinstance(decision, Retry):
                self._failures += 1
                away = self._now() + self._policy.bound(self._failures) * self._random()
            else:
                self._failures = 0
        self._settle(settled, away or self._now())
        return bool(owed) and away is None

    def _attempt(self, owed: Owed) -> Decision:
        return decide(
            self._link.send(owed.body),
            attempts=owed.attempts,
            first_attempt_at=owed.first_at,
            now=self._now(),
            policy=self._policy,
            random=self._random,
        )

    def _settle(self, settled: Sequence[tuple[Owed, Decision | None]], due_at: datetime) -> None:
        now = self._now()
        with self._journal.write() as connection:
            for owed, decision in settled:
                if decision is None or isinstance(decision, Retry):
                    begun = decision is not None
                    acknowledgements.again(connection, owed.message_id, due_at, begun=begun)
                else:
                    self._end(connection, owed, decision, now)

    def _end(
        self, connection: Connection, owed: Owed, decision: Settled | Bury, now: datetime
    ) -> None:
        state = AnswerState.SENT
        detail: dict[str, str | int] = {
            "code": owed.code,
            "control_id": owed.control_id,
            "attempts": owed.attempts,
        }
        if isinstance(decision, Bury):
            code = decision.cause.code
            state = AnswerState.DEAD if code is CauseCode.GAVE_UP else AnswerState.REFUSED
            detail["cause"] = code.value
            log.error(
                "an application acknowledgement was not taken",
                source=self._link.source,
                message=owed.message_id,
                cause=code.value,
            )
        acknowledgements.end(connection, owed.message_id, state, now)
        messages.note(
            connection,
            owed.message_id,
            event=_EVENTS[state],
            stage=Stage.DELIVER,
            detail=detail,
            at=now,
        )


_EVENTS = {
    AnswerState.SENT: "acknowledged",
    AnswerState.REFUSED: "acknowledgement-refused",
    AnswerState.DEAD: "acknowledgement-dead",
}
_UNEXPLAINED = {
    MessageState.DISCARDED: Cause(
        code=CauseCode.DESTINATION_REFUSED, detail="A person decided that it does not go"
    ),
    MessageState.REFUSED: Cause(code=CauseCode.INTERNAL, detail="The message was refused"),
    MessageState.DEAD: Cause(code=CauseCode.INTERNAL, detail="The message could not be delivered"),
}
