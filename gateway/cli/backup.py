"""``ecluse backup`` and ``ecluse restore``: a copy of the state, and how it is put back."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.options import ConfigOption, JsonOption, StateOption, settings
from gateway.cli.output import Code, data, facts, fail, say


def backup(
    folder: Annotated[Path, typer.Argument(help="A new folder.", show_default=False)],
    config: ConfigOption = None,
    state_folder: StateOption = None,
    *,
    previous: Annotated[
        Path | None,
        typer.Option(
            "--previous",
            help="An older backup on the same file system: its large files are linked, not copied.",
            show_default=False,
        ),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Copy the journal, the record and all documents into a folder, beside a running gateway.

    Everything that was acknowledged before the copy began is in it. PostgreSQL is copied with
    its own pg_dump. Configuration, mappings' sources, certificates and token files are not part
    of it. The folder holds patient data: it is readable by its owner only.
    """
    from gateway.backup import BackupFault, back_up
    from gateway.cli.access import reading

    effective = settings(config, state_folder)
    try:
        with reading(effective) as journal:
            made = back_up(journal, effective.journal_url(), folder, previous)
    except BackupFault as error:
        fail(Code.FAILED, str(error))
    except OSError as error:
        fail(Code.FAILED, f"{error.filename or folder}: {error.strerror}")
    _show(asdict(made), json_output=json_output)


def restore(
    folder: Annotated[Path, typer.Argument(help="The backup.", show_default=False)],
    config: ConfigOption = None,
    state_folder: StateOption = None,
    *,
    json_output: JsonOption = False,
) -> None:
    """Put a backup into the place that the configuration names, where nothing is yet, and verify.

    A backup of an older release is brought up to this one.

    Then start the gateway, and let the senders send again what they sent since the backup: what
    it has already is known and answered as before. Exit 3 when what was restored does not fit.
    """
    from gateway.backup import BackupFault
    from gateway.backup import restore as put_back
    from gateway.cli.access import running, writing
    from gateway.cli.verify import verified
    from gateway.journal import lanes
    from gateway.opening import BLOB_FOLDER

    effective = settings(config, state_folder)
    if running(effective) is not None:
        fail(Code.USAGE, f"a gateway runs on {effective.state}: stop it first")
    try:
        found = put_back(
            folder,
            effective.journal_url(),
            effective.journal.blobs or effective.state / BLOB_FOLDER,
        )
    except BackupFault as error:
        fail(Code.FAILED, str(error))
    except OSError as error:
        fail(Code.FAILED, f"{error.filename or folder}: {error.strerror}")
    with writing(effective) as journal:
        with journal.write() as connection:
            lanes.end_leases(connection)
        told = verified(journal, content=False)
    _show({**asdict(found), "intact": told["intact"]}, json_output=json_output)
    if not told["intact"]:
        say("Something does not fit: ecluse verify says what.")
        raise typer.Exit(Code.FINDINGS)
    say(f"Everything fits. What was sent since {found.at} must be sent again.")


def _show(told: dict[str, Any], *, json_output: bool) -> None:
    if json_output:
        data(told)
    else:
        facts([(name, told[name]) for name in ("at", "kind", "size", "files", "bytes")])
