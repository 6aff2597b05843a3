"""Query and retrieve, with DCMTK's findscu, movescu and getscu and with Orthanc as clients."""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    PatientRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from adapters.dicom.listener import DicomSource
from adapters.dicom.sender import send_files
from adapters.dicom.settings import DicomSourceSettings
from gateway.gate import PermissionGate
from gateway.holdings import JournalHoldings
from gateway.intake import JournalIntake
from gateway.journal.journal import Journal
from gateway.journal.writer import GroupWriter
from gateway.sources import SystemClock
from tests.eventually import eventually
from tests.integration.dicom.objects import CT, EXPLICIT, IMPLICIT, PUBLISHED, data_set_of
from tests.integration.dicom.peer import associated, command, p_data
from tests.integration.dicom.running import in_loop
from tests.integration.dicom.storing_peer import StoringPeer, storing_peer
from tests.integration.dicom.test_holdings import CHEST, HEAD, OTHER, instance
from tests.integration.dicom.test_storage_clients import dcmtk
from tests.migrated import migrated

FIND = StudyRootQueryRetrieveInformationModelFind
RLE = PUBLISHED / "test_files" / "MR_small_RLE.dcm"
MR = "1.2.840.10008.5.1.4.1.1.4"


@dataclass
class Archive:
    """A source that holds three studies and a compressed image, and a peer to move to."""

    host = "127.0.0.1"

    port: int
    files: dict[str, bytes]
    peer: StoringPeer
    source: DicomSource
    compressed: str


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    folder = tmp_path_factory.mktemp("archive")
    given: dict[tuple[str, int, int], dict[str, Any]] = {
        (CHEST, 1, 1): {}, (CHEST, 1, 2): {}, (CHEST, 2, 1): {"modality": "PR"},
        (HEAD, 1, 1): {"date": "20250203", "description": "Tête".encode("latin-1"), "accession": "B7"},
        (OTHER, 1, 1): {"patient": "P2", "name": "Martin^Paul"},
    }  # fmt: skip
    files: dict[str, bytes] = {}
    paths = []
    for (study, series, number), fields in given.items():
        data = instance(study, series, number, **fields)
        uid = f"{study}.{series}.{number}"
        files[uid] = data
        path = folder / f"{uid}.dcm"
        path.write_bytes(data)
        paths.append(path)
    paths.append(RLE)
    compressed = str(pydicom.dcmread(RLE).SOPInstanceUID)
    files[compressed] = RLE.read_bytes()
    journal = Journal(
        f"sqlite:///{migrated(folder / 'journal.db')}", blob_directory=folder / "blobs"
    )
    journal.migrate()
    writer = GroupWriter(journal)
    writer.start()
    with contextlib.ExitStack() as stack:
        peer = stack.enter_context(storing_peer({CT: [EXPLICIT, IMPLICIT]}))
        settings = DicomSourceSettings.model_validate({
            "name": "ct", "listen": "127.0.0.1:0", "free_bytes_min": 0, "quiet_seconds": 600,
            "query_results_max": 4,
            "peers": [
                {"ae_title": "FINDSCU"}, {"ae_title": "PEER"}, {"ae_title": "GETSCU"}, {"ae_title": "MOVESCU"},
                {"ae_title": "PACS", "connect": f"127.0.0.1:{peer.port}"},
                {"ae_title": "AWAY", "connect": "127.0.0.1:1"},
            ],
        })  # fmt: skip
        quiet: dict[str, Any] = {}
        intake = JournalIntake(writer, PermissionGate(), quiet=quiet)
        source = DicomSource(
            settings, intake, SystemClock(), folder / "spool", holdings=JournalHoldings(journal)
        )
        stack.enter_context(in_loop(source))
        port = int(source.address().rsplit(":", 1)[1])
        sent = list(send_files("127.0.0.1", port, "ECLUSE", "CT1", paths))
        assert [each.status for each in sent] == [0] * len(paths)
        yield Archive(port, files, peer, source, compressed)
    writer.stop()
    journal.close()


