"""From folders of mappings to a library, with what was checked before on this machine."""

from __future__ import annotations

from gateway.cache import cache_folder
from gateway.deployment.files import MappingFolders
from gateway.formats import languages
from gateway.mapping import Library
from gateway.mapping.building import Progress
from gateway.mapping.checked import CheckedMappings


def load_folders(
    given: MappingFolders,
    checked: CheckedMappings | None = None,
    *,
    progress: Progress = lambda _done, _of: None,
) -> Library:
    """Load folders with a site's changes. Raises ``gateway.mapping.MappingError`` with every
    finding.

    ``checked`` says what need not be checked again; None for everything.
    """
    return Library.load(
        given.folders,
        languages(),
        sites=given.sites,
        site=given.site or None,
        checked=checked,
        progress=progress,
    )


def checked_mappings() -> CheckedMappings:
    """What the build of the wheel and this user's commands and gateways checked before.

    One whose user has no home has only the former.
    """
    folder = cache_folder()
    return CheckedMappings(folder / "checked-mappings" if folder is not None else None)
