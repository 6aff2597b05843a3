"""What an XML document's first bytes say, before any parser sees them.

Two things are settled here and nowhere else: which encoding the bytes are in
(XML 1.0 appendix F, RFC 7303 section 3 for what a transport says) and that there is
no document type declaration, the door through which entities and external files
come. Libxml2 is then told the encoding and never meets a DTD.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from gateway.model import CauseCode
from gateway.ports import Unreadable

PROLOG_BYTES_MAX = 1 << 20
START_TAG_BYTES_MAX = 1 << 16

_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_DECLARATION = re.compile(
    rb"""<\?xml\s+version\s*=\s*(?:"1\.[0-9]"|'1\.[0-9]')"""
    rb"""(?:\s+encoding\s*=\s*(?:"([A-Za-z][\w.\-]*)"|'([A-Za-z][\w.\-]*)'))?"""
    rb"""(?:\s+standalone\s*=\s*(?:"(?:yes|no)"|'(?:yes|no)'))?\s*\?>""",
    re.ASCII,
)
_BLANKS = re.compile(rb"[ \t\r\n]*+")
_LONG_RUN = re.compile(rb"<[^<!?/][^<]{%d}" % START_TAG_BYTES_MAX)
_START_TAG = re.compile(rb"""<[^<>"']*+(?:(?:"[^"<]*+"|'[^'<]*+')[^<>"']*+)*+>""")
_ACCEPTED = frozenset(
    {"utf-8", "ascii", "utf-16-le", "utf-16-be"}
    | {f"iso8859-{part}" for part in (*range(1, 12), 13, 14, 15, 16)}
    | {f"cp125{page}" for page in range(9)}
)


class NotReadable(Unreadable):
    """An Unreadable that knows its cause: what a refusal is filed under."""

    def __init__(self, message: str, location: str, code: CauseCode) -> None:
        super().__init__(message, location)
        self.code = code


@dataclass(frozen=True, slots=True)
class Prolog:
    """``encoding`` is Python's name; ``skip`` the bytes of a byte order mark."""

    encoding: str
    skip: int


def _codec(name: str, said_by: str) -> str:
    """Python's name of an accepted encoding; NotReadable for any other."""
    try:
        known = codecs.lookup(name).name
    except LookupError:
        known = ""
    if known == "utf-16":
        known = "utf-16-le"  # without a byte order mark: what XML writers in practice mean
    if known not in _ACCEPTED:
        raise NotReadable(
            f"{said_by} names an encoding that is not accepted (UTF-8 is expected)",
            "line 1",
            CauseCode.CHARACTER_SET,
        )
    return known


def read_prolog(data: bytes, transport: str = "") -> Prolog:
    """Settle the encoding: byte order mark, then transport, then declaration, then UTF-8.

    ``transport`` is the charset that the transport named, or empty. Raises
    NotReadable (cause ``character-set``) when two of them contradict each other:
    guessing would change a patient's name without anyone seeing it.
    """
    outer = _codec(transport, "the transport") if transport else ""
    for mark, name in _BOMS:
        if data.startswith(mark):
            return Prolog(_agreed(_codec(name, "the byte order mark"), outer, data), len(mark))
    if data[:4] in (b"<\x00?\x00", b"\x00<\x00?"):
        name = "utf-16-le" if data[0] == 0x3C else "utf-16-be"
        return Prolog(_agreed(name, outer, data), 0)
    found = _DECLARATION.match(data)
    said = (found[1] or found[2] or b"").decode("ascii") if found else ""
    declared = _codec(said, "the XML declaration") if said else ""
    if declared.startswith("utf-16"):
        raise NotReadable(
            "the XML declaration says UTF-16 and the bytes are not",
            "line 1",
            CauseCode.CHARACTER_SET,
        )
    if declared:
        return Prolog(_agreed(declared, outer, data), 0)
    return Prolog(outer or "utf-8", 0)


def _agreed(inner: str, outer: str, data: bytes) -> str:
    """``inner``, unless the transport says otherwise and the difference can matter."""
    same_family = inner.startswith("utf-16") and outer.startswith("utf-16")
    if not outer or outer == inner or same_family or data.isascii():
        return inner
    raise NotReadable(
        f"the transport says {outer} and the document says {inner}",
        "line 1",
        CauseCode.CHARACTER_SET,
    )


def ascii_compatible(data: bytes, prolog: Prolog) -> tuple[bytes | memoryview, str]:
    """The document's bytes without their mark, and the encoding to give to the parser.

    UTF-16 is turned into UTF-8 so that what is checked below is what is parsed.
    Raises NotReadable when the bytes are not in their encoding.
    """
    if prolog.encoding.startswith("utf-16"):
        try:
            text = data[prolog.skip :].decode(prolog.encoding)
        except UnicodeDecodeError as error:
            raise NotReadable(
                f"the bytes are not {prolog.encoding}",
                f"byte {prolog.skip + error.start}",
                CauseCode.CHARACTER_SET,
            ) from None
        return text.encode("utf-8"), "utf-8"
    return (memoryview(data)[prolog.skip :] if prolog.skip else data), prolog.encoding


def refuse_declarations(data: bytes | memoryview) -> None:
    """Raise NotReadable for a DTD, an endless prolog or a start tag beyond its limit.

    XML 1.0 allows a DOCTYPE only before the root element, and only a declaration,
    comments, processing instructions and blanks before it: so looking there is
    complete. ``data`` is in an encoding that keeps ASCII.
    """
    view = bytes(data[:PROLOG_BYTES_MAX])
    at = 0
    while True:
        blanks = _BLANKS.match(view, at)
        at = blanks.end() if blanks else at
        if view.startswith(b"<?", at):
            end = view.find(b"?>", at)
        elif view.startswith(b"<!--", at):
            end = view.find(b"-->", at)
        else:
            break
        if end < 0:
            raise NotReadable(
                f"no root element within the first {PROLOG_BYTES_MAX} bytes",
                "prolog",
                CauseCode.NOT_THE_FORMAT if len(data) > PROLOG_BYTES_MAX else CauseCode.UNREADABLE,
            )
        at = end + (2 if view.startswith(b"<?", at) else 3)
    if view.startswith(b"<!", at):
        lines = view.count(b"\n", 0, at) + 1
        raise NotReadable(
            "a document type declaration (DTD) is not accepted",
            f"line {lines}",
            CauseCode.HOSTILE_CONTENT,
        )
    if not view.startswith(b"<", at):
        raise NotReadable("this is not XML", "line 1", CauseCode.NOT_THE_FORMAT)
    _refuse_long_tags(data)


def _refuse_long_tags(data: bytes | memoryview) -> None:
    """A start tag is parsed as a whole: its length bounds how many attributes it makes.

    ``<`` cannot stand inside a tag, so a tag longer than the limit shows as a run
    without ``<``; such runs are few (mostly Base64 behind a short tag).
    """
    for run in _LONG_RUN.finditer(data):
        window = bytes(data[run.start() : run.start() + START_TAG_BYTES_MAX])
        if not _START_TAG.match(window):
            raise NotReadable(
                f"a start tag is longer than {START_TAG_BYTES_MAX} bytes",
                f"byte {run.start()}",
                CauseCode.HOSTILE_CONTENT,
            )
