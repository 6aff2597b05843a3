"""The notation of DICOM paths: keywords of the data dictionary (PS3.6), checked.

::

    path     = step { "." step } [ "." part ] | date "+" time
    step     = keyword [ "(" number | "*" ")" ]
    part     = [ group "." ] component | group          after a person name
    group    = "Alphabetic" | "Ideographic" | "Phonetic"
    component= "FamilyName" | "GivenName" | "MiddleName" | "NamePrefix" | "NameSuffix"
               | "From" | "To"        the ends of a range, after a date, time or date time

Numbers count from 1; without one all values, or all items of a sequence, are
meant. ``StudyDate+StudyTime`` is one instant in the form of DT (PS3.5 6.2), with
the offset of TimezoneOffsetFromUTC where the instance has one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from adapters.dicom.dictionary import TAGS, tag_of, vm_of, vr_of
from adapters.dicom.values import PERSON_COMPONENTS, PERSON_GROUPS, RANGE_ENDS, TEMPORAL
from gateway.ports import PathError, Value, ValueState

PATH_CHARACTERS_MAX = 500
STEPS_MAX = 16

TIMEZONE_OFFSET = 0x00080201

_STEP = re.compile(r"([A-Za-z][A-Za-z0-9]*)(?:\((\d{1,6}|\*)\))?", re.ASCII)
_FIRST_DATA_SET_GROUP = 0x0008
_PIXEL_GROUP = 0x7FE00000
_SIGNATURES_GROUP = 0xFFFA


@dataclass(frozen=True, slots=True)
class Step:
    """One keyword of a path. ``place`` counts from 1; 0 is all values or items."""

    tag: int
    keyword: str
    place: int = 0


@dataclass(frozen=True, slots=True)
class DicomPath:
    """A checked path. ``part`` is of a person name; ``time`` the time that goes with a date."""

    text: str
    steps: tuple[Step, ...]
    datatype: str
    repeats: bool
    part: str = ""
    time: tuple[Step, ...] = ()

    def parts_of(self, values: Sequence[Value]) -> list[Value]:
        """The values themselves, or the named part of each that has it."""
        if not self.part:
            return list(values)
        return [p for value in values if (p := value.part(self.part)).state is not _ABSENT]


_ABSENT = ValueState.ABSENT


@lru_cache(maxsize=2_000)
def parse(text: str) -> DicomPath:
    """Check a path against the dictionary. Raises PathError with the nearest right one."""
    if len(text) > PATH_CHARACTERS_MAX:
        raise PathError(f"a DICOM path has at most {PATH_CHARACTERS_MAX} characters")
    date, plus, time = text.partition("+")
    path = _keywords(text, date)
    if not plus:
        return path
    other = _keywords(text, time)
    if (path.datatype, other.datatype) != ("DA", "TM"):
        raise PathError(f"{text}: only a date and a time can be added, as StudyDate+StudyTime")
    return DicomPath(text, path.steps, "DT", path.repeats, time=other.steps)


def _keywords(whole: str, text: str) -> DicomPath:
    pieces = text.split(".")
    if len(pieces) > STEPS_MAX:
        raise PathError(f"{whole}: a DICOM path has at most {STEPS_MAX} steps")
    steps: list[Step] = []
    datatype = "SQ"
    for number, piece in enumerate(pieces):
        if datatype == "PN":
            part = ".".join(pieces[number:])
            _check_person_part(whole, part)
            return DicomPath(whole, tuple(steps), "LO", _repeats(steps), part=part)
        if datatype in TEMPORAL and piece in RANGE_ENDS and number == len(pieces) - 1:
            return DicomPath(whole, tuple(steps), datatype, _repeats(steps), part=piece)
        if datatype != "SQ":
            raise PathError(f"{whole}: {steps[-1].keyword} is no sequence, so nothing stands in it")
        step = _step(whole, piece)
        steps.append(step)
        datatype = str(vr_of(step.tag))
    return DicomPath(whole, tuple(steps), datatype, _repeats(steps))


def _step(whole: str, piece: str) -> Step:
    found = _STEP.fullmatch(piece)
    if found is None:
        raise PathError(f"{whole}: {piece!r} is no keyword of the DICOM dictionary")
    keyword, place = found.groups()
    tag = tag_of(keyword)
    if tag is None:
        near = difflib.get_close_matches(keyword, TAGS, n=1, cutoff=0.6)
        suggestion = whole.replace(piece, piece.replace(keyword, near[0])) if near else ""
        raise PathError(f"{whole}: the DICOM dictionary has no keyword {keyword}", suggestion)
    if tag >> 16 < _FIRST_DATA_SET_GROUP:
        raise PathError(f"{whole}: {keyword} stands in the file meta information or a command")
    if tag >= _PIXEL_GROUP and tag >> 16 != _SIGNATURES_GROUP:
        raise PathError(f"{whole}: {keyword} is never loaded by a mapping, its attributes are")
    if place == "0":
        raise PathError(f"{whole}: positions count from 1", whole.replace("(0)", "(1)"))
    return Step(int(tag), keyword, int(place) if place and place != "*" else 0)


def _check_person_part(whole: str, part: str) -> None:
    group, _, component = part.rpartition(".")
    if not group and component in PERSON_GROUPS:
        return
    if (not group or group in PERSON_GROUPS) and component in PERSON_COMPONENTS:
        return
    wrong = component
    known: tuple[str, ...] = (*PERSON_COMPONENTS, *PERSON_GROUPS)
    if group and group not in PERSON_GROUPS:
        wrong, known = group, PERSON_GROUPS
    near = difflib.get_close_matches(wrong, known, n=1, cutoff=0.4)
    raise PathError(
        f"{whole}: a person name has no {part}; it has {', '.join(known)}",
        whole.replace(wrong, near[0]) if near else "",
    )


def _repeats(steps: Sequence[Step]) -> bool:
    """Whether more than one value can stand at the path."""
    *sequences, last = steps
    if any(step.place == 0 for step in sequences):
        return True
    return last.place == 0 and (vr_of(last.tag) == "SQ" or str(vm_of(last.tag)) != "1")
