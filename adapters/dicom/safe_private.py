"""Private attributes that are known to name no one: the Retain Safe Private option (PS3.15 E.3.10).

Known are those of table E.3.10-1 (``safe_private.tsv``), those that a site names, and, where a site
trusts its devices, those that an object itself declares to be safe (0008,0300). The standard calls
its own table a sample that vendors do not guarantee, and binary values particularly unsafe (its
note 2): of it only numbers, code strings, short texts, UIDs and sequences are kept, each in the
representation that is named only, since in another one it is not the attribute that is known.

A private attribute is known by its creator, not by its tag: in another data set, and in an item of
a sequence, its block may have another number (PS3.5 7.8.1).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

from adapters.dicom.loading import load_pydicom

NUMBERS = frozenset({"AT", "DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"})
_OF_THE_TABLE = NUMBERS | {"CS", "LO", "SH", "SQ", "UI"}
OF_A_SITE = _OF_THE_TABLE | {
    *("AE", "AS", "DA", "DT", "LT", "OB", "OD", "OF", "OL", "OV", "OW", "ST", "TM", "UC", "UR"),
    "UT",
}
"""What a site may name: all but names of persons and what is of unknown representation."""
CREATOR_MAX = 64
DECLARATIONS = 0x00080300
"""Private Data Element Characteristics Sequence (PS3.3 C.12.1)."""


@dataclass(frozen=True, slots=True)
class SafePrivate:
    """One private attribute by its creator, group (odd) and element in its block (0 to 0xFF)."""

    creator: str
    group: int
    element: int
    vr: str


@lru_cache(maxsize=1)
def _table() -> tuple[SafePrivate, ...]:
    text = files("adapters.dicom").joinpath("safe_private.tsv").read_text("utf-8")
    found = []
    for line in text.splitlines():
        if not line.startswith("#"):
            group, element, vr, creator = line.split("\t")
            if vr in _OF_THE_TABLE:
                found.append(SafePrivate(creator, int(group, 16), int(element, 16), vr))
    return tuple(found)


class SafeAttributes:
    """Which private attributes are known. ``declared``: objects are believed, too. Thread-safe."""

    def __init__(self, of_site: Iterable[SafePrivate] = (), *, declared: bool = False) -> None:
        self.declared = declared
        self._known: dict[tuple[int, str, int], set[str]] = {}
        for each in (*_table(), *of_site):
            key = each.group, each.creator, each.element
            self._known.setdefault(key, set()).add(each.vr)

    def declarations(self, found: Any) -> Declarations:
        """What an object declares of its private attributes; nothing unless that is believed."""
        return Declarations(found.get(DECLARATIONS) if self.declared else None)

    def kept(self, level: Any, declared: Declarations) -> Iterator[Any]:
        """The known private attributes of one data set or item, as elements that are read in the
        representation they are known by."""
        creators = creators_of(level)
        for tag in [each for each in list(level.keys()) if each.is_private]:
            creator = creators.get((tag.group, tag.element >> 8))
            if tag.element < 0x1000 or creator is None:
                continue
            known = self._known.get((tag.group, creator, tag.element & 0xFF), set())
            free = declared.safe(tag.group, creator, tag.element & 0xFF)
            element = _read(level, tag, known, free=free)
            if element is not None:
                yield element


class Declarations:
    """The blocks and elements that an object says to be safe: (0008,0303) SAFE, and (0008,0304)."""

    def __init__(self, sequence: Any) -> None:
        self._blocks: set[tuple[int, str]] = set()
        self._elements: set[tuple[int, str, int]] = set()
        for item in sequence.value if sequence is not None else ():
            try:
                block = int(item.PrivateGroupReference), str(item.PrivateCreatorReference).strip()
                if item.get("BlockIdentifyingInformationStatus") == "SAFE":
                    self._blocks.add(block)
                listed = item.get("NonidentifyingPrivateElements")
                each = [listed] if isinstance(listed, int) else listed or ()
                self._elements.update((*block, int(element)) for element in each)
            except (AttributeError, TypeError, ValueError):
                continue  # no whole declaration: nothing is declared

    def safe(self, group: int, creator: str, element: int) -> bool:
        """Whether the object says so of an element of a block."""
        block = group, creator
        return block in self._blocks or (*block, element) in self._elements


def creators_of(level: Any) -> dict[tuple[int, int], str]:
    """The private creators of one data set or item by group and block (0x10 to 0xFF)."""
    found: dict[tuple[int, int], str] = {}
    for tag in list(level.keys()):
        if tag.is_private_creator:
            value = level[tag].value
            if isinstance(value, str) and 0 < len(value.strip()) <= CREATOR_MAX:
                found[tag.group, tag.element] = value.strip()
    return found


def _read(level: Any, tag: Any, known: set[str], *, free: bool) -> Any:
    """An element in a representation that is known, or ``None``."""
    if not known and not free:
        return None
    try:
        element = _told(level, tag, next(iter(known))) if len(known) == 1 else level[tag]
    except Exception:  # noqa: BLE001  pydicom's faults are many; what cannot be read is not known
        return None
    if str(element.VR) in known or (free and str(element.VR) in _OF_THE_TABLE):
        return element
    return None


def _told(level: Any, tag: Any, vr: str) -> Any:
    """An element; one that came without its representation (implicit VR, UN) is read in ``vr``."""
    load_pydicom()
    from pydicom.dataelem import RawDataElement, convert_raw_data_element

    raw = level.get_item(tag)
    if not isinstance(raw, RawDataElement):
        if str(raw.VR) != "UN" or not isinstance(raw.value, bytes):
            return raw
        little = level.original_encoding[1] is not False
        raw = RawDataElement(tag, "UN", len(raw.value), raw.value, 0, False, little)
    if raw.VR not in {None, "UN"}:
        return level[tag]
    if raw.VR == "UN" and vr == "SQ":  # PS3.5 6.2.2, note 2: what is in it is implicit
        raw = raw._replace(is_implicit_VR=True, is_little_endian=True)
    raw = raw._replace(VR=vr)
    return convert_raw_data_element(raw, encoding=level.original_character_set, ds=level)
