"""Every systematic fault is found at its place, and nothing makes the checker raise."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.mapping.r4.checker import Checker
from gateway.mapping.r4.definitions import Definitions
from gateway.mapping.r4.problems import Problem
from gateway.mapping.serialise import DecimalText
from tests.unit.r4 import resources as made
from tests.unit.r4.mutations import mutants

CHECKER = Checker.load()


@pytest.mark.parametrize("resource", made.everything(), ids=lambda r: r["resourceType"])
def test_every_mutant_is_found_at_its_place(resource: dict[str, Any]) -> None:
    missed, faults = [], Counter[str]()
    for mutant in mutants(resource):
        problems = CHECKER.check(mutant.resource)
        faults[mutant.fault] += 1
        # A fault may also show further in: in what an object has not, or an array holds.
        at_place = [problem for problem in problems if problem.path.startswith(mutant.path)]
        if mutant.sure and not at_place and not is_of_a_choice(mutant.path, problems):
            missed.append((mutant.fault, mutant.path, [str(problem) for problem in problems]))
    assert missed == []
    assert len(faults) > 25


def is_of_a_choice(path: str, problems: list[Problem]) -> bool:
    """Whether the path is of one type of a choice, which is found under the choice's name."""
    return any(
        problem.path.endswith("[x]") and path.startswith(problem.path[:-3]) for problem in problems
    )


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(
        [
            math.nan,
            math.inf,
            DecimalText("1.5"),
            "#",
            "#x",
            "Patient/1",
            "urn:oid:",
            "2024-02-30",
            b"bytes",
            ("a", "tuple"),
            {1},
            object(),
            "\ud800",
            "1e999",
            10**40,
        ]
    ),
)


def keys() -> st.SearchStrategy[Any]:
    """Names of elements of R4, so that values of every kind get to every check."""
    definitions = Definitions.load()
    names: set[str] = {"resourceType", "id", "contained", "_given", "_status", ""}
    for kind in ("Patient", "Observation", "Bundle", "Timing", "Extension", "Quantity", "Period"):
        for element in definitions.children(kind).values():
            names.update(element.keys().values())
    for location in ("Timing.repeat", "Bundle.entry", "Observation.component", "Patient.contact"):
        for element in definitions.children(location).values():
            names.update(element.keys().values())
    return st.one_of(st.sampled_from(sorted(names)), st.integers(), st.none())


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys(), inner, max_size=6))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(["Patient", "Observation", "Bundle", "Appointment", "List", "Organization"]),
    st.dictionaries(keys(), st.recursive(LEAVES, objects, max_leaves=12), max_size=8),
)
def test_nothing_makes_it_raise(name: str, content: dict[Any, Any]) -> None:
    for resource in (content | {"resourceType": name}, content):
        found = CHECKER.check(resource)
        assert all(isinstance(problem, Problem) for problem in found)
        CHECKER.check_entries([resource, resource, None])  # type: ignore[list-item]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_nothing_inside_a_right_resource_makes_it_raise(data: st.DataObject) -> None:
    """One value of a right resource becomes anything at all."""
    resource: Any = data.draw(st.sampled_from(made.everything()))
    holder, walked = resource, True
    while walked:
        steps = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        step = data.draw(st.sampled_from(steps))
        walked = isinstance(holder[step], (dict, list)) and bool(holder[step])
        if walked and data.draw(st.booleans()):
            break
        if walked:
            holder = holder[step]
    holder[step] = data.draw(st.recursive(LEAVES, objects, max_leaves=6))
    CHECKER.check(resource)
