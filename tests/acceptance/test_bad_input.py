"""Bad input at the real doors of HL7 v2 and DICOM: the protocol's own refusal, evidence kept,
neighbours served. Documents have a table of their own (``test_hostile_documents.py``)."""

from __future__ import annotations

import socket
from pathlib import Path

import psutil
import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage, Verification  # type: ignore[attr-defined]

from gateway.demo import hl7_messages, study
from gateway.demo.hl7_messages import Result
from gateway.demo.people import CAMILLE
from tests.acceptance.gateway_process import GatewayProcess
from tests.chaos.senders import read_frame
from tests.eventually import eventually

pytestmark = pytest.mark.acceptance

GOOD = hl7_messages.laboratory_report(
    CAMILLE, "GOOD", "B1", (Result("2345-7", "Glucose", "5.0", "mmol/L", "3.9-5.5"),)
)
CONTROL = iter(range(1_000_000))


def good() -> bytes:
    """A message that is accepted, with a control id of its own."""
    return GOOD.replace(b"|GOOD|", f"|GOOD{next(CONTROL)}|".encode())


def answer_to(gateway: GatewayProcess, data: bytes) -> bytes:
    """Send raw bytes; the one answer, or what there was until the close."""
    with socket.create_connection(("127.0.0.1", gateway.mllp_port), timeout=30) as connection:
        connection.sendall(data)
        try:
            return read_frame(connection)
        except ConnectionResetError:
            return b""


def framed(message: bytes) -> bytes:
    return b"\x0b" + message + b"\x1c\r"


def refused_kept(gateway: GatewayProcess, source: str) -> int:
    return gateway.ledger().get(source, {}).get("refused", 0)


HL7_CASES = {
    "no MSH": (framed(b"PID|1||X\r"), b"MSA|AR|"),
    "unknown type": (framed(GOOD.replace(b"ORU^R01^ORU_R01", b"ZZZ^Z99")), b"MSA|AR|GOOD"),
    "wrong character set": (
        framed(GOOD.replace(b"8859/15", b"UNICODE UTF-8").replace(b"Glucose", b"Gluc\xe9")),
        b"MSA|A",
    ),
    "an empty frame": (framed(b""), b"MSA|AR|"),
    "no control id": (framed(GOOD.replace(b"|GOOD|", b"||")), b"MSA|AE|"),
}


@pytest.mark.parametrize("case", HL7_CASES)
def test_hl7_refusals(running_gateway: GatewayProcess, case: str) -> None:
    data, expected = HL7_CASES[case]
    before = refused_kept(running_gateway, "lab")
    answer = answer_to(running_gateway, data)
    assert expected in answer, answer
    assert b"MSA|AA" not in answer
    assert b"\rERR|" in answer
    assert refused_kept(running_gateway, "lab") > before
    assert b"MSA|AA|GOOD" in answer_to(running_gateway, framed(good()))


def test_junk_before_a_frame_is_skipped(running_gateway: GatewayProcess) -> None:
    assert b"MSA|AA|GOOD" in answer_to(running_gateway, b"\r\n  " + framed(good()))


def test_a_truncated_frame_is_kept_and_never_acknowledged(running_gateway: GatewayProcess) -> None:
    before = refused_kept(running_gateway, "lab")
    whole = good()
    with socket.create_connection(("127.0.0.1", running_gateway.mllp_port), timeout=30) as cut:
        cut.sendall(b"\x0b" + whole[: len(whole) // 2])
        cut.shutdown(socket.SHUT_WR)
        assert b"MSA|AA" not in cut.recv(65536)
    eventually(lambda: refused_kept(running_gateway, "lab") > before)
    assert b"MSA|AA|GOOD" in answer_to(running_gateway, framed(good()))


@pytest.mark.timeout(120)
def test_an_obx_of_50_mb_is_refused_and_memory_stays_flat(running_gateway: GatewayProcess) -> None:
    assert running_gateway.process is not None
    process = psutil.Process(running_gateway.process.pid)
    before = process.memory_info().rss
    huge = good() + b"OBX|2|ED|A||^application^pdf^Base64^"
    answer = b""
    with socket.create_connection(("127.0.0.1", running_gateway.mllp_port), timeout=60) as sender:
        try:
            sender.sendall(b"\x0b" + huge)
            for _ in range(50):
                sender.sendall(b"QUJD" * (1 << 18))
            sender.sendall(b"\r\x1c\r")
        except OSError:
            pass  # the gateway may close as soon as the frame is over its cap
        try:
            answer = read_frame(sender)
        except OSError:
            answer = b""
    assert b"MSA|AA" not in answer
    assert process.memory_info().rss - before < 120 * 1024 * 1024
    assert b"MSA|AA|GOOD" in answer_to(running_gateway, framed(good()))


def store(gateway: GatewayProcess, dataset: Dataset) -> int:
    scu = AE()
    scu.add_requested_context(CTImageStorage)
    association = scu.associate("127.0.0.1", gateway.dicom_port, ae_title="ECLUSE")
    assert association.is_established
    try:
        return int(association.send_c_store(dataset).Status)
    finally:
        association.release()


def test_a_dataset_without_a_study_is_refused_and_kept(running_gateway: GatewayProcess) -> None:
    before = refused_kept(running_gateway, "ct")
    dataset = next(study.ct_study(CAMILLE, slices=1))
    del dataset.StudyInstanceUID
    assert store(running_gateway, dataset) >= 0xA000
    assert refused_kept(running_gateway, "ct") == before + 1
    assert store(running_gateway, next(study.ct_study(CAMILLE, slices=1))) == 0


def test_an_sop_class_that_is_not_supported_is_not_negotiated(
    running_gateway: GatewayProcess,
) -> None:
    scu = AE()
    scu.add_requested_context("1.2.840.10008.5.1.4.34.6.1")  # unified procedure step: no storage
    scu.add_requested_context(Verification)
    association = scu.associate("127.0.0.1", running_gateway.dicom_port, ae_title="ECLUSE")
    assert association.is_established
    assert [str(c.abstract_syntax) for c in association.accepted_contexts] == [str(Verification)]
    assert association.send_c_echo().Status == 0
    association.release()


def test_a_mapping_with_a_typo_is_refused_with_its_place(
    running_gateway: GatewayProcess, repository: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "site-mappings"
    folder.mkdir()
    (folder / "typo.yaml").write_text(
        "mapping: site.typo\nversion: 1.0.0\n"
        'source: {format: hl7v2, versions: ["2.5"], match: {MSH-9.1: [ADT], MSH-9.2: [A99]}}\n'
        "entries:\n"
        "  - resource: Patient\n"
        "    id: {key: [PID-3(1).1]}\n"
        "    set:\n"
        "      brithDate: PID-7\n",
        encoding="utf-8",
    )
    answer = running_gateway.command("mapping", "check", str(folder), "--json", check=False)
    text = str(answer)
    assert "typo.yaml" in text
    assert "birthDate" in text, "the nearest right name is suggested"
