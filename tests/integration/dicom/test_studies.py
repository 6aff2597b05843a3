"""Evidence that a study is complete, over the wire: MPPS and storage commitment."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    ModalityPerformedProcedureStep,
    StorageCommitmentPushModel,
)
from sqlalchemy import delete, select
from typer.testing import CliRunner

from adapters.dicom.listener import DicomSource
from adapters.dicom.sender import send_files
from adapters.dicom.settings import DicomSourceSettings
from gateway.cli.application import app
from gateway.gate import PermissionGate
from gateway.holdings import JournalHoldings
from gateway.intake import JournalIntake
from gateway.journal import gatherings, studies, tables
from gateway.journal.journal import Journal
from gateway.journal.writer import GroupWriter
from gateway.sources import SystemClock
from gateway.studies import SourceStudies
from tests.eventually import eventually
from tests.integration.dicom.objects import CT, STUDY, data_set, write
from tests.integration.dicom.peer import associated, command, p_data, store
from tests.integration.dicom.running import in_loop
from tests.migrated import migrated
from tests.servers import free_port

WELL_KNOWN = "1.2.840.10008.1.20.1.1"
STEP = f"{STUDY}.77"


@dataclass
class Door:
    """A DICOM source before a real journal."""

    journal: Journal
    source: DicomSource
    quiet: dict[str, timedelta]
    folder: Path
    sent: int = 0

    @property
    def port(self) -> int:
        return int(self.source.address().rsplit(":", 1)[1])

    @property
    def host(self) -> str:
        return "127.0.0.1"

    def store(self, *numbers: int) -> None:
        """Send instances of the one study."""
        paths = []
        for number in numbers:
            uid = f"{STUDY}.1.{number}"
            paths.append(write(self.folder / f"{number}.dcm", data_set(uid), uid))
        done = list(send_files("127.0.0.1", self.port, "ECLUSE", "MODALITY", paths))
        assert [each.status for each in done] == [0] * len(numbers)

    def due(self) -> bool:
        """Whether the study would be taken now."""
        with self.journal.read() as connection:
            found = gatherings.get(connection, "ct", STUDY)
        return (
            found is not None and found.due_at is not None and (found.due_at <= self.journal.now())
        )

    def close(self) -> int | None:
        """Let the study go, if it is due."""
        with self.journal.write() as connection:
            return gatherings.close(connection, "ct", STUDY, self.journal.now())

    def account(self) -> studies.StudyAccount:
        with self.journal.read() as connection:
            (found,) = studies.accounts(connection, sources=["ct"])
        return found


@contextlib.contextmanager
def door(folder: Path, **settings: Any) -> Iterator[Door]:
    journal = Journal(
        f"sqlite:///{migrated(folder / 'journal.db')}", blob_directory=folder / "blobs"
    )
    journal.migrate()
    gate = PermissionGate()
    writer = GroupWriter(journal)
    writer.start()
    values = {"name": "ct", "listen": "127.0.0.1:0", "free_bytes_min": 0, "quiet_seconds": 600}
    configured = DicomSourceSettings(**(values | settings))
    quiet = {"ct": timedelta(seconds=configured.quiet_seconds)}
    patience = {"ct": timedelta(seconds=configured.partial_after_seconds)}
    ledger = SourceStudies(journal, "ct", quiet, patience)
    intake = JournalIntake(writer, gate, quiet=quiet)
    source = DicomSource(
        configured, intake, SystemClock(), folder / "spool", ledger,
        holdings=JournalHoldings(journal),
    )  # fmt: skip
    try:
        with in_loop(source):
            yield Door(journal, source, quiet, folder)
    finally:
        writer.stop()
        journal.close()


@contextlib.contextmanager
def modality(port: int, *sop_classes: str) -> Iterator[Any]:
    """An association of pynetdicom's."""
    ae = AE(ae_title="MODALITY")
    for uid in sop_classes:
        ae.add_requested_context(uid)
    association = ae.associate("127.0.0.1", port, ae_title="ECLUSE")
    assert association.is_established
    try:
        yield association
    finally:
        association.release()


