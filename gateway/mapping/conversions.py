"""``as:``, ``table:`` and ``translate:``: how one value becomes a FHIR value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from gateway.mapping.compiling import TYPE_DEPTH_MAX, At, Compiler, Fn, Item, Paths, fits
from gateway.mapping.document import Table
from gateway.mapping.findings import Place, nearest
from gateway.mapping.policies import Handler, compile_policy
from gateway.mapping.running import Run
from gateway.mapping.targets import Target
from gateway.mapping.vocabulary.invalid import Invalid
from gateway.mapping.vocabulary.registry import CONVERSIONS, FAMILIES, TextConversion
from gateway.ports import Scope, Value

Convert = Callable[[Run, Scope, Item, Value], Any]
OfText = Callable[[Run, Scope, Item, str], Any]


@dataclass(slots=True)
class Converter:
    """``convert`` gives a FHIR value, or a (type, value) pair when ``mixed``.

    ``plain`` is a shorter way for conversions that need the text only and cannot
    fail. ``why`` says what makes it fallible. ``kind`` is the FHIR type given.
    """

    convert: Convert
    kind: str
    steps: tuple[str, ...]
    why: str = ""
    plain: Callable[[str], Any] | None = None
    mixed: bool = False
    shape: bool = False
    """Whether the rules of a type make the value, which then say themselves where from."""
    reads: Paths = None
    """The paths that make the result besides the value and the context; None: not known."""
    lasting: bool = False
    """Whether there are few different results, none of them of a patient alone."""
    verbatim: bool = False
    """Whether a text is taken as it is wherever ``texts.is_verbatim`` says so."""
    of_text: OfText | None = None
    """The same for what needs nothing of the value but a text that is not empty."""


Compound = Callable[[Compiler, Table, Target, At], Converter | None]

LASTING = frozenset({"code", "Coding", "CodeableConcept", "Quantity", "uri", "boolean"})
"""Types of which a source has few different values, none of them of a patient alone."""

COMPOUNDS: dict[str, tuple[tuple[str, ...], Compound]] = {}
"""Built-in conversions that need more than a text: name to (types, compiler)."""


def make_converter(c: Compiler, rule: Table, target: Target, at: At) -> Converter | None:
    """The conversion of a rule; None when there is none (reported)."""
    wanted = c.text(rule, "as")
    node = rule.get("as")
    place = node.place if node is not None else rule.place
    if wanted is None:
        wanted = _default(c, target, place)
        if wanted is None:
            return None
    if rule.get("table") is not None:
        from gateway.mapping.lookups import table_converter

        return table_converter(c, rule, target, at, wanted)
    converter = named_converter(c, rule, target, at, wanted)
    if converter is not None and rule.get("translate") is not None:
        from gateway.mapping.lookups import translated

        return translated(c, rule, target, at, converter)
    return converter


def _default(c: Compiler, target: Target, place: Place) -> str | None:
    """The conversion that the target's own type names."""
    if target.open:
        c.error(place, "type", f"{target.path} may be {', '.join(target.types)}",
                "say which with as:")  # fmt: skip
        return None
    kind = target.types[0]
    if target.location and kind not in c.types:
        known = [name for name, (types, _) in COMPOUNDS.items() if target.location in types]
        c.error(place, "type", f"{target.path} has elements of its own",
                f"use as: {known[0]}" if known else "give them with set:")  # fmt: skip
        return None
    return kind


def named_converter(
    c: Compiler, rule: Table, target: Target, at: At, name: str
) -> Converter | None:
    """The type or built-in conversion of a name, checked against the target."""
    node = rule.get("as")
    place = node.place if node is not None else rule.place
    if name in c.types:
        return _shaped(c, target, at, name, place)
    if name in COMPOUNDS:
        types, build = COMPOUNDS[name]
        if not any(fits(target, kind) for kind in types):
            _mismatch(c, target, place, name, types)
            return None
        return build(c, rule, target, at)
    conversion = CONVERSIONS.get(name)
    if conversion is None:
        known = [*c.types, *COMPOUNDS, *CONVERSIONS]
        c.error(place, "unknown-type", f"no type or conversion {name!r}", nearest(name, known))
        return None
    return _primitive(c, target, conversion, place)


def _mismatch(c: Compiler, target: Target, place: Place, name: str, types: tuple[str, ...]) -> None:
    expected = ", ".join(target.types)
    c.error(place, "type", f"{name} gives {', '.join(types)}; {target.path} is {expected}")


def _shaped(c: Compiler, target: Target, at: At, name: str, place: Place) -> Converter | None:
    kind = c.type_of(name)
    if not fits(target, kind):
        _mismatch(c, target, place, name, (kind,))
        return None
    if len(at.types) >= TYPE_DEPTH_MAX or name in at.types:
        c.error(place, "cyclic-type", f"{' → '.join((*at.types, name))} goes round")
        return None
    typed = target.typed(kind).item()
    key = (
        name, c.traced, c.watched, typed.types, typed.location, typed.codes, typed.references,
        typed.simple, typed.names_only,
    )  # fmt: skip
    if key not in c.shapes:
        inner = At(None, item=True, scoped=False, types=(*at.types, name))
        from gateway.mapping.rules import compile_type

        c.shapes[key] = compile_type(c, name, replace(typed, path=kind), inner)
    run = c.shapes[key]
    if run is None:
        return None
    return Converter(
        _placed(run, target.path), kind, (name,), shape=True, reads=(), lasting=kind in LASTING
    )


