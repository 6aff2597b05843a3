"""Studies sent on to a PACS, over the wire: what arrives, and what each failure means."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import StorageCommitmentPushModel

from adapters.dicom.forward_settings import StorageSettings
from adapters.dicom.forwarding import OriginalsUnavailable
from adapters.dicom.storing import StoreLine
from gateway.asked_commitments import JournalCommitments
from gateway.model import Again, CauseCode, Delivered, Outcome, Refused, Wait
from tests.certificates import Authority
from tests.eventually import eventually
from tests.integration.dicom.objects import (
    CT,
    EXPLICIT,
    IMPLICIT,
    PUBLISHED,
    STUDY,
    data_set,
    data_set_of,
    write,
)
from tests.integration.dicom.running import running_source
from tests.integration.dicom.storing_peer import (
    StoringPeer,
    aborting,
    delivery,
    destination,
    storing_peer,
)
from tests.integration.dicom.test_storage_clients import storescp
from tests.integration.dicom.test_studies import WELL_KNOWN, Door, door
from tests.servers import free_port

RLE = PUBLISHED / "test_files" / "MR_small_RLE.dcm"
MR = "1.2.840.10008.5.1.4.1.1.4"


@pytest.fixture(scope="module")
def module_peer() -> Iterator[StoringPeer]:
    with storing_peer({CT: [EXPLICIT, IMPLICIT]}) as running:
        yield running


@pytest.fixture
def shared_peer(module_peer: StoringPeer) -> StoringPeer:
    """A peer that has nothing yet; it takes uncompressed CT images."""
    module_peer.forget()
    return module_peer


def objects(folder: Path, count: int) -> list[Path | bytes]:
    """Some objects; every other one in memory, as the journal has the small ones."""
    found: list[Path | bytes] = []
    for number in range(1, count + 1):
        uid = f"{STUDY}.1.{number}"
        path = write(folder / f"{number}.dcm", data_set(uid), uid)
        found.append(path if number % 2 else path.read_bytes())
    return found


def cause_of(found: Outcome) -> tuple[CauseCode, str]:
    assert not isinstance(found, Delivered)
    return found.cause.code, found.cause.protocol_code


def test_objects_arrive_byte_for_byte_over_an_association_that_is_kept(
    tmp_path: Path, shared_peer: StoringPeer
) -> None:
    peer = shared_peer
    sent = objects(tmp_path, 5)
    with destination(peer.port, sent) as there:
        peer.statuses = [0, 0xB000]
        assert there.deliver(delivery(), None) == Delivered(
            evidence="5 objects stored (1 with 0xB000)"
        )
        for number in range(1, 6):
            uid = f"{STUDY}.1.{number}"
            assert peer.kept[uid] == data_set_of(tmp_path / f"{number}.dcm")
            assert peer.syntaxes[uid] == EXPLICIT
        assert isinstance(there.deliver(delivery("key-2"), None), Delivered)
        assert peer.associations == 1
        assert len(peer.arrivals) == 10


def test_storescp_has_the_same_bytes(tmp_path: Path) -> None:
    sent = objects(tmp_path, 2)
    received = tmp_path / "received"
    received.mkdir()
    with storescp(received) as port, destination(port, sent) as there:
        assert isinstance(there.deliver(delivery(), None), Delivered)
        there.close()
        eventually(lambda: len(list(received.iterdir())) == 2, timeout=30)
        kept = sorted(data_set_of(path) for path in received.iterdir())
    assert kept == sorted(data_set_of(tmp_path / f"{n}.dcm") for n in (1, 2))


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (0xA700, Again, CauseCode.DESTINATION_UNAVAILABLE),
        (0x0110, Again, CauseCode.DESTINATION_UNAVAILABLE),
        (0x0124, Wait, CauseCode.DESTINATION_UNAVAILABLE),
        (0xA900, Refused, CauseCode.DESTINATION_REFUSED),
        (0xC123, Refused, CauseCode.DESTINATION_REFUSED),
        (0x0122, Refused, CauseCode.DESTINATION_REFUSED),
    ],
)
def test_a_status_says_what_is_to_be_done(
    tmp_path: Path, shared_peer: StoringPeer, status: int, kind: type[Any], code: CauseCode
) -> None:
    peer = shared_peer
    sent = objects(tmp_path, 3)
    with destination(peer.port, sent) as there:
        peer.statuses = [0, status]
        found = there.deliver(delivery(), None)
        assert isinstance(found, kind)
        assert cause_of(found) == (code, f"0x{status:04X}")
        if kind is Refused:
            # One object's refusal keeps none of the others.
            assert len(peer.kept) == 2
            assert "1 of 3 objects" in found.cause.detail
            return
        assert isinstance(there.deliver(delivery(begun=1), None), Delivered)
        # The one that was taken before is not sent again.
        assert len(peer.arrivals) == 4


def test_an_abort_in_the_middle_is_unknown_and_the_rest_follows(
    tmp_path: Path, shared_peer: StoringPeer
) -> None:
    peer = shared_peer
    with destination(peer.port, objects(tmp_path, 3)) as there:
        peer.statuses = [0, aborting]
        found = there.deliver(delivery(), None)
        assert isinstance(found, Again)
        assert found.cause.code is CauseCode.OUTCOME_UNKNOWN
        assert isinstance(there.deliver(delivery(begun=1), None), Delivered)
        assert len(peer.kept) == 3
        assert peer.associations == 2


def test_a_journal_that_is_away_costs_no_attempt(tmp_path: Path, shared_peer: StoringPeer) -> None:
    with destination(shared_peer.port, objects(tmp_path, 1)) as there:

        class Away:
            def instances(self, message_id: int) -> Any:
                raise OriginalsUnavailable

        there._originals = Away()  # type: ignore[assignment]
        found = there.deliver(delivery(), None)
    assert isinstance(found, Wait)
    assert found.alone


def test_objects_go_over_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    issued = authority.issue("localhost", file="server")
    tls = {"certificate": str(issued.certificate), "key": str(issued.key)}
    sent = objects(tmp_path, 2)
    with running_source(tmp_path, tls=tls) as running:
        trusted = {"ca": str(authority.certificate), "server_name": "localhost"}
        with destination(running.port, sent, tls=trusted) as there:
            assert isinstance(there.deliver(delivery(), None), Delivered)
            kept = [running.intake.stored(each) for each in running.intake.accepted]
            assert all(e.endswith(data_set(f"{STUDY}.1.{n}")) for n, e in enumerate(kept, 1))
        other = Authority(tmp_path / "other")
        distrusted = {"ca": str(other.certificate), "server_name": "localhost"}
        with destination(running.port, sent, tls=distrusted) as there:
            found = there.deliver(delivery(), None)
            assert isinstance(found, Again)
            assert found.cause.code is CauseCode.DESTINATION_UNAVAILABLE
        assert len(running.intake.accepted) == 2


def test_a_kept_association_that_the_peer_has_ended_costs_nothing(
    tmp_path: Path, shared_peer: StoringPeer
) -> None:
    peer = shared_peer
    sent = objects(tmp_path, 1)
    with destination(peer.port, sent) as there:
        assert isinstance(there.deliver(delivery(), None), Delivered)
        for each in peer.server.active_associations:
            each.abort()
        assert isinstance(there.deliver(delivery("key-2"), None), Delivered)
        assert peer.associations == 2


def test_an_idle_association_is_released(tmp_path: Path, shared_peer: StoringPeer) -> None:
    peer = shared_peer
    sent = objects(tmp_path, 1)
    with destination(peer.port, sent, keep_seconds=0.05) as there:
        assert isinstance(there.deliver(delivery(), None), Delivered)
        eventually(lambda: not peer.server.active_associations, timeout=30)


def test_a_peer_that_is_away_or_full_or_rejects(tmp_path: Path) -> None:
    sent = objects(tmp_path, 1)
    with destination(free_port(), sent) as there:
        found = there.deliver(delivery(), None)
        assert isinstance(found, Again)
        assert cause_of(found) == (CauseCode.DESTINATION_UNAVAILABLE, "")
    with storing_peer(associations_max=1) as peer, destination(peer.port, sent) as first:
        assert isinstance(first.deliver(delivery(), None), Delivered)
        with destination(peer.port, sent) as there:
            found = there.deliver(delivery(), None)
            assert isinstance(found, Again)
            assert cause_of(found) == (CauseCode.DESTINATION_UNAVAILABLE, "2:3:2")
    with storing_peer(require="PACS") as peer:
        with destination(peer.port, sent, ae_title="OTHER") as there:
            found = there.deliver(delivery(), None)
            assert isinstance(found, Wait)
            assert cause_of(found) == (CauseCode.DESTINATION_UNAVAILABLE, "1:1:7")
        refusing = {"ae_title": "OTHER", "permanent_rejection": "refuse"}
        with destination(peer.port, sent, **refusing) as there:
            assert isinstance(there.deliver(delivery(), None), Refused)


def test_a_peer_that_does_not_answer_costs_no_more_than_a_turn(
    tmp_path: Path, shared_peer: StoringPeer
) -> None:
    peer = shared_peer
    sent = objects(tmp_path, 1)
    release = threading.Event()

    def slow(event: Any) -> int:
        release.wait(timeout=60)
        return 0

    with destination(peer.port, sent, timeout_seconds=0.5) as there:
        peer.statuses = [slow]
        found = there.deliver(delivery(), None)
        release.set()
        assert isinstance(found, Again)
        assert found.cause.code is CauseCode.OUTCOME_UNKNOWN


def test_a_peer_that_does_not_read_costs_no_more_than_a_turn(
    tmp_path: Path, shared_peer: StoringPeer
) -> None:
    """It accepts the connection and the association, and then nothing."""
    uid = f"{STUDY}.1.1"
    large = write(tmp_path / "large.dcm", data_set(uid, pixels=bytes(32 << 20)), uid)
    done = threading.Event()
    with socket.socket() as front:
        front.bind(("127.0.0.1", 0))
        front.listen()
        relay = threading.Thread(target=_half_relay, args=(front, shared_peer.port, done))
        relay.start()
        port = front.getsockname()[1]
        # Half of a turn must do for the association, on a machine that others keep busy.
        with destination(port, [large], timeout_seconds=4.0) as behind:
            found = behind.deliver(delivery(), None)
            done.set()
        relay.join(timeout=30)
    assert isinstance(found, Again)
    assert cause_of(found) == (CauseCode.OUTCOME_UNKNOWN, "")
    assert "does not read" in found.cause.detail


def _half_relay(front: socket.socket, port: int, done: threading.Event) -> None:
    """Pass on the association's request and its answer, and read nothing more."""
    near, _ = front.accept()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with near, socket.create_connection(("127.0.0.1", port)) as far:
        far.sendall(near.recv(1 << 16))
        near.sendall(far.recv(1 << 16))
        done.wait(timeout=60)


