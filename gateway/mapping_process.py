"""A process that reads and maps messages for a gateway: ``python -m gateway.mapping_process``.

Started by :mod:`gateway.mapping_processes`, never by hand. It takes originals from
standard input and gives readings on standard output (:mod:`gateway.mapping_wire`), one
at a time and in order. It ends when its standard input does, so it outlives a killed
gateway by at most the message in hand, and the system ends it when one message takes
more processor time than is allowed.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, BinaryIO

from gateway import telemetry
from gateway.mapping_wire import Answer, Frames, Opening, Ready, Task, content_digest, frame
from gateway.normalise import Normaliser
from gateway.release import version

READ_BYTES = 1 << 16

MESSAGE_SECONDS_MAX = 60.0
"""For one message by the clock on the wall. The gateway gives up long before; this is for a
process whose gateway is gone and which sleeps in a message."""

Load = Callable[[Opening], tuple[Normaliser, str]]
"""From the gateway's opening to stage 2, and what it loaded (``Ready.content``)."""


def load(opening: Opening) -> tuple[Normaliser, str]:
    """Stage 2 as the gateway's settings want it."""
    from gateway.garbage import calm_collector
    from gateway.mapping_side import load_library, make_normaliser

    library = load_library(opening.settings, opening.folders)
    content = content_digest(library.programs, version())
    normaliser = make_normaliser(opening.settings, library)
    calm_collector()
    return normaliser, content


def serve(given: int, out: BinaryIO, load: Load = load) -> None:
    """Answer what comes on the descriptor ``given`` until it ends."""
    frames = Frames()
    opening = _next(given, frames)
    if not isinstance(opening, Opening):
        return
    telemetry.configure(opening.settings.log.level, opening.settings.log.format)
    normaliser, content = load(opening)
    _say(out, Ready(content=content))
    while isinstance(task := _next(given, frames), Task):
        _say(out, _answer(normaliser, task, opening.cpu_seconds))


def _next(given: int, frames: Frames) -> Any | None:
    """The next value; None at the end."""
    while (value := frames.next()) is None:
        data = os.read(given, READ_BYTES)
        if not data:
            return None
        frames.feed(data)
    return value


def _say(out: BinaryIO, value: Any) -> None:
    out.write(frame(value))
    out.flush()


def _answer(normaliser: Normaliser, task: Task, cpu_seconds: float) -> Answer:
    started = time.perf_counter()
    contexts = {} if task.context is None else {task.original.source: task.context}
    normaliser = replace(normaliser, contexts=contexts)
    # The signals' default action ends the process, even inside a C library's loop.
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
    signal.setitimer(signal.ITIMER_REAL, MESSAGE_SECONDS_MAX)
    try:
        prepared = normaliser.normalise(task.original)
    except OSError:
        prepared = None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
    seconds = time.perf_counter() - started
    return Answer(message_id=task.message_id, prepared=prepared, seconds=seconds)


def main(load: Load = load) -> None:
    """Serve on the standard streams."""
    # The gateway decides when this ends: what interrupts or stops a whole group of
    # processes must not take it away from a batch that is being finished.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Nobody reads any more: there is nothing left to do or to say.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    given, out = os.dup(0), os.dup(1)
    # Whatever else is written to standard output must not come between the frames.
    os.dup2(2, 1)
    with os.fdopen(out, "wb") as answers:
        serve(given, answers, load)


if __name__ == "__main__":
    main()
