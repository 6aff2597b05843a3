"""The data dictionary without pydicom says what pydicom says."""

from __future__ import annotations

import pytest
from pydicom import datadict
from pydicom._dicom_dict import DicomDictionary
from pydicom._uid_dict import UID_dictionary
from pydicom.uid import UID
from pynetdicom import ALL_TRANSFER_SYNTAXES
from pynetdicom.sop_class import _STORAGE_CLASSES

from adapters.dicom.dictionary import keyword_of, tag_of, uid_name, vm_of, vr_of
from adapters.dicom.syntaxes import storage_classes, transfer_syntaxes

OVERLAY_DATA, CURVE_DATA, PRIVATE = 0x60023000, 0x50103000, 0x00091001


def test_every_attribute_is_the_same() -> None:
    for tag in (*DicomDictionary, OVERLAY_DATA, CURVE_DATA):
        assert vr_of(tag) == datadict.dictionary_VR(tag)
        assert vm_of(tag) == datadict.dictionary_VM(tag)
        assert keyword_of(tag) == datadict.keyword_for_tag(tag)
        if keyword_of(tag) and tag in DicomDictionary:
            assert tag_of(keyword_of(tag)) == tag


def test_what_the_standard_does_not_have() -> None:
    for tag in (PRIVATE, 0x00087777, 0x60033000):
        with pytest.raises(KeyError):
            vr_of(tag)
        assert keyword_of(tag) == ""
    assert tag_of("PatientsName") is None
    assert tag_of("") is None
    assert uid_name("1.2.3") == "1.2.3"


def test_uids_have_their_names() -> None:
    for uid in UID_dictionary:
        assert uid_name(uid) == UID(uid).name


def test_what_is_negotiated_leaves_out_nothing_that_pynetdicom_knows() -> None:
    assert {str(each) for each in _STORAGE_CLASSES.values()} - set(storage_classes()) == {
        each for each in _STORAGE_CLASSES.values() if ".1.1.200." in each or ".1.1.201." in each
    }
    pixels_elsewhere = {"94", "95", "204", "205"}
    assert {
        each.rpartition(".")[2] for each in set(ALL_TRANSFER_SYNTAXES) - set(transfer_syntaxes())
    } == pixels_elsewhere
