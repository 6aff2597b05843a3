"""What loads and yet cannot be meant: rules that can never give anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from gateway.mapping import Finding
from gateway.mapping.document import Many, Node, Table, Text, read_document
from gateway.mapping.findings import Findings
from gateway.mapping.policies import leaves_nothing


def unreachable(files: Sequence[Path]) -> list[Finding]:
    """Rules of mapping files behind one that always gives something, as warnings.

    Files that cannot be read are the loader's to report.
    """
    findings = Findings()
    for path in files:
        document = read_document(path, path.name, Findings())
        if document is not None:
            for node in _tables(document.root):
                _first(node, findings)
                _policy(node, findings)
    return list(findings.all())


def _tables(node: Node) -> Iterator[Table]:
    if isinstance(node, Table):
        yield node
        for _, inner in node:
            yield from _tables(inner)
    elif isinstance(node, Many):
        for inner in node.items:
            yield from _tables(inner)


def _first(node: Table, findings: Findings) -> None:
    """What stands in a ``first:`` behind a constant without a condition."""
    listed = node.get("first")
    if not isinstance(listed, Many):
        return
    for number, item in enumerate(listed.items[:-1]):
        if _always(item):
            for behind in listed.items[number + 1 :]:
                findings.warning(
                    behind.place,
                    "unreachable",
                    "a rule before this one always gives something",
                    "put it before the constant, or give the constant a when:",
                )
            return


def _always(item: Node) -> bool:
    if not isinstance(item, Table) or item.get("when") is not None or item.get("each") is not None:
        return False
    if item.get("const") is not None:
        return True
    missing = item.get("missing")
    return missing is not None and isinstance(missing, Table) and not leaves_nothing(missing)


def _policy(node: Table, findings: Findings) -> None:
    """A policy for a step that a constant does not have, and ``missing`` on one that is there."""
    if not isinstance(node.get("const"), Text):
        return
    for which in ("missing", "invalid", "unknown"):
        policy = node.get(which)
        if policy is not None and node.get("when") is None:
            findings.warning(
                policy.place, "unreachable", f"a constant is never {which}", f"remove {which}:"
            )
