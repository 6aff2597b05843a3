"""The part of the patient index that one transaction needs, read in few statements.

A batch of messages names a few hundred identifiers. They are read at once, kept
here for the length of the transaction, and every change goes through here, so
that what is kept and what is stored never differ. It is only right while the
transaction holds :func:`lock_index`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache

from sqlalchemy import Connection, text

from gateway.journal import patients
from gateway.journal.enrolment import NewLink, awaited, enrol, owners, patients_of
from gateway.journal.identifiers import lock
from gateway.journal.values import Feeding, Patient, RecordStatus
from gateway.model import Identifier
from gateway.subjects import Claim, key_of

_MERGES_LOCK = 0x45636C757365
"""The advisory lock that a merge holds alone and everybody else shares ("Ecluse" in ASCII)."""

_CHAIN_MAX = 1_000
"""Length of a chain of merges beyond which the index is damaged."""


def lock_index(connection: Connection, identifiers: Iterable[Identifier], *, merges: bool) -> None:
    """Hold these identifiers, and the graph of merges, to the end of the transaction.

    To be called before the index is read. Without it, on PostgreSQL, one worker
    could hold a message for an identifier in the very instant in which another
    links it and releases nobody; or route to a patient whom another merges.
    Everybody takes the locks in one order. On SQLite one connection writes at a
    time and there is nothing to do.
    """
    if connection.dialect.name != "postgresql":
        return
    connection.execute(_LOCK_MERGES[merges], {"number": _MERGES_LOCK})
    lock(connection, {key_of(identifier) for identifier in identifiers})


_LOCK_MERGES = {
    False: text("SELECT pg_advisory_xact_lock_shared(:number)"),
    True: text("SELECT pg_advisory_xact_lock(:number)"),
}


class PatientIndex:
    """Who owns which identifier, who was merged into whom, who permits what.

    New patients and links are written by :meth:`write`, all at once; whoever
    lets the database look at them calls that first.
    """

    def __init__(self, connection: Connection, claims: Iterable[Claim]) -> None:
        self._connection = connection
        self._patients: dict[str, Patient] = {}
        self._new_patients: list[Identifier] = []
        self._new_links: list[NewLink] = []
        claims = tuple(claims)
        identifiers = [each for claim in claims for each in claim.identifiers]
        self._owners = owners(connection, identifiers)
        self._awaited = awaited(connection, (each for claim in claims for each in claim.local))
        own = {patient_id_of(each) for claim in claims for each in claim.national}
        self._read_patients(own.union(self._owners.values()))

    def _read_patients(self, ids: Iterable[str]) -> None:
        read_patients(self._connection, ids, self._patients)

    # --- reading ------------------------------------------------------------------

    def owner(self, identifier: Identifier) -> str | None:
        """The patient to whom an identifier was linked, merges not followed."""
        return self._owners.get(key_of(identifier))

    def owners(self, claim: Claim) -> frozenset[str]:
        """All patients whom a claim names, merges not followed: by what is linked, and by
        the INS itself when its patient exists."""
        named = {self._owners.get(key_of(each)) for each in claim.identifiers}
        for national in claim.national:
            own = patient_id_of(national)
            if own in self._patients:
                named.add(own)
        return frozenset(patient_id for patient_id in named if patient_id)

    def survivor(self, patient_id: str) -> Patient:
        """The patient at the end of the chain of merges. Raises KeyError for one not read."""
        return survivor_of(self._patients, patient_id)

    def is_awaited(self, identifiers: Iterable[Identifier]) -> bool:
        """Whether a held message waits for one of these."""
        return any(key_of(each) in self._awaited for each in identifiers)

    # --- writing ------------------------------------------------------------------

    def awaits(self, identifiers: Iterable[Identifier]) -> None:
        """A message of this transaction is held for these."""
        self._awaited.update(key_of(each) for each in identifiers)

    def ensure(self, ins: Identifier, message_id: int) -> Patient:
        """The patient of an INS, merges followed, made if he is new."""
        patient_id = patient_id_of(ins)
        if patient_id not in self._patients:
            self._patients[patient_id] = Patient(
                id=patient_id,
                ins_system=ins.system,
                ins_value=ins.value,
                merged_into=None,
                feeding=Feeding.UNKNOWN,
                record=RecordStatus.UNKNOWN,
                feeding_message_id=None,
                record_message_id=None,
                created_at=_NOT_YET,
            )
            self._new_patients.append(ins)
            self._link(patient_id, ins, message_id)
        return self.survivor(patient_id)

    def link(
        self, patient_id: str, identifiers: Iterable[Identifier], message_id: int
    ) -> tuple[Identifier, ...]:
        """Give a patient those identifiers that nobody has yet; the ones that are new."""
        new = []
        for identifier in identifiers:
            if key_of(identifier) not in self._owners:
                self._link(patient_id, identifier, message_id)
                new.append(identifier)
        return tuple(new)

    def _link(self, patient_id: str, identifier: Identifier, message_id: int) -> None:
        self._owners[key_of(identifier)] = patient_id
        self._new_links.append(NewLink(patient_id, identifier, message_id))

    def write(self) -> None:
        """Write the new patients and links."""
        new_patients, self._new_patients = self._new_patients, []
        new_links, self._new_links = self._new_links, []
        if new_patients or new_links:
            enrol(self._connection, new_patients, new_links)

    def merge(self, survivor_id: str, subsumed_id: str, message_id: int) -> None:
        """Merge two patients who are both at the end of their chains."""
        self.write()
        patients.merge(self._connection, survivor_id, subsumed_id, message_id)
        self._read_again(survivor_id, subsumed_id)

    def set_permission(
        self,
        patient_id: str,
        message_id: int,
        *,
        feeding: Feeding | None,
        record: RecordStatus | None,
    ) -> bool:
        """Take a statement of a permission; whether it changed anything."""
        self.write()
        changed = patients.set_permission(
            self._connection, patient_id, message_id, feeding=feeding, record=record
        )
        if changed:
            self._read_again(patient_id)
        return changed

    def _read_again(self, *ids: str) -> None:
        for patient_id in ids:
            self._patients.pop(patient_id, None)
        self._read_patients(ids)


_NOT_YET = datetime.min.replace(tzinfo=UTC)
"""Stands for the time of creation of a patient who is not written yet; nobody reads it."""


@lru_cache(maxsize=65_536)
def patient_id_of(ins: Identifier) -> str:
    """``patients.patient_id``, remembered: every message of a patient asks again."""
    return patients.patient_id(ins)


def read_patients(connection: Connection, ids: Iterable[str], known: dict[str, Patient]) -> None:
    """Add patients to ``known``, with everybody into whom they were merged."""
    wanted = set(ids) - known.keys()
    while wanted:
        found = patients_of(connection, wanted)
        known.update((patient.id, patient) for patient in found)
        wanted = {each.merged_into for each in found if each.merged_into} - known.keys()


def survivor_of(known: Mapping[str, Patient], patient_id: str) -> Patient:
    """The patient at the end of a chain of merges. Raises KeyError for one who is not known."""
    patient = known[patient_id]
    for _ in range(_CHAIN_MAX):
        if patient.merged_into is None:
            return patient
        patient = known[patient.merged_into]
    raise RecursionError("a chain of merges has no end")
