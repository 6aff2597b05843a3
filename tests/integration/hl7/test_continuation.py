"""Fragments over a socket, through the real journal, the real stages and a restart."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI

from adapters.doors.http import intake_router
from adapters.hl7.sender import MllpClient
from gateway.bootstrap import Gateway
from gateway.journal import deadletters, messages
from gateway.journal.states import MessageState
from gateway.journal.values import DeadLetter, DeadLetterFilter, Message, MessageFilter
from gateway.settings import load_settings
from tests.eventually import eventually
from tests.integration.faces.messages import INS, results
from tests.integration.hl7.fake_intake import fields
from tests.unit.hl7 import transmissions

pytestmark = pytest.mark.anyio

CONFIGURATION = """
state: {folder}/state
http: {{listen: '127.0.0.1:0'}}
identity: {{accept_test_roots: true}}
sources:
  - {{name: lab, type: mllp, listen: '127.0.0.1:0', continuation_timeout_seconds: {timeout}}}
"""
OTHER_DOORS = """
  - {{name: strict, type: mllp, listen: '127.0.0.1:0', profile: {folder}/strict.profile.yaml}}
  - {{name: lenient, type: mllp, listen: '127.0.0.1:0', profile: {folder}/strict.profile.yaml,
     profile_mode: flag}}
  - {{name: body, type: hl7-http}}
  - {{name: drop, type: hl7-folder, path: '{folder}/drop', poll_seconds: 0.02, settle_seconds: 0.05}}
"""
PROFILE = """
profile: whole
messages:
  ORU^R01:
    OBX: {{required: true, occurs: "{least}..9"}}
