"""FHIR R4 (4.0.1): what its definitions say, and a checker compiled from them."""
