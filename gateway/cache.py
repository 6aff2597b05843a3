"""Where this user's commands and gateways keep what they can make again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path | None:
    """``ecluse`` in ``$CACHE_DIRECTORY`` (systemd's), ``$XDG_CACHE_HOME`` or ``~/.cache``; None for
    a user without a home. It may not exist yet."""
    folder = os.environ.get("CACHE_DIRECTORY") or os.environ.get("XDG_CACHE_HOME")
    try:
        base = Path(folder.split(":")[0]) if folder else Path.home() / ".cache"
    except RuntimeError:
        return None
    return base / "ecluse"
