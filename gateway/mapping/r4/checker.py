"""A check of FHIR R4 resources, by tables compiled from the definitions.

What is checked: unknown elements; arrays and single values; required elements; one
type per choice; the form of every primitive; required bindings; SimpleQuantity; what
a Reference may point to; contained resources (dom-2 to dom-5, ref-1); empty objects,
arrays and strings; narratives; the invariants of ``invariants``. Over a set of
entries also: one resource per ``Type/id``, and references inside the set.

What is not checked stands in ``docs/r4-checker.md``, with how this compares with the
official validator.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from gateway.mapping.r4.compiling import Tables, leads_elsewhere
from gateway.mapping.r4.definitions import Definitions
from gateway.mapping.r4.problems import PROBLEMS_MAX, Finding, Problem, ProblemCode
from gateway.mapping.r4.walking import ELSEWHERE, REFERENCE_FORM, Right, Walk

_POSITION = re.compile(r"\[\d+\]")


class Checker:
    """Checks resources. Compiles a type at its first use; safe to share between threads."""

    def __init__(self, definitions: Definitions) -> None:
        self._tables = Tables(definitions)
        self._right = Right()

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
        findings = Walk(self._tables).resource(resource, 1)
        return [] if findings is None else self._problems("", resource, findings)

    def check_entries(
        self,
        resources: Sequence[Mapping[str, Any]],
        known: Collection[str] = (),
        *,
        mapped: bool = False,
    ) -> list[Problem]:
        """Everything wrong with the entries of one message, taken together.

        ``mapped``: a mapping made them, so that no value inside them is changed any more;
        what several entries share is then looked at once.

        Each must have an id, of which there is one per type, and each relative
        reference (``Type/id``) must name one of them or one of ``known``, apart from
        those that lead to another message's facts (``relatesTo.target``, ``link.other``,
        ``basedOn``, ``replaces``). Paths start with the entry's position:
        ``[2].Observation.subject``.
        """
        problems: list[Problem] = []
        own: set[str] = set()
        walk = Walk(self._tables, self._right if mapped else None)
        for position, resource in enumerate(resources):
            findings = walk.resource(resource, 1)
            if findings is not None:
                problems += self._problems(f"[{position}].", resource, findings)
            problem_of_id = _identify(resource, own)
            if problem_of_id is not None:
                problems.append(Problem(f"[{position}]", *problem_of_id))
        # Hardly ever does one lead elsewhere; only then are the paths worth their price.
        for reference in set(walk.references).difference(own, known):
            if not reference.startswith("#"):
                problems += _dangling(resources, own.union(known))
                break
        return problems[:PROBLEMS_MAX]

    def _problems(self, lead: str, resource: Any, findings: list[Finding]) -> list[Problem]:
        """The findings with whole paths."""
        name = resource.get("resourceType") if type(resource) is dict else None
        root = name if self._tables.resource(name) is not None else "Resource"
        return [
            Problem(f"{lead}{root}{path}", code, text)
            for path, code, text in findings[:PROBLEMS_MAX]
        ]


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


def _dangling(resources: Sequence[Mapping[str, Any]], there: Collection[str]) -> list[Problem]:
    """The relative references that lead to none of the entries and should."""
    problems: list[Problem] = []
    for position, resource in enumerate(resources):
        for path, reference in references(resource):
            match = REFERENCE_FORM.fullmatch(reference)
            if (
                match is None
                or reference.startswith(ELSEWHERE)
                or leads_elsewhere(_POSITION.sub("", path.removesuffix(".reference")))
                or reference.partition("/_history/")[0] in there
            ):
                continue
            place = f"[{position}].{resource.get('resourceType', 'Resource')}{path}"
            text = f"points to a {match.group(1)} that is not among the entries"
            problems.append(Problem(place, ProblemCode.DANGLING, text))
            if len(problems) >= PROBLEMS_MAX:
                return problems
    return problems


def _identify(resource: Any, there: set[str]) -> tuple[ProblemCode, str] | None:
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
