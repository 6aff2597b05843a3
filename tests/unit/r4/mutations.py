"""Systematic faults, put one by one into a right R4 resource."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gateway.mapping.r4.definitions import Definitions, ResolvedPath, UnknownPath
from gateway.mapping.serialise import DecimalText

Json = dict[str, Any]
_EXTENSION: Json = {"url": "urn:x:y", "valueCode": "c"}
_DIV = '<div xmlns="http://www.w3.org/1999/xhtml">{}</div>'
_BAD_NARRATIVES = (
    "<div>no namespace</div>", _DIV.format("<b>open"), _DIV.format(" "),
    _DIV.format("<script>x()</script>"), _DIV.format('<p onclick="x">y</p>'),
)  # fmt: skip
_BAD_VALUES: dict[str, tuple[Any, ...]] = {
    "date": ("2024-13-01", "20240101", "2024-02-30", "2024-1-1", "24-01-01"),
    "dateTime": ("2024-01-01T10:00:00", "2024-01-01T25:00:00Z", "202401011000", "2024-01-01 10:00"),
    "instant": ("2024-01-01", "2024-01-01T10:00:00", "2024-01-01T10:00Z"),
    "id": ("a_b", "x" * 65, "a b"),
    "code": ("a  b", " a", "a "),
    "uri": ("a b", "urn:oid:abc", "urn:uuid:1-2"),
    "url": ("a b",),
    "canonical": ("a b",),
    "oid": ("1.2.3", "urn:oid:3.1"),
    "decimal": ("1.5", True),
    "integer": ("1", DecimalText("1.5"), 2**31),
    "positiveInt": (0, -1),
    "unsignedInt": (-1,),
    "boolean": ("true", 1),
    "base64Binary": ("abc", "@@@@"),
    "string": ("", "   ", 1),
    "markdown": ("",),
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """A resource with one fault: which one, and where (as the checker's paths are written).

    ``sure`` is False where the standard may allow it in the place where it was put.
    """

    fault: str
    path: str
    resource: Json
    sure: bool = True


def mutants(resource: Json) -> Iterator[Mutant]:
    """Every mutant of a resource, in the resource's own order."""
    name = resource["resourceType"]
    for steps, value in _places(resource, ()):
        yield from _structural(resource, steps, value)
        found = _resolve(name, steps)
        if found is not None:
            yield from _defined(resource, steps, value, found)
    yield from _of_resource(resource)


def _places(value: Any, steps: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every value inside a resource with the steps to it."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for step, item in list(items):
        yield (*steps, step), item
        if isinstance(item, (dict, list)):
            yield from _places(item, (*steps, step))


def _path(resource: Json, steps: tuple[Any, ...]) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return f"{resource['resourceType']}{text}"


def _resolve(name: str, steps: tuple[Any, ...]) -> ResolvedPath | None:
    """What R4 says of the place, None for what it says by other means (an array's item)."""
    if isinstance(steps[-1], int):
        return None
    try:
        return Definitions.load().resolve(
            ".".join([name, *(str(step) for step in steps if not isinstance(step, int))])
        )
    except UnknownPath:
        return None


def _with(resource: Json, steps: tuple[Any, ...], value: Any) -> Json:
    """A copy with another value at a place; ``...`` takes it away."""
    changed = copy.deepcopy(resource)
    holder: Any = changed
    for step in steps[:-1]:
        holder = holder[step]
    if value is ...:
        del holder[steps[-1]]
    else:
        holder[steps[-1]] = value
    return changed


def _structural(resource: Json, steps: tuple[Any, ...], value: Any) -> Iterator[Mutant]:
    """What is wrong wherever it stands."""
    path = _path(resource, steps)
    if steps[-1] == "resourceType" or value is None:
        return  # found at the resource itself; null beside an extension is right already

    def put(fault: str, other: Any, inside: str = "") -> Mutant:
        return Mutant(fault, path + inside, _with(resource, steps, other))

    padded = any(str(step).startswith("_") for step in steps)
    yield Mutant("null", path, _with(resource, steps, None), sure=not padded)
    if isinstance(value, dict):
        yield put("empty object", {})
        yield put("text for object", "x")
        yield put("array for object", [value])
        yield put("unknown element", value | {"unheardOf": "x"}, ".unheardOf")
        yield put("id alone", {"id": "a"})
    elif isinstance(value, list):
        yield put("empty array", [])
        yield put("object for array", value[0])
        longer = _with(resource, steps, [*value, None])
        yield Mutant("null in array", f"{path}[{len(value)}]", longer, sure=not padded)
        yield put("array in array", [value], "[0]")
    else:
        yield put("object for primitive", {"a": 1})
        yield put("array for primitive", [value])


def _defined(
    resource: Json, steps: tuple[Any, ...], value: Any, found: ResolvedPath
) -> Iterator[Mutant]:
    """What the definition of this element forbids."""
    path = _path(resource, steps)
    if found.required and steps[0] != "resourceType":
        yield Mutant("required missing", path, _with(resource, steps, ...))
    if found.repeats or not found.types:
        return
    kind = found.types[0]
    for bad in _BAD_VALUES.get(kind, ()):
        yield Mutant(f"bad {kind}", path, _with(resource, steps, bad))
    if found.codes is not None and kind == "code":
        yield Mutant("code not bound", path, _with(resource, steps, "unheard-of"))
    if kind == "Reference":
        yield from _reference(resource, steps, value, found)
    if steps[-1] in ("system", "url") and kind == "uri":
        yield Mutant("relative uri", path, _with(resource, steps, "relative"), sure=False)
    if kind == "Quantity":
        bare = {"value": DecimalText("1.0"), "code": "g"}
        yield Mutant("code without system", path, _with(resource, steps, bare))
        for sign in ("~", "<"):
            other = value | {"comparator": sign}
            sure = sign == "~" or found.element.simple
            yield Mutant("comparator", path, _with(resource, steps, other), sure=sure)
    if kind == "Period":
        other = {"start": "2024-02-01", "end": "2024-01-01"}
        yield Mutant("period backwards", path, _with(resource, steps, other))
    if kind == "Attachment":
        yield Mutant("data without type", path, _with(resource, steps, {"data": "AAAA"}))
    if kind not in Definitions.load().primitives and isinstance(value, dict):
        yield from _extensions(resource, steps, value)


def _reference(
    resource: Json, steps: tuple[Any, ...], value: Any, found: ResolvedPath
) -> Iterator[Mutant]:
    path = _path(resource, steps)
    for text in ("Patient 1", "#unheard-of", "Unheard/1", ""):
        other = {"reference": text}
        yield Mutant("bad reference", path, _with(resource, steps, other))
    if found.targets:
        other = {"reference": "StructureMap/1"}
        yield Mutant("wrong target", path, _with(resource, steps, other))
        other = {"type": "StructureMap", "display": "x"}
        yield Mutant("wrong target type", path, _with(resource, steps, other), sure=False)
    if isinstance(value, dict) and "reference" in value:
        other = value | {"type": "StructureMap"}
        yield Mutant("type against reference", path, _with(resource, steps, other), sure=False)


def _extensions(resource: Json, steps: tuple[Any, ...], value: Json) -> Iterator[Mutant]:
    path = _path(resource, steps)
    for fault, extension, sure in (
        ("extension right", _EXTENSION, False),
        ("extension without url", {"valueCode": "c"}, True),
        ("extension empty", {"url": "urn:x:y"}, True),
        ("extension both", _EXTENSION | {"extension": [_EXTENSION]}, True),
        ("extension of two types", _EXTENSION | {"valueString": "s"}, True),
        ("extension of no type", {"url": "urn:x:y", "valueObservation": {}}, True),
        ("extension relative", {"url": "y", "valueCode": "c"}, False),
    ):
        if "extension" not in value:
            other = value | {"extension": [extension]}
            yield Mutant(fault, f"{path}.extension[0]", _with(resource, steps, other), sure=sure)


def _of_resource(resource: Json) -> Iterator[Mutant]:
    """What concerns the whole."""
    name = resource["resourceType"]

    def put(fault: str, path: str, *, sure: bool = True, **more: Any) -> Mutant:
        return Mutant(fault, f"{name}{path}", copy.deepcopy(resource) | more, sure=sure)

    for text in _BAD_NARRATIVES:
        yield put("bad narrative", ".text.div", text={"status": "generated", "div": text})
    yield put("right narrative", "", sure=False,
              text={"status": "generated", "div": _DIV.format("<p>x &amp; y</p>")})  # fmt: skip
    yield put("contained without id", ".contained[0].id",
              contained=[{"resourceType": "Patient", "active": True}])  # fmt: skip
    yield put("contained unnamed", ".contained",
              contained=[{"resourceType": "Patient", "id": "p"}])  # fmt: skip
    yield put("contained unknown", ".contained[0]",
              contained=[{"resourceType": "Person2", "id": "p"}])  # fmt: skip
    yield Mutant("unknown type", "Resource", resource | {"resourceType": "Unheard"})
    yield put("bad language", ".language", sure=False, language="klingon language")
    yield put("meta", ".meta.lastUpdated", meta={"lastUpdated": "2024-01-01"})
    yield put("meta profile", ".meta.profile[0]", meta={"profile": ["a b"]})
    if name == "Observation":
        yield put("second value", ".value[x]", valueString="x", valueInteger=1)
        yield put("value and reason", "", dataAbsentReason={"text": "x"}, valueString="x",
                  sure=False)  # fmt: skip
        yield put("component of the code", "", valueString="x", sure=False,
                  component=[{"code": resource["code"]}])  # fmt: skip
        yield put("range without limits", ".referenceRange[0]",
                  referenceRange=[{"type": {"text": "x"}}])  # fmt: skip
        yield put("range upside down", ".referenceRange[0].age",
                  referenceRange=[{"text": "x", "age": {"low": {"value": 9},
                                                        "high": {"value": 1}}}])  # fmt: skip
    if name == "Patient":
        yield put("telecom without system", ".telecom[0]", telecom=[{"value": "1"}])
        yield put("contact without details", ".contact[0]", contact=[{"gender": "male"}])
