"""Fixed values, checked against R4 and rebuilt for every resource that gets one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.mapping.compiling import Compiler
from gateway.mapping.document import Many, Node, Table, Text
from gateway.mapping.findings import nearest
from gateway.mapping.r4.definitions import UnknownPath
from gateway.mapping.serialise import DecimalText
from gateway.mapping.targets import Target, child
from gateway.mapping.vocabulary import texts, times
from gateway.mapping.vocabulary.invalid import Invalid


def compile_constant(c: Compiler, node: Node, target: Target) -> Callable[[], Any] | None:
    """A function that gives the value afresh; None when it does not fit (reported)."""
    value = constant_value(c, node, target)
    if value is None:
        return None
    return (lambda: _fresh(value)) if isinstance(value, dict | list) else (lambda: value)


def constant_value(c: Compiler, node: Node, target: Target) -> Any:
    """The value of a constant at a target with one type; None when it does not fit."""
    if target.repeats:
        items = node.items if isinstance(node, Many) else (node,)
        found = [constant_value(c, item, target.item()) for item in items]
        return None if None in found else found
    if isinstance(node, Many):
        c.error(node.place, "type", f"{target.path} does not repeat")
        return None
    kind = target.types[0]
    if isinstance(node, Text):
        return _primitive(c, node, target, kind)
    if kind in c.definitions.primitives:
        c.error(node.place, "type", f"{target.path} is a {kind}: a text is expected")
        return None
    return _object(c, node, target)


def _object(c: Compiler, node: Table, target: Target) -> dict[str, Any] | None:
    made: dict[str, Any] = {}
    sound = True
    for name, inner in node:
        try:
            below = child(c.definitions, target, name)
        except UnknownPath as wrong:
            c.unknown_element(node.places[name], wrong)
            sound = False
            continue
        if below.open:
            c.error(node.places[name], "type", f"say the type: one of {', '.join(below.types)}",
                    below.key_of(below.types[0]))  # fmt: skip
            sound = False
            continue
        value = constant_value(c, inner, below)
        sound = sound and value is not None
        made[below.key] = value
    coded = target.types[0] == "Coding" and target.systems is not None
    if (
        sound
        and coded
        and made.get("code") not in (target.systems or {}).get(made.get("system", ""), ())
    ):
        c.error(node.place, "binding", f"{target.path} must be of its required value set")
        return None
    return made if sound and made else None


def _primitive(c: Compiler, node: Text, target: Target, kind: str) -> Any:
    if kind not in c.definitions.primitives:
        c.error(node.place, "type", f"{target.path} is a {kind}: a map is expected")
        return None
    if target.codes is not None and node.text not in target.codes:
        known = f"one of {', '.join(sorted(target.codes))}"[:200]
        hint = nearest(node.text, target.codes) or known
        c.error(node.place, "binding", f"{node.text!r} is not a code of {target.path}", hint)
        return None
    try:
        return _CONVERT.get(kind, texts.string)(node.text)
    except (Invalid, ValueError) as wrong:
        c.error(node.place, "type", f"{target.path} is a {kind}: {wrong}")
        return None


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise Invalid("write true or false")
    return text == "true"


def _instant(text: str) -> str:
    return times.instant(text, "")[0]


def _date_time(text: str) -> str:
    found, note = times.date_time(text, "")
    if note:
        raise Invalid("a constant time says its offset")
    return found


_CONVERT: dict[str, Callable[[str], Any]] = {
    "boolean": _boolean,
    "integer": texts.integer,
    "positiveInt": lambda text: texts.integer(text, 1),
    "unsignedInt": lambda text: texts.integer(text, 0),
    "decimal": DecimalText,
    "date": lambda text: times.date(text)[0],
    "dateTime": _date_time,
    "instant": _instant,
    "time": lambda text: times.time(text)[0],
    "code": texts.code,
    "id": texts.identifier,
    "uri": texts.uri,
    "url": texts.uri,
    "canonical": texts.uri,
    "oid": texts.oid,
    "uuid": texts.uuid,
}


def _fresh(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _fresh(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_fresh(inner) for inner in value]
    return value
