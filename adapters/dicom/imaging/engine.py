"""The process that decodes pixel data. Started by :mod:`adapters.dicom.imaging.process`.

Decoders are large libraries in C that read whatever a sender wrote. So before it sees the first
object this process gives away the right to open anything (``setrlimit(2)``: there is room for the
one descriptor that it is handed, and none beside it) and takes a limit of memory. Everything that
is loaded late must be loaded before :func:`seal`. It holds nothing and may be killed at any moment.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import socket
import struct
import sys
import warnings
from collections.abc import Callable
from typing import Any, BinaryIO

FRAME_BYTES_MAX = 512 << 20
"""A decoded frame that would be larger is not tried."""
RESULT_BYTES_MAX = 128 << 20
SIDE_MAX = 4_096
"""Pixels of a picture's longer side, at most."""
REQUEST_BYTES_MAX = 64 << 10

ANSWER = struct.Struct(">IQ")
"""What an answer begins with: the lengths of what is said and of what was made."""


class NoPicture(Exception):
    """There is none. The message is one of ``no-pixels``, ``no-frame``, ``too-large``,
    ``not-decoded`` and ``unreadable``."""


def load() -> None:
    """Import what decoding and encoding ever need."""
    import numpy as np
    import pydicom.pixels
    import pydicom.uid
    from PIL import Image
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.pixels import get_decoder

    with contextlib.suppress(ImportError):
        import gdcm  # noqa: F401
    Image.init()
    for uid in pydicom.uid.UID_dictionary:
        with contextlib.suppress(NotImplementedError):
            get_decoder(uid)
    tried = Dataset()
    tried.file_meta = FileMetaDataset()
    tried.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    tried.Rows = tried.Columns = 2
    tried.BitsAllocated = tried.BitsStored = 16
    tried.HighBit, tried.PixelRepresentation, tried.SamplesPerPixel = 15, 0, 1
    tried.PhotometricInterpretation = "MONOCHROME2"
    tried.PixelData = bytes(8)
    shown = _eight_bits(np, tried, pydicom.pixels.pixel_array(tried), {})
    for kind in ("JPEG", "PNG"):
        Image.fromarray(shown[0]).resize((3, 3)).save(io.BytesIO(), kind)


