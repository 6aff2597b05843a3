"""``ecluse dicom``: send, verify and query other systems; show files; the studies at the door."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.options import ConfigOption, JsonOption, StateOption, settings
from gateway.cli.output import Code, data, fail, say, table
from gateway.cli.sending import Paths, Timeout, send
from gateway.wording import plural

if TYPE_CHECKING:
    from adapters.dicom.settings import DicomPeerSettings
    from gateway.settings import Settings

MISSING_TOLD = 20
"""Files that a medium lacks and that are named."""

app = typer.Typer(name="dicom", help="DICOM: other systems, files, studies.", no_args_is_help=True)

Peer = Annotated[str, typer.Argument(help="Its AE title and address.", metavar="AET@HOST:PORT")]
Calling = Annotated[str, typer.Option("--calling", help="Our own AE title.", metavar="AET")]
Ca = Annotated[
    Path | None,
    typer.Option(
        "--ca", metavar="FILE", show_default=False,
        help="Use TLS, and trust the authorities in this PEM file.",
    ),
]  # fmt: skip
Cert = Annotated[
    Path | None,
    typer.Option(
        "--cert", metavar="FILE", show_default=False,
        help="With --ca: PEM file of our own certificate with its key.",
    ),
]  # fmt: skip


def _peer(text: str, ca: Path | None = None, cert: Path | None = None) -> DicomPeerSettings:
    from pydantic import ValidationError

    from adapters.dicom.settings import DicomPeerSettings
    from adapters.tls import ClientTlsSettings

    title, at, address = text.rpartition("@")
    if not at or not title or ":" not in address:
        fail(Code.USAGE, f"{text}: AET@host:port is expected")
    if cert is not None and ca is None:
        fail(Code.USAGE, "--cert needs --ca")
    tls = ClientTlsSettings(ca=ca, certificate=cert) if ca is not None else None
    try:
        return DicomPeerSettings(ae_title=title, connect=address, tls=tls)
    except ValidationError:
        fail(Code.USAGE, f"{text}: AET@host:port is expected (a title has 1 to 16 characters)")


@app.command("echo")
def echo(peer: Peer, *, calling: Calling = "ECLUSE", ca: Ca = None, cert: Cert = None) -> None:
    """Verify that another system answers (C-ECHO). Exit 1 for a failure, 4 when nobody is there."""
    from adapters.dicom.outgoing import associate
    from adapters.dicom.syntaxes import VERIFICATION

    started = time.monotonic()
    try:
        with associate(
            _peer(peer, ca, cert), calling, [VERIFICATION], provides=False
        ) as association:
            status = association.send_c_echo()
    except ConnectionError as error:
        fail(Code.UNREACHABLE, str(error))
    if "Status" not in status or status.Status != 0:
        fail(Code.FAILED, f"{peer} answers with a failure")
    say(f"{peer} answers, {1000 * (time.monotonic() - started):.0f} ms with the association")


@app.command("send")
def send_(
    peer: Peer,
    paths: Paths,
    *,
    calling: Calling = "ECLUSE-SCU",
    timeout: Timeout = 30.0,
    json_output: JsonOption = False,
) -> None:
    """Send DICOM files as they are (C-STORE), with progress; as ecluse send --to dicom://…"""
    _peer(peer)
    send(paths, to=f"dicom://{peer}", calling=calling, timeout=timeout, json_output=json_output)


