"""A chain of hashes over what was accepted: one link for each commit of arrivals.

A link's digest covers the link before it and what the commit kept: of every message its number,
source, control id, deduplication key, size, the SHA-256 of its bytes and when it came. A row that
was changed or taken away later no longer fits. Each process that accepts has a chain of its own,
so that they never wait for one another; the first link of a chain takes up the newest link of
any, which ties the chains together.

What a chain cannot show is that its newest links are gone altogether: for that ``ecluse verify``
prints the newest digest, to be kept elsewhere.

Links whose messages were purged by policy are replaced by a seal (:mod:`gateway.journal.seals`),
which says so, and which the links around it fit.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from gateway.bulk import Statement, given_instant, insert_rows, instant_text
from gateway.journal import seals, tables

LINKS_READ = 200
"""Links that are read at a time; each covers at most one commit (128 messages)."""

_COLUMNS = ("chain", "number", "ids", "content", "previous", "digest", "at")
_NEWEST = Statement("SELECT digest FROM chain_link ORDER BY at DESC, chain, number DESC LIMIT 1")
_CHAINS = Statement("SELECT chain, max(number) FROM chain_link GROUP BY chain ORDER BY chain")
_LINKS = Statement(
    "SELECT number, ids, content, previous, digest, at FROM chain_link"
    " WHERE chain = :chain AND number > :after ORDER BY number LIMIT :limit"
)
_KNOWN = Statement("SELECT digest FROM chain_link WHERE digest = :digest LIMIT 1")
_MESSAGES = Statement(
    "SELECT id, source, control_id, dedupe_key, size, sha256, received_at FROM message"
    " WHERE id = ANY(:ids bigint) ORDER BY id"
)
_FIRST = hashlib.sha256(b"ecluse").hexdigest()

Row = Sequence[Any]


class Chain:
    """The chain of one process. Belongs to the one thread that commits arrivals.

    :meth:`link` is called in the commit's transaction, :meth:`committed` after it; without the
    second call the link counts as never made.
    """

    def __init__(self) -> None:
        self._name = uuid.uuid4().hex
        self._number = 0
        self._digest = ""
        self._made: tuple[int, str] | None = None

    def link(self, connection: Connection, kept: Sequence[Row], at: datetime) -> None:
        """Add a link for the messages that this transaction has inserted: of each its number,
        source, control id, deduplication key, size, SHA-256, and when it came."""
        self._made = None
        if not kept:
            return
        rows = sorted(kept, key=lambda row: row[0])
        previous = self._digest
        if not previous:
            newest = _NEWEST.rows(connection)
            previous = newest[0][0] if newest else seals.newest_digest(connection) or _FIRST
        content = content_digest(rows)
        number, named = self._number + 1, ranges([row[0] for row in rows])
        digest = link_digest(self._name, number, named, content, previous)
        insert_rows(
            connection,
            tables.chain_link,
            [(self._name, number, named, content, previous, digest, instant_text(at))],
            columns=_COLUMNS,
        )
        self._made = (number, digest)

    def committed(self) -> None:
        """The transaction with the last link was committed."""
        if self._made is not None:
            self._number, self._digest = self._made
            self._made = None


def content_digest(rows: Iterable[Row]) -> str:
    """What a link says of its messages."""
    digest = hashlib.sha256()
    for number, source, control_id, key, size, sha256, received_at in rows:
        at = instant_text(given_instant(received_at))
        line = "\0".join(map(str, (number, source, control_id, key, size, sha256, at)))
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def link_digest(chain: str, number: int, ids: str, content: str, previous: str) -> str:
    """The digest of a link."""
    said = "\0".join((chain, str(number), ids, content, previous))
    return hashlib.sha256(said.encode()).hexdigest()


def ranges(ids: Sequence[int]) -> str:
    """Ids in rising order as text: ``1-128,130``."""
    parts: list[str] = []
    first = last = ids[0]
    for each in [*ids[1:], -1]:
        if each == last + 1:
            last = each
            continue
        parts.append(f"{first}-{last}" if last > first else str(first))
        first = last = each
    return ",".join(parts)


def ids_of(text: str) -> list[int]:
    """The ids that :func:`ranges` wrote. Raises ValueError for anything else."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        begin, end = int(first), int(last or first)
        if end - begin >= _RANGE_MAX:
            raise ValueError("a link covers more messages than a commit has")
        found += range(begin, end + 1)
    return found


