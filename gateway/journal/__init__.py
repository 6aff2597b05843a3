"""The durable truth: tables, append, claim, settle, on SQLite and PostgreSQL."""
