"""A source's profile and fallbacks, over the wire: refused with its ERR, or taken and flagged."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.hl7.framing import frame
from adapters.hl7.profile_files import ProfileError
from gateway.model import CauseCode
from tests.integration.hl7.fake_intake import Running, adt, fields, running

pytestmark = pytest.mark.anyio

PROFILE = """
profile: admissions
messages:
  ADT:
    PV1-2: {required: true, values: [I, O, E]}
    PID-5.1: {length: ..10, note: Le nom est trop long}
    PID-19: {forbidden: true, severity: warning}
"""


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "admissions.profile.yaml"
    path.write_text(PROFILE, encoding="utf-8")
    return path


async def exchange(run: Running, message: bytes) -> bytes:
    peer = await run.peer()
    await peer.send(frame(message))
    return await peer.answer()


async def test_what_violates_the_profile_is_refused_with_its_err(profile: Path) -> None:
    async with running(profile=profile) as run:
        assert fields(await exchange(run, adt("OK")), "MSA", 1) == b"AA"
        answer = await exchange(run, adt("CLASS").replace(b"PV1|1|I", b"PV1|1|X"))
        assert fields(answer, "MSA", 1) == b"AE"
        assert fields(answer, "MSA", 2) == b"CLASS"
        assert fields(answer, "ERR", 2) == b"PV1^1^2"
        assert fields(answer, "ERR", 3) == b"103^Table value not found^HL70357"
        noted = await exchange(run, adt("NAME").replace(b"DOE", b"A" * 11))
        assert fields(noted, "ERR", 2) == b"PID^1^5^1^1"
        assert fields(noted, "ERR", 8) == b"Le nom est trop long (profile admissions)"
        taken = run.intake.kept
    assert [each.refusal and each.refusal.code for each in taken] == [
        None, CauseCode.PROFILE_VIOLATED, CauseCode.PROFILE_VIOLATED,
    ]  # fmt: skip
    assert all("A" * 11 not in str(each.refusal) for each in taken)


async def test_what_violates_the_profile_is_only_flagged(profile: Path) -> None:
    async with running(profile=profile, profile_mode="flag") as run:
        answer = await exchange(run, adt("CLASS").replace(b"PV1|1|I", b"PV1|1|X"))
        assert fields(answer, "MSA", 1) == b"AA"
        await exchange(run, adt("OK"))
        flagged, fine = run.intake.kept
    assert flagged.refusal is None
    assert flagged.attributes["profile"] == "admissions: PV1-2 103"
    assert "profile" not in fine.attributes


async def test_the_protocol_refuses_first(profile: Path) -> None:
    async with running(profile=profile) as run:
        answer = await exchange(run, adt("T", kind="ZZZ^Z01").replace(b"PV1|1|I", b"PV1|1|X"))
        assert fields(answer, "ERR", 3).startswith(b"200^")


async def test_a_profile_that_cannot_be_used_opens_no_door(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text("profile: x\nmessages:\n  ADT:\n    PVX-2: {required: yes}\n")
    with pytest.raises(ProfileError, match=r"wrong\.yaml:4:5"):
        async with running(profile=path):
            raise AssertionError("it must not start")


async def test_declared_fallbacks_and_nothing_else() -> None:
    windows = adt("W", charset="UNICODE UTF-8").replace(b"DOE", b"\x8cil \x80")
    async with running() as run:
        answer = await exchange(run, windows)
        assert fields(answer, "MSA", 1) == b"AE"
        assert b"offset %d " % windows.index(b"\x8c") in answer
    async with running(charset_fallbacks=["8859/15", "WINDOWS-1252"]) as run:
        assert fields(await exchange(run, windows), "MSA", 1) == b"AA"
        utf_8 = adt("U", charset="UNICODE UTF-8").replace(b"DOE", "Œil €".encode())
        assert fields(await exchange(run, utf_8), "MSA", 1) == b"AA"
        fallen, declared = run.intake.kept
    assert fallen.encoding == "WINDOWS-1252"
    assert fallen.attributes["character_set"] == "fallback WINDOWS-1252"
    assert declared.encoding == "UNICODE UTF-8"
    assert "character_set" not in declared.attributes


async def test_switched_character_sets_over_the_wire() -> None:
    name = "山田^太郎".encode("iso2022_jp")
    message = adt("JP", charset="~ISO IR87||ISO 2022-1994").replace(b"DOE^JOHN", name)
    async with running() as run:
        answer = await exchange(run, message)
        [received] = run.intake.kept
    assert fields(answer, "MSA", 1) == b"AA"
    assert received.encoding == "ASCII~ISO IR87"
    assert received.payload.data == message


async def test_utf_16_is_refused_in_words_that_help() -> None:
    async with running() as run:
        answer = await exchange(run, b"M\0S\0H\0|\0^\0")
    assert fields(answer, "MSA", 1) == b"AR"
    assert b"UTF-16, which MLLP cannot carry" in answer
