"""What the provider billed once, and why a message costs what it costs.

Adds to messages the cost that OpenCode stored, the number of model calls, the basis of our own cost, and the original of a forked copy;
and `model_aliases`, which says for each model as OpenCode names it which entry of the price book prices it. Existing messages get NULL:
their next import fills them.

The downgrade drops these values; the next import reads them again.

Revision ID: call_accounting
Revises: denormalize_parts
Created: 2026-11-23 09:30 UTC
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "call_accounting"
down_revision = "denormalize_parts"
branch_labels = None
depends_on = None

USD = sa.Numeric(38, 12)
COLUMNS = (
    ("call_count", sa.Integer()),
    ("reported_cost_usd", USD),
    ("cost_basis", sa.Text()),
    ("copied_from", sa.Text()),
)


def upgrade() -> None:
    for name, column_type in COLUMNS:
        op.add_column("messages", sa.Column(name, column_type))
    op.create_table(
        "model_aliases",
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("price_vendor", sa.Text(), nullable=False),
        sa.Column("price_model", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("model_id", name="pk_model_aliases"),
    )


def downgrade() -> None:
    op.drop_table("model_aliases")
    for name, _ in reversed(COLUMNS):
        op.drop_column("messages", name)
