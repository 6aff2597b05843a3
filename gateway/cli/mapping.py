"""``ecluse mapping``: check the mappings, and run one on a file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.access import log_to_standard_error
from gateway.cli.mapping_bench import FilesArgument, FormatOption, SourceOption
from gateway.cli.mapping_coverage import coverage
from gateway.cli.mapping_diff import diff
from gateway.cli.mapping_explain import explain
from gateway.cli.mapping_files import docs, run_tests, schema
from gateway.cli.options import ConfigOption, JsonOption, StateOption, settings
from gateway.cli.output import Code, data, fail, say

if TYPE_CHECKING:
    from gateway.mapping import Finding, TwinResult
    from gateway.model import Format, Mapped
    from gateway.normalise import Normaliser, Unusable
    from gateway.settings import Settings
    from gateway.workbench.files import Message

app = typer.Typer(name="mapping", help="Mappings.", no_args_is_help=True)

app.command("coverage")(coverage)
app.command("explain")(explain)
app.command("diff")(diff)
app.command("test")(run_tests)
app.command("docs")(docs)
app.command("schema")(schema)


@app.command("check")
def check(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            help="More folders of mappings.", metavar="[FOLDER]...", exists=True, file_okay=False
        ),
    ] = None,
    *,
    twins: Annotated[
        bool, typer.Option("--twins/--no-twins", help="Run the tests beside the mappings.")
    ] = True,
    again: Annotated[
        bool,
        typer.Option(
            "--again", help="Check and test everything, also what was found right before."
        ),
    ] = False,
    sarif_output: Annotated[
        bool, typer.Option("--sarif", help="Print SARIF 2.1.0 for code hosts and editors.")
    ] = False,
    json_output: JsonOption = False,
    config: ConfigOption = None,
    state_folder: StateOption = None,
) -> None:
    """Check every mapping and table, then run their tests. Exit 3 when anything is wrong.

    What this user checked before with the same program, and what ships, is not checked again.
    The tests of what ships run without the changes of the site; a test that these make differ is
    a warning.
    """
    effective = _with_folders(settings(config, state_folder), folders or [])
    log_to_standard_error(effective)
    findings, results, count = _check(effective, twins=twins, again=again)
    errors = [each for each in findings if each.severity == "error"]
    failed = [each for each in results if not each.passed]
    if sarif_output:
        from gateway.release import version
        from gateway.workbench.sarif import sarif

        data(sarif(findings, failed, version()))
    elif json_output:
        data(
            {
                "ok": not errors and not failed,
                "mappings": count,
                "findings": [asdict(each) for each in findings],
                "tests": [{**asdict(each), "passed": each.passed} for each in results],
            }
        )
    else:
        for finding in findings:
            typer.echo(f"{'' if finding.severity == 'error' else 'warning: '}{finding}")
        for result in failed:
            typer.echo(f"{result.file}:{result.line}:1 test-failed {result.name}")
            for difference in result.differences:
                typer.echo(f"    {difference}")
        passed = len(results) - len(failed)
        say(f"{count} mappings, {len(errors)} errors, {len(findings) - len(errors)} warnings; "
            f"{passed} of {len(results)} tests passed")  # fmt: skip
    raise typer.Exit(Code.FINDINGS if errors or failed else Code.DONE)


def _with_folders(effective: Settings, folders: list[Path]) -> Settings:
    more = effective.mappings.model_copy(
        update={"folders": [*effective.mappings.folders, *folders]}
    )
    return effective.model_copy(update={"mappings": more})


def _check(
    effective: Settings, *, twins: bool, again: bool
) -> tuple[list[Finding], list[TwinResult], int]:
    from gateway.deployment.files import MappingFolders
    from gateway.deployment.loading import checked_mappings, load_folders
    from gateway.deployment.testing import Tests
    from gateway.formats import encoders, readers
    from gateway.mapping import MappingError
    from gateway.workbench.linting import unreachable

    folders = MappingFolders.of(effective.mappings)
    checked = None if again else checked_mappings()
    try:
        library = load_folders(folders, checked)
    except MappingError as error:
        return list(error.findings), [], 0
    findings = [*library.findings, *unreachable(_files(effective))]
    if not twins:
        return findings, [], len(library.programs)
    tests = Tests(lambda each: load_folders(each, checked), readers(), encoders(), checked)
    try:
        tested = tests.run(library, folders)
    except MappingError as error:
        return [*findings, *error.findings], [], len(library.programs)
    return [*findings, *tested.warnings], list(tested.results), len(library.programs)


def _files(effective: Settings) -> list[Path]:
    """The mapping files of all folders, without tests and tables."""
    from gateway.mapping import packaged_mappings

    folders = [packaged_mappings(), *effective.mappings.folders]
    found = [path for folder in folders for path in sorted(folder.rglob("*.yaml"))]
    return [
        path
        for path in found
        if not path.name.endswith(".test.yaml") and "terminology" not in path.parts
    ]


@app.command("run")
def run(
    files: FilesArgument,
    *,
    form: FormatOption = "",
    source: SourceOption = "",
    trace: Annotated[
        bool, typer.Option("--trace", help="Print where each value came from instead.")
    ] = False,
    json_output: JsonOption = False,
    config: ConfigOption = None,
    state_folder: StateOption = None,
) -> None:
    """Run the mapping on files and print the entries as FHIR R4 JSON, one a line with --json.

    Nothing is stored. Flags go to standard error. Exit 3 when no entries can be made.
    """
    from gateway.model import Format

    effective = settings(config, state_folder)
    log_to_standard_error(effective)
    if form and form not in set(Format):
        fail(Code.USAGE, f"{form}: not a format; there are {', '.join(Format)}")
    if source and source not in {each.name for each in effective.sources}:
        fail(Code.USAGE, f"no source is named {source}")
    from gateway.mapping import MappingError
    from gateway.mapping_side import load_library, make_normaliser
    from gateway.workbench.files import NoMessage, messages_of_files

    try:
        normaliser = make_normaliser(effective, load_library(effective))
    except MappingError as error:
        for finding in error.findings:
            say(str(finding))
        raise typer.Exit(Code.FINDINGS) from None
    failed = False
    for message in messages_of_files(files, Format(form) if form else None):
        if isinstance(message, NoMessage):
            say(f"{message.name}: {message.reason}")
            failed = True
            continue
        chosen = source or _source_for(effective, message.format)
        mapped = _map(normaliser, message, chosen, trace=trace)
        failed = failed or mapped is None
        if mapped is not None:
            _print(mapped, trace=trace, json_output=json_output)
    raise typer.Exit(Code.FINDINGS if failed else Code.DONE)


def _source_for(effective: Settings, form: Format) -> str:
    """The first configured source of a format: what it says of zone and authorities counts."""
    from gateway.formats import SOURCE_TYPES

    for each in effective.sources:
        if each.type in SOURCE_TYPES[form]:
            return each.name
    return "file"


def _map(normaliser: Normaliser, message: Message, source: str, *, trace: bool) -> Mapped | None:
    """The entries, or None after saying why there are none."""
    from gateway.normalise import Original, Unusable

    original = Original(source=source, format=message.format, payloads=message.payloads)
    if trace:
        explained = normaliser.explain(original)
        if not isinstance(explained, Unusable):
            return explained
        _say_why(normaliser, message, explained)
        return None
    reading = normaliser.normalise(original)
    if not isinstance(reading, Unusable):
        return reading.mapped
    _say_why(normaliser, message, reading)
    return None


def _say_why(normaliser: Normaliser, message: Message, unusable: Unusable) -> None:
    """Which file gives no entries, at which place, and why not."""
    from gateway.model import CauseCode
    from gateway.shapes import explanation
    from gateway.workbench.examining import no_mapping_for

    cause = unusable.cause
    detail = f"{explanation(cause.code)['title']}: {cause.detail}"
    if cause.code is CauseCode.UNMAPPED and not cause.location:
        root = normaliser.readers[message.format].read(message.payloads)
        detail = no_mapping_for(root, message.format)
    where = f"{message.name}: {cause.location}".rstrip(": ")
    say(f"{where}: {cause.code.value}: {detail}")


def _print(mapped: Mapped, *, trace: bool, json_output: bool) -> None:
    from gateway.serialise import dumps

    for flag in mapped.flags:
        say(" ".join(p for p in ("flag", flag.code, flag.rule, flag.source, flag.detail) if p))
    if trace:
        rows: list[Any] = [asdict(step) for step in mapped.trace]
        if json_output:
            data(rows)
            return
        for row in rows:
            typer.echo("\t".join((row["target"], row["source"], " > ".join(row["steps"]),
                                  row["rule"])))  # fmt: skip
        return
    for entry in mapped.entries:
        typer.echo(dumps(entry.resource, indent=not json_output).decode("utf-8"))
