"""Independent clients: none of them is ours. They speak to the gateway as any sender would."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import httpx2
from hl7.client import MLLPClient
from pydicom import Dataset
from pynetdicom import AE

TIMEOUT_SECONDS = 30.0


def send_hl7(address: str, message: bytes) -> str:
    """Send one message with python-hl7's client; the acknowledgement as text."""
    host, port = address.rsplit(":", 1)
    with MLLPClient(host, int(port), encoding="utf-8") as client:
        client.socket.settimeout(TIMEOUT_SECONDS)
        answer: bytes = client.send_message(message)
    return answer.strip(b"\x0b\x1c\r").decode("utf-8", errors="backslashreplace")


def acknowledgement_code(answer: str) -> str:
    """MSA-1 of an acknowledgement, or ``none``."""
    for segment in answer.split("\r"):
        if segment.startswith("MSA|"):
            return segment.split("|")[1]
    return "none"


def send_dicom(address: str, title: str, instances: Iterable[Dataset]) -> list[int]:
    """Send instances with pynetdicom's SCU; the DIMSE status of each."""
    host, port = address.rsplit(":", 1)
    datasets = list(instances)
    scu = AE(ae_title="DEMO-CT")
    for dataset in datasets:
        scu.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
        break
    association = scu.associate(host, int(port), ae_title=title)
    if not association.is_established:
        return [0xFFFF] * len(datasets)
    try:
        return [int(getattr(association.send_c_store(d), "Status", 0xFFFF)) for d in datasets]
    finally:
        association.release()


class Http:
    """The gateway's HTTP face, as a practice's software and a FHIR client use it."""

    def __init__(self, address: str) -> None:
        self.base = f"http://{address}"
        self._client = httpx2.Client(base_url=self.base, timeout=TIMEOUT_SECONDS)

    def ready(self) -> bool:
        """Whether the gateway says that it is ready."""
        try:
            return self._client.get("/readyz").status_code == 200
        except httpx2.HTTPError:
            return False

    def post_cda(self, document: bytes) -> int:
        """Post a CDA document; the HTTP status."""
        answer = self._client.post(
            "/intake/cda", content=document, headers={"Content-Type": "application/xml"}
        )
        return answer.status_code

    def fhir(self, path: str, **parameters: str) -> dict[str, Any]:
        """A FHIR resource or searchset as a dict; ``{}`` when there is none (404, 410)."""
        answer = self._client.get(f"/fhir/{path}", params=parameters)
        if answer.status_code in (404, 410):
            return {}
        answer.raise_for_status()
        # Decimals are kept as the text that stands there: 6.10 must not become 6.1.
        body: dict[str, Any] = json.loads(answer.content, parse_float=str)
        return body

    def binary(self, url: str) -> bytes:
        """The bytes behind an attachment's relative URL."""
        answer = self._client.get(f"/fhir/{url}")
        answer.raise_for_status()
        return answer.content

    def resources(self, kind: str, patient: str) -> list[dict[str, Any]]:
        """The current resources of one type of one patient."""
        bundle = self.fhir(kind, patient=patient, _count="200")
        return [entry["resource"] for entry in bundle.get("entry", [])]

    def ledger(self) -> dict[str, dict[str, int]]:
        """Per source, what became of its messages (``GET /api/v1/status``)."""
        answer = self._client.get("/api/v1/status")
        answer.raise_for_status()
        sources: dict[str, dict[str, int]] = answer.json()["sources"]
        return sources

    def patient_id(self, system: str, value: str) -> str:
        """The record's id for a national identifier, or empty."""
        bundle = self.fhir("Patient", identifier=f"{system}|{value}")
        entries = bundle.get("entry", [])
        return str(entries[0]["resource"]["id"]) if entries else ""
