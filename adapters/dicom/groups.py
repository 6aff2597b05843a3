"""All attributes of one group, in the notation of the standard: ``(0028,xxxx)``.

What is left out on purpose is often a whole group, such as how the pixels are arranged.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from adapters.dicom.content import ContentItem
from adapters.dicom.dataset import Level
from adapters.dicom.dictionary import keyword_of
from adapters.dicom.paths import Step
from adapters.dicom.reading import READING_FAULTS, ItemScope, read
from adapters.dicom.study import InstanceScope, SeriesScope, StudyScope
from adapters.dicom.values import Report
from gateway.ports import PathError, Scope, Value

_GROUP = re.compile(r"\(([0-9A-Fa-f]{4}),xxxx\)")
PRIVATE = "(private)"
"""All private attributes: those of the groups with an odd number (PS3.5 section 7.8)."""


def group_of(text: str) -> int | None:
    """The number of the group, -1 for :data:`PRIVATE`; None when the text means no group.

    Raises PathError for a group that no data set has.
    """
    if text == PRIVATE:
        return -1
    found = _GROUP.fullmatch(text)
    if found is None:
        return None
    group = int(found[1], 16)
    if group < 0x0008 or group % 2:
        raise PathError(f"{text}: groups of a data set are even and begin at 0008", PRIVATE)
    return group


def read_group(scope: Scope, group: int) -> Sequence[Value]:
    """The values of all attributes of a group in a scope; sequences as their items."""
    if isinstance(scope, ContentItem):
        return _of(scope.level, group, scope.prefix, scope.report)
    if isinstance(scope, ItemScope):
        return _of(scope.level, group, f"{scope.path}.", scope.report)
    assert isinstance(scope, StudyScope | SeriesScope | InstanceScope)
    found: list[Value] = []
    for member in scope.instances():
        try:
            prefix = f"{member.path}/"
            found += _of(member.instance.level, group, prefix, scope.findings.report)
        except READING_FAULTS as fault:
            scope.findings.report("unreadable-value", str(fault), member.path)
    return found


def _of(level: Level, group: int, prefix: str, report: Report) -> list[Value]:
    found: list[Value] = []
    for tag in level.tags():
        number = tag >> 16
        if number == group or (group == -1 and number % 2):
            keyword = keyword_of(tag) or f"({number:04X},{tag & 0xFFFF:04X})"
            found += read(level, (Step(tag, keyword),), prefix, report)
    return found
