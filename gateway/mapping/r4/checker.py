"""A check of FHIR R4 resources, compiled to closures from the definitions.

What is checked: unknown elements; arrays and single values; required elements; one
type per choice; the form of every primitive; required bindings; SimpleQuantity; what
a Reference may point to; contained resources (dom-2 to dom-5, ref-1); empty objects,
arrays and strings; narratives; the invariants of ``invariants``. Over a set of
entries also: one resource per ``Type/id``, and references inside the set.

What is not checked: bindings that are not *required*, or whose codes the definitions
do not list (UCUM, MIME types, ISO 4217); profiles; extensions' own definitions.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from threading import RLock
from typing import Any

from gateway.mapping.r4.definitions import Definitions, ElementDefinition
from gateway.mapping.r4.invariants import INVARIANTS
from gateway.mapping.r4.narrative import check_narrative
from gateway.mapping.r4.objects import array_check, object_check
from gateway.mapping.r4.primitives import code_check, primitive_checks
from gateway.mapping.r4.problems import PROBLEMS_MAX, Check, Finding, Problem, ProblemCode

_REFERENCE = re.compile(
    r"(?:https?://\S+/)?([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?"
)
_LOCAL = "#"
# What by its nature names a fact that another message brought: the document that this one
# replaces, the other record of a merged patient, the order that a result answers.
_ELSEWHERE = re.compile(
    r".*\.(?:relatesTo\[\d+\]\.target|link\[\d+\]\.other|(?:basedOn|replaces)(?:\[\d+\])?)"
    r"\.reference"
)
_OTHER = ("urn:uuid:", "urn:oid:", "http://", "https://")


class Checker:
    """Checks resources. Compiles a type at its first use; safe to share between threads."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._primitives = primitive_checks(definitions.primitives)
        self._primitives["xhtml"] = check_narrative
        self._compiled: dict[str, Check] = {}
        self._ready: dict[str, Check] = {}
        self._lock = RLock()

    @staticmethod
    @cache
    def load() -> Checker:
        """The checker over the checked-in definitions, one per process."""
        return Checker(Definitions.load())

    def check(self, resource: Mapping[str, Any]) -> list[Problem]:
        """Everything wrong with one resource, at most :data:`PROBLEMS_MAX`; empty if right.

        ``resource`` is a plain dict as ``gateway.mapping.serialise.loads`` gives it
        (decimals as DecimalText, never float). No exception leaves: what is no resource
        at all is a problem as well.
        """
        name = resource.get("resourceType") if isinstance(resource, dict) else None
        try:
            findings = self._resource(resource)
        except RecursionError:
            findings = [("", ProblemCode.TOO_DEEP, "elements are nested too deeply")]
        if findings is None:
            return []
        known = isinstance(name, str) and name in self._definitions.resources
        root = name if known else "Resource"
        return [
            Problem(f"{root}{path}", code, text) for path, code, text in findings[:PROBLEMS_MAX]
        ]

    def check_entries(
        self, resources: Sequence[Mapping[str, Any]], known: Collection[str] = ()
    ) -> list[Problem]:
        """Everything wrong with the entries of one message, taken together.

        Each must have an id, of which there is one per type, and each relative
        reference (``Type/id``) must name one of them or one of ``known``, apart from
        those that lead to another message's facts (``relatesTo.target``, ``link.other``,
        ``basedOn``, ``replaces``). Paths start with the entry's position:
        ``[2].Observation.subject``.
        """
        problems: list[Problem] = []
        own: set[str] = set()
        for position, resource in enumerate(resources):
            lead = f"[{position}]."
            for problem in self.check(resource):
                problems.append(Problem(lead + problem.path, problem.code, problem.message))
            problem_of_id = _identify(resource, own)
            if problem_of_id:
                problems.append(Problem(f"[{position}]", *problem_of_id))
        there = own.union(known)
        for position, resource in enumerate(resources):
            # Hardly ever does one lead elsewhere; only then are the paths worth their price.
            if _all_there(resource, there):
                continue
            for path, reference in references(resource):
                match = _REFERENCE.fullmatch(reference)
                if match is None or reference.startswith(_OTHER) or _ELSEWHERE.fullmatch(path):
                    continue
                if reference.partition("/_history/")[0] not in there:
                    lead = f"[{position}].{resource.get('resourceType', 'Resource')}{path}"
                    text = f"points to a {match.group(1)} that is not among the entries"
                    problems.append(Problem(lead, ProblemCode.DANGLING, text))
        return problems[:PROBLEMS_MAX]

    # --- resources -----------------------------------------------------------------

    def _resource(self, value: Any) -> list[Finding] | None:
        """A resource at the top, or in a Bundle or Parameters."""
        if not isinstance(value, dict):
            return [("", ProblemCode.WRONG_TYPE, "a resource is a JSON object")]
        name = value.get("resourceType")
        check = self._ready.get(name) if isinstance(name, str) else None
        if check is None:
            if not isinstance(name, str) or name not in self._definitions.resources:
                return [("", ProblemCode.UNKNOWN_RESOURCE, "R4 has no such resourceType")]
            with self._lock:
                check = self._ready[name] = self._object(name)
        findings = check(value)
        if findings is None and "contained" not in value:
            return None
        return _settle_contained(value, findings or [])

    def _contained(self, value: Any) -> list[Finding] | None:
        """A contained resource; its ``#`` references are settled by the one around it."""
        if not isinstance(value, dict):
            return [("", ProblemCode.WRONG_TYPE, "a resource is a JSON object")]
        name = value.get("resourceType")
        if not isinstance(name, str) or name not in self._definitions.resources:
            return [("", ProblemCode.UNKNOWN_RESOURCE, "R4 has no such resourceType")]
        with self._lock:
            check = self._object(name)
        findings = list(check(value) or ())
        if "id" not in value:
            findings.append((".id", ProblemCode.MISSING, "a contained resource needs an id"))
        if "contained" in value:
            text = "a contained resource contains no other (dom-2)"
            findings.append((".contained", ProblemCode.CONTAINED, text))
        meta = value.get("meta")
        if isinstance(meta, dict) and not meta.keys().isdisjoint(
            ("versionId", "lastUpdated", "security")
        ):
            text = "no version, time or security label of its own (dom-4, dom-5)"
            findings.append((".meta", ProblemCode.CONTAINED, text))
        return findings or None

    # --- compiling -----------------------------------------------------------------

    def _object(self, location: str) -> Check:
        """The check of a type or backbone element; recursive types meet themselves."""
        found = self._compiled.get(location)
        if found is not None:
            return found
        properties: dict[str, Check] = {}
        structure = self._definitions.children(location)
        check = object_check(
            properties,
            required=_required(structure.values(), self._primitives),
            choices=_choices(structure.values()),
            invariants=INVARIANTS.get(location, ()),
        )
        self._compiled[location] = check
        if location in self._definitions.resources:
            properties["resourceType"] = self._primitives["code"]
        for element in structure.values():
            for type_name, key in element.keys().items():
                self._property(properties, key, element, type_name)
        return check

    def _property(
        self, properties: dict[str, Check], key: str, element: ElementDefinition, type_name: str
    ) -> None:
        """Add the check of one JSON property, and of its ``_`` sibling for a primitive."""
        if element.maximum == 0:
            return
        check = self._value(element, type_name)
        primitive = type_name in self._primitives
        properties[key] = array_check(check) if element.repeats else check
        if primitive and type_name != "xhtml":
            sibling = self._object("Element")
            properties[f"_{key}"] = (
                array_check(sibling, null_allowed=True) if element.repeats else sibling
            )

    def _value(self, element: ElementDefinition, type_name: str) -> Check:
        """The check of one value of an element in one of its types."""
        if element.location:
            return self._object(element.location)
        if type_name == "Resource":
            return self._contained if element.name == "contained" else self._resource
        if type_name == "code" and element.codes is not None:
            return code_check(element.codes)
        if type_name in self._primitives:
            return self._primitives[type_name]
        if type_name in self._definitions.resources:
            return self._resource
        check = self._object(type_name)
        if type_name == "Reference":
            return _reference_check(check, frozenset(element.targets))
        if type_name == "Quantity" and element.simple:
            return _simple_quantity_check(check)
        if element.systems is not None:
            return _bound_check(check, element.systems)
        return check


