"""What one sender's messages repeat in their headers, decided once and remembered.

Of the headers that one sender writes, MSH-7 and MSH-10 differ and the rest repeats. From that
rest, the *skeleton*, follows nearly all that must be known of a message before it is kept.
A message is *plain* when its skeleton is known and nothing in its body asks for more: then it
costs a look into a table, and gives exactly what :func:`adapters.hl7.envelope.examine` would.
Every other message goes through that one.
"""

from __future__ import annotations

import re

from adapters.hl7.acknowledge import Acknowledger, Code, Template
from adapters.hl7.charset import ASCII, Charset, charset_named, first_undecodable
from adapters.hl7.envelope import CONTROL_ID_MAX, Profile, Rules, profile_of
from adapters.hl7.header import Header
from gateway.model import Identifier
from gateway.ports import Unreadable

SKELETONS_MAX = 1024
"""Skeletons remembered; all are forgotten when there would be more."""
LINE_BYTES_MAX = 1024
"""Longer header segments are not looked up."""
_SPECIAL = (b"PID", b"DSC", b"MSA", b"MSH")
_ONE_PATIENT = [b"PID"]
_NULL = b'""'

Plain = tuple["Skeleton", str, Charset, tuple[Identifier, ...], bool, bytes]
"""Of one message: its skeleton, MSH-10 as text, its character set, whose it is, whether it
carries a permission, and MSH-10 as it stands there."""


class Skeleton:
    """What follows from a header but for MSH-7 and MSH-10. Nothing of a patient.

    ``declared`` is the character set of messages that are not ASCII, None when such a
    message must be examined. ``templates`` are the positive answers to messages of ASCII
    and of that set, None where none is wanted.
    """

    __slots__ = ("declared", "header", "profile", "segments", "separator", "templates")

    def __init__(
        self,
        header: Header,
        profile: Profile,
        declared: Charset | None,
        segments: re.Pattern[bytes],
        templates: tuple[Template | None, Template | None],
    ) -> None:
        self.header = header
        self.profile = profile
        self.declared = declared
        self.segments = segments
        self.separator = header.encode(header.delimiters.field)
        self.templates = templates

    def template(self, charset: Charset) -> Template | None:
        """The positive answer to a message in this set."""
        return self.templates[0 if charset is ASCII else 1]


class Skeletons:
    """The skeletons of one source. At most 1024, of at most 1024 bytes. Any thread."""

    def __init__(self, rules: Rules, acknowledger: Acknowledger, *, profiles: bool) -> None:
        """``profiles``: a profile that MSH-21 names is held against the message."""
        self._rules = rules
        self._acknowledger = acknowledger
        self._profiles = profiles
        # None: it was met once. A sender that never repeats itself costs no more than that.
        self._known: dict[bytes, Skeleton | None] = {}
        self._not_plain: set[bytes] = set()
        names = [name[1:] for name in rules.permission_segments]
        self._names = names
        confused = any(
            name.startswith(special) or special.startswith(name)
            for name in names
            for special in _SPECIAL
        )
        self._usable = rules.requirements is None and not confused

    def read(self, payload: bytes) -> Plain | None:
        """What intake must know of a plain message; None when it must be examined."""
        end = payload.find(b"\r")
        if not 8 < end <= LINE_BYTES_MAX or not payload.startswith(b"MSH") or not self._usable:
            return None
        separator = payload[3:4]
        parts = payload[:end].split(separator, 10)
        if len(parts) < 11:
            return None
        control_id = parts[9]
        parts[6] = parts[9] = b""
        key = separator.join(parts)
        skeleton = self._known.get(key)
        if skeleton is None:
            self._meet(key, payload[:end])
            return None
        if (
            not 0 < len(control_id) <= CONTROL_ID_MAX
            or control_id == _NULL
            or b"\n" in payload
            or b"\x1b" in payload
            or 0 in payload
        ):
            return None
        charset = ASCII
        if not payload.isascii():
            declared = skeleton.declared
            if declared is None or not payload[:end].isascii():
                return None
            if first_undecodable(payload, declared) is not None:
                return None
            charset = declared
        identifier = control_id.decode("ascii")
        if not identifier.isprintable():
            return None
        names = skeleton.segments.findall(payload)
        if names == _ONE_PATIENT:
            return (
                skeleton,
                identifier,
                charset,
                self._subject(payload, skeleton, charset),
                False,
                control_id,
            )
        patients = 0
        for name in names:
            if name == b"PID":
                patients += 1
            elif name[:3] in _SPECIAL:
                return None
        subject = self._subject(payload, skeleton, charset) if patients == 1 else ()
        return skeleton, identifier, charset, subject, len(names) > patients, control_id

    def _subject(
        self, payload: bytes, skeleton: Skeleton, charset: Charset
    ) -> tuple[Identifier, ...]:
        """The identifiers in PID-3."""
        begin = payload.find(b"\rPID") + 1
        end = payload.find(b"\r", begin)
        line = payload[begin:end] if end >= 0 else payload[begin:]
        fields = line.split(skeleton.separator, 4)
        if len(fields) < 4:
            return ()
        return self._rules.identifiers.read(
            fields[3].decode(charset.codec), skeleton.header.delimiters, charset.codec
        )

    def _meet(self, key: bytes, line: bytes) -> None:
        """Remember a header; what follows from it is worked out when it comes again."""
        if key in self._not_plain:
            return
        if len(self._known) + len(self._not_plain) >= SKELETONS_MAX:
            self._known, self._not_plain = {}, set()
        if key not in self._known:
            self._known[key] = None
            return
        skeleton = self._skeleton(line)
        if skeleton is None:
            self._known.pop(key, None)
            self._not_plain.add(key)
        else:
            self._known[key] = skeleton

    def _skeleton(self, line: bytes) -> Skeleton | None:
        """None for headers whose messages must each be examined."""
        if not line.isascii() or b"\x1b" in line or b"\n" in line:
            return None
        try:
            header = Header.read(line)
        except Unreadable:
            return None
        profile = profile_of(header, self._rules)
        names = header.whole(18).strip()
        varies = header.whole(13) or header.whole(14)  # a number; part of a longer message
        switches = header.whole(20) or header.delimiters.repetition in names
        if profile.refusal is not None or varies or switches or self._profile_checked(header):
            return None
        declared = charset_named(names or self._rules.charset_default or ASCII.name)
        if declared is not None and (declared.switched or declared.wide or declared.double):
            return None
        if declared is ASCII:
            declared = None
        wanted = profile.mode.positive
        code = Code.COMMIT_ACCEPT if profile.mode.accept else Code.ACCEPT
        first, second = (
            self._acknowledger.template(header, charset, code)
            if wanted and charset is not None
            else None
            for charset in (ASCII, declared)
        )
        return Skeleton(header, profile, declared, self._segments(header), (first, second))

    def _profile_checked(self, header: Header) -> bool:
        return self._profiles and bool(header.whole(21))

    def _segments(self, header: Header) -> re.Pattern[bytes]:
        """Finds the names of segments that matter at the door, each behind its carriage return."""
        separator = re.escape(header.encode(header.delimiters.field))
        names = [b"PID", b"DSC", b"MSA" + separator, b"MSH" + separator]
        names += [re.escape(name) for name in self._names]
        return re.compile(b"\r(" + b"|".join(names) + b")")
