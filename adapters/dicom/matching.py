"""How attributes are matched (PS3.4 C.2.2.2): values and keys in one form that SQL compares.

Columns are those of the index of what is held. Dates are ``YYYYMMDD``; times are padded to
``HHMMSS.ffffff``; names are without case and accents, each component group between equals signs.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from adapters.dicom.holdings import UnknownKey
from adapters.dicom.json_model import Attributes

KEY_CHARACTERS_MAX = 4_096
VALUES_MAX = 500
"""Limits of one key: its length, and how many UIDs or codes it lists."""

Columns = dict[str, str | int | None]


@dataclass(frozen=True, slots=True)
class Condition:
    """What a column must fulfil. ``anyof``: equal to one of them; ``pattern``: with ``*`` and
    ``?``; ``least`` and ``most``: not before and not after, as text."""

    column: str
    anyof: tuple[str | int, ...] = ()
    pattern: str = ""
    least: str = ""
    most: str = ""


# --- values -------------------------------------------------------------------------------


def study_columns(attributes: Attributes) -> Columns:
    """A study's attributes as its columns."""
    return {
        "patient_id": _text(attributes, "00100020"),
        "issuer": _text(attributes, "00100021"),
        "patient_name": _name(attributes, "00100010"),
        "birth_date": _date(attributes, "00100030"),
        "sex": _text(attributes, "00100040"),
        "accession": _text(attributes, "00080050"),
        "study_date": _date(attributes, "00080020"),
        "study_time": _time(attributes, "00080030"),
        "study_id": _text(attributes, "00200010"),
        "description": _text(attributes, "00081030"),
        "referring": _name(attributes, "00080090"),
    }


def series_columns(attributes: Attributes) -> Columns:
    """A series' attributes as its columns."""
    asked = _first(attributes, "00400275")
    request: Attributes = asked if isinstance(asked, dict) else {}
    return {
        "number": _number(attributes, "00200011"),
        "modality": _text(attributes, "00080060"),
        "description": _text(attributes, "0008103E"),
        "performed_date": _date(attributes, "00400244"),
        "performed_time": _time(attributes, "00400245"),
        "step_id": _text(request, "00400009"),
        "procedure_id": _text(request, "00401001"),
        "body_part": _text(attributes, "00180015"),
    }


def instance_columns(attributes: Attributes) -> Columns:
    """An instance's attributes as its columns; one without a number of frames has one."""
    frames = _number(attributes, "00280008")
    return {
        "number": _number(attributes, "00200013"),
        "frames": frames if frames is not None and 0 < frames < 1 << 31 else 1,
    }


def _first(attributes: Mapping[str, Mapping[str, Any]], tag: str) -> Any:
    values = attributes.get(tag, {}).get("Value")
    return values[0] if values else None


def _text(attributes: Attributes, tag: str) -> str:
    value = _first(attributes, tag)
    return "" if value is None or isinstance(value, dict) else str(value)


def _name(attributes: Attributes, tag: str) -> str:
    value = _first(attributes, tag)
    groups = list(value.values()) if isinstance(value, dict) else [value] if value else []
    return f"={'='.join(folded(str(each)) for each in groups)}=" if groups else ""


def _date(attributes: Attributes, tag: str) -> str:
    # YYYY.MM.DD is how version 2 of ACR-NEMA had it (PS3.5 6.2, DA, note 1).
    return _text(attributes, tag).replace(".", "")[:8]


def _time(attributes: Attributes, tag: str) -> str:
    digits = _moment(_text(attributes, tag))
    return _padded(digits, "0") if digits else ""


def _number(attributes: Attributes, tag: str) -> int | None:
    value = _first(attributes, tag)
    return value if isinstance(value, int) and abs(value) < 1 << 62 else None


def folded(name: str) -> str:
    """A name without case, accents and empty components at its end (PS3.4 C.2.2.2.1 lets the
    matching of person names do so)."""
    plain = unicodedata.normalize("NFKD", name)
    kept = "".join(c for c in plain if not unicodedata.combining(c)).casefold()
    components = [" ".join(part.split()) for part in kept.split("^")]
    while components and not components[-1]:
        components.pop()
    return "^".join(components)


# --- keys ---------------------------------------------------------------------------------


def condition(keyword: str, value: str) -> Condition | None:
    """What a key asks of its column; None when it matches all (PS3.4 C.2.2.2.3).

    Raises UnknownKey for a keyword that is not matched and a value that cannot be one.
    """
    if keyword not in _KEYS:
        raise UnknownKey(keyword, "is not matched here")
    column, read = _KEYS[keyword]
    if len(value) > KEY_CHARACTERS_MAX or "\0" in value:
        raise UnknownKey(keyword, f"more than {KEY_CHARACTERS_MAX} characters, or a NUL")
    value = value.strip(" ")
    if not value or set(value) == {"*"}:
        return None
    return read(keyword, column, value)


