"""Text from outside, made to fit a column without losing which text it was."""

from __future__ import annotations

import hashlib

_MARK = "…"
_DIGEST = 16


def fit(text: str, limit: int) -> str:
    """``text`` in at most ``limit`` characters that both databases can store.

    NUL (which PostgreSQL cannot store) and lone surrogates (which are no UTF-8)
    become ``\\x00`` and ``\\udcff`` in words. Text that is too long keeps its
    beginning and ends in a mark and 16 hex digits of its SHA-256, so that two
    different texts stay different and the same text is always the same.
    """
    if text.isascii():
        if len(text) <= limit and "\0" not in text:
            return text
    else:
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if "\0" in text:
        text = text.replace("\0", "\\x00")
    if len(text) <= limit:
        return text
    digest = hashlib.sha256(text.encode("utf-8")).hexdigest()[:_DIGEST]
    return text[: limit - _DIGEST - len(_MARK)] + _MARK + digest
