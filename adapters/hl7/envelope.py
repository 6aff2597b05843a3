"""What intake must know of a message before it is kept, read as cheaply as can be.

Looks at the header, at PID-3 and for permission segments; decides whether the
message is refused by the protocol, with which code and for which field (HL7
v2.9.1 chapter 2, section 2.9.2; table 0357).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from adapters.hl7 import charset as charsets
from adapters.hl7.charset import Charset, Undecodable
from adapters.hl7.continuation import pointer_after
from adapters.hl7.grammar import VERSIONS, known_types
from adapters.hl7.header import NULL, Header, header_line
from adapters.hl7.identifiers import PatientIdentifiers
from adapters.hl7.modes import ORIGINAL, SILENT, UNANSWERED_TYPES, Mode, is_response, mode_of
from adapters.hl7.remembered import Remembered
from adapters.hl7.requirements import Requirements
from adapters.hl7.settings import Hl7SourceSettings
from gateway.model import Cause, CauseCode, Identifier
from gateway.ports import Unreadable

CONTROL_ID_MAX = 199
"""The length of MSH-10 (20 before 2.7); a longer one is refused."""

NUMBER_MAX = 10**15 - 1
"""The largest sequence number (MSH-13 is an NM of 15 characters before 2.7)."""
_NUMBER = re.compile(r"-1|[0-9]{1,15}")
_LINES = re.compile(rb"[\r\n]+")


@dataclass(frozen=True, slots=True)
class Rules:
    """What one source takes."""

    charset_default: str
    charset_fallbacks: tuple[str, ...]
    identifiers: PatientIdentifiers
    permission_segments: tuple[bytes, ...]
    local_types: frozenset[str]
    processing_ids: frozenset[str]
    acknowledgement: str
    linked: bool
    sequence_numbers: bool
    profiles: Remembered[Profile]
    requirements: Requirements | None

    @classmethod
    def of(cls, settings: Hl7SourceSettings) -> Rules:
        """Those of the settings. Raises ProfileError when a profile cannot be used."""
        return cls(
            settings.charset_default,
            settings.charset_fallbacks,
            PatientIdentifiers(settings.authorities),
            tuple(b"\r" + name.encode("ascii") for name in settings.permission_segments),
            frozenset(settings.local_types),
            frozenset(settings.processing_ids),
            settings.acknowledgement,
            settings.linked,
            settings.sequence_numbers == "on",
            Remembered(),
            Requirements.of(settings.profile, settings.profile_mode),
        )


@dataclass(frozen=True, slots=True)
class Profile:
    """What follows from a header's profile alone."""

    kind: str
    attributes: Mapping[str, str]
    refusal: Cause | None
    mode: Mode


@dataclass(slots=True)
class Envelope:
    """A message as far as intake needs it. ``refusal`` is set when the protocol refuses it;
    ``sequence_number`` when its source counts and MSH-13 holds a number."""

    header: Header | None = None
    charset: Charset | None = None
    control_id: str = ""
    kind: str = ""
    subject: tuple[Identifier, ...] = ()
    carries_permission: bool = False
    refusal: Cause | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    mode: Mode = ORIGINAL
    sequence_number: int | None = None
    continues: str = ""
    """MSH-14 where it is not empty; the pointer of the fragment before."""
    continued: str = ""
    """DSC-1 of a fragment that another one follows."""
    has_patient: bool = False


def examine(payload: bytes, rules: Rules) -> Envelope:
    """Read the envelope of one message. Never raises for what a message may hold."""
    envelope = Envelope()
    start, line = 0, b""
    try:
        start, line = header_line(payload)
        envelope.header = Header.read(line)
    except Unreadable as fault:
        envelope.header = Header.salvage(line) if line else None
        envelope.refusal = _unreadable(fault)
    header = envelope.header
    if header is None:
        return envelope
    control_id = header.whole(10)
    envelope.control_id = "" if control_id == NULL else _storable(control_id)
    profile = profile_of(header, rules)
    envelope.kind = profile.kind
    envelope.attributes = profile.attributes
    envelope.mode = profile.mode
    if envelope.refusal is None:
        envelope.refusal = profile.refusal
    if envelope.refusal is None and not envelope.control_id:
        envelope.refusal = _missing("MSH-10")
    if envelope.refusal is None and len(control_id) > CONTROL_ID_MAX:
        envelope.refusal = Cause(
            code=CauseCode.NOT_THE_FORMAT,
            detail=f"MSH-10 is longer than {CONTROL_ID_MAX} characters",
            location="MSH-10",
            protocol_code="102",
        )
    if rules.sequence_numbers:
        _read_number(envelope, header, payload[start + len(line) :])
    _read_body(envelope, header, payload, start, rules)
    return envelope