def step(status: str, *, study: str = STUDY, numbers: tuple[int, ...] = ()) -> Dataset:
    """A performed procedure step as a modality sends it."""
    made = Dataset()
    made.PerformedProcedureStepStatus = status
    if status == "IN PROGRESS":
        scheduled = Dataset()
        scheduled.StudyInstanceUID = study
        scheduled.AccessionNumber = "A1"
        made.ScheduledStepAttributesSequence = [scheduled]
    series = Dataset()
    series.SeriesInstanceUID = f"{STUDY}.1"
    series.ReferencedImageSequence = []
    for number in numbers:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, f"{STUDY}.1.{number}"
        series.ReferencedImageSequence.append(item)
    made.PerformedSeriesSequence = [series]
    return made


def create(
    association: Any, status: str = "IN PROGRESS", uid: str | None = STEP, **more: Any
) -> int:
    answer, _ = association.send_n_create(step(status, **more), ModalityPerformedProcedureStep, uid)
    return int(answer.Status)


def change(association: Any, status: str, *numbers: int, uid: str = STEP) -> int:
    answer, _ = association.send_n_set(
        step(status, numbers=numbers), ModalityPerformedProcedureStep, uid
    )
    return int(answer.Status)


def test_a_study_is_due_when_its_step_is_completed_and_all_of_it_is_there(tmp_path: Path) -> None:
    with door(tmp_path) as ours:
        with modality(ours.port, ModalityPerformedProcedureStep) as association:
            assert create(association) == 0x0000
            ours.store(1, 2)
            assert change(association, "COMPLETED", 1, 2, 3) == 0x0000
        assert not ours.due()
        account = ours.account()
        assert (account.instances, account.expected, account.missing) == (2, 3, 1)
        assert account.why == "instances are missing that were announced"
        ours.store(3)
        assert ours.due()
        assert ours.close() is not None
        account = ours.account()
        assert (account.missing, account.round, account.why) == (0, 1, "complete")
        # A late instance is a new round of the same study.
        ours.store(4)
        assert ours.account().instances == 4


def test_a_step_in_progress_holds_a_quiet_study_until_patience_ends(tmp_path: Path) -> None:
    with door(tmp_path, quiet_seconds=0.05, partial_after_seconds=1.0) as ours:
        with modality(ours.port, ModalityPerformedProcedureStep) as association:
            assert create(association) == 0x0000
        ours.store(1)
        eventually(ours.due)
        assert ours.close() is None  # put off
        assert ours.account().why == "the procedure step is in progress"
        eventually(ours.due, timeout=5)
        assert ours.close() is not None


def test_an_object_that_is_long_on_its_way_keeps_its_study_from_being_quiet(
    tmp_path: Path,
) -> None:
    with door(tmp_path, quiet_seconds=0.9) as ours:
        first, second = f"{STUDY}.1.1", f"{STUDY}.1.2"
        with associated(ours) as peer:
            assert store(peer, data_set(first), first) == 0x0000
            peer.send(p_data((1, 3, command(1, sop_class=CT, sop_instance=second))))
            body = data_set(second)
            deadline = time.monotonic() + 2.0
            while time.monotonic() < deadline:
                peer.send(p_data((1, 0, body[:2])))
                body = body[2:]
                assert not ours.due()
                time.sleep(0.05)
            peer.send(p_data((1, 2, body)))
            assert peer.status() == 0x0000
        eventually(ours.due, timeout=10)
        assert ours.account().instances == 2


def test_studies_are_listed(tmp_path: Path) -> None:
    with door(tmp_path) as ours:
        with modality(ours.port, ModalityPerformedProcedureStep) as association:
            assert create(association) == 0x0000
            ours.store(1)
            assert change(association, "COMPLETED", 1, 2) == 0x0000
    configuration = tmp_path / "ecluse.yaml"
    configuration.write_text(
        f"state: {tmp_path}\n"
        f"journal: {{url: 'sqlite:///{tmp_path / 'journal.db'}'}}\n"
        "sources: [{name: ct, type: dicom}]\n"
    )
    command_line = ["dicom", "studies", "--config", str(configuration)]
    listed = CliRunner().invoke(app, [*command_line, "--waiting", "--json"])
    assert listed.exit_code == 0, listed.output
    (found,) = json.loads(listed.stdout)
    assert (found["study"], found["instances"], found["missing"]) == (STUDY, 1, 1)
    assert found["why"] == "instances are missing that were announced"
    assert "announced" in CliRunner().invoke(app, command_line).stdout
    assert CliRunner().invoke(app, [*command_line, "--source", "other"]).exit_code == 2


