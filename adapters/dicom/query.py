"""Query as SCP: C-FIND in the Patient Root and Study Root models (PS3.4 annex C).

Keys of the levels above may be left out (what relational queries ask for, C.4.1.3.2): what is
held is found by any of its keys.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from adapters.dicom.caller import Caller
from adapters.dicom.command import Command, Status, response
from adapters.dicom.holdings import (
    PAGE_MAX,
    Holdings,
    HoldingsUnavailable,
    Match,
    QueryLevel,
    UnknownKey,
    matched_at,
)
from adapters.dicom.identifier import (
    AVAILABILITY,
    LEVEL,
    REQUEST_ATTRIBUTES,
    RETRIEVE_AE_TITLE,
    Asked,
    NoIdentifier,
    answer,
    nested_keys,
    read_asked,
    written,
)
from adapters.dicom.json_model import Attributes
from adapters.dicom.negotiation import AcceptedContext
from adapters.dicom.settings import DicomSourceSettings

log = logging.getLogger("ecluse.dicom")

PATIENT_ROOT = "1.2.840.10008.5.1.4.1.2.1"
STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.2"
FIND, MOVE, GET = ".1", ".2", ".3"
"""SOP classes of the two models, by operation (PS3.4 C.6.1.3, C.6.2.3)."""

PENDING, PENDING_UNSUPPORTED = 0xFF00, 0xFF01
CANCELLED = 0xFE00
OUT_OF_RESOURCES, MISMATCH, UNABLE = 0xA700, 0xA900, 0xC000
"""Statuses of C-FIND (PS3.4 table C.4-1)."""

_RETURNED_BESIDE = frozenset({"RetrieveAETitle", "InstanceAvailability"})
"""What may be asked for and is said by us, not by the index."""
_PAGE = 200


class QueryProvider:
    """Answers C-FIND of what is held. Thread-safe."""

    def __init__(self, settings: DicomSourceSettings, holdings: Holdings) -> None:
        self._settings = settings
        self._holdings = holdings

    def serve(
        self, caller: Caller, request: Command, context: AcceptedContext, data_set: bytes
    ) -> None:
        """Answer a request, pending responses and all. Raises CommandError, OSError."""
        status = self._found(caller, request, context, data_set)
        caller.count(f"find-{status.code:04x}")
        caller.answer(context, response(request, status))

    def _found(
        self, caller: Caller, request: Command, context: AcceptedContext, data_set: bytes
    ) -> Status:
        try:
            asked = read_asked(data_set, context.transfer_syntax)
            level = level_of(context.abstract_syntax, asked.level)
            keys, unsupported = self._keys(level, asked)
            for count, match in enumerate(self._matches(level, keys)):
                if caller.cancelled(request.message_id):
                    return Status(CANCELLED)
                if caller.stopping:
                    return Status(OUT_OF_RESOURCES, "the source stops")
                if count >= self._settings.query_results_max:
                    return Status(OUT_OF_RESOURCES, "more matches than query_results_max")
                self._tell(caller, request, context, asked, match, unsupported=unsupported)
        except NoIdentifier as error:
            return Status(MISMATCH, str(error))
        except UnknownKey as error:
            return Status(MISMATCH, f"{error.keyword} cannot be matched as it stands")
        except HoldingsUnavailable:
            log.warning("%s: the journal cannot be asked", self._settings.name)
            return Status(OUT_OF_RESOURCES, "the index cannot be asked now")
        return Status(0)

    def _keys(self, level: QueryLevel, asked: Asked) -> tuple[dict[str, str], bool]:
        """The keys to be matched, and whether there are others that are not known here."""
        known = matched_at(level)
        given = {**asked.keys, **nested_keys(asked.requested, REQUEST_ATTRIBUTES)}
        keys = {keyword: value for keyword, value in given.items() if keyword in known and value}
        unsupported = any(
            value and keyword not in known and keyword not in _RETURNED_BESIDE
            for keyword, value in given.items()
        )
        return keys, unsupported

    def _matches(self, level: QueryLevel, keys: dict[str, str]) -> Iterator[Match]:
        offset = 0
        while True:
            some = self._holdings.find(level, keys, limit=min(_PAGE, PAGE_MAX), offset=offset)
            yield from some
            if len(some) < _PAGE:
                return
            offset += len(some)

    def _tell(
        self,
        caller: Caller,
        request: Command,
        context: AcceptedContext,
        asked: Asked,
        match: Match,
        *,
        unsupported: bool,
    ) -> None:
        found: Attributes = {
            **match.attributes,
            LEVEL: {"vr": "CS", "Value": [match.level.value]},
            RETRIEVE_AE_TITLE: {"vr": "AE", "Value": [self._settings.ae_title]},
            AVAILABILITY: {"vr": "CS", "Value": ["ONLINE"]},
        }
        made = answer(asked.requested, found)
        # Required in every answer of C.4.1.1.3.2: the level, and where it may be retrieved from.
        made |= {tag: found[tag] for tag in (LEVEL, RETRIEVE_AE_TITLE)}
        body = written(made, context.transfer_syntax, asked.character_set)
        status = Status(PENDING_UNSUPPORTED if unsupported else PENDING)
        caller.answer(context, response(request, status, has_data_set=True), body)


def level_of(sop_class: str, text: str) -> QueryLevel:
    """The level of an identifier in the model of a SOP class. Raises NoIdentifier."""
    known = text in QueryLevel.__members__
    if not known or (text == "PATIENT" and not sop_class.startswith(PATIENT_ROOT)):
        raise NoIdentifier("Query/Retrieve Level is none of this information model")
    return QueryLevel(text)
