"""What is no archive of XDM. The other refusals are those of :mod:`adapters.ebrim.faults`."""

from __future__ import annotations

from adapters.ebrim.faults import Refused
from gateway.model import CauseCode


def no_archive(detail: str) -> Refused:
    """It is no zip, or no XDM."""
    return Refused(CauseCode.NOT_THE_FORMAT, detail)
