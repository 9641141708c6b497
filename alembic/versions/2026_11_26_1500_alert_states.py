"""What alerts remember between two runs, and the messages that they have to send.

Adds `alert_states` and `alert_deliveries`, empty: `alert run` fills them. A message is written before it is sent, with the id that its
receiver tells it by, so that neither a failed channel nor a process that is killed loses it, or sends it under another id.

The downgrade drops both: what fires is told once more after the next upgrade, and messages that wait are lost.

Revision ID: alert_states
Revises: budgets
Created: 2026-11-26 15:00 UTC
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "alert_states"
down_revision = "budgets"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "alert_states",
        sa.Column("alert_name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.TIMESTAMP(), nullable=False),
        sa.Column("evaluated_at", sa.TIMESTAMP(), nullable=False),
        sa.Column("seen_firing_at", sa.TIMESTAMP()),
        sa.Column("told_at", sa.TIMESTAMP()),
        sa.PrimaryKeyConstraint("alert_name", name="pk_alert_states"),
    )
    op.create_table(
        "alert_deliveries",
        sa.Column("delivery_id", sa.Text(), nullable=False),
        sa.Column("alert_name", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("failure", sa.Text()),
        sa.Column("claimed_at", sa.TIMESTAMP()),
        sa.Column("delivered_at", sa.TIMESTAMP()),
        sa.PrimaryKeyConstraint("delivery_id", name="pk_alert_deliveries"),
    )


def downgrade() -> None:
    op.drop_table("alert_deliveries")
    op.drop_table("alert_states")
