"""An MLLP load generator in a process of its own: stop-and-wait senders, latencies in seconds.

    python -m benchmarks.load PORT CONNECTIONS SECONDS [--rate PER_SECOND] [--patients N]
                              [--counters]

Control ids begin with the time, as those of an integration engine do that sends over several
connections; with ``--counters`` every connection has a counter of its own, as if each were
another device behind one source. Prints one JSON object: sent, seconds, per_second, p50_ms, p99_ms, negative.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time

PADDING = "x" * 1200


def message(connection: int, number: int, patients: int, run: str, order: str = "") -> bytes:
    """An ORU^R01 of about 2 kB with a valid test INS, eight numeric results and a comment.

    ``order`` is its control id and the number of its order; by itself a counter of the connection.
    """
    from gateway.demo.people import TEST_ROOT, ins_with_key

    patient = (connection * 131 + number) % patients
    ins = ins_with_key(f"1{patient % 100:02d}01{69000 + patient // 100:05d}{patient % 1000:03d}")
    results = "".join(
        f"OBX|{n}|NM|{2300 + n}-7^Analyte {n}^LN||{n}.{number % 10}0|mmol/L|1.0-9.0|N|||F|||"
        "20261120101500+0100\r"
        for n in range(1, 9)
    )
    order = order or f"{run}-{connection}-{number}"
    return (
        f"MSH|^~\\&|SGL|LABO|ECLUSE|CHU|20261120101500+0100||ORU^R01^ORU_R01|{order}|P|2.5"
        "|||||FRA|UNICODE UTF-8\r"
        f"PID|1||{ins}^^^ASIP-SANTE-INS-NIR&{TEST_ROOT}&ISO^INS||ESSAI^PATIENT^^^^^L||19500101|M\r"
        f"OBR|1||{order}^LABO&2.999.250.2&ISO|24323-8^Bilan^LN|||20261120101500+0100"
        "|||||||||||||||20261120101500+0100||LAB|F\r"
        f"{results}NTE|1||{PADDING}\r"
    ).encode()


async def _sender(
    port: int, connection: int, arguments: argparse.Namespace, until: float, out: list[float]
) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    number = negative = 0
    pause = arguments.connections / arguments.rate if arguments.rate else 0.0
    following = time.perf_counter() + pause * connection / arguments.connections
    while time.perf_counter() < until:
        if pause:
            await asyncio.sleep(max(0.0, following - time.perf_counter()))
            following += pause
        at = "" if arguments.counters else f"{time.time_ns() // 1000}-{connection}"
        body = message(connection, number, arguments.patients, arguments.run, at)
        start = time.perf_counter()
        writer.write(b"\x0b" + body + b"\x1c\r")
        answer = await reader.readuntil(b"\x1c\r")
        out.append(time.perf_counter() - start)
        number += 1
        negative += b"MSA|AA|" not in answer and b"MSA|CA|" not in answer
    writer.close()
    return negative


async def run(arguments: argparse.Namespace) -> dict[str, float]:
    """Send for the time asked; the figures."""
    latencies: list[float] = []
    # What it needs is loaded before the clock starts: else all begin late, and hurry.
    message(0, 0, arguments.patients, arguments.run)
    start = time.perf_counter()
    negative = await asyncio.gather(
        *(
            _sender(arguments.port, n, arguments, start + arguments.seconds, latencies)
            for n in range(arguments.connections)
        )
    )
    seconds = time.perf_counter() - start
    cuts = statistics.quantiles(latencies, n=100) if len(latencies) > 100 else [0.0] * 99
    return {
        "sent": len(latencies),
        "seconds": round(seconds, 3),
        "per_second": round(len(latencies) / seconds, 1),
        "p50_ms": round(cuts[49] * 1000, 2),
        "p99_ms": round(cuts[98] * 1000, 2),
        "negative": sum(negative),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("connections", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--patients", type=int, default=500)
    parser.add_argument("--run", default="r")
    parser.add_argument("--counters", action="store_true")
    print(json.dumps(asyncio.run(run(parser.parse_args()))))
