"""The segments of both forms: their fields and what types these have.

HPRIM Santé: the tables of versions 2.1 to 2.4 (H 13 fields, P 33, OBR 36, OBX 16). The
types are those of ASTM E1238; a type that has no components is read whole, so that a text
with an unescaped ``~`` loses nothing. HPRIM Médecin: ``ENT`` are the twelve lines of the
header, ``TXT`` the free text, ``RES`` and ``TEX`` the lines of the laboratory block,
``LAB`` that block's texts together, ``ADR`` the patient's address taken out of the lines
4 to 6 (street, second line, postal code, city).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.ports import PathError

SANTE_VERSIONS = ("H2.0", "H2.1", "H2.2", "H2.3", "H2.4", "H2.5")
MEDECIN_VERSION = "3.0"
VERSIONS = (*SANTE_VERSIONS, MEDECIN_VERSION)

VARIES = "*"
"""The type of OBX-5, which OBX-2 names."""

SIMPLE = frozenset({"ST", "NM", "ID", "IS", "TS", "DT", "TX", "FT", "TM", ""})
"""Types without components."""

_H = "ST ST ST HD AD CM TN ST HD ST ID HD TS"
_P = (
    "NM FNM CX HD PN ST DT IS ST AD INS TN CNA ST ST ST ST CE ST ST CE ST TS ID PL CE ST ID "
    "ID ST ID TS TS"
)
_OBR = (
    "NM CM CM CE ID TS TS TS CQ CNA ID CM ST TS CM PRE TN ST ST ST ST TS CQ ID ID ST ST CNA "
    "CM ID CE CNA CNA CNA CNA TS"
)
_OBX = "NM ID CE ST * CE ST ID NM ID ID TS ST TS CE CE"

SANTE: Mapping[str, Sequence[str]] = {
    "H": tuple(_H.split()),
    "P": tuple(_P.split()),
    "OBR": tuple(_OBR.split()),
    "OBX": tuple(_OBX.split()),
    "C": ("NM", "ID", "TX"),
    "L": ("NM",),
    # Of invoicing, cover and errors: their fields are not mapped here.
    **dict.fromkeys(("FAC", "ACT", "REG", "AP", "AC", "ERR"), ("",) * 60),
}
MEDECIN: Mapping[str, Sequence[str]] = {
    "ENT": ("ST",) * 12,
    "ADR": ("ST",) * 4,
    "TXT": ("TX",),
    "LAB": ("TX",),
    "TEX": ("TX",),
    "RES": ("ST",) * 13,
}

PARENTS: Mapping[str, str] = {
    "P": "H",
    "OBR": "P",
    "OBX": "OBR",
    "FAC": "P",
    "ACT": "FAC",
    "REG": "H",
    "AP": "P",
    "AC": "P",
    "ERR": "H",
    "L": "H",
}
"""Under which segment a segment of HPRIM Santé stands: ``H {P {OBR {OBX}}} L``. ``C`` stands
under whatever it follows and ``A`` continues it."""


def segments_of(versions: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """The segments that these versions have. PathError for an unknown version or both forms."""
    for version in versions:
        if version not in VERSIONS:
            raise PathError(f"HPRIM has no version {version!r} here", VERSIONS[1])
    medecin = MEDECIN_VERSION in versions
    if medecin and len(set(versions)) > 1:
        raise PathError("HPRIM Médecin (3.0) and HPRIM Santé (H2.x) have no path in common")
    return MEDECIN if medecin else SANTE


def datatype(version: str, name: str, number: int) -> str:
    """The type of a field; empty for what no version has."""
    fields = (MEDECIN if version == MEDECIN_VERSION else SANTE).get(name, ())
    return fields[number - 1] if 0 < number <= len(fields) else ""
