"""Frozen values that every room shares. This module imports nothing of ours.

The vocabulary is the field's own: a *message* is what a sender handed over, in
its exact bytes; an *entry* is one FHIR R4 resource on its way to a record; a
*delivery* is one message's entries going to one destination; a *lane* is the
strict order in which deliveries of one patient reach one destination.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

from gateway.value_class import value_class


class Format(StrEnum):
    """The families of formats that a gateway reads."""

    HL7V2 = "hl7v2"
    DICOM = "dicom"
    CDA = "cda"
    HPRIM = "hprim"


class Stage(StrEnum):
    """Where on its way a message stands or failed."""

    INTAKE = "intake"
    NORMALISE = "normalise"
    IDENTIFY = "identify"
    PERMIT = "permit"
    ROUTE = "route"
    DELIVER = "deliver"


class CauseCode(StrEnum):
    """The closed set of reasons for which something is refused, held or dead.

    ``deadletter.causes`` says for each what it means and what to do.
    """

    # The protocol's own refusals, kept as evidence (stage intake).
    FRAME_TRUNCATED = "frame-truncated"
    FRAME_OVERSIZED = "frame-oversized"
    NOT_THE_FORMAT = "not-the-format"
    REQUIRED_FIELD_MISSING = "required-field-missing"
    UNSUPPORTED_TYPE = "unsupported-type"
    UNSUPPORTED_VERSION = "unsupported-version"
    PROFILE_VIOLATED = "profile-violated"
    CHARACTER_SET = "character-set"
    HOSTILE_CONTENT = "hostile-content"
    CONTENT_MISMATCH = "content-mismatch"
    CONTROL_ID_REUSED = "control-id-reused"
    SEQUENCE_NUMBER = "sequence-number"
    LINK_CONTROL = "link-control"
    ACKNOWLEDGEMENT = "acknowledgement"
    # Reading and mapping (stage normalise).
    UNREADABLE = "unreadable"
    UNMAPPED = "unmapped"
    MAPPING_FAILED = "mapping-failed"
    INVALID_ENTRY = "invalid-entry"
    # Whose record (stage identify).
    IDENTITY_AWAITED = "identity-awaited"
    IDENTITY_INVALID = "identity-invalid"
    IDENTITY_CONFLICT = "identity-conflict"
    # May it go in (stage permit).
    FEEDING_OPPOSED = "feeding-opposed"
    RECORD_CLOSED = "record-closed"
    # Delivery.
    NO_DESTINATION = "no-destination"
    DESTINATION_UNAVAILABLE = "destination-unavailable"
    DESTINATION_REFUSED = "destination-refused"
    OUTCOME_UNKNOWN = "outcome-unknown"
    GAVE_UP = "gave-up"
    ENTRIES_MISSING = "entries-missing"
    UNFINISHED_ATTEMPTS = "unfinished-attempts"
    INTERNAL = "internal"


@value_class(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why something was refused, held or buried.

    ``detail`` is a sentence for a person, in which no value of a patient may
    stand. ``location`` names the place in the source's own notation
    (``PID-3(1).1``, an XPath, a DICOM keyword) or a mapping rule
    (``file:line:col``). ``protocol_code`` is the refusal in the protocol's own
    words where it has one: an HL7 table 0357 code, a DIMSE status in hex, an
    HTTP status.
    """

    code: CauseCode
    detail: str = ""
    location: str = ""
    protocol_code: str = ""


@value_class(frozen=True, slots=True, kw_only=True)
class Identifier:
    """One identifier of a patient, as FHIR writes it.

    ``system`` is a URI: ``urn:oid:…`` when the assigning authority is known by
    OID, else ``urn:ecluse:authority:<namespace id>``. ``type`` is a code of HL7
    table 0203 (``INS``, ``PI``, ``AN``…) or empty.
    """

    system: str
    value: str
    type: str = ""


_HASHED_AT_ONCE = 2047
"""From 2,048 bytes on hashlib gives the interpreter's lock away and waits to have it back,
which takes longer than hashing a message of the usual size does."""
_SHORT_BYTES = 16 << 10


def _sha256(data: bytes) -> str:
    if len(data) <= _HASHED_AT_ONCE or len(data) > _SHORT_BYTES:
        return hashlib.sha256(data).hexdigest()
    digest, view = hashlib.sha256(), memoryview(data)
    for start in range(0, len(data), _HASHED_AT_ONCE):
        digest.update(view[start : start + _HASHED_AT_ONCE])
    return digest.hexdigest()


