"""Orthanc as peer, in both directions: storage, commitment, query; and our commands for it."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from adapters.dicom.forward_settings import StorageSettings
from adapters.dicom.rewriting import Rewriter
from adapters.dicom.sender import send_files
from adapters.dicom.stow import StowDestination
from gateway.asked_commitments import JournalCommitments
from gateway.cli.application import app
from gateway.journal import gatherings
from gateway.model import Delivered
from tests.eventually import eventually
from tests.integration.dicom.objects import CT, STUDY, data_set, data_set_of, write
from tests.integration.dicom.storing_peer import Files, delivery, destination
from tests.integration.dicom.test_studies import door
from tests.servers import free_port

DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@dataclass
class Orthanc:
    """A running Orthanc, its DICOM port and its REST port."""

    dicom: int
    http: int

    def rest(self, path: str, body: Any = None) -> Any:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        raw = self.raw(path, data)
        return json.loads(raw) if raw else None

    def raw(self, path: str, data: bytes | None = None, method: str | None = None) -> bytes:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http}{path}", data=data, method=method
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            found: bytes = answer.read()
        return found

    def delete(self, path: str) -> None:
        self.raw(path, method="DELETE")

    def there(self) -> bool:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            return bool(self.rest("/system"))
        return False


@pytest.fixture(scope="module")
def gateway_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory, gateway_port: int) -> Iterator[Orthanc]:
    binary = shutil.which("Orthanc") or pytest.fail("Orthanc: `make servers` installs it")
    folder = tmp_path_factory.mktemp("orthanc")
    made = Orthanc(free_port(), free_port())
    settings = {
        "DicomAet": "ORTHANC", "DicomPort": made.dicom, "HttpPort": made.http, "Plugins": [str(DICOMWEB)],
        "StorageDirectory": str(folder), "IndexDirectory": str(folder),
        "DicomModalities": {
            "gateway": {"AET": "ECLUSE", "Host": "127.0.0.1", "Port": gateway_port},
            "client": {"AET": "ECLUSE-SCU", "Host": "127.0.0.1", "Port": 104},
        },
    }  # fmt: skip
    configuration = folder / "orthanc.json"
    configuration.write_text(json.dumps(settings))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([binary, str(configuration)], stdout=log, stderr=log)
        try:
            eventually(made.there, timeout=30)
            yield made
        finally:
            process.terminate()
            process.wait(timeout=20)


def test_orthanc_sends_and_is_told_what_is_committed(
    tmp_path: Path, orthanc: Orthanc, gateway_port: int
) -> None:
    peers = [{"ae_title": "ORTHANC", "connect": f"127.0.0.1:{orthanc.dicom}"}]
    listen = f"127.0.0.1:{gateway_port}"
    identifiers = []
    for number in (1, 2):
        uid = f"{STUDY}.1.{number}"
        path = write(tmp_path / f"{number}.dcm", data_set(uid), uid)
        identifiers.append(orthanc.rest("/instances", path.read_bytes())["ID"])
    with door(tmp_path, peers=peers, listen=listen) as ours:
        assert orthanc.rest("/modalities/gateway/echo", {}) is not None
        sent = orthanc.rest("/modalities/gateway/store", {"Resources": identifiers})
        assert sent["FailedInstancesCount"] == 0
        assert ours.account().instances == 2
        good = [{"SOPClassUID": CT, "SOPInstanceUID": f"{STUDY}.1.{n}"} for n in (1, 2)]
        missing = {"SOPClassUID": CT, "SOPInstanceUID": f"{STUDY}.1.9"}

        def committed(instances: list[dict[str, str]]) -> str:
            asked = orthanc.rest(
                "/modalities/gateway/storage-commitment", {"DicomInstances": instances}
            )
            place = asked["Path"]
            eventually(lambda: orthanc.rest(place)["Status"] != "Pending", timeout=20)
            return str(orthanc.rest(place)["Status"])

        assert committed(good) == "Success"
        assert committed([*good, missing]) == "Failure"
        assert ours.close() is None  # one more was named
        ours.store(9)
        assert ours.close() is not None


def test_the_source_is_asked_which_instances_a_study_has(tmp_path: Path, orthanc: Orthanc) -> None:
    study = f"{STUDY}.6"
    for number in (1, 2, 3):
        uid = f"{study}.1.{number}"
        path = write(tmp_path / f"{number}.dcm", data_set(uid, study=study), uid)
        orthanc.rest("/instances", path.read_bytes())
    more = {
        "peers": [{"ae_title": "ORTHANC", "connect": f"127.0.0.1:{orthanc.dicom}"}],
        "count_at": "ORTHANC", "ae_title": "ECLUSE-SCU", "quiet_seconds": 4.0,
    }  # fmt: skip
    with door(tmp_path, **more) as ours:
        paths = [tmp_path / f"{number}.dcm" for number in (1, 2, 3)]
        where = ("127.0.0.1", ours.port, "ECLUSE-SCU", "ORTHANC")
        assert all(each.accepted for each in send_files(*where, paths[:2]))
        eventually(lambda: ours.account().missing == 1, timeout=20)
        with ours.journal.write() as connection:
            late = ours.journal.now() + timedelta(minutes=1)
            assert gatherings.close(connection, "ct", study, late) is None
        assert all(each.accepted for each in send_files(*where, paths[2:]))
        account = ours.account()
        assert (account.missing, account.expected) == (0, 3)
        assert account.due_at is not None
        assert account.due_at <= ours.journal.now()


def kept_by(orthanc: Orthanc, uid: str, folder: Path) -> bytes:
    """The data set of an instance as Orthanc has it."""
    (found,) = orthanc.rest("/tools/lookup", uid.encode())
    request = f"http://127.0.0.1:{orthanc.http}/instances/{found['ID']}/file"
    path = folder / "kept.dcm"
    path.write_bytes(urllib.request.urlopen(request, timeout=10).read())
    return data_set_of(path)


def test_what_is_sent_on_is_committed_by_orthanc(
    tmp_path: Path, orthanc: Orthanc, gateway_port: int
) -> None:
    study, sent = f"{STUDY}.7", []
    for number in (1, 2):
        uid = f"{study}.1.{number}"
        sent.append(write(tmp_path / f"{number}.dcm", data_set(uid, study=study), uid))
    settings = {"ae_title": "ORTHANC", "commitment": True}
    with door(tmp_path, listen=f"127.0.0.1:{gateway_port}") as ours:
        commitments = JournalCommitments(ours.journal)
        with destination(orthanc.dicom, sent, commitments=commitments, **settings) as there:
            outcomes = [there.deliver(delivery(), None)]
            eventually(lambda: commitments.last("key-1") is None or outcomes.append(
                there.deliver(delivery(begun=len(outcomes)), None)
            ), timeout=30)  # fmt: skip
        assert outcomes[-1] == Delivered(evidence="2 objects stored and committed")
        for number in (1, 2):
            uid = f"{study}.1.{number}"
            assert kept_by(orthanc, uid, tmp_path) == data_set(uid, study=study)


def test_orthanc_takes_the_same_bytes_by_stow(tmp_path: Path, orthanc: Orthanc) -> None:
    study, sent = f"{STUDY}.9", []
    for number in (1, 2):
        uid = f"{study}.1.{number}"
        sent.append(write(tmp_path / f"{number}.dcm", data_set(uid, study=study), uid))
    url = f"http://127.0.0.1:{orthanc.http}/dicom-web"
    configured = StorageSettings(type="dicom", protocol="stow", url=url)
    there = StowDestination("web", configured, Files(sent), Rewriter((), 1 << 20))
    outcome = there.deliver(delivery(), None)
    there.close()
    assert outcome == Delivered(evidence="2 objects stored")
    for number in (1, 2):
        uid = f"{study}.1.{number}"
        assert kept_by(orthanc, uid, tmp_path) == data_set(uid, study=study)


def test_orthanc_finds_and_retrieves_what_is_held(
    tmp_path: Path, orthanc: Orthanc, gateway_port: int
) -> None:
    study = f"{STUDY}.8"
    peers = [{"ae_title": "ORTHANC", "connect": f"127.0.0.1:{orthanc.dicom}"}]
    paths = []
    for number in (1, 2):
        uid = f"{study}.1.{number}"
        paths.append(write(tmp_path / f"{number}.dcm", data_set(uid, study=study), uid))
    with door(tmp_path, listen=f"127.0.0.1:{gateway_port}", peers=peers) as ours:
        where = ("127.0.0.1", ours.port, "ECLUSE", "MODALITY")
        assert all(each.accepted for each in send_files(*where, paths))
        asked = {"Level": "Study", "Query": {"StudyInstanceUID": study, "StudyDate": ""}}
        found = orthanc.rest("/modalities/gateway/query", asked)["Path"]
        assert orthanc.rest(f"{found}/answers") == ["0"]
        content = orthanc.rest(f"{found}/answers/0/content?simplify")
        assert content["StudyInstanceUID"] == study
        orthanc.rest(f"{found}/answers/0/retrieve", b"ORTHANC")
    for number in (1, 2):
        uid = f"{study}.1.{number}"
        assert kept_by(orthanc, uid, tmp_path) == data_set(uid, study=study)


def test_our_commands_talk_to_orthanc(tmp_path: Path, orthanc: Orthanc) -> None:
    peer = f"ORTHANC@127.0.0.1:{orthanc.dicom}"
    uid = f"{STUDY}.5.1"
    path = write(tmp_path / "one.dcm", data_set(uid, study=f"{STUDY}.5"), uid)
    runner = CliRunner()
    done = runner.invoke(app, ["dicom", "echo", peer])
    assert done.exit_code == 0, done.output
    assert "answers" in done.stderr
    done = runner.invoke(app, ["dicom", "send", peer, str(path)])
    assert done.exit_code == 0, done.output
    kept = orthanc.rest("/tools/lookup", uid.encode())
    request = f"http://127.0.0.1:{orthanc.http}/instances/{kept[0]['ID']}/file"
    (tmp_path / "back.dcm").write_bytes(urllib.request.urlopen(request, timeout=10).read())
    assert data_set_of(tmp_path / "back.dcm") == data_set(uid, study=f"{STUDY}.5")
    asked = ["dicom", "find", peer, f"StudyInstanceUID={STUDY}.5", "--calling", "ECLUSE-SCU"]
    done = runner.invoke(app, [*asked, "--json"])
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.stdout)
    assert found["StudyInstanceUID"] == f"{STUDY}.5"
    assert found["NumberOfStudyRelatedInstances"] == "1"
    done = runner.invoke(app, [*asked, "--level", "image"])
    assert uid in done.stdout


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_commands_say_what_is_wrong(tmp_path: Path) -> None:
    runner = CliRunner()
    assert runner.invoke(app, ["dicom", "echo", "nobody"]).exit_code == 2
    away = f"X@127.0.0.1:{free_port()}"
    done = runner.invoke(app, ["dicom", "echo", away])
    assert (done.exit_code, "cannot be reached" in done.stderr) == (4, True)
    done = runner.invoke(app, ["dicom", "find", away, "NoSuchKeyword=1"])
    assert (done.exit_code, "NoSuchKeyword" in done.stderr) == (2, True)
    text = tmp_path / "text"
    text.write_text("no DICOM")
    assert runner.invoke(app, ["dicom", "show", str(text)]).exit_code == 1
    path = write(tmp_path / "one.dcm", data_set())
    done = runner.invoke(app, ["dicom", "show", str(path)])
    assert done.exit_code == 0
    assert "StudyInstanceUID" in done.stdout
    path.write_bytes(path.read_bytes()[:-200])
    assert runner.invoke(app, ["dicom", "show", str(path)]).exit_code in (0, 1)
