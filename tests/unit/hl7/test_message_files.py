"""Files of messages for ``ecluse send``: every message in its exact bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.hl7.answer import acknowledges, control_id_of
from adapters.hl7.framing import frame
from adapters.hl7.sender import FileLimits, read_messages
from gateway.ports import Unreadable

A = b"MSH|^~\\&|A|||||||1|P|2.5\rPID|1\r"
B = b"MSH|^~\\&|B|||||||2|P|2.5\nPID|2\n\n"


def messages(folder: Path, content: bytes, limits: FileLimits | None = None) -> list[bytes]:
    path = folder / "messages.hl7"
    path.write_bytes(content)
    return list(read_messages(path, limits or FileLimits()))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (A, [A]),
        (A + B, [A, B]),
        (b"\xef\xbb\xbf" + A, [b"\xef\xbb\xbf" + A]),
        (b"FHS|^~\\&|x\rBHS|^~\\&|y\r" + A + B + b"BTS|2\rFTS|1\r", [A, B]),
        (b"BHS|^~\\&\r" + A + b"BTS|1\rBHS|^~\\&\r" + B + b"BTS|1\r", [A, B]),
        (b"FHS|^~\\&|x\rFTS|0\r", [b"FHS|^~\\&|x\rFTS|0\r"]),
        (b"PID|1\r", [b"PID|1\r"]),
        (b"not HL7 at all", [b"not HL7 at all"]),
        (b"MSH#*!/%#A\rPID#1\r", [b"MSH#*!/%#A\rPID#1\r"]),
        (frame(A) + b"\n" + frame(B), [A, B]),
        (b"\r\n" + frame(A), [A]),
        (A + b"OBX|1|TX|||MSH|x\rMSHX|1\r", [A + b"OBX|1|TX|||MSH|x\rMSHX|1\r"]),
    ],
)
def test_messages_of_a_file(tmp_path: Path, content: bytes, expected: list[bytes]) -> None:
    assert messages(tmp_path, content) == expected


def test_limits(tmp_path: Path) -> None:
    small = FileLimits(message_bytes_max=len(A) - 1)
    for content in (A, frame(A), b"x" * 1000):
        with pytest.raises(Unreadable, match="larger"):
            messages(tmp_path, content, small)
    with pytest.raises(Unreadable, match="more than 2 messages"):
        messages(tmp_path, A * 3, FileLimits(messages_max=2))


def test_a_file_of_blocks_that_is_cut(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="no end"):
        messages(tmp_path, frame(A) + b"\x0b" + B)


@pytest.mark.parametrize(
    ("answer", "matches"),
    [
        (b"MSH|^~\\&|||||||ACK|9|P|2.5\rMSA|AA|1\r", True),
        (b"MSH|^~\\&|||||||ACK|9|P|2.5\nMSA|AE|1\n", True),
        (b"MSH|^~\\&|||||||ACK|9|P|2.5\rMSA|AA|2\r", False),
        (b"MSH|^~\\&|||||||ACK|9|P|2.5\rMSA|AA|\r", False),
        (b"MSH|^~\\&|||||||ACK|9|P|2.5\rMSA|AR|\r", True),
        (b"MSH|^~\\&|||||||ACK|9|P|2.5\r", False),
        (b"MSA|AA|1", False),
    ],
)
def test_which_answer_is_whose(answer: bytes, matches: bool) -> None:
    assert acknowledges(answer, control_id_of(A)) is matches


def test_control_ids_byte_for_byte() -> None:
    assert control_id_of(A) == b"1"
    assert control_id_of(b"MSH|^~\\&||||||||\xe9\xff|P|2.5") == b"\xe9\xff"
    assert control_id_of(b"garbage") == b""


def test_control_ids_in_which_a_byte_looks_like_a_separator() -> None:
    name = "醫院許".encode("cp950")
    control_id = "楚C".encode("cp950") + b"\xc1|"  # the second byte of 舉 is that of |
    message = b"MSH|^~\\&|A|" + name + b"|||||ADT^A01|" + control_id + b"|P|2.5||||||BIG-5\rPID|1\r"
    assert control_id_of(message) == control_id
    answer = b"MSH|^~\\&|||||||ACK|9|P|2.5||||||BIG-5\rMSA|AA|" + control_id + b"|x\r"
    assert acknowledges(answer, control_id)
    assert not acknowledges(answer, control_id[:-1])
