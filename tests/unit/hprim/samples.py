"""HPRIM files made for tests; no line of them is anybody's."""

from __future__ import annotations

HEADER = "H|~^\\&|ESSAI.HPR||LABO~LABM||ORU|||CHUX~CHU ESSAI||P|H2.4~C|20240306111100"


def patient(number: int = 1, identifier: str = "398") -> list[str]:
    """One patient with a request and two results, one of them commented on."""
    return [
        f"P|{number}|{identifier}|||ESSAI~MARIE|NAISSANCE|19790328|F",
        f"OBR|1||~A{number}|NFS~Numération~L|||20240306081000|||||||||||||||20240306111154|||F",
        "OBX|1|NM|HB~Hémoglobine~L||13.2|g/dl|12.0 - 16.0|N|||F",
        "C|1|L|contrôlé",
        "OBX|2|ST|CL~Conclusion~L||rien à signaler||||||F",
    ]


def sante(*patients: list[str], end: str = "\r\n", encoding: str = "windows-1252") -> bytes:
    """A file of HPRIM Santé; one patient when none is given."""
    lines = [HEADER, *(line for each in patients or (patient(),) for line in each), "L|1"]
    return (end.join(lines) + end).encode(encoding)


MEDECIN_HEADER = (
    "B1042", "ESSAI", "Marie", "1 RUE DU FOUR", "", "62580 BAILLEUL ESSAI", "28/03/1979",
    "2790328123456 76", "3135110345", "06/03/2024", "labo.fake Institut d'essai", "MED       Dr",
)  # fmt: skip
RESULTS = (
    "****LAB****",
    "TEX|Hémoglobine   13,3 g/dl",
    "RES|Hémoglobine|hb|N|13.3|g/dl|12.5|15.5|N|F",
)


def medecin(
    *body: str,
    header: tuple[str, ...] = MEDECIN_HEADER,
    marks: tuple[str, ...] = ("****FIN****", "****FINFICHIER****"),
    end: str = "\r\n",
    encoding: str = "windows-1252",
) -> bytes:
    """A file of HPRIM Médecin; with results when no body is given."""
    lines = [*header, *(body or ("Texte libre", *RESULTS)), *marks]
    return (end.join(lines) + end).encode(encoding)
