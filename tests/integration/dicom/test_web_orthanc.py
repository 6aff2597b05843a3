"""Orthanc with its DICOMweb plugin as peer: it stores to us, asks us and retrieves from us."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.eventually import eventually
from tests.integration.dicom.objects import CT, EXPLICIT, STUDY, data_set, file_head
from tests.integration.dicom.test_orthanc import Orthanc
from tests.integration.dicom.web import Web, running_web
from tests.servers import free_port

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@contextlib.contextmanager
def running_orthanc(folder: Path, url: str) -> Iterator[Orthanc]:
    binary = shutil.which("Orthanc")
    if binary is None or not PLUGIN.exists():
        pytest.fail("Orthanc and its DICOMweb plugin: `make servers` installs them")
    made = Orthanc(free_port(), free_port())
    folder.mkdir()
    configuration = folder / "orthanc.json"
    settings = {
        "DicomPort": made.dicom, "HttpPort": made.http, "Plugins": [str(PLUGIN)],
        "StorageDirectory": str(folder), "IndexDirectory": str(folder),
        "DicomWeb": {"Enable": True, "Servers": {"gateway": [f"{url}/"]}},
    }  # fmt: skip
    configuration.write_text(json.dumps(settings))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([binary, str(configuration)], stdout=log, stderr=log)
        try:
            eventually(made.there, timeout=60)
            yield made
        finally:
            process.terminate()
            process.wait(timeout=20)


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with running_web(tmp_path_factory.mktemp("web")) as made:
        yield made


@pytest.fixture(scope="module")
def orthanc(web: Web, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running_orthanc(tmp_path_factory.mktemp("orthanc") / "state", web.url) as made:
        yield made


def test_orthanc_stores_searches_and_retrieves(web: Web, orthanc: Orthanc) -> None:
    files = {}
    for number in range(1, 6):
        uid = f"{STUDY}.1.{number}"
        files[uid] = file_head(CT, uid, EXPLICIT) + data_set(uid)
    known = [orthanc.rest("/instances", data)["ID"] for data in files.values()]
    done = orthanc.rest(
        "/dicom-web/servers/gateway/stow", {"Resources": known, "Synchronous": True}
    )
    assert done["InstancesCount"] == "5"
    held = {each.sop_instance: each for each in web.holdings.instances(study=STUDY)}
    assert set(held) == set(files)
    for uid in files:
        # Orthanc's file meta information is its own; the data set is what it was given.
        assert web.holdings.payload(held[uid]).read().endswith(data_set(uid))
    asked = {"Uri": "/studies", "Arguments": {"00100020": "123"}}
    (found,) = orthanc.rest("/dicom-web/servers/gateway/qido", asked)
    assert STUDY in json.dumps(found)
    for each in known:
        orthanc.delete(f"/instances/{each}")
    assert orthanc.rest("/instances") == []
    wanted = {"Resources": [{"Study": STUDY}], "Synchronous": True}
    orthanc.rest("/dicom-web/servers/gateway/retrieve", wanted)
    back = {
        orthanc.rest(f"/instances/{each}/simplified-tags")["SOPInstanceUID"]: orthanc.raw(
            f"/instances/{each}/file"
        )
        for each in orthanc.rest("/instances")
    }
    assert set(back) == set(files)
    for uid in files:
        assert back[uid].endswith(data_set(uid))
