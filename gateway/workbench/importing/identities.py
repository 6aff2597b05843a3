"""Keys for the identifiers of imported entries: the tables say none.

They follow what the shipped mappings use. A mapping's author checks them first of all,
because what an identity is made of decides what the record takes for the same thing.
"""

from __future__ import annotations

_SENDER = ["MSH-4.1", "MSH-3.1"]

_BY_SEGMENT: dict[str, list[object]] = {
    "PID": ["PID-3.1"],
    "PD1": ["PID-3.1"],
    "PV1": ["PV1-19.1"],
    "PV2": ["PV1-19.1"],
    "ORC": [{"first": ["ORC-3.1", "ORC-2.1"]}],
    "OBR": [{"first": ["OBR-3.1", "OBR-2.1"]}, "OBR-4.1"],
    "OBX": ["OBX-3.1", "OBX-4.1"],
    "SPM": [{"first": ["SPM-2.2.1", "SPM-2.1.1"]}, "SPM-1"],
    "TXA": ["TXA-12.1"],
    "AL1": ["PID-3.1", "AL1-3.1"],
    "IAM": ["PID-3.1", "IAM-3.1"],
    "DG1": ["PID-3.1", "DG1-3.1"],
    "PR1": ["PID-3.1", "PR1-3.1", "PR1-5"],
    "NK1": ["PID-3.1", "NK1-1"],
    "IN1": ["PID-3.1", "IN1-2.1", "IN1-36"],
    "RXA": ["PID-3.1", "RXA-5.1", "RXA-3"],
    "SCH": [{"first": ["SCH-2.1", "SCH-1.1"]}],
}

_BY_DATATYPE: dict[str, list[str]] = {
    "XCN": ["1", "2.1", "3"],
    "CNN": ["1", "2", "3"],
    "XON": ["10", "3", "1"],
    "PL": ["1", "2", "3", "4", "7"],
    "HD": ["1", "2"],
    "EI": ["1", "2"],
    "CX": ["1", "4"],
    "CWE": ["1", "2"],
    "CE": ["1", "2"],
    "XPN": ["1.1", "2"],
    "XAD": ["1.1", "3", "5"],
}
"""Components that together tell one thing from another; those that exist count."""

_ORDERED = {"PID-3": ["PID-3.4.2", "PID-3.4.1"], "PV1-19": ["PV1-19.4.2", "PV1-19.4.1"]}


def entry_identity(segment: str) -> dict[str, object]:
    """The ``id:`` of an entry that a segment makes."""
    key = _BY_SEGMENT.get(segment)
    if key is None:
        return {"key": ["MSH-10"], "authority": _SENDER}
    first = str(key[0]).partition(".")[0]
    return {"key": key, "authority": [*_ORDERED.get(first, []), *_SENDER], "otherwise": ["MSH-10"]}


def has_own_key(segment: str) -> bool:
    """Whether a segment's entries have keys of their own, and not only the message's."""
    return segment in _BY_SEGMENT


def inner_identity(path: str, datatype: str) -> dict[str, object]:
    """The ``id:`` of a resource that a field makes (the practitioner of an XCN)."""
    numbers = _BY_DATATYPE.get(datatype, [])
    deep = path.count(".") >= (2 if "-" in path or path.startswith("$.") else 3)
    parts = [f"{path}.{number}" for number in numbers if not deep and "." not in number]
    if not parts:
        parts = [path] if "-" in path or path.startswith("$") else ["MSH-10"]
    return {"key": parts, "authority": _SENDER, "otherwise": ["MSH-10"], "repeated": "same"}
