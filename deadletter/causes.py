"""What each cause means, in plain words, and what to do about it.

The set is closed: every :class:`~gateway.model.CauseCode` has its note, and the
console, the CLI and the documentation show nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from gateway.model import CauseCode


class Exit(StrEnum):
    """How an item with this cause normally ends."""

    RESEND = "resend"
    """The sender corrects it and sends it again; what is kept here is evidence."""
    ALONE = "alone"
    """It goes on by itself when what it waits for comes."""
    REPLAY = "replay"
    """Somebody removes the cause, then replays it as it is."""
    REPAIR = "repair"
    """Its bytes are wrong: replay it with corrected bytes, or discard it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CauseNote:
    """One cause for a person: ``title`` of a few words, what it ``means``, what to ``do``."""

    title: str
    means: str
    do: str
    exit: Exit


def _note(title: str, means: str, do: str, leaves: Exit) -> CauseNote:
    return CauseNote(title=title, means=means, do=do, exit=leaves)


_INTAKE = {
    CauseCode.FRAME_TRUNCATED: _note(
        "The frame is not complete",
        "The connection ended before the end of the message. What came is kept; it was not "
        "accepted.",
        "Nothing if the sender repeats it. If it comes back, look at the network and at the "
        "sender's time limits.",
        Exit.RESEND,
    ),
    CauseCode.FRAME_OVERSIZED: _note(
        "Larger than the source may send",
        "The message exceeds the size that is set for its source; reading stopped there.",
        "If such messages are legitimate, raise the source's limit and have it sent again.",
        Exit.RESEND,
    ),
    CauseCode.NOT_THE_FORMAT: _note(
        "Not what this source should send",
        "The bytes are no message of the source's format: no MSH segment, no ClinicalDocument, "
        "no DICOM data set.",
        "Check what is connected to this port or folder.",
        Exit.RESEND,
    ),
    CauseCode.REQUIRED_FIELD_MISSING: _note(
        "A field that the protocol requires is missing",
        "The protocol cannot be honoured without it, for example a message without control id.",
        "Have the sender fill the field that the location names, then send again.",
        Exit.RESEND,
    ),
    CauseCode.UNSUPPORTED_TYPE: _note(
        "A type that this source does not take",
        "The message type, SOP class or document type is not among those that the source accepts.",
        "Stop sending it, or add the type to the source if a mapping exists for it.",
        Exit.RESEND,
    ),
    CauseCode.UNSUPPORTED_VERSION: _note(
        "A version that this source does not take",
        "The message declares a version of the standard that is not accepted.",
        "Set the sender to a supported version.",
        Exit.RESEND,
    ),
    CauseCode.PROFILE_VIOLATED: _note(
        "Not as the source's profile asks",
        "The source names a profile that its messages must keep to, and this one does not at the "
        "location shown.",
        "Have the sender correct what the location names, then send again; or correct the profile. "
        "ecluse hl7 check --profile, and ecluse cda check for a document, show everything that it "
        "breaks.",
        Exit.RESEND,
    ),
    CauseCode.CHARACTER_SET: _note(
        "The characters are not those declared",
        "The bytes do not decode in the character set that the message declares, or the set is "
        "not supported. Nothing was replaced by a guess.",
        "Correct MSH-18, the XML declaration or Specific Character Set at the sender, or set the "
        "source's encoding, then send again.",
        Exit.RESEND,
    ),
    CauseCode.HOSTILE_CONTENT: _note(
        "The content could do harm",
        "The message holds something that attacks its reader: an XML entity bomb, an external "
        "entity, a document type definition, or nesting without end.",
        "Find out who sent it. A legitimate sender has no use for any of these.",
        Exit.RESEND,
    ),
    CauseCode.CONTENT_MISMATCH: _note(
        "The envelope and the content disagree",
        "What the protocol announced is not what the content says: another SOP Instance UID, "
        "another size, another digest.",
        "Correct the sender; the content was not taken into any record.",
        Exit.RESEND,
    ),
    CauseCode.CONTROL_ID_REUSED: _note(
        "Another message had this control id",
        "The source does not take a second message with the control id of an earlier one and "
        "other content.",
        "Have the sender number its messages anew and send it again, or set the source's "
        "duplicates to flag.",
        Exit.RESEND,
    ),
    CauseCode.SEQUENCE_NUMBER: _note(
        "Not the sequence number that was expected",
        "The source numbers its messages, and this one is not the next: one is missing before "
        "it, or it was sent before.",
        "The acknowledgement names the number that is expected. The sender goes on from there, "
        "or begins anew with 0 or -1.",
        Exit.RESEND,
    ),
    CauseCode.LINK_CONTROL: _note(
        "It starts or resets the numbering",
        "A message with sequence number 0 or -1 has no content: it asks which number is expected, "
        "and was answered.",
        "Nothing.",
        Exit.RESEND,
    ),
    CauseCode.ACKNOWLEDGEMENT: _note(
        "An acknowledgement that nothing waits for",
        "An acknowledgement or a response arrived where messages are taken. It is kept, and was "
        "not answered: acknowledgements are never acknowledged.",
        "Have the sender give its acknowledgements on the connection on which it was sent to.",
        Exit.RESEND,
    ),
}

