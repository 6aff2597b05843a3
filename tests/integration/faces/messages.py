"""HL7 v2 of people who do not exist, for the faces to show. INS of the national test root."""

from __future__ import annotations

import base64

FAMILY = "LHERMITTE"
GIVEN = "Zoé"
INS = "285036938201797"
WRONG_INS = "285036938201798"
IPP = "800412"
OTHER_IPP = "777977"
PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
    b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]>>endobj\n"
    b"trailer<</Root 1 0 R>>\n%%EOF\n"
)
HOSTILE = "<script>alert('x')</script><svg onload=alert(1)>"


def identifiers(ins: str = INS, ipp: str = IPP) -> str:
    national = f"{ins}^^^ASIP-SANTE-INS-NIR&1.2.250.1.213.1.4.10&ISO^INS~" if ins else ""
    return f"{national}{ipp}^^^CHU&2.999.250.1&ISO^PI"


def admission(control_id: str, *, family: str = FAMILY) -> bytes:
    """ADT^A01 that brings the INS and the local identifier together."""
    return _message(
        "MSH|^~\\&|DPI|CHU|ECLUSE|CHU|20261120081500+0100||ADT^A01^ADT_A01|"
        f"{control_id}|P|2.5|||||FRA|UNICODE UTF-8",
        "EVN||20261120081500+0100",
        f"PID|1||{identifiers()}||{family}^{GIVEN}^^^^^L||19850314|F" + "|" * 24 + "VALI",
        "PV1|1|I",
    )


def results(
    control_id: str,
    order: str,
    values: dict[str, str],
    *,
    ins: str = INS,
    ipp: str = IPP,
    time: str = "20261120093000+0100",
    status: str = "F",
    flag: str = "N",
) -> bytes:
    """ORU^R01; ``values`` are LOINC code and name to value."""
    lines = [
        f"MSH|^~\\&|SGL|LABO|ECLUSE|CHU|{time}||ORU^R01^ORU_R01|{control_id}|P|2.5|||||FRA|"
        "UNICODE UTF-8",
        f"PID|1||{identifiers(ins, ipp)}||{FAMILY}^{GIVEN}^^^^^L||19850314|F",
        f"ORC|RE|{order}^CHU|{order}^LABO&2.999.250.2&ISO",
        f"OBR|1|{order}^CHU|{order}^LABO&2.999.250.2&ISO|24323-8^Bilan métabolique^LN|||{time}"
        f"||||||||||||||{time}|||{status}",
    ]
    for number, (name, value) in enumerate(values.items(), 1):
        lines.append(
            f"OBX|{number}|NM|{name}^LN||{value}|mmol/L|3.90-5.50|{flag}|||{status}|||{time}"
        )
    return _message(*lines)


def letter(control_id: str) -> bytes:
    """MDM^T02 with a PDF in OBX-5."""
    time = "20261120113000+0100"
    encoded = base64.b64encode(PDF).decode("ascii")
    return _message(
        f"MSH|^~\\&|DPI|CHU|ECLUSE|CHU|{time}||MDM^T02^MDM_T02|{control_id}|P|2.5|||||FRA|"
        "UNICODE UTF-8",
        f"EVN||{time}",
        f"PID|1||{identifiers()}||{FAMILY}^{GIVEN}^^^^^L||19850314|F",
        "PV1|1|I",
        f"TXA|1|11488-4^Compte rendu de consultation^LN|AP|{time}||{time}|||"
        "801234534765^DURAND^HÉLÈNE^^^DR|||L0001^^2.999.250.1.7^ISO|||||AU",
        f"OBX|1|ED|11488-4^Compte rendu de consultation^LN||^application^pdf^Base64^{encoded}"
        "||||||F",
    )


def _message(*segments: str) -> bytes:
    return ("\r".join(segments) + "\r").encode()
