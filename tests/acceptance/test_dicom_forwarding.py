"""A study through the whole gateway: received, sent on to a PACS that is away at first, and asked
for again; and an order on the worklist."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from adapters.dicom.sender import send_files
from gateway.demo.people import CAMILLE
from gateway.demo.study import STUDY_UID, ct_study
from tests.acceptance.gateway_process import GatewayProcess
from tests.eventually import eventually
from tests.integration.dicom.objects import CT, EXPLICIT, IMPLICIT, data_set_of
from tests.integration.dicom.storing_peer import storing_peer
from tests.integration.dicom.test_storage_clients import dcmtk
from tests.integration.dicom.test_worklist import DAY, STEP
from tests.servers import free_port

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def pacs_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, pacs_port: int) -> Iterator[GatewayProcess]:
    running = GatewayProcess(tmp_path_factory.mktemp("forwarding"))
    running.extra = {
        "sources": [
            {"name": "ris", "type": "mllp", "listen": f"127.0.0.1:{running.mllp_port}"},
            {
                "name": "ct", "type": "dicom", "listen": f"127.0.0.1:{running.dicom_port}",
                "quiet_seconds": 1, "peers": [{"ae_title": "FINDSCU"}],
            },
        ],
        "destinations": [
            {"name": "record"},
            {
                "name": "pacs", "type": "dicom", "connect": f"127.0.0.1:{pacs_port}",
                "ae_title": "PACS", "breaker": {"failures": 2, "open_seconds": 0.3},
                "retry": {"base_seconds": 0.2, "cap_seconds": 0.5, "attempts_max": 100},
            },
        ],
    }  # fmt: skip
    running.start()
    yield running
    assert running.stop() == 0, running.log_tail()


def order() -> bytes:
    lines = [
        f"MSH|^~\\&|RIS|CHU|ECLUSE|X|{DAY}080000||OMI^O23^OMI_O23|1|P|2.5.1|||||FRA|UNICODE UTF-8",
        f"PID|1||{CAMILLE.ins}^^^ASIP-SANTE-INS-NIR&1.2.250.1.213.1.4.10&ISO^INS||{CAMILLE.family}^{CAMILLE.given}^^^^^L||{CAMILLE.birth_date}|{CAMILLE.sex}",
        "ORC|NW|PL1^DPI|FI1^RIS", f"TQ1|1||||||{DAY}1030||S",
        "OBR|1|PL1^DPI|FI1^RIS|24627-2^Scanner thoracique^LN",
        "IPC|A1^RIS|RP1^RIS|1.2.826.0.1.3680043.9.3^RIS|SP1^RIS|CT||||CT1",
    ]  # fmt: skip
    return "\r".join([*lines, ""]).encode()


def test_a_study_is_sent_on_and_found(
    gateway: GatewayProcess, pacs_port: int, tmp_path: Path
) -> None:
    paths = []
    for number, image in enumerate(ct_study(CAMILLE, slices=3)):
        path = tmp_path / f"{number}.dcm"
        image.save_as(path, enforce_file_format=True)
        paths.append(path)
    where = ("127.0.0.1", gateway.dicom_port, "ECLUSE", "CT1")
    assert all(each.accepted for each in send_files(*where, paths))
    (tmp_path / "order.hl7").write_bytes(order())
    sent = gateway.command(
        "send",
        str(tmp_path / "order.hl7"),
        "--to",
        f"mllp://127.0.0.1:{gateway.mllp_port}",
        "--json",
    )
    assert [each["code"] for each in sent["messages"]] == ["AA"]

    def waits() -> bool:
        found = gateway.get("/api/v1/rooms")
        return "pacs" in str(found)

    eventually(waits, timeout=60)
    with storing_peer({CT: [EXPLICIT, IMPLICIT]}, port=pacs_port) as pacs:
        eventually(lambda: len(pacs.kept) == 3, timeout=60)
        eventually(gateway.settled, timeout=60)
    for path in paths:
        uid = str(pydicom.dcmread(path).SOPInstanceUID)
        assert pacs.kept[uid] == data_set_of(path)
    # The order went to the record and not to the PACS.
    assert len(pacs.arrivals) == 3

    done = dcmtk(
        "findscu", "-v", "-S", "-k", "QueryRetrieveLevel=STUDY", "-k",
        f"StudyInstanceUID={STUDY_UID}", "-k", "PatientName", "127.0.0.1", str(gateway.dicom_port),
    )  # fmt: skip
    assert CAMILLE.family in done.stderr
    done = dcmtk(
        "findscu", "-v", "-W", "-k", "PatientID", "-k", "AccessionNumber", "-k",
        f"{STEP}Modality=CT", "127.0.0.1", str(gateway.dicom_port),
    )  # fmt: skip
    assert CAMILLE.ins in done.stderr
    assert "A1" in done.stderr
