"""What a stored query asks: its parameters, decoded and checked.

ITI TF-2 sections 3.18.4.1.2.3.5 (coding of values), 3.18.4.1.2.3.7 (the queries and their
parameters) and 3.18.4.1.3 (errors); ebRS 3.0 section 6.3.2.1: parameters that a query does not
have are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from lxml import etree

from adapters.ebrim.faults import Refused
from adapters.ebrim.names import QUERY, RIM
from adapters.ebrim.submission import PatientId
from adapters.xds.answers import Problem

VALUES_MAX = 1_000
SLOTS_MAX = 100
VALUE_CHARACTERS_MAX = 4_096

_RIM, _QUERY = f"{{{RIM}}}", f"{{{QUERY}}}"
_STRING = re.compile(r"\s*'((?:[^']|'')*)'\s*")
_NUMBER = re.compile(r"\s*([0-9]{1,20})\s*\Z")
_TIME = re.compile(r"[0-9]{4}([0-9]{2}){0,5}\Z")


class QueryId(StrEnum):
    """The stored queries that are answered."""

    FIND_DOCUMENTS = "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d"
    FIND_BY_REFERENCE = "urn:uuid:12941a89-e02e-4be5-967c-ce4bfc8fe492"
    FIND_SUBMISSION_SETS = "urn:uuid:f26abbcb-ac74-4422-8a30-edb644bbc1a9"
    FIND_FOLDERS = "urn:uuid:958f3006-baad-4929-a4de-ff1114824431"
    GET_ALL = "urn:uuid:10b545ea-725c-446d-9b95-8aeb444eddf3"
    GET_DOCUMENTS = "urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4"
    GET_FOLDERS = "urn:uuid:5737b14c-8a1a-4539-b659-e03a34a5e1e4"
    GET_SUBMISSION_SETS = "urn:uuid:51224314-5390-4169-9b91-b1980040715a"
    GET_SUBMISSION_SET_AND_CONTENTS = "urn:uuid:e8e3cb2c-e39c-46b9-99e4-c12f57260b83"
    GET_FOLDER_AND_CONTENTS = "urn:uuid:b909a503-523d-4517-8acf-8e5834dfc4c7"
    GET_FOLDERS_FOR_DOCUMENT = "urn:uuid:10cae35a-c7f9-4cf5-b61e-fc3278ffb578"
    GET_ASSOCIATIONS = "urn:uuid:a7ae438b-4bc2-4642-93e9-be891f7bb155"
    GET_DOCUMENTS_AND_ASSOCIATIONS = "urn:uuid:bab9529a-4a10-40b3-a01f-f68a615d247a"
    GET_RELATED_DOCUMENTS = "urn:uuid:d90e5407-b356-4d91-a89f-873917b4b0e6"


class QueryRefused(Exception):
    """A query is not answered; ``problem`` says why."""

    def __init__(self, code: str, context: str) -> None:
        super().__init__(code)
        self.problem = Problem(code, context, "AdhocQueryRequest")


@dataclass(frozen=True, slots=True)
class Query:
    """One stored query. ``slots`` gives for each parameter its slots, and for each slot its
    values: alternatives within a slot, and several slots must all hold."""

    id: QueryId
    objects: bool
    slots: Mapping[str, tuple[tuple[str, ...], ...]]

    def values(self, name: str) -> tuple[str, ...]:
        """All values of a parameter; empty when it is not given."""
        return tuple(value for slot in self.slots.get(name, ()) for value in slot)

    def every(self, name: str) -> tuple[tuple[str, ...], ...]:
        """The slots of a parameter, of which each must hold."""
        return self.slots.get(name, ())

    def one(self, name: str) -> str:
        """The value of a parameter that has one at most; empty when it is not given.

        Raises QueryRefused.
        """
        values = self.values(name)
        if len(values) > 1:
            raise QueryRefused("XDSStoredQueryParamNumber", f"{name} takes one value")
        return values[0] if values else ""

    def needed(self, name: str) -> tuple[str, ...]:
        """The values of a parameter that must be given. Raises QueryRefused."""
        values = self.values(name)
        if not values:
            raise QueryRefused("XDSStoredQueryMissingParam", f"{name} is needed")
        return values

    def either(self, first: str, second: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The values of two parameters of which exactly one must be given. Raises QueryRefused."""
        found = self.values(first), self.values(second)
        if not any(found):
            raise QueryRefused("XDSStoredQueryMissingParam", f"{first} or {second} is needed")
        if all(found):
            raise QueryRefused("XDSStoredQueryParamNumber", f"either {first} or {second}, not both")
        return found

    def patient(self, name: str) -> PatientId:
        """A patient's identifier, which must be given. Raises QueryRefused."""
        self.needed(name)
        try:
            return PatientId.parse(self.one(name), name)
        except Refused:
            raise QueryRefused("XDSRegistryError", f"{name} is not value^^^&oid&ISO") from None

    def time(self, name: str) -> str:
        """A time as 14 digits of UTC, the earliest that it can mean; empty when not given.

        Raises QueryRefused.
        """
        text = self.one(name)
        if not text:
            return ""
        if not _TIME.match(text):
            raise QueryRefused("XDSRegistryError", f"{name} is not YYYYMMDDhhmmss")
        return earliest(text)


