"""dcmjs-dimse as a client at our doors."""

from __future__ import annotations

from typing import Any

from tests.eventually import eventually
from tools.dicom_peers.samples import CT, IMPLICIT, NAMES, ROOT, order, step_completed, step_created
from tools.dicom_peers.standing import TIMEOUT, Node
from tools.dicom_peers.table import NODE, Table

PENDING, UNSUPPORTED = 0xFF00, 0xFF01
VERIFICATION = "1.2.840.10008.1.1"


def peer(table: Table) -> Node:
    """The process, which there is when these exchanges are run."""
    assert table.node is not None
    return table.node


def statuses(told: dict[str, Any]) -> list[int]:
    """The status of each response."""
    return [each["status"] for each in told["answers"]]


def ended(told: dict[str, Any]) -> list[str]:
    """How the association ended."""
    return [each[0] for each in told["events"]]


def do(table: Table, deed: str, **asked: Any) -> dict[str, Any]:
    """A deed at the plain door."""
    told: dict[str, Any] = peer(table).do(deed, **{"port": table.gateway.ports.dicom, **asked})
    return told


def associations(table: Table) -> None:
    """What is negotiated, and how associations end."""
    told = do(table, "echo", times=3)
    table.row(NODE, "C-ECHO, three on one association", statuses(told), [0, 0, 0])
    for asked, said in ((None, "none"), (0, "0, no limit"), (4_096, "4096"), (300, "300")):
        told = do(table, "echo", **({} if asked is None else {"pduBytes": asked}))
        table.row(NODE, f"C-ECHO, maximum PDU length asked for: {said}", statuses(told), [0])
    told = do(table, "echo", window=[8, 8])
    found = [*told["window"], *statuses(told)]
    table.row(NODE, "asynchronous operations window of (8, 8)", found, [1, 1, 0])
    told = do(table, "echo", identity=["user", "passcode"])
    table.row(NODE, "user identity with an answer asked for", statuses(told), [0])
    many = [
        {"abstract": f"{ROOT}.{number}", "syntaxes": [IMPLICIT], "anew": True}
        for number in range(127)
    ]
    told = do(table, "echo", contexts=many)
    found = [len(told["accepted"]), sum(each[2] == 0 for each in told["accepted"])]
    table.row(NODE, "128 presentation contexts, one known", found, [128, 1])
    told = do(table, "echo", linger=3_000)
    table.row(NODE, "released after three seconds without a word", ended(told), ["released"])
    told = do(table, "idle")
    table.row(NODE, "C-ECHO after a second without a word", statuses(told), [0, 0])
    told = do(table, "find", level="study", calling="STRANGER")
    found_results = [each[2] for each in told["accepted"]]
    table.row(NODE, "a query from a title that peers does not name", found_results, [1])
    do(table, "aborted", level="image")
    table.row(NODE, "C-ECHO after an abort in the middle", statuses(do(table, "echo")), [0])


def stores(table: Table) -> None:
    """C-STORE: what is held is what was sent, byte for byte."""
    for each in table.samples:
        # It always names implicit and explicit VR in one context, and writes what is kept in the
        # first anew.
        anew = each.syntax == IMPLICIT
        told = do(table, "store", files=[str(each.path) if anew else each.as_it_stands()])
        (sent,) = told["sent"]
        found = [statuses(told), table.gateway.held(each.uid)]
        table.row(NODE, f"C-STORE, {each.name}", found, [[0], (sent["syntax"], sent["sha256"])])
    files = [str(each.path) for each in table.study]
    told = do(table, "store", files=files, window=[4, 4], pduBytes=4_096)
    table.row(NODE, "C-STORE of a study, as dcmjs writes it", statuses(told), [0] * len(files))
    held = [table.gateway.held(each["uid"]) for each in told["sent"]]
    wanted = [(each["syntax"], each["sha256"]) for each in told["sent"]]
    table.row(NODE, "  what is held of it", held == wanted, True)
    told = do(table, "store", files=files)
    table.row(NODE, "C-STORE of the same again", statuses(told), [0] * len(files))
    first = table.study[0].as_it_stands()
    told = do(table, "store", files=[first | {"uid": f"{ROOT}.999"}])
    table.row(NODE, "C-STORE under another SOP instance UID", statuses(told), [0xA900])
    told = do(table, "store", files=[first | {"offset": table.study[0].path.stat().st_size - 8}])
    table.row(NODE, "C-STORE of half a value", statuses(told), [0xC000])
    told = do(table, "store", files=[str(each.path) for each in table.named])
    table.row(NODE, "C-STORE in three character sets", statuses(told), [0, 0, 0])


