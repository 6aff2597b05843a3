"""Run a source of mail in a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from adapters.mail.imap import ImapSource
from adapters.mail.listener import SmtpSource

MailSource = TypeVar("MailSource", ImapSource, SmtpSource)


class Loop:
    """The loop in which a source runs, for what a test wants of the source meanwhile."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def run(self, coroutine: object) -> object:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)  # type: ignore[arg-type]


@contextlib.contextmanager
def running(make: Callable[[], MailSource]) -> Iterator[tuple[MailSource, Loop]]:
    found: list[tuple[MailSource, asyncio.AbstractEventLoop]] = []
    started, ending = threading.Event(), threading.Event()
    faults: list[BaseException] = []

    async def run() -> None:
        source = make()
        await source.start()
        found.append((source, asyncio.get_running_loop()))
        started.set()
        await asyncio.to_thread(ending.wait)
        await source.stop()
        await source.stop()  # it is idempotent

    def guarded() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            faults.append(error)
            started.set()

    thread = threading.Thread(target=guarded)
    thread.start()
    started.wait(30)
    try:
        if faults:
            raise faults[0]
        source, loop = found[0]
        yield source, Loop(loop)
    finally:
        ending.set()
        thread.join(timeout=60)
    assert not thread.is_alive()
    assert not faults, faults
