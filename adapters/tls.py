"""TLS of a transport, both sides: contexts from files, reading them again, what went wrong.

The floor is TLS 1.2 with forward secrecy and authenticated encryption (RFC 9325, sections 3.1.1
and 4.2). What a sender claims of itself in a message proves nothing; its certificate does.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from adapters.certificate import Certificate, CertificateUnreadable, read_certificates

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_PASSWORD_BYTES_MAX = 1024
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class TlsSettings(BaseModel):
    """TLS of a listening port. The files are read again when they change."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    certificate: Path = Field(
        description="PEM file: the port's certificate, then the intermediate ones"
    )
    key: Path | None = Field(
        None, description="PEM file of the private key; nothing: it is in the certificate's file"
    )
    key_password_file: Path | None = Field(
        None, description="A file whose first line is the password of the private key"
    )
    client_ca: Path | None = Field(
        None,
        description="PEM file of the authorities (or single certificates) whose clients are "
        "trusted; nothing: clients show no certificate",
    )
    client_certificate: Literal["required", "optional"] = Field(
        "required", description="With client_ca: must a client show a certificate, or may it"
    )
    minimum_version: Literal["1.2", "1.3"] = Field(
        "1.2", description="The oldest version of TLS that is spoken"
    )
    handshake_timeout_seconds: float = Field(
        10.0, gt=0, le=300, description="The longest time that a handshake may take"
    )

    @property
    def knows_clients(self) -> bool:
        """Does every connection show a certificate?"""
        return self.client_ca is not None and self.client_certificate == "required"


class ClientTlsSettings(BaseModel):
    """TLS of a sender."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ca: Path | None = Field(
        None, description="PEM file of the authorities that are trusted; nothing: the machine's"
    )
    certificate: Path | None = Field(None, description="PEM file of our own certificate")
    key: Path | None = Field(
        None, description="PEM file of its key; nothing: it is in the certificate's file"
    )
    key_password_file: Path | None = Field(
        None, description="A file whose first line is the password of that key"
    )
    server_name: str = Field(
        "", description="The name that the receiver's certificate must have; empty: the host's"
    )
    minimum_version: Literal["1.2", "1.3"] = Field(
        "1.2", description="The oldest version of TLS that is spoken"
    )

    @model_validator(mode="after")
    def _key_of_a_certificate(self) -> Self:
        if self.key is not None and self.certificate is None:
            raise ValueError("a key is given without its certificate")
        if self.key_password_file is not None and self.certificate is None:
            raise ValueError("a key_password_file is given without the certificate")
        return self


class TlsUnusable(Exception):
    """The files of a TLS configuration cannot be used.

    The message names the file and what is wrong; ``setting`` is the setting's name, ``block``
    that of the settings in which it stands.
    """

    def __init__(self, setting: str, message: str, *, block: str = "tls") -> None:
        super().__init__(message)
        self.setting = setting
        self.block = block


@dataclass(frozen=True, slots=True)
class HeldCertificate:
    """A certificate that a running source relies on, for status pages and metrics.

    ``server`` is shown to clients, ``client-ca`` trusted in them; ``client`` is shown to
    servers, ``server-ca`` trusted in them.
    """

    use: Literal["server", "client-ca", "client", "server-ca"]
    path: Path
    certificate: Certificate


class ServerTls:
    """The context of a port, made from its files; :meth:`renewed` when these change."""

    def __init__(self, settings: TlsSettings) -> None:
        """Read the files. Raises TlsUnusable."""
        self.settings = settings
        self.signature = _signature(settings)
        self.context = server_context(settings)
        self.certificates = held_certificates(settings)

    def renewed(self) -> ServerTls | None:
        """The same with the files as they are now; None when they have not changed.

        Raises TlsUnusable, for instance while a new certificate is there and its key is not yet.
        """
        if _signature(self.settings) == self.signature:
            return None
        return ServerTls(self.settings)


class ClientTls:
    """The context of a sender, made from its files; :meth:`renewed` when these change."""

    def __init__(self, settings: ClientTlsSettings) -> None:
        """Read the files. Raises TlsUnusable."""
        self.settings = settings
        self.signature = _signature(settings)
        self.context = client_context(settings)
        self.certificates = held_certificates(settings)

    def renewed(self) -> ClientTls | None:
        """As :meth:`ServerTls.renewed`."""
        if _signature(self.settings) == self.signature:
            return None
        return ClientTls(self.settings)


def _signature(
    settings: TlsSettings | ClientTlsSettings,
) -> tuple[tuple[int, int, int] | None, ...]:
    """What changes when a file is written, replaced or removed."""
    authorities = settings.client_ca if isinstance(settings, TlsSettings) else settings.ca
    paths = (settings.certificate, settings.key, settings.key_password_file, authorities)
    found: list[tuple[int, int, int] | None] = []
    for path in paths:
        try:
            status = path.stat() if path is not None else None
        except OSError:
            status = None
        found.append(status and (status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)


def server_context(settings: TlsSettings) -> ssl.SSLContext:
    """A server's context. Raises TlsUnusable."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context, settings.minimum_version)
    # A connection lasts for days: tickets would only be written to clients that close at once.
    context.num_tickets = 0
    _load_chain(context, settings.certificate, settings.key, settings.key_password_file)
    if settings.client_ca is not None:
        _load_authorities(context, "client_ca", settings.client_ca)
        required = settings.client_certificate == "required"
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    return context


