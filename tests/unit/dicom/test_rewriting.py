"""Objects that go in another transfer syntax than they came in: the same values, to the last byte."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pydicom
import pydicom.data
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended

from adapters.dicom.part10 import FileMeta, read_file_meta
from adapters.dicom.rewriting import BIG_ENDIAN, ENCAPSULATED, CannotRewrite, Rewriter
from adapters.dicom.sender import Outgoing

PUBLISHED = Path(pydicom.data.__file__).parent / "test_files"
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
RLE = "1.2.840.10008.1.2.5"


def rewritten(data: bytes, syntax: str) -> Dataset:
    """The object as it goes in a transfer syntax."""
    meta = read_file_meta(io.BytesIO(data), len(data))
    read = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
    uids = str(read.SOPClassUID), str(read.SOPInstanceUID)
    outgoing = Outgoing(Path(), FileMeta(*uids, meta.transfer_syntax, meta.data_set_offset), data)
    made = Rewriter((), 1 << 30).decompressed(outgoing, syntax)
    assert made.data is not None
    return pydicom.dcmread(io.BytesIO(made.data))


def image(syntax: str, *, rows: int = 3, bits: int = 8, frames: int = 2) -> Dataset:
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7.2", "2.999.1"
    made.Rows, made.Columns, made.SamplesPerPixel, made.NumberOfFrames = rows, 3, 1, frames
    made.BitsAllocated, made.BitsStored, made.HighBit = bits, bits, bits - 1
    made.PixelRepresentation, made.PhotometricInterpretation = 0, "MONOCHROME2"
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    return made


def stored(made: Dataset) -> bytes:
    stream = io.BytesIO()
    made.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_big_endian_becomes_little_endian_word_by_word(syntax: str) -> None:
    published = (PUBLISHED / "MR_small_bigendian.dcm").read_bytes()
    little = pydicom.dcmread(PUBLISHED / "MR_small.dcm")
    assert rewritten(published, syntax).PixelData == little.PixelData

    own = image(BIG_ENDIAN, rows=1, bits=32, frames=1)
    own.PixelData = struct.pack(">3L", 1, 2, 3)
    own["PixelData"].VR = "OW"
    own.SelectorOFValue = struct.pack(">f", 1.5)
    own.SelectorODValue = struct.pack(">d", 2.5)
    inner = Dataset()
    inner.RedPaletteColorLookupTableData = struct.pack(">2H", 1, 515)
    own.ReferencedImageSequence = [inner]
    there = rewritten(stored(own), syntax)
    assert struct.unpack("<3L", there.PixelData) == (1, 2, 3)
    assert struct.unpack("<f", there.SelectorOFValue) == (1.5,)
    assert struct.unpack("<d", there.SelectorODValue) == (2.5,)
    (item,) = there.ReferencedImageSequence
    assert struct.unpack("<2H", item.RedPaletteColorLookupTableData) == (1, 515)
    assert (there.Rows, there.BitsAllocated) == (1, 32)


def test_frames_that_are_encapsulated_only_are_put_together() -> None:
    frames = [bytes(range(9)), bytes(range(9, 18))]
    whole = image(ENCAPSULATED)
    whole.PixelData = encapsulate(frames)
    there = rewritten(stored(whole), EXPLICIT)
    assert there.PixelData == b"".join(frames)
    assert not there["PixelData"].is_undefined_length
    whole.PixelData = encapsulate([each[:4] for each in frames])
    with pytest.raises(CannotRewrite, match="long as its header"):
        rewritten(stored(whole), EXPLICIT)


def test_what_is_decompressed_has_no_table_of_its_former_frames() -> None:
    source = pydicom.dcmread(PUBLISHED / "MR_small_RLE.dcm")
    (frame,) = pydicom.encaps.generate_frames(source.PixelData, number_of_frames=1)
    source.PixelData, source.ExtendedOffsetTable, source.ExtendedOffsetTableLengths = (
        encapsulate_extended([frame])
    )
    assert source.file_meta.TransferSyntaxUID == RLE
    there = rewritten(stored(source), EXPLICIT)
    assert "ExtendedOffsetTable" not in there
    assert "ExtendedOffsetTableLengths" not in there
    assert there.PixelData == pydicom.dcmread(PUBLISHED / "MR_small.dcm").PixelData
