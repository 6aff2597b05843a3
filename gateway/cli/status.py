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
    from gateway.settings import Settings

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
        account = _account(connection, effective, gateway)
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
    if account["rooms"]:
        heading("\nHeld, not dead")
        table(
            ["room", "count", "of", "oldest", "what to do"],
            [
                (each["title"], each["count"], each["what"], each["oldest_at"], each["do"])
                for each in account["rooms"]
            ],
            numbers=("count",),
        )
    for each in account["standing"]:
        if each["mode"] != "running":
            say(f"The {each['kind']} {each['name']} stands still: {each['mode']}.")
        if each.get("closed_until"):
            say(f"To {each['name']} nothing is sent until {each['closed_until']}: {each['cause']}")
    last = gateway.configuration if gateway else {}
    for problem in last.get("problems", ()):
        say(f"The configuration read at {last['at']} is not in force: {problem}")
    for name in last.get("restart", ()):
        say(f"{name} has changed and waits for a restart.")


def _account(
    connection: Connection, effective: Settings, gateway: Running | None
) -> dict[str, Any]:
    from gateway import figures, rooms, shapes
    from gateway.journal import acknowledgements, messages
    from gateway.shares import Shares

    now = datetime.now(UTC)
    sources = [each.name for each in effective.sources]
    destinations = [each.name for each in effective.destinations]
    shares = Shares(destinations)
    return {
        "at": shapes.instant(datetime.now(UTC)),
        "running": asdict(gateway) if gateway else None,
        **shapes.ledger(messages.ledger(connection)),
        "held": figures.held_by_cause(connection),
        "dead_letters": figures.dead_by_cause(connection),
        "acknowledgements": shapes.acknowledgements(acknowledgements.counts(connection)),
        "standing": [
            shapes.standing(each) for each in rooms.standing(connection, sources, destinations, now)
        ],
        "rooms": [shapes.room(each) for each in rooms.rooms(connection, shares, now)],
        "destinations": [
            {**asdict(each), "oldest_due": shapes.instant(each.oldest_due)}
            for each in figures.lateness(connection)
        ],
    }
