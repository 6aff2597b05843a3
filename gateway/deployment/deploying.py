"""Deploy and roll back: check, keep, switch; one of two at the same moment wins.

The journal says what is in force; every gateway on it follows (:meth:`Deployer.follow`). A
crash between the journal's commit and the switch is nothing: the next start runs what the
journal says.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import structlog
from sqlalchemy import Connection

from gateway.deployment.checking import Checked, Load, Progress
from gateway.deployment.files import FileSet, MappingFolders, NotASet
from gateway.deployment.force import InForce, Mappings
from gateway.journal import mappings as kept
from gateway.journal import operations
from gateway.journal.journal import Journal
from gateway.journal.mappings import Action, Conflict, Deployment
from gateway.mapping import Library
from gateway.release import version as release

log = structlog.get_logger("ecluse.mapping")

REASON_MIN = 3
REASON_MAX = 500

Build = Callable[[int, FileSet, MappingFolders, Library], InForce]
"""From a loaded set to what messages are read with."""


class Check(Protocol):
    """Loads a set and, with ``tests``, runs its tests; ``progress`` is told how far it is."""

    def __call__(self, files: FileSet, progress: Progress, *, tests: bool) -> Checked: ...


@dataclass(frozen=True, slots=True)
class Checking:
    """How far a check is: ``loading`` (mappings) or ``testing`` (tests), done and of how many."""

    step: str
    done: int
    of: int


class CannotDeploy(Exception):
    """Nothing was changed. The message says why; ``checked`` when the files are wrong."""

    def __init__(self, message: str, checked: Checked | None = None) -> None:
        super().__init__(message)
        self.checked = checked


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """What a deployment did. ``again``: the same key was used before, and nothing was done."""

    deployment: Deployment
    checked: Checked | None = None
    again: bool = False


class Deployer:
    """Deploys into one journal, and into the gateway of this process when ``mappings`` is
    given. Safe between threads.

    ``parent`` is the folder of extracted sets, ``versions_kept`` how many versions keep
    their files.
    """

    def __init__(
        self,
        journal: Journal,
        parent: Path,
        *,
        load: Load,
        check: Check,
        build: Build,
        versions_kept: int,
        mappings: Mappings | None = None,
    ) -> None:
        self._journal = journal
        self._parent = parent
        self._load = load
        self._check = check
        self._build = build
        self._versions_kept = versions_kept
        self._mappings = mappings
        self._turn = threading.Lock()
        self._checking: dict[int, Checking] = {}
        self.on_progress: Callable[[Checking], None] = lambda _: None
        """Called by the thread that checks."""

    # --- looking ---------------------------------------------------------------------

    @property
    def checking(self) -> Checking | None:
        """How far the check is that is at work, the latest of several; None without any."""
        return next(reversed(list(self._checking.values())), None)

    def check(self, files: FileSet, *, tests: bool = True) -> Checked:
        """Would it be deployed? Without ``tests``: would it load?"""
        mine = threading.get_ident()

        def progress(step: str, done: int, of: int) -> None:
            self._checking[mine] = Checking(step, done, of)
            self.on_progress(self._checking[mine])

        try:
            return self._check(files, progress, tests=tests)
        finally:
            self._checking.pop(mine, None)

    def files(self, number: int) -> FileSet:
        """The files of a version. Raises CannotDeploy when they are not kept."""
        with self._journal.read() as connection:
            return self._kept(connection, number)

    def current(self) -> FileSet | None:
        """The files in force; None when nothing was deployed and no gateway runs here."""
        if self._mappings is not None:
            return self._mappings.now.files
        with self._journal.read() as connection:
            last = kept.latest(connection)
            return self._kept(connection, last.version) if last is not None else None

    def current_version(self) -> int:
        """The number of the version in force, 0 for none."""
        with self._journal.read() as connection:
            last = kept.latest(connection)
        return last.version if last is not None else 0

    def _kept(self, connection: Connection, number: int) -> FileSet:
        packed = kept.content(connection, number)
        if packed is None:
            known = kept.version(connection, number)
            raise CannotDeploy(
                f"there is no version {number}"
                if known is None
                else f"the files of version {number} are not kept any more"
            )
        try:
            return FileSet.unpack(packed)
        except NotASet as error:
            raise CannotDeploy(f"version {number}: {error}") from None

    # --- changing --------------------------------------------------------------------

    def deploy(
        self,
        files: FileSet,
        *,
        actor: str,
        reason: str,
        expected: int | None = None,
        edited: Iterable[str] = (),
        overwrite: bool = False,
        key: str = "",
    ) -> Deployed:
        """Check a set of files and put it in force.

        ``expected`` is the version that whoever decided had before them (None: whatever is in
        force now). ``edited`` names files that were changed in the console. A set from the
        disk that would undo what was edited in the console is refused unless ``overwrite``.
        ``key`` names this press of the button. Raises CannotDeploy and
        ``gateway.journal.mappings.Conflict``; nothing is changed then.
        """
        reason = _demanded(reason)
        with self._turn:
            if (done := self._pressed(key)) is not None:
                return done
            before = self.current_version()
            if expected is not None and expected != before:
                raise Conflict(before)
            self._demand_difference(files, before, edited=set(edited), overwrite=overwrite)
            checked = self.check(files)
            if not checked.fit or checked.library is None:
                raise CannotDeploy(_unfit(checked), checked)
            with self._journal.write() as connection:
                self._begin(connection, key, actor=actor, what="mapping-deploy")
                before = self._keep_start(connection, before)
                number = kept.keep(
                    connection, self._new(connection, files, checked, before, set(edited))
                )
                deployment = kept.deploy(
                    connection, number, expected=before, action=Action.DEPLOY, actor=actor,
                    reason=reason,
                )  # fmt: skip
                kept.forget_old(connection, self._versions_kept)
                self._finish(connection, key, deployment)
            self._switch(number, files, checked.library)
        log.info("mappings deployed", actor=actor, version=number, before=before)
        return Deployed(deployment=deployment, checked=checked)

    def rollback(
        self,
        number: int | None = None,
        *,
        actor: str,
        reason: str,
        expected: int | None = None,
        key: str = "",
    ) -> Deployed:
        """Put a former version in force again; None: the one before the present.

        Raises CannotDeploy and Conflict.
        """
        reason = _demanded(reason)
        with self._turn:
            if (done := self._pressed(key)) is not None:
                return done
            with self._journal.read() as connection:
                last = kept.latest(connection)
                if last is None:
                    raise CannotDeploy("nothing was ever deployed: there is no version to go to")
                if expected is not None and expected != last.version:
                    raise Conflict(last.version)
                wanted = number if number is not None else last.previous
                if not wanted:
                    raise CannotDeploy("there is no version before this one")
                if wanted == last.version:
                    raise CannotDeploy(f"version {wanted} is in force already")
                files = self._kept(connection, wanted)
            # Its tests passed when it was deployed; another release may judge otherwise, and
            # whoever goes back in a hurry must not be held up by that.
            checked = self.check(files, tests=False)
            if checked.library is None:
                raise CannotDeploy(_unfit(checked), checked)
            with self._journal.write() as connection:
                self._begin(connection, key, actor=actor, what="mapping-rollback")
                deployment = kept.deploy(
                    connection, wanted, expected=last.version, action=Action.ROLLBACK,
                    actor=actor, reason=reason,
                )  # fmt: skip
                self._finish(connection, key, deployment)
            self._switch(wanted, files, checked.library)
        log.info("mappings rolled back", actor=actor, version=wanted, before=last.version)
        return Deployed(deployment=deployment, checked=checked)

    def follow(self) -> bool:
        """Run what the journal says is in force, where another process put it; whether that
        changed anything. Raises CannotDeploy."""
        if self._mappings is None or self._mappings.now.version == self.current_version():
            return False
        with self._turn:
            number = self.current_version()
            if number in (self._mappings.now.version, 0):
                return False
            files = self.files(number)
            folders = files.folders_below(files.extract(self._parent))
            self._switch(number, files, self._load(folders))
        return True

    # --- pieces ----------------------------------------------------------------------

    def _demand_difference(
        self, files: FileSet, before: int, *, edited: set[str], overwrite: bool
    ) -> None:
        now = self.current()
        if now is None:
            return
        if now.digest == files.digest and before:
            raise CannotDeploy(f"nothing to deploy: these are the files of version {before}")
        if overwrite or not before or edited:
            return
        with self._journal.read() as connection:
            known = kept.version(connection, before)
        lost = [
            name
            for name in (known.edited if known is not None else ())
            if files.manifest.get(name) != now.manifest.get(name)
        ]
        if lost:
            raise CannotDeploy(
                f"{', '.join(lost)}: edited in the console since, and would be lost; fetch it with "
                f"ecluse mapping export {before}, or deploy with --overwrite"
            )

    def _keep_start(self, connection: Connection, before: int) -> int:
        """At the first deployment of a gateway, keep what ran until now, to go back to."""
        if before or self._mappings is None:
            return before
        now = self._mappings.now
        number = kept.keep(
            connection,
            kept.NewVersion(
                digest=now.files.digest,
                content=now.files.pack(),
                manifest=now.files.manifest,
                site=now.files.site,
                mappings=_versions(now.library),
                release=release(),
                tests=0,
            ),
        )
        kept.deploy(
            connection, number, expected=0, action=Action.START, actor="gateway",
            reason="the files that were found at the start",
        )  # fmt: skip
        return number

    def _new(
        self,
        connection: Connection,
        files: FileSet,
        checked: Checked,
        before: int,
        edited: set[str],
    ) -> kept.NewVersion:
        assert checked.library is not None
        if edited:
            known = kept.version(connection, before)
            edited |= set(known.edited if known is not None else ())
        return kept.NewVersion(
            digest=files.digest,
            content=files.pack(),
            manifest=files.manifest,
            site=files.site,
            mappings=_versions(checked.library),
            release=release(),
            tests=len(checked.tests),
            edited=tuple(sorted(edited)),
        )

    def _switch(self, number: int, files: FileSet, library: Library) -> None:
        if self._mappings is not None:
            folders = files.folders_below(files.extract(self._parent))
            self._mappings.switch(self._build(number, files, folders, library))

    def _pressed(self, key: str) -> Deployed | None:
        """What the same key did before, if it was used before."""
        if not key:
            return None
        with self._journal.read() as connection:
            known = operations.get(connection, key)
            if known is None or known.result is None:
                return None
            done = {each.id: each for each in kept.deployments(connection, limit=1_000)}
        found = done.get(int(known.result.get("deployment", 0)))
        return Deployed(deployment=found, again=True) if found is not None else None

    def _begin(self, connection: Connection, key: str, *, actor: str, what: str) -> None:
        if key and not operations.begin(connection, key, actor=actor, what=what):
            raise CannotDeploy("this was asked before, and is at work; look again in a moment")

    def _finish(self, connection: Connection, key: str, deployment: Deployment) -> None:
        if key:
            result: dict[str, Any] = {"deployment": deployment.id, "version": deployment.version}
            operations.finish(connection, key, result)


def _versions(library: Library) -> dict[str, str]:
    return {program.name: program.version for program in library.programs}


def _demanded(reason: str) -> str:
    reason = reason.strip()
    if not REASON_MIN <= len(reason) <= REASON_MAX:
        raise CannotDeploy(f"say why, in {REASON_MIN} to {REASON_MAX} characters")
    return reason


def _unfit(checked: Checked) -> str:
    said = []
    if checked.errors:
        said.append(f"{len(checked.errors)} error{'' if len(checked.errors) == 1 else 's'}")
    if checked.failed:
        said.append(f"{len(checked.failed)} failed test{'' if len(checked.failed) == 1 else 's'}")
    return f"not deployed: {' and '.join(said) or 'the files cannot be used'}"
