"""``ecluse purge``: take out what is past its time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.access import account
from gateway.cli.options import ConfigOption, JsonOption, StateOption, settings
from gateway.cli.output import Code, data, facts, fail, say, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.cli.access import Running
    from gateway.settings import Settings

ASK_SECONDS = 0.5
_PARTS = {"content": "bytes of messages", "normalised": "working copies", "message": "messages"}
_SUMS = ("bytes", "files", "links", "partitions", "placed")
_BESIDE = {
    "gathering": "studies at the door",
    "study_evidence": "evidence of studies",
    "storage_commitment": "requests for storage commitment",
    "replay_item": "letters of replays",
    "unindexed": "not indexed",
    "unscheduled": "not in the worklist",
}


def purge(
    config: ConfigOption = None,
    state_folder: StateOption = None,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only count what would go, at most.")
    ] = False,
    history: Annotated[
        bool, typer.Option("--history", help="Print the newest purges instead.")
    ] = False,
    compact: Annotated[
        bool,
        typer.Option(
            "--compact",
            help="Give the freed pages of an SQLite journal back to the disk afterwards. Needs a "
            "stopped gateway and as much free disk as the journal has.",
        ),
    ] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept with who and when.")] = "",
    json_output: JsonOption = False,
) -> None:
    """Take out what is past its time by the settings under `retention`.

    Only what is delivered, refused or discarded ever goes; `ecluse verify` fits right after it
    as before. A running gateway does it beside its work (and once a day by itself); this
    command waits for the end.
    """
    from gateway.cli.access import running

    effective = settings(config, state_folder)
    gateway = running(effective)
    if history:
        _show_history(effective, json_output=json_output)
    elif dry_run:
        _show_expected(effective, json_output=json_output)
    else:
        if not effective.retention.policy().anything:
            fail(Code.USAGE, "the configuration keeps everything for ever: set retention")
        if compact and (gateway is not None or effective.journal.url.startswith("postgresql")):
            fail(Code.USAGE, "--compact needs an SQLite journal whose gateway is stopped")
        done = _asked(effective, gateway, reason) if gateway else _done(effective, reason, compact)
        _show(done, json_output=json_output)


def _asked(effective: Settings, gateway: Running, reason: str) -> dict[str, Any]:
    from gateway.cli.access import Refused, ask

    try:
        told = ask(effective, gateway, "/purges", json_body={"reason": reason})
        while told["state"] == "running":
            time.sleep(ASK_SECONDS)
            told = ask(effective, gateway, f"/purges/{told['id']}", method="GET")
    except ConnectionError as error:
        fail(Code.UNREACHABLE, str(error))
    except Refused as error:
        fail(Code.FAILED, str(error))
    return dict(told)


def _done(effective: Settings, reason: str, compact: bool) -> dict[str, Any]:
    """Purge in this process: no gateway runs on this state folder."""
    import secrets

    from gateway.cli.access import writing
    from gateway.cli.record import opened_record
    from gateway.housekeeping import run, shape
    from gateway.journal import purges

    with writing(effective) as journal:
        with journal.write() as connection:
            purge = purges.begin(
                connection, f"wanted {secrets.token_hex(8)}", effective.retention.policy(),
                actor=f"{account()} (command)", reason=reason,
            )  # fmt: skip
        for after in run(journal, opened_record(journal).named, purge):
            purge = after
        if purge.ended_at is None:
            say("ecluse: another process holds the files or the purge; it goes on later")
        if compact:
            journal.compact()
        return shape(purge)


def _show(told: Mapping[str, Any], *, json_output: bool) -> None:
    if json_output:
        data(told)
        return
    _say_counts(told["counts"])
    say("Done." if told["state"] == "done" else "Not at its end yet.")


def _show_expected(effective: Settings, *, json_output: bool) -> None:
    from gateway.cli.access import reading
    from gateway.journal import purging

    policy = effective.retention.policy()
    with reading(effective) as journal, journal.read() as connection:
        counts = purging.expected(connection, policy, journal.now())
    if json_output:
        data({"policy": policy.as_json(), "counts": counts})
        return
    say(f"Policy: {policy.text() or 'everything is kept for ever'}")
    _say_counts(counts)
    say("Nothing was changed.")


def _say_counts(counts: Mapping[str, int]) -> None:
    rows = []
    for name, count in sorted(counts.items()):
        part, _, ending = name.partition(".")
        if ending:
            rows.append((_PARTS[part], ending, count))
    table(["what", "of", "count"], rows, numbers=("count",))
    facts([(_BESIDE.get(name, name), counts.get(name)) for name in (*_SUMS, *_BESIDE)])


def _show_history(effective: Settings, *, json_output: bool) -> None:
    from gateway.cli.access import reading
    from gateway.housekeeping import shape
    from gateway.journal import purges

    with reading(effective) as journal, journal.read() as connection:
        found = [shape(each) for each in purges.newest(connection)]
    if json_output:
        data({"items": found})
        return
    table(
        ["purge", "began", "ended", "who", "why", "policy", "bytes"],
        [
            (
                each["id"], each["at"], each["ended_at"], each["actor"], each["reason"],
                each["said"], each["counts"].get("bytes", 0),
            )
            for each in found
        ],
        numbers=("purge", "bytes"),
    )  # fmt: skip
