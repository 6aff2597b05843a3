"""Narratives: XHTML of the closed list that FHIR R4 lets stand in a ``div``."""

from __future__ import annotations

from gateway.mapping.r4.narrative import check_narrative
from gateway.mapping.vocabulary.invalid import Invalid


def xhtml(text: str) -> str | None:
    """The text when it is a narrative by txt-1 and txt-2; None when it is blank.

    Raises Invalid for anything else: scripts, forms, foreign elements, no words.
    """
    if not text.strip():
        return None
    found = check_narrative(text)
    if found:
        raise Invalid("not a narrative that R4 takes")
    return text
