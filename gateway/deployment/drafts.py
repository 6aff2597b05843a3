"""Drafts: mapping files as somebody has changed them, loaded as they would be deployed."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from dataclasses import dataclass

from gateway.deployment.changes import Changes, changes
from gateway.deployment.checking import Checked
from gateway.deployment.deploying import CannotDeploy, Deployed, Deployer
from gateway.deployment.files import FileSet
from gateway.deployment.force import Mappings
from gateway.journal import drafts as kept
from gateway.journal import mappings as versions
from gateway.journal.drafts import Draft, DraftRefused
from gateway.journal.journal import Journal

LOADED_MAX = 3
"""Drafts that stay loaded."""

_NAME = re.compile(
    r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}){0,5}\.yaml"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A draft with the files that it is a change of, and those that it makes of them.

    ``overlapping`` are files that the draft changes and that came into force otherwise
    meanwhile.
    """

    draft: Draft
    before: FileSet
    after: FileSet
    current: int
    overlapping: tuple[str, ...] = ()

    @property
    def outdated(self) -> bool:
        """Whether another version came into force since it was begun."""
        return self.draft.base != self.current

    @property
    def changes(self) -> Changes:
        """What it changes."""
        return changes(self.before, self.after)

    def text(self, path: str) -> str | None:
        """One file as the draft has it; None when it has none of that name."""
        data = self.after.files.get(path)
        return data.decode("utf-8", "replace") if data is not None else None

    def editable(self, path: str) -> bool:
        """Whether a file may be changed here: the site's own may."""
        root = self.after.site_root
        return bool(root) and path.startswith(root)


class Drafts:
    """Opens, changes, loads and deploys drafts. Safe between threads."""

    def __init__(self, journal: Journal, deployer: Deployer, mappings: Mappings) -> None:
        self._journal = journal
        self._deployer = deployer
        self._mappings = mappings
        self._turn = threading.Lock()
        self._loaded: OrderedDict[str, Checked] = OrderedDict()

    def begin(self, actor: str) -> str:
        """A new draft over what is in force; its id."""
        with self._journal.write() as connection:
            return kept.begin(connection, base=self._mappings.now.version, actor=actor)

    def open(self, draft_id: str) -> Opened | None:
        """A draft; None when there is none. One whose base is not kept is over what is in force."""
        with self._journal.read() as connection:
            draft = kept.get(connection, draft_id)
        if draft is None:
            return None
        now = self._mappings.now
        before = now.files if draft.base == now.version else self._before(draft.base)
        changed = {
            path: text.encode() if text is not None else None for path, text in draft.files.items()
        }
        return Opened(
            draft=draft,
            before=before,
            after=before.with_files(changed),
            current=now.version,
            overlapping=tuple(
                path
                for path in draft.files
                if before.manifest.get(path) != now.files.manifest.get(path)
            ),
        )

    def _before(self, base: int) -> FileSet:
        """The files of a version that is in force no more; of 0 those that were kept as the
        first version when another took their place."""
        with self._journal.read() as connection:
            first = versions.first(connection) if base == 0 else None
        try:
            return self._deployer.files(first.version if first is not None else base)
        except CannotDeploy:
            return self._mappings.now.files

    def save(self, opened: Opened, path: str, text: str | None) -> Opened:
        """Change one file (None: take it away). Raises DraftRefused."""
        root = opened.after.site_root
        if not root:
            raise DraftRefused("no site is named in the settings (mappings.site)")
        if not path.startswith(root) or not _NAME.fullmatch(path.removeprefix(root)):
            raise DraftRefused(f"a file of the site is called {root}<name>.yaml")
        files = dict(opened.draft.files)
        said = text.replace("\r\n", "\n") if text is not None else None
        before = opened.before.files.get(path)
        if (said.encode() if said is not None else None) == before:
            files.pop(path, None)
        else:
            files[path] = said
        return self._keep(opened, files, opened.draft.base)

    def take_over(self, opened: Opened) -> Opened:
        """The same changes over what is in force now."""
        return self._keep(opened, dict(opened.draft.files), opened.current)

    def drop(self, draft_id: str) -> None:
        """Forget a draft."""
        with self._journal.write() as connection:
            kept.drop(connection, draft_id)

    def check(self, opened: Opened) -> Checked:
        """Load its files, without their tests; kept for the next look."""
        return self.loaded(opened.after)

    def loaded(self, files: FileSet) -> Checked:
        """A set of files, loaded."""
        # One at a time: it takes a second of a core, and the same is asked more than once.
        with self._turn:
            known = self._loaded.pop(files.digest, None)
            if known is None:
                known = self._deployer.check(files, tests=False)
            self._loaded[files.digest] = known
            while len(self._loaded) > LOADED_MAX:
                self._loaded.popitem(last=False)
            return known

    def deploy(self, opened: Opened, *, actor: str, reason: str, key: str) -> Deployed:
        """Put a draft in force, and forget it. Raises CannotDeploy, Conflict."""
        done = self._deployer.deploy(
            opened.after, actor=actor, reason=reason, expected=opened.draft.base,
            edited=opened.draft.files, key=key,
        )  # fmt: skip
        self.drop(opened.draft.id)
        return done

    def _keep(self, opened: Opened, files: dict[str, str | None], base: int) -> Opened:
        with self._journal.write() as connection:
            kept.save(connection, opened.draft.id, files, base=base)
        again = self.open(opened.draft.id)
        if again is None:
            raise DraftRefused("the draft is gone: somebody deployed or dropped it")
        return again
