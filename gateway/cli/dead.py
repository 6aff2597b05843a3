"""``ecluse dead``: the dead letters, and the way back."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.access import account
from gateway.cli.asking import asked
from gateway.cli.options import (
    BeforeOption,
    ConfigOption,
    JsonOption,
    StateOption,
    row_number,
    settings,
)
from gateway.cli.output import Code, data, facts, fail, heading, say, table

if TYPE_CHECKING:
    from deadletter.selection import Report
    from gateway.settings import Settings

app = typer.Typer(name="dead", help="Dead letters, and the way back.", no_args_is_help=True)

LIMIT_MAX = 500
REPAIR_BYTES_MAX = 64 << 20

Numbers = Annotated[
    list[int] | None,
    typer.Argument(
        help="Numbers of dead letters.",
        metavar="[NUMBER]...",
        show_default=False,
        parser=row_number,
    ),
]
GroupOption = Annotated[str, typer.Option("--group", help="A group's fingerprint.")]
CauseOption = Annotated[str, typer.Option("--cause", help="A cause code.")]
DestinationOption = Annotated[
    str, typer.Option("--destination", help="Only deliveries to this destination.")
]
AllOption = Annotated[bool, typer.Option("--all", help="Every one that nobody has settled.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")]
KeyOption = Annotated[
    str,
    typer.Option("--key", help="Names this action: given twice, it acts once.", metavar="KEY"),
]


@app.command("list")
def list_letters(
    *,
    groups: Annotated[
        bool, typer.Option("--groups", help="By cause and place instead of one by one.")
    ] = False,
    group: GroupOption = "",
    cause: CauseOption = "",
    source: Annotated[str, typer.Option(help="Only of this source.")] = "",
    destination: DestinationOption = "",
    assignee: Annotated[str, typer.Option(help="Only those of this person.")] = "",
    settled: Annotated[bool, typer.Option("--settled", help="Those that are settled.")] = False,
    before: BeforeOption = None,
    limit: Annotated[int, typer.Option(min=1, max=LIMIT_MAX, help="How many at most.")] = 50,
    json_output: JsonOption = False,
    config: ConfigOption = None,
    state_folder: StateOption = None,
) -> None:
    """List dead letters, newest first, or their groups."""
    from gateway import shapes
    from gateway.cli.access import reading
    from gateway.journal import deadletters
    from gateway.journal.values import DeadLetterFilter

    wanted = DeadLetterFilter(
        resolved=settled, fingerprint=group, code=cause, source=source, destination=destination,
        assignee=assignee,
    )  # fmt: skip
    with reading(settings(config, state_folder)) as journal, journal.read() as connection:
        if groups:
            found = [shapes.group(each) for each in deadletters.groups(connection)]
        else:
            page = deadletters.page(connection, wanted, before_id=before, limit=limit)
            found = [shapes.dead_letter(each) for each in page]
    if json_output:
        data(found)
    elif groups:
        table(
            ["group", "count", "stage", "cause", "where", "sources", "last"],
            [
                (g["group"], g["count"], g["stage"], g["code"], g["location"],
                 ", ".join(g["sources"]), g["last_at"])
                for g in found
            ],
            numbers=["count"],
        )  # fmt: skip
    else:
        table(
            ["no", "message", "source", "type", "stage", "cause", "where", "buried", "settled"],
            [
                (d["id"], d["message_id"], d["source"], d["kind"], d["stage"],
                 d["cause"]["code"], d["cause"]["location"], d["buried_at"], d["resolution"])
                for d in found
            ],
            numbers=["no", "message"],
        )  # fmt: skip


@app.command("show")
def show_letter(
    number: Annotated[
        int, typer.Argument(help="The dead letter's number.", metavar="NUMBER", parser=row_number)
    ],
    *,
    json_output: JsonOption = False,
    config: ConfigOption = None,
    state_folder: StateOption = None,
) -> None:
    """Show one dead letter: why, what it means, what to do, and its message's life."""
    from gateway import shapes
    from gateway.cli.access import reading
    from gateway.journal import deadletters, desk_actions, messages

    with reading(settings(config, state_folder)) as journal, journal.read() as connection:
        letter = deadletters.get(connection, number)
        if letter is None:
            fail(Code.FAILED, f"there is no dead letter {number}")
        message = messages.get(connection, letter.message_id)
        told = desk_actions.page(connection, dead_letter_id=number, fingerprint=letter.fingerprint)
        life = shapes.life(connection, message, resources=False) if message else None
    shape = {
        **shapes.dead_letter(letter),
        "message": life,
        "actions": [shapes.desk_action(each) for each in told],
    }
    if json_output:
        data(shape)
        return
    cause = shape["cause"]
    facts(
        [
            ("dead letter", shape["id"]), ("message", shape["message_id"]),
            ("source", shape["source"]), ("type", shape["kind"]), ("stage", shape["stage"]),
            ("cause", f"{cause['title']} ({cause['code']})"), ("", cause["detail"]),
            ("where", cause["location"]), ("protocol code", cause["protocol_code"]),
            ("it means", cause["means"]), ("what to do", cause["do"]), ("group", shape["group"]),
            ("attempts", shape["attempts"]), ("buried", shape["buried_at"]),
            ("settled", shape["resolution"]), ("by", shape["actor"]), ("reason", shape["reason"]),
            ("went on as", shape["child_message_id"]), ("destination", shape["destination"]),
            ("whose", shape["assignee"]),
        ]
    )  # fmt: skip
    _print_life(shape)