@value_class(frozen=True, slots=True)
class Payload:
    """Exact bytes as they arrived, in memory or in a spooled file.

    Exactly one of ``data`` and ``path`` is set. ``sha256`` is lower-case hex.
    """

    sha256: str
    size: int
    data: bytes | None = None
    path: Path | None = None

    def __post_init__(self) -> None:
        if (self.data is None) == (self.path is None):
            raise ValueError("a payload is either bytes or a file, never both or neither")

    @classmethod
    def from_bytes(cls, data: bytes) -> Payload:
        """Wrap bytes that are already in memory."""
        return cls(_sha256(data), len(data), data=data)

    @classmethod
    def from_file(cls, path: Path) -> Payload:
        """Wrap a file, hashing it in blocks of 1 MiB (constant memory)."""
        digest, size = hashlib.sha256(), 0
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
                size += len(block)
        return cls(digest.hexdigest(), size, path=path)

    def open(self) -> BinaryIO:
        """Open the bytes for reading from their start; the caller closes it."""
        if self.path is not None:
            return self.path.open("rb")
        from io import BytesIO

        return BytesIO(self.data or b"")

    def read(self) -> bytes:
        """All the bytes. Whoever calls this has checked ``size`` against a limit."""
        if self.data is not None:
            return self.data
        with self.open() as stream:
            return stream.read()


@value_class(frozen=True, slots=True, kw_only=True)
class LaterAnswer:
    """An answer that the sender wants once the message has reached its end.

    ``condition`` is HL7 table 0155: AL always, ER when it failed, SU when it
    succeeded. ``refusal_told``: a refusal at the door is told by the answer given
    there, and needs no later one. ``linked``: there is a way back to the sender;
    without one the answer that is owed is kept as such, and not given.
    """

    condition: str
    refusal_told: bool = True
    linked: bool = True


@value_class(frozen=True, slots=True, kw_only=True)
class Received:
    """What an adapter hands to intake: the bytes and what the protocol says of them.

    ``control_id`` is MSH-10, the SOP Instance UID or the ClinicalDocument id;
    ``kind`` the message type (``ORU^R01``), SOP class UID or document type code;
    ``group`` the Study Instance UID of a DICOM instance that must wait for its
    study, or the name of the continued message of which this is a fragment, else
    empty; ``group_complete`` is true when nothing more is waited for. ``subject``
    holds the patient's identifiers as far as the adapter reads them cheaply.
    ``carries_permission`` is true when the message itself says something of the
    patient's permission (a ZFA segment), so that intake never refuses it.
    ``refusal`` is set when the protocol refused the message: it is then kept as
    evidence and goes no further. ``answer`` is the positive acknowledgement that
    will be sent once the commit is done; it is
    stored in the same commit so that a duplicate gets the same one.

    ``sequence_number`` is set when its source counts its messages and this one has a
    number: 0 and -1 speak of the numbering and are refused with LINK_CONTROL.
    ``control_id_unique``: another message of its source with the same control id is a
    reason to refuse it. ``later_answer``: the sender wants to hear of the end, too.
    """

    source: str
    format: Format
    payload: Payload
    received_at: datetime
    peer: str = ""
    control_id: str = ""
    kind: str = ""
    group: str = ""
    group_complete: bool = False
    encoding: str = ""
    subject: tuple[Identifier, ...] = ()
    carries_permission: bool = False
    refusal: Cause | None = None
    answer: bytes = b""
    attributes: Mapping[str, str] = field(default_factory=dict)
    sequence_number: int | None = None
    control_id_unique: bool = False
    later_answer: LaterAnswer | None = None


class Disposition(StrEnum):
    """What intake did with a message."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    REFUSED = "refused"


@value_class(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Intake's word, given only after the commit.

    ``cause`` says why a message was refused (it is kept all the same).
    ``answer`` is the acknowledgement stored with the first arrival when this
    one is a duplicate, else the one that came with the message.
    ``expected_number`` is the sequence number that its source should send next, -1 when
    any will do; None when the message had no number.
    """

    message_id: int
    disposition: Disposition
    cause: Cause | None = None
    answer: bytes = b""
    expected_number: int | None = None


class RegistryKind(StrEnum):
    """What a registry of IHE XDS holds (ITI TF-3 section 4.1.1)."""

    DOCUMENT = "document"
    SUBMISSION_SET = "set"
    FOLDER = "folder"
    ASSOCIATION = "association"


