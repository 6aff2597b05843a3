"""Every message of the corpus over a real socket.

``corpus_refusals.tsv`` lists what is refused, with the answer and the reason;
every other message must be accepted.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from adapters.hl7.binding import Node
from adapters.hl7.framing import frame
from adapters.hl7.language import Hl7Reader
from adapters.hl7.scopes import MessageScope
from adapters.hl7.sender import read_messages
from gateway.model import Payload
from tests.integration.hl7.fake_intake import running

pytestmark = pytest.mark.anyio
EXPECTED = Path(__file__).with_name("corpus_refusals.tsv")
FILES = 384


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
    expected, seen = refusals(), set()
    async with running() as run:
        peer = await run.peer()
        for path in files:
            for number, message in enumerate(read_messages(path), start=1):
                before = len(run.intake.kept)
                await peer.send(frame(message))
                answer = await peer.answer()
                [received] = run.intake.kept[before:]
                assert received.payload.data == message
                msa = answer.split(b"\r")[1]
                _, code, control_id, *_ = msa.split(msa[3:4])
                assert control_id == header_field(message, 10)
                key = (str(path.relative_to(root)), number)
                refusal = received.refusal
                if refusal is None:
                    assert (code, key in expected) == (b"AA", False), key
                else:
                    told = (code.decode(), refusal.protocol_code, refusal.location)
                    assert told == expected.get(key), key
                    seen.add(key)
        assert seen == set(expected)
        answers = run.source.statistics()
        total = len(run.intake.kept)
        assert sum(n for name, n in answers.items() if name.startswith("answer-")) == total


def test_every_segment_is_reachable(shared: Path) -> None:
    refused = refusals()
    root = shared / "corpora" / "hl7v2"
    reader = Hl7Reader()
    messages = 0
    for path in corpus_files(shared):
        for number, data in enumerate(read_messages(path), start=1):
            if refused.get((str(path.relative_to(root)), number), ("", ""))[1] in {"102", "204"}:
                continue  # unreadable: its delimiters, its bytes, or the rest of a message
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
