"""How a mapping reads CDA: paths checked against the schema and compiled to direct walks.

The notation is in :mod:`adapters.cda.paths`. Compiled paths walk lxml's tree and use
no XPath engine: nested XPath over a few thousand nodes can take minutes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lxml import etree

from adapters.cda.document import CEILING, Limits, read_document
from adapters.cda.paths import ANY, Axis, CdaPath, Ending, Predicate, Step, parse
from adapters.cda.structure import NAMESPACES, structure, tag_of
from adapters.cda.values import (
    CdaElement,
    CdaValue,
    Reading,
    attribute_value,
    compared_values,
    ending_value,
)
from gateway.model import Format, Payload
from gateway.ports import CompiledPath, CompiledScope, PathError, Scope, SourceLanguage, Unreadable

VERSIONS = ("R2",)

Walk = Callable[[etree._Element], Sequence[etree._Element]]


@dataclass(frozen=True, slots=True)
class Within:
    """What a scope's element may be: schema type names. The ``kind`` of every scope."""

    types: tuple[str, ...]


class CdaReader:
    """Bytes of one document to the root scope of :class:`CdaLanguage`. Pure.

    Takes one payload of at most ``limits.bytes_max`` bytes. What a source had limited
    more strictly was refused before it was kept.
    """

    format = Format.CDA

    def __init__(self, limits: Limits = CEILING) -> None:
        self.limits = limits

    def read(self, payloads: Sequence[Payload], *, encoding: str = "") -> CdaElement:
        """Read one document. Raises Unreadable, as :func:`read_document` says."""
        if len(payloads) != 1:
            raise Unreadable(f"CDA is read one document at a time, not {len(payloads)}")
        document = read_document(payloads[0], encoding=encoding, limits=self.limits)
        return CdaElement(Reading(document, find), document.root)


class CdaLanguage(SourceLanguage):
    """The notation of CDA paths as the mapping engine sees it."""

    format = Format.CDA

    def root(self, versions: Sequence[str]) -> Within:
        """The ClinicalDocument. PathError for a version other than ``R2``."""
        _check_versions(versions)
        return Within((structure().root,))

    def path(self, text: str, *, versions: Sequence[str], within: object) -> CompiledPath:
        """Compile a path after checking every name in it. Raises PathError."""
        _check_versions(versions)
        parsed = parse(text)
        checked = _check(parsed, _types(within))
        walk = _compile(parsed)

        def read(scope: Scope) -> Sequence[CdaValue]:
            return _read(_element(scope), parsed, walk)

        return CompiledPath(text, read, _declared(parsed, checked.types), checked.repeats)

    def scope(
        self, spec: Mapping[str, str], *, versions: Sequence[str], within: object
    ) -> CompiledScope:
        """Compile ``{path: …}``: one scope per element found, in document order."""
        _check_versions(versions)
        unknown = sorted(set(spec) - {"path"})
        if unknown or "path" not in spec:
            raise PathError("CDA is walked by path:", "path")
        parsed = parse(spec["path"])
        if parsed.ending is not Ending.ELEMENT:
            raise PathError(f"CDA path {parsed.text!r}: a scope is an element", "")
        checked = _check(parsed, _types(within))
        walk = _compile(parsed)

        def each(scope: Scope) -> Iterator[Scope]:
            start = _element(scope)
            for element in walk(_start(start, parsed)):
                yield CdaElement(start.reading, element)

        return CompiledScope(spec["path"], each, Within(checked.types))

    def facts(self, root: Scope) -> Mapping[str, str]:
        """``version`` (``R2``), ``kind`` (the document type code), ``codeSystem``,
        ``templateIds`` (roots, parted by blanks), ``id`` (root or root^extension),
        ``setId``, ``versionNumber``, ``form``; what is not said is empty."""
        top = _element(root)
        own = top.part("id")
        extension = own.part("@extension").text
        return {
            "version": "R2",
            "kind": top.part("code@code").text,
            "codeSystem": top.part("code@codeSystem").text,
            "templateIds": " ".join(value.text for value in top.parts("templateId@root")),
            "id": own.part("@root").text + (f"^{extension}" if extension else ""),
            "setId": top.part("setId@root").text,
            "versionNumber": top.part("versionNumber@value").text,
            "form": top.reading.document.form,
        }


