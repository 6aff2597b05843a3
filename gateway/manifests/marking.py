"""Hears of what changes in the record, and marks the imaging studies that it may concern."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from sqlalchemy import Connection

from gateway.journal import manifests
from gateway.manifest_settings import MANIFEST_SOURCE

_STUDY, _PATIENT = "ImagingStudy/", "Patient/"
_CONCERNING = (_PATIENT, "DiagnosticReport/", "DocumentReference/")


class Marking:
    """The record's ``changed``: runs inside the transaction of a put or a merge."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now

    def __call__(self, connection: Connection, changed: Mapping[str, tuple[str, str]]) -> None:
        now = self._now()
        studies: dict[str, str] = {}
        patients: set[str] = set()
        for reference, (patient_id, source) in sorted(changed.items()):
            if source == MANIFEST_SOURCE:
                continue  # A manifest says nothing new of its study.
            if reference.startswith(_STUDY):
                studies[reference] = patient_id
            elif reference.startswith(_CONCERNING):
                patients.add(patient_id)
                own = reference.removeprefix(_PATIENT)
                if reference.startswith(_PATIENT) and own != patient_id:
                    manifests.move(connection, own, patient_id, now)
        manifests.mark_studies(connection, studies, now)
        if patients:
            manifests.mark_patients(connection, patients, now)