def _required(
    elements: Iterable[ElementDefinition], primitives: Mapping[str, Check]
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Per required element its name and the properties that satisfy it."""
    return tuple(
        (
            element.name,
            tuple(
                name
                for type_name, key in element.keys().items()
                for name in ((key, f"_{key}") if type_name in primitives else (key,))
            ),
        )
        for element in elements
        if element.required
    )


def _choices(elements: Iterable[ElementDefinition]) -> tuple[tuple[str, frozenset[str]], ...]:
    return tuple(
        (element.name, frozenset(element.keys().values()))
        for element in elements
        if element.choice and len(element.types) > 1
    )


# --- datatypes with rules of their own ---------------------------------------------


def _reference_check(check: Check, targets: frozenset[str]) -> Check:
    """A Reference whose relative or REST form must name one of the target types.

    A ``#local`` one is left as a DANGLING finding for the resource around it, which
    alone knows what it contains (ref-1).
    """

    def run(value: Any) -> list[Finding] | None:
        findings = check(value)
        if findings is not None:
            return findings
        text = value.get("reference")
        if text is None:
            return None
        match = _REFERENCE.fullmatch(text)
        if match is not None:
            if not targets or match.group(1) in targets:
                return None
            expected = " or ".join(sorted(targets))
            return [(".reference", ProblemCode.TARGET, f"names another type than {expected}")]
        if text.startswith(_LOCAL):
            return [(".reference", ProblemCode.DANGLING, text)]
        if text.startswith(_OTHER):
            return None
        return [(".reference", ProblemCode.FORMAT, "neither Type/id, nor #id, nor a URI")]

    return run


def _simple_quantity_check(check: Check) -> Check:
    def run(value: Any) -> list[Finding] | None:
        findings = check(value)
        if findings is None and "comparator" in value:
            text = "a SimpleQuantity has no comparator"
            return [(".comparator", ProblemCode.PROHIBITED, text)]
        return findings

    return run


def _bound_check(check: Check, systems: Mapping[str, frozenset[str]]) -> Check:
    """A CodeableConcept, Coding or Quantity with a required binding."""

    def run(value: Any) -> list[Finding] | None:
        findings = check(value)
        if findings is not None:
            return findings
        for coding in value.get("coding", ()) if "coding" in value else (value,):
            if coding.get("code") in systems.get(coding.get("system", ""), ()):
                return None
        return [("", ProblemCode.CODE, "no coding is in the required value set")]

    return run


# --- references ----------------------------------------------------------------------


def references(value: Any) -> Iterator[tuple[str, str]]:
    """Every ``reference`` in a resource with its path, contained ones included."""
    stack: list[tuple[str, Any]] = [("", value)]
    while stack:
        path, item = stack.pop()
        if isinstance(item, dict):
            reference = item.get("reference")
            if isinstance(reference, str):
                yield f"{path}.reference", reference
            stack.extend(
                (f"{path}.{key}", child)
                for key, child in item.items()
                if isinstance(child, (dict, list))
            )
        elif isinstance(item, list):
            stack.extend((f"{path}[{index}]", child) for index, child in enumerate(item))


def _all_there(value: Any, there: Collection[str]) -> bool:
    """Whether every ``reference`` in a resource is among those that are there."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            reference = item.get("reference")
            if isinstance(reference, str) and reference not in there:
                return False
            item = item.values()
        elif not isinstance(item, list):
            continue
        stack.extend([child for child in item if type(child) is not str])
    return True


def _settle_contained(resource: Mapping[str, Any], findings: list[Finding]) -> list[Finding] | None:
    """Resolve the ``#`` references of a resource (ref-1) and find what none names (dom-3)."""
    contained = resource.get("contained")
    there = {
        item["id"]
        for item in (contained if isinstance(contained, list) else ())
        if isinstance(item, dict) and isinstance(item.get("id"), str)
    }
    kept: list[Finding] = []
    for path, code, text in findings:
        if code is not ProblemCode.DANGLING:
            kept.append((path, code, text))
        elif text != _LOCAL and text[1:] not in there:
            message = "names a contained resource that is not there (ref-1)"
            kept.append((path, ProblemCode.DANGLING, message))
    named = _local_names(resource) if there else set()
    # A reference «#» inside a contained resource is its link to the one around it.
    if there - named and "" not in named:
        text = "a contained resource that nothing refers to (dom-3)"
        kept.append((".contained", ProblemCode.CONTAINED, text))
    return kept or None


def _local_names(resource: Any) -> set[str]:
    """What follows ``#`` in every text of a resource: a Reference, a canonical, a URI."""
    names: set[str] = set()
    stack = [resource]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            if item.startswith(_LOCAL):
                names.add(item[1:])
        elif isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
    return names


def _identify(resource: Mapping[str, Any], there: set[str]) -> tuple[ProblemCode, str] | None:
    """Note an entry's ``Type/id``; what is wrong with it, if anything is."""
    name = resource.get("resourceType") if isinstance(resource, dict) else None
    identifier = resource.get("id") if isinstance(resource, dict) else None
    if not isinstance(name, str) or not isinstance(identifier, str):
        return ProblemCode.MISSING, "an entry needs a resourceType and an id"
    reference = f"{name}/{identifier}"
    if reference in there:
        return ProblemCode.DUPLICATE, "another entry has the same type and id"
    there.add(reference)
    return None
