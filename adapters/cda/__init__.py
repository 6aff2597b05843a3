"""CDA R2: HTTP and folder intake, hardened reading."""
