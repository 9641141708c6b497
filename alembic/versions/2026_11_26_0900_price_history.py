"""A price book that only grows, and a record of every time that calls were priced anew.

Adds `price_periods.recorded_at` (of two rows for the same place the later one holds, and the earlier one stays for the calls that it
priced), `model_aliases.mode` (which mode's rows price a model), `price_sources` (which edition of each source was read), and `price_runs`
with `price_changes` (what each re-pricing did to each call, so that it can be undone). Existing rows get NULL: recorded before all others,
and the standard mode.

The downgrade drops these. Prices that were replaced by a later edition of themselves stay, as rows with ids of their own, and then hold
beside it: the one with the higher id wins. Re-pricings can no longer be undone, and the packaged prices are read once more.

Revision ID: price_history
Revises: import_state
Created: 2026-11-26 09:00 UTC
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "price_history"
down_revision = "import_state"
branch_labels = None
depends_on = None

USD = sa.Numeric(38, 12)
PRICE_PERIODS = (
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
)


def upgrade() -> None:
    op.add_column("price_periods", sa.Column("recorded_at", sa.TIMESTAMP()))
    op.add_column("model_aliases", sa.Column("mode", sa.Text()))
    op.create_table(
        "price_sources",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text()),
        sa.Column("stated_at", sa.TIMESTAMP()),
        sa.Column("read_at", sa.TIMESTAMP(), nullable=False),
        sa.PrimaryKeyConstraint("source", name="pk_price_sources"),
    )
    op.create_table(
        "price_runs",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("old_cost_usd", USD),
        sa.Column("new_cost_usd", USD),
        sa.Column("undone_at", sa.TIMESTAMP()),
        sa.PrimaryKeyConstraint("run_id", name="pk_price_runs"),
    )
    op.create_table(
        "price_changes",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("step_id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("model_id", sa.Text()),
        sa.Column("old_price_id", sa.Text()),
        sa.Column("new_price_id", sa.Text()),
        sa.Column("old_cost_usd", USD),
        sa.Column("new_cost_usd", USD),
        sa.PrimaryKeyConstraint("run_id", "step_id", name="pk_price_changes"),
    )


def downgrade() -> None:
    for table in ("price_changes", "price_runs", "price_sources"):
        op.drop_table(table)
    op.drop_column("model_aliases", "mode")
    # DuckDB drops no column of an indexed table, nor of one whose index falls in the same transaction, so the table is made anew. In
    # plain statements, which the printed script has as well.
    columns = ", ".join(column.name for column in PRICE_PERIODS)
    op.execute(f"CREATE TABLE price_periods_kept AS SELECT {columns} FROM price_periods")
    op.drop_table("price_periods")
    op.create_table(
        "price_periods",
        *(sa.Column(column.name, column.type, nullable=column.nullable) for column in PRICE_PERIODS),
        sa.PrimaryKeyConstraint("price_id", name="pk_price_periods"),
    )
    op.create_index("ix_price_periods__vendor_model", "price_periods", ["vendor", "model"])
    op.execute(f"INSERT INTO price_periods ({columns}) SELECT {columns} FROM price_periods_kept")
    op.drop_table("price_periods_kept")
