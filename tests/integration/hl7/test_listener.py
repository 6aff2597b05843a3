"""The listener over a real socket: what it answers, in which order, and its limits."""

from __future__ import annotations

import asyncio

import pytest

from adapters.hl7.framing import frame
from gateway.model import Cause, CauseCode, Received
from tests.integration.hl7.fake_intake import Running, adt, fields, running, until

pytestmark = pytest.mark.anyio


async def exchange(run: Running, message: bytes) -> bytes:
    peer = await run.peer()
    await peer.send(frame(message))
    return await peer.answer()


async def test_a_message_is_kept_and_acknowledged() -> None:
    async with running() as run:
        answer = await exchange(run, adt("ID-1"))
        [received] = run.intake.kept
    assert received.payload.data == adt("ID-1")
    assert (received.control_id, received.kind, received.encoding) == ("ID-1", "ADT^A01", "ASCII")
    assert received.refusal is None
    assert received.answer == answer
    assert received.peer.startswith("127.0.0.1:")
    assert [(i.system, i.value, i.type) for i in received.subject] == [
        ("urn:oid:1.2.250.1.213.1.4.10", "279035121518989", "INS"),
        ("urn:ecluse:authority:HOSP", "4711", "PI"),
    ]
    assert fields(answer, "MSA", 1) == b"AA"
    assert fields(answer, "MSA", 2) == b"ID-1"
    assert fields(answer, "MSH", 3) == b"ECLUSE^7.8.9^ISO"
    assert fields(answer, "MSH", 4) == b"DMP"
    assert fields(answer, "MSH", 5) == b"APP^1.2.3^ISO"
    assert fields(answer, "MSH", 6) == b"HOSP^4.5.6^ISO"
    assert fields(answer, "MSH", 9) == b"ACK^A01^ACK"
    assert fields(answer, "MSH", 12) == b"2.5"
    assert b"ERR" not in answer


async def test_no_answer_before_the_commit() -> None:
    async with running() as run:
        run.intake.commit.clear()
        peer = await run.peer()
        await peer.send(frame(adt()))
        await until(lambda: run.intake.submitted)
        with pytest.raises(TimeoutError):
            await peer.answer(timeout=0.2)
        run.intake.commit.set()
        assert fields(await peer.answer(), "MSA", 1) == b"AA"


async def test_pipelined_messages_are_answered_in_order_and_reading_stops_at_the_limit() -> None:
    async with running(frames_in_flight_max=4) as run:
        run.intake.commit.clear()
        peer = await run.peer()
        sent = [f"N{number}" for number in range(300)]
        await peer.send(b"".join(frame(adt(name)) for name in sent))
        await until(lambda: len(run.intake.submitted) == 4)
        await asyncio.sleep(0)
        assert len(run.intake.submitted) == 4
        run.intake.commit.set()
        answers = [fields(await peer.answer(), "MSA", 2).decode() for _ in sent]
        assert answers == sent
        assert [received.control_id for received in run.intake.kept] == sent


async def test_own_control_ids_are_unique_and_short_enough() -> None:
    async with running() as run:
        peer = await run.peer()
        await peer.send(b"".join(frame(adt(f"N{number}")) for number in range(200)))
        ids = [fields(await peer.answer(), "MSH", 10) for _ in range(200)]
    assert len(set(ids)) == 200
    assert all(0 < len(each) <= 20 for each in ids)


async def test_a_duplicate_gets_the_stored_answer() -> None:
    async with running() as run:
        first = await exchange(run, adt("D1"))
        assert await exchange(run, adt("D1")) == first
        assert await exchange(run, adt("D2")) != first


async def test_a_refusal_of_intake_is_told() -> None:
    def opposed(_: Received) -> Cause:
        return Cause(code=CauseCode.FEEDING_OPPOSED, detail="The patient opposes & objects")

    async with running() as run:
        run.intake.refuse = opposed
        answer = await exchange(run, adt("R1"))
    assert fields(answer, "MSA", 1) == b"AE"
    assert fields(answer, "MSA", 2) == b"R1"
    assert fields(answer, "ERR", 3) == b"199^Other HL7 Error^HL70357"
    assert fields(answer, "ERR", 4) == b"E"
    assert fields(answer, "ERR", 8) == b"The patient opposes \\T\\ objects"


