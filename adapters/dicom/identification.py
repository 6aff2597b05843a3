"""What the receiving path reads of a data set: who it is, whose it is, and whether it is whole.

One bounded walk (:mod:`adapters.dicom.elements`); values are read only of the few
attributes below and only when they are short. A deflated data set is inflated to
:data:`INFLATED_BYTES_MAX` and no further.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from typing import BinaryIO

from adapters.dicom.dataset import (
    ISSUER_OF_PATIENT_ID,
    ISSUER_QUALIFIERS,
    PATIENT_ID,
    SERIES_INSTANCE_UID,
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    SPECIFIC_CHARACTER_SET,
    STUDY_INSTANCE_UID,
    UNIVERSAL_ENTITY_ID,
    Content,
    Level,
)
from adapters.dicom.elements import (
    DataSetError,
    Element,
    Encoding,
    TooDeep,
    TooMany,
    Walk,
    Window,
    encoding_of,
)
from adapters.dicom.part10 import inflate
from adapters.dicom.values import texts
from gateway.model import Cause, CauseCode, Identifier

INFLATED_BYTES_MAX = 1 << 20
"""As much of a deflated data set as the receiving path inflates."""

ELEMENTS_MAX = 250_000
"""Elements that the receiving path walks over; what comes behind them is not checked."""

VALUE_BYTES_MAX = 1 << 16
"""A sequence of identifiers longer than this is not read."""

OTHER_PATIENT_IDS = 0x00101002
UNIVERSAL_ENTITY_ID_TYPE = 0x00400033
IDENTIFIER_TYPE_CODE = 0x00400035

INS_SYSTEMS = frozenset(f"urn:oid:1.2.250.1.213.1.4.{number}" for number in (8, 9, 10, 11))
"""NIR, NIA, and their test and demonstration roots; DRIM-M writes the INS as PatientID."""

_READ = frozenset(
    {
        SPECIFIC_CHARACTER_SET,
        SOP_CLASS_UID,
        SOP_INSTANCE_UID,
        STUDY_INSTANCE_UID,
        SERIES_INSTANCE_UID,
        PATIENT_ID,
        ISSUER_OF_PATIENT_ID,
        ISSUER_QUALIFIERS,
        OTHER_PATIENT_IDS,
    }
)
_UIDS = frozenset({SOP_CLASS_UID, SOP_INSTANCE_UID, STUDY_INSTANCE_UID, SERIES_INSTANCE_UID})
_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*", re.ASCII)
_OID = re.compile(r"[0-2](?:\.(?:0|[1-9][0-9]*))+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Identification:
    """What one data set says of itself. ``fault`` is set when it cannot be taken; ``series`` is
    not asked for."""

    sop_class: str = ""
    sop_instance: str = ""
    study: str = ""
    subject: tuple[Identifier, ...] = ()
    irregular: str = ""
    fault: Cause | None = None
    series: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Authorities:
    """How a source names the authorities of its patient identifiers.

    ``by_name`` gives the OID of an Issuer of Patient ID; ``default`` that of a Patient ID
    without an issuer, empty when there is none.
    """

    by_name: Mapping[str, str] = field(default_factory=dict)
    default: str = ""

    def system(self, universal: str, local: str) -> str:
        """The identifier system for a universal OID or a local name; empty when unknown."""
        if universal:
            return f"urn:oid:{universal}"
        if not local:
            return f"urn:oid:{self.default}" if self.default else ""
        if local in self.by_name:
            return f"urn:oid:{self.by_name[local]}"
        return f"urn:oid:{local}" if is_oid(local) else f"urn:ecluse:authority:{local}"


def is_oid(text: str) -> bool:
    """Whether a text is an OID with at least two arcs."""
    return _OID.fullmatch(text) is not None


def is_uid(text: str) -> bool:
    """Whether a text may stand as a UID: digits and dots, 64 at most (PS3.5 9.1).

    Leading zeros in a component are against the standard and common; they pass.
    """
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def identify(
    stream: BinaryIO, start: int, end: int, transfer_syntax: str, authorities: Authorities
) -> Identification:
    """Read the data set between two offsets of a seekable stream. Never raises for its content."""
    encoding = encoding_of(transfer_syntax)
    if encoding.deflated:
        plain = inflate(stream, start, INFLATED_BYTES_MAX)
        stream, start, end = BytesIO(plain), 0, len(plain)
    window = Window(stream, end)
    walk = Walk(window, elements_max=ELEMENTS_MAX)
    found: list[tuple[Element, bytes]] = []
    fault: Cause | None = None
    irregular = ""
    try:
        # Of a deflated data set only the beginning is here, and not gone through to its end.
        wanted = None if encoding.deflated else _READ
        for element in walk.level(start, end, encoding, wanted=wanted):
            if element.tag in _READ and element.length <= VALUE_BYTES_MAX:
                found.append((element, window.value(element.offset, element.length)))
            if encoding.deflated and element.tag >= SERIES_INSTANCE_UID:
                break
    except TooMany:
        irregular = "more elements than are checked"
    except TooDeep as error:
        fault = Cause(code=CauseCode.HOSTILE_CONTENT, detail=str(error))
    except DataSetError as error:
        fault = Cause(code=CauseCode.UNREADABLE, detail=str(error))
    uids = {element.tag: raw for element, raw in found if element.tag in _UIDS}
    sop_class, sop_instance, study, series = (
        uids.get(tag, b"")[: 1 << 10].decode("ascii", "replace").strip(" \0")
        for tag in (SOP_CLASS_UID, SOP_INSTANCE_UID, STUDY_INSTANCE_UID, SERIES_INSTANCE_UID)
    )
    irregular = irregular or walk.irregular
    if fault is None:
        fault = _missing_or_no_uid(sop_class, sop_instance, study)
    # The instances of a study say the same of their patient, byte for byte.
    patient = tuple((e.tag, e.vr, raw) for e, raw in found if e.tag not in _UIDS)
    subject: tuple[Identifier, ...] = ()
    try:
        subject = _patient(patient, encoding, authorities)
    except DataSetError as error:
        irregular = irregular or f"the patient's identifiers cannot be read: {error}"
    return Identification(sop_class, sop_instance, study, subject, irregular, fault, series)


@lru_cache(maxsize=64)
def _patient(
    elements: tuple[tuple[int, str, bytes], ...], encoding: Encoding, authorities: Authorities
) -> tuple[Identifier, ...]:
    """The patient's identifiers in the elements that say them. Raises DataSetError."""
    moved, offset = [], 0
    for tag, vr, raw in elements:
        moved.append(Element(tag, vr, offset, len(raw), False))
        offset += len(raw)
    kept = b"".join(raw for _, _, raw in elements)
    return _subject(Level(Content(kept, 0, len(kept), None), encoding, moved, None), authorities)


