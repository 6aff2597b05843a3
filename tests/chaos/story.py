"""One run: load, faults, calm, and the verdict."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from gateway.model import CauseCode
from tests.acceptance.gateway_process import HTTP, GatewayProcess
from tests.chaos.house import House
from tests.chaos.memory import MEMORY_MAX_MIB, peak_mib
from tests.chaos.nemeses import SHORT, Length, draw
from tests.chaos.region import SOURCE, judge_region, refused_of
from tests.chaos.senders import PoisonSender, Sender
from tests.chaos.verdict import Verdict, account, judge
from tests.eventually import eventually

CONNECTIONS = 6
QUARANTINED = (CauseCode.UNFINISHED_ATTEMPTS.value, CauseCode.HOSTILE_CONTENT.value)
"""Why something is set apart over which processes ended again and again, whoever ended them."""
WARD_CONNECTIONS = 2
WARD_EVERY_SECONDS = 0.05
SETTLE_SECONDS_MAX = 3_600


@dataclass
class Report:
    """What was done and what came of it; ``faults`` counts each nemesis by its name.

    ``verdict`` is on the record, ``elsewhere`` on the FHIR server, which refused ``refused``.
    ``quarantined`` were set apart because the gateway died over them again and again, as it must
    be where nobody knows who killed it; they were let go again at the end. ``causes`` are those of
    what was dead then. ``settled_seconds`` after the last message nothing was on its way any more;
    ``memory_mib`` is the most that the gateway had resident by then since its last start."""

    store: str
    seed: int
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    acknowledged: int = 0
    sent_again: int = 0
    poison: int = 0
    refused: int = 0
    quarantined: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    dead: int = 0
    backlog: int = 0
    settled_seconds: float = 0.0
    memory_mib: int = 0
    verdict: Verdict = field(default_factory=Verdict)
    elsewhere: Verdict = field(default_factory=Verdict)
    wrong: list[str] = field(default_factory=list)

    @property
    def faultless(self) -> bool:
        """Whether the promises held."""
        return self.verdict.faultless and self.elsewhere.faultless and not self.wrong

    def shape(self) -> dict[str, Any]:
        """As plain JSON."""
        counted = {"faults": self.faults, "causes": self.causes}
        return {**asdict(self), **{name: dict(sorted(of.items())) for name, of in counted.items()}}


@dataclass
class Plan:
    """How long, how hard. ``backlog`` messages are accepted before any worker runs.

    ``rounds`` ends the faults after so many of them, before ``seconds`` have passed.
    ``settle_seconds`` is how long nothing may move, after the faults, while something is on its
    way.
    """

    seconds: float
    rounds: int = 0
    length: Length = SHORT
    pause: tuple[float, float] = (0.1, 0.8)
    only: Sequence[str] = ()
    messages_each: int = 150
    backlog: int = 0
    settle_seconds: float = 90.0
    tell: Callable[[str], None] = lambda _: None


def run(house: House, seed: int, plan: Plan) -> Report:
    """Play one run and judge it."""
    chance = random.Random(seed)
    report, gateway = Report(house.store, seed), house.gateway
    senders = _backlog(house, plan, report)
    gateway.start(timeout=120)
    stop = threading.Event()
    fresh = [
        Sender(len(senders) + number, gateway.mllp_port, stop, plan.messages_each)
        for number in range(CONNECTIONS)
    ]
    ward = [
        Sender(
            len(senders) + len(fresh) + number, house.ward_port, stop, plan.messages_each,
            every=WARD_EVERY_SECONDS,
        )
        for number in range(WARD_CONNECTIONS)
    ]  # fmt: skip
    fresh += ward
    senders += fresh
    house.senders = fresh
    poison = PoisonSender(gateway.mllp_port, stop)
    for each in (*fresh, poison):
        each.start()
    began = time.monotonic()
    while time.monotonic() - began < plan.seconds and not any(each.wrong for each in fresh):
        if plan.rounds and report.faults.total() >= plan.rounds:
            break
        # The wait is the randomness of the moment, not a wait for something to happen.
        time.sleep(chance.uniform(*plan.pause))
        nemesis = draw(house, chance, plan.only)
        plan.tell(f"{time.monotonic() - began:7.1f} s  {nemesis.name}")
        report.faults[nemesis.name] += 1
        nemesis.strike(house, chance, plan.length)
        house.raise_up()
    report.seconds = round(time.monotonic() - began, 1)
    _calm(house, fresh, poison, stop, report)
    began = time.monotonic()
    _settle(house, plan, report)
    report.settled_seconds = round(time.monotonic() - began, 1)
    report.memory_mib = peak_mib(house.process().pid)
    if plan.backlog and report.memory_mib > MEMORY_MAX_MIB:
        report.wrong.append(f"the gateway had {report.memory_mib} MiB, not {MEMORY_MAX_MIB}")
    late = _let_go_again(house, plan, report)
    report.starts = gateway.starts
    report.acknowledged = sum(sender.total for sender in senders)
    report.sent_again = sum(sender.resent for sender in senders)
    report.poison = poison.acknowledged
    dead = {name: line["dead"] for name, line in gateway.ledger().items()}
    report.dead = sum(dead.values())
    wards = _ledger(ward)
    report.refused = refused_of(wards)
    _compare(report, "refused by the region", report.refused, dead.pop(SOURCE, 0), len(ward))
    _compare(report, "poisoned", report.poison, sum(dead.values()), 1)
    report.wrong += account(gateway)
    report.verdict = judge(gateway, _ledger(senders), late)
    report.elsewhere = judge_region(house.region, wards, late)
    return report


def _ledger(senders: Sequence[Sender]) -> dict[str, int]:
    return {patient: n for sender in senders for patient, n in sender.acknowledged.items()}


def _compare(report: Report, what: str, acknowledged: int, dead: int, unread: int) -> None:
    """As many dead letters as were acknowledged of what must die; for ``unread`` of them at most
    the answer was not read."""
    if not acknowledged <= dead <= acknowledged + unread:
        report.wrong.append(f"{acknowledged} {what} and acknowledged, {dead} dead letters")


def _backlog(house: House, plan: Plan, report: Report) -> list[Sender]:
    """Messages that were accepted while nobody worked."""
    if not plan.backlog:
        return []
    listening = GatewayProcess(
        house.gateway.folder,
        house.gateway.journal_url,
        house.gateway.broker_url,
        {**house.gateway.extra, "worker": {"threads": 0}},
        house.gateway.mllp_port,
        house.gateway.dicom_port,
        house.gateway.http_port,
    )
    listening.start()
    each = plan.backlog // CONNECTIONS
    stop = threading.Event()
    senders = [
        Sender(number, listening.mllp_port, stop, plan.messages_each, limit=each)
        for number in range(CONNECTIONS)
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    report.backlog = sum(sender.total for sender in senders)
    plan.tell(f"a backlog of {report.backlog} messages")
    listening.kill()
    listening.configuration.unlink()
    return senders


def _calm(
    house: House,
    senders: Sequence[Sender],
    poison: PoisonSender,
    stop: threading.Event,
    report: Report,
) -> None:
    """After the faults the doors are open again; then the senders end."""
    before = sum(sender.total for sender in senders)
    if not any(sender.wrong for sender in senders):
        eventually(lambda: sum(each.total for each in senders) > before + CONNECTIONS, timeout=60)
    stop.set()
    for each in (*senders, poison):
        each.join(timeout=30)
        if each.is_alive():
            report.wrong.append("a sender did not end")
    report.wrong += [f"answered {text!r}" for each in senders for text in each.wrong]


def _let_go_again(house: House, plan: Plan, report: Report) -> list[str]:
    """As an operator does with what was quarantined; the control ids of it."""
    gateway, late = house.gateway, []
    for cause in QUARANTINED:
        found = gateway.get("/api/v1/dead-letters", cause=cause, limit="500")["items"]
        if not found:
            continue
        late += [
            str(gateway.get(f"/api/v1/messages/{each['message_id']}")["control_id"])
            for each in found
        ]
        answer = HTTP.post(f"{gateway.url}/api/v1/dead-letters/replay", json={"cause": cause})
        if answer.status_code != 200:
            report.wrong.append(f"the quarantined were not let go: {answer.status_code}")
        _settle(house, plan, report)
    report.quarantined = len(late)
    for group in gateway.get("/api/v1/dead-letters/groups")["items"]:
        fault = group["code"] == CauseCode.INTERNAL.value
        name = f"{group['code']} at {group['location']}" if fault else group["code"]
        report.causes[name] += group["count"]
    return late


def _settle(house: House, plan: Plan, report: Report) -> None:
    """Wait until nothing is on its way any more; what stays on its way, while nothing else
    moves, is a fault too."""
    since, before = time.monotonic(), -1

    def ended() -> bool:
        nonlocal since, before
        left = sum(line["pending"] for line in house.gateway.ledger().values())
        if left != before:
            since, before = time.monotonic(), left
        return not left or time.monotonic() - since > plan.settle_seconds

    eventually(ended, timeout=SETTLE_SECONDS_MAX, every=0.2)
    if before:
        report.wrong.append(f"nothing moved for {plan.settle_seconds} s: {house.gateway.ledger()}")
