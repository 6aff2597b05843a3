"""What R4 says of contained resources and of the one around them (DomainResource):
ids, and whether each is named from outside (dom-3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.mapping.r4.problems import Finding, ProblemCode


def ids_of(contained: Any) -> set[str]:
    """The ids of contained resources."""
    return {
        item["id"]
        for item in (contained if type(contained) is list else ())
        if type(item) is dict and type(item.get("id")) is str
    }


def unnamed_in(resource: Mapping[str, Any]) -> list[Finding]:
    """dom-3: each contained resource is named from the one around it, or names that one."""
    contained = resource["contained"]
    if type(contained) is not list:
        return []
    named = _local_names(resource)
    for item in contained:
        if type(item) is not dict or type(item.get("id")) is not str or item["id"] in named:
            continue
        # A reference «#» inside a contained resource is its link to the one around it.
        if "" not in _local_names(item):
            text = "a contained resource that nothing refers to (dom-3)"
            return [(".contained", ProblemCode.CONTAINED, text)]
    return []


def _local_names(resource: Any) -> set[str]:
    """What follows ``#`` in every text of a resource: a Reference, a canonical, a URI."""
    names: set[str] = set()
    stack = [resource]
    while stack:
        item = stack.pop()
        if type(item) is str:
            if item.startswith("#"):
                names.add(item[1:])
        elif type(item) is dict:
            stack.extend(item.values())
        elif type(item) is list:
            stack.extend(item)
    return names
