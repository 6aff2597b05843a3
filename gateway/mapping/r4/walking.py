"""The walk of the checker through a resource, by the tables.

No path and no list is built while nothing is wrong: a check answers None, and only
when one does not are the steps put in front of what it found, on the way out. The
walk stops at :data:`PROBLEMS_MAX` findings and at :data:`DEPTH_MAX` objects inside
one another; nothing of the input makes it raise.

``Walk.object`` is what all resources go through, and is written for speed: what nearly
all values are is settled in its loop, and ``property`` does the same without haste.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gateway.mapping.r4.compiling import Tables
from gateway.mapping.r4.contained import ids_of, unnamed_in
from gateway.mapping.r4.problems import (
    DEPTH_MAX,
    PROBLEMS_MAX,
    Finding,
    ProblemCode,
    within,
)
from gateway.mapping.r4.tables import (
    BOUND,
    CONTAINED,
    NULLABLE,
    REFERENCE,
    RESOURCE,
    Property,
    Table,
)

REFERENCE_FORM = re.compile(
    r"(?:https?://\S+/)?([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?"
)
ELSEWHERE = ("urn:uuid:", "urn:oid:", "http://", "https://")
"""How a reference begins that no entry of the same message can be expected to answer."""

SHARED_MAX = 4_096
MET_MAX = 512
_NAMED_MAX = 4_096
_SHORT = 4_096
_NAME_CHARACTERS_MAX = 64


class Right:
    """Values that were found right and that several resources share.

    What rules remember is the same object in every entry that it stands in
    (:mod:`gateway.mapping.memory`), and is never changed: it is right as long as it is
    there. Of what was met once only the last few hundred are held. A value in which
    something is referred to is not among them: what is right of it depends on the others.
    """

    __slots__ = ("_met", "_shared")

    def __init__(self) -> None:
        # By the object itself, which is held so that no other gets its id.
        self._met: dict[int, tuple[Any, Property]] = {}
        self._shared: dict[int, tuple[Any, Property]] = {}

    def holds(self, item: Any, rule: Property) -> bool:
        """Whether this very object was found right under this property."""
        found = self._shared.get(id(item))
        return found is not None and found[0] is item and found[1] is rule

    def note(self, item: Any, rule: Property) -> None:
        """It is right."""
        key = id(item)
        found = self._met.get(key)
        if found is not None and found[0] is item and found[1] is rule:
            if len(self._shared) >= SHARED_MAX:
                self._shared.clear()
            self._shared[key] = found
            return
        if len(self._met) >= MET_MAX:
            self._met.clear()
        self._met[key] = (item, rule)


class Walk:
    """One walk through the entries of one message. Not to be shared between threads.

    ``references`` is, afterwards, what the References in them say, in order, apart from
    those that lead to what another message brought.
    """

    __slots__ = ("_inside", "_right", "_tables", "references")

    def __init__(self, tables: Tables, right: Right | None = None) -> None:
        self.references: list[str] = []
        self._right = right
        self._tables = tables
        self._inside: set[str] | None = None  # the ids of what the resource contains

    # --- resources -------------------------------------------------------------------

    def resource(self, value: Any, depth: int) -> list[Finding] | None:
        """A resource at the top, or in a Bundle or Parameters."""
        if type(value) is not dict:
            return [("", ProblemCode.WRONG_TYPE, "a resource is a JSON object")]
        table = self._tables.resource(value.get("resourceType"))
        if table is None:
            return [("", ProblemCode.UNKNOWN_RESOURCE, "R4 has no such resourceType")]
        around = self._inside
        if "contained" not in value:
            if around is None:
                return self.object(value, table, depth)
            self._inside = None
            found = self.object(value, table, depth)
        else:
            self._inside = ids_of(value["contained"])
            found = self.object(value, table, depth)
            unnamed = unnamed_in(value)
            if unnamed:
                found = (found or []) + unnamed
        self._inside = around
        return found

    def _contained(self, value: Any, depth: int) -> list[Finding] | None:
        """A contained resource."""
        if type(value) is not dict:
            return [("", ProblemCode.WRONG_TYPE, "a resource is a JSON object")]
        table = self._tables.resource(value.get("resourceType"))
        if table is None:
            return [("", ProblemCode.UNKNOWN_RESOURCE, "R4 has no such resourceType")]
        findings = self.object(value, table, depth) or []
        if "id" not in value:
            findings.append((".id", ProblemCode.MISSING, "a contained resource needs an id"))
        if "contained" in value:
            text = "a contained resource contains no other (dom-2)"
            findings.append((".contained", ProblemCode.CONTAINED, text))
        meta = value.get("meta")
        if type(meta) is dict and not meta.keys().isdisjoint(
            ("versionId", "lastUpdated", "security")
        ):
            text = "no version, time or security label of its own (dom-4, dom-5)"
            findings.append((".meta", ProblemCode.CONTAINED, text))
        return findings or None

    # --- objects ---------------------------------------------------------------------

    def object(  # noqa: PLR0912, PLR0915 - every element of every entry comes by here; see above
        self, value: dict[Any, Any], table: Table, depth: int
    ) -> list[Finding] | None:
        """An object of the type that the table describes."""
        if depth > DEPTH_MAX:
            return [("", ProblemCode.TOO_DEEP, "elements are nested too deeply")]
        bad: list[Finding] | None = None
        chosen: dict[str, str] | None = None
        properties: dict[Any, Property] = table.properties  # a key of bad input is no text
        # What entries share stands directly in them; what is in another depends on that one.
        right = self._right if depth == 1 and self._inside is None else None
        for key, item in value.items():
            rule = properties.get(key)
            kind = type(item)
            found: list[Finding] | None
            if rule is None:
                bad = bad or []
                bad.append((f".{_printable(key)}", ProblemCode.UNKNOWN_ELEMENT, "R4 has no such"))
                if len(bad) >= PROBLEMS_MAX:
                    return bad
                continue
            if kind is str:
                # What is not less than "!" begins with neither a space nor a control character.
                if item in rule.right or (
                    rule.words and item >= "!" and item.isprintable() and len(item) < _SHORT
                ):
                    continue
                if rule.one is not None:
                    found = rule.one.check(item)
                else:
                    found = self.property(rule, item, depth)
            elif kind is dict:
                if rule.reference is not None:
                    text = item.get("reference")
                    if (
                        len(item) == 1
                        and type(text) is str
                        and text in rule.named
                        and not rule.choice
                    ):
                        if not rule.elsewhere:
                            self.references.append(text)
                        continue
                    found = self._reference(rule, item, rule.reference, depth)
                elif rule.single is not None:
                    if right is None or rule.choice:
                        found = self.object(item, rule.single, depth + 1)
                    elif right.holds(item, rule):
                        continue
                    else:
                        found = self._shared(rule, item, item, rule.single, right)
                else:
                    found = self.property(rule, item, depth)
            elif kind is list and rule.many is not None and len(item) == 1:
                child = item[0]
                if type(child) is not dict:
                    found = within("[0]", not_an_object(child))
                else:
                    if right is None:
                        found = self.object(child, rule.many, depth + 1)
                    elif right.holds(item, rule):
                        continue
                    else:
                        found = self._shared(rule, item, child, rule.many, right)
                    if found is not None:
                        found = within("[0]", found)
            elif rule.one is not None:
                found = rule.one.check(item)
            else:
                found = self.property(rule, item, depth)
            if rule.choice:
                if chosen is None:
                    chosen = {}
                if chosen.setdefault(rule.choice, rule.bare) != rule.bare:
                    text = "stands in more than one type"
                    bad = bad or []
                    bad.append((f".{rule.choice}", ProblemCode.CHOICE, text))
            if found is not None:
                bad = bad or []
                bad.extend(_inside(key, found, value))
                if len(bad) >= PROBLEMS_MAX:
                    return bad
        for key in table.first_required:
            if key not in value:
                bad = _missing(table, value, bad)
                break
        if bad:
            return bad
        if len(value) < 2 and (not value or "id" in value):
            return [("", ProblemCode.EMPTY, "an object without content (ele-1)")]
        for invariant in table.invariants:
            if (not invariant.trigger or invariant.trigger in value) and not invariant.holds(value):
                bad = bad or []
                bad.append(("", ProblemCode.INVARIANT, f"{invariant.key}: {invariant.text}"))
        return bad or None

    def _shared(
        self, rule: Property, item: Any, child: dict[Any, Any], table: Table, right: Right
    ) -> list[Finding] | None:
        """The object in a property of an entry, which other entries may share."""
        named = len(self.references)
        found = self.object(child, table, 2)
        if found is None and named == len(self.references):
            right.note(item, rule)
        return found

    # --- what the loop above does not settle itself -----------------------------------

    def property(self, rule: Property, item: Any, depth: int) -> list[Finding] | None:
        """Whatever stands under one property's name, arrays included."""
        if not rule.repeats:
            return self._one(rule, item, depth)
        if type(item) is not list:
            return [("", ProblemCode.NOT_AN_ARRAY, "a single value where R4 has an array")]
        if not item:
            return [("", ProblemCode.EMPTY, "an empty array")]
        nullable = rule.kind == NULLABLE
        bad: list[Finding] = []
        nulls = 0
        for at, child in enumerate(item):
            if child is None and nullable:
                nulls += 1
                continue
            found = self._one(rule, child, depth)
            if found is not None:
                bad.extend(within(f"[{at}]", found))
                if len(bad) >= PROBLEMS_MAX:
                    break
        if nulls == len(item):
            return [("", ProblemCode.EMPTY, "an array of nulls")]
        return bad or None

    def _one(self, rule: Property, item: Any, depth: int) -> list[Finding] | None:
        """One value."""
        if rule.primitive is not None:
            return rule.primitive.check(item)
        kind = rule.kind
        if kind == RESOURCE:
            return self.resource(item, depth + 1)
        if kind == CONTAINED:
            return self._contained(item, depth + 1)
        if type(item) is not dict or rule.table is None:
            return not_an_object(item)
        if kind == REFERENCE:
            return self._reference(rule, item, rule.table, depth)
        found = self.object(item, rule.table, depth + 1)
        if found is not None:
            return found
        if kind == BOUND and rule.systems is not None and not _is_bound(item, rule.systems):
            return [("", ProblemCode.CODE, "no coding is in the required value set")]
        return None

    def _reference(
        self, rule: Property, item: dict[str, Any], table: Table, depth: int
    ) -> list[Finding] | None:
        """A Reference, whose relative or REST form must name one of the target types."""
        text = item.get("reference")
        if type(text) is str and not rule.elsewhere:
            self.references.append(text)
        if len(item) > 1 or type(text) is not str:
            found = self.object(item, table, depth + 1)
            if found is not None:
                return found
            if "type" in item:
                found = self._type(rule, item["type"], text)
                if found is not None:
                    return found
        if type(text) is not str or text in rule.named:
            return None
        match = REFERENCE_FORM.fullmatch(text)
        if match is not None and self._tables.resource(match.group(1)) is not None:
            if rule.targets and match.group(1) not in rule.targets:
                expected = " or ".join(sorted(rule.targets))
                return [(".reference", ProblemCode.TARGET, f"names another type than {expected}")]
            if len(rule.named) >= _NAMED_MAX:
                rule.named.clear()
            rule.named.add(text)
            return None
        if text.startswith("#"):
            if text == "#" or (self._inside is not None and text[1:] in self._inside):
                return None
            message = "names a contained resource that is not there (ref-1)"
            return [(".reference", ProblemCode.DANGLING, message)]
        if text.startswith(ELSEWHERE):
            # Alone in its object it has not been looked at as a text before.
            return self.object(item, table, depth + 1)
        return [(".reference", ProblemCode.FORMAT, "neither Type/id, nor #id, nor a URI")]

    def _type(self, rule: Property, name: Any, text: Any) -> list[Finding] | None:
        """What is wrong with ``Reference.type``: it is of the targets, and the reference's own."""
        if self._tables.resource(name) is None:
            return (
                None  # the binding is extensible: another model's type, or by its extensions only
            )
        if rule.targets and name not in rule.targets:
            expected = " or ".join(sorted(rule.targets))
            return [(".type", ProblemCode.TARGET, f"another type than {expected}")]
        match = REFERENCE_FORM.fullmatch(text) if type(text) is str else None
        if match is not None and match.group(1) != name:
            return [(".type", ProblemCode.TARGET, "another type than the reference names")]
        return None


