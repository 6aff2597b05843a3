"""What a new connection meets first: is it TLS, whose certificate is it, whose connection?

Until that is known nothing of a message is read. Afterwards the door is out of the way: the
transport speaks with :class:`adapters.hl7.connection.Connection` alone.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, cast

from adapters.certificate import PeerCertificate
from adapters.hl7.connection import Connection

if TYPE_CHECKING:
    from adapters.hl7.port import Port

# The first byte of a TLS record that carries a handshake, and the major version behind it
# (RFC 8446, 5.1). No block of MLLP begins so, nor does anything that is tolerated before one.
_TLS_RECORD = b"\x16\x03"


class PlainDoor(asyncio.Protocol):
    """A port without TLS: looks at the first bytes only, for a client that speaks TLS."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._connection: Connection | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        source = self._port.choose(None)
        if source is None:
            self._transport.abort()
            return
        self._connection = Connection(source)
        self._connection.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        connection, transport = self._connection, self._transport
        if connection is None or transport is None:
            return
        if _TLS_RECORD.startswith(data[:2]):
            # Its client waits for a ServerHello, and would do so until the idle time-out.
            self._port.refuse("tls-to-plain-port", connection.address)
            connection.abort()
            return
        transport.set_protocol(connection)
        connection.data_received(data)

    def eof_received(self) -> bool:
        return self._connection is not None and self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._connection is not None:
            self._connection.connection_lost(exc)


class TlsDoor(asyncio.Protocol):
    """A port with TLS, after the handshake: chooses by the certificate whose connection it is."""

    def __init__(self, port: Port, address: str) -> None:
        self._port = port
        self._address = address

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        secure = cast("asyncio.Transport", transport)
        certificate = _certificate(secure.get_extra_info("ssl_object"))
        source = self._port.choose(certificate)
        if source is None:
            missing = certificate is None
            reason = "tls-certificate-missing" if missing else "tls-certificate-unknown"
            self._port.refuse(reason, self._address)
            secure.close()
            return
        connection = Connection(source)
        connection.certificate = certificate
        secure.set_protocol(connection)
        connection.connection_made(secure)


def _certificate(shaken: ssl.SSLObject) -> PeerCertificate | None:
    """What the client has shown and OpenSSL has verified."""
    der = shaken.getpeercert(binary_form=True)
    return PeerCertificate.of(der, shaken.getpeercert() or {}) if der else None
