"""``ecluse doctor``: what could keep this installation from working, and what to do about it."""

from __future__ import annotations

import contextlib
import shutil
import socket
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import typer

from gateway.cli.checks import Check, Level, certificate_checks, configuration_check
from gateway.cli.doctor_mailboxes import mailbox_checks
from gateway.cli.doctor_return_links import return_link_checks
from gateway.cli.options import ConfigOption, JsonOption, StateOption, settings
from gateway.cli.output import Code, data, table

if TYPE_CHECKING:
    from gateway.cli.access import Running
    from gateway.settings import Settings

FREE_BYTES_MIN = 1 << 30
TOKEN_LENGTH_MIN = 16
CLOCK_FLOOR = datetime(2026, 1, 1, tzinfo=UTC)
CONNECT_SECONDS = 3.0
SQLITE_WAL_SOUND = (3, 51, 3)
"""SQLite before this can damage a journal whose WAL two connections reset (the WAL-reset
defect); Écluse lets one connection alone checkpoint, so that it is not met."""
LIBRARIES = (
    "dramatiq", "fastapi", "lxml", "pydicom", "pynetdicom", "psycopg", "redis", "sqlalchemy",
    "structlog", "typer", "uvicorn",
)  # fmt: skip


def doctor(
    config: ConfigOption = None,
    state_folder: StateOption = None,
    json_output: JsonOption = False,
) -> None:
    """Look for what could keep this installation from working. Changes nothing.

    Exit 3 when something is wrong, 4 when the database or Redis cannot be reached.
    """
    from gateway.cli.access import log_to_standard_error, running

    effective = settings(config, state_folder)
    log_to_standard_error(effective)
    checks = list(examine(effective, running(effective)))
    if json_output:
        data([asdict(each) for each in checks])
    else:
        _print(checks)
    levels = {each.level for each in checks}
    if Level.UNREACHABLE in levels:
        raise typer.Exit(Code.UNREACHABLE)
    raise typer.Exit(Code.FINDINGS if Level.ERROR in levels else Code.DONE)


def _print(checks: list[Check]) -> None:
    from rich.text import Text

    styles = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "bold red",
              Level.UNREACHABLE: "bold red", Level.NOTE: "cyan"}  # fmt: skip
    table(
        ["", "check", "found"],
        [
            (Text(each.level.value, style=styles[each.level]), each.name,
             f"{each.found}. {each.advice}" if each.advice else each.found)
            for each in checks
        ],
    )  # fmt: skip


def examine(effective: Settings, gateway: Running | None) -> Iterator[Check]:
    """Every check, in the order in which one would look."""
    yield configuration_check(gateway)
    yield _python()
    yield _libraries()
    yield _packages()
    yield _sqlite(effective)
    yield _state_folder(effective)
    yield _journal(effective)
    yield _broker(effective)
    yield from _ports(effective, gateway)
    yield from return_link_checks(effective)
    yield from mailbox_checks(effective.sources)
    yield _clock()
    yield _mappings(effective)
    yield _identity(effective)
    yield _token(effective)
    yield _transport(effective)
    yield from certificate_checks(effective)


def _python() -> Check:
    found = sys.version.split()[0]
    sound = sys.version_info >= (3, 11)
    return Check(name="python", level=Level.OK if sound else Level.ERROR, found=found,
                 advice="" if sound else "Écluse needs 3.11 or newer.")  # fmt: skip


def _libraries() -> Check:
    from importlib import metadata

    found, missing = [], []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Check(name="libraries", level=Level.ERROR, found=f"missing: {', '.join(missing)}",
                     advice="Install Écluse again.")  # fmt: skip
    return Check(name="libraries", level=Level.OK, found=", ".join(found))


def _packages() -> Check:
    """Other distributions install top-level packages of the same names (adapters, mappings)."""
    import adapters
    import deadletter
    import mappings
    import record

    home = Path(__file__).resolve().parents[2]
    foreign = [
        f"{module.__name__} from {module.__file__}"
        for module in (adapters, deadletter, mappings, record)
        if module.__file__ is None or Path(module.__file__).resolve().parents[1] != home
    ]
    if foreign:
        return Check(name="packages", level=Level.ERROR, found="; ".join(foreign),
                     advice="Install Écluse in an environment of its own.")  # fmt: skip
    return Check(name="packages", level=Level.OK, found=f"all from {home}")


