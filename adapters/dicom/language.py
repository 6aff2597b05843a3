"""How a mapping reads a DICOM study: paths of keywords and content items, scopes of both."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from enum import Enum

from adapters.dicom.content import AroundRoot, ContentItem
from adapters.dicom.content_paths import is_content_path, parse_content
from adapters.dicom.groups import group_of, read_group
from adapters.dicom.paths import DicomPath, Step, parse
from adapters.dicom.reader import DicomReader
from adapters.dicom.reading import ItemScope, Sequenced, code_token
from adapters.dicom.study import (
    InstanceScope,
    SeriesScope,
    StudyScope,
    contents_at,
    instant_at,
    read_at,
)
from adapters.dicom.values import Bulk, Text
from gateway.model import Format
from gateway.ports import (
    CompiledPath,
    CompiledScope,
    PathError,
    Scope,
    SourceLanguage,
    Value,
)

__all__ = ["DicomLanguage", "DicomReader", "Place"]


class Place(Enum):
    """What a scope is of; the ``kind`` that the engine hands back as ``within``."""

    STUDY = "study"
    SERIES = "series"
    INSTANCE = "instance"
    ITEM = "item"
    CONTENT = "content item"


_COMPUTED: dict[str, tuple[Place, str, Callable[[StudyScope | SeriesScope], Sequence[str]]]] = {
    "NumberOfStudyRelatedSeries": (
        Place.STUDY, "IS", lambda scope: [str(len(_study(scope).content_series()))],
    ),
    "NumberOfStudyRelatedInstances": (
        Place.STUDY, "IS", lambda scope: [str(len(_study(scope).content()))],
    ),
    "InstanceAvailability": (
        Place.STUDY, "CS", lambda scope: ("UNAVAILABLE" if _study(scope).withdrawn else "ONLINE",),
    ),
    "ModalitiesInStudy": (Place.STUDY, "CS", lambda scope: _study(scope).modalities),
    "SOPClassesInStudy": (Place.STUDY, "UI", lambda scope: _study(scope).sop_classes),
    "NumberOfSeriesRelatedInstances": (
        Place.SERIES, "IS", lambda scope: [str(len(scope.instances()))],
    ),
}  # fmt: skip
"""Attributes that say something of what is here; a data set that carries one is not believed."""

_SCOPES = ("series", "instance", "path", "content")

FILE = "file()"
"""The path of an instance's exact bytes: the DICOM file (PS3.10) as it was kept."""
FILE_BYTES_MAX = 64 << 20


def _study(scope: StudyScope | SeriesScope) -> StudyScope:
    assert isinstance(scope, StudyScope)
    return scope


class DicomLanguage(SourceLanguage):
    """Paths of DICOM keywords, checked against the dictionary when a mapping is loaded.

    Scopes: ``{series: "*"}`` in the study, ``{instance: "*"}`` in the study or a series,
    ``{path: KEYWORD}`` for the items of a sequence, ``{content: PATH}`` in an instance or a
    content item for the content items of a structured report. ``versions`` mean nothing here: the
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
        if text == FILE:
            return _file_path(within)
        if is_content_path(text):
            return _content_path(text, within)
        group = group_of(text)
        if group is not None:
            return CompiledPath(text, lambda scope: read_group(scope, group), "", True)
        path = parse(text)
        for step in path.steps:
            if step.keyword in _COMPUTED:
                raise PathError(f"{text}: {step.keyword} is computed and stands alone")
        if path.time:
            return CompiledPath(text, lambda scope: instant_at(scope, path), "DT", False)
        return CompiledPath(
            text,
            lambda scope: path.parts_of(read_at(scope, path.steps)),
            path.datatype,
            path.repeats,
            _content_of(path) if within in (Place.CONTENT, Place.ITEM) else None,
        )

    def scope(
        self,
        spec: Mapping[str, str],
        *,
        versions: Sequence[str],  # noqa: ARG002
        within: object,
    ) -> CompiledScope:
        """Compile ``series``, ``instance`` (both only ``"*"``), ``path`` or ``content``.

        Raises PathError.
        """
        if len(spec) != 1:
            raise PathError(f"each: takes one of {', '.join(_SCOPES)}")
        ((word, value),) = spec.items()
        if word == "path":
            return _items(value)
        if word == "content":
            return _content(value, within)
        if word not in _SCOPES:
            near = difflib.get_close_matches(word, _SCOPES, n=1)
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
            "series": str(len(root.content_series())),
            "instances": str(len(root.content())),
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


def _content_of(path: DicomPath) -> Callable[[Scope], Hashable] | None:
    """A cheap look at a code (``ConceptNameCodeSequence(1)``): reports repeat the same ones."""
    (step, *rest) = path.steps
    if rest or path.part or step.place != 1 or not step.keyword.endswith("CodeSequence"):
        return None

    def content(scope: Scope) -> Hashable:
        assert isinstance(scope, ContentItem | ItemScope)
        return code_token(scope.level, step.tag)

    return content


def _content_path(text: str, within: object) -> CompiledPath:
    path = parse_content(text)
    if within is Place.ITEM:
        raise PathError(f"{text}: content items stand in a report, not in an item of a sequence")
    datatype = path.attribute.datatype if path.attribute is not None else ""

    def read(scope: Scope) -> Sequence[Value]:
        if isinstance(scope, ContentItem):
            return path.read(scope)
        return [value for root in contents_at(scope) for value in path.read(AroundRoot(root))]

    return CompiledPath(text, read, datatype, path.place == 0)


def _file_path(within: object) -> CompiledPath:
    if within is not Place.INSTANCE:
        raise PathError(f"{FILE}: the bytes are those of an instance", 'each: {instance: "*"}')

    def read(scope: Scope) -> Sequence[Value]:
        assert isinstance(scope, InstanceScope)
        instance, where = scope.instance, f"{scope.path}/{FILE}"
        if instance.size > FILE_BYTES_MAX:
            scope.findings.report(
                "unreadable-value", f"a file of more than {FILE_BYTES_MAX} bytes", where
            )
            return []
        return [Bulk(where, "OB", instance.size, instance.file_bytes)]

    return CompiledPath(FILE, read, "OB", False)


def _content(text: str, within: object) -> CompiledScope:
    path = parse_content(text)
    if within not in (Place.INSTANCE, Place.CONTENT):
        raise PathError("content: stands in an instance or a content item", 'instance: "*"')
    if path.attribute is not None or path.special:
        raise PathError(f"{text} is a value; only content items are walked")

    def walk(scope: Scope) -> Iterator[Scope]:
        if isinstance(scope, ContentItem):
            yield from path.items(scope)
            return
        for root in contents_at(scope):
            yield from path.items(AroundRoot(root))

    return CompiledScope(text, walk, Place.CONTENT)


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
    yield from scope.content_series()


def _all_instances(scope: Scope) -> Iterator[Scope]:
    assert isinstance(scope, StudyScope | SeriesScope)
    yield from scope.instances()
