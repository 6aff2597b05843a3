"""Content items of manifests, and the Image Library by which MADO describes series and instances.

TID 1600, 1601 and 1602 as IHE RAD MADO constrains them (tables 6.X.2.9-1 to 6.X.2.9-4). The value
types NUM, DATE and TIME come into the key object document with DICOM CP-2595.
"""

from __future__ import annotations

from pydicom import Dataset
from pydicom.uid import UID

from adapters.dicom.manifest import KEY_OBJECTS, Code, Manifest, ManifestInstance, ManifestSeries

ACQUISITION_CONTEXT = "HAS ACQ CONTEXT"
MODALITY = Code("121139", "DCM", "Modality")
TARGET_REGION = Code("123014", "DCM", "Target Region")
SERIES_DESCRIPTION = Code("MADOTEMP002", "99IHE", "Series Description")
SERIES_DATE = Code("MADOTEMP003", "99IHE", "Series Date")
SERIES_TIME = Code("MADOTEMP004", "99IHE", "Series Time")
SERIES_INSTANCES = Code("MADOTEMP007", "99IHE", "Number of Series Related Instances")
STUDY_SERIES = Code("MADOTEMP009", "99IHE", "Number of Study Related Series")


def code_sequence(code: Code) -> list[Dataset]:
    """The item of a code sequence (PS3.3 table 8.8-1)."""
    data = Dataset()
    if len(code.value) > 16:
        data.LongCodeValue = code.value
    else:
        data.CodeValue = code.value
    data.CodingSchemeDesignator = code.scheme
    data.CodeMeaning = code.meaning[:64]
    return [data]


def content_item(relationship: str, kind: str, name: Code | None = None) -> Dataset:
    """A content item of a value type, without its value."""
    data = Dataset()
    data.RelationshipType = relationship
    data.ValueType = kind
    if name is not None:
        data.ConceptNameCodeSequence = code_sequence(name)
    return data


def value_type(sop_class: str) -> str:
    """IMAGE, WAVEFORM or COMPOSITE, as a content item names an object of a SOP class."""
    name = UID(sop_class).name
    if "Waveform" in name or "ECG" in name:
        return "WAVEFORM"
    if "Image" in name and "Presentation" not in name:
        return "IMAGE"
    return "COMPOSITE"


def image_library(manifest: Manifest) -> Dataset:
    """The container with one group for each series."""
    library = content_item("CONTAINS", "CONTAINER", Code("111028", "DCM", "Image Library"))
    library.ContinuityOfContent = "SEPARATE"
    items = [_code(MODALITY, Code(each, "DCM", each)) for each in manifest.modalities]
    regions = dict.fromkeys(each.region for each in manifest.series if each.region is not None)
    items += [_code(TARGET_REGION, each) for each in regions]
    items.append(_number(STUDY_SERIES, len(manifest.series), "{series}", "series"))
    library.ContentSequence = [*items, *(_group(each) for each in manifest.series)]
    return library


def _group(series: ManifestSeries) -> Dataset:
    group = content_item("CONTAINS", "CONTAINER", Code("126200", "DCM", "Image Library Group"))
    group.ContinuityOfContent = "SEPARATE"
    items = [_code(MODALITY, Code(series.modality, "DCM", series.modality))]
    if series.date:
        item = content_item(ACQUISITION_CONTEXT, "DATE", SERIES_DATE)
        item.Date = series.date
        items.append(item)
    if series.time:
        item = content_item(ACQUISITION_CONTEXT, "TIME", SERIES_TIME)
        item.Time = series.time
        items.append(item)
    if series.description:
        items.append(_text(SERIES_DESCRIPTION, series.description))
    if series.number:
        items.append(_text(Code("113607", "DCM", "Series Number"), series.number))
    if series.region is not None:
        items.append(_code(TARGET_REGION, series.region))
    item = content_item(ACQUISITION_CONTEXT, "UIDREF", Code("112002", "DCM", "Series Instance UID"))
    item.UID = series.uid
    items.append(item)
    items.append(_number(SERIES_INSTANCES, len(series.instances), "{instances}", "instances"))
    group.ContentSequence = [*items, *(_entry(each) for each in series.instances)]
    return group


def _entry(instance: ManifestInstance) -> Dataset:
    entry = content_item("CONTAINS", value_type(instance.sop_class))
    reference = Dataset()
    reference.ReferencedSOPClassUID = instance.sop_class
    reference.ReferencedSOPInstanceUID = instance.uid
    entry.ReferencedSOPSequence = [reference]
    items = []
    if instance.frames > 1:
        frames = Code("121140", "DCM", "Number of Frames")
        items.append(_number(frames, instance.frames, "{frames}", "frames"))
    if instance.number:
        items.append(_text(Code("113609", "DCM", "Instance Number"), instance.number))
    if instance.sop_class == KEY_OBJECTS:
        if instance.title is not None:
            items.append(_code(Code("121144", "DCM", "Document Title"), instance.title))
        if instance.description:
            items.append(
                _text(Code("113012", "DCM", "Key Object Description"), instance.description)
            )
    if items:
        entry.ContentSequence = items
    return entry


def _code(name: Code, value: Code) -> Dataset:
    item = content_item(ACQUISITION_CONTEXT, "CODE", name)
    item.ConceptCodeSequence = code_sequence(value)
    return item


def _text(name: Code, value: str) -> Dataset:
    item = content_item(ACQUISITION_CONTEXT, "TEXT", name)
    item.TextValue = value
    return item


def _number(name: Code, value: int, unit: str, meaning: str) -> Dataset:
    item = content_item(ACQUISITION_CONTEXT, "NUM", name)
    measured = Dataset()
    measured.NumericValue = str(value)
    measured.MeasurementUnitsCodeSequence = code_sequence(Code(unit, "UCUM", meaning))
    item.MeasuredValueSequence = [measured]
    return item
