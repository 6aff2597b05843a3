"""Objects that do not go as they came: decompressed, or changed by rules. In memory, bounded."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from adapters.dicom.loading import load_pydicom
from adapters.dicom.part10 import FileMeta, file_head
from adapters.dicom.sender import Outgoing
from adapters.dicom.syntaxes import UNCOMPRESSED

REVERSIBLE = frozenset(
    {
        "1.2.840.10008.1.2.5",  # RLE
        "1.2.840.10008.1.2.4.57",  # JPEG lossless
        "1.2.840.10008.1.2.4.70",
        "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
        "1.2.840.10008.1.2.4.90",  # JPEG 2000 lossless
        "1.2.840.10008.1.2.4.201",  # HTJ2K lossless
        "1.2.840.10008.1.2.4.202",
    }
)
"""Compressed without loss, so that what is decompressed holds the same values (PS3.5 annex A.4)."""

IMPLICIT = "1.2.840.10008.1.2"
BIG_ENDIAN, ENCAPSULATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.98"
_PIXELS = 0x7FE00010
_WORDS = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}
"""Representations of words, and their bytes (PS3.5 table 6.2-1)."""


class CannotRewrite(Exception):
    """An object cannot be changed as it would have to be. No value is named."""


Change = Callable[[Any], None]
"""Changes a pydicom data set in place. May raise CannotRewrite."""


class Rewriter:
    """Changes objects on their way. Thread-safe. ``bytes_max`` bounds each of them."""

    def __init__(self, changes: Sequence[Change], bytes_max: int) -> None:
        self._changes = tuple(changes)
        self._bytes_max = bytes_max

    def changed(self, outgoing: Outgoing) -> Outgoing:
        """The object after all changes, in its own transfer syntax; the same object, byte for
        byte, when there are none. Raises CannotRewrite."""
        if not self._changes:
            return outgoing
        found = self._read(outgoing)
        for change in self._changes:
            try:
                change(found)
            except CannotRewrite:
                raise
            except Exception:  # noqa: BLE001  pydicom's faults are many, and quote values
                raise CannotRewrite("it has an attribute that cannot be read") from None
        return _written(found, outgoing.meta.transfer_syntax)

    def decompressed(self, outgoing: Outgoing, syntax: str) -> Outgoing:
        """The object in explicit or implicit VR little endian. Raises CannotRewrite."""
        stored = outgoing.meta.transfer_syntax
        if stored not in UNCOMPRESSED and stored not in REVERSIBLE:
            raise CannotRewrite("it is compressed with loss, or as a video")
        found = self._read(outgoing)
        try:
            if stored == BIG_ENDIAN:
                _swap(found)
            elif stored == ENCAPSULATED:
                _open(found)
        except CannotRewrite:
            raise
        except Exception:  # noqa: BLE001  pydicom's faults are many, and quote values
            raise CannotRewrite("its values cannot be put in little endian") from None
        if stored not in UNCOMPRESSED:
            _decompress(found, stored)
        return _written(found, syntax)

    def _read(self, outgoing: Outgoing) -> Any:
        import pydicom

        size = len(outgoing.data) if outgoing.data is not None else outgoing.path.stat().st_size
        if size > self._bytes_max:
            raise CannotRewrite("it is larger than rewritten_bytes_max")
        data = outgoing.data if outgoing.data is not None else outgoing.path.read_bytes()
        try:
            return pydicom.dcmread(io.BytesIO(data), force=True)
        except Exception:  # noqa: BLE001  pydicom's faults are many, and quote values
            raise CannotRewrite("it cannot be read") from None


def _swap(found: Any) -> None:
    """Put the bytes of words in little endian, at all depths: of these pydicom keeps the bytes,
    where it reads and writes other numbers anew."""
    for element in found:
        if element.VR == "SQ":
            for item in element.value:
                _swap(item)
            continue
        width = _WORDS.get(str(element.VR), 1)
        if element.tag == _PIXELS and width == 2:
            # Samples of 32 or 64 bits are words of their own length (PS3.5 8.1.1).
            width = max(width, int(found.BitsAllocated) // 8)
        raw = element.value
        if width == 1 or not raw:
            continue
        if len(raw) % width:
            raise CannotRewrite("a value holds no whole number of words")
        swapped = bytearray(len(raw))
        for place in range(width):
            swapped[place::width] = raw[width - 1 - place :: width]
        element.value = bytes(swapped)


def _open(found: Any) -> None:
    """Put the pixels of encapsulated frames, which are not compressed (PS3.5 A.4.11), together."""
    load_pydicom()
    from pydicom.encaps import generate_frames

    if "PixelData" not in found:
        return
    number = int(found.get("NumberOfFrames", 1) or 1)
    each = int(found.BitsAllocated)
    bits = int(found.Rows) * int(found.Columns) * int(found.SamplesPerPixel) * each
    frames = list(generate_frames(found.PixelData, number_of_frames=number))
    # A frame of an odd length has a byte behind it.
    if bits % 8 or len(frames) != number or any(len(one) < bits // 8 for one in frames):
        raise CannotRewrite("its frames are not as long as its header says")
    _plain(found, b"".join(one[: bits // 8] for one in frames), each)


def _plain(found: Any, pixels: bytes, bits: int) -> None:
    """Native pixel data in the place of encapsulated one; ``bits`` are those of a sample."""
    found.PixelData = pixels + b"\0" * (len(pixels) % 2)
    found["PixelData"].VR = "OB" if bits <= 8 else "OW"
    found["PixelData"].is_undefined_length = False
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        # Of encapsulated frames only (PS3.3 C.7.6.3.1.8).
        if keyword in found:
            delattr(found, keyword)


def _decompress(found: Any, syntax: str) -> None:
    """Put the pixels of all frames, plain, in the place of the compressed ones."""
    load_pydicom()
    from pydicom.pixels import get_decoder

    if "PixelData" not in found:
        return
    try:
        decoder = get_decoder(syntax)
        if not decoder.is_available:
            raise CannotRewrite("no decoder for its transfer syntax is installed")
        frames, last = [], dict[str, Any]()
        for frame, described in decoder.iter_buffer(found, raw=True):
            frames.append(bytes(frame))
            last = described
    except CannotRewrite:
        raise
    except Exception:  # noqa: BLE001  decoders' faults are many, and quote values
        raise CannotRewrite("its pixels cannot be decompressed") from None
    _plain(found, b"".join(frames), int(last["bits_allocated"]))
    found.PhotometricInterpretation = str(last["photometric_interpretation"])
    if int(found.get("SamplesPerPixel", 1) or 1) > 1:
        found.PlanarConfiguration = int(last["planar_configuration"])


def _written(found: Any, syntax: str) -> Outgoing:
    """The data set as a file in memory."""
    import pydicom
    from pydicom.uid import UID

    sop_class = str(found.get("SOPClassUID", "") or "")
    sop_instance = str(found.get("SOPInstanceUID", "") or "")
    if not (sop_class and sop_instance):
        raise CannotRewrite("it has no SOP class or instance UID")
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = sop_instance
    found.file_meta = meta
    written = io.BytesIO()
    try:
        # A data set of its own, without a head: the encoding is the syntax's.
        pydicom.dcmwrite(written, found, enforce_file_format=True)
    except Exception:  # noqa: BLE001  pydicom's faults are many, and quote values
        raise CannotRewrite("it cannot be written in its transfer syntax") from None
    body = _data_set(written.getvalue())
    head = file_head(sop_class, sop_instance, syntax)
    return Outgoing(
        Path(), FileMeta(sop_class, sop_instance, syntax, len(head)), b"".join((head, body))
    )


def _data_set(data: bytes) -> bytes:
    """What stands behind the head that pydicom wrote."""
    from adapters.dicom.part10 import read_file_meta

    return data[read_file_meta(io.BytesIO(data), len(data)).data_set_offset :]