def test_a_long_study_goes_in_several_turns(tmp_path: Path, shared_peer: StoringPeer) -> None:
    clock = [0.0]

    def slow(event: Any) -> int:
        clock[0] += 6
        return 0

    shared_peer.statuses = [slow] * 4
    sent = objects(tmp_path, 4)
    with destination(shared_peer.port, sent, seconds=lambda: clock[0]) as there:
        first = there.deliver(delivery(), None)
        assert isinstance(first, Wait)
        assert first.alone
        assert "3 objects are there" in first.cause.detail
        assert there.deliver(delivery(begun=1), None) == Delivered(evidence="4 objects stored")
    assert len(shared_peer.arrivals) == 4


def test_what_the_peer_does_not_take_compressed_is_decompressed(tmp_path: Path) -> None:
    with storing_peer({MR: [IMPLICIT]}) as peer:
        with destination(peer.port, [RLE], transcode=False) as there:
            found = there.deliver(delivery(), None)
            assert isinstance(found, Refused)
            assert "transfer syntax" in found.cause.detail
        with destination(peer.port, [RLE]) as there:
            assert isinstance(there.deliver(delivery(), None), Delivered)
    ((uid, body),) = peer.kept.items()
    assert peer.syntaxes[uid] == IMPLICIT
    made = write(tmp_path / "made.dcm", body, uid, sop_class=MR, syntax=IMPLICIT)
    # DCMTK's own decoder is the judge of the pixels.
    plain = tmp_path / "plain.dcm"
    decoder = shutil.which("dcmdrle") or pytest.fail("dcmdrle is not installed")
    subprocess.run([decoder, "+ti", str(RLE), str(plain)], check=True)
    assert _pixels(made) == _pixels(plain)


