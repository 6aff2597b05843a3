"""What is held is found by its attributes, on each database."""

from __future__ import annotations

import errno
import hashlib
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, update

import gateway.holdings
from adapters.dicom.holdings import QueryLevel, UnknownKey
from adapters.dicom.manifest import KEY_OBJECTS
from adapters.dicom.part10 import file_head
from gateway.gate import PermissionGate
from gateway.holdings import JournalHoldings
from gateway.intake import JournalIntake
from gateway.journal import gatherings, patient_tables, rejections, study_reports, tables
from gateway.journal import holdings as index
from gateway.journal.hiding import Hidden
from gateway.journal.journal import Journal
from gateway.journal.moves import move
from gateway.journal.states import MessageState
from gateway.journal.values import Message
from gateway.journal.writer import GroupWriter
from gateway.model import Format, Payload, Received, Stage
from tests.integration.dicom.objects import CT, EXPLICIT, STUDY, element

CHEST, HEAD, OTHER = f"{STUDY}.100", f"{STUDY}.200", f"{STUDY}.300"


def instance(study: str, series: int, number: int, **given: Any) -> bytes:
    """A DICOM file whose elements stand in their order; ``given`` are values by tag name."""
    modality, date, time = (
        given.get("modality", "CT"), given.get("date", "20240102"), given.get("time", "101500"),
    )  # fmt: skip
    uid = f"{study}.{series}.{number}"
    body = b"".join([
        element(0x00080005, "CS", "ISO_IR 100"),
        element(0x00080016, "UI", CT), element(0x00080018, "UI", uid),
        element(0x00080020, "DA", date), element(0x00080030, "TM", time),
        element(0x00080050, "SH", given.get("accession", "A1")),
        element(0x00080060, "CS", modality),
        element(0x00081030, "LO", given.get("description", "Thorax")),
        element(0x00100010, "PN", given.get("name", "Müller^Zoé").encode("latin-1")),
        element(0x00100020, "LO", given.get("patient", "P1")),
        element(0x0020000D, "UI", study), element(0x0020000E, "UI", f"{study}.{series}"),
        element(0x00200011, "IS", str(series)), element(0x00200013, "IS", str(number)),
        element(0x00280010, "US", b"\x02\x00"),
        element(0x7FE00010, "OW", given.get("pixels", b"\1\2" * 4)),
    ])  # fmt: skip
    return file_head(CT, uid, EXPLICIT) + body


def sequence(tag: int, item: bytes) -> bytes:
    """A sequence of one item."""
    return element(tag, "SQ", struct.pack("<HHL", 0xFFFE, 0xE000, len(item)) + item)


