"""The built-in record as a destination of the gateway."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from gateway.model import Again, Cause, CauseCode, Delivered, Delivery, Outcome, Refused
from record.faults import AuthorRefused, BytesMissing, EntryRefused, MergeRefused, VersionRefused
from record.feeding import Put, PutResult
from record.store import Record

_WRONG_VERSION, _AUTHOR_NOT_ALLOWED = "900", "901"
"""Of the table applicationErrorCondition of the CI-SIS, for an acknowledgement that is due."""


class RecordDestination:
    """Puts each delivery into the record, in the transaction that marks it delivered.

    Implements ``gateway.destinations.Destination``. What an attempt did is undone when its
    outcome is not Delivered.
    """

    transactional = True

    def __init__(self, record: Record, name: str = "record") -> None:
        self.name = name
        self._record = record

    def deliver(self, delivery: Delivery, connection: Any | None) -> Outcome:
        """Make one attempt. No exception leaves, but for what is no Connection."""
        if not isinstance(connection, Connection):
            raise TypeError("the record needs the journal's open connection")
        try:
            with connection.begin_nested():
                result = self._deliver(delivery, connection)
        except EntryRefused as fault:
            return Refused(cause=Cause(code=CauseCode.INVALID_ENTRY, detail=str(fault)))
        except VersionRefused as fault:
            cause = Cause(
                code=CauseCode.CONTROL_ID_REUSED,
                detail=str(fault),
                location="/ClinicalDocument/versionNumber",
                protocol_code=_WRONG_VERSION,
            )
            return Refused(cause=cause)
        except AuthorRefused as fault:
            cause = Cause(
                code=CauseCode.DESTINATION_REFUSED,
                detail=str(fault),
                location="PRT-8",
                protocol_code=_AUTHOR_NOT_ALLOWED,
            )
            return Refused(cause=cause)
        except MergeRefused as fault:
            return Refused(cause=Cause(code=CauseCode.IDENTITY_CONFLICT, detail=str(fault)))
        except BytesMissing as fault:
            return Again(cause=Cause(code=CauseCode.DESTINATION_UNAVAILABLE, detail=str(fault)))
        except (SQLAlchemyError, sqlite3.Error) as fault:
            # The exception's own text quotes parameters, which are a patient's.
            code = getattr(fault.orig, "sqlstate", None) if isinstance(fault, DBAPIError) else None
            detail = f"the record's database answered {type(fault).__name__}"
            return Again(
                cause=Cause(
                    code=CauseCode.DESTINATION_UNAVAILABLE,
                    detail=detail,
                    protocol_code=code or "",
                )
            )
        return Delivered(evidence=evidence(result))

    def make_ready(self, deliveries: Sequence[Delivery]) -> Sequence[tuple[Delivery, Put]]:
        """Read, write and index the entries of deliveries, which needs no transaction.

        See ``gateway.destinations.DeliversTogether``. Raises EntryRefused, BytesMissing.
        """
        return [(each, self._record.make_ready(_put(each))) for each in deliveries]

    def deliver_together(
        self, ready: Sequence[tuple[Delivery, Put]], connection: Any
    ) -> Sequence[Outcome]:
        """Make one attempt each in the caller's transaction, in few statements.

        See ``gateway.destinations.DeliversTogether``. What cannot go raises: then the caller
        undoes all and makes them one by one.
        """
        if any(delivery.merged_patients for delivery, _ in ready):
            return [
                Delivered(evidence=evidence(self._deliver(delivery, connection)))
                for delivery, _ in ready
            ]
        results = self._record.put_all(connection, [put for _, put in ready])
        return [Delivered(evidence=evidence(result)) for result in results]

    def _deliver(self, delivery: Delivery, connection: Connection) -> PutResult:
        for subsumed in delivery.merged_patients:
            if subsumed != delivery.patient_id:
                self._record.merge(
                    connection,
                    delivery.patient_id,
                    subsumed,
                    message_id=delivery.message_id,
                    source=delivery.source,
                    mapping=delivery.mapping,
                )
        return self._record.put_all(connection, [_put(delivery)])[0]


def _put(delivery: Delivery) -> Put:
    return Put(
        patient_id=delivery.patient_id,
        entries=delivery.entries,
        message_id=delivery.message_id,
        sequence=delivery.sequence,
        source=delivery.source,
        mapping=delivery.mapping,
        revision=delivery.revision,
    )


def evidence(result: PutResult) -> str:
    """What a put did, in a few words without a value of the patient."""
    counted = {
        "created": len(result.created),
        "updated": len(result.updated),
        "derived": len(result.derived),
        "late": len(result.late),
        "unchanged": len(result.unchanged),
        "withdrawn": len(result.withdrawn),
    }
    return ", ".join(f"{number} {what}" for what, number in counted.items() if number) or "nothing"
