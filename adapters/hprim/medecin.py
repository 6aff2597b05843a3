"""HPRIM Médecin 3.0: twelve lines of header, a free text, a block of results.

::

    1 patient's code      5 address           9 number of the file
    2 name                6 postal code, city 10 date
    3 first name          7 date of birth     11 sender's code (10 characters), label
    4 address             8 social security   12 recipient's code (10 characters), label
    free text
    ****LAB****
    TEX|text
    RES|label|code|N or A|value|unit|low|high|N L H LL HH|status|value|unit|low|high
    ****FIN****
    ****FINFICHIER****

What senders make of it: any line end, blanks around the marks and inside the fields, RES with
anything from three fields to thirteen, an address line left blank so that the city stands in
line 5, a year of two digits, one of the end marks missing or twice, text behind them.
"""

from __future__ import annotations

import re
from datetime import date
from itertools import pairwise

from adapters.hprim.faults import NotReadable, text_of
from adapters.hprim.grammar import MEDECIN_VERSION
from adapters.hprim.lines import lines, numbered
from adapters.hprim.segments import Message, Segment
from gateway.model import CauseCode, Flag

HEADER_LINES = 12
LINES_MAX = 100_000
CODE_CHARACTERS = 10
FIRST_YEAR = 1990
"""HPRIM is younger than this year: a document's year of two digits is not an earlier one."""

_FLAGS_MAX = 100
_MARK = re.compile(r"\*{3,4}(LAB|FIN|FINFICHIER)\*{3,4}", re.IGNORECASE)
_DATE = re.compile(r"(\d{1,2})[/.-](\d{1,2})[/.-](\d{4}|\d{2})")
_CITY = re.compile(r"(\d{5})\s+(\S.*)")
_NIR = re.compile(r"([12378]\d{4}(?:\d{2}|2[AB])\d{6})\s*(\d{2})?")


def mark_of(line: str) -> str:
    """``LAB``, ``FIN`` or ``FINFICHIER`` for a line that is one of the marks, else empty."""
    match = _MARK.fullmatch(line.strip())
    return match[1].upper() if match else ""


def is_medecin(content: bytes) -> bool:
    """Whether a file has an end mark, or at least a date of birth where the header has it."""
    for line in lines(content):
        text = line.data.decode("latin-1")
        if line.number == 7 and _DATE.fullmatch(text.strip()):
            return True
        if mark_of(text) in ("FIN", "FINFICHIER"):
            return True
    return False


def split(content: bytes, messages_max: int) -> list[bytes]:
    """The messages of a file: each ends with its FIN, the last also with the FINFICHIER.

    What stands behind an end mark and is too short for a message goes with the message
    before it. Raises NotReadable: cut before its end mark, too many.
    """
    begins: list[int] = []
    begin, count, number, marked = 0, 0, 0, False
    dated = False
    for line in lines(content):
        text = line.data.decode("latin-1")  # the marks are ASCII, whatever the rest is
        number = line.number
        if mark_of(text) in ("FIN", "FINFICHIER"):
            if count >= HEADER_LINES:
                begins.append(begin)
            begin, count, marked, dated = line.end, 0, True, False
        elif text.strip() or count or not marked:
            count += 1
            dated = dated or (count <= HEADER_LINES and bool(_DATE.fullmatch(text.strip())))
        if len(begins) > messages_max:
            raise NotReadable(
                CauseCode.HOSTILE_CONTENT, f"the file holds more than {messages_max} messages"
            )
    if not marked or dated:
        raise NotReadable(
            CauseCode.FRAME_TRUNCATED,
            "no end mark (****FIN****, ****FINFICHIER****): the file is cut",
            f"line {number}",
        )
    if not begins:
        raise NotReadable(
            CauseCode.NOT_THE_FORMAT, f"fewer than {HEADER_LINES} lines before the end mark"
        )
    bounds = [0, *begins[1:], len(content)]
    return [content[first:last] for first, last in pairwise(bounds)]


def read(content: bytes, encoding: str) -> Message:
    """Read one message. Raises NotReadable with the line that is wrong."""
    found = numbered(text_of(content, encoding))
    if len(found) > LINES_MAX:
        raise NotReadable(CauseCode.HOSTILE_CONTENT, f"more than {LINES_MAX} lines")
    begin = _header_at(found)
    header = found[begin : begin + HEADER_LINES]
    if len(header) < HEADER_LINES or any(mark_of(line) for _, line in header):
        raise NotReadable(
            CauseCode.NOT_THE_FORMAT, f"the header has fewer than {HEADER_LINES} lines", "line 1"
        )
    texts = [line.strip() for _, line in header]
    if not texts[1]:
        raise NotReadable(
            CauseCode.REQUIRED_FIELD_MISSING, "the name of the patient is missing", "line 2"
        )
    root = Segment("ENT", ["ENT", *texts], header[0][0])
    message = Message(MEDECIN_VERSION, root, content, encoding)
    _derive(message, [line for _, line in header])
    _read_body(message, found[begin + HEADER_LINES :])
    return message


