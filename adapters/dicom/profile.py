"""The Basic Application Level Confidentiality Profile (PS3.15 annex E) for objects on their way.

What is done with which attribute is table E.1-1, as ``dicom-anonymizer`` has it from the standard's
2026c edition. Where the table leaves a choice the object stays valid: a value is emptied or
replaced rather than removed. What may be kept are dates, as they are or all moved by one number
of days for each patient (E.3.6), UIDs (E.3.9), what the patient is like (E.3.7), private attributes
that are known to be safe (E.3.10), and of descriptors the words of a list (E.3.5).

Pixels are not looked at: an object that says that a name is burned into them is not sent.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Any

from adapters.dicom.dictionary import vr_of
from adapters.dicom.identifying import (
    TEXT,
    descriptor_attributes,
    identifying_words,
    texts_of,
    words_of,
)
from adapters.dicom.loading import load_pydicom
from adapters.dicom.rewriting import CannotRewrite
from adapters.dicom.safe_private import DECLARATIONS, NUMBERS, Declarations, SafeAttributes
from adapters.dicom.vocabulary import Vocabulary

REMOVE, EMPTY, DUMMY, UID, ITEMS = "X", "Z", "D", "U", "U*"

_METHODS = {
    "basic": ("113100", "Basic Application Confidentiality Profile"),
    "descriptors": ("113105", "Clean Descriptors Option"),
    "safe-private": ("113111", "Retain Safe Private Option"),
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
_NUMBER_LEAST = 5
"""Digits from which on a number in a private attribute may be an identifier of the object."""
_DAY = re.compile(r"[0-9]{8}")
_DUMMIES: Mapping[str, Any] = {
    "AS": "000D", "CS": "REMOVED", "DA": "19000101", "DT": "19000101000000", "TM": "000000",
    "DS": "0", "IS": "0", "FD": 0.0, "FL": 0.0, "SL": 0, "SS": 0, "UL": 0, "US": 0,
    "OB": b"\0\0", "OW": b"\0\0", "UN": b"\0\0", "AT": 0,
}  # fmt: skip
_REQUEST = 0x00400275
"""Request Attributes Sequence: the one sequence that is cleaned and not removed (E.3.5). The others
to which the table gives C hold codes of diagnoses and reasons."""
_DOCUMENTS = 0x0040A390
"""HL7 Structured Document Reference Sequence: the identifier of a report, and its address."""
_UIDS_TOO = frozenset(
    {
        # Instances: the source of frames and of a concatenation.
        *(0x00081167, 0x00200242),
        # Frames of reference: of a target, a volume, a table, of equipment.
        *(0x0018991E, 0x00209312, 0x00209313, 0x300A0675),
        # A fiducial, an administration of a drug.
        *(0x0070031B, 0x00083012),
    }
)
"""References to what has another UID in every other object of the same patient."""
_URN_CODE = 0x00080120
"""A code by its form an address, and by what it says none (PS3.3 8.8)."""
_BURNED_IN = "BurnedInAnnotation"
_WELL_KNOWN = "1.2.840.10008."


@lru_cache(maxsize=1)
def _table() -> tuple[Mapping[int, str], tuple[tuple[int, int, str], ...]]:
    """Actions by tag, and those of repeating groups as tag and mask."""
    # It begins inside pydicom.
    load_pydicom()
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


def _action_of(tag: int) -> str | None:
    by_tag, masked = _table()
    action = by_tag.get(tag)
    if action is None:
        action = next((a for value, mask, a in masked if tag & mask == value), None)
    if action is None and tag in descriptor_attributes():
        # Of a later edition than the rest of the table: no descriptor stays without the option.
        return REMOVE
    return action or _unnamed(tag)


def _unnamed(tag: int) -> str | None:
    """What is done with an attribute that the table does not name, and that by what it is holds a
    person's name, an address (with a host, and UIDs in its path), or a UID that others replace."""
    if tag in _UIDS_TOO:
        return UID
    if tag == _DOCUMENTS:
        return REMOVE
    if tag == _URN_CODE:
        return None
    try:
        return REMOVE if vr_of(tag) in {"PN", "UR"} else None
    except KeyError:
        return None


@dataclass(frozen=True, slots=True)
class _Object:
    """What holds for all levels of one object."""

    back: timedelta
    identifying: frozenset[str]
    declared: Declarations
    in_private: bool = False
    """Within a private sequence, of which the table knows nothing."""


