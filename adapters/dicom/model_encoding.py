"""Data sets in the DICOM JSON model (PS3.18 annex F) written as bytes (PS3.5 section 7).

The counterpart of :mod:`adapters.dicom.json_model`, for the identifiers of answers: small data
sets whose values were read before. Nothing is validated, so that nothing of a value is told.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from typing import Any

from adapters.dicom.charset import encoding_named
from adapters.dicom.elements import Encoding
from adapters.dicom.json_model import Attributes
from adapters.dicom.values import PERSON_GROUPS

UNICODE = "ISO_IR 192"
LATIN_1 = "ISO_IR 100"

_LONG = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
"""Explicit VR with a length of four bytes (PS3.5 7.1.2)."""
_ENCODED = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
"""VRs whose text is in the Specific Character Set (PS3.5 6.1.2.3)."""
_NUMBERS = {
    "US": "H", "SS": "h", "UL": "L", "SL": "l", "UV": "Q", "SV": "q", "FL": "f", "FD": "d",
}  # fmt: skip
_DEPTH_MAX = 20
_SHORT_BYTES_MAX = 0xFFFE
"""As much as the length of two bytes can say (PS3.5 7.1.2)."""


def character_set_for(attributes: Attributes, wanted: str) -> str:
    """The Specific Character Set of an answer: the asker's own where the text fits into it, or
    none where it is ASCII; else ISO 8859-1 for an asker that named none, and Unicode."""
    text = "".join(_texts(attributes))
    if text.isascii():
        return ""
    known = wanted or LATIN_1
    codec = encoding_named(known)
    if codec is None:
        return UNICODE
    try:
        text.encode(codec)
    except UnicodeEncodeError:
        return UNICODE
    return known


def encoded(attributes: Attributes, encoding: Encoding, character_set: str) -> bytes:
    """A data set, its elements in rising order, with its Specific Character Set when that is
    not empty. Characters that do not fit into it are written as question marks; a number that
    its VR cannot hold, and a value that is too long for its element, are left out."""
    codec = encoding_named(character_set) or "ascii"
    every = {tag: each for tag, each in attributes.items() if tag != "00080005"}
    if character_set:
        every["00080005"] = {"vr": "CS", "Value": [character_set]}
    return _data_set(every, encoding, codec, 0)


def _data_set(attributes: Attributes, encoding: Encoding, codec: str, depth: int) -> bytes:
    return b"".join(
        _element(int(tag, 16), attribute, encoding, codec, depth)
        for tag, attribute in sorted(attributes.items())
    )


def _element(
    tag: int, attribute: Mapping[str, Any], encoding: Encoding, codec: str, depth: int
) -> bytes:
    order = "<" if encoding.little else ">"
    vr = str(attribute.get("vr") or "UN")
    values = attribute.get("Value") or []
    if vr == "SQ":
        items = values if depth < _DEPTH_MAX else []
        raw = b"".join(_item(each, encoding, codec, depth) for each in items)
    elif "InlineBinary" in attribute:
        raw = base64.b64decode(attribute["InlineBinary"])
    else:
        raw = _value(vr, values, order, codec)
    if encoding.explicit and vr not in _LONG and len(raw) > _SHORT_BYTES_MAX:
        # What came from one object keeps nobody from the others; nothing is cut off.
        raw = b""
    if len(raw) % 2:
        raw += b"\0" if vr in {"UI", "OB", "UN"} else b" "
    head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    if not encoding.explicit:
        return head + struct.pack(order + "L", len(raw)) + raw
    if vr in _LONG:
        return head + vr.encode("ascii") + struct.pack(order + "HL", 0, len(raw)) + raw
    return head + vr.encode("ascii") + struct.pack(order + "H", len(raw)) + raw


def _item(item: Attributes, encoding: Encoding, codec: str, depth: int) -> bytes:
    order = "<" if encoding.little else ">"
    body = _data_set(item or {}, encoding, codec, depth + 1)
    return struct.pack(order + "HHL", 0xFFFE, 0xE000, len(body)) + body


def _value(vr: str, values: list[Any], order: str, codec: str) -> bytes:
    if vr in _NUMBERS:
        return b"".join(_number(order + _NUMBERS[vr], each) for each in values)
    if vr == "AT":
        pairs = (int(str(each), 16) for each in values)
        return b"".join(struct.pack(order + "HH", each >> 16, each & 0xFFFF) for each in pairs)
    text = "\\".join(_text(each) for each in values)
    return text.encode(codec if vr in _ENCODED else "ascii", "replace")


def _number(form: str, value: Any) -> bytes:
    """A number, which the model has as text where a JSON reader would not keep it (PS3.18 F.2.3);
    nothing for what is none: one that was not finite has no value there."""
    try:
        return struct.pack(form, int(value) if isinstance(value, str) else value)
    except (ValueError, OverflowError, struct.error):
        return b""


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return "=".join(str(value.get(group) or "") for group in PERSON_GROUPS).rstrip("=")
    return str(value)


def _texts(attributes: Attributes) -> list[str]:
    found: list[str] = []
    for attribute in attributes.values():
        values = attribute.get("Value") or []
        if attribute.get("vr") == "SQ":
            for item in values:
                found += _texts(item or {})
        else:
            found += [_text(each) for each in values]
    return found
