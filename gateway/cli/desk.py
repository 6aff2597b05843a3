"""``ecluse dead``: edit, assign, note, export, and look back at who did what."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO
from urllib.parse import quote

import typer

from gateway.cli.access import account
from gateway.cli.dead import (
    REPAIR_BYTES_MAX,
    GroupOption,
    KeyOption,
    print_report,
    repair_with,
    words_of,
)
from gateway.cli.dead_jobs import ask_desk
from gateway.cli.options import ConfigOption, JsonOption, StateOption, row_number, settings
from gateway.cli.output import Code, data, fail, say, table

if TYPE_CHECKING:
    from gateway.settings import Settings

EXPORT_MAX = 200

NumberArgument = Annotated[
    int, typer.Argument(help="The dead letter's number.", metavar="NUMBER", parser=row_number)
]


def list_groups(
    *,
    json_output: JsonOption = False,
    config: ConfigOption = None,
    state_folder: StateOption = None,
) -> None:
    """List the groups: each a trouble, with how often, since when, from where, and whose."""
    from gateway import shapes
    from gateway.cli.access import reading
    from gateway.journal import deadletters

    with reading(settings(config, state_folder)) as journal, journal.read() as connection:
        found = [shapes.group(g) for g in deadletters.groups(connection, now=journal.now())]
    if json_output:
        data(found)
        return
    table(
        ["group", "count", "cause", "where", "sources", "first", "last", "last 24 h", "whose"],
        [
            (g["group"], g["count"], g["title"], g["location"] or g["destination"],
             ", ".join(f"{name} {count}" for name, count in g["by_source"].items()),
             g["first_at"], g["last_at"], _bars(g["trend"]), g["assignee"])
            for g in found
        ],
        numbers=["count"],
    )  # fmt: skip


_BARS = " ▁▂▃▄▅▆▇█"


def _bars(counts: list[int]) -> str:
    """Counts as bars, the highest one as high as a line."""
    most = max(counts, default=0) or 1
    return "".join(_BARS[-(-count * (len(_BARS) - 1) // most)] for count in counts)


def edit(
    number: NumberArgument,
    *,
    message: Annotated[
        Path | None,
        typer.Option("--message", help="The corrected message.", metavar="FILE", exists=True,
                     dir_okay=False, show_default=False),
    ] = None,
    entries: Annotated[
        Path | None,
        typer.Option("--entries", help="A JSON array of the corrected FHIR resources.",
                     metavar="FILE", exists=True, dir_okay=False, show_default=False),
    ] = None,
    show_entries: Annotated[
        bool, typer.Option("--show-entries", help="Print the entries as they are (patient data).")
    ] = False,
    base: Annotated[
        str, typer.Option("--base", help="Which entries were edited; as --show-entries says.")
    ] = "",
    reason: Annotated[str, typer.Option(help="Why; kept with the message.")] = "",
    key: KeyOption = "",
    json_output: JsonOption = False,
    config: ConfigOption = None,
    state_folder: StateOption = None,
) -> None:  # fmt: skip
    """Let a corrected child take a dead message's place: with other bytes, or other entries.

    The original stays as it is. Exit 1 when what stands there is not what was edited.
    """
    from gateway.cli.access import read_bounded, reading

    effective = settings(config, state_folder)
    if sum((message is not None, entries is not None, show_entries)) != 1:
        fail(Code.USAGE, "give one of --message, --entries, --show-entries")
    if message is not None:
        report = repair_with(
            effective, number, message, reason=reason, key=key or secrets.token_hex(16)
        )
        print_report(report, json_output=json_output)
        return
    if show_entries:
        from deadletter import editing
        from gateway.serialise import dumps

        with reading(effective) as journal, journal.read() as connection:
            try:
                found = editing.open_entries(connection, number)
            except (LookupError, editing.Stale, editing.NothingToEdit) as error:
                fail(Code.FAILED, str(error))
        typer.echo(dumps([each.resource for each in found.entries], indent=True).decode())
        typer.echo(f"base {found.base}", err=True)
        return
    assert entries is not None
    try:
        content = read_bounded(entries, REPAIR_BYTES_MAX)
    except (OSError, ValueError) as error:
        fail(Code.USAGE, str(error))
    told = ask_desk(
        effective, f"/{number}/entries", content=content,
        parameters={"reason": reason, "key": key or secrets.token_hex(16), "base": base},
    )  # fmt: skip
    if json_output:
        data(told)
    else:
        say(f"went on as message {told['items'][0]['child']}")


def _target(number: int | None, group: str) -> str:
    if (number is None) == (not group):
        fail(Code.USAGE, "give a number, or --group")
    return f"/{number}" if number is not None else f"/groups/{quote(group, safe='')}"


OneNumber = Annotated[
    int | None,
    typer.Option(
        "--letter",
        help="One dead letter.",
        show_default=False,
        parser=row_number,
        metavar="NUMBER",
    ),
]


def assign(
    assignee: Annotated[str, typer.Argument(help="Whose it is; '' for nobody's.", metavar="WHO")],
    *,
    letter: OneNumber = None,
    group: GroupOption = "",
    config: ConfigOption = None,
    state_folder: StateOption = None,
) -> None:
    """Say whose a group or a dead letter is."""
    target = _target(letter, group)
    effective = settings(config, state_folder)
    ask_desk(effective, f"{target}/assign", {"text": assignee})
    say(f"assigned to {assignee}" if assignee else "assigned to nobody")


def write_note(
    text: Annotated[str, typer.Argument(help="What is to be kept.", metavar="TEXT")],
    *,
    letter: OneNumber = None,
    group: GroupOption = "",
    config: ConfigOption = None,
    state_folder: StateOption = None,
) -> None:
    """Write a note on a group or a dead letter."""
    target = _target(letter, group)
    ask_desk(settings(config, state_folder), f"{target}/notes", {"text": text})
    say("noted")


def export(
    numbers: Annotated[
        list[int] | None,
        typer.Argument(
            help="Numbers of dead letters.",
            metavar="[NUMBER]...",
            show_default=False,
            parser=row_number,
        ),
    ] = None,
    *,
    group: GroupOption = "",
    output: Annotated[Path, typer.Option("--output", "-o", help="The zip file to write.")],
    deidentify: Annotated[
        bool,
        typer.Option(
            "--deidentify", help="Without names, identifiers, dates and free text; see the docs."
        ),
    ] = False,
    limit: Annotated[int, typer.Option(help="Of a group: how many.", min=1, max=EXPORT_MAX)] = 20,
    config: ConfigOption = None,
    state_folder: StateOption = None,
) -> None:
    """Write dead letters with all that is known of them into a folder in a zip, for a ticket."""
    if bool(numbers) == bool(group):
        fail(Code.USAGE, "give numbers, or --group")
    effective = settings(config, state_folder)
    try:
        # Readable by its owner only: it may hold data of patients.
        stream = os.fdopen(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    except FileExistsError:
        fail(Code.USAGE, f"{output} is there already")
    except OSError as error:
        fail(Code.FAILED, f"{output}: {error.strerror}")
    try:
        with stream:
            said = _export(
                effective, stream, numbers or [], group, limit=limit, deidentify=deidentify
            )
        if said:
            fail(Code.FAILED, said)
    except BaseException as error:
        output.unlink(missing_ok=True)  # half of it is worse than nothing
        if isinstance(error, ConnectionError):
            fail(Code.UNREACHABLE, f"the gateway does not answer: {error}")
        if isinstance(error, OSError):
            fail(Code.FAILED, f"{output}: {error.strerror or error}")
        raise
    say(f"{output} is written{', de-identified' if deidentify else ''}")


def _export(
    effective: Settings,
    stream: BinaryIO,
    numbers: list[int],
    group: str,
    *,
    limit: int,
    deidentify: bool,
) -> str:
    """Through the gateway when it runs, which keeps who took it; what went wrong, or nothing."""
    from gateway.cli.access import Refused, fetch, running, writing

    gateway = running(effective)
    if gateway is not None:
        parameters = {"ids": ",".join(map(str, numbers)), "group": group, "limit": str(limit),
                      "deidentify": str(deidentify).lower()}  # fmt: skip
        try:
            fetch(effective, gateway, "/dead-letters/export", parameters, stream)
        except Refused as refused:
            return str(refused)
        return ""
    from deadletter.export import Exporter
    from gateway.formats import deidentifiers
    from gateway.journal.values import DeadLetterFilter

    wanted = DeadLetterFilter(
        resolved=None if numbers else False, ids=tuple(numbers), fingerprint=group
    )
    with writing(effective) as journal:
        count = Exporter(journal, deidentifiers()).write(
            stream, wanted, limit=limit, deidentify=deidentify, actor=account()
        )
    return "" if count else "there is no such dead letter"


def audit(
    *,
    group: GroupOption = "",
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many at most.")] = 50,
    json_output: JsonOption = False,
    config: ConfigOption = None,
    state_folder: StateOption = None,
) -> None:
    """List who did what at the desk, newest first."""
    from gateway import shapes
    from gateway.cli.access import reading
    from gateway.journal import desk_actions

    with reading(settings(config, state_folder)) as journal, journal.read() as connection:
        found = [
            shapes.desk_action(each)
            for each in desk_actions.page(connection, fingerprint=group, limit=limit)
        ]
    if json_output:
        data(found)
        return
    table(
        ["at", "who", "what", "letters", "group", "letter", "job", "reason"],
        [
            (a["at"], a["actor"], a["what"], a["number"], a["group"], a["dead_letter_id"],
             a["job"], words_of(a))
            for a in found
        ],
        numbers=["letters"],
    )  # fmt: skip


def alerts(
    *,
    test: Annotated[
        bool, typer.Option("--test", help="Send a test through every channel, now.")
    ] = False,
    json_output: JsonOption = False,
    config: ConfigOption = None,
    state_folder: StateOption = None,
) -> None:
    """List who was told of what; or try whether people can be told at all.

    Exit 1 when a channel did not take the test.
    """
    effective = settings(config, state_folder)
    if test:
        told = ask_desk(effective, "/alerts/test", {})["channels"]
        if json_output:
            data(told)
        elif not told:
            say("No channel is configured: see alerts in docs/settings.md.")
        else:
            table(
                ["channel", "sent", "answer"],
                [(name, each["sent"], each["answer"]) for name, each in told.items()],
            )
        raise typer.Exit(Code.DONE if all(t["sent"] for t in told.values()) else Code.FAILED)
    from gateway import shapes
    from gateway.cli.access import reading
    from gateway.journal import alerting

    with reading(effective) as journal, journal.read() as connection:
        found: list[dict[str, Any]] = [shapes.alert(each) for each in alerting.newest(connection)]
    if json_output:
        data(found)
        return
    table(
        ["no", "at", "kind", "group", "channel", "state", "attempts", "answer"],
        [
            (a["id"], a["at"], a["kind"], a["group"], a["channel"], a["state"], a["attempts"],
             a["answer"])
            for a in found
        ],
        numbers=["no", "attempts"],
    )  # fmt: skip


COMMANDS: dict[str, Callable[..., None]] = {
    "groups": list_groups,
    "edit": edit, "assign": assign, "note": write_note, "export": export, "audit": audit,
    "alerts": alerts,
}  # fmt: skip
