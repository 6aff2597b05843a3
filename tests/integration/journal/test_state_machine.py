"""Whatever is done in whatever order, the journal agrees with a model of a few lines."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from gateway.journal import deadletters, lanes, messages
from gateway.journal.journal import Journal
from gateway.journal.states import TRANSITIONS, IllegalTransition, MessageState
from gateway.model import Cause, CauseCode, Identifier, Payload, Stage
from tests.integration.journal.bench import Bench, HeldClock

M = MessageState
LANE = "in:lab"
CAUSE = Cause(code=CauseCode.IDENTITY_AWAITED)


class Machine(RuleBasedStateMachine):
    """The model: for each message its state, for each held one what it waits for."""

    template: Path
    sent = Bundle("sent")

    @initialize()
    def open(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        shutil.copy(self.template, self.folder / "journal.sqlite")
        self.clock = HeldClock()
        self.journal = Journal(
            f"sqlite:///{self.folder / 'journal.sqlite'}",
            blob_directory=self.folder / "blobs",
            now=self.clock,
        )
        self.bench = Bench(self.journal, self.clock)
        self.states: dict[int, MessageState] = {}
        self.waits: dict[int, str] = {}
        self.arrivals = 0

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            self.journal.close()
            shutil.rmtree(self.folder)

    @rule(target=sent, body=st.integers(0, 30), refused=st.booleans())
    def arrive(self, body: int, refused: bool) -> object:
        state = M.REFUSED if refused else M.RECEIVED
        received = self.bench.received(b"%d" % body, control_id=f"{body}")
        appended = self.bench.append(received, state=state, lane=LANE)[0]
        assert appended.duplicate == (appended.message_id in self.states)
        self.arrivals += 1
        if appended.duplicate:
            assert appended.state == self.states[appended.message_id]
            return multiple()
        self.states[appended.message_id] = state
        return appended.message_id

    @rule(message_id=sent, to=st.sampled_from(M))
    def move(self, message_id: int, to: MessageState) -> None:
        if to is M.REPLACED:
            return  # only by a child
        legal = to in TRANSITIONS[self.states[message_id]]
        try:
            with self.journal.write() as connection:
                messages.move(connection, message_id, to, event="x", stage=Stage.ROUTE)
            assert legal
            self.states[message_id] = to
            self.waits.pop(message_id, None)
        except IllegalTransition:
            assert not legal

    @rule(message_id=sent, value=st.sampled_from("abc"))
    def hold(self, message_id: int, value: str) -> None:
        legal = M.HELD in TRANSITIONS[self.states[message_id]]
        try:
            with self.journal.write() as connection:
                assert messages.hold(
                    connection, message_id, [Identifier(system="s", value=value)], CAUSE
                )
            assert legal
            self.states[message_id] = M.HELD
            self.waits[message_id] = value
        except IllegalTransition:
            assert not legal

    @rule(value=st.sampled_from("abc"))
    def release(self, value: str) -> None:
        with self.journal.write() as connection:
            found = messages.release(connection, [Identifier(system="s", value=value)])
        assert found == sorted(n for n, waits in self.waits.items() if waits == value)
        for message_id in found:
            self.states[message_id] = M.RECEIVED
            del self.waits[message_id]

    @rule(message_id=sent)
    def bury(self, message_id: int) -> None:
        legal = M.DEAD in TRANSITIONS[self.states[message_id]]
        try:
            with self.journal.write() as connection:
                deadletters.bury(connection, message_id, Stage.NORMALISE, CAUSE)
            assert legal
            self.states[message_id] = M.DEAD
            self.waits.pop(message_id, None)
        except IllegalTransition:
            assert not legal

    @rule(target=sent, message_id=sent)
    def repair(self, message_id: int) -> object:
        legal = M.REPLACED in TRANSITIONS[self.states[message_id]]
        try:
            with self.journal.write() as connection:
                child = messages.append_child(
                    connection,
                    self.journal.blobs,
                    message_id,
                    Payload.from_bytes(b"mended"),
                    actor="a",
                    reason="r",
                )
            assert legal
        except IllegalTransition:
            assert not legal
            return multiple()
        self.states[message_id] = M.REPLACED
        self.waits.pop(message_id, None)
        self.states[child.id] = M.RECEIVED
        return child.id

    @rule()
    def drain(self) -> None:
        """Work the lane as a worker does; it comes in order, and leaves the lane quiet."""
        with self.journal.write() as connection:
            token = lanes.lease(connection, LANE, "w", timedelta(), self.clock())
        due = [n for n, state in self.states.items() if state is M.RECEIVED]
        if token is None:
            assert not due
            return
        claimed = []
        while True:
            with self.journal.write() as connection:
                batch = messages.claim(connection, LANE, token, 3)
                for message in batch:
                    messages.move(
                        connection, message.id, M.ROUTED, event="routed", stage=Stage.ROUTE
                    )
            if not batch:
                break
            claimed += batch
        assert sorted(m.id for m in claimed) == sorted(due)
        assert [(m.sequence, m.id) for m in claimed] == sorted((m.sequence, m.id) for m in claimed)
        with self.journal.write() as connection:
            assert not lanes.release(connection, LANE, token, self.clock())
        for message in claimed:
            self.states[message.id] = M.ROUTED

    @invariant()
    def the_journal_agrees(self) -> None:
        if not hasattr(self, "journal"):
            return
        expected: dict[tuple[str, MessageState], int] = {}
        for state in self.states.values():
            expected["lab", state] = expected.get(("lab", state), 0) + 1
        with self.journal.read() as connection:
            assert messages.counts(connection) == expected
            ledger = messages.ledger(connection)
            waiting = {n: messages.waiting_for(connection, n) for n in self.states}
        assert {n: w[0].value for n, w in waiting.items() if w} == self.waits
        if M.RECEIVED in self.states.values():
            assert self.bench.due() == [LANE]
        if ledger:
            line = asdict(ledger["lab"])
            assert line["received"] == self.arrivals
            assert line["received"] == line["accepted"] + line["refused"] + line["duplicates"]


@pytest.mark.timeout(180)
def test_the_journal_agrees_with_the_model(migrated_sqlite: Path) -> None:
    Machine.template = migrated_sqlite
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=15,
            # Explaining traces every line, which takes minutes.
            phases=[Phase.generate, Phase.shrink],
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
