"""A FHIR R4 server elsewhere as a destination of the gateway.

An attempt asks first when an earlier one was begun (``Delivery.begun``): the Provenance of the
delivery is there if and only if the delivery is, because it is put in the same transaction, or
as the last of the updates.
"""

from __future__ import annotations

from typing import Any

from adapters.fhir import answers, bundles
from adapters.fhir.bundles import Put
from adapters.fhir.settings import FhirServerSettings
from adapters.kept import KeptLines
from adapters.line import Answer, Line, NoAnswer, NotSent, Unusable, blocks, stream_blocks
from gateway.model import Again, Cause, CauseCode, Delivered, Delivery, Outcome, Refused, Wait
from gateway.ports import BlobStore
from gateway.serialise import dumps, loads

_FHIR_JSON = "application/fhir+json; charset=utf-8"
_ACCEPT = {"Accept": "application/fhir+json"}
BODY_BYTES_MAX = 256 << 20
"""A transaction larger than this is refused here: no server takes it."""


class _Ended(Exception):
    """An attempt is at its end before all was put."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome


class FhirDestination:
    """Puts deliveries on a FHIR server. Implements ``gateway.destinations.Destination``.

    ``blobs`` gives the documents that entries point to. Safe to share between threads: each
    has a connection of its own.
    """

    transactional = False
    replaces_entries = True

    def __init__(self, name: str, settings: FhirServerSettings, blobs: BlobStore) -> None:
        self.name = name
        self._settings = settings
        self._blobs = blobs
        self._lines = KeptLines(lambda: Line(settings))

    def deliver(self, delivery: Delivery, connection: Any | None) -> Outcome:
        """Make one attempt, within the settings' time. No exception leaves."""
        del connection
        line = self._lines.mine()
        line.begin()
        try:
            return self._deliver(line, delivery)
        except _Ended as end:
            return end.outcome
        except NotSent as error:
            return Again(cause=answers.unavailable(f"it cannot be reached: {error}"))
        except NoAnswer as error:
            return answers.unknown(f"no answer came: {error}")
        except Unusable as error:
            return Wait(cause=answers.unavailable(str(error)), after=answers.ACCESS_WAIT)

    def close(self) -> None:
        """Close the connections. To be called when no attempt is made any more."""
        self._lines.close()

    def _deliver(self, line: Line, delivery: Delivery) -> Outcome:
        if delivery.begun and self._settings.provenance:
            path = f"Provenance/{bundles.receipt_id(delivery.idempotency_key)}"
            if self._there(line, path) is not None:
                return Delivered(evidence="an earlier attempt had arrived: the server has it")
        puts = [
            Put(entry.resource)
            for entry in delivery.entries
            if not (entry.create_only and self._there(line, entry.reference) is not None)
        ]
        puts += self._subsumed(line, delivery, {each.reference for each in puts})
        if not puts:
            return Delivered(evidence="nothing to send: the server has all of it")
        self._put_documents(line, delivery)
        if self._settings.provenance:
            puts.append(bundles.receipt(delivery, puts))
        if self._settings.interaction == "transaction":
            return self._transaction(line, delivery, puts)
        return self._updates(line, delivery, puts)

    # --- asking -----------------------------------------------------------------------

    def _there(self, line: Line, path: str) -> Answer | None:
        """A resource that the server has; None when it has none."""
        try:
            answer = line.ask("GET", path, headers=_ACCEPT)
        except NoAnswer as error:
            # Nothing is sent by a question: only the server's state is not known.
            raise NotSent(str(error)) from None
        if answer.status == 200:
            return answer
        if answer.status in {404, 410}:
            return None
        outcome = answers.failed(answer)
        if isinstance(outcome, Refused):
            # A question that is refused says nothing against the delivery.
            outcome = Again(cause=answers.unavailable(outcome.cause.detail, answer.status))
        raise _Ended(outcome)

    def _subsumed(self, line: Line, delivery: Delivery, given: set[str]) -> list[Put]:
        """The Patients that were merged into this one and that the server has, marked as such."""
        found = []
        for patient in delivery.merged_patients:
            reference = f"Patient/{patient}"
            if patient == delivery.patient_id or reference in given:
                continue
            answer = self._there(line, reference)
            if answer is None:
                continue
            try:
                resource = loads(answer.body)
                marked = bundles.merged(resource, delivery.patient_id)
                found.append(Put({**marked, "id": patient}, answer.headers.get("etag", "")))
            except (ValueError, AttributeError, TypeError):
                raise _Ended(answers.unknown("the server's Patient cannot be read")) from None
        return found

    # --- sending ----------------------------------------------------------------------

    def _put_documents(self, line: Line, delivery: Delivery) -> None:
        """Put documents before the entries that point to them, as the bytes that they are
        (R4 binary.html#rest); the same bytes have the same id."""
        for digest, media_type in bundles.documents(delivery).items():
            try:
                payload = self._blobs.payload(digest)
            except KeyError:
                cause = Cause(
                    code=CauseCode.UNREADABLE, detail="a document's bytes are not in the store"
                )
                raise _Ended(Refused(cause=cause)) from None
            headers = {
                **_ACCEPT,
                "Content-Type": media_type,
                "Content-Length": str(payload.size),
                "X-Security-Context": f"Patient/{delivery.patient_id}",
            }
            with payload.open() as stream:
                answer = line.ask(
                    "PUT", f"Binary/{digest}", content=stream_blocks(stream), headers=headers
                )
            if not 200 <= answer.status < 300:
                raise _Ended(answers.failed(answer))

    def _transaction(self, line: Line, delivery: Delivery, puts: list[Put]) -> Outcome:
        body = _written(bundles.transaction(self._settings.url, puts))
        answer = line.ask(
            "POST", "", content=blocks(body), headers=_headers(body, delivery.idempotency_key)
        )
        if 200 <= answer.status < 300:
            return answers.applied(answer, len(puts))
        return answers.failed(answer)

    def _updates(self, line: Line, delivery: Delivery, puts: list[Put]) -> Outcome:
        statuses = []
        for number, each in enumerate(puts):
            body = _written(each.resource)
            headers = _headers(body, f"{delivery.idempotency_key}-{number}")
            if each.if_match:
                headers["If-Match"] = each.if_match
            answer = line.ask("PUT", each.reference, content=blocks(body), headers=headers)
            if answer.status not in {200, 201, 204}:
                if 200 <= answer.status < 300:
                    return answers.unknown("the server's answer is none to an update")
                return answers.failed(answer)
            statuses.append(str(answer.status))
        return Delivered(evidence=answers.counted(statuses))


def _written(resource: Any) -> bytes:
    body = dumps(resource)
    if len(body) > BODY_BYTES_MAX:
        cause = Cause(
            code=CauseCode.DESTINATION_REFUSED,
            detail=f"the entries are {len(body)} bytes, more than is sent at once",
        )
        raise _Ended(Refused(cause=cause))
    return body


def _headers(body: bytes, key: str) -> dict[str, str]:
    """``Idempotency-Key`` is a structured string (draft-ietf-httpapi-idempotency-key-header)."""
    return {
        **_ACCEPT,
        "Content-Type": _FHIR_JSON,
        "Content-Length": str(len(body)),
        "Prefer": "return=minimal",
        "Idempotency-Key": f'"{key}"',
    }
