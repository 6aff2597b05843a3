"""What a running gateway's jobs (replays, reprocessings) have in common on the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

from gateway.cli.asking import ask_running
from gateway.cli.options import ConfigOption, StateOption, row_number, settings
from gateway.cli.output import table

JobArgument = Annotated[int, typer.Argument(help="Its number.", metavar="JOB", parser=row_number)]


def add_actions(
    app: typer.Typer, path: str, say: Callable[[dict[str, Any]], None], helps: Mapping[str, str]
) -> None:
    """Add a command for each action of ``helps``: it asks the running gateway to do that with a job
    under ``path`` of its API, and says how the job stands then."""
    for action, words in helps.items():
        _add_action(app, path, say, action, words)


def _add_action(
    app: typer.Typer, path: str, say: Callable[[dict[str, Any]], None], action: str, words: str
) -> None:
    @app.command(action, help=words)
    def act(
        job: JobArgument, *, config: ConfigOption = None, state_folder: StateOption = None
    ) -> None:
        say(ask_running(settings(config, state_folder), f"{path}/{job}/{action}", {}))


def jobs_table(jobs: Sequence[Mapping[str, Any]], counts: Sequence[str]) -> None:
    """Print jobs, a line each, with these of their counts."""
    table(
        ["job", "state", "begun", "by", "reason", *counts],
        [
            (each["id"], each["state"], each["at"], each["actor"], each["reason"],
             *(each["counts"].get(name, 0) for name in counts))
            for each in jobs
        ],
        numbers=("job", *counts),
    )  # fmt: skip
