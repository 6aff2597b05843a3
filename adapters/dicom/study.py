"""All instances of one study as scopes: study, series, instance, sequence item.

Series stand in the order of their number, then UID, and instances likewise, so
that the order of arrival changes nothing. What is asked of the study or of a
series is read from its first instance that has it. Counts and the modalities are
those of what is here: they are computed, never read (PS3.4 C.3.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from adapters.dicom.content import ContentItem
from adapters.dicom.content_tree import Contents
from adapters.dicom.dataset import Instance
from adapters.dicom.paths import DicomPath, Step
from adapters.dicom.reading import READING_FAULTS, ItemScope, read, read_instant
from adapters.dicom.values import Text
from gateway.model import Flag
from gateway.ports import Scope, Value, ValueState

FLAGS_MAX = 1_000


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
    contents: Contents = field(default_factory=Contents)

    def instances(self) -> Sequence[InstanceScope]:
        return (self,)

    def content(self) -> ContentItem | None:
        """The root of its content tree; None when it is no report or cannot be read."""
        try:
            level = self.instance.level
        except READING_FAULTS as fault:
            self.findings.report("content-not-read", str(fault), f"{self.path}/ContentSequence")
            return None
        uid = self.instance.sop_instance
        return self.contents.root(uid, level, self.path, self.findings.report)


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
    """The root: the study's series in order. Its flags grow while values are read.

    ``withdrawn``: all that it had was rejected, and what is left are the notes that say so.
    ``rejected``: what rejection notes took out, by itself. ``notes``: the SOP Instance UIDs of the
    notes that stand. They say something of the study and are no content of it (IHE RAD IOCM): they
    are read like others, and neither counted nor listed in a series, as queries do not find them.
    """

    series: tuple[SeriesScope, ...]
    findings: Findings = field(default_factory=Findings)
    path: str = ""
    withdrawn: bool = False
    rejected: StudyScope | None = None
    notes: frozenset[str] = frozenset()

    def instances(self) -> Sequence[InstanceScope]:
        return [instance for series in self.series for instance in series.members]

    def content_series(self) -> Sequence[SeriesScope]:
        """The series with their instances, without the notes; none when there is nothing else."""
        if not self.notes:
            return self.series
        found = []
        for each in self.series:
            members = tuple(m for m in each.members if m.instance.sop_instance not in self.notes)
            if members:
                found.append(replace(each, members=members))
        return found

    def content(self) -> Sequence[InstanceScope]:
        """The instances without the notes."""
        return [instance for series in self.content_series() for instance in series.members]

    @property
    def study_uid(self) -> str:
        return self.series[0].members[0].instance.study

    @property
    def modalities(self) -> tuple[str, ...]:
        """Distinct modalities, in alphabetical order; of the notes when only they are left."""
        found = {scope.instance.modality for scope in self.content() or self.instances()}
        return tuple(sorted(found - {""}))

    @property
    def sop_classes(self) -> tuple[str, ...]:
        """Distinct SOP class UIDs, in order; those of the notes when only they are left."""
        found = {scope.instance.sop_class for scope in self.content() or self.instances()}
        return tuple(sorted(found - {""}))

    def reading_flags(self) -> tuple[Flag, ...]:
        """Instances that could not be read, values whose character set did not fit, and so on."""
        return self.findings.flags


def read_at(scope: Scope, steps: Sequence[Step]) -> list[Value]:
    """The values at a path in a scope; none when nothing stands there.

    In a study or series the first instance that has a value gives it; one that has the
    attribute empty counts only when no other has more.
    """
    if isinstance(scope, ContentItem):
        return read(scope.level, steps, scope.prefix, scope.report)
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


def instant_at(scope: Scope, path: DicomPath) -> Sequence[Value]:
    """A date with its time and offset as one DT; the date alone when there is no time.

    All three come from one instance: the first that has the date.
    """
    if isinstance(scope, ContentItem):
        return read_instant(scope.level, path, scope.prefix, scope.report)
    if isinstance(scope, ItemScope):
        return read_instant(scope.level, path, f"{scope.path}.", scope.report)
    assert isinstance(scope, StudyScope | SeriesScope | InstanceScope)
    prefix = f"{scope.path}/" if scope.path else ""
    for member in scope.instances():
        try:
            found = read_instant(member.instance.level, path, prefix, scope.findings.report)
        except READING_FAULTS as fault:
            scope.findings.report("unreadable-value", str(fault), prefix + path.text)
            continue
        if found and found[0].state is ValueState.PRESENT:
            return [Text(found[0].text, prefix + path.text, "DT", found[0].raw())]
    return read_at(scope, path.steps)


def contents_at(scope: Scope) -> list[ContentItem]:
    """The roots of the content trees in a scope: one of an instance, all of a study."""
    assert isinstance(scope, StudyScope | SeriesScope | InstanceScope)
    found = (member.content() for member in scope.instances())
    return [root for root in found if root is not None]
