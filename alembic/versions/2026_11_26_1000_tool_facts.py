"""Whose tool a call was.

Adds to `tool_calls` the skill that a call loaded and the MCP server whose tool it is. Existing rows get NULL: skills are filled when their
session is read again (`opencode-monitor import --full`), servers by the next import.

The downgrade drops both columns; another upgrade and import finds the same again.

Revision ID: tool_facts
Revises: source_marks
Created: 2026-11-26 10:00 UTC
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from opencode_monitor.db.migrate import drop_columns

revision = "tool_facts"
down_revision = "source_marks"
branch_labels = None
depends_on = None

COLUMNS = ("skill_name", "mcp_server")


def upgrade() -> None:
    for name in COLUMNS:
        op.add_column("tool_calls", sa.Column(name, sa.Text()))


def downgrade() -> None:
    indexes = {"idx_tool_calls_name": ["tool_name"], "ix_tool_calls__session_id": ["session_id"]}
    drop_columns("tool_calls", *COLUMNS, kept=_tool_calls(), indexes=indexes)


def _tool_calls() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("tool_call_id", sa.Text(), nullable=False),
        sa.Column("part_id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP()),
        sa.Column("tool_name", sa.Text(), nullable=False),
        sa.Column("tool_args", sa.JSON()),
        sa.Column("tool_result", sa.Text()),
        sa.Column("execution_time_ms", sa.Double()),
        sa.Column("status", sa.Text()),
        sa.Column("call_id", sa.Text()),
        sa.Column("child_session_id", sa.Text()),
        sa.PrimaryKeyConstraint("tool_call_id", name="pk_tool_calls"),
        sa.ForeignKeyConstraint(["part_id"], ["parts.part_id"], name="fk_tool_calls__part_id__parts"),
    ]
