"""Synthetic patients. Nobody here exists; every INS is of the national test root."""

from __future__ import annotations

from dataclasses import dataclass

TEST_ROOT = "1.2.250.1.213.1.4.10"
"""INS-NIR, test (CI-SIS, Structuration minimale)."""

HOSPITAL = "2.999.250.1"
"""ITU's example arc: no real authority can have it. Local patient identifiers (IPP)."""

LABORATORY = "2.999.250.2"
"""The laboratory's own identifiers."""


def ins_with_key(thirteen: str) -> str:
    """The fifteen characters of an INS from its first thirteen.

    The key is 97 minus the number modulo 97; in Corsica 2A counts as 19 and 2B
    as 18 (RNIV). Raises ValueError when ``thirteen`` is no such number.
    """
    number = int(thirteen.replace("2A", "19").replace("2B", "18"))
    return f"{thirteen}{97 - number % 97:02d}"


@dataclass(frozen=True, slots=True)
class Patient:
    """The traits that the French identity rules want, and a local identifier."""

    family: str
    given: str
    all_given: str
    birth_date: str
    sex: str
    birthplace: str
    street: str
    city: str
    postal_code: str
    ins: str
    ipp: str


CAMILLE = Patient(
    family="LAMBERT",
    given="CAMILLE",
    all_given="CAMILLE ANNE",
    birth_date="19850314",
    sex="F",
    birthplace="69382",
    street="12 QUAI DES ÉCLUSES",
    city="LYON",
    postal_code="69002",
    ins=ins_with_key("2850369382017"),
    ipp="800412",
)

GABRIEL = Patient(
    family="NOËL",
    given="GABRIEL",
    all_given="GABRIEL HONORÉ",
    birth_date="19620701",
    sex="M",
    birthplace="35238",
    street="3 RUE DU CANAL",
    city="RENNES",
    postal_code="35000",
    ins=ins_with_key("1620735238042"),
    ipp="800977",
)

MARTIN = Patient(
    family="ROUSSEL",
    given="MARTIN",
    all_given="MARTIN",
    birth_date="19410909",
    sex="M",
    birthplace="2A004",
    street="8 COURS NAPOLÉON",
    city="AJACCIO",
    postal_code="20000",
    ins=ins_with_key("141092A004033"),
    ipp="801203",
)
