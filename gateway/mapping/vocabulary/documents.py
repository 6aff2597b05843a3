"""Bytes inside messages: decode them, and see what they really are."""

from __future__ import annotations

import base64
import binascii
import re

from gateway.mapping.vocabulary.invalid import Invalid

ATTACHMENT_BYTES_MAX = 128 * 1024 * 1024
"""Decoded size of one attachment. The adapters' frame limits are lower."""

CDA = "cda"
"""The name of CDA R2 in ``hand_over``."""

_LOOK = 1 << 16
_XML_START = re.compile(rb"(?:<!--.{0,65536}?-->|<\?[^>]{0,2000}\?>|\s)*", re.DOTALL)
_ROOT = re.compile(rb"<(?:[A-Za-z_][\w.-]*:)?([A-Za-z_][\w.-]*)")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
_CDA_INSIDE = re.compile(rb"<(?:[A-Za-z_][\w.-]*:)?ClinicalDocument[\s>/]")
_ID_ELEMENT = re.compile(rb"<(?:[A-Za-z_][\w.-]*:)?id\s([^>]{0,400})>")
_ATTRIBUTE = re.compile(rb"""\b(root|extension)\s*=\s*["']([^"']{0,200})["']""")
_ID_WITHIN = 64 * 1024
_BASE64_TEXT = re.compile(rb"[A-Za-z0-9+/]+={0,2}")

_SIGNATURES = (
    (b"{\\rtf", "application/rtf"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"PK\x03\x04", "application/zip"),
)
_SUBTYPES = {
    "pdf": "application/pdf",
    "xml": "text/xml",
    "x-hl7-cda-level-one": "text/xml",
    "hl7-v3+xml": "text/xml",
    "hl7-sda+xml": "text/xml",
    "xslt+xml": "text/xml",
    "rtf": "application/rtf",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "png": "image/png",
    "tiff": "image/tiff",
    "tif": "image/tiff",
    "gif": "image/gif",
    "html": "text/html",
    "plain": "text/plain",
    "dicom": "application/dicom",
}
_TYPES = {"text": "text/plain", "tx": "text/plain", "ft": "text/plain"}
_UNSPECIFIC = frozenset({"", "application/octet-stream", "text/plain"})


def decode(data: bytes, encoding: str) -> tuple[bytes, str]:
    """The bytes behind an HL7 table 0299 encoding, and a note or an empty one.

    ``Base64`` and ``B64`` (CDA), ``Hex``, ``A`` or nothing for bytes as they are.
    Base64 without its padding is accepted with the note ``base64-padding``: most of
    the official French sample messages have lost it. Raises Invalid.
    """
    name = encoding.strip().lower()
    if len(data) > ATTACHMENT_BYTES_MAX * 3 // 2:
        raise Invalid(f"an attachment has at most {ATTACHMENT_BYTES_MAX} bytes")
    if name in ("base64", "b64"):
        packed = bytes(data).translate(None, b" \t\r\n")
        del data  # tens of megabytes, of which each copy counts
        decoded, note = _base64(packed)
    elif name == "hex":
        decoded, note = _hexadecimal(data), ""
    elif name in ("", "a", "txt"):
        decoded, note = data, ""
    else:
        raise Invalid("the encoding is none of Base64, Hex and A")
    if len(decoded) > ATTACHMENT_BYTES_MAX:
        raise Invalid(f"an attachment has at most {ATTACHMENT_BYTES_MAX} bytes")
    return decoded, note


def _hexadecimal(data: bytes) -> bytes:
    try:
        return bytes.fromhex(data.decode("ascii"))
    except ValueError:
        raise Invalid("not hexadecimal") from None


def _base64(packed: bytes) -> tuple[bytes, str]:
    """Decode what has no blanks, without a copy unless the padding is wrong."""
    if _BASE64_TEXT.fullmatch(packed) is None:
        raise Invalid("not Base64")
    bare = len(packed)
    while bare and packed[bare - 1] == ord("="):
        bare -= 1
    if bare % 4 == 1:
        raise Invalid("Base64 that stops in the middle of a byte")
    missing = -bare % 4
    right = len(packed) - bare == missing
    try:
        decoded = base64.b64decode(
            packed if right else packed[:bare] + b"=" * missing, validate=True
        )
    except binascii.Error:
        raise Invalid("not Base64") from None
    return decoded, "" if right else "base64-padding"


def sniff(data: bytes) -> tuple[str, bool]:
    """The media type that the bytes show, and whether they are a CDA R2 document.

    A CDA may stand inside a stylesheet (CI-SIS «auto-présentable») or a signature.
    Unknown bytes are ``text/plain`` when no control character is among them, else
    ``application/octet-stream``.
    """
    head = data[:_LOOK]
    if b"%PDF-" in head[:1024]:
        return "application/pdf", False
    for signature, media_type in _SIGNATURES:
        if head.startswith(signature):
            return media_type, False
    if data[128:132] == b"DICM":
        return "application/dicom", False
    root = _root_element(head)
    if root is not None:
        name = root.lower()
        if name == b"html":
            return "text/html", False
        inside = name in (b"stylesheet", b"signature") and _CDA_INSIDE.search(data) is not None
        return "text/xml", root == b"ClinicalDocument" or inside
    binary = _CONTROL.search(data) is not None
    return ("application/octet-stream" if binary else "text/plain"), False


def cda_document_id(data: bytes) -> str | None:
    """``root`` or ``root^extension`` of ClinicalDocument/id; None when the bytes are no CDA.

    The first ``id`` element of a CDA is the document's own: what stands before it in
    the schema (realmCode, typeId, templateId) has none. Only the start is looked at.
    """
    if not sniff(data)[1]:
        return None
    start = _CDA_INSIDE.search(data)
    found = _ID_ELEMENT.search(data, start.end(), start.end() + _ID_WITHIN) if start else None
    if found is None:
        return None
    attributes = dict(_ATTRIBUTE.findall(found[1]))
    root = (attributes.get(b"root") or b"").decode("ascii", "replace")
    extension = attributes.get(b"extension", b"").decode("utf-8", "replace")
    if not root:
        return None
    return f"{root}^{extension}" if extension else root


def _root_element(head: bytes) -> bytes | None:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        head = head.decode("utf-16", "replace").encode()
    head = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not head.startswith(b"<"):
        return None
    start = _XML_START.match(head)
    rest = head[start.end() :] if start else head
    if rest[:9].lower() == b"<!doctype":
        return b"html" if rest[9:].lstrip()[:4].lower() == b"html" else b"doctype"
    root = _ROOT.match(rest)
    return root[1] if root else None


def declared_type(parts: list[str]) -> str:
    """The media type that a message declares: ``application/pdf``, or HL7's ``AP^PDF``.

    Empty when the declaration says nothing of use.
    """
    words = [part.strip().lower() for part in parts if part.strip()]
    for word in reversed(words):
        subtype = word.rpartition("/")[2]
        if subtype in _SUBTYPES:
            return _SUBTYPES[subtype]
    for word in words:
        if "/" in word:
            return word
        if word in _TYPES:
            return _TYPES[word]
    return ""


def disagrees(declared: str, found: str) -> bool:
    """Whether the declared type and the bytes contradict each other."""
    if declared in _UNSPECIFIC or found == declared:
        return False
    return not (declared == "text/html" and found in ("text/xml", "text/plain"))
