"""Clients that keep their own ledger of what was acknowledged.

Each connection belongs to patients of its own. A patient's messages correct one and the same
observation, with the values 1, 2, 3 …; an answer that does not come is asked for again with the
same bytes. So the observation's history in the record must read 1, 2, 3 … without a gap, a
repetition or an exchange, whatever was broken in between.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.demo.people import TEST_ROOT, ins_with_key

PATIENTS_AT_ONCE = 2
ANSWER_SECONDS = 10


@dataclass
class Sender(threading.Thread):
    """A stop-and-wait MLLP client that resends until it is answered positively.

    With ``messages_each`` it goes on to other patients after so many messages of one.
    ``limit`` ends it after so many acknowledged messages; ``every`` is a pause after each.
    """

    number: int
    port: int
    stop: threading.Event
    messages_each: int = 0
    limit: int = 0
    every: float = 0.0
    acknowledged: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    resent: int = 0
    on_acknowledged: Callable[[], None] | None = None
    """Called once, in the moment in which an answer was read."""

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self._met = 0
        self._patients = [self._next_patient() for _ in range(PATIENTS_AT_ONCE)]

    __hash__ = threading.Thread.__hash__

    @property
    def total(self) -> int:
        """How many of its messages were acknowledged."""
        return sum(list(self.acknowledged.values()))

    def _next_patient(self) -> str:
        patient = ins_with_key(
            f"1{50 + self.number:02d}0169{100 + self._met:03d}{100 + self.number}"
        )
        self._met += 1
        self.acknowledged[patient] = 0
        return patient

    def run(self) -> None:
        turn = 0
        connection: socket.socket | None = None
        while not self.stop.is_set() and not self.wrong:
            place = turn % len(self._patients)
            if (
                self.messages_each
                and self.acknowledged[self._patients[place]] >= self.messages_each
            ):
                self._patients[place] = self._next_patient()
            connection = self._send(connection, self._patients[place])
            turn += 1
            if (self.limit and self.total >= self.limit) or self.stop.wait(self.every):
                break
        if connection is not None:
            connection.close()

    def _send(self, connection: socket.socket | None, patient: str) -> socket.socket | None:
        """One message, again and again until it is acknowledged or all shall stop."""
        value = self.acknowledged[patient] + 1
        message = oru(patient, value)
        while not self.stop.is_set():
            try:
                connection = connection or connect(self.port)
                answer = ask(connection, message)
            except OSError:
                if connection is not None:
                    connection.close()
                connection = None
                self.resent += 1
                time.sleep(0.02)
                continue
            if b"\rMSA|AA|" in answer:
                strike, self.on_acknowledged = self.on_acknowledged, None
                if strike is not None:
                    strike()
                self.acknowledged[patient] = value
                break
            if b"\rMSA|AR|" not in answer:
                self.wrong.append(answer.decode("latin-1"))
                break
            # Not kept: the sender tries again, as real ones do not at once.
            self.resent += 1
            time.sleep(0.02)
        return connection


@dataclass
class PoisonSender(threading.Thread):
    """Sends what must die behind the door: results of an INS whose key is wrong."""

    port: int
    stop: threading.Event
    every: float = 0.5
    acknowledged: int = 0
    last: bytes = b""
    """The last one sent; it may be kept without its answer having been read."""

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        number = 0
        while not self.stop.wait(self.every):
            number += 1
            self.last = oru("279035121518900", number)
            while not self.stop.is_set():
                try:
                    with connect(self.port) as connection:
                        answer = ask(connection, self.last)
                except OSError:
                    time.sleep(0.05)
                    continue
                if b"\rMSA|AA|" in answer:
                    self.acknowledged += 1
                    break


def connect(port: int) -> socket.socket:
    """A connection to a listener of this machine. Raises OSError."""
    return socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS)


def ask(connection: socket.socket, message: bytes) -> bytes:
    """Send a message and read the frame that answers it. Raises OSError."""
    connection.sendall(b"\x0b" + message + b"\x1c\r")
    return read_frame(connection)


def read_frame(connection: socket.socket) -> bytes:
    """All bytes up to the end of a frame. Raises OSError when there is none."""
    data = b""
    while not data.endswith(b"\x1c\r"):
        block = connection.recv(65536)
        if not block:
            raise ConnectionResetError("closed before an answer")
        data += block
    return data


def oru(patient: str, value: int) -> bytes:
    """A laboratory's result of one value; a correction of all others of the patient."""
    return (
        f"MSH|^~\\&|SGL|LABO|ECLUSE|CHU|20261120101500+0100||ORU^R01^ORU_R01|{patient}-{value}|P|2.5"
        "|||||FRA|UNICODE UTF-8\r"
        f"PID|1||{patient}^^^ASIP-SANTE-INS-NIR&{TEST_ROOT}&ISO^INS||ESSAI^PATIENT^^^^^L"
        "||19500101|M\r"
        f"OBR|1||{patient}^LABO&2.999.250.2&ISO|2345-7^Glucose^LN|||20261120101500+0100"
        "|||||||||||||||20261120101500+0100||LAB|C\r"
        f"OBX|1|NM|2345-7^Glucose^LN||{value}|mmol/L|||||C|||20261120101500+0100\r"
    ).encode()
