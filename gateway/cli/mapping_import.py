"""``ecluse mapping import``: HL7's v2-to-FHIR tables as mapping files to start from."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.mapping import app
from gateway.cli.options import JsonOption
from gateway.cli.output import Code, data, fail, say

if TYPE_CHECKING:
    from gateway.workbench.importing import Imported


@app.command("import")
def import_(
    tables: Annotated[
        Path,
        typer.Argument(
            help="The tables: a copy of HL7/v2-to-fhir, or its folder mappings.",
            metavar="FOLDER",
            exists=True,
            file_okay=False,
        ),
    ],
    *,
    out: Annotated[
        Path,
        typer.Option(
            "--out", help="Where the mapping files go.", metavar="FOLDER", file_okay=False
        ),
    ],
    sender: Annotated[
        str,
        typer.Option(
            "--sender",
            help="The sending application (MSH-3.1) for whose messages they count.",
            metavar="NAME",
        ),
    ] = "V2-TO-FHIR",
    replace: Annotated[
        bool, typer.Option("--replace", help="Write over an import made before.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Make mapping files of HL7's v2-to-FHIR tables, as a starting point.

    What the tables leave to prose is listed in todo.md and todo.json. Exit 3 when the files
    would not load.
    """
    if any(out.glob("v2-to-fhir/**/*.yaml")) and not replace:
        fail(Code.USAGE, f"{out}: an import is there already; --replace writes over it")
    from gateway.formats import languages
    from gateway.workbench.importing import TablesUnreadable, import_tables

    try:
        made = import_tables(tables, languages(), sender=sender)
    except TablesUnreadable as fault:
        fail(Code.USAGE, str(fault))
    for old in sorted(out.glob("v2-to-fhir/**/*.yaml")):
        old.unlink()
    made.write(out)
    errors = [each for each in made.findings if each.severity == "error"]
    if json_output:
        data(
            {
                "ok": not errors,
                "counts": made.counts,
                "todo": made.todo.counts(),
                "findings": [asdict(each) for each in made.findings],
            }
        )
    else:
        _print(made, out)
    raise typer.Exit(Code.FINDINGS if errors else Code.DONE)


def _print(made: Imported, out: Path) -> None:
    for finding in made.findings:
        typer.echo(f"{'' if finding.severity == 'error' else 'warning: '}{finding}")
    counts = made.counts
    say(f"{counts['tables']} tables, {counts['rows_imported']} of {counts['rows']} rows, "
        f"{counts['codes']} codes: {counts['messages']} messages with {counts['entries']} "
        f"entries, {counts['segments']} segments, {counts['types']} types, "
        f"{counts['terminology_tables']} terminology tables")  # fmt: skip
    say(f"{counts['conditions_translated']} conditions are translated, "
        f"{counts['conditions_of_prose']} are prose alone; "
        f"{counts['tasks']} things to do in {out / 'todo.md'}")  # fmt: skip
