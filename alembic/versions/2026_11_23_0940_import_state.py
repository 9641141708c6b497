"""What was read from where, and what could not be read.

Adds `sources`, `source_sessions` (how far each session of each source is read) and `import_issues`, and the index that finds a session's
messages. The index comes here, apart from the revisions that add columns: DuckDB drops no column of a table whose index falls in the same
transaction.

The downgrade drops this state: the next import then reads everything once more and finds it unchanged.

Revision ID: import_state
Revises: call_accounting
Created: 2026-11-23 09:40 UTC
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "import_state"
down_revision = "call_accounting"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sources",
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("username", sa.Text(), nullable=False),
        sa.Column("first_imported_at", sa.TIMESTAMP(), nullable=False),
        sa.Column("last_imported_at", sa.TIMESTAMP(), nullable=False),
        sa.PrimaryKeyConstraint("source_id", name="pk_sources"),
    )
    op.create_table(
        "source_sessions",
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.Column("records", sa.BigInteger(), nullable=False),
        sa.Column("imported_at", sa.TIMESTAMP(), nullable=False),
        sa.PrimaryKeyConstraint("source_id", "session_id", name="pk_source_sessions"),
    )
    op.create_table(
        "import_issues",
        sa.Column("issue_id", sa.Text(), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text()),
        sa.Column("record", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.TIMESTAMP(), nullable=False),
        sa.PrimaryKeyConstraint("issue_id", name="pk_import_issues"),
    )
    op.create_index("ix_messages__session_id", "messages", ["session_id"])


def downgrade() -> None:
    op.drop_index("ix_messages__session_id", table_name="messages")
    for table in ("import_issues", "source_sessions", "sources"):
        op.drop_table(table)
