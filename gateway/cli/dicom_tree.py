"""A key object selection drawn as a tree: study, series, instance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from adapters.dicom.dictionary import uid_name
from adapters.dicom.manifest import Issuer
from adapters.dicom.selection import FAULTS, SelectedSeries, Selection, read_file
from gateway.model import Payload

FILE_BYTES_MAX = 64 << 20


def selection_of(file: Path) -> Selection | None:
    """The selection in a file; None when it is none, or cannot be read as one."""
    size = file.stat().st_size
    if size > FILE_BYTES_MAX:
        return None
    try:
        return read_file(Payload("", size, path=file))
    except FAULTS:
        return None


def selection_tree(selection: Selection) -> Iterator[str]:
    """The lines of the tree."""
    title = selection.title
    yield f"{title.meaning} ({title.value}, {title.scheme}), version {selection.version or '?'}"
    yield f"  SOP Instance UID {selection.uid}"
    yield _named("Patient ID", selection.patient.value, *_issuer(selection.patient.issuer))
    for each in selection.requests:
        if each.accession.value:
            issuer = _issuer(each.accession.issuer)
            yield _named("Accession number", each.accession.value, *issuer)
        if each.placer.value:
            yield _named("Placer order number", each.placer.value, *_issuer(each.placer.issuer))
    for report in selection.reports:
        yield _named("Report", report)
    if selection.predecessor:
        yield _named("Replaces", selection.predecessor)
    for study in selection.studies:
        yield f"Study {study.uid}"
        for number, series in enumerate(study.series, 1):
            yield from _series(series, last=number == len(study.series))


def _series(series: SelectedSeries, *, last: bool) -> Iterator[str]:
    branch, trunk = ("└─", "   ") if last else ("├─", "│  ")
    about = [series.number, series.modality, series.description, series.uid or "not named"]
    yield f"{branch} Series {' '.join(each for each in about if each)}"
    places = (series.retrieve_url, series.retrieve_ae_title, series.retrieve_location_uid)
    if any(places):
        yield f"{trunk}  {' '.join(each for each in places if each)}"
    for place, each in enumerate(series.instances, 1):
        fork = "└─" if place == len(series.instances) else "├─"
        frames = f", {each.frames} frames" if each.frames else ""
        number = f"{each.number} " if each.number else ""
        yield f"{trunk}{fork} {number}{each.uid} {uid_name(each.sop_class)}{frames}"


def _named(name: str, *values: str) -> str:
    return f"  {name} {' '.join(each for each in values if each)}"


def _issuer(issuer: Issuer) -> tuple[str, str]:
    return issuer.namespace, issuer.universal