def _declared(path: CdaPath, types: tuple[str, ...]) -> str:
    """The data type known at load; empty for a string and where xsi:type decides."""
    if path.ending is Ending.ELEMENT and len(types) == 1 and types[0] != "ANY":
        return types[0]
    return ""


def _check_versions(versions: Sequence[str]) -> None:
    for version in versions:
        if version not in VERSIONS:
            raise PathError(f"CDA has no version {version!r} here", VERSIONS[0])


def _types(within: object) -> tuple[str, ...]:
    if not isinstance(within, Within):
        raise TypeError("within is not a kind of the CDA language")
    return within.types


def _element(scope: Scope) -> CdaElement:
    if not isinstance(scope, CdaElement):
        raise TypeError("the scope is not one of the CDA language")
    return scope


_NEEDS = {Ending.URI: "II", Ending.SCHEME: "TEL", Ending.ADDRESS: "TEL"}


# --- checking at load ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Checked:
    """The schema types that a path may end at, and whether it may find several."""

    types: tuple[str, ...]
    repeats: bool


def _check(path: CdaPath, start: tuple[str, ...], whole: str = "") -> _Checked:
    """Check a path, or the path of a predicate inside the path ``whole``."""
    path = replace(path, text=whole or path.text)
    types = (structure().root,) if path.absolute else start
    repeats = False
    for step in path.steps:
        types, many = _check_step(path, step, types)
        repeats = (repeats or many) if step.position == 0 else repeats
        for predicate in step.predicates:
            _check(predicate.path, types, path.text)
    if path.ending is Ending.ATTRIBUTE and not structure().has_attribute(types, path.attribute):
        child, _ = structure().child(types, path.attribute)
        near = f"@{structure().near_attribute(types, path.attribute)}"
        raise PathError(
            f"CDA path {path.text!r}: {_shown(types)} has no attribute {path.attribute!r}",
            _mended(path, f"@{path.attribute}", f"/{path.attribute}" if child else near),
        )
    needs = _NEEDS.get(path.ending)
    if path.ending is Ending.TEXT and not structure().has_text(types):
        raise PathError(f"CDA path {path.text!r}: {_shown(types)} holds no text", "")
    if needs is not None and not any(kind.is_a(needs) for kind in structure().concrete(types)):
        raise PathError(f"CDA path {path.text!r}: {path.ending.value} is for {needs}", "")
    return _Checked(types, repeats)


def _check_step(path: CdaPath, step: Step, types: tuple[str, ...]) -> tuple[tuple[str, ...], bool]:
    known = structure()
    if step.axis is Axis.PARENT:
        return known.parents_of(types), False
    if step.axis is Axis.CHILD:
        if step.name == ANY:
            return known.children_of(types), True
        found, repeats = known.child(types, step.name)
        if found:
            return found, repeats
        if known.has_attribute(types, step.name):
            near = f"@{step.name}"
        else:
            near = known.near_child(types, step.name)
        old = f"/{step.name}" if near.startswith("@") else step.name
        raise PathError(
            f"CDA path {path.text!r}: {_shown(types)} has no child {step.name!r}",
            _mended(path, old, near),
        )
    found = known.every() if step.name == ANY else known.anywhere(step.name)
    if not found:
        raise PathError(
            f"CDA path {path.text!r}: CDA has no element {step.name!r}",
            _mended(path, step.name, known.near_anywhere(step.name)),
        )
    return found, step.axis is Axis.DESCENDANT


def _mended(path: CdaPath, wrong: str, right: str) -> str:
    """The path with one name put right; empty when no right name is near."""
    if right in ("", "@"):
        return ""
    pattern = (
        rf"(?<![\w:.]){re.escape(wrong)}(?![\w])" if wrong[0] not in "@/" else re.escape(wrong)
    )
    return re.sub(pattern, lambda _: right, path.text, count=1)


def _shown(types: tuple[str, ...]) -> str:
    names = [name or "plain text" for name in types[:3]]
    return ("one of " if len(names) > 1 else "") + ", ".join(names)


# --- walking ------------------------------------------------------------------------


def _start(scope: CdaElement, path: CdaPath) -> etree._Element:
    return scope.reading.document.root if path.absolute else scope.element


