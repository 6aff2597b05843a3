"""All instances of one study as scopes: study, series, instance, sequence item.

Series stand in the order of their number, then UID, and instances likewise, so
that the order of arrival changes nothing. What is asked of the study or of a
series is read from its first instance that has it. Counts and the modalities are
those of what is here: they are computed, never read (PS3.4 C.3.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from adapters.dicom.dataset import Instance, Level, TooLarge
from adapters.dicom.elements import DataSetError
from adapters.dicom.part10 import NotPart10
from adapters.dicom.paths import Step, parse
from adapters.dicom.values import Absent, Bulk, Report, Text, texts
from gateway.model import Flag
from gateway.ports import PathError, Scope, Value, ValueState

FLAGS_MAX = 1_000

READING_FAULTS = (NotPart10, DataSetError, TooLarge, OSError)


@dataclass(frozen=True, slots=True)
class Sequenced:
    """A sequence item as a value with parts."""

    level: Level
    path: str
    report: Report
    datatype: str = "SQ"

    @property
    def state(self) -> ValueState:
        return ValueState.PRESENT

    @property
    def text(self) -> str:
        return ""

    def part(self, path: str) -> Value:
        """The first value at a path relative to the item."""
        found = self.parts(path)
        return found[0] if found else Absent(f"{self.path}.{path}")

    def parts(self, path: str) -> Sequence[Value]:
        try:
            wanted = parse(path)
            found = read(self.level, wanted.steps, f"{self.path}.", self.report)
        except (PathError, *READING_FAULTS):
            return ()
        return wanted.parts_of(found)

    def raw(self) -> bytes:
        return b""


class Findings:
    """What was odd in a study, each thing once; the flags that a trace or a person sees."""

    def __init__(self) -> None:
        self._flags: dict[tuple[str, str, str], Flag] = {}

    def report(self, code: str, detail: str, path: str) -> None:
        """Note one; the source path is told without the numbers of series and instance."""
        general = path.rsplit("/", 1)[-1]
        if len(self._flags) < FLAGS_MAX:
            self._flags.setdefault(
                (code, detail, general), Flag(code=code, detail=detail, source=general)
            )

    @property
    def flags(self) -> tuple[Flag, ...]:
        return tuple(sorted(self._flags.values(), key=lambda f: (f.code, f.source, f.detail)))


@dataclass(frozen=True, slots=True)
class InstanceScope:
    """One instance."""

    path: str
    instance: Instance
    findings: Findings

    def instances(self) -> Sequence[InstanceScope]:
        return (self,)


@dataclass(frozen=True, slots=True)
class SeriesScope:
    """One series: its instances in order."""

    path: str
    members: tuple[InstanceScope, ...]
    findings: Findings

    def instances(self) -> Sequence[InstanceScope]:
        return self.members


@dataclass(frozen=True, slots=True)
class StudyScope:
    """The root: the study's series in order. Its flags grow while values are read."""

    series: tuple[SeriesScope, ...]
    findings: Findings = field(default_factory=Findings)
    path: str = ""

    def instances(self) -> Sequence[InstanceScope]:
        return [instance for series in self.series for instance in series.members]

    @property
    def study_uid(self) -> str:
        return self.series[0].members[0].instance.study

    @property
    def modalities(self) -> tuple[str, ...]:
        """Distinct modalities, in alphabetical order."""
        found = {scope.instance.modality for scope in self.instances()}
        return tuple(sorted(found - {""}))

    @property
    def sop_classes(self) -> tuple[str, ...]:
        """Distinct SOP class UIDs, in order."""
        return tuple(sorted({scope.instance.sop_class for scope in self.instances()} - {""}))

    def reading_flags(self) -> tuple[Flag, ...]:
        """Instances that could not be read, values whose character set did not fit, and so on."""
        return self.findings.flags


@dataclass(frozen=True, slots=True)
class ItemScope:
    """One item of a sequence."""

    path: str
    level: Level
    report: Report


def read_at(scope: Scope, steps: Sequence[Step]) -> list[Value]:
    """The values at a path in a scope; none when nothing stands there.

    In a study or series the first instance that has a value gives it; one that has the
    attribute empty counts only when no other has more.
    """
    if isinstance(scope, ItemScope):
        return read(scope.level, steps, f"{scope.path}.", scope.report)
    assert isinstance(scope, StudyScope | SeriesScope | InstanceScope)
    prefix = f"{scope.path}/" if scope.path else ""
    empty: list[Value] = []
    for member in scope.instances():
        try:
            found = read(member.instance.level, steps, prefix, scope.findings.report)
        except READING_FAULTS as fault:
            scope.findings.report("unreadable-value", str(fault), f"{prefix}{steps[0].keyword}")
            continue
        if any(value.state is ValueState.PRESENT for value in found):
            return found
        empty = empty or found
    return empty


def read(level: Level, steps: Sequence[Step], prefix: str, report: Report) -> list[Value]:
    """The values at a path below one level. ``prefix`` ends with its separator.

    Raises DataSetError or TooLarge for a sequence that cannot be read.
    """
    step, rest = steps[0], steps[1:]
    length = level.length(step.tag)
    if length is None:
        return []
    where = prefix + step.keyword
    vr = level.vr(step.tag)
    if vr == "SQ":
        return _of_sequence(level, step, rest, where, report)
    if rest:
        return []
    found: list[Value] = []
    try:
        known = texts(
            level.raw(step.tag) or b"", vr, level.sets,
            little=level.encoding.little, path=where, report=report,
        ) if _is_text(vr) else None  # fmt: skip
    except TooLarge as fault:
        report("unreadable-value", str(fault), where)
        return []
    if known is None:
        fetch = partial(_raw, level, step.tag)
        found.append(Bulk(where, vr, length, fetch))
    else:
        found.extend(known)
    if step.place:
        return [found[step.place - 1]] if step.place <= len(found) else []
    return found


def _is_text(vr: str) -> bool:
    return vr not in ("OB", "OD", "OF", "OL", "OV", "OW", "UN")


def _raw(level: Level, tag: int) -> bytes:
    return level.raw(tag) or b""


def _of_sequence(
    level: Level, step: Step, rest: Sequence[Step], where: str, report: Report
) -> list[Value]:
    items = level.items(step.tag)
    if not items and not rest:
        return [Text("", where, "SQ")]
    found: list[Value] = []
    for place, item in enumerate(items, 1):
        if step.place not in (0, place):
            continue
        at = f"{where}({place})"
        if rest:
            found.extend(read(item, rest, f"{at}.", report))
        else:
            found.append(Sequenced(item, f"{at}", report))
    return found
