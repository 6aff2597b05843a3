"""Play the story, show the record and the ledger, and say whether they add up."""

from __future__ import annotations

import json
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from gateway.demo.clients import Http
from gateway.demo.people import CAMILLE, GABRIEL, MARTIN, Patient
from gateway.demo.stage import DemonstrationFailed, Stage, wait_for
from gateway.demo.story import INS, Story

SIGNS = {
    "send": "[cyan]→[/]",
    "record": "[green]✔[/]",
    "held": "[yellow]◌[/]",
    "dead": "[red]✖[/]",
    "run": "[magenta]$[/]",
}
KINDS = {
    "Encounter": "visits",
    "DiagnosticReport": "reports",
    "Observation": "results",
    "DocumentReference": "documents",
    "ImagingStudy": "studies",
}

SHORT = {"acknowledged": "ack'd", "received": "in", "delivered": "done", "waiting": "waits"}
"""Headings of the ledger, so that it fits a terminal of 80 columns."""

# What the story must leave in the record: resources of each kind, per patient.
EXPECTED: tuple[tuple[Patient, dict[str, int]], ...] = (
    # The hospital's stay, and the visit of which the practice's document speaks.
    (CAMILLE, {"Encounter": 2, "Observation": 10, "DocumentReference": 2, "ImagingStudy": 1}),
    (GABRIEL, {"Observation": 2}),
    (MARTIN, {"Observation": 1}),
)


def main(once: bool, json_output: bool) -> int:
    """Play the demonstration.

    ``once`` ends after the story; else the gateway stays up until Ctrl-C, SIGTERM or the
    end of the terminal, with the console's address printed. ``json_output`` prints the
    ledger as one JSON object on stdout and the story on stderr. Returns 0 only if every
    expected entry is in the record and the ledger adds up, else 1.
    """
    out = Console(stderr=json_output, highlight=False)
    with _in_order(), tempfile.TemporaryDirectory(prefix="ecluse-demo-") as name:
        stage = Stage(Path(name))
        try:
            out.print("[bold]Écluse[/]: three old systems feed one patient's record\n")
            stage.start()
            story = Story(stage, lambda kind, text: out.print(f"  {SIGNS[kind]} {text}"))
            story.play()
            wait_for("everything to settle", lambda: _settled(stage))
            problems = _show(out, stage, story, json_output=json_output)
            for problem in problems:
                out.print(f"[red]✖ {problem}[/]")
            if not problems:
                out.print(
                    "\n[green]All that was expected is in the record, and the ledger adds up.[/]"
                )
            if not once and not json_output:
                _stay(out, stage.http)
            return 1 if problems else 0
        except DemonstrationFailed as failure:
            out.print(f"[red]✖ {failure}[/]")
            return 1
        finally:
            stage.stop()


@contextmanager
def _in_order() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end it as Ctrl-C does: else the gateway would stay behind."""
    before = {
        number: signal.signal(number, signal.default_int_handler)
        for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _settled(stage: Stage) -> bool:
    return all(line["pending"] == 0 for line in stage.ledger().values())


def _stay(out: Console, http: Http) -> None:
    out.print(f"\nLook around: [bold]{http.base}/[/]   (Ctrl-C ends the demonstration)")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        out.print("\nThe demonstration is over; its state is removed.")


def _show(out: Console, stage: Stage, story: Story, *, json_output: bool) -> list[str]:
    """Print the record and the ledger; what is wrong with either."""
    problems: list[str] = []
    record = Table(title="The record", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    record.add_column("patient (synthetic)")
    for heading in KINDS.values():
        record.add_column(heading, justify="right")
    counts: dict[str, dict[str, int]] = {}
    for patient, expected in EXPECTED:
        identifier = stage.http.patient_id(INS, patient.ins)
        found = {kind: len(stage.http.resources(kind, identifier)) for kind in KINDS}
        name = f"{patient.family} {patient.given}"
        counts[name] = found
        record.add_row(name, *(str(found[kind]) for kind in KINDS))
        problems += [
            f"{name}: {found[kind]} {kind} in the record, {number} expected"
            for kind, number in expected.items()
            if found[kind] != number
        ]
    out.print()
    out.print(record)
    ledger, wrong = _ledger(stage, story)
    problems += wrong
    table = Table(title="The ledger", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    columns = list(next(iter(ledger.values())))
    for heading in ("source", *columns):
        short = SHORT.get(heading, heading)
        table.add_column(short, justify="left" if heading == "source" else "right", no_wrap=True)
    for source, line in ledger.items():
        table.add_row(source, *(str(line[column]) for column in columns))
    out.print(table)
    if json_output:
        answer: dict[str, Any] = {"sources": ledger, "record": counts, "adds_up": not problems}
        answer["problems"] = problems
        print(json.dumps(answer, indent=2, ensure_ascii=False))  # noqa: T201 - data goes to stdout
    return problems


def _ledger(stage: Stage, story: Story) -> tuple[dict[str, dict[str, int]], list[str]]:
    """What the clients saw beside what the journal says, and where they differ."""
    ledger: dict[str, dict[str, int]] = {}
    problems: list[str] = []
    for source, line in stage.ledger().items():
        seen = story.counted[source]
        ledger[source] = {
            "sent": seen.sent,
            "acknowledged": seen.positive,
            "received": line["received"],
            "delivered": line["delivered"],
            "waiting": line["held"] + line["unmapped"] + line["pending"],
            "refused": line["refused"],
            "dead": line["dead"],
            "replayed": line["replayed"],
        }
        if line["received"] != seen.sent:
            problems.append(f"{source}: {seen.sent} sent, {line['received']} in the journal")
        accounted = sum(ledger[source][k] for k in ("delivered", "waiting", "refused", "dead"))
        if accounted != line["received"]:
            problems.append(f"{source}: {line['received']} received, {accounted} accounted for")
    return ledger, problems