"""
GLUCOSE, POTASSIUM = "2345-7^Glucose", "2823-3^Potassium"


@asynccontextmanager
async def gateway(folder: Path, timeout: float = 60, sources: str = "") -> AsyncIterator[Gateway]:
    configuration = folder / "ecluse.yaml"
    text = (CONFIGURATION + sources).format(folder=folder, timeout=timeout)
    configuration.write_text(text, encoding="utf-8")
    built = await asyncio.to_thread(Gateway.build, load_settings(configuration))
    await built.start()
    try:
        yield built
    finally:
        await built.stop()


async def send(
    gateway: Gateway, *fragments: bytes, source: str = "lab"
) -> list[tuple[bytes, bytes]]:
    """MSA-1 and MSA-2 of each answer."""
    host, _, port = gateway.addresses()[source].rpartition(":")
    async with MllpClient(host, int(port)) as client:
        answers = [await client.send(each) for each in fragments]
    return [(fields(each, "MSA", 1), fields(each, "MSA", 2)) for each in answers]


def kept(gateway: Gateway, control_id: str) -> Message:
    with gateway.journal.read() as connection:
        [found] = messages.page(connection, MessageFilter(control_id=control_id), limit=2)
    return found


async def reaches(gateway: Gateway, control_id: str, state: MessageState) -> None:
    async with asyncio.timeout(30):
        while kept(gateway, control_id).state is not state:
            await asyncio.sleep(0.02)


def cut(whole: bytes, name: str, *positions: int) -> list[bytes]:
    """A message in parts, each with its own control id, cut at these places of its body. Where
    that is within a segment, ADD says so and goes on."""
    head, _, body = whole.partition(b"\r")
    made = []
    edges = [0, *positions, len(body)]
    for number, (begin, end) in enumerate(itertools.pairwise(edges), 1):
        parts = head.split(b"|")
        parts[9] = f"{name}{number}".encode()
        parts += [b""] * (14 - len(parts))
        parts[13] = f"P-{name}{number - 1}".encode() if number > 1 else b""
        content = body[begin:end]
        if begin and body[begin - 1 : begin] != b"\r":
            content = b"ADD|" + content
        if end < len(body):
            inside = body[end - 1 : end] != b"\r"
            content += (b"\rADD\r" if inside else b"") + f"DSC|P-{name}{number}|F\r".encode()
        made.append(b"|".join(parts) + b"\r" + content)
    return made


def fragments(name: str = "F", ins: str = INS) -> list[bytes]:
    """A report in three: cut between two segments, and within the last OBX."""
    whole = results(f"{name}1", f"B{name}", {GLUCOSE: "6.10", POTASSIUM: "4.1"}, ins=ins)
    body = whole.partition(b"\r")[2]
    second_obx = body.index(b"\rOBX", body.index(b"\rOBX") + 4) + 1
    return cut(whole, name, second_obx, body.index(b"Potassium", second_obx) + 3)


async def test_fragments_are_acknowledged_each_and_delivered_as_one_even_after_a_restart(
    tmp_path: Path,
) -> None:
    first, second, third = fragments()
    async with gateway(tmp_path) as running:
        assert await send(running, first, second) == [(b"AA", b"F1"), (b"AA", b"F2")]
        assert kept(running, "F1").state is MessageState.GATHERING
        assert kept(running, "F2").group_key == kept(running, "F1").group_key
    async with gateway(tmp_path) as running:
        assert await send(running, third) == [(b"AA", b"F3")]
        await reaches(running, "F3", MessageState.DELIVERED)
        assert kept(running, "F1").state is kept(running, "F2").state is MessageState.GATHERED
        carrier = kept(running, "F3")
        assert kept(running, "F1").carrier_id == carrier.id
        with running.journal.read() as connection:
            mapped = messages.normalised(connection, carrier.id)
        assert mapped is not None
        resources = [entry.resource for entry in mapped.entries]
        observations = [each for each in resources if each["resourceType"] == "Observation"]
        values = sorted(str(each["valueQuantity"]["value"]) for each in observations)
        assert values == ["4.1", "6.10"]
        texts = [each["code"]["coding"][0].get("display", "") for each in observations]
        assert any("Potassium" in text for text in texts)
        # All of it sent again is known, and gets the answers of the first time.
        assert await send(running, first, second, third) == [
            (b"AA", b"F1"), (b"AA", b"F2"), (b"AA", b"F3"),
        ]  # fmt: skip
        assert kept(running, "F3").arrivals == 2


async def test_an_incomplete_message_is_dead_after_its_time_and_lives_when_it_is_completed(
    tmp_path: Path,
) -> None:
    first, second, third = fragments()
    async with gateway(tmp_path, timeout=0.3) as running:
        await send(running, first, second)
        await reaches(running, "F2", MessageState.DEAD)
        with running.journal.read() as connection:
            [letter] = deadletters.page(connection, DeadLetterFilter(), limit=2)
        assert "fragment 2 did not come" in letter.cause.detail
        # The last one alone comes too late, and its sender is told so.
        assert await send(running, third) == [(b"AE", b"F3")]
        # The whole sent again: two parts are known, the third completes them.
        assert await send(running, first, second, third) == [
            (b"AA", b"F1"), (b"AA", b"F2"), (b"AA", b"F3"),
        ]  # fmt: skip
        async with asyncio.timeout(30):
            while True:
                with running.journal.read() as connection:
                    found = messages.page(connection, MessageFilter(control_id="F3"), limit=5)
                if MessageState.DELIVERED in {each.state for each in found}:
                    break
                await asyncio.sleep(0.02)


@asynccontextmanager
async def serving(gateway: Gateway) -> AsyncIterator[str]:
    """The gateway's HTTP source on a port; its URL."""
    app = FastAPI()
    app.include_router(intake_router("hl7", *gateway.sources.over_http()))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = asyncio.create_task(server.serve(sockets=[listener]))
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/intake/hl7/body"
        server.should_exit = True
        await task


def letter_of(gateway: Gateway, message: Message) -> DeadLetter:
    with gateway.journal.read() as connection:
        found = deadletters.page(connection, DeadLetterFilter(), limit=20)
    return next(each for each in found if each.message_id == message.id)


