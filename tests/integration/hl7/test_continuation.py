"""Fragments over a socket, through the real journal, the real stages and a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from adapters.hl7.sender import MllpClient
from gateway.bootstrap import Gateway
from gateway.journal import deadletters, messages
from gateway.journal.states import MessageState
from gateway.journal.values import DeadLetterFilter, Message, MessageFilter
from gateway.settings import load_settings
from tests.integration.faces.messages import results
from tests.integration.hl7.fake_intake import fields

pytestmark = pytest.mark.anyio

CONFIGURATION = """
state: {folder}/state
http: {{listen: '127.0.0.1:0'}}
identity: {{accept_test_roots: true}}
sources:
  - {{name: lab, type: mllp, listen: '127.0.0.1:0', continuation_timeout_seconds: {timeout}}}
"""
GLUCOSE, POTASSIUM = "2345-7^Glucose", "2823-3^Potassium"


@asynccontextmanager
async def gateway(folder: Path, timeout: float = 60) -> AsyncIterator[Gateway]:
    configuration = folder / "ecluse.yaml"
    configuration.write_text(CONFIGURATION.format(folder=folder, timeout=timeout), encoding="utf-8")
    built = await asyncio.to_thread(Gateway.build, load_settings(configuration))
    await built.start()
    try:
        yield built
    finally:
        await built.stop()


async def send(gateway: Gateway, *fragments: bytes) -> list[tuple[bytes, bytes]]:
    """MSA-1 and MSA-2 of each answer."""
    host, _, port = gateway.addresses()["lab"].rpartition(":")
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


def fragments() -> tuple[bytes, bytes, bytes]:
    """A report in three: cut between two segments, and within the last OBX."""
    whole = results("F1", "B1", {GLUCOSE: "6.10", POTASSIUM: "4.1"})
    head, _, body = whole.partition(b"\r")
    first_obx = body.index(b"\rOBX") + 1
    second_obx = body.index(b"\rOBX", first_obx) + 1
    inside = body.index(b"Potassium", second_obx) + 3

    def part(control_id: bytes, pointer: bytes, content: bytes) -> bytes:
        parts = head.split(b"|")
        parts[9] = control_id
        parts += [b""] * (14 - len(parts))
        parts[13] = pointer
        return b"|".join(parts) + b"\r" + content

    return (
        part(b"F1", b"", body[:second_obx] + b"DSC|P-1|F\r"),
        part(b"F2", b"P-1", body[second_obx:inside] + b"\rADD\rDSC|P-2|F\r"),
        part(b"F3", b"P-2", b"ADD|" + body[inside:]),
    )


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
