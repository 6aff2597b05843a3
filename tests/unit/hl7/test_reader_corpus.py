"""The reader over every file of the shared corpora: nothing is lost, everything is reachable."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.hl7 import conformance
from adapters.hl7.compiling import compile_path, select_segments
from adapters.hl7.message import Message
from adapters.hl7.outline import GroupOutline, Part, SegmentOutline, offsets, outline
from adapters.hl7.paths import parse
from adapters.hl7.scopes import MessageScope
from adapters.hl7.sender import FileLimits, read_messages
from gateway.ports import Unreadable

FILES_MIN = 384
# Files in which some message has no header that can be read: cut or garbled on purpose.
UNREADABLE_MESSAGES_MAX = 25


@pytest.fixture(scope="module")
def messages(shared: Path) -> list[tuple[Path, bytes]]:
    files = sorted(
        path
        for path in (shared / "corpora" / "hl7v2").rglob("*")
        if path.is_file() and path.name not in {"MANIFEST.tsv", "README.md"}
    )
    assert len(files) >= FILES_MIN
    found = [(path, body) for path in files for body in read_messages(path, FileLimits(64 << 20))]
    assert {path for path, _ in found} >= {path for path in files if path.stat().st_size}
    return found


@pytest.fixture(scope="module")
def readable(messages: list[tuple[Path, bytes]]) -> list[tuple[Path, Message]]:
    found, wrong = [], []
    for path, body in messages:
        try:
            found.append((path, Message.read(body, charset_default="8859/15")))
        except Unreadable as fault:
            wrong.append((path.name, fault.location))
    assert len(wrong) <= UNREADABLE_MESSAGES_MAX, wrong
    return found


def test_bytes_are_identical_when_written_back(readable: list[tuple[Path, Message]]) -> None:
    for path, message in readable:
        gaps = bytearray()
        position = 0
        for begin, text in zip(offsets(message), message.segments, strict=True):
            gaps += message.raw[position:begin]
            data = message.bytes_of(text)
            assert message.raw[begin : begin + len(data)] == data, path
            position = begin + len(data)
        gaps += message.raw[position:]
        # Between the segments there is nothing but what ends lines.
        assert not gaps.replace(b"\xef\xbb\xbf", b"").strip(b" \t\r\n"), (path, bytes(gaps))


def test_every_split_is_undone_by_joining(readable: list[tuple[Path, Message]]) -> None:
    for path, message in readable:
        delimiters = message.delimiters
        for index, text in enumerate(message.segments):
            fields = list(message.fields(index))
            for number in range(1, len(fields)):
                repetitions = message.repetitions(index, number)
                assert delimiters.repetition.join(repetitions) == fields[number], path
            if message.is_delimiter_field(index, 1):
                del fields[1]
            assert delimiters.field.join(fields) == text, path


def test_every_segment_and_field_is_reachable_by_a_path(
    readable: list[tuple[Path, Message]],
) -> None:
    for path, message in readable:
        scope = MessageScope(message)
        reached: set[int] = set()
        for name in message.names():
            if not (len(name) == 3 and name.isalnum() and name.isupper() and name[0].isalpha()):
                reached.update(message.positions(name))  # a line that is no segment: flagged
                continue
            every = parse(f"{name}(*)")
            found = select_segments(scope, every)
            assert list(found) == list(message.positions(name)), path
            reached.update(found)
        assert reached == set(range(len(message.segments))), path
        assert len(scope.binding.node) == len(message.segments)
        for name in list(message.names())[:3]:
            index = message.positions(name)[0]
            for number in range(3, min(len(message.fields(index)), 40)):
                if name.isupper() and message.fields(index)[number]:
                    [value, *_] = compile_path(parse(f"{name}-{number}(*)"))(scope)
                    assert value.raw() == message.bytes_of(message.repetitions(index, number)[0])


def leaves(part: Part) -> Iterator[Part]:
    if part.parts:
        for each in part.parts:
            yield from leaves(each)
    else:
        yield part


def segments(group: GroupOutline) -> Iterator[SegmentOutline]:
    for each in group.content:
        if isinstance(each, GroupOutline):
            yield from segments(each)
        else:
            yield each


def test_the_outline_leaves_nothing_out_and_its_positions_are_right(
    readable: list[tuple[Path, Message]],
) -> None:
    for path, message in readable[::3]:
        if len(message.segments) > 300:
            continue
        laid_out = list(segments(outline(MessageScope(message))))
        assert len(laid_out) == len(message.segments), path
        for segment in laid_out:
            for part in (leaf for each in segment.fields for leaf in leaves(each)):
                data = message.raw[part.offset : part.offset + part.length]
                assert data == message.bytes_of(part.written), (path, part.path)


def test_the_grammar_check_ends_on_every_message(readable: list[tuple[Path, Message]]) -> None:
    findings = 0
    for _, message in readable[::2]:
        for finding in conformance.check(MessageScope(message)):
            findings += 1
            assert finding.code in {"100", "101", "102", "103", "198", "199", "200", "201", "203"}
    assert findings > 100
