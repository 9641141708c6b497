"""The schema before the plan: sessions, messages, and one `parts` table of 29 columns.

`parts` carries a primary key only. DuckDB corrupts its catalog when a table with a foreign key is renamed, and cannot rename one with an
index in the transaction that drops it; `denormalize_parts` renames this table.

Revision ID: baseline
Revises:
Created: 2026-11-23 09:00 UTC
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "baseline"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "projects",
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("worktree", sa.Text()),
        sa.Column("name", sa.Text()),
        sa.Column("vcs", sa.Text()),
        sa.Column("created_at", sa.TIMESTAMP()),
        sa.Column("updated_at", sa.TIMESTAMP()),
        sa.PrimaryKeyConstraint("project_id", name="pk_projects"),
    )
    op.create_table(
        "models",
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("model_name", sa.Text(), nullable=False),
        sa.Column("vendor", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("model_id", name="pk_models"),
    )
    op.create_table(
        "sessions",
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text()),
        sa.Column("parent_session_id", sa.Text()),
        sa.Column("model_id", sa.Text()),
        sa.Column("title", sa.Text()),
        sa.Column("directory", sa.Text()),
        sa.Column("opencode_version", sa.Text()),
        sa.Column("created_at", sa.TIMESTAMP()),
        sa.Column("updated_at", sa.TIMESTAMP()),
        sa.PrimaryKeyConstraint("session_id", name="pk_sessions"),
    )
    op.create_table(
        "messages",
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
        sa.PrimaryKeyConstraint("message_id", name="pk_messages"),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.session_id"], name="fk_messages__session_id__sessions"),
    )
    op.create_table(
        "parts",
        sa.Column("part_id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text()),
        sa.Column("part_type", sa.Text()),
        sa.Column("content", sa.Text()),
        sa.Column("tool_name", sa.Text()),
        sa.Column("tool_args", sa.JSON()),
        sa.Column("tool_result", sa.Text()),
        sa.Column("execution_time_ms", sa.Double()),
        sa.Column("file_path", sa.Text()),
        sa.Column("file_operation", sa.Text()),
        sa.Column("git_branch", sa.Text()),
        sa.Column("git_commit", sa.Text()),
        sa.Column("git_diff", sa.Text()),
        sa.Column("error_data", sa.JSON()),
        sa.Column("error_category", sa.Text()),
        sa.Column("thinking_tokens", sa.Integer()),
        sa.Column("message_id", sa.Text()),
        sa.Column("created_at", sa.TIMESTAMP()),
        sa.Column("ended_at", sa.TIMESTAMP()),
        sa.Column("call_id", sa.Text()),
        sa.Column("tool_status", sa.Text()),
        sa.Column("child_session_id", sa.Text()),
        sa.Column("error_message", sa.Text()),
        sa.Column("tokens_input", sa.BigInteger()),
        sa.Column("tokens_output", sa.BigInteger()),
        sa.Column("tokens_reasoning", sa.BigInteger()),
        sa.Column("tokens_cache_read", sa.BigInteger()),
        sa.Column("tokens_cache_write", sa.BigInteger()),
        sa.Column("cost_usd", sa.Double()),
        sa.PrimaryKeyConstraint("part_id", name="pk_parts"),
    )
    op.create_table(
        "session_stats",
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("message_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("part_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("tool_call_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("error_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("file_operation_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("duration_ms", sa.Double()),
        sa.PrimaryKeyConstraint("session_id", name="pk_session_stats"),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.session_id"], name="fk_session_stats__session_id__sessions"),
    )


def downgrade() -> None:
    for table in ("session_stats", "parts", "messages", "sessions", "models", "projects"):
        op.drop_table(table)