def client_context(settings: ClientTlsSettings) -> ssl.SSLContext:
    """A sender's context: the receiver's chain and name are verified. Raises TlsUnusable."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context, settings.minimum_version)
    if settings.ca is not None:
        _load_authorities(context, "ca", settings.ca)
    else:
        context.load_default_certs()
    if settings.certificate is not None:
        _load_chain(context, settings.certificate, settings.key, settings.key_password_file)
    return context


def held_certificates(
    settings: TlsSettings | ClientTlsSettings,
) -> tuple[HeldCertificate, ...]:
    """The certificates of the files of a port or a sender. Raises TlsUnusable."""
    held: list[HeldCertificate] = []
    if isinstance(settings, TlsSettings):
        files = [("certificate", "server", settings.certificate),
                 ("client_ca", "client-ca", settings.client_ca)]  # fmt: skip
    else:
        files = [("certificate", "client", settings.certificate),
                 ("ca", "server-ca", settings.ca)]  # fmt: skip
    for setting, use, path in files:
        if path is None:
            continue
        try:
            found = read_certificates(path)
        except CertificateUnreadable as error:
            raise TlsUnusable(setting, str(error)) from None
        except OSError as error:
            _cannot_read(setting, path, error)
        held += (HeldCertificate(use, path, each) for each in found)  # type: ignore[arg-type]
    return tuple(held)


def _harden(context: ssl.SSLContext, minimum_version: str) -> None:
    context.minimum_version = _VERSIONS[minimum_version]
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # What a file of authorities holds is trusted as it stands, an intermediate one as well.
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN


def _load_chain(
    context: ssl.SSLContext, certificate: Path, key: Path | None, password_file: Path | None
) -> None:
    for setting, path in (("certificate", certificate), ("key", key)):
        if path is not None:
            _readable(setting, path)

    def password() -> bytes:
        # Without this OpenSSL would ask on the terminal.
        if password_file is None:
            raise TlsUnusable(
                "key", f"{key or certificate}: the key is encrypted, and key_password_file is "
                "not given",
            )  # fmt: skip
        try:
            with password_file.open("rb") as stream:
                return stream.readline(_PASSWORD_BYTES_MAX).rstrip(b"\r\n")
        except OSError as error:
            _cannot_read("key_password_file", password_file, error)

    try:
        context.load_cert_chain(certificate, key, password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            said = f"{key or certificate}: is not the key of the certificate in {certificate}"
            raise TlsUnusable("key", said) from None
        if error.reason in {"BAD_DECRYPT", "BAD_PASSWORD_READ"} or password_file is not None:
            said = f"{key or certificate}: cannot be decrypted with the given password"
            raise TlsUnusable("key_password_file", said) from None
        said = f"{certificate}: no certificate chain and key (PEM) can be read"
        if key is not None:
            said = f"{certificate}, {key}: no certificate chain and key (PEM) can be read"
        raise TlsUnusable("certificate", said) from None


def _load_authorities(context: ssl.SSLContext, setting: str, path: Path) -> None:
    _readable(setting, path)
    try:
        context.load_verify_locations(path)
    except ssl.SSLError:
        raise TlsUnusable(setting, f"{path}: holds no certificate (PEM)") from None


def _readable(setting: str, path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        _cannot_read(setting, path, error)


def _cannot_read(setting: str, path: Path, error: OSError) -> NoReturn:
    said = error.strerror or os.strerror(error.errno or 0)
    raise TlsUnusable(setting, f"{path}: cannot be read: {said}") from None


# --- why a handshake failed ---------------------------------------------------------

_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST",
                      "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"})  # fmt: skip
_TOO_OLD = frozenset({"UNSUPPORTED_PROTOCOL", "VERSION_TOO_LOW", "TLSV1_ALERT_PROTOCOL_VERSION",
                      "UNKNOWN_PROTOCOL"})  # fmt: skip
_NO_CERTIFICATE = frozenset({"PEER_DID_NOT_RETURN_A_CERTIFICATE", "TLSV13_ALERT_CERTIFICATE_REQUIRED"})  # fmt: skip  # noqa: E501
_EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED


def connect_fault(error: OSError) -> str:
    """Why a client could not connect, in words for a person; of TLS what it says.

    asyncio has no words for a connection that the peer closes within the handshake.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: the receiver's certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        words = (error.reason or "").lower().replace("_", " ")
        return f"TLS: {words or 'the handshake failed'}"
    if isinstance(error, ConnectionResetError) and not error.args:
        return "the connection ended in the handshake: does the receiver speak TLS?"
    return error.strerror or str(error) or type(error).__name__


