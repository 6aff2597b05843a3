"""The explanation of the values that a target names."""

from __future__ import annotations

from gateway.workbench.elements import entry_and_path, leaves, value_at
from gateway.workbench.examining import Examined
from gateway.workbench.provenance import Explained, Provenance


def explain_target(examined: Examined, target: str = "") -> list[Explained]:
    """Where the values come from that stand at a target or below it.

    ``Observation[2].valueQuantity``, ``Patient.name``; empty for every value of every entry.
    Empty when nothing stands there. Raises NoTarget.
    """
    provenance = Provenance(examined)
    if not target:
        return [found for _, _, _, found in provenance.everything() if found is not None]
    kind, number, identifier, steps = entry_and_path(target)
    entries = [e for e in examined.mapped.entries if e.resource["resourceType"] == kind]
    if identifier:
        entries = [entry for entry in entries if entry.resource["id"] == identifier]
    elif number is not None:
        entries = entries[number : number + 1]
    explained: list[Explained] = []
    for entry in entries:
        there = value_at(entry.resource, steps)
        for inner, _ in leaves(there, steps) if there is not None else ():
            found = provenance.explain(entry.resource, inner)
            if found is not None:
                explained.append(found)
    return explained