class Kept:
    """A journal with the intake and the index in front of it."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.writer = GroupWriter(journal)
        self.writer.start()
        quiet = {"ct": timedelta(seconds=600)}
        self.intake = JournalIntake(self.writer, PermissionGate(), quiet=quiet)
        self.holdings = JournalHoldings(journal)

    def keep(self, study: str, series: int, number: int, **given: Any) -> int:
        data = instance(study, series, number, **given)
        payload = Payload(hashlib.sha256(data).hexdigest(), len(data), data=data)
        received = Received(
            source="ct", format=Format.DICOM, payload=payload, received_at=datetime.now(UTC),
            peer="", control_id=f"{study}.{series}.{number}", kind=CT, group=study,
        )  # fmt: skip
        return self.intake.submit(received).result(timeout=30).message_id

    def note(self, study: str, number: int, aimed: int) -> int:
        """A rejection note (IHE RAD IOCM) for patient safety on one instance of series 1."""
        uid = f"{study}.9.{number}"
        code = sequence(0x0040A043, element(0x00080100, "SH", "113037")
                        + element(0x00080102, "SH", "DCM"))  # fmt: skip
        named = sequence(0x00081199, element(0x00081150, "UI", CT)
                         + element(0x00081155, "UI", f"{study}.1.{aimed}"))  # fmt: skip
        series = sequence(0x00081115, named + element(0x0020000E, "UI", f"{study}.1"))
        body = b"".join([
            element(0x00080016, "UI", KEY_OBJECTS), element(0x00080018, "UI", uid),
            element(0x00080060, "CS", "KO"), element(0x00100020, "LO", "P1"),
            element(0x0020000D, "UI", study), element(0x0020000E, "UI", f"{study}.9"),
            element(0x0040A040, "CS", "CONTAINER"), code,
            sequence(0x0040A375, series + element(0x0020000D, "UI", study)),
        ])  # fmt: skip
        data = file_head(KEY_OBJECTS, uid, EXPLICIT) + body
        payload = Payload(hashlib.sha256(data).hexdigest(), len(data), data=data)
        received = Received(
            source="ct", format=Format.DICOM, payload=payload, received_at=datetime.now(UTC),
            peer="", control_id=uid, kind=KEY_OBJECTS, group=study,
        )  # fmt: skip
        return self.intake.submit(received).result(timeout=30).message_id

    def studies(self, **keys: str) -> list[str]:
        return [each.study for each in self.holdings.find(QueryLevel.STUDY, keys)]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def kept(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kept]:
    """One journal for all tests; the last ones change what is in it."""
    folder = tmp_path_factory.mktemp("held")
    url = f"sqlite:///{folder / 'journal.sqlite'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres").fresh_database()
    journal = Journal(url, blob_directory=folder / "blobs")
    journal.migrate()
    made = Kept(journal)
    made.keep(CHEST, 1, 1)
    made.keep(CHEST, 1, 2)
    made.keep(CHEST, 2, 1, modality="SR")
    made.keep(
        HEAD, 1, 1, modality="MR", date="20240305", time="0930", accession="B_2",
        patient="p1", name="Dupont^Jean=デュポン^ジャン".encode().decode("latin-1"),
    )  # fmt: skip
    made.keep(OTHER, 1, 1, date="", accession="[B]2", patient="P3", name="Zorn")
    try:
        yield made
    finally:
        made.writer.stop()
        journal.close()


def test_what_is_rejected_or_denied_is_hidden_on_both_databases(kept: Kept) -> None:
    journal, holdings = kept.journal, kept.holdings
    holdings.catch_up()
    rejected = f"{CHEST}.1.1"
    with journal.write() as connection:
        assert (
            rejections.mark(connection, CHEST, lambda _, uid: "113037" if uid == rejected else "")
            == 1
        )
    safety = Hidden(rejected=frozenset({"113037"}))

    def uids(hidden: Hidden) -> list[str]:
        return [each.sop_instance for each in holdings.instances(study=CHEST, hidden=hidden)]

    assert uids(Hidden()) == [rejected, f"{CHEST}.1.2", f"{CHEST}.2.1"]
    assert uids(safety) == [f"{CHEST}.1.2", f"{CHEST}.2.1"]
    assert uids(Hidden(rejected=frozenset({"113001"}))) == uids(Hidden())
    (study,) = holdings.find(QueryLevel.STUDY, {"StudyInstanceUID": CHEST}, hidden=safety)
    assert study.attributes["00201208"]["Value"] == [2]
    series = holdings.find(QueryLevel.SERIES, {"StudyInstanceUID": CHEST}, hidden=safety)
    assert [each.attributes["00201209"]["Value"] for each in series] == [[1], [1]]
    images = holdings.find(QueryLevel.IMAGE, {"StudyInstanceUID": CHEST}, hidden=safety)
    assert rejected not in [each.instance for each in images]
    with journal.write() as connection:
        assert rejections.mark(connection, CHEST, lambda _, __: "") == 1

    denied = Hidden(denied=True)
    message = tables.message
    with journal.write() as connection:
        for number, into in (("who", None), ("was", "who")):
            connection.execute(patient_tables.patient.insert().values(
                id=number, ins_system="", ins_value=number, merged_into=into, feeding="permitted",
                record="open", created_at=datetime.now(UTC),
            ))  # fmt: skip
        # The study was identified before the two were one.
        connection.execute(
            update(message).where(message.c.control_id == rejected).values(patient_id="was")
        )
    for values, hidden in (
        ({}, False), ({"feeding": "opposed"}, True), ({"feeding": "permitted"}, False),
        ({"record": "closed"}, True), ({"record": "open"}, False),
    ):  # fmt: skip
        if values:
            with journal.write() as connection:
                connection.execute(
                    update(patient_tables.patient)
                    .where(patient_tables.patient.c.id == "who")
                    .values(**values)
                )
        found = [each.study for each in holdings.find(QueryLevel.STUDY, {}, hidden=denied)]
        assert found == ([HEAD, OTHER] if hidden else [HEAD, CHEST, OTHER])
        assert bool(uids(denied)) is not hidden
        assert bool(uids(Hidden()))


def test_a_report_finds_its_study_by_number_and_ends_its_wait_on_both_databases(
    kept: Kept,
) -> None:
    journal = kept.journal
    kept.holdings.catch_up()
    with journal.read() as connection:
        assert study_reports.gathers(connection)
        (found,) = study_reports.numbered(connection, ["[B]2", "100%", "B\\2"])
        assert (found.source, found.study) == ("ct", OTHER)
        assert study_reports.numbered(connection, ["b_2", "B"]) == []
        assert [each.study for each in study_reports.gathering(connection, [HEAD])] == [HEAD]
    now = journal.now()
    with journal.write() as connection:
        # Nothing is due before it has been quiet, and nothing is put off by a report.
        assert study_reports.came(connection, "ct", OTHER, 7, now=now, settle=timedelta(seconds=60))
    with journal.read() as connection:
        gathering = gatherings.get(connection, "ct", OTHER)
    assert gathering is not None
    assert gathering.due_at == gathering.last_at + timedelta(seconds=60)
    with journal.write() as connection:
        assert study_reports.came(connection, "ct", OTHER, 8, now=now, settle=timedelta())
    with journal.read() as connection:
        gathering = gatherings.get(connection, "ct", OTHER)
    assert gathering is not None
    assert gathering.due_at is not None
    assert gathering.due_at <= now


def test_studies_are_matched_as_the_standard_says_on_both_databases(kept: Kept) -> None:
    for keys, found in (
        ({}, [HEAD, CHEST, OTHER]),
        ({"StudyInstanceUID": f"{CHEST}\\{OTHER}"}, [CHEST, OTHER]),
        ({"PatientID": "P1"}, [CHEST]),
        ({"PatientID": "P*"}, [CHEST, OTHER]),
        ({"PatientID": "?1"}, [HEAD, CHEST]),
        ({"AccessionNumber": "B_*"}, [HEAD]),
        ({"AccessionNumber": "[B]?"}, [OTHER]),
        ({"PatientName": "muller^zoe"}, [CHEST]),
        ({"PatientName": "MULLER*"}, [CHEST]),
        ({"PatientName": "zorn^"}, [OTHER]),
        ({"PatientName": "mul"}, []),
        ({"StudyDate": "20240102"}, [CHEST]),
        ({"StudyDate": "20240101-20240201"}, [CHEST]),
        ({"StudyDate": "20240103-"}, [HEAD]),
        ({"StudyDate": "-20240305"}, [HEAD, CHEST]),
        ({"StudyTime": "08"}, []),
        ({"StudyTime": "09"}, [HEAD]),
        ({"StudyTime": "0930"}, [HEAD]),
        ({"StudyTime": "09-0945"}, [HEAD]),
        ({"StudyTime": "093000.1-1015"}, [CHEST, OTHER]),
        ({"ModalitiesInStudy": "SR"}, [CHEST]),
        ({"ModalitiesInStudy": "SR\\MR"}, [HEAD, CHEST]),
        ({"ModalitiesInStudy": "SR", "PatientID": "P3"}, []),
        ({"SOPClassesInStudy": CT, "StudyDescription": "Thor*"}, [HEAD, CHEST, OTHER]),
        ({"PatientID": "*", "StudyDate": ""}, [HEAD, CHEST, OTHER]),
    ):
        assert kept.studies(**keys) == found, keys
    for level, keys in (
        (QueryLevel.STUDY, {"SeriesNumber": "1"}),
        (QueryLevel.STUDY, {"StudyDate": "tomorrow"}),
        (QueryLevel.STUDY, {"StudyTime": "1-2"}),
        (QueryLevel.STUDY, {"StudyInstanceUID": "1.*"}),
        (QueryLevel.SERIES, {"SeriesNumber": "one"}),
        (QueryLevel.STUDY, {"PatientID": "x\0"}),
    ):
        with pytest.raises(UnknownKey):
            kept.holdings.find(level, keys)


def test_what_is_found_says_what_is_held_of_it(kept: Kept) -> None:
    found = kept.holdings.find(QueryLevel.STUDY, {"PatientID": "P1"})[0].attributes
    assert found["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "Müller^Zoé"}]}
    assert found["00080061"]["Value"] == ["CT", "SR"]
    assert (found["00201206"]["Value"], found["00201208"]["Value"]) == ([2], [3])
    assert list(found) == sorted(found)
    series = kept.holdings.find(QueryLevel.SERIES, {"StudyInstanceUID": CHEST})
    assert [each.series for each in series] == [f"{CHEST}.1", f"{CHEST}.2"]
    assert series[0].attributes["00201209"]["Value"] == [2]
    images = kept.holdings.find(QueryLevel.IMAGE, {"Modality": "CT"})
    assert [each.instance for each in images] == [
        f"{CHEST}.1.1", f"{CHEST}.1.2", f"{OTHER}.1.1",
    ]  # fmt: skip
    assert images[0].attributes["00280010"]["Value"] == [2]
    page = kept.holdings.find(QueryLevel.IMAGE, {}, limit=2, offset=1)
    assert [each.instance for each in page] == [f"{CHEST}.1.1", f"{CHEST}.1.2"]
    patients = kept.holdings.find(QueryLevel.PATIENT, {"PatientName": "*z*"})
    assert [each.attributes["00100020"]["Value"] for each in patients] == [["P1"], ["P3"]]
    assert all(tag.startswith("0010") for each in patients for tag in each.attributes)


def test_the_newest_of_several_is_held_and_what_is_discarded_is_not(kept: Kept) -> None:
    first = kept.holdings.instances(instance=f"{CHEST}.1.1")[0]
    assert kept.holdings.payload(first).read() == instance(CHEST, 1, 1)
    again = kept.keep(CHEST, 1, 1, pixels=b"\3\4" * 4)
    (held,) = kept.holdings.instances(instance=f"{CHEST}.1.1")
    assert held.message_id == again
    assert kept.holdings.payload(held).read() == instance(CHEST, 1, 1, pixels=b"\3\4" * 4)
    # Large ones lie beside the database.
    large = kept.keep(CHEST, 1, 3, pixels=bytes(1 << 17))
    held = kept.holdings.instances(series=f"{CHEST}.1")[2]
    assert (held.message_id, held.number, held.transfer_syntax) == (large, 3, EXPLICIT)
    assert kept.holdings.payload(held).path is not None
    with kept.journal.write() as connection:
        connection.execute(
            update(tables.message)
            .where(tables.message.c.control_id.like(f"{HEAD}%"))
            .values(state=MessageState.DISCARDED.value)
        )
    assert kept.studies() == [CHEST, OTHER]
    assert kept.holdings.find(QueryLevel.SERIES, {"StudyInstanceUID": HEAD}) == []
    assert kept.holdings.instances(study=HEAD) == []
    with pytest.raises(ValueError, match="which"):
        kept.holdings.instances()


def test_what_cannot_be_read_is_left_out_once_and_for_all(kept: Kept) -> None:
    data = b"\0" * 128 + b"DICM" + b"nothing that a reader knows"
    payload = Payload(hashlib.sha256(data).hexdigest(), len(data), data=data)
    kept.intake.submit(
        Received(
            source="ct", format=Format.DICOM, payload=payload, received_at=datetime.now(UTC),
            peer="", control_id="1.2", kind=CT, group="1.2",
        )
    ).result(timeout=30)  # fmt: skip
    assert "1.2" not in kept.studies()
    with kept.journal.read() as connection:
        assert index.waiting(connection) == 0


def test_what_the_disk_does_not_give_keeps_no_other_from_being_found(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, bad = f"{STUDY}.940", {f"{STUDY}.940.1.{number}" for number in (1, 2)}
    monkeypatch.setattr(gateway.holdings, "BATCH", 2)
    read = gateway.holdings.payload

    def given(journal: Journal, message: Message) -> Payload:
        if message.control_id in bad:
            raise OSError(errno.EIO, "the disk does not give it")
        return read(journal, message)

    monkeypatch.setattr(gateway.holdings, "payload", given)
    for number in (1, 2, 3):
        kept.keep(study, 1, number)
    assert [each.number for each in kept.holdings.instances(study=study)] == [3]
    bad.clear()
    assert [each.number for each in kept.holdings.instances(study=study)] == [1, 2, 3]


def test_a_note_that_cannot_be_read_lifts_nothing_and_one_that_is_discarded_does(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = f"{STUDY}.950"
    for number in (1, 2, 3):
        kept.keep(study, 1, number)
    first, second = kept.note(study, 1, 1), kept.note(study, 2, 2)
    hidden = Hidden(rejected=frozenset({"113037"}))

    def shown() -> list[int | None]:
        found = kept.holdings.instances(study=study, series=f"{study}.1", hidden=hidden)
        return [each.number for each in found]

    assert shown() == [3]
    read = gateway.holdings.payload

    def given(journal: Journal, message: Message) -> Payload:
        if message.id == first:
            raise OSError(errno.EIO, "the disk does not give it")
        return read(journal, message)

    monkeypatch.setattr(gateway.holdings, "payload", given)
    kept.keep(study, 1, 1, pixels=b"\5\6" * 4)
    kept.keep(study, 1, 4)
    assert shown() == [3, 4]
    monkeypatch.undo()
    third = kept.note(study, 3, 4)
    assert shown() == [3]
    with kept.journal.write() as connection:
        connection.execute(delete(tables.content).where(tables.content.c.message_id == third))
    kept.keep(study, 1, 5)
    assert shown() == [3, 5]
    for note in (first, second, third):
        with kept.journal.write() as connection:
            move(connection, note, MessageState.DISCARDED, event="discarded", stage=Stage.NORMALISE)
    assert shown() == [1, 2, 3, 4, 5]


def test_what_was_purged_is_not_offered(kept: Kept) -> None:
    study = f"{STUDY}.900"
    gone, stays = kept.keep(study, 1, 1), kept.keep(study, 1, 2)
    assert kept.studies(StudyInstanceUID=study) == [study]
    with kept.journal.write() as connection:
        connection.execute(delete(tables.content).where(tables.content.c.message_id == gone))
    (held,) = kept.holdings.instances(study=study)
    assert held.message_id == stays
    (match,) = kept.holdings.find(QueryLevel.STUDY, {"StudyInstanceUID": study})
    assert match.attributes["00201208"]["Value"] == [1]
    with kept.journal.write() as connection:
        connection.execute(delete(tables.content).where(tables.content.c.message_id == stays))
    assert kept.studies(StudyInstanceUID=study) == []
    for level in (QueryLevel.SERIES, QueryLevel.IMAGE):
        assert not kept.holdings.find(level, {"StudyInstanceUID": study})


def test_a_patient_is_found_whose_newest_study_is_not_shown(kept: Kept) -> None:
    old, new = f"{STUDY}.910", f"{STUDY}.920"
    kept.keep(old, 1, 1, patient="P9", name="Vieux^A")
    kept.keep(new, 1, 1, patient="P9", name="Neuf^A")

    def named(hidden: Hidden) -> list[str]:
        found = kept.holdings.find(QueryLevel.PATIENT, {"PatientID": "P9"}, hidden=hidden)
        return [each.attributes["00100010"]["Value"][0]["Alphabetic"] for each in found]

    assert named(Hidden()) == ["Neuf^A"]
    with kept.journal.write() as connection:
        assert rejections.mark(connection, new, lambda _, __: "113037") == 1
    assert named(Hidden(rejected=frozenset({"113037"}))) == ["Vieux^A"]


def test_when_the_newest_is_discarded_the_one_before_it_is_held_again(kept: Kept) -> None:
    study = f"{STUDY}.930"
    first = kept.keep(study, 1, 1, patient="P7", description="Abdomen")
    kept.keep(study, 1, 2, patient="P7", description="Abdomen")
    wrong = kept.keep(study, 1, 1, patient="P8", description="Genou", modality="MR")
    (held,) = kept.holdings.instances(instance=f"{study}.1.1")
    assert held.message_id == wrong
    with kept.journal.write() as connection:
        move(connection, wrong, MessageState.DISCARDED, event="discarded", stage=Stage.NORMALISE)
    (held,) = kept.holdings.instances(instance=f"{study}.1.1")
    assert held.message_id == first
    # Nothing of what the discarded object said is left.
    (found,) = kept.holdings.find(QueryLevel.STUDY, {"StudyInstanceUID": study})
    assert found.attributes["00100020"]["Value"] == ["P7"]
    assert found.attributes["00081030"]["Value"] == ["Abdomen"]
    assert (found.attributes["00080061"]["Value"], found.attributes["00201208"]["Value"]) == (
        ["CT"], [2],
    )  # fmt: skip
    assert kept.studies(PatientID="P8") == []
    with kept.journal.read() as connection:
        assert index.waiting(connection) == 0
