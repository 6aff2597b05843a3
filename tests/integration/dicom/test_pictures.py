"""Pictures of hostile objects: none is made, in bounds, and the next one is."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from adapters.dicom.imaging.process import NoPicture, Pictures
from adapters.dicom.part10 import file_head
from adapters.dicom.web.settings import DicomwebSettings
from gateway.model import Payload
from tests.integration.dicom.objects import (
    CT,
    DEFLATED,
    EXPLICIT,
    PUBLISHED,
    element,
)

GOOD = PUBLISHED / "test_files" / "CT_small.dcm"
MEMORY = 256 << 20


@pytest.fixture(scope="module")
def pictures() -> Iterator[Pictures]:
    made = Pictures(lambda: DicomwebSettings(picture_memory_bytes=MEMORY, picture_seconds=60))
    yield made
    made.close()


def pixels(rows: int, columns: int, frames: int = 1) -> bytes:
    """The elements that say how pixels are arranged."""
    short = [
        (2, 1),
        (0x10, rows),
        (0x11, columns),
        (0x100, 16),
        (0x101, 16),
        (0x102, 15),
        (0x103, 0),
    ]
    made = [(0x00280004, element(0x00280004, "CS", "MONOCHROME2"))]
    made.append((0x00280008, element(0x00280008, "IS", str(frames))))
    made += [
        (0x00280000 + n, element(0x00280000 + n, "US", struct.pack("<H", v))) for n, v in short
    ]
    identity = element(0x00080016, "UI", CT) + element(0x00080018, "UI", "1.2.3")
    return identity + b"".join(raw for _, raw in sorted(made))


def nested(depth: int) -> bytes:
    one = struct.pack("<HH2sHL", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF)
    return (one + struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)) * depth


def bomb() -> bytes:
    """A deflated object of 384 MiB of zeros."""
    engine = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = pixels(64, 64) + struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OW", 0, 384 << 20)
    pieces = [engine.compress(head)]
    block = bytes(1 << 20)
    pieces += [engine.compress(block) for _ in range(384)]
    return file_head(CT, "1.2.3", DEFLATED) + b"".join([*pieces, engine.flush()])


HEAD = file_head(CT, "1.2.3", EXPLICIT)
HOSTILE = {
    "four gigabytes declared": lambda: (
        HEAD + pixels(65535, 65535) + element(0x7FE00010, "OW", b"\1\2", length=0xFFFFFFF0),
        {"too-large"},
    ),
    "fewer bytes than pixels": lambda: (
        HEAD + pixels(512, 512) + element(0x7FE00010, "OW", b"\1\2" * 100), {"unreadable"},
    ),
    "nested 400 deep": lambda: (HEAD + nested(400), {"not-decoded", "unreadable"}),
    "nested without end": lambda: (HEAD + nested(100_000), {"not-decoded", "unreadable"}),
    "a deflated bomb": lambda: (bomb(), {"too-large"}),
    "compressed nonsense": lambda: (
        file_head(CT, "1.2.3", "1.2.840.10008.1.2.4.70") + pixels(64, 64)
        + struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF)
        + struct.pack("<HHL", 0xFFFE, 0xE000, 0) + struct.pack("<HHL", 0xFFFE, 0xE000, 64)
        + bytes(range(64)) + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0),
        {"not-decoded", "unreadable", "ended"},
    ),
    "no pixels": lambda: (HEAD + element(0x00080016, "UI", CT), {"no-pixels"}),
    "no DICOM": lambda: (b"nothing of the kind", {"unreadable"}),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_object_has_no_picture_and_the_next_one_has(
    pictures: Pictures, name: str
) -> None:
    data, why = HOSTILE[name]()
    with pytest.raises(NoPicture) as refused:
        pictures.make(Payload.from_bytes(data), "render", kind="jpeg")
    assert refused.value.why in why
    made = pictures.make(Payload.from_file(GOOD), "render", kind="png", quality=len(name))
    assert Image.open(BytesIO(made.data)).size == (128, 128)
    assert made.said["frames"] == 1


def test_the_process_can_open_nothing_and_is_replaced_when_it_is_late() -> None:
    slow = Pictures(lambda: DicomwebSettings(picture_seconds=0.001))
    try:
        with pytest.raises(NoPicture) as refused:
            # Starting takes no part of the time of a picture.
            slow.make(Payload.from_file(GOOD), "transcode")
        assert refused.value.why == "late"
    finally:
        slow.close()
    made = Pictures(DicomwebSettings)
    try:
        assert made.make(Payload.from_file(GOOD), "render").said["rows"] == 128
        process = made._idle.get()
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        made._idle.put(process)
        files = next(line for line in limits.splitlines() if line.startswith("Max open files"))
        assert int(files.split()[3]) < 64  # as many as its libraries have open, and no more
    finally:
        made.close()
    with pytest.raises(NoPicture) as refused:
        made.make(Payload.from_file(GOOD), "frame")
    assert refused.value.why == "busy"


def test_pictures_may_be_off() -> None:
    off = Pictures(lambda: DicomwebSettings(pictures=False))
    with pytest.raises(NoPicture) as refused:
        off.make(Payload.from_file(GOOD), "render")
    assert refused.value.why == "off"
    assert not off.on()
