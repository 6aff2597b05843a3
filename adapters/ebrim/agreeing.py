"""Whether a document entry and its CDA speak of the same document and the same patient."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.ebrim.faults import mismatch
from adapters.ebrim.submission import DocumentEntry
from gateway.model import Identifier


def check_agreement(
    entry: DocumentEntry, control_id: str, patient: Sequence[Identifier], location: str
) -> None:
    """``control_id`` is the id of the CDA (``root`` or ``root^extension``), ``patient`` what its
    header names. Raises Refused."""
    if entry.unique_id.replace("^", ".") != control_id.replace("^", "."):
        # «root^extension», or both as one OID: ITI TF-3 4.2.3.2.26 and the CI-SIS.
        raise mismatch(
            "the uniqueId of an entry is not the id of its CDA", location, value=entry.unique_id
        )
    system = f"urn:oid:{entry.patient.root}"
    same_authority = {each.value for each in patient if each.system == system}
    if same_authority and entry.patient.value not in same_authority:
        raise mismatch(
            "an entry and its CDA name different patients", location, "XDSPatientIdDoesNotMatch"
        )
