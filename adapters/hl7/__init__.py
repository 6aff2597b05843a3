"""HL7 v2: framing, reading, acknowledging, listening and sending over MLLP."""
