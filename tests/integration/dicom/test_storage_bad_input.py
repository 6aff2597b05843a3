"""What must not be taken, and what must be answered to it; the next object goes through."""

from __future__ import annotations

import errno
import struct
import threading
import zlib
from pathlib import Path

import pytest

from adapters.dicom.spool import SpoolFile
from gateway.model import Cause, CauseCode
from tests.eventually import eventually
from tests.integration.dicom.objects import (
    CT,
    DEFLATED,
    EXPLICIT,
    PUBLISHED,
    STUDY,
    data_set,
    element,
)
from tests.integration.dicom.peer import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    Peer,
    associated,
    command,
    connected,
    p_data,
)
from tests.integration.dicom.running import Running, running_source

ONE = f"{STUDY}.1.1"
TWO = f"{STUDY}.1.2"


def store(peer: Peer, body: bytes, instance: str = ONE) -> int:
    peer.store(body, instance)
    return peer.status()


def served(running: Running) -> bool:
    """Whether a neighbour's object is taken now."""
    with associated(running) as neighbour:
        return store(neighbour, data_set(TWO), TWO) == 0x0000


# --- associations ------------------------------------------------------------------


def test_another_called_title_is_rejected_when_ours_is_required(tmp_path: Path) -> None:
    with running_source(tmp_path, require_called_aet=True) as running:
        with connected(running) as peer:
            kind, body = peer.associate(called="OTHER")
            # Permanent, by the service user, called AE title not recognised (PS3.8 9.3.4).
            assert (kind, body[1:]) == (ASSOCIATE_RJ, bytes([1, 1, 7]))
        with connected(running) as peer:
            assert peer.associate(called="ECLUSE")[0] == ASSOCIATE_AC


def test_only_listed_calling_titles_may_send(tmp_path: Path) -> None:
    with running_source(tmp_path, calling_aets=["CT1", "MR1"]) as running:
        with connected(running) as peer:
            kind, body = peer.associate(calling="CT2")
            assert (kind, body[1:]) == (ASSOCIATE_RJ, bytes([1, 1, 3]))
        with connected(running) as peer:
            assert peer.associate(calling="MR1")[0] == ASSOCIATE_AC


def test_a_sop_class_that_is_not_taken_is_not_negotiated(tmp_path: Path) -> None:
    palette = "1.2.840.10008.5.1.4.39.1"
    assert (PUBLISHED / "palettes" / "pet.dcm").is_file()
    with running_source(tmp_path) as running:
        with connected(running) as peer:
            assert peer.associate(palette)[0] == ASSOCIATE_AC
            assert peer.accepted == {1: 3}  # abstract syntax not supported (PS3.8 9.3.3.2)
            peer.store(data_set(sop_class=palette), ONE, sop_class=palette)
            assert peer.pdu()[0] == ABORT
        assert served(running)
    with running_source(tmp_path / "b", sop_classes=[CT], transfer_syntaxes=[EXPLICIT]) as running:
        with connected(running) as peer:
            peer.associate("1.2.840.10008.5.1.4.1.1.4")
            assert peer.accepted == {1: 3}
        with connected(running) as peer:
            peer.associate(CT, DEFLATED)
            assert peer.accepted == {1: 4}  # transfer syntaxes not supported


def test_unlimited_asynchronous_operations_are_answered_with_one(tmp_path: Path) -> None:
    with running_source(tmp_path) as running, connected(running) as peer:
        _, body = peer.associate(window=(0, 0))
        assert struct.pack(">BxHHH", 0x53, 4, 1, 1) in body


def test_too_many_associations_are_rejected_for_now(tmp_path: Path) -> None:
    with running_source(tmp_path, associations_max=2) as running:
        with associated(running), associated(running), connected(running) as third:
            kind, body = third.associate()
            # Transient, by the service provider, local limit exceeded.
            assert (kind, body[1:]) == (ASSOCIATE_RJ, bytes([2, 3, 2]))
        eventually(lambda: served(running))


def test_connections_that_ask_for_nothing_are_closed_and_others_are_served(
    tmp_path: Path,
) -> None:
    settings = {"associations_max": 30, "association_timeout_seconds": 1.0}
    with running_source(tmp_path, **settings) as running:
        silent = [Peer(running) for _ in range(25)]
        half = Peer(running)
        half.send(b"\x01\x00\x00\x00")  # a PDU's head that never ends
        assert served(running)
        for peer in [*silent, half]:
            assert peer.pdu()[0] in (0, ABORT)
            peer.close()
        assert served(running)


