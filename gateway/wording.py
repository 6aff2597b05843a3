"""The words and tones of states, stages and events, in one place."""

from __future__ import annotations

from types import MappingProxyType

from gateway.model import Stage

STATES = MappingProxyType(
    {
        # messages
        "received": ("Received", "moving"),
        "gathering": ("Gathering", "moving"),
        "gathered": ("Gathered", "done"),
        "held": ("Waiting", "held"),
        "unmapped": ("No mapping", "held"),
        "routed": ("On its way", "moving"),
        "delivered": ("Delivered", "done"),
        "refused": ("Refused", "refused"),
        "dead": ("Dead", "dead"),
        "discarded": ("Discarded", "settled"),
        "replaced": ("Repaired", "settled"),
        # deliveries and dead letters
        "pending": ("Pending", "moving"),
        "withheld": ("Withheld", "refused"),
        "replayed": ("Replayed", "done"),
        # permissions and records
        "permitted": ("permitted", "done"),
        "opposed": ("opposed", "refused"),
        "open": ("open", "done"),
        "closed": ("closed", "refused"),
        "unknown": ("not said", "settled"),
    }
)
"""For each state: its label, and the tone that the style sheet knows."""

STAGES = MappingProxyType(
    {
        Stage.INTAKE: "Intake",
        Stage.NORMALISE: "Reading",
        Stage.IDENTIFY: "Identity",
        Stage.PERMIT: "Permission",
        Stage.ROUTE: "Routing",
        Stage.DELIVER: "Delivery",
    }
)
"""The stages in the order in which a message passes them."""

FORMATS = MappingProxyType({"hl7v2": "HL7 v2", "dicom": "DICOM", "cda": "CDA", "hprim": "HPRIM"})

PROTOCOLS = MappingProxyType(
    {
        "mllp": "HL7 v2 over MLLP",
        "dicom": "DICOM C-STORE",
        "dicomweb": "DICOMweb STOW-RS",
        "cda-http": "CDA over HTTP",
        "cda-folder": "CDA from a folder",
        "hl7-http": "HL7 v2 over HTTP",
        "hl7-folder": "HL7 v2 from a folder",
        "hprim-http": "HPRIM over HTTP",
        "hprim-folder": "HPRIM from a folder",
        "xdm-http": "XDM archives over HTTP",
        "xdm-folder": "XDM archives from a folder",
        "xds": "XDS.b: documents by SOAP (ITI-41, ITI-18, ITI-43)",
        "imap": "Documents from a mailbox (IMAP)",
        "smtp": "Documents by mail (SMTP, LMTP)",
    }
)


def state_label(state: object) -> str:
    """The word for a state; the state itself when it is a new one."""
    return STATES.get(str(state), (str(state), ""))[0]


def state_tone(state: object) -> str:
    """The tone of a state: ``done``, ``moving``, ``held``, ``refused``, ``dead``, ``settled``."""
    return STATES.get(str(state), ("", "settled"))[1]


def plural(count: int, singular: str, several: str | None = None) -> str:
    """The noun that goes with a count."""
    return singular if count == 1 else (several or f"{singular}s")
