"""Accepted to in-the-record, embedded on this machine: sustained rate, and latency at 100 a second.

    python -m benchmarks.end_to_end [--seconds 20] [--rate 100]

The rate is what was sent by eight stop-and-wait connections, divided by the time from the first
message sent to the last one in the record. The latency of a message is the time from its commit in
the journal to its delivery's commit, as the journal's own rows say it; those of the first seconds
after the start, in which the mappings are compiled, are left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.accept import load

WARM_SECONDS = 3.0


def sustained(seconds: float) -> dict[str, float]:
    """Messages a second from the door to the record."""
    from tests.acceptance.gateway_process import GatewayProcess
    from tests.eventually import eventually

    with tempfile.TemporaryDirectory(prefix="ecluse-bench-") as name:
        gateway = GatewayProcess(Path(name) / "gateway")
        gateway.start()
        try:
            start = time.perf_counter()
            sent = load(gateway.mllp_port, 8, seconds)
            accepted_seconds = time.perf_counter() - start
            eventually(gateway.settled, timeout=600, every=0.2)
            total = time.perf_counter() - start
            delivered = gateway.ledger()["lab"]["delivered"]
            assert delivered == sent["sent"], f"{delivered} delivered of {sent['sent']}"
        finally:
            gateway.stop()
    return {
        "messages": sent["sent"],
        "accepted_per_second": round(sent["sent"] / accepted_seconds, 1),
        "in_record_per_second": round(sent["sent"] / total, 1),
    }


def latency(seconds: float, rate: float) -> dict[str, Any]:
    """p50 and p99 in milliseconds from acceptance to the record at a steady rate."""
    from gateway.opening import open_journal
    from gateway.settings import load_settings
    from tests.acceptance.gateway_process import GatewayProcess
    from tests.eventually import eventually

    with tempfile.TemporaryDirectory(prefix="ecluse-bench-") as name:
        gateway = GatewayProcess(Path(name) / "gateway")
        gateway.start()
        try:
            warm = load(gateway.mllp_port, 8, WARM_SECONDS, "--rate", str(rate))
            eventually(gateway.settled, timeout=60, every=0.1)
            sent = load(gateway.mllp_port, 8, seconds, "--rate", str(rate))
            eventually(gateway.settled, timeout=60, every=0.1)
        finally:
            gateway.stop()
        journal = open_journal(load_settings(gateway.configuration), read_only=True)
        with journal.read() as connection:
            rows = connection.exec_driver_sql(
                "select m.received_at, d.changed_at from message m "
                "join delivery d on d.message_id = m.id where d.state = 'delivered' "
                f"order by m.id limit -1 offset {int(warm['sent'])}"
            ).all()
        journal.close()
    waits = [_milliseconds(received, delivered) for received, delivered in rows]
    cuts = statistics.quantiles(waits, n=100)
    return {
        "rate": sent["per_second"],
        "messages": len(waits),
        "p50_ms": round(cuts[49], 1),
        "p99_ms": round(cuts[98], 1),
    }


def _milliseconds(start: Any, end: Any) -> float:
    from datetime import datetime

    first, last = (
        value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        for value in (start, end)
    )
    return (last - first).total_seconds() * 1000


def measure(seconds: float, rate: float) -> dict[str, Any]:
    """Both figures."""
    return {"sustained": sustained(seconds), "latency": latency(seconds, rate)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=100.0)
    given = parser.parse_args()
    print(json.dumps(measure(given.seconds, given.rate), indent=2))