def _read(scope: CdaElement, path: CdaPath, walk: Walk) -> Sequence[CdaValue]:
    reading = scope.reading
    found: list[CdaValue] = []
    for element in walk(_start(scope, path)):
        value = ending_value(CdaElement(reading, element), path)
        if value is not None:
            found.append(value)
    return found


def find(scope: CdaElement, path: CdaPath) -> Sequence[CdaValue]:
    """Read a parsed path that was not checked against the schema (a value's parts)."""
    return _read(scope, path, _compiled(path))


def _compile(path: CdaPath) -> Walk:
    """One function from an element to the elements that the steps reach, in order."""
    hops = [_compile_step(step) for step in path.steps]

    def walk(start: etree._Element) -> Sequence[etree._Element]:
        current: Sequence[etree._Element] = (start,)
        for hop in hops:
            if len(current) == 1:
                current = hop(current[0])
            else:
                # Two starts may reach the same element (nested sections below "//").
                merged: dict[etree._Element, None] = {}
                for element in current:
                    merged.update(dict.fromkeys(hop(element)))
                current = tuple(merged)
            if not current:
                break
        return current

    return walk


_COMPILED: dict[str, Walk] = {}
_COMPILED_MAX = 4096


def _compiled(path: CdaPath) -> Walk:
    """The walk of a path that is read again and again; the path's text says all of it."""
    walk = _COMPILED.get(path.text)
    if walk is None:
        walk = _compile(path)
        if len(_COMPILED) < _COMPILED_MAX:
            _COMPILED[path.text] = walk
    return walk


def _compile_step(step: Step) -> Walk:
    reach = _reach(step)
    tests = [_compile_predicate(predicate) for predicate in step.predicates]
    # Of several ancestors that fit, the nearest is meant.
    position = step.position or (1 if step.axis is Axis.ANCESTOR else 0)

    def hop(start: etree._Element) -> Sequence[etree._Element]:
        found: Sequence[etree._Element] = reach(start)
        for test in tests:
            found = [element for element in found if test(element)]
        if position == -1:
            return found[-1:]
        return found[position - 1 : position] if position else found

    return hop


def _reach(step: Step) -> Walk:
    if step.axis is Axis.PARENT:

        def parent(start: etree._Element) -> Sequence[etree._Element]:
            above = start.getparent()
            return () if above is None else (above,)

        return parent
    tag: Any = etree.Element if step.name == ANY else tag_of(step.name)
    if step.axis is Axis.CHILD and step.name == ANY:
        return lambda start: list(start.iterchildren(tag))
    if step.axis is Axis.CHILD:
        return _children(step.name, tag)
    if step.axis is Axis.ANCESTOR:
        return lambda start: list(start.iterancestors(tag))
    return lambda start: [element for element in start.iter(tag) if element is not start]


def _children(name: str, tag: str) -> Walk:
    """Children by tag. A data type's parts below a pharmacy element may be in its namespace."""
    twin = tag_of(f"pharm:{name}") if ":" not in name else tag
    pharmacy = "{" + NAMESPACES["pharm"] + "}"

    def children(start: etree._Element) -> Sequence[etree._Element]:
        if twin != tag and str(start.tag).startswith(pharmacy):
            return list(start.iterchildren(tag, twin))
        return list(start.iterchildren(tag))

    return children


def _compile_predicate(predicate: Predicate) -> Callable[[etree._Element], bool]:
    path = predicate.path
    walk = _compile(path)
    values = frozenset(predicate.values)
    positive = not predicate.negated
    reader = _predicate_reader(path)

    def test(element: etree._Element) -> bool:
        for found in walk(element):
            for value in reader(found):
                if not values or value in values:
                    return positive
        return not positive

    return test


def _predicate_reader(path: CdaPath) -> Callable[[etree._Element], Sequence[str]]:
    if path.ending is Ending.ELEMENT:
        return compared_values
    if path.ending is Ending.ATTRIBUTE:
        name = path.attribute

        def attribute(element: etree._Element) -> Sequence[str]:
            found = attribute_value(element, name)
            return () if found is None else (found,)

        return attribute
    raise PathError(f"CDA path {path.text!r}: a predicate compares an element or an attribute")
