"""Send over a real socket and read what came of it over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

from adapters.hl7.sender import MllpClient
from tests.integration.faces.house import House
from tests.integration.hl7.fake_intake import fields


def answers(house: House, *bodies: bytes) -> list[bytes]:
    """The acknowledgements of messages sent one after the other; empty where none is due."""

    async def exchange() -> list[bytes]:
        async with MllpClient(*house.mllp) as client:
            exchanges = [await client.exchange(body) for body in bodies]
            return [b"".join(each.answers) for each in exchanges]

    return asyncio.run(exchange())


def told(answer: bytes) -> tuple[str, str, str]:
    """MSA-1, ERR-3.1 and ERR-5.1 of an acknowledgement; "none" for none."""
    if not answer:
        return "none", "", ""
    return (
        fields(answer, "MSA", 1).decode(),
        fields(answer, "ERR", 3).split(b"^")[0].decode(),
        fields(answer, "ERR", 5).split(b"^")[0].decode(),
    )


def accept(house: House, *bodies: bytes) -> None:
    """Send, demand AA for each, and wait until nothing is on its way."""
    for answer in answers(house, *bodies):
        assert told(answer) == ("AA", "", ""), answer
    house.wait()


def found(house: House, kind: str, **parameters: str) -> list[dict[str, Any]]:
    """The current resources of a search."""
    with house.client() as client:
        answer = client.get(f"/fhir/{kind}", params={"_count": "100", **parameters})
        answer.raise_for_status()
        return [entry["resource"] for entry in answer.json().get("entry", [])]


def of_patient(house: House, kind: str, ins: str, root: str) -> list[dict[str, Any]]:
    """A patient's resources of one type, by INS."""
    patients = found(house, "Patient", identifier=f"urn:oid:{root}|{ins}")
    if not patients:
        return []
    return found(house, kind, patient=f"Patient/{patients[0]['id']}")


def content(house: House, url: str) -> bytes:
    """The bytes behind an attachment's URL."""
    with house.client() as client:
        answer = client.get(f"/fhir/{url}", headers={"Accept": "*/*"})
        answer.raise_for_status()
        return answer.content
