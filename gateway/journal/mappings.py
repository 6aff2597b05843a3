"""Versions of the mappings that were deployed, and the history of who deployed what when.

A version is a whole set of files under the SHA-256 of what it holds; the newest
deployment says which one is in force. Functions that change something are called inside
``Journal.write()``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, insert, select, update

from gateway.journal import mapping_tables
from gateway.journal.dialects import upsert
from gateway.journal.fitting import fit
from gateway.journal.rows import AnyRow
from gateway.journal.tables import TEXT_MAX
from gateway.journal.times import moment

_version = mapping_tables.mapping_version
_deployment = mapping_tables.mapping_deployment
_WITHOUT_CONTENT = [column for column in _version.c if column.name != "content"]


class Action(StrEnum):
    """How a version came into force."""

    START = "start"
    """The files that the gateway found at its start, before anything was deployed."""
    DEPLOY = "deploy"
    ROLLBACK = "rollback"


class Conflict(Exception):
    """Another version is in force than the one that was expected. ``current`` names it."""

    def __init__(self, current: int) -> None:
        super().__init__(f"version {current} is in force by now")
        self.current = current


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVersion:
    """A set of files to be kept.

    ``manifest`` gives the SHA-256 (hex) of each file by its path in the set, ``mappings``
    the version of each mapping by its name, ``edited`` the paths that were changed in the
    console since the files were last taken from the disk, ``tests`` how many tests passed.
    """

    digest: str
    content: bytes
    manifest: Mapping[str, str]
    site: str
    mappings: Mapping[str, str]
    release: str
    tests: int
    edited: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One set of files that was in force once. ``kept``: whether its files are still there."""

    number: int
    digest: str
    manifest: Mapping[str, str]
    site: str
    mappings: Mapping[str, str]
    edited: tuple[str, ...]
    release: str
    tests: int
    at: datetime
    kept: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One change of what is in force: from which version (0: none) to which, who and why."""

    id: int
    version: int
    previous: int
    action: Action
    actor: str
    reason: str
    at: datetime


def latest(connection: Connection) -> Deployment | None:
    """The deployment that says what is in force; None when nothing was ever deployed."""
    row = connection.execute(
        select(_deployment).order_by(_deployment.c.id.desc()).limit(1)
    ).one_or_none()
    return _deployment_of(row) if row is not None else None


def first(connection: Connection) -> Deployment | None:
    """What a gateway found at its start and the first deployment replaced; None without one."""
    row = connection.execute(
        select(_deployment).where(_deployment.c.follows == 0, _deployment.c.action == Action.START)
    ).one_or_none()
    return _deployment_of(row) if row is not None else None


def deployments(connection: Connection, *, limit: int = 100) -> list[Deployment]:
    """The history, newest first."""
    rows = connection.execute(select(_deployment).order_by(_deployment.c.id.desc()).limit(limit))
    return [_deployment_of(row) for row in rows]


def version(connection: Connection, number: int) -> Version | None:
    """One version, without its files."""
    row = connection.execute(_versions().where(_version.c.number == number)).one_or_none()
    return _version_of(row) if row is not None else None


def versions(connection: Connection, *, limit: int = 200) -> list[Version]:
    """Versions, newest first, without their files."""
    rows = connection.execute(_versions().order_by(_version.c.number.desc()).limit(limit))
    return [_version_of(row) for row in rows]


def content(connection: Connection, number: int) -> bytes | None:
    """The packed files of a version; None when they are not kept, or it never was."""
    found = connection.execute(
        select(_version.c.content).where(_version.c.number == number)
    ).scalar_one_or_none()
    return bytes(found) if found is not None else None


def keep(connection: Connection, new: NewVersion, *, at: datetime | None = None) -> int:
    """Keep a set of files; its number, the same as before for the same files."""
    known = connection.execute(
        select(_version.c.number, _version.c.content.is_(None)).where(
            _version.c.digest == new.digest
        )
    ).one_or_none()
    if known is not None:
        number, gone = known
        if gone:
            connection.execute(
                update(_version).where(_version.c.number == number).values(content=new.content)
            )
        return int(number)
    made = connection.execute(
        insert(_version).returning(_version.c.number),
        {
            "digest": new.digest,
            "content": new.content,
            "manifest": dict(new.manifest),
            "site": new.site,
            "mappings": dict(new.mappings),
            "edited": list(new.edited),
            "release": new.release,
            "tests": new.tests,
            "at": moment(connection, at),
        },
    )
    return int(made.scalar_one())


def deploy(
    connection: Connection,
    number: int,
    *,
    expected: int,
    action: Action,
    actor: str,
    reason: str,
    at: datetime | None = None,
) -> Deployment:
    """Put a version in force, in the place of the one ``expected`` (0: none yet).

    Raises Conflict when another one is in force, or comes into force at this very moment.
    """
    before = latest(connection)
    current, follows = (before.version, before.id) if before is not None else (0, 0)
    if current != expected:
        raise Conflict(current)
    made = connection.execute(
        upsert(connection, _deployment)
        .on_conflict_do_nothing(index_elements=[_deployment.c.follows])
        .returning(_deployment),
        {
            "follows": follows,
            "version": number,
            "previous": current,
            "action": action.value,
            "actor": fit(actor, TEXT_MAX),
            "reason": fit(reason, TEXT_MAX),
            "at": moment(connection, at),
        },
    ).one_or_none()
    if made is None:
        after = latest(connection)
        raise Conflict(after.version if after is not None else current)
    return _deployment_of(made)


def forget_old(connection: Connection, kept: int) -> int:
    """Let go of the files of all but the ``kept`` newest versions and those that the two last
    deployments name; how many. Who deployed them when stays."""
    recent = deployments(connection, limit=2)
    named = {number for each in recent for number in (each.version, each.previous)}
    newest = connection.execute(
        select(_version.c.number)
        .where(_version.c.content.is_not(None))
        .order_by(_version.c.number.desc())
        .limit(kept)
    ).scalars()
    stays = sorted(named.union(newest))
    gone = connection.execute(
        update(_version)
        .where(_version.c.content.is_not(None), _version.c.number.not_in(stays))
        .values(content=None)
    )
    return int(gone.rowcount)


def _versions() -> Any:
    return select(*_WITHOUT_CONTENT, _version.c.content.is_not(None).label("kept"))


def _version_of(row: AnyRow) -> Version:
    edited: Sequence[str] = row.edited
    return Version(
        number=row.number,
        digest=row.digest,
        manifest=row.manifest,
        site=row.site,
        mappings=row.mappings,
        edited=tuple(edited),
        release=row.release,
        tests=row.tests,
        at=row.at,
        kept=bool(row.kept),
    )


def _deployment_of(row: AnyRow) -> Deployment:
    return Deployment(
        id=row.id,
        version=row.version,
        previous=row.previous,
        action=Action(row.action),
        actor=row.actor,
        reason=row.reason,
        at=row.at,
    )