@pytest.mark.parametrize("how", ["unavailable", "broken"])
async def test_nothing_kept_means_ar_207(how: str, caplog: pytest.LogCaptureFixture) -> None:
    async with running() as run:
        setattr(run.intake, how, True)
        peer = await run.peer()
        await peer.send(frame(adt("U1")))
        answer = await peer.answer()
        assert (fields(answer, "MSA", 1), fields(answer, "MSA", 2)) == (b"AR", b"U1")
        assert fields(answer, "ERR", 3).startswith(b"207^")
        setattr(run.intake, how, False)
        await peer.send(frame(adt("U1")))
        assert fields(await peer.answer(), "MSA", 1) == b"AA"
    assert "SECRET" not in caplog.text


REFUSALS = [
    (b"", b"AR", b"", b"MSH^1", b"100"),
    (b"PID|1||1\r", b"AR", b"", b"MSH^1", b"100"),
    (b"BTS|1\rMSH|^~\\&|A\r", b"AR", b"", b"MSH^1", b"100"),
    (b"MSH", b"AR", b"", b"MSH^1^1", b"101"),
    (b"MSH|", b"AE", b"", b"MSH^1^2", b"102"),
    (b"MSH|^~\\&|A|B\r", b"AR", b"", b"MSH^1^9", b"101"),
    (adt("X").replace(b"^~\\&", b"^~~\\&", 1), b"AE", b"X", b"MSH^1^2", b"102"),
    (adt(""), b"AE", b"", b"MSH^1^10", b"101"),
    (adt("X" * 200), b"AE", b"X" * 200, b"MSH^1^10", b"102"),
    (adt("X", kind=""), b"AR", b"X", b"MSH^1^9", b"101"),
    (adt("X", kind="QQQ^A01"), b"AR", b"X", b"MSH^1^9^1^1", b"200"),
    (adt("X", kind="ADT^Q77"), b"AR", b"X", b"MSH^1^9^1^2", b"201"),
    (adt("X", kind="ADT"), b"AR", b"X", b"MSH^1^9^1^2", b"201"),
    (adt("X", version="2.9"), b"AR", b"X", b"MSH^1^12", b"203"),
    (adt("X", version=""), b"AR", b"X", b"MSH^1^12", b"101"),
    (adt("X").replace(b"DOE", b"D\xd6E"), b"AE", b"X", b"PID^1^5", b"102"),
    (adt("X", charset="8859/1").replace(b"DOE", b"D\0E"), b"AE", b"X", b"PID^1^5", b"102"),
    (adt("X", charset="EBCDIC").replace(b"DOE", b"D\xd6E"), b"AE", b"X", b"MSH^1^18", b"103"),
    (adt("X") + adt("Y"), b"AE", b"X", b"MSH^2", b"100"),
]


@pytest.mark.parametrize(("message", "code", "control_id", "location", "number"), REFUSALS)
async def test_the_protocol_refuses_and_the_next_message_passes(
    message: bytes, code: bytes, control_id: bytes, location: bytes, number: bytes
) -> None:
    async with running() as run:
        peer = await run.peer()
        await peer.send(frame(message) + frame(adt("NEXT")))
        answer = await peer.answer()
        assert fields(answer, "MSA", 1) == code
        assert fields(answer, "MSA", 2) == control_id
        assert fields(answer, "ERR", 2) == location
        assert fields(answer, "ERR", 3).startswith(number + b"^")
        following = await peer.answer()
        assert (fields(following, "MSA", 1), fields(following, "MSA", 2)) == (b"AA", b"NEXT")
        evidence, accepted = run.intake.kept
    assert evidence.refusal is not None
    assert evidence.payload.data == message
    assert evidence.answer == answer
    assert accepted.refusal is None


