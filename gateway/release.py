"""Which release this is."""

from __future__ import annotations

from functools import cache


@cache
def version() -> str:
    """The installed version; ``0+unknown`` when the code runs without being installed."""
    from importlib import metadata

    try:
        return metadata.version("ecluse")
    except metadata.PackageNotFoundError:
        return "0+unknown"