def queries(table: Table) -> None:
    """C-FIND of what is held."""
    uid, count = table.study[0].study, len(table.study)
    told = do(table, "find", level="study", keys={"StudyInstanceUID": uid})
    table.row(NODE, "C-FIND, study", statuses(told), [PENDING, 0])
    found = [told["datasets"][0][f"NumberOfStudyRelated{each}"] for each in ("Series", "Instances")]
    table.row(NODE, "  numbers of series and instances", found, [1, count])
    for level, number in (("series", 1), ("image", count)):
        told = do(table, "find", level=level, keys={"StudyInstanceUID": uid}, pduBytes=4_096)
        table.row(NODE, f"C-FIND, {level}", statuses(told), [PENDING] * number + [0])
    asked = {"QueryRetrieveLevel": "PATIENT", "PatientID": "PEER60", "PatientName": ""}
    told = do(table, "find", level="", root="patient", keys=asked)
    table.row(NODE, "C-FIND, Patient Root", statuses(told), [PENDING, 0])
    for (charset, name), each in zip(NAMES.items(), table.named, strict=True):
        for own in ("", "ISO_IR 100", "ISO_IR 192"):
            asked = {"PatientID": f"PEER{each.study.rpartition('.')[2]}"}
            told = do(
                table,
                "find",
                level="study",
                keys=asked | ({"SpecificCharacterSet": own} if own else {}),
            )
            got = [found["PatientName"][0]["Alphabetic"] for found in told["datasets"]]
            table.row(NODE, f"C-FIND of a name in {charset}, asked in {own or 'none'}", got, [name])
    asked = {
        "SpecificCharacterSet": "ISO_IR 192", "QueryRetrieveLevel": "STUDY",
        "PatientName": "müller^zo*",
    }  # fmt: skip
    told = do(table, "find", level="study", only=True, keys=asked)
    table.row(NODE, "C-FIND by a name in ISO_IR 192", statuses(told), [PENDING, 0])
    told = do(table, "find", level="", keys={"PatientID": "PEER60"})
    table.row(NODE, "C-FIND without a level", statuses(told), [0xA900])
    told = do(table, "cancelled", level="image", keys={"StudyInstanceUID": uid})
    # It may have come after the last answer.
    last = statuses(told)[-1] in (0xFE00, 0)
    table.row(
        NODE, "C-FIND that is cancelled, and its end", [last, *ended(told)], [True, "released"]
    )


def worklist(table: Table) -> None:
    """The modality worklist, and performed procedure steps."""
    numbers = (70, 71, 72)
    told_of = [table.gateway.tell(order(number)) for number in numbers]
    table.row("HL7 v2", "three orders", told_of, ["AA"] * 3)
    eventually(lambda: len(do(table, "find", level="worklist")["datasets"]) == 3, timeout=TIMEOUT)
    told = do(table, "find", level="worklist")
    # dcmjs writes the empty Pregnancy Status as 0, which is a key that we do not match; and
    # dcmjs-dimse takes that warning for the last answer and releases in the middle.
    table.row(
        NODE,
        "C-FIND, worklist: a warning, and all answers",
        statuses(told),
        [UNSUPPORTED] * 3 + [0],
    )
    table.row(NODE, "  its release is answered", ended(told)[:1], ["released"])
    step, study = f"{table.study[0].study}.77", table.study[0].study
    created = step_created(study, numbers[0])
    asked = {"uid": step, "create": created, "set": step_completed(table.study)}
    table.row(
        NODE, "N-CREATE and N-SET of a performed step", statuses(do(table, "mpps", **asked)), [0, 0]
    )
    table.row(NODE, "the same again", statuses(do(table, "mpps", **asked)), [0x0111, 0x0110])
    left = do(table, "find", level="worklist")["datasets"]
    found = sorted(each["AccessionNumber"] for each in left)
    table.row(NODE, "the step is on the worklist no more", found, ["A71", "A72"])


