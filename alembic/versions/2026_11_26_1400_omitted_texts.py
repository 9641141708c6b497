"""How long the texts were that an import without content left out.

Adds `omitted_texts`, with a row for each part whose text, arguments, output or error message an `import --no-content` left out. Existing
parts have their texts, so it begins empty.

The downgrade drops it: carried costs that are computed at that revision take a text that was left out to have had no length, and an
import with content does not know which sessions it has to read again; `import --full` reads them all.

Revision ID: omitted_texts
Revises: call_facts
Created: 2026-11-26 14:00 UTC
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "omitted_texts"
down_revision = "call_facts"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "omitted_texts",
        sa.Column("part_id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("written_chars", sa.BigInteger(), nullable=False),
        sa.Column("output_chars", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("part_id", name="pk_omitted_texts"),
    )


def downgrade() -> None:
    op.drop_table("omitted_texts")
