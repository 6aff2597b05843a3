"""What is held of DICOM studies, for everybody who asks: the index is filled and asked here.

An instance is put into the index shortly after it was kept, by a thread of its own; whoever asks
meanwhile has it put in first, so that a sender finds what it was told is kept.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import structlog
from sqlalchemy import Connection

from adapters.dicom.holdings import (
    PAGE_MAX,
    HeldInstance,
    HoldingsUnavailable,
    Match,
    QueryLevel,
    UnknownKey,
    indexed,
    matched_at,
)
from adapters.dicom.json_model import Attributes
from adapters.dicom.manifest import KEY_OBJECTS
from adapters.dicom.matching import condition, instance_columns, series_columns, study_columns
from adapters.dicom.reading import READING_FAULTS
from adapters.dicom.rejection import rejections as rejected_by
from adapters.dicom.selection import FAULTS, read_file
from gateway.journal import held_studies, holdings, rejections
from gateway.journal.faults import JournalFault, JournalUnavailable
from gateway.journal.held_studies import Wanted
from gateway.journal.hiding import NOTHING_HIDDEN, Hidden
from gateway.journal.holdings import Holding
from gateway.journal.journal import Journal
from gateway.journal.messages import Message, payload
from gateway.model import Payload
from gateway.ports import IntakeUnavailable
from gateway.stepping import Stepping

BATCH = 100
"""Instances that are put into the index in one transaction."""
EVERY_SECONDS = 1.0
ASKER_SECONDS_MAX = 5.0
"""How long who asks puts in what is missing; of a longer backlog the answer says what is there."""

log = structlog.get_logger("ecluse.dicom")

_LEVELS = {
    QueryLevel.PATIENT: held_studies.PATIENTS,
    QueryLevel.STUDY: held_studies.STUDIES,
    QueryLevel.SERIES: held_studies.SERIES,
    QueryLevel.IMAGE: held_studies.INSTANCES,
}


class JournalHoldings:
    """Implements :class:`adapters.dicom.holdings.Holdings`. With :meth:`start` a thread keeps the
    index up to date until :meth:`stop`. On a journal that is open for reading the index is asked
    as it is."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._turn = threading.Lock()
        self._after = 0
        """Where the next batch begins: behind what could not be read or shared a moment ago."""
        self.share: Callable[[Message], None] | None = None
        """Told of key object selections once they are in the index."""
        self._thread = Stepping(
            "ecluse-holdings", self.step, every_seconds=EVERY_SECONDS,
            failed="the index of what is held was not brought up to date",
        )  # fmt: skip

    def start(self) -> None:
        """Begin to keep the index up to date."""
        self._thread.start()

    def stop(self) -> None:
        """End after the batch in hand. Idempotent."""
        self._thread.stop()

    def step(self) -> bool:
        """Put one batch into the index; whether there was a whole one. Raises
        JournalUnavailable."""
        with self._turn:
            found, left = self._batch(
                lambda connection, limit: holdings.unindexed(connection, limit, after=self._after)
            )
            whole = len(found) == BATCH
            # What is left is tried again from the first on, once the others are in.
            self._after = found[-1].id if whole and (left or self._after) else 0
        return whole

    def meet_studies(self) -> None:
        """Put in so much that what gathers is known, however much waits: one batch and, if more
        waits, one instance of each study that the index does not have. Raises
        JournalUnavailable."""
        if not self._journal.read_only and self.step():
            with self._turn:
                self._batch(holdings.unmet)

    def _batch(self, due: Callable[[Connection, int], list[Message]]) -> tuple[list[Message], bool]:
        """Put in what is due: what that was, and whether something of it is left for another
        time."""
        with self._journal.read() as connection:
            found = due(connection, BATCH)
        ready: list[Holding] = []
        done: list[int] = []
        notes: list[Message] = []
        for message in found:
            try:
                holding = self._holding(message)
            except OSError as error:
                # The disk may give it another time; the others go on.
                log.warning("an instance cannot be read now", message=message.id,
                            error=type(error).__name__)  # fmt: skip
                continue
            if holding is not None:
                ready.append(holding)
                if message.kind == KEY_OBJECTS and self.share is not None:
                    # Done when it is in, and shared.
                    notes.append(message)
                    continue
            done.append(message.id)
        if ready or done:
            with self._journal.write() as connection:
                holdings.store(connection, ready, done)
                self._reject(connection, {each.study["study_uid"] for each in ready})
        shared = [each.id for each in notes if self._shared(each)]
        if shared:
            with self._journal.write() as connection:
                holdings.store(connection, (), shared)
        return found, len(done) + len(shared) < len(found)

    def _shared(self, note: Message) -> bool:
        """Whether a selection is no more to be shared with other studies; else another time."""
        assert self.share is not None
        try:
            self.share(note)
        except (IntakeUnavailable, OSError) as error:
            log.warning("a rejection note cannot be shared now", message=note.id,
                        error=type(error).__name__)  # fmt: skip
            return False
        return True

    def _reject(self, connection: Connection, studies: Collection[str]) -> None:
        """Let the rejection notes of studies to which something came take effect."""
        found = rejections.selections(connection, sorted(studies), KEY_OBJECTS)
        marked = rejections.marked(connection, sorted(studies))
        for study in sorted(marked | found.keys()):
            notes, whole = [], True
            for message in found.get(study, ()):
                try:
                    said = read_file(payload(self._journal, message))
                except (KeyError, *FAULTS) as error:
                    # What it may reject stays hidden: it may be read another time.
                    whole = False
                    log.warning("a key object selection cannot be read", message=message.id,
                                error=type(error).__name__)  # fmt: skip
                    continue
                if said is not None and (said.rejects or said.revokes):
                    notes.append(said)
            if not notes and study not in marked:
                continue
            told = rejected_by(study, notes)
            # A note that rejects is hidden with what it hides.
            changed = rejections.mark(connection, study, told.hidden_by, lift=whole)
            if changed:
                log.info("rejection notes took effect", instances=changed)

    def _holding(self, message: Message) -> Holding | None:
        """What goes into the index; None for what cannot be read. Raises OSError."""
        try:
            said = indexed(payload(self._journal, message))
        except OSError:
            raise
        except (KeyError, *READING_FAULTS) as error:
            # Its message stays, and says at its own stage what is wrong with it.
            log.warning("an instance cannot be indexed", message=message.id,
                        error=type(error).__name__)  # fmt: skip
            return None
        return Holding(
            message=message,
            study={
                "study_uid": said.study,
                **study_columns(said.study_attributes),
                "attributes": said.study_attributes,
            },
            series={
                "study_uid": said.study,
                "series_uid": said.series,
                **series_columns(said.series_attributes),
                "attributes": said.series_attributes,
            },
            instance={
                "sop_instance": said.sop_instance,
                "study_uid": said.study,
                "series_uid": said.series,
                "sop_class": said.sop_class,
                "transfer_syntax": said.transfer_syntax,
                **instance_columns(said.instance_attributes),
                "attributes": said.instance_attributes,
                "rejected": "",
            },
        )

    def catch_up(self) -> None:
        """Put in what came before this moment. Raises JournalUnavailable."""
        if self._journal.read_only:
            return
        until = time.monotonic() + ASKER_SECONDS_MAX
        while self.step() and time.monotonic() < until:
            pass

    # --- asking -----------------------------------------------------------------------

    def find(
        self, level: QueryLevel, keys: Mapping[str, str], *, limit: int = PAGE_MAX,
        offset: int = 0, hidden: Hidden = NOTHING_HIDDEN,
    ) -> Sequence[Match]:  # fmt: skip
        """See the protocol; without what is ``hidden``."""
        known = matched_at(level)
        for keyword in keys:
            if keyword not in known:
                raise UnknownKey(keyword, f"is not matched at the level {level}")
        conditions = [condition(keyword, value) for keyword, value in keys.items()]
        wanted = [
            Wanted(column=c.column, anyof=c.anyof, pattern=c.pattern, least=c.least, most=c.most)
            for c in conditions
            if c is not None
        ]
        with _asked():
            self.catch_up()
            with self._journal.read() as connection:
                rows = held_studies.find(
                    connection, _LEVELS[level], wanted,
                    limit=max(0, min(limit, PAGE_MAX)), offset=max(0, offset), hidden=hidden,
                )  # fmt: skip
                studies = list(dict.fromkeys(row.study_uid for row in rows))
                counts = {}
                if level is not QueryLevel.PATIENT:
                    counts = held_studies.study_counts(connection, studies, hidden)
                pairs: dict[tuple[str, str], int] = {}
                if level in {QueryLevel.SERIES, QueryLevel.IMAGE}:
                    named = list({(row.study_uid, row.series_uid) for row in rows})
                    pairs = held_studies.series_counts(connection, named, hidden)
        return [_match(level, row, counts, pairs) for row in rows]

    def instances(
        self, *, study: str = "", series: str = "", instance: str = "",
        limit: int = PAGE_MAX, offset: int = 0, hidden: Hidden = NOTHING_HIDDEN,
    ) -> Sequence[HeldInstance]:  # fmt: skip
        """See the protocol; without what is ``hidden``."""
        if not (study or series or instance):
            raise ValueError("of which study, series or instance?")
        with _asked():
            self.catch_up()
            with self._journal.read() as connection:
                rows = held_studies.instances(
                    connection, study=study, series=series, instance=instance,
                    limit=max(0, min(limit, PAGE_MAX)), offset=max(0, offset), hidden=hidden,
                )  # fmt: skip
        return [
            HeldInstance(
                message_id=row.message_id, source=row.source, study=row.study_uid,
                series=row.series_uid, sop_class=row.sop_class, sop_instance=row.sop_instance,
                transfer_syntax=row.transfer_syntax, number=row.number, frames=row.frames,
                sha256=row.sha256, size=row.size,
            )
            for row in rows
        ]  # fmt: skip

    def payload(self, instance: HeldInstance) -> Payload:
        """See the protocol."""
        with _asked():
            return holdings.bytes_of(
                self._journal, instance.message_id, instance.sha256, instance.size
            )


