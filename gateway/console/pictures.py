"""One study of what is held: its series with a picture of each, and a viewer for their frames.

A preview for those who run the gateway, not for reading an examination: pictures are eight bits
deep and lossy, and the page says so.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, HTTPException, Query, Request
from starlette.responses import HTMLResponse, Response

from adapters.dicom.holdings import HeldInstance, HoldingsUnavailable, Match, QueryLevel
from adapters.dicom.identification import is_uid
from adapters.dicom.imaging.process import Made, NoPicture
from adapters.dicom.json_model import Attributes
from adapters.dicom.web.frames import BadParameter, picture_parameters
from gateway.console.context import Alone, Console
from gateway.journal.studies import accounts

SERIES_SHOWN = 200
INSTANCES_SHOWN = 5_000
"""Of one series; what lies behind them is retrieved, not looked at here."""
SIDE = 768
THUMBNAIL_SIDE = 160

CT_WINDOWS = (
    ("Soft tissue", 40, 400), ("Lung", -600, 1500), ("Bone", 400, 1800), ("Brain", 40, 80),
)  # fmt: skip
"""Usual windows for CT, in Hounsfield units: center and width."""


@dataclass(frozen=True, slots=True)
class SeriesLine:
    """One series of a study page. ``pictured``: its instances have rows of pixels."""

    uid: str
    number: str
    modality: str
    description: str
    body_part: str
    date: str
    instances: int
    pictured: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """A window that may be chosen."""

    label: str
    href: str
    chosen: bool


def picture_routes(console: Console) -> APIRouter:
    """``/studies/{study}``, its series' viewer and its pictures."""
    router = APIRouter(include_in_schema=False)

    @router.get("/studies/{study}", response_class=HTMLResponse)
    def study_page(request: Request, study: str) -> HTMLResponse:
        found = _find(console, QueryLevel.SERIES, StudyInstanceUID=_uid(study))
        if not found:
            return console.not_found("study of this UID")
        console.saw(request, "study looked at")
        types = console.gateway.settings.sources
        with console.journal.read() as connection:
            known = accounts(
                connection, sources=[each.name for each in types], study=study, limit=20
            )
        context = {
            "study": study,
            "head": _head(found[0].attributes),
            "series": [_line(match) for match in found],
            "accounts": known,
            "shown": SERIES_SHOWN,
            "pictures": console.gateway.pictures.on(),
        }
        return console.page("study.html", "Studies", context)

    @router.get("/studies/{study}/series/{series}", response_class=HTMLResponse)
    def viewer(
        request: Request,
        study: str,
        series: str,
        place: Annotated[int, Query(ge=1, le=1_000_000_000)] = 1,
        window: Annotated[str, Query(max_length=80)] = "",
    ) -> HTMLResponse:
        found = _find(
            console, QueryLevel.SERIES, StudyInstanceUID=_uid(study), SeriesInstanceUID=_uid(series)
        )
        if not found:
            return console.not_found("series of this UID")
        console.saw(request, "series looked at")
        context = {
            "study": study,
            "series": _line(found[0]),
            "head": _head(found[0].attributes),
            **_view(console, found[0], place, window),
        }
        if request.headers.get("hx-request") == "true":
            alone = Alone(
                heading="Frames", back=f"/studies/{study}", back_label="the study",
                current="Studies",
            )  # fmt: skip
            return console.fragment(request, "viewer_frame.html", context, alone)
        return console.page("viewer.html", "Studies", context)

    @router.get("/studies/{study}/series/{series}/picture")
    def picture(
        study: str,
        series: str,
        place: Annotated[int, Query(ge=0, le=1_000_000_000)] = 0,
        window: Annotated[str, Query(max_length=80)] = "",
        small: Annotated[bool, Query()] = False,
    ) -> Response:
        # Without a place: the one in the middle, which says more than the first.
        instances = _instances(console, _uid(study), _uid(series))
        total = sum(each.frames for each in instances)
        if not total:
            raise HTTPException(404, "there is no such picture")
        try:
            made = _made(console, instances, place or (total + 1) // 2, window, small=small)
        except (NoPicture, LookupError, OSError) as error:
            raise HTTPException(404, f"there is no picture: {error}") from None
        return Response(made.data, media_type="image/jpeg")

    return router


def _uid(text: str) -> str:
    if not is_uid(text):
        raise HTTPException(404, "the address names no UID")
    return text


def _find(console: Console, level: QueryLevel, **keys: str) -> Sequence[Match]:
    try:
        return console.gateway.holdings.find(level, keys, limit=SERIES_SHOWN)
    except HoldingsUnavailable:
        raise HTTPException(503, "The journal does not answer; try again soon.") from None


def _instances(console: Console, study: str, series: str) -> list[HeldInstance]:
    """The series' instances, as many as are shown."""
    found: list[HeldInstance] = []
    try:
        while len(found) < INSTANCES_SHOWN:
            page = console.gateway.holdings.instances(study=study, series=series, offset=len(found))
            found += page
            if not page:
                break
    except HoldingsUnavailable:
        raise HTTPException(503, "The journal does not answer; try again soon.") from None
    return found[:INSTANCES_SHOWN]


def _made(
    console: Console, instances: Sequence[HeldInstance], place: int, window: str, *, small: bool
) -> Made:
    """The picture at a place among all frames of a series. Raises NoPicture, LookupError,
    OSError."""
    ends = list(accumulate(each.frames for each in instances))
    index = bisect_right(ends, place - 1)
    if index >= len(instances):
        raise LookupError("there is no such frame")
    held = instances[index]
    frame = place - (ends[index] - held.frames)
    try:
        asked = picture_parameters({"window": window})
    except BadParameter:
        asked = {}
    side = THUMBNAIL_SIDE if small else SIDE
    return console.gateway.pictures.make(
        console.gateway.holdings.payload(held), "render", kind="jpeg", frame=frame,
        columns=side, rows=side, **asked,
    )  # fmt: skip


def _view(console: Console, found: Match, place: int, window: str) -> dict[str, Any]:
    """What the viewer shows of one place in a series."""
    study, series = found.study, found.series
    instances = _instances(console, study, series)
    total = sum(each.frames for each in instances)
    place = min(place, max(total, 1))
    here = f"/studies/{study}/series/{series}"

    def address(to: int, through: str = window, path: str = here) -> str:
        asked = {"place": to} | ({"window": through} if through else {})
        return f"{path}?{urlencode(asked)}"

    why, said = "", {}
    try:
        said = dict(_made(console, instances, place, window, small=False).said)
    except (NoPicture, LookupError, OSError) as error:
        why = str(error) if isinstance(error, NoPicture) else "its bytes cannot be read"
    modality = _text(found.attributes, "00080060")
    ends = list(accumulate(each.frames for each in instances))
    index = min(bisect_right(ends, place - 1), max(len(instances) - 1, 0))
    held = instances[index] if instances else None
    return {
        "place": place,
        "total": total,
        "instance": held,
        "frame": place - (ends[index] - held.frames) if held is not None else 0,
        "cut": len(instances) == INSTANCES_SHOWN,
        "said": said,
        "why": why,
        "image": address(place, path=f"{here}/picture"),
        "previous": address(place - 1) if place > 1 else "",
        "next": address(place + 1) if place < total else "",
        "window": window,
        "here": here,
        "windows": _windows(said, window, modality, lambda through: address(place, through)),
    }


def _windows(said: dict[str, Any], window: str, modality: str, address: Any) -> list[Choice]:
    """Windows to choose from: the object's own, this one wider and narrower, the usual ones."""
    if "width" not in said:
        return []
    center, width = float(said["center"]), float(said["width"])
    offered = [
        ("As the object says", ""),
        ("Narrower", f"{center:g},{max(width / 1.5, 1):g}"),
        ("Wider", f"{center:g},{width * 1.5:g}"),
        ("Brighter", f"{center - width / 8:g},{width:g}"),
        ("Darker", f"{center + width / 8:g},{width:g}"),
    ]
    if modality == "CT":
        offered += [(label, f"{c},{w}") for label, c, w in CT_WINDOWS]
    return [Choice(label, address(value), value == window) for label, value in offered]


def _head(attributes: Attributes) -> dict[str, str]:
    """What stands above a study."""
    names = attributes.get("00100010", {}).get("Value") or [{}]
    name = names[0].get("Alphabetic", "") if isinstance(names[0], dict) else ""
    return {
        "name": name.replace("^", " ").strip(),
        "patient_id": _text(attributes, "00100020"),
        "birth_date": _date(_text(attributes, "00100030")),
        "date": _date(_text(attributes, "00080020")),
        "description": _text(attributes, "00081030"),
        "accession": _text(attributes, "00080050"),
        "modalities": ", ".join(map(str, attributes.get("00080061", {}).get("Value", ()))),
        "series": _text(attributes, "00201206"),
        "instances": _text(attributes, "00201208"),
    }


def _line(match: Match) -> SeriesLine:
    of = match.attributes
    return SeriesLine(
        uid=match.series,
        number=_text(of, "00200011"),
        modality=_text(of, "00080060"),
        description=_text(of, "0008103E") or _text(of, "00181030"),
        body_part=_text(of, "00180015"),
        date=_date(_text(of, "00080021")),
        instances=int(_text(of, "00201209") or 0),
        pictured=_text(of, "00080060") not in WITHOUT_PICTURES,
    )


WITHOUT_PICTURES = frozenset(
    {"SR", "KO", "PR", "DOC", "REG", "SEG", "RTPLAN", "RTSTRUCT", "RTRECORD", "RWV", "ECG", "HD",
     "PLAN", "AU", "M3D", "FID", "TEXTUREMAP"}
)  # fmt: skip
"""Modalities whose instances hold no image to look at."""


def _text(attributes: Attributes, tag: str) -> str:
    values = attributes.get(tag, {}).get("Value") or [""]
    return "" if values[0] is None or isinstance(values[0], dict) else str(values[0])


def _date(text: str) -> str:
    return f"{text[:4]}-{text[4:6]}-{text[6:8]}" if len(text) == 8 and text.isdigit() else text
