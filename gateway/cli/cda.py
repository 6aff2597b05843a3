"""``ecluse cda``: judge CDA documents by the official rules, and show what they say."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.options import ConfigOption, JsonOption
from gateway.cli.options import settings as read_settings
from gateway.cli.output import Code, data, facts, fail, heading, say, table
from gateway.wording import plural

if TYPE_CHECKING:
    from rich.progress import Progress

    from adapters.cda.validation.findings import Finding, Report

app = typer.Typer(name="cda", help="Files of CDA documents.", no_args_is_help=True)

FILES_MAX = 100_000
JOBS_MAX = 16
_MARKS = {"error": "red", "warning": "yellow", "info": "dim"}
Checked = tuple[Path, "Report"]


@app.command("check")
def check(
    files: Annotated[
        list[Path],
        typer.Argument(help="Documents, or folders of them (*.xml).", metavar="FILE…", exists=True),
    ],
    *,
    pack: Annotated[
        Path | None,
        typer.Option(
            "--pack", metavar="FOLDER", file_okay=False, exists=True, show_default=False,
            help="The validation pack; wins over cda.packs of the configuration.",
        ),
    ] = None,
    json_output: JsonOption = False,
    sarif: Annotated[
        bool, typer.Option("--sarif", help="Print SARIF 2.1.0, for editors and build servers.")
    ] = False,
    html: Annotated[
        bool, typer.Option("--html", help="Print a page with the findings, for a browser.")
    ] = False,
    jobs: Annotated[
        int, typer.Option("--jobs", min=1, max=JOBS_MAX, help="Documents judged at a time.")
    ] = 1,
    config: ConfigOption = None,
) -> None:  # fmt: skip
    """Judge documents by a validation pack and by what the national record refuses.

    Findings say what is wrong in French, as the rule does, with its place and line. Exit 3 when
    a document has an error.
    """
    if json_output + sarif + html > 1:
        fail(Code.USAGE, "--json, --sarif and --html exclude one another")
    from gateway.judging import make_validator

    settings = read_settings(config, None)
    settings = settings.model_copy(
        update={"cda": settings.cda.model_copy(update={"processes": jobs})}
    )
    paths = list(_documents(files))
    validator = make_validator(settings, pack, keep=False)
    if validator.pack is None:
        say("ecluse: no validation pack: documents are judged by our own rules alone (--pack)")
    try:
        checked = _judge(validator, paths, jobs)
        if json_output:
            data([{"file": str(path), **report.as_json()} for path, report in checked])
        elif sarif:
            from adapters.cda.validation.exchange import sarif_of

            data(sarif_of([(path.as_posix(), report) for path, report in checked]))
        elif html:
            from adapters.cda.validation.exchange import page_of

            typer.echo(page_of([(path.name, report) for path, report in checked]))
        else:
            _print(checked)
    finally:
        validator.close()
    failed = any(not report.passed for _, report in checked)
    raise typer.Exit(Code.FINDINGS if failed else Code.DONE)


def _documents(files: Sequence[Path]) -> Iterator[Path]:
    count = 0
    for file in files:
        inside = (
            sorted(each for each in file.rglob("*") if each.suffix.lower() == ".xml")
            if file.is_dir()
            else [file]
        )
        if not inside:
            fail(Code.USAGE, f"{file}: there is no *.xml in it")
        for path in inside:
            count += 1
            if count > FILES_MAX:
                fail(Code.USAGE, f"more than {FILES_MAX} files; name fewer")
            yield path


def _judge(validator: Any, paths: Sequence[Path], jobs: int) -> list[Checked]:
    """The reports in the order of the files, with a bar for a person who waits."""
    from adapters.cda.document import CEILING
    from gateway.model import Payload

    def one(path: Path) -> Checked:
        try:
            payload = Payload.from_file(path)
        except OSError as error:
            fail(Code.FAILED, f"{path}: cannot be read: {error.strerror}")
        return path, validator.check(payload, limits=CEILING)

    with _bar(len(paths)) as bar:
        task = bar.add_task("documents", total=len(paths)) if bar is not None else None
        done: list[Checked] = []
        with ThreadPoolExecutor(jobs) as pool:
            for each in pool.map(one, paths):
                done.append(each)
                if bar is not None and task is not None:
                    bar.advance(task)
    return done


def _bar(count: int) -> AbstractContextManager[Progress | None]:
    if count < 2 or not sys.stderr.isatty():
        return nullcontext(None)
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True,
    )  # fmt: skip


def _print(checked: Sequence[Checked]) -> None:
    from gateway.cli.output import console

    screen = console()
    for path, report in checked:
        heading(f"{path.name}: {_counted(report)}")
        for group in report.groups():
            for line in _lines(group.findings):
                screen.print(line)
    for problem in dict.fromkeys(said for _, report in checked for said in report.problems):
        screen.print(_text("note    ", "dim", problem, "dim"))
    if len(checked) > 1:
        screen.print()
        table(
            ("document", "errors", "warnings", "judged by"),
            [
                (path.name, report.errors, report.warnings, ", ".join(report.origins))
                for path, report in checked
            ],
            numbers=("errors", "warnings"),
        )
        clean = sum(report.passed for _, report in checked)
        say(f"{len(checked)} {plural(len(checked), 'document')}: {clean} without an error, "
            f"{len(checked) - clean} with errors")  # fmt: skip


def _counted(report: Report) -> str:
    if not report.findings:
        return "nothing found"
    said = (
        f"{report.errors} {plural(report.errors, 'error')}, "
        f"{report.warnings} {plural(report.warnings, 'warning')}"
    )
    return f"{said}, {report.left_out} left out" if report.left_out else said


def _lines(findings: Sequence[Finding]) -> Iterator[Any]:
    first = findings[0]
    more = f" ({len(findings)} times)" if len(findings) > 1 else ""
    tone = _MARKS[first.level.value]
    yield _text(f"  {first.level.value:<8}", tone, f"{first.shown}{more}", "")
    where = f"line {first.line}  {first.xpath}" if first.line else first.xpath
    yield _text("          ", "", f"{first.origin} {first.rule}  {where}", "dim")


def _text(mark: str, tone: str, words: str, style: str) -> Any:
    from rich.text import Text

    return Text(mark, style=tone).append(words, style=style)


@app.command("show")
def show(
    file: Annotated[
        Path, typer.Argument(help="A document.", metavar="FILE", exists=True, dir_okay=False)
    ],
    *,
    json_output: JsonOption = False,
    html: Annotated[
        bool,
        typer.Option("--html", help="Print the whole document as a page that is safe to open."),
    ] = False,
) -> None:
    """Print what a document's header says, and its sections with their lines.

    Exit 3 when it cannot be read.
    """
    if json_output and html:
        fail(Code.USAGE, "--json and --html exclude one another")
    from adapters.cda.document import CEILING, read_document
    from adapters.cda.prolog import NotReadable
    from adapters.cda.rendering.card import read_card, sections
    from adapters.cda.rendering.page import render
    from gateway.model import Payload

    try:
        document = read_document(Payload.from_file(file), limits=CEILING)
    except OSError as error:
        fail(Code.FAILED, f"{file}: cannot be read: {error.strerror}")
    except NotReadable as fault:
        place = f" ({fault.location})" if fault.location else ""
        fail(Code.FINDINGS, f"{file}: {fault}{place}")
    if html:
        typer.echo(render(document))
        return
    card, listed = read_card(document), list(sections(document))
    if json_output:
        data(
            {
                "title": card.title, "kind": card.kind, "date": card.date, "form": document.form,
                "encoding": document.encoding, "patient": card.patient, "born": card.born,
                "sex": card.sex, "identifiers": [list(each) for each in card.identifiers],
                "header": [list(each) for each in card.facts],
                "sections": [
                    {"depth": s.depth, "title": s.title, "code": s.code, "entries": s.entries,
                     "line": s.line} for s in listed
                ],
            }
        )  # fmt: skip
        return
    heading(card.title)
    facts(
        [("Type", card.kind), ("Date", card.date), ("Patient", card.patient), ("Né(e)", card.born),
         ("Sexe", card.sex), *card.identifiers, *card.facts]
    )  # fmt: skip
    if listed:
        typer.echo()
        table(
            ("section", "code", "entries", "line"),
            [("  " * s.depth + s.title, s.code, s.entries or "", s.line) for s in listed],
            numbers=("entries", "line"),
        )
