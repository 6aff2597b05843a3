"""A data set in the DICOM JSON model (PS3.18 annex F), from its encoded bytes.

Text is decoded by its own character set and is UTF-8 from here on, so that the model says
``ISO_IR 192`` of itself (F.2.1). Values are read through :class:`~adapters.dicom.dataset.Level`,
whose limits hold here too: nothing longer than :data:`TEXT_BYTES_MAX` stands in the model.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable
from typing import Any

from adapters.dicom.dataset import SPECIFIC_CHARACTER_SET, Level
from adapters.dicom.reading import READING_FAULTS
from adapters.dicom.values import PERSON_GROUPS, texts

INLINE_BYTES_MAX = 1 << 10
"""Binary values up to this many bytes stand in the model itself (InlineBinary, F.2.7)."""
TEXT_BYTES_MAX = 1 << 16
"""Longer text is bulk data."""
ITEMS_MAX = 100_000
"""Items and values that one model may have in all; what comes behind them is left out."""
DIGITS_EXACT = 15
"""Decimals with more digits are text in the model: no reader's number would keep them (F.2.3)."""

Attributes = dict[str, dict[str, Any]]
"""Tag, as eight upper-case hex digits, to ``vr`` and ``Value``, ``InlineBinary`` or
``BulkDataURI``."""

BulkAddress = Callable[[str], str]
"""Gives the address of bulk data for its path of tags and item numbers (``7FE00010``,
``00400275/1/00081120``)."""

_INTEGERS = frozenset({"US", "SS", "UL", "SL", "UV", "SV"})


class _Making:
    """What all levels of one model share: where bulk data is, and how much more it takes."""

    __slots__ = ("bulk", "left")

    def __init__(self, bulk: BulkAddress | None) -> None:
        self.bulk = bulk
        self.left = ITEMS_MAX

    def take(self, count: int) -> bool:
        self.left -= count
        return self.left >= 0


def attributes_of(
    level: Level, tags: Iterable[int] | None = None, *, bulk: BulkAddress | None = None
) -> Attributes:
    """The attributes of a data set in rising order of their tags; all, or those of ``tags``.

    Group lengths are left out (F.2.2). Bulk data has the address that ``bulk`` gives and, without
    it, no value. An attribute that cannot be read has no value either.
    """
    return _model(level, tags, "", _Making(bulk))


def _model(level: Level, tags: Iterable[int] | None, path: str, making: _Making) -> Attributes:
    found: Attributes = {}
    for tag in sorted(tags) if tags is not None else level.tags():
        length = level.length(tag)
        if length is None or not tag & 0xFFFF or tag >> 16 <= 0x0002:
            continue
        if not making.take(1):
            break
        name = f"{tag:08X}"
        if tag == SPECIFIC_CHARACTER_SET:
            found[name] = {"vr": "CS", "Value": ["ISO_IR 192"]}
            continue
        try:
            found[name] = _attribute(level, tag, length, f"{path}{name}", making)
        except READING_FAULTS:
            found[name] = {"vr": level.vr(tag)}
    return found


def _attribute(level: Level, tag: int, length: int, path: str, making: _Making) -> dict[str, Any]:
    vr = level.vr(tag)
    if vr == "SQ":
        items = [
            _model(item, None, f"{path}/{number}/", making)
            for number, item in enumerate(level.items(tag), 1)
            if making.left > 0
        ]
        return {"vr": vr, "Value": items} if items else {"vr": vr}
    if length == 0:
        return {"vr": vr}
    found = None
    if length <= TEXT_BYTES_MAX:
        found = texts(
            level.raw(tag) or b"", vr, level.sets, little=level.encoding.little, path="",
            report=_unreported,
        )  # fmt: skip
    if found is None:
        # OB, OW and their like, UN, and text of a length that is nobody's attribute.
        if length <= INLINE_BYTES_MAX and level.encoding.little:
            raw = level.raw(tag) or b""
            return {"vr": vr, "InlineBinary": base64.b64encode(raw).decode()}
        return (
            {"vr": vr, "BulkDataURI": making.bulk(path)} if making.bulk is not None else {"vr": vr}
        )
    if not making.take(len(found)):
        return {"vr": vr}
    values = [_value(each.content, vr) for each in found]
    return {"vr": vr, "Value": values} if any(each is not None for each in values) else {"vr": vr}


def _value(text: str, vr: str) -> Any:
    """One value as F.2.3 has it; None for an empty one (F.2.5)."""
    if not text:
        return None
    if vr == "PN":
        groups = zip(PERSON_GROUPS, text.split("="), strict=False)
        return {name: group for name, group in groups if group} or None
    if vr == "AT":
        return text[1:5] + text[6:10]
    if vr in _INTEGERS or vr == "IS":
        return _integer(text)
    if vr in {"FL", "FD", "DS"}:
        return _decimal(text, exact=vr == "DS")
    return text


def _integer(text: str) -> int | str:
    try:
        number = int(text)
    except ValueError:
        return text
    # JSON readers have 53 bits for a number; longer ones may be text (F.2.3, SV and UV).
    return number if abs(number) < 1 << 53 else text


def _decimal(text: str, *, exact: bool) -> float | str | None:
    try:
        number = float(text)
    except ValueError:
        return text
    if not math.isfinite(number):
        return None
    return text if exact and sum(c.isdigit() for c in text) > DIGITS_EXACT else number


def _unreported(_code: str, _detail: str, _path: str) -> None:
    """What is odd in a text is told where the study is read for the record."""
