"""Escape sequences of HL7 v2 text (HL7 v2.7 chapter 2, section 2.7), read and written."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from adapters.hl7.repertoires import designation
from adapters.hl7.switching import is_switching

if TYPE_CHECKING:
    from adapters.hl7.delimiters import Delimiters

_HEXADECIMAL = re.compile(r"X(?:[0-9A-Fa-f]{2})+\Z")
_SKIP = re.compile(r"\.(sp|sk|in|ti)([+-]?\d{1,2})?\Z", re.IGNORECASE)
_DROPPED = frozenset({"H", "N", ".fi", ".nf", ".FI", ".NF"})
_LINE_END = frozenset({".br", ".BR", ".ce", ".CE"})


def unescape(text: str, delimiters: Delimiters, codec: str) -> str:
    r"""``text`` with its escape sequences resolved.

    ``\F\ \S\ \T\ \R\ \E\ \P\`` give the message's own delimiters, ``\Xhh..\``
    bytes in the message's character set, ``\.br\``, ``\.ce\`` and ``\.sp<n>\`` line
    ends, ``\.sk<n>\`` spaces; highlighting, wrapping and indents are dropped
    (they have no place in plain text). ``\Cxxyy\`` and ``\Mxxyyzz\`` are dropped in a
    message that switches character sets, where decoding obeyed them. Whatever is not
    one of these stays as it was written, and a lone escape character is itself. Linear
    in time.
    """
    escape = delimiters.escape
    if not escape or escape not in text:
        return text
    pieces = text.split(escape)
    result = [pieces[0]]
    index, last = 1, len(pieces) - 1
    while index <= last:
        # pieces[index] opens after an escape character; it is a sequence only if
        # another escape character closes it.
        resolved = _resolve(pieces[index], delimiters, codec) if index < last else None
        if resolved is None:
            result.append(escape)
            result.append(pieces[index])
            index += 1
        else:
            result.append(resolved)
            result.append(pieces[index + 1])
            index += 2
    return "".join(result)


def _resolve(sequence: str, delimiters: Delimiters, codec: str) -> str | None:
    """What one sequence (without its escape characters) means, or None if unknown."""
    if len(sequence) == 1:
        delimiter = delimiters.escaped.get(sequence)
        if delimiter is not None:
            return delimiter
    if sequence in _DROPPED:
        return ""
    if sequence in _LINE_END:
        return "\n"
    if sequence.startswith("X") and _HEXADECIMAL.match(sequence):
        return _hexadecimal(sequence, codec)
    if is_switching(codec) and designation(sequence) is not None:
        return ""
    skip = _SKIP.match(sequence)
    return _skipped(skip) if skip else None


def _hexadecimal(sequence: str, codec: str) -> str | None:
    data = bytes.fromhex(sequence[1:])
    if 0 in data:  # no store of text keeps a NUL: the sequence stays visible instead
        return None
    try:
        return data.decode(codec)
    except UnicodeDecodeError:
        return None


def _skipped(match: re.Match[str]) -> str | None:
    command, number = match.group(1).lower(), match.group(2)
    if command in {"in", "ti"}:
        return ""
    count = int(number) if number else 1
    if count < 0:
        return None
    # Before 2.3 ``\.sp\`` was what ``\.br\`` is now: one line end.
    return (" " if command == "sk" else "\n") * count


def escape_text(text: str, delimiters: Delimiters) -> str:
    """``text`` made safe as a field of a message with these delimiters.

    Line ends become ``\\.br\\``. A delimiter for which the message defines no
    escape character is replaced by a space, for nothing else can be written.
    """
    codes = {character: code for code, character in delimiters.escaped.items() if character}
    escape = delimiters.escape
    result = []
    for character in text:
        code = codes.get(character)
        if code is not None:
            result.append(f"{escape}{code}{escape}" if escape else " ")
        elif character in "\r\n":
            result.append(f"{escape}.br{escape}" if escape else " ")
        else:
            result.append(character)
    return "".join(result)
