"""What XDS.b costs: submissions a second that are durable, beside the same documents by plain HTTP.

    python -m benchmarks.xds [--documents 300] [--clients 8] [--rounds 3] [--json FILE]

Starts a gateway of its own (SQLite, every commit on the disk) with two sources, and sends the same
new documents by ``POST /intake/cda`` and by ITI-41 with MTOM, in turns, over connections that stay
open; each answer is waited for, and what the gateway then does with the documents, so that neither
works off the other's. Then it finds and fetches what was sent (ITI-18, ITI-43). Figures
are medians of the rounds; ``ratio`` is ITI-41 to plain HTTP of the same run. ``large`` is one
document of 30 MB: what it takes, and how much the gateway's memory grew.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx2
import psutil

from tests.eventually import eventually
from tests.integration.xds.submissions import (
    APPROVED,
    MTOM,
    PLAIN,
    QUERY,
    REPOSITORY,
    RETRIEVE,
    XDS,
    documents_request,
    entry,
    envelope,
    packed,
    read_answer,
    slot,
)

PATIENT = "279035121518989^^^&1.2.250.1.213.1.4.10&ISO"
FIND = "14d4debf-8f97-4251-9a74-a90016b0af0d"


def document(pdf_bytes: int = 0) -> tuple[bytes, str]:
    """A new CDA of the size of a usual report (20 KB), or with a PDF of that size; and its id."""
    number = f"2.999.{uuid.uuid4().int % 10**15}.{uuid.uuid4().int % 10**15}"
    body = "A" * (pdf_bytes * 4 // 3 if pdf_bytes else 18_000)
    text = (
        '<?xml version="1.0" encoding="UTF-8"?><ClinicalDocument xmlns="urn:hl7-org:v3">'
        '<typeId root="2.16.840.1.113883.1.3" extension="POCD_HD000040"/>'
        f'<id root="{number}"/><code code="11502-2" codeSystem="2.16.840.1.113883.6.1"/>'
        '<effectiveTime value="20240101120000+0100"/>'
        '<recordTarget><patientRole><id root="1.2.250.1.213.1.4.10" extension="279035121518989"/>'
        "</patientRole></recordTarget><component><nonXMLBody>"
        f'<text mediaType="application/pdf" representation="B64">{body}</text>'
        "</nonXMLBody></component></ClinicalDocument>"
    )
    return text.encode(), number


def request(data: bytes, number: str) -> bytes:
    """The package of ITI-41 for one document."""
    made = entry("Document1", data, patient=PATIENT, unique_id=number)
    root, parts = documents_request([data], entries=[made])
    return packed(root, parts)


def at_once(clients: int, calls: Sequence[Callable[[httpx2.Client], None]], base: str) -> float:
    """Calls a second, over as many connections as there are clients."""
    left = list(calls)

    def work() -> None:
        with httpx2.Client(base_url=base, timeout=120) as client:
            while left:
                try:
                    call = left.pop()
                except IndexError:
                    return
                call(client)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    start = time.perf_counter()
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return round(len(calls) / (time.perf_counter() - start), 1)


def plain(data: bytes) -> Callable[[httpx2.Client], None]:
    """One document by HTTP."""

    def call(client: httpx2.Client) -> None:
        headers = {"Content-Type": "application/xml"}
        answer = client.post("/intake/cda", content=data, headers=headers)
        assert answer.status_code == 201, answer.text

    return call


def soap(body: bytes, kind: str, path: str = "/intake/xds") -> Callable[[httpx2.Client], None]:
    """One request of XDS that must succeed."""

    def call(client: httpx2.Client) -> None:
        answer = client.post(path, content=body, headers={"Content-Type": kind})
        assert read_answer(answer).outcome == "Success", answer.text[:500]

    return call


def query() -> bytes:
    """FindDocuments by type, for references."""
    body = (
        '<query:AdhocQueryRequest xmlns:query="urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0" '
        'xmlns:rim="urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0">'
        '<query:ResponseOption returnComposedObjects="true" returnType="ObjectRef"/>'
        f'<rim:AdhocQuery id="urn:uuid:{FIND}">'
        + slot("$XDSDocumentEntryPatientId", f"'{PATIENT}'")
        + slot("$XDSDocumentEntryStatus", f"('{APPROVED}')")
        + "</rim:AdhocQuery></query:AdhocQueryRequest>"
    )
    return envelope(body, action=QUERY)


def retrieval(number: str) -> bytes:
    """ITI-43 for one document."""
    body = (
        f'<ihe:RetrieveDocumentSetRequest xmlns:ihe="{XDS[1:-1]}"><ihe:DocumentRequest>'
        f"<ihe:RepositoryUniqueId>{REPOSITORY}</ihe:RepositoryUniqueId>"
        f"<ihe:DocumentUniqueId>{number}</ihe:DocumentUniqueId></ihe:DocumentRequest>"
        "</ihe:RetrieveDocumentSetRequest>"
    )
    return packed(envelope(body, action=RETRIEVE))


def start(folder: Path, *, unknown_patients: str = "refuse") -> tuple[subprocess.Popen[bytes], str]:
    """A gateway as a process, and its address."""
    configuration = folder / "ecluse.yaml"
    configuration.write_text(
        f"state: {folder / 'state'}\nhttp: {{listen: '127.0.0.1:0'}}\nsources:\n"
        "  - {name: plain, type: cda-http}\n"
        f"  - {{name: shared, type: xds, repository_unique_id: {REPOSITORY}, "
        f"results_max: 20000, unknown_patients: {unknown_patients}}}\n",
        encoding="utf-8",
    )
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway.cli", "run", "--config", str(configuration)],
        stdout=log, stderr=log,
    )  # fmt: skip
    found: list[str] = []

    def listens() -> bool:
        for connection in psutil.Process(process.pid).net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                found[:] = [f"http://127.0.0.1:{connection.laddr.port}"]
        return bool(found) and httpx2.get(f"{found[0]}/readyz").status_code == 200

    try:
        eventually(listens, timeout=180)
    except BaseException:
        process.kill()
        raise
    return process, found[0]


def settled(base: str) -> bool:
    """Whether nothing that was accepted is on its way any more."""
    sources = httpx2.get(f"{base}/api/v1/status", timeout=60).json()["sources"]
    return all(line["pending"] == 0 for line in sources.values())


def large(base: str, process: subprocess.Popen[bytes]) -> dict[str, float]:
    """One document with a PDF of 30 MB."""
    data, number = document(30 << 20)
    body = request(data, number)
    peak, stop = [0], threading.Event()
    me = psutil.Process(process.pid)
    before = me.memory_info().rss

    def watch() -> None:
        while not stop.wait(0.01):
            peak[0] = max(peak[0], me.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    with httpx2.Client(base_url=base, timeout=300) as client:
        soap(body, MTOM)(client)
        took = time.perf_counter() - began
    stop.set()
    watcher.join()
    return {
        "megabytes": round(len(data) / 1e6, 1),
        "seconds": round(took, 2),
        "memory_times_size": round((peak[0] - before) / len(data), 2),
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=300)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rates: dict[str, list[float]] = {"http": [], "iti_41": [], "iti_18": [], "iti_43": []}
    with tempfile.TemporaryDirectory() as folder:
        process, base = start(Path(folder))
        try:
            for _ in range(options.rounds):
                by_http = [plain(document()[0]) for _ in range(options.documents)]
                rates["http"].append(at_once(options.clients, by_http, base))
                eventually(lambda: settled(base), timeout=300, every=0.2)
                made = [document() for _ in range(options.documents)]
                by_xds = [soap(request(*each), MTOM) for each in made]
                rates["iti_41"].append(at_once(options.clients, by_xds, base))
                eventually(lambda: settled(base), timeout=300, every=0.2)
                last = retrieval(made[-1][1])
                with httpx2.Client(base_url=base, timeout=60) as client:
                    eventually(
                        lambda client=client, last=last: read_answer(
                            client.post("/intake/xds", content=last, headers={"Content-Type": MTOM})
                        ).outcome == "Success",
                        timeout=120,
                    )  # fmt: skip
                fetched = [soap(retrieval(number), MTOM) for _, number in made]
                rates["iti_43"].append(at_once(options.clients, fetched, base))
                asked = [soap(query(), PLAIN) for _ in range(20)]
                rates["iti_18"].append(at_once(options.clients, asked, base))
            figures: dict[str, object] = {
                f"{name}_per_second": statistics.median(each) for name, each in rates.items()
            }
            ratios = [x / h for x, h in zip(rates["iti_41"], rates["http"], strict=True)]
            figures["ratio"] = round(statistics.median(ratios), 2)
            figures["documents_at_the_end"] = 2 * options.documents * options.rounds
            figures["processors"] = os.cpu_count()
            figures["large"] = large(base, process)
        finally:
            process.terminate()
            process.wait(30)
    text = json.dumps(figures, indent=2)
    if options.json:
        options.json.write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
