"""What a call is priced by, on the call itself.

Adds to `step_events` the model and the time of the step's message. A call is priced by both, and neither changes once the call is made;
matching a million calls with their messages by text ids took most of the time of pricing them. Existing rows are filled from their
messages. Steps of messages that are not stored get NULL: nobody knows which model made them, and they have no price.

The downgrade drops both columns; the messages have the same values.

Revision ID: call_facts
Revises: tool_facts
Created: 2026-11-26 13:20 UTC
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from opencode_monitor.db.migrate import drop_columns

revision = "call_facts"
down_revision = "tool_facts"
branch_labels = None
depends_on = None

USD = sa.Numeric(38, 12)
COLUMNS = (("model_id", sa.Text()), ("called_at", sa.TIMESTAMP()))


def upgrade() -> None:
    for name, column_type in COLUMNS:
        op.add_column("step_events", sa.Column(name, column_type))
    steps = sa.table("step_events", sa.column("message_id"), *(sa.column(name, column_type) for name, column_type in COLUMNS))
    messages = sa.table("messages", sa.column("message_id"), sa.column("model_id"), sa.column("created_at"))
    op.execute(
        sa.update(steps)
        .values(model_id=messages.c.model_id, called_at=messages.c.created_at)
        .where(steps.c.message_id == messages.c.message_id)
    )


def downgrade() -> None:
    drop_columns(
        "step_events",
        *(name for name, _ in COLUMNS),
        kept=[
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
            sa.Column("paid_cost_usd", USD),
            sa.PrimaryKeyConstraint("step_id", name="pk_step_events"),
            sa.ForeignKeyConstraint(["part_id"], ["parts.part_id"], name="fk_step_events__part_id__parts"),
        ],
        indexes={"ix_step_events__session_id": ["session_id"]},
    )
