"""The content tree of a structured report (PS3.3 C.17.3), found in one bounded pass.

Each content item is a place from which paths are read and a value with parts. A tree
that is too large, too deep or broken is not read at all: part of a report must not
pass for the whole of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

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
from adapters.dicom.paths import parse
from adapters.dicom.reading import READING_FAULTS, read
from adapters.dicom.values import Absent, Report
from gateway.ports import PathError, Value, ValueState

ITEMS_MAX = 25_000
"""Content items of one report; the dose report of a long intervention has fifteen thousand."""

CONTENT_DEPTH_MAX = 50
"""Content items inside one another; real reports stay under fifteen."""

CONTENT_BYTES_MAX = 32 << 20

STUDY_ITEMS_MAX = 60_000
"""Content items of all reports of one study."""

INHERITED_MAX = 300_000
"""How often the items of one report inherit a context or modifier (PS3.3 C.17.5)."""

MANY_CHILDREN = 16

CONTENT_SEQUENCE = 0x0040A730
RELATIONSHIP_TYPE = 0x0040A010
VALUE_TYPE = 0x0040A040
CONCEPT_NAME = 0x0040A043
CONCEPT_CODE = 0x0040A168
REFERENCED_CONTENT_ITEM = 0x0040DB73
CONTENT_TEMPLATE = 0x0040A504
TEMPLATE_IDENTIFIER = 0x0040DB00
_CODING_SCHEME = 0x00080102
_CODES = (0x00080100, 0x00080119, 0x00080120)
"""CodeValue, LongCodeValue, URNCodeValue: one of the three stands (PS3.3 section 8.1)."""

VALUE_TYPES = {
    "CODE": "ConceptCodeSequence(1).CodeMeaning",
    "COMPOSITE": "ReferencedSOPSequence(1).ReferencedSOPInstanceUID",
    "CONTAINER": "",
    "DATE": "Date",
    "DATETIME": "DateTime",
    "IMAGE": "ReferencedSOPSequence(1).ReferencedSOPInstanceUID",
    "NUM": "MeasuredValueSequence(1).NumericValue",
    "PNAME": "PersonName",
    "SCOORD": "GraphicType",
    "SCOORD3D": "GraphicType",
    "TABLE": "",
    "TCOORD": "TemporalRangeType",
    "TEXT": "TextValue",
    "TIME": "Time",
    "UIDREF": "UID",
    "WAVEFORM": "ReferencedSOPSequence(1).ReferencedSOPInstanceUID",
}
"""The value types (PS3.3 table C.17.3.2-1), and where the text of such an item stands."""

CONTEXT = frozenset({"HAS OBS CONTEXT", "HAS ACQ CONTEXT", "HAS CONCEPT MOD"})
"""Relationships of what holds for all that stands below their item."""

_WITHOUT_TEXT = frozenset({"CONTAINER", "TABLE"})


class ContentItem:
    """One content item. ``position`` counts from 1 at the root: ``1.3.2``."""

    __slots__ = (
        "_codes", "_concepts", "_matching", "by_reference", "children", "level", "page", "parent",
        "position", "relationship", "report", "value_type", "where",
    )  # fmt: skip

    def __init__(
        self, level: Level, parent: ContentItem | None, number: int, where: str, report: Report
    ) -> None:
        self.level = level
        self.parent = parent
        self.position: str = f"{parent.position}.{number}" if parent else "1"
        self.where = where
        self.report = report
        self.relationship = level.text(RELATIONSHIP_TYPE)
        self.value_type = level.text(VALUE_TYPE)
        self.children: list[ContentItem] = []
        self.by_reference = False
        """Whether it stands elsewhere in the tree and is only named here."""
        self.page: bytes | None = None
        """Of a root: the page that was made of the tree, once it was asked for."""
        self._concepts: frozenset[str] | None = None
        self._codes: frozenset[str] | None = None
        self._matching: dict[str, list[ContentItem]] = {}

    @property
    def path(self) -> str:
        """Its place, for the trace: the instance's own attributes are the root's."""
        if self.parent is None:
            return self.where
        return f"{self.where}/content({self.position})"

    @property
    def prefix(self) -> str:
        """What stands before the keyword of an attribute of this item."""
        return f"{self.path}." if self.parent is not None else f"{self.path}/"

    @property
    def root(self) -> ContentItem:
        item = self
        while item.parent is not None:
            item = item.parent
        return item

    @property
    def concepts(self) -> frozenset[str]:
        """The codes of its concept name, as ``DCM:121071``; none when it has no name."""
        if self._concepts is None:
            self._concepts = self._coded(CONCEPT_NAME)
        return self._concepts

    @property
    def codes(self) -> frozenset[str]:
        """The codes of the value of a CODE."""
        if self._codes is None:
            self._codes = self._coded(CONCEPT_CODE)
        return self._codes

    @property
    def template(self) -> str:
        """The number of the template that it was made by (PS3.3 C.18.8); mostly the root's."""
        try:
            found = self.level.items(CONTENT_TEMPLATE)
        except READING_FAULTS:
            return ""
        return found[0].text(TEMPLATE_IDENTIFIER) if found else ""

    def _coded(self, tag: int) -> frozenset[str]:
        if not self.level.length(tag):
            return frozenset()
        try:
            items = self.level.items(tag)[:1]
        except READING_FAULTS:
            return frozenset()
        return frozenset(
            f"{item.text(_CODING_SCHEME)}:{code}"
            for item in items
            for tag in _CODES
            if (code := item.text(tag))
        )

    # --- as a value ------------------------------------------------------------------

    @property
    def state(self) -> ValueState:
        """Present where it says something; a container always does."""
        if self.value_type in _WITHOUT_TEXT or self.text:
            return ValueState.PRESENT
        return ValueState.EMPTY

    @property
    def datatype(self) -> str:
        """Its value type."""
        return self.value_type

    @property
    def text(self) -> str:
        """The text, number, date, name, UID or code meaning; empty for a container."""
        keyword = VALUE_TYPES.get(self.value_type, "")
        found = self.part(keyword) if keyword else None
        return found.text if found is not None else ""

    def part(self, path: str) -> Value:
        """The first value at a path of keywords or of content, from here."""
        found = self.parts(path)
        return found[0] if found else Absent(f"{self.prefix}{path}")

    def parts(self, path: str) -> Sequence[Value]:
        """All values at a path of keywords or of content, from here."""
        from adapters.dicom.content_paths import is_content_path, parse_content

        try:
            if is_content_path(path):
                return parse_content(path).read(self)
            wanted = parse(path)
            return wanted.parts_of(read(self.level, wanted.steps, self.prefix, self.report))
        except (PathError, *READING_FAULTS):
            return ()

    def raw(self) -> bytes:
        """Its text in UTF-8: a content item has no bytes of its own."""
        return self.text.encode()

    # --- the tree --------------------------------------------------------------------

    def matching(self, name: str, test: Callable[[ContentItem], bool]) -> list[ContentItem]:
        """The children that pass a test, remembered by its name where they are many.

        What holds for a section is asked by every item in it.
        """
        if len(self.children) < MANY_CHILDREN:
            return [child for child in self.children if test(child)]
        found = self._matching.get(name)
        if found is None:
            found = self._matching[name] = [child for child in self.children if test(child)]
        return found

    def below(self) -> Iterator[ContentItem]:
        """All items below in document order, those that are only named here among them."""
        stack = [iter(self.children)]
        while stack:
            for child in stack[-1]:
                yield child
                if child.children:
                    stack.append(iter(child.children))
                    break
            else:
                stack.pop()

    def own(self) -> Iterator[ContentItem]:
        """As :meth:`below` without the containers and what is in them."""
        stack = [iter(self.children)]
        while stack:
            for child in stack[-1]:
                if child.value_type == "CONTAINER":
                    continue
                yield child
                if child.children:
                    stack.append(iter(child.children))
                    break
            else:
                stack.pop()

    def ancestors(self) -> Iterator[ContentItem]:
        """The items around, the nearest first."""
        item = self.parent
        while item is not None:
            yield item
            item = item.parent

    def referred(self, reference: ContentItem) -> ContentItem:
        """This item in the place of one that only refers to it (PS3.3 C.17.3.2.5).

        It has the reference's relationship and no children, so that a circle of references
        is never walked.
        """
        made = ContentItem(self.level, reference.parent, 0, self.where, self.report)
        made.position = self.position
        made.relationship = reference.relationship
        made.by_reference = True
        return made


class AroundRoot(ContentItem):
    """What an instance is to its content tree: the place whose only child is the root."""

    __slots__ = ()

    def __init__(self, root: ContentItem) -> None:
        super().__init__(root.level, None, 1, root.where, root.report)
        self.children = [root]

    @property
    def root(self) -> ContentItem:
        return self.children[0]


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
            if parent is not None and parent.parent is not None:  # the root's is said once
                own = sum(child.relationship in CONTEXT for child in parent.children)
                own += inherited.get(parent.parent, 0)
            inherited[parent] = own
        total += inherited[parent]
        if total > INHERITED_MAX:
            raise TooMany(f"more than {INHERITED_MAX} contexts inherited", 0)


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
