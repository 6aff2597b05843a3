"""A FHIR server elsewhere that is in trouble now and then, and that writes down what it was given.

The senders of the source ``ward`` have their messages delivered to it as well as to the record. It
refuses some of them (poison at the head of a patient's lane), for good.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from tests.chaos.relay import Relay
from tests.chaos.verdict import Verdict, values_of
from tests.fhir_server import FhirServer

SOURCE = "ward"
NAME = "region"
REFUSED_EVERY = 40
"""A result whose value is a multiple of this is refused."""

_REMEMBERED = 100


class _Newest(list[Any]):
    """A list of what came last: a run of half an hour would fill the memory otherwise."""

    def append(self, item: Any) -> None:
        super().append(item)
        del self[:-_REMEMBERED]


class Region(FhirServer):
    """``values`` are those that a patient's observation had, the oldest first; ``receipts`` how
    often each delivery was applied."""

    def __init__(self) -> None:
        super().__init__()
        self.relay = Relay(self.server.server_port)
        self.values: dict[str, list[int]] = {}
        self.receipts: Counter[str] = Counter()
        self.puts = _Newest()
        self.bundles = _Newest()
        self.requests = _Newest()
        self.headers = _Newest()
        self.refuses = _refused

    @property
    def url(self) -> str:
        """Its base URL, by way of the relay."""
        return f"http://127.0.0.1:{self.relay.port}/fhir"

    def close(self) -> None:
        """Stop serving."""
        self.relay.close()
        super().close()

    def put(self, reference: str, resource: dict[str, Any]) -> int:
        """Keep a resource, and what the ledger wants of it."""
        kind = resource["resourceType"]
        if kind == "Provenance":
            self.receipts[reference] += 1
            # That it is there is all that anybody asks for.
            self.resources[reference] = (1, {"resourceType": kind})
            return 201
        before = self.resources.get(reference, (0, None))[0]
        status = super().put(reference, resource)
        if kind == "Observation" and self.resources[reference][0] != before:
            value = int(resource["valueQuantity"]["value"])
            self.values.setdefault(resource["subject"]["reference"], []).append(value)
        return status

    def history(self) -> dict[str, list[int]]:
        """What ``values`` holds, by the patient's INS."""
        return {
            str(identifier["value"]): self.values.get(reference, [])
            for reference, (_, resource) in self.resources.items()
            if reference.startswith("Patient/")
            for identifier in resource.get("identifier", ())
        }


def _refused(bundle: dict[str, Any]) -> bool:
    values = [
        int(entry["resource"]["valueQuantity"]["value"])
        for entry in bundle["entry"]
        if entry["resource"]["resourceType"] == "Observation"
    ]
    return not all(_taken(value) for value in values)


def _taken(value: int) -> bool:
    return value % REFUSED_EVERY != 0


def judge_region(region: Region, ledger: Mapping[str, int], late: Collection[str] = ()) -> Verdict:
    """What arrived there, against how many messages of each patient were acknowledged (as
    ``verdict.judge`` does). A delivery that was applied more than once is doubled, whether or
    not that changed anything."""
    verdict, history = Verdict(), region.history()
    for patient, acknowledged in ledger.items():
        verdict.take(
            patient, acknowledged, history.get(patient, []), _taken, values_of(patient, late)
        )
    twice = sum(count - 1 for count in list(region.receipts.values()))
    if twice:
        verdict.doubled += twice
        verdict.where.append(f"{twice} deliveries were applied more than once")
    return verdict


def refused_of(ledger: Mapping[str, int]) -> int:
    """How many of the acknowledged messages the region refuses."""
    return sum(acknowledged // REFUSED_EVERY for acknowledged in ledger.values())
