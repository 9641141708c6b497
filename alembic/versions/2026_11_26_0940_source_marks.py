"""What is gone at its source, and how good a source was.

Adds to `source_sessions` the rank and the last change of what was read, so that a worse or older copy of a session never replaces a better
one, whichever is imported first, and when the session was found gone; existing rows get NULL, and the next import of their source fills
them. Adds `gone_messages`, the messages that were found deleted.

The downgrade drops these values: the rows of what is gone stay, without the mark.

Revision ID: source_marks
Revises: unrecorded_calls
Created: 2026-11-26 09:40 UTC
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "source_marks"
down_revision = "unrecorded_calls"
branch_labels = None
depends_on = None

COLUMNS = (
    ("source_rank", sa.Integer()),
    ("changed_at", sa.TIMESTAMP()),
    ("gone_at", sa.TIMESTAMP()),
)


def upgrade() -> None:
    for name, column_type in COLUMNS:
        op.add_column("source_sessions", sa.Column(name, column_type))
    op.create_table(
        "gone_messages",
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("gone_at", sa.TIMESTAMP(), nullable=False),
        sa.PrimaryKeyConstraint("message_id", name="pk_gone_messages"),
    )


def downgrade() -> None:
    op.drop_table("gone_messages")
    for name, _ in reversed(COLUMNS):
        op.drop_column("source_sessions", name)