@app.command("import")
def import_(
    peer: Peer,
    medium: Annotated[
        Path,
        typer.Argument(
            help="A CD, a folder, or a DICOMDIR: with one, the files that it names are sent.",
            metavar="MEDIUM",
            exists=True,
        ),
    ],
    *,
    calling: Calling = "ECLUSE-SCU",
    timeout: Timeout = 30.0,
    json_output: JsonOption = False,
) -> None:
    """Send what a medium holds (C-STORE), to a source of this gateway or to another system. Exit 1
    when something is refused, or when its DICOMDIR names files that are not there."""
    from adapters.dicom.media import NoMedium, medium_of

    _peer(peer)
    try:
        found = medium_of(medium)
    except NoMedium as error:
        fail(Code.FAILED, str(error))
    for each in found.missing[:MISSING_TOLD]:
        say(f"{each}: named by {found.directory}, and not there")
    if found.files:
        files = list(found.files)
        to = f"dicom://{peer}"
        try:
            send(files, to=to, calling=calling, timeout=timeout, json_output=json_output)
        except typer.Exit as ended:
            if ended.exit_code or not found.missing:
                raise
    if found.missing:
        fail(Code.FAILED, f"{len(found.missing)} files of the medium are missing")


@app.command("find")
def find(
    peer: Peer,
    keys: Annotated[
        list[str] | None,
        typer.Argument(
            help="What to match: StudyDate=20261120-, PatientID=…, AccessionNumber=A1.",
            metavar="KEYWORD=VALUE...",
        ),
    ] = None,
    *,
    level: Annotated[
        str, typer.Option("--level", help="study, series or image.", metavar="LEVEL")
    ] = "study",
    calling: Calling = "ECLUSE",
    ca: Ca = None,
    cert: Cert = None,
    json_output: JsonOption = False,
) -> None:
    """Ask another system what it holds (C-FIND, study root). Exit 1 when it refuses."""
    from adapters.dicom.finder import RETURNED, FindRefused
    from adapters.dicom.finder import find as asked

    matched: dict[str, str] = {}
    for each in keys or []:
        keyword, equals, value = each.partition("=")
        if not equals:
            fail(Code.USAGE, f"{each}: KEYWORD=VALUE is expected")
        matched[keyword] = value
    wanted = level.upper()
    try:
        found = list(asked(_peer(peer, ca, cert), calling, wanted, matched))
    except ConnectionError as error:
        fail(Code.UNREACHABLE, str(error))
    except (FindRefused, OverflowError) as error:
        fail(Code.FAILED, f"{peer}: {error}")
    except ValueError as error:
        fail(Code.USAGE, str(error))
    if json_output:
        data(found)
        return
    columns = list(dict.fromkeys([*RETURNED[wanted], *matched]))
    table(columns, [[each.get(column, "") for column in columns] for each in found])
    say(f"{len(found)} {plural(len(found), 'result')}")


