"""Character sets that a message switches between, as Python codecs.

Two schemes of MSH-20 (table 0356): ``ISO 2022-1994`` switches with the real escape
sequences of ISO 2022 (``ESC $ B``), ``2.3`` with HL7's own (``\\M2442\\``, HL7 v2.3
section 2.9.2), which name the same sequence in hexadecimal. Either way the sequence
says what follows; both are read in every message that declares a switch.

A message begins in its default character set, and so does every line and "each
repetition" of a field (v2.9.1 chapter 2A, XPN, internationalization note): the field
and the repetition separator take back what was switched. In decoded text an HL7
sequence stays where it was written (unescaping drops it), an ISO 2022 one is gone.

The codec's name carries all that it needs (:func:`codec_name`), so that bytes and
text of such a message are decoded and encoded like any other.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field
from functools import lru_cache

from adapters.hl7.repertoires import ASCII, REPERTOIRES, WRITTEN_IN, Repertoire, designation

PREFIX = "ecluse2022"
_NAME = re.compile(PREFIX + r"_([a-z0-9]+)_([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})\Z")
CODECS_MAX = 256
_ESCAPE = 0x1B
_LINE_ENDS = b"\r\n"


# The rows 85 to 94 of JIS X 0208 and 78 to 94 of JIS X 0212 are empty: where a pair
# could begin, a byte from there on can only be a separator.
_EMPTY_ROWS = frozenset({b"$@", b"$B", b"$(D"})
_EMPTY_FROM = 0x7B


def codec_name(base: str, escape: str, separator: str, repetition: str) -> str:
    """The name of the codec of a message: its default set's codec and its delimiters.

    Empty once 256 others were made: Python keeps each for ever, and a sender that
    never uses the same delimiters twice must not fill the memory. The delimiters that
    HL7 recommends always have theirs.
    """
    compact = re.sub(r"[^a-z0-9]", "", base.lower())
    delimiters = (escape, separator, repetition)
    name = f"{PREFIX}_{compact}_" + "".join(map(_hexadecimal, delimiters))
    if name not in _MADE and delimiters != ("\\", "|", "~"):
        if len(_MADE) >= CODECS_MAX:
            return ""
        _MADE.add(name)
    _BASES[compact] = base
    return name


def _hexadecimal(delimiter: str) -> str:
    return f"{ord(delimiter):02x}" if delimiter and delimiter < "\x80" else "00"


_BASES: dict[str, str] = {}
_MADE: set[str] = set()


def is_switching(codec: str) -> bool:
    """Is it the name of such a codec?"""
    return codec.startswith(PREFIX)


def switches(data: bytes, escape: str) -> bool:
    """Does the message hold anything that looks like a switch?"""
    if _ESCAPE in data:
        return True
    mark = escape.encode()
    return bool(mark) and (mark + b"C" in data or mark + b"M" in data)


@dataclass(slots=True)
class _State:
    """What is switched on: a lower set (None: the default) and an upper one."""

    lower: bytes = b""
    upper: bytes = b""
    by_escape: bool = False
    """Whether an ISO 2022 sequence switched the lower half: one must bring it back."""

    def switch(self, sequence: bytes) -> None:
        if REPERTOIRES[sequence].upper:
            self.upper = sequence
        elif sequence == b"(B":
            # Back to ASCII is back to the default, whose upper half comes back with it.
            self.lower = self.upper = b""
        else:
            self.lower = sequence

    def reset(self) -> None:
        self.lower = self.upper = b""
        self.by_escape = False

    @property
    def initial(self) -> bool:
        return not (self.lower or self.upper)


@dataclass(frozen=True, slots=True)
class Switcher:
    """One codec: the default character set and the delimiters that matter."""

    name: str
    base: str
    escape: int
    resets: bytes
    pattern: re.Pattern[bytes] = field(repr=False)

    @classmethod
    def of(cls, name: str, base: str, escape: int, separators: bytes) -> Switcher:
        hl7 = b"%b[CM](?:[0-9A-Fa-f]{4}|[0-9A-Fa-f]{6})%b" % ((re.escape(bytes([escape])),) * 2)
        iso = rb"\x1b[\x20-\x2f]*[\x30-\x7e]?"
        pattern = re.compile(iso if not escape else iso + b"|" + hl7)
        return cls(name, base, escape, _LINE_ENDS + separators.replace(b"\0", b""), pattern)

    # --- bytes to text -------------------------------------------------------------

    def decode(self, data: bytes, errors: str = "strict") -> tuple[str, int]:
        """Text of a whole message (or of whole lines), and how many bytes it had."""
        data = bytes(data)
        out: list[str] = []
        state = _State()
        position = 0
        while position < len(data):
            try:
                position = self._step(data, position, state, out)
            except UnicodeDecodeError as fault:
                replacement, position = codecs.lookup_error(errors)(fault)
                out.append(str(replacement))
        return "".join(out), len(data)

    def _step(self, data: bytes, position: int, state: _State, out: list[str]) -> int:
        """Read one stretch or one switch; the position after it."""
        if data[position] in (_ESCAPE, self.escape):
            match = self.pattern.match(data, position)
            if match is not None:
                return self._switch(data, match, state, out)
        if state.initial:
            match = self.pattern.search(data, position + 1)
            end = match.start() if match else len(data)
            return self._plain(data, position, end, self.base, out)
        byte = data[position]
        if byte < 0x21 or byte == 0x7F:
            if byte in self.resets:
                state.reset()
            out.append(chr(byte))
            return position + 1
        if byte >= 0x80:
            return self._upper(data, position, state, out)
        return self._lower(data, position, state, out)

    def _switch(self, data: bytes, match: re.Match[bytes], state: _State, out: list[str]) -> int:
        written = match[0]
        if written[0] == _ESCAPE:
            sequence = written[1:]
        else:
            sequence = bytes.fromhex(written[2:-1].decode("ascii"))
        if sequence not in REPERTOIRES:
            raise self._fault(data, match.start(), match.end(), "unknown escape sequence")
        state.switch(sequence)
        if written[0] != _ESCAPE:
            out.append(written.decode("ascii"))
        return match.end()

    def _plain(self, data: bytes, start: int, end: int, codec: str, out: list[str]) -> int:
        """A stretch in one codec; what is right before a fault is kept."""
        try:
            out.append(data[start:end].decode(codec))
        except UnicodeDecodeError as fault:
            out.append(data[start : start + fault.start].decode(codec))
            wrong = start + fault.start
            length = fault.end - fault.start
            raised = self._fault(data, wrong, wrong + length, fault.reason)
        else:
            return end
        raise raised

    def _upper(self, data: bytes, position: int, state: _State, out: list[str]) -> int:
        end = position
        while end < len(data) and data[end] >= 0x80:
            end += 1
        if not state.upper:
            return self._plain(data, position, end, self.base, out)
        return self._characters(data, position, end, REPERTOIRES[state.upper], out)

    def _lower(self, data: bytes, position: int, state: _State, out: list[str]) -> int:
        repertoire = REPERTOIRES.get(state.lower, ASCII)
        end = position
        empty_rows = state.lower in _EMPTY_ROWS
        while end < len(data) and 0x21 <= data[end] <= 0x7E:
            byte = data[end]
            visible = repertoire.width == 1 or (empty_rows and byte >= _EMPTY_FROM)
            if visible and byte in self.resets:
                if end > position:
                    break
                state.reset()
                out.append(chr(byte))
                return position + 1
            if byte == self.escape and end > position and self.pattern.match(data, end):
                break
            end += repertoire.width
        return self._characters(data, position, min(end, len(data)), repertoire, out)

    def _characters(
        self, data: bytes, start: int, end: int, repertoire: Repertoire, out: list[str]
    ) -> int:
        width = repertoire.width
        stretch = bytes(byte & 0x7F for byte in data[start:end])
        whole = len(stretch) - len(stretch) % width
        try:
            out.append(repertoire.decode(stretch[:whole]))
        except UnicodeDecodeError:
            at = next(
                step
                for step in range(0, whole, width)
                if not _decodes(repertoire, stretch[step : step + width])
            )
            out.append(repertoire.decode(stretch[:at]))
            start += at
            raised = self._fault(data, start, start + 1, "no character of the set")
        else:
            if whole == len(stretch):
                return end
            raised = self._fault(data, start + whole, start + whole + 1, "half a character")
        raise raised

    def _fault(self, data: bytes, start: int, end: int, reason: str) -> UnicodeDecodeError:
        return UnicodeDecodeError(self.name, data, start, max(end, start + 1), reason)

    # --- text to bytes -------------------------------------------------------------

    def encode(self, text: str, errors: str = "strict") -> tuple[bytes, int]:
        """Bytes of a text: HL7's sequences as they stand in it, ISO 2022's where needed."""
        out = bytearray()
        state = _State()
        escape = chr(self.escape) if self.escape else ""
        position = 0
        while position < len(text):
            character = text[position]
            if character == escape:
                closed = text.find(escape, position + 1, position + 9)
                sequence = designation(text[position + 1 : closed]) if closed > 0 else None
                if sequence is not None:
                    state.switch(sequence)
                    out += text[position : closed + 1].encode("ascii")
                    position = closed + 1
                    continue
            data = self._bytes_of(character, state)
            if data is None:
                fault = UnicodeEncodeError(self.name, text, position, position + 1, "in no set")
                replacement, position = codecs.lookup_error(errors)(fault)
                given = replacement.encode("ascii") if isinstance(replacement, str) else replacement
                out += given
                continue
            out += data
            position += 1
        return bytes(out) + _back(state), len(text)

    def _bytes_of(self, character: str, state: _State) -> bytes | None:
        """One character's bytes, with the switch that it needs before it."""
        if character < "!" or character.encode("latin-1", "ignore") in self._separators:
            back = _back(state)
            if back:  # which takes the upper half back as well: see _State.switch
                state.reset()
            if character > " " or character in "\r\n":
                state.reset()
            return back + character.encode("ascii")
        for sequence in (state.lower, state.upper):
            data = REPERTOIRES[sequence].encode(character) if sequence else None
            if data is not None and self._is_safe(REPERTOIRES[sequence], data):
                return _raised(data) if REPERTOIRES[sequence].upper else data
        data = self._in_default(character, state)
        if data is not None:
            return data
        for sequence in WRITTEN_IN:
            repertoire = REPERTOIRES[sequence]
            data = repertoire.encode(character)
            if data is not None and self._is_safe(repertoire, data):
                state.switch(sequence)
                state.by_escape = state.by_escape or not repertoire.upper
                return b"\x1b" + sequence + (_raised(data) if repertoire.upper else data)
        return None

    def _in_default(self, character: str, state: _State) -> bytes | None:
        if state.upper and character >= "\x80":
            return None
        try:
            data = character.encode(self.base)
        except UnicodeEncodeError:
            return None
        if not state.lower or data[0] >= 0x80:
            return data
        state.reset()
        return b"\x1b(B" + data

    def _is_safe(self, repertoire: Repertoire, data: bytes) -> bool:
        """Would the byte not be taken for a separator?"""
        return repertoire.upper or data not in self._separators

    @property
    def _separators(self) -> tuple[bytes, ...]:
        return tuple(bytes([byte]) for byte in self.resets)