def handshake_fault(error: BaseException) -> str:
    """A closed set of names for why a handshake of a server failed, for counting.

    ``tls-plain-bytes``: the peer speaks no TLS. ``tls-version-too-old``,
    ``tls-no-common-cipher``, ``tls-certificate-missing``, ``tls-certificate-expired``,
    ``tls-certificate-untrusted``: what it says. ``tls-refused-by-sender``: the peer does not like
    our certificate. ``tls-handshake-timeout``, ``tls-handshake-cut``: it was too slow or went
    away. ``tls-handshake-failed``: anything else.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        expired = error.verify_code == _EXPIRED
        return "tls-certificate-expired" if expired else "tls-certificate-untrusted"
    reason = str(getattr(error, "reason", None) or "") if isinstance(error, ssl.SSLError) else ""
    known = {
        **dict.fromkeys(_NOT_TLS, "tls-plain-bytes"),
        **dict.fromkeys(_TOO_OLD, "tls-version-too-old"),
        **dict.fromkeys(_NO_CERTIFICATE, "tls-certificate-missing"),
        "NO_SHARED_CIPHER": "tls-no-common-cipher",
        "NO_SUITABLE_SIGNATURE_ALGORITHM": "tls-no-common-cipher",
    }
    if reason in known:
        return known[reason]
    if "ALERT" in reason:
        return "tls-refused-by-sender"
    if isinstance(error, ConnectionAbortedError | TimeoutError):
        return "tls-handshake-timeout"
    if isinstance(error, ConnectionError):
        return "tls-handshake-cut"
    return "tls-handshake-failed"
