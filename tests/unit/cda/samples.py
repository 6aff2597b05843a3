"""Small CDA documents made here, for tests; every person in them is invented."""

from __future__ import annotations

HEAD = (
    '<ClinicalDocument xmlns="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
    ' xmlns:sdtc="urn:hl7-org:sdtc">'
)
TYPE_ID = '<typeId root="2.16.840.1.113883.1.3" extension="POCD_HD000040"/>'
TAIL = "</ClinicalDocument>"

PATIENT = """
 <recordTarget><patientRole>
  <id root="1.2.250.1.213.1.4.10" extension="279035121518989"/>
  <id root="1.2.3.4.5" extension="IPP-1"/>
  <telecom value="tel:0102030405" use="H"/><telecom value="MAILTO:a@b.example"/>
  <telecom value="06 07"/>
  <patient><name>
    <family qualifier="BR">ESSAI<!-- a comment in a name -->-DEUX</family>
    <given>ANNE MARIE</given><given qualifier="BR">ANNE</given></name>
   <administrativeGenderCode code="F" codeSystem="2.16.840.1.113883.5.1"/>
   <birthTime value="19790328"/><sdtc:deceasedInd value="false"/>
  </patient>
 </patientRole></recordTarget>"""

BODY = """
 <component><structuredBody><component><section>
  <templateId root="1.2.3.10" extension="2024.01"/>
  <code code="18719-5" codeSystem="2.16.840.1.113883.6.1"/>
  <title>Biochimie</title>
  <text><table><thead><tr><th>Analyse</th><th>Valeur</th></tr></thead>
   <tbody><tr><td ID="a1">Sodium  sérique</td><td>1.10 mmol/L</td></tr></tbody></table>
   <paragraph>Fin.<br/>Suite</paragraph></text>
  <entry typeCode="DRIV"><organizer classCode="BATTERY" moodCode="EVN">
   <id root="1.2.9"/><statusCode code="completed"/>
   <component><observation classCode="OBS" moodCode="EVN">
    <templateId root="1.2.3.20"/>
    <code code="2951-2" codeSystem="2.16.840.1.113883.6.1">
     <originalText><reference value="#a1"/></originalText>
     <translation code="NA" displayName="Sodium"/></code>
    <statusCode code="completed"/>
    <effectiveTime value="20240102"/>
    <value xsi:type="PQ" value="1.10" unit="mmol/L"/>
    <interpretationCode code="L"/>
   </observation></component>
   <component><observation classCode="OBS" moodCode="EVN">
    <templateId root="1.2.3.20"/>
    <code nullFlavor="OTH"><originalText>Autre</originalText></code>
    <statusCode code="completed"/>
    <value xsi:type="CD" nullFlavor="UNK"/>
   </observation></component>
   <component><observation classCode="OBS" moodCode="EVN">
    <templateId root="1.2.3.30"/>
    <code code="X"/><value xsi:type="IVL_PQ">
     <low value="1" unit="g"/><high nullFlavor="PINF"/></value>
    <entryRelationship typeCode="COMP"><observation classCode="OBS" moodCode="EVN">
     <code code="INNER"/></observation></entryRelationship>
   </observation></component>
  </organizer></entry>
 </section></component></structuredBody></component>"""


def document(
    *,
    root: str = "1.2.250.1.999.1",
    extension: str = "",
    version: int = 1,
    patient: str = PATIENT,
    body: str = "",
    declaration: str = '<?xml version="1.0" encoding="UTF-8"?>',
    type_id: str = TYPE_ID,
) -> str:
    """A small document: what is between the header and the body can be given."""
    more = f' extension="{extension}"' if extension else ""
    return (
        f'{declaration}{HEAD}{type_id}<templateId root="1.2.250.1.213.1.1.1.1"/>'
        f'<id root="{root}"{more}/><code code="11502-2" codeSystem="2.16.840.1.113883.6.1"/>'
        f'<title>CR d\'examens</title><effectiveTime value="20240102030405+0100"/>'
        f'<setId root="1.2.250.1.999"/><versionNumber value="{version}"/>{patient}{body}{TAIL}'
    )


def encoded(**parts: object) -> bytes:
    """:func:`document` in UTF-8."""
    return document(**parts).encode("utf-8")  # type: ignore[arg-type]
