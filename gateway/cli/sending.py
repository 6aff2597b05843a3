"""``ecluse send``: files to a gateway or any other receiver, in their exact bytes."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.options import ConfigOption, JsonOption, settings
from gateway.cli.output import Code, fail, say
from gateway.wording import plural

if TYPE_CHECKING:
    from adapters.tls import ClientTlsSettings
    from gateway.cli.delivery import Answer, Peer

FILES_MAX = 1_000_000


Paths = Annotated[
    list[Path],
    typer.Argument(
        help="Files, or folders whose files are sent in name order.", metavar="PATH...", exists=True
    ),
]
To = Annotated[
    str,
    typer.Option(
        "--to",
        help="mllp://host:port or mllp2://host:port (MLLP release 2), with TLS mllps:// or "
        "mllp2s://; dicom://AET@host:port; http://host:port[/path], without a path to the "
        "intake of each file's format: /intake/cda, hl7, hprim or xdm.",
    ),
]
Calling = Annotated[str, typer.Option("--calling", help="DICOM: our own AE title.", metavar="AET")]
TokenFile = Annotated[
    Path | None,
    typer.Option("--token-file", help="HTTP: a file with the bearer token.", show_default=False),
]
Timeout = Annotated[
    float, typer.Option("--timeout", help="Seconds to wait for one answer.", min=0.1)
]
Tls = Annotated[bool, typer.Option("--tls", help="MLLP: with TLS, as mllps:// and mllp2s:// do.")]
Ca = Annotated[
    Path | None,
    typer.Option(
        "--ca", metavar="FILE", show_default=False,
        help="MLLP with TLS: PEM file of the authorities that are trusted; without it the "
        "machine's.",
    ),
]  # fmt: skip
Cert = Annotated[
    Path | None,
    typer.Option(
        "--cert", metavar="FILE", show_default=False,
        help="MLLP with TLS: PEM file of our own certificate.",
    ),
]  # fmt: skip
Key = Annotated[
    Path | None,
    typer.Option(
        "--key", metavar="FILE", show_default=False,
        help="MLLP with TLS: PEM file of its key, when it is not in the same file.",
    ),
]  # fmt: skip
ServerName = Annotated[
    str,
    typer.Option(
        "--server-name", metavar="NAME", show_default=False,
        help="MLLP with TLS: the name in the receiver's certificate, when it is not the host's.",
    ),
]  # fmt: skip
Application = Annotated[
    bool,
    typer.Option(
        "--application",
        help="MLLP, enhanced mode: after a commit acknowledgement wait for the application's, too.",
    ),
]
Resend = Annotated[
    int,
    typer.Option(
        "--resend", min=0, max=100,
        help="MLLP: how often a message without an answer is sent again, with the same control "
        "id. Every time is told.",
    ),
]  # fmt: skip
ReconnectFor = Annotated[
    float,
    typer.Option(
        "--reconnect", min=0,
        help="MLLP: how many seconds to try for a connection that is gone, with growing pauses.",
    ),
]  # fmt: skip


def send(
    paths: Paths,
    *,
    to: To,
    calling: Calling = "ECLUSE-SCU",
    token_file: TokenFile = None,
    timeout: Timeout = 30.0,
    tls: Tls = False,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
    server_name: ServerName = "",
    application: Application = False,
    resend: Resend = 0,
    reconnect: ReconnectFor = 15.0,
    json_output: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Send files and print what was answered. A file of HL7 v2 may hold many messages.

    Prints what was not accepted, and a summary on standard error; with --json everything as
    one document, an object per message. Exit 1 when anything was not answered (a negative
    answer is an answer; an acknowledgement gets none), 4 when nobody is there. A
    configuration only gives the token.

    No message is sent twice unless --resend says so, and then it is told. An answer counts for
    the message whose control id it names (MSA-2), and for no other.
    """
    from gateway.cli.delivery import Peer

    if token_file is None and config is not None:
        token_file = settings(config, None).http.token_file
    try:
        peer = Peer.parse(to, calling=calling, token_file=token_file, timeout_seconds=timeout)
        secure = _tls(peer, wanted=tls, ca=ca, cert=cert, key=key, server_name=server_name)
        peer = replace(
            peer, tls=secure, application=application, resend=resend, reconnect_seconds=reconnect
        )
    except ValueError as error:
        fail(Code.USAGE, str(error))
    files = _files(paths)
    if not files:
        fail(Code.USAGE, "there is no file to send")
    told = _Told(json_output=json_output)
    started = time.monotonic()
    try:
        for answer in _with_progress(peer, files):
            told.add(answer)
    except ConnectionError as error:
        fail(Code.UNREACHABLE, f"{peer.name}: {error}")
    told.end(files=len(files), seconds=time.monotonic() - started)
    raise typer.Exit(Code.FAILED if told.unanswered else Code.DONE)


