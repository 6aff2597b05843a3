"""The frames between the gateway and its mapping processes."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.demo.people import TEST_ROOT, ins_with_key
from gateway.journal.entries import kept_entries
from gateway.mapping_wire import (
    FRAME_BYTES_MAX,
    Answer,
    BrokenFrame,
    Frames,
    Task,
    content_digest,
    frame,
)
from gateway.model import Attachment, Cause, CauseCode, Entry, Flag, Format, Mapped, Payload
from gateway.normalise import Original, Reading, Unusable
from gateway.permit import Statement
from gateway.route import entries_digest
from gateway.serialise import DecimalText, dumps
from gateway.subjects import Subjects, read_subjects, rewrite
from gateway.written import as_expected, write


def reading(values: list[str]) -> Reading:
    patient = {
        "resourceType": "Patient",
        "id": "p",
        "identifier": [{"system": "urn:oid:1.2.3", "value": "42"}],
    }
    observations = [
        {"resourceType": "Observation", "id": str(n), "valueQuantity": {"value": DecimalText(text)}}
        for n, text in enumerate(values)
    ]
    entries = (
        Entry(resource=patient, create_only=True),
        *(Entry(resource=each) for each in observations),
    )
    mapped = Mapped(
        mapping="m",
        version="1",
        digest="d" * 64,
        entries=entries,
        attachments=(Attachment(sha256="a" * 64, media_type="application/pdf", data=b"%PDF"),),
        flags=(Flag(code="unknown-code", target="Observation.code"),),
    )
    return Reading(mapped=mapped, subjects=read_subjects(entries), statement=Statement())


@given(
    numbers=st.lists(st.decimals(allow_nan=False, allow_infinity=False).map(lambda d: f"{d:f}")),
    cuts=st.lists(st.integers(min_value=1, max_value=700), min_size=1),
)
def test_answers_come_out_as_they_went_in_however_they_are_cut(
    numbers: list[str], cuts: list[int]
) -> None:
    unusable = Unusable(cause=Cause(code=CauseCode.UNREADABLE, location="MSH-1"))
    sent = [
        Answer(message_id=1, prepared=reading(numbers), seconds=0.25),
        Answer(message_id=2, prepared=unusable, seconds=0.0),
        Answer(message_id=3, prepared=None, seconds=1.0),
    ]
    data = b"".join(frame(each) for each in sent)
    frames, came, place = Frames(), [], 0
    while place < len(data):
        size = cuts[place % len(cuts)]
        frames.feed(data[place : place + size])
        place += size
        came += frames
    assert came == sent
    before, after = (each.prepared for each in (sent[0], came[0]))
    assert isinstance(before, Reading)
    assert isinstance(after, Reading)
    for old, new in zip(before.mapped.entries, after.mapped.entries, strict=True):
        # Equal texts may be written differently: a DecimalText has no quotation marks.
        assert dumps(old.resource) == dumps(new.resource)


def test_a_task_carries_the_exact_bytes() -> None:
    original = Original(
        source="lab",
        format=Format.HL7V2,
        payloads=[Payload.from_bytes(b"MSH|\r\xff")],
        encoding="x",
    )
    frames = Frames()
    frames.feed(frame(Task(message_id=7, original=original)))
    assert list(frames) == [Task(message_id=7, original=original)]


@pytest.mark.parametrize(
    "data", [struct.pack(">I", FRAME_BYTES_MAX + 1), struct.pack(">I", 3) + b"abc"]
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    frames = Frames()
    frames.feed(data)
    with pytest.raises(BrokenFrame):
        frames.next()


def test_written_entries_are_those_that_the_long_way_would_make() -> None:
    ins = {"system": f"urn:oid:{TEST_ROOT}", "value": ins_with_key("1650169123001")}
    entries = (
        Entry(resource={"resourceType": "Patient", "id": "p", "identifier": [ins]}),
        Entry(
            resource={
                "resourceType": "Observation",
                "id": "o",
                "subject": {"reference": "Patient/p"},
                "valueQuantity": {"value": DecimalText("1.10")},
            },
            create_only=True,
        ),
    )
    subjects = read_subjects(entries)
    assert isinstance(subjects, Subjects)
    made = write(entries, subjects)
    assert made is not None
    written, renamed = made
    named = rewrite(entries, {"Patient/p": renamed.subject.reference})
    assert written.kept == kept_entries(named)
    assert written.digest == entries_digest(named) == entries_digest(written.entries)
    assert renamed.subject.identifiers == subjects.subject.identifiers
    name = renamed.subject.reference
    assert as_expected({name: name}, frozenset())
    assert not as_expected({name: "Patient/other"}, frozenset())
    assert not as_expected({name: name}, frozenset({name}))

    whole = Answer(
        message_id=1,
        prepared=Reading(
            mapped=Mapped(mapping="m", version="1", digest="d", entries=()),
            subjects=renamed,
            statement=Statement(),
            written=written,
        ),
        seconds=0.1,
    )
    frames = Frames()
    frames.feed(frame(whole))
    assert frames.next() == whole


def test_nothing_is_written_where_the_name_cannot_be_told() -> None:
    local = read_subjects(reading([]).mapped.entries)
    assert isinstance(local, Subjects)
    assert write(reading([]).mapped.entries, local) is None


@dataclass
class Named:
    name: str
    digest: str


def test_other_mappings_or_another_release_have_another_digest() -> None:
    first, second = Named("hl7.oru_r01", "a"), Named("cda.any", "b")
    digests = {
        content_digest([first, second], "1.0"),
        content_digest([first], "1.0"),
        content_digest([first, Named("cda.any", "c")], "1.0"),
        content_digest([first, second], "1.1"),
    }
    assert len(digests) == 4
