"""A block that holds a batch: its messages one by one to intake, one batch as the answer.

HL7 v2.9.1 chapter 2, section 2.9.3 (2.10.3 up to 2.8).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from zoneinfo import ZoneInfo

from adapters.hl7.acknowledge import Code, ControlIds
from adapters.hl7.batch import MessageFile, answer_file, read_file
from adapters.hl7.reception import Arrival, Reception
from adapters.hl7.settings import MllpSourceSettings
from gateway.model import Cause, CauseCode
from gateway.ports import Clock, Unreadable, Word

_BATCH = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*[FB]HS(?![A-Za-z0-9])")


@dataclass(frozen=True, slots=True)
class BatchArrival:
    """A batch taken apart.

    ``handed`` is what intake gets: each message or, of a batch whose counts are
    wrong and whose messages are all refused for it, the whole as one piece of evidence.
    """

    file: MessageFile
    messages: tuple[Arrival, ...]
    handed: tuple[Arrival, ...]


def begins_batch(payload: bytes) -> bool:
    """Does a block begin with the header of a file or of a batch?"""
    return not payload.startswith(b"MSH") and _BATCH.match(payload) is not None


class BatchReception:
    """Takes batches apart at one source, and words their answers. No I/O; any thread."""

    def __init__(self, settings: MllpSourceSettings, reception: Reception, clock: Clock) -> None:
        self._bytes_max = settings.frame_bytes_max
        self._messages_max = settings.batch_messages_max
        self._zone = ZoneInfo(settings.zone)
        self._reception = reception
        self._clock = clock
        self._control_ids = ControlIds()

    def open(self, payload: bytes, peer: str) -> BatchArrival | Arrival:
        """Take a batch apart. What is no batch in the order of the standard is one refusal."""
        try:
            file = read_file(
                payload, message_bytes_max=self._bytes_max, messages_max=self._messages_max
            )
        except Unreadable as fault:
            cause = Cause(
                code=CauseCode.NOT_THE_FORMAT,
                detail=f"The batch cannot be taken apart: {fault}",
                location=fault.location if fault.location[:3].isupper() else "",
                protocol_code="100",
            )
            return self._reception.refused(payload, peer, cause)
        if file.mismatch is None:
            messages = tuple(self._messages(file, peer))
            return BatchArrival(file, messages, messages)
        told = file.mismatch
        cause = replace(told, detail=f"Nothing of the batch was taken: {told.detail}")
        evidence = self._reception.refused(payload, peer, cause)
        if not file.messages:  # an empty batch of answers would mean that all is well
            return evidence
        messages = tuple(self._reception.refused(message, peer, cause) for message in file.messages)
        return BatchArrival(file, messages, (evidence,))

    def _messages(self, file: MessageFile, peer: str) -> Iterator[Arrival]:
        for batch in file.batches:
            header = batch.header or file.header
            control_id = header.whole(11) if header is not None else ""
            number = batch.last - batch.first
            for index in range(batch.first, batch.last):
                arrival = self._reception.open(file.messages[index], peer)
                received = arrival.received
                attributes = {
                    **received.attributes,
                    "batch": "".join(filter(str.isprintable, control_id)),
                    "batch_message": f"{index - batch.first + 1} of {number}",
                }
                yield arrival.told(replace(received, attributes=attributes))

    def answer(
        self, arrived: BatchArrival, words: Sequence[Word], count: Callable[[Code], None]
    ) -> bytes:
        """The batch of acknowledgements; ``words`` are intake's on ``arrived.handed``.

        ``count`` is told the code of each.
        """
        if arrived.handed is not arrived.messages:
            words = [words[0]] * len(arrived.messages)
        answers = []
        for arrival, word in zip(arrived.messages, words, strict=True):
            code, answer = self._reception.answer(arrival, word)
            if answer:
                count(code)
            answers.append(answer)
        stamp = self._clock.now().astimezone(self._zone).strftime("%Y%m%d%H%M%S%z")
        return answer_file(
            arrived.file,
            answers,
            stamp=stamp,
            control_ids=iter(self._control_ids.next, None),
        )
