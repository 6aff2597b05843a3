"""How a mapping reads a DICOM study: paths of keywords, scopes of series and instances."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum

from adapters.dicom.paths import TIMEZONE_OFFSET, DicomPath, Step, parse
from adapters.dicom.reader import DicomReader
from adapters.dicom.study import ItemScope, Sequenced, SeriesScope, StudyScope, read_at
from adapters.dicom.values import Text
from gateway.model import Format
from gateway.ports import (
    CompiledPath,
    CompiledScope,
    PathError,
    Scope,
    SourceLanguage,
    Value,
    ValueState,
)

__all__ = ["DicomLanguage", "DicomReader", "Place"]


class Place(Enum):
    """What a scope is of; the ``kind`` that the engine hands back as ``within``."""

    STUDY = "study"
    SERIES = "series"
    INSTANCE = "instance"
    ITEM = "item"


_COMPUTED: dict[str, tuple[Place, str, Callable[[StudyScope | SeriesScope], Sequence[str]]]] = {
    "NumberOfStudyRelatedSeries": (
        Place.STUDY, "IS", lambda scope: [str(len(_study(scope).series))],
    ),
    "NumberOfStudyRelatedInstances": (
        Place.STUDY, "IS", lambda scope: [str(len(scope.instances()))],
    ),
    "ModalitiesInStudy": (Place.STUDY, "CS", lambda scope: _study(scope).modalities),
    "SOPClassesInStudy": (Place.STUDY, "UI", lambda scope: _study(scope).sop_classes),
    "NumberOfSeriesRelatedInstances": (
        Place.SERIES, "IS", lambda scope: [str(len(scope.instances()))],
    ),
}  # fmt: skip
"""Attributes that say something of what is here; a data set that carries one is not believed."""


_OFFSET = Step(TIMEZONE_OFFSET, "TimezoneOffsetFromUTC")


def _study(scope: StudyScope | SeriesScope) -> StudyScope:
    assert isinstance(scope, StudyScope)
    return scope


class DicomLanguage(SourceLanguage):
    """Paths of DICOM keywords, checked against the dictionary when a mapping is loaded.

    Scopes: ``{series: "*"}`` in the study, ``{instance: "*"}`` in the study or a series,
    ``{path: KEYWORD}`` for the items of a sequence. ``versions`` mean nothing here: the
    dictionary is one, and keywords are never given to another attribute.
    """

    format = Format.DICOM

    def root(self, versions: Sequence[str]) -> object:  # noqa: ARG002
        """The study."""
        return Place.STUDY

    def path(
        self,
        text: str,
        *,
        versions: Sequence[str],  # noqa: ARG002
        within: object,
    ) -> CompiledPath:
        """Compile a path of :mod:`adapters.dicom.paths`, or a computed keyword of the study.

        Raises PathError, with the nearest keyword when one is misspelt.
        """
        if text in _COMPUTED:
            return _computed(text, within)
        path = parse(text)
        for step in path.steps:
            if step.keyword in _COMPUTED:
                raise PathError(f"{text}: {step.keyword} is computed and stands alone")
        if path.time:
            return CompiledPath(text, lambda scope: _instant(scope, path), "DT", False)
        return CompiledPath(
            text,
            lambda scope: path.parts_of(read_at(scope, path.steps)),
            path.datatype,
            path.repeats,
        )

    def scope(
        self,
        spec: Mapping[str, str],
        *,
        versions: Sequence[str],  # noqa: ARG002
        within: object,
    ) -> CompiledScope:
        """Compile ``series``, ``instance`` (both only ``"*"``) or ``path``. Raises PathError."""
        if len(spec) != 1:
            raise PathError("each: takes one of series, instance, path")
        ((word, value),) = spec.items()
        if word == "path":
            return _items(value)
        if word not in ("series", "instance"):
            near = difflib.get_close_matches(word, ("series", "instance", "path"), n=1)
            raise PathError(f"DICOM has no {word} to walk", near[0] if near else "")
        if value != "*":
            raise PathError(f'{word}: only "*" (all of them); narrow it with where:', "*")
        if word == "series" and within is Place.STUDY:
            return CompiledScope("series", _all_series, Place.SERIES)
        if word == "instance" and within in (Place.STUDY, Place.SERIES):
            return CompiledScope("instance", _all_instances, Place.INSTANCE)
        raise PathError(f"there are no {word}s within {getattr(within, 'value', 'this')}")

    def facts(self, root: Scope) -> Mapping[str, str]:
        """``version`` (empty), ``kind`` (``study``), the study's UID, modalities and counts."""
        assert isinstance(root, StudyScope)
        return {
            "version": "",
            "kind": "study",
            "study": root.study_uid,
            "modalities": " ".join(root.modalities),
            "series": str(len(root.series)),
            "instances": str(len(root.instances())),
        }


def _computed(text: str, within: object) -> CompiledPath:
    place, datatype, count = _COMPUTED[text]
    if within is not place:
        raise PathError(f"{text} is computed for a {place.value}; here is another scope")

    def values(scope: Scope) -> Sequence[Value]:
        assert isinstance(scope, StudyScope | SeriesScope)
        where = f"{scope.path}/{text}" if scope.path else text
        found = count(scope)
        return [
            Text(one, where if len(found) == 1 else f"{where}({number})", datatype, one.encode())
            for number, one in enumerate(found, 1)
        ]

    return CompiledPath(text, values, datatype, datatype != "IS")


def _instant(scope: Scope, path: DicomPath) -> Sequence[Value]:
    """A date with its time and offset as one DT; the date alone when there is no time.

    All three come from one instance: the first that has the date.
    """
    if not isinstance(scope, StudyScope | SeriesScope):
        return _instant_of(scope, path)
    prefix = f"{scope.path}/" if scope.path else ""
    for member in scope.instances():
        for value in _instant_of(member, path):
            if value.state is ValueState.PRESENT:
                return [Text(value.text, prefix + path.text, "DT", value.raw())]
    return read_at(scope, path.steps)


def _instant_of(scope: Scope, path: DicomPath) -> Sequence[Value]:
    dates = read_at(scope, path.steps)
    if not dates or dates[0].state is not ValueState.PRESENT:
        return dates[:1]
    date = dates[0].text.replace(".", "")  # yyyy.mm.dd of ACR-NEMA (PS3.5 6.2, DA note)
    times = read_at(scope, path.time)
    time = times[0].text.replace(":", "") if times else ""
    offsets = read_at(scope, (_OFFSET,)) if time else []
    offset = offsets[0].text if offsets else ""
    text = f"{date}{time}{offset}"
    return [Text(text, dates[0].path, "DT", text.encode())]


def _items(value: str) -> CompiledScope:
    path = parse(value)
    if path.datatype != "SQ" or path.part or path.time:
        raise PathError(f"{value} is no sequence; only a sequence has items to walk")
    return CompiledScope(value, lambda scope: _walk_items(scope, path.steps), Place.ITEM)


def _walk_items(scope: Scope, steps: Sequence[Step]) -> Iterator[Scope]:
    for value in read_at(scope, steps):
        if isinstance(value, Sequenced):
            yield ItemScope(value.path, value.level, value.report)


def _all_series(scope: Scope) -> Iterator[Scope]:
    assert isinstance(scope, StudyScope)
    yield from scope.series


def _all_instances(scope: Scope) -> Iterator[Scope]:
    assert isinstance(scope, StudyScope | SeriesScope)
    yield from scope.instances()