_NORMALISE = {
    CauseCode.UNREADABLE: _note(
        "It cannot be read",
        "The message was accepted by its protocol, but its content breaks the rules of its format "
        "at the location shown.",
        "Repair the bytes and replay, or have the sender send a correct message and discard "
        "this one.",
        Exit.REPAIR,
    ),
    CauseCode.UNMAPPED: _note(
        "No mapping for this kind of message",
        "The message is readable, but no loaded mapping takes its type and version. It is held, "
        "not lost.",
        "Add or adapt a mapping and deploy it: the messages of this kind then go by themselves. "
        "Of one that nobody needs, end the wait and discard it.",
        Exit.ALONE,
    ),
    CauseCode.MAPPING_FAILED: _note(
        "The mapping could not be applied",
        "A rule of the mapping (file, line and column are in the location) met a value that it "
        "declares as an error.",
        "Correct the mapping and replay; if the value is wrong, repair the message and replay.",
        Exit.REPLAY,
    ),
    CauseCode.INVALID_ENTRY: _note(
        "The mapping's result is not valid FHIR R4",
        "What the mapping made of the message would be refused by any FHIR reader. The location "
        "names the element.",
        "Correct the mapping and replay.",
        Exit.REPLAY,
    ),
}

_IDENTITY = {
    CauseCode.IDENTITY_AWAITED: _note(
        "Waits for the patient's identity",
        "None of the message's identifiers is linked to a national health identity (INS) yet.",
        "Nothing: it goes by itself when a message brings the link. If it stays, ask the "
        "admissions desk to qualify the identity. If it never will, end the wait: the message "
        "becomes a dead letter, to be repaired or discarded.",
        Exit.ALONE,
    ),
    CauseCode.IDENTITY_INVALID: _note(
        "The identity is wrong or missing",
        "The INS has a wrong shape or key, its root does not count here, or nothing in the message "
        "identifies the patient.",
        "Have the sender correct the identity. Repair this message and replay it, or discard it "
        "when the sender sends a corrected one.",
        Exit.REPAIR,
    ),
    CauseCode.IDENTITY_CONFLICT: _note(
        "Two identities contradict each other",
        "The message ties an identifier to a patient other than the one to whom it is already "
        "tied, speaks of two patients at once, or merges in a circle. Nothing was guessed.",
        "Let the identity vigilance desk decide. After a merge or a correction at the source, "
        "replay; otherwise repair or discard.",
        Exit.REPLAY,
    ),
}

_PERMISSION = {
    CauseCode.FEEDING_OPPOSED: _note(
        "The patient opposes feeding",
        "The patient opposed that documents enter the shared record. The sender was told.",
        "Nothing. When the opposition is withdrawn, what follows goes in; the sender may send this "
        "message again.",
        Exit.RESEND,
    ),
    CauseCode.RECORD_CLOSED: _note(
        "The patient's record is closed",
        "The shared record of this patient has been closed. The sender was told.",
        "Nothing. When the record is opened again, what follows goes in; the sender may send this "
        "message again.",
        Exit.RESEND,
    ),
}

_DELIVERY = {
    CauseCode.NO_DESTINATION: _note(
        "No destination takes it",
        "No configured destination takes messages of this source, or the destination of a waiting "
        "delivery is no longer configured.",
        "Configure a destination for the source, then replay.",
        Exit.REPLAY,
    ),
    CauseCode.DESTINATION_UNAVAILABLE: _note(
        "The destination does not answer",
        "The destination cannot be reached or says that it is not able to take anything now.",
        "Nothing: it is tried again. If it lasts, call whoever runs the destination.",
        Exit.ALONE,
    ),
    CauseCode.DESTINATION_REFUSED: _note(
        "The destination refuses it",
        "The destination answered that it will not take these entries; its answer is with the "
        "attempts.",
        "Read the answer. Clear the reason at the destination and replay the same entries, or "
        "correct the entries or the message here. A corrected mapping is for what comes later.",
        Exit.REPLAY,
    ),
    CauseCode.OUTCOME_UNKNOWN: _note(
        "Nobody knows whether it arrived",
        "It was sent, and no answer that can be understood came back: the time was over, the "
        "connection broke or something else answered. The destination may have it.",
        "Nothing: the next attempt asks the destination before it sends anything. If it lasts, "
        "call whoever runs the destination.",
        Exit.ALONE,
    ),
    CauseCode.GAVE_UP: _note(
        "Tried too often",
        "Every attempt failed until the limit of attempts or of age. The last answer is in the "
        "detail.",
        "Make sure that the destination works again, then replay the whole group.",
        Exit.REPLAY,
    ),
    CauseCode.ENTRIES_MISSING: _note(
        "Its entries are missing",
        "What the mapping made of this message was to be delivered and is not in the journal: the "
        "database was damaged, or somebody deleted rows. No purge takes what is on its way.",
        "Run ecluse verify to see what else is missing, and find out why. A replay reads the "
        "message again from its bytes; when these are missing too, have the sender send it again "
        "and discard this one.",
        Exit.REPLAY,
    ),
    CauseCode.UNFINISHED_ATTEMPTS: _note(
        "Three attempts never ended",
        "Three times a worker began this item and died before it could say how it ended. It is "
        "set apart so that it cannot stop the others.",
        "Look for crashes or lack of memory at the times of the attempts. Replay it alone; if "
        "workers die again, keep it for the developers.",
        Exit.REPLAY,
    ),
    CauseCode.INTERNAL: _note(
        "A fault of the gateway",
        "The gateway met an error that it does not know how to name. The place in the code is in "
        "the location; no value of the message is.",
        "Report the place in the code. Replay after the correction.",
        Exit.REPLAY,
    ),
}

CAUSES: Mapping[CauseCode, CauseNote] = MappingProxyType(
    _INTAKE | _NORMALISE | _IDENTITY | _PERMISSION | _DELIVERY
)
"""Every cause's note; a test holds it complete."""


def note(code: CauseCode) -> CauseNote:
    """The note of a cause. Raises KeyError for a code that is none of the closed set."""
    return CAUSES[code]
