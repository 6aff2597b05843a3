"""The rules of the CI-SIS that the message alone can break, before any document is read."""

from __future__ import annotations

from adapters.hl7.profiles.errors import OTHER
from adapters.hl7.profiles.transmission import (
    EVENTS,
    METADATA,
    ORDERS,
    V2,
    Action,
    Refusal,
    Request,
    Transmitted,
    incoherent,
    missing,
)
from gateway.model import CauseCode

DOCUMENTS_MAX = {"MDM": 1, "ORU": 2}
"""An MDM transmits one document, an ORU one or two formats of the same (2.1, volume 2)."""

_MAILBOX_OF_PATIENT = "@patient."

_COMBINATIONS = (
    # DESTMSSANTEPS, DESTMSSANTEPAT: what the others must then be (empty: anything).
    ("Y", "Y", {"MASQUE_PS": "N", "INVISIBLE_PATIENT": "N", "INVISIBLE_REP_LEGAUX": "N"}),
    ("Y", "N", {"MASQUE_PS": "N", "INVISIBLE_PATIENT": "Y", "INVISIBLE_REP_LEGAUX": "N"}),
    ("N", "Y", {"INVISIBLE_PATIENT": "N", "DESTDMP": "N"}),
)
"""The matrix of exchanges by MSSanté (2.1, volume 2): «les cas non représentés génèrent un
message d'erreur». CONNEXION_SECRETE is N in all of them."""


def check(request: Request) -> None:
    """Raise Refusal for the first rule that the request breaks."""
    _check_kind(request)
    _check_documents(request)
    for document in request.documents:
        _check_action(request, document)
    _check_transcription(request)
    _check_metadata(request)
    _check_exchange(request)
    _check_participations(request)
    _check_identity(request)


def action_of(request: Request) -> Action:
    """What a checked request wants done."""
    return Action(request.documents[0].status)


def _check_kind(request: Request) -> None:
    if request.kind not in DOCUMENTS_MAX:
        detail = "The profile in MSH-21 is for ORU^R01 and MDM^T02, T04 and T10"
        raise Refusal("200", "MSH-9.1", detail, CauseCode.UNSUPPORTED_TYPE)
    known = {"R01"} if request.kind == "ORU" else EVENTS
    if request.event not in known:
        detail = "The profile in MSH-21 is for ORU^R01 and MDM^T02, T04 and T10"
        raise Refusal("201", "MSH-9.2", detail, CauseCode.UNSUPPORTED_TYPE)


def _check_documents(request: Request) -> None:
    most = DOCUMENTS_MAX[request.kind]
    if not request.documents:
        raise missing("OBX", "No OBX of type ED holds a document", "100")
    if len(request.documents) > most:
        place = request.documents[most].place
        raise incoherent("198", place, f"Only {most} document(s) may stand in this message")


def _check_action(request: Request, document: Transmitted) -> None:
    """OBX-11, ORC-1 and, in an MDM, the event say the same; else «rejeté par la PFI»."""
    location = f"{document.place}-11"
    try:
        action = Action(document.status)
    except ValueError:
        detail = "OBX-11 of a document is F (first), C (replace) or D (delete)"
        raise incoherent("103", location, detail) from None
    if action.value != request.documents[0].status:
        raise incoherent("199", location, "Both documents of a message are treated alike")
    if request.kind == "MDM" and EVENTS[request.event] is not action:
        raise incoherent("199", location, "OBX-11 does not agree with the event in MSH-9.2")
    ordered = ORDERS.get(document.order or "")
    if ordered is not None and ordered is not action:
        raise incoherent("199", "ORC-1", "ORC-1 does not agree with OBX-11")
    if not request.profile.strict or request.profile.family != V2:
        return
    if document.order is None:
        raise missing("ORC", "The segment ORC is required before the document", "100")
    if not document.order:
        raise missing("ORC-1", "ORC-1 is required")
    if ordered is None:
        raise incoherent("103", "ORC-1", "ORC-1 is NW (first), RO (replace) or CA (delete)")


