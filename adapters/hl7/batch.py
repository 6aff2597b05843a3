"""Files of messages and batches (HL7 v2.9.1 chapter 2, section 2.9.3; FHS, BHS, BTS, FTS).

::

    [FHS] { [BHS] { MSH … } [BTS] } [FTS]

Headers and trailers may be left out and a batch may be empty. BTS-1 counts the
messages of its batch, FTS-1 the batches of the file; both may be empty. The answer
to a batch is a batch of acknowledgements, in which BHS-12 and FHS-12 name the control
id (field 11) of what is answered.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from adapters.hl7.charset import BYTE_ORDER_MARK
from adapters.hl7.header import Header
from gateway.model import Cause, CauseCode
from gateway.ports import Unreadable

# A header or trailer at the start of a line; what follows its name is no letter or digit.
_PART = re.compile(
    rb"(?:(?<=[\r\n])|\A)(?:\xef\xbb\xbf)?[ \t]*(MSH|FHS|BHS|BTS|FTS)(?![A-Za-z0-9])"
)
_BLANKS = b" \t\r\n"
_DIGITS_MAX = 9


@dataclass(frozen=True, slots=True)
class Part:
    """What stands from one header or trailer to the next one."""

    name: str
    begin: int
    end: int


def parts(content: bytes | mmap.mmap) -> Iterator[Part]:
    """The parts of a file in their order. What stands before the first is in none."""
    name, begin = "", -1
    for match in _PART.finditer(content):
        if begin >= 0:
            yield Part(name, begin, match.start())
        name, begin = match[1].decode("ascii"), match.start()
    if begin >= 0:
        yield Part(name, begin, len(content))


@dataclass(slots=True)
class Batch:
    """The messages from ``first`` to before ``last`` (numbers from 0), and their header."""

    first: int
    last: int
    header: Header | None = None


@dataclass(slots=True)
class MessageFile:
    """A file taken apart. ``mismatch`` is the first count that does not agree."""

    messages: list[bytes] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    header: Header | None = None
    mismatch: Cause | None = None

    @property
    def batched(self) -> bool:
        """Whether the file has a header of a file or batch, and is answered by one."""
        return self.header is not None or any(batch.header for batch in self.batches)


def read_file(content: bytes, *, message_bytes_max: int, messages_max: int) -> MessageFile:
    """Take a file apart. Every message is in its exact bytes.

    A file without any header is one message, to be judged as such. Raises Unreadable
    for a file that is not in the order of the standard or beyond a limit.
    """
    found = MessageFile()
    builder = _Builder(found, messages_max)
    before = len(content)
    for part in parts(content):
        before = min(before, part.begin)
        data = content[part.begin : part.end]
        if part.name == "MSH":
            if len(data) > message_bytes_max:
                raise Unreadable(
                    f"message {len(found.messages) + 1} is larger than {message_bytes_max} bytes"
                )
            builder.message(data)
        else:
            builder.envelope(part.name, _only_line(data, part.name))
    if before == len(content):
        found.messages.append(content)
        found.batches.append(Batch(0, 1))
        return found
    if content[:before].removeprefix(BYTE_ORDER_MARK).strip(_BLANKS):
        raise Unreadable("something stands before the first header", "line 1")
    builder.end()
    return found


class _Builder:
    """Puts the parts together in the order of the standard."""

    def __init__(self, found: MessageFile, messages_max: int) -> None:
        self._found = found
        self._messages_max = messages_max
        self._batch: Batch | None = None
        self._ended = False
        self._separator = b"|"

    def message(self, data: bytes) -> None:
        self._open_only()
        found = self._found
        if len(found.messages) >= self._messages_max:
            raise Unreadable(f"the file holds more than {self._messages_max} messages")
        if self._batch is None:
            self._begin(None)
        found.messages.append(data)

    def envelope(self, name: str, line: bytes) -> None:
        if name == "FHS":
            if self._found.header is not None or self._found.messages or self._found.batches:
                raise Unreadable("a file header stands inside the file", "FHS")
            self._found.header = self._header(line, "FHS")
        elif name == "BHS":
            self._open_only()
            self._close()
            self._begin(self._header(line, "BHS"))
        elif name == "BTS":
            self._open_only()
            if self._batch is None:
                self._begin(None)
            self._close()
            batch = self._found.batches[-1]
            self._check(line, "BTS", batch.last - batch.first, "message")
        else:
            self._open_only()
            self._close()
            self._check(line, "FTS", len(self._found.batches), "batch")
            self._ended = True

    def end(self) -> None:
        self._close()

    def _open_only(self) -> None:
        if self._ended:
            raise Unreadable("something stands after the file trailer", "FTS")

    def _header(self, line: bytes, name: str) -> Header:
        try:
            header = Header.read(line)
        except Unreadable as fault:
            place = fault.location.replace("MSH", name)
            raise Unreadable(str(fault).replace("MSH", name), place) from None
        self._separator = header.encode(header.delimiters.field)
        return header

    def _begin(self, header: Header | None) -> None:
        number = len(self._found.messages)
        self._batch = Batch(number, number, header)
        self._found.batches.append(self._batch)

    def _close(self) -> None:
        if self._batch is not None:
            self._batch.last = len(self._found.messages)
            self._batch = None

    def _check(self, line: bytes, name: str, count: int, what: str) -> None:
        separator = self._separator if line[3:4] == self._separator else line[3:4]
        fields = line.split(separator) if separator else [line]
        said = fields[1].strip() if len(fields) > 1 else b""
        if not said or self._found.mismatch is not None:
            return
        if not said.isdigit() or len(said) > _DIGITS_MAX:
            detail = f"{name}-1 is not a number"
        elif int(said) != count:
            detail = f"{name}-1 says {int(said)}, and there {_are(count, what)}"
        else:
            return
        number = len(self._found.batches) if name == "BTS" else 1
        location = f"{name}({number})-1" if number > 1 else f"{name}-1"
        self._found.mismatch = Cause(
            code=CauseCode.CONTENT_MISMATCH, detail=detail, location=location, protocol_code="102"
        )


def _are(count: int, what: str) -> str:
    several = f"{what}es" if what.endswith("ch") else f"{what}s"
    return f"is 1 {what}" if count == 1 else f"are {count} {several}"


def _only_line(data: bytes, name: str) -> bytes:
    """The one line of a header or trailer. Unreadable when other segments follow it."""
    line, *others = re.split(rb"[\r\n]+", data.removeprefix(BYTE_ORDER_MARK).lstrip(_BLANKS))
    if any(other.strip(_BLANKS) for other in others):
        raise Unreadable(f"segments of no message follow {name}", name)
    return line


def answer_file(
    file: MessageFile, answers: Sequence[bytes], *, stamp: str, control_ids: Iterator[str]
) -> bytes:
    """The answers in the form of the file that they answer: batch by batch, or one after another.

    ``answers`` has one for each message, empty where that gets none; ``stamp`` is the time of
    creation (FHS-7, BHS-7).
    """
    if not file.batched:
        return b"".join(answers)
    out: list[bytes] = []
    if file.header is not None:
        out.append(_answer_header("FHS", file.header, stamp, next(control_ids)))
    for batch in file.batches:
        own = [each for each in answers[batch.first : batch.last] if each]
        if batch.header is not None:
            out.append(_answer_header("BHS", batch.header, stamp, next(control_ids)))
        out += own
        if batch.header is not None:
            out.append(b"BTS" + _separator(batch.header) + b"%d\r" % len(own))
    if file.header is not None:
        out.append(b"FTS" + _separator(file.header) + b"%d\r" % len(file.batches))
    return b"".join(out)


def _separator(header: Header) -> bytes:
    return header.encode(header.delimiters.field)


def _answer_header(name: str, header: Header, stamp: str, control_id: str) -> bytes:
    """Sender and receiver swapped (fields 3 to 6), our control id (11), theirs (12)."""
    swapped = [header.whole(number) for number in (5, 6, 3, 4)]
    fields = [name, header.delimiters.encoding_characters, *swapped, stamp, "", "", ""]
    fields += [control_id, header.whole(11)]
    return (header.delimiters.field.join(fields) + "\r").encode(header.codec)