def _header_at(found: list[tuple[int, str]]) -> int:
    """Where the header begins: behind as many blank lines as put a date into line 7."""
    for begin, (_, line) in enumerate(found):
        if begin + 6 < len(found) and _DATE.fullmatch(found[begin + 6][1].strip()):
            return begin
        if line.strip():
            return 0
    return 0


# --- what the lines of the header hold ------------------------------------------------


def _derive(message: Message, raw: list[str]) -> None:
    """Components by place: dates as ISO 8601, codes and labels, the address."""
    root, derived = message.root, message.root.derived
    written = _day(root.fields[10])
    if written is not None:
        day, month, year = written
        year = year if year > 99 else (1900 + year if year >= FIRST_YEAR % 100 else 2000 + year)
        _put_date(message, 10, day, month, year)
    _derive_birth(message)
    number = _NIR.fullmatch(root.fields[8])
    if number is not None:
        derived[8, 1] = number[1]
        if number[2]:
            derived[8, 2] = number[2]
    for field in (11, 12):
        line = raw[field - 1]
        derived[field, 1] = line[:CODE_CHARACTERS].strip()
        derived[field, 2] = line[CODE_CHARACTERS:].strip()
    derived[11, 3] = "L"  # the codes of the RES lines are the sender's own: local, as in OBX-3.3
    _derive_address(message)


def _day(text: str) -> tuple[int, int, int] | None:
    match = _DATE.fullmatch(text)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def _put_date(message: Message, field: int, day: int, month: int, year: int) -> None:
    try:
        found = date(year, month, day)
    except ValueError:
        _flag(message, "invalid-value", "the line holds no date", f"ENT-{field}")
        return
    message.root.derived[field, 1] = found.isoformat()


def _derive_birth(message: Message) -> None:
    """A year of two digits is taken only where the other century would lie ahead."""
    born = _day(message.root.fields[7])
    if born is None:
        if message.root.fields[7]:
            _flag(message, "invalid-value", "the line holds no date", "ENT-7")
        return
    day, month, year = born
    if year <= 99:
        written = message.root.derived.get((10, 1), "")
        if not written or f"{2000 + year}-{month:02}-{day:02}" <= written:
            detail = "a year of birth of two digits may be of this or of the last century"
            _flag(message, "ambiguous-date", detail, "ENT-7")
            return
        year += 1900
    _put_date(message, 7, day, month, year)


def _derive_address(message: Message) -> None:
    """The city is in line 6 or, where that is blank, in line 5; the others are the street."""
    given = message.root.fields[4:7]
    street, postal, city = [line for line in given[:2] if line], "", ""
    match = _CITY.fullmatch(given[2])
    if match is not None:
        postal, city = match[1], match[2]
    elif given[2]:
        city = given[2]
    elif street and (match := _CITY.fullmatch(street[-1])) is not None:
        street.pop()
        postal, city = match[1], match[2]
    if street or city:
        first, second = [*street, "", ""][:2]
        _add(message, "ADR", ["ADR", first, second, postal, city], message.root.line + 3)


# --- text and results ---------------------------------------------------------------


def _read_body(message: Message, found: list[tuple[int, str]]) -> None:
    text: list[str] = []
    block: list[str] = []
    part, stray = "TXT", 0
    for number, line in found:
        mark = mark_of(line)
        if mark:
            message.counts[mark] = message.counts.get(mark, 0) + 1
            if mark != "LAB":
                part = "END"
            elif part == "TXT":
                part = "LAB"
        elif part == "TXT":
            text.append(line.rstrip())
        elif part == "LAB":
            stray += not _block_line(message, number, line.strip(), block)
        else:
            stray += bool(line.strip())
    for name, content in (("TXT", text), ("LAB", block)):
        joined = "\n".join(content).strip("\n")
        if joined.strip():
            _add(message, name, [name, joined], message.root.line + HEADER_LINES)
    if stray:
        detail = f"{stray} line(s) in or behind the block of results are none of its lines"
        _flag(message, "text-left-out", detail, "")
    for mark in ("FIN", "FINFICHIER"):
        if message.counts.get(mark, 0) > 1:
            _flag(message, "repeated-end-mark", f"{mark} stands more than once", "")


def _block_line(message: Message, number: int, text: str, block: list[str]) -> bool:
    """Take a line of the laboratory block; False for what is none (and not blank)."""
    name, *rest = text.split("|")
    name = name.strip().upper()
    if name == "TEX":
        content = text.partition("|")[2].rstrip()
        block.append(content)
        _add(message, "TEX", ["TEX", content], number)
        return True
    if name == "RES":
        fields = [field.strip() for field in rest]
        _add(message, "RES", ["RES", *fields[:13]], number)
        if any(fields[13:]):
            _flag(message, "text-left-out", "a RES line has more than 13 fields", "RES")
        return True
    return not text


def _add(message: Message, name: str, fields: list[str], number: int) -> None:
    message.counts[name] = ordinal = message.counts.get(name, 0) + 1
    root = message.root
    root.children.append(Segment(name, fields, number, ordinal, root))


def _flag(message: Message, code: str, detail: str, source: str) -> None:
    if len(message.flags) < _FLAGS_MAX:
        message.flags.append(Flag(code=code, detail=detail, source=source))
