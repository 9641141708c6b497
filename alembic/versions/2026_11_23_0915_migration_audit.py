"""Where revisions that move data keep their proof.

Adds `migration_audit`: before and after each move, how many rows there are and a checksum of every column. It comes before the revision
that moves the parts, so that its downgrade can write there too.

The downgrade drops the proofs with the table.

Revision ID: migration_audit
Revises: resource_metrics
Created: 2026-11-23 09:15 UTC
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "migration_audit"
down_revision = "resource_metrics"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "migration_audit",
        sa.Column("audit_id", sa.Text(), nullable=False),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("table_name", sa.Text(), nullable=False),
        sa.Column("row_count", sa.BigInteger(), nullable=False),
        sa.Column("fingerprint", sa.JSON(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("program_version", sa.Text(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("audit_id", name="pk_migration_audit"),
    )


def downgrade() -> None:
    op.drop_table("migration_audit")
