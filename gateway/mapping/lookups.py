"""``table:`` and ``translate:``: codes through terminology tables."""

from __future__ import annotations

from typing import Any

from gateway.mapping.compiling import At, Compiler, Item
from gateway.mapping.conversions import (
    Convert,
    Converter,
    named_converter,
    untyped,
)
from gateway.mapping.document import Node, Table, Text
from gateway.mapping.findings import Place, nearest
from gateway.mapping.policies import Handler, compile_policy, word_of
from gateway.mapping.running import Run
from gateway.mapping.tables import CodeTable, Row, read_rows
from gateway.mapping.targets import Target
from gateway.mapping.vocabulary import texts
from gateway.ports import Scope, Value

_KINDS = ("code", "Coding", "CodeableConcept", "Quantity", "string", "uri", "boolean")


def read_table_key(c: Compiler, node: Node) -> CodeTable | None:
    """``table: name`` or ``table: {name, rows}``; None when wrong (reported)."""
    if isinstance(node, Text):
        return c.table(node)
    if not isinstance(node, Table):
        c.error(node.place, "wrong-shape", "table: is a name or {name, rows}")
        return None
    c.unknown_keys(node, ("name", "rows", "unknown", "table"), "table:")
    name = node.get("name") or node.get("table")
    found = c.table(name) if isinstance(name, Text) else None
    rows = node.get("rows")
    if found is None or rows is None:
        if name is None:
            c.error(node.place, "missing-key", "table: needs name:")
        return found
    if not isinstance(rows, Table):
        c.error(rows.place, "wrong-shape", "rows: is a map of codes")
        return None
    return found.with_rows(read_rows(rows, found.system, c.findings, fold=found.fold))


def table_converter(
    c: Compiler, rule: Table, target: Target, at: At, wanted: str
) -> Converter | None:
    """Codes of a code, Coding or CodeableConcept element through a table."""
    node = rule.items["table"]
    table = read_table_key(c, node)
    policy = c.policy_node("unknown", rule)
    if table is None:
        return None
    kind = c.type_of(wanted) if wanted in c.types else wanted
    if target.open and kind in target.types:
        target = target.typed(kind)
    if not target.open and kind not in target.types:
        kind = target.types[0]
    if kind not in _KINDS or target.open:
        c.error(node.place, "type", f"a table gives {', '.join(_KINDS)}, not {wanted}")
        return None
    if policy is None:
        c.error(rule.place, "fallible", f"{target.path}: the table may not have the code",
                "add unknown: flag (or keep-and-flag, skip, reject, {map: …})")  # fmt: skip
        return None
    _check_rows(c, table, target, kind, node.place)
    handler = compile_policy(c, "unknown", policy, target, at, place=rule.place)
    if handler is None:
        return None
    keep = _keep(c, rule, target, at, kind=kind, wanted=wanted, policy=policy)
    if keep is None and word_of(policy) in ("keep-and-flag", "convert"):
        return None
    return _looked_up(table, kind, handler, keep)


def _check_rows(c: Compiler, table: CodeTable, target: Target, kind: str, place: Place) -> None:
    """Every row must be of the required binding, when there is one."""
    for code, row in table.rows.items():
        if kind == "code" and target.codes is not None and row.code not in target.codes:
            c.error(row.place, "binding", f"{row.code!r} (for {code!r}) is not of {target.path}",
                    nearest(row.code, target.codes))  # fmt: skip
        elif kind == "boolean" and row.code not in ("true", "false"):
            c.error(row.place, "type", f"{row.code!r} is neither true nor false")
        elif kind in ("Coding", "CodeableConcept") and target.systems is not None:
            if row.code not in target.systems.get(row.system, ()):
                c.error(row.place, "binding", f"{row.code!r} is not of {target.path}")
        elif kind == "Coding" and not row.system:
            c.findings.warning(place, "no-system", f"the row of {code!r} has no code system")


