"""A FHIR R4 server elsewhere as a destination (https://hl7.org/fhir/R4/http.html)."""
