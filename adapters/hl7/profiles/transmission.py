"""A request of the CI-SIS about one or two documents, as far as its rules look at it.

Volet «Transmission d'un document CDA-R2 en HL7v2» (ANS, CI-SIS), 1.2, 2.0 and 2.1, and
«Transmission au LPS de documents CDA provenant d'un courriel MSSanté», 1.0 and 1.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from adapters.hl7.header import NULL, component
from adapters.hl7.message import Message
from gateway.model import Cause, CauseCode

V1, V2, LPS = "CISIS_CDA_HL7_V1", "CISIS_CDA_HL7_V2", "CISIS_CDA_HL7_LPS"
FAMILIES = frozenset({V1, V2, LPS})
_STRICT_FROM = {V2: (2, 1), LPS: (1, 1)}

MAIL_CODES = frozenset({"CORPSMAIL_PS", "CORPSMAIL_PATIENT", "1"})
"""OBX-3.1 of an ED that is the text of the mail (``1`` in the LPS profile), no document."""

METADATA = (
    "MASQUE_PS",
    "INVISIBLE_PATIENT",
    "INVISIBLE_REP_LEGAUX",
    "CONNEXION_SECRETE",
    "MODIF_CONF_CODE",
    "DESTDMP",
    "DESTMSSANTEPS",
    "DESTMSSANTEPAT",
)
"""Table MetaDMPMSS without the wishes for acknowledgements and the texts of mails."""

RENAMED = {
    "INVISIBLE_REPRESENTANTS_LEGAUX": "INVISIBLE_REP_LEGAUX",
    "INVISIBLE_REPRENSANTS_LEGAUX": "INVISIBLE_REP_LEGAUX",
    "MODIF_CONFIDENTIALITYCODE": "MODIF_CONF_CODE",
}
"""Codes of the profiles before 2.0; the middle one is the misprint of 1.1."""

SEGMENTS_MAX = 10_000
"""Segments of one request; a real one has some twenty."""


class Action(Enum):
    """What the request wants done; the value is its OBX-11."""

    INITIAL = "F"
    REPLACE = "C"
    DELETE = "D"


ORDERS = {"NW": Action.INITIAL, "RO": Action.REPLACE, "CA": Action.DELETE}
EVENTS = {"T02": Action.INITIAL, "T10": Action.REPLACE, "T04": Action.DELETE}


class Refusal(Exception):
    """The profile refuses the message. ``cause`` says why, without a patient's value."""

    def __init__(self, number: str, location: str, detail: str, code: CauseCode) -> None:
        super().__init__(detail)
        self.cause = Cause(code=code, detail=detail, location=location, protocol_code=number)


def incoherent(number: str, location: str, detail: str) -> Refusal:
    """Two parts of the message contradict each other."""
    return Refusal(number, location, detail, CauseCode.CONTENT_MISMATCH)


def missing(location: str, detail: str, number: str = "101") -> Refusal:
    """Something that the profile requires is not there."""
    return Refusal(number, location, detail, CauseCode.REQUIRED_FIELD_MISSING)


@dataclass(frozen=True, slots=True)
class ProfileVersion:
    """MSH-21: a family and its version. ``strict``: what came with 2.1 (LPS: 1.1) holds."""

    family: str
    version: tuple[int, ...]

    @classmethod
    def of(cls, family: str, version: str) -> ProfileVersion:
        """From MSH-21.2 and MSH-21.1; a version that is no number is the lowest."""
        parts = version.strip().split(".")[:4]
        numbers = all(part.isascii() and part.isdecimal() and len(part) < 5 for part in parts)
        return cls(family, tuple(map(int, parts)) if numbers else (0,))

    @property
    def strict(self) -> bool:
        return self.family in _STRICT_FROM and self.version >= _STRICT_FROM[self.family]


