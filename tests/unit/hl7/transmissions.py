"""Messages of the CI-SIS profile «Transmission d'un document CDA-R2 en HL7v2», made to be broken."""

from __future__ import annotations

import base64
from collections.abc import Mapping

INS = "279035121518989"
OTHER_INS = "188102B17295264"
ROOT = "1.2.250.1.213.1.4.10"
DOCUMENT, PARENT = "2.999.5.2", "2.999.5.1"
METADATA = {
    "MASQUE_PS": "N",
    "INVISIBLE_PATIENT": "N",
    "INVISIBLE_REP_LEGAUX": "N",
    "CONNEXION_SECRETE": "N",
    "MODIF_CONF_CODE": "N",
    "DESTDMP": "Y",
    "DESTMSSANTEPS": "Y",
    "DESTMSSANTEPAT": "Y",
    "ACK_RECEPTION": "N",
    "ACK_LECTURE_MSS": "N",
}
SENDER = (
    "PRT||UC||SB^Send by^participation|801234567866^DIAZ^Thierry^^^^^^ASIP-SANTE-PS"
    "&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS|||labo^^^^^ASIP-SANTE-ST&1.2.250.1.71.4.2.2&ISO^FINEG"
    "^^^1120459876"
)
DOCTOR = (
    "PRT||UC||RCT^Results Copies To^participation|801234567897^HODA^Adam^^^^^^ASIP-SANTE-PS"
    "&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS||||||||||^^X.400^adam.hoda@exemple.mssante.fr"
)
PATIENT = (
    f"PRT||UC||RCT^Results Copies To^participation|{INS}^ESSAI^MARIE^^^^^^^L^^^INS"
    f"||||||||||^^X.400^{INS}@patient.mssante.fr"
)
EVENTS = {"F": "T02", "C": "T10", "D": "T04"}
ORDERS = {"F": "NW", "C": "RO", "D": "CA"}


def cda(
    *,
    ins: str = INS,
    root: str = ROOT,
    local: str = "",
    document: str = DOCUMENT,
    replaces: str = "",
    traits: str = "",
) -> bytes:
    """The header of a CDA R2; ``traits`` replaces what stands beside the INS."""
    patient = traits or (
        '<name><family qualifier="BR">ESSAI</family><given>MARIE</given></name>'
        '<administrativeGenderCode code="F"/><birthTime value="19790328"/>'
        "<birthplace><place><addr><county>63220</county></addr></place></birthplace>"
    )
    identifiers = f'<id root="{root}" extension="{ins}"/>' if ins else ""
    if local:
        identifiers += f'<id root="2.999.1" extension="{local}"/>'
    related = (
        f'<relatedDocument typeCode="RPLC"><parentDocument><id root="{replaces}"/>'
        "</parentDocument></relatedDocument>"
        if replaces
        else ""
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ClinicalDocument xmlns="urn:hl7-org:v3">'
        '<typeId root="2.16.840.1.113883.1.3" extension="POCD_HD000040"/>'
        f'<id root="{document}"/><code code="11502-2" codeSystem="2.16.840.1.113883.6.1"/>'
        f"<recordTarget><patientRole>{identifiers}<patient>{patient}</patient></patientRole>"
        f"</recordTarget>{related}</ClinicalDocument>"
    ).encode()


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def message(
    kind: str = "MDM",
    *,
    status: str = "F",
    event: str = "",
    order: str | None = None,
    documents: tuple[str, ...] = (),
    statuses: tuple[str, ...] = (),
    metadata: Mapping[str, str] | None = None,
    without: tuple[str, ...] = (),
    participations: tuple[str, ...] = (SENDER, DOCTOR, PATIENT),
    identifiers: str = f"{INS}^^^ASIP-SANTE-INS-NIR&{ROOT}&ISO^INS",
    reliability: str = "VALI",
    number: str = DOCUMENT,
    parent: str = "",
    profile: str = "2.1^CISIS_CDA_HL7_V2",
    control_id: str = "C1",
) -> bytes:
    """A request that the profile accepts, but for what is changed.

    ``documents`` are Base64; ``order`` "" leaves ORC-1 empty, ``without`` names segments
    and metadata that are left out.
    """
    version, structure = ("2.6", "MDM_T02") if kind == "MDM" else ("2.5", "ORU_R01")
    event = event or (EVENTS[status] if kind == "MDM" else "R01")
    order = ORDERS[status] if order is None else order
    held = documents or (encoded(cda(replaces=PARENT if status == "C" else "")),)
    coded = "CWE" if kind == "MDM" else "CE"
    lines = [
        f"MSH|^~\\&|RIS|CHU|PFI|CHU|20260101120000||{kind}^{event}^{structure}|{control_id}|P|"
        f"{version}|||||FRA|UNICODE UTF-8|||{profile}"
    ]
    if kind == "MDM":
        lines.append("EVN||20260101120000")
    lines.append(f"PID|||{identifiers}||ESSAI^MARIE^^^^^L||19790328|F{'|' * 24}{reliability}")
    lines.append("PV1|1|I|||||||||||||||||897406^^^CHU&2.999.2&ISO^VN")
    lines += [f"ORC|{order}", "OBR|1|||11502-2^CR d'examens biologiques^LN"]
    if kind == "MDM":
        lines.append(f"TXA|1|11502-2|TEXT|202601011200||||||||{number}|{parent}||||AU")
    for position, data in enumerate(held):
        own = statuses[position] if statuses else status
        lines.append(f"OBX|1|ED|11502-2^CR^LN||^TEXT^XML^Base64^{data}||||||{own}")
        lines += participations if position == 0 else ()
    for code, value in {**METADATA, **(metadata or {})}.items():
        if code not in without:
            lines.append(
                f"OBX|2|{coded}|{code}^{code}^MetaDMPMSS||{value}^^expandedYes-NoIndicator||||||F"
            )
    kept = [line for line in lines if line[:3] not in without]
    return "\r".join([*kept, ""]).encode()
