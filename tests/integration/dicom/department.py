"""A whole gateway in this process, and the radiology department around it.

Only the thread that makes manifests is replaced by steps that a test takes itself, so that it
says when.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset

from adapters.dicom.manifest import KEY_OBJECTS
from adapters.dicom.selection import Selection, read_file
from adapters.dicom.sender import send_files
from gateway.bootstrap import Gateway
from gateway.journal import manifests
from gateway.journal.ledger import ledger
from gateway.journal.manifests import ManifestAccount
from gateway.manifests.making import Manifests
from gateway.model import Payload
from gateway.settings import Settings
from tests.eventually import eventually

CT = "1.2.840.10008.5.1.4.1.1.2"
ROOT = "1.2.826.0.1.3680043.9.64"
AUTHORITY = "1.2.250.1.999.7"
PUBLISHED = "2.16.840.1.113669.632.20.1211.10000231621"


def item(**attributes: Any) -> Dataset:
    made = Dataset()
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


@dataclass
class Exam:
    """One study of one patient. ``number`` makes both its own."""

    number: int
    ins: str
    study: str = ""
    accession: str = ""
    local: str = ""
    authority: str = AUTHORITY

    def __post_init__(self) -> None:
        self.study = self.study or f"{ROOT}.{self.number}"
        self.accession = self.accession or f"ACC{self.number}"
        self.local = self.local or f"IPP{self.number}"

    def uid(self, series: int, number: int) -> str:
        return f"{ROOT}.{self.number}.{series}.{number}"

    def instance(self, folder: Path, series: int, number: int, **attributes: Any) -> Path:
        """A file of one instance."""
        uid = self.uid(series, number)
        data = item(
            **{
                "SpecificCharacterSet": "ISO_IR 100", "SOPClassUID": CT, "SOPInstanceUID": uid,
                "StudyInstanceUID": self.study, "SeriesInstanceUID": f"{ROOT}.{self.number}.{series}",
                "StudyDate": "20210409", "StudyTime": "101500", "SeriesDate": "20210409",
                "SeriesTime": "101600", "Modality": "CT", "PatientName": "PAT-TROIS^DOMINIQUE",
                "PatientID": self.local, "IssuerOfPatientID": "HOP",
                "IssuerOfPatientIDQualifiersSequence": [
                    item(UniversalEntityID=self.authority, UniversalEntityIDType="ISO")
                ],
                "AccessionNumber": self.accession, "StudyDescription": "Tête",
                "SeriesNumber": str(series), "InstanceNumber": str(number),
                "SeriesDescription": "Dentascan", **attributes,
            }
        )  # fmt: skip
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
        data.file_meta.MediaStorageSOPInstanceUID = uid
        path = folder / f"{uid}.dcm"
        data.save_as(path, enforce_file_format=True)
        return path

    def note(self, folder: Path, number: int, title: str, *aimed: tuple[int, int]) -> Path:
        """A file of a rejection note (IHE RAD IOCM)."""
        references = [
            item(
                ReferencedSOPClassUID=KEY_OBJECTS if series == 9 else CT,
                ReferencedSOPInstanceUID=self.uid(series, each),
            )
            for series, each in aimed
        ]
        series = item(
            SeriesInstanceUID=f"{ROOT}.{self.number}.{aimed[0][0]}",
            ReferencedSOPSequence=references,
        )
        study = item(StudyInstanceUID=self.study, ReferencedSeriesSequence=[series])
        title_code = item(CodeValue=title, CodingSchemeDesignator="DCM", CodeMeaning="Rejected")
        return self.instance(
            folder, 9, number, SOPClassUID=KEY_OBJECTS, Modality="KO", ValueType="CONTAINER",
            ConceptNameCodeSequence=[title_code], ContentDate="20210410", ContentTime="120000",
            CurrentRequestedProcedureEvidenceSequence=[study],
        )  # fmt: skip

    def report(self, cda: bytes, control_id: str) -> bytes:
        """An ORU^R01 with the report in it."""
        packed = base64.b64encode(cda).decode()
        return "\r".join(
            [
                "MSH|^~\\&|RIS|HOP|ECLUSE|HOP|20210409120000+0200||ORU^R01^ORU_R01|"
                f"{control_id}|P|2.5|||||FRA|UNICODE UTF-8",
                f"PID|1||{self.ins}^^^ASIP-SANTE-INS-NIR&1.2.250.1.213.1.4.10&ISO^INS~"
                f"{self.local}^^^HOP&{self.authority}&ISO^PI||PAT-TROIS^DOMINIQUE^^^^^L||19790328|F"
                "|||||||||||||||||||||||||VALI",
                f"ORC|RE|P{self.number}|{self.accession}",
                f"OBR|1|P{self.number}|{self.accession}|18748-4^CR^LN|||20210409101500+0200"
                "|||||||||||||||||F",
                f"OBX|1|ED|18748-4^CR^LN||^TEXT^XML^Base64^{packed}||||||F",
                "",
            ]
        ).encode()

    def cda(self, root: str, at: str, *others: str, issuer: str = "1.2.3.7") -> bytes:
        """A small report document of this exam and of ``others`` (Study Instance UIDs)."""
        events = "".join(
            f'<documentationOf><serviceEvent><id root="{study}"/></serviceEvent></documentationOf>'
            for study in (self.study, *others)
        )
        return (
            '<ClinicalDocument xmlns="urn:hl7-org:v3" xmlns:ps3-20="urn:dicom-org:ps3-20">'
            '<typeId root="2.16.840.1.113883.1.3" extension="POCD_HD000040"/>'
            f'<id root="{root}"/><code code="18748-4" codeSystem="2.16.840.1.113883.6.1"/>'
            f'<title>CR</title><effectiveTime value="{at}"/><recordTarget><patientRole>'
            f'<id root="1.2.250.1.213.1.4.10" extension="{self.ins}"/></patientRole></recordTarget>'
            f'<inFulfillmentOf><order><id root="1.2.3.8" extension="P{self.number}"/>'
            f'<ps3-20:accessionNumber root="{issuer}" extension="{self.accession}"/></order>'
            f"</inFulfillmentOf>{events}<component><nonXMLBody><text>Rien.</text></nonXMLBody>"
            "</component></ClinicalDocument>"
        ).encode()


@dataclass
class Department:
    """A gateway that runs, and the department around it."""

    gateway: Gateway
    maker: Manifests
    folder: Path
    control: int = field(default=0)

    def port(self, source: str) -> int:
        return int(self.gateway.addresses()[source].rsplit(":", 1)[1])

    def store(self, *paths: Path, source: str = "dicom") -> None:
        """C-STORE."""
        done = list(send_files("127.0.0.1", self.port(source), "ECLUSE", "PACS", list(paths)))
        assert [each.status for each in done] == [0] * len(paths)

    def send(self, *paths: Path) -> None:
        """C-STORE, and wait until the gateway has read what came."""
        self.store(*paths)
        self.settled()

    def tell(self, message: bytes) -> str:
        """MLLP, and wait until the message is where it belongs; its acknowledgement's code."""
        with socket.create_connection(("127.0.0.1", self.port("hl7")), timeout=30) as peer:
            peer.sendall(b"\x0b" + message + b"\x1c\r")
            answer = b""
            while not answer.endswith(b"\x1c\r"):
                answer += peer.recv(65_536)
        self.settled()
        return answer.split(b"MSA|")[1][:2].decode()

    def control_id(self) -> str:
        self.control += 1
        return f"C{self.control}"

    def settled(self) -> None:
        def still() -> bool:
            with self.gateway.journal.read() as connection:
                return all(line.pending == 0 for line in ledger(connection).values())

        eventually(still, timeout=60)

    def make(self) -> None:
        """Take all steps that are due, and wait for what they handed in."""
        while self.maker.step():
            pass
        self.settled()

    def account(self, exam: Exam) -> ManifestAccount:
        with self.gateway.journal.read() as connection:
            found = manifests.accounts(connection, limit=1_000)
        (mine,) = [each for each in found if each.study == exam.study]
        return mine

    def entries(self, patient_id: str, kind: str) -> list[dict[str, Any]]:
        with self.gateway.journal.read() as connection:
            found = self.gateway.record.everything(connection, patient_id, types=(kind,))
        return [each.resource for each in found.entries]

    def documents(self, exam: Exam) -> list[dict[str, Any]]:
        """The manifests of an exam's patient, in the order in which they came."""
        found = self.entries(self.account(exam).patient_id, "DocumentReference")
        return [each for each in found if KEY_OBJECTS in json.dumps(each["content"])]

    def bytes_of(self, document: dict[str, Any]) -> bytes:
        digest = document["content"][0]["attachment"]["url"].removeprefix("Binary/")
        with self.gateway.journal.read() as connection:
            found = self.gateway.record.document(connection, digest)
        assert found is not None
        return found.payload.read()

    def selection(self, document: dict[str, Any]) -> Selection:
        found = read_file(Payload.from_bytes(self.bytes_of(document)))
        assert found is not None
        return found

    def current_of(self, exam: Exam) -> Selection:
        """The manifest in force of an exam whose patient has others, too."""
        read = [self.selection(d) for d in self.documents(exam) if d["status"] == "current"]
        (found,) = [each for each in read if each.study == exam.study]
        return found

    def current(self, exam: Exam) -> Selection:
        (document,) = [each for each in self.documents(exam) if each["status"] == "current"]
        return self.selection(document)


