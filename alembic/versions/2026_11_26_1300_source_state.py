"""What told that nothing in a source had changed when it was last read to its end.

Adds `state` to `sources`, so that a source in which nothing has changed need not be looked through; existing rows get NULL, and the next
import of their source looks through it and fills it.

The downgrade drops these values: an import at that revision looks through every source.

Revision ID: source_state
Revises: source_marks
Created: 2026-11-26 13:00 UTC
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "source_state"
down_revision = "source_marks"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sources", sa.Column("state", sa.Text()))


def downgrade() -> None:
    op.drop_column("sources", "state")
