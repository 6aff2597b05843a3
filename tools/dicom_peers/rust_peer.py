"""dicom-rs: its storescu, echoscu, findscu and movescu at our doors, its storescp as a receiver."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

from adapters.dicom.sender import send_files
from tests.eventually import eventually
from tools.dicom_peers.node_client import PENDING
from tools.dicom_peers.samples import LOSSY, NAMES, Sample, study
from tools.dicom_peers.standing import TIMEOUT, Rust
from tools.dicom_peers.table import RUST, Table

STATUS = re.compile(r"\(0000,0900\) Status .*: (\d+)")
NAME = re.compile(r'\(0010,0010\) PatientName .*: "(.*)"')


def programs(table: Table) -> Rust:
    """The programs, which there are when these exchanges are run."""
    assert table.rust is not None
    return table.rust


def ran(table: Table, program: str, *options: str, calling: str = "RSSCU") -> tuple[list[int], str]:
    """The statuses that a program says it got, and everything that it says."""
    door = f"ECLUSE@127.0.0.1:{table.gateway.ports.dicom}"
    done = programs(table).run(program, door, "--calling-ae-title", calling, "-v", *options)
    said = done.stdout + done.stderr
    return [int(each) for each in STATUS.findall(said)], said


def sends(table: Table) -> None:
    """C-ECHO and C-STORE."""
    table.row(RUST, "C-ECHO", ran(table, "echoscu")[0], [0])
    for each in table.others:
        answered, _ = ran(table, "storescu", "--never-transcode", str(each.path))
        found = [answered, same(table.gateway.file(each.uid), each)]
        table.row(RUST, f"C-STORE, {each.name}, and every element is held", found, [[0], True])
    fresh = study(table.folder, 91)
    files = [str(each.path) for each in fresh]
    answered, _ = ran(table, "storescu", "--max-pdu-length", "4096", *files)
    found = [answered, all(same(table.gateway.file(each.uid), each) for each in fresh)]
    table.row(RUST, "C-STORE of a study, PDUs of 4096, the same", found, [[0] * 4, True])
    answered, _ = ran(table, "storescu", "-c", "4", *files)
    table.row(RUST, "C-STORE over four associations", answered, [0] * len(files))
    answered, _ = ran(table, "storescu", "--username", "user", "--password", "word", files[0])
    table.row(RUST, "C-STORE with a user identity", answered, [0])
    answered, _ = ran(table, "storescu", *(str(each.path) for each in table.named))
    table.row(RUST, "C-STORE in three character sets", answered, [0, 0, 0])


def queries(table: Table) -> None:
    """C-FIND."""
    keys: tuple[str, ...]
    uid = table.study[0].study
    for level, count in (("STUDY", 1), ("SERIES", 1), ("IMAGE", len(table.study))):
        keys = ("-q", f"QueryRetrieveLevel={level}", "-q", f"StudyInstanceUID={uid}")
        answered, _ = ran(table, "findscu", *keys)
        table.row(RUST, f"C-FIND, {level.lower()}", answered, [PENDING] * count + [0])
    for (charset, name), each in zip(NAMES.items(), table.named, strict=True):
        patient = f"PEER{each.study.rpartition('.')[2]}"
        for own in ("ISO_IR 100", "ISO_IR 192"):
            keys = (
                "-P", "-q", f"SpecificCharacterSet={own}", "-q", "QueryRetrieveLevel=PATIENT",
                "-q", f"PatientID={patient}", "-q", "PatientName",
            )  # fmt: skip
            _, said = ran(table, "findscu", *keys)
            found = NAME.findall(said)
            table.row(RUST, f"C-FIND of a name in {charset}, asked in {own}", found, [name])
    for own in ("ISO_IR 100", "ISO_IR 192"):
        keys = ("-q", f"SpecificCharacterSet={own}", "-q", "QueryRetrieveLevel=STUDY")
        answered, _ = ran(table, "findscu", *keys, "-q", "PatientName=müller^zo*")
        table.row(RUST, f"C-FIND by a name in {own}", answered, [PENDING, 0])
    keys = ("-W", "-q", "PatientName", "-q", "ScheduledProcedureStepSequence.Modality=CT")
    answered, _ = ran(table, "findscu", *keys)
    found_all = answered[-1:] == [0] and set(answered[:-1]) <= {PENDING}
    table.row(RUST, "C-FIND, worklist", found_all, True)
    _, said = ran(table, "findscu", "-q", "QueryRetrieveLevel=STUDY", calling="STRANGER")
    refused = "no presentation contexts accepted" in said
    table.row(RUST, "a query from a title that peers does not name", refused, True)


def received(folder: Path, each: Sample) -> bytes | None:
    """An object that dicom-storescp has put down; None when there is none, or not all of it."""
    path = folder / f"{each.uid}.dcm"
    content = path.read_bytes() if path.exists() else None
    return content if same(content, each) else None


def same(content: bytes | None, each: Sample) -> bool:
    """Whether a file holds the elements of a sample: dicom-rs writes data sets anew on both sides,
    so that bytes cannot be compared."""
    if content is None:
        return False
    try:
        return bool(pydicom.dcmread(BytesIO(content)) == pydicom.dcmread(each.path))
    except (InvalidDicomError, EOFError):
        return False


def moves(table: Table) -> None:
    """C-MOVE, asked for by dicom-movescu, to dicom-storescp."""
    port = table.gateway.ports.rust
    # Without -n it serves one association at a time, and a study may just be sent on to it.
    strict = ("--calling-ae-title", "RSSCP", "--promiscuous", "-n", "-s", "-m", "4096")
    with programs(table).storing(port, table.folder / "strict", *strict) as folder:
        for each in table.others:
            keys = ("-q", "QueryRetrieveLevel=STUDY", "-q", f"StudyInstanceUID={each.study}")
            answered, _ = ran(table, "movescu", "--move-destination", "RSSCP", *keys)
            table.row(RUST, f"C-MOVE, {each.name}, PDUs of 4096, strictly", answered, [PENDING, 0])
            found = received(folder, each) is not None
            table.row(RUST, "  every element of which came", found, True)
    plain = ("--calling-ae-title", "RSSCP", "--promiscuous", "-n", "--uncompressed-only")
    with programs(table).storing(port, table.folder / "plain", *plain) as folder:
        for each in table.others:
            keys = ("-q", "QueryRetrieveLevel=STUDY", "-q", f"StudyInstanceUID={each.study}")
            answered, _ = ran(table, "movescu", "--move-destination", "RSSCP", *keys)
            last = 0xA702 if each.name in LOSSY else 0
            table.row(RUST, f"C-MOVE, {each.name}, uncompressed only", answered, [PENDING, last])
        there = f"RSSCP@127.0.0.1:{port}"
        table.row(RUST, "ecluse dicom echo", table.gateway.command("echo", there), 0)
        code = table.gateway.command("send", there, str(table.study[0].path))
        table.row(RUST, "ecluse dicom send", code, 0)
        whole = received(folder, table.study[0]) is not None
        table.row(RUST, "  every element of which came", whole, True)
    keys = ("-q", "QueryRetrieveLevel=STUDY", "-q", f"StudyInstanceUID={table.study[0].study}")
    answered, _ = ran(table, "movescu", "--move-destination", "NOBODY", *keys)
    table.row(RUST, "C-MOVE to nobody we know", answered, [0xA801])


def forwards(table: Table) -> None:
    """A study that is sent on to dicom-storescp."""
    fresh = study(table.folder, 92)
    where = ("127.0.0.1", table.gateway.ports.dicom, "ECLUSE", "CT1")
    assert all(each.accepted for each in send_files(*where, [each.path for each in fresh]))
    own = ("--calling-ae-title", "RSSCP", "--promiscuous", "-n")
    with programs(table).storing(
        table.gateway.ports.rust, table.folder / "forwarded", *own
    ) as folder:
        eventually(lambda: all(received(folder, each) for each in fresh), timeout=TIMEOUT)
        table.row(RUST, "a study is sent on, every element of it", len(fresh), 4)


ALL = (sends, queries, moves)
