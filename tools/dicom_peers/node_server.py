"""dcmjs-dimse as a server, to which we send."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from adapters.dicom.sender import send_files
from tests.eventually import eventually
from tools.dicom_peers.node_client import PENDING, do, peer, statuses
from tools.dicom_peers.samples import IMPLICIT, LOSSY, ROOT, Sample, study
from tools.dicom_peers.standing import TIMEOUT
from tools.dicom_peers.table import NODE, Table


@contextlib.contextmanager
def serving(table: Table, **asked: Any) -> Iterator[int]:
    """A server at the address of NODE and NODESCP, for the block."""
    port = table.gateway.ports.node
    peer(table).do("serve", port=port, **asked)
    try:
        yield port
    finally:
        peer(table).do("close", port=port)


def came(table: Table, port: int, asker: str = "NODE") -> dict[str, tuple[str, str]]:
    """Transfer syntax and digest of what came by C-MOVE, by SOP Instance UID."""
    objects = peer(table).do("came", port=port)["objects"]
    return {
        each["uid"]: (each["syntax"], each["sha256"])
        for each in objects
        if each.get("originator") == asker
    }


def moved(table: Table, each: Sample, to: str = "NODE") -> list[int]:
    """The statuses of a C-MOVE of a sample's study."""
    return statuses(do(table, "move", study=each.study, to=to))


def moves(table: Table) -> None:
    """C-MOVE to a server that takes everything, and to some that do not."""
    for said, more in (("", {}), (", no limit of PDUs", {"pduBytes": 0})):
        with serving(table, **more) as port:
            for each in table.samples:
                answered = moved(table, each)
                found = [answered, came(table, port).get(each.uid)]
                held = table.gateway.held(each.uid)
                table.row(NODE, f"C-MOVE, {each.name}{said}", found, [[PENDING, 0], held])
    with serving(table, syntaxes=[IMPLICIT], pduBytes=4_096) as port:
        for each in table.samples:
            lossy = each.name in LOSSY
            answered = moved(table, each)
            table.row(
                NODE, f"C-MOVE, {each.name}, to one of implicit VR, PDUs of 4096",
                answered, [PENDING, 0xA702 if lossy else 0],
            )  # fmt: skip
        got = {syntax for syntax, _ in came(table, port).values()}
        table.row(NODE, "  all of which came in", got, {IMPLICIT})
    first = table.samples[0]
    for status, last in ((0xB000, 0xB000), (0xA700, 0xA702), (0xC000, 0xA702), ("abort", 0xA702)):
        with serving(table, statuses=[status]):
            said = status if isinstance(status, str) else f"{status:04X}"
            answered = moved(table, first)
            table.row(NODE, f"C-MOVE, the receiver answers {said}", answered, [PENDING, last])
            table.row(NODE, "  and the next one goes", moved(table, first), [PENDING, 0])
    with serving(table, reject=[1, 1, 7]):
        answered = moved(table, first)
        table.row(NODE, "C-MOVE, the receiver rejects", answered, [PENDING, 0xA702])
    table.row(NODE, "C-MOVE to nobody we know", moved(table, first, "NOBODY"), [0xA801])


def moves_over_tls(table: Table) -> None:
    """C-MOVE to a server that wants our certificate."""
    gateway, node = table.gateway, peer(table)
    port = gateway.ports.node_tls
    keys = {
        "ca": str(gateway.authority.certificate), "certificate": str(gateway.other.certificate),
        "key": str(gateway.other.key), "ask": True,
    }  # fmt: skip
    node.do("serve", port=port, tls=keys)
    answered = moved(table, table.study[0], "NODETLS")
    held = {each.uid: gateway.held(each.uid) for each in table.study}
    found = [answered, came(table, port) == held]
    table.row(
        NODE, "C-MOVE of a study over TLS, both with certificates", found, [[PENDING, 0], True]
    )
    node.do("close", port=port)


def forwards(table: Table) -> None:
    """A study that is sent on, with storage commitment: away at first, then there."""
    samples = study(table.folder, 90)
    paths = [each.path for each in samples]
    where = ("127.0.0.1", table.gateway.ports.dicom, "ECLUSE", "CT1")
    assert all(each.accepted for each in send_files(*where, paths))
    node = peer(table)
    with serving(table) as port:

        def sent_on() -> dict[str, tuple[str, str]]:
            objects = node.do("came", port=port)["objects"]
            return {
                each["uid"]: (each["syntax"], each["sha256"])
                for each in objects
                if each["uid"].startswith(f"{samples[0].study}.")
            }

        def asked_for() -> list[dict[str, Any]]:
            actions = node.do("came", port=port).get("actions", [])
            return [each for each in actions if named(each) == {one.uid for one in samples}]

        eventually(lambda: bool(asked_for()), timeout=TIMEOUT)
        wanted = {each.uid: (each.syntax, each.digest) for each in samples}
        table.row(NODE, "a study is sent on, byte for byte", sent_on(), wanted)
        table.row(NODE, "  and its commitment asked for (N-ACTION)", bool(asked_for()), True)
        transaction = asked_for()[-1]["TransactionUID"]
        objects = [[each.sop_class, each.uid] for each in samples]
        asked: dict[str, Any] = {"objects": objects, "calling": "NODESCP"}
        told = do(table, "report", transaction=f"{ROOT}.996", **asked)
        table.row(NODE, "N-EVENT-REPORT of what was never asked for", statuses(told), [0x0110])
        told = do(table, "report", transaction=transaction, **asked)
        table.row(NODE, "N-EVENT-REPORT on an association of its own", statuses(told), [0])


def commands(table: Table) -> None:
    """``ecluse dicom`` at a server."""
    found = [
        {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": f"{ROOT}.{number}", "PatientID": "1"}
        for number in (1, 2)
    ]
    with serving(table, found=found) as port:
        there = f"NODESCP@127.0.0.1:{port}"
        command = table.gateway.command
        table.row(NODE, "ecluse dicom echo", command("echo", there), 0)
        table.row(NODE, "ecluse dicom find", command("find", there, "PatientID=1"), 0)
        paths = [str(each.path) for each in table.samples]
        table.row(NODE, "ecluse dicom send", command("send", there, *paths), 0)
        got = {each["uid"]: each["sha256"] for each in peer(table).do("came", port=port)["objects"]}
        # Studies that are sent on may come beside them.
        whole = all(got.get(each.uid) == each.digest for each in table.samples)
        table.row(NODE, "  all of which came, byte for byte", whole, True)


def prompt(table: Table) -> None:
    """A study is sent on to a server that tells what it commits on the association of the request."""
    samples = study(table.folder, 93)
    where = ("127.0.0.1", table.gateway.ports.dicom, "ECLUSE", "CT1")
    with serving(table, promptly=True) as port:
        assert all(each.accepted for each in send_files(*where, [one.path for one in samples]))

        def reported() -> list[int]:
            found: list[int] = peer(table).do("came", port=port)["reported"]
            return found

        eventually(lambda: bool(reported()), timeout=TIMEOUT)
        said = "N-EVENT-REPORT on the association of the N-ACTION"
        table.row(NODE, said, reported()[:1], [0])


def named(action: dict[str, Any]) -> set[str]:
    """The SOP Instance UIDs that a commitment request names."""
    found = action["ReferencedSOPSequence"]
    items = found if isinstance(found, list) else [found]
    return {each["ReferencedSOPInstanceUID"] for each in items}


ALL = (moves, moves_over_tls, commands)
