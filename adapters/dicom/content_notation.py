"""Content items of a structured report written as lines, for the tests beside mappings.

::

    > HAS CONCEPT MOD | CODE | DCM 121049 Language | RFC5646 fr-FR French
    > CONTAINS | CONTAINER | DCM 125007 Measurement Group
    >> CONTAINS | NUM | SCT 410668003 Length | 12.5 | UCUM mm millimeter
    >>> INFERRED FROM | IMAGE | - | 1.2.840.10008.5.1.4.1.1.2 2.999.1.1
    >> CONTAINS | TEXT | DCM 121106 Comment | free text | whatever stands in it
    > SELECTED FROM | REFERENCE | - | 1.2.1

One ``>`` is a child of the root, one more a child of the item before. Relationship, value
type, concept name and value are parted by `` | ``; a code is scheme, code and meaning, ``-``
nothing. A NUM has its unit as fifth; without one it has no units.
"""

from __future__ import annotations

from collections.abc import Callable

from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from adapters.dicom.dictionary import tag_of, vr_of
from gateway.ports import Unreadable

DEPTH_MAX = 1_000
"""Deeper than any reader takes, so that tests can show it."""

_TEXTS = {
    "TEXT": "TextValue", "PNAME": "PersonName", "DATE": "Date", "TIME": "Time",
    "DATETIME": "DateTime", "UIDREF": "UID",
}  # fmt: skip


def put_content(root: Dataset, lines: list[tuple[int, str]]) -> None:
    """Add the content items to the root. Raises Unreadable with the line's number."""
    around = [root]
    for number, line in lines:
        depth = len(line) - len(line.lstrip(">"))
        if depth > len(around) or depth > DEPTH_MAX:
            raise Unreadable(f"line {number}: nothing stands one level above this content item")
        del around[depth:]
        item = _item(line.lstrip(">").strip(), number)
        if "ContentSequence" not in around[-1]:
            around[-1].ContentSequence = []
        around[-1].ContentSequence.append(item)
        around.append(item)


def _item(text: str, number: int) -> Dataset:
    fields = [field.strip() for field in text.split(" | ", 3)]
    if len(fields) < 3:
        raise Unreadable(f"line {number}: relationship | value type | concept | value is expected")
    relationship, value_type, concept = fields[:3]
    value = fields[3] if len(fields) > 3 else ""
    item = Dataset()
    _put(item, "RelationshipType", relationship)
    if value_type == "REFERENCE":
        item.ReferencedContentItemIdentifier = [int(place) for place in value.split(".")]
        return item
    _put(item, "ValueType", value_type)
    if concept != "-":
        item.ConceptNameCodeSequence = [code_item(concept, number)]
    if value_type in _TEXTS:
        _put(item, _TEXTS[value_type], value)
    elif value_type != "CONTAINER":
        _fill(item, value_type, value, number)
    return item


def _fill(item: Dataset, value_type: str, value: str, number: int) -> None:
    fill = _FILLED.get(value_type)
    if fill is None:
        raise Unreadable(f"line {number}: no value type {value_type}")
    fill(item, value, number)


def _number(item: Dataset, value: str, number: int) -> None:
    text, _, unit = (part.strip() for part in value.partition(" | "))
    measured = Dataset()
    try:
        _put(measured, "NumericValue", text if text != "-" else "")
    except ValueError:
        raise Unreadable(f"line {number}: a NUM has a number") from None
    if unit:
        measured.MeasurementUnitsCodeSequence = [code_item(unit, number)]
    item.MeasuredValueSequence = [] if text == "-" else [measured]


def _code(item: Dataset, value: str, number: int) -> None:
    item.ConceptCodeSequence = [] if value == "-" else [code_item(value, number)]


def _reference(item: Dataset, value: str, number: int) -> None:
    kind, _, instance = value.partition(" ")
    if not instance:
        raise Unreadable(f"line {number}: SOP class UID and SOP instance UID are expected")
    referenced = Dataset()
    _put(referenced, "ReferencedSOPClassUID", kind)
    _put(referenced, "ReferencedSOPInstanceUID", instance)
    item.ReferencedSOPSequence = [referenced]


def _region(item: Dataset, value: str, number: int) -> None:
    kind, *points = value.split()
    _put(item, "GraphicType", kind)
    try:
        item.GraphicData = [float(point) for point in points]
    except ValueError:
        raise Unreadable(f"line {number}: the points are numbers") from None


_FILLED: dict[str, Callable[[Dataset, str, int], None]] = {
    "NUM": _number,
    "CODE": _code,
    "IMAGE": _reference,
    "COMPOSITE": _reference,
    "WAVEFORM": _reference,
    "SCOORD": _region,
}


def code_item(text: str, number: int) -> Dataset:
    """A code sequence item of ``scheme code meaning``; raises Unreadable."""
    parts = text.split(" ", 2)
    if len(parts) < 2:
        raise Unreadable(f"line {number}: a code is scheme, code and meaning")
    item = Dataset()
    keyword = "CodeValue" if len(parts[1]) <= 16 else "LongCodeValue"
    _put(item, "URNCodeValue" if parts[1].startswith("urn:") else keyword, parts[1])
    _put(item, "CodingSchemeDesignator", parts[0])
    if len(parts) > 2:
        _put(item, "CodeMeaning", parts[2])
    return item


def _put(item: Dataset, keyword: str, value: str) -> None:
    """Write a value as it stands, wrong ones too."""
    tag = tag_of(keyword)
    assert tag is not None
    vr = str(vr_of(tag))
    item.add(DataElement(tag, vr, value, validation_mode=config.IGNORE))
