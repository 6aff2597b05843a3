"""What a check of the doctor is, and the checks of the configuration and its certificates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adapters.tls import ClientTls, HeldCertificate, ServerTls
    from gateway.cli.access import Running
    from gateway.settings import Loaded, Settings


class Level(StrEnum):
    """How a check ended."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check: what was looked at, how it ended, what was found, what to do."""

    name: str
    level: Level
    found: str
    advice: str = ""


def configuration_check(gateway: Running | None) -> Check:
    """Does the running gateway run with the configuration that it was last told to read?"""
    if gateway is None:
        return Check(name="configuration", level=Level.OK, found="can be used")
    last = gateway.configuration
    if problems := last.get("problems"):
        return Check(
            name="configuration", level=Level.ERROR,
            found=f"read at {last.get('at')} and not taken: {'; '.join(problems)}",
            advice="The gateway keeps what it had. Put it right, then: ecluse reload.",
        )  # fmt: skip
    if waiting := last.get("restart"):
        return Check(
            name="configuration", level=Level.WARNING,
            found=f"changed and not in force: {', '.join(waiting)}", advice="Restart the gateway.",
        )  # fmt: skip
    return Check(name="configuration", level=Level.OK, found=f"read at {last.get('at')}")


def certificate_checks(effective: Settings, now: datetime | None = None) -> Iterator[Check]:
    """The TLS of every source: can its files be used, and until when?"""
    from adapters.tls import TlsUnusable

    at = now or datetime.now(UTC)
    for source in effective.sources:
        for block, read in _tls_of(source):
            what = "certificate" if block == "tls" else "certificate of the return link"
            name = f"{what} {source.name}"
            try:
                held = read().certificates
            except TlsUnusable as error:
                yield Check(name=name, level=Level.ERROR, found=str(error),
                            advice="Look with the account that runs the gateway.")  # fmt: skip
            else:
                if held:
                    yield _validity(name, held, at)


def _tls_of(source: object) -> Iterator[tuple[str, Callable[[], ServerTls | ClientTls]]]:
    """The blocks of TLS in a source's settings, and what reads the files of each."""
    from adapters.tls import ClientTls, ClientTlsSettings, ServerTls

    tls = getattr(source, "tls", None)
    if isinstance(tls, ClientTlsSettings):
        yield "tls", lambda: ClientTls(tls)
    elif tls is not None:
        yield "tls", lambda: ServerTls(tls)
    if (client := getattr(source, "return_link_tls", None)) is not None:
        yield "return_link_tls", lambda: ClientTls(client)


def _validity(name: str, held: Sequence[HeldCertificate], at: datetime) -> Check:
    """The certificate that matters most: what is over, what ends first."""
    from adapters.certificate import EXPIRY_NOTICE

    first = min(held, key=lambda each: each.certificate.not_after)
    early = next((each for each in held if each.certificate.not_before > at), None)
    said = _said(first)
    if first.certificate.not_after <= at:
        return Check(name=name, level=Level.ERROR, found=f"{said}: it has expired",
                     advice="Put a new one in its place; it is taken up by itself.")  # fmt: skip
    if early is not None:
        begins = early.certificate.not_before.date().isoformat()
        return Check(name=name, level=Level.ERROR, found=f"{_said(early)}, not before {begins}",
                     advice="Wait, or look at the clock.")  # fmt: skip
    if first.certificate.not_after - at <= EXPIRY_NOTICE:
        days = (first.certificate.not_after - at).days
        return Check(name=name, level=Level.WARNING, found=f"{said}, {days} days from now",
                     advice="Renew it.")  # fmt: skip
    return Check(name=name, level=Level.OK, found=said)


def _said(held: HeldCertificate) -> str:
    certificate = held.certificate
    whose = certificate.name or certificate.fingerprint[:16]
    return f"{held.path} ({whose}) is valid until {certificate.not_after.date().isoformat()}"


def unusable_files(loaded: Loaded) -> list[str]:
    """Files that a configuration names and that cannot be used, each with its place."""
    from adapters.hl7.profile_files import ProfileError
    from adapters.hl7.site_profiles import load_profile
    from adapters.tls import TlsUnusable
    from gateway.api.security import TokenUnusable, read_token

    found = []
    token_file = loaded.settings.http.token_file
    if token_file is not None:
        try:
            read_token(token_file)
        except TokenUnusable as error:
            found.append(loaded.problem(("http", "token_file"), str(error)))
    for index, source in enumerate(loaded.settings.sources):
        for block, read in _tls_of(source):
            try:
                read()
            except TlsUnusable as error:
                found.append(loaded.problem(("sources", index, block, error.setting), str(error)))
        password_file = getattr(source, "password_file", None)
        try:
            if password_file is not None:
                with password_file.open("rb"):
                    pass
        except OSError as error:
            said = f"{password_file}: cannot be read: {error.strerror}"
            found.append(loaded.problem(("sources", index, "password_file"), said))
        profile = getattr(source, "profile", None)
        try:
            if profile is not None:
                load_profile(profile)
        except ProfileError as error:
            place = ("sources", index, "profile")
            found += [loaded.problem(place, problem) for problem in error.problems]
    return found
