"""The frames between the gateway and its mapping processes."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mapping import MappingContext
from gateway.mapping_process import serve
from gateway.mapping_wire import (
    FRAME_BYTES_MAX,
    Answer,
    BrokenFrame,
    Frames,
    Opening,
    Task,
    content_digest,
    frame,
)
from gateway.model import Attachment, Cause, CauseCode, Entry, Flag, Format, Mapped, Payload
from gateway.normalise import Normaliser, Original, Reading, Unusable
from gateway.permit import Statement
from gateway.serialise import DecimalText
from gateway.settings import Settings
from gateway.subjects import read_subjects
from gateway.written import name, write


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
    return Reading(
        mapped=mapped,
        subjects=read_subjects(entries),
        statement=Statement(),
        written=write(entries),
    )


def without_entries(made: Reading) -> Reading:
    return replace(made, mapped=replace(made.mapped, entries=()))


@given(
    numbers=st.lists(st.decimals(allow_nan=False, allow_infinity=False).map(lambda d: f"{d:f}")),
    cuts=st.lists(st.integers(min_value=1, max_value=700), min_size=1),
)
def test_answers_come_out_as_they_went_in_however_they_are_cut(
    numbers: list[str], cuts: list[int]
) -> None:
    unusable = Unusable(cause=Cause(code=CauseCode.UNREADABLE, location="MSH-1"))
    made = reading(numbers)
    sent = [
        Answer(message_id=1, prepared=made, seconds=0.25),
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
    assert came == [replace(sent[0], prepared=without_entries(made)), *sent[1:]]
    arrived = came[0].prepared
    # Texts that are equal may be written differently: a DecimalText has no quotation marks.
    assert name(arrived.written, {"Patient/p": "Patient/q"}) == name(
        made.written, {"Patient/p": "Patient/q"}
    )


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


@dataclass(frozen=True)
class Echo:
    """Instead of a normaliser: says in which zone it was told to read."""

    contexts: Mapping[str, MappingContext]

    def normalise(self, original: Original) -> Unusable:
        zone = self.contexts[original.source].zone if self.contexts else ""
        return Unusable(cause=Cause(code=CauseCode.UNREADABLE, location=zone))


def test_a_process_maps_with_what_the_settings_say_now() -> None:
    """The configuration may have been read again since the process was opened."""
    opened = Echo({"lab": MappingContext(source="lab", zone="Europe/Paris")})
    original = Original(source="lab", format=Format.HL7V2, payloads=[Payload.from_bytes(b"M")])
    tasks = [
        Task(message_id=1, original=original),
        Task(message_id=2, original=original, context=MappingContext(zone="Indian/Reunion")),
        Task(message_id=3, original=original),
    ]
    read, write = os.pipe()
    os.write(write, frame(Opening(settings=Settings(), cpu_seconds=10.0)))
    for task in tasks:
        os.write(write, frame(task))
    os.close(write)
    out = io.BytesIO()
    serve(read, out, lambda _: (cast("Normaliser", opened), "content"))
    os.close(read)
    frames = Frames()
    frames.feed(out.getvalue())
    zones = [each.prepared.cause.location for each in frames if isinstance(each, Answer)]
    assert zones == ["", "Indian/Reunion", ""]