def _tls(
    peer: Peer, *, wanted: bool, ca: Path | None, cert: Path | None, key: Path | None,
    server_name: str,
) -> ClientTlsSettings | None:  # fmt: skip
    """The TLS of the sender. Raises ValueError when the options do not go together."""
    from adapters.tls import ClientTlsSettings

    given = bool(wanted or ca or cert or key or server_name)
    if not peer.over_mllp:
        if given:
            raise ValueError("--tls, --ca, --cert, --key and --server-name are for MLLP only")
        return None
    if not peer.scheme.endswith("s") and not wanted:
        if given:
            raise ValueError(
                f"--ca, --cert, --key and --server-name need --tls or {peer.scheme}s://"
            )
        return None
    if key is not None and cert is None:
        raise ValueError("--key needs --cert")
    return ClientTlsSettings(ca=ca, certificate=cert, key=key, server_name=server_name)


class _Told:
    """Prints answers as they come, so that nothing of a long run is kept in memory."""

    def __init__(self, *, json_output: bool) -> None:
        self._json = json_output
        self._counted = Counter[str]()
        self.unanswered = 0
        self._again = 0

    def add(self, answer: Answer) -> None:
        """Print one answer: all of them as JSON, else those that were not accepted."""
        first = not self._counted
        kind = "none asked for" if answer.silent else answer.code or "no answer"
        self._counted[kind] += 1
        self._again += max(answer.attempts - 1, 0)
        self.unanswered += not answer.answered
        if self._json:
            lead = '{"messages": [\n' if first else ",\n"
            typer.echo(lead + json.dumps(asdict(answer), ensure_ascii=False), nl=False)
        elif not answer.accepted:
            place = f"{answer.file}#{answer.index}" if answer.index > 1 else answer.file
            where = f" (at {answer.location})" if answer.location else ""
            said = f"{answer.error}{where}"
            typer.echo("\t".join((answer.code or "-", place, answer.control_id, said)))

    def end(self, *, files: int, seconds: float) -> None:
        """Print the summary: on standard error for people, in the document for machines."""
        total = sum(self._counted.values())
        if self._json:
            summary = {
                "files": files, "sent": total, "unanswered": self.unanswered,
                "sent_again": self._again, "codes": dict(sorted(self._counted.items())),
                "seconds": round(seconds, 3),
            }  # fmt: skip
            lead = "\n]" if total else '{"messages": []'
            typer.echo(f"{lead}, {json.dumps(summary)[1:]}")
        each = ", ".join(f"{code} {count}" for code, count in sorted(self._counted.items()))
        rate = f", {total / seconds:.0f} a second" if total > 10 and seconds > 0 else ""
        said = f"{total} {plural(total, 'message')} in {files} {plural(files, 'file')}"
        if self._again:
            said += f", {self._again} sent again"
        say(f"{said}, {seconds:.1f} s{rate}: {each or 'nothing was sent'}")


def _files(paths: Iterable[Path]) -> list[Path]:
    """The files in the order given; a folder's in the order of their names, hidden ones not."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = (each for each in path.rglob("*") if each.is_file())
            found += sorted(
                each
                for each in inside
                if not any(part.startswith(".") for part in each.relative_to(path).parts)
            )
        else:
            found.append(path)
        if len(found) > FILES_MAX:
            fail(Code.USAGE, f"more than {FILES_MAX} files")
    return found


def _with_progress(peer: Peer, files: list[Path]) -> Iterator[Answer]:
    from gateway.cli.delivery import answers

    with _bar(len(files)) as done:
        for number, answer in answers(peer, files):
            done(number)
            yield answer


@contextmanager
def _bar(total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error, on a terminal only; called with the files done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    with Progress(
        TextColumn("sending"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    ) as progress:  # fmt: skip
        task = progress.add_task("sending", total=total)
        yield lambda number: progress.update(task, completed=number)
