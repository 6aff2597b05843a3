"""XDM archives made for tests, good and bad."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape, quoteattr

from adapters.cda.transmitted import CdaHeaders

FOLDER = "IHE_XDM/SUBSET01/"
PATIENT = "279035121518989^^^&1.2.250.1.213.1.4.10&ISO^NH"
SET_ID = "2.999.77.1"


def slot(name: str, *values: str) -> str:
    found = "".join(f"<rim:Value>{escape(each)}</rim:Value>" for each in values)
    return f"<rim:Slot name={quoteattr(name)}><rim:ValueList>{found}</rim:ValueList></rim:Slot>"


def external(scheme: str, value: str) -> str:
    return (
        f'<rim:ExternalIdentifier identificationScheme="urn:uuid:{scheme}"'
        f" value={quoteattr(value)}/>"
    )


def entry(
    uri: str,
    data: bytes,
    *,
    unique_id: str | None = None,
    patient: str | None = None,
    media_type: str = "text/xml",
    **changes: str | None,
) -> str:
    """A document entry that fits the document, but for what is changed; None leaves out."""
    if unique_id is None:
        header = CdaHeaders().header(data)
        unique_id = header.identifier if header is not None else f"2.999.88.{len(data)}"
    slots: dict[str, str | None] = {
        "URI": uri,
        "hash": hashlib.sha1(data, usedforsecurity=False).hexdigest(),
        "size": str(len(data)),
        "creationTime": "20240101",
        **changes,
    }
    return (
        f'<rim:ExtrinsicObject id="{uri}" mimeType="{media_type}" '
        'objectType="urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1">'
        + "".join(slot(name, value) for name, value in slots.items() if value is not None)
        + external("58a6f841-87b3-4a3e-92fd-a8ffeff98427", patient or patient_of(data))
        + external("2e82c1f6-a085-4c72-9da3-8640a32e42ab", unique_id)
        + "</rim:ExtrinsicObject>"
    )


def patient_of(data: bytes) -> str:
    """The patientId that a writer takes from the document."""
    header = CdaHeaders().header(data)
    for each in header.patient if header is not None else ():
        if each.system.startswith("urn:oid:"):
            return f"{each.value}^^^&{each.system.removeprefix('urn:oid:')}&ISO^NH"
    return PATIENT


def metadata(*entries: str, patient: str = PATIENT, more: str = "") -> bytes:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<lcm:SubmitObjectsRequest xmlns:lcm="urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0" '
        'xmlns:rim="urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"><rim:RegistryObjectList>'
        + "".join(entries)
        + '<rim:RegistryPackage id="SubmissionSet01">'
        + external("96fdda7c-d067-4183-912e-bf5ee74998a8", SET_ID)
        + external("6b5aea1a-874d-4603-a4bc-96a0a7b38446", patient)
        + f"</rim:RegistryPackage>{more}</rim:RegistryObjectList></lcm:SubmitObjectsRequest>"
    ).encode()


def packed(
    files: Mapping[str, bytes], *, method: int = zipfile.ZIP_DEFLATED, prefix: str = ""
) -> bytes:
    """A zip of these files."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(prefix + name, data)
    return stream.getvalue()


def files_of(documents: Sequence[bytes], **changes: bytes) -> dict[str, bytes]:
    """The files of a good archive of these documents, as the practice software writes them."""
    names = [f"DOC{n:04d}.XML" for n in range(1, len(documents) + 1)]
    described = [entry(name, data) for name, data in zip(names, documents, strict=True)]
    return {
        "README.TXT": b"XDM",
        "INDEX.HTM": b"<html/>",
        f"{FOLDER}METADATA.XML": metadata(
            *described, patient=patient_of(documents[0] if documents else b"")
        ),
        **{FOLDER + name: data for name, data in zip(names, documents, strict=True)},
        **changes,
    }


def archive(*documents: bytes) -> bytes:
    """A good archive."""
    return packed(files_of(documents))
