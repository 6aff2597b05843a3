"""Contents of one entry found by their hash, in the order in which entries come.

An index of hashes alone takes its rows at random places: with half a million versions each
commit wrote a page of it for almost every entry. Entries are numbered as they come, so that this
one grows at its end. What came at which place in the order of arrival nobody looks for.
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_record_entry_version_entry_key_hash", "record_entry_version", ["entry_key", "hash"]
    )
    op.drop_index("ix_record_entry_version_hash", "record_entry_version")
    op.drop_index("ix_record_entry_version_sequence", "record_entry_version")


def downgrade() -> None:
    raise NotImplementedError("the record only goes forward; restore a backup to go back")
