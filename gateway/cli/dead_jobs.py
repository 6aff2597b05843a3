"""``ecluse dead jobs``: replays at a pace, which the running gateway does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from gateway.cli.asking import ask_running
from gateway.cli.jobs import JobArgument, add_actions, jobs_table
from gateway.cli.options import ConfigOption, JsonOption, StateOption, settings
from gateway.cli.output import Code, data, facts, fail, heading, say, table

if TYPE_CHECKING:
    from gateway.settings import Settings

app = typer.Typer(name="jobs", help="Replays at a pace.", no_args_is_help=True)


def submit(
    effective: Settings, selection: dict[str, Any], pace: dict[str, Any], *, json_output: bool
) -> None:
    """Begin a replay as a job of the running gateway."""
    given = {name: value for name, value in pace.items() if value is not None}
    if "ramp" in given:
        parts = [part.strip() for part in str(given["ramp"]).split(",") if part.strip()]
        if not all(part.isdecimal() for part in parts):
            fail(Code.USAGE, "--ramp is numbers with commas between: 1,5,25")
        given["ramp"] = [int(part) for part in parts]
    told = ask_desk(effective, "/jobs", {**selection, **given})
    if json_output:
        data(told)
    else:
        say(f"Replay {told['id']} is {told['state']}. See ecluse dead jobs show {told['id']}")


@app.command("list")
def list_jobs(
    json_output: JsonOption = False, config: ConfigOption = None, state_folder: StateOption = None
) -> None:
    """List replays, newest first."""
    from gateway import shapes
    from gateway.cli.access import reading
    from gateway.journal import replaying

    with reading(settings(config, state_folder)) as journal, journal.read() as connection:
        found = [shapes.replay_job(each) for each in replaying.jobs(connection)]
    if json_output:
        data(found)
        return
    jobs_table(found, ("selected", "released", "delivered", "failed"))


@app.command("show")
def show(
    job: JobArgument,
    *,
    json_output: JsonOption = False,
    config: ConfigOption = None,
    state_folder: StateOption = None,
) -> None:
    """Show one replay: its pace, how far it is, and who did what with it."""
    from gateway import shapes
    from gateway.cli.access import reading
    from gateway.journal import desk_actions, replaying

    with reading(settings(config, state_folder)) as journal, journal.read() as connection:
        found = replaying.get(connection, job)
        told = [shapes.desk_action(each) for each in desk_actions.page(connection, job_id=job)]
    if found is None:
        fail(Code.FAILED, f"there is no replay {job}")
    shape = {**shapes.replay_job(found), "actions": told}
    if json_output:
        data(shape)
        return
    _say(shape)
    heading("\nWho did what")
    table(
        ["at", "who", "what", "letters", "reason"],
        [(a["at"], a["actor"], a["what"], a["number"], a["reason"]) for a in told],
        numbers=["letters"],
    )


def ask_desk(
    effective: Settings,
    path: str,
    body: Any = None,
    *,
    content: bytes | None = None,
    parameters: dict[str, str] | None = None,
) -> Any:
    """POST to the running gateway's desk; what it answers. See :func:`ask_running`."""
    return ask_running(
        effective, f"/dead-letters{path}", body, content=content, parameters=parameters
    )


def _say(told: dict[str, Any]) -> None:
    ramp = ", ".join(str(step) for step in told["ramp"])
    facts([
        ("replay", told["id"]), ("state", told["state"]), ("note", told["note"]),
        ("by", told["actor"]), ("reason", told["reason"]), ("begun", told["at"]),
        ("ended", told["ended_at"]), ("a second", told["per_second"] or "no limit"),
        ("ramp", ramp or "none"), ("halts above", f"{told['stop_percent']} % failures"),
        *((name, number) for name, number in told["counts"].items()),
        ("on their way", told["in_flight"]), ("waiting", told["waiting"]),
    ])  # fmt: skip


add_actions(
    app,
    "/dead-letters/jobs",
    _say,
    {
        "pause": "Let a replay rest. What it let go goes on.",
        "resume": "Let a replay that was paused or has halted go on, from the first step of its"
        " ramp.",
        "cancel": "End a replay. What it let go stays so; the rest stays dead.",
    },
)
