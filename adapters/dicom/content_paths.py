"""The notation of content items: places in the tree of a structured report, checked.

::

    path      = [axis] step { ("/" | "//") step } [ "." attribute ]
    axis      = "/" from the document | "//" anywhere below | "own::" below, but in no
                container inside | "ancestor::" around, the nearest first | "parent::" | "self::"
    step      = (VALUE TYPE | "*") { "[" predicate "]" } [ "(" number ")" ]
    predicate = ["!"] ("concept" | "value" | "relationship" | "template") [ "=" one { "|" one } ]
              | ["!"] ("same" | "reference")
    attribute = a path of keywords | "position()" | "narrative()"

``CODE[concept=DCM:121071]`` is a child that is a CODE of that concept name;
``own::*[!relationship=CONTAINS]`` what is no content of its own, ``//NUM[!concept]`` a
number without a name; ``//NUM(2)`` the second of all that the path reaches so far. ``value``
looks at the code of a CODE, ``template`` at the number of the content template, ``same`` is an
item of the same concept name as that from which the path starts, ``reference`` one that stands
elsewhere and is only named there. A code is ``SCHEME:CODE``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from adapters.dicom.content import VALUE_TYPES, ContentItem
from adapters.dicom.narrative import narrative
from adapters.dicom.paths import PATH_CHARACTERS_MAX, DicomPath, parse
from adapters.dicom.reading import READING_FAULTS, read, read_instant
from adapters.dicom.values import Text
from gateway.ports import PathError, Value

POSITION = "position()"
NARRATIVE = "narrative()"

RELATIONSHIPS = (
    "CONTAINS", "HAS OBS CONTEXT", "HAS ACQ CONTEXT", "HAS CONCEPT MOD", "HAS PROPERTIES",
    "INFERRED FROM", "SELECTED FROM",
)  # fmt: skip
"""Relationship types (PS3.3 table C.17.3-8)."""

PREDICATES = ("concept", "value", "relationship", "template", "same", "reference")

Test = Callable[[ContentItem], bool]


_AXES = ("ancestor::", "own::", "parent::", "self::", "//", "/")
_START = re.compile(
    r"(?:ancestor::|own::|parent::|self::|/)|\*|[A-Z0-9]+\[|(?:"
    + "|".join(VALUE_TYPES)
    + r")(?:$|[/(.])"
)
_STEP = re.compile(r"(?P<type>\*|[A-Z][A-Z0-9]*)(?P<predicates>(?:\[[^\[\]]*\])*)")
_PREDICATE = re.compile(r"\[(?P<no>!?)(?P<key>[a-z]+)(?:=(?P<values>[^\[\]]+))?\]")
_PLACE = re.compile(r"\((\d{1,6})\)")
_CODE = re.compile(r"[^:|\s]+:\S+")


@dataclass(frozen=True, slots=True)
class Step:
    """One step: below or among the children, which items, of the name of the first or not.

    ``text`` tells the test from others. ``place`` is which one of them all, 0 for every one.
    """

    text: str
    deep: bool
    test: Test
    same: bool | None = None
    place: int = 0

    def kept(self, items: Iterable[ContentItem], start: ContentItem) -> Iterable[ContentItem]:
        """Those that have, or have not, the name of the item from which the path starts; of them
        the one in the place."""
        if self.same is not None:
            items = (i for i in items if self.same is not i.concepts.isdisjoint(start.concepts))
        return islice(items, self.place - 1, self.place) if self.place else items


@dataclass(frozen=True, slots=True)
class ContentPath:
    """A checked path. ``steps`` are how to go and what to take."""

    text: str
    axis: str
    steps: tuple[Step, ...]
    attribute: DicomPath | None = None
    special: str = ""

    @property
    def place(self) -> int:
        """Which one of all at the end is meant, 0 for every one."""
        return self.steps[-1].place

    def items(self, start: ContentItem) -> Iterator[ContentItem]:
        """The content items at the path, in document order (ancestors: the nearest first)."""
        found: Iterable[ContentItem] = self._first(start)
        for step in self.steps[1:]:
            found = step.kept(_next(found, step), start)
        return iter(found)

    def _first(self, start: ContentItem) -> Iterable[ContentItem]:
        step = self.steps[0]
        if self.axis == "":
            return step.kept(start.matching(step.text, step.test), start)
        if self.axis == "/":
            reached: Iterable[ContentItem] = (start.root,)
        elif self.axis == "self::":
            reached = (start,)
        elif self.axis == "parent::":
            reached = (start.parent,) if start.parent is not None else ()
        elif self.axis == "ancestor::":
            reached = start.ancestors()
        else:
            reached = start.own() if self.axis == "own::" else start.below()
        return step.kept((item for item in reached if step.test(item)), start)

    def read(self, start: ContentItem) -> list[Value]:
        """The values at the path: the items themselves, or an attribute of each."""
        if self.special == POSITION:
            return [Text(item.position, item.path, "", b"") for item in self.items(start)]
        if self.special == NARRATIVE:
            return [narrative(item) for item in self.items(start)]
        if self.attribute is None:
            return list(self.items(start))
        return [v for item in self.items(start) for v in attribute_of(item, self.attribute)]


def attribute_of(item: ContentItem, path: DicomPath) -> Sequence[Value]:
    """The values of an attribute of one item; none, and a flag, when it cannot be read."""
    try:
        if path.time:
            return read_instant(item.level, path, item.prefix, item.report)
        return path.parts_of(read(item.level, path.steps, item.prefix, item.report))
    except READING_FAULTS as fault:
        item.report("unreadable-value", str(fault), f"{item.prefix}{path.steps[0].keyword}")
        return ()


def is_content_path(text: str) -> bool:
    """Whether a text is meant as a path of content items and not of keywords."""
    return text in (POSITION, NARRATIVE) or _START.match(text) is not None


@lru_cache(maxsize=2_000)
def parse_content(text: str) -> ContentPath:
    """Check a path of content items. Raises PathError with the nearest right one."""
    if len(text) > PATH_CHARACTERS_MAX:
        raise PathError(f"a content path has at most {PATH_CHARACTERS_MAX} characters")
    if text in (POSITION, NARRATIVE):
        return ContentPath(text, "self::", (Step("*", False, _anything),), special=text)
    axis = next((axis for axis in _AXES if text.startswith(axis)), "")
    at, deep = len(axis), False
    steps: list[Step] = []
    while True:
        found = _STEP.match(text, at)
        if found is None:
            raise PathError(f"{text}: a value type or * is expected at character {at + 1}")
        at = found.end()
        numbered = _PLACE.match(text, at)
        if numbered is not None:
            at = numbered.end()
            if int(numbered[1]) == 0:
                raise PathError(f"{text}: positions count from 1", text.replace("(0)", "(1)"))
        steps.append(_step(text, found, deep, int(numbered[1]) if numbered is not None else 0))
        if not text.startswith("/", at):
            break
        deep = text.startswith("//", at)
        at += 2 if deep else 1
    made = ContentPath(text, axis, tuple(steps))
    return made if at == len(text) else _with_attribute(made, at)


def _with_attribute(path: ContentPath, at: int) -> ContentPath:
    text = path.text
    if text[at] != ".":
        raise PathError(f"{text}: the path does not continue like this at character {at + 1}")
    rest = text[at + 1 :]
    if rest in (POSITION, NARRATIVE):
        return ContentPath(text, path.axis, path.steps, special=rest)
    return ContentPath(text, path.axis, path.steps, attribute=parse(rest))


def _next(around: Iterable[ContentItem], step: Step) -> Iterator[ContentItem]:
    for item in around:
        if step.deep:
            yield from (inner for inner in item.below() if step.test(inner))
        else:
            yield from item.matching(step.text, step.test)


def _anything(_item: ContentItem) -> bool:
    return True


def _step(text: str, found: re.Match[str], deep: bool, place: int) -> Step:
    value_type, predicates = found["type"], found["predicates"]
    tests: list[Test] = []
    same: bool | None = None
    read = 0
    for one in _PREDICATE.finditer(predicates):
        read += len(one[0])
        if one["key"] == "same":
            same = not one["no"]
        else:
            tests.append(_predicate(text, one))
    if read != len(predicates):
        raise PathError(f"{text}: a predicate is {', '.join(PREDICATES)}")
    if value_type != "*":
        if value_type not in VALUE_TYPES:
            near = difflib.get_close_matches(value_type, VALUE_TYPES, n=1)
            raise PathError(
                f"{text}: {value_type} is no value type of a content item",
                text.replace(value_type, near[0]) if near else "",
            )
        tests.insert(0, lambda item: item.value_type == value_type)
    checks = tuple(tests)
    test = checks[0] if len(checks) == 1 else lambda item: all(test(item) for test in checks)
    return Step(found[0], deep, test, same, place)


def _predicate(text: str, found: re.Match[str]) -> Test:
    key = found["key"]
    if key not in PREDICATES:
        near = difflib.get_close_matches(key, PREDICATES, n=1)
        raise PathError(
            f"{text}: {key} is no predicate", text.replace(key, near[0]) if near else ""
        )
    wanted = frozenset(found["values"].split("|")) if found["values"] else frozenset()
    _check_values(text, key, wanted)
    if key == "concept":
        test = _has_code(lambda item: item.concepts, wanted)
    elif key == "value":
        test = _has_code(lambda item: item.codes, wanted)
    elif key == "relationship":
        test = _is_one(lambda item: item.relationship, wanted)
    elif key == "template":
        test = _is_one(lambda item: item.template, wanted)
    else:
        test = _is_reference
    return test if not found["no"] else lambda item: not test(item)


def _check_values(text: str, key: str, wanted: frozenset[str]) -> None:
    for one in wanted:
        if key in ("concept", "value") and _CODE.fullmatch(one) is None:
            raise PathError(f"{text}: a code is SCHEME:CODE, as DCM:121071")
        if key == "relationship" and one not in RELATIONSHIPS:
            near = difflib.get_close_matches(one, RELATIONSHIPS, n=1)
            raise PathError(
                f"{text}: {one} is no relationship", text.replace(one, near[0]) if near else ""
            )


def _is_reference(item: ContentItem) -> bool:
    return item.by_reference


def _has_code(codes: Callable[[ContentItem], frozenset[str]], wanted: frozenset[str]) -> Test:
    if not wanted:
        return lambda item: bool(codes(item))
    return lambda item: not wanted.isdisjoint(codes(item))


def _is_one(get: Callable[[ContentItem], str], wanted: frozenset[str]) -> Test:
    if not wanted:
        return lambda item: bool(get(item))
    return lambda item: get(item) in wanted
