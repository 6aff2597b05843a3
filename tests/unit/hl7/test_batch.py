"""Files of messages and batches taken apart, counted, and answered in their own form."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.hl7.batch import MessageFile, answer_file, read_file
from gateway.ports import Unreadable

FHS = b"FHS|^~\\&|LAB|X|ECLUSE|Y|20240101||name||F1\r"
BHS = b"BHS|^~\\&|LAB|X|ECLUSE|Y|20240101||name||B1\r"


def message(number: int) -> bytes:
    return b"MSH|^~\\&|LAB|X|ECLUSE|Y|20240101||ORU^R01|%d|P|2.5\rPID|1\r" % number


def read(content: bytes, messages_max: int = 100) -> MessageFile:
    return read_file(content, message_bytes_max=1000, messages_max=messages_max)


@pytest.mark.parametrize(
    ("content", "messages", "batches", "batched"),
    [
        (message(1), 1, [1], False),
        (message(1) + b"\r\n\r\n" + message(2), 2, [2], False),
        (FHS + BHS + message(1) + message(2) + b"BTS|2\rFTS|1\r", 2, [2], True),
        (FHS + b"BHS|^~\\&\r" + message(1) + b"BTS|1\r" + BHS + b"BTS|0\rFTS|2\r", 1, [1, 0], True),
        (BHS + message(1) + BHS + message(2), 2, [1, 1], True),
        (FHS + message(1) + b"FTS|1\r", 1, [1], True),
        (FHS + b"FTS|0\r", 0, [], True),
        (BHS + b"BTS\r", 0, [0], True),
        (b"\xef\xbb\xbf" + BHS + message(1) + b"BTS|1|comment\r", 1, [1], True),
        (b"no message at all", 1, [1], False),
    ],
)
def test_files(content: bytes, messages: int, batches: list[int], batched: bool) -> None:
    file = read(content)
    assert len(file.messages) == messages
    assert [batch.last - batch.first for batch in file.batches] == batches
    assert file.batched is batched
    assert file.mismatch is None


@pytest.mark.parametrize(
    ("content", "detail", "location"),
    [
        (BHS + message(1) + b"BTS|2\r", "BTS-1 says 2, and there is 1 message", "BTS-1"),
        (BHS + b"BTS|1\r", "BTS-1 says 1, and there are 0 messages", "BTS-1"),
        (FHS + BHS + message(1) + b"BTS|1\rFTS|3\r", "FTS-1 says 3, and there is 1 batch", "FTS-1"),
        (BHS + b"BTS|0\r" + BHS + b"BTS|7\r", "BTS-1 says 7, and there are 0 messages", "BTS(2)-1"),
        (BHS + message(1) + b"BTS|one\r", "BTS-1 is not a number", "BTS-1"),
        (message(1) + b"BTS|5\r", "BTS-1 says 5, and there is 1 message", "BTS-1"),
    ],
)
def test_counts_that_do_not_agree(content: bytes, detail: str, location: str) -> None:
    mismatch = read(content).mismatch
    assert mismatch is not None
    assert (mismatch.detail, mismatch.location) == (detail, location)


@pytest.mark.parametrize(
    "content",
    [
        b"PID|1\r" + message(1),
        message(1) + FHS,
        FHS + b"FTS|0\r" + message(1),
        BHS + b"NTE|1\r" + message(1),
        b"BHS\r" + message(1),
        b"FHS|^^\r" + message(1),
        message(1) * 101,
        b"MSH|" + b"x" * 1000,
    ],
)
def test_files_that_are_refused(content: bytes) -> None:
    with pytest.raises(Unreadable):
        read(content)


def test_answers_have_the_form_of_the_file() -> None:
    answers = [b"MSH|1\rMSA|AA|1\r", b"MSH|2\rMSA|AE|2\r"]
    numbers = iter(["N1", "N2"])
    file = read(FHS + BHS + message(1) + message(2) + b"BTS|2\rFTS|1\r")
    assert answer_file(file, answers, stamp="20240102", control_ids=numbers) == (
        b"FHS|^~\\&|ECLUSE|Y|LAB|X|20240102||||N1|F1\r"
        b"BHS|^~\\&|ECLUSE|Y|LAB|X|20240102||||N2|B1\r" + b"".join(answers) + b"BTS|2\rFTS|1\r"
    )
    plain = read(message(1) + message(2))
    assert answer_file(plain, answers, stamp="", control_ids=iter([])) == b"".join(answers)


@given(st.lists(st.integers(min_value=0, max_value=4), max_size=5), st.booleans())
def test_an_answered_batch_is_a_batch_with_right_counts(sizes: list[int], whole: bool) -> None:
    numbers = count(1)
    body = b"".join(
        BHS + b"".join(message(next(numbers)) for _ in range(size)) + b"BTS|%d\r" % size
        for size in sizes
    )
    file = read(FHS + body + b"FTS|%d\r" % len(sizes) if whole else body or message(1))
    assert file.mismatch is None
    answers = [b"MSH|^~\\&|A\rMSA|AA|%d\r" % n for n in range(len(file.messages))]
    again = read(answer_file(file, answers, stamp="2024", control_ids=map(str, count())))
    assert again.mismatch is None
    assert again.messages == answers
    assert [b.last - b.first for b in again.batches] == [b.last - b.first for b in file.batches]


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    for content in (data, BHS + data, message(1) + data):
        try:
            file = read(content)
        except Unreadable:
            continue
        answers = [b"MSH|^~\\&\r"] * len(file.messages)
        answer_file(file, answers, stamp="", control_ids=map(str, count()))