def _missing_or_no_uid(sop_class: str, sop_instance: str, study: str) -> Cause | None:
    for name, uid in (
        ("SOPClassUID", sop_class),
        ("SOPInstanceUID", sop_instance),
        ("StudyInstanceUID", study),
    ):
        if not uid:
            return Cause(
                code=CauseCode.REQUIRED_FIELD_MISSING, detail=f"there is no {name}", location=name
            )
        if not is_uid(uid):
            return Cause(
                code=CauseCode.UNREADABLE, detail=f"{name} holds something else", location=name
            )
    return None


def _subject(level: Level, authorities: Authorities) -> tuple[Identifier, ...]:
    """PatientID and OtherPatientIDsSequence with their issuers (PS3.3 C.2.2, 10.14)."""
    found = [_identifier(level, authorities)]
    # An item of the other identifiers must name its issuer: the default is the main one's.
    others = Authorities(authorities.by_name)
    found.extend(_identifier(item, others) for item in level.items(OTHER_PATIENT_IDS))
    return tuple(dict.fromkeys(identifier for identifier in found if identifier is not None))


def _identifier(level: Level, authorities: Authorities) -> Identifier | None:
    value = _text(level, PATIENT_ID)
    if not value:
        return None
    universal, type_code = "", ""
    for item in level.items(ISSUER_QUALIFIERS)[:1]:
        entity, kind = _text(item, UNIVERSAL_ENTITY_ID), _text(item, UNIVERSAL_ENTITY_ID_TYPE)
        if kind in ("ISO", "") and is_oid(entity):
            universal = entity
        type_code = _text(item, IDENTIFIER_TYPE_CODE)
    system = authorities.system(universal, _text(level, ISSUER_OF_PATIENT_ID))
    if not system:
        return None
    return Identifier(
        system=system, value=value, type="INS" if system in INS_SYSTEMS else type_code
    )


def _text(level: Level, tag: int) -> str:
    length = level.length(tag)
    if not length or length > 1 << 10:
        return ""
    found = texts(
        level.raw(tag) or b"", level.vr(tag), level.sets,
        little=level.encoding.little, path="", report=_unreported,
    )  # fmt: skip
    return found[0].text if found else ""


def _unreported(_code: str, _detail: str, _path: str) -> None:
    """The reader reports odd character sets; the door only needs the identifiers."""