def _sqlite(effective: Settings) -> Check:
    version, used = sqlite3.sqlite_version, effective.journal_url().startswith("sqlite")
    if not used:
        return Check(name="sqlite", level=Level.OK, found=f"{version}, not used by the journal")
    sound = sqlite3.sqlite_version_info >= SQLITE_WAL_SOUND
    return Check(
        name="sqlite",
        level=Level.OK if sound else Level.NOTE,
        found=version,
        advice=""
        if sound
        else "It has the WAL-reset defect: let no other program write to the "
        "journal, and back it up through a read-only connection.",
    )


def _state_folder(effective: Settings) -> Check:
    folder = effective.state
    present = next((each for each in (folder, *folder.absolute().parents) if each.exists()), None)
    if present is None:
        return Check(name="state folder", level=Level.ERROR, found=f"{folder} cannot be made")
    if not _writable(present):
        return Check(name="state folder", level=Level.ERROR, found=f"{present} is not writable",
                     advice="Give it to the account that runs the gateway.")  # fmt: skip
    free = shutil.disk_usage(present).free
    said = f"{folder.absolute()}, {free / 1e9:.1f} GB free"
    if free < FREE_BYTES_MIN:
        return Check(name="state folder", level=Level.WARNING, found=said,
                     advice="Less than 1 GiB is left.")  # fmt: skip
    return Check(name="state folder", level=Level.OK, found=said)


def _writable(folder: Path) -> bool:
    import tempfile

    try:
        # Looking at permissions says little (root, mounts, quotas); writing says it all.
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"ecluse")
    except OSError:
        return False
    return True


def _journal(effective: Settings) -> Check:
    from gateway.cli.access import reading
    from gateway.journal.faults import JournalUnavailable

    url = effective.journal_url()
    if url.startswith("sqlite") and not Path(url.removeprefix("sqlite:///")).exists():
        return Check(name="journal", level=Level.NOTE, found="there is none yet",
                     advice="The first run makes it.")  # fmt: skip
    try:
        with reading(effective) as journal, journal.read() as connection:
            behind = _behind(connection)
            dialect = journal.dialect
    except JournalUnavailable as error:
        return Check(name="journal", level=Level.UNREACHABLE, found=str(error))
    if behind:
        return Check(name="journal", level=Level.WARNING,
                     found=f"{dialect}, not migrated: {', '.join(behind)}",
                     advice="The next start of the gateway migrates it.")  # fmt: skip
    return Check(name="journal", level=Level.OK, found=f"{dialect}, migrated")


def _behind(connection: object) -> list[str]:
    """The chains of migrations whose newest revision the database does not have."""
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from sqlalchemy import Connection

    assert isinstance(connection, Connection)
    found = []
    for package, version_table in (("gateway.journal", "journal_version"),
                                   ("record", "record_version")):  # fmt: skip
        folder = Path(__file__).resolve().parents[2].joinpath(*package.split("."), "migrations")
        heads = set(ScriptDirectory(str(folder)).get_heads())
        context = MigrationContext.configure(connection, opts={"version_table": version_table})
        if set(context.get_current_heads()) != heads:
            found.append(package)
    return found


def _broker(effective: Settings) -> Check:
    url = effective.broker.url
    if url.startswith("amqp"):
        return _rabbitmq(url)
    return _redis(url)


def _rabbitmq(url: str) -> Check:
    from gateway.rabbitmq import DoorbellRabbitmqBroker

    shown = urlsplit(url).hostname or "rabbitmq"
    broker = DoorbellRabbitmqBroker(url)
    try:
        if broker.answers():
            return Check(name="rabbitmq", level=Level.OK, found=shown)
    finally:
        broker.close()
    return Check(name="rabbitmq", level=Level.UNREACHABLE, found=f"{shown}: it does not answer",
                 advice="Messages go on without it, more slowly across machines.")  # fmt: skip