def _keep(
    c: Compiler, rule: Table, target: Target, at: At, *, kind: str, wanted: str, policy: Node
) -> Convert | None:
    """What stands for a code that the table does not have, when the policy keeps it."""
    word = word_of(policy)
    if word == "keep-and-flag" and (target.codes is not None or target.systems is not None):
        c.error(policy.place, "binding", f"R4 binds the codes of {target.path}: none can be kept",
                "use flag, reject, drop or {map: …, reason: …}")  # fmt: skip
        return None
    if word == "convert" or (
        word == "keep-and-flag" and kind == "CodeableConcept" and wanted in c.types
    ):
        found = named_converter(c, rule, untyped(target), at, wanted)
        return found.convert if found is not None else None
    if word != "keep-and-flag":
        return None

    def keep(_run: Run, _scope: Scope, _item: Item, value: Value) -> Any:
        text = texts.code(value.text)
        if text is None or kind in ("code", "string", "uri"):
            return text
        if kind == "Quantity":
            return {"unit": value.text.strip()}
        return {"code": text} if kind == "Coding" else {"coding": [{"code": text}], "text": text}

    return keep


def _looked_up(table: CodeTable, kind: str, handler: Handler, keep: Convert | None) -> Converter:
    find = table.find
    made = {id(row): _made(row, kind) for row in table.rows.values()}
    silent = kind == "uri"

    def convert(run: Run, scope: Scope, item: Item, value: Value) -> Any:
        text = value.text
        row = find(text)
        if row is not None:
            if kind == "CodeableConcept":
                return {"coding": [dict(made[id(row)])], "text": text}
            if kind == "Quantity":
                return {"unit": text.strip(), **made[id(row)]}
            found = made[id(row)]
            return dict(found) if kind == "Coding" else found
        if not text.strip():
            return None
        if keep is None:
            return handler(run, scope, item, value)
        if not silent:
            handler(run, scope, item, value)
        return keep(run, scope, item, value)

    steps = (f"table {table.name} {table.version}",)
    return Converter(convert, kind, steps, reads=(), lasting=True)


def _made(row: Row, kind: str) -> Any:
    if kind in ("Coding", "CodeableConcept"):
        return row.coding()
    if kind == "Quantity":
        return {"system": row.system, "code": row.code}
    return row.code == "true" if kind == "boolean" else row.code


def translated(
    c: Compiler, rule: Table, target: Target, at: At, inner: Converter
) -> Converter | None:
    """A CodeableConcept with the translation of its first code put before the others."""
    node = rule.items["translate"]
    if inner.kind != "CodeableConcept" or inner.mixed:
        c.error(node.place, "type", "translate: is for a CodeableConcept")
        return None
    table = read_table_key(c, node)
    policy = node.get("unknown") if isinstance(node, Table) else None
    policy = policy or c.policy_node("unknown", rule)
    if table is None:
        return None
    if policy is None or word_of(policy) not in ("skip", "flag", "keep-and-flag", "reject"):
        c.error(node.place, "policy", "translate: needs unknown: keep-and-flag, skip or reject",
                "the original code stays in any case")  # fmt: skip
        return None
    handler = compile_policy(
        c, "unknown", policy, target.typed("CodeableConcept"), at, place=rule.place
    )
    if handler is None:
        return None
    find, convert = table.find, inner.convert

    def with_translation(run: Run, scope: Scope, item: Item, value: Value) -> Any:
        concept = convert(run, scope, item, value)
        codings = concept.get("coding") if concept is not None else None
        if not codings:
            return concept
        row = find(codings[0].get("code", ""))
        if row is None:
            handler(run, scope, item, value)
        else:
            codings.insert(0, row.coding())
        return concept

    steps = (*inner.steps, f"translate {table.name} {table.version}")
    return Converter(
        with_translation, "CodeableConcept", steps, inner.why, reads=inner.reads, lasting=True
    )
