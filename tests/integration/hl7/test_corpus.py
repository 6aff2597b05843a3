"""Every message of the corpus over a real socket.

``corpus_refusals.tsv`` lists what is refused, with the answer and the reason;
every other message must be accepted. An answer of "none" is that of an acknowledgement.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from adapters.hl7.binding import Node
from adapters.hl7.framing import frame
from adapters.hl7.language import Hl7Reader
from adapters.hl7.scopes import MessageScope
from adapters.hl7.sender import read_messages
from gateway.model import Payload
from gateway.ports import Unreadable
from tests.integration.hl7.fake_intake import running, until

pytestmark = pytest.mark.anyio
EXPECTED = Path(__file__).with_name("corpus_refusals.tsv")
FILES = 384
CUT_DOCUMENTS = {"dcm4che-assembly_src_etc_testdata_hl7_ORU_R01-PDF.hl7"}
"""Files whose Base64 is broken by carriage returns, which end a segment."""
TABLE_0155 = (b"AL", b"NE", b"ER", b"SU")


def corpus_files(shared: Path) -> list[Path]:
    root = shared / "corpora" / "hl7v2"
    return sorted(p for p in root.rglob("*") if p.is_file() and p.name != "MANIFEST.tsv")


def refusals() -> dict[tuple[str, int], tuple[str, str, str]]:
    with EXPECTED.open(encoding="utf-8", newline="") as stream:
        return {
            (row["file"], int(row["message"])): (row["answer"], row["error"], row["location"])
            for row in csv.DictReader(stream, delimiter="\t")
        }


def header_field(message: bytes, number: int) -> bytes:
    """An MSH field by splitting bytes, without the code under test."""
    start = message.index(b"MSH")
    line = re.split(rb"[\r\n]", message[start:], maxsplit=1)[0]
    parts = line.split(line[3:4])
    return parts[number - 1] if number <= len(parts) else b""


async def test_every_file_over_a_socket(shared: Path) -> None:
    root = shared / "corpora" / "hl7v2"
    files = corpus_files(shared)
    assert len(files) == FILES
    expected, seen, answered = refusals(), set(), 0
    async with running() as run:
        peer = await run.peer()
        for path in files:
            for number, message in enumerate(read_messages(path), start=1):
                before = len(run.intake.kept)
                await peer.send(frame(message))
                key = (str(path.relative_to(root)), number)
                refused = expected.get(key)
                due = refused[0] if refused else accepted_with(message)
                if due != "none":
                    answer = await peer.answer()
                    answered += 1
                    msa = answer.split(b"\r")[1]
                    _, code, control_id, *_ = msa.split(msa[3:4])
                    assert (control_id, code.decode()) == (header_field(message, 10), due), key
                await until(lambda kept=before: len(run.intake.kept) > kept)
                [received] = run.intake.kept[before:]
                assert received.payload.data == message
                refusal = received.refusal
                assert (refusal is None) is (refused is None), key
                if refusal is not None and refused is not None:
                    assert (refusal.protocol_code, refusal.location) == refused[1:], key
                    seen.add(key)
        assert seen == set(expected)
        await until(lambda: handled(run.source.statistics()) == len(run.intake.kept))
        answers = run.source.statistics()
        assert sum(n for name, n in answers.items() if name.startswith("answer-")) == answered
        silent = sum(each[0] == "none" for each in expected.values())
        assert answers["acknowledgements"] == silent


def accepted_with(message: bytes) -> str:
    """MSA-1 for a message that is accepted, by MSH-15 and MSH-16; "none" for no answer."""
    immediate, application = (
        value if (value := header_field(message, number).strip()) in TABLE_0155 else b""
        for number in (15, 16)
    )
    if not immediate and not application:
        return "AA"
    if immediate in (b"", b"NE"):  # no return link: an application acknowledgement wanted alone
        return "AA" if application in (b"AL", b"SU") else "none"
    return "CA" if immediate in (b"AL", b"SU") else "none"


def handled(statistics: Mapping[str, int]) -> int:
    """Messages that were answered, or need no answer."""
    names = ("answer-", "acknowledgements", "unanswered")
    return sum(count for name, count in statistics.items() if name.startswith(names))


def test_every_segment_is_reachable(shared: Path) -> None:
    refused = refusals()
    root = shared / "corpora" / "hl7v2"
    reader = Hl7Reader()
    messages = 0
    for path in corpus_files(shared):
        for number, data in enumerate(read_messages(path), start=1):
            if refused.get((str(path.relative_to(root)), number), ("", ""))[1] in {"102", "204"}:
                continue  # unreadable: its delimiters, its bytes, or the rest of a message
            if path.name in CUT_DOCUMENTS:
                # Taken and kept, but half a document is none: a dead letter says where.
                with pytest.raises(Unreadable, match="inside the document"):
                    reader.read([Payload.from_bytes(data)])
                continue
            scope = reader.read([Payload.from_bytes(data)])
            assert isinstance(scope, MessageScope)
            message = scope.message
            text = data.decode(
                "utf-8" if message.charset.codec == "ascii" else message.charset.codec
            )
            lines = [line for line in re.split("[\r\n]+", text.lstrip("\ufeff")) if line.strip()]
            assert message.segments == lines
            for index, line in enumerate(lines):
                name = re.split("[^A-Za-z0-9=+/]", line, maxsplit=1)[0]
                assert index in scope.find(name), (path.name, name)
                expected = line.split(message.delimiters.field)
                fields = message.fields(index)
                assert fields[0] == expected[0]
                assert fields[-1] == expected[-1]
            assert sorted(bound(scope.binding.root)) == list(range(len(lines)))
            messages += 1
    assert messages > 1400


def bound(node: Node) -> list[int]:
    return node.segments + [index for child in node.children for index in bound(child)]


async def test_half_of_every_file_is_never_acknowledged_positively(shared: Path) -> None:
    async with running() as run:
        for path in corpus_files(shared):
            message = next(iter(read_messages(path)), b"")
            if len(message) > 10_000:
                continue
            peer = await run.peer()
            await peer.send(b"\x0b" + message[: len(message) // 2])
            peer.writer.write_eof()
            assert await peer.closed()
        assert all(received.refusal for received in run.intake.submitted)
        assert len(run.intake.submitted) > 300
