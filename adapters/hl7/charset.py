"""Character sets of HL7 table 0211, as MSH-18 names them and as senders misname them.

Decoding is strict: a byte that does not decode refuses the message and says at
which offset it stands; no character is ever replaced. What the source declares as
fallbacks is tried first, and whoever reads the message is told (:func:`decide`).

In every character set that a block of MLLP can carry the bytes 00-7F begin as ASCII,
so that MSH is found before the set is known; UTF-16 and UTF-32 are read from files.
In GB 18030, Big5 and Shift JIS the *second* byte of a character may be a delimiter's:
a message is decoded first and split then.

Sources: HL7 v2.9.1 chapter 2, MSH-18, MSH-20 and tables 0211 and 0356 (empty means
ASCII, the first repetition is the default of the whole message).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from adapters.hl7 import cns11643, switching
from adapters.hl7.delimiters import DEFAULT, Delimiters

BYTE_ORDER_MARK = codecs.BOM_UTF8
_BLOCK_BYTES = 1 << 18
# Table 0211 means "the printable characters from the ISO 8859/1 character set": what
# stands at 80-9F is Windows-1252 under a wrong name, and would become control characters.
_UNPRINTABLE = re.compile(rb"[\x80-\x9f]")
VISIBLE = "ecluse_visible"
"""The error handler for showing what cannot be read: each wrong byte becomes U+DC00 plus
its value, which no text of a message can hold. Never used where a message is taken."""
_INVISIBLE = 0xDC00
NAMES_MAX = 16
"""Repetitions of MSH-18 that are looked at."""


@dataclass(frozen=True, slots=True)
class Charset:
    """One character set: ``name`` as an answer writes it in MSH-18, ``codec`` in Python.

    ``switched`` sets are reached by escape sequences only (ISO 2022); ``wide`` ones
    have no single bytes; in ``double`` ones a second byte may be that of a delimiter.
    """

    name: str
    codec: str
    switched: bool = False
    wide: bool = False
    double: bool = False


class Undecodable(Exception):
    """A message whose bytes are not in the character set that it (or its source) declares.

    ``offset`` is the position of the first wrong byte, or -1 when the character
    set itself is not one that we read (``charset_known`` is then false).
    """

    def __init__(self, message: str, offset: int, *, charset_known: bool = True) -> None:
        super().__init__(message)
        self.offset = offset
        self.charset_known = charset_known


ASCII = Charset("ASCII", "ascii")
UTF_8 = Charset("UNICODE UTF-8", "utf-8")
_ISO_8859 = {
    part: Charset(f"8859/{part}", f"iso8859-{part}") for part in range(2, 17) if part != 12
}
_ISO_8859[1] = Charset("8859/1", "latin-1")
_PRINTABLE_ONLY = frozenset(_ISO_8859.values())
_WINDOWS = {page: Charset(f"WINDOWS-{page}", f"cp{page}") for page in (874, *range(1250, 1259))}
_DOS = {page: Charset(f"CP{page}", f"cp{page}") for page in (437, 850, 852, 858)}
_UTF_16 = Charset("UNICODE UTF-16", "utf-16", wide=True)
_UTF_32 = Charset("UNICODE UTF-32", "utf-32", wide=True)
_JIS_X_0201 = Charset("ISO IR14", "ascii", switched=True)
_JIS_X_0202 = Charset("JIS X 0202", "ascii", switched=True)
_JIS_X_0208 = Charset("ISO IR87", "ascii", switched=True)
_JIS_X_0212 = Charset("ISO IR159", "ascii", switched=True)
_SHIFT_JIS = Charset("SHIFT_JIS", "cp932", double=True)
_GB_18030 = Charset("GB 18030-2000", "gb18030", double=True)
_BIG_5 = Charset("BIG-5", "cp950", double=True)
_KS_X_1001 = Charset("KS X 1001", "cp949", double=True)
_CNS_11643 = Charset("CNS 11643-1992", cns11643.CODEC)

# Table 0211, the names of the IANA registry, of the ISO-IR register and of Windows.
_BY_COMPACT_NAME = {
    **dict.fromkeys(("ASCII", "USASCII", "ISO646", "ANSIX34", "ISOIR6", "IR6"), ASCII),
    **dict.fromkeys(("UTF8", "UNICODE", "UNICODEUTF8", "UTF8UNICODE", "CP65001"), UTF_8),
    **dict.fromkeys(("UTF16", "UNICODEUTF16", "UCS2", "ISO10646UCS2"), _UTF_16),
    "UTF16LE": Charset("UNICODE UTF-16", "utf-16-le", wide=True),
    "UTF16BE": Charset("UNICODE UTF-16", "utf-16-be", wide=True),
    **dict.fromkeys(("UTF32", "UNICODEUTF32", "UCS4", "ISO10646UCS4"), _UTF_32),
    "UTF32LE": Charset("UNICODE UTF-32", "utf-32-le", wide=True),
    "UTF32BE": Charset("UNICODE UTF-32", "utf-32-be", wide=True),
    **{f"{lead}8859{n}": c for n, c in _ISO_8859.items() for lead in ("", "ISO", "ISOIEC")},
    **{f"LATIN{n}": _ISO_8859[part] for n, part in enumerate((1, 2, 3, 4, 9, 10, 13, 14, 15), 1)
       if n not in (7, 8, 9)},
    "LATIN7": _ISO_8859[13], "LATIN8": _ISO_8859[14], "LATIN9": _ISO_8859[15],
    **{f"ISOIR{register}": _ISO_8859[part] for register, part in (
        (100, 1), (101, 2), (109, 3), (110, 4), (144, 5), (127, 6), (126, 7), (138, 8), (148, 9),
        (157, 10), (166, 11), (179, 13), (199, 14), (203, 15))},
    **{f"{lead}{page}": c for page, c in _WINDOWS.items() for lead in ("WINDOWS", "CP", "WIN")},
    **{f"{lead}{page}": c for page, c in _DOS.items() for lead in ("CP", "IBM")},
    **dict.fromkeys(("ISOIR14", "ISOIR13", "JISX0201", "JISX02011976"), _JIS_X_0201),
    **dict.fromkeys(
        ("JISX0202", "JAS2020", "ISO2022JP", "ISO2022", "ISO20221994", "CSISO2022JP"), _JIS_X_0202
    ),
    **dict.fromkeys(("ISOIR87", "JISX0208", "JISX02081990"), _JIS_X_0208),
    **dict.fromkeys(("ISOIR159", "JISX0212", "JISX02121990"), _JIS_X_0212),
    **dict.fromkeys(("SHIFTJIS", "SJIS", "WINDOWS31J", "MS932", "CP932"), _SHIFT_JIS),
    **dict.fromkeys(("EUCJP", "UJIS"), Charset("EUC-JP", "euc_jp")),
    **dict.fromkeys(("GB180302000", "GB18030", "GBK", "GB2312", "CP936"), _GB_18030),
    **dict.fromkeys(("BIG5", "CP950"), _BIG_5),
    **dict.fromkeys(("KSX1001", "KSC5601", "EUCKR", "CP949", "ISOIR149"), _KS_X_1001),
    **dict.fromkeys(("CNS116431992", "CNS11643", "EUCTW"), _CNS_11643),
    "TIS620": _ISO_8859[11],
}  # fmt: skip
_NOT_SIGNIFICANT = re.compile(r"[^0-9A-Z]+")
_YEAR = re.compile(r"(?<=8859[-/ ]\d):\d{4}$|(?<=8859[-/ ]\d\d):\d{4}$")


@lru_cache(maxsize=256)
def charset_named(name: str) -> Charset | None:
    """The character set of that name, or None when we do not read it.

    Only letters and digits count, in either case, so that ``UNICODE UTF-8``,
    ``UTF8``, ``8859/1``, ``ISO-8859-1`` and ``iso 8859/1`` are found. ``UNICODE``
    alone is UTF-8, as HAPI and dcm4che read it.
    """
    known = _YEAR.sub("", name.strip()).upper()
    return _BY_COMPACT_NAME.get(_NOT_SIGNIFICANT.sub("", known))


def choose(
    payload: bytes,
    declared: str,
    default: str,
    *,
    scheme: str = "",
    delimiters: Delimiters = DEFAULT,
) -> Charset:
    """The character set in which ``payload`` is to be read.

    ``declared`` is MSH-18 with its repetitions and ``scheme`` MSH-20; ``default`` is
    the source's setting for messages that declare nothing, empty when the standard's
    ASCII is meant. A payload of ASCII bytes is ASCII whatever is declared, unless it
    switches. Raises Undecodable when the declared name is not one that we read.
    """
    declared = declared.strip()
    switching_declared = scheme != "" or delimiters.repetition in declared
    # An escape byte may switch character sets (ISO 2022), so it is not plain ASCII.
    if not switching_declared and payload.isascii() and b"\x1b" not in payload:
        return ASCII
    names = [name.strip() for name in declared.split(delimiters.repetition)[:NAMES_MAX]]
    first = names[0]
    switched = len(names) > 1 or scheme != "" or _is_switched(first or default)
    if switched and switching.switches(payload, delimiters.escape):
        return _switching(names, default, delimiters)
    if payload.isascii() and (b"\x1b" not in payload):
        return ASCII
    if not first and payload.startswith(BYTE_ORDER_MARK):
        return UTF_8
    return _known(first or default or ASCII.name)


def _known(name: str) -> Charset:
    charset = charset_named(name)
    if charset is None:
        raise Undecodable("MSH-18 names an unsupported character set", -1, charset_known=False)
    if charset.wide:
        raise Undecodable(
            f"MSH-18 says {charset.name}, in which MSH itself is not", -1, charset_known=False
        )
    return charset


def _is_switched(name: str) -> bool:
    charset = charset_named(name)
    return charset is not None and charset.switched


def _switching(names: Sequence[str], default: str, delimiters: Delimiters) -> Charset:
    """The character set of a message that switches; its name is MSH-18 as we know it."""
    first = _known(names[0] or (ASCII.name if len(names) > 1 else default or ASCII.name))
    codec = switching.codec_name(
        first.codec, delimiters.escape, delimiters.field, delimiters.repetition
    )
    if not codec:
        raise Undecodable("MSH-18 switches in too many ways", -1, charset_known=False)
    others = [known.name for known in map(charset_named, names[1:]) if known is not None]
    return Charset("~".join((first.name, *(others or [_JIS_X_0202.name]))), codec)


class Decision(NamedTuple):
    """In which set a message is read, what is wrong with that, and whether it is a fallback."""

    charset: Charset | None
    fault: Undecodable | None = None
    fell_back: bool = False


def decide(
    payload: bytes,
    declared: str,
    default: str,
    fallbacks: Sequence[str] = (),
    *,
    start: int = 0,
    scheme: str = "",
    delimiters: Delimiters = DEFAULT,
) -> Decision:
    """:func:`choose`, and whether the bytes from ``start`` on really are in that set.

    When they are not, the first of ``fallbacks`` in which all of them are is taken.
    When none fits, ``fault`` says where the first choice failed.
    """
    fault: Undecodable
    charset: Charset | None = None
    try:
        charset = choose(payload, declared, default, scheme=scheme, delimiters=delimiters)
    except Undecodable as unknown:
        fault = unknown
    else:
        wrong = first_undecodable(payload, charset, start)
        if wrong is None:
            return Decision(charset)
        fault = Undecodable(f"the byte at offset {wrong} is not {charset.name}", wrong)
    for name in fallbacks:
        other = charset_named(name)
        usable = other is not None and not other.wide and other != charset
        if other is not None and usable and first_undecodable(payload, other, start) is None:
            return Decision(other, fell_back=True)
    return Decision(charset, fault)


_WIDE_STARTS = (  # the longer first: FF FE is how UTF-32 begins, too
    (codecs.BOM_UTF32_LE, "UTF32LE"), (codecs.BOM_UTF32_BE, "UTF32BE"),
    (codecs.BOM_UTF16_LE, "UTF16LE"), (codecs.BOM_UTF16_BE, "UTF16BE"),
    (b"M\0\0\0S\0\0\0", "UTF32LE"), (b"\0\0\0M\0\0\0S", "UTF32BE"),
    (b"M\0S\0H\0", "UTF16LE"), (b"\0M\0S\0H", "UTF16BE"),
)  # fmt: skip


def wide_charset(payload: bytes) -> Charset | None:
    """UTF-16 or UTF-32 when a message begins like it (byte order mark, or MSH), else None.

    Such a message is read from a file only: its bytes hold those that frame a block.
    """
    for begin, name in _WIDE_STARTS:
        if payload.startswith(begin):
            return _BY_COMPACT_NAME[name]
    return None


def first_undecodable(payload: bytes, charset: Charset, start: int = 0) -> int | None:
    """Offset of the first byte from ``start`` on that is not of ``charset``, or None.

    Constant memory. A NUL counts as wrong in every character set: MLLP carries
    printable characters only, and no store of text keeps a NUL.
    """
    if charset in _PRINTABLE_ONLY:
        unprintable = _UNPRINTABLE.search(payload, start)
        if unprintable is not None:
            nul = payload.find(0, 0, unprintable.start())
            return nul if nul >= 0 else unprintable.start()
    nul = payload.find(0)
    if charset is ASCII and payload.isascii():
        return nul if nul >= 0 else None
    end = nul if nul >= 0 else len(payload)
    if end <= _BLOCK_BYTES:
        whole = start == 0 and nul < 0
        try:
            (payload if whole else payload[start:end]).decode(charset.codec)
        except UnicodeDecodeError as error:
            return start + error.start
        return nul if nul >= 0 else None
    view = memoryview(payload)
    decoder = codecs.getincrementaldecoder(charset.codec)(errors="strict")
    for position in range(start, end, _BLOCK_BYTES):
        held = len(decoder.getstate()[0])
        upto = min(position + _BLOCK_BYTES, end)
        try:
            decoder.decode(view[position:upto], final=upto >= end)
        except UnicodeDecodeError as error:
            return position - held + error.start
    return nul if nul >= 0 else None


def decode(payload: bytes, charset: Charset, start: int = 0) -> str:
    """The text of ``payload`` from byte ``start`` on.

    Raises Undecodable with the offset (in ``payload``) of the first wrong byte.
    """
    offset = -1
    text = ""
    wrong = _UNPRINTABLE.search(payload, start) if charset in _PRINTABLE_ONLY else None
    try:
        text = (payload[start:] if start else payload).decode(charset.codec)
    except UnicodeDecodeError as error:
        offset = error.start
    else:
        if "\0" in text:
            offset = len(text[: text.index("\0")].encode(charset.codec))
    if wrong is not None:
        unprintable = wrong.start() - start
        offset = unprintable if offset < 0 else min(offset, unprintable)
    if offset < 0:
        return text
    # Raised outside the handler: the decoder's own error holds the patient's bytes.
    offset += start
    raise Undecodable(f"the byte at offset {offset} is not {charset.name}", offset)


def _make_visible(error: UnicodeError) -> tuple[str | bytes, int]:
    if isinstance(error, UnicodeDecodeError):
        wrong = error.object[error.start : error.end]
        return "".join(chr(_INVISIBLE + byte) for byte in wrong), error.end
    if isinstance(error, UnicodeEncodeError):
        shown = [ord(character) - _INVISIBLE for character in error.object[error.start : error.end]]
        if all(0 <= byte < 0x100 for byte in shown):
            return bytes(shown), error.end
    raise error


codecs.register_error(VISIBLE, _make_visible)