def named(selection: Selection) -> list[str]:
    """Series and number of the instances that a manifest names."""
    uids = [
        each.uid
        for study in selection.studies
        for series in study.series
        for each in series.instances
    ]
    return [".".join(uid.split(".")[-2:]) for uid in uids]


@contextlib.contextmanager
def running_department(folder: Path, *sources: dict[str, Any], **more: Any) -> Iterator[Department]:
    """A gateway with a source of HL7 v2, one of DICOM and ``sources``; ``more`` are settings."""
    settings = Settings.model_validate(
        {
            "state": folder / "state",
            "manifest": {
                "profile": "drim-m",
                "retrieve_url": "https://wado.example/rs",
                "report_url": "https://fhir.example/fhir",
                "institution": "Centre^^^^^^^^^499700367909006",
            },
            "sources": [
                {"name": "hl7", "type": "mllp", "listen": "127.0.0.1:0"},
                {
                    "name": "dicom", "type": "dicom", "listen": "127.0.0.1:0",
                    "quiet_seconds": 0.2, "free_bytes_min": 0,
                },
                *sources,
            ],
            "worker": {"mapping_processes": 0, "sweep_seconds": 0.2},
            **more,
        }
    )  # fmt: skip
    gateway = Gateway.build(settings)
    maker = gateway.manifests
    assert maker is not None
    gateway.manifests = None
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(gateway.start(), loop).result(timeout=60)
        (folder / "files").mkdir()
        yield Department(gateway, maker, folder / "files")
    finally:
        asyncio.run_coroutine_threadsafe(gateway.stop(), loop).result(timeout=120)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
        loop.close()
