"""From HL7's v2-to-FHIR tables (CSV) to mapping files as a starting point."""

from __future__ import annotations

from gateway.workbench.importing.importer import Imported, import_tables
from gateway.workbench.importing.rows import TablesUnreadable

__all__ = ["Imported", "TablesUnreadable", "import_tables"]
