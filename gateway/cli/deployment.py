"""``ecluse mapping deploy``, ``rollback``, ``versions`` and ``export``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.access import account
from gateway.cli.checking import show, shown
from gateway.cli.options import ConfigOption, JsonOption, StateOption, row_number, settings
from gateway.cli.output import Code, data, fail, say, table

if TYPE_CHECKING:
    from gateway.deployment.deploying import Deployer
    from gateway.deployment.files import FileSet
    from gateway.settings import Settings

CHECK_SECONDS = 330.0
"""For the gateway's answer: a check may take 300 s (``gateway.deployment.apart``)."""

VERSIONS_MAX = 1_000
"""Versions among which one is looked up."""

ReasonOption = Annotated[
    str, typer.Option("--reason", help="Why; kept with the history.", metavar="TEXT")
]
ExpectedOption = Annotated[
    int | None,
    typer.Option(
        "--expected", metavar="VERSION", show_default=False, parser=row_number,
        help="Only if this version is still in force (0: none was deployed).",
    ),
]  # fmt: skip


def deploy(
    *,
    reason: ReasonOption = "",
    site_folder: Annotated[
        Path | None,
        typer.Option(
            "--site-folder",
            help="The folder of the site's own files, in the place of the configured one; its "
            "name is the site's.",
            metavar="FOLDER",
            exists=True,
            file_okay=False,
            show_default=False,
        ),
    ] = None,
    expected: ExpectedOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Even what was edited in the console since.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check and say what would change; deploy nothing.")
    ] = False,
    json_output: JsonOption = False,
    config: ConfigOption = None,
    state_folder: StateOption = None,
) -> None:
    """Check the mappings, run their tests, and put them in force as a version of their own.

    The running gateway takes them at once; messages in flight finish with those before. Without
    a gateway the next start takes them. With an error nothing changes: exit 3. Exit 4 when
    another version is in force than the one expected.
    """  # fmt: skip
    from gateway.cli.access import Refused, ask, running
    from gateway.deployment.files import FileSet, MappingFolders

    if not dry_run:
        _demand(reason)
    effective = settings(config, state_folder)
    if site_folder is not None:
        folder = site_folder.absolute()
        update = {"sites": folder.parent, "site": folder.name}
        changed = effective.mappings.model_copy(update=update)
        effective = effective.model_copy(update={"mappings": changed})
    files = FileSet.read(MappingFolders.of(effective.mappings))
    gateway = running(effective)
    try:
        if gateway is None:
            told = _alone(effective, files, reason, expected, overwrite=overwrite, dry_run=dry_run)
        elif dry_run:
            with shown(effective, gateway):
                told = ask(
                    effective,
                    gateway,
                    "/mappings/check",
                    content=files.pack(),
                    seconds=CHECK_SECONDS,
                )
        else:
            given = {"reason": reason, "overwrite": str(overwrite).lower()}
            if expected is not None:
                given["expected"] = str(expected)
            with shown(effective, gateway):
                told = ask(
                    effective, gateway, "/mappings/deploy", content=files.pack(), parameters=given,
                    seconds=CHECK_SECONDS,
                )  # fmt: skip
    except ConnectionError as error:
        fail(Code.UNREACHABLE, str(error))
    except Refused as error:
        told = {"detail": str(error), **error.told}
        _say_findings(files, told)
        if json_output:
            data(told)
        fail(_code(error.status, told), str(error))
    _say_findings(files, told)
    if json_output:
        data(told)
    elif dry_run:
        _say_changes(told)
    else:
        say(f"Version {told['version']} is in force"
            + (f", in the place of {told['previous']}." if told["previous"] else "."))  # fmt: skip
    raise typer.Exit(Code.DONE if told.get("ok", True) else Code.FINDINGS)


def rollback(
    version: Annotated[
        int | None,
        typer.Argument(
            help="Its number; the one before the present without it.",
            parser=row_number,
        ),
    ] = None,
    *,
    reason: ReasonOption = "",
    expected: ExpectedOption = None,
    json_output: JsonOption = False,
    config: ConfigOption = None,
    state_folder: StateOption = None,
) -> None:
    """Put a former version of the mappings in force again."""
    from gateway.cli.access import Refused, ask, running
    from gateway.deployment import shapes
    from gateway.deployment.deploying import CannotDeploy
    from gateway.journal.mappings import Conflict

    _demand(reason)
    effective = settings(config, state_folder)
    gateway = running(effective)
    try:
        if gateway is None:
            with _deployer(effective) as deployer:
                told = shapes.deployed(
                    deployer.rollback(version, actor=account(), reason=reason, expected=expected)
                )
        else:
            body = {"version": version, "reason": reason, "expected": expected}
            with shown(effective, gateway):
                told = ask(
                    effective, gateway, "/mappings/rollback", json_body=body, seconds=CHECK_SECONDS
                )
    except ConnectionError as error:
        fail(Code.UNREACHABLE, str(error))
    except Conflict as conflict:
        fail(Code.UNREACHABLE, str(conflict))
    except Refused as error:
        fail(_code(error.status, error.told), str(error))
    except CannotDeploy as error:
        fail(Code.FAILED, str(error))
    if json_output:
        data(told)
    else:
        say(f"Version {told['version']} is in force, in the place of {told['previous']}.")


