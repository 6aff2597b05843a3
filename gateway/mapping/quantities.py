"""Built-in conversions to quantities and ranges, with the unit from ``unit:``."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from gateway.mapping.compiling import At, Compiler, Item, Paths
from gateway.mapping.conversions import COMPOUNDS, Converter
from gateway.mapping.document import Table, Text
from gateway.mapping.running import Run
from gateway.mapping.targets import Target, text_target
from gateway.mapping.vocabulary import numbers, units  # noqa: F401 - units registers
from gateway.mapping.vocabulary.invalid import Invalid
from gateway.ports import Scope, Value, ValueState

Unit = tuple[Callable[[Run, Scope, Item], dict[str, Any] | None], Paths]
"""The unit's part of a Quantity, and the paths that it is made of."""

_WHY = "the text may be no number"
_WHY_RANGE = "the text may be no range of numbers"
_RATIO_MARKS = (":", "/")
_PRESENT = ValueState.PRESENT


def _unit(c: Compiler, rule: Table, at: At) -> Unit | None:
    """The rule of ``unit:`` as a function that gives the unit's part of a Quantity."""
    node = rule.get("unit")
    if node is None:
        return (lambda _run, _scope, _item: None), ()
    from gateway.mapping.rules import compile_rule

    if "Unit" not in c.types:
        compiled = compile_rule(c, node, text_target("unit"), at)
        if compiled is None:
            return None
        get = compiled.run
        return (lambda run, scope, item: _named(get(run, scope, item))), compiled.reads
    if isinstance(node, Text):
        node = Table({"from": node, "as": Text("Unit", node.place)}, node.place)
    compiled = compile_rule(c, node, Target("unit", "unit", ("Quantity",)), at)
    if compiled is None:
        return None
    return compiled.run, compiled.reads


def _named(text: str | None) -> dict[str, Any] | None:
    return {"unit": text} if text else None


def _amount(number: str, unit: dict[str, Any]) -> dict[str, Any]:
    return {"value": number, **unit}


def _reconciled(run: Run, given: dict[str, Any], written: str) -> dict[str, Any]:
    """The unit of a text that may name one itself: the same as the given one, or alone.

    Raises Invalid when the text and the message name different units.
    """
    if not written:
        return given
    if not given:
        run.pending.append("unit-in-value")
        return {"unit": written}
    if written.casefold() in {str(given.get(key, "")).casefold() for key in ("unit", "code")}:
        return given
    raise Invalid("the text names another unit than the message")


def _quantity(c: Compiler, rule: Table, target: Target, at: At) -> Converter | None:
    found = _unit(c, rule, at)
    if found is None:
        return None
    unit, reads = found
    simple = target.simple

    def convert(run: Run, scope: Scope, item: Item, value: Value) -> dict[str, Any]:
        return of_text(run, scope, item, value.text)

    def of_text(run: Run, scope: Scope, item: Item, text: str) -> dict[str, Any]:
        given = unit(run, scope, item) or {}
        if not text[-1:].isdigit():
            text = _without_unit(text, given)
        comparator, number, written, note = numbers.quantity(text)
        if comparator and simple:
            raise Invalid("a comparator has no place here")
        if note:
            run.pending.append(note)
        if written:
            given = _reconciled(run, given, written)
        made = {"value": number, **given}
        if comparator:
            made["comparator"] = comparator
        return made

    return Converter(convert, "Quantity", ("Quantity",), _WHY, reads=reads, of_text=of_text)


