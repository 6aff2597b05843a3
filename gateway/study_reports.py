"""Validated reports as evidence that a study is complete.

A report that names the study (its UID), or one of its accession numbers issued by the same
authority as far as both say, ends the study's gathering: whoever validated it saw the whole. It
may come by any source: an ORU or MDM, with or without a CDA, or a CDA by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import structlog

from adapters.dicom.manifest import Issued, Issuer
from gateway.failure import internal
from gateway.holdings import JournalHoldings
from gateway.journal import study_reports
from gateway.journal.journal import Journal, JournalUnavailable
from gateway.journal.study_reports import Gathered
from gateway.manifests.reports import issued
from gateway.reported import Reported

SETTLE_DEFAULT = timedelta(seconds=5)
_ACCESSION, _ISSUER, _REQUESTS = "00080050", "00080051", "00400275"

log = structlog.get_logger("ecluse.dicom")


class StudyReports:
    """Hears of reports and lets their studies go. Thread-safe.

    ``settle`` says for each source how long a reported study must have been quiet.
    """

    def __init__(
        self, journal: Journal, holdings: JournalHoldings, settle: Mapping[str, timedelta]
    ) -> None:
        self._journal = journal
        self._holdings = holdings
        self._settle = settle

    def hear(self, reports: Sequence[tuple[int, Reported]]) -> None:
        """See :data:`gateway.reported.HearReports`."""
        try:
            self._hear(reports)
        except JournalUnavailable:
            raise
        except Exception as error:  # noqa: BLE001  no report may stand still for what it proves
            fault = internal(error)
            log.critical("a report is no evidence", error=fault.detail, at=fault.location)

    def _hear(self, reports: Sequence[tuple[int, Reported]]) -> None:
        with self._journal.read() as connection:
            if not study_reports.gathers(connection):
                return
        for message_id, reported in reports:
            for study in self._studies(reported):
                with self._journal.write() as connection:
                    due = study_reports.came(
                        connection, study.source, study.study, message_id,
                        now=self._journal.now(),
                        settle=self._settle.get(study.source, SETTLE_DEFAULT),
                    )  # fmt: skip
                log.info(
                    "a study's report came",
                    message=message_id,
                    source=study.source,
                    outcome="due" if due else "waits",
                )

    def _studies(self, reported: Reported) -> list[Gathered]:
        """Those of which it is a report: named by it or, when it names none, by their number."""
        if reported.studies:
            with self._journal.read() as connection:
                found = study_reports.gathering(connection, reported.studies)
            return [each for each in found if each.source in self._settle]
        if not reported.numbers:
            return []
        # What the last instances say may not be in the index yet. Bounded: other messages wait.
        self._holdings.meet_studies()
        named = [issued({"system": system, "value": value}) for system, value in reported.numbers]
        with self._journal.read() as connection:
            found = study_reports.numbered(connection, sorted({each.value for each in named}))
        return [
            each
            for each in found
            if each.source in self._settle and _is_of(named, accession_numbers(each.attributes))
        ]


def _is_of(named: Sequence[Issued], own: Iterator[Issued]) -> bool:
    return any(
        a.value == b.value and not a.issuer.contradicts(b.issuer) for b in own for a in named
    )


def accession_numbers(attributes: Sequence[Mapping[str, Any]]) -> Iterator[Issued]:
    """The accession numbers of a study in the index, with their issuers: its own, and those of
    the requests that its series answer (grouped procedures have several)."""
    for level in attributes:
        yield from _accession(level)
        for item in _items(level, _REQUESTS):
            yield from _accession(item)


def _accession(level: Mapping[str, Any]) -> Iterator[Issued]:
    value = _first(level, _ACCESSION)
    if not value:
        return
    issuer = next(iter(_items(level, _ISSUER)), {})
    yield Issued(
        value,
        Issuer(
            _first(issuer, "00400031"), _first(issuer, "00400032"),
            _first(issuer, "00400033") or "ISO",
        ),
    )  # fmt: skip


def _items(level: Mapping[str, Any], tag: str) -> list[Mapping[str, Any]]:
    found = (level.get(tag) or {}).get("Value") or []
    return [each for each in found if isinstance(each, dict)]


def _first(level: Mapping[str, Any], tag: str) -> str:
    found = (level.get(tag) or {}).get("Value") or [""]
    return found[0].strip() if isinstance(found[0], str) else ""