def _redis(url: str) -> Check:
    from gateway.process_settings import POSTGRESQL

    if url in {"", POSTGRESQL}:
        return Check(name="redis", level=Level.OK, found="not used: the broker is embedded")
    import redis

    shown = urlsplit(url).hostname or "redis"
    client = redis.Redis.from_url(url, socket_connect_timeout=CONNECT_SECONDS,
                                  socket_timeout=CONNECT_SECONDS)  # fmt: skip
    try:
        info = client.info("server")
    except redis.RedisError as error:
        return Check(name="redis", level=Level.UNREACHABLE,
                     found=f"{shown}: {type(error).__name__}",
                     advice="Messages go on without it, more slowly across machines.")  # fmt: skip
    finally:
        client.close()
    return Check(name="redis", level=Level.OK, found=f"{shown}, version {info['redis_version']}")


def _ports(effective: Settings, gateway: Running | None) -> Iterator[Check]:
    wanted = [("http", effective.http.listen)]
    for each in effective.sources:
        listen = getattr(each, "listen", "")
        if listen:
            wanted.append((f"source {each.name}", listen))
    for name, listen in wanted:
        if gateway is not None:
            yield Check(name=name, level=Level.OK,
                        found=f"{listen}, the gateway runs (process {gateway.pid})")  # fmt: skip
            continue
        taken = _taken(listen)
        yield Check(
            name=name,
            level=Level.ERROR if taken else Level.OK,
            found=f"{listen}: {taken}" if taken else f"{listen} is free",
            advice="Another program has it, or it may not be used." if taken else "",
        )


def _taken(listen: str) -> str:
    host, _, port = listen.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except (OSError, ValueError) as error:
            return getattr(error, "strerror", None) or str(error)
    return ""


def _clock() -> Check:
    now = datetime.now(UTC)
    said = now.isoformat(timespec="seconds")
    if now < CLOCK_FLOOR:
        return Check(name="clock", level=Level.ERROR, found=said,
                     advice="Set it: times in records would be wrong.")  # fmt: skip
    return Check(name="clock", level=Level.OK, found=said)


def _mappings(effective: Settings) -> Check:
    from gateway.mapping import MappingError
    from gateway.mapping_side import load_library

    try:
        library = load_library(effective)
    except MappingError as error:
        return Check(name="mappings", level=Level.ERROR, found=f"{len(error.findings)} findings",
                     advice="ecluse mapping check shows them.")  # fmt: skip
    count = len(library.programs)
    return Check(name="mappings", level=Level.OK if count else Level.WARNING,
                 found=f"{count} loaded")  # fmt: skip


def _identity(effective: Settings) -> Check:
    if not effective.identity.accept_test_roots:
        return Check(name="identity", level=Level.OK, found="production INS roots only")
    return Check(name="identity", level=Level.WARNING, found="INS of the test roots are accepted",
                 advice="Set identity.accept_test_roots to false in production.")  # fmt: skip


def _token(effective: Settings) -> Check:
    path = effective.http.token_file
    if path is None:
        return Check(name="token", level=Level.NOTE, found="none: the console is open to everybody "
                     "who can reach this machine's loopback address")  # fmt: skip
    from gateway.api.security import TokenUnusable, read_token

    problems: list[Callable[[], str]] = [
        lambda: "is shorter than 16 characters" if len(read_token(path)) < TOKEN_LENGTH_MIN else "",
        lambda: "can be read by others" if path.stat().st_mode & 0o077 else "",
    ]
    try:
        found = [said for said in (problem() for problem in problems) if said]
    except TokenUnusable as error:
        return Check(name="token", level=Level.ERROR, found=str(error))
    if found:
        return Check(name="token", level=Level.WARNING, found=f"{path} {' and '.join(found)}")
    return Check(name="token", level=Level.OK, found=str(path))


def _transport(effective: Settings) -> Check:
    from gateway.api.security import policy_for

    clear = [each for each in effective.sources if getattr(each, "tls", None) is None]
    listens = [effective.http.listen, *(getattr(each, "listen", "") for each in clear)]
    listens += [
        getattr(each, "return_link", "")
        for each in effective.sources
        if getattr(each, "return_link_tls", None) is None
    ]
    outside = [each for each in listens if each and policy_for(each, None).hosts is None]
    if not outside:
        return Check(name="transport", level=Level.OK,
                     found="what goes beyond the loopback speaks TLS")  # fmt: skip
    return Check(name="transport", level=Level.NOTE, found=f"without TLS: {', '.join(outside)}",
                 advice="Give MLLP and SMTP sources a tls block, return links return_link_tls; put "
                 "a TLS proxy or a VPN in front of the rest.")  # fmt: skip
