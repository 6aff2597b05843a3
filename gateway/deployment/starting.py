"""What a gateway starts with: the deployed version, or the folders while there is none."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import structlog

from gateway.deployment.checking import Load
from gateway.deployment.deploying import Build, CannotDeploy
from gateway.deployment.files import FileSet, MappingFolders, NotASet
from gateway.deployment.force import InForce
from gateway.journal import mappings as kept
from gateway.journal.journal import Journal
from gateway.mapping import MappingError

log = structlog.get_logger("ecluse.mapping")

SETS_FOLDER = "mappings"
"""In the state folder: the files of deployed versions, for the processes that load them."""

_LEFT_SECONDS = 86_400


def first(
    journal: Journal, parent: Path, configured: MappingFolders, *, load: Load, build: Build
) -> InForce:
    """What is in force at the start.

    Raises MappingError when it cannot be loaded, CannotDeploy when the deployed files are
    damaged, NotASet when the folders hold too much.
    """
    with journal.read() as connection:
        last = kept.latest(connection)
        packed = kept.content(connection, last.version) if last is not None else None
    if last is None:
        library = load(configured)
        return build(0, FileSet.read(configured), configured, library)
    if packed is None:
        raise CannotDeploy(f"the files of version {last.version}, which is deployed, are gone")
    try:
        files = FileSet.unpack(packed)
    except NotASet as error:
        raise CannotDeploy(f"version {last.version}, which is deployed: {error}") from None
    root = files.extract(parent)
    folders = files.folders_below(root)
    _tidy(parent, root)
    try:
        library = load(folders)
    except MappingError as error:
        log.critical(
            "the deployed mappings cannot be loaded by this release: deploy corrected ones with "
            "ecluse mapping deploy, or go back with ecluse mapping rollback",
            version=last.version,
            count=len(error.findings),
        )
        raise
    return build(last.version, files, folders, library)


def _tidy(parent: Path, root: Path) -> None:
    """Take away the files of versions that were left long ago."""
    oldest = time.time() - _LEFT_SECONDS
    for folder in parent.iterdir():
        if folder != root and folder.is_dir() and folder.stat().st_mtime < oldest:
            shutil.rmtree(folder, ignore_errors=True)