def versions(
    json_output: JsonOption = False,
    config: ConfigOption = None,
    state_folder: StateOption = None,
) -> None:
    """List the versions of the mappings and who deployed what when. Works while it runs."""
    from gateway.cli.access import reading
    from gateway.deployment import shapes
    from gateway.journal import mappings as kept

    with reading(settings(config, state_folder)) as journal, journal.read() as connection:
        last = kept.latest(connection)
        found = kept.versions(connection)
        history = kept.deployments(connection)
    current = last.version if last is not None else 0
    if json_output:
        data({
            "current": current,
            "versions": [shapes.version(each) for each in found],
            "deployments": [shapes.deployment(each) for each in history],
        })  # fmt: skip
        return
    if not history:
        say("Nothing was deployed: the folders are read at each start.")
        return
    known = {each.number: each for each in found}
    table(
        ["", "version", "at", "action", "from", "by", "reason", "files"],
        [
            (
                "*" if place == 0 else "",
                each.version,
                each.at.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
                each.action.value,
                each.previous or "",
                each.actor,
                each.reason,
                "kept" if each.version in known and known[each.version].kept else "gone",
            )
            for place, each in enumerate(history)
        ],
        numbers=("version", "from"),
    )


def export(
    version: Annotated[int, typer.Argument(help="Its number.", parser=row_number)],
    folder: Annotated[
        Path, typer.Argument(help="Where to; it must be empty or not there.", metavar="FOLDER")
    ],
    *,
    config: ConfigOption = None,
    state_folder: StateOption = None,
) -> None:
    """Write the files of a version out: the shipped ones below base, the site's below sites."""
    from gateway.cli.access import reading
    from gateway.deployment.files import FileSet
    from gateway.journal import mappings as kept

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        fail(Code.USAGE, f"{folder}: is not empty")
    with reading(settings(config, state_folder)) as journal, journal.read() as connection:
        packed = kept.content(connection, version)
        known = {each.number for each in kept.versions(connection, limit=VERSIONS_MAX)}
    if packed is None and version not in known:
        fail(Code.FAILED, f"there is no version {version}; ecluse mapping versions lists them")
    if packed is None:
        fail(Code.FAILED, f"the files of version {version} are not kept")
    try:
        for name, content in FileSet.unpack(packed).files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    except OSError as error:
        fail(Code.FAILED, f"{error.filename or folder}: {error.strerror}")
    say(f"Version {version} is in {folder}.")


# --- pieces ---------------------------------------------------------------------------


def _demand(reason: str) -> None:
    """Ends the command where no reason is given."""
    if not reason.strip():
        fail(Code.FAILED, "say why, with --reason TEXT: it is kept with the history")


@contextmanager
def _deployer(effective: Settings) -> Iterator[Deployer]:
    """What deploys where no gateway runs. Raises JournalInUse."""
    from gateway.cli.access import writing
    from gateway.mapping_side import make_deployer

    with writing(effective) as journal:
        deployer = make_deployer(effective, journal)
        deployer.on_progress = show
        try:
            yield deployer
        finally:
            show(None)


def _alone(
    effective: Settings,
    files: FileSet,
    reason: str,
    expected: int | None,
    *,
    overwrite: bool,
    dry_run: bool,
) -> dict[str, Any]:
    """The same as the running gateway does, here. Raises Refused as if it had answered."""
    from gateway.cli.access import Refused
    from gateway.deployment import shapes
    from gateway.deployment.changes import changes
    from gateway.deployment.deploying import CannotDeploy
    from gateway.journal.mappings import Conflict

    with _deployer(effective) as deployer:
        now = deployer.current()
        if dry_run:
            changed = changes(now, files) if now is not None else None
            told = shapes.checked(deployer.check(files), changed)
            return {**told, "current": deployer.current_version()}
        try:
            done = deployer.deploy(
                files, actor=account(), reason=reason, expected=expected, overwrite=overwrite
            )
        except Conflict as conflict:
            raise Refused(409, str(conflict), {"current": conflict.current}) from None
        except CannotDeploy as error:
            found = shapes.checked(error.checked) if error.checked is not None else {}
            raise Refused(422, str(error), found) from None
        return shapes.deployed(done)


def _say_findings(files: FileSet, told: dict[str, Any]) -> None:
    """Findings as ``file:line:column``, with the files where they lie on this disk."""

    def place(name: str) -> str:
        return str(files.places.get(name, name))

    for each in told.get("findings", told.get("warnings", ())):
        hint = f" ({each['suggestion']})" if each["suggestion"] else ""
        prefix = "" if each["severity"] == "error" else "warning: "
        where = f"{place(each['file'])}:{each['line']}:{each['column']}"
        say(f"{prefix}{where} {each['code']} {each['message']}{hint}")
    for each in told.get("failed_tests", ()):
        say(f"{place(each['file'])}:{each['line']}:1 test-failed {each['name']}")
        for difference in each["differences"]:
            say(f"    {difference}")


def _say_changes(told: dict[str, Any]) -> None:
    changed = told.get("changes")
    if changed is None:
        say("Nothing is in force to compare with.")
        return
    for what, mark in (("added", "+"), ("changed", "~"), ("removed", "-")):
        for name in changed[what]:
            typer.echo(f"{mark} {name}")
    if not any(changed.values()):
        say("The same files are in force.")


def _code(status: int, told: dict[str, Any]) -> Code:
    if status == 409:
        return Code.UNREACHABLE
    wrong = told.get("findings") or told.get("failed_tests")
    return Code.FINDINGS if wrong else Code.FAILED