def _back(state: _State) -> bytes:
    """What brings back the default before a blank or separator, as ISO 2022 asks."""
    return b"\x1b(B" if state.lower and state.by_escape else b""


def _decodes(repertoire: Repertoire, data: bytes) -> bool:
    try:
        repertoire.decode(data)
    except UnicodeDecodeError:
        return False
    return True


def _raised(data: bytes) -> bytes:
    return bytes(byte | 0x80 for byte in data)


@lru_cache(maxsize=256)
def _codec(name: str) -> codecs.CodecInfo | None:
    match = _NAME.match(name)
    base = _BASES.get(match[1]) if match else None
    if match is None or base is None:
        return None
    escape, separator, repetition = (int(match[number], 16) for number in (2, 3, 4))
    switcher = Switcher.of(name, base, escape, bytes((separator, repetition)))

    class Lines(codecs.BufferedIncrementalDecoder):
        """Decodes whole lines: every line begins in the default character set."""

        def _buffer_decode(self, data: bytes, errors: str, final: bool) -> tuple[str, int]:  # type: ignore[override]
            cut = len(data) if final else max(data.rfind(b"\r"), data.rfind(b"\n")) + 1
            return switcher.decode(data[:cut], errors)

    return codecs.CodecInfo(
        name=name,
        encode=switcher.encode,
        decode=switcher.decode,  # type: ignore[arg-type]
        incrementaldecoder=Lines,
    )


codecs.register(_codec)
