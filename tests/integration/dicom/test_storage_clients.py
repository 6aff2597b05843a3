"""Real clients over a real socket: DCMTK's echoscu and storescu, and our own sender."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pydicom
import pytest

from adapters.dicom.finder import find
from adapters.dicom.outgoing import associate
from adapters.dicom.part10 import read_file_meta
from adapters.dicom.sender import Sent, echo, send_files
from adapters.dicom.settings import DicomPeerSettings
from gateway.model import Payload
from tests.eventually import eventually
from tests.integration.dicom.objects import (
    CT,
    STUDY,
    data_set,
    data_set_of,
    element,
    published_files,
    write,
)
from tests.integration.dicom.running import Running, running_source
from tests.servers import free_port

COMPARED = frozenset(
    {
        "CT_small.dcm", "MR_small.dcm", "JPEG2000.dcm", "SC_rgb_rle.dcm", "test-SR.dcm",
        "rtplan.dcm", "ExplVR_BigEnd.dcm", "image_dfl.dcm",
    }
)  # fmt: skip
"""One of each transfer syntax that storescu can propose, and of several kinds."""


def dcmtk(tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    binary = shutil.which(tool)
    if binary is None:
        pytest.fail(f"{tool} is not installed: `make setup` installs DCMTK")
    # Without this a stock DCMTK waits forty milliseconds for each acknowledgement.
    environment = dict(os.environ, TCP_NODELAY="1")
    return subprocess.run(
        [binary, *arguments],
        check=False, capture_output=True, text=True, timeout=60, env=environment,
    )  # fmt: skip


def storescu(host: str, port: int, path: Path, *options: str) -> None:
    """Send one file in its own transfer syntax; storescu must be told which that is."""
    with path.open("rb") as stream:
        syntax = read_file_meta(stream, path.stat().st_size).transfer_syntax
    proposal = {
        "1.2.840.10008.1.2": "-xi", "1.2.840.10008.1.2.1": "-xe", "1.2.840.10008.1.2.2": "-xb",
        "1.2.840.10008.1.2.1.99": "-xd", "1.2.840.10008.1.2.5": "-xr",
        "1.2.840.10008.1.2.4.90": "-xv", "1.2.840.10008.1.2.4.91": "-xw",
    }[syntax]  # fmt: skip
    done = dcmtk("storescu", "-R", proposal, *options, host, str(port), str(path))
    assert done.returncode == 0, f"{path.name}: {done.stderr}"


@contextlib.contextmanager
def storescp(folder: Path) -> Iterator[int]:
    """DCMTK's own receiver in its bit-preserving mode, keeping into a folder; its port."""
    receiver = shutil.which("storescp") or pytest.fail("storescp is not installed")
    port = free_port()
    process = subprocess.Popen([receiver, "+B", "+xa", "-od", str(folder), str(port)])
    try:
        eventually(lambda: dcmtk("echoscu", "127.0.0.1", str(port)).returncode == 0)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=10)


def send(running: Running, *paths: Path) -> list[Sent]:
    return list(send_files(running.host, running.port, "ECLUSE", "TEST", paths))


def test_echoscu_is_answered(tmp_path: Path) -> None:
    with running_source(tmp_path) as running:
        done = dcmtk("echoscu", "-aec", "ECLUSE", running.host, str(running.port))
        assert done.returncode == 0, done.stderr
        assert echo(running.host, running.port) == 0x0000


