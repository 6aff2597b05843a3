"""``ecluse hl7``: show files of HL7 v2 messages, and check them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.options import JsonOption
from gateway.cli.output import Code, data, fail, say
from gateway.wording import plural

if TYPE_CHECKING:
    from adapters.hl7.conformance import Finding
    from adapters.hl7.message import Message
    from adapters.hl7.site_profiles import CompiledProfile

app = typer.Typer(name="hl7", help="Files of HL7 v2 messages.", no_args_is_help=True)

MESSAGE_BYTES_MAX = 256 << 20
CharsetOption = Annotated[
    str,
    typer.Option(
        "--charset", metavar="NAME",
        help="Character set of messages that are not ASCII and whose MSH-18 is empty.",
    ),
]  # fmt: skip


@app.command("show")
def show(
    file: Annotated[
        Path,
        typer.Argument(help="A file of messages.", metavar="FILE", exists=True, dir_okay=False),
    ],
    *,
    path: Annotated[
        str,
        typer.Option(
            "--path", metavar="PATH",
            help="Print what stands at one path instead, a line each: PID-3, PID-3(*).1, "
            "OBX(3.1=2345-7)-5, PID. A value with parts is printed as it is written.",
        ),
    ] = "",
    raw: Annotated[
        bool,
        typer.Option(
            "--raw",
            help="Fields as they are written, each with its position: bytes from the first of "
            "the message.",
        ),
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Long values whole, not their beginning and length.")
    ] = False,
    charset: CharsetOption = "UTF-8",
    json_output: JsonOption = False,
) -> None:  # fmt: skip
    """Print each message of a file as a tree: groups, segments, fields and parts, with names.

    Bytes that are not of the message's character set are shown as ‹E9›, never replaced. Exit 3
    when a message has such bytes or cannot be read at all.
    """
    from adapters.hl7.charset import charset_named

    if charset and charset_named(charset) is None:
        fail(Code.USAGE, f"{charset} is not a supported character set: try 8859/15")
    wanted = _Path(path) if path else None
    printer = _Printer(json_output=json_output, raw=raw, full=full)
    for number, body in _messages(file):
        printer.message(file, number, body, charset, wanted)
    printer.end()
    if wanted is not None and not wanted.found:
        wanted.explain()
    raise typer.Exit(Code.FINDINGS if printer.faults else Code.DONE)


class _Path:
    """One path, read from every message. Right or wrong is asked only when nothing is there."""

    def __init__(self, text: str) -> None:
        from adapters.hl7.paths import parse
        from gateway.ports import PathError

        try:
            self._path = parse(text)
            if self._path.here:
                raise PathError("a path begins with a segment", "PID-3")
        except PathError as error:
            fail(Code.USAGE, _told(error))
        self.found = False

    def read(self, message: Message, *, raw: bool) -> Iterator[dict[str, Any]]:
        """What stands there: absent values are left out."""
        from adapters.hl7.compiling import compile_path, select_segments
        from adapters.hl7.outline import visible
        from adapters.hl7.scopes import MessageScope
        from adapters.hl7.values import Hl7Value
        from gateway.ports import ValueState

        scope = MessageScope(message)
        if not self._path.field:
            for index in select_segments(scope, self._path):
                self.found = True
                yield {"path": self._path.text, "text": visible(message.segments[index])}
            return
        for value in compile_path(self._path)(scope):
            assert isinstance(value, Hl7Value)
            if value.state is ValueState.ABSENT:
                continue
            self.found = True
            written = message.text_of(value.raw())
            whole = raw or value.has_parts or value.state is ValueState.NULL
            yield {
                "path": value.path, "state": str(value.state.value), "datatype": value.datatype,
                "text": visible(written if whole else value.text), "written": visible(written),
            }  # fmt: skip

    def explain(self) -> None:
        """Nothing is there: a path that no version has is a mistake, another one is not."""
        from adapters.hl7.checking import check_path, check_versions
        from gateway.ports import PathError

        try:
            check_path(self._path, check_versions(()))
        except PathError as error:
            fail(Code.USAGE, _told(error))


def _told(error: Any) -> str:
    return f"{error} (did you mean {error.suggestion}?)" if error.suggestion else str(error)


class _Printer:
    """Prints messages as they come, so that nothing of a large file is kept in memory."""

    def __init__(self, *, json_output: bool, raw: bool, full: bool) -> None:
        self._json = json_output
        self._raw = raw
        self._full = full
        self._count = 0
        self.faults = 0

    def message(
        self, file: Path, number: int, body: bytes, charset: str, wanted: _Path | None
    ) -> None:
        """Print one message, or what stands at a path of it."""
        from adapters.hl7.message import Message
        from adapters.hl7.outline import undecodable
        from gateway.ports import Unreadable

        try:
            message = Message.show(body, charset_default=charset)
        except Unreadable as fault:
            self.faults += 1
            self._unreadable(file, number, body, fault)
            return
        wrong = undecodable(message)
        self.faults += wrong > 0
        if wrong:
            first = _fault(body, charset)
            say(f"{file}#{number}: {wrong} {plural(wrong, 'byte')} cannot be decoded: {first}")
        if wanted is not None:
            for found in wanted.read(message, raw=self._raw):
                if self._json:
                    self._item({"message": number, **found})
                else:
                    typer.echo(found["text"])
            return
        from gateway.cli import hl7_tree

        if self._json:
            self._item({"message": number, "undecodable_bytes": wrong, **hl7_tree.plain(message)})
        else:
            hl7_tree.draw(file, number, message, raw=self._raw, full=self._full)

    def _unreadable(self, file: Path, number: int, body: bytes, fault: Exception) -> None:
        from adapters.hl7.outline import visible

        where = f"{file}#{number}"
        say(f"{where}: cannot be read: {fault}")
        if self._json:
            self._item({"message": number, "unreadable": str(fault), "bytes": len(body)})
        else:
            typer.echo(visible(body[:1000].decode("ascii", "ecluse_visible")))

    def _item(self, value: dict[str, Any]) -> None:
        typer.echo(
            ("[" if not self._count else ",\n") + json.dumps(value, ensure_ascii=False), nl=False
        )
        self._count += 1

    def end(self) -> None:
        """Close the document."""
        if self._json:
            typer.echo("]" if self._count else "[]")


def _fault(body: bytes, charset: str) -> str:
    from adapters.hl7.message import Message
    from gateway.ports import Unreadable

    try:
        Message.read(body, charset_default=charset)
    except Unreadable as fault:
        return str(fault)
    return "the file changed meanwhile"


def _messages(file: Path) -> Iterator[tuple[int, bytes]]:
    """The messages of a file with their numbers. Ends the command when it cannot be read."""
    from adapters.hl7.sender import FileLimits, read_messages
    from gateway.ports import Unreadable

    try:
        yield from enumerate(read_messages(file, FileLimits(MESSAGE_BYTES_MAX)), 1)
    except Unreadable as fault:
        fail(Code.FAILED, f"{file}: {fault}")
    except OSError as fault:
        fail(Code.FAILED, f"{file}: {fault.strerror}")


@app.command("check")
def check(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Files of messages.", metavar="FILE...", exists=True, dir_okay=False),
    ] = None,
    *,
    profile: Annotated[
        list[Path] | None,
        typer.Option(
            "--profile", metavar="FILE", exists=True, dir_okay=False,
            help="A profile file; may be given several times.",
        ),
    ] = None,
    grammar: Annotated[
        bool,
        typer.Option("--grammar/--no-grammar", help="Check the grammar of the HL7 version, too."),
    ] = True,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of profile files instead.")
    ] = False,
    charset: CharsetOption = "UTF-8",
    json_output: JsonOption = False,
) -> None:  # fmt: skip
    """Check messages against the grammar of their version and against profiles.

    One line a finding: message, location, code of HL7 table 0357, what is wrong, who asks for
    it, what stands there. Exit 0 when there is none, 3 when there are findings.
    """
    if schema:
        from adapters.hl7.profile_model import Profile

        data(Profile.model_json_schema())
        return
    if not files:
        fail(Code.USAGE, "name a file of messages, or --schema")
    from adapters.hl7.charset import charset_named
    from adapters.hl7.site_profiles import load_profile

    if charset and charset_named(charset) is None:
        fail(Code.USAGE, f"{charset} is not a supported character set: try 8859/15")
    profiles = [load_profile(each) for each in profile or ()]
    told = _Told(json_output=json_output)
    for file in files:
        for number, body in _messages(file):
            told.message()
            for finding in _findings(body, charset, profiles, grammar=grammar):
                told.add(file, number, finding)
    told.end(len(files))
    raise typer.Exit(Code.FINDINGS if told.findings else Code.DONE)


def _findings(
    body: bytes, charset: str, profiles: list[CompiledProfile], *, grammar: bool
) -> Iterator[Finding]:
    from adapters.hl7 import conformance
    from adapters.hl7.message import Message
    from adapters.hl7.scopes import MessageScope
    from adapters.hl7.site_profiles import allowances_of
    from gateway.ports import Unreadable

    try:
        scope = MessageScope(Message.read(body, charset_default=charset))
    except Unreadable as fault:
        code = {"MSH": "100", "MSH-18": "103"}.get(fault.location, "102")
        yield conformance.Finding(fault.location or "MSH", code, str(fault), rule="HL7")
        return
    if grammar:
        yield from conformance.check(scope, allowances_of(profiles, scope))
    for each in profiles:
        yield from each.check(scope)


class _Told:
    """Prints findings as they come, and counts them."""

    def __init__(self, *, json_output: bool) -> None:
        self._json = json_output
        self._messages = 0
        self._counted = Counter[str]()
        self.findings = 0

    def message(self) -> None:
        """One more message was looked at."""
        self._messages += 1

    def add(self, file: Path, number: int, finding: Finding) -> None:
        """Print one finding."""
        from adapters.hl7.outline import visible
        from gateway.cli.hl7_tree import shortened

        self.findings += 1
        self._counted[finding.severity] += 1
        written = visible(finding.written)
        if self._json:
            lead = '{"findings": [\n' if self.findings == 1 else ",\n"
            item = {
                "file": str(file), "message": number, "location": finding.location,
                "code": finding.code, "severity": finding.severity, "text": finding.text,
                "rule": finding.rule, "written": written,
            }  # fmt: skip
            typer.echo(lead + json.dumps(item, ensure_ascii=False), nl=False)
            return
        columns = [f"{file}#{number}", finding.location, finding.code, finding.severity]
        columns += [finding.text, finding.rule, shortened(written)]
        typer.echo("\t".join(columns).rstrip("\t"))

    def end(self, files: int) -> None:
        """Print the summary."""
        counts = dict(sorted(self._counted.items()))
        if self._json:
            lead = "\n]" if self.findings else '{"findings": []'
            summary = {"ok": not self.findings, "files": files, "messages": self._messages}
            typer.echo(f"{lead}, {json.dumps({**summary, 'counts': counts})[1:]}")
        each = ", ".join(f"{count} {plural(count, name)}" for name, count in counts.items())
        said = f"{self._messages} {plural(self._messages, 'message')}"
        say(f"{said} in {files} {plural(files, 'file')}: {each or 'nothing found'}")
