"""The record's own chain of migrations; its version table is ``record_version``."""
