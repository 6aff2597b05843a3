"""What the door costs in memory: idle connections, many messages, one large message.

    python -m benchmarks.endurance [--connections 10000] [--messages 200000] [--large-mib 10]

The gateway runs as a process without workers (``worker.threads: 0``): the door alone. Resident
memory is read from ``/proc`` (Linux).
"""

from __future__ import annotations

import argparse
import json
import resource
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.accept import load
from benchmarks.load import message

START, END = b"\x0b", b"\x1c\r"
SPARE_FILES = 200


def resident(pid: int, field: str = "VmRSS") -> int:
    """Resident memory of a process in bytes, now (``VmRSS``) or at its highest (``VmHWM``)."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"{field} is not told here")


def exchange(connection: socket.socket, body: bytes) -> bytes:
    """Send one block and read its answer."""
    connection.sendall(START + body + END)
    answer = b""
    while not answer.endswith(END):
        block = connection.recv(1 << 16)
        if not block:
            raise ConnectionResetError("closed before an answer")
        answer += block
    return answer


def gateway(folder: Path, **source: Any) -> Any:
    """A started gateway process whose MLLP source has these settings besides."""
    from tests.acceptance.gateway_process import GatewayProcess

    process = GatewayProcess(folder, extra={"worker": {"threads": 0}})
    listen = f"127.0.0.1:{process.mllp_port}"
    process.extra["sources"] = [{"name": "lab", "type": "mllp", "listen": listen, **source}]
    process.start()
    return process


def idle_connections(wanted: int) -> dict[str, float]:
    """Open connections that say nothing, and one message while they are there."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(wanted, hard - SPARE_FILES)
    with tempfile.TemporaryDirectory(prefix="ecluse-bench-") as name:
        process = gateway(
            Path(name) / "g", connections_max=count + 1, connections_per_address_max=count + 1
        )
        opened: list[socket.socket] = []
        try:
            address = ("127.0.0.1", process.mllp_port)
            with socket.create_connection(address) as first:
                exchange(first, message(0, 0, 10, "warm"))
            before = resident(process.process.pid)
            opened = [socket.create_connection(address) for _ in range(count)]
            start = time.perf_counter()
            answers = [exchange(opened[place], message(1, place, 10, "idle")) for place in (0, -1)]
            seconds = time.perf_counter() - start
            assert all(b"MSA|AA|" in answer for answer in answers)
            after = resident(process.process.pid)
        finally:
            for each in opened:
                each.close()
            process.stop()
    return {
        "connections": count,
        "kib_each": round((after - before) / 1024 / count, 1),
        "two_messages_ms": round(seconds * 1000, 1),
    }


def many_messages(wanted: int) -> dict[str, float]:
    """Resident memory after a tenth of the messages, and after all of them."""
    with tempfile.TemporaryDirectory(prefix="ecluse-bench-") as name:
        process = gateway(Path(name) / "g")
        try:
            sent, early = 0, 0
            while sent < wanted:
                sent += int(load(process.mllp_port, 64, 5.0, "--run", f"m{sent}")["sent"])
                if not early and sent >= wanted / 10:
                    early = resident(process.process.pid)
            late = resident(process.process.pid)
        finally:
            process.stop()
    return {
        "messages": sent,
        "early_mib": round(early / 2**20, 1),
        "late_mib": round(late / 2**20, 1),
        "ratio": round(late / early, 3),
    }


def large_message(mib: int) -> dict[str, float]:
    """The highest resident memory while one message with a large OBX-5 goes through the door."""
    body = message(0, 1, 10, "large").replace(
        b"NTE|1||",
        b"OBX|9|ED|11502-2^Document^LN||^TEXT^^Base64^" + b"QUJD" * (mib << 18) + b"\rNTE|1||",
    )
    with tempfile.TemporaryDirectory(prefix="ecluse-bench-") as name:
        process = gateway(Path(name) / "g")
        try:
            with socket.create_connection(("127.0.0.1", process.mllp_port)) as connection:
                exchange(connection, message(0, 0, 10, "warm"))
                before = resident(process.process.pid, "VmHWM")
                answer = exchange(connection, body)
                assert b"MSA|AA|" in answer
                after = resident(process.process.pid, "VmHWM")
        finally:
            process.stop()
    return {
        "message_mib": round(len(body) / 2**20, 1),
        "more_mib": round((after - before) / 2**20, 1),
        "ratio": round((after - before) / len(body), 2),
    }


def measure(connections: int, messages: int, large_mib: int) -> dict[str, Any]:
    """All three."""
    return {
        "large_message": large_message(large_mib),
        "idle_connections": idle_connections(connections),
        "many_messages": many_messages(messages),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--large-mib", type=int, default=10)
    given = parser.parse_args()
    print(json.dumps(measure(given.connections, given.messages, given.large_mib), indent=2))