@pytest.mark.parametrize(
    "pdu",
    [
        b"\x04\x00\xff\xff\xff\xff" + bytes(64),
        b"\x99\x00\x00\x00\x00\x04" + bytes(4),
        b"\x04\x00\x00\x00\x00\x04" + bytes(4),
        p_data((1, 0, b"a data set without its command")),
        p_data((3, 3, command(1, sop_class=CT, sop_instance=ONE))),
        p_data((1, 3, b"\xff" * 40)),
        p_data((1, 1, bytes(70_000))),
        p_data((1, 3, command(1, sop_class=CT, sop_instance="1." * 40))),
        b"".join(
            p_data((1, 3, command(0x20, sop_class=CT)), (1, 0, bytes(300_000))) for _ in range(1)
        )
        + p_data((1, 0, bytes(100_000))) * 10,
    ],
    ids=[
        "4 GB of length", "unknown type", "a PDV shorter than its head", "no command",
        "a context that was not accepted", "no command set", "an endless command",
        "a UID that is too long", "a C-FIND with an endless identifier",
    ],
)  # fmt: skip
def test_what_the_protocol_does_not_know_aborts_that_association_only(
    tmp_path: Path, pdu: bytes
) -> None:
    with running_source(tmp_path) as running:
        with associated(running) as peer, associated(running) as neighbour:
            try:
                peer.send(pdu)
                if b"a UID" in pdu or len(pdu) < 400:
                    peer.send(p_data((1, 2, b"")))
            except ConnectionError:
                pass
            assert peer.pdu()[0] in (ABORT, 0)
            assert store(neighbour, data_set(TWO), TWO) == 0x0000
        eventually(lambda: not running.spooled())
        assert len(running.intake.received) == 1


def test_a_negotiation_without_end_is_cut(tmp_path: Path) -> None:
    with running_source(tmp_path) as running, connected(running) as peer:
        peer.send(b"\x01\x00\x7f\xff\xff\xff" + bytes(64))
        assert peer.pdu()[0] in (ABORT, 0)
        assert served(running)
        eventually(lambda: _acceptors() == 0, timeout=5)


# --- objects in mid-flight ----------------------------------------------------------


@pytest.mark.parametrize("how", ["abort", "close", "reset"])
def test_an_object_that_is_broken_off_leaves_nothing(tmp_path: Path, how: str) -> None:
    with running_source(tmp_path) as running:
        with associated(running) as peer:
            peer.send(p_data((1, 3, command(1, sop_class=CT, sop_instance=ONE))))
            peer.send(p_data((1, 0, data_set()[:200])))
            eventually(running.spooled)
            if how == "abort":
                peer.abort()
            elif how == "close":
                peer.close()
            else:
                peer.socket.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER 0: RST
                peer.close()
            eventually(lambda: not running.spooled())
        assert not running.intake.received
        assert served(running)


def test_silence_in_the_middle_of_an_object_ends_the_association(tmp_path: Path) -> None:
    settings = {"idle_timeout_seconds": 1.0, "commit_timeout_seconds": 0.5}
    with running_source(tmp_path, **settings) as running, associated(running) as peer:
        peer.send(p_data((1, 3, command(1, sop_class=CT, sop_instance=ONE))))
        peer.send(p_data((1, 0, b"begun"))[:-2])
        assert peer.pdu()[0] in (ABORT, 0)
        eventually(lambda: not running.spooled())


def test_an_object_in_pieces_of_one_byte_is_whole(tmp_path: Path) -> None:
    body = data_set(pixels=b"\1\2" * 8)
    request = command(1, sop_class=CT, sop_instance=ONE)
    with running_source(tmp_path) as running, associated(running) as peer:
        values = [(1, 1, request[at : at + 1]) for at in range(len(request) - 1)]
        values.append((1, 3, request[-1:]))
        values += [(1, 0, body[at : at + 1]) for at in range(len(body))]
        values.append((1, 2, b""))
        peer.send(p_data(*values))
        assert peer.status() == 0x0000
        (received,) = running.intake.received
        assert running.intake.stored(received).endswith(body)