_RANGE_MAX = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A link that does not fit. ``what`` says how, without a value of a message."""

    chain: str
    number: int
    ids: str
    what: str


@dataclass(slots=True)
class Verified:
    """What a walk along the chains found."""

    links: int = 0
    messages: int = 0
    newest: str = ""
    seals: int = 0
    sealed_messages: int = 0
    newest_seal: str = ""


def verify(connection: Connection, found: Verified) -> Iterator[Fault]:
    """Walk along every chain, in bounded memory; what does not fit. ``found`` is filled."""
    yield from _checked_seals(connection, found)
    latest: datetime | None = None
    chains = {name: int(newest) for name, newest in _CHAINS.rows(connection)}
    for name, last in seals.ends(connection).items():
        chains[name] = max(last, chains.get(name, 0))
    for chain, newest in sorted(chains.items()):
        before, number = "", 0
        while number < newest:
            rows = _LINKS.rows(connection, chain=chain, after=number, limit=LINKS_READ)
            for row in rows:
                for said in _bridged(connection, chain, number, row[0], before):
                    if isinstance(said, Fault):
                        yield said
                    else:
                        before = said
                number = row[0]
                found.links += 1
                yield from _checked(connection, chain, row, before, found)
                before = row[4]
                at = given_instant(row[5])
                if latest is None or at >= latest:
                    latest, found.newest = at, before
            if not rows:
                for said in _bridged(connection, chain, number, newest + 1, before):
                    if isinstance(said, Fault):
                        yield said
                break


def _bridged(
    connection: Connection, chain: str, number: int, following: int, before: str
) -> Iterator[Fault | str]:
    """What lies between a link and the next one that is there: seals, or nothing that should be.

    Gives faults, and the digest that the next link must follow."""
    while number + 1 < following:
        sealed = seals.of_chain(connection, chain, number + 1)
        if sealed is None or sealed.last <= number:
            yield Fault(chain=chain, number=number + 1, ids="", what="links are missing here")
            return
        if before and sealed.before != before:
            what = "the seal does not follow the link before it"
            yield Fault(chain=chain, number=number + 1, ids="", what=what)
        number, before = sealed.last, sealed.digest
        yield before


def _checked_seals(connection: Connection, found: Verified) -> Iterator[Fault]:
    for row, what in seals.walk(connection):
        found.seals += 1
        found.sealed_messages += row.messages
        found.newest_seal = row.seal
        if what:
            yield Fault(chain=row.chain, number=row.first, ids="", what=what)


def _checked(
    connection: Connection, chain: str, row: Row, before: str, found: Verified
) -> Iterator[Fault]:
    number, ids, content, previous, digest, _ = row

    def fault(what: str) -> Fault:
        return Fault(chain=chain, number=number, ids=ids, what=what)

    if link_digest(chain, number, ids, content, previous) != digest:
        yield fault("the link itself was changed")
        return
    if before and previous != before:
        yield fault("it does not follow the link before it")
    first = number == 1 and previous != _FIRST
    if first and not (
        _KNOWN.rows(connection, digest=previous) or seals.known(connection, previous)
    ):
        yield fault("the link of another chain that it takes up is gone")
    try:
        wanted = ids_of(ids)
    except ValueError:
        yield fault("its messages cannot be read")
        return
    rows = _MESSAGES.rows(connection, ids=wanted)
    found.messages += len(rows)
    if len(rows) != len(wanted):
        yield fault(f"{len(wanted) - len(rows)} of its {len(wanted)} messages are gone")
    elif content_digest(rows) != content:
        yield fault("one of its messages was changed")