def test_after_a_restart_it_is_known_what_is_missing(tmp_path: Path) -> None:
    with door(tmp_path) as ours:
        ours.store(1)
        with modality(ours.port, ModalityPerformedProcedureStep) as association:
            assert create(association) == 0x0000
            assert change(association, "COMPLETED", 1, 2) == 0x0000
    with door(tmp_path) as ours:
        assert not ours.due()
        ours.store(2)
        assert ours.due()


def test_what_a_step_may_not_be(tmp_path: Path) -> None:
    with door(tmp_path) as ours:
        with modality(ours.port, ModalityPerformedProcedureStep) as association:
            assert change(association, "COMPLETED", 1) == 0x0112  # no such instance
            assert create(association, "COMPLETED") == 0x0106  # must begin in progress
            assert create(association, study="") == 0x0120
            assert create(association) == 0x0000
            assert create(association) == 0x0111  # duplicate
            assert change(association, "FINISHED", 1) == 0x0106
            assert change(association, "DISCONTINUED", 1) == 0x0000
            assert change(association, "COMPLETED", 1) == 0x0110  # may no longer be updated
            answer, _ = association.send_n_create(
                step("IN PROGRESS"), ModalityPerformedProcedureStep, None
            )
            assert answer.Status == 0x0000


# --- storage commitment ----------------------------------------------------------------


@dataclass
class Told:
    """What a modality's own SCP was told by N-EVENT-REPORT."""

    events: list[tuple[int, Dataset]] = field(default_factory=list)
    answer: int = 0x0000


@contextlib.contextmanager
def listening(port: int) -> Iterator[Told]:
    told = Told()

    def report(event: Any) -> tuple[int, None]:
        told.events.append((event.event_type, event.event_information))
        return told.answer, None

    ae = AE(ae_title="MODALITY")
    # The peer that calls is the SCP: we are the SCU on an association that we accept.
    ae.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
    server = ae.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, report)]
    )
    try:
        yield told
    finally:
        server.shutdown()


def asked(
    association: Any, *numbers: int | str, uid: str = f"{STUDY}.99", sop_class: str = CT
) -> int:
    request = Dataset()
    request.TransactionUID = uid
    request.ReferencedSOPSequence = []
    for number in numbers:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, f"{STUDY}.1.{number}"
        request.ReferencedSOPSequence.append(item)
    answer, _ = association.send_n_action(request, 1, StorageCommitmentPushModel, WELL_KNOWN)
    return int(answer.Status)


def test_what_is_held_is_committed_and_what_is_not_is_told(tmp_path: Path) -> None:
    port = free_port()
    peers = [{"ae_title": "MODALITY", "connect": f"127.0.0.1:{port}"}]
    with listening(port) as told, door(tmp_path, peers=peers) as ours:
        ours.store(1, 2)
        with modality(ours.port, StorageCommitmentPushModel) as association:
            assert asked(association, 1, 2) == 0x0000
            assert asked(association, 1, 2) == 0x0131  # the same transaction
            assert asked(association, 1, 3, uid=f"{STUDY}.98") == 0x0000
        eventually(lambda: len(told.events) == 2, timeout=20)
        by_uid = {str(each.TransactionUID): (kind, each) for kind, each in told.events}
        kind, good = by_uid[f"{STUDY}.99"]
        assert kind == 1
        assert [i.ReferencedSOPInstanceUID for i in good.ReferencedSOPSequence] == [
            f"{STUDY}.1.1", f"{STUDY}.1.2",
        ]  # fmt: skip
        assert "FailedSOPSequence" not in good
        kind, bad = by_uid[f"{STUDY}.98"]
        assert kind == 2
        assert [i.ReferencedSOPInstanceUID for i in bad.ReferencedSOPSequence] == [f"{STUDY}.1.1"]
        (failed,) = bad.FailedSOPSequence
        assert (failed.ReferencedSOPInstanceUID, failed.FailureReason) == (f"{STUDY}.1.3", 0x0112)
        eventually(lambda: not SourceStudies(ours.journal, "ct", {}, {}).due_commitments())
        # What was asked for is evidence, too: the instance that is missing is waited for.
        assert ours.account().missing == 1


