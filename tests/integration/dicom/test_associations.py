"""Who may call, what is negotiated, and what the protocol does not know."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.dicom.pdus import ProtocolError, read_associate_request
from tests.certificates import Authority, Issued
from tests.eventually import eventually
from tests.integration.dicom.objects import CT, DEFLATED, EXPLICIT, PUBLISHED, data_set, write
from tests.integration.dicom.peer import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    ONE,
    TWO,
    Peer,
    associate_request,
    associated,
    command,
    connected,
    p_data,
    served,
    store,
)
from tests.integration.dicom.running import acceptors, running_source
from tests.integration.dicom.test_storage_clients import dcmtk


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
        eventually(lambda: acceptors() == 0)
        assert served(running)


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
        eventually(lambda: acceptors() == 0, timeout=5)


# --- who may call -----------------------------------------------------------------------


def test_a_known_title_must_come_from_its_address(tmp_path: Path) -> None:
    peers = [
        {"ae_title": "CT1", "addresses": ["192.0.2.0/24"]},
        {"ae_title": "MR1", "addresses": ["192.0.2.7", "127.0.0.0/8"]},
    ]
    with running_source(tmp_path, peers=peers) as running:
        with connected(running) as peer:
            kind, body = peer.associate(calling="CT1")
            assert (kind, body[1:]) == (ASSOCIATE_RJ, bytes([1, 1, 3]))
        for title in ("MR1", "UNKNOWN"):
            with connected(running) as peer:
                assert peer.associate(calling=title)[0] == ASSOCIATE_AC
        assert running.source.statistics()["rejected-address"] == 1
    with running_source(tmp_path / "b", peers=peers, only_peers=True) as running:
        with connected(running) as peer:
            assert peer.associate(calling="UNKNOWN")[0] == ASSOCIATE_RJ
        with connected(running) as peer:
            assert peer.associate(calling="MR1")[0] == ASSOCIATE_AC


def test_one_address_cannot_take_all_associations(tmp_path: Path) -> None:
    with running_source(tmp_path, associations_per_address_max=1) as running:
        with associated(running), connected(running) as second:
            kind, body = second.associate()
            assert (kind, body[1:]) == (ASSOCIATE_RJ, bytes([2, 3, 2]))
        eventually(lambda: acceptors() == 0)
        assert served(running)


def test_a_private_class_is_taken_when_it_is_named(tmp_path: Path) -> None:
    private = "1.3.46.670589.11.0.0.12.1"
    named = {private: ["1.2.840.10008.1.2.1"]}
    with running_source(tmp_path, transfer_syntaxes_by_class=named) as running:
        with connected(running) as peer:
            peer.associate(private)
            assert peer.accepted == {1: 0}
            peer.store(data_set(sop_class=private), ONE, sop_class=private)
            assert peer.status() == 0x0000
        with connected(running) as peer:
            peer.associate(private, DEFLATED)
            assert peer.accepted == {1: 4}


def test_an_association_request_of_another_protocol(tmp_path: Path) -> None:
    request = associate_request([(CT, EXPLICIT)])
    with running_source(tmp_path) as running:
        with connected(running) as peer:
            peer.send(request[:6] + b"\x00\x02" + request[8:])
            kind, body = peer.pdu()
            assert (kind, body[1:]) == (ASSOCIATE_RJ, bytes([1, 2, 2]))
        with connected(running) as peer:
            peer.send(request.replace(b"1.2.840.10008.3.1.1.1", b"1.2.840.10008.3.1.1.9"))
            kind, body = peer.pdu()
            assert (kind, body[1:]) == (ASSOCIATE_RJ, bytes([1, 1, 2]))
        with connected(running) as peer:
            peer.send(request[:90])
            peer.socket.shutdown(1)
            assert peer.pdu()[0] in (0, ABORT)
        assert served(running)


@given(st.binary(max_size=400), st.integers(0, 255))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_an_association_request_or_a_protocol_error(raw: bytes, kind: int) -> None:
    whole = bytearray(associate_request([(CT, EXPLICIT)], window=(0, 0))[6:])
    for body in (raw, bytes(whole[:68]) + raw, bytes(whole[: len(whole) - kind % 60]) + raw):
        try:
            read_associate_request(body)
        except ProtocolError:
            continue


# --- TLS --------------------------------------------------------------------------------


def secured(authority: Authority, **more: object) -> dict[str, Any]:
    issued = authority.issue("gateway", file="server")
    files = {"certificate": str(issued.certificate), "key": str(issued.key)}
    return {"tls": files | more}


def test_dcmtk_sends_over_tls_and_plain_bytes_are_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    path = write(tmp_path / "one.dcm", data_set())
    with running_source(tmp_path, **secured(authority)) as running:
        where = (running.host, str(running.port))
        trusted = ("+tla", "-ic")  # anonymous: no certificate of its own
        assert dcmtk("echoscu", *trusted, *where).returncode == 0
        done = dcmtk("storescu", "-xe", *trusted, *where, str(path))
        assert done.returncode == 0, done.stderr
        (received,) = running.intake.received
        assert running.intake.stored(received).endswith(data_set())
        assert dcmtk("echoscu", *where).returncode != 0
        eventually(lambda: running.source.statistics().get("tls-plain-bytes"))
        (held,) = running.source.certificates()
        assert held.certificate.name == "gateway"


def test_a_client_must_show_the_certificate_of_its_title(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    ct = authority.issue("ct1", file="ct1")
    other = authority.issue("mr1", file="mr1")
    more = secured(authority, client_ca=str(authority.certificate))
    peers = [{"ae_title": "CT1", "certificates": ["cn:ct1"]}]
    with running_source(tmp_path, peers=peers, **more) as running:
        where = ("-aet", "CT1", running.host, str(running.port))

        def echo(certificate: Issued) -> int:
            files = ("+tls", str(certificate.key), str(certificate.certificate))
            return dcmtk("echoscu", *files, "-ic", *where).returncode

        assert echo(ct) == 0
        assert echo(other) != 0
        assert running.source.statistics()["rejected-certificate"] == 1
        assert dcmtk("echoscu", "+tla", "-ic", *where).returncode != 0
        eventually(lambda: running.source.statistics().get("tls-certificate-missing"))
