"""``ecluse message``: what was handed over and what became of it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.options import (
    BeforeOption,
    ConfigOption,
    JsonOption,
    StateOption,
    row_number,
    settings,
)
from gateway.cli.output import Code, data, facts, fail, heading, state, table

if TYPE_CHECKING:
    from gateway.journal.journal import Journal
    from gateway.journal.values import Message, MessageFilter
    from gateway.settings import Settings

app = typer.Typer(name="message", help="Messages and their lives.", no_args_is_help=True)

LIMIT_MAX = 500
_BLOCK_BYTES = 1 << 20


@app.command("list")
def list_messages(
    *,
    source: Annotated[str, typer.Option(help="Only of this source.")] = "",
    states: Annotated[
        list[str] | None,
        typer.Option("--state", help="Only in this state (may be repeated).", metavar="STATE"),
    ] = None,
    kind: Annotated[str, typer.Option(help="Only of this type, such as ORU^R01.")] = "",
    control_id: Annotated[str, typer.Option(help="Only with this control id.")] = "",
    patient: Annotated[str, typer.Option(help="Only of this patient's record.")] = "",
    cause: Annotated[str, typer.Option(help="Only with this cause code.")] = "",
    before: BeforeOption = None,
    limit: Annotated[int, typer.Option(min=1, max=LIMIT_MAX, help="How many at most.")] = 50,
    json_output: JsonOption = False,
    config: ConfigOption = None,
    state_folder: StateOption = None,
) -> None:
    """List messages, newest first."""
    from gateway import shapes
    from gateway.cli.access import reading
    from gateway.journal import messages

    wanted = _filter(
        source=source, states=states or [], kind=kind, control_id=control_id, patient=patient,
        cause=cause,
    )  # fmt: skip
    with reading(settings(config, state_folder)) as journal, journal.read() as connection:
        found = messages.page(connection, wanted, before_id=before, limit=limit)
    if json_output:
        data([shapes.message(each) for each in found])
        return
    table(
        ["no", "received", "source", "type", "control id", "state", "cause"],
        [
            (m.id, shapes.instant(m.received_at), m.source, m.kind, m.control_id, state(m.state),
             m.cause.code if m.cause else "")
            for m in found
        ],
        numbers=["no"],
    )  # fmt: skip


@app.command("bury")
def bury(
    numbers: Annotated[
        list[int],
        typer.Argument(
            help="Messages that are held or unmapped.", metavar="NUMBER...", parser=row_number
        ),
    ],
    *,
    reason: Annotated[str, typer.Option(help="Why what they wait for will not come.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say which of them wait.")
    ] = False,
    json_output: JsonOption = False,
    config: ConfigOption = None,
    state_folder: StateOption = None,
) -> None:
    """End the wait of held or unmapped messages: they become dead letters.

    There each can be repaired, replayed or discarded. Exit 1 when one of them does not wait.
    """
    action = {"ids": numbers, "reason": reason, "dry_run": dry_run}
    done = _end_waits(settings(config, state_folder), action)
    if json_output:
        data(done)
    else:
        table(
            ["message", "dead letter"],
            [(each["message"], each["dead_letter"] or "would wait no longer")
             for each in done["buried"]],
            numbers=["message", "dead letter"],
        )  # fmt: skip
    if done["not_waiting"]:
        said = ", ".join(map(str, done["not_waiting"]))
        fail(Code.FAILED, f"not held or unmapped, so nothing was done with {said}")


def _end_waits(effective: Settings, action: dict[str, Any]) -> dict[str, Any]:
    """Through the running gateway, or directly when none runs."""
    from gateway.cli.access import account, ask, running, writing
    from gateway.cli.asking import asked

    gateway = running(effective)
    if gateway is not None:
        return asked(lambda: ask(effective, gateway, "/messages/bury", json_body=action))
    from deadletter.waiting import end_wait
    from gateway.shapes import ended_waits

    with writing(effective) as journal:
        try:
            buried = end_wait(
                journal, action["ids"], actor=account(), reason=action["reason"],
                dry_run=action["dry_run"],
            )  # fmt: skip
        except ValueError as error:
            fail(Code.USAGE, str(error))
    return ended_waits(buried, action["ids"], dry_run=action["dry_run"])


def _filter(
    *, source: str, states: list[str], kind: str, control_id: str, patient: str, cause: str
) -> MessageFilter:
    from gateway.journal.states import MessageState
    from gateway.journal.values import MessageFilter

    known = [each.value for each in MessageState]
    wrong = sorted(set(states) - set(known))
    if wrong:
        fail(Code.USAGE, f"{', '.join(wrong)}: not a state; there are {', '.join(known)}")
    return MessageFilter(
        states=tuple(MessageState(each) for each in states), source=source, kind=kind,
        control_id=control_id, patient_id=patient, cause_code=cause,
    )  # fmt: skip


@app.command("show")
def show_message(
    number: Annotated[
        int, typer.Argument(help="The message's number.", metavar="NUMBER", parser=row_number)
    ],
    *,
    raw: Annotated[
        bool, typer.Option("--raw", help="Write the exact bytes to standard output instead.")
    ] = False,
    entries: Annotated[
        bool, typer.Option("--entries", help="With the FHIR resources that the mapping made.")
    ] = False,
    json_output: JsonOption = False,
    config: ConfigOption = None,
    state_folder: StateOption = None,
) -> None:
    """Show one message: its facts, its events, its entries, its deliveries with their attempts."""
    from gateway import shapes
    from gateway.cli.access import reading
    from gateway.journal import messages

    with reading(settings(config, state_folder)) as journal, journal.read() as connection:
        found = messages.get(connection, number)
        if found is None:
            fail(Code.FAILED, f"there is no message {number}")
        if raw:
            _write_bytes(journal, found)
            return
        life = shapes.life(connection, found, resources=entries)
    if json_output:
        data(life)
    else:
        _print_life(life, entries=entries)


def _write_bytes(journal: Journal, found: Message) -> None:
    from gateway.journal import messages

    with messages.payload(journal, found).open() as stream:
        while block := stream.read(_BLOCK_BYTES):
            sys.stdout.buffer.write(block)
    sys.stdout.buffer.flush()


def _print_life(life: dict[str, Any], *, entries: bool) -> None:
    cause = life["cause"] or {}
    facts(
        [
            ("message", life["id"]), ("state", state(life["state"])), ("source", life["source"]),
            ("type", life["kind"]), ("control id", life["control_id"]),
            ("received", life["received_at"]), ("arrivals", life["arrivals"]),
            ("peer", life["peer"]), ("size", f"{life['size']} bytes"), ("sha256", life["sha256"]),
            ("parent", life["parent_id"]), ("record", life["patient_id"]),
            ("mapping", life["mapping"] and f"{life['mapping']} {life['mapping_version']}"),
            ("cause", cause.get("title")), ("", cause.get("detail")),
            ("where", cause.get("location")), ("what to do", cause.get("do")),
        ]
    )  # fmt: skip
    heading("\nEvents")
    table(
        ["at", "stage", "what", "detail"],
        [
            (e["at"], e["stage"], e["what"], ", ".join(f"{k}={v}" for k, v in e["detail"].items()))
            for e in life["events"]
        ],
    )
    made = life["normalised"]
    if made:
        heading("\nEntries")
        table(["reference"], [(each["reference"],) for each in made["entries"]])
        if entries:
            from gateway.serialise import dumps

            for each in made["entries"]:
                typer.echo(dumps(each["resource"], indent=True).decode("utf-8"))
    for delivery in life["deliveries"]:
        heading(f"\nDelivery to {delivery['destination']}: {delivery['state']}")
        table(
            ["attempt", "started", "outcome", "answer"],
            [
                (a["number"], a["started_at"], a["outcome"] or "unfinished",
                 a["evidence"] or (a["cause"] or {}).get("detail"))
                for a in delivery["attempts"]
            ],
            numbers=["attempt"],
        )  # fmt: skip