def _placed(convert: Convert, path: str) -> Convert:
    """A type's conversion whose flags name the element that it stands at.

    A type is compiled once for all its uses, so its own flags start at the type's name.
    """

    def placed(run: Run, scope: Scope, item: Item, value: Value) -> Any:
        flags = run.flags
        before = len(flags)
        result = convert(run, scope, item, value)
        if len(flags) != before:
            for index in range(before, len(flags)):
                flag = flags[index]
                _, dot, rest = flag.target.partition(".")
                flags[index] = replace(flag, target=f"{path}{dot}{rest}")
        return result

    return placed


def _primitive(
    c: Compiler, target: Target, conversion: TextConversion, place: Place
) -> Converter | None:
    kinds = (*conversion.types, *FAMILIES.get(conversion.types[0], ()))
    kind = next((kind for kind in kinds if fits(target, kind)), None)
    if kind is None:
        _mismatch(c, target, place, conversion.name, conversion.types)
        return None
    if target.codes is not None and conversion.name == "code":
        return _bound(target, conversion, kind)
    plain, convert = conversion.plain, conversion.convert
    if plain is not None:

        def from_text(_run: Run, _scope: Scope, _item: Item, value: Value) -> Any:
            return plain(value.text)

        quick = plain if not conversion.why else None
        return Converter(
            from_text,
            kind,
            (conversion.name,),
            conversion.why,
            quick,
            reads=(),
            lasting=kind in LASTING,
            of_text=lambda _run, _scope, _item, text: plain(text),
        )
    assert convert is not None

    def with_run(run: Run, _scope: Scope, _item: Item, value: Value) -> Any:
        return convert(value.text, run)

    return Converter(
        with_run,
        kind,
        (conversion.name,),
        conversion.why,
        reads=(),
        lasting=kind in LASTING,
        verbatim=conversion.verbatim,
        of_text=lambda run, _scope, _item, text: convert(text, run),
    )


def _bound(target: Target, conversion: TextConversion, kind: str) -> Converter:
    """A code that R4 binds: taken as it is when it is of the value set, else invalid."""
    codes, plain = target.codes or frozenset(), conversion.plain
    assert plain is not None

    def convert(_run: Run, _scope: Scope, _item: Item, value: Value) -> Any:
        code = plain(value.text)
        if code is not None and code not in codes:
            raise Invalid("not a code of the required value set")
        return code

    why = "R4 binds the codes of this element; use table:"
    return Converter(convert, kind, (conversion.name,), why, reads=(), lasting=True)


def guarded(
    c: Compiler, rule: Table, converter: Converter, at: At, *, written: Target, target: Target
) -> Convert | None:
    """The conversion with its ``invalid`` policy, its notes flagged, pairs for a choice.

    ``written`` is the target as the author wrote it (a choice may still be open).
    """
    handler: Handler | None = None
    node = c.policy_node("invalid", rule)
    place, path = rule.place, target.path
    if converter.why and node is None:
        c.error(place, "fallible", f"{path}: {converter.why}, and nothing says what then",
                "add invalid: flag (or skip, reject, drop, {text: PATH})")  # fmt: skip
        return None
    if node is not None and (converter.why or rule.get("invalid") is not None):
        handler = compile_policy(c, "invalid", node, written, at, place=place)
        if handler is None:
            return None
    convert = converter.convert
    keyed = _keyed(written, converter)

    def run_it(run: Run, scope: Scope, item: Item, value: Value) -> Any:
        try:
            result = convert(run, scope, item, value)
        except Invalid:
            run.pending.clear()
            if handler is not None:
                return handler(run, scope, item, value)
            run.flag("invalid-value", place, path, value.path)
            return None
        if run.pending:
            run.flush(place, path, value.path)
        return keyed(result) if keyed is not None and result is not None else result

    return run_it


def from_text(text_of: Callable[[Scope], str], converter: Converter, written: Target) -> Fn | None:
    """A quicker way to what :func:`guarded` gives: None wherever that has more to do, which is
    when there is no text, it is invalid or there is something to flag. None for no such way."""
    convert = converter.of_text
    if convert is None:
        return None
    keyed = _keyed(written, converter)

    def run_it(run: Run, scope: Scope, item: Item) -> Any:
        text = text_of(scope)
        if not text or run.pending:
            return None
        before = len(run.flags)
        try:
            result = convert(run, scope, item, text)
        except Invalid:
            result = None
        if result is None or run.pending:  # the other way begins anew
            run.pending.clear()
            del run.flags[before:]
            return None
        return keyed(result) if keyed is not None else result

    return run_it


def _keyed(written: Target, converter: Converter) -> Callable[[Any], Any] | None:
    if converter.mixed:
        if written.open:
            return lambda pair: (written.key_of(pair[0]), pair[1])
        return lambda pair: pair[1]
    if written.open:
        key = written.key_of(converter.kind)
        return lambda result: (key, result)
    return None


def untyped(target: Target) -> Target:
    """The target without its required codes (what a table's kept code is checked as)."""
    return replace(target, codes=None, systems=None)