def test_storescu_sends_and_the_bytes_are_those_that_storescp_keeps(tmp_path: Path) -> None:
    files = [path for path in published_files() if path.name in COMPARED]
    assert len(files) == len(COMPARED)
    reference = tmp_path / "reference"
    reference.mkdir()
    with storescp(reference) as port:
        for path in files:
            storescu("127.0.0.1", port, path)
    with running_source(tmp_path) as running:
        for path in files:
            storescu(running.host, running.port, path)
        assert not running.intake.refused, [r.refusal for r in running.intake.refused]
        kept = {r.control_id: r for r in running.intake.received}
        assert len(kept) == len(files) == len(list(reference.iterdir()))
        for path in reference.iterdir():
            with path.open("rb") as stream:
                meta = read_file_meta(stream, path.stat().st_size)
            received = kept[meta.sop_instance]
            assert received.kind == meta.sop_class
            assert received.attributes["transfer_syntax"] == meta.transfer_syntax
            ours = running.intake.folder / received.payload.sha256
            assert data_set_of(ours) == data_set_of(path)


def expected_status(path: Path) -> int:
    """What a receiver must answer, judged by another reader than ours."""
    if path.name in ("MR_truncated.dcm", "rtplan_truncated.dcm"):
        return 0xC000
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = pydicom.dcmread(path, stop_before_pixels=True)
    whole = all(name in read for name in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID"))
    return 0x0000 if whole else 0xC001


def test_every_published_file_is_kept_with_exactly_the_data_set_bytes_that_were_sent(
    tmp_path: Path,
) -> None:
    files = published_files()
    assert len(files) > 140
    with running_source(tmp_path) as running:
        results = send(running, *files)
        assert [one.path for one in results] == files
        answered = {one.path: one for one in results if one.status is not None}
        unanswered = {one.path.name: one.reason for one in results if one.status is None}
        assert not unanswered
        bodies = {data_set_of(path) for path in running.intake.folder.iterdir()}
        for path, one in answered.items():
            assert one.status == expected_status(path), (path.name, one.reason)
            assert data_set_of(path) in bodies, path.name
        assert not running.spooled()


def test_the_same_object_sent_twice_is_the_same_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "one.dcm", data_set())
    with running_source(tmp_path) as running:
        assert [one.status for one in send(running, path, path)] == [0, 0]
        storescu(running.host, running.port, path, "-aet", "OTHER", "-aec", "ANY")
        # One was kept; the other two had its digest, so the intake knew them.
        assert len(running.intake.received) == 1
        only = running.intake.received[0]
        kept = Payload.from_file(running.intake.folder / only.payload.sha256)
        assert (kept.sha256, kept.size) == (only.payload.sha256, only.payload.size)
        assert running.intake.stored(only)[:128] == bytes(128)
        assert not running.spooled()


def test_what_intake_is_told_of_an_object(tmp_path: Path) -> None:
    patient = element(0x00100020, "LO", "4711") + element(0x00100021, "LO", "HOPITAL")
    path = write(tmp_path / "one.dcm", data_set(patient=patient))
    with running_source(tmp_path, authorities={"HOPITAL": "1.2.250.1.999.1"}) as running:
        storescu(running.host, running.port, path, "-aet", "CT1", "-aec", "ECLUSE")
        (received,) = running.intake.received
    assert received.source == "scanner"
    assert received.format.value == "dicom"
    assert received.control_id == f"{STUDY}.1.1"
    assert received.kind == CT
    assert received.group == STUDY
    assert [(i.system, i.value) for i in received.subject] == [("urn:oid:1.2.250.1.999.1", "4711")]
    assert received.peer.startswith("127.0.0.1:")
    assert received.refusal is None
    assert received.attributes["calling_aet"] == "CT1"
    assert received.attributes["called_aet"] == "ECLUSE"
    assert received.received_at.year == 2026


