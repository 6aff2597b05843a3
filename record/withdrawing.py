"""What a message stated once and no longer states, as its mapping reads it now.

Nothing is erased: such an entry gets a new version that says so. It is tagged
(``urn:ecluse:statement|withdrawn``) and, where R4 has a code for it, in error: the message
never meant what the earlier mapping made of it. What a later message states as well, what
many share, and the patient stay as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, select

from record.content import Prepared, ResourceText, prepare_resource, provenance_id
from record.rows import batches
from record.tables import record_entry, record_entry_version

STATEMENT_SYSTEM = "urn:ecluse:statement"
WITHDRAWN = "withdrawn"
_TAG = {
    "system": STATEMENT_SYSTEM,
    "code": WITHDRAWN,
    "display": "No longer stated by its message, as the mapping reads it now",
}
_IN_ERROR = "entered-in-error"
_BY_STATUS = frozenset(
    {
        *("Account", "Appointment", "CarePlan", "CareTeam", "ChargeItem", "ClinicalImpression"),
        *("Communication", "Composition", "Consent", "Coverage", "Device", "DeviceRequest"),
        *("DiagnosticReport", "DocumentReference", "Encounter", "EpisodeOfCare", "Flag"),
        *("FamilyMemberHistory", "ImagingStudy", "Immunization", "List", "Media"),
        *("MedicationAdministration", "MedicationDispense", "MedicationRequest"),
        *("MedicationStatement", "NutritionOrder", "Observation", "Procedure"),
        *("QuestionnaireResponse", "RiskAssessment", "ServiceRequest", "Specimen"),
    }
)
"""Types whose required binding of ``status`` has the code entered-in-error (R4)."""
_BY_VERIFICATION = {
    "AllergyIntolerance": "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification",
    "Condition": "http://terminology.hl7.org/CodeSystem/condition-ver-status",
}
_KEYS_MAX = 500


class Withdrawing:
    """Finds what messages no longer state. To be used while their patients are locked.

    ``now`` are the references that the messages of this transaction state, by message.
    """

    def __init__(
        self,
        connection: Connection,
        json: ResourceText,
        now: Mapping[int, Collection[str]],
    ) -> None:
        self._connection = connection
        self._json = json
        self._now = now

    def withdrawn(self, message_id: int, sequence: int) -> dict[str, Prepared]:
        """The new contents of what a message stated before and does not state now."""
        states = self._now[message_id]
        gone = sorted(self._stated(message_id).difference(states))
        found: dict[str, Prepared] = {}
        for batch in batches(gone, _KEYS_MAX):
            for reference, said_by, text in self._current(batch, sequence):
                others = self._now[said_by] if said_by in self._now else self._stated(said_by)
                if said_by != message_id and reference in others:
                    continue
                marked = mark(self._json.loads(text))
                found[reference] = prepare_resource(marked, self._json)
        if gone and not states:
            # R4 wants a target in a Provenance: that of a message which states nothing keeps
            # its own, and is withdrawn like them.
            evidence = mark(dict(self._provenance(message_id)))
            found[f"Provenance/{evidence['id']}"] = prepare_resource(evidence, self._json)
        return found

    def _stated(self, message_id: int) -> frozenset[str]:
        """The targets of a message's Provenance, as it is now."""
        resource = self._provenance(message_id)
        if is_withdrawn(resource):
            return frozenset()
        return frozenset(str(each["reference"]) for each in resource.get("target", ()))

    def _provenance(self, message_id: int) -> Mapping[str, Any]:
        entry, version = record_entry, record_entry_version
        text = self._connection.execute(
            select(version.c.resource)
            .join(entry, entry.c.key == version.c.entry_key)
            .where(
                entry.c.reference == f"Provenance/{provenance_id(message_id)}",
                version.c.version == entry.c.version,
            )
        ).scalar_one_or_none()
        found: Mapping[str, Any] = self._json.loads(text) if text is not None else {}
        return found

    def _current(self, references: list[str], sequence: int) -> Iterable[tuple[str, int, str]]:
        """Of these the personal entries of which a message of that sequence has the last word:
        the message that first gave the content, and the content."""
        entry, version = record_entry, record_entry_version
        return [
            (reference, said_by, text)
            for reference, said_by, text in self._connection.execute(
                select(entry.c.reference, version.c.message_id, version.c.resource)
                .join(version, version.c.entry_key == entry.c.key)
                .where(
                    entry.c.reference.in_(references),
                    entry.c.sequence == sequence,
                    entry.c.patient_id.is_not(None),
                    entry.c.type.not_in(("Patient", "Provenance")),
                    version.c.version == entry.c.base,
                )
            )
        ]


def is_withdrawn(resource: Mapping[str, Any]) -> bool:
    """Whether a resource is said to be withdrawn: by :func:`mark`."""
    tags = (resource.get("meta") or {}).get("tag") or ()
    return any(each.get("system") == STATEMENT_SYSTEM for each in tags)


def mark(resource: dict[str, Any]) -> dict[str, Any]:
    """The same resource, said to be withdrawn."""
    meta = dict(resource.get("meta") or {})
    tags = [each for each in meta.get("tag", ()) if each.get("system") != STATEMENT_SYSTEM]
    marked = {**resource, "meta": {**meta, "tag": [*tags, dict(_TAG)]}}
    kind = resource["resourceType"]
    if kind in _BY_STATUS:
        marked["status"] = _IN_ERROR
    elif kind in _BY_VERIFICATION:
        # R4 con-5, ait-2: what is in error has no clinical status.
        marked.pop("clinicalStatus", None)
        coding = {"system": _BY_VERIFICATION[kind], "code": _IN_ERROR}
        marked["verificationStatus"] = {"coding": [coding]}
    return marked
