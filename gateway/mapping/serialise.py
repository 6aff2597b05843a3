"""The mapping engine's way to :mod:`gateway.serialise`, where the journal finds it too."""

from __future__ import annotations

from gateway.serialise import DecimalText, dumps, loads

__all__ = ["DecimalText", "dumps", "loads"]
