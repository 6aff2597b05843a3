"""The DICOM file's head, written and read."""

from __future__ import annotations

import io
import zlib

import pydicom
import pytest

from adapters.dicom.part10 import (
    IMPLEMENTATION_CLASS_UID,
    NotPart10,
    file_head,
    inflate,
    read_file_meta,
)

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


def test_the_head_is_the_same_for_the_same_instance_and_another_reader_reads_it() -> None:
    head = file_head(CT, "1.2.3", EXPLICIT)
    assert head == file_head(CT, "1.2.3", EXPLICIT)
    assert head[:132] == bytes(128) + b"DICM"
    meta = pydicom.dcmread(io.BytesIO(head)).file_meta
    assert meta.MediaStorageSOPClassUID == CT
    assert meta.MediaStorageSOPInstanceUID == "1.2.3"
    assert meta.TransferSyntaxUID == EXPLICIT
    assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert meta.FileMetaInformationGroupLength == len(head) - 144
    assert len(meta) == 6


def test_the_head_is_read_back() -> None:
    head = file_head(CT, "1.2.3", EXPLICIT)
    meta = read_file_meta(io.BytesIO(head + b"data"), len(head) + 4)
    assert (meta.sop_class, meta.sop_instance, meta.transfer_syntax) == (CT, "1.2.3", EXPLICIT)
    assert meta.data_set_offset == len(head)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"MZ" + bytes(200),
        bytes(128) + b"DICM",
        file_head(CT, "1.2.3", EXPLICIT)[:160],
        bytes(128) + b"DICM" + b"\x02\x00\x02\x00UI\xff\xff" + b"1" * 10,
        file_head(CT, "1.2.3", ""),
    ],
)
def test_what_is_no_file_is_said(raw: bytes) -> None:
    with pytest.raises(NotPart10):
        read_file_meta(io.BytesIO(raw), len(raw))


def test_inflating_ends_at_the_limit_and_at_damage() -> None:
    engine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    raw = engine.compress(b"a" * 5_000_000) + engine.flush()
    assert inflate(io.BytesIO(b"head" + raw), 4, 1_000) == b"a" * 1_000
    assert inflate(io.BytesIO(raw), 0, 1 << 23) == b"a" * 5_000_000
    broken = inflate(io.BytesIO(raw[: len(raw) // 2]), 0, 1 << 23)
    assert broken
    assert set(broken) == {ord("a")}
    assert inflate(io.BytesIO(b"\xff" * 100), 0, 100) == b""
