"""``ecluse dead``: the dead letters, and the way back."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.options import ConfigOption, JsonOption, StateOption, settings
from gateway.cli.output import Code, data, facts, fail, heading, say, table

if TYPE_CHECKING:
    from deadletter.selection import Report
    from gateway.settings import Settings

app = typer.Typer(name="dead", help="Dead letters, and the way back.", no_args_is_help=True)

LIMIT_MAX = 500
REPAIR_BYTES_MAX = 64 << 20

Numbers = Annotated[
    list[int] | None,
    typer.Argument(help="Numbers of dead letters.", metavar="[NUMBER]...", show_default=False),
]
GroupOption = Annotated[str, typer.Option("--group", help="A group's fingerprint.")]
CauseOption = Annotated[str, typer.Option("--cause", help="A cause code.")]
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
    settled: Annotated[bool, typer.Option("--settled", help="Those that are settled.")] = False,
    before: Annotated[
        int | None, typer.Option(help="Only with a lower number.", show_default=False)
    ] = None,
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

    wanted = DeadLetterFilter(resolved=settled, fingerprint=group, code=cause, source=source)
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
    number: Annotated[int, typer.Argument(help="The dead letter's number.", metavar="NUMBER")],
    *,
    json_output: JsonOption = False,
    config: ConfigOption = None,
    state_folder: StateOption = None,
) -> None:
    """Show one dead letter: why, what it means, what to do, and its message's life."""
    from gateway import shapes
    from gateway.cli.access import reading
    from gateway.journal import deadletters, messages

    with reading(settings(config, state_folder)) as journal, journal.read() as connection:
        letter = deadletters.get(connection, number)
        if letter is None:
            fail(Code.FAILED, f"there is no dead letter {number}")
        message = messages.get(connection, letter.message_id)
        life = shapes.life(connection, message, resources=False) if message else None
    shape = {**shapes.dead_letter(letter), "message": life}
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
            ("went on as", shape["child_message_id"]),
        ]
    )  # fmt: skip
    if life:
        heading("\nEvents")
        table(["at", "stage", "what"], [(e["at"], e["stage"], e["what"]) for e in life["events"]])


@app.command("replay")
def replay(
    numbers: Numbers = None,
    *,
    group: GroupOption = "",
    cause: CauseOption = "",
    every: AllOption = False,
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

    Exit 1 when one of them did not go.
    """
    selection = _selection(numbers or [], group=group, cause=cause, every=every)
    effective = settings(config, state_folder)
    press = key or secrets.token_hex(16)
    if repaired is None:
        action = {**selection, "reason": reason, "dry_run": dry_run, "key": press}
        report = _act(effective, "replay", action)
    else:
        if len(selection.get("ids", [])) != 1 or dry_run:
            fail(Code.USAGE, "--with goes with one number, and without --dry-run")
        report = _repair(effective, selection["ids"][0], repaired, reason=reason, key=press)
    _print(report, json_output=json_output)


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
    _print(_act(settings(config, state_folder), "discard", action), json_output=json_output)


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
        return _asked(lambda: ask(effective, gateway, f"/dead-letters/{what}", json_body=action))
    from deadletter import replay as desk
    from gateway.journal.values import DeadLetterFilter

    wanted = DeadLetterFilter(
        ids=tuple(action.get("ids", ())), fingerprint=action.get("group", ""),
        code=action.get("cause", ""),
    )  # fmt: skip
    take = desk.replay if what == "replay" else desk.discard
    with writing(effective) as journal:
        return _done(
            lambda: take(
                journal, wanted, actor=account(), key=action["key"], reason=action["reason"],
                dry_run=action["dry_run"],
            )
        )  # fmt: skip


def _repair(
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
        return _asked(
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


def _asked(request: Any) -> dict[str, Any]:
    from gateway.api.security import TokenUnusable
    from gateway.cli.access import Refused

    try:
        answer: dict[str, Any] = request()
    except Refused as refused:
        fail(Code.USAGE if refused.status == 422 else Code.FAILED, str(refused))
    except ConnectionError as error:
        fail(Code.UNREACHABLE, f"the gateway does not answer: {error}")
    except TokenUnusable as error:
        fail(Code.USAGE, str(error))
    return answer


def _done(action: Any) -> dict[str, Any]:
    try:
        report: Report = action()
    except (ValueError, LookupError) as error:
        fail(Code.USAGE if isinstance(error, ValueError) else Code.FAILED, str(error))
    return report.as_json()


def account() -> str:
    """Who acts from the command line: the system's account."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "command line"


def _print(report: dict[str, Any], *, json_output: bool) -> None:
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
