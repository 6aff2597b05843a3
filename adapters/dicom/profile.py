"""The Basic Application Level Confidentiality Profile (PS3.15 annex E) for objects on their way.

What is done with which attribute is table E.1-1, as ``dicom-anonymizer`` has it from the standard's
2026c edition. Where the table leaves a choice the object stays valid: a value is emptied or
replaced rather than removed. What may be kept are dates, as they are or all moved by one number
of days for each patient (E.3.6), UIDs (E.3.9), and what the patient is like (E.3.7).

Private attributes go. Pixels are not looked at: an object that says that a name is burned into
them is not sent.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Any

from adapters.dicom.rewriting import CannotRewrite

REMOVE, EMPTY, DUMMY, UID, ITEMS = "X", "Z", "D", "U", "U*"

_METHODS = {
    "basic": ("113100", "Basic Application Confidentiality Profile"),
    "dates": ("113106", "Retain Longitudinal Temporal Information Full Dates Option"),
    "modified-dates": (
        "113107",
        "Retain Longitudinal Temporal Information Modified Dates Option",
    ),
    "patient-characteristics": ("113108", "Retain Patient Characteristics Option"),
    "uids": ("113110", "Retain UIDs Option"),
}
"""Codes of CID 7050 (PS3.16)."""
DAYS_MAX = 3_650
"""Dates that are modified go back by so many days at most."""
_TEMPORAL = frozenset({"DA", "DT", "TM"})
_BIRTH = frozenset({0x00100030, 0x00100032})
"""Birth date and time: no option of table E.1-1 keeps them."""
_CHARACTERISTICS = frozenset(
    {
        *(0x00100040, 0x00101010, 0x00101020, 0x00101030),
        *(0x00102160, 0x001021A0, 0x001021C0, 0x00102203),
    }
)
"""Sex, age, size, weight, ethnic group, smoking, pregnancy, neutered: K in table E.1-1, column
Rtn. Pat. Chars. What is to be cleaned there (C: allergies, special needs) goes instead."""
_DAY = re.compile(r"[0-9]{8}")
_DUMMIES: Mapping[str, Any] = {
    "AS": "000D", "CS": "REMOVED", "DA": "19000101", "DT": "19000101000000", "TM": "000000",
    "DS": "0", "IS": "0", "FD": 0.0, "FL": 0.0, "SL": 0, "SS": 0, "UL": 0, "US": 0,
    "OB": b"\0\0", "OW": b"\0\0", "UN": b"\0\0", "AT": 0,
}  # fmt: skip
_PATIENT_ID, _PATIENT_NAME = 0x00100020, 0x00100010
_BURNED_IN = "BurnedInAnnotation"
_WELL_KNOWN = "1.2.840.10008."


@lru_cache(maxsize=1)
def _table() -> tuple[Mapping[int, str], tuple[tuple[int, int, str], ...]]:
    """Actions by tag, and those of repeating groups as tag and mask."""
    from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as table

    by_tag: dict[int, str] = {}
    masked: list[tuple[int, int, str]] = []
    for tags, action in (
        (table.X_TAGS, REMOVE), (table.Z_TAGS, EMPTY), (table.D_TAGS, DUMMY), (table.U_TAGS, UID),
        (table.Z_D_TAGS, DUMMY), (table.X_Z_TAGS, EMPTY), (table.X_D_TAGS, DUMMY),
        (table.X_Z_D_TAGS, DUMMY), (table.X_Z_U_STAR_TAGS, ITEMS),
    ):  # fmt: skip
        for each in tags:
            tag = each[0] << 16 | each[1]
            if len(each) == 4:
                masked.append((tag, each[2] << 16 | each[3], action))
            else:
                by_tag[tag] = action
    return by_tag, tuple(masked)


class BasicProfile:
    """De-identifies data sets: with one secret the same patient and the same UIDs always become
    the same others. Thread-safe."""

    def __init__(self, secret: bytes, keep: frozenset[str]) -> None:
        self._secret = secret
        self._keep = keep
        _table()

    def apply(self, found: Any) -> None:
        """De-identify in place. Raises CannotRewrite."""
        if str(found.get(_BURNED_IN, "")).upper() == "YES":
            raise CannotRewrite("what names the patient is burned into its pixels")
        patient = str(found.get("PatientID", "") or "")
        pseudonym = self._digest(patient)[:16].upper()
        days = 0
        if "modified-dates" in self._keep:
            days = 1 + int(self._digest(f"days\0{patient}")[:12], 16) % DAYS_MAX
        self._level(found, timedelta(days=days))
        found.PatientID = found.PatientName = pseudonym
        self._say(found)

    def _level(self, found: Any, back: timedelta) -> None:
        by_tag, masked = _table()
        for element in list(found):
            tag = int(element.tag)
            action = by_tag.get(tag)
            if action is None:
                action = next((a for value, mask, a in masked if tag & mask == value), None)
            if element.tag.is_private:
                del found[element.tag]
            elif action == ITEMS or (action is None and element.VR == "SQ"):
                for item in element.value:
                    self._level(item, back)
            elif action is not None and not self._kept(element, action):
                self._ACTIONS[action](self, found, element)
            elif back and element.VR in {"DA", "DT"}:
                # Dates that the table does not name, too: one alone would tell all others.
                _move(element, back)

    def _kept(self, element: Any, action: str) -> bool:
        if action == UID or element.VR == "UI":
            return "uids" in self._keep
        if element.tag in _CHARACTERISTICS:
            return "patient-characteristics" in self._keep
        temporal = element.VR in _TEMPORAL and element.tag not in _BIRTH
        return temporal and not self._keep.isdisjoint({"dates", "modified-dates"})

    def _remove(self, found: Any, element: Any) -> None:
        del found[element.tag]

    def _empty(self, found: Any, element: Any) -> None:  # noqa: ARG002
        element.value = [] if element.VR == "SQ" else None

    def _dummy(self, found: Any, element: Any) -> None:
        if element.is_empty:
            return
        if element.VR == "UI":
            self._uid(found, element)
        elif element.VR == "SQ":
            element.value = []
        else:
            element.value = _DUMMIES.get(element.VR, "REMOVED")

    def _uid(self, found: Any, element: Any) -> None:  # noqa: ARG002
        if element.VR != "UI" or element.is_empty:
            return
        if element.VM > 1:
            element.value = [self._other(str(each)) for each in element.value]
        else:
            element.value = self._other(str(element.value))

    def _other(self, uid: str) -> str:
        if uid.startswith(_WELL_KNOWN):
            return uid
        return f"2.25.{int(self._digest(uid)[:30], 16)}"

    def _digest(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(), sha256).hexdigest()

    def _say(self, found: Any) -> None:
        """What was done, in the object's own words (PS3.15 E.1.1, PS3.3 C.7.1.1)."""
        from pydicom.dataset import Dataset

        found.PatientIdentityRemoved = "YES"
        kept = "UNMODIFIED" if "dates" in self._keep else "REMOVED"
        found.LongitudinalTemporalInformationModified = (
            "MODIFIED" if "modified-dates" in self._keep else kept
        )
        said = []
        for name in ("basic", *sorted(self._keep)):
            code = Dataset()
            code.CodeValue, code.CodeMeaning = _METHODS[name]
            code.CodingSchemeDesignator = "DCM"
            said.append(code)
        found.DeidentificationMethodCodeSequence = said

    _ACTIONS: Mapping[str, Callable[[BasicProfile, Any, Any], None]] = {
        REMOVE: _remove, EMPTY: _empty, DUMMY: _dummy, UID: _uid,
    }  # fmt: skip


def _move(element: Any, back: timedelta) -> None:
    """Every date of an element goes back; one that is no whole date (PS3.5 6.2) goes."""
    if element.is_empty:
        return
    values = [element.value] if element.VM == 1 else list(element.value)
    moved = [_moved(str(each), back) for each in values]
    if all(moved):
        element.value = moved if len(moved) > 1 else moved[0]
    else:
        element.value = None


def _moved(text: str, back: timedelta) -> str:
    """A DA or DT so many days earlier, its time as it was; empty when it has no whole date."""
    plain = text.strip().replace(".", "", 2) if text[4:5] == "." else text.strip()
    found = _DAY.match(plain)
    if found is None:
        return ""
    try:
        day = datetime.strptime(found[0], "%Y%m%d") - back  # noqa: DTZ007  a day, not a moment
    except (ValueError, OverflowError):
        return ""
    return f"{day:%Y%m%d}{plain[8:]}"
