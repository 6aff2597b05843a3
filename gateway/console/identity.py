"""Who a patient is, in French words: the traits of the record, the identifiers of the index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from gateway import ins
from gateway.console import clinical, typography
from gateway.console.clinical import Json, items, text
from gateway.journal import patients
from gateway.journal.values import Patient
from record.store import Record

IDENTIFIERS_SHOWN = 6

INS_KINDS = {
    ins.NIR: ("INS-NIR", False),
    ins.NIA: ("INS-NIA", False),
    ins.NIR_TEST: ("INS-NIR de test", True),
    ins.NIR_DEMONSTRATION: ("INS-NIR de démonstration", True),
}
"""For each root: its name for a person, and whether it is one of the test roots."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentifierLine:
    """A local identifier: its kind, its value, the authority's system."""

    label: str
    value: str
    system: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The traits, in French words."""

    family: str
    given: str
    birth_name: str
    sex: str
    born: str
    birth: str
    birth_iso: str
    age: str
    deceased: str
    ins: str
    ins_kind: str
    ins_test: bool
    identifiers: tuple[IdentifierLine, ...]

    @property
    def name(self) -> str:
        """Family name and given names."""
        return " ".join(part for part in (self.family, self.given) if part) or "Sans nom"


def read_identity(
    connection: Connection, record: Record, patient: Patient, now: datetime
) -> Identity:
    """A patient's traits from the record, with the INS and local identifiers of the index."""
    stored = record.read(connection, "Patient", patient.id)
    resource: Json = stored.resource if stored else {}
    names = items(resource.get("name"))
    used = _used_name(names)
    family, given = clinical.human_name(used) if used else ("", "")
    birth_name = next(
        (clinical.human_name(n)[0] for n in names if text(n.get("use")) == "maiden"), ""
    )
    birth = text(resource.get("birthDate"))
    gender = text(resource.get("gender"))
    kind, test = INS_KINDS.get(patient.ins_system, (patient.ins_system, False))
    local = [
        each
        for each in patients.identifiers(connection, patient.id)
        if each.system not in ins.ROOTS
    ]
    return Identity(
        family=family,
        given=given,
        birth_name=birth_name if birth_name != family else "",
        sex=clinical.SEXES.get(gender, "Sexe non précisé"),
        born={"female": "née le", "male": "né le"}.get(gender, "date de naissance :"),
        birth=typography.french_date(birth) if birth else "",
        birth_iso=birth,
        age=typography.age(birth, now.date()),
        deceased=_deceased(resource),
        ins=typography.ins(patient.ins_value),
        ins_kind=kind,
        ins_test=test,
        identifiers=tuple(
            IdentifierLine(label=_label(each.type), value=each.value, system=each.system)
            for each in local[:IDENTIFIERS_SHOWN]
        ),
    )


def _used_name(names: Sequence[Json]) -> Json | None:
    """The official name, else the usual one, else the first."""
    for use in ("official", "usual"):
        for name in names:
            if text(name.get("use")) == use:
                return name
    return names[0] if names else None


def _label(kind: str) -> str:
    labels = {"PI": "IPP", "PT": "Identifiant externe", "MR": "Dossier", "AN": "Séjour"}
    return labels.get(kind, kind or "Identifiant")


def _deceased(resource: Json) -> str:
    at = text(resource.get("deceasedDateTime"))
    if at:
        return f"décès le {typography.french_date(at)}"
    return "décès déclaré" if resource.get("deceasedBoolean") is True else ""
