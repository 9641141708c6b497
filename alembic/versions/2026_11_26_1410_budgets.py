"""What the user wants to spend at most.

Adds `budgets`, empty: `budget set` fills it. A budget names projects, models and agents by patterns, not by keys, so that it can be set
before the first call of what it is about.

The downgrade drops the table: the budgets are lost, and have to be set again.

Revision ID: budgets
Revises: omitted_texts
Created: 2026-11-26 14:10 UTC
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "budgets"
down_revision = "omitted_texts"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "budgets",
        sa.Column("budget_name", sa.Text(), nullable=False),
        sa.Column("budget_usd", sa.Numeric(38, 12), nullable=False),
        sa.Column("every", sa.Text(), nullable=False),
        sa.Column("cost_number", sa.Text(), nullable=False),
        sa.Column("project_glob", sa.Text()),
        sa.Column("model_glob", sa.Text()),
        sa.Column("agent_glob", sa.Text()),
        sa.Column("note", sa.Text()),
        sa.Column("recorded_at", sa.TIMESTAMP(), nullable=False),
        sa.PrimaryKeyConstraint("budget_name", name="pk_budgets"),
    )


def downgrade() -> None:
    op.drop_table("budgets")
