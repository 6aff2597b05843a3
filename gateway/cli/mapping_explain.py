"""``ecluse mapping explain``: where a value comes from, and why another is not there."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.mapping_bench import (
    FoldersOption,
    FormatOption,
    MessageArgument,
    SourceOption,
    effective_settings,
    examined_messages,
)
from gateway.cli.options import ConfigOption, JsonOption, StateOption
from gateway.cli.output import Code, data, fail, say

if TYPE_CHECKING:
    from gateway.workbench.absence import Absence
    from gateway.workbench.examining import Examined
    from gateway.workbench.provenance import Explained

TARGET_HELP = "Observation[2].valueQuantity.value; without it every value of every entry."


def explain(
    file: MessageArgument,
    target: Annotated[str, typer.Argument(help=TARGET_HELP, metavar="[TARGET]")] = "",
    *,
    why_absent: Annotated[
        str,
        typer.Option(
            "--why-absent",
            help="Tell which rules were tried for this target, and why each gave nothing.",
            metavar="TARGET",
        ),
    ] = "",
    form: FormatOption = "",
    source: SourceOption = "",
    folders: FoldersOption = None,
    json_output: JsonOption = False,
    config: ConfigOption = None,
    state_folder: StateOption = None,
) -> None:
    """Tell where each value of a message's entries comes from: rule, source, steps, table row.

    Exit 3 when there is no such value, or with --why-absent when it is there.
    """
    from gateway.workbench.elements import NoTarget

    effective = effective_settings(config, state_folder, folders or [])
    try:
        done = True
        for examined in examined_messages([file], effective, form=form, source=source):
            if why_absent:
                done = _absent(examined, why_absent, json_output=json_output) and done
            else:
                done = _explain(examined, target, json_output=json_output) and done
    except NoTarget as wrong:
        fail(Code.USAGE, str(wrong))
    raise typer.Exit(Code.DONE if done else Code.FINDINGS)


def _explain(examined: Examined, target: str, *, json_output: bool) -> bool:
    from gateway.workbench.explaining import explain_target

    found = explain_target(examined, target)
    if not found:
        say(f"ecluse: there is no {target}; --why-absent {target} tells why")
    if json_output:
        data([asdict(each) for each in found])
    else:
        for each in found:
            _print(each)
    return bool(found)


def _print(each: Explained) -> None:
    typer.echo(f"{each.target} = {each.value}")
    lines = [("rule", each.rule)]
    lines += [("inside", place) for place in each.around[:3]]
    if each.document:
        lines.append(("document", each.document))
    lines += [("source", f"{value.path} = {value.text}") for value in each.sources]
    if each.steps:
        lines.append(("steps", " > ".join(each.steps)))
    if each.row is not None:
        row = each.row
        lines.append(("row", f"{row.table} {row.version}: {row.code} → {row.to} ({row.place})"))
    lines += [("when", f"{met.text} ({met.place})") for met in each.conditions]
    if each.reason:
        lines.append((each.origin.value, each.reason))
    for name, text in lines:
        typer.echo(f"    {name:9} {text}")


def _absent(examined: Examined, target: str, *, json_output: bool) -> bool:
    from gateway.workbench.absence import why_absent

    found: Absence = why_absent(examined, target)
    if json_output:
        data(asdict(found))
    else:
        for place in found.there:
            typer.echo(f"{place} is there")
        for tried in found.tried:
            lead = "    " * tried.depth
            typer.echo(f"{lead}{tried.rule} {tried.element}")
            for reason in tried.reasons:
                typer.echo(f"{lead}    {reason}")
    return not found.there
