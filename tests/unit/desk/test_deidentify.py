"""De-identified messages hold nothing of the persons in the originals, and stay what they are."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from adapters.cda.deidentify import CdaDeidentifier
from adapters.cda.document import read_document
from adapters.dicom.deidentify import DicomDeidentifier
from adapters.hl7.deidentify import Hl7Deidentifier
from adapters.hl7.message import Message
from adapters.hprim.deidentify import HprimDeidentifier
from gateway.masking import NotDeidentifiable, masked, pseudonym, year_only
from gateway.model import Payload

SALT = b"one export"
HL7 = "\r".join(
    (
        r"MSH|^~\&|SGL|LABO|ECLUSE|CHU|20261120093000+0100||ORU^R01^ORU_R01|C77|P|2.5|||||FRA|UNICODE UTF-8",
        r"PID|1||285036938201797^^^ASIP-SANTE-INS-NIR&1.2.250.1.213.1.4.10&ISO^INS||LHERMITTE^Zoé^^^^^L||19850314|F|||12 RUE DES LILAS^^ROUEN^^76000^FRA||0235000000|||M^Mariée^L||||||ROUEN",
        r"NK1|1|LHERMITTE^Paul|SPO^conjoint^HL70063",
        r"OBR|1|A77^CHU|B77^LABO|2823-3^Potassium de Zoé^LN|||20261120093000+0100|||||||||801234534765^DURAND^HÉLÈNE",
        r"OBX|1|NM|2823-3^Potassium^LN||4.10|mmol/L|3.90-5.50|N|||F|||20261120093000",
        r"OBX|2|FT|8251-1^Commentaire^LN||Vue avec Mme LHERMITTE\.br\tel 0235000000||||||F",
        r"OBX|3|CE|600-7^Germe^LN||112283007^Escherichia coli^SCT||||||F",
        r"ZPI|LHERMITTE|285036938201797|whatever",
    )
)
SECRETS = (
    "LHERMITTE", "Zoé", "Paul", "285036938201797", "19850314", "LILAS", "ROUEN", "0235000000",
    "DURAND", "HÉLÈNE", "801234534765", "C77", "A77", "whatever", "20261120",
)  # fmt: skip


def test_hl7_keeps_its_shape_and_loses_its_persons() -> None:
    found = Hl7Deidentifier().deidentify(HL7.encode(), encoding="", salt=SALT).decode()
    for secret in SECRETS:
        assert secret not in found
    read = Message.read(found.encode())
    assert [read.name(n) for n in range(len(read.segments))] == [
        "MSH", "PID", "NK1", "OBR", "OBX", "OBX", "OBX", "ZPI",
    ]  # fmt: skip
    assert read.text(0, 9) == "ORU^R01^ORU_R01"
    assert read.text(0, 4) == "LABO"
    assert read.text(1, 8) == "F"
    assert read.text(1, 7) == "19850101"
    assert read.text(1, 3).endswith("^^^ASIP-SANTE-INS-NIR&1.2.250.1.213.1.4.10&ISO^INS")
    assert read.text(4, 3) == "2823-3^Xxxxxxxxx^LN"
    assert read.text(4, 5) == "4.10"
    assert read.text(6, 5) == "112283007^Xxxxxxxxxxx xxxx^SCT"


WORD = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyzéèç", min_size=6, max_size=14)


@settings(max_examples=60, deadline=None)
@given(
    secret=WORD.filter(lambda word: len(set(word)) > 2 and not re.fullmatch("[Xx]+", word)),
    segment=st.sampled_from(["PID", "NK1", "PV1", "OBR", "OBX", "ZXX", "AL1", "TXA", "ORC"]),
    field=st.integers(3, 30),
    component=st.integers(0, 8),
)
def test_a_name_anywhere_goes(secret: str, segment: str, field: int, component: int) -> None:
    """Wherever somebody writes a name that is not a code, a type or an authority, it is gone."""
    kept_by_design = {"ID", "IS", "HD"}
    line = f"{segment}|" + "|" * (field - 1) + "^" * component + secret
    message = f"{HL7.split(chr(13))[0]}\r{line}".encode()
    found = Hl7Deidentifier().deidentify(message, encoding="", salt=SALT).decode()
    from adapters.hl7.grammar import field_definition

    known = field_definition("2.5", segment, field)
    datatype = known.datatype if known is not None else ""
    coded = datatype in {"CE", "CWE", "CNE"} and component in {0, 2, 3, 5}
    authority = datatype == "CX" and component in {3, 4}
    numeric = datatype in {"NM", "SN", "SI"}
    of_a_person = segment in {"PID", "NK1"}
    if authority or (not of_a_person and (datatype in kept_by_design or coded or numeric)):
        return
    assert secret not in found


def test_what_is_no_hl7_is_not_deidentified() -> None:
    with pytest.raises(NotDeidentifiable):
        Hl7Deidentifier().deidentify(b"LHERMITTE", encoding="", salt=SALT)


def test_masks_keep_the_shape() -> None:
    assert masked("Zoé LHERMITTE-92, 12'") == "Xxx XXXXXXXXX-99, 99'"
    assert year_only("19850314") == "19850101"
    assert year_only("198503141530+0100") == "198501010000+0000"
    assert year_only("1985") == "1985"
    assert year_only("soon") == "xxxx"
    assert pseudonym("a", b"1") == pseudonym("a", b"1") != pseudonym("a", b"2")


def test_cda_documents_lose_their_persons(shared: Path) -> None:
    """Of the ANS's examples: none of the words of the header's persons, nor of the narrative."""
    for name in ("BIO-CR-BIO_2024.01_TSH_1.xml", "IPS-FR_2024.01.xml", "VAC-NOTE_2023.01.xml"):
        data = (shared / "corpora" / "cda" / name).read_bytes()
        before = read_document(Payload.from_bytes(data)).root
        found = CdaDeidentifier().deidentify(data, encoding="", salt=SALT)
        after = read_document(Payload.from_bytes(found)).root
        assert [each.tag for each in after.iter()] == [each.tag for each in before.iter()]
        said = found.decode()
        spoken = {
            word
            for element in before.iter()
            if isinstance(element.tag, str)
            for word in re.findall(r"[^\W\d_]{5,}", (element.text or "") + (element.tail or ""))
        }
        left = " ".join(
            text for element in after.iter() for text in (element.text or "", element.tail or "")
        )
        assert not {word for word in spoken if word in left}
        for path in ("patient/name/given", "patient/birthTime/@value", "patientRole/id/@extension"):
            steps = "//v3:" + path.replace("/", "/v3:").replace("v3:@", "@")
            for value in before.xpath(steps, namespaces={"v3": "urn:hl7-org:v3"}):
                text = value if isinstance(value, str) else (value.text or "")
                if len(text) > 4:
                    assert text not in said, path
        codes = "//v3:code/@code"
        spaces = {"v3": "urn:hl7-org:v3"}
        assert after.xpath(codes, namespaces=spaces) == before.xpath(codes, namespaces=spaces)
        assert etree.tostring(after)


def test_dicom_objects_lose_their_persons(shared: Path) -> None:
    path = shared / "corpora" / "dicom" / "sr_document.dcm"
    before = pydicom.dcmread(path, force=True)
    found = DicomDeidentifier().deidentify(path.read_bytes(), encoding="", salt=SALT)
    after = pydicom.dcmread(io.BytesIO(found))
    assert after.SOPClassUID == before.SOPClassUID
    assert after.SOPInstanceUID != before.SOPInstanceUID
    assert after.PatientIdentityRemoved == "YES"
    forbidden = {"PN", "DA", "TM", "DT", "ST", "LT", "UT", "AE", "AS", "OB", "OW", "UN", "UR"}
    codes = {"CodeValue", "CodingSchemeDesignator", "CodingSchemeVersion", "CodeMeaning"}
    for element in after.iterall():
        assert element.VR not in forbidden, element.keyword
        assert not element.tag.is_private
        if element.VR in {"LO", "SH"}:
            assert element.keyword in codes
    originals = {
        str(each.value) for each in before.iterall()
        if each.VR in {"PN", "LO", "SH", "DA"} and each.keyword not in codes
        and len(str(each.value)) > 4
    }  # fmt: skip
    assert originals
    text = found.decode("latin-1")
    assert not {each for each in originals if each in text}
    again = DicomDeidentifier().deidentify(path.read_bytes(), encoding="", salt=SALT)
    assert again == found, "within one export the same UID becomes the same"
    with pytest.raises(NotDeidentifiable):
        DicomDeidentifier().deidentify(b"\0" * 300, encoding="", salt=SALT)


def test_hprim_keeps_the_names_of_segments_only() -> None:
    text = "H|~^\\&|C7||SIL|ORU\rP|1||123456||LHERMITTE^ZOE||19850314\rOBX|1|NM|K||4.1"
    found = HprimDeidentifier().deidentify(text.encode(), encoding="utf-8", salt=SALT).decode()
    assert [line.split("|")[0] for line in found.split("\r")] == ["H", "P", "OBX"]
    assert "LHERMITTE" not in found
    assert "123456" not in found
    with pytest.raises(NotDeidentifiable):
        HprimDeidentifier().deidentify(b"\xff\x00", encoding="utf-8", salt=SALT)
