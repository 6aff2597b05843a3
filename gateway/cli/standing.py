"""``ecluse pause``, ``drain`` and ``resume``: let a source or a destination stand still."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gateway.cli.access import account
from gateway.cli.options import ConfigOption, JsonOption, StateOption, settings
from gateway.cli.output import Code, data, fail, say

if TYPE_CHECKING:
    from gateway.settings import Settings

KindArgument = Annotated[
    Literal["source", "destination"], typer.Argument(help="source or destination.")
]
NameArgument = Annotated[str, typer.Argument(help="Its name in the configuration.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; kept with who and when.")]


def pause(
    kind: KindArgument,
    name: NameArgument,
    reason: ReasonOption = "",
    *,
    json_output: JsonOption = False,
    config: ConfigOption = None,
    state_folder: StateOption = None,
) -> None:
    """Let nothing go on: a source's messages are accepted and kept, and none is read; nothing is
    delivered to a destination. Holds for every process and over restarts, until resumed."""
    _decide("pause", kind, name, reason, settings(config, state_folder), json_output=json_output)


def drain(
    kind: KindArgument,
    name: NameArgument,
    reason: ReasonOption = "",
    *,
    json_output: JsonOption = False,
    config: ConfigOption = None,
    state_folder: StateOption = None,
) -> None:
    """Finish what is there and begin nothing new: a source's door is closed and its senders keep
    what they have; a destination gets what was accepted before, and not what comes later."""
    _decide("drain", kind, name, reason, settings(config, state_folder), json_output=json_output)


def resume(
    kind: KindArgument,
    name: NameArgument,
    reason: ReasonOption = "",
    *,
    json_output: JsonOption = False,
    config: ConfigOption = None,
    state_folder: StateOption = None,
) -> None:
    """Let a paused or drained source or destination go on; what waits goes in its order."""
    _decide("resume", kind, name, reason, settings(config, state_folder), json_output=json_output)


def _decide(
    what: Literal["pause", "drain", "resume"],
    kind: str,
    name: str,
    reason: str,
    effective: Settings,
    *,
    json_output: bool,
) -> None:
    from gateway.cli.access import Refused, ask, running

    gateway = running(effective)
    if gateway is not None:
        try:
            told = ask(
                effective,
                gateway,
                f"/standing/{kind}/{name}/{what}",
                json_body={"reason": reason},
            )
        except ConnectionError as error:
            fail(Code.UNREACHABLE, str(error))
        except Refused as error:
            fail(Code.USAGE if error.status == 404 else Code.FAILED, str(error))
        changed = bool(told["changed"])
    else:
        changed = _write(what, kind, name, reason, effective)
    if json_output:
        data({"kind": kind, "name": name, "action": what, "changed": changed})
        return
    done = {"pause": "is paused", "drain": "is being emptied", "resume": "goes on"}[what]
    say(f"The {kind} {name} {done}." if changed else f"The {kind} {name} stood so already.")


def _write(
    what: Literal["pause", "drain", "resume"],
    kind: str,
    name: str,
    reason: str,
    effective: Settings,
) -> bool:
    """Decide in the journal itself: no gateway runs on this state folder."""
    from gateway.cli.access import writing
    from gateway.journal import standstills
    from gateway.journal.standstills import Kind, Mode

    listed = effective.sources if kind == "source" else effective.destinations
    mode = {"pause": Mode.PAUSED, "drain": Mode.DRAINING, "resume": Mode.RUNNING}[what]
    with writing(effective) as journal, journal.write() as connection:
        known = {each.name for each in listed}
        if name not in known and standstills.current(connection).mode(Kind(kind), name) is (
            Mode.RUNNING
        ):
            fail(Code.USAGE, f"there is no {kind} {name} in the configuration")
        return standstills.change(
            connection, Kind(kind), name, mode, actor=f"{account()} (command)",
            reason=reason,
        )  # fmt: skip
