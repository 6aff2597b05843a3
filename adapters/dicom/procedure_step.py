"""Modality performed procedure step, as SCP (PS3.4 annex F): N-CREATE and N-SET.

A step tells which study is being made, when it is done, and which instances it consists of.
"""

from __future__ import annotations

import uuid
from dataclasses import replace

from adapters.dicom.command import N_CREATE_RQ, Command, Status
from adapters.dicom.dataset import STUDY_INSTANCE_UID, Level
from adapters.dicom.identification import is_uid
from adapters.dicom.ledger import PerformedStep, StudyLedger
from adapters.dicom.references import FAULTS, INSTANCES_MAX, read_level, references

SOP_CLASS = "1.2.840.10008.3.1.2.3.3"

STEP_STATUS = 0x00400252
SCHEDULED_STEP = 0x00400270
SCHEDULED_STEP_ID = 0x00400009
SCHEDULED_MAX = 100
PERFORMED_SERIES = 0x00400340
REFERENCED_IMAGES = 0x00081140
REFERENCED_OTHERS = 0x00400220

IN_PROGRESS = "IN PROGRESS"
ENDED = frozenset({"COMPLETED", "DISCONTINUED"})

INVALID_VALUE = 0x0106
PROCESSING_FAILURE = 0x0110
DUPLICATE_INSTANCE = 0x0111
NO_SUCH_INSTANCE = 0x0112
MISSING_ATTRIBUTE = 0x0120
"""PS3.7 annex C.5. A step that has ended is refused with 0x0110 (PS3.4 F.7.2.2.4)."""


def serve(
    ledger: StudyLedger, request: Command, data_set: bytes, transfer_syntax: str
) -> tuple[Status, str]:
    """The status of an N-CREATE or N-SET, and the step's UID. Raises LedgerUnavailable."""
    try:
        level = read_level(data_set, transfer_syntax)
        status, instances = _word(level, STEP_STATUS), _instances(level)
        study = _study(level)
        found = (each.text(SCHEDULED_STEP_ID) for each in level.items(SCHEDULED_STEP))
        scheduled = tuple(uid for uid in found if uid)[:SCHEDULED_MAX]
    except FAULTS:
        return Status(PROCESSING_FAILURE, "the data set cannot be read"), ""
    if instances is None:
        return Status(PROCESSING_FAILURE, f"more than {INSTANCES_MAX} instances"), ""
    if request.field == N_CREATE_RQ:
        return _create(ledger, request, PerformedStep(
            uid="", study=study, status=status, instances=instances, body=data_set,
            scheduled=scheduled,
        ))  # fmt: skip
    uid = request.sop_instance
    known = ledger.step(uid)
    if known is None:
        return Status(NO_SUCH_INSTANCE), uid
    if known.status in ENDED:
        return Status(PROCESSING_FAILURE, "the step may no longer be updated"), uid
    if status not in ENDED | {IN_PROGRESS, ""}:
        return Status(INVALID_VALUE, "Performed Procedure Step Status"), uid
    ledger.change_step(
        replace(
            known,
            status=status or known.status,
            instances=instances or known.instances,
            body=data_set,
        )
    )
    return Status(0), uid


def _create(ledger: StudyLedger, request: Command, step: PerformedStep) -> tuple[Status, str]:
    named = request.names_instance()
    uid = request.sop_instance if named else f"2.25.{uuid.uuid4().int}"
    if not is_uid(uid):
        return Status(INVALID_VALUE, "Affected SOP Instance UID"), uid
    if not step.status:
        return Status(MISSING_ATTRIBUTE, "Performed Procedure Step Status"), uid
    if step.status != IN_PROGRESS:
        return Status(INVALID_VALUE, "Performed Procedure Step Status"), uid
    if not is_uid(step.study):
        return Status(MISSING_ATTRIBUTE, "Study Instance UID of the scheduled step"), uid
    made = ledger.create_step(replace(step, uid=uid))
    return Status(0 if made else DUPLICATE_INSTANCE), uid


def _study(level: Level) -> str:
    """The study of the first scheduled step that names one (type 1, PS3.4 table F.7.2-1)."""
    named = (each.text(STUDY_INSTANCE_UID) for each in level.items(SCHEDULED_STEP))
    return next((uid for uid in named if uid), "")


def _instances(level: Level) -> tuple[str, ...] | None:
    """The instances of all performed series, each once; None when they are too many."""
    found: dict[str, None] = {}
    for series in level.items(PERFORMED_SERIES):
        for tag in (REFERENCED_IMAGES, REFERENCED_OTHERS):
            # What is no UID never comes; nobody waits for it.
            found |= {uid: None for _, uid in references(series.items(tag)) if is_uid(uid)}
            if len(found) > INSTANCES_MAX:
                return None
    return tuple(found)


def _word(level: Level, tag: int) -> str:
    return level.text(tag).upper()