def words_of(action: dict[str, Any]) -> str:
    """A person's own words of an action, or to whom it was assigned."""
    if action["what"] == "assign":
        return f"to {action['detail'].get('assignee') or 'nobody'}"
    return str(action["reason"] or "")


def _print_life(shape: dict[str, Any]) -> None:
    life = shape["message"]
    if life:
        heading("\nEvents")
        table(["at", "stage", "what"], [(e["at"], e["stage"], e["what"]) for e in life["events"]])
        for sent in life["deliveries"]:
            heading(f"\nTo {sent['destination']}: {sent['state']}")
            table(
                ["attempt", "at", "outcome", "what the destination answered"],
                [
                    (a["number"], a["started_at"], a["outcome"],
                     a["evidence"] or (a["cause"] or {}).get("detail"))
                    for a in sent["attempts"]
                ],
                numbers=["attempt"],
            )  # fmt: skip
    if shape["actions"]:
        heading("\nWho did what")
        table(
            ["at", "who", "what", "reason"],
            [(a["at"], a["actor"], a["what"], words_of(a)) for a in shape["actions"]],
        )


@app.command("replay")
def replay(
    numbers: Numbers = None,
    *,
    group: GroupOption = "",
    cause: CauseOption = "",
    every: AllOption = False,
    source: Annotated[str, typer.Option("--source", help="Of these, only a source's.")] = "",
    destination: DestinationOption = "",
    rate: Annotated[
        float | None,
        typer.Option("--rate", help="As a job: how many a second.", show_default=False),
    ] = None,
    ramp: Annotated[
        str | None,
        typer.Option(
            "--ramp",
            help="As a job: sizes of the first steps, each of which must have gone well: 1,5,25.",
            show_default=False,
        ),
    ] = None,
    stop_percent: Annotated[
        int | None,
        typer.Option(
            "--stop-percent",
            help="As a job: share of failures above which it halts by itself (10).",
            show_default=False,
        ),
    ] = None,
    repaired: Annotated[
        Path | None,
        typer.Option(
            "--with",
            help="Repaired bytes for the one dead letter that is named.",
            metavar="FILE",
            show_default=False,
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; kept with the message.")] = "",
    dry_run: DryRunOption = False,
    key: KeyOption = "",
    json_output: JsonOption = False,
    config: ConfigOption = None,
    state_folder: StateOption = None,
) -> None:
    """Let dead letters go again, in order. Through the gateway when it runs.

    With --rate, --ramp or --stop-percent it is a job of the running gateway: see ecluse dead jobs.
    Exit 1 when one of them did not go.
    """
    selection = _selection(numbers or [], group=group, cause=cause, every=every)
    selection |= {n: v for n, v in (("source", source), ("destination", destination)) if v}
    effective = settings(config, state_folder)
    press = key or secrets.token_hex(16)
    pace = {"per_second": rate, "ramp": ramp, "stop_percent": stop_percent}
    if any(value is not None for value in pace.values()) and not dry_run:
        from gateway.cli.dead_jobs import submit

        submit(
            effective, {**selection, "reason": reason, "key": press}, pace,
            json_output=json_output,
        )  # fmt: skip
        return
    if repaired is None:
        action = {**selection, "reason": reason, "dry_run": dry_run, "key": press}
        report = _act(effective, "replay", action)
    else:
        if len(selection.get("ids", [])) != 1 or dry_run:
            fail(Code.USAGE, "--with goes with one number, and without --dry-run")
        report = repair_with(effective, selection["ids"][0], repaired, reason=reason, key=press)
    print_report(report, json_output=json_output)


@app.command("discard")
def discard(
    numbers: Numbers = None,
    *,
    reason: Annotated[str, typer.Option(help="Why; kept with the message.")],
    group: GroupOption = "",
    cause: CauseOption = "",
    every: AllOption = False,
    dry_run: DryRunOption = False,
    key: KeyOption = "",
    json_output: JsonOption = False,
    config: ConfigOption = None,
    state_folder: StateOption = None,
) -> None:
    """Decide that dead letters do not go. They stay readable, with who decided and why."""
    selection = _selection(numbers or [], group=group, cause=cause, every=every)
    press = key or secrets.token_hex(16)
    action = {**selection, "reason": reason, "dry_run": dry_run, "key": press}
    print_report(_act(settings(config, state_folder), "discard", action), json_output=json_output)


def _selection(numbers: list[int], *, group: str, cause: str, every: bool) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for name, value in (("ids", numbers), ("group", group), ("cause", cause), ("all", every)):
        if value:
            given[name] = value
    if len(given) != 1:
        fail(Code.USAGE, "give numbers, or one of --group, --cause, --all")
    return given


def _act(effective: Settings, what: str, action: dict[str, Any]) -> dict[str, Any]:
    """Replay or discard, through the running gateway or directly."""
    from gateway.cli.access import ask, running, writing

    gateway = running(effective)
    if gateway is not None:
        return asked(lambda: ask(effective, gateway, f"/dead-letters/{what}", json_body=action))
    from deadletter import replay as desk
    from gateway.journal.values import DeadLetterFilter

    wanted = DeadLetterFilter(
        ids=tuple(action.get("ids", ())), fingerprint=action.get("group", ""),
        code=action.get("cause", ""), source=action.get("source", ""),
        destination=action.get("destination", ""),
    )  # fmt: skip
    take = desk.replay if what == "replay" else desk.discard
    with writing(effective) as journal:
        return _done(
            lambda: take(
                journal, wanted, actor=account(), key=action["key"], reason=action["reason"],
                dry_run=action["dry_run"],
            )
        )  # fmt: skip


def repair_with(
    effective: Settings, number: int, path: Path, *, reason: str, key: str
) -> dict[str, Any]:
    from gateway.cli.access import ask, read_bounded, running, writing

    try:
        content = read_bounded(path, REPAIR_BYTES_MAX)
    except (OSError, ValueError) as error:
        fail(Code.USAGE, str(error))
    if not content:
        fail(Code.USAGE, f"{path}: is empty")
    gateway = running(effective)
    if gateway is not None:
        parameters = {"reason": reason, "key": key}
        return asked(
            lambda: ask(
                effective, gateway, f"/dead-letters/{number}/replay", content=content,
                parameters=parameters,
            )
        )  # fmt: skip
    from deadletter import replay as desk
    from gateway.model import Payload

    with writing(effective) as journal:
        payload = Payload.from_bytes(content)
        return _done(
            lambda: desk.repair(journal, number, payload, actor=account(), key=key, reason=reason)
        )


def _done(action: Any) -> dict[str, Any]:
    try:
        report: Report = action()
    except (ValueError, LookupError) as error:
        fail(Code.USAGE if isinstance(error, ValueError) else Code.FAILED, str(error))
    return report.as_json()


def print_report(report: dict[str, Any], *, json_output: bool) -> None:
    counts = report["counts"]
    if json_output:
        data(report)
    else:
        table(
            ["dead letter", "message", "result", "went on as"],
            [
                (i["dead_letter_id"], i["message_id"], i["verdict"], i["child"])
                for i in report["items"]
            ],
            numbers=["dead letter", "message"],
        )
        said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        lead = "would be: " if report["dry_run"] else ""
        say(f"{lead}{said or 'there is nothing to do'}")
        if report["more"]:
            say("There are more than one action takes; do it again for the rest.")
    stayed = counts.get("withheld", 0) + counts.get("gone", 0)
    if (stayed or not counts) and not report["dry_run"]:
        raise typer.Exit(Code.FAILED)