def _check_transcription(request: Request) -> None:
    if request.kind != "MDM":
        return
    if request.transcription is None:
        raise missing("TXA", "The segment TXA is required in an MDM", "100")
    if not request.transcription[12]:
        raise missing("TXA-12", "TXA-12, the document's id, is required")
    if request.event == "T10" and not request.transcription[13]:
        raise missing("TXA-13", "TXA-13, the id of the replaced document, is required for T10")


def _check_metadata(request: Request) -> None:
    """A visibility that cannot be read must not be taken for «visible»."""
    strict = request.profile.strict and request.profile.family == V2
    for code, (place, value) in request.metadata.items():
        if value not in ("Y", "N") and (strict or value != "O"):
            raise incoherent("103", f"{place}-5", f"{code} is Y or N")
    for place, code in request.repeated:
        raise incoherent("198", f"{place}-5", f"{code} is said twice, and differently")
    if strict:
        for code in METADATA:
            if code not in request.metadata:
                raise missing("OBX", f"The metadata {code} is required")


def _check_exchange(request: Request) -> None:
    to_patient, hidden = request.wants("DESTMSSANTEPAT"), request.wants("INVISIBLE_PATIENT")
    if to_patient and hidden:
        place = request.metadata["DESTMSSANTEPAT"][0]
        detail = "A document that the patient may not see cannot be sent to the patient"
        raise incoherent("199", f"{place}-5", detail)
    to_professional = request.wants("DESTMSSANTEPS")
    if not (request.profile.strict and request.profile.family == V2):
        return
    if not (to_professional or to_patient):
        return
    wanted = ("Y" if to_professional else "N", "Y" if to_patient else "N")
    demands = next(rest for *both, rest in _COMBINATIONS if tuple(both) == wanted)
    for code, value in {**demands, "CONNEXION_SECRETE": "N"}.items():
        place, given = request.metadata[code]
        if given != value:
            detail = (
                f"{code} must be {value} when DESTMSSANTEPS is {wanted[0]} and "
                f"DESTMSSANTEPAT is {wanted[1]}"
            )
            raise incoherent("199", f"{place}-5", detail)


def _check_participations(request: Request) -> None:
    """The sender when the DMP is fed; a mailbox for each kind of addressee (2.1)."""
    if not (request.profile.strict and request.profile.family == V2):
        return
    senders = [each for each in request.participations if each.role == "SB"]
    if request.wants("DESTDMP"):
        if not senders:
            raise missing("PRT", "Feeding the DMP requires a PRT that names the sender (SB)", "100")
        for sender in senders:
            if not (sender.person or sender.device):
                raise missing(f"{sender.place}-5", "The sender is a person or a device")
            if not sender.organization:
                raise missing(f"{sender.place}-8", "The sender's organization has a number")
    boxes = [each.address.lower() for each in request.participations if each.role == "RCT"]
    if any(not box for box in boxes):
        place = next(p.place for p in request.participations if p.role == "RCT" and not p.address)
        raise missing(f"{place}-15", "An addressee has a mailbox in PRT-15.4")
    if request.wants("DESTMSSANTEPAT") and not any(_MAILBOX_OF_PATIENT in box for box in boxes):
        raise missing("PRT", "DESTMSSANTEPAT requires a PRT with the patient's mailbox", "100")
    if request.wants("DESTMSSANTEPS") and all(_MAILBOX_OF_PATIENT in box for box in boxes):
        raise missing("PRT", "DESTMSSANTEPS requires a PRT with an addressee's mailbox", "100")


def _check_identity(request: Request) -> None:
    if not request.identified:
        raise missing("PID-3", "PID-3 is required")
    if request.wants("DESTDMP") and "VALI" not in request.reliability:
        detail = "The DMP takes a qualified INS only: PID-32 must say VALI"
        raise incoherent(OTHER, "PID-32", detail)
