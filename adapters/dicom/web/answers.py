"""What a Store transaction answers (PS3.18 10.5.3, annex I)."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from starlette.responses import Response

from adapters.dicom.json_model import Attributes
from adapters.dicom.storage import CANNOT_UNDERSTAND, OUT_OF_RESOURCES, SUCCESS
from adapters.dicom.web.media import DICOM_JSON, DICOM_XML
from adapters.dicom.web.native_xml import native_xml
from adapters.dicom.web.storing import TOO_LARGE, Stored


def store_response(results: Sequence[Stored], base: str) -> Attributes:
    """The Store Instances Response Module (table I.1-1). ``base`` is the service's address."""
    module: Attributes = {}
    studies = {each.study for each in results if each.status == SUCCESS}
    module["00081190"] = {"vr": "UR"}
    if len(studies) == 1:
        module["00081190"]["Value"] = [f"{base}/studies/{studies.pop()}"]
    failed = [
        {**_reference(each), "00081197": {"vr": "US", "Value": [each.status]}}
        for each in results
        if each.status != SUCCESS and each.sop_instance
    ]
    stored = [
        {
            **_reference(each),
            "00081190": {
                "vr": "UR",
                "Value": [
                    f"{base}/studies/{each.study}/series/{each.series}"
                    f"/instances/{each.sop_instance}"
                ],
            },
        }
        for each in results
        if each.status == SUCCESS
    ]
    others = [
        {"00081197": {"vr": "US", "Value": [each.status]}}
        for each in results
        if each.status != SUCCESS and not each.sop_instance
    ]
    for tag, items in (("00081198", failed), ("00081199", stored), ("0008119A", others)):
        if items:
            module[tag] = {"vr": "SQ", "Value": items}
    return module


def _reference(each: Stored) -> Attributes:
    return {
        "00081150": {"vr": "UI", "Value": [each.sop_class]},
        "00081155": {"vr": "UI", "Value": [each.sop_instance]},
    }


def store_status(results: Sequence[Stored]) -> int:
    """The HTTP status (table 10.5.3-1, section 8.5). 503: nothing could be kept, and may be sent
    again; 413: nothing but objects that are too large."""
    statuses = {each.status for each in results}
    if not results:
        return 400
    if statuses == {SUCCESS}:
        return 200
    if SUCCESS in statuses:
        return 202
    if statuses == {OUT_OF_RESOURCES}:
        return 503
    if statuses == {TOO_LARGE}:
        return 413
    if statuses == {CANNOT_UNDERSTAND} and not any(each.sop_instance for each in results):
        return 400
    return 409


def store_answer(results: Sequence[Stored], base: str, *, kind: str, status: int) -> Response:
    """The whole answer in the media type ``kind``."""
    module = store_response(results, base)
    body = native_xml(module) if kind == DICOM_XML else orjson.dumps(module)
    return Response(body, status, media_type=kind if kind == DICOM_XML else DICOM_JSON)