def _sampled(c: Compiler, rule: Table, target: Target, at: At) -> Converter | None:
    """HL7 v2 SN: comparator, number, separator or suffix, number (v2.9.1 chapter 2A)."""
    missing = [
        kind for kind in ("Quantity", "Range", "Ratio", "string") if kind not in target.types
    ]
    if missing:
        c.error(rule.place, "type", f"SampledNumeric may give a {missing[0]}; {target.path} cannot",
                "write the element as an open choice: value")  # fmt: skip
        return None
    found = _unit(c, rule, at)
    if found is None:
        return None
    unit, reads = found

    def part(value: Value, number: str) -> str:
        found = value.part(number)
        return found.text.strip() if found.state is _PRESENT else ""

    def convert(run: Run, scope: Scope, item: Item, value: Value) -> tuple[str, Any] | None:
        parts = (part(value, "2"), part(value, "3"), part(value, "4"))
        comparator = part(value, "1")
        text = "".join((comparator, *parts))
        given = unit(run, scope, item) or {}
        try:
            return _structured(run, comparator, parts, given)
        except Invalid:
            run.pending.append("invalid-value")
            return ("string", text) if text else None

    return Converter(convert, "Quantity", ("SampledNumeric",), mixed=True, reads=reads)


def _structured(
    run: Run, comparator: str, parts: tuple[str, str, str], unit: dict[str, Any]
) -> tuple[str, Any]:
    first, mark, second = parts
    if not second and not mark:
        sign, number, written, note = numbers.quantity(f"{comparator}{first}")
        if note:
            run.pending.append(note)
        made = _amount(number, _reconciled(run, unit, written))
        if sign:
            made["comparator"] = sign
        return "Quantity", made
    numbered = bool(first and second)
    if numbered and mark == "-" and not comparator:
        low, high = numbers.decimal(first)[0], numbers.decimal(second)[0]
        if Decimal(low) > Decimal(high):  # R4 (rng-2) wants the low end first
            raise Invalid("the low end is above the high end")
        return "Range", {"low": _amount(low, unit), "high": _amount(high, unit)}
    if numbered and mark in _RATIO_MARKS and comparator in ("", "="):
        numerator, denominator = numbers.decimal(first)[0], numbers.decimal(second)[0]
        return "Ratio", {"numerator": {"value": numerator}, "denominator": {"value": denominator}}
    if first and mark and not second:  # a suffix: «2^+» is the category 2+ (chapter 2A)
        return "string", f"{comparator}{first}{mark}"
    raise Invalid("not one of the shapes of SN")


def _range(text_kept: bool) -> Callable[[Compiler, Table, Target, At], Converter | None]:
    def build(c: Compiler, rule: Table, _target: Target, at: At) -> Converter | None:
        found = _unit(c, rule, at)
        if found is None:
            return None
        unit, reads = found

        def convert(run: Run, scope: Scope, item: Item, value: Value) -> dict[str, Any] | None:
            text = value.text.strip()
            if not text.strip("[]() "):
                return None
            given = unit(run, scope, item) or {}
            low, high, written, note = numbers.interval(_without_unit(text, given))
            if note:
                run.pending.append(note)
            both = _reconciled(run, given, written)
            made: dict[str, Any] = {}
            if low is not None:
                made["low"] = _amount(low, both)
            if high is not None:
                made["high"] = _amount(high, both)
            if text_kept:
                made["text"] = text
            return made

        kind = "Observation.referenceRange" if text_kept else "Range"
        name = "ReferenceRange" if text_kept else "Range"
        return Converter(convert, kind, (name,), _WHY_RANGE, reads=reads, lasting=True)

    return build


def _without_unit(text: str, unit: dict[str, Any]) -> str:
    """The text without the message's own unit at its end (units such as ``10*3/uL``)."""
    for key in ("unit", "code"):
        name = str(unit.get(key, ""))
        if name and text.endswith(name):
            return text[: -len(name)].rstrip()
    return text


COMPOUNDS["Quantity"] = (
    ("Quantity", "Age", "Count", "Distance", "Duration", "MoneyQuantity", "SimpleQuantity"),
    _quantity,
)
COMPOUNDS["SampledNumeric"] = (("Quantity", "Range", "Ratio", "string"), _sampled)
COMPOUNDS["ReferenceRange"] = (("Observation.referenceRange",), _range(text_kept=True))
COMPOUNDS["Range"] = (("Range",), _range(text_kept=False))
