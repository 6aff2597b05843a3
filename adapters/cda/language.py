"""How a mapping reads CDA: paths checked against the schema and compiled to direct walks.

The notation is in :mod:`adapters.cda.paths`, the walks are in :mod:`adapters.cda.walking`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from adapters.cda.contents import compile_content, compile_contents
from adapters.cda.document import CEILING, Limits, read_nodes
from adapters.cda.paths import ANY, Axis, CdaPath, Ending, Step, parse
from adapters.cda.structure import structure
from adapters.cda.values import (
    CdaElement,
    CdaValue,
    Reading,
)
from adapters.cda.walking import compile_walk, find, read_at, start_of
from gateway.model import Format, Payload
from gateway.ports import CompiledPath, CompiledScope, PathError, Scope, SourceLanguage, Unreadable

VERSIONS = ("R2",)


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
        """Read one document. Raises Unreadable, as :func:`read_nodes` says."""
        if len(payloads) != 1:
            raise Unreadable(f"CDA is read one document at a time, not {len(payloads)}")
        root, form = read_nodes(payloads[0], encoding=encoding, limits=self.limits)
        return CdaElement(Reading(payloads[0], root, form, find), root)


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
        return _compiled_path(text, _types(within))

    def contents(self, paths: Sequence[CompiledPath]) -> Callable[[Scope], Sequence[Hashable]]:
        """What stands at several paths of one element, in one look."""
        return compile_contents(paths, [parse(path.text) for path in paths])

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
        walk = compile_walk(parsed)

        def each(scope: Scope) -> Iterator[Scope]:
            start = _element(scope)
            for element in walk(start_of(start, parsed)):
                yield CdaElement(start.reading, element)

        needs = self.path(spec["path"], versions=versions, within=within)
        return CompiledScope(
            spec["path"], each, Within(checked.types), needs if needs.content is not None else None
        )

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
            "form": top.reading.form,
        }


@lru_cache(maxsize=16_384)
def _compiled_path(text: str, types: tuple[str, ...]) -> CompiledPath:
    """A path below elements of some types: mappings use the same ones many times."""
    parsed = parse(text)
    checked = _check(parsed, types)
    walk = compile_walk(parsed)

    def read(scope: Scope) -> Sequence[CdaValue]:
        return read_at(_element(scope), parsed, walk)

    content = compile_content(parsed, walk)
    return CompiledPath(text, read, _declared(parsed, checked.types), checked.repeats, content)


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
    if path.ending in (Ending.TEXT, Ending.XHTML) and not structure().has_text(types):
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
