"""The message header (MSH), read before the character set of the message is known."""

from __future__ import annotations

from adapters.hl7 import switching
from adapters.hl7.charset import BYTE_ORDER_MARK, charset_named, wide_charset
from adapters.hl7.delimiters import DEFAULT, Delimiters, is_separator, read_delimiters
from gateway.ports import Unreadable

NULL = '""'
HEADER_BYTES_MAX = 64 << 10
_BLANKS = b" \t\r\n"
_NO_PARTS = [""] * 21


def first_repetition(text: str, delimiters: Delimiters) -> str:
    """The first repetition of a field's text."""
    separator = delimiters.repetition
    if separator in text:
        return text[: text.index(separator)]
    return text


def component(text: str, separator: str, number: int) -> str | None:
    """Part ``number`` (from 1) of a field's repetition or of a component; None if absent.

    A null (``""``) is null in every part: the sender means the whole value.
    """
    if separator and separator in text:
        if number == 1:
            return text[: text.index(separator)]
        parts = text.split(separator, number)
        return parts[number - 1] if number <= len(parts) else None
    return text if number == 1 or text == NULL else None


class Header:
    """The first segment of a message. ``MSH-n`` is ``whole(n)`` from n = 3 on.

    Its text is the bytes one to one (ISO-8859-1), unless they are UTF-8 and a
    delimiter is not ASCII, or of a set in which bytes look like delimiters.
    """

    __slots__ = ("codec", "delimiters", "parts", "profile")

    def __init__(self, parts: list[str], delimiters: Delimiters, codec: str) -> None:
        parts.extend(_NO_PARTS[len(parts) :])
        self.parts = parts
        self.delimiters = delimiters
        self.codec = codec
        # What one sender writes alike in one kind of message: MSH-1 to 6, 9, 11, 12,
        # 15 to 18, 21. What follows from these alone is worked out once and remembered.
        self.profile = (*parts[:6], parts[8], *parts[10:12], *parts[14:18], parts[20])

    @classmethod
    def read(cls, line: bytes) -> Header:
        """Read the header segment's bytes. Raises Unreadable (location MSH-1 or MSH-2)."""
        parts, codec = _split(line)
        if len(parts) < 2:
            raise Unreadable("the message header ends before MSH-2", "MSH-1")
        return cls(parts, read_delimiters(parts[0], parts[1]), codec)

    @classmethod
    def salvage(cls, line: bytes) -> Header | None:
        """What can be told of a header whose MSH-2 is wrong, for an answer to it.

        The field separator still tells the fields apart; the other delimiters are
        the recommended ones. None when not even that is to be had.
        """
        parts, codec = _split(line)
        separator = parts[0]
        if len(parts) < 2 or not is_separator(separator):
            return None
        if separator in DEFAULT.encoding_characters:
            return None
        return cls(parts, Delimiters(field=separator), codec)

    def whole(self, number: int) -> str:
        """MSH-1 to MSH-21 with all its repetitions, or "" when absent."""
        return self.parts[number - 1]

    def field(self, number: int) -> str:
        """First repetition of an MSH field, or "" when absent."""
        return first_repetition(self.whole(number), self.delimiters)

    def component(self, number: int, part: int) -> str:
        """A component of the first repetition of an MSH field, or ""; a null is ""."""
        text = component(self.field(number), self.delimiters.component, part) or ""
        return "" if text == NULL else text

    def message_type(self) -> tuple[str, str]:
        """MSH-9.1 and MSH-9.2, each "" when absent or null."""
        parts = self.field(9).split(self.delimiters.component, 2)
        message_type = parts[0].strip()
        event = parts[1].strip() if len(parts) > 1 else ""
        return "" if message_type == NULL else message_type, "" if event == NULL else event

    def encode(self, text: str) -> bytes:
        """The bytes that a piece of the header had."""
        return text.encode(self.codec)


def _split(line: bytes) -> tuple[list[str], str]:
    """The fields (the first is the separator itself, as MSH-1) and the codec of the header."""
    codec = "latin-1"
    if not line[:9].isascii():
        try:
            text = line.decode("utf-8")
            codec = "utf-8"
        except UnicodeDecodeError:
            text = line.decode(codec)
    else:
        text = line.decode(codec)
    separator = text[3:4]
    if not separator:
        return [""], codec
    parts = text.split(separator)
    parts[0] = separator
    if codec == "latin-1" and (b"\x1b" in line or not line.isascii()):
        return _split_decoded(line, separator, parts)
    return parts, codec


def _split_decoded(line: bytes, separator: str, parts: list[str]) -> tuple[list[str], str]:
    """The header again, where a byte of a character may look like a delimiter.

    So it is in GB 18030, Big5 and Shift JIS, and between ISO 2022 sequences. MSH-18
    says which it is, wherever such bytes before it have moved it to.
    """
    codec = ""
    if b"\x1b" in line:
        codec = switching.codec_name("latin-1", "\\", separator, "~")
    for part in parts[2:]:
        charset = charset_named(part.partition("~")[0]) if 3 < len(part) < 32 else None
        if charset is not None and charset.double:
            codec = charset.codec
    try:
        text = line.decode(codec) if codec else ""
    except UnicodeDecodeError:
        return parts, "latin-1"  # the whole message will be refused, with the byte's place
    decoded = text.split(separator)
    if not codec or text.encode(codec) != line or not _declares(decoded[17:20], codec):
        return parts, "latin-1"
    return [separator, *decoded[1:]], codec


def _declares(fields: list[str], codec: str) -> bool:
    """Do MSH-18 to MSH-20, as this codec has them, say that it is the right one?"""
    names = [charset_named(name) for name in fields[0].split("~")] if fields else []
    if switching.is_switching(codec):
        return any(fields[2:]) or any(known is not None and known.switched for known in names)
    return bool(names) and names[0] is not None and names[0].codec == codec


def header_line(raw: bytes) -> tuple[int, bytes]:
    """Offset and bytes of the header segment, after a byte order mark and blanks.

    Raises Unreadable (location MSH) when the first segment is another one, or
    longer than 64 KiB.
    """
    start = len(BYTE_ORDER_MARK) if raw.startswith(BYTE_ORDER_MARK) else 0
    while raw[start : start + 1] and raw[start] in _BLANKS:
        start += 1
    if raw[start : start + 3] != b"MSH":
        wide = wide_charset(raw)
        if wide is not None:
            raise Unreadable(f"the message is in {wide.name}, which MLLP cannot carry", "MSH")
        raise Unreadable("the first segment is not MSH", "MSH")
    end = len(raw)
    for terminator in (b"\r", b"\n"):
        found = raw.find(terminator, start, end)
        end = found if found >= 0 else end
    if end - start > HEADER_BYTES_MAX:
        raise Unreadable(f"the header is longer than {HEADER_BYTES_MAX} bytes", "MSH")
    return start, raw[start:end]


def read_header(raw: bytes) -> tuple[int, Header]:
    """The offset at which a message's header starts, and the header. Raises Unreadable."""
    start, line = header_line(raw)
    return start, Header.read(line)
