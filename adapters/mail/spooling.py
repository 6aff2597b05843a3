"""The folder in which mails of one source lie until their commit."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from adapters.doors.spool import Spool
from adapters.mail.settings import MailSourceSettings


class SpoolFolder:
    """A folder of the source's own. What a crash left in the configured place goes: a mail that
    was not answered, or not moved, comes again."""

    def __init__(self, settings: MailSourceSettings) -> None:
        self._settings = settings
        self._folder: Path | None = None

    def open(self) -> None:
        """Make it. Raises OSError."""
        parent, prefix = self._settings.spool_folder, f"ecluse-mail-{self._settings.name}."
        if parent is not None:
            parent.mkdir(parents=True, exist_ok=True)
            for left in parent.glob(f"{prefix}*"):
                shutil.rmtree(left)
        self._folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))

    def close(self) -> None:
        """Remove it. Idempotent."""
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def make(self, bytes_max: int) -> Spool:
        """A spool for one mail. Raises OSError when the folder is closed."""
        if self._folder is None:
            raise OSError("the source is closed")
        return Spool(
            self._folder, memory_bytes_max=self._settings.memory_bytes_max, bytes_max=bytes_max
        )