@app.command("show")
def show(
    file: Annotated[
        Path, typer.Argument(help="A DICOM file.", metavar="FILE", exists=True, dir_okay=False)
    ],
    *,
    with_header: Annotated[
        bool, typer.Option("--header", help="The header of a key object selection, not its tree.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Show the header of a DICOM file, down to three sequences deep. No pixel is read.

    A key object selection (a manifest, a rejection note) is shown as a tree of what it names.
    Exit 1 when it is none, or breaks off.
    """
    from gateway.cli.dicom_tree import selection_of, selection_tree
    from gateway.console.dicom_header import read_header
    from gateway.model import Payload

    selection = None if with_header else selection_of(file)
    if selection is not None:
        if json_output:
            data(asdict(selection))
        else:
            for line in selection_tree(selection):
                typer.echo(line)
        return
    header = read_header(Payload("", file.stat().st_size, path=file))
    if header is None:
        fail(Code.FAILED, f"{file}: no DICOM file (there is no DICM after 128 bytes)")
    if json_output:
        data({"note": header.note, "elements": [asdict(each) for each in header.elements],
              "cut": header.cut})  # fmt: skip
    else:
        table(
            ("tag", "vr", "keyword", "value"),
            [
                ("  " * each.depth + each.tag, each.vr, each.keyword, each.value)
                for each in header.elements
            ],
        )
        say(header.note + (" There is more." if header.cut else ""))
    broken = "breaks off" in header.note or header.note.startswith("Not readable")
    raise typer.Exit(Code.FAILED if broken else Code.DONE)


@app.command("studies")
def studies(
    *,
    source: Annotated[
        str, typer.Option("--source", help="Of this source only.", metavar="NAME")
    ] = "",
    waiting: Annotated[
        bool,
        typer.Option(
            "--waiting", help="Those that still arrive, or to which something is missing."
        ),
    ] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many.")] = 50,
    config: ConfigOption = None,
    state_folder: StateOption = None,
    json_output: JsonOption = False,
) -> None:
    """Print the studies that came: instances, how many were announced, what is waited for."""
    from adapters.dicom.store_settings import StoreSettings
    from gateway.cli.access import reading
    from gateway.journal.studies import accounts

    effective = settings(config, state_folder)
    with reading(effective) as journal, journal.read() as connection:
        names = [each.name for each in effective.sources if isinstance(each, StoreSettings)]
        if source and source not in names:
            fail(Code.USAGE, f"{source}: there is no DICOM source of this name")
        found = accounts(
            connection, sources=[source] if source else names, waiting=waiting, limit=limit
        )
    if json_output:
        data([{**asdict(each), "why": each.why} for each in found])
        return
    table(
        ("source", "study", "instances", "announced", "missing", "round", "last", "state"),
        [
            (
                each.source, each.study, each.instances, each.expected or "", each.missing or "",
                each.round, f"{each.last_at:%Y-%m-%d %H:%M:%S}", each.why,
            )
            for each in found
        ],
        numbers=("instances", "announced", "missing", "round"),
    )  # fmt: skip
    say(f"{len(found)} {plural(len(found), 'study', 'studies')}")


@app.command("manifests")
def manifests(
    *,
    state: Annotated[
        str,
        typer.Option(
            "--state", help="due, waiting, stopped, made or withdrawn only.", metavar="STATE"
        ),
    ] = "",
    again: Annotated[
        bool,
        typer.Option(
            "--again", help="Let the gateway look at every study again: the settings are others."
        ),
    ] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many.")] = 50,
    config: ConfigOption = None,
    state_folder: StateOption = None,
    json_output: JsonOption = False,
) -> None:
    """Print the imaging studies of the record with their manifests, or why there is none.

    With --again exit 4 when no gateway runs. Only a study of which something else is to be said
    gets a new version.
    """
    from gateway.cli.access import reading
    from gateway.journal.manifests import STATES, accounts

    if again:
        _look_again(settings(config, state_folder), json_output=json_output)
        return

    if state and state not in STATES:
        fail(Code.USAGE, f"{state}: a state is one of {', '.join(STATES)}")
    with reading(settings(config, state_folder)) as journal, journal.read() as connection:
        found = accounts(connection, states=[state] if state else (), limit=limit)
    if json_output:
        data([asdict(each) for each in found])
        return
    table(
        ("study", "state", "version", "instances", "message", "since", "why"),
        [
            (
                each.study or each.reference, each.state, each.version or "",
                each.instances or "", each.message_id or "",
                f"{each.changed_at:%Y-%m-%d %H:%M:%S}", each.cause,
            )
            for each in found
        ],
        numbers=("version", "instances", "message"),
    )  # fmt: skip
    say(f"{len(found)} {plural(len(found), 'study', 'studies')}")


def _look_again(effective: Settings, *, json_output: bool) -> None:
    from gateway.cli.access import Refused, ask, running

    gateway = running(effective)
    if gateway is None:
        fail(Code.UNREACHABLE, f"no gateway runs on {effective.state}")
    try:
        told = ask(effective, gateway, "/manifests/again")
    except ConnectionError as error:
        fail(Code.UNREACHABLE, str(error))
    except Refused as error:
        fail(Code.FAILED, str(error))
    if json_output:
        data(told)
    else:
        count = told["studies"]
        say(f"{count} {plural(count, 'study is', 'studies are')} looked at again")
