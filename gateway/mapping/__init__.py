"""The mapping engine: load, check, compile, run.

A mapping turns the messages of one kind into FHIR R4 entries. ``docs/mapping.md``
is the language; :class:`Library` loads, :class:`Program` runs.
"""

from __future__ import annotations

from gateway.mapping.embedding import combined
from gateway.mapping.findings import Finding, MappingError
from gateway.mapping.library import Library, packaged_mappings
from gateway.mapping.program import Program
from gateway.mapping.running import MappingContext, MappingRejected
from gateway.mapping.twins import TwinResult, run_twins

__all__ = [
    "Finding",
    "Library",
    "MappingContext",
    "MappingError",
    "MappingRejected",
    "Program",
    "TwinResult",
    "combined",
    "packaged_mappings",
    "run_twins",
]