def _pixels(path: Path) -> bytes:
    import pydicom

    return bytes(pydicom.dcmread(path).PixelData)


def test_what_cannot_be_decompressed_without_loss_is_refused() -> None:
    lossy = PUBLISHED / "test_files" / "SC_rgb_jpeg_dcmtk.dcm"
    secondary = "1.2.840.10008.5.1.4.1.1.7"
    with storing_peer({secondary: [EXPLICIT]}) as peer, destination(peer.port, [lossy]) as there:
        found = there.deliver(delivery(), None)
    assert isinstance(found, Refused)
    assert "with loss" in found.cause.detail
    with storing_peer({CT: [EXPLICIT]}) as peer, destination(peer.port, [lossy]) as there:
        found = there.deliver(delivery(), None)
    assert isinstance(found, Refused)
    assert "SOP class" in found.cause.detail


def test_a_peer_that_takes_nothing_is_asked_once(tmp_path: Path, shared_peer: StoringPeer) -> None:
    values = {"type": "dicom", "connect": f"127.0.0.1:{shared_peer.port}", "ae_title": "PACS"}
    line = StoreLine(StorageSettings.model_validate(values))
    wanted = frozenset({(MR, EXPLICIT)})
    for _ in range(3):
        assert not line.stand(wanted, 20)
        assert not line.takes(MR)
    line.close()
    eventually(lambda: not shared_peer.server.active_associations, timeout=30)
    assert shared_peer.associations == 1


# --- storage commitment -----------------------------------------------------------------


