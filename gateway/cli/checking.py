"""How far the check of a set of mappings is, for whoever waits at a terminal."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.cli.access import Running
    from gateway.deployment.deploying import Checking
    from gateway.settings import Settings

EVERY_SECONDS = 0.5

_WORDS = {"loading": "checking mappings", "testing": "running tests"}


def show(checking: Checking | None) -> None:
    """One line on the terminal, in the place of the one before; nothing where there is none."""
    if not sys.stderr.isatty():
        return
    said = ""
    if checking is not None:
        said = f"{_WORDS.get(checking.step, checking.step)}: {checking.done} of {checking.of}"
    print(f"\r{said:<60}\r{said}", end="", file=sys.stderr, flush=True)  # noqa: T201


@contextmanager
def shown(settings: Settings, gateway: Running) -> Iterator[None]:
    """While the running gateway checks, show how far it is."""
    if not sys.stderr.isatty():
        yield
        return
    done = threading.Event()
    watch = threading.Thread(target=_watch, args=(settings, gateway, done), daemon=True)
    watch.start()
    try:
        yield
    finally:
        done.set()
        watch.join()
        show(None)


def _watch(settings: Settings, gateway: Running, done: threading.Event) -> None:
    from gateway.cli.access import Refused, ask
    from gateway.deployment.deploying import Checking

    while not done.wait(EVERY_SECONDS):
        # What cannot be told now is told by the answer that is waited for.
        with suppress(ConnectionError, Refused):
            told = ask(settings, gateway, "/mappings", method="GET").get("checking")
            show(Checking(**told) if told else None)
