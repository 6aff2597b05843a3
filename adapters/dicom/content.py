"""Content items of a structured report (PS3.3 C.17.3).

Each is a place from which paths are read and a value with parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from adapters.dicom.dataset import Level
from adapters.dicom.paths import parse
from adapters.dicom.reading import READING_FAULTS, read
from adapters.dicom.values import Absent, Report
from gateway.ports import PathError, Value, ValueState

MANY_CHILDREN = 16

CONTENT_SEQUENCE = 0x0040A730
RELATIONSHIP_TYPE = 0x0040A010
VALUE_TYPE = 0x0040A040
CONCEPT_NAME = 0x0040A043
CONCEPT_CODE = 0x0040A168
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