async def test_the_offset_of_a_wrong_byte_is_told() -> None:
    message = adt("X").replace(b"DOE", b"D\xd6E")
    async with running() as run:
        answer = await exchange(run, message)
    offset = message.index(b"\xd6")
    assert fields(answer, "ERR", 8) == f"The byte at offset {offset} is not UNICODE UTF-8".encode()


@pytest.mark.parametrize(
    ("charset", "codec", "default"),
    [
        ("UNICODE UTF-8", "utf-8", ""),
        ("8859/1", "latin-1", ""),
        ("ISO-8859-15", "iso8859-15", ""),
        ("windows-1252", "cp1252", ""),
        ("", "utf-8", "UTF-8"),
        ("", "iso8859-15", "8859/15"),
    ],
)
async def test_accents_in_every_character_set(charset: str, codec: str, default: str) -> None:
    text = adt("É1", charset=charset).decode().replace("DOE", "Noël-Élise")
    async with running(charset_default=default) as run:
        answer = await exchange(run, text.encode(codec))
    assert fields(answer, "MSA", 1) == b"AA"
    assert fields(answer, "MSA", 2) == "É1".encode(codec)
    # The answer is read in the character set that it declares.
    assert "É1" in answer.decode(codec)


async def test_no_default_character_set_means_ascii() -> None:
    async with running(charset_default="") as run:
        answer = await exchange(run, adt("X").replace(b"DOE", "É".encode()))
        assert fields(answer, "MSA", 1) == b"AE"


async def test_the_french_version_notation_and_local_events() -> None:
    async with running() as run:
        message = adt("F1", version="2.5^FRA^2.11", kind="ADT^Z99^ADT_Z99")
        answer = await exchange(run, message)
        assert fields(answer, "MSA", 1) == b"AA"
        assert fields(answer, "MSH", 12) == b"2.5^FRA^2.11"
        assert fields(await exchange(run, adt("F2", kind="ZAM^Z01")), "MSA", 1) == b"AR"


async def test_processing_ids_that_are_not_taken() -> None:
    async with running(processing_ids=["P"]) as run:
        answer = await exchange(run, adt("T", processing="T"))
        assert fields(answer, "MSA", 1) == b"AR"
        assert fields(answer, "ERR", 3).startswith(b"202^")
        assert fields(await exchange(run, adt("P")), "MSA", 1) == b"AA"


@pytest.mark.parametrize(("segment", "told"), [(b"ZFA|IO\r", True), (b"ZFB|1\r", False)])
async def test_permission_segments_are_seen(segment: bytes, told: bool) -> None:
    async with running() as run:
        await exchange(run, adt() + segment)
        assert run.intake.kept[0].carries_permission is told


async def test_two_patients_give_no_subject() -> None:
    async with running() as run:
        await exchange(run, adt() + b"PID|2||5^^^HOSP^PI\r")
        assert run.intake.kept[0].subject == ()


async def test_authorities_of_the_source() -> None:
    async with running(authorities={"HOSP": "1.2.3.4"}) as run:
        await exchange(run, adt())
        assert run.intake.kept[0].subject[1].system == "urn:oid:1.2.3.4"


@pytest.mark.parametrize(("version", "kind"), [("2.3", b"ACK"), ("2.4", b"ACK^A01^ACK")])
async def test_an_old_sender_gets_an_error_it_can_read(version: str, kind: bytes) -> None:
    message = adt("O1", version=version, kind="ADT^A01").replace(b"DOE", b"D\xd6E")
    async with running() as run:
        answer = await exchange(run, message)
    assert fields(answer, "MSH", 9) == kind
    assert fields(answer, "MSA", 3).startswith(b"The byte at offset")
    assert fields(answer, "ERR", 1) == b"PID^1^5^102&Data type error&HL70357"


async def test_other_delimiters_are_those_of_the_answer() -> None:
    message = b"MSH#*!/%#APP*1%2#FAC###20240101##ADT*A01#77#P#2.5\rPID#1\r"
    async with running() as run:
        answer = await exchange(run, message)
    assert answer.startswith(b"MSH#*!/%###APP*1%2#FAC#")
    assert b"\rMSA#AA#77\r" in answer
