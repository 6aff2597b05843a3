"""The table of exchanges, printed row by row as they happen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tools.dicom_peers.samples import Sample
from tools.dicom_peers.standing import Gateway, NoAnswer, Node, Rust

NODE, RUST = "dcmjs-dimse", "dicom-rs"


@dataclass
class Table:
    """What stands, what is sent, and the rows so far."""

    gateway: Gateway
    node: Node | None
    rust: Rust | None
    folder: Path
    samples: list[Sample]
    others: list[Sample]
    """The same for dicom-rs, under UIDs of their own."""
    named: list[Sample]
    study: list[Sample]
    rows: list[bool] = field(default_factory=list)

    def row(self, toolkit: str, exchange: str, found: object, expected: object) -> None:
        """One exchange, what came of it, and what should have."""
        good = found == expected
        self.rows.append(good)
        verdict = "as it should be" if good else "UNLIKE"
        print(f"{toolkit:<12} {exchange:<58} {verdict:<16} {said(found)}", flush=True)
        if not good:
            print(f"{'':<12} {'expected':>58} {'':<16} {said(expected)}", flush=True)

    def run(self, toolkit: str, some: Callable[[Table], None]) -> None:
        """A group of exchanges; one that gets no answer is a row, and the next group goes on."""
        try:
            some(self)
        except (NoAnswer, AssertionError, KeyError, IndexError) as fault:
            self.row(toolkit, some.__name__.replace("_", " "), f"{fault!r:.300}", "an answer")


def said(value: object) -> str:
    """A value in a cell: statuses are lists of numbers."""
    if isinstance(value, list) and value and all(type(each) is int for each in value):
        counted: list[str] = []
        for each in dict.fromkeys(value):
            times = value.count(each)
            counted.append(f"{each:04X}" + (f" x{times}" if times > 1 else ""))
        return " ".join(counted)
    return str(value)
