"""Elements of FHIR resources that anybody may have written: what is not of its type is absent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def items(resource: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """The objects of a list element."""
    found = resource.get(name)
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []


def mapping(resource: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object element; empty when there is none."""
    found = resource.get(name)
    return found if isinstance(found, Mapping) else {}


def text(resource: Mapping[str, Any], name: str) -> str:
    """A string element; empty when there is none."""
    found = resource.get(name)
    return found if isinstance(found, str) else ""
