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
    drop_columns("step_events", "paid_cost_usd", kept=_step_events(), indexes={"ix_step_events__session_id": ["session_id"]})
    drop_columns("messages", "paid_cost_usd", kept=_messages(), indexes={"ix_messages__session_id": ["session_id"]})
    drop_columns(
        "session_resource_metrics",
        "total_paid_usd",
        kept=_session_resource_metrics(),
        indexes={
            "idx_session_metrics_cost": ["total_cost_usd"],
            "idx_session_metrics_tokens": ["total_input_tokens", "total_output_tokens"],
        },
    )
    op.drop_table("provider_billing")
    op.drop_table("price_adjustments")


def _step_events() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("step_id", sa.Text(), nullable=False),
        sa.Column("part_id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP()),
        sa.Column("message_id", sa.Text()),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("snapshot", sa.Text()),
        sa.Column("input_tokens", sa.BigInteger()),
        sa.Column("cache_read_tokens", sa.BigInteger()),
        sa.Column("cache_write_tokens", sa.BigInteger()),
        sa.Column("output_tokens", sa.BigInteger()),
        sa.Column("reasoning_tokens", sa.BigInteger()),
        sa.Column("reported_cost_usd", USD),
        sa.Column("step_cost_usd", USD),
        sa.Column("price_id", sa.Text()),
        sa.PrimaryKeyConstraint("step_id", name="pk_step_events"),
        sa.ForeignKeyConstraint(["part_id"], ["parts.part_id"], name="fk_step_events__part_id__parts"),
    ]


def _messages() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("parent_message_id", sa.Text()),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text()),
        sa.Column("model_id", sa.Text()),
        sa.Column("created_at", sa.TIMESTAMP()),
        sa.Column("completed_at", sa.TIMESTAMP()),
        sa.Column("finish", sa.Text()),
        sa.Column("error_name", sa.Text()),
        sa.Column("input_tokens", sa.BigInteger()),
        sa.Column("cache_read_tokens", sa.BigInteger()),
        sa.Column("cache_write_tokens", sa.BigInteger()),
        sa.Column("output_tokens", sa.BigInteger()),
        sa.Column("reasoning_tokens", sa.BigInteger()),
        sa.Column("message_cost_usd", USD),
        sa.Column("call_count", sa.Integer()),
        sa.Column("reported_cost_usd", USD),
        sa.Column("cost_basis", sa.Text()),
        sa.Column("copied_from", sa.Text()),
        sa.PrimaryKeyConstraint("message_id", name="pk_messages"),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.session_id"], name="fk_messages__session_id__sessions"),
    ]


def _session_resource_metrics() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("total_input_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("total_output_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("total_cost_usd", USD),
        sa.Column("tool_call_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("message_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("avg_response_time_ms", sa.Double()),
        sa.Column("total_execution_time_ms", sa.Double()),
        sa.Column("created_at", sa.TIMESTAMP(), server_default=sa.func.now()),
        sa.Column("updated_at", sa.TIMESTAMP(), server_default=sa.func.now()),
        sa.Column("total_cache_read_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("total_cache_write_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("total_reasoning_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("reported_cost_usd", USD),
        sa.Column("call_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("unpriced_calls", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("copied_calls", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("unrecorded_calls", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("session_id", name="pk_session_resource_metrics"),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.session_id"], name="fk_session_resource_metrics__session_id__sessions"),
    ]
