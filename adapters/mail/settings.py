"""The configuration of the two ways in for mail: a mailbox over IMAP, a port for SMTP or LMTP."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from adapters.doors.settings import MIB, DocumentDoorSettings
from adapters.tls import ClientTlsSettings, TlsSettings

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_FOLDER = r"^[ !#-\[\]-~]{1,200}$"
"""Printable ASCII without the two characters that IMAP quotes."""


def split_address(text: str) -> tuple[str, int]:
    """Host and port of ``host:port`` or ``[IPv6]:port``; the port is -1 when it is no number."""
    host, _, port = text.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port) if port.isdecimal() else -1


class MailSourceSettings(DocumentDoorSettings):
    """What every source of mail has."""

    mail_bytes_max: int = Field(
        default=35 * MIB,
        ge=1024,
        le=256 * MIB,
        description="Largest mail taken, in bytes, as it travels: attachments take a third more "
        "than their own size.",
    )
    parts_max: int = Field(
        default=200, ge=1, le=10_000, description="Most MIME parts in one mail, of all kinds."
    )
    depth_max: int = Field(
        default=10,
        ge=1,
        le=50,
        description="Deepest nesting of MIME parts; a mail that is attached to a mail counts too.",
    )
    document_bytes_max: int = Field(
        default=32 * MIB,
        ge=1024,
        le=256 * MIB,
        description="Largest document, attached as it is or unpacked from an archive.",
    )
    unpacked_bytes_max: int = Field(
        default=128 * MIB,
        ge=1024,
        le=512 * MIB,
        description="All files of an attached archive together, unpacked.",
    )
    others: Literal["keep", "leave"] = Field(
        default="keep",
        description="Attachments that are neither an XDM archive nor a CDA document (the PDF copy "
        "of one, a picture). keep: each is kept as evidence and goes no further. leave: they stay "
        "in the mail; over SMTP nobody has them then.",
    )
    memory_bytes_max: int = Field(
        default=MIB,
        ge=1024,
        le=64 * MIB,
        description="A mail up to this size stays in memory; a larger one goes to a file.",
    )
    spool_folder: Path | None = Field(
        default=None,
        description="Where larger mails wait for the commit; when not given, the state folder.",
    )
    reads_max: int = Field(
        default=2, ge=1, le=16, description="Mails that are taken apart at the same time."
    )


class ImapSourceSettings(MailSourceSettings):
    """A mailbox that is emptied over IMAP (RFC 9051, RFC 3501)."""

    type: Literal["imap"] = "imap"
    server: str = Field(description="host:port of the IMAP server, usually port 993 or 143.")
    security: Literal["tls", "starttls", "none"] = Field(
        default="tls",
        description="tls: TLS from the first byte (port 993). starttls: STARTTLS before anything "
        "else (port 143). none: only for a server on this machine.",
    )
    tls: ClientTlsSettings = Field(
        default=ClientTlsSettings(),
        description="Whom to trust, and our own certificate where the server asks for one.",
    )
    user: str = Field(min_length=1, max_length=320, description="The name to log in with.")
    password_file: Path | None = Field(
        default=None,
        description="A file whose first line is the password; it is read at each log-in. Without "
        "one the log-in is by the certificate of tls (SASL EXTERNAL).",
    )
    mailbox: str = Field(
        default="INBOX", pattern=_FOLDER, description="The folder that is emptied (ASCII)."
    )
    after: Literal["move", "flag"] = Field(
        default="move",
        description="What becomes of a mail that was dealt with. move: it goes to the accepted or "
        "the refused folder. flag: it stays and gets the keyword of the same name.",
    )
    accepted: str = Field(
        default="ecluse-accepted",
        pattern=_FOLDER,
        description="The folder (made when it is not there) or keyword of mails of which "
        "something goes on.",
    )
    refused: str = Field(
        default="ecluse-refused",
        pattern=_FOLDER,
        description="The folder (made when it is not there) or keyword of mails of which nothing "
        "goes on.",
    )
    poll_seconds: float = Field(
        default=30.0, gt=0, le=86_400, description="Time between two looks into the mailbox."
    )
    idle_seconds: float = Field(
        default=600.0,
        ge=0,
        le=1_740,
        description="Where the server tells of new mail by itself (IDLE, RFC 2177), the longest "
        "time between two looks, in the place of poll_seconds. 0: it is not asked to.",
    )
    mails_per_look_max: int = Field(
        default=100, ge=1, le=10_000, description="Most mails taken up in one look."
    )
    timeout_seconds: float = Field(
        default=30.0, gt=0, le=600, description="Longest wait for an answer of the server."
    )
    backoff_seconds_max: float = Field(
        default=300.0,
        gt=0,
        le=86_400,
        description="Longest pause before the next attempt while the server cannot be reached; "
        "the first one is a second, and each is about twice the one before.",
    )

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        host, port = self.host_and_port()
        if not host or not 0 < port <= 65535:
            raise ValueError(f"server: {self.server!r} is not host:port")
        if self.security == "none" and host not in _LOOPBACK:
            raise ValueError("security: none sends the password in the clear: use tls or starttls")
        if self.password_file is None and self.tls.certificate is None:
            raise ValueError("password_file is needed, or tls.certificate to log in with")
        if self.accepted == self.refused or self.mailbox in (self.accepted, self.refused):
            raise ValueError("mailbox, accepted and refused are three different names")
        if self.after == "flag" and (" " in self.accepted or " " in self.refused):
            raise ValueError("a keyword has no blanks: see accepted and refused")
        return self

    def host_and_port(self) -> tuple[str, int]:
        """``server`` in its two parts."""
        return split_address(self.server)


class SmtpSourceSettings(MailSourceSettings):
    """A port that takes mail by SMTP (RFC 5321) or LMTP (RFC 2033)."""

    type: Literal["smtp"] = "smtp"
    listen: str = Field(
        default="127.0.0.1:2525", description="host:port; port 0 takes any free port."
    )
    protocol: Literal["smtp", "lmtp"] = Field(
        default="smtp",
        description="lmtp: from a mail server beside the gateway, with an answer per recipient.",
    )
    tls: TlsSettings | None = Field(
        default=None, description="TLS of the port; nothing: mail travels in the clear."
    )
    security: Literal["starttls", "tls"] = Field(
        default="starttls",
        description="With tls: after STARTTLS, without which no mail is taken, or from the first "
        "byte on (port 465).",
    )
    recipients: tuple[str, ...] = Field(
        min_length=1,
        max_length=1000,
        description="For whom mail is taken: whole addresses, or @domain for all of a domain.",
    )
    senders: tuple[str, ...] = Field(
        default=(),
        max_length=1000,
        description="From whom (MAIL FROM) mail is taken, in the same way; empty: from anyone. "
        "What is claimed there proves nothing: a certificate does (tls.client_ca).",
    )
    connections_max: int = Field(
        default=100, ge=1, le=10_000, description="Connections at a time; more are told to wait."
    )
    recipients_max: int = Field(
        default=100, ge=1, le=1000, description="Most recipients of one mail."
    )
    idle_timeout_seconds: float = Field(
        default=300.0,
        gt=0,
        le=3600,
        description="Longest silence of a sender (RFC 5321, 4.5.3.2.7: five minutes).",
    )
    mail_timeout_seconds: float = Field(
        default=600.0, gt=0, le=86_400, description="Longest time for the whole of one mail."
    )
    stop_timeout_seconds: float = Field(
        default=10.0, ge=0, le=600, description="On stop, how long to wait for mails in hand."
    )

    @field_validator("recipients", "senders")
    @classmethod
    def _addresses(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        for each in addresses:
            if each.count("@") != 1 or each.endswith("@") or not each.isascii():
                raise ValueError(f"{each!r} is neither an address nor @domain")
        return addresses

    @model_validator(mode="after")
    def _listenable(self) -> Self:
        host, port = self.host_and_port()
        if not host or not 0 <= port <= 65535:
            raise ValueError(f"listen: {self.listen!r} is not host:port")
        return self

    def host_and_port(self) -> tuple[str, int]:
        """``listen`` in its two parts; an IPv6 address is written in brackets."""
        return split_address(self.listen)
