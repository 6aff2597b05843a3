"""What passes between the gateway and a mapping process, and how it is written.

Both ends are the same program, of the same release, with a pair of pipes that nobody
else holds; that is why pickle is enough. A frame is its length (four bytes, big
endian) and the pickle of one value: first :class:`Opening` and :class:`Ready`, then
for each :class:`Task`, in order, one :class:`Answer`.
"""

from __future__ import annotations

import hashlib
import pickle
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.deployment.files import MappingFolders
from gateway.mapping import MappingContext
from gateway.model import Mapped
from gateway.normalise import Original, Reading, Unusable
from gateway.settings import Settings
from gateway.written import WrittenEntries

FRAME_BYTES_MAX = 256 * 1024 * 1024
"""Of an answer. The largest are those of an entry that holds a whole document."""

_LENGTH = struct.Struct(">I")


class BrokenFrame(Exception):
    """What came is no frame: the other end writes something else, or died while it wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """The gateway's first word: what the mapping process must load, and its limits.

    ``cpu_seconds`` is the processor time that one message may take: beyond it the
    system ends the process. ``folders`` is where the mappings are, None for those of the
    settings.
    """

    settings: Settings
    cpu_seconds: float
    folders: MappingFolders | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The mapping process's first word: ``content`` as :func:`content_digest` gives it."""

    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One message to be read and mapped.

    ``context`` is what the gateway's settings say of its source now: they may have been read
    again since the process was opened.
    """

    message_id: int
    original: Original
    context: MappingContext | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of it, and how many seconds it took.

    A reading comes without what only its making needs: the entries (they are ``written``),
    the documents that were taken in, the trace.

    ``prepared`` is None when the machine could not read the bytes, which says nothing
    of the message.
    """

    message_id: int
    prepared: Reading | Unusable | None
    seconds: float


class _Program(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def digest(self) -> str: ...


def content_digest(programs: Sequence[_Program], release: str) -> str:
    """SHA-256 (hex) over the release and all mappings with the files that went into them."""
    digest = hashlib.sha256(release.encode())
    for program in programs:
        digest.update(f"\0{program.name}\0{program.digest}".encode())
    return digest.hexdigest()


def frame(value: Any) -> bytes:
    """One value, ready to be written."""
    if isinstance(value, Answer):
        value = _flat(value)
    data = pickle.dumps(value, protocol=5)
    if len(data) > FRAME_BYTES_MAX:
        raise BrokenFrame(f"a frame of more than {FRAME_BYTES_MAX} bytes")
    return _LENGTH.pack(len(data)) + data


class Frames:
    """Takes bytes as they come and gives the values of the frames that are whole."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> None:
        """Take some more bytes."""
        self._held += data

    def __iter__(self) -> Iterator[Any]:
        """The next values. Raises BrokenFrame."""
        while (value := self.next()) is not None:
            yield value

    def next(self) -> Any | None:
        """The next value, or None until the rest of it has come. Raises BrokenFrame."""
        held = self._held
        if len(held) < _LENGTH.size:
            return None
        (size,) = _LENGTH.unpack_from(held)
        if size > FRAME_BYTES_MAX:
            raise BrokenFrame(f"a frame of more than {FRAME_BYTES_MAX} bytes")
        end = _LENGTH.size + size
        if len(held) < end:
            return None
        with memoryview(held) as view:
            data = bytes(view[_LENGTH.size : end])
        del held[:end]
        try:
            value = pickle.loads(data)  # noqa: S301 - our own process's, see the module's docstring
        except Exception as error:  # noqa: BLE001  whatever a broken one does to pickle
            raise BrokenFrame(f"a frame that holds no value ({type(error).__name__})") from None
        return _whole(value) if type(value) is tuple else value


def _flat(answer: Answer) -> Any:
    """An answer for the pipe. Frozen dataclasses are slow to take out of a pickle, so those
    of which a message has many go as what they are made of."""
    prepared = answer.prepared
    if not isinstance(prepared, Reading):
        return answer
    mapped = prepared.mapped
    return (
        answer.message_id,
        answer.seconds,
        prepared.subjects,
        prepared.statement,
        [(each.kept, each.canonical, each.patient) for each in prepared.written],
        mapped.mapping,
        mapped.version,
        mapped.digest,
        mapped.attachments,
        mapped.flags,
        prepared.reported,
    )


def _whole(flat: Any) -> Answer:
    """The same answer again."""
    (
        message_id, seconds, subjects, statement, written, mapping, version, digest, attachments,
        flags, reported,
    ) = flat  # fmt: skip
    reading = Reading(
        mapped=Mapped(
            mapping=mapping,
            version=version,
            digest=digest,
            entries=(),
            attachments=attachments,
            flags=flags,
        ),
        subjects=subjects,
        statement=statement,
        written=tuple([WrittenEntries(*each) for each in written]),
        reported=reported,
    )
    return Answer(message_id=message_id, prepared=reading, seconds=seconds)
