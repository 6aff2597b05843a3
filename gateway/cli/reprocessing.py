"""``ecluse mapping reprocess`` and ``reprocessing``: delivered messages are read anew."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.asking import ask_running
from gateway.cli.jobs import JobArgument, add_actions, jobs_table
from gateway.cli.options import ConfigOption, JsonOption, StateOption, row_number, settings
from gateway.cli.output import Code, data, facts, fail, say

if TYPE_CHECKING:
    from gateway.settings import Settings

app = typer.Typer(name="reprocessing", help="Jobs that read messages anew.", no_args_is_help=True)
_PATH = "/mappings/reprocessing"


def reprocess(
    *,
    source: Annotated[
        str, typer.Option("--source", help="Of this source.", metavar="NAME")
    ] = "",
    kind: Annotated[str, typer.Option("--type", help="Of this type: ORU^R01.")] = "",
    mapping: Annotated[
        str, typer.Option("--mapping", help="Read with this mapping.", metavar="NAME")
    ] = "",
    version: Annotated[
        str, typer.Option("--mapping-version", help="In this version of it.", metavar="VERSION")
    ] = "",
    since: Annotated[
        datetime | None, typer.Option("--since", help="Arrived then or later.", show_default=False)
    ] = None,
    until: Annotated[
        datetime | None, typer.Option("--until", help="Arrived before.", show_default=False)
    ] = None,
    numbers: Annotated[
        list[int] | None,
        typer.Option(
            "--message", help="This message; may be repeated.", metavar="NUMBER", parser=row_number
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All delivered messages, without any restriction.")
    ] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept.", metavar="TEXT")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would change.")
    ] = False,
    limit: Annotated[
        int, typer.Option("--limit", help="Messages that a dry run looks at, the newest.",
                          min=1, max=2000)
    ] = 200,
    key: Annotated[
        str, typer.Option("--key", help="Names it: given twice, it is one job.", metavar="KEY")
    ] = "",
    json_output: JsonOption = False,
    config: ConfigOption = None,
    state_folder: StateOption = None,
) -> None:  # fmt: skip
    """Read delivered messages anew with the mappings in force: a job of the running gateway.

    Facts that stay the same are not touched, changed ones get a new version, and those that
    are said no longer are marked; nothing is erased. Exit 3 when a dry run finds messages that
    cannot be read now.
    """
    wanted: dict[str, Any] = {
        "source": source, "kind": kind, "mapping": mapping, "mapping_version": version,
        "since": _instant(since), "until": _instant(until), "ids": list(numbers or []),
    }  # fmt: skip
    if not everything and not any(wanted.values()):
        fail(Code.USAGE, "say which messages, or --all")
    effective = settings(config, state_folder)
    if dry_run:
        told = _ask(effective, "/dry-run", wanted, {"limit": str(limit)})
        if json_output:
            data(told)
        else:
            _say_dry_run(told)
        raise typer.Exit(Code.FINDINGS if told["counts"].get("failed") else Code.DONE)
    told = _ask(effective, "", {**wanted, "reason": reason, "key": key})
    if json_output:
        data(told)
    else:
        say(f"Reprocessing {told['id']} begins: {told['counts']['selected']} messages. "
            f"See ecluse mapping reprocessing show {told['id']}")  # fmt: skip


@app.command("list")
def list_jobs(
    json_output: JsonOption = False, config: ConfigOption = None, state_folder: StateOption = None
) -> None:
    """List the jobs, newest first."""
    from gateway.cli.access import reading
    from gateway.deployment import shapes
    from gateway.journal import reprocessing

    with reading(settings(config, state_folder)) as journal, journal.read() as connection:
        found = [shapes.job(each) for each in reprocessing.jobs(connection)]
    if json_output:
        data(found)
        return
    jobs_table(found, ("selected", "examined", "changed", "failed"))


@app.command("show")
def show(
    job: JobArgument,
    *,
    json_output: JsonOption = False,
    config: ConfigOption = None,
    state_folder: StateOption = None,
) -> None:
    """Show one job: where it stands, and what it could not read."""
    from gateway.cli.access import reading
    from gateway.deployment import shapes
    from gateway.journal import reprocessing

    with reading(settings(config, state_folder)) as journal, journal.read() as connection:
        found = reprocessing.get(connection, job)
    if found is None:
        fail(Code.FAILED, f"there is no reprocessing {job}")
    told = shapes.job(found)
    if json_output:
        data(told)
        return
    _say_job(told)


def _ask(
    effective: Settings, path: str, body: dict[str, Any], parameters: dict[str, str] | None = None
) -> Any:
    return ask_running(effective, f"{_PATH}{path}", body, parameters=parameters)


def _instant(given: datetime | None) -> str | None:
    """With an offset: this machine's, where none was given."""
    return given.astimezone().isoformat() if given is not None else None


def _say_dry_run(told: dict[str, Any]) -> None:
    counts = told["counts"]
    facts([
        ("messages selected", told["selected"]), ("looked at", told["examined"]),
        ("would change", counts.get("changed", 0)), ("would not", counts.get("unchanged", 0)),
        ("cannot be read now", counts.get("failed", 0)),
        ("withheld", counts.get("withheld", 0)),
        ("facts added", counts.get("facts_added", 0)),
        ("facts changed", counts.get("facts_changed", 0)),
        ("facts vanished", counts.get("facts_vanished", 0)),
    ])  # fmt: skip
    for message in told["messages"]:
        typer.echo(f"message {message['message_id']} {message['verdict']}")
        if message["cause"]:
            typer.echo(f"  {message['cause']['code']} {message['cause']['detail']}")
        for reference in message["added"]:
            typer.echo(f"  + {reference}")
        for fact in message["changed"]:
            paths = ", ".join(each["path"] for each in fact["elements"])
            typer.echo(f"  ~ {fact['reference']}  {paths}")
        for reference in message["vanished"]:
            typer.echo(f"  - {reference}")


def _say_job(told: dict[str, Any]) -> None:
    facts([
        ("job", told["id"]), ("state", told["state"]), ("note", told["note"]),
        ("by", told["actor"]), ("reason", told["reason"]), ("mappings", told["version"]),
        ("begun", told["at"]), ("ended", told["ended_at"]),
        *((name.replace("_", " "), number) for name, number in told["counts"].items()),
    ])  # fmt: skip
    for each in told["failures"]:
        typer.echo(f"message {each['message_id']} {each['code']} {each['detail']}"
                   f" {each['location']}".rstrip())  # fmt: skip


add_actions(
    app,
    _PATH,
    _say_job,
    {
        "pause": "Let a job rest.",
        "resume": "Let a job go on, with the mappings in force now.",
        "stop": "End a job. What it has read anew stays so.",
    },
)
