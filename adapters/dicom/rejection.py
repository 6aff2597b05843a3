"""Rejection notes: what they take out of a study (IHE RAD Imaging Object Change Management)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from adapters.dicom.selection import Selection

RETENTION_EXPIRED = "113039"
"""Data Retention Policy Expired (DCM): the objects go, but what they said was right."""


@dataclass(frozen=True, slots=True)
class Rejections:
    """What rejection notes take out of a study (IHE RAD IOCM), by code of CID 7011. ``notes`` are
    the notes themselves that stand."""

    study: str
    series: Mapping[str, str]
    instances: Mapping[str, str]
    notes: Mapping[str, str] = field(default_factory=dict)

    def reason(self, series: str, instance: str) -> str:
        """The code for which an instance is rejected; empty when it is not."""
        if instance in self.notes:
            # A note that takes the whole study out does not take itself out.
            return self.instances.get(instance, "")
        return self.instances.get(instance) or self.series.get(series) or self.study

    def hidden_by(self, series: str, instance: str) -> str:
        """The same, and of a note that stands the code by which it rejects."""
        return self.notes.get(instance) or self.reason(series, instance)


def rejections(study: str, notes: Iterable[Selection]) -> Rejections:
    """What is rejected once all notes on a study, in their order of arrival, are taken in.

    A later note lifts an earlier one by rejecting that note; a revocation lifts what it names.
    A series without instances, or a study without series, is meant as a whole.
    """
    standing: dict[str, _Note] = {}
    for note in notes:
        aimed = _aim(study, note)
        if note.revokes:
            standing = {uid: each.without(aimed) for uid, each in standing.items()}
        elif note.rejects:
            for uid in aimed.instances:
                standing.pop(uid, None)
            standing[note.uid] = aimed
    whole = next((each.reason for each in standing.values() if each.study), "")
    return Rejections(
        whole,
        {uid: each.reason for each in standing.values() for uid in each.series},
        {uid: each.reason for each in standing.values() for uid in each.instances},
        {uid: each.reason for uid, each in standing.items()},
    )


@dataclass(frozen=True, slots=True)
class _Note:
    reason: str
    study: bool
    series: frozenset[str]
    instances: frozenset[str]

    def without(self, other: _Note) -> _Note:
        if other.study:
            return _Note(self.reason, study=False, series=frozenset(), instances=frozenset())
        return replace(
            self, series=self.series - other.series, instances=self.instances - other.instances
        )


def _aim(study: str, note: Selection) -> _Note:
    mine = [each for each in note.studies if each.uid in (study, "")]
    series = [each for one in mine for each in one.series]
    return _Note(
        note.rejects,
        study=any(not one.series for one in mine),
        series=frozenset(each.uid for each in series if each.uid and not each.instances),
        instances=frozenset(each.uid for one in series for each in one.instances),
    )
