"""Run by alembic on the connection that ``gateway.journal.migrate`` hands over."""

from __future__ import annotations

from alembic import context

from gateway.journal.desk_tables import replay_job
from gateway.journal.imaging_tables import manifest
from gateway.journal.mapping_tables import mapping_version
from gateway.journal.patient_tables import patient
from gateway.journal.purge_tables import purge
from gateway.journal.registry_tables import registry_object

# All rooms of tables are loaded, and have one metadata.
TABLES = (replay_job, manifest, mapping_version, patient, purge, registry_object)

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=TABLES[0].metadata,
    version_table=context.config.attributes["version_table"],
    transactional_ddl=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
