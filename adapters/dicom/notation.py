"""Instances of a study written as text, for the tests beside DICOM mappings.

::

    # what all instances have
    StudyInstanceUID = 2.999.1
    PatientID = 4711
    IssuerOfPatientIDQualifiersSequence(1).UniversalEntityID = 1.2.250.1.999.1
    ---
    SOPInstanceUID = 2.999.1.1.1
    InstanceNumber = 1
    ---
    SOPInstanceUID = 2.999.1.1.2

Each ``---`` begins an instance; without one the text is one instance. A line is
a path of :mod:`adapters.dicom.paths`, ``=`` and the value, several values being
parted by a backslash. What begins with ``>`` is a content item of a structured report
(:mod:`adapters.dicom.content_notation`). Bytes are the text in UTF-8, or after ``base64:``
what that says. The data set is written in explicit VR little endian, in
UTF-8 unless SpecificCharacterSet says otherwise.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from io import BytesIO

from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from adapters.dicom.content_notation import put_content
from adapters.dicom.dictionary import vr_of
from adapters.dicom.part10 import file_head
from adapters.dicom.paths import parse
from gateway.model import Payload
from gateway.ports import PathError, Unreadable

TRANSFER_SYNTAX = "1.2.840.10008.1.2.1"
LINES_MAX = 10_000

_WHOLE_NUMBERS = frozenset({"US", "SS", "UL", "SL", "UV", "SV"})
_BYTES = frozenset({"OB", "OW", "UN"})
_FRACTIONS = frozenset({"FL", "FD"})


def study_files(text: str) -> Sequence[Payload]:
    """The DICOM files that the text describes, in order.

    Raises Unreadable with the line's number.
    """
    lines = text.splitlines()
    if len(lines) > LINES_MAX:
        raise Unreadable(f"an example study has at most {LINES_MAX} lines")
    common: list[tuple[int, str]] = []
    instances: list[list[tuple[int, str]]] = []
    for number, line in enumerate(lines, 1):
        content = line.strip()
        if content == "---":
            instances.append([])
        elif content and not content.startswith("#"):
            (instances[-1] if instances else common).append((number, content))
    return [_file([*common, *own]) for own in instances or [[]]]


def _file(lines: list[tuple[int, str]]) -> Payload:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    content = [(number, line) for number, line in lines if line.startswith(">")]
    for number, line in lines:
        if line.startswith(">"):
            continue
        path, equals, value = line.partition("=")
        if not equals:
            raise Unreadable(f"line {number}: keyword = value is expected")
        _put(dataset, path.strip(), value.strip(), number)
    put_content(dataset, content)
    target = DicomBytesIO()
    target.is_implicit_VR, target.is_little_endian = False, True
    write_dataset(target, dataset, parent_encoding="utf-8")
    body = BytesIO()
    body.write(
        file_head(
            str(dataset.get("SOPClassUID", "")),
            str(dataset.get("SOPInstanceUID", "")),
            TRANSFER_SYNTAX,
        )
    )
    body.write(target.getvalue())
    return Payload.from_bytes(body.getvalue())


def _put(dataset: Dataset, text: str, value: str, number: int) -> None:
    try:
        path = parse(text)
    except PathError as wrong:
        raise Unreadable(f"line {number}: {wrong}", wrong.suggestion) from None
    if path.part or path.time or path.datatype == "SQ":
        raise Unreadable(f"line {number}: {text} is no attribute that holds a value")
    *sequences, last = path.steps
    for step in sequences:
        if step.keyword not in dataset:
            setattr(dataset, step.keyword, [])
        items = dataset[step.keyword].value
        while len(items) < (step.place or 1):
            items.append(Dataset())
        dataset = items[(step.place or 1) - 1]
    vr = str(vr_of(last.tag))[:2]
    if vr in _BYTES:
        dataset.add(DataElement(last.tag, vr, _bytes(value, number)))
        return
    # Examples of wrong values must be written as they stand.
    try:
        found = _value(vr, value)
    except ValueError:
        raise Unreadable(f"line {number}: {text} is a number") from None
    dataset.add(DataElement(last.tag, vr, found, validation_mode=config.IGNORE))


def _bytes(text: str, number: int) -> bytes:
    if not text.startswith("base64:"):
        return text.encode()
    try:
        return base64.b64decode(text.removeprefix("base64:"), validate=True)
    except binascii.Error:
        raise Unreadable(f"line {number}: not Base64") from None


def _value(vr: str, text: str) -> object:
    values: list[object] = []
    for piece in text.split("\\"):
        if vr in _WHOLE_NUMBERS:
            values.append(int(piece))
        elif vr in _FRACTIONS:
            values.append(float(piece))
        else:
            values.append(piece)
    return values[0] if len(values) == 1 else values
