"""What the provider billed and OpenCode did not record, as estimates of their own.

Adds `unrecorded_calls`, one row for each call that a store shows only the traces of (a title that was written, an answer that was cut off);
and to messages what such estimates are made of: the title that OpenCode had a model write for a user's message, and the length of what a
message adds to the context. Estimates stand apart: no recorded sum changes. The next import fills the table for sessions that are stored
already; existing messages get NULL in the new columns until `import --full` reads them again.

The downgrade drops all of it; estimates can be made again at any time, the two columns by reading the sources again.

Revision ID: unrecorded_calls
Revises: carried_costs
Created: 2026-11-26 09:30 UTC
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from opencode_monitor.db.migrate import drop_columns

revision = "unrecorded_calls"
down_revision = "carried_costs"
branch_labels = None
depends_on = None

USD = sa.Numeric(38, 12)


def upgrade() -> None:
    op.create_table(
        "unrecorded_calls",
        sa.Column("unrecorded_id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text()),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("model_id", sa.Text()),
        sa.Column("created_at", sa.TIMESTAMP()),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_read_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_write_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger(), nullable=False),
        sa.Column("estimated_cost_usd", USD),
        sa.Column("price_id", sa.Text()),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("method_version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("unrecorded_id", name="pk_unrecorded_calls"),
    )
    op.create_index("ix_unrecorded_calls__session_id", "unrecorded_calls", ["session_id"])
    op.add_column("messages", sa.Column("summary_title", sa.Text()))
    op.add_column("messages", sa.Column("added_chars", sa.BigInteger()))


def downgrade() -> None:
    drop_columns("messages", "summary_title", "added_chars", kept=_messages(), indexes={"ix_messages__session_id": ["session_id"]})
    op.drop_index("ix_unrecorded_calls__session_id", table_name="unrecorded_calls")
    op.drop_table("unrecorded_calls")


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
        sa.Column("paid_cost_usd", USD),
        sa.PrimaryKeyConstraint("message_id", name="pk_messages"),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.session_id"], name="fk_messages__session_id__sessions"),
    ]