def test_requests_ahead_of_their_answers_are_served_in_order_up_to_a_limit(
    tmp_path: Path,
) -> None:
    with running_source(tmp_path) as running:
        with associated(running) as peer:
            for number in range(1, 5):
                peer.store(data_set(f"{STUDY}.{number}"), f"{STUDY}.{number}")
            assert [peer.status() for _ in range(4)] == [0, 0, 0, 0]
        assert [r.control_id for r in running.intake.received] == [
            f"{STUDY}.{number}" for number in range(1, 5)
        ]
        running.intake.committing.clear()
        with associated(running) as peer:
            try:
                for number in range(20):
                    peer.store(data_set(f"{STUDY}.9.{number}"), f"{STUDY}.9.{number}")
            except ConnectionError:
                pass
            running.intake.committing.set()
            kinds = [peer.pdu()[0] for _ in range(22)]
            assert ABORT in kinds or 0 in kinds
        eventually(lambda: not running.spooled())
        assert served(running)


# --- what an object is ---------------------------------------------------------------


def nested(depth: int) -> bytes:
    """Sequences of undefined length inside each other, in group 0008."""
    head = struct.pack("<HH2sHL", 0x0008, 0x1115, b"SQ", 0, 0xFFFFFFFF)
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    item_end = struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
    end = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    return (head + item) * depth + (item_end + end) * depth


def with_sequence(depth: int) -> bytes:
    body = data_set()
    at = body.index(struct.pack("<HH2s", 0x0010, 0x0020, b"LO"))
    return body[:at] + nested(depth) + body[at:]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (data_set(TWO), 0xA900, CauseCode.CONTENT_MISMATCH),
        (data_set(sop_class="1.2.840.10008.5.1.4.1.1.4"), 0xA900, CauseCode.CONTENT_MISMATCH),
        (data_set(study=None), 0xC001, CauseCode.REQUIRED_FIELD_MISSING),
        (data_set(study=""), 0xC001, CauseCode.REQUIRED_FIELD_MISSING),
        (data_set(study="../../etc/x"), 0xC000, CauseCode.UNREADABLE),
        (data_set(study="1." * 40 + "1"), 0xC000, CauseCode.UNREADABLE),
        (data_set()[:-1], 0xC000, CauseCode.UNREADABLE),
        (data_set()[:-100], 0xC000, CauseCode.UNREADABLE),
        (b"", 0xC001, CauseCode.REQUIRED_FIELD_MISSING),
        (b"no data set at all, only text", 0xC000, CauseCode.UNREADABLE),
        (bytes(5_000), 0xC001, CauseCode.REQUIRED_FIELD_MISSING),
        (with_sequence(400), 0xC000, CauseCode.HOSTILE_CONTENT),
        (
            data_set(extra=struct.pack("<HH2sHL", 0x0028, 0x1201, b"OW", 0, 0xFFFFFFF0)),
            0xC000,
            CauseCode.UNREADABLE,
        ),
    ],
    ids=[
        "another instance", "another class", "no study", "an empty study", "a path as study",
        "a study that is too long", "one byte less", "pixels cut off", "nothing", "text", "zeros",
        "nested 400 deep", "4 GB of length",
    ],
)  # fmt: skip
def test_an_object_that_cannot_be_taken_is_refused_and_kept_as_evidence(
    tmp_path: Path, body: bytes, status: int, code: CauseCode
) -> None:
    with running_source(tmp_path) as running:
        with associated(running) as peer:
            assert store(peer, body) == status
            # The association goes on, and so do the others.
            assert store(peer, data_set(TWO), TWO) == 0x0000
        refused, taken = running.intake.received
        assert refused.refusal is not None
        assert refused.refusal.code is code
        assert refused.refusal.protocol_code == f"0x{status:04X}"
        assert running.intake.stored(refused).endswith(body)
        assert refused.group == ""
        assert taken.refusal is None
        assert not running.spooled()


def test_uids_from_the_wire_name_no_file(tmp_path: Path) -> None:
    hostile = "../../../../tmp/ecluse-was-here"
    with running_source(tmp_path) as running:
        with associated(running) as peer:
            assert store(peer, data_set(hostile), hostile) == 0xC000
        (refused,) = running.intake.refused
        assert refused.control_id == hostile
        assert not Path("/tmp/ecluse-was-here").exists()
        names = {path.name for path in running.intake.folder.iterdir()}
        assert names == {refused.payload.sha256}


def test_a_request_for_another_class_than_its_context(tmp_path: Path) -> None:
    other = "1.2.840.10008.5.1.4.1.1.4"
    with running_source(tmp_path) as running:
        with associated(running) as peer:
            peer.store(data_set(sop_class=other), ONE, sop_class=other)
            assert peer.status() == 0x0122
        (refused,) = running.intake.refused
        assert refused.refusal == Cause(
            code=CauseCode.UNSUPPORTED_TYPE,
            detail="the request's SOP class is not that of its presentation context",
            protocol_code="0x0122",
        )


