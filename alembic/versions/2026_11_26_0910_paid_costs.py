"""What the user really pays, beside the list price and what OpenCode stored.

Adds the out-of-pocket cost to calls, messages and session metrics, and the user's two kinds of statement that it follows from:
`price_adjustments` (discounts and mark-ups on the list price) and `provider_billing` (metered, subscription, free or local, with a flat
monthly fee). As nobody has made a statement yet, what is paid is the list price: the columns are filled with it, so that a report is right
at once and need not wait for the next import.

The downgrade drops the user's statements and the costs that follow from them; list price and reported cost stay.

Revision ID: paid_costs
Revises: price_history
Created: 2026-11-26 09:10 UTC
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from opencode_monitor.db.migrate import drop_columns

revision = "paid_costs"
down_revision = "price_history"
branch_labels = None
depends_on = None

USD = sa.Numeric(38, 12)
# Of each table: the new column, and the list price that it starts with.
PAID = (
    ("step_events", "paid_cost_usd", "step_cost_usd"),
    ("messages", "paid_cost_usd", "message_cost_usd"),
    ("session_resource_metrics", "total_paid_usd", "total_cost_usd"),
)


def upgrade() -> None:
    op.create_table(
        "price_adjustments",
        sa.Column("adjustment_id", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model_glob", sa.Text()),
        sa.Column("bucket", sa.Text()),
        sa.Column("multiplier", sa.Numeric(9, 6), nullable=False),
        sa.Column("effective_from", sa.TIMESTAMP()),
        sa.Column("effective_to", sa.TIMESTAMP()),
        sa.Column("note", sa.Text()),
        sa.Column("recorded_at", sa.TIMESTAMP(), nullable=False),
        sa.PrimaryKeyConstraint("adjustment_id", name="pk_price_adjustments"),
    )
    op.create_table(
        "provider_billing",
        sa.Column("billing_id", sa.Text(), nullable=False),
        sa.Column("provider_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("monthly_fee_usd", USD),
        sa.Column("effective_from", sa.TIMESTAMP()),
        sa.Column("effective_to", sa.TIMESTAMP()),
        sa.Column("note", sa.Text()),
        sa.Column("recorded_at", sa.TIMESTAMP(), nullable=False),
        sa.PrimaryKeyConstraint("billing_id", name="pk_provider_billing"),
    )
    for table_name, paid, listed in PAID:
        op.add_column(table_name, sa.Column(paid, USD))
        table = sa.table(table_name, sa.column(paid, USD), sa.column(listed, USD))
        op.execute(sa.update(table).values({paid: table.c[listed]}).where(table.c[listed].is_not(None)))


def downgrade() -> None:
    for table_name, paid, _ in PAID:
        drop_columns(table_name, paid)
    op.drop_table("provider_billing")
    op.drop_table("price_adjustments")
