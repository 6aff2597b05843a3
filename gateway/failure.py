"""An unexpected exception as a cause, without a value of anybody in it."""

from __future__ import annotations

import traceback
from pathlib import PurePath

from gateway.model import Cause, CauseCode

_PACKAGES = frozenset({"gateway", "adapters", "record", "deadletter"})


def internal(error: BaseException) -> Cause:
    """INTERNAL with the class of the error and the place in the code where it arose.

    The message of an exception may quote what it choked on, so it is left out.
    The location is ``room/file.py:line function``: the innermost of our own
    frames, because that is where the repair begins.
    """
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if _PACKAGES.intersection(PurePath(frame.filename).parts)]
    place = ""
    if frames:
        frame = (ours or list(frames))[-1]
        name = "/".join(PurePath(frame.filename).parts[-2:])
        place = f"{name}:{frame.lineno} {frame.name}"
    return Cause(code=CauseCode.INTERNAL, detail=type(error).__name__, location=place)