# pynetdicom drops the socket of a connection that was refused without closing it.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_sender_without_a_peer_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "one.dcm", data_set())
    with pytest.raises(ConnectionError, match="cannot be reached"):
        list(send_files("127.0.0.1", free_port(), "ECLUSE", "TEST", [path], timeout_seconds=2))
    with pytest.raises(ConnectionError):
        echo("127.0.0.1", free_port(), timeout_seconds=2)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_our_clients_say_why_an_association_does_not_stand(tmp_path: Path) -> None:
    path = write(tmp_path / "one.dcm", data_set())
    with running_source(
        tmp_path, calling_aets=["CT1"], sop_classes=["1.2.840.10008.5.1.4.1.1.4"]
    ) as running:
        with pytest.raises(ConnectionError, match=r"rejects .*: calling AE title not recognised"):
            send(running, path)
        # What is not taken is the file's own misfortune: others of the same call may be.
        (sent,) = send_files(running.host, running.port, "ECLUSE", "CT1", [path])
        assert (sent.status, sent.reason) == (None, "the peer does not take this class and syntax")
        peer = DicomPeerSettings(ae_title="ECLUSE", connect=f"{running.host}:{running.port}")
        with pytest.raises(ConnectionError, match=r"ECLUSE at .* may not offer this service"):
            list(find(peer, "CT1", "STUDY", {}))


def test_a_rejection_counts_that_was_there_before_anyone_looked(tmp_path: Path) -> None:
    from pynetdicom import evt

    def late(event: evt.Event) -> None:
        # Another thread has taken the rejection, and the end of the connection with it.
        dul = event.assoc.dul
        eventually(lambda: dul.peek_next_pdu() is not None, timeout=30)
        eventually(lambda: not dul.socket._is_connected, timeout=30)

    with running_source(tmp_path, calling_aets=["CT1"]) as running:
        peer = DicomPeerSettings(ae_title="ECLUSE", connect=f"{running.host}:{running.port}")
        with (
            pytest.raises(ConnectionError, match=r"rejects .*: calling AE title not recognised"),
            associate(
                peer, "OTHER", ["1.2.840.10008.1.1"], provides=False,
                handlers=[(evt.EVT_REQUESTED, late)],
            ),
        ):  # fmt: skip
            pytest.fail("it does not stand")


def test_the_sender_goes_on_after_a_file_that_is_none(tmp_path: Path) -> None:
    text = tmp_path / "readme.txt"
    text.write_text("no DICOM file")
    path = write(tmp_path / "one.dcm", data_set())
    with running_source(tmp_path) as running:
        first, second, third = send(running, text, path, tmp_path / "absent.dcm")
    assert (first.status, second.status, third.status) == (None, 0, None)
    assert "DICM" in first.reason
    assert second.accepted
    assert not first.accepted
    assert "FileNotFoundError" in third.reason


def test_several_senders_at_once_are_all_served(tmp_path: Path) -> None:
    def files(sender: int) -> list[Path]:
        made = []
        for number in range(25):
            uid = f"{STUDY}.{sender + 1}.{number + 1}"
            path = tmp_path / f"{sender}-{number}.dcm"
            made.append(write(path, data_set(uid, pixels=bytes(40_000)), uid))
        return made

    with running_source(tmp_path) as running:
        with ThreadPoolExecutor(max_workers=6) as senders:
            results = list(
                senders.map(lambda paths: send(running, *paths), [files(n) for n in range(6)])
            )
        assert [one.status for result in results for one in result] == [0] * 150
        assert len({one.control_id for one in running.intake.accepted}) == 150
        eventually(lambda: not running.spooled())


def test_a_sender_that_is_killed_leaves_nothing_and_may_come_back(tmp_path: Path) -> None:
    path = write(tmp_path / "large.dcm", data_set(pixels=bytes(200 << 20)))
    binary = shutil.which("storescu") or pytest.fail("storescu is not installed")
    with running_source(tmp_path) as running:
        sender = subprocess.Popen(
            [binary, "-R", "-xe", running.host, str(running.port), str(path)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            eventually(lambda: any(p.stat().st_size > 1 << 20 for p in running.spooled()))
        finally:
            sender.kill()
            sender.wait(timeout=10)
        eventually(lambda: not running.spooled())
        assert not running.intake.received
        small = write(tmp_path / "small.dcm", data_set())
        storescu(running.host, running.port, small)
        assert len(running.intake.received) == 1
