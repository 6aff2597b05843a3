"""The data dictionary and the UIDs of the standard (PS3.6), from pydicom's generated tables.

Importing pydicom itself loads all that it can decode pixels with (numpy, GDCM, Pillow), for a
process that only asks which VR an attribute has; and nothing that decodes pixels runs in the
gateway. So the two files of tables are read here and nothing beside them.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

Attribute = tuple[str, str, str, str, str]
"""VR, VM, name, "Retired" or "", keyword."""


def _tables(name: str) -> ModuleType:
    """One of pydicom's modules that hold tables and import nothing."""
    if loaded := sys.modules.get(f"pydicom.{name}"):
        return loaded
    package = find_spec("pydicom")
    if package is None or package.origin is None:
        raise ImportError("pydicom is not installed")
    spec = spec_from_file_location(
        f"{__name__}_{name}", Path(package.origin).with_name(f"{name}.py")
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"pydicom has no {name}")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_dictionary = _tables("_dicom_dict")
_ATTRIBUTES: dict[int, Attribute] = _dictionary.DicomDictionary
_REPEATING: dict[str, Attribute] = _dictionary.RepeatersDictionary
_UIDS_SINCE: dict[str, Attribute] = {
    "1.2.840.10008.1.2.4.110": ("JPEG XL Lossless", "Transfer Syntax", "", "", "JPEGXLLossless"),
    "1.2.840.10008.1.2.4.111": (
        "JPEG XL JPEG Recompression", "Transfer Syntax", "", "", "JPEGXLJPEGRecompression",
    ),
    "1.2.840.10008.1.2.4.112": ("JPEG XL", "Transfer Syntax", "", "", "JPEGXL"),
    "1.2.840.10008.1.2.8.1": (
        "Deflated Image Frame Compression", "Transfer Syntax", "", "",
        "DeflatedImageFrameCompression",
    ),
}  # fmt: skip
"""Of later editions than pydicom's tables (PS3.6 table A-1)."""
UIDS: dict[str, Attribute] = _UIDS_SINCE | _tables("_uid_dict").UID_dictionary
"""Of a UID its name, its type ("SOP Class", "Transfer Syntax", …), information, "Retired" or "",
keyword."""
TAGS: dict[str, int] = {attribute[4]: tag for tag, attribute in _ATTRIBUTES.items() if attribute[4]}
"""The tag of each keyword; a few retired attributes have none."""
# Of a repeating group's tag ("50xx0005"): what must be the same, and where.
_MASKS = {
    text: (
        int(text.replace("x", "0"), 16),
        int("".join("0" if c == "x" else "F" for c in text), 16),
    )
    for text in _REPEATING
}


def _attribute(tag: int) -> Attribute:
    found = _ATTRIBUTES.get(tag)
    if found is not None:
        return found
    if not tag >> 16 & 1:
        for text, (same, where) in _MASKS.items():
            if (tag ^ same) & where == 0:
                return _REPEATING[text]
    raise KeyError(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) is not in the data dictionary")


def vr_of(tag: int) -> str:
    """The VR of an attribute ("LO", "US or SS"). Raises KeyError for one that PS3.6 has not."""
    return _attribute(tag)[0]


def vm_of(tag: int) -> str:
    """How many values an attribute has ("1", "2-n"). Raises KeyError."""
    return _attribute(tag)[1]


def keyword_of(tag: int) -> str:
    """The keyword of an attribute; empty for one that PS3.6 has not."""
    try:
        return _attribute(tag)[4]
    except KeyError:
        return ""


def tag_of(keyword: str) -> int | None:
    """The tag that a keyword names; None when it names none. Repeating groups have no keywords."""
    return TAGS.get(keyword)


def uid_name(uid: str) -> str:
    """The name of a UID of the standard; any other UID as it is."""
    return UIDS[uid][0] if uid in UIDS else uid
