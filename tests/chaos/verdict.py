"""What the record holds, against what the senders know was acknowledged."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.demo.people import TEST_ROOT
from tests.acceptance.gateway_process import GatewayProcess


@dataclass
class Verdict:
    """Counts over all patients; ``where`` names the first few patients that show a fault."""

    acknowledged: int = 0
    in_the_record: int = 0
    lost: int = 0
    doubled: int = 0
    out_of_order: int = 0
    where: list[str] = field(default_factory=list)

    @property
    def faultless(self) -> bool:
        """Whether everything is there once, in its order."""
        return not (self.lost or self.doubled or self.out_of_order or self.where)

    def take(
        self,
        patient: str,
        acknowledged: int,
        values: Sequence[int],
        wanted: Callable[[int], bool] = lambda _value: True,
        late: Container[int] = (),
    ) -> None:
        """One patient: ``values`` are those of the observation's versions, the oldest first.

        A message may have been kept without its answer having been read: so there may be
        one value more than was acknowledged, the last one sent. ``wanted`` says which of
        them belong there; ``late`` are those that went when later ones were there already, so
        that they may have changed nothing any more.
        """
        due = {value for value in range(1, acknowledged + 1) if wanted(value)}
        lost = {value for value in due - set(values) if value not in late}
        doubled = sum(count - 1 for count in Counter(values).values())
        in_time = [value for value in values if value not in late]
        disorder = sum(1 for before, after in itertools.pairwise(in_time) if after < before)
        invented = [
            value for value in values if not 1 <= value <= acknowledged + 1 or not wanted(value)
        ]
        self.acknowledged += len(due)
        self.in_the_record += len(values)
        self.lost += len(lost)
        self.doubled += doubled
        self.out_of_order += disorder
        if (lost or doubled or disorder or invented) and len(self.where) < 5:
            self.where.append(
                f"{patient}: {acknowledged} acknowledged, lost {sorted(lost)[:5]}, "
                f"{doubled} doubled, {disorder} out of order, never sent {invented[:5]}"
            )


def history(gateway: GatewayProcess, patient: str) -> tuple[list[int], int]:
    """The values of the patient's observation in the order in which the record took them, and the
    one that holds now."""
    found = gateway.get("/fhir/Patient", identifier=f"urn:oid:{TEST_ROOT}|{patient}")
    if not found.get("entry"):
        return [], 0
    (entry,) = found["entry"]
    observations = gateway.get("/fhir/Observation", patient=entry["resource"]["id"])
    (observation,) = observations["entry"]
    versions: dict[int, int] = {}
    path: str | None = f"/fhir/Observation/{observation['resource']['id']}/_history?_count=500"
    while path:
        bundle = gateway.get(path)
        for item in bundle["entry"]:
            resource = item["resource"]
            version = int(resource["meta"]["versionId"])
            versions[version] = int(resource["valueQuantity"]["value"])
        following = [link["url"] for link in bundle.get("link", []) if link["relation"] == "next"]
        path = following[0].removeprefix(gateway.url) if following else None
    now = int(observation["resource"]["valueQuantity"]["value"])
    return [versions[version] for version in sorted(versions)], now


def judge(
    gateway: GatewayProcess, ledger: Mapping[str, int], late: Collection[str] = ()
) -> Verdict:
    """Read every patient's history; ``ledger`` is how many messages of each were acknowledged,
    ``late`` the control ids of those that went when later ones were there."""
    verdict = Verdict()
    for patient, acknowledged in ledger.items():
        values, now = history(gateway, patient)
        if values or acknowledged:
            verdict.take(patient, acknowledged, values, late=values_of(patient, late))
        if values and now != max(values):
            verdict.out_of_order += 1
            verdict.where.append(f"{patient}: {now} holds, not the latest, {max(values)}")
    return verdict


def values_of(patient: str, control_ids: Collection[str]) -> frozenset[int]:
    """The values of a patient's messages that are among these."""
    parts = [each.partition("-") for each in control_ids]
    return frozenset(int(value) for who, _, value in parts if who == patient)


def account(gateway: GatewayProcess) -> list[str]:
    """What does not add up in the gateway's own ledger, source by source; empty when all does."""
    wrong = []
    for name, line in gateway.ledger().items():
        came = line["accepted"] + line["refused"] + line["duplicates"]
        stands = sum(
            line[key] for key in ("pending", "delivered", "held", "unmapped", "dead", "discarded")
        )
        if line["received"] != came or line["accepted"] != stands:
            wrong.append(f"source {name}: {line}")
    return wrong
