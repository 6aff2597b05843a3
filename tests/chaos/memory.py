"""How much memory a process has had."""

from __future__ import annotations

import re
from pathlib import Path

MEMORY_MAX_MIB = 384
"""Resident memory of a gateway of the tests, whatever waits in its journal: half as much again as it
has after hundreds of thousands of messages."""


def peak_mib(pid: int) -> int:
    """The most that was resident since the process began, in MiB; 0 when it has ended."""
    try:
        found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text("ascii"))
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(found[1]) // 1024 if found else 0
