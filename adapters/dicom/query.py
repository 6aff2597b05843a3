"""Query as SCP: C-FIND in the Patient Root and Study Root models (PS3.4 annex C).

Keys of the levels above may be left out (what relational queries ask for, C.4.1.3.2): what is
held is found by any of its keys.
"""

from __future__ import annotations

from collections.abc import Iterator

from adapters.dicom.find_service import Answers, FindProvider
from adapters.dicom.holdings import (
    PAGE_MAX,
    Holdings,
    HoldingsUnavailable,
    Match,
    QueryLevel,
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
)
from adapters.dicom.json_model import Attributes
from adapters.dicom.negotiation import AcceptedContext
from adapters.dicom.settings import DicomSourceSettings

PATIENT_ROOT = "1.2.840.10008.5.1.4.1.2.1"
STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.2"
FIND, MOVE, GET = ".1", ".2", ".3"
"""SOP classes of the two models, by operation (PS3.4 C.6.1.3, C.6.2.3)."""

_RETURNED_BESIDE = frozenset({"RetrieveAETitle", "InstanceAvailability"})
"""What may be asked for and is said by us, not by the index."""
_PAGE = 200


class QueryProvider(FindProvider):
    """Answers C-FIND of what is held. Thread-safe."""

    counted = "find"
    unavailable = HoldingsUnavailable

    def __init__(self, settings: DicomSourceSettings, holdings: Holdings) -> None:
        super().__init__(settings)
        self._holdings = holdings

    def _find(self, asked: Asked, context: AcceptedContext) -> Answers:
        level = level_of(context.abstract_syntax, asked.level)
        keys, unsupported = self._keys(level, asked)
        made = (self._answer(asked, match) for match in self._matches(level, keys))
        return Answers(made, unsupported)

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

    def _answer(self, asked: Asked, match: Match) -> Attributes:
        found: Attributes = {
            **match.attributes,
            LEVEL: {"vr": "CS", "Value": [match.level.value]},
            RETRIEVE_AE_TITLE: {"vr": "AE", "Value": [self._settings.ae_title]},
            AVAILABILITY: {"vr": "CS", "Value": ["ONLINE"]},
        }
        # Required in every answer of C.4.1.1.3.2: the level, and where it may be retrieved from.
        return answer(asked.requested, found) | {
            tag: found[tag] for tag in (LEVEL, RETRIEVE_AE_TITLE)
        }


def level_of(sop_class: str, text: str) -> QueryLevel:
    """The level of an identifier in the model of a SOP class. Raises NoIdentifier."""
    known = text in QueryLevel.__members__
    if not known or (text == "PATIENT" and not sop_class.startswith(PATIENT_ROOT)):
        raise NoIdentifier("Query/Retrieve Level is none of this information model")
    return QueryLevel(text)
