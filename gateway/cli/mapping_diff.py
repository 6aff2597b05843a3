"""``ecluse mapping diff``: what a change of the mappings does to real messages."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.mapping_bench import (
    FilesArgument,
    FormatOption,
    SourceOption,
    chosen_format,
    contexts,
    effective_settings,
    load_folder,
    load_version,
    was_deployed,
)
from gateway.cli.options import ConfigOption, JsonOption, StateOption
from gateway.cli.output import Code, console, data, fail, heading, say

if TYPE_CHECKING:
    from gateway.mapping import Library
    from gateway.settings import Settings
    from gateway.workbench.comparing import Differences

FACTS_SHOWN = 50
IN_FORCE = "in-force"

_DIGEST = re.compile("[0-9a-f]{7,64}")


def diff(
    files: FilesArgument,
    *,
    old: Annotated[
        str,
        typer.Option("--from", help="The mappings as they are.", metavar="FOLDER|VERSION"),
    ] = IN_FORCE,
    new: Annotated[
        str,
        typer.Option("--to", help="The mappings as they would be.", metavar="FOLDER|VERSION"),
    ],
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit 3 when anything differs.")
    ] = False,
    form: FormatOption = "",
    source: SourceOption = "",
    json_output: JsonOption = False,
    config: ConfigOption = None,
    state_folder: StateOption = None,
) -> None:  # fmt: skip
    """Map messages with two versions of the mappings and tell every fact that differs.

    A folder stands by itself, or on the mappings that are shipped where it uses them. A version is
    one that was deployed: its number, the beginning of its digest, or `in-force`.
    """
    effective = effective_settings(config, state_folder)
    libraries = (_load(old, effective), _load(new, effective))
    found = _compared(effective, files, libraries, chosen_format(form), source)
    counted, differing, kept = 0, 0, []
    for differences in found:
        counted += 1
        if not differences.any:
            continue
        differing += 1
        if json_output:
            kept.append(asdict(differences))
        else:
            _print(differences)
    if json_output:
        data({"messages": counted, "differing": differing, "differences": kept})
    else:
        say(f"{counted} messages, {differing} differ")
    raise typer.Exit(Code.FINDINGS if exit_code and differing else Code.DONE)


def _load(given: str, effective: Settings) -> Library:
    """The mappings of a folder or a version. Ends the command where there are none."""
    path = Path(given)
    version = given == IN_FORCE or given.isdecimal() or _DIGEST.fullmatch(given) is not None
    if path.is_dir() and not (version and path.parent == Path()):
        return load_folder(path, effective)
    if not version:
        fail(Code.USAGE, f"{given}: no folder, and no version's number or digest")
    if given == IN_FORCE and not was_deployed(effective):
        fail(
            Code.FAILED,
            "nothing was deployed yet, so that no version is in force to compare with: name the "
            "files as they were with --from FOLDER, or deploy them first",
        )
    return load_version(given, effective)


def _compared(
    effective: Settings,
    files: list[Path],
    libraries: tuple[Library, Library],
    form: Any,
    source: str,
) -> Iterator[Differences]:
    from gateway.formats import inventories, readers
    from gateway.mapping import MappingContext
    from gateway.workbench.comparing import compare
    from gateway.workbench.examining import Bench, examine
    from gateway.workbench.files import NoMessage, messages_of_files

    benches = [
        Bench(readers=readers(), library=library, inventories=inventories())
        for library in libraries
    ]
    known = contexts(effective, source)
    for message in messages_of_files(files, form):
        if isinstance(message, NoMessage):
            say(f"{message.name}: {message.reason}")
            continue
        context = known.get(message.format, MappingContext(source="file"))
        before, after = (
            examine(bench, message.format, message.payloads, context, trace=False)
            for bench in benches
        )
        yield compare(message.name, before, after)


def _print(found: Differences) -> None:
    from rich.text import Text

    out = console()
    heading(found.message)
    if found.outcome:
        out.print(Text(f"  {found.outcome}", style="red"))
    for identity in found.identities:
        out.print(Text(f"  identity {identity.old} → {identity.new}", style="bold red"))
    marks = {"added": ("+", "green"), "removed": ("-", "yellow"), "changed": ("~", "cyan")}
    for fact in found.facts[:FACTS_SHOWN]:
        mark, style = marks[fact.change.value]
        values = " → ".join(value for value in (fact.old, fact.new) if value)
        out.print(Text(f"  {mark} {fact.target}: {values}", style=style))
    if len(found.facts) > FACTS_SHOWN:
        out.print(Text(f"  … and {len(found.facts) - FACTS_SHOWN} more; --json lists all"))
    for sign, flags in (("+", found.flags_added), ("-", found.flags_removed)):
        for flag in flags:
            out.print(Text(f"  {sign} flag {flag}", style="dim"))
    counts = Counter(fact.change.value for fact in found.facts)
    said = ", ".join(f"{number} {name}" for name, number in counts.items())
    out.print(Text(f"  {len(found.identities)} identities changed; {said or 'no fact differs'}"))
