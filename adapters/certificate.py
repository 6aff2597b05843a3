"""X.509 certificates as far as a transport needs them: until when, whose, which (RFC 5280).

Chains are verified by OpenSSL and never here: this reads files of our own, to say when
they expire, and the names of a peer whose chain has been verified.
"""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

PEM_BYTES_MAX = 4 << 20
EXPIRY_NOTICE = timedelta(days=30)
"""How long before its end a certificate is warned of."""
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE, _UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x30, 0x17, 0x18, 0xA0
_COMMON_NAME = bytes.fromhex("550403")  # 2.5.4.3


class CertificateUnreadable(Exception):
    """A file holds no certificate, or one that is cut or broken. The message names the file."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate of a file. ``name`` is the subject's common name or empty."""

    name: str
    not_before: datetime
    not_after: datetime
    fingerprint: str
    """SHA-256 of the DER form, lower-case hexadecimal."""


def read_certificates(path: Path) -> list[Certificate]:
    """All certificates of a PEM file, in its order. Raises CertificateUnreadable and OSError."""
    with path.open("rb") as stream:
        data = stream.read(PEM_BYTES_MAX + 1)
    if len(data) > PEM_BYTES_MAX:
        raise CertificateUnreadable(f"{path}: larger than {PEM_BYTES_MAX} bytes")
    found = []
    for block in _PEM.findall(data.decode("ascii", "replace")):
        try:
            found.append(read_certificate(ssl.PEM_cert_to_DER_cert(block)))
        except (ValueError, IndexError):
            raise CertificateUnreadable(
                f"{path}: certificate {len(found) + 1} of the file cannot be read"
            ) from None
    if not found:
        raise CertificateUnreadable(f"{path}: holds no certificate (PEM)")
    return found


def read_certificate(der: bytes) -> Certificate:
    """One certificate (RFC 5280, 4.1). Raises ValueError or IndexError when it is none."""
    outer = list(_elements(der))[0]  # noqa: RUF015  an IndexError says that there is none
    inner = list(_elements(_expect(outer, _SEQUENCE)))[0]  # noqa: RUF015
    parts = [each for each in _elements(_expect(inner, _SEQUENCE)) if each[0] != _VERSION]
    # serialNumber, signature, issuer, validity, subject
    begin, end = list(_elements(_expect(parts[3], _SEQUENCE)))[:2]
    return Certificate(
        name=_common_name(_expect(parts[4], _SEQUENCE)),
        not_before=_time(begin),
        not_after=_time(end),
        fingerprint=hashlib.sha256(der).hexdigest(),
    )


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each element of a DER sequence (X.690, 8.1)."""
    position = 0
    while position < len(data):
        tag, length = data[position], data[position + 1]
        position += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(data[position : position + size], "big")
            position += size
        if position + length > len(data):
            raise ValueError("an element is longer than what holds it")
        yield tag, data[position : position + length]
        position += length


def _expect(element: tuple[int, bytes], tag: int) -> bytes:
    if element[0] != tag:
        raise ValueError(f"tag {element[0]:#x} where {tag:#x} belongs")
    return element[1]


def _time(element: tuple[int, bytes]) -> datetime:
    """RFC 5280, 4.1.2.5: always in UTC with seconds; two digits from 50 on are of the 1900s."""
    tag, text = element[0], element[1].decode("ascii")
    if tag == _UTC_TIME:
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError(f"tag {tag:#x} is no time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _common_name(subject: bytes) -> str:
    for _, relative in _elements(subject):
        for _, attribute in _elements(relative):
            kind, value = list(_elements(attribute))[:2]
            if kind[1] == _COMMON_NAME:
                return value[1].decode("utf-8", "replace")
    return ""


# --- a peer's certificate -----------------------------------------------------------

_KINDS = ("fingerprint", "subject", "cn", "dns", "email", "uri", "ip")
_ALTERNATIVE = {"dns": "DNS", "email": "email", "uri": "URI", "ip": "IP Address"}
_SHORT = {  # RFC 4514, section 3, and what OpenSSL writes for the rest
    "CN": "commonName", "L": "localityName", "ST": "stateOrProvinceName",
    "O": "organizationName", "OU": "organizationalUnitName", "C": "countryName",
    "STREET": "streetAddress", "DC": "domainComponent", "UID": "userId", "SN": "surname",
    "GN": "givenName", "T": "title", "EMAIL": "emailAddress",
}  # fmt: skip
_ATTRIBUTE = re.compile(r"\s*([A-Za-z][A-Za-z0-9.]*)\s*=\s*((?:[^\\,+]|\\.)*)\s*(?:[,+]|\Z)")


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """The names of a peer's certificate whose chain has been verified."""

    fingerprint: str
    subject: tuple[tuple[str, str], ...]
    alternatives: frozenset[tuple[str, str]]

    @classmethod
    def of(cls, der: bytes, names: Mapping[str, Any]) -> PeerCertificate:
        """From ``SSLObject.getpeercert`` in its two forms."""
        return cls(
            hashlib.sha256(der).hexdigest(),
            tuple(sorted(pair for rdn in names.get("subject", ()) for pair in rdn)),
            frozenset(
                (kind, value.lower() if kind == "DNS" else value)
                for kind, value in names.get("subjectAltName", ())
            ),
        )


@dataclass(frozen=True, slots=True)
class ClientName:
    """A name that a client's certificate must have: what a source's ``clients`` lists."""

    kind: str
    value: str

    @classmethod
    def parse(cls, text: str) -> ClientName:
        """``fingerprint:…`` (SHA-256), ``subject:CN=…,O=…`` (the whole one), ``cn:``, ``dns:``,
        ``email:``, ``uri:`` or ``ip:``. Raises ValueError with what is wrong."""
        kind, colon, value = text.partition(":")
        kind, value = kind.strip().lower(), value.strip()
        if not colon or kind not in _KINDS or not value:
            raise ValueError(f"{text!r} does not begin with {', '.join(f'{k}:' for k in _KINDS)}")
        if kind == "fingerprint":
            value = value.replace(":", "").lower()
            if re.fullmatch(r"[0-9a-f]{64}", value) is None:
                raise ValueError(f"{text!r} is not the SHA-256 of a certificate (64 hex digits)")
        elif kind == "subject":
            _subject(value)
        elif kind == "dns":
            value = value.lower()
        return cls(kind, value)

    def names(self, certificate: PeerCertificate) -> bool:
        """Has the certificate this name?"""
        if self.kind == "fingerprint":
            return certificate.fingerprint == self.value
        if self.kind == "subject":
            return certificate.subject == _subject(self.value)
        if self.kind == "cn":
            return ("commonName", self.value) in certificate.subject
        return (_ALTERNATIVE[self.kind], self.value) in certificate.alternatives


def _subject(text: str) -> tuple[tuple[str, str], ...]:
    """The attributes of a distinguished name (RFC 4514), sorted: tools differ in their order."""
    found, position = [], 0
    while position < len(text):
        match = _ATTRIBUTE.match(text, position)
        if match is None:
            raise ValueError(f"subject: {text[position:]!r} is not like CN=name,O=name")
        kind = match[1]
        value = re.sub(r"\\(.)", r"\1", match[2].strip())
        found.append((_SHORT.get(kind.upper(), kind), value))
        position = match.end()
    return tuple(sorted(found))