def test_moderate_nesting_and_a_missing_patient_are_taken(tmp_path: Path) -> None:
    with running_source(tmp_path) as running, associated(running) as peer:
        assert store(peer, with_sequence(30)) == 0x0000
        assert store(peer, data_set(TWO, patient=element(0x00100020, "LO", "")), TWO) == 0x0000
        assert [r.subject for r in running.intake.received] == [(), ()]


def test_pixels_without_their_last_delimiter_are_taken_and_noted(tmp_path: Path) -> None:
    jpeg = "1.2.840.10008.1.2.4.50"
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 4) + b"\xff\xd8\xff\xd9"
    body = data_set()
    at = body.index(struct.pack("<HH", 0x7FE0, 0x0010))
    body = body[:at] + struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF) + item
    with running_source(tmp_path) as running, associated(running, CT, jpeg) as peer:
        assert store(peer, body) == 0x0000
        (received,) = running.intake.received
        assert received.attributes["irregular"] == "a sequence delimiter is missing"


@pytest.mark.parametrize("bomb_first", [False, True])
def test_a_deflated_bomb_is_inflated_to_a_limit_only(tmp_path: Path, bomb_first: bool) -> None:
    import tracemalloc

    engine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    size = 300 << 20
    bomb = struct.pack("<HH2sHL", 0x0009, 0x1001, b"OB", 0, size)
    head, pixels = data_set().split(struct.pack("<HH2s", 0x0010, 0x0020, b"LO"))
    rest = struct.pack("<HH2s", 0x0010, 0x0020, b"LO") + pixels
    pieces = [engine.compress(head)]
    if not bomb_first:
        pieces.append(engine.compress(rest[: rest.index(struct.pack("<HH", 0x7FE0, 0x10))]))
        bomb = struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, size)
    pieces.append(engine.compress(bomb))
    pieces += [engine.compress(bytes(1 << 20)) for _ in range(300)]
    if bomb_first:
        pieces.append(engine.compress(rest))
    body = b"".join([*pieces, engine.flush()])
    assert len(body) < 400_000
    with running_source(tmp_path) as running, associated(running, CT, DEFLATED) as peer:
        tracemalloc.start()
        try:
            status = store(peer, body)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 16 << 20
        # Behind the bomb the study cannot be found; before it, it is.
        assert status == (0xC000 if bomb_first else 0x0000)


# --- resources -----------------------------------------------------------------------


def test_an_object_over_the_limit_is_refused_without_filling_the_disk(tmp_path: Path) -> None:
    with running_source(tmp_path, object_bytes_max=100_000) as running:
        with associated(running) as peer:
            peer.send(p_data((1, 3, command(1, sop_class=CT, sop_instance=ONE))))
            for _ in range(8):
                peer.send(p_data((1, 0, bytes(16_000))))
            eventually(lambda: not running.spooled())
            peer.send(p_data((1, 2, bytes(16_000))))
            assert peer.status() == 0xA700
            assert store(peer, data_set(TWO), TWO) == 0x0000
        assert len(running.intake.received) == 1


def test_an_object_without_end_is_aborted(tmp_path: Path) -> None:
    with running_source(tmp_path, object_bytes_max=100_000) as running:
        with associated(running) as peer:
            peer.send(p_data((1, 3, command(1, sop_class=CT, sop_instance=ONE))))
            try:
                for _ in range(20):
                    peer.send(p_data((1, 0, bytes(16_000))))
            except ConnectionError:
                pass
            assert peer.pdu()[0] in (ABORT, 0)
        assert served(running)


def test_nothing_is_taken_while_the_disk_is_nearly_full(tmp_path: Path) -> None:
    with running_source(tmp_path, free_bytes_min=1 << 60) as running, associated(running) as peer:
        assert store(peer, data_set()) == 0xA700
        assert not running.spooled()
        assert not running.intake.received


def test_a_full_disk_in_the_middle_of_an_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = SpoolFile.write

    def full(self: SpoolFile, data: bytes | memoryview) -> None:
        if self.size > 100_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(self, data)

    with running_source(tmp_path) as running, associated(running) as peer:
        monkeypatch.setattr(SpoolFile, "write", full)
        assert store(peer, data_set(pixels=bytes(300_000))) == 0xA700
        assert not running.spooled()
        monkeypatch.undo()
        assert store(peer, data_set(TWO), TWO) == 0x0000


