"""Plain text, codes, URIs and the small primitives of FHIR R4."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from urllib.parse import quote
from uuid import UUID

from gateway.mapping.vocabulary.invalid import Invalid

STRING_MAX = 1024 * 1024
"""FHIR R4 (datatypes, string): «strings SHALL NOT exceed 1MB in size»."""

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_OID = re.compile(r"[0-2](?:\.(?:0|[1-9][0-9]*))+")
_URI_SCHEME = re.compile(r"(?:urn:[a-z0-9][a-z0-9-]{0,31}:|https?://)\S+", re.IGNORECASE)
_INTEGER = re.compile(r"[+-]?[0-9]{1,10}(?:\.0*)?")
_INTEGER_MAX = 2_147_483_647
_TRUE = frozenset({"true", "1", "y", "yes", "o", "oui"})
_FALSE = frozenset({"false", "0", "n", "no", "non"})
_HL7_TABLE = re.compile(r"HL7(\d{4})", re.IGNORECASE)


def string(text: str) -> str | None:
    """The text as it is; None when it is blank.

    Raises Invalid on control characters other than tab, CR and LF, and above 1 MiB.
    """
    found, note = cleaned(text)
    if note:
        raise Invalid("a string holds no control characters but tab, CR and LF")
    return found


def is_verbatim(text: str) -> bool:
    """Whether a string is surely taken over as it is: nothing to clean, not blank."""
    return text.isprintable() and len(text) <= STRING_MAX and not text.isspace() and text != ""


def cleaned(text: str) -> tuple[str | None, str]:
    """The text without the characters that no FHIR string holds, and a note if it had any.

    None for a blank text. Raises Invalid above 1 MiB.
    """
    if len(text) > STRING_MAX:
        raise Invalid("a string has at most 1 MiB")
    note = ""
    if _UNPRINTABLE.search(text) is not None:
        text, note = _UNPRINTABLE.sub("", text), "control-character"
    return (text if text.strip() else None), note


def code(text: str) -> str | None:
    """Trimmed, inner blanks single, unprintable characters left off; None when blank.

    FHIR R4 (datatypes, code): no whitespace at the ends, single spaces within.
    """
    if not text.isprintable():
        text = _UNPRINTABLE.sub("", text)
    return " ".join(text.split()) or None


def identifier(text: str) -> str | None:
    """FHIR ``id``: letters, digits, ``-`` and ``.``, at most 64. Raises Invalid."""
    text = text.strip()
    if text and _ID.fullmatch(text) is None:
        raise Invalid("an id is 1 to 64 letters, digits, - or .")
    return text or None


def uri(text: str) -> str | None:
    """A URI: no blanks. Raises Invalid."""
    text = text.strip()
    if not text.isprintable() or any(character.isspace() for character in text):
        raise Invalid("a URI holds no blanks")
    return text or None


def oid(text: str) -> str | None:
    """``urn:oid:…``. Raises Invalid."""
    text = text.strip().removeprefix("urn:oid:")
    if text and (_OID.fullmatch(text) is None or len(text) > 64):
        raise Invalid("an OID is at most 64 digits and dots without leading zeros")
    return f"urn:oid:{text}" if text else None


def uuid(text: str) -> str | None:
    """``urn:uuid:…`` in lower case. Raises Invalid."""
    text = text.strip().lower().removeprefix("urn:uuid:")
    try:
        return f"urn:uuid:{UUID(text)}" if text else None
    except ValueError:
        raise Invalid("not a UUID") from None


def boolean(text: str) -> bool:
    """HL7 table 0136 and XML's booleans, French words too. Raises Invalid."""
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise Invalid("not Y, N, true, false, 1 or 0")


def integer(text: str, lowest: int = -_INTEGER_MAX - 1) -> int:
    """A whole number from ``lowest`` to 2³¹-1 (``3.0`` is one). Raises Invalid."""
    match = _INTEGER.fullmatch(text.strip())
    if match is None:
        raise Invalid("not a whole number")
    number = int(text.strip().partition(".")[0])
    if not lowest <= number <= _INTEGER_MAX:
        raise Invalid(f"a whole number here is {lowest} to {_INTEGER_MAX}")
    return number


def base64_binary(text: str) -> str:
    """Base64 checked and without blanks. Raises Invalid."""
    packed = "".join(text.split())
    try:
        base64.b64decode(packed, validate=True)
    except (binascii.Error, ValueError):
        raise Invalid("not Base64") from None
    return packed


def is_worldwide(text: str) -> bool:
    """Whether a name is unique by itself: an OID, a UUID or a URI."""
    return universal(text) is not None


def universal(text: str) -> str | None:
    """The URI of an OID, a UUID or a URI; None for a local name."""
    text = text.strip()
    if _OID.fullmatch(text) is not None and text.count(".") > 1:
        return f"urn:oid:{text}"
    if _URI_SCHEME.fullmatch(text) is not None:
        return text
    if len(text) == 36 and text.count("-") == 4:
        try:
            return f"urn:uuid:{UUID(text)}"
        except ValueError:
            return None
    return None


def identifier_system(text: str, authorities: Mapping[str, str]) -> str | None:
    """The URI of an assigning authority given as OID, UUID, URI or local name.

    A local name is looked up in ``authorities`` (name to OID); one that is not
    there becomes ``urn:ecluse:authority:<name>``.
    """
    name = text.strip()
    if not name:
        return None
    unique = universal(name)
    if unique is not None:
        return unique
    known = authorities.get(name)
    if known:
        return universal(known) or known
    return f"urn:ecluse:authority:{quote(name, safe='')}"


@cache
def _known_uris() -> Mapping[str, str]:
    """The URIs of code systems by ``urn:oid:…``."""
    path = Path(__file__).with_name("code_systems.json")
    table = json.loads(path.read_text(encoding="utf-8"))
    return {f"urn:oid:{known}": uri for known, uri in table["uris"].items()}


def code_system(text: str, source: str) -> str | None:
    """The URI of a code system given as OID, URI or name.

    ``HL7nnnn`` is table nnnn of HL7 v2. HL7 table 0396 keeps ``L`` and ``99…`` for
    the sender's own codes: they get the source's name, so that two laboratories'
    local codes differ. Other names are kept as ``urn:ecluse:code-system:<name>``. An OID
    that FHIR R4 gives a URI becomes the URI (``code_systems.json``), any other stays an OID.
    """
    name = text.strip()
    if not name:
        return None
    unique = universal(name)
    if unique is not None:
        return _known_uris().get(unique, unique)
    table = _HL7_TABLE.fullmatch(name)
    if table is not None:
        return f"http://terminology.hl7.org/CodeSystem/v2-{table[1]}"
    local = name.upper() == "L" or name.startswith("99")
    owner = f"{quote(source, safe='')}:" if local else ""
    return f"urn:ecluse:code-system:{owner}{quote(name, safe='')}"