def not_an_object(value: Any) -> list[Finding]:
    """Why a value is no JSON object of R4."""
    if isinstance(value, list):
        return [("", ProblemCode.NOT_SINGLE, "an array where R4 has a single value")]
    if value is None:
        return [("", ProblemCode.NULL, "null is no element")]
    return [("", ProblemCode.WRONG_TYPE, "a primitive value where R4 has an object")]


def _is_bound(value: Mapping[str, Any], systems: Mapping[str, frozenset[str]]) -> bool:
    """Whether a CodeableConcept, Coding or Quantity has a code of the value set."""
    for coding in value.get("coding", ()) if "coding" in value else (value,):
        if coding.get("code") in systems.get(coding.get("system", ""), ()):
            return True
    return False


def _missing(
    table: Table, value: Mapping[str, Any], bad: list[Finding] | None
) -> list[Finding] | None:
    """The findings, and after them the required elements that stand under none of their names."""
    for name, keys in table.required:
        if not any(key in value for key in keys):
            bad = bad or []
            bad.append((f".{name}", ProblemCode.MISSING, "is required"))
    return bad


def _inside(key: Any, found: list[Finding], value: Mapping[str, Any]) -> list[Finding]:
    """The findings of a property, without the nulls that an extension stands in for."""
    name = _printable(key)
    sibling = value.get(f"_{name}")
    if type(sibling) is list:
        extended = {f"[{at}]" for at, item in enumerate(sibling) if type(item) is dict}
        found = [
            finding
            for finding in found
            if finding[1] is not ProblemCode.NULL or finding[0] not in extended
        ]
    return within(f".{name}", found)


def _printable(key: Any) -> str:
    """A property name fit for a path; anything that is no name is not repeated."""
    if type(key) is str and key.isidentifier() and len(key) <= _NAME_CHARACTERS_MAX:
        return key
    return "?"
