"""The content tree of a structured report, found in one bounded pass over its bytes.

A tree that is too large, too deep or broken is not read at all: part of a report must
not pass for the whole of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from adapters.dicom.content import CONTENT_SEQUENCE, VALUE_TYPE, ContentItem
from adapters.dicom.dataset import Content, Level
from adapters.dicom.elements import (
    ITEM,
    ITEM_END,
    SEQUENCE_END,
    UNDEFINED,
    DataSetError,
    Element,
    Encoding,
    TooDeep,
    TooMany,
    Truncated,
    Walk,
    Window,
)
from adapters.dicom.reading import READING_FAULTS
from adapters.dicom.values import Report

ITEMS_MAX = 25_000
"""Content items of one report; the dose report of a long intervention has fifteen thousand."""

CONTENT_DEPTH_MAX = 50
"""Content items inside one another; real reports stay under fifteen."""

CONTENT_BYTES_MAX = 32 << 20

STUDY_ITEMS_MAX = 60_000
"""Content items of all reports of one study."""

INHERITED_MAX = 300_000
"""How often the items of one report inherit a context or modifier (PS3.3 C.17.5)."""

CONTEXT = frozenset({"HAS OBS CONTEXT", "HAS ACQ CONTEXT", "HAS CONCEPT MOD"})
"""Relationships of what holds for all that stands below their item."""
FINDING_SITE = frozenset({"SCT:363698007", "SRT:G-C0E3"})
"""What is said of it (its side) goes with it to what is measured there."""


class Contents:
    """The content trees of a study's instances: each built once, all within one limit."""

    def __init__(self) -> None:
        self._roots: dict[str, ContentItem | None] = {}
        self._left = STUDY_ITEMS_MAX

    def root(self, uid: str, level: Level, where: str, report: Report) -> ContentItem | None:
        """The root content item of an instance; None when it is no report or not to be read."""
        if uid not in self._roots:
            self._roots[uid] = self._built(level, where, report)
        return self._roots[uid]

    def _built(self, level: Level, where: str, report: Report) -> ContentItem | None:
        if not level.text(VALUE_TYPE):
            return None
        try:
            length = level.length(CONTENT_SEQUENCE) or 0
            if length > CONTENT_BYTES_MAX:
                raise TooMany(f"a content tree of more than {CONTENT_BYTES_MAX} bytes", 0)
            found, content = _Pass(level, min(ITEMS_MAX, self._left)).items()
            root = _tree(level, found, content, where, report)
        except READING_FAULTS as fault:
            detail = type(fault).__name__ if isinstance(fault, OSError) else str(fault)
            report("content-not-read", detail, f"{where}/ContentSequence")
            return None
        self._left -= len(found)
        return root


@dataclass(slots=True)
class _Found:
    """One content item as the pass finds it: its parent's place in the list, its elements."""

    parent: int
    encoding: Encoding
    elements: list[Element]


@dataclass(slots=True)
class _Open:
    """A sequence or an item that is not closed yet. ``end`` is where it ends at the latest."""

    item: int
    is_item: bool
    end: int
    encoding: Encoding


