"""What is gone at its source, and how good a source was.

Adds to `source_sessions` the rank and the last change of what was read, so that a worse or older copy of a session never replaces a better
one, whichever is imported first, and when the session was found gone; and to `messages` when a message was found deleted. Existing rows get
NULL: the next import of their source fills them.

The downgrade drops these values: the rows of what is gone stay, without the mark.

Revision ID: source_marks
Revises: import_state
Created: 2026-11-26 09:40 UTC
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from opencode_monitor.db.migrate import drop_columns

revision = "source_marks"
down_revision = "import_state"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("source_sessions", sa.Column("source_rank", sa.Integer()))
    op.add_column("source_sessions", sa.Column("changed_at", sa.TIMESTAMP()))
    op.add_column("source_sessions", sa.Column("gone_at", sa.TIMESTAMP()))
    op.add_column("messages", sa.Column("gone_at", sa.TIMESTAMP()))


def downgrade() -> None:
    drop_columns("messages", "gone_at")
    drop_columns("source_sessions", "gone_at", "changed_at", "source_rank")
