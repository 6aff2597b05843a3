"""Bytes inside messages: kept beside the entries, or handed over with what goes along."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from gateway.mapping import combined
from gateway.model import Embedded, Entry, Format, Mapped
from tests.unit.mapping.pretend import codes, load, run

BODY = """\
defaults: {invalid: flag}
entries:
  - resource: DocumentReference
    id: {key: [KEY], authority: worldwide}
    along: [securityLabel]
    set:
      status: {const: current, reason: x}
      securityLabel: [{set: {text: C}}]
      content:
        items:
          - set:
              attachment: {from: FILE, as: Attachment, encoding: {const: Base64, reason: x}, declared: [A], title: NAME, creation: DATE, hand_over: [cda], missing: drop}
        missing: drop
"""
WHOLE = """\
defaults: {invalid: flag}
entries:
  - resource: DocumentReference
    id: {key: [KEY], authority: worldwide}
    set:
      status: {const: current, reason: x}
      content:
        items: [{set: {attachment: {from: source(), as: Attachment, missing: drop}}}]
        missing: drop
"""


def packed(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_the_bytes_are_kept_and_pointed_to(tmp_path: Path) -> None:
    data = b"%PDF-1.4 a report"
    mapped = run(load(tmp_path, BODY), {
        "KEY": "1", "FILE": packed(data), "A": "PDF", "NAME": "t", "DATE": "20240306", "C": "R",
    })  # fmt: skip
    sha256 = hashlib.sha256(data).hexdigest()
    assert mapped.entries[0].resource["content"] == [{"attachment": {
        "contentType": "application/pdf",
        "url": f"Binary/{sha256}",
        "size": len(data),
        "hash": base64.b64encode(hashlib.sha1(data).digest()).decode(),
        "title": "t",
        "creation": "2024-03-06",
    }}]  # fmt: skip
    [attachment] = mapped.attachments
    assert (attachment.sha256, attachment.media_type, attachment.data) == (
        sha256,
        "application/pdf",
        data,
    )
    assert codes(mapped) == []


def test_a_wrong_declaration_and_lost_padding_are_flagged(tmp_path: Path) -> None:
    program = load(tmp_path, BODY)
    mapped = run(program, {"KEY": "1", "FILE": packed(b"{\\rtf1 ab}").rstrip("="), "A": "PDF"})
    assert codes(mapped) == ["base64-padding", "content-mismatch"]
    assert (
        mapped.entries[0].resource["content"][0]["attachment"]["contentType"] == "application/rtf"
    )


def test_without_readable_bytes_there_is_no_document(tmp_path: Path) -> None:
    mapped = run(load(tmp_path, BODY), {"KEY": "1", "FILE": "§§", "C": "R"})
    assert (mapped.entries, mapped.attachments) == ((), ())
    assert codes(mapped) == ["invalid-value", "missing-value"]


def test_a_cda_is_handed_over_with_what_goes_along(tmp_path: Path) -> None:
    cda = b"<ClinicalDocument xmlns='urn:hl7-org:v3'/>"
    mapped = run(load(tmp_path, BODY), {"KEY": "1", "FILE": packed(cda), "C": "restricted"})
    assert (mapped.entries, mapped.attachments) == ((), ())
    assert mapped.embedded == (
        Embedded(
            format=Format.CDA,
            data=cda,
            source="FILE(1)",
            overlay={"securityLabel": [{"text": "restricted"}]},
        ),
    )


def test_source_is_the_whole_message(tmp_path: Path) -> None:
    mapped = run(load(tmp_path, WHOLE), {"KEY": "1"})
    assert [attachment.data for attachment in mapped.attachments] == [b"{'KEY': '1'}"]


def result(*resources: dict, create_only: bool = False) -> Mapped:
    entries = tuple(Entry(resource=each, create_only=create_only) for each in resources)
    return Mapped(mapping="m", version="1", digest="d", entries=entries)


def test_combined_puts_the_overlay_into_the_document() -> None:
    embedded = Embedded(
        format=Format.CDA, data=b"", source="OBX-5",
        overlay={"securityLabel": [{"text": "N"}, {"text": "masked"}], "meta": {"tag": [{"code": "x"}]}, "status": "never"},
    )  # fmt: skip
    outer = Mapped(mapping="m", version="1", digest="d", entries=(), embedded=(embedded,))
    document = {
        "resourceType": "DocumentReference", "id": "1", "status": "current",
        "securityLabel": [{"text": "N"}], "meta": {"profile": ["p"]},
    }  # fmt: skip
    joined = combined(outer, embedded, result(document, {"resourceType": "Observation", "id": "2"}))
    assert joined.entries[0].resource == {
        **document,
        "securityLabel": [{"text": "N"}, {"text": "masked"}],
        "meta": {"profile": ["p"], "tag": [{"code": "x"}]},
    }
    assert joined.embedded == ()
    assert document["securityLabel"] == [{"text": "N"}], "the inner result is not changed"


def test_combined_withdraws_a_deleted_document_with_its_results() -> None:
    embedded = Embedded(
        format=Format.CDA, data=b"", source="OBX-5", overlay={"status": "entered-in-error"}
    )
    given = [
        {"resourceType": kind, "id": "1", "status": "final"}
        for kind in ("DocumentReference", "DiagnosticReport", "Observation", "ServiceRequest")
    ]
    joined = combined(result(), embedded, result(*given, {"resourceType": "Patient", "id": "1"}))
    assert [entry.resource.get("status") for entry in joined.entries] == [
        "entered-in-error",
        "entered-in-error",
        "entered-in-error",
        "final",
        None,
    ]
    assert given[0]["status"] == "final", "the inner result is not changed"


def test_combined_keeps_one_entry_of_a_reference() -> None:
    embedded = Embedded(format=Format.CDA, data=b"", source="x")
    patient, richer = (
        {"resourceType": "Patient", "id": "1"},
        {"resourceType": "Patient", "id": "1", "active": True},
    )
    kept = combined(result(patient), embedded, result(richer, create_only=True))
    assert [entry.resource for entry in kept.entries] == [patient]
    taken = combined(result(patient, create_only=True), embedded, result(richer))
    assert [entry.resource for entry in taken.entries] == [richer]
    both = combined(result(patient), embedded, result(richer))
    assert [flag.code for flag in both.flags] == ["conflicting-repeat"]
