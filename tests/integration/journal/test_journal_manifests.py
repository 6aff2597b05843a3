"""Which studies are due for a manifest: marks, claims, and what comes of them. Both databases."""

from __future__ import annotations

from datetime import timedelta

from gateway.journal import manifests
from gateway.journal.journal import Journal
from gateway.manifests.marking import Marking
from tests.integration.journal.bench import HeldClock

STUDY = "ImagingStudy/1"
LEASE = timedelta(minutes=5)


def claimed(journal: Journal) -> manifests.ManifestAccount | None:
    with journal.write() as connection:
        return manifests.claim(connection, journal.now(), LEASE)


def test_a_marked_study_is_claimed_once_and_again_after_the_lease(
    journal: Journal, clock: HeldClock
) -> None:
    with journal.write() as connection:
        manifests.mark_studies(connection, {STUDY: "p1", "ImagingStudy/2": "p2"}, journal.now())
    first, second = claimed(journal), claimed(journal)
    assert first is not None
    assert second is not None
    assert {first.reference, second.reference} == {STUDY, "ImagingStudy/2"}
    assert first.state == manifests.DUE
    assert claimed(journal) is None
    clock.advance(LEASE.total_seconds() + 1)
    assert claimed(journal) is not None


def test_what_is_marked_while_it_is_looked_at_stays_due(journal: Journal) -> None:
    with journal.write() as connection:
        manifests.mark_studies(connection, {STUDY: "p1"}, journal.now())
    found = claimed(journal)
    assert found is not None
    with journal.write() as connection:
        manifests.mark_patients(connection, {"p1", "p9"}, journal.now())
    with journal.write() as connection:
        manifests.settle(
            connection, found, journal.now(), state=manifests.WAITING, cause="a report"
        )
    again = claimed(journal)
    assert again is not None
    assert (again.state, again.cause) == (manifests.WAITING, "a report")
    with journal.write() as connection:
        manifests.settle(connection, again, journal.now(), state=manifests.MADE, cause="")
    assert claimed(journal) is None
    with journal.read() as connection:
        assert manifests.counts(connection)[manifests.MADE] == 1
        assert manifests.accounts(connection, states=[manifests.WAITING]) == []
        kept = manifests.get(connection, STUDY)
    assert kept is not None
    assert kept.due_at is None


def test_a_merge_moves_studies_and_a_correction_gives_one_to_another(journal: Journal) -> None:
    with journal.write() as connection:
        manifests.mark_studies(connection, {STUDY: "p1", "ImagingStudy/2": "p1"}, journal.now())
        manifests.move(connection, "p1", "p2", journal.now())
        manifests.mark_studies(connection, {STUDY: "p3"}, journal.now())
        found = manifests.accounts(connection)
        assert manifests.mark_all(connection, journal.now()) == 2
    assert {each.reference: each.patient_id for each in found} == {
        STUDY: "p3",
        "ImagingStudy/2": "p2",
    }


def test_what_the_record_tells_marks_the_studies_that_it_concerns(journal: Journal) -> None:
    marking = Marking(journal.now)
    with journal.write() as connection:
        marking(connection, {STUDY: ("p1", "ct"), "Observation/1": ("p1", "ct")})
    found = claimed(journal)
    assert found is not None
    with journal.write() as connection:
        manifests.settle(connection, found, journal.now(), state=manifests.MADE)
        # A manifest that goes in says nothing new of its own study, nor does a laboratory result.
        marking(connection, {"DocumentReference/1": ("p1", "manifest")})
        marking(connection, {"Observation/2": ("p1", "lab")})
    assert claimed(journal) is None
    with journal.write() as connection:
        marking(connection, {"DiagnosticReport/1": ("p1", "ris")})
    assert claimed(journal) is not None
    with journal.write() as connection:
        # Patient p1 is p2 from now on.
        marking(connection, {"Patient/p1": ("p2", "adt"), "Patient/p2": ("p2", "adt")})
        moved = manifests.get(connection, STUDY)
    assert moved is not None
    assert (moved.patient_id, moved.due_at) == ("p2", journal.now())