def _match(
    level: QueryLevel,
    row: Any,
    counts: Mapping[str, held_studies.StudyCounts],
    pairs: Mapping[tuple[str, str], int],
) -> Match:
    attributes: Attributes = dict(row.study_attributes)
    if level is QueryLevel.PATIENT:
        kept = {tag: value for tag, value in attributes.items() if tag[:4] == "0010"}
        return Match(level=level, study=row.study_uid, attributes=kept)
    if (count := counts.get(row.study_uid)) is not None:
        attributes |= {
            "00080061": _values("CS", count.modalities),
            "00080062": _values("UI", count.classes),
            "00201206": _values("IS", (count.series,)),
            "00201208": _values("IS", (count.instances,)),
        }
    series = instance = ""
    if level in {QueryLevel.SERIES, QueryLevel.IMAGE}:
        series = row.series_uid
        attributes |= row.series_attributes
        attributes["00201209"] = _values("IS", (pairs.get((row.study_uid, series), 0),))
    if level is QueryLevel.IMAGE:
        instance = row.sop_instance
        attributes |= row.instance_attributes
    return Match(
        level=level, study=row.study_uid, series=series, instance=instance,
        attributes=dict(sorted(attributes.items())),
    )  # fmt: skip


def _values(vr: str, values: tuple[str | int, ...]) -> dict[str, Any]:
    return {"vr": vr, "Value": list(values)} if values else {"vr": vr}


@contextmanager
def _asked() -> Iterator[None]:
    try:
        yield
    except (JournalUnavailable, JournalFault) as error:
        raise HoldingsUnavailable(str(error)) from None
