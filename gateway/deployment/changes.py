"""How one set of mapping files differs from another."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.deployment.files import FileSet


@dataclass(frozen=True, slots=True)
class Changes:
    """How one set differs from another, as paths in the set."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)

    def shape(self) -> dict[str, list[str]]:
        """As JSON."""
        return {
            "added": list(self.added),
            "changed": list(self.changed),
            "removed": list(self.removed),
        }


def changes(before: FileSet, after: FileSet) -> Changes:
    """What changed from one set to the other."""
    old, new = before.manifest, after.manifest
    return Changes(
        tuple(sorted(new.keys() - old.keys())),
        tuple(sorted(name for name in old.keys() & new.keys() if old[name] != new[name])),
        tuple(sorted(old.keys() - new.keys())),
    )