def _read_number(envelope: Envelope, header: Header, body: bytes) -> None:
    """MSH-13 (section 2.10.1). Empty: the message does not take part in the numbering.

    0 and -1 speak of the numbering alone: their type and their fields may be empty, and a
    message with content under them would be acknowledged without being taken.
    """
    text = header.field(13).strip()
    if not text or text == NULL:
        return
    match = _NUMBER.fullmatch(text)
    if match is None:
        envelope.refusal = envelope.refusal or Cause(
            code=CauseCode.SEQUENCE_NUMBER,
            detail=f"MSH-13 is no number from -1 to {NUMBER_MAX}",
            location="MSH-13",
            protocol_code="102",
        )
        return
    number = int(text)
    if number > 0:
        envelope.sequence_number = number
        return
    separators = (
        header.encode(header.delimiters.field + header.delimiters.encoding_characters) + b'"'
    )
    if any(line[3:].translate(None, separators).strip() for line in _LINES.split(body)):
        envelope.refusal = Cause(
            code=CauseCode.SEQUENCE_NUMBER,
            detail=f"The sequence number {number} is for messages without content",
            location="MSH-13",
            protocol_code="199",
        )
    elif envelope.mode is not SILENT and envelope.control_id:
        envelope.sequence_number = number
        envelope.refusal = Cause(
            code=CauseCode.LINK_CONTROL,
            detail=f"Sequence number {number}: the next one that is expected was told",
            location="MSH-13",
        )


def profile_of(header: Header, rules: Rules) -> Profile:
    """What follows from the header's profile, worked out once."""
    known = rules.profiles.get(header.profile)
    return known or rules.profiles.keep(header.profile, _profile(header, rules))


def _profile(header: Header, rules: Rules) -> Profile:
    message_type, event = header.message_type()
    return Profile(
        _storable(f"{message_type}^{event}" if event else message_type),
        {
            "version": _storable(header.component(12, 1)),
            "sending_application": _storable(header.component(3, 1)),
            "sending_facility": _storable(header.component(4, 1)),
        },
        _header_refusal(header, message_type, event, rules),
        mode_of(header, rules.acknowledgement, linked=rules.linked),
    )


def _storable(text: str) -> str:
    """A piece of the header as a database keeps it: bounded, without control characters."""
    text = text[:CONTROL_ID_MAX]
    if text.isprintable():
        return text
    return "".join(character for character in text if character.isprintable())


def _read_body(
    envelope: Envelope, header: Header, payload: bytes, start: int, rules: Rules
) -> None:
    """A response, character set, a second header, the patient, permission segments."""
    if is_response(payload, header, start):
        envelope.mode = SILENT
        envelope.refusal = envelope.refusal or _acknowledgement("MSA")
    charset, fault, fell_back = charsets.decide(
        payload, header.whole(18), rules.charset_default, rules.charset_fallbacks,
        start=start, scheme=header.whole(20), delimiters=header.delimiters,
    )  # fmt: skip
    envelope.charset = charset
    if charset is None or fault is not None:
        envelope.refusal = envelope.refusal or _undecodable(fault, payload, header, charset)
        return
    if fell_back:  # said with the message, so that nobody takes it for what MSH-18 declares
        envelope.attributes = {**envelope.attributes, "character_set": f"fallback {charset.name}"}
    # Segments begin behind a carriage return; the header is the first of them. Searching the
    # whole is quicker than cutting it into lines.
    text = payload.replace(b"\n", b"\r") if b"\n" in payload else payload
    if text.find(b"\rMSH" + header.encode(header.delimiters.field), start) >= 0:
        envelope.refusal = envelope.refusal or Cause(
            code=CauseCode.NOT_THE_FORMAT,
            detail="Several messages in one block",
            location="MSH(2)",
            protocol_code="100",
        )
        return
    envelope.continues = "" if header.parts[13] == NULL else _storable(header.parts[13].strip())
    if text.find(b"\rDSC", start) >= 0:
        separator = header.encode(header.delimiters.field)
        envelope.continued = _storable(pointer_after(text, separator))
    patient = text.find(b"\rPID", start)
    envelope.has_patient = patient >= 0
    if patient >= 0 and text.find(b"\rPID", patient + 4) < 0:
        end = text.find(b"\r", patient + 4)
        line = text[patient + 1 : end if end >= 0 else len(text)]
        envelope.subject = _subject(line, header, charset, rules)
    for name in rules.permission_segments:
        if text.find(name, start) >= 0:
            envelope.carries_permission = True
    if not (envelope.continues or envelope.continued):
        require(envelope, payload, rules)


