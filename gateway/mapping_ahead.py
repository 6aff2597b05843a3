"""The messages of one turn in a lane that are with a mapping process.

They go there in the order of the lane and come back in it, while the drain has the
transaction for those before. A message under which a process ended is done again
alone, in another; when that one ends too it is set apart, and is never read in the
gateway's own process.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto

from gateway.journal.messages import suspect
from gateway.journal.values import Message
from gateway.mapping import MappingContext
from gateway.mapping_processes import MappingProcess, MappingProcesses, ProcessLost
from gateway.mapping_wire import Task
from gateway.model import Cause, CauseCode, Payload
from gateway.normalise import Original, Reading, Unusable

PIPE_MESSAGE_BYTES_MAX = 1 << 20
"""Larger messages, and studies, are read and mapped in the drain's own thread."""

LOSSES_MAX = 2
"""Processes that may end under one message."""

ACCUSED_MAX = 1_000
"""Messages that are remembered for it."""

HOSTILE = Unusable(
    cause=Cause(
        code=CauseCode.HOSTILE_CONTENT,
        detail=f"{LOSSES_MAX} mapping processes in turn ended or hung while they read this message",
    )
)

Prepared = Reading | Unusable


class Not(Enum):
    """Why there is no result."""

    YET = auto()
    """It is not there in time; ask again."""
    THERE = auto()
    """No process does it: the thread must."""


class Accused:
    """How many mapping processes ended under a message. Shared by the turns of all lanes."""

    def __init__(self) -> None:
        self._losses: OrderedDict[int, int] = OrderedDict()

    def accuse(self, message_id: int) -> None:
        """One more."""
        self._losses[message_id] = self.losses(message_id) + 1
        if len(self._losses) > ACCUSED_MAX:
            self._losses.popitem(last=False)

    def losses(self, message_id: int) -> int:
        """How many."""
        return self._losses.get(message_id, 0)

    def settle(self, messages: Sequence[Message]) -> None:
        """These are decided on: a replay of one is tried anew."""
        if self._losses:
            for message in messages:
                self._losses.pop(message.id, None)


class Ahead:
    """One turn's use of a mapping process; for the thread that has the lane.

    ``payload`` gives a message's bytes (KeyError: they are not in the store).
    """

    def __init__(
        self,
        processes: MappingProcesses | None,
        accused: Accused,
        payload: Callable[[Message], Payload],
        contexts: Mapping[str, MappingContext],
    ) -> None:
        self._processes = processes
        self._accused = accused
        self._payload = payload
        self._contexts = contexts
        self._process: MappingProcess | None = None
        self._done: dict[int, Prepared] = {}

    @property
    def at_work(self) -> bool:
        """Whether a process is in hand."""
        return self._process is not None

    def suspect(self, message: Message) -> bool:
        """Whether a process, a gateway's or a mapping's, ended under this one before."""
        return self._processes is not None and (
            self._accused.losses(message.id) > 0 or suspect(message)
        )

    def send(self, messages: Sequence[Message]) -> None:
        """Give a process what it can have and has not yet: the messages up to the first
        suspect. Borrows one for the rest of the turn when there is one."""
        wanted = {message.id for message in messages}
        self._done = {each: done for each, done in self._done.items() if each in wanted}
        if self._processes is None or self.suspect(messages[0]):
            return
        if self._process is None:
            self._process = self._processes.borrow(len(messages))
        if self._process is None:
            return
        there = {*self._done, *self._process.in_flight}
        tasks = []
        for message in messages:
            if self.suspect(message):
                break
            task = None if message.id in there else self._task(message)
            if task is not None:
                tasks.append(task)
        self._process.send(tasks)

    def take(self, message: Message, until: float) -> Prepared | Not:
        """The result of a message that was sent, waited for until this monotonic time."""
        if self._process is None:
            return self._done.pop(message.id, Not.THERE)
        while message.id not in self._done:
            if self._process is None or message.id not in self._process.in_flight:
                return Not.THERE
            try:
                answer = self._process.receive(until - time.monotonic())
            except ProcessLost as lost:
                self._lose(self._process, str(lost))
                return Not.THERE
            if answer is None:
                return Not.YET
            if answer.prepared is not None:
                self._done[answer.message_id] = answer.prepared
            assert self._processes is not None
            self._processes.observe(answer.seconds)
        return self._done.pop(message.id)

    def take_alone(
        self, message: Message, until: float, begin: Callable[[Message], None]
    ) -> Prepared | Not:
        """The result of a suspect: alone in a process, which is waited for. ``begin`` is told
        when there is one, before it has the message."""
        assert self._processes is not None
        while self._accused.losses(message.id) < LOSSES_MAX:
            if self._process is None:
                self._process = self._processes.borrow_within(until - time.monotonic())
            if self._process is None:
                return Not.YET if self._processes.starting else Not.THERE
            begin(message)
            if message.id not in self._process.in_flight:
                task = self._task(message)
                if task is None:
                    return Not.THERE
                self._process.send([task])
            taken = self.take(message, until)
            if taken is not Not.THERE or self._process is not None:
                return taken
        return HOSTILE

    def end(self) -> None:
        """Give the process back. Idempotent."""
        process, self._process = self._process, None
        if process is not None and self._processes is not None:
            self._processes.give_back(process)

    def _lose(self, process: MappingProcess, reason: str) -> None:
        assert self._processes is not None
        self._process = None
        at = process.in_flight[0] if process.in_flight else None
        self._processes.lose(process, reason, message_id=at)
        if at is not None:
            self._accused.accuse(at)

    def _task(self, message: Message) -> Task | None:
        """What the process gets; None for what the thread must do."""
        if message.group_key or message.size > PIPE_MESSAGE_BYTES_MAX:
            return None
        try:
            payload = self._payload(message)
        except (KeyError, OSError):
            # The thread will meet the same and say so.
            return None
        original = Original(
            source=message.source,
            format=message.format,
            payloads=[payload],
            encoding=message.encoding,
        )
        return Task(
            message_id=message.id,
            original=original,
            context=self._contexts.get(message.source),
        )