def test_a_commitment_of_what_is_no_uid_is_refused_and_the_next_one_is_answered(
    tmp_path: Path,
) -> None:
    port = free_port()
    peers = [{"ae_title": "MODALITY", "connect": f"127.0.0.1:{port}"}]
    with listening(port) as told, door(tmp_path, peers=peers) as ours:
        ours.store(1)
        with modality(ours.port, StorageCommitmentPushModel) as association:
            for number in ("1\xe9", "1\0002", "x"):
                assert asked(association, 1, number, uid=f"{STUDY}.97") == 0x0115
            assert asked(association, 1) == 0x0000
        eventually(lambda: told.events, timeout=30)
        assert told.events[0][0] == 1


def test_what_a_purge_took_is_not_committed(tmp_path: Path) -> None:
    port = free_port()
    peers = [{"ae_title": "MODALITY", "connect": f"127.0.0.1:{port}"}]
    with listening(port) as told, door(tmp_path, peers=peers) as ours:
        ours.store(1, 2)
        with ours.journal.write() as connection:
            of_first = select(tables.message.c.id).where(
                tables.message.c.control_id == f"{STUDY}.1.1"
            )
            connection.execute(
                delete(tables.content).where(tables.content.c.message_id.in_(of_first))
            )
        with modality(ours.port, StorageCommitmentPushModel) as association:
            assert asked(association, 1, 2) == 0x0000
        eventually(lambda: told.events, timeout=30)
        ((kind, said),) = told.events
        assert kind == 2
        (failed,) = said.FailedSOPSequence
        assert (failed.ReferencedSOPInstanceUID, failed.FailureReason) == (f"{STUDY}.1.1", 0x0112)
        assert [i.ReferencedSOPInstanceUID for i in said.ReferencedSOPSequence] == [f"{STUDY}.1.2"]


def test_only_what_destinations_have_is_committed_when_it_is_said_so(tmp_path: Path) -> None:
    port = free_port()
    more = {
        "peers": [{"ae_title": "MODALITY", "connect": f"127.0.0.1:{port}"}],
        "commitment": "delivered", "commitment_wait_seconds": 0.1,
    }  # fmt: skip
    with listening(port) as told, door(tmp_path, **more) as ours:
        ours.store(1)
        with modality(ours.port, StorageCommitmentPushModel) as association:
            assert asked(association, 1) == 0x0000
        eventually(lambda: told.events, timeout=20)
        kind, failed = told.events[0]
        assert (kind, failed.FailedSOPSequence[0].FailureReason) == (2, 0x0213)


def test_a_sender_without_an_address_is_promised_nothing(tmp_path: Path) -> None:
    with door(tmp_path) as ours:
        with modality(ours.port, StorageCommitmentPushModel) as association:
            assert asked(association, 1) == 0x0124
    with door(tmp_path, commitment="off") as ours:
        ae = AE(ae_title="MODALITY")
        ae.add_requested_context(StorageCommitmentPushModel)
        association = ae.associate("127.0.0.1", ours.port)
        assert not association.accepted_contexts
        association.abort()


# pynetdicom drops the socket of a connection that was refused without closing it.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_sender_that_is_away_is_told_when_it_is_back(tmp_path: Path) -> None:
    port = free_port()
    peers = [{"ae_title": "MODALITY", "connect": f"127.0.0.1:{port}"}]
    with door(tmp_path, peers=peers) as ours:
        ours.store(1)
        with modality(ours.port, StorageCommitmentPushModel) as association:
            assert asked(association, 1) == 0x0000
        eventually(lambda: ours.source.statistics().get("commitment-attempts-failed"), timeout=20)
        with ours.journal.write() as connection:
            connection.exec_driver_sql("UPDATE storage_commitment SET due_at = created_at")
        with listening(port) as told:
            eventually(lambda: told.events, timeout=20)
            assert told.events[0][0] == 1
