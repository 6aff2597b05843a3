"""What a submission by ITI-41 must say, and what may not be in it.

ITI TF-3 section 4.3.1, table 4.3.1-3 (column XDS DS); ITI TF-2 section 3.41.4.1.3; ITI TF-3 section
4.2.2.2 (relations between documents).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from adapters.ebrim.faults import Refused, metadata
from adapters.ebrim.names import (
    DOCUMENT_CODES,
    HAS_MEMBER,
    RELATIONS,
    STABLE_DOCUMENT,
)
from adapters.ebrim.submission import Association, Code, DocumentEntry, SubmissionSet
from adapters.xds.identifiers import is_oid, resource_id_of
from adapters.xds.settings import XdsSourceSettings
from gateway.model import CauseCode

UNIQUE_ID_MAX = 128
_OID_MAX = 64
_EXTENSION_MAX = 16
_TIME = re.compile(r"[0-9]{4}([0-9]{2}){0,5}\Z")
_NEEDED_VALUES = ("creationTime", "languageCode", "sourcePatientId")
_NEEDED_CODES = tuple(name for name in DOCUMENT_CODES if name != "eventCodeList")


def check_submission(submission: SubmissionSet, settings: XdsSourceSettings) -> None:
    """Everything that can be said without looking anywhere. Raises Refused."""
    place = "SubmissionSet"
    if not submission.source_id or not is_oid(submission.source_id.removeprefix("urn:oid:")):
        raise metadata("the submission set has no sourceId that is an OID", place)
    _check_unique_id(submission.unique_id, place)
    if len(submission.content_types) != 1 or not submission.content_types[0].code:
        raise metadata("the submission set has not exactly one contentTypeCode", place)
    _check_codes({"contentTypeCode": submission.content_types}, settings.codes, place)
    _check_time(submission.values, "submissionTime", place)
    roots = settings.patient_authorities
    if roots and submission.patient.root not in roots:
        raise unknown_patient("the patientId is of an authority that is not taken here", submission)
    for entry in submission.entries:
        _check_entry(entry, settings)
    for folder in submission.folders:
        _check_unique_id(folder.unique_id, folder.id)
        if not any(each.code for each in folder.codes):
            raise metadata("a folder has no codeList", folder.id)
        _check_codes({"codeList": folder.codes}, settings.codes, folder.id)
    _check_associations(submission)


def unknown_patient(detail: str, submission: SubmissionSet) -> Refused:
    """Nobody here knows the patient."""
    return Refused(
        CauseCode.IDENTITY_AWAITED,
        detail,
        "SubmissionSet",
        "XDSUnknownPatientId",
        submission.patient.text,
    )


def _check_entry(entry: DocumentEntry, settings: XdsSourceSettings) -> None:
    place = entry.id
    if entry.object_type and entry.object_type != STABLE_DOCUMENT:
        raise metadata("a document entry is not of a stable document", place)
    _check_unique_id(entry.unique_id, place)
    _check_time(entry.values, "creationTime", place)
    for name in _NEEDED_VALUES:
        if not entry.values.get(name):
            raise metadata(f"a document entry has no {name}", place)
    for name in _NEEDED_CODES:
        if not any(each.code for each in entry.codes[name]):
            raise metadata(f"a document entry has no {name}", place)
    for name, codes in entry.codes.items():
        if any(not each.code or not each.scheme for each in codes):
            raise metadata(f"a {name} has no code or no codingScheme", place)
    _check_codes(entry.codes, settings.codes, place)
    named = entry.values.get("repositoryUniqueId", "")
    if named and named != settings.repository_unique_id:
        raise metadata("a document entry names another repository", place, value=named)


def _check_unique_id(text: str, place: str) -> None:
    """ITI TF-3 section 4.2.3.2.26: an OID of at most 64 characters, with a caret and at most 16
    more where a CDA's id has an extension. A UUID as CDA has it is taken, too."""
    root, caret, extension = text.partition("^")
    if not text:
        raise metadata("there is no uniqueId", place)
    named = is_oid(root.removeprefix("urn:oid:")) or resource_id_of(root) != ""
    if not named or len(root) > _OID_MAX or (caret and not 0 < len(extension) <= _EXTENSION_MAX):
        raise metadata("a uniqueId is no OID of at most 64 characters", place, value=text)


def _check_time(values: Mapping[str, str], name: str, place: str) -> None:
    if not _TIME.match(values.get(name, "")):
        raise metadata(f"the {name} is not there, or not YYYYMMDDhhmmss", place)


def _check_codes(
    said: Mapping[str, Sequence[Code]], allowed: Mapping[str, Sequence[str]], place: str
) -> None:
    for name, codes in said.items():
        if name not in allowed:
            continue
        for each in codes:
            text = f"{each.code}^^{each.scheme}"
            if text not in allowed[name]:
                raise metadata(f"a {name} is not a code of this affinity domain", place, value=text)


def _check_associations(submission: SubmissionSet) -> None:
    """Each document and folder is a member of the submission set."""
    members = {
        each.target
        for each in submission.associations
        if each.type == HAS_MEMBER and each.source == submission.id
    }
    for entry in submission.entries:
        if entry.id not in members:
            raise metadata("a document entry is no member of the submission set", entry.id)
    for folder in submission.folders:
        if folder.id not in members:
            raise metadata("a folder is no member of the submission set", folder.id)


def relations_of(submission: SubmissionSet) -> Iterator[Association]:
    """The associations between documents."""
    return (each for each in submission.associations if each.type in RELATIONS)
