"""Which message structure an event has: HL7 table 0354 (versions 2.3.1 to 2.8.2).

MSH-9.3 says it since 2.4, often wrongly and below 2.4 not at all. Where versions
disagree the later structure comes first: a version takes the first that it has.
"""

from __future__ import annotations

from functools import lru_cache

_EVENTS: dict[str, str] = {
    "ADT_A01": "A01 A04 A08 A13",
    "ADT_A05": "A05 A14 A28 A31",
    "ADT_A06": "A06 A07",
    "ADT_A09": "A09 A10 A11 A12 A15",
    "ADT_A12": "A12",
    "ADT_A15": "A15",
    "ADT_A21": "A21 A22 A23 A25 A26 A27 A29 A32 A33",
    "ADT_A30": "A30 A34 A35 A36 A46 A47 A48 A49",
    "ADT_A39": "A39 A40 A41 A42",
    "ADT_A43": "A43 A44 A49",
    "ADT_A44": "A44 A47",
    "ADT_A50": "A50 A51",
    "ADT_A52": "A52 A53 A55",
    "ADT_A54": "A54 A55",
    "ADT_A61": "A61 A62",
    "BAR_P01": "P01 P05",
    "CRM_C01": "C01 C02 C03 C04 C05 C06 C07 C08",
    "CSU_C09": "C09 C10 C11 C12",
    "MDM_T01": "T01 T03 T05 T07 T09 T11",
    "MDM_T02": "T02 T04 T06 T08 T10",
    "ORU_R30": "R30 R31 R32",
    "ORU_R01": "R01 R30 R31 R32 R40 R42 W01",
    "PEX_P07": "P07 P08",
    "PGL_PC6": "PC6 PC7 PC8",
    "PPG_PCG": "PCC PCG PCH PCJ",
    "PPP_PCB": "PCB PCD",
    "PPR_PC1": "PC1 PC2 PC3",
    "QBP_Q21": "Q21 Q22 Q23 Q24 Q25",
    "RDE_O11": "O11 O25",
    "REF_I12": "I12 I13 I14 I15",
    "RPA_I08": "I08 I09 I10 I11",
    "RPI_I01": "I01 I04",
    "RQA_I08": "I08 I09 I10 I11",
    "RQC_I05": "I05 I06",
    "RQI_I01": "I01 I02 I03 I07",
    "RRE_O12": "O12 O26",
    "RRI_I12": "I12 I13 I14 I15",
    "RSP_K21": "K21 K22",
    "RSP_K23": "K23 K24",
    "SIU_S12": "S12 S13 S14 S15 S16 S17 S18 S19 S20 S21 S22 S23 S24 S26",
    "SRM_S01": "S01 S02 S03 S04 S05 S06 S07 S08 S09 S10 S11",
    "SRR_S01": "S01 S02 S03 S04 S05 S06 S07 S08 S09 S10 S11",
    "TCU_U10": "U10 U11",
}
# 2.3 and 2.3.1 had fewer structures for the same events.
_EVENTS_OF_2_3: dict[str, str] = {
    "ADT_A01": "A05 A14 A28 A31",
    "ADT_A02": "A21 A22 A23 A25 A26 A27 A29 A32 A33",
}


@lru_cache(maxsize=512)
def structure_candidates(message_type: str, event: str) -> tuple[str, ...]:
    """Structures for ``message_type^event``, the likeliest first; may be empty."""
    candidates = [f"{message_type}_{event}"] if event else [message_type]
    for table in (_EVENTS, _EVENTS_OF_2_3):
        candidates += [
            structure
            for structure, events in table.items()
            if structure[:3] == message_type and event in events.split()
        ]
    return tuple(dict.fromkeys(candidates))
