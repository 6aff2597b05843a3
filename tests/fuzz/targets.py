"""What is fuzzed: framing, reader, acknowledgement, archives, submissions. Each takes any bytes and must never
fail."""

from __future__ import annotations

import contextlib
import io
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from lxml import etree

from adapters.cda.transmitted import CdaHeaders
from adapters.ebrim.faults import Refused
from adapters.hl7 import conformance
from adapters.hl7.acknowledge import Acknowledger
from adapters.hl7.answer import acknowledges, control_id_of
from adapters.hl7.charset import UTF_8
from adapters.hl7.compiling import compile_path
from adapters.hl7.envelope import Rules, examine
from adapters.hl7.framing import END, START, Frame, FrameReader, Junk, Oversized, Truncated, frame
from adapters.hl7.header import read_header
from adapters.hl7.message import Message
from adapters.hl7.outline import GroupOutline, SegmentOutline, outline, undecodable, visible
from adapters.hl7.paths import parse
from adapters.hl7.requirements import Requirements
from adapters.hl7.scopes import MessageScope
from adapters.hl7.settings import MllpSourceSettings
from adapters.hl7.site_profiles import CompiledProfile
from adapters.xdm.archive import Archive, ArchiveLimits
from adapters.xdm.contents import documents_of
from adapters.xds.answers import registry_response
from adapters.xds.catalogue import Memory
from adapters.xds.faults import SoapFault
from adapters.xds.incoming import Bounds, Expected, Incoming
from adapters.xds.provide import Providing, problem_of
from adapters.xds.settings import XdsSourceSettings
from adapters.xds.soap import read_envelope, write_fault
from adapters.xds.writing import Describing
from gateway.model import Cause, CauseCode
from gateway.ports import Unreadable

FRAME_BYTES_MAX = 4096
NOW = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
RULES = Rules.of(
    MllpSourceSettings(name="fuzz", charset_fallbacks=("WINDOWS-1252",), charset_default="8859/15")
)
ARCHIVE_LIMITS = ArchiveLimits(50, 1 << 20, 2 << 20, 100)
HEADERS = CdaHeaders()
ACKNOWLEDGER = Acknowledger(ZoneInfo("Europe/Paris"))
PATHS = [
    compile_path(parse(path))
    for path in (
        "MSH-9.2",
        "PID-3(*).4.2",
        "PID-3(5=INS).1",
        "OBX(* 2=NM)-5",
        "ZZZ-1",
        "OBX(2)-3.1",
    )
]
REFUSAL = Cause(
    code=CauseCode.CHARACTER_SET,
    detail="Né ailleurs | ^~\\&",
    location="PID-5",
    protocol_code="102",
)


def framing(data: bytes) -> None:
    """A stream in pieces: the same events as byte by byte, nothing kept beyond the limits."""
    step = data[0] + 1 if data else 1
    whole = FrameReader(FRAME_BYTES_MAX, kept_bytes_max=64)
    pieces = FrameReader(FRAME_BYTES_MAX, kept_bytes_max=64)
    events = [*whole.receive(data), *whole.end()]
    other = []
    for position in range(0, len(data), step):
        other += pieces.receive(data[position : position + step])
        assert pieces.buffered <= FRAME_BYTES_MAX + step
    other += pieces.end()
    frames = [event for event in events if isinstance(event, Frame)]
    assert frames == [event for event in other if isinstance(event, Frame)]
    assert all(isinstance(event, Frame | Junk | Oversized | Truncated) for event in events)
    for each in frames:
        assert len(each.payload) <= FRAME_BYTES_MAX
        assert START not in each.payload
        if END not in each.payload:
            again = FrameReader(FRAME_BYTES_MAX)
            assert again.receive(frame(each.payload)) == [each]


def reading(data: bytes) -> None:
    """A message as intake, the mapping, the commands and a profile read it."""
    envelope = examine(data, RULES)
    assert envelope.refusal is not None or envelope.charset is not None
    try:
        if envelope.refusal is None and envelope.charset is not None:
            # What is taken at the door can be read later, in the set that was recorded.
            message = Message.read(data, encoding=envelope.charset.name)
            assert message.raw is data
        else:
            message = Message.show(data)
    except Unreadable:
        assert envelope.refusal is not None
        return
    scope = MessageScope(message)
    for read in PATHS:
        for value in read(scope):
            assert isinstance(value.text, str)
            assert isinstance(value.path, str)
    scope.reading_flags()
    count = 0
    stack: list[GroupOutline | SegmentOutline] = [outline(scope)]
    while stack:
        each = stack.pop()
        if isinstance(each, GroupOutline):
            stack += each.content
        else:
            count += 1
            assert 0 <= each.offset <= len(data)
            visible(each.fields[-1].written if each.fields else "")
    assert count == len(message.segments)
    undecodable(message)
    for finding in conformance.check(scope):
        assert finding.code
        assert finding.text.isprintable() or "‹" not in finding.text
    Requirements(PROFILE, "flag").judge(data, UTF_8.name)


