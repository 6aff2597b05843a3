"""Pictures and frames of instances (PS3.18 10.4.1.1.3 to 10.4.1.1.6)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from adapters.dicom.imaging.process import Made, NoPicture
from adapters.dicom.web.media import ANY_SYNTAX, MULTIPART, wishes
from adapters.dicom.web.retrieving import Multipart, NotAcceptable, NotHeld
from gateway.model import Payload

OCTETS = "application/octet-stream"
FRAMES_MAX = 100
"""Frames of one answer; more are asked for in several requests."""
BODY_BYTES_MAX = 256 << 20
THUMBNAIL_SIDE = 192
SIDE_MAX = 4_096

_COMPRESSED = {
    "1.2.840.10008.1.2.4.50": "image/jpeg",
    "1.2.840.10008.1.2.4.51": "image/jpeg",
    "1.2.840.10008.1.2.4.57": "image/jpeg",
    "1.2.840.10008.1.2.4.70": "image/jpeg",
    "1.2.840.10008.1.2.4.80": "image/jls",
    "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2",
    "1.2.840.10008.1.2.4.91": "image/jp2",
    "1.2.840.10008.1.2.5": "image/dicom-rle",
}
"""Media types of compressed frames (table 8.7.3-2)."""


class BadParameter(Exception):
    """A query parameter cannot be read. The message is for its sender."""


class Makes(Protocol):
    """Makes pictures; :class:`adapters.dicom.imaging.process.Pictures` does."""

    def make(self, payload: Payload, do: str, **asked: Any) -> Made:
        """Raises NoPicture."""
        ...


def transcoded(makes: Makes, payload: Payload) -> Payload:
    """An instance in explicit VR little endian. Raises NotAcceptable."""
    try:
        return Payload.from_bytes(makes.make(payload, "transcode").data)
    except NoPicture as none:
        raise NotAcceptable(
            f"it cannot be given in another transfer syntax: {none}; ask for transfer-syntax=*"
        ) from None


def wanted_picture(accept: str) -> str:
    """``jpeg`` or ``png``, as the Accept field wants it (8.7.4). Raises NotAcceptable."""
    for wish in wishes(accept):
        if wish.name in {"*/*", "image/*", "image/jpeg"}:
            return "jpeg"
        if wish.name == "image/png":
            return "png"
    raise NotAcceptable("pictures are image/jpeg or image/png")


def picture_parameters(parameters: Mapping[str, str]) -> dict[str, Any]:
    """``window``, ``viewport`` and ``quality`` (8.3.5.1). Raises BadParameter."""
    found: dict[str, Any] = {}
    if window := parameters.get("window", ""):
        parts = window.split(",")
        function = (parts[2] if len(parts) > 2 else "linear").strip().lower()
        try:
            center, width = float(parts[0]), float(parts[1])
        except (ValueError, IndexError):
            raise BadParameter("window is center,width or center,width,function") from None
        known = {"linear", "linear-exact", "sigmoid"}
        if not (math.isfinite(center) and math.isfinite(width) and width > 0) or len(parts) > 3:
            raise BadParameter("window has a center and a width above 0")
        if function not in known:
            raise BadParameter("window's function is linear, linear-exact or sigmoid")
        found |= {"center": center, "width": width, "function": function}
    if viewport := parameters.get("viewport", ""):
        sides = viewport.split(",")
        if len(sides) != 2 or not all(each.isascii() and each.isdigit() for each in sides):
            # Parts of an image (sx,sy,sw,sh) are not cut out.
            raise BadParameter("viewport is width,height")
        columns, rows = (int(each[:6]) for each in sides)
        if not (0 < columns <= SIDE_MAX and 0 < rows <= SIDE_MAX):
            raise BadParameter(f"viewport's sides are 1 to {SIDE_MAX}")
        found |= {"columns": columns, "rows": rows}
    if quality := parameters.get("quality", ""):
        if not (quality.isascii() and quality.isdigit() and 1 <= int(quality[:4]) <= 100):
            raise BadParameter("quality is 1 to 100")
        found["quality"] = int(quality)
    return found


def frame_numbers(text: str) -> list[int]:
    """``1,3,4`` (table 10.1-1). Raises BadParameter."""
    parts = text.split(",")
    if len(parts) > FRAMES_MAX:
        raise BadParameter(f"at most {FRAMES_MAX} frames in one request")
    if not all(p.isascii() and p.isdigit() and 0 < len(p) <= 9 and int(p) for p in parts):
        raise BadParameter("frames are numbers from 1 on, separated by commas")
    return [int(part) for part in parts]


def picture(makes: Makes, payload: Payload, kind: str, **asked: Any) -> Made:
    """One picture. Raises NotHeld, NotAcceptable."""
    try:
        return makes.make(payload, "render", kind=kind, **asked)
    except NoPicture as none:
        raise _refused(none) from None


def frames(makes: Makes, payload: Payload, numbers: Sequence[int], accept: str, *, stored: str
           ) -> tuple[str, bytes]:  # fmt: skip
    """The media type and the body of frames as they are stored, in the transfer syntax
    ``stored``, or decoded where that is asked for. Raises NotHeld, NotAcceptable."""
    as_stored = _as_stored(accept, _COMPRESSED.get(stored, OCTETS))
    parts: list[tuple[str, bytes]] = []
    total = 0
    for number in numbers:
        try:
            made = makes.make(payload, "frame", frame=number, decoded=not as_stored)
        except NoPicture as none:
            raise _refused(none) from None
        syntax = str(made.said.get("syntax", ""))
        kind = _COMPRESSED.get(syntax, OCTETS)
        total += len(made.data)
        if total > BODY_BYTES_MAX:
            raise NotAcceptable("these frames are too large for one answer; ask for fewer")
        parts.append((f"{kind}; transfer-syntax={syntax}", made.data))
    root = parts[0][0].partition(";")[0]
    multipart = Multipart(root)
    body = b"".join(multipart.head(kind) + data + b"\r\n" for kind, data in parts)
    return multipart.content_type, body + multipart.end()


def _as_stored(accept: str, stored: str) -> bool:
    """Whether frames are taken as they are stored, as the media type ``stored``. Raises
    NotAcceptable."""
    for wish in wishes(accept):
        kind = wish.root if wish.name == MULTIPART else wish.name
        if kind in {"*/*", "image/*", ""} or wish.syntax == ANY_SYNTAX:
            return True
        if kind == OCTETS:
            return False
        if kind == stored:
            return True
    raise NotAcceptable(f"these frames are {stored}, or {OCTETS}")


def _refused(none: NoPicture) -> Exception:
    if none.why == "no-frame":
        return NotHeld()
    return NotAcceptable(str(none))
