"""The identifiers of C-FIND, C-MOVE and C-GET: keys out of a request, answers into a response
(PS3.4 C.2.2, C.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapters.dicom.dictionary import keyword_of
from adapters.dicom.elements import encoding_of
from adapters.dicom.json_model import Attributes, attributes_of
from adapters.dicom.model_encoding import character_set_for, encoded
from adapters.dicom.reading import READING_FAULTS
from adapters.dicom.references import FAULTS, read_level
from adapters.dicom.values import PERSON_GROUPS

SPECIFIC_CHARACTER_SET = "00080005"
TIMEZONE_OFFSET = "00080201"
LEVEL = "00080052"
RETRIEVE_AE_TITLE = "00080054"
AVAILABILITY = "00080056"
REQUEST_ATTRIBUTES = "00400275"
KEYS_MAX = 500
"""Elements of one identifier, those of its sequences included."""


class NoIdentifier(Exception):
    """The data set cannot be read as an identifier. No value is named."""


@dataclass(frozen=True, slots=True)
class Asked:
    """An identifier. ``keys`` are its values by keyword, empty for those that are only to be
    returned; ``requested`` is all of it; ``character_set`` the one that its text is in."""

    level: str
    keys: Mapping[str, str]
    requested: Attributes
    character_set: str


def read_asked(data_set: bytes, transfer_syntax: str) -> Asked:
    """The identifier of a request. Raises NoIdentifier."""
    try:
        level = read_level(data_set, transfer_syntax)
        model = attributes_of(level)
        declared = level.text(0x00080005)
    except (*FAULTS, *READING_FAULTS):
        raise NoIdentifier("the identifier cannot be read") from None
    if _size(model) > KEYS_MAX:
        raise NoIdentifier(f"more than {KEYS_MAX} keys")
    keys: dict[str, str] = {}
    for tag, attribute in model.items():
        if tag in {SPECIFIC_CHARACTER_SET, TIMEZONE_OFFSET, LEVEL}:
            continue
        if attribute["vr"] == "SQ":
            continue
        keys[keyword_of(int(tag, 16)) or tag] = key_text(attribute)
    return Asked(key_text(model.get(LEVEL, {})).upper(), keys, model, declared)


def nested_keys(asked: Attributes, tag: str) -> dict[str, str]:
    """The keys of the one item of a sequence, by keyword."""
    items = asked.get(tag, {}).get("Value") or []
    item: Attributes = items[0] if items else {}
    return {
        keyword_of(int(each, 16)) or each: key_text(attribute)
        for each, attribute in item.items()
        if attribute["vr"] != "SQ"
    }


def key_text(attribute: Mapping[str, Any]) -> str:
    """A key's value as it stands in an identifier."""
    texts = []
    for value in attribute.get("Value") or []:
        if isinstance(value, dict):
            groups = [str(value.get(group) or "") for group in PERSON_GROUPS]
            texts.append("=".join(groups).rstrip("="))
        else:
            texts.append("" if value is None else str(value))
    return "\\".join(texts).strip(" ")


def answer(asked: Attributes, found: Attributes) -> Attributes:
    """What was asked for, of what was found: an attribute that is not there has no value."""
    made: Attributes = {}
    for tag, wanted in asked.items():
        if tag in {SPECIFIC_CHARACTER_SET, TIMEZONE_OFFSET}:
            continue
        has = found.get(tag)
        if has is None:
            made[tag] = {"vr": wanted["vr"]}
        elif wanted["vr"] == "SQ":
            made[tag] = _items(wanted, has)
        else:
            made[tag] = has
    return made


def _items(wanted: Mapping[str, Any], has: Mapping[str, Any]) -> dict[str, Any]:
    """A sequence: of each item what was asked for, everything when nothing was named."""
    asked = (wanted.get("Value") or [{}])[0] or {}
    items = [answer(asked, item) if asked else item for item in has.get("Value") or []]
    return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}


def written(attributes: Attributes, transfer_syntax: str, wanted_set: str) -> bytes:
    """An identifier as bytes, in a character set that fits and that the asker knows."""
    chosen = character_set_for(attributes, wanted_set)
    return encoded(attributes, encoding_of(transfer_syntax), chosen)


def _size(model: Attributes) -> int:
    return sum(
        1 + sum(_size(item or {}) for item in each.get("Value") or [] if each["vr"] == "SQ")
        for each in model.values()
    )
