"""Objects sent on de-identified, over the wire: what the peer has, and what is refused."""

from __future__ import annotations

import logging
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from adapters.dicom.changing import changes_of
from adapters.dicom.rule_files import steps_of
from gateway.model import Delivered, Refused
from tests.integration.dicom.objects import CT, EXPLICIT, IMPLICIT, PUBLISHED, write
from tests.integration.dicom.storing_peer import delivery, destination, storing_peer

RULES = """rules: trial
steps:
  - deidentify: basic
    keep: [safe-private, descriptors]
    secret_file: secret
    vocabulary: [default, words.txt]
    reason: The trial reads pitch and phase.
"""


def exam(folder: Path, syntax: str) -> Path:
    found = pydicom.dcmread(PUBLISHED / "test_files" / "CT_small.dcm")
    found.remove_private_tags()
    found.PatientName, found.PatientID = "LHERMITTE^Zoé", "285036938201797"
    found.StudyDescription = "CT Abdomen LHERMITTE 285036938201797, Dr Main"
    found.SeriesDescription = "portal Lhermitté hanche grêle"
    found.ProtocolName = "Zoe"
    maker = found.private_block(0x01F1, "SOMEONE ELSE", create=True)
    maker.add_new(0x26, "DS", "7")
    scanner = found.private_block(0x01F1, "ELSCINT1", create=True)
    scanner.add_new(0x26, "DS", "0.938")
    scanner.add_new(0x02, "LO", "LHERMITTE")
    item = Dataset()
    item.PatientName = "LHERMITTE"
    inner = item.private_block(0x0019, "GEMS_ACQU_01", create=True)
    inner.add_new(0x23, "DS", "55")
    found.FrameContentSequence = [item]
    found.file_meta.TransferSyntaxUID = syntax
    path = folder / "exam.dcm"
    pydicom.dcmwrite(path, found, enforce_file_format=True)
    return path


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_the_peer_has_what_is_safe_and_nothing_else(
    tmp_path: Path, syntax: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "secret").write_text("0123456789abcdef", encoding="utf-8")
    (tmp_path / "words.txt").write_text("grêle\n", encoding="utf-8")
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES, encoding="utf-8")
    changes = changes_of(steps_of((rules,)))
    sent = exam(tmp_path, syntax)
    caplog.set_level(logging.DEBUG)
    with storing_peer({CT: [syntax]}) as peer, destination(peer.port, [sent], changes) as there:
        assert isinstance(there.deliver(delivery(), None), Delivered)
    ((uid, body),) = peer.kept.items()
    for secret in ("LHERMITTE", "Lhermitt", "285036938201797", "Main", "Zo"):
        assert secret.encode("latin-1") not in body
    assert "LHERMITTE" not in caplog.text
    read = pydicom.dcmread(write(tmp_path / "made.dcm", body, uid, sop_class=CT, syntax=syntax))
    assert read.SOPInstanceUID == uid
    assert read.StudyDescription == "CT Abdomen"
    assert read.SeriesDescription == "portal hanche grêle"
    assert read.ProtocolName == "REMOVED"
    private = {int(each.tag): each.value for each in read if each.tag.is_private}
    assert private == {0x01F10011: "ELSCINT1", 0x01F11126: 0.938}
    (frame,) = read.FrameContentSequence
    assert frame[0x00191023].value == 55
    assert not frame.PatientName
    codes = [each.CodeValue for each in read.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113105", "113111"]
    assert bytes(read.PixelData) == bytes(pydicom.dcmread(sent).PixelData)


def test_an_object_that_cannot_be_read_through_is_refused(tmp_path: Path) -> None:
    """Its values stand neither in the refusal nor in what is sent: nothing is."""
    (tmp_path / "secret").write_text("0123456789abcdef", encoding="utf-8")
    (tmp_path / "words.txt").write_text("", encoding="utf-8")
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES, encoding="utf-8")
    plain = exam(tmp_path, EXPLICIT).read_bytes()
    broken = plain.replace(b"\x28\x00\x10\x00US\x02\x00", b"\x28\x00\x10\x00FD\x02\x00")
    assert broken != plain
    with (
        storing_peer({CT: [EXPLICIT]}) as peer,
        destination(peer.port, [broken], changes_of(steps_of((rules,)))) as there,
    ):
        found = there.deliver(delivery(), None)
    assert isinstance(found, Refused)
    assert "cannot be read" in found.cause.detail
    assert not peer.kept