def retrievals(table: Table) -> None:
    """C-GET: what comes is what is held."""
    uid = table.study[0].study
    held = sorted(str(table.gateway.held(each.uid)) for each in table.study)
    for said, more in (
        ("", {}),
        (", PDUs of 4096", {"pduBytes": 4_096}),
        (", no limit", {"pduBytes": 0}),
    ):
        told = do(table, "get", study=uid, **more)
        got = sorted(str((each["syntax"], each["sha256"])) for each in told["objects"])
        table.row(
            NODE, f"C-GET of a study{said}", [statuses(told), got == held], [[PENDING, 0], True]
        )
    told = do(table, "get", study=uid, status=0xA700)
    table.row(NODE, "C-GET, all refused by the caller", statuses(told), [PENDING, 0xA702])
    told = do(table, "get", study=f"{ROOT}.998")
    table.row(NODE, "C-GET of what is not there", statuses(told), [0])


def secured(table: Table) -> None:
    """TLS."""
    gateway = table.gateway
    own = {
        "ca": str(gateway.authority.certificate), "certificate": str(gateway.other.certificate),
        "key": str(gateway.other.key),
    }  # fmt: skip
    door: dict[str, Any] = {"port": gateway.ports.tls, "host": "localhost"}
    for version in ("TLSv1.2", "TLSv1.3"):
        told = do(table, "echo", **door, tls=own | {"newest": version})
        table.row(NODE, f"C-ECHO over {version}", statuses(told), [0])
    files = [str(each.path) for each in table.study]
    told = do(table, "store", **door, tls=own, files=files)
    table.row(NODE, "C-STORE of a study over TLS", statuses(told), [0] * len(files))
    told = do(table, "echo", **door, tls={"ca": own["ca"]})
    table.row(NODE, "TLS without a certificate", ended(told)[:1], ["network"])
    told = do(table, "echo", **door)
    table.row(NODE, "no TLS at the door for TLS", ended(told)[:1], ["network"])


def commitments(table: Table) -> None:
    """Storage commitment: asked for, and told on an association of ours."""
    node = peer(table)
    port = table.gateway.ports.node
    node.do("serve", port=port)
    good = [[each.sop_class, each.uid] for each in table.study]
    bad = [[CT, f"{ROOT}.997"], ["1.2.840.10008.5.1.4.1.1.4", table.study[0].uid]]
    for number, objects in ((1, good), (2, good + bad)):
        told = do(
            table, "commit", transaction=f"{ROOT}.88.{number}", objects=objects, calling="NODE"
        )
        table.row(NODE, f"N-ACTION, {len(objects)} objects", statuses(told), [0])

    def reports() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = node.do("came", port=port)["reports"]
        return sorted(found, key=lambda each: str(each["elements"]["TransactionUID"]))

    eventually(lambda: len(reports()) == 2, timeout=TIMEOUT)
    first, second = reports()
    table.row(NODE, "N-EVENT-REPORT: all committed", first["type"], 1)
    failed = [each["FailureReason"] for each in second["elements"]["FailedSOPSequence"]]
    table.row(NODE, "N-EVENT-REPORT: one not there, one of another class", failed, [0x0112, 0x0119])
    told = do(table, "commit", transaction=f"{ROOT}.88.3", objects=good, calling="RSSCU")
    table.row(NODE, "N-ACTION from a title without an address", statuses(told), [0x0124])
    node.do("close", port=port)


ALL = (associations, stores, queries, worklist, retrievals, secured, commitments)
