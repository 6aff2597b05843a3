"""``ecluse mapping coverage``: what the mappings keep of whole folders of messages."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.mapping_bench import (
    FilesArgument,
    FoldersOption,
    FormatOption,
    SourceOption,
    chosen_format,
    contexts,
    effective_settings,
    make_bench,
)
from gateway.cli.options import ConfigOption, JsonOption, StateOption
from gateway.cli.output import Code, data, facts, heading, say, table

if TYPE_CHECKING:
    from gateway.workbench.coverage import Coverage, PathCount

PROGRESS_EVERY = 50
PATHS_SHOWN = 40
CODES_SHOWN = 20
FAULTS_SHOWN = 20


def coverage(
    files: FilesArgument,
    *,
    fail_under: Annotated[
        float | None,
        typer.Option(
            "--fail-under",
            help="Exit 3 when retention is below this percentage, or anything is invalid,"
            " dangling, invented or unstable.",
            min=0,
            max=100,
            metavar="PERCENT",
        ),
    ] = None,
    every_path: Annotated[
        bool, typer.Option("--all", help="List every path, not only those that lose most.")
    ] = False,
    form: FormatOption = "",
    source: SourceOption = "",
    folders: FoldersOption = None,
    json_output: JsonOption = False,
    config: ConfigOption = None,
    state_folder: StateOption = None,
) -> None:
    """Count what the mappings keep of files and folders of messages, path by path.

    Files that hold no message of a mapped type are listed and not counted.
    """
    from gateway.workbench.coverage import Coverage, cover
    from gateway.workbench.files import messages_of_files

    effective = effective_settings(config, state_folder, folders or [])
    chosen = chosen_format(form)
    bench = make_bench(effective)
    counted = Coverage()
    messages = messages_of_files(files, chosen)
    for each in _with_progress(cover(bench, messages, contexts(effective, source))):
        counted = each
    if json_output:
        data(as_json(counted))
    else:
        _print(counted, every_path=every_path)
    failures = counted.failures(fail_under)
    if fail_under is not None:
        for failure in failures:
            say(f"ecluse: {failure}")
    raise typer.Exit(Code.FINDINGS if fail_under is not None and failures else Code.DONE)


def _with_progress(counted: Iterator[Coverage]) -> Iterator[Coverage]:
    """Tell on standard error how far it is: a line that is written over on a terminal."""
    terminal = sys.stderr.isatty()
    for number, found in enumerate(counted, 1):
        if number % PROGRESS_EVERY == 0:
            text = f"{number} files and messages, {found.messages} counted"
            typer.echo(f"\r{text}" if terminal else text, err=True, nl=not terminal)
        yield found
    if terminal:
        typer.echo("\r\x1b[K", err=True, nl=False)


def as_json(found: Coverage) -> dict[str, Any]:
    """Everything counted, as one document."""
    return {
        "messages": found.messages,
        "entries": found.entries,
        "retention": _rounded(found.retention),
        "values": _totals(found.paths()),
        "formats": {
            form.value: {
                "retention": _rounded(found.retention_of(form)),
                **_totals([count for count in found.paths() if count.format is form]),
            }
            for form in found.formats
        },
        "measures": found.measures(),
        "faults": [asdict(fault) for fault in found.faults],
        "not_counted": {
            **{heading.value: number for heading, number in found.apart.items()},
            "listed": [asdict(fault) for fault in found.set_apart],
        },
        "unknown_codes": [asdict(one) for one in found.unknown_codes()],
        "paths": [{**asdict(count), "reasons": list(count.reasons)} for count in found.paths()],
    }


def _totals(counts: list[PathCount]) -> dict[str, int]:
    names = ("present", "mapped", "ignored", "lost")
    return {name: sum(getattr(count, name) for count in counts) for name in names}


def _rounded(share: float | None) -> float | None:
    """Rounded down, so that 94.999 % is never shown as 95 %."""
    return None if share is None else int(share * 100) / 100


def _print(found: Coverage, *, every_path: bool) -> None:
    counts = sorted(found.paths(), key=lambda count: -count.lost)
    shown = found.paths() if every_path else [each for each in counts if each.lost][:PATHS_SHOWN]
    if shown:
        heading("Source paths" if every_path else "Where most is lost")
        table(
            ("mapping", "path", "messages", "present", "mapped", "ignored", "lost", "reason"),
            [
                (c.mapping, c.path, c.messages, c.present, c.mapped, c.ignored, c.lost,
                 "; ".join(c.reasons) or (c.example if c.lost else ""))
                for c in shown
            ],
            numbers=("messages", "present", "mapped", "ignored", "lost"),
        )  # fmt: skip
    unknown = found.unknown_codes()
    if unknown:
        heading("Codes that no table has")
        table(
            ("table", "code", "times", "for example"),
            [(one.table, one.code, one.times, one.example) for one in unknown[:CODES_SHOWN]],
            numbers=("times",),
        )
        if len(unknown) > CODES_SHOWN:
            say(f"{len(unknown) - CODES_SHOWN} more; --json lists all")
    heading("Summary")
    rows = [(form.value, *_row(found, form)) for form in found.formats]
    table(
        ("format", "present", "mapped", "ignored", "lost", "retention %"),
        [*rows, ("all", *_row(found, None))],
        numbers=("present", "mapped", "ignored", "lost", "retention %"),
    )
    facts(
        [
            ("messages", found.messages),
            ("entries", found.entries),
            *((name.replace("_", " "), str(value)) for name, value in found.measures().items()),
            *(
                (heading.value.replace("_", " "), f"{number} (not counted)")
                for heading, number in found.apart.items()
            ),
        ]
    )
    for apart in found.set_apart[:FAULTS_SHOWN]:
        where = " ".join(part for part in (apart.path, apart.detail) if part)
        say(f"{apart.message}: {apart.heading.value.replace('_', ' ')}: {where}")
    for fault in found.faults[:FAULTS_SHOWN]:
        say(f"{fault.message}: {fault.path} {fault.detail}")


def _row(found: Coverage, form: Any) -> tuple[Any, ...]:
    from gateway.workbench.retention import Fate

    fates = (None, Fate.MAPPED, Fate.IGNORED, Fate.LOST)
    totals = [found.total(fate, form) for fate in fates]
    share = _rounded(found.retention_of(form))
    return (*totals, "" if share is None else f"{share:.2f}")