@dataclass(frozen=True, slots=True)
class Transmitted:
    """One document of a request. ``place`` is its OBX (``OBX(2)``), ``order`` ORC-1 before
    it (None without an ORC); ``encoding`` and ``data`` OBX-5.4 and 5.5."""

    place: str
    status: str
    order: str | None
    encoding: str
    data: str


@dataclass(frozen=True, slots=True)
class Participation:
    """One PRT: ``role`` PRT-4.1; who, by which number; ``address`` PRT-15.4."""

    place: str
    role: str
    person: str
    organization: str
    device: str
    address: str


@dataclass(slots=True)
class Request:
    """All that the rules look at. ``metadata`` gives for each code its OBX and value."""

    profile: ProfileVersion
    kind: str
    event: str
    documents: list[Transmitted] = field(default_factory=list)
    metadata: dict[str, tuple[str, str]] = field(default_factory=dict)
    repeated: list[tuple[str, str]] = field(default_factory=list)
    participations: list[Participation] = field(default_factory=list)
    identified: bool = False
    reliability: frozenset[str] = frozenset()
    transcription: Mapping[int, str] | None = None
    """TXA-12 and TXA-13 as the document ids that they stand for; None without TXA."""

    def wants(self, code: str) -> bool:
        """Whether a metadata says yes (table 0136: Y; O in early profiles)."""
        return self.metadata.get(code, ("", ""))[1] in ("Y", "O")


def read_request(message: Message, profile: ProfileVersion) -> Request:
    """Read what the rules need. Raises Refusal for more segments than any request has."""
    if len(message.segments) > SEGMENTS_MAX:
        raise incoherent("198", "", f"The request has more than {SEGMENTS_MAX} segments")
    kind, event = message.text(0, 9, 1).strip(), message.text(0, 9, 2).strip()
    request = Request(profile, kind, event)
    order: str | None = None
    observations, participations = 0, 0
    for index in range(len(message.segments)):
        name = message.name(index)
        if name == "ORC":
            order = message.text(index, 1).strip()
        elif name == "OBX":
            observations += 1
            place = f"OBX({observations})"
            _read_observation(request, message, index, place, order)
        elif name == "PRT":
            participations += 1
            _read_participation(request, message, index, f"PRT({participations})")
        elif name == "PID":
            request.identified = bool(message.text(index, 3, 1))
            request.reliability = frozenset(
                text.split(message.delimiters.component)[0].strip()
                for text in message.repetitions(index, 32)
            )
        elif name == "TXA":
            request.transcription = {
                number: _document_id(message, index, number) for number in (12, 13)
            }
    return request


def _read_observation(
    request: Request, message: Message, index: int, place: str, order: str | None
) -> None:
    kind, code = message.text(index, 2).strip(), message.text(index, 3, 1).strip()
    if kind == "ED":
        if code in MAIL_CODES:
            return
        value = message.text(index, 5)
        separator = message.delimiters.component
        request.documents.append(
            Transmitted(
                place,
                message.text(index, 11).strip(),
                order,
                (component(value, separator, 4) or "").strip(),
                component(value, separator, 5) or "",
            )
        )
        return
    code = RENAMED.get(code, code)
    if code in METADATA:
        value = message.text(index, 5, 1).strip()
        if request.metadata.setdefault(code, (place, value))[1] != value:
            request.repeated.append((place, code))


def _read_participation(request: Request, message: Message, index: int, place: str) -> None:
    role = message.text(index, 4, 1).strip()
    request.participations.append(
        Participation(
            place,
            role,
            message.text(index, 5, 1).strip(),
            message.text(index, 8, 10).strip() or message.text(index, 8, 3).strip(),
            message.text(index, 10, 1).strip(),
            message.text(index, 15, 4).strip(),
        )
    )


def _document_id(message: Message, index: int, field_number: int) -> str:
    """TXA-12 or TXA-13 as ``root`` or ``root^extension``, as a CDA writes its id."""
    number = message.text(index, field_number, 1).strip()
    root = message.text(index, field_number, 3).strip()
    if not number or number == NULL:
        return ""
    return f"{root}^{number}" if root else number