def seal(memory_bytes_max: int, descriptors: int) -> None:
    """Give away what decoding does not need."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes_max, memory_bytes_max))
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))


# --- pictures --------------------------------------------------------------------------


def render(file: BinaryIO, asked: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """One frame as JPEG or PNG, through the VOI LUT that is asked for or its own (PS3.4 N.2)."""
    import numpy as np
    from PIL import Image
    from pydicom.pixels import pixel_array

    header = _header(file)
    frames, index = _frame(header, asked)
    pixels = pixel_array(_pixel_source(file, header), index=index)
    shown, used = _eight_bits(np, header, pixels, {**asked, "index": index})
    picture = Image.fromarray(shown)
    width, height = picture.width, picture.height
    wide, high = _size(header, picture.width, picture.height, asked)
    if (wide, high) != (picture.width, picture.height):
        picture = picture.resize((wide, high))
    made = io.BytesIO()
    kind = asked.get("kind", "jpeg")
    if kind == "jpeg":
        picture.save(made, "JPEG", quality=int(asked.get("quality", 90)))
    else:
        picture.save(made, "PNG")
    said = {"frames": frames, "rows": height, "columns": width, **used}
    return said, made.getvalue()


def _header(file: BinaryIO) -> Any:
    from pydicom import dcmread

    file.seek(0)
    return dcmread(file, stop_before_pixels=True)


def _pixel_source(file: BinaryIO, header: Any) -> Any:
    """What frames are decoded from: the file, of which only the frame's part is read, but where
    all of it is deflated."""
    from pydicom import dcmread

    file.seek(0)
    return dcmread(file) if header.file_meta.TransferSyntaxUID.is_deflated else file


def _frame(header: Any, asked: dict[str, Any]) -> tuple[int, int]:
    """How many frames there are, and the index of the one that is asked for."""
    frames = int(header.get("NumberOfFrames", 1) or 1)
    number = int(asked.get("frame", 1))
    if not header.get("Rows") or not header.get("Columns"):
        raise NoPicture("no-pixels")
    if not 1 <= number <= max(frames, 1):
        raise NoPicture("no-frame")
    samples = int(header.get("SamplesPerPixel", 1))
    each = max(1, int(header.get("BitsAllocated", 8)) // 8)
    if int(header.Rows) * int(header.Columns) * samples * each > FRAME_BYTES_MAX:
        raise NoPicture("too-large")
    return frames, number - 1


def _eight_bits(np: Any, header: Any, pixels: Any, asked: dict[str, Any]) -> tuple[Any, Any]:
    """Pixels as they are shown, and which window that was."""
    from pydicom.pixels import apply_color_lut

    photometric = str(header.get("PhotometricInterpretation", "MONOCHROME2"))
    if photometric == "PALETTE COLOR":
        coloured = apply_color_lut(pixels, header)
        shift = 8 if coloured.dtype.itemsize > 1 else 0
        return (coloured >> shift).astype("uint8"), {}
    if pixels.ndim == 3:
        if pixels.dtype.itemsize > 1:
            pixels = pixels >> max(0, int(header.get("BitsStored", 16)) - 8)
        return pixels.astype("uint8"), {}
    values = _modality(np, header, pixels, asked)
    center, width, function = _window(np, header, values, asked)
    shown = _through(np, values, center, width, function)
    if photometric == "MONOCHROME1":
        shown = 255 - shown
    return shown, {"center": center, "width": width}


def _groups(header: Any, index: int) -> list[Any]:
    """Where attributes of one frame may stand: of its own functional groups, the shared ones, the
    data set itself (PS3.3 C.7.6.16)."""
    found = []
    for keyword, place in (
        ("PerFrameFunctionalGroupsSequence", index),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        items = header.get(keyword) or []
        if place < len(items):
            found.append(items[place])
    return found


def _modality(np: Any, header: Any, pixels: Any, asked: dict[str, Any]) -> Any:
    """Stored values to those of the modality (PS3.3 C.11.1)."""
    from pydicom.pixels import apply_modality_lut

    for group in _groups(header, asked.get("index", 0)):
        for item in group.get("PixelValueTransformationSequence") or []:
            slope, intercept = item.get("RescaleSlope", 1), item.get("RescaleIntercept", 0)
            return pixels.astype("float32") * float(slope) + float(intercept)
    return np.asarray(apply_modality_lut(pixels, header), dtype="float32")


def _window(np: Any, header: Any, values: Any, asked: dict[str, Any]) -> tuple[float, float, str]:
    """Center, width and function: as asked, as the object says, or as its values lie."""
    if asked.get("width"):
        return float(asked["center"]), float(asked["width"]), str(asked.get("function", "linear"))
    places = [
        item
        for group in _groups(header, asked.get("index", 0))
        for item in group.get("FrameVOILUTSequence") or []
    ]
    for place in (*places, header):
        center, width = _first(place.get("WindowCenter")), _first(place.get("WindowWidth"))
        if center is not None and width is not None and width >= 1:
            function = str(place.get("VOILUTFunction", "LINEAR")).lower().replace("_", "-")
            return center, width, function
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0, "linear"
    # One value in a hundred at either end says more of a marker or an implant than of the rest.
    low, high = (float(each) for each in np.percentile(finite, (0.5, 99.5)))
    if high <= low:
        low, high = float(finite.min()), float(finite.max())
    return (low + high) / 2, max(high - low, 1.0), "linear"


def _first(value: Any) -> float | None:
    if value is None or value == "":
        return None
    try:
        return float(value if isinstance(value, (int, float, str)) else value[0])
    except (TypeError, ValueError, IndexError):
        return None


def _through(np: Any, values: Any, center: float, width: float, function: str) -> Any:
    """The VOI LUT functions (PS3.3 C.11.2.1.2, C.11.2.1.3)."""
    values = np.nan_to_num(values)
    if function == "sigmoid":
        scaled = 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -60, 60)))
    elif function == "linear-exact":
        scaled = (values - center) / width + 0.5
    else:
        scaled = (values - (center - 0.5)) / max(width - 1, 1e-6) + 0.5
    return (np.clip(scaled, 0, 1) * 255 + 0.5).astype("uint8")


def _size(header: Any, width: int, height: int, asked: dict[str, Any]) -> tuple[int, int]:
    """The picture's size: square pixels, in the viewport, not beyond SIDE_MAX."""
    ratio = 1.0
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio"):
        pair = header.get(keyword)
        if pair and len(pair) == 2 and float(pair[0]) > 0 and float(pair[1]) > 0:
            ratio = min(max(float(pair[0]) / float(pair[1]), 0.1), 10.0)
            break
    wide, high = float(width), height * ratio
    limit_wide = min(int(asked.get("columns") or SIDE_MAX), SIDE_MAX)
    limit_high = min(int(asked.get("rows") or SIDE_MAX), SIDE_MAX)
    scale = min(limit_wide / wide, limit_high / high)
    if scale < 1 or asked.get("columns") or asked.get("rows"):
        wide, high = wide * scale, high * scale
    return max(1, round(wide)), max(1, round(high))


# --- frames and transfer syntaxes -------------------------------------------------------


