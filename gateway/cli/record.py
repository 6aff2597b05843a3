"""``ecluse record``: the patients' records that the gateway feeds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.options import ConfigOption, JsonOption, StateOption, settings
from gateway.cli.output import Code, data, fail, state, table

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from gateway.journal.journal import Journal
    from record.reading import Stored
    from record.store import Record

app = typer.Typer(name="record", help="Patients' records.", no_args_is_help=True)

LIMIT_MAX = 5000


@app.command("list")
def list_records(
    *,
    limit: Annotated[int, typer.Option(min=1, max=LIMIT_MAX, help="How many at most.")] = 100,
    json_output: JsonOption = False,
    config: ConfigOption = None,
    state_folder: StateOption = None,
) -> None:
    """List the patients that have a record, the newest first. No names."""
    from gateway.cli.access import reading

    with reading(settings(config, state_folder)) as journal, journal.read() as connection:
        found = _patients(connection, limit)
    if json_output:
        data(found)
        return
    table(
        ["record", "ins", "feeding", "record is", "entries", "since"],
        [
            (p["id"], p["ins"]["value"], state(p["feeding"]), state(p["record"]), p["entries"],
             p["created_at"])
            for p in found
        ],
        numbers=["entries"],
    )  # fmt: skip


def _patients(connection: Connection, limit: int) -> list[dict[str, Any]]:
    from sqlalchemy import func, select

    from gateway import shapes
    from gateway.journal import patient_tables, patients
    from record.tables import record_member

    patient = patient_tables.patient
    ids = connection.execute(
        select(patient.c.id)
        .where(patient.c.merged_into.is_(None))
        .order_by(patient.c.created_at.desc(), patient.c.id.desc())
        .limit(limit)
    ).scalars()
    found = [each for each in (patients.get(connection, i) for i in list(ids)) if each is not None]
    counts = {
        row[0]: row[1]
        for row in connection.execute(
            select(record_member.c.patient_id, func.count())
            .where(record_member.c.patient_id.in_([each.id for each in found]))
            .group_by(record_member.c.patient_id)
        )
    }
    return [{**shapes.patient(each), "entries": counts.get(each.id, 0)} for each in found]


@app.command("show")
def show_record(
    patient: Annotated[
        str,
        typer.Argument(
            help="The record's id or its beginning, an INS, or a local identifier.",
            metavar="PATIENT",
        ),
    ],
    *,
    resource: Annotated[
        list[str] | None,
        typer.Option(
            "--resource", help="Only of this FHIR type (may be repeated).", metavar="TYPE"
        ),
    ] = None,
    json_output: JsonOption = False,
    config: ConfigOption = None,
    state_folder: StateOption = None,
) -> None:
    """Show one patient's current entries; with --json as FHIR R4 resources, one a line.

    This prints data of a patient.
    """
    from gateway.cli.access import reading

    with reading(settings(config, state_folder)) as journal, journal.read() as connection:
        owner = _find(connection, patient)
        if owner is None:
            fail(Code.FAILED, "no record, or more than one, goes by that")
        entries = _entries(connection, opened_record(journal), owner, resource or [])
        if json_output:
            from gateway.serialise import dumps

            for each in entries:
                typer.echo(dumps(each.resource).decode("utf-8"))
            return
        from gateway import shapes
        from gateway.console.clinical import says

        table(
            ["entry", "says", "version", "changed", "message"],
            [
                (each.reference, says(each.resource), each.version,
                 shapes.instant(each.recorded_at), each.message_id)
                for each in entries
            ],
            numbers=["version", "message"],
        )  # fmt: skip


def opened_record(journal: Journal) -> Record:
    """The built-in record of a journal."""
    from gateway import serialise
    from gateway.journal.times import utc_now
    from record.store import Record

    return Record(journal.blobs, utc_now, serialise)


def _entries(
    connection: Connection, record: Record, owner: str, types: list[str]
) -> Iterator[Stored]:
    page = ""
    while True:
        found = record.everything(connection, owner, types=types, page=page)
        yield from found.entries
        page = found.next
        if not page:
            return


def _find(connection: Connection, given: str) -> str | None:
    """The one patient whom an id, its beginning, an INS or a local identifier names."""
    from sqlalchemy import select

    from gateway.journal import patient_tables, patients

    patient, identifier = patient_tables.patient, patient_tables.patient_identifier
    compact = given.replace(" ", "")
    queries = (
        select(patient.c.id).where(patient.c.id.startswith(compact, autoescape=True))
        if len(compact) >= 4
        else None,
        select(patient.c.id).where(patient.c.ins_value == compact),
        select(identifier.c.patient_id).where(identifier.c.value == given),
    )
    for query in queries:
        if query is None:
            continue
        owners = {
            found.id
            for each in connection.execute(query.limit(20)).scalars()
            if (found := patients.survivor(connection, each)) is not None
        }
        if owners:
            return owners.pop() if len(owners) == 1 else None
    return None
