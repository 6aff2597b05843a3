"""The journal's chain of migrations (alembic)."""
