"""One package per protocol, both directions; they know nothing of records."""
