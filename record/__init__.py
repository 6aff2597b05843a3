"""The built-in shared record: entries by patient, versions, documents, FHIR R4 reading."""
