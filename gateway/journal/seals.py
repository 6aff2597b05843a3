"""Seals: what stands in the chain in the place of links that were purged with their messages.

A seal says which links of which chain went, how many messages they covered, by which policy, who
wanted it and when; it keeps the digest that the first of them followed and the digest of the
last, so that the links around it still fit. Before links are sealed they are checked: what does
not fit is left alone, and ``ecluse verify`` goes on telling of it. Seals are a chain themselves:
each covers the one before.

What a seal cannot show is that whoever can write the database made it up. Keep the newest
seal's digest, which ``ecluse verify`` prints, elsewhere, as with the newest link's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select, tuple_

from gateway.bulk import given_instant, instant_text
from gateway.journal import tables
from gateway.journal.purge_tables import chain_seal
from gateway.journal.purges import Purge

_link = tables.chain_link
_FIRST = hashlib.sha256(b"ecluse seals").hexdigest()


def seal(connection: Connection, purge: Purge, links: Sequence[Any], now: datetime) -> int:
    """Put seals in the place of links, whose messages this transaction has deleted; how many."""
    wanted = {row.digest for row in links}
    taken_up = set(
        connection.execute(
            # A chain of another process begins with these: their digests must stay.
            select(_link.c.previous).where(_link.c.number == 1, _link.c.previous.in_(wanted))
        ).scalars()
    )
    newest = connection.execute(
        select(chain_seal.c.seal).order_by(chain_seal.c.number.desc()).limit(1)
    ).scalar_one_or_none()
    previous, made = newest or _FIRST, 0
    for run in _runs(links, taken_up):
        row = {
            "chain": run[0].chain,
            "first": run[0].number,
            "last": run[-1].number,
            "messages": sum(_count(each.ids) for each in run),
            "before": run[0].previous,
            "digest": run[-1].digest,
            "purge_id": purge.id,
            "actor": purge.actor,
            "policy": purge.policy.text(),
            "at": now,
            "previous": previous,
        }
        previous = row["seal"] = seal_digest(row)
        connection.execute(insert(chain_seal), row)
        made += 1
    connection.execute(
        delete(_link).where(
            tuple_(_link.c.chain, _link.c.number).in_([(row.chain, row.number) for row in links])
        )
    )
    return made


def seal_digest(row: Any) -> str:
    """The digest of a seal, of its columns by name."""
    said = "\0".join(
        (
            *(str(row[name]) for name in ("chain", "first", "last", "messages", "before")),
            *(str(row[name]) for name in ("digest", "purge_id", "actor", "policy")),
            instant_text(given_instant(row["at"])),
            row["previous"],
        )
    )
    return hashlib.sha256(said.encode()).hexdigest()


def _runs(links: Sequence[Any], ends: set[str]) -> Iterator[list[Any]]:
    """Links that follow one another in their chain, in runs that end where one must."""
    run: list[Any] = []
    for row in sorted(links, key=lambda each: (each.chain, each.number)):
        follows = run and (row.chain, row.number) == (run[-1].chain, run[-1].number + 1)
        if run and (not follows or run[-1].digest in ends):
            yield run
            run = []
        run.append(row)
    if run:
        yield run


def _count(ids: str) -> int:
    total = 0
    for part in ids.split(","):
        first, _, last = part.partition("-")
        total += int(last or first) - int(first) + 1
    return total


def newest_digest(connection: Connection) -> str:
    """The digest of the link that was sealed last; empty when none was."""
    found = connection.execute(
        select(chain_seal.c.digest).order_by(chain_seal.c.number.desc()).limit(1)
    ).scalar_one_or_none()
    return found or ""


def known(connection: Connection, digest: str) -> bool:
    """Whether a seal keeps this digest of a link."""
    found = connection.execute(
        select(chain_seal.c.number).where(chain_seal.c.digest == digest).limit(1)
    )
    return found.first() is not None


def of_chain(connection: Connection, chain: str, first: int) -> Any:
    """The seal of a chain that begins with this link, or None."""
    return connection.execute(
        select(chain_seal).where(chain_seal.c.chain == chain, chain_seal.c.first == first)
    ).one_or_none()


def ends(connection: Connection) -> dict[str, int]:
    """The chains that have seals, each with the last link that one covers."""
    ended: dict[str, int] = {}
    for name, last in connection.execute(select(chain_seal.c.chain, chain_seal.c.last)):
        ended[name] = max(last, ended.get(name, 0))
    return ended


def walk(connection: Connection) -> Iterator[tuple[Any, str]]:
    """Every seal in the order in which they were made, each with what does not fit (empty when
    all does); in bounded memory."""
    before, number = _FIRST, 0
    while rows := connection.execute(
        select(chain_seal)
        .where(chain_seal.c.number > number)
        .order_by(chain_seal.c.number)
        .limit(500)
    ).all():
        for row in rows:
            what = ""
            if seal_digest(row._mapping) != row.seal:
                what = "the seal itself was changed"
            elif row.previous != before:
                what = "the seal before it is gone or was changed"
            yield row, what
            before, number = row.seal, row.number
