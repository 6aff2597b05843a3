"""The HL7 v2 messages of the story, as a hospital's and a laboratory's software send them."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from gateway.demo.people import HOSPITAL, LABORATORY, TEST_ROOT, Patient

PROFILE = "2.11^IHE_FRANCE-2.11-PAM"


@dataclass(frozen=True, slots=True)
class Result:
    """One OBX of a laboratory report. ``flag`` is of HL7 table 0078, ``status`` of 0085."""

    code: str
    name: str
    value: str
    unit: str
    reference: str
    flag: str = ""
    status: str = "F"
    kind: str = "NM"


def pid(patient: Patient, *, with_ins: bool = True, ins: str = "") -> str:
    """PID of IHE PAM-FR: the INS and the hospital's own identifier."""
    identifiers = [f"{patient.ipp}^^^CHU&{HOSPITAL}&ISO^PI"]
    if with_ins:
        national = ins or patient.ins
        identifiers.insert(0, f"{national}^^^ASIP-SANTE-INS-NIR&{TEST_ROOT}&ISO^INS")
    return (
        f"PID|1||{'~'.join(identifiers)}||"
        f"{patient.family}^{patient.given}^{patient.all_given}^^^^L||{patient.birth_date}|"
        f"{patient.sex}|||{patient.street}^^{patient.city}^^{patient.postal_code}^FRA^H"
        f"~^^^^^^BDL^^{patient.birthplace}" + "|" * 21 + ("VALI" if with_ins else "PROV")
    )


def admission(patient: Patient, control_id: str, *, event: str = "A01", time: str = "") -> bytes:
    """ADT of IHE PAM-FR (A01 admission, A31 change of traits), UTF-8."""
    time = time or "20261120081500+0100"
    visit = (
        "PV1|1|I|CARDIO^101^1||||||||||||||||" + f"{patient.ipp}01^^^CHU&{HOSPITAL}&ISO^VN"
        + "|" * 25 + time
        if event == "A01"
        else "PV1|1|N"
    )  # fmt: skip
    structure = "ADT_A05" if event in ("A28", "A31") else "ADT_A01"
    return _message(
        f"MSH|^~\\&|DPI|CHU|ECLUSE|CHU|{time}||ADT^{event}^{structure}|{control_id}|P|"
        f"2.5^FRA^2.11|||||FRA|UNICODE UTF-8|FR||{PROFILE}",
        f"EVN||{time}",
        pid(patient),
        visit,
    )


def permission(patient: Patient, control_id: str, *, opposed: bool) -> bytes:
    """ADT A31 with ZFA: the patient opposes the feeding of the record, or takes that back."""
    time = "20261120140000+0100" if opposed else "20261120150000+0100"
    feeding = "IO" if opposed else "INO"
    return _message(
        f"MSH|^~\\&|DPI|CHU|ECLUSE|CHU|{time}||ADT^A31^ADT_A05|{control_id}|P|"
        f"2.5^FRA^2.11|||||FRA|UNICODE UTF-8|FR||{PROFILE}",
        f"EVN||{time}",
        pid(patient),
        "PV1|1|N",
        f"ZFA|ACTIF|20261101|||||||{feeding}|{time[:8]}",
    )


def laboratory_report(
    patient: Patient,
    control_id: str,
    order: str,
    results: tuple[Result, ...],
    *,
    panel: str = "24323-8^Bilan métabolique^LN",
    status: str = "F",
    time: str = "20261120093000+0100",
    with_ins: bool = True,
    ins: str = "",
    charset: str = "8859/15",
    encoding: str = "iso8859-15",
    message_type: str = "ORU^R01^ORU_R01",
) -> bytes:
    """ORU^R01 as laboratories send it: 2.5, ISO-8859-15, local order number, LOINC codes."""
    lines = [
        f"MSH|^~\\&|SGL|LABO|ECLUSE|CHU|{time}||{message_type}|{control_id}|P|2.5|||||FRA|{charset}",
        pid(patient, with_ins=with_ins, ins=ins),
        f"ORC|RE|{order}^CHU|{order}^LABO&{LABORATORY}&ISO",
        f"OBR|1|{order}^CHU|{order}^LABO&{LABORATORY}&ISO|{panel}|||{time}|||||||||"
        f"801234534765^CAMPARINI^MARCEL^^^DR||||||{time}||LAB|{status}",
    ]
    for number, result in enumerate(results, start=1):
        lines.append(
            f"OBX|{number}|{result.kind}|{result.code}^{result.name}^LN||{result.value}|"
            f"{result.unit}|{result.reference}|{result.flag}|||{result.status}|||{time}"
        )
    return _message(*lines, encoding=encoding)


def letter(patient: Patient, control_id: str, pdf: bytes, *, document: str) -> bytes:
    """MDM^T02 with a PDF in OBX-5."""
    time = "20261120113000+0100"
    encoded = base64.b64encode(pdf).decode("ascii")
    return _message(
        f"MSH|^~\\&|DPI|CHU|ECLUSE|CHU|{time}||MDM^T02^MDM_T02|{control_id}|P|2.5|||||FRA|"
        "UNICODE UTF-8",
        f"EVN||{time}",
        pid(patient),
        "PV1|1|I",
        f"TXA|1|11488-4^Compte rendu de consultation^LN|AP|{time}||{time}|||"
        f"801234534765^DURAND^HÉLÈNE^^^DR|||{document}^^2.999.250.1.7^ISO|||||AU",
        "OBX|1|ED|11488-4^Compte rendu de consultation^LN||"
        f"^application^pdf^Base64^{encoded}||||||F",
    )


def _message(*segments: str, encoding: str = "utf-8") -> bytes:
    return ("\r".join(segments) + "\r").encode(encoding)
