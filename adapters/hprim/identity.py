"""The patient's identifiers, as the shipped mappings give them too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

from adapters.hprim.segments import Message
from gateway.model import Identifier

WITH_INS = frozenset({"H2.3", "H2.4", "H2.5"})
"""Versions in which P-11 is the INS."""

_OID = re.compile(r"[0-2](\.(0|[1-9]\d*)){2,}\Z")


def subject_of(message: Message, authorities: Mapping[str, str]) -> tuple[Identifier, ...]:
    """The identifiers of the message's patient that have a value and an authority."""
    root = message.root
    if message.separators is None:
        own = _default(authorities, message.text(root, 11))
        return tuple(_identifier(own, message.text(root, 1), "PI"))
    patient = next(root.below("P"), None)
    if patient is None:
        return ()
    found = [
        *_identifier(_default(authorities, message.text(root, 4)), message.text(patient, 2), "PI"),
        *_identifier(_named(authorities, message.text(root, 9)), message.text(patient, 3), "PI"),
    ]
    if message.version in WITH_INS:
        for text in message.repetitions(patient, 11):
            value, kind = (
                message.plain(message.component(patient, 11, text, number) or "").strip()
                for number in (1, 2)
            )
            found += _identifier(_named(authorities, kind), value, kind)
    return tuple(found)


def _identifier(system: str, value: str, kind: str) -> list[Identifier]:
    value = value.strip()
    return [Identifier(system=system, value=value, type=kind)] if system and value else []


def _default(authorities: Mapping[str, str], name: str) -> str:
    oid = authorities.get("")
    return f"urn:oid:{oid}" if oid else _named(authorities, name)


def _named(authorities: Mapping[str, str], name: str) -> str:
    name = name.strip()
    if not name:
        return ""
    if _OID.match(name):
        return f"urn:oid:{name}"
    oid = authorities.get(name)
    return f"urn:oid:{oid}" if oid else f"urn:ecluse:authority:{quote(name, safe='')}"