@contextlib.contextmanager
def committing_peer(told: list[Dataset], status: int = 0) -> Iterator[int]:
    """A PACS that notes what it is asked to commit; its port."""
    ae = AE(ae_title="PACS")
    ae.add_supported_context(CT, EXPLICIT)
    ae.add_supported_context(StorageCommitmentPushModel)

    def asked(event: Any) -> tuple[int, None]:
        told.append(event.action_information)
        return status, None

    handlers = [(evt.EVT_C_STORE, lambda event: 0), (evt.EVT_N_ACTION, asked)]
    server: Any = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield server.socket.getsockname()[1]
    finally:
        server.shutdown()


def report(
    ours: Door, asked: Dataset, failed: int = 0, *, title: str = "PACS", only: int = 2,
    kind: int = 0,
) -> int:  # fmt: skip
    """The result of a request, as the PACS tells it of ``only`` so many objects; the status of
    our answer. ``kind`` is another event type than what it tells asks for."""
    said = Dataset()
    said.TransactionUID = asked.TransactionUID
    items = list(asked.ReferencedSOPSequence)[:only]
    if failed:
        items[0].FailureReason = failed
        said.FailedSOPSequence = items[:1]
    said.ReferencedSOPSequence = items[1 if failed else 0 :]
    ae = AE(ae_title=title)
    ae.add_requested_context(StorageCommitmentPushModel)
    role = build_role(StorageCommitmentPushModel, scp_role=True)
    association = ae.associate("127.0.0.1", ours.port, ae_title="ECLUSE", ext_neg=[role])
    assert association.is_established
    kind = kind or (2 if failed else 1)
    where = (StorageCommitmentPushModel, WELL_KNOWN)
    answer, _ = association.send_n_event_report(said, kind, *where)
    association.release()
    return int(answer.Status)


def test_a_study_is_delivered_when_it_is_committed(tmp_path: Path) -> None:
    told: list[Dataset] = []
    sent = objects(tmp_path, 2)
    with door(tmp_path, commitment="off") as ours, committing_peer(told) as port:
        commitments = JournalCommitments(ours.journal)
        with destination(port, sent, commitments=commitments, commitment=True) as there:
            found = there.deliver(delivery(), None)
            assert isinstance(found, Wait)
            assert found.alone
            # The request outlives the process that made it; nothing is sent again meanwhile.
            assert isinstance(there.deliver(delivery(begun=1), None), Wait)
            assert len(told) == 1
            assert report(ours, told[0], title="OTHER") == 0x0110
            assert report(ours, told[0], 0x0112) == 0
            found = there.deliver(delivery(begun=2), None)
            assert isinstance(found, Again)
            assert cause_of(found) == (CauseCode.OUTCOME_UNKNOWN, "0x0112")
            assert isinstance(there.deliver(delivery(begun=3), None), Wait)
            assert len(told) == 2
            assert told[0].TransactionUID != told[1].TransactionUID
            assert report(ours, told[1]) == 0
            assert there.deliver(delivery(begun=4), None) == Delivered(
                evidence="2 objects stored and committed"
            )
            assert commitments.last("key-1") is None
            assert report(ours, told[1]) == 0x0110
            # What will never be committed is refused; what is not told in time is sent again.
            assert isinstance(there.deliver(delivery("key-2"), None), Wait)
            assert report(ours, told[2], 0x0119) == 0
            found = there.deliver(delivery("key-2", begun=1), None)
            assert isinstance(found, Refused)
        late = {"commitment": True, "commitment_wait_seconds": 0.001}
        with destination(port, sent, commitments=commitments, **late) as there:
            found = there.deliver(delivery("key-3"), None)
            assert isinstance(found, Again)
            assert cause_of(found) == (CauseCode.OUTCOME_UNKNOWN, "")
    with door(tmp_path / "other") as ours, committing_peer(told, 0x0122) as port:
        commitments = JournalCommitments(ours.journal)
        with destination(port, sent, commitments=commitments, commitment=True) as there:
            assert isinstance(there.deliver(delivery(), None), Refused)


def test_what_the_peer_does_not_say_is_committed_is_not(tmp_path: Path) -> None:
    told: list[Dataset] = []
    with door(tmp_path, commitment="off") as ours, committing_peer(told) as port:
        commitments = JournalCommitments(ours.journal)
        sent = objects(tmp_path, 2)
        with destination(port, sent, commitments=commitments, commitment=True) as there:
            # Failures exist, and none is named; one of two objects is not spoken of.
            for number, said in enumerate(({"only": 0, "kind": 2}, {"only": 1})):
                key = f"key-{number}"
                assert isinstance(there.deliver(delivery(key), None), Wait)
                assert report(ours, told[number], **said) == 0
                found = there.deliver(delivery(key, begun=1), None)
                assert isinstance(found, Again)
                assert cause_of(found) == (CauseCode.OUTCOME_UNKNOWN, "0x0110")
