"""``ecluse run`` and ``ecluse demo``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.options import ConfigOption, JsonOption, StateOption, loaded
from gateway.cli.output import Code, fail, say

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from gateway.bootstrap import Gateway
    from gateway.settings import Loaded


def run(
    config: ConfigOption = None,
    state: StateOption = None,
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen", help="host:port of the console and API; wins.", show_default=False
        ),
    ] = None,
) -> None:
    """Run the gateway until it is told to stop (SIGTERM, Ctrl-C): then it takes no more, finishes
    what is in hand and ends. SIGHUP, or ecluse reload, lets it read its configuration again."""
    import asyncio
    from pathlib import Path

    from gateway.garbage import load_without_collector

    load_without_collector()
    from gateway.cli.checks import unusable_files
    from gateway.settings import DEFAULT_FILE
    from gateway.settings_file import ConfigurationError

    if config is None and Path(DEFAULT_FILE).is_file():
        config = Path(DEFAULT_FILE)  # a reload must not take its absence for the defaults

    def read() -> Loaded:
        return loaded(config, state, {"http.listen": listen})

    found = read()
    if problems := unusable_files(found):
        raise ConfigurationError(problems)
    effective = found.settings
    from gateway import telemetry
    from gateway.serving import serve

    telemetry.configure(effective.log.level, effective.log.format)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(serve(effective, reread=read, on_started=_started))
    except OSError as error:
        fail(Code.FAILED, f"cannot start: {error.strerror or error}")


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """libuv's event loop where it is to be had (not on Windows), else asyncio's own (None)."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        return None
    return new_event_loop


def _started(gateway: Gateway, http: str) -> None:
    say(f"Écluse is running. Console: http://{http}")
    for source in gateway.sources:
        say(f"  {source.name:<20} {source.address()}")


def demo(
    once: Annotated[
        bool, typer.Option("--once", help="End after the story; exit 0 only if all of it arrived.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Three old systems feed one synthetic patient's record, through real sockets."""
    from gateway.demo import main as play

    raise typer.Exit(play(once, json_output))
