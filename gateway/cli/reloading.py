"""``ecluse reload``: let the running gateway read its configuration again."""

from __future__ import annotations

from gateway.cli.options import ConfigOption, JsonOption, StateOption, settings
from gateway.cli.output import Code, data, facts, fail, say

NAMED_MAX = 5
"""Mapping files that are named."""


def reload(
    config: ConfigOption = None,
    state_folder: StateOption = None,
    json_output: JsonOption = False,
) -> None:
    """Let the running gateway read its configuration again, without a connection being closed.

    Mapping files are not part of it: `ecluse mapping deploy` checks them, runs their tests and puts
    them in force as a whole. What differs from those in force is named.
    Sources that are new start, changed ones take their settings, and those that are gone stop
    when what they had in flight is answered. A configuration that cannot be used changes
    nothing: exit 2 says where it is wrong. Exit 4 when no gateway runs.
    """
    from gateway.cli.access import Refused, ask, running
    from gateway.settings_file import ConfigurationError

    try:
        effective = settings(config, state_folder)
    except ConfigurationError:
        say("ecluse: the gateway is not asked; what it runs with stays in force")
        raise
    gateway = running(effective)
    if gateway is None:
        fail(Code.UNREACHABLE, f"no gateway runs on {effective.state}")
    try:
        told = ask(effective, gateway, "/reload")
    except ConnectionError as error:
        fail(Code.UNREACHABLE, str(error))
    except Refused as error:
        for line in str(error).splitlines():
            say(f"ecluse: {line}")
        if error.status == 422:
            fail(Code.USAGE, "the gateway keeps what it runs with")
        raise SystemExit(Code.FAILED) from None
    if json_output:
        data(told)
    else:
        facts((name, ", ".join(told[name])) for name in ("started", "changed", "stopped"))
        if not any(told[name] for name in ("started", "changed", "stopped")):
            say("No source changed.")
    for name in told["restart"]:
        say(f"{name} has changed and waits for a restart.")
    if told["undeployed"]:
        names = told["undeployed"]
        listed = ", ".join(names[:NAMED_MAX]) + (", …" if len(names) > NAMED_MAX else "")
        say(f"Not in force: {listed}. Mapping files go by ecluse mapping deploy.")
