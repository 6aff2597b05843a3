"""Small data sets that list instances: read within limits, written byte by byte.

Reading uses the bounded walk of :mod:`adapters.dicom.elements`; nothing here recurses.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from adapters.dicom.dataset import Content, Level, TooLarge
from adapters.dicom.elements import DataSetError, Encoding, Walk, Window, encoding_of

INSTANCES_MAX = 20_000
ELEMENTS_MAX = 500_000
"""More elements than a list of as many instances needs."""

REFERENCED_CLASS, REFERENCED_INSTANCE = 0x00081150, 0x00081155
FAULTS = (DataSetError, TooLarge)
"""What reading raises for bytes that are no data set."""


def read_level(data_set: bytes, transfer_syntax: str) -> Level:
    """A data set of a command. Raises DataSetError, TooLarge."""
    encoding = encoding_of(transfer_syntax)
    if encoding.deflated:
        raise DataSetError("a deflated data set has no place in a command", 0)
    walk = Walk(Window.of(data_set), elements_max=ELEMENTS_MAX)
    found = list(walk.level(0, len(data_set), encoding))
    return Level(Content(data_set, 0, len(data_set), None), encoding, found, None)


def references(items: Iterable[Level]) -> list[tuple[str, str]]:
    """SOP class and instance of items that refer to instances; those without are left out."""
    found = ((item.text(REFERENCED_CLASS), item.text(REFERENCED_INSTANCE)) for item in items)
    return [pair for pair in found if pair[1]]


# --- writing ---------------------------------------------------------------------------

_LONG = frozenset({"SQ", "OB", "UN"})


def element(encoding: Encoding, tag: int, vr: str, value: bytes | str | int) -> bytes:
    """One element. UIDs are padded with NUL, other texts with a blank (PS3.5 6.2)."""
    order = "<" if encoding.little else ">"
    if isinstance(value, int):
        raw = struct.pack(order + "H", value)
    elif isinstance(value, str):
        raw = value.encode("ascii")
    else:
        raw = value
    if len(raw) % 2:
        raw += b"\0" if vr == "UI" else b" "
    head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    if not encoding.explicit:
        return head + struct.pack(order + "L", len(raw)) + raw
    if vr in _LONG:
        return head + vr.encode() + struct.pack(order + "HL", 0, len(raw)) + raw
    return head + vr.encode() + struct.pack(order + "H", len(raw)) + raw


def sequence(encoding: Encoding, tag: int, items: Sequence[bytes]) -> bytes:
    """A sequence of items, all lengths explicit."""
    order = "<" if encoding.little else ">"
    body = b"".join(struct.pack(order + "HHL", 0xFFFE, 0xE000, len(each)) + each for each in items)
    return element(encoding, tag, "SQ", body)


def reference(encoding: Encoding, sop_class: str, instance: str, failure: int = 0) -> bytes:
    """An item that refers to an instance; with a failure reason (0008,1197) when not 0."""
    body = element(encoding, REFERENCED_CLASS, "UI", sop_class)
    body += element(encoding, REFERENCED_INSTANCE, "UI", instance)
    return body + (element(encoding, 0x00081197, "US", failure) if failure else b"")