def frame(file: BinaryIO, asked: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """One frame as it is stored: of native pixel data its samples in little endian, else its
    compressed bytes (PS3.18 10.4.1.1.6)."""
    from pydicom.encaps import get_frame

    header = _header(file)
    frames, index = _frame(header, asked)
    syntax = header.file_meta.TransferSyntaxUID
    if asked.get("decoded") and (syntax.is_encapsulated or syntax.is_deflated):
        return _decoded(_pixel_source(file, header), frames, index)
    if syntax.is_deflated:
        raise NoPicture("not-decoded")
    # The header was read up to the pixel data: its element comes next (PS3.5 7.1).
    long_head = not syntax.is_implicit_VR
    order = "<" if syntax.is_little_endian else ">"
    head = file.read(12 if long_head else 8)
    if len(head) < 8 or struct.unpack(f"{order}HH", head[:4]) != (0x7FE0, 0x0010):
        raise NoPicture("no-pixels")
    if syntax.is_encapsulated:
        made = get_frame(file, index, number_of_frames=frames)
        if len(made) > RESULT_BYTES_MAX:
            raise NoPicture("too-large")
        return {"syntax": str(syntax), "frames": frames}, made
    bits = (
        int(header.Rows) * int(header.Columns)
        * int(header.get("SamplesPerPixel", 1)) * int(header.get("BitsAllocated", 8))
    )  # fmt: skip
    length = bits // 8
    if bits % 8 or length > RESULT_BYTES_MAX:
        raise NoPicture("too-large" if length > RESULT_BYTES_MAX else "not-decoded")
    file.seek(index * length, os.SEEK_CUR)
    made = file.read(length)
    if len(made) < length:
        raise NoPicture("no-frame")
    each = int(header.get("BitsAllocated", 8)) // 8
    if order == ">" and each > 1:
        import numpy as np

        made = np.frombuffer(made, f"u{each}").byteswap().tobytes()
    return {"syntax": "1.2.840.10008.1.2.1", "frames": frames}, made


def _decoded(source: Any, frames: int, index: int) -> tuple[dict[str, Any], bytes]:
    """The samples of one compressed frame in little endian."""
    import numpy as np
    from pydicom.pixels import pixel_array

    pixels = np.asarray(pixel_array(source, index=index, raw=True))
    if pixels.nbytes > RESULT_BYTES_MAX:
        raise NoPicture("too-large")
    made = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    return {"syntax": "1.2.840.10008.1.2.1", "frames": frames}, made


def transcode(file: BinaryIO, asked: dict[str, Any]) -> tuple[dict[str, Any], bytes]:  # noqa: ARG001
    """The object in explicit VR little endian, pixel data decompressed (PS3.5 A.2)."""
    from pydicom import dcmread
    from pydicom.uid import ExplicitVRLittleEndian

    file.seek(0)
    whole = dcmread(file)
    syntax = whole.file_meta.TransferSyntaxUID
    if syntax.is_compressed and "PixelData" in whole:
        whole.decompress(generate_instance_uid=False)
    whole.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = io.BytesIO()
    whole.save_as(made, enforce_file_format=True, implicit_vr=False, little_endian=True)
    if made.tell() > RESULT_BYTES_MAX:
        raise NoPicture("too-large")
    return {}, made.getvalue()


TASKS: dict[str, Callable[[BinaryIO, dict[str, Any]], tuple[dict[str, Any], bytes]]] = {
    "render": render,
    "frame": frame,
    "transcode": transcode,
}


def answer_to(descriptor: int, asked: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Do one task on the file of a descriptor, which is closed afterwards."""
    try:
        with os.fdopen(descriptor, "rb") as file:
            said, made = TASKS[asked["do"]](file, asked)
    except NoPicture as none:
        return {"none": str(none)}, b""
    except MemoryError:
        return {"none": "too-large"}, b""
    except (NotImplementedError, RuntimeError):
        return {"none": "not-decoded"}, b""
    except Exception as error:  # noqa: BLE001  whatever a decoder makes of an object
        no_pixels = isinstance(error, AttributeError)
        return {"none": "no-pixels" if no_pixels else "unreadable"}, b""
    return said, made


def serve(connection: socket.socket, memory_bytes_max: int) -> None:
    """Answer until the other end is closed."""
    warnings.simplefilter("ignore")
    load()
    # Room for one more than there are: the file that comes with a request.
    seal(memory_bytes_max, max(map(int, os.listdir("/proc/self/fd"))) + 1)  # noqa: PTH208
    connection.sendall(b"ready")
    while True:
        request, descriptors, _, _ = socket.recv_fds(connection, REQUEST_BYTES_MAX, 1)
        if not request:
            return
        said, made = (
            answer_to(descriptors[0], json.loads(request))
            if descriptors
            else ({"none": "unreadable"}, b"")
        )
        told = json.dumps(said).encode()
        connection.sendall(ANSWER.pack(len(told), len(made)) + told)
        connection.sendall(made)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
