"""What commands print: data on standard output, messages on standard error, exit codes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

CELL_MAX = 120
"""Characters of one table cell when standard output is no terminal."""


class Code(IntEnum):
    """Exit codes."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    FINDINGS = 3
    UNREACHABLE = 4
    INTERRUPTED = 130


def say(text: str) -> None:
    """A message for a person, on standard error."""
    typer.echo(text, err=True)


def fail(code: Code, text: str) -> NoReturn:
    """Say what is wrong and end with a code."""
    say(f"ecluse: {text}")
    raise typer.Exit(code)


def data(value: Any) -> None:
    """One JSON document, indented on a terminal."""
    indent = 2 if sys.stdout.isatty() else None
    typer.echo(json.dumps(value, ensure_ascii=False, indent=indent, default=str))


def console() -> Console:
    """Where tables go. Without a terminal the width is not limited, so that nothing is cut."""
    from rich.console import Console

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 400
    return Console(width=width, highlight=False, soft_wrap=False)


def table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, numbers: Sequence[str] = ()
) -> None:
    """A table without frames; ``numbers`` names the columns that are set to the right."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="dim")
    for name in columns:
        made.add_column(
            name, justify="right" if name in numbers else "left", overflow="fold", no_wrap=False
        )
    for row in rows:
        made.add_row(*(_cell(cell) if not isinstance(cell, Text) else cell for cell in row))
    console().print(made)


def _cell(value: Any) -> Any:
    from rich.text import Text

    text = "" if value is None else str(value)
    return Text(text if len(text) <= CELL_MAX else text[: CELL_MAX - 1] + "…")


TONES = {
    "done": "green",
    "moving": "blue",
    "held": "yellow",
    "refused": "magenta",
    "dead": "red",
    "settled": "dim",
}


def state(value: object) -> Any:
    """A state in its colour. It stays the machine's word, which ``--state`` takes."""
    from rich.text import Text

    from gateway.wording import state_tone

    return Text(str(value), style=TONES.get(state_tone(value), ""))


def facts(pairs: Iterable[tuple[str, Any]]) -> None:
    """Names and values, one a line."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, show_header=False)
    made.add_column(style="dim")
    made.add_column(overflow="fold")
    for name, value in pairs:
        if value not in (None, ""):
            made.add_row(name, value if isinstance(value, Text) else Text(str(value)))
    console().print(made)


def heading(text: str) -> None:
    """A line in bold above what follows, on standard output."""
    from rich.text import Text

    console().print(Text(text, style="bold"))
