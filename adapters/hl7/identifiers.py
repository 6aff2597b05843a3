"""Patient identifiers (CX) as FHIR writes them, read cheaply at intake."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote
from uuid import UUID

from adapters.hl7.delimiters import Delimiters
from adapters.hl7.escapes import unescape
from adapters.hl7.header import NULL, component
from adapters.hl7.remembered import Remembered
from gateway.model import Identifier

_OID = re.compile(r"[0-2](\.(0|[1-9]\d*)){2,}\Z")
_URI = re.compile(r"(?:urn|https?):\S+\Z", re.IGNORECASE)

_NOTHING = frozenset({"", NULL})


def authority_system(namespace: str, universal: str, authorities: Mapping[str, str]) -> str:
    """The URI of an assigning authority (HD), or empty when nothing names it.

    An OID, UUID or URI in HD.2 is unique by itself, whatever HD.3 says or leaves
    out; else the source's ``authorities`` give an OID for the name (HD.1, or HD.2
    alone); else the name itself stands in the URI, so that two authorities are
    never taken for one.
    """
    if _OID.match(universal):
        return f"urn:oid:{universal}"
    if _URI.match(universal):
        return universal
    if len(universal) == 36 and universal.count("-") == 4:
        try:
            return f"urn:uuid:{UUID(universal)}"
        except ValueError:
            return _named(namespace or universal, authorities)
    return _named(namespace or universal, authorities)


def _named(name: str, authorities: Mapping[str, str]) -> str:
    if not name:
        return ""
    if _OID.match(name):
        return f"urn:oid:{name}"
    oid = authorities.get(name)
    return f"urn:oid:{oid}" if oid else f"urn:ecluse:authority:{quote(name, safe='')}"


class PatientIdentifiers:
    """Reads PID-3 with one source's authorities."""

    def __init__(self, authorities: Mapping[str, str]) -> None:
        self._authorities = authorities
        self._systems: Remembered[str] = Remembered()

    def read(self, field: str, delimiters: Delimiters, codec: str) -> tuple[Identifier, ...]:
        """The identifiers in the text of PID-3 that have a value and an authority."""
        found = []
        for repetition in field.split(delimiters.repetition):
            parts = repetition.split(delimiters.component, 5)
            if len(parts) < 4 or parts[0] in _NOTHING:
                continue
            system = self._systems.get((parts[3], delimiters.subcomponent, delimiters.escape))
            if system is None:
                system = self._system(parts[3], delimiters, codec)
            if system:
                value, code = parts[0].strip(), parts[4] if len(parts) > 4 else ""
                if delimiters.escape in repetition or code == NULL:
                    value, code = (_plain(text, delimiters, codec) for text in (value, code))
                found.append(Identifier(system=system, value=value, type=code.strip()))
        return tuple(found)

    def _system(self, authority: str, delimiters: Delimiters, codec: str) -> str:
        namespace, universal = (
            _plain(component(authority, delimiters.subcomponent, number), delimiters, codec)
            for number in (1, 2)
        )
        system = authority_system(namespace, universal, self._authorities)
        return self._systems.keep((authority, delimiters.subcomponent, delimiters.escape), system)


def _plain(text: str | None, delimiters: Delimiters, codec: str) -> str:
    return "" if not text or text == NULL else unescape(text, delimiters, codec).strip()