def _single(keyword: str, column: str, value: str) -> Condition:
    """Single value, list of values, or wildcards (C.2.2.2.1, .2, .4)."""
    values = tuple(part.strip(" ") for part in value.split("\\") if part.strip(" "))
    if len(values) > VALUES_MAX:
        raise UnknownKey(keyword, f"more than {VALUES_MAX} values")
    if len(values) == 1 and ("*" in value or "?" in value):
        return Condition(column, pattern=values[0])
    return Condition(column, anyof=values)


def _uid(keyword: str, column: str, value: str) -> Condition:
    found = _single(keyword, column, value)
    if found.pattern:
        raise UnknownKey(keyword, "a UID has no wildcards")
    return found


def _person(_keyword: str, column: str, value: str) -> Condition:
    # A key may give one group or several; any group of the name may be the one it means.
    return Condition(column, pattern=f"*={'='.join(folded(g) for g in value.split('='))}=*")


def _dates(keyword: str, column: str, value: str) -> Condition:
    least, dash, most = value.partition("-")
    ends = [part.strip(" ").replace(".", "") for part in (least, most)]
    if not all(re.fullmatch(r"([0-9]{8})?", part) for part in ends) or not any(ends):
        raise UnknownKey(keyword, "a date is YYYYMMDD, a range has a hyphen")
    if not dash:
        return Condition(column, anyof=(ends[0],))
    # A study without a date is in no range.
    return Condition(column, least=ends[0] or "0", most=ends[1])


def _times(keyword: str, column: str, value: str) -> Condition:
    least, dash, most = value.partition("-")
    if not dash:
        most = least
    ends = [_moment(part) for part in (least, most)]
    if any(part is None for part in ends) or not any(ends):
        raise UnknownKey(keyword, "a time is HHMMSS.FFFFFF, a range has a hyphen")
    first, last = ends
    return Condition(
        column,
        least=_padded(first, "0") if first else "0",
        most=_padded(last, "9") if last else "",
    )


def _numbers(keyword: str, column: str, value: str) -> Condition:
    try:
        return Condition(column, anyof=tuple(int(part) for part in value.split("\\")[:VALUES_MAX]))
    except ValueError:
        raise UnknownKey(keyword, "an integer is expected") from None


def _moment(text: str) -> str | None:
    """The digits of a time (PS3.5 6.2, TM), with those of the fraction; None when it is none."""
    found = re.fullmatch(r"([0-9:]{0,8})(?:\.([0-9]{1,6}))?", text.strip(" "))
    if found is None:
        return None
    digits, fraction = found[1].replace(":", ""), found[2] or ""
    if len(digits) not in {0, 2, 4, 6} or (fraction and len(digits) < 6):
        return None
    return digits + fraction


def _padded(digits: str, filler: str) -> str:
    whole = digits + filler * (12 - len(digits))
    return f"{whole[:6]}.{whole[6:]}"


Reads = Callable[[str, str, str], Condition]

_KEYS: Mapping[str, tuple[str, Reads]] = {
    "PatientName": ("held_study.patient_name", _person),
    "PatientID": ("held_study.patient_id", _single),
    "IssuerOfPatientID": ("held_study.issuer", _single),
    "PatientBirthDate": ("held_study.birth_date", _dates),
    "PatientSex": ("held_study.sex", _single),
    "StudyInstanceUID": ("held_study.study_uid", _uid),
    "StudyDate": ("held_study.study_date", _dates),
    "StudyTime": ("held_study.study_time", _times),
    "AccessionNumber": ("held_study.accession", _single),
    "StudyID": ("held_study.study_id", _single),
    "StudyDescription": ("held_study.description", _single),
    "ReferringPhysicianName": ("held_study.referring", _person),
    "ModalitiesInStudy": ("modalities", _single),
    "SOPClassesInStudy": ("classes", _uid),
    "SeriesInstanceUID": ("held_series.series_uid", _uid),
    "Modality": ("held_series.modality", _single),
    "SeriesNumber": ("held_series.number", _numbers),
    "SeriesDescription": ("held_series.description", _single),
    "PerformedProcedureStepStartDate": ("held_series.performed_date", _dates),
    "PerformedProcedureStepStartTime": ("held_series.performed_time", _times),
    "ScheduledProcedureStepID": ("held_series.step_id", _single),
    "RequestedProcedureID": ("held_series.procedure_id", _single),
    "BodyPartExamined": ("held_series.body_part", _single),
    "SOPInstanceUID": ("held_instance.sop_instance", _uid),
    "SOPClassUID": ("held_instance.sop_class", _uid),
    "InstanceNumber": ("held_instance.number", _numbers),
}
