"""``ecluse status``: the account of every source, of a running or a stopped gateway."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gateway.cli.options import ConfigOption, JsonOption, StateOption, settings
from gateway.cli.output import data, facts, heading, say, table

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from gateway.cli.access import Running

COLUMNS = (
    "received", "accepted", "refused", "duplicates", "delivered", "pending", "held", "unmapped",
    "dead", "discarded", "replayed",
)  # fmt: skip


def status(
    config: ConfigOption = None,
    state_folder: StateOption = None,
    json_output: JsonOption = False,
) -> None:
    """Print what each source sent and where it stands. Works while the gateway runs."""
    from gateway.cli.access import reading, running

    effective = settings(config, state_folder)
    gateway = running(effective)
    with reading(effective) as journal, journal.read() as connection:
        account = _account(connection, gateway)
    if json_output:
        data(account)
        return
    say(f"The gateway runs (process {gateway.pid}, {gateway.url})." if gateway
        else "The gateway does not run.")  # fmt: skip
    table(
        ["source", *COLUMNS],
        [
            *((name, *(line[c] for c in COLUMNS)) for name, line in account["sources"].items()),
            ("total", *(account["total"][c] for c in COLUMNS)),
        ],
        numbers=COLUMNS,
    )
    for name, standing in account["acknowledgements"].items():
        heading(f"\nApplication acknowledgements to {name}")
        facts(list(standing.items()))
    for queue in account["destinations"]:
        heading(f"\nTo {queue['destination']}")
        facts([("pending", queue["pending"]), ("oldest due", queue["oldest_due"])])
    last = gateway.configuration if gateway else {}
    for problem in last.get("problems", ()):
        say(f"The configuration read at {last['at']} is not in force: {problem}")
    for name in last.get("restart", ()):
        say(f"{name} has changed and waits for a restart.")


def _account(connection: Connection, gateway: Running | None) -> dict[str, Any]:
    from gateway import figures, shapes
    from gateway.journal import acknowledgements, messages

    return {
        "at": shapes.instant(datetime.now(UTC)),
        "running": asdict(gateway) if gateway else None,
        **shapes.ledger(messages.ledger(connection)),
        "held": figures.held_by_cause(connection),
        "dead_letters": figures.dead_by_cause(connection),
        "acknowledgements": shapes.acknowledgements(acknowledgements.counts(connection)),
        "destinations": [
            {**asdict(each), "oldest_due": shapes.instant(each.oldest_due)}
            for each in figures.lateness(connection)
        ],
    }
