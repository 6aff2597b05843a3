"""Files and bodies of HL7 v2: one message or many, judged and answered as over MLLP."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar
from zoneinfo import ZoneInfo

from adapters.doors.reception import Arrived, Contents
from adapters.doors.reception import Reception as FileReception
from adapters.hl7.acknowledge import ControlIds
from adapters.hl7.batch import Batch, MessageFile, answer_file, read_file
from adapters.hl7.charset import BYTE_ORDER_MARK, charset_named
from adapters.hl7.continuation import Continuations
from adapters.hl7.header import read_header
from adapters.hl7.reception import Arrival, Reception
from adapters.hl7.requirements import Judgement
from adapters.hl7.sender import is_framed, unwrapped
from adapters.hl7.settings import Hl7FolderSourceSettings, Hl7HttpSourceSettings
from gateway.documents import DocumentHeaders
from gateway.model import Cause, CauseCode, Format, Receipt
from gateway.ports import Clock, Intake, IntakeUnavailable, Unreadable, Word


@dataclass(frozen=True, slots=True)
class Hl7Contents(Contents):
    """The messages of a file with what their answers need.

    ``faulty`` says that the transport, and not HL7, refused the whole of it.
    """

    arrivals: Sequence[Arrival] = ()
    file: MessageFile = field(default_factory=MessageFile)
    faulty: bool = False


class Hl7FileReception(FileReception):
    """One source's way from a file to messages, each judged as over MLLP."""

    format = Format.HL7V2
    phrases: ClassVar[Mapping[CauseCode, str]] = {
        CauseCode.NOT_THE_FORMAT: "ce fichier n'est pas un message HL7 v2 lisible",
        CauseCode.CONTENT_MISMATCH: "le nombre de messages n'est pas celui qui est annoncé ; "
        "le fichier est peut-être incomplet",
    }

    def __init__(
        self,
        settings: Hl7HttpSourceSettings | Hl7FolderSourceSettings,
        intake: Intake,
        clock: Clock,
        documents: DocumentHeaders | None = None,
        continuations: Continuations | None = None,
    ) -> None:
        super().__init__(settings, intake, bytes_max=settings.file_bytes_max)
        self._documents = documents
        self.continuations = continuations or Continuations.of(settings)
        self._settings = settings
        self._clock = clock
        self._zone = ZoneInfo(settings.zone)
        self._control_ids = ControlIds()
        self._messages = Reception(settings, clock, documents, self.continuations)
        self._by_charset: dict[str, Reception] = {}

    async def open(self, arrived: Arrived) -> Hl7Contents:
        """Take the file apart and judge each message. The work is done in a thread."""
        return await asyncio.to_thread(self._open, arrived)

    def _open(self, arrived: Arrived) -> Hl7Contents:
        content = arrived.payload.read()
        if arrived.fault is not None:
            return self._whole(arrived, content, arrived.fault, faulty=True)
        charset = charset_named(arrived.encoding) if arrived.encoding else None
        if arrived.encoding and (charset is None or charset.wide):
            detail = "Content-Type names an unsupported character set"
            cause = Cause(code=CauseCode.CHARACTER_SET, detail=detail, protocol_code="103")
            return self._whole(arrived, content, cause)
        try:
            file = self._apart(content)
        except Unreadable as fault:
            cause = Cause(
                code=CauseCode.NOT_THE_FORMAT,
                detail=str(fault),
                location=fault.location,
                protocol_code="100",
            )
            return self._whole(arrived, content, cause)
        if file.mismatch is not None and self._settings.batch_counts == "refuse":
            return self._whole(arrived, content, file.mismatch)
        return self._judged(arrived, file, charset.name if charset else "")

    def _apart(self, content: bytes) -> MessageFile:
        limit = self._settings.frame_bytes_max
        if not is_framed(content):
            return read_file(
                content, message_bytes_max=limit, messages_max=self._settings.messages_max
            )
        found = MessageFile()
        for message in unwrapped(content, limit):
            if len(found.messages) >= self._settings.messages_max:
                raise Unreadable(f"the file holds more than {self._settings.messages_max} messages")
            found.messages.append(message)
        found.batches.append(Batch(0, len(found.messages)))
        return found

    def _judged(self, arrived: Arrived, file: MessageFile, charset: str) -> Hl7Contents:
        reception = self._reception(charset)
        total = len(file.messages)
        arrivals = []
        for number, message in enumerate(file.messages, 1):
            conflict = _conflict(message, charset)
            if conflict is None:
                arrival = reception.open(message, arrived.peer)
            else:
                arrival = reception.refused(message, arrived.peer, conflict)
            attributes = {**arrival.received.attributes, **arrived.attributes}
            if total > 1:
                attributes["file_message"] = f"{number} of {total}"
            if file.mismatch is not None:
                attributes["batch_count"] = file.mismatch.detail
            received = replace(arrival.received, attributes=attributes)
            arrivals.append(arrival.told(received))
        return Hl7Contents(tuple(each.received for each in arrivals), arrivals, file)

    def under(self, settings: Hl7HttpSourceSettings | Hl7FolderSourceSettings) -> Hl7FileReception:
        """The same under other settings, with what is open of continued messages."""
        self.continuations.bound(settings)
        return Hl7FileReception(
            settings, self.intake, self._clock, self._documents, self.continuations
        )

    def judge_joined(self, fragments: Sequence[bytes]) -> Judgement:
        """See :meth:`adapters.hl7.reception.Reception.judge_joined`."""
        return self._messages.judge_joined(fragments)

    def _reception(self, charset: str) -> Reception:
        """As configured, with the transport's character set as the default of MSH-18."""
        if not charset:
            return self._messages
        reception = self._by_charset.get(charset)
        if reception is None:
            settings = self._settings.model_copy(update={"charset_default": charset})
            reception = self._by_charset[charset] = Reception(
                settings, self._clock, self._documents, self.continuations
            )
        return reception

    def _whole(
        self, arrived: Arrived, content: bytes, cause: Cause, *, faulty: bool = False
    ) -> Hl7Contents:
        """The whole file as evidence of one refusal."""
        arrival = self._messages.refused(content, arrived.peer, cause)
        attributes = {**arrival.received.attributes, **arrived.attributes}
        # It stands for a file, not for the message whose header it may begin with.
        received = replace(
            arrival.received,
            payload=arrived.payload,
            control_id="",
            attributes=attributes,
            sequence_number=None,
            later_answer=None,
        )
        arrival = arrival.told(received)
        file = MessageFile([content], [Batch(0, 1)])
        return Hl7Contents((received,), [arrival], file, faulty)

    def answer(self, contents: Contents, receipts: Sequence[Receipt]) -> bytes:
        """The acknowledgements, each positive only for what is kept; a batch for a batch.

        A message that gets none leaves nothing in its place.
        """
        return self._answers(contents, receipts)

    def not_kept(self, contents: Contents) -> bytes:
        """The acknowledgements when the file is to be sent again."""
        unavailable = IntakeUnavailable("not all messages were kept")
        return self._answers(contents, [unavailable] * len(contents.received))

    def _answers(self, contents: Contents, words: Sequence[Word]) -> bytes:
        if not isinstance(contents, Hl7Contents):
            raise TypeError("the contents are not of an HL7 v2 source")
        answers = [
            self._messages.answer(arrival, word)[1]
            for arrival, word in zip(contents.arrivals, words, strict=True)
        ]
        stamp = self._clock.now().astimezone(self._zone).strftime("%Y%m%d%H%M%S%z")
        return answer_file(contents.file, answers, stamp=stamp, control_ids=self._numbered())

    def _numbered(self) -> Iterator[str]:
        while True:
            yield self._control_ids.next()


def _conflict(message: bytes, charset: str) -> Cause | None:
    """Content-Type and MSH-18 that name different character sets, where it matters."""
    if not charset or message.removeprefix(BYTE_ORDER_MARK).isascii():
        return None
    try:
        declared = read_header(message)[1].field(18)
    except Unreadable:
        return None
    known = charset_named(declared) if declared else None
    if known is None or known.name == charset:
        return None
    return Cause(
        code=CauseCode.CHARACTER_SET,
        detail=f"Content-Type says {charset}, MSH-18 says {known.name}",
        location="MSH-18",
        protocol_code="102",
    )
