"""What judges CDA documents, for the gateway and for the command line."""

from __future__ import annotations

from pathlib import Path

from adapters.cda.validation.pack import Pack
from adapters.cda.validation.validator import Validator
from gateway.cache import cache_folder
from gateway.settings import Settings


def make_validator(settings: Settings, pack: Path | None = None, *, keep: bool = True) -> Validator:
    """What judges CDA documents, by ``pack`` or the pack of the settings.

    ``keep``: reports are kept in the state folder. Raises PackUnusable.
    """
    folder, cache = pack or settings.cda.packs, cache_folder()
    return Validator(
        Pack.open(folder) if folder is not None else None,
        compiled=cache / "cda-rules" if cache is not None else None,
        reports=settings.state / "cda-reports" if keep else None,
        seconds_max=settings.cda.seconds_max,
        processes=settings.cda.processes,
    )