def earliest(digits: str) -> str:
    """A time that may be given to the year, as 14 digits."""
    return digits + "00000101000000"[len(digits) :]


def read_query(request: etree._Element) -> Query:
    """Read an ``AdhocQueryRequest``. Raises QueryRefused."""
    query = request.find(f"{_RIM}AdhocQuery")
    option = request.find(f"{_QUERY}ResponseOption")
    if query is None or option is None:
        raise QueryRefused("XDSRegistryError", "the request holds no ResponseOption and AdhocQuery")
    try:
        known = QueryId((query.get("id") or "").strip().lower())
    except ValueError:
        raise QueryRefused(
            "XDSUnknownStoredQuery", "this stored query is not answered here"
        ) from None
    kind = option.get("returnType") or "RegistryObject"
    if kind not in ("LeafClass", "ObjectRef"):
        raise QueryRefused("XDSRegistryError", "returnType can be LeafClass or ObjectRef")
    slots: dict[str, list[tuple[str, ...]]] = {}
    found = query.findall(f"{_RIM}Slot")
    if len(found) > SLOTS_MAX:
        raise QueryRefused("XDSRegistryError", f"a query has at most {SLOTS_MAX} parameters")
    for slot in found:
        name = slot.get("name") or ""
        texts = [each.text or "" for each in slot.iterfind(f"{_RIM}ValueList/{_RIM}Value")]
        values = tuple(value for text in texts for value in decoded(text, name))
        if len(values) > VALUES_MAX:
            raise QueryRefused("XDSRegistryError", f"a parameter has at most {VALUES_MAX} values")
        if values:
            slots.setdefault(name, []).append(values)
    return Query(
        known, kind == "LeafClass", {name: tuple(values) for name, values in slots.items()}
    )


def decoded(text: str, name: str) -> list[str]:
    """The values of one ``Value``: a number, ``'text'`` with ``''`` for a quote, or a list of
    them in brackets. Raises QueryRefused, which repeats nothing of the text."""
    if len(text) > VALUE_CHARACTERS_MAX * 16:
        raise QueryRefused("XDSRegistryError", f"{_shown(name)} is too long")
    stripped = text.strip()
    number = _NUMBER.match(stripped)
    if number:
        return [number[1]]
    inner = stripped
    if stripped.startswith("(") and stripped.endswith(")"):
        inner = stripped[1:-1]
    values: list[str] = []
    at = 0
    while at < len(inner):
        match = _STRING.match(inner, at)
        plain = None if match else re.compile(r"\s*([0-9]{1,20})\s*").match(inner, at)
        if match is not None:
            values.append(match[1].replace("''", "'"))
            at = match.end()
        elif plain is not None:
            values.append(plain[1])
            at = plain.end()
        else:
            raise _not_coded(name)
        if at < len(inner):
            if inner[at] != ",":
                raise _not_coded(name)
            at += 1
    if len(values) > 1 and inner is stripped:
        raise _not_coded(name)
    return values


def _not_coded(name: str) -> QueryRefused:
    return QueryRefused(
        "XDSRegistryError",
        f"{_shown(name)}: a value is a number, 'text' (a quote in it is doubled), or a list of "
        "them in brackets",
    )


def _shown(name: str) -> str:
    return name if len(name) < 60 and name.isprintable() else "a parameter"
