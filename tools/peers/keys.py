"""What both sides of mutual TLS need, for Python and for Java, made for one run."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    load_pem_private_key,
    pkcs12,
)

from tests.certificates import Authority, Issued


class Keys:
    """An authority, and what it issued to the gateway's side and to the peers'."""

    def __init__(self, folder: Path) -> None:
        self._authority = Authority(folder)
        self.own = self._authority.issue("peer")
        self.server = self._authority.issue("server")
        self.ca = self._authority.certificate
        self._stores(folder, self.own, "peer")
        self._stores(folder, self.server, "server")
        self._folder = folder

    def _stores(self, folder: Path, issued: Issued, name: str) -> None:
        """The same for Java: a store with the key, and one with whom to trust."""
        secret = BestAvailableEncryption(b"changeit")
        key = load_pem_private_key(issued.key.read_bytes(), None)
        [ca] = x509.load_pem_x509_certificates(self.ca.read_bytes())
        own = x509.load_pem_x509_certificate(issued.certificate.read_bytes())
        kept = pkcs12.serialize_key_and_certificates(b"own", key, own, [ca], secret)  # type: ignore[arg-type]
        (folder / f"{name}.p12").write_bytes(kept)
        trusted = pkcs12.serialize_java_truststore(
            [pkcs12.PKCS12Certificate(ca, b"authority")], secret
        )
        (folder / "trust.p12").write_bytes(trusted)

    def java(self, java: Sequence[str], name: str = "peer") -> list[str]:
        """The command that has Java speak TLS."""
        stores = {"keyStore": f"{name}.p12", "trustStore": "trust.p12"}
        flags = ["-Dpeer.tls=true"]
        for property_, file in stores.items():
            flags.append(f"-Djavax.net.ssl.{property_}={self._folder / file}")
            flags.append(f"-Djavax.net.ssl.{property_}Password=changeit")
        return [java[0], *flags, *java[1:]]

    def context(self) -> ssl.SSLContext:
        """The client's side in Python."""
        made = ssl.create_default_context(cafile=self.ca)
        made.load_cert_chain(self.own.certificate, self.own.key)
        return made

    def settings(self) -> dict[str, str]:
        """``tls`` of a source."""
        return {"certificate": str(self.server.certificate), "key": str(self.server.key),
                "client_ca": str(self.ca)}  # fmt: skip
