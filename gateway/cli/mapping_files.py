"""``ecluse mapping docs``, ``schema`` and ``test``: what concerns the files themselves."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.mapping_bench import effective_settings, load
from gateway.cli.options import ConfigOption, JsonOption, StateOption
from gateway.cli.output import Code, data, fail, say

FolderArgument = Annotated[
    list[Path] | None,
    typer.Argument(
        help="More folders of mappings.", metavar="[FOLDER]...", exists=True, file_okay=False
    ),
]


def docs(
    folders: FolderArgument = None,
    *,
    names: Annotated[
        list[str] | None,
        typer.Option("--mapping", help="Only this mapping; may be given several times."),
    ] = None,
    as_html: Annotated[
        bool, typer.Option("--html", help="One HTML page instead of Markdown.")
    ] = False,
    json_output: JsonOption = False,
    config: ConfigOption = None,
    state_folder: StateOption = None,
) -> None:
    """Print the mappings as tables from source to target, with their version and digest."""
    from gateway.mapping import MappingError, packaged_mappings
    from gateway.workbench.documenting import describe
    from gateway.workbench.writing import html, markdown

    effective = effective_settings(config, state_folder, folders or [])
    library = load(effective)
    known = [program.name for program in library.programs]
    for name in names or []:
        if name not in known:
            fail(Code.USAGE, f"no mapping {name}; there are {', '.join(sorted(known))}")
    try:
        described = describe(
            library,
            [packaged_mappings(), *effective.mappings.folders],
            sites=effective.mappings.sites,
            site=effective.mappings.site or None,
            names=names or (),
        )
    except MappingError as error:
        fail(Code.FINDINGS, str(error))
    if json_output:
        data([asdict(each) for each in described])
    else:
        typer.echo(html(described) if as_html else markdown(described), nl=False)


def schema(
    kind: Annotated[
        str, typer.Argument(help="mapping, table, site or twins.", metavar="[KIND]")
    ] = "mapping",
    *,
    json_output: JsonOption = False,  # noqa: ARG001 - a schema is JSON in any case
) -> None:
    """Print the JSON Schema (2020-12) of mapping files, for completion in an editor."""
    from gateway.workbench.schemas import Kind, schema_of

    if kind not in set(Kind):
        fail(Code.USAGE, f"{kind}: not a kind of file; there are {', '.join(Kind)}")
    data(schema_of(Kind(kind)))


def run_tests(
    folders: FolderArgument = None,
    *,
    only: Annotated[
        str, typer.Option("--only", help="Only tests whose file or name has this text.")
    ] = "",
    json_output: JsonOption = False,
    config: ConfigOption = None,
    state_folder: StateOption = None,
) -> None:
    """Run the tests beside the mappings; of one that fails every differing target is told.

    The tests of what ships run without the changes of the site; a test that these make differ is
    a warning. Exit 3 when one fails, or when there is none.
    """
    from gateway.deployment.files import MappingFolders
    from gateway.deployment.loading import checked_mappings, load_folders
    from gateway.deployment.testing import Tests
    from gateway.formats import encoders, readers
    from gateway.mapping import MappingError

    effective = effective_settings(config, state_folder, folders or [])
    library, known = load(effective), checked_mappings()
    tests = Tests(lambda each: load_folders(each, known), readers(), encoders())
    try:
        tested = tests.run(library, MappingFolders.of(effective.mappings))
    except MappingError as error:
        for finding in error.findings:
            say(str(finding))
        raise typer.Exit(Code.FINDINGS) from None
    results = [each for each in tested.results if only in each.file or only in each.name]
    failed = [each for each in results if not each.passed]
    if json_output:
        data([{**asdict(each), "passed": each.passed} for each in results])
    else:
        for each in failed:
            typer.echo(f"{each.file}:{each.line}:1 test-failed {each.name}")
            for difference in each.differences:
                typer.echo(f"    {difference}")
        for warning in tested.warnings:
            typer.echo(f"warning: {warning}")
        say(f"{len(results) - len(failed)} of {len(results)} tests passed")
    raise typer.Exit(Code.FINDINGS if failed or not results else Code.DONE)