def test_nothing_kept_is_never_success(tmp_path: Path) -> None:
    with running_source(tmp_path) as running, associated(running) as peer:
        running.intake.available = False
        assert store(peer, data_set()) == 0xA700
        running.intake.available = True
        assert store(peer, data_set()) == 0x0000
        eventually(lambda: not running.spooled())


def test_success_is_said_only_after_the_commit(tmp_path: Path) -> None:
    with running_source(tmp_path) as running, associated(running) as peer:
        running.intake.committing.clear()
        peer.store(data_set(), ONE)
        eventually(running.spooled)
        peer.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            peer.pdu()
        peer.socket.settimeout(20)
        running.intake.committing.set()
        assert peer.status() == 0x0000


def test_a_commit_that_takes_too_long_is_not_acknowledged(tmp_path: Path) -> None:
    with running_source(tmp_path, commit_timeout_seconds=0.2) as running:
        with associated(running) as peer:
            running.intake.committing.clear()
            assert store(peer, data_set()) == 0xA700
            running.intake.committing.set()
            # It was kept in the end; the sender's repetition is a duplicate, and a success.
            eventually(lambda: running.intake.received)
            assert store(peer, data_set()) == 0x0000
        assert len(running.intake.received) == 1
        eventually(lambda: not running.spooled())


@pytest.mark.parametrize("code", [CauseCode.FEEDING_OPPOSED, CauseCode.RECORD_CLOSED])
def test_a_patient_who_opposes_is_not_authorised(tmp_path: Path, code: CauseCode) -> None:
    with running_source(tmp_path) as running, associated(running) as peer:
        running.intake.permission = Cause(code=code)
        assert store(peer, data_set()) == 0x0124


# --- the source's life ----------------------------------------------------------------


def test_a_stop_lets_the_object_in_flight_end(tmp_path: Path) -> None:
    with running_source(tmp_path) as running:
        with associated(running) as peer, associated(running) as idle:
            running.intake.committing.clear()
            peer.store(data_set(), ONE)
            eventually(running.spooled)
            stopping = threading.Thread(target=running.stop)
            stopping.start()
            assert idle.pdu()[0] in (ABORT, 0)
            running.intake.committing.set()
            assert peer.status() == 0x0000
            assert peer.pdu()[0] in (ABORT, 0)
            stopping.join(timeout=30)
            assert not stopping.is_alive()
        running.stop()
        assert len(running.intake.received) == 1
        assert not list(running.spool.rglob("*")) or not running.spooled()
        with pytest.raises(OSError):
            Peer(running)


def test_connecting_and_breaking_off_leaves_no_thread_and_no_descriptor(tmp_path: Path) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    with running_source(tmp_path) as running:
        assert served(running)
        eventually(lambda: _acceptors() == 0)
        before = descriptors()
        for number in range(60):
            peer = Peer(running)
            if number % 3:
                peer.associate()
                peer.send(p_data((1, 3, command(1, sop_class=CT, sop_instance=ONE))))
                peer.send(p_data((1, 0, b"begun")))
            if number % 3 == 1:
                peer.abort()
            peer.close()
        eventually(lambda: _acceptors() == 0, timeout=30)
        eventually(lambda: descriptors() <= before, timeout=30)
        assert not running.spooled()


def _acceptors() -> int:
    return sum("AcceptorThread" in thread.name for thread in threading.enumerate())


def test_what_a_dead_process_left_is_removed_and_a_living_one_keeps_its_own(
    tmp_path: Path,
) -> None:
    from adapters.dicom.spool import SpoolFolder

    living = SpoolFolder(tmp_path / "spool", "scanner")
    kept = living.new()
    dead = tmp_path / "spool" / "scanner" / "dead"
    dead.mkdir(parents=True)
    (dead / "lock").touch()
    (dead / "object").write_bytes(b"half an object")
    with running_source(tmp_path):
        assert not dead.exists()
        assert kept.path.exists()
    kept.discard()
    living.close()
    assert not living.path.exists()


def test_a_port_that_is_taken_is_said_at_the_start(tmp_path: Path) -> None:
    with running_source(tmp_path) as running:
        taken = running.source.address()
        with pytest.raises(OSError):
            with running_source(tmp_path / "second", listen=taken):
                pytest.fail("it started")
