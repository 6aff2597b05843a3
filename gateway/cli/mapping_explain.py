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
    becomes: Annotated[
        str,
        typer.Option(
            "--becomes",
            help="Tell what became of the message's values at this place (PID-5, "
            "ClinicalDocument/title, '*' for all): where they went, or why nowhere.",
            metavar="PATH",
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
    if sum(map(bool, (target, why_absent, becomes))) > 1:
        fail(Code.USAGE, "one of TARGET, --why-absent and --becomes at a time")
    from gateway.workbench.elements import NoTarget

    effective = effective_settings(config, state_folder, folders or [])
    try:
        done = True
        for examined in examined_messages([file], effective, form=form, source=source):
            if becomes:
                done = _became(examined, becomes, json_output=json_output) and done
            elif why_absent:
                done = _absent(examined, why_absent, json_output=json_output) and done
            else:
                done = _explain(examined, target, json_output=json_output) and done
    except NoTarget as wrong:
        fail(Code.USAGE, str(wrong))
    raise typer.Exit(Code.DONE if done else Code.FINDINGS)


def _became(examined: Examined, path: str, *, json_output: bool) -> bool:
    from gateway.formats import inventories
    from gateway.workbench.becoming import what_became
    from gateway.workbench.retention import Fate

    found = list(what_became(examined, inventories(), path))
    if not found:
        say(f"ecluse: the message says nothing at {path}; --becomes '*' lists all that it says")
    if json_output:
        data([asdict(each) for each in found])
        return bool(found)
    for each in found:
        inside = f" (in the document at {each.document})" if each.document else ""
        typer.echo(f"{each.path}{inside} is {each.fate.value}")
        for use in each.uses:
            typer.echo(f"    {'to':9} {use.target} ({use.rule})")
        if each.fate is Fate.IGNORED:
            typer.echo(f"    {'reason':9} {each.reason}")
        elif each.fate is Fate.LOST:
            what = "of the rules that read it nothing came"
            if not each.read:
                what = f"no rule of {_names(examined)} takes it"
            typer.echo(f"    {'reason':9} {what}, and no ignore: names it")
            for rule in each.read:
                typer.echo(f"    {'read by':9} {rule.text} ({rule.place})")
        for condition in each.asked:
            typer.echo(f"    {'asked by':9} {condition.text} ({condition.place})")
    return bool(found)


def _names(examined: Examined) -> str:
    return ", ".join(dict.fromkeys(part.program.name for part in examined.parts))


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