async def test_files_and_bodies_are_joined_and_what_is_joined_is_held_against_the_profiles(
    tmp_path: Path,
) -> None:
    """One gateway for all: a folder, HTTP, a site's profile, the profile in MSH-21."""
    profile = tmp_path / "strict.profile.yaml"
    profile.write_text(PROFILE.format(least=2), encoding="utf-8")
    async with gateway(tmp_path, sources=OTHER_DOORS) as running:
        # By HTTP, a body each; the second and the third together in one file with others.
        first, second, third = fragments("H")
        async with serving(running) as url, httpx2.AsyncClient(verify=False) as client:
            for bodies in ([first], [second, results("ALONE", "BA", {GLUCOSE: "5.0"}), third]):
                answer = await client.post(
                    url, content=b"".join(bodies), headers={"Content-Type": "application/hl7-v2"}
                )
                assert answer.status_code == 200
                assert answer.content.count(b"MSA|AA|") == len(bodies)
        await reaches(running, "H3", MessageState.DELIVERED)
        assert kept(running, "H1").state is kept(running, "H2").state is MessageState.GATHERED
        assert kept(running, "ALONE").state is MessageState.DELIVERED

        # By folder, in the order of the names.
        incoming = Path(running.addresses()["drop"])
        for number, fragment in enumerate(fragments("D"), 1):
            (incoming / f"{number}.hl7").write_bytes(fragment)
            await asyncio.to_thread(
                eventually, lambda n=number: (incoming.parent / f"accepted/{n}.hl7.ack").exists()
            )
        await reaches(running, "D3", MessageState.DELIVERED)

        # A site's profile: no part has two OBX, the whole has.
        assert await send(running, *fragments("S"), source="strict") == [
            (b"AA", b"S1"), (b"AA", b"S2"), (b"AA", b"S3"),
        ]  # fmt: skip
        await reaches(running, "S3", MessageState.DELIVERED)
        short = cut(results("T1", "BT", {GLUCOSE: "6.1"}), "T", 300)
        await send(running, *short, source="strict")
        await reaches(running, "T2", MessageState.DEAD)
        cause = letter_of(running, kept(running, "T2")).cause
        assert (cause.code.value, cause.protocol_code) == ("profile-violated", "198")
        await send(running, *short, source="lenient")
        await ends_flagged(running, "lenient", "T2", MessageState.DELIVERED, ["whole: OBX 198"])

        # MSH-14 does not let a whole message past the profile.
        whole = results("W1", "BW", {GLUCOSE: "6.1"})
        head, _, body = whole.partition(b"\r")
        parts = head.split(b"|") + [b""] * 4
        parts[13] = b"OWN-USE"
        answer = await send(running, b"|".join(parts) + b"\r" + body, source="strict")
        assert answer == [(b"AE", b"W1")]

        # The profile of the CI-SIS, named in MSH-21.
        wrong = transmissions.message("ORU", statuses=("C",), control_id="X")
        for at in (400, wrong.index(b"Base64^") + 200):
            name = f"X{at}-"
            await send(running, *cut(wrong, name, at))
            await reaches(running, f"{name}2", MessageState.DEAD)
            cause = letter_of(running, kept(running, f"{name}2")).cause
            assert (cause.code.value, cause.protocol_code) == ("content-mismatch", "199")
            assert cause.location == "ORC-1"


async def ends_flagged(
    gateway: Gateway, source: str, control_id: str, state: MessageState, told: list[str]
) -> None:
    """One message of a source reaches its end with these findings of the profile."""
    async with asyncio.timeout(30):
        while True:
            with gateway.journal.read() as connection:
                found = messages.page(
                    connection, MessageFilter(control_id=control_id, source=source), limit=2
                )
            if [each.state for each in found] == [state]:
                break
            await asyncio.sleep(0.02)
    with gateway.journal.read() as connection:
        message = messages.get(connection, found[0].id)
    assert message is not None
    assert [each["detail"] for each in message.flags if each["code"] == "profile"] == told
