"""C-FIND as SCP (PS3.4 annexes C and K): one response for each match, and a last one that says how
it ended. What is found is an information model's own.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from adapters.dicom.caller import Caller
from adapters.dicom.command import Command, Status, response
from adapters.dicom.holdings import UnknownKey
from adapters.dicom.identifier import Asked, NoIdentifier, read_asked, written
from adapters.dicom.json_model import Attributes
from adapters.dicom.negotiation import AcceptedContext
from adapters.dicom.settings import DicomSourceSettings

log = logging.getLogger("ecluse.dicom")

PENDING, PENDING_UNSUPPORTED = 0xFF00, 0xFF01
CANCELLED = 0xFE00
OUT_OF_RESOURCES, MISMATCH = 0xA700, 0xA900
"""Statuses of C-FIND (PS3.4 tables C.4-1 and K.4-1)."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What a request gets: a data set for each match, as they are found. ``unsupported``: a key
    of the request is not known here and was not matched."""

    matches: Iterator[Attributes]
    unsupported: bool


class FindProvider(ABC):
    """Answers C-FIND of one information model. Thread-safe.

    ``counted`` begins the name under which answers are counted; ``unavailable`` is what is
    raised when the journal cannot be asked.
    """

    counted: str
    unavailable: type[Exception]

    def __init__(self, settings: DicomSourceSettings) -> None:
        self._settings = settings

    @abstractmethod
    def _find(self, asked: Asked, context: AcceptedContext) -> Answers:
        """What is found. Raises NoIdentifier, UnknownKey, and so does what is iterated."""

    def serve(
        self, caller: Caller, request: Command, context: AcceptedContext, data_set: bytes
    ) -> None:
        """Answer a request, pending responses and all. Raises CommandError, OSError."""
        status = self._answered(caller, request, context, data_set)
        caller.count(f"{self.counted}-{status.code:04x}")
        caller.answer(context, response(request, status))

    def _answered(
        self, caller: Caller, request: Command, context: AcceptedContext, data_set: bytes
    ) -> Status:
        try:
            asked = read_asked(data_set, context.transfer_syntax)
            answers = self._find(asked, context)
            pending = Status(PENDING_UNSUPPORTED if answers.unsupported else PENDING)
            for count, made in enumerate(answers.matches):
                if caller.cancelled(request.message_id):
                    return Status(CANCELLED)
                if caller.stopping:
                    return Status(OUT_OF_RESOURCES, "the source stops")
                if count >= self._settings.query_results_max:
                    return Status(OUT_OF_RESOURCES, "more matches than query_results_max")
                body = written(made, context.transfer_syntax, asked.character_set)
                caller.answer(context, response(request, pending, has_data_set=True), body)
        except NoIdentifier as error:
            return Status(MISMATCH, str(error))
        except UnknownKey as error:
            return Status(MISMATCH, f"{error.keyword} cannot be matched as it stands")
        except self.unavailable:
            log.warning("%s: the journal cannot be asked", self._settings.name)
            return Status(OUT_OF_RESOURCES, "the index cannot be asked now")
        return Status(0)