@value_class(frozen=True, slots=True, kw_only=True)
class RegistryObject:
    """What a submission of IHE XDS registered, as it is given back.

    ``id`` is its entryUUID, ``submission`` that of the submission set with which it came;
    ``unique_id`` the identifier under which it is looked for, ``patient`` a patientId
    (``value^^^&root&ISO``); ``type``, ``source`` and ``target`` are those of an association and
    empty for all others. ``facts`` is what searches look at (JSON), ``content`` the object in
    ebRIM (XML). ``registered_at`` is None before it is registered.
    """

    id: str
    kind: RegistryKind
    submission: str
    facts: str
    content: str
    unique_id: str = ""
    patient: str = ""
    type: str = ""
    source: str = ""
    target: str = ""
    registered_at: datetime | None = None


@value_class(frozen=True, slots=True, kw_only=True)
class Attachment:
    """Bytes that an entry points to by ``Binary/<sha256>`` (a PDF, a CDA, an image)."""

    sha256: str
    media_type: str
    data: bytes


@value_class(frozen=True, slots=True, kw_only=True)
class Entry:
    """One FHIR R4 resource (a plain dict with ``resourceType`` and ``id``).

    ``create_only`` is for facts that the message repeats without being their
    authority (the patient's traits in a laboratory result): the record takes
    them only if it has none.
    """

    resource: dict[str, Any]
    create_only: bool = False

    @property
    def reference(self) -> str:
        """The relative reference ``Type/id``."""
        return f"{self.resource['resourceType']}/{self.resource['id']}"


@value_class(frozen=True, slots=True, kw_only=True)
class Flag:
    """Something about a value that a person should know; the entry goes on.

    ``code`` is a short fixed name (``unknown-code``, ``no-zone``), ``target``
    a FHIR path, ``rule`` the ``file:line:col`` of the mapping rule, ``source``
    the source path. No patient value.
    """

    code: str
    detail: str = ""
    target: str = ""
    rule: str = ""
    source: str = ""


@value_class(frozen=True, slots=True, kw_only=True)
class TraceStep:
    """Where one value of an entry came from.

    ``target`` is ``Type/id#path.to.element``; ``rule`` is ``file:line:col``;
    ``source`` the source path with repetition and position; ``steps`` the
    functions that the value went through, in order.
    """

    target: str
    rule: str
    source: str
    steps: tuple[str, ...] = ()


@value_class(frozen=True, slots=True, kw_only=True)
class Embedded:
    """A document inside a message that another format's mapping must read.

    ``source`` is its place in the message. ``overlay`` holds what the message says of
    the document and the document itself does not (security labels, routing tags):
    FHIR elements to add to the ``DocumentReference`` that the other mapping makes.
    """

    format: Format
    data: bytes
    source: str
    overlay: Mapping[str, Any] = field(default_factory=dict)


@value_class(frozen=True, slots=True, kw_only=True)
class Mapped:
    """What one mapping made of one message. A pure function of both."""

    mapping: str
    version: str
    digest: str
    entries: tuple[Entry, ...]
    attachments: tuple[Attachment, ...] = ()
    embedded: tuple[Embedded, ...] = ()
    flags: tuple[Flag, ...] = ()
    trace: tuple[TraceStep, ...] = ()


@value_class(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message's entries on their way to one destination.

    ``sequence`` orders the lane (the message's place in arrival order; a
    repaired copy takes the place of its parent). ``idempotency_key`` is the
    same for every attempt, retry and replay of the same entries. ``source`` is
    the name of the source that the message came from (empty when unknown).
    ``revision`` grows each time that the message is read for anew by a
    reprocessing: what the same message says at a higher revision is what counts.
    ``begun`` counts the attempts that were begun before, however they ended: with
    any, the destination may have it already. ``received_at`` is when the message came.
    """

    id: int
    message_id: int
    lane: str
    patient_id: str
    destination: str
    sequence: int
    idempotency_key: str
    attempts: int
    entries: Sequence[Entry]
    mapping: str
    merged_patients: tuple[str, ...] = ()
    source: str = ""
    revision: int = 0
    begun: int = 0
    received_at: datetime | None = None


@value_class(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The destination has it. ``evidence`` is what it answered, in brief."""

    evidence: str = ""


@value_class(frozen=True, slots=True, kw_only=True)
class Again:
    """It failed in a way that may pass. ``after`` overrides the policy's wait."""

    cause: Cause
    after: timedelta | None = None


@value_class(frozen=True, slots=True, kw_only=True)
class Wait:
    """Not now, and not counted as an attempt (maintenance, an open breaker).

    ``alone``: only this delivery and those behind it in its lane wait; the destination is well
    and takes others meanwhile.
    """

    cause: Cause
    after: timedelta
    alone: bool = False


@value_class(frozen=True, slots=True, kw_only=True)
class Refused:
    """The destination will never take it as it is."""

    cause: Cause


Outcome = Delivered | Again | Wait | Refused