class BasicProfile:
    """De-identifies data sets: with one secret the same patient and the same UIDs always become
    the same others. ``safe``: the private attributes that stay. ``vocabulary``: the words that stay
    in descriptors. Thread-safe."""

    def __init__(
        self,
        secret: bytes,
        keep: frozenset[str],
        *,
        safe: SafeAttributes | None = None,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        self._secret = secret
        self._keep = keep
        self._safe = safe
        self._vocabulary = vocabulary
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
        watched = self._safe is not None or self._vocabulary is not None
        whole = _Object(
            back=timedelta(days=days),
            identifying=identifying_words(found, _action_of) if watched else frozenset(),
            declared=self._safe.declarations(found) if self._safe else Declarations(None),
        )
        self._level(found, whole)
        found.PatientID = found.PatientName = pseudonym
        self._say(found)

    def _level(self, found: Any, whole: _Object) -> None:
        self._private(found, whole)
        for element in [each for each in found if not each.tag.is_private]:
            tag = int(element.tag)
            action = _action_of(tag)
            if tag == DECLARATIONS:
                # It describes private attributes, of which others are there now.
                del found[element.tag]
            elif self._cleaned(element, whole):
                continue
            elif whole.in_private and self._identifies(element, whole):
                del found[element.tag]
            elif action == ITEMS or (action is None and element.VR == "SQ"):
                for item in element.value:
                    self._level(item, whole)
            elif action is not None and not self._kept(element, action):
                self._ACTIONS[action](self, found, element)
            elif whole.back and element.VR in {"DA", "DT"}:
                # Dates that the table does not name, too: one alone would tell all others.
                _move(element, whole.back)

    def _private(self, found: Any, whole: _Object) -> None:
        """Leave the private attributes that are known to be safe, and their creators."""
        safe = list(self._safe.kept(found, whole.declared)) if self._safe else []
        kept = [each for each in safe if self._harmless(each, whole)]
        blocks = {(each.tag.group, each.tag.element >> 8) for each in kept}
        stay = {each.tag for each in kept}
        for tag in [each for each in list(found.keys()) if each.is_private]:
            creator = tag.is_private_creator and (tag.group, tag.element) in blocks
            if tag not in stay and not creator:
                del found[tag]
        for element in kept:
            found[element.tag] = element

    def _harmless(self, element: Any, whole: _Object) -> bool:
        """Clean a private element like others of its representation; ``False`` if it has to go."""
        if element.VR == "SQ":
            for item in element.value:
                self._level(item, replace(whole, in_private=True))
        elif element.VR == "UI":
            if "uids" not in self._keep:
                self._uid(None, element)
        elif element.VR in _TEMPORAL:
            if self._keep.isdisjoint({"dates", "modified-dates"}):
                return False
            if whole.back and element.VR != "TM":
                _move(element, whole.back)
        else:
            return not self._identifies(element, whole)
        return True

    @staticmethod
    def _identifies(element: Any, whole: _Object) -> bool:
        """Whether a text or a number has a word by which the object names somebody."""
        if element.VR not in TEXT and element.VR not in NUMBERS and element.VR != "CS":
            return False
        # A study of ID 1 is no reason to take away every 1.
        least = _NUMBER_LEAST if element.VR in NUMBERS else 1
        return any(
            word in whole.identifying and len(word) >= least
            for value in texts_of(element)
            for _, word in words_of(value)
        )

    def _cleaned(self, element: Any, whole: _Object) -> bool:
        """Clean a descriptor; ``False`` if it is none, or nothing of it stays."""
        if self._vocabulary is None or int(element.tag) not in descriptor_attributes():
            return False
        if element.tag == _REQUEST and element.VR == "SQ":
            for item in element.value:
                self._request(item)
                self._level(item, whole)
            return True
        if element.VR not in TEXT:
            return False
        values = [self._vocabulary.cleaned(each, whole.identifying) for each in texts_of(element)]
        left = [each for each in values if each]
        if left:
            element.value = left if len(left) > 1 else left[0]
        return bool(left)

    @staticmethod
    def _request(item: Any) -> None:
        """Leave of a request what the table knows: codes and their meanings go, as they would go
        with the sequence."""
        for element in [each for each in item if not each.tag.is_private]:
            known = _action_of(int(element.tag)) is not None
            if not known and (element.VR == "SQ" or element.VR in TEXT):
                del item[element.tag]

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
        load_pydicom()
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
