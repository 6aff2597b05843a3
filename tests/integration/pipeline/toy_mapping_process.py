"""A mapping process with the toy format, whose messages may break it.

What a ``bomb`` did is written to the file that TOY_BOMBS names, a line each.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from gateway import mapping_process
from gateway.mapping import MappingContext
from gateway.mapping_wire import Opening
from gateway.model import Format, Mapped
from gateway.normalise import Normaliser
from tests.integration.pipeline.rig import ToyLibrary, ToyProgram, ToyReader, ToyScope

BOMBS = Path(os.environ.get("TOY_BOMBS", os.devnull))


def _went_off(name: str) -> int:
    with BOMBS.open("a") as file:
        file.write(f"{name}\n")
    return BOMBS.read_text().splitlines().count(name)


def _kill() -> None:
    _went_off("kill")
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_once() -> None:
    if _went_off("kill-once") == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def _spin() -> None:
    _went_off("spin")
    while True:
        pass


def _sleep() -> None:
    _went_off("sleep")
    time.sleep(1000)


def _say() -> None:
    print("this is no frame")


class Zoned(ToyProgram):
    """Shows what it was told of the source: the zone is its version."""

    def run(self, root: ToyScope, context: MappingContext, *, trace: bool = False) -> Mapped:
        mapped = super().run(root, context, trace=trace)
        return replace(mapped, version=context.zone or self.version)


def load(opening: Opening) -> tuple[Normaliser, str]:
    del opening
    reader = ToyReader()
    bombs: dict[str, Callable[[], None]] = {
        "kill": _kill, "kill-once": _kill_once, "spin": _spin, "sleep": _sleep, "say": _say
    }  # fmt: skip
    reader.bombs.update(bombs)
    library = ToyLibrary()
    library.program = Zoned()
    normaliser = Normaliser(readers={Format.HL7V2: reader}, library=library)  # type: ignore[arg-type, dict-item]
    return normaliser, "toy"


if __name__ == "__main__":
    mapping_process.main(load)