def found(archive: Archive, tmp_path: Path, *keys: str, model: str = "-S") -> list[Dataset]:
    """What findscu gets for its keys."""
    options = [part for key in keys for part in ("-k", key)]
    done = dcmtk(
        "findscu", model, "-X", "-od", str(tmp_path), *options, "127.0.0.1", str(archive.port),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers = [pydicom.dcmread(each, force=True) for each in sorted(tmp_path.glob("rsp*.dcm"))]
    for each in tmp_path.glob("rsp*.dcm"):
        each.unlink()
    return answers


def test_findscu_finds_studies_by_their_keys(archive: Archive, tmp_path: Path) -> None:
    level = "QueryRetrieveLevel=STUDY"
    asked = ("StudyInstanceUID", "StudyDate", "PatientName", "NumberOfStudyRelatedInstances")
    (one,) = found(archive, tmp_path, level, *asked, "StudyDate=20250101-", "StudyDescription")
    assert one.StudyInstanceUID == HEAD
    assert one.StudyDate == "20250203"
    assert one.StudyDescription == "Tête"
    assert str(one.PatientName) == "Müller^Zoé"
    assert one.SpecificCharacterSet == "ISO_IR 100"
    assert one.RetrieveAETitle == "ECLUSE"
    assert one.QueryRetrieveLevel == "STUDY"
    assert int(one.NumberOfStudyRelatedInstances) == 1
    names = found(archive, tmp_path, level, *asked, "PatientName=MUL*")
    assert {each.StudyInstanceUID for each in names} == {CHEST, HEAD}
    listed = found(archive, tmp_path, level, f"StudyInstanceUID={CHEST}\\{OTHER}", "PatientID")
    assert {each.PatientID for each in listed} == {"P1", "P2"}
    # Nothing but what was asked for, the level and the address.
    assert {each.keyword for each in listed[0]} == {
        "QueryRetrieveLevel", "RetrieveAETitle", "PatientID", "StudyInstanceUID",
    }  # fmt: skip
    assert found(archive, tmp_path, level, "StudyInstanceUID", "AccessionNumber=B8") == []


def test_findscu_goes_down_the_levels(archive: Archive, tmp_path: Path) -> None:
    series = found(
        archive, tmp_path, "QueryRetrieveLevel=SERIES", f"StudyInstanceUID={CHEST}",
        "SeriesInstanceUID", "Modality", "NumberOfSeriesRelatedInstances",
    )  # fmt: skip
    counted = [(each.Modality, int(each.NumberOfSeriesRelatedInstances)) for each in series]
    assert counted == [("CT", 2), ("PR", 1)]
    images = found(
        archive, tmp_path, "QueryRetrieveLevel=IMAGE", f"StudyInstanceUID={CHEST}",
        f"SeriesInstanceUID={CHEST}.1", "SOPInstanceUID", "InstanceNumber=2",
    )  # fmt: skip
    assert [each.SOPInstanceUID for each in images] == [f"{CHEST}.1.2"]
    patients = found(
        archive, tmp_path, "QueryRetrieveLevel=PATIENT", "PatientID=P?", "PatientName", model="-P"
    )
    assert {each.PatientID for each in patients} == {"P1", "P2"}


@contextlib.contextmanager
def asking(
    archive: Archive, *classes: str, title: str = "FINDSCU", **options: Any
) -> Iterator[Any]:
    ae = AE(ae_title=title)
    for each in classes:
        ae.add_requested_context(each)
    for each in options.get("storage", ()):
        ae.add_requested_context(*each)
    association = ae.associate(
        "127.0.0.1", archive.port, ae_title="ECLUSE",
        ext_neg=[build_role(each[0], scp_role=True) for each in options.get("storage", ())],
        evt_handlers=options.get("handlers", []),
    )  # fmt: skip
    assert association.is_established
    try:
        yield association
    finally:
        association.release()


def query(**keys: str) -> Dataset:
    made = Dataset()
    for keyword, value in keys.items():
        setattr(made, keyword, value)
    return made


def gone_on(association: Any) -> None:
    """pynetdicom's thread, which could take the next answer, has gone on after the last one."""
    eventually(lambda: not association._is_paused, timeout=30, every=0.001)


def statuses(association: Any, asked: Dataset, model: str = FIND) -> list[int]:
    gone_on(association)
    return [status.Status for status, _ in association.send_c_find(asked, model)]


def test_what_cannot_be_asked_is_refused(archive: Archive) -> None:
    patient_find = PatientRootQueryRetrieveInformationModelFind
    with asking(archive, FIND, patient_find) as association:
        assert statuses(association, query(QueryRetrieveLevel="PATIENT", PatientID="P1")) == [
            0xA900
        ]
        assert statuses(association, query(QueryRetrieveLevel="NONE")) == [0xA900]
        wrong = query(QueryRetrieveLevel="STUDY", SeriesInstanceUID="", StudyDate="yesterday")
        assert statuses(association, wrong) == [0xA900]
        # A key that is not known here is said to be so, and matches everything.
        unknown = query(QueryRetrieveLevel="STUDY", StudyInstanceUID=CHEST, PatientComments="x")
        assert statuses(association, unknown) == [0xFF01, 0]
        # More than query_results_max.
        many = query(QueryRetrieveLevel="IMAGE", SOPInstanceUID="")
        assert statuses(association, many) == [0xFF00] * 4 + [0xA700]
        assert statuses(association, query(QueryRetrieveLevel="STUDY", PatientID="P2")) == [
            0xFF00, 0,
        ]  # fmt: skip


def test_only_peers_may_ask(archive: Archive) -> None:
    ae = AE(ae_title="NOBODY")
    ae.add_requested_context(FIND)
    ae.add_requested_context(CT)
    association = ae.associate("127.0.0.1", archive.port, ae_title="ECLUSE")
    assert association.is_established
    assert [str(each.abstract_syntax) for each in association.accepted_contexts] == [CT]
    association.release()


def test_movescu_moves_the_bytes_that_are_kept(archive: Archive, tmp_path: Path) -> None:
    archive.peer.forget()
    done = dcmtk(
        "movescu", "-v", "-S", "-aem", "PACS", "-k", "QueryRetrieveLevel=STUDY", "-k",
        f"StudyInstanceUID={CHEST}", "127.0.0.1", str(archive.port),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Final Move Response (Success)" in done.stderr
    expected = {uid for uid in archive.files if uid.startswith(f"{CHEST}.")}
    assert set(archive.peer.kept) == expected
    for uid in expected:
        path = tmp_path / "one.dcm"
        path.write_bytes(archive.files[uid])
        assert archive.peer.kept[uid] == data_set_of(path)
    assert archive.peer.originators == {("MOVESCU", 1)}


def moved(association: Any, asked: Dataset, to: str) -> tuple[list[int], Any, Any]:
    model = StudyRootQueryRetrieveInformationModelMove
    gone_on(association)
    answers = list(association.send_c_move(asked, to, model))
    last, identifier = answers[-1]
    return [status.Status for status, _ in answers], last, identifier


def test_a_move_says_what_could_not_be_moved(archive: Archive) -> None:
    peer = archive.peer
    peer.forget()
    asked = query(QueryRetrieveLevel="STUDY", StudyInstanceUID=CHEST)
    with asking(archive, StudyRootQueryRetrieveInformationModelMove) as association:
        peer.statuses = [0, 0xA700, 0xB000]
        answered, last, identifier = moved(association, asked, "PACS")
        assert answered == [0xFF00, 0xB000]
        assert last.NumberOfCompletedSuboperations == 1
        assert last.NumberOfFailedSuboperations == 1
        assert last.NumberOfWarningSuboperations == 1
        assert identifier.FailedSOPInstanceUIDList == f"{CHEST}.1.2"
        answered, last, identifier = moved(association, asked, "AWAY")
        assert answered[-1] == 0xA702
        assert len(identifier.FailedSOPInstanceUIDList) == 3
        for destination in ("ELSEWHERE", "FINDSCU"):
            answered, last, identifier = moved(association, asked, destination)
            assert answered == [0xA801]
        answered, _, _ = moved(association, query(QueryRetrieveLevel="STUDY"), "PACS")
        assert answered == [0xA900]
        nothing = query(QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2.3")
        answered, last, _ = moved(association, nothing, "PACS")
        assert answered == [0]
        assert last.NumberOfCompletedSuboperations == 0
        one = query(
            QueryRetrieveLevel="IMAGE", StudyInstanceUID=CHEST, SeriesInstanceUID=f"{CHEST}.1",
            SOPInstanceUID=f"{CHEST}.1.1",
        )  # fmt: skip
        peer.forget()
        assert moved(association, one, "PACS")[0] == [0xFF00, 0]
        assert set(peer.kept) == {f"{CHEST}.1.1"}


def test_what_is_compressed_is_decompressed_for_who_takes_it_not_so(
    archive: Archive, tmp_path: Path
) -> None:
    study = str(pydicom.dcmread(RLE).StudyInstanceUID)
    asked = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}")
    # getscu asks for explicit little endian; with +xr for RLE.
    for options, syntax in ((["+x="], EXPLICIT), (["+xr"], "1.2.840.10008.1.2.5")):
        folder = tmp_path / syntax
        folder.mkdir()
        where = ("-od", str(folder), "127.0.0.1", str(archive.port))
        done = dcmtk("getscu", "-v", "-S", "+B", *options, *asked, *where)
        assert done.returncode == 0, done.stderr
        (kept,) = folder.iterdir()
        read = pydicom.dcmread(kept)
        assert read.file_meta.TransferSyntaxUID == syntax
        assert read.SOPInstanceUID == archive.compressed
        if syntax != EXPLICIT:
            assert data_set_of(kept) == data_set_of(RLE)


def test_getscu_gets_the_bytes_that_are_kept(archive: Archive, tmp_path: Path) -> None:
    done = dcmtk(
        "getscu", "-v", "-S", "+B", "-od", str(tmp_path), "-k", "QueryRetrieveLevel=SERIES", "-k",
        f"StudyInstanceUID={CHEST}", "-k", f"SeriesInstanceUID={CHEST}.1", "127.0.0.1",
        str(archive.port),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    kept = {str(pydicom.dcmread(each).SOPInstanceUID): each for each in tmp_path.iterdir()}
    assert set(kept) == {f"{CHEST}.1.1", f"{CHEST}.1.2"}
    for uid, path in kept.items():
        original = tmp_path / "original"
        original.write_bytes(archive.files[uid])
        assert data_set_of(path) == data_set_of(original)
        original.unlink()


def test_a_get_is_refused_object_by_object(archive: Archive) -> None:
    get = StudyRootQueryRetrieveInformationModelGet
    answers = [0xA700, 0]

    def stored(event: Any) -> int:
        return answers.pop(0)

    asked = query(
        QueryRetrieveLevel="SERIES", StudyInstanceUID=CHEST, SeriesInstanceUID=f"{CHEST}.1"
    )
    options = {"storage": [(CT, EXPLICIT)], "handlers": [(evt.EVT_C_STORE, stored)]}
    with asking(archive, get, title="GETSCU", **options) as association:
        found = list(association.send_c_get(asked, get))
        last, identifier = found[-1]
        assert last.Status == 0xB000
        assert last.NumberOfCompletedSuboperations == 1
        assert identifier.FailedSOPInstanceUIDList == f"{CHEST}.1.1"
    # Without the role of the SCP nothing can be sent on this association.
    with asking(archive, get, title="GETSCU") as association:
        last, identifier = list(association.send_c_get(asked, get))[-1]
        assert last.Status == 0xA702
        assert len(identifier.FailedSOPInstanceUIDList) == 2


def test_what_is_cancelled_ends(archive: Archive) -> None:
    get = StudyRootQueryRetrieveInformationModelGet
    asked = query(QueryRetrieveLevel="STUDY", StudyInstanceUID=CHEST)

    def stored(event: Any) -> int:
        event.assoc.send_c_cancel(7, query_model=get)
        return 0

    options = {"storage": [(CT, EXPLICIT)], "handlers": [(evt.EVT_C_STORE, stored)]}
    with asking(archive, get, title="GETSCU", **options) as association:
        last, _ = list(association.send_c_get(asked, get, msg_id=7))[-1]
        assert last.Status == 0xFE00
        assert last.NumberOfCompletedSuboperations == 1
        assert last.NumberOfRemainingSuboperations == 2


def test_what_happened_is_counted(archive: Archive, tmp_path: Path) -> None:
    before = archive.source.statistics().get("find-0000", 0)
    assert found(archive, tmp_path, "QueryRetrieveLevel=STUDY", "StudyInstanceUID=1.2") == []
    assert archive.source.statistics()["find-0000"] == before + 1


@pytest.mark.parametrize(
    "body", [b"", b"no identifier at all", struct.pack("<HHL", 8, 82, 1 << 30)]
)
def test_what_is_no_identifier_costs_only_its_request(archive: Archive, body: bytes) -> None:
    with associated(archive, str(FIND), IMPLICIT) as peer:
        for _ in range(2):
            request = command(0x0020, sop_class=str(FIND))
            peer.send(p_data((1, 3, request), (1, 2, body)))
            assert peer.status() == 0xA900


def test_one_object_of_monstrous_values_does_not_keep_the_others_from_being_found(
    archive: Archive, tmp_path: Path
) -> None:
    study = f"{CHEST}.66"
    # Twice as long in Unicode: more than an element of explicit VR can hold (PS3.5 7.1.2).
    data = instance(study, 1, 1, description=b"\xe9" * 40_000, patient="P66", name="Zo\xe9^A")
    request = Dataset()
    request.SelectorFDValue = [float("nan"), 1.5]
    request.SelectorUVValue = [1 << 60]
    request.RequestedProcedureID = "R66"
    read = pydicom.dcmread(io.BytesIO(data))
    read.RequestAttributesSequence = [request]
    path = tmp_path / "monster.dcm"
    read.save_as(path)
    done = list(send_files("127.0.0.1", archive.port, "ECLUSE", "CT1", [path]))
    assert [each.status for each in done] == [0]
    asked = Dataset()
    asked.SpecificCharacterSet = "ISO_IR 192"
    asked.QueryRetrieveLevel, asked.PatientID = "SERIES", "P66"
    asked.StudyInstanceUID = asked.StudyDescription = asked.SeriesInstanceUID = ""
    asked.PatientName = ""
    asked.RequestAttributesSequence = []
    ae = AE(ae_title="PEER")
    ae.add_requested_context(FIND, EXPLICIT)
    association = ae.associate("127.0.0.1", archive.port, ae_title="ECLUSE")
    answers = list(association.send_c_find(asked, FIND))
    assert [each.Status for each, _ in answers] == [0xFF00, 0x0000]
    said = answers[0][1]
    assert said is not None
    assert (said.StudyInstanceUID, str(said.PatientName)) == (study, "Zoé^A")
    (request,) = said.RequestAttributesSequence
    assert (request.RequestedProcedureID, request.SelectorUVValue) == ("R66", 1 << 60)
    association.release()
