"""Stored instances of one study, read into the root scope of the DICOM language."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from adapters.dicom.content_tree import Contents
from adapters.dicom.dataset import Instance
from adapters.dicom.manifest import KEY_OBJECTS
from adapters.dicom.reading import READING_FAULTS
from adapters.dicom.rejection import RETENTION_EXPIRED, rejections
from adapters.dicom.selection import Selection, read_selection
from adapters.dicom.study import Findings, InstanceScope, SeriesScope, StudyScope
from gateway.model import Format, Payload
from gateway.ports import Unreadable

INSTANCES_MAX = 50_000
"""More instances than this in one study are refused."""

HEADER_BYTES_MAX = 128 << 20
"""The memory that the headers of one study may take; beyond it they are read from the files."""


class DicomReader:
    """Reads the stored instances of one study (DICOM files) into its root scope."""

    format = Format.DICOM

    def read(self, payloads: Sequence[Payload], *, encoding: str = "") -> StudyScope:  # noqa: ARG002
        """The instances of one study, without those that its rejection notes take out (in the
        order of arrival, in which a later note may lift an earlier one); headers only.
        Those are the scope's ``rejected``.

        Otherwise as :meth:`read_all`.
        """
        scope = self.read_all(payloads)
        selections = read_selections(scope.instances(), payloads)
        notes = [each for each in selections.values() if each.rejects or each.revokes]
        return _without_rejected(scope, notes) if notes else scope

    def read_all(self, payloads: Sequence[Payload]) -> StudyScope:
        """All instances of one study, rejected or not.

        An instance that cannot be read is flagged ``instance-unreadable`` and left out;
        of two different objects with one SOP Instance UID the one with the lower digest
        is taken and the other flagged ``instance-conflict``. Raises Unreadable when no
        instance can be read, when there are more than :data:`INSTANCES_MAX`, or when they
        name more than one study or patient, or two authorities that issued the Patient ID.
        """
        if len(payloads) > INSTANCES_MAX:
            raise Unreadable(f"{len(payloads)} instances; {INSTANCES_MAX} are read at most")
        findings = Findings()
        instances: dict[str, Instance] = {}
        weight = 0
        for payload in payloads:
            instance = _instance(payload, findings)
            if instance is None:
                continue
            weight += instance.weight
            if weight > HEADER_BYTES_MAX:
                instance.let_go()
            _take(instances, instance, findings)
        if not instances:
            first = findings.flags[0].detail if findings.flags else "there are none"
            raise Unreadable(f"none of {len(payloads)} instances can be read: {first}")
        _one_study(instances.values())
        return _study(instances.values(), findings)


def read_selections(
    members: Iterable[InstanceScope], payloads: Sequence[Payload]
) -> dict[str, Selection]:
    """The key object selections among instances, by UID, in the order in which ``payloads``
    arrived; what cannot be read is flagged and left out."""
    ordered = [each for each in members if each.instance.sop_class == KEY_OBJECTS]
    if not ordered:
        return {}
    arrived = {payload.sha256: place for place, payload in enumerate(payloads)}
    found: dict[str, Selection] = {}
    for member in sorted(ordered, key=lambda each: arrived[each.instance.sha256]):
        try:
            read = read_selection(member.instance.level)
        except READING_FAULTS as fault:
            member.findings.report("content-not-read", str(fault), member.path)
            continue
        found[member.instance.sop_instance] = read
    return found


def _without_rejected(scope: StudyScope, notes: Sequence[Selection]) -> StudyScope:
    rejected = rejections(scope.study_uid, notes)
    kept, aside, gone, wrong = [], {each.uid for each in notes}, 0, []
    for each in scope.instances():
        reason = rejected.reason(each.instance.series, each.instance.sop_instance)
        if not reason:
            kept.append(each.instance)
            continue
        gone += 1
        if reason != RETENTION_EXPIRED:
            wrong.append(each.instance)
    standing = frozenset(
        each.instance.sop_instance
        for each in scope.instances()
        if rejected.hidden_by(each.instance.series, each.instance.sop_instance)
        and each.instance.sop_instance in aside
    )
    if not gone:
        return replace(scope, notes=standing)
    withdrawn = all(each.sop_instance in aside for each in kept)
    # The notes themselves stay: a study of nothing has not even a name.
    kept = kept or [
        each.instance for each in scope.instances() if each.instance.sop_instance in aside
    ]
    # What is odd in what is not to be used any more is nobody's work.
    apart = _study(wrong, Findings()) if wrong else None
    made = _study(kept, scope.findings, withdrawn=withdrawn)
    return replace(made, rejected=apart, notes=standing)


def _instance(payload: Payload, findings: Findings) -> Instance | None:
    where = f"instance {payload.sha256[:12]}"
    try:
        instance = Instance(payload)
    except READING_FAULTS as fault:
        reason = type(fault).__name__ if isinstance(fault, OSError) else str(fault)
        findings.report("instance-unreadable", reason, where)
        return None
    for name, uid in (
        ("StudyInstanceUID", instance.study),
        ("SeriesInstanceUID", instance.series),
        ("SOPInstanceUID", instance.sop_instance),
    ):
        if not uid:
            findings.report("instance-unreadable", f"there is no {name}", where)
            return None
    return instance


def _take(instances: dict[str, Instance], instance: Instance, findings: Findings) -> None:
    other = instances.get(instance.sop_instance)
    if other is not None and other.sha256 != instance.sha256:
        left_out = max(other, instance, key=lambda one: one.sha256)
        findings.report(
            "instance-conflict",
            "two different objects have one SOP Instance UID",
            f"instance {left_out.sha256[:12]}",
        )
        if left_out is instance:
            return
    instances[instance.sop_instance] = instance


def _one_study(instances: Collection[Instance]) -> None:
    """Raises Unreadable when the instances do not belong together."""
    studies: set[str] = set()
    patients: set[bytes] = set()
    authorities: set[str] = set()
    for instance in instances:
        studies.add(instance.study)
        patients.add(instance.patient)
        if instance.patient:
            authorities.add(instance.authority)
    if len(studies) > 1:
        raise Unreadable("the instances name more than one study", "StudyInstanceUID")
    if len(patients - {b""}) > 1:
        # A study of two patients must not reach either's record.
        raise Unreadable("the study's instances name more than one patient", "PatientID")
    if len(authorities - {""}) > 1:
        # The same number of two authorities is that of two patients.
        raise Unreadable(
            "the study's instances name more than one issuer of the Patient ID",
            "IssuerOfPatientIDQualifiersSequence",
        )


def _study(
    instances: Collection[Instance], findings: Findings, *, withdrawn: bool = False
) -> StudyScope:
    by_series: dict[str, list[Instance]] = {}
    for instance in instances:
        by_series.setdefault(instance.series, []).append(instance)
    ordered = sorted(
        by_series.items(), key=lambda one: (min(i.series_number for i in one[1]), one[0])
    )
    series = []
    contents = Contents()
    for place, (_, members) in enumerate(ordered, 1):
        members.sort(key=lambda one: (one.number, one.sop_instance))
        path = f"series({place})"
        scopes = tuple(
            InstanceScope(f"{path}/instance({number})", member, findings, contents)
            for number, member in enumerate(members, 1)
        )
        series.append(SeriesScope(path, scopes, findings))
    return StudyScope(tuple(series), findings, withdrawn=withdrawn)
