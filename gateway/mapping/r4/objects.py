"""The closures that check JSON objects and arrays of FHIR R4 elements.

They build no path and no list while nothing is wrong: a check answers None, and only
when one does not are the steps put in front of what it found, on the way out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.mapping.r4.problems import Check, Finding, ProblemCode, within

Required = Sequence[tuple[str, tuple[str, ...]]]
Choices = Sequence[tuple[str, frozenset[str]]]
Invariants = Sequence[tuple[str, str, Callable[[Mapping[str, Any]], bool]]]

_NAME_CHARACTERS_MAX = 64


def object_check(
    properties: Mapping[str, Check],
    *,
    required: Required,
    choices: Choices,
    invariants: Invariants,
) -> Check:
    """The check of an object.

    ``properties`` may still be filled after this call (types refer to themselves).
    ``required`` names each required element with the properties any of which is it;
    ``choices`` each choice element with its properties, of which one may stand.
    """
    look = properties.get
    # Every property of a choice with its ``_`` sibling, to count those that are there.
    groups = tuple((name, keys | {f"_{key}" for key in keys}) for name, keys in choices)

    def check(value: Any) -> list[Finding] | None:
        if type(value) is not dict:
            return _not_an_object(value)
        bad: list[Finding] | None = None
        for key, item in value.items():
            check_property = look(key)
            if check_property is None:
                bad = bad or []
                bad.append((f".{_printable(key)}", ProblemCode.UNKNOWN_ELEMENT, "R4 has no such"))
                continue
            found = check_property(item)
            if found is not None:
                bad = bad or []
                bad.extend(_inside(key, found, value))
        for name, keys in required:
            if keys[0] not in value and not any(key in value for key in keys):
                bad = bad or []
                bad.append((f".{name}", ProblemCode.MISSING, "is required"))
        for name, group in groups:
            present = group & value.keys()
            if len(present) > 1 and len({key.lstrip("_") for key in present}) > 1:
                bad = bad or []
                bad.append((f".{name}", ProblemCode.CHOICE, "stands in more than one type"))
        if bad is not None:
            return bad or None
        if len(value) < 2 and (not value or "id" in value):
            return [("", ProblemCode.EMPTY, "an object without content (ele-1)")]
        for key, text, holds in invariants:
            if not holds(value):
                bad = bad or []
                bad.append(("", ProblemCode.INVARIANT, f"{key}: {text}"))
        return bad

    return check


def array_check(check: Check, *, null_allowed: bool = False) -> Check:
    """An array, each item of which passes ``check``.

    ``null_allowed`` is for the ``_`` siblings of repeating primitives, which pad with
    null, but not with nothing else (R4 «JSON representation», 2.6.2.3).
    """

    def run(value: Any) -> list[Finding] | None:
        if type(value) is not list:
            return [("", ProblemCode.NOT_AN_ARRAY, "a single value where R4 has an array")]
        if not value:
            return [("", ProblemCode.EMPTY, "an empty array")]
        for item in value:
            if check(item) is not None:
                break
        else:
            return None
        bad: list[Finding] | None = None
        for index, item in enumerate(value):
            if null_allowed and item is None:
                continue
            found = check(item)
            if found is not None:
                bad = bad or []
                bad.extend(within(f"[{index}]", found))
        if null_allowed and bad is None and all(item is None for item in value):
            return [("", ProblemCode.EMPTY, "an array of nulls")]
        return bad

    return run


def _inside(key: str, found: list[Finding], value: Mapping[str, Any]) -> list[Finding]:
    """The findings of a property, without the nulls that an extension stands in for."""
    sibling = value.get(f"_{key}")
    if isinstance(sibling, list):
        extended = {f"[{at}]" for at, item in enumerate(sibling) if isinstance(item, dict)}
        found = [
            finding
            for finding in found
            if finding[1] is not ProblemCode.NULL or finding[0] not in extended
        ]
    return within(f".{key}", found)


def _not_an_object(value: Any) -> list[Finding]:
    if isinstance(value, list):
        return [("", ProblemCode.NOT_SINGLE, "an array where R4 has a single value")]
    if value is None:
        return [("", ProblemCode.NULL, "null is no element")]
    return [("", ProblemCode.WRONG_TYPE, "a primitive value where R4 has an object")]


def _printable(key: Any) -> str:
    """A property name fit for a path; anything that is no name is not repeated."""
    if isinstance(key, str) and key.isidentifier() and len(key) <= _NAME_CHARACTERS_MAX:
        return key
    return "?"
