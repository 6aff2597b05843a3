"""The closed vocabulary of conversions: pure functions from text to FHIR values."""
