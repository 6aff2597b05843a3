"""Destinations in the configuration: what is taken, and how what is wrong is said."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from adapters.fhir import bundles
from gateway.delivery_settings import DicomDestinationSettings, FhirDestinationSettings
from gateway.mapping.r4.checker import Checker
from gateway.model import CauseCode, Delivery
from gateway.settings import load_settings
from gateway.settings_file import ConfigurationError

SOURCES = "sources: [{type: mllp, name: lab, listen: '127.0.0.1:0'}]\n"


def read(tmp_path: Path, destinations: str, more: str = "") -> list[object]:
    path = tmp_path / "ecluse.yaml"
    path.write_text(f"{SOURCES}{more}\ndestinations:\n{destinations}", encoding="utf-8")
    return list(load_settings(path, environment={}).destinations)


def test_a_destination_elsewhere_with_all_that_may_be_said(tmp_path: Path) -> None:
    record, region = read(
        tmp_path,
        """
  - name: record
  - type: fhir
    name: region
    url: https://fhir.example/r4/
    sources: [lab]
    tls: {ca: /etc/ca.pem, server_name: fhir.example}
    username: ecluse
    password_file: /etc/password
    per_second: 12.5
    burst: 4
    head_of_line: pass
    breaker: {failures: 9, open_seconds: 2, open_max_seconds: 8}
    retry: {attempts_max: 7, causes: {outcome-unknown: {base_seconds: 1}}}
""",
    )
    assert record.type == "record"  # type: ignore[attr-defined]
    assert isinstance(region, FhirDestinationSettings)
    assert region.url == "https://fhir.example/r4"
    assert region.treatment().passes
    assert region.treatment().breaker.open_time(2) == timedelta(seconds=4)
    assert region.retry is not None
    policy = region.retry.policy()
    assert policy.attempts_max == 7
    assert policy.of(CauseCode.OUTCOME_UNKNOWN).base == timedelta(seconds=1)
    assert policy.of(CauseCode.DESTINATION_UNAVAILABLE) is policy


WRONG = {
    "credentials in the address": ("url: https://me:secret@h/", "token_file or password_file"),
    "no address": ("url: fhir.example", "no http"),
    "a user without a password": ("url: http://h, username: me", "go together"),
    "tls without https": ("url: http://h, tls: {ca: x}", "does not begin with https"),
    "longer than a lease": ("url: http://h, timeout_seconds: 25", "lease_seconds"),
    "a source that is not there": ("url: http://h, sources: [nobody]", "no source is named nobody"),
    "an unknown cause": ("url: http://h, retry: {causes: {bad: {}}}", "causes"),
    "an unknown setting": ("url: http://h, colour: red", "colour"),
}


WRONG_PACS = {
    "no address": ("ae_title: PACS", "needs connect and ae_title"),
    "an address of the other protocol": (
        "connect: 'h:104', ae_title: PACS, url: http://h", "are for protocol stow"),
    "a URL that is none": ("protocol: stow, url: h", "needs url"),
    "credentials in the address": ("protocol: stow, url: http://me:secret@h/", "no credentials"),
    "commitment over HTTP": ("protocol: stow, url: http://h, commitment: true", "for protocol dimse"),
    "longer than a lease": ("connect: 'h:104', ae_title: PACS, timeout_seconds: 25", "lease_seconds"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_PACS)
def test_what_is_wrong_with_a_pacs_is_said(tmp_path: Path, name: str) -> None:
    given, said = WRONG_PACS[name]
    with pytest.raises(ConfigurationError) as raised:
        read(tmp_path, f"  - {{type: dicom, name: pacs, {given}}}\n")
    assert said in "\n".join(raised.value.problems)
    assert "secret" not in "\n".join(raised.value.problems)


def test_a_pacs_is_a_destination_elsewhere(tmp_path: Path) -> None:
    (pacs,) = read(
        tmp_path,
        "  - {type: dicom, name: pacs, connect: 'pacs.example:104', ae_title: PACS, connections: 4}\n",
    )
    assert isinstance(pacs, DicomDestinationSettings)
    assert (pacs.connections, pacs.own_title, pacs.treatment().passes) == (4, "ECLUSE", False)


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said(tmp_path: Path, name: str) -> None:
    given, said = WRONG[name]
    with pytest.raises(ConfigurationError) as raised:
        read(tmp_path, f"  - {{type: fhir, name: region, {given}}}\n")
    assert said in "\n".join(raised.value.problems)
    assert "secret" not in "\n".join(raised.value.problems)


def test_a_bell_of_postgresql_needs_a_journal_of_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as raised:
        read(tmp_path, "  - name: record\n", "broker: {url: postgresql}")
    assert "journal.url" in "\n".join(raised.value.problems)


def test_the_receipt_of_a_delivery_is_right_r4() -> None:
    delivery = Delivery(
        id=1, message_id=1, lane="p@d", patient_id="p", destination="d", sequence=1,
        idempotency_key="k", attempts=0, entries=(), mapping="m",
    )  # fmt: skip
    patient = bundles.Put({"resourceType": "Patient", "id": "p"})
    receipt = bundles.receipt(delivery, [patient])
    assert list(Checker.load().check(receipt.resource)) == []
    merged = bundles.merged({"resourceType": "Patient", "id": "q", "meta": {}}, "p")
    assert list(Checker.load().check(merged)) == []