class _Pass:
    """One pass over the bytes of a content sequence, whatever its nesting."""

    def __init__(self, level: Level, items_max: int) -> None:
        self.data = level.raw(CONTENT_SEQUENCE) or b""
        self.window = Window.of(self.data)
        self._walk = Walk(self.window)
        self._max = items_max
        self._found: list[_Found] = []
        encoding = level.encoding_in(CONTENT_SEQUENCE)
        self._open = [_Open(-1, False, len(self.data), encoding)]

    def items(self) -> tuple[list[_Found], Content]:
        """All content items in document order. Raises DataSetError."""
        position = 0
        while self._open:
            around = self._open[-1]
            if position >= around.end:
                if position > around.end:
                    raise Truncated("an item is longer than its sequence", position)
                self._open.pop()
                continue
            position = self._step(around, position)
        return self._found, Content(self.data, 0, len(self.data), None)

    def _step(self, around: _Open, position: int) -> int:
        tag, vr, length, offset = self._walk.head(position, around.encoding)
        if around.is_item:
            if tag == ITEM_END:
                self._open.pop()
                return offset
            return self._element(around, tag, vr, length, offset)
        if tag == SEQUENCE_END:
            self._open.pop()
            return offset
        if tag != ITEM:
            raise DataSetError("a sequence holds something that is no item", position)
        if len(self._found) >= self._max:
            raise TooMany(f"more than {self._max} content items", position)
        if len(self._open) >= 2 * CONTENT_DEPTH_MAX:
            raise TooDeep(f"content nested deeper than {CONTENT_DEPTH_MAX}", position)
        self._found.append(_Found(around.item, around.encoding, []))
        opened = _Open(len(self._found) - 1, True, around.end, around.encoding)
        self._enter(opened, length, offset)
        return offset

    def _element(self, around: _Open, tag: int, vr: str, length: int, offset: int) -> int:
        inside = around.encoding.implicit if vr == "UN" else around.encoding
        if tag == CONTENT_SEQUENCE:
            self._enter(_Open(around.item, False, around.end, inside), length, offset)
            return offset
        undefined = length == UNDEFINED
        closed = False
        if undefined:
            after, closed = self._walk.past_undefined(offset, around.end, inside)
        else:
            after = offset + length
        if after > around.end:
            raise Truncated("a value is longer than the data set", offset)
        size = after - offset - (8 if closed else 0)
        self._found[around.item].elements.append(Element(tag, vr, offset, size, undefined))
        return after

    def _enter(self, opened: _Open, length: int, offset: int) -> None:
        if length != UNDEFINED:
            if offset + length > opened.end:
                raise Truncated("a sequence is longer than what holds it", offset)
            opened.end = offset + length
        self._open.append(opened)


def _tree(
    root_level: Level, found: list[_Found], content: Content, where: str, report: Report
) -> ContentItem:
    root = ContentItem(root_level, None, 1, where, report)
    made: list[ContentItem] = []
    for one in found:
        parent = made[one.parent] if one.parent >= 0 else root
        level = Level(content, one.encoding, one.elements, parent.level)
        item = ContentItem(level, parent, len(parent.children) + 1, where, report)
        parent.children.append(item)
        made.append(item)
    _check_inherited(made)
    _resolve([root, *made])
    return root


def _check_inherited(items: list[ContentItem]) -> None:
    """Raises TooMany when writing each item with all that it inherits would never end."""
    inherited: dict[ContentItem | None, int] = {}
    total = 0
    for item in items:
        parent = item.parent
        if parent not in inherited:
            own = 0
            if parent is not None:
                own = sum(len(each.children) for each in parent.children if _is_site(each))
            if parent is not None and parent.parent is not None:  # the root's is said once
                own += sum(child.relationship in CONTEXT for child in parent.children)
                own += inherited.get(parent.parent, 0)
            inherited[parent] = own
        total += inherited[parent]
        if total > INHERITED_MAX:
            raise TooMany(f"more than {INHERITED_MAX} contexts inherited", 0)


def _is_site(item: ContentItem) -> bool:
    return item.value_type == "CODE" and not item.concepts.isdisjoint(FINDING_SITE)


def _resolve(items: list[ContentItem]) -> None:
    """Put what is referred to in the place of the references; what leads nowhere is left."""
    references = [item for item in items if not item.value_type and item.parent is not None]
    if not references:
        return
    by_position = {item.position: item for item in items}
    for item in references:
        numbers = [value.text for value in item.parts("ReferencedContentItemIdentifier")]
        target = by_position.get(".".join(numbers))
        parent = item.parent
        if target is None or target is item or not target.value_type or parent is None:
            item.report("reference-to-nothing", "no such content item", item.path)
            continue
        place = next(n for n, child in enumerate(parent.children) if child is item)
        parent.children[place] = target.referred(item)
