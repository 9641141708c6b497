"""Resource metrics (US-10): what tokens cost, and what each session used.

Adds `model_pricing` and the dated price book behind it, `session_resource_metrics` with its two indexes, and one cost column each on
messages, parts and session_stats. Existing rows get NULL there: no price was known when they were written, and unknown is not 0. The
program fills them on its next run.

The downgrade drops prices that a user set and the aggregates; the aggregates can be computed again, the user's prices cannot.

Revision ID: resource_metrics
Revises: baseline
Created: 2026-11-23 09:10 UTC
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "resource_metrics"
down_revision = "baseline"
branch_labels = None
depends_on = None

USD = sa.Numeric(38, 12)


def upgrade() -> None:
    op.create_table(
        "model_pricing",
        sa.Column("model_name", sa.Text(), nullable=False),
        sa.Column("vendor", sa.Text(), nullable=False),
        sa.Column("input_token_cost_per_1k", USD, nullable=False),
        sa.Column("output_token_cost_per_1k", USD, nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(), server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("model_name", name="pk_model_pricing"),
    )
    op.create_table(
        "price_periods",
        sa.Column("price_id", sa.Text(), nullable=False),
        sa.Column("vendor", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("min_context_tokens", sa.BigInteger(), nullable=False),
        sa.Column("effective_from", sa.TIMESTAMP(), nullable=False),
        sa.Column("effective_to", sa.TIMESTAMP()),
        sa.Column("daily_from_minute", sa.Integer()),
        sa.Column("daily_to_minute", sa.Integer()),
        sa.Column("input_usd_per_mtok", USD),
        sa.Column("output_usd_per_mtok", USD),
        sa.Column("reasoning_usd_per_mtok", USD),
        sa.Column("cache_read_usd_per_mtok", USD),
        sa.Column("cache_write_5m_usd_per_mtok", USD),
        sa.Column("cache_write_1h_usd_per_mtok", USD),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("source_version", sa.Text()),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("precedence", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("price_id", name="pk_price_periods"),
    )
    op.create_index("ix_price_periods__vendor_model", "price_periods", ["vendor", "model"])
    op.create_table(
        "session_resource_metrics",
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
    )
    op.create_index("idx_session_metrics_cost", "session_resource_metrics", ["total_cost_usd"])
    op.create_index("idx_session_metrics_tokens", "session_resource_metrics", ["total_input_tokens", "total_output_tokens"])
    op.add_column("session_stats", sa.Column("total_cost_usd", USD))
    op.add_column("messages", sa.Column("message_cost_usd", USD))
    op.add_column("parts", sa.Column("part_cost_usd", USD))


def downgrade() -> None:
    op.drop_column("parts", "part_cost_usd")
    op.drop_column("messages", "message_cost_usd")
    op.drop_column("session_stats", "total_cost_usd")
    op.drop_table("session_resource_metrics")
    op.drop_table("price_periods")
    op.drop_table("model_pricing")
