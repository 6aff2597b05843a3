"""Python's garbage collector, told what a gateway's work is like."""

from __future__ import annotations

import gc

GARBAGE_THRESHOLD = 50_000
"""Objects made, and not freed, after which Python looks for garbage among the young ones. A
batch of messages is some tens of thousands, and none of it is garbage while it is worked on: with
10,000 a twentieth of the time in which a backlog goes into the record went into looking."""


def load_without_collector() -> None:
    """From the beginning of a process until :func:`calm_collector`: hardly anything that loading
    makes is garbage in cycles, and looking for it is a tenth of the start."""
    gc.disable()


def calm_collector() -> None:
    """Keep Python's garbage collector from walking, every few batches, through what was loaded
    at the start and stays: mappings, definitions, code. It was a quarter of all time."""
    if gc.isenabled():
        gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD, 10, 10)
    gc.enable()
