"""A document with a PDF of 30 MB: read, mapped, judged and shown in bounded memory."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.cda.samples import PATIENT, document

TIMES = 4.2
"""Of its size, at most: the tree, the exact bytes, the Base64 and what it decodes to."""

MEASURE = """
import sys, psutil, threading
from pathlib import Path
from gateway.model import Format, Payload

payload = Payload.from_file(Path(sys.argv[2]))
small = Payload.from_file(Path(sys.argv[3]))

def high(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(l for l in lines if l.startswith("VmHWM")).split()[1]) * 1024

def forget(pid):  # the high-water mark starts anew (proc(5), clear_refs)
    Path(f"/proc/{pid}/clear_refs").write_text("5")

def read():
    from adapters.cda.document import read_document
    from adapters.cda.header import read_header
    return lambda given: read_header(read_document(given))

def map():
    from gateway.mapping_side import load_library, make_normaliser
    from gateway.normalise import Original, Reading
    from gateway.settings import load_settings
    settings = load_settings(None, environment={})
    normaliser = make_normaliser(settings, load_library(settings))
    def run(given):
        made = normaliser.normalise(
            Original(source="x", format=Format.CDA, payloads=[given]))
        assert isinstance(made, Reading), made
    return run

def show():
    from adapters.cda.document import read_document
    from adapters.cda.rendering.page import pdfs, render
    def run(given):
        document = read_document(given)
        render(document)
        assert len(pdfs(document)) == 1
    return run

def check():
    from adapters.cda.validation.validator import Validator
    made = Validator(None)
    def run(given):
        report = made.check(given)
        assert report.errors == 1 and report.findings[0].rule == "INS-TRAITS", report
        global pid
        pid = made._idle[0].pid
    return run

import os
pid = os.getpid()
run = globals()[sys.argv[1]]()
run(small)
forget(pid)
before = psutil.Process(pid).memory_info().rss
run(payload)
print((high(pid) - before) / payload.size, flush=True)
os._exit(0)
"""


def text(data: bytes) -> bytes:
    encoded = base64.b64encode(data).decode()
    lines = "\n".join(encoded[at : at + 76] for at in range(0, len(encoded), 76))
    patient = PATIENT.replace('<telecom value="06 07"/>', "")
    body = (
        '<component><nonXMLBody><text mediaType="application/pdf" representation="B64">'
        f"{lines}</text></nonXMLBody></component>"
    )
    return document(patient=patient, body=body).encode()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("large")
    large, small = folder / "large.xml", folder / "small.xml"
    large.write_bytes(text(b"%PDF-1.7\n" + os.urandom(30 << 20) + b"\n%%EOF\n"))
    small.write_bytes(text(b"%PDF-1.7\n" + os.urandom(3000) + b"\n%%EOF\n"))
    return large, small


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("what", ["read", "map", "show", "check"])
def test_a_pdf_of_30_mb_passes_in_bounded_memory(files: tuple[Path, Path], what: str) -> None:
    found = subprocess.run(
        [sys.executable, "-c", MEASURE, what, *map(str, files)],
        capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    times = float(found.stdout)
    print(f"{what}: {times:.2f} times the document's size")
    assert times <= TIMES