def require(envelope: Envelope, payload: bytes, rules: Rules) -> None:
    """Hold a message against the source's profile, unless it is refused already.

    Not a fragment: part of a message cannot have all that is asked of the whole.
    """
    if rules.requirements is None or envelope.refusal is not None or envelope.charset is None:
        return
    judgement = rules.requirements.judge(payload, envelope.charset.name)
    envelope.refusal = judgement.refusal
    envelope.attributes = {**envelope.attributes, **(judgement.attributes or {})}


def _subject(line: bytes, header: Header, charset: Charset, rules: Rules) -> tuple[Identifier, ...]:
    """The identifiers in PID-3 of the only patient: with several, nothing is said of one."""
    fields = line.decode(charset.codec).split(header.delimiters.field, 4)
    if len(fields) < 4:
        return ()
    return rules.identifiers.read(fields[3], header.delimiters, charset.codec)


def _undecodable(
    fault: Undecodable | None, payload: bytes, header: Header, charset: Charset | None
) -> Cause:
    """MSH-18 names no set that we read, or a byte is not of the one that it names."""
    known = fault is not None and fault.charset_known
    return Cause(
        code=CauseCode.CHARACTER_SET,
        detail=_sentence(str(fault)),
        location=locate(payload, fault.offset, header, charset) if fault and known else "MSH-18",
        protocol_code="102" if known else "103",
    )


def _unreadable(fault: Unreadable) -> Cause:
    """AR without a header to speak of; AE when MSH-2 cannot separate the fields."""
    code = {"MSH": "100", "MSH-1": "101"}.get(fault.location, "102")
    wrong = CauseCode.REQUIRED_FIELD_MISSING if fault.location == "MSH-2" else None
    return Cause(
        code=wrong or CauseCode.NOT_THE_FORMAT,
        detail=_sentence(str(fault)),
        location=fault.location,
        protocol_code=code,
    )


def _header_refusal(header: Header, message_type: str, event: str, rules: Rules) -> Cause | None:
    """MSH-9, MSH-11 and MSH-12, in the order in which one depends on the other."""
    if not message_type:
        return _missing("MSH-9")
    if message_type in UNANSWERED_TYPES:
        return _acknowledgement("MSH-9.1")
    version = header.component(12, 1).strip()
    if not version:
        return _missing("MSH-12")
    if version not in VERSIONS:
        return Cause(
            code=CauseCode.UNSUPPORTED_VERSION,
            detail=f"HL7 versions {VERSIONS[0]} to {VERSIONS[-1]} are supported",
            location="MSH-12",
            protocol_code="203",
        )
    if message_type not in rules.local_types and f"{message_type}^{event}" not in rules.local_types:
        types, events = known_types(version)
        if message_type not in types:
            return _unsupported("The message type is not known", "MSH-9.1", "200")
        if event not in events:
            return _unsupported("The trigger event is not known", "MSH-9.2", "201")
    if rules.processing_ids and header.component(11, 1).strip() not in rules.processing_ids:
        return _unsupported("The processing id is not taken here", "MSH-11", "202")
    return None


def _acknowledgement(location: str) -> Cause:
    return Cause(
        code=CauseCode.ACKNOWLEDGEMENT,
        detail="An acknowledgement or a response that nothing here waits for",
        location=location,
        protocol_code="200",
    )


def _unsupported(detail: str, location: str, code: str) -> Cause:
    return Cause(
        code=CauseCode.UNSUPPORTED_TYPE, detail=detail, location=location, protocol_code=code
    )


def _missing(location: str) -> Cause:
    return Cause(
        code=CauseCode.REQUIRED_FIELD_MISSING,
        detail=f"{location} is required",
        location=location,
        protocol_code="101",
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def locate(payload: bytes, offset: int, header: Header, charset: Charset | None = None) -> str:
    """The field in which a byte stands (``PID-5``, ``OBX(3)-5``), for ERR-2.

    ``charset`` is that of the bytes before it, where some may look like separators.
    """
    before = payload[:offset]
    begin = max(before.rfind(b"\r"), before.rfind(b"\n")) + 1
    line = payload[begin:offset]
    name = line[:3].decode("latin-1")
    if len(line) <= 3 or not name.isalnum() or not name.isupper():
        return ""
    if charset is not None and charset.double:
        field_number = line.decode(charset.codec, "ignore").count(header.delimiters.field)
    else:
        field_number = line.count(header.encode(header.delimiters.field))
    if name == "MSH":
        field_number += 1
    marks = (b"\r" + line[:3], b"\n" + line[:3])
    sequence = 1 + sum(before.count(mark, 0, max(0, begin - 1)) for mark in marks)
    place = f"{name}({sequence})" if sequence > 1 else name
    return f"{place}-{field_number}" if field_number else place