def acknowledging(data: bytes) -> None:
    """Whatever came, its answer is a message, fits a block and names the control id."""
    envelope = examine(data, RULES)
    answers = [ACKNOWLEDGER.refuse(envelope.header, envelope.charset, NOW, REFUSAL)]
    if envelope.refusal is not None:
        answers.append(
            ACKNOWLEDGER.refuse(envelope.header, envelope.charset, NOW, envelope.refusal)
        )
    if envelope.refusal is None and envelope.header is not None and envelope.charset is not None:
        answers.append(ACKNOWLEDGER.accept(envelope.header, envelope.charset, NOW))
    clean = START not in data and END not in data
    for answer in answers:
        _, header = read_header(answer)
        assert header.message_type()[0] == "ACK"
        assert answer.endswith(b"\r")
        if clean:
            [event] = FrameReader().receive(frame(answer))
            assert event == Frame(answer)
        if envelope.refusal is None:
            assert acknowledges(answer, control_id_of(data))


def unpacking(data: bytes) -> None:
    """An archive of XDM: taken, or refused with words that hold no control characters."""
    said = ""
    try:
        archive = Archive.open(io.BytesIO(data), ARCHIVE_LIMITS)
        with contextlib.closing(archive):
            for each in documents_of(archive):
                assert len(each.data) == each.entry.size <= ARCHIVE_LIMITS.file_bytes_max
                with contextlib.suppress(Unreadable):
                    HEADERS.header(each.data)
    except Refused as refused:
        said = f"{refused.cause.detail} {refused.cause.location}"
    assert said.isprintable()


class _Nothing:
    """A registry in which there is nothing."""

    def at_one_time(self) -> AbstractContextManager[None]:
        return nullcontext()

    def knows(self, patient: object) -> bool:
        return True

    def known(self, source: str, control_ids: object) -> dict[str, frozenset[str]]:
        return {}

    def by_id(self, ids: object) -> tuple[()]:
        return ()

    def by_identifier(self, identifiers: object) -> tuple[()]:
        return ()

    def submission(self, unique_id: str) -> None:
        return None

    def objects(self, ids: object) -> tuple[()]:
        return ()

    def object_ids(self, kind: object, unique_ids: object) -> dict[str, str]:
        return {}

    def replaced(self, ids: object, types: object) -> tuple[()]:
        return ()

    def associations(self, ids: object, *, limit: int) -> tuple[()]:
        return ()


XDS = XdsSourceSettings(name="fuzz", repository_unique_id="2.999.1.43")
DESCRIBING = Describing(repository="2.999.1.43", home="", authorities=(), schemes={})
PROVIDING = Providing(XDS, _Nothing(), DESCRIBING, HEADERS, Memory())  # type: ignore[arg-type]
MTOM = (
    'multipart/related; type="application/xop+xml"; boundary="MIME_b"; start="<root@test>"; '
    'start-info="application/soap+xml"'
)
BOUNDS = Bounds(request=1 << 20, envelope=1 << 19, document=1 << 19, memory=1 << 20, parts=20)


def submitting(data: bytes) -> None:
    """A package of MTOM with a submission: understood, or refused with words that hold no
    control characters and by a fault that is XML."""
    said = ""
    incoming = Incoming(Path("nowhere"), Expected.by(MTOM), BOUNDS)
    try:
        incoming.feed(data)
        incoming.finish()
        envelope = incoming.envelope()
        assert envelope is not None or incoming.head()
        if envelope is not None:
            message = read_envelope(envelope.read(), bytes_max=BOUNDS.envelope)
            submission = PROVIDING.understood(message.body, incoming.parts, [])
            assert submission.documents
            assert all(each.payload.size for each in submission.documents)
    except Refused as refused:
        said = f"{refused.cause.detail} {refused.cause.location}"
        registry_response([problem_of(refused)])
    except SoapFault as fault:
        said = f"{fault.cause.detail} {fault.cause.location}"
        etree.fromstring(write_fault(fault)[0])
    assert said.isprintable()


def _profile() -> CompiledProfile:
    from adapters.hl7.site_profiles import load_profile
    from tests.conftest import REPOSITORY

    loaded = load_profile(REPOSITORY / "docs" / "examples" / "laboratory.profile.yaml")
    strict = loaded.profile.model_copy(update={"grammar": True})
    return CompiledProfile(strict, loaded._rules)


PROFILE = _profile()
TARGETS = {
    "framing": framing,
    "reading": reading,
    "acknowledging": acknowledging,
    "unpacking": unpacking,
    "submitting": submitting,
}
