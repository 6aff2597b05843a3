"""A SQLite journal with the tables of the journal and the record, made once per process and copied.

Making them takes as long as many a test. That migrations make what the code knows, and that a
gateway makes its journal at its first start, have tests of their own
(``tests/integration/journal/test_migrations.py``, ``tests/acceptance/test_demo.py``).
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from gateway.journal.journal import Journal
from gateway.opening import RECORD_VERSION_TABLE


@cache
def _made() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="ecluse-migrated-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    journal = Journal(f"sqlite:///{folder / 'journal.sqlite'}", blob_directory=folder / "blobs")
    journal.migrate()
    journal.migrate(package="record", version_table=RECORD_VERSION_TABLE)
    journal.close()
    return folder / "journal.sqlite"


def migrated(path: Path) -> Path:
    """An empty journal at ``path``, unless one is there; ``path``."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(_made(), path)
    return path
