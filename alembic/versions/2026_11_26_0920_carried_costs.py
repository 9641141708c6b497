"""What it cost to carry each part of a session through the calls after it.

Adds `carried_costs`, empty: `metrics carried` or `import --carried` fills it. It has no foreign key, as the row of a session's base stands
for no part, and rows are dropped whenever their session changes.

The downgrade drops the table; its rows are computed from the others again.

Revision ID: carried_costs
Revises: paid_costs
Created: 2026-11-26 09:20 UTC
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "carried_costs"
down_revision = "paid_costs"
branch_labels = None
depends_on = None

USD = sa.Numeric(38, 12)


def upgrade() -> None:
    op.create_table(
        "carried_costs",
        sa.Column("carrier_id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP()),
        sa.Column("carrying_calls", sa.Integer(), nullable=False),
        sa.Column("size_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_cost_usd", USD, nullable=False),
        sa.Column("uncached_cost_usd", USD, nullable=False),
        sa.Column("carried_cost_usd", USD, nullable=False),
        sa.PrimaryKeyConstraint("carrier_id", name="pk_carried_costs"),
    )
    op.create_index("ix_carried_costs__session_id", "carried_costs", ["session_id"])


def downgrade() -> None:
    op.drop_index("ix_carried_costs__session_id", table_name="carried_costs")
    op.drop_table("carried_costs")
