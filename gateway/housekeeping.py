"""Takes out what is past its time: the steps of a purge, and when one begins by itself.

A purge goes through stages: the months of a PostgreSQL journal are cut; entries, bytes and whole
messages that are past their time go; then what is kept beside messages and was of use to those
only, what was noted of entries elsewhere and is not needed any more, and the files that nothing
names any more. Each step is one short transaction, so that
arrivals and deliveries go on between them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import Connection, Text, cast, select

from gateway import shapes
from gateway.journal import partitions, placed, purges, purging, remnants, tables
from gateway.journal.journal import Journal, JournalUnavailable
from gateway.journal.purges import Purge
from gateway.journal.purging import Step
from gateway.journal.retention import Part
from gateway.retention_settings import RetentionSettings
from gateway.stepping import Stepping

EVERY_SECONDS = 20.0
GRACE_SECONDS = 86_400.0
"""A file that was put within so long is let be: the transaction that names it may be to come."""
CANDIDATES_MAX = 20_000
"""Files that are looked at together; their digests are in memory."""
_PAGE = 500
_SLOW_MONTH_DAYS = 35
"""A month that leaves too much behind is emptied row by row when it is so much past its time."""

_STAGES = ("cut", "normalised", "content", "message", "remnants", "placed", "files")

Named = Callable[[Connection, Sequence[str]], Iterable[str]]
"""Which of some digests the record names."""

log = structlog.get_logger("ecluse.housekeeping")


class Purging:
    """Does the steps of purges. For one thread of each gateway, and for the command line."""

    def __init__(
        self, journal: Journal, named: Named, *, grace_seconds: float = GRACE_SECONDS
    ) -> None:
        self._journal = journal
        self._named = named
        self._grace_seconds = grace_seconds

    def step(self, purge: Purge) -> Purge | None:
        """One step; the purge after it. None when it cannot be done now: another process did
        it, or files are being copied. Raises JournalUnavailable."""
        stage = str(purge.position.get("stage", _STAGES[0]))
        if stage == "cut":
            self._cut_months()
            return self._keep(purge, Step(), stage)
        if stage == "files" and not purge.policy.anything:
            return self._keep(purge, Step(), stage)
        if stage == "files":
            with self._journal.blobs.held(exclusive=True) as ours:
                if not ours:
                    return None
                step = self._take_files(purge.position.get("after"))
            return self._keep(purge, step, stage)
        now = self._journal.now()
        with self._journal.write() as connection:
            if not purges.take(connection, purge):
                return None
            step = self._taken(connection, purge, stage, now)
            return _noted(connection, purge, step, stage)

    def _keep(self, purge: Purge, step: Step, stage: str) -> Purge | None:
        with self._journal.write() as connection:
            if not purges.take(connection, purge):
                return None
            return _noted(connection, purge, step, stage)

    def _taken(self, connection: Connection, purge: Purge, stage: str, now: datetime) -> Step:
        after = purge.position.get("after")
        if stage == Part.MESSAGE.value:
            return purging.take_links(connection, purge, now, after or [])
        if stage == "remnants":
            return remnants.take(connection, purge.policy, now, after or [])
        if stage == "placed":
            return _taken_notes(connection, purge, after)
        part = Part(stage)
        if self._journal.dialect != "postgresql":
            return purging.take_rows(connection, purge, part, now, after=after or 0)
        return _take_months(connection, purge, part, now, after or ["", 0])

    # --- months -----------------------------------------------------------------------

    def _cut_months(self) -> None:
        """Begin a new month where one is due; another time when the table is busy."""
        if self._journal.dialect != "postgresql":
            return
        for part in partitions.PARTITIONED:
            with suppress(JournalUnavailable):
                self._cut(part)

    def _cut(self, part: Part) -> None:
        now = self._journal.now()
        with self._journal.write() as connection:
            month = partitions.due_for_cut(connection, part, now)
            if month is None:
                return
            small = partitions.is_small(connection, month)
            made = partitions.cut_small(connection, month, now) if small else ""
            end = 0 if small else partitions.bound(connection, month)
        if end:
            with self._journal.write() as connection:
                partitions.validate(connection, month)
            with self._journal.write() as connection:
                made = partitions.cut(connection, month, end, now)
        if made:
            log.info("a new month begins", component=made)

    # --- files ------------------------------------------------------------------------

    def _take_files(self, after: Any) -> Step:
        """Remove the files of some folders that nothing names."""
        before = time.time() - self._grace_seconds
        prefix, last = after or (0, "")
        candidates: set[str] = set()
        while prefix < 256 and len(candidates) < CANDIDATES_MAX:
            old = [each for each in self._journal.blobs.old(prefix, before) if each > last]
            some = old[: CANDIDATES_MAX - len(candidates)]
            with self._journal.read() as connection:
                candidates.update(_unnamed(connection, some, self._named))
            if len(some) < len(old):
                last = some[-1]
            else:
                prefix, last = prefix + 1, ""
        if candidates:
            with self._journal.read() as connection:
                for named in _attached(connection):
                    candidates.difference_update(named)
        step = Step(after=None if prefix >= 256 else [prefix, last])
        for digest in sorted(candidates):
            size = self._journal.blobs.remove(digest, before)
            if size:
                step.counts.update({"files": 1, "bytes": size})
        return step


def _take_months(
    connection: Connection, purge: Purge, part: Part, now: datetime, after: list[Any]
) -> Step:
    """One step of a part on PostgreSQL: drop a month, or empty one row by row. ``after`` is the
    partition that is being emptied (else: the last that was looked at) and the row reached."""
    name, reached = after
    if reached:
        step = purging.take_rows(connection, purge, part, now, after=reached, of=name)
        step.after = [name, step.after or 0]
        return step
    kept = partitions.kept_of(part)
    if name == kept:
        return Step()
    months = [each for each in partitions.months(connection, part) if each.end is not None]
    following = [each for each in months if name == "" or each.name > name]
    newest = purge.policy.newest(part, now)
    for month in sorted(following, key=lambda each: each.name):
        if partitions.droppable(connection, purge, month, now):
            step = partitions.drop(connection, purge, month, now)
            step.after = [month.name, 0]
            return step
        if newest is not None and (newest - month.opened_at).days > 2 * _SLOW_MONTH_DAYS:
            step = purging.take_rows(connection, purge, part, now, after=0, of=month.name)
            step.after = [month.name, step.after or 0]
            return step
    step = purging.take_rows(connection, purge, part, now, after=0, of=kept)
    step.after = [kept, step.after or 0]
    return step


def _taken_notes(connection: Connection, purge: Purge, after: Any) -> Step:
    """One step of what was noted of entries elsewhere. ``after`` is the place before which no
    message can go again, and the note that was looked at last."""
    if not purge.policy.of(Part.CONTENT):
        return Step()
    before, *last = after or [placed.first_that_may_go(connection), "", ""]
    gone, following = placed.forget(connection, before, (last[0], last[1]))
    step = Step(after=[before, *following] if following else None)
    step.counts["placed"] = gone
    return step


def _noted(connection: Connection, purge: Purge, step: Step, stage: str) -> Purge:
    if step.after is not None:
        position: dict[str, Any] = {"stage": stage, "after": step.after}
        return purges.note(connection, purge, position, step.counts)
    place = _STAGES.index(stage) + 1
    ended = place == len(_STAGES)
    position = {} if ended else {"stage": _STAGES[place]}
    return purges.note(connection, purge, position, step.counts, ended=ended)


def _unnamed(connection: Connection, digests: Sequence[str], named: Named) -> Iterator[str]:
    """Those that neither a message whose bytes are kept names, nor the record."""
    message, content = tables.message, tables.content
    for start in range(0, len(digests), _PAGE):
        some = digests[start : start + _PAGE]
        ours = connection.execute(
            select(message.c.sha256)
            .join(content, content.c.message_id == message.c.id)
            .where(message.c.sha256.in_(some), message.c.size > tables.INLINE_BYTES_MAX)
        ).scalars()
        yield from set(some) - set(ours) - set(named(connection, some))


def _attached(connection: Connection) -> Iterator[set[str]]:
    """The digests of documents that working copies of entries name, page by page."""
    kept, after = tables.normalised, 0
    while rows := connection.execute(
        select(kept.c.message_id, kept.c.attachments)
        .where(kept.c.message_id > after, cast(kept.c.attachments, Text) != "[]")
        .order_by(kept.c.message_id)
        .limit(_PAGE)
    ).all():
        after = rows[-1].message_id
        yield {each["sha256"] for row in rows for each in row.attachments}


class Housekeeper:
    """The thread of a gateway that purges: once a day, and whenever a purge is wanted."""

    def __init__(
        self,
        journal: Journal,
        named: Named,
        settings: Callable[[], RetentionSettings],
        *,
        local_now: Callable[[], datetime] | None = None,
    ) -> None:
        self._journal = journal
        self._settings = settings
        self._purging = Purging(journal, named)
        self._local_now = local_now or (lambda: datetime.now().astimezone())
        self._done = ""
        self._thread = Stepping(
            "ecluse-housekeeping", self.step, every_seconds=EVERY_SECONDS, failed="a purge failed"
        )

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the step in hand. Idempotent."""
        self._thread.stop()

    def wake(self) -> None:
        """Look now. From any thread."""
        self._thread.wake()

    def step(self) -> bool:
        """One step; whether there is more to do now. Raises JournalUnavailable."""
        self._begin_daily()
        with self._journal.read() as connection:
            purge = purges.active(connection)
        if purge is None:
            return False
        after = self._purging.step(purge)
        if after is not None and after.ended_at is not None:
            log.info("a purge is done", actor=after.actor, count=_rows(after.counts),
                     bytes=after.counts.get("bytes", 0))  # fmt: skip
            return False
        return after is not None

    def _begin_daily(self) -> None:
        retention, now = self._settings(), self._local_now()
        today = now.date().isoformat()
        if not retention.daily_at or now.strftime("%H:%M") < retention.daily_at:
            return
        if today == self._done:
            return
        policy = retention.policy()
        # Without a policy nothing is taken out; the months are cut all the same.
        if policy.anything or self._journal.dialect == "postgresql":
            key = f"daily {today}"
            with self._journal.write() as connection:
                begun = purges.begin(connection, key, policy, actor="schedule")
            if begun.key != key:
                return  # another one is at work: when that has ended
        self._done = today


def run(journal: Journal, named: Named, purge: Purge) -> Iterator[Purge]:
    """All the steps of a purge, in this thread: for the command line when no gateway runs.

    Gives the purge after each step. Ends early when a step cannot be done now."""
    worker = Purging(journal, named)
    while purge.ended_at is None:
        after = worker.step(purge)
        if after is None:
            return
        purge = after
        yield purge


def shape(purge: Purge) -> dict[str, Any]:
    """A purge as JSON."""
    return {
        "id": purge.id,
        "state": purge.state.value,
        "actor": purge.actor,
        "reason": purge.reason,
        "policy": purge.policy.as_json(),
        "said": purge.policy.text(),
        "counts": dict(purge.counts),
        "at": shapes.instant(purge.at),
        "ended_at": shapes.instant(purge.ended_at),
    }


def _rows(counts: Mapping[str, int]) -> int:
    return sum(count for name, count in counts.items() if name.startswith("message."))
