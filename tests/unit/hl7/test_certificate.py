"""Certificates: their end, their names, and which client a name means."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from adapters.certificate import (
    CertificateUnreadable,
    ClientName,
    PeerCertificate,
    read_certificate,
    read_certificates,
)
from tests.certificates import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "Autorité d'essai")


@pytest.mark.parametrize("days", [1, 365, 40 * 365])
def test_what_is_read_is_what_another_library_reads(authority: Authority, days: int) -> None:
    """From 2050 on times are written in another type (RFC 5280, 4.1.2.5)."""
    issued = authority.issue("lab", ends=timedelta(days=days))
    theirs = x509.load_pem_x509_certificate(issued.certificate.read_bytes())
    (ours,) = read_certificates(issued.certificate)
    assert ours.not_after == theirs.not_valid_after_utc
    assert ours.not_before == theirs.not_valid_before_utc
    assert ours.fingerprint == issued.fingerprint
    assert ours.name == "lab"
    (ca,) = read_certificates(authority.certificate)
    assert ca.name == "Autorité d'essai"


def test_files_that_hold_none(authority: Authority, tmp_path: Path) -> None:
    issued = authority.issue("lab")
    both = tmp_path / "both.pem"
    both.write_bytes(issued.certificate.read_bytes() + authority.certificate.read_bytes())
    assert [each.name for each in read_certificates(both)] == ["lab", "Autorité d'essai"]
    with pytest.raises(CertificateUnreadable, match="holds no certificate"):
        read_certificates(issued.key)
    cut = tmp_path / "cut.pem"
    lines = issued.certificate.read_text(encoding="ascii").splitlines()
    cut.write_text("\n".join([*lines[:4], lines[-1], ""]), encoding="ascii")
    with pytest.raises(CertificateUnreadable, match="certificate 1 of the file cannot be read"):
        read_certificates(cut)


@given(st.binary(max_size=400))
def test_no_bytes_do_harm(data: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        read_certificate(data)


def test_no_cut_or_change_of_a_certificate_does_harm(authority: Authority) -> None:
    pem = authority.certificate.read_text(encoding="ascii")
    der = ssl.PEM_cert_to_DER_cert(pem)
    for position in range(len(der)):
        for data in (der[:position], der[:position] + b"\xff" + der[position + 1 :]):
            try:
                found = read_certificate(data)
            except (ValueError, IndexError):
                continue
            assert found.not_after < datetime.max.replace(tzinfo=UTC)


PEER = PeerCertificate.of(
    b"der",
    {
        "subject": (
            (("countryName", "FR"),), (("organizationName", "CHU, Nord"),),
            (("commonName", "lab-1"),),
        ),
        "subjectAltName": (("DNS", "Lab.Example"), ("IP Address", "10.0.0.7"),
                           ("email", "lab@example"), ("URI", "urn:oid:1.2.3")),
    },
)  # fmt: skip
DIGEST = PEER.fingerprint


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (f"fingerprint:{DIGEST}", True),
        ("fingerprint:" + ":".join(DIGEST[i : i + 2] for i in range(0, 64, 2)).upper(), True),
        ("fingerprint:" + "0" * 64, False),
        (r"subject:CN=lab-1,O=CHU\, Nord,C=FR", True),
        (r"subject: C = FR, O = CHU\, Nord, CN = lab-1", True),
        (r"subject:CN=lab-1,O=CHU\, Nord", False),
        ("cn:lab-1", True),
        ("CN: lab-1", True),
        ("cn:lab", False),
        ("dns:lab.example", True),
        ("dns:example", False),
        ("dns:lab-1", False),
        ("ip:10.0.0.7", True),
        ("email:lab@example", True),
        ("uri:urn:oid:1.2.3", True),
    ],
)
def test_names_of_clients(text: str, named: bool) -> None:
    assert ClientName.parse(text).names(PEER) is named


@pytest.mark.parametrize("text", ["", "lab", "cn:", "host:lab", "fingerprint:xyz", "subject:=x"])
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        ClientName.parse(text)
