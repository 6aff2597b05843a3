"""Enhanced mode, numbers and control ids, through the real gateway with python-hl7's client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hl7.client import MLLPClient

from gateway.demo.people import ins_with_key
from tests.acceptance.gateway_process import GatewayProcess
from tests.acceptance.return_listener import ReturnListener, asking, part
from tests.eventually import eventually
from tests.integration.faces import messages as hl7
from tests.servers import free_port

pytestmark = pytest.mark.acceptance


class Site:
    """A gateway and the listener of its sender."""

    def __init__(self, folder: Path) -> None:
        self.back = ReturnListener(free_port())
        self.ports = {name: free_port() for name in ("his", "numbered", "strict")}
        listens = {name: f"127.0.0.1:{port}" for name, port in self.ports.items()}
        self.gateway = GatewayProcess(folder)
        self.gateway.extra = {
            "sources": [
                {
                    "name": "his", "type": "mllp", "listen": listens["his"],
                    "return_link": f"127.0.0.1:{self.back.port}",
                    "return_link_timeout_seconds": 2,
                },
                {
                    "name": "numbered", "type": "mllp", "listen": listens["numbered"],
                    "sequence_numbers": "on",
                },
                {
                    "name": "strict", "type": "mllp", "listen": listens["strict"],
                    "duplicates": "refuse",
                },
            ],
            "retry": {"base_seconds": 0.2, "cap_seconds": 1},
        }  # fmt: skip

    def send(self, message: bytes, source: str = "his") -> bytes:
        with MLLPClient("127.0.0.1", self.ports[source], encoding="utf-8") as client:
            answer: bytes = client.send_message(message.decode("utf-8"))
        return answer.strip(b"\x0b\x1c\r")

    def only_send(self, message: bytes, source: str = "his") -> None:
        """To a gateway that will not answer: what it sent is at most its end."""
        with MLLPClient("127.0.0.1", self.ports[source], encoding="utf-8") as client:
            client.socket.sendall(b"\x0b" + message + b"\x1c\r")
            client.socket.shutdown(1)
            client.socket.settimeout(10)
            assert client.socket.recv(1) == b""

    def standing(self, source: str = "his") -> dict[str, int]:
        """How many acknowledgements stand where."""
        found: dict[str, dict[str, int]] = self.gateway.get("/api/v1/status")["acknowledgements"]
        return found.get(source, {})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("site"))
    made.back.start()
    made.gateway.start()
    yield made
    assert made.gateway.stop() == 0, made.gateway.log_tail()
    made.back.stop()


def admission(control_id: str, accept: str, application: str) -> bytes:
    return asking(hl7.admission(control_id), accept, application)


def dead(control_id: str, accept: str, application: str) -> bytes:
    """A result that no record will take: the key of its INS is wrong."""
    message = hl7.results(control_id, control_id, {"2823-3^K": "4.4"}, ins=hl7.WRONG_INS)
    return asking(message, accept, application)


def test_accept_at_once_and_application_later(site: Site) -> None:
    answer = site.send(admission("BOTH", "AL", "AL"))
    assert (part(answer, "MSA", 1), part(answer, "MSA", 2)) == ("CA", "BOTH")
    assert part(answer, "MSH", 15) == part(answer, "MSH", 16) == ""
    [later] = eventually(lambda: site.back.of("BOTH"))
    assert part(later, "MSA", 1) == "AA"
    assert part(later, "MSH", 9) == "ACK^A01^ACK"
    assert (part(later, "MSH", 3), part(later, "MSH", 5)) == ("ECLUSE", "DPI")
    assert (part(later, "MSH", 15), part(later, "MSH", 16)) == ("AL", "NE")
    assert part(later, "MSH", 10) not in ("", part(answer, "MSH", 10))
    # Sent again, the message gets the same accept acknowledgement and no second other one.
    assert site.send(admission("BOTH", "AL", "AL")) == answer
    eventually(lambda: site.standing().get("sent") == 1, every=0.2)
    assert len(site.back.of("BOTH")) == 1


def test_a_message_that_dies_is_told_with_its_error(site: Site) -> None:
    assert part(site.send(dead("DEAD1", "AL", "ER")), "MSA", 1) == "CA"
    [later] = eventually(lambda: site.back.of("DEAD1"))
    assert part(later, "MSA", 1) == "AE"
    assert part(later, "ERR", 3) == "204^Unknown key identifier^HL70357"
    assert part(later, "ERR", 4) == "E"
    assert hl7.WRONG_INS.encode() not in later


def test_no_answer_that_is_not_wanted(site: Site) -> None:
    """ER and a success, SU and a failure, and NE at once: nothing, each time."""
    assert part(site.send(admission("OK-ER", "AL", "ER")), "MSA", 1) == "CA"
    assert part(site.send(dead("BAD-SU", "AL", "SU")), "MSA", 1) == "CA"
    site.only_send(admission("LATER", "NE", "AL"))
    site.only_send(admission("NEVER", "NE", "NE"))
    [later] = eventually(lambda: site.back.of("LATER"))
    assert part(later, "MSA", 1) == "AA"
    eventually(lambda: site.standing().get("unwanted") == 2, every=0.2)
    for control_id in ("OK-ER", "BAD-SU", "NEVER"):
        assert site.back.of(control_id) == []


def test_a_refusal_at_the_door_is_told_once(site: Site) -> None:
    told = admission("DOOR1", "AL", "AL").replace(b"ADT^A01^ADT_A01", b"ADT^X99^ADT_A01")
    answer = site.send(told)
    assert (part(answer, "MSA", 1), part(answer, "ERR", 2)) == ("CR", "MSH^1^9^1^2")
    site.only_send(told.replace(b"|AL|AL|", b"|NE|ER|").replace(b"DOOR1", b"DOOR2"))
    [later] = eventually(lambda: site.back.of("DOOR2"))
    assert (part(later, "MSA", 1), part(later, "ERR", 3)[:3]) == ("AR", "201")
    assert site.back.of("DOOR1") == []


def test_an_acknowledgement_is_never_answered(site: Site, tmp_path: Path) -> None:
    before = site.gateway.ledger()["his"]["refused"]
    message = admission("ACK1", "AL", "AL").replace(b"ADT^A01^ADT_A01", b"ACK^A01^ACK")
    site.only_send(message)
    eventually(lambda: site.gateway.ledger()["his"]["refused"] == before + 1)
    path = tmp_path / "ack.hl7"
    path.write_bytes(message.replace(b"ACK1", b"ACK2"))
    done = site.gateway.command("send", str(path), "--to", target(site), "--json")
    assert [(a["code"], a["silent"]) for a in done["messages"]] == [("", True)]
    assert site.back.of("ACK1") == []


def target(site: Site, source: str = "his") -> str:
    return f"mllp://127.0.0.1:{site.ports[source]}"


def numbered(number: int | str, control_id: str) -> bytes:
    fields = hl7.admission(control_id).split(b"|")
    fields[12] = str(number).encode()
    return b"|".join(fields)


def test_sequence_numbers_over_the_wire(site: Site) -> None:
    start = b"MSH|^~\\&|ADT|X|LAB|X|199003141304-0500||^|%s|P|2.3|%s\r"

    def send(message: bytes) -> tuple[str, str]:
        answer = site.send(message, "numbered")
        return part(answer, "MSA", 1), part(answer, "MSA", 4)

    assert send(start % (b"S1", b"0")) == ("AA", "-1")
    assert send(numbered(1, "N1")) == ("AA", "1")
    assert send(numbered(3, "N3")) == ("AE", "2")
    assert send(numbered(1, "N1")) == ("AA", "1")
    assert send(numbered(1, "N1b")) == ("AE", "2")
    assert send(start % (b"S2", b"0")) == ("AA", "2")
    assert send(numbered(2, "N2")) == ("AA", "2")
    assert send(start % (b"S3", b"-1")) == ("AA", "-1")
    assert send(numbered(50, "N50")) == ("AA", "50")
    assert send(numbered("", "NONE")) == ("AA", "")
    assert send(numbered("x", "BAD")) == ("AE", "")
    assert send(numbered(0, "FULL")) == ("AE", "")


def test_a_control_id_that_comes_again(site: Site) -> None:
    first = site.send(hl7.admission("TWICE"), "strict")
    assert part(first, "MSA", 1) == "AA"
    second = site.send(hl7.admission("TWICE", family="AUTRE"), "strict")
    assert (part(second, "MSA", 1), part(second, "ERR", 3)) == (
        "AE",
        "205^Duplicate key identifier^HL70357",
    )
    assert part(second, "ERR", 2) == "MSH^1^10"
    assert site.send(hl7.admission("TWICE"), "strict") == first


def test_without_a_return_link_it_is_counted(site: Site) -> None:
    answer = site.send(admission("OWED", "AL", "AL"), "strict")
    assert part(answer, "MSA", 1) == "CA"
    assert site.standing("strict") == {"unlinked": 1}
    status = site.gateway.command("status", "--json")
    assert status["acknowledgements"]["strict"] == {"unlinked": 1}
    found = {each["name"]: each for each in site.gateway.command("doctor", "--json", check=False)}
    assert found["return link strict"]["level"] == "warning"
    assert found["return link his"]["level"] == "ok"


@pytest.mark.timeout(120)
def test_kill_9_before_the_confirmation(tmp_path: Path) -> None:
    """Killed with acknowledgements sent and not confirmed, and others not yet sent: after the
    restart each comes again, the same to the byte, and then never more."""
    site = Site(tmp_path / "killed")
    site.back.confirm = False
    site.back.start()
    site.gateway.start()
    people = [ins_with_key(f"1850169{100 + n:03d}{200 + n:03d}") for n in range(5)]
    names = [f"K{n}" for n in range(len(people))]
    try:
        for name, ins in zip(names, people, strict=True):
            message = admission(name, "AL", "AL").replace(hl7.INS.encode(), ins.encode())
            message = message.replace(hl7.IPP.encode(), f"IPP{name}".encode())
            assert part(site.send(message), "MSA", 1) == "CA"
        eventually(lambda: site.back.taken)
        site.gateway.kill()
        unconfirmed = list(site.back.taken)
        site.back.confirm = True
        site.gateway.start()
        eventually(lambda: site.standing().get("sent") == len(names), timeout=30, every=0.2)
        for name in names:
            assert len(set(site.back.of(name))) == 1
            assert part(site.back.of(name)[0], "MSA", 1) == "AA"
        assert set(unconfirmed) <= set(site.back.taken[len(unconfirmed) :])
        given = len(site.back.taken)
        site.send(admission("NEXT", "AL", "AL"))
        eventually(lambda: site.back.of("NEXT"))
        assert len(site.back.taken) == given + 1
    finally:
        site.gateway.stop()
        site.back.stop()
