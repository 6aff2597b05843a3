"""Rejection notes that name more than their own study: each of the others gets its own.

A study is gathered, read and given a manifest by its own objects. A note that stands in one study
and names instances of another is therefore handed in once more as the identical document of the
other (:mod:`adapters.dicom.identical`), by the same source, unless its author sent one. Only
studies of the same patient that are held are meant: nobody's note touches the study of somebody
else.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from io import BytesIO

import structlog

from adapters.dicom.identical import (
    EXPLICIT,
    NotCopied,
    identical,
    identical_studies,
    other_uid,
)
from adapters.dicom.identification import Authorities, identify
from adapters.dicom.manifest import KEY_OBJECTS
from adapters.dicom.part10 import read_file_meta
from adapters.dicom.selection import FAULTS, Selection, read_file
from gateway.journal import rejections
from gateway.journal.journal import Journal
from gateway.journal.messages import payload
from gateway.journal.values import Message
from gateway.model import Format, Payload, Received
from gateway.ports import Intake, IntakeUnavailable

STUDIES_MAX = 100
"""Other studies of one note that get it; a note on more is evidence of a faulty writer."""
COMMIT_SECONDS = 60.0

log = structlog.get_logger("ecluse.dicom")


class SharedNotes:
    """Hands notes in for the studies that they name. Thread-safe."""

    def __init__(self, journal: Journal, intake: Intake, now: Callable[[], datetime]) -> None:
        self._journal = journal
        self._intake = intake
        self._now = now

    def share(self, message: Message) -> None:
        """Hand in what is due of a key object selection that is in the index. Idempotent: the
        same bytes are known to intake. Raises IntakeUnavailable, JournalUnavailable and OSError."""
        try:
            data = payload(self._journal, message).read()
            said = read_file(Payload.from_bytes(data))
            if said is None or not (said.rejects or said.revokes):
                return
            lifted = self._lifted(said)
            others = {each.uid for each in said.studies} | {s for _, of in lifted for s in of}
            others -= {said.study, ""} | identical_studies(data)
            if not others:
                return
            if len(others) > STUDIES_MAX:
                log.warning("a rejection note names too many studies", message=message.id)
                return
            self._hand_in(message, said, data, lifted, sorted(others))
        except (KeyError, NotCopied, *FAULTS) as error:
            if isinstance(error, OSError):
                raise
            log.warning("a rejection note cannot be shared", message=message.id,
                        error=type(error).__name__)  # fmt: skip

    def _hand_in(
        self,
        message: Message,
        said: Selection,
        data: bytes,
        lifted: list[tuple[tuple[str, str], frozenset[str]]],
        others: list[str],
    ) -> None:
        with self._journal.read() as connection:
            same = rejections.of_one_patient(connection, said.study, others)
        if left := len(others) - len(same):
            log.info("a rejection note names studies that are not held, or not the patient's",
                     message=message.id, studies=left)  # fmt: skip
        for study, attributes in same:
            notes = {uid: series for (uid, series), of in lifted if study in of}
            made, uid = identical(data, study, attributes, notes)
            start = read_file_meta(BytesIO(made), len(made)).data_set_offset
            found = identify(BytesIO(made), start, len(made), EXPLICIT, Authorities())
            received = Received(
                source=message.source, format=Format.DICOM, payload=Payload.from_bytes(made),
                received_at=self._now(), peer=message.peer, control_id=uid, kind=KEY_OBJECTS,
                group=study, subject=found.subject,
                attributes={"transfer_syntax": EXPLICIT, "identical_to": str(message.id)},
            )  # fmt: skip
            try:
                self._intake.submit(received).result(timeout=COMMIT_SECONDS)
            except TimeoutError:
                raise IntakeUnavailable("the commit takes too long") from None

    def _lifted(self, said: Selection) -> list[tuple[tuple[str, str], frozenset[str]]]:
        """The notes that this one names, with their series, each with the studies that have a
        copy of it."""
        named = {
            each.uid: series.uid
            for study in said.studies
            for series in study.series
            for each in series.instances
            if each.sop_class == KEY_OBJECTS
        }
        found: list[tuple[tuple[str, str], frozenset[str]]] = []
        with self._journal.read() as connection:
            for uid, message in rejections.notes(connection, sorted(named)[:STUDIES_MAX]):
                other = read_file(payload(self._journal, message))
                if other is not None:
                    studies = sorted({each.uid for each in other.studies} - {other.study, ""})
                    there = rejections.held(connection, [other_uid(uid, s) for s in studies])
                    of = frozenset(s for s in studies if other_uid(uid, s) in there)
                    found.append(((uid, named[uid]), of))
        return found
