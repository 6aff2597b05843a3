"""The Search transaction, QIDO-RS (PS3.18 section 10.6): a query string to keys, matches to
results."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from adapters.dicom.dictionary import keyword_of, tag_of
from adapters.dicom.holdings import PAGE_MAX, Match, QueryLevel, matched_at
from adapters.dicom.json_model import Attributes

LIMIT_DEFAULT = 200
PARAMETERS_MAX = 100

_OWN = frozenset({"limit", "offset", "fuzzymatching", "includefield", "accept", "charset",
                  "emptyvaluematching", "multiplevaluematching"})  # fmt: skip
_LISTS = frozenset({"StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID",
                    "SOPClassesInStudy", "ModalitiesInStudy", "Modality"})  # fmt: skip
_STUDY = frozenset({"0020000D"})
_SERIES = frozenset({"0020000D", "0020000E"})


class BadQuery(Exception):
    """The query string cannot be read. The message is for its sender."""


@dataclass(frozen=True, slots=True)
class Query:
    """What is searched. ``warnings`` are the texts of Warning header fields."""

    keys: dict[str, str]
    limit: int
    offset: int
    warnings: tuple[str, ...] = field(default=())


def query_of(
    level: QueryLevel, parameters: Sequence[tuple[str, str]], resource: dict[str, str]
) -> Query:
    """Read a query string (8.3.4). ``resource`` holds what the address itself names.

    Attributes that are not matched here are left out of the search, and the warnings say so.
    Raises BadQuery.
    """
    if len(parameters) > PARAMETERS_MAX:
        raise BadQuery(f"more than {PARAMETERS_MAX} parameters")
    keys: dict[str, str] = {}
    unmatched: list[str] = []
    own: dict[str, str] = {}
    for name, value in parameters:
        if name.lower() in _OWN:
            own.setdefault(name.lower(), value)
            continue
        keyword = _keyword(name)
        if keyword not in matched_at(level):
            # Names only: a value may be a patient's.
            unmatched.append(keyword)
            continue
        if keyword in keys:
            raise BadQuery(f"{keyword} is given twice")
        keys[keyword] = value.replace(",", "\\") if keyword in _LISTS else value
    for keyword, value in resource.items():
        if keys.get(keyword, value) != value:
            raise BadQuery(f"{keyword} is another one in the address")
        keys[keyword] = value
    warnings = []
    if unmatched:
        named = ", ".join(sorted(set(unmatched))[:20])
        warnings.append(f"The following parameters are not supported and were ignored: {named}")
    if own.get("fuzzymatching", "false").lower() == "true":
        warnings.append(
            "The fuzzymatching parameter is not supported. "
            "Only literal matching has been performed."
        )
    limit = min(_number(own, "limit", LIMIT_DEFAULT), PAGE_MAX)
    return Query(keys, limit, _number(own, "offset", 0), tuple(warnings))


def _number(given: dict[str, str], name: str, default: int) -> int:
    text = given.get(name, "")
    if not text:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII):
        raise BadQuery(f"{name} must be a number")
    return int(text)


def _keyword(name: str) -> str:
    """The keyword that a parameter names: by keyword or tag, of a sequence its last step."""
    steps = []
    for step in name[:200].split("."):
        tag = int(step, 16) if re.fullmatch(r"[0-9A-Fa-f]{8}", step) else tag_of(step)
        keyword = keyword_of(tag) if tag is not None else ""
        if not keyword:
            raise BadQuery("a parameter names no attribute: a keyword or eight hex digits")
        steps.append(keyword)
    if len(steps) > 2 or (len(steps) == 2 and steps[0] != "RequestAttributesSequence"):
        return ".".join(steps)
    return steps[-1]


def result_of(match: Match, base: str, resource: dict[str, str]) -> Attributes:
    """One result (10.6.3.3): the attributes of its level, and of the levels above unless the
    address names them, with where it is retrieved. ``base`` is the service's address."""
    address = f"{base}/studies/{match.study}"
    if match.series:
        address += f"/series/{match.series}"
    if match.instance:
        address += f"/instances/{match.instance}"
    found = dict(match.attributes)
    if "StudyInstanceUID" in resource:
        own = _OF_STUDY - _STUDY
        if "SeriesInstanceUID" in resource:
            own |= _OF_SERIES - _SERIES
        found = {tag: value for tag, value in found.items() if tag not in own}
    found["00080056"] = {"vr": "CS", "Value": ["ONLINE"]}
    found["00081190"] = {"vr": "UR", "Value": [address]}
    return dict(sorted(found.items()))


def _tags(*numbers: int) -> frozenset[str]:
    return frozenset(f"{number:08X}" for number in numbers)


_OF_STUDY = _tags(
    *(0x00080020, 0x00080030, 0x00080050, 0x00080051, 0x00080061, 0x00080062, 0x00080090),
    *(0x00081030, 0x00081032, 0x00100010, 0x00100020, 0x00100021, 0x00100030, 0x00100040),
    *(0x00101010, 0x00200010, 0x00201206, 0x00201208, 0x0020000D),
)
_OF_SERIES = _tags(
    *(0x00080021, 0x00080031, 0x00080060, 0x0008103E, 0x00180015, 0x00181030, 0x00200011),
    *(0x00200060, 0x00201209, 0x00400244, 0x00400245, 0x00400275, 0x0020000E),
)
