"""Purge, backup and restore of running gateways, by their commands."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from gateway.cli import main
from gateway.cli.output import Code
from tests.eventually import eventually
from tests.integration.faces import messages as hl7
from tests.integration.faces.house import House, running_house
from tests.servers import Postgres

GLUCOSE = "2345-7^Glucose"
RETENTION = """
retention:
  daily_at: ''
  delivered: {bytes_days: 30, entries_days: 30, metadata_days: 60}
"""


class Shell:
    """Runs commands in this process; what they printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys
        self.err = ""

    def __call__(self, *arguments: object, code: int = 0) -> Any:
        found = main([*map(str, arguments), "--json"])
        out = self.capsys.readouterr()
        self.err = out.err
        assert found == code, (arguments, found, out.err)
        return json.loads(out.out) if out.out else None


@pytest.fixture
def ecluse(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def result(number: int, size: int = 0) -> bytes:
    """A result of its own; of more than ``size`` bytes."""
    made = hl7.results(f"R{number}", f"B{number}", {GLUCOSE: f"{number}.5"})
    return made + b"NTE|1||commentaire du laboratoire\r" * (size // 30) if size else made


@dataclass(eq=False)
class Sender(threading.Thread):
    """Sends one message after the other until it is told to stop."""

    house: House
    acknowledged: list[int] = field(default_factory=list)
    wanted: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def run(self) -> None:
        # As often as a laboratory does, not as fast as it goes: all of it is sent twice.
        while not self.wanted.wait(0.05):
            number = len(self.acknowledged) + 1
            assert self.house.send(result(number)) == ["AA"]
            self.acknowledged.append(number)


def rows(house: House, query: str) -> int:
    with house.gateway.journal.read() as connection:
        return int(connection.execute(text(query)).scalar_one())


@pytest.fixture(params=["sqlite", "postgresql"])
def journals(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """The configuration of two journals: the one that is copied, and an empty one."""
    if request.param == "sqlite":
        yield "", ""
        return
    server: Postgres = request.getfixturevalue("postgres")
    yield tuple(f"journal: {{url: '{server.fresh_database()}'}}\n" for _ in range(2))  # type: ignore[misc]


def test_a_backup_made_under_load_is_restored_and_goes_on(
    journals: tuple[str, str], tmp_path: Path, ecluse: Shell
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    copy, configuration = tmp_path / "copy", tmp_path / "one/ecluse.yaml"
    with running_house(tmp_path / "one", more=journals[0]) as house:
        assert house.send(hl7.admission("A1"), hl7.letter("M1"), result(9_000, 70_000)) == [
            "AA", "AA", "AA",
        ]  # fmt: skip
        sender = Sender(house)
        sender.start()
        eventually(lambda: len(sender.acknowledged) > 5, timeout=60)
        before = list(sender.acknowledged)
        made = ecluse("backup", copy, "--config", configuration)
        eventually(lambda: len(sender.acknowledged) > len(before) + 5, timeout=60)
        sender.wanted.set()
        sender.join(30)
        # A second one, of which only what is new is copied.
        again = ecluse("backup", tmp_path / "later", "--previous", copy, "--config", configuration)
        ecluse("backup", copy, "--config", configuration, code=Code.FAILED)
        ecluse("restore", copy, "--config", configuration, code=Code.USAGE)
    assert made["files"] == again["files"] == 2
    assert copy.stat().st_mode & 0o077 == 0
    digests = [each for each in (copy / "blobs").rglob("*") if each.is_file()]
    assert {each.stat().st_nlink for each in digests} == {2}
    ecluse("restore", copy, "--config", configuration, code=Code.FAILED)  # something is there

    elsewhere = tmp_path / "two/ecluse.yaml"
    elsewhere.write_text(
        f"state: {tmp_path / 'two/state'}\n{journals[1]}http: {{listen: '127.0.0.1:0'}}\n"
    )
    damaged = digests[0].read_bytes()
    digests[0].write_bytes(b"damaged")
    ecluse("restore", copy, "--config", elsewhere, code=Code.FAILED)
    digests[0].write_bytes(damaged)
    restored = ecluse("restore", copy, "--config", elsewhere)
    assert restored["intact"]

    with running_house(tmp_path / "two", more=journals[1]) as house:
        kept = rows(house, "SELECT count(*) FROM message WHERE control_id LIKE 'R%'")
        assert len(before) + 1 <= kept <= len(sender.acknowledged) + 1
        # The senders send again what they sent since, and more than that.
        everything = [result(number) for number in sender.acknowledged]
        assert set(house.send(result(9_000, 70_000), *everything)) == {"AA"}
        house.wait()
        total = len(everything) + 1
        assert rows(house, "SELECT count(*) FROM message WHERE control_id LIKE 'R%'") == total
        assert rows(house, "SELECT sum(arrivals) - count(*) FROM message") == kept
        observations = "SELECT count(*) FROM record_entry WHERE type = 'Observation'"
        assert rows(house, observations) == total
        versions = "SELECT count(*) FROM record_entry_version AS v JOIN record_entry AS e"
        assert (
            rows(house, f"{versions} ON e.key = v.entry_key WHERE e.type = 'Observation'") == total
        )
        told = ecluse("verify", "--content", "--config", house.configuration)
        assert told["intact"]


def test_an_operator_purges_a_running_gateway(tmp_path: Path, ecluse: Shell) -> None:
    with running_house(tmp_path, more=RETENTION) as house:
        house.send(hl7.admission("A1"), hl7.letter("M1"), result(1), result(2))
        held = hl7.results("H1", "B9", {GLUCOSE: "1.0"}, ins="", ipp=hl7.OTHER_IPP)
        assert house.send(held) == ["AA"]
        house.wait()
        configured = ("--config", house.configuration)
        before = ecluse("status", *configured)["sources"]
        # Everything came to its state long ago; but only the bytes of the last one are due.
        with house.gateway.journal.write() as connection:
            for days, condition in ((40, "control_id = 'R2'"), (400, "control_id <> 'R2'")):
                connection.execute(
                    text(
                        "UPDATE message SET changed_at = strftime('%Y-%m-%dT%H:%M:%S.000000+00:00',"
                        f" 'now', '-{days} days') WHERE {condition}"
                    )
                )
        expected = ecluse("purge", "--dry-run", *configured)["counts"]
        assert expected["content.delivered"] == 4
        assert rows(house, "SELECT count(*) FROM content") == 5
        done = ecluse("purge", "--reason", "the yearly one", *configured)
        assert (done["state"], done["reason"]) == ("done", "the yearly one")
        assert done["counts"]["content.delivered"] == 4
        assert rows(house, "SELECT count(*) FROM content") == 1
        told = ecluse("verify", "--content", *configured)
        assert told["intact"]
        assert told["purged"]["messages"] == done["counts"].get("message.delivered", 0)
        assert ecluse("status", *configured)["sources"] == before
        with house.client() as http:
            metrics = http.get("/metrics").text
            assert 'ecluse_purged_total{state="delivered",what="content"} 4.0' in metrics
            assert 'ecluse_messages_received_total{format="hl7v2",source="lab"} 5.0' in metrics
            # What is left of a purged message is shown; its bytes are gone, and that is said.
            number = house.number("R2")
            assert http.get(f"/messages/{number}").status_code == 200
            assert http.get(f"/api/v1/messages/{number}").status_code == 200
            assert http.get(f"/api/v1/messages/{number}/raw").status_code in {404, 410}
            # The record has all of it.
            assert http.get("/fhir/Observation").json()["total"] == 2
        (last,) = ecluse("purge", "--history", *configured)["items"]
        assert last["counts"] == done["counts"]
        # The same message again is a repetition, unless it went as a whole.
        assert house.send(result(2)) == ["AA"]
        assert rows(house, "SELECT max(arrivals) FROM message WHERE control_id = 'R2'") == 2


def test_nothing_is_purged_without_a_policy(tmp_path: Path, ecluse: Shell) -> None:
    configuration = tmp_path / "ecluse.yaml"
    configuration.write_text(f"state: {tmp_path / 'state'}\n")
    ecluse("purge", "--config", configuration, code=Code.USAGE)
    assert "retention" in ecluse.err
