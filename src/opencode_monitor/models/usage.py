"""Who worked where: projects, models, sessions and messages."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from sqlalchemy import ForeignKey, Index, Integer
from sqlalchemy.orm import Mapped, mapped_column

from opencode_monitor.db.base import Base

# Marks a column that never changes once written. DuckDB cannot update an indexed column of a row that another row refers to, so the
# bulk upsert leaves these alone.
WRITE_ONCE = {"write_once": True}


class CostBasis(StrEnum):
    """Where a message's cost comes from; NULL where no usage was recorded, so that there is nothing to price."""

    CALCULATED = "calculated"
    UNPRICED = "unpriced"
    COPIED = "copied"


class Project(Base):
    """One working tree that OpenCode knows."""

    __tablename__ = "projects"

    project_id: Mapped[str] = mapped_column(primary_key=True)
    worktree: Mapped[str | None]
    name: Mapped[str | None]
    vcs: Mapped[str | None]
    created_at: Mapped[datetime | None]
    updated_at: Mapped[datetime | None]


class Model(Base):
    """One model of one vendor, as OpenCode names both: `model_id` is "vendor/model"."""

    __tablename__ = "models"

    model_id: Mapped[str] = mapped_column(primary_key=True)
    model_name: Mapped[str]
    vendor: Mapped[str]


class Session(Base):
    """One session.

    `project_id`, `parent_session_id` and `model_id` (the one used last) carry no foreign key: they change while messages refer to the
    session, which DuckDB does not allow for a column with a foreign key.
    """

    __tablename__ = "sessions"

    session_id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str | None]
    parent_session_id: Mapped[str | None]
    model_id: Mapped[str | None]
    title: Mapped[str | None]
    directory: Mapped[str | None]
    opencode_version: Mapped[str | None]
    created_at: Mapped[datetime | None]
    updated_at: Mapped[datetime | None]


class Message(Base):
    """One message, with the five disjoint token buckets summed over its steps (calls).

    Attributes:
        input_tokens: Uncached prompt tokens.
        cache_read_tokens: Prompt tokens read from the provider's cache.
        cache_write_tokens: Prompt tokens written to it.
        output_tokens: Visible output, without the reasoning.
        reasoning_tokens: Reasoning, beside the output.
        call_count: Model calls with recorded usage in this message; 0 for a user's message and for a call that failed or was cut off.
        reported_cost_usd: What OpenCode stored, untouched.
        message_cost_usd: Ours: the sum of the steps at list price; NULL where a step has no price.
        cost_basis: See `CostBasis`.
        copied_from: The message that a fork copied; a copy was billed once, with its original.
    """

    __tablename__ = "messages"

    message_id: Mapped[str] = mapped_column(primary_key=True)
    session_id: Mapped[str] = mapped_column(ForeignKey("sessions.session_id"), info=WRITE_ONCE)
    parent_message_id: Mapped[str | None]
    role: Mapped[str]
    agent: Mapped[str | None]
    model_id: Mapped[str | None]
    created_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    finish: Mapped[str | None]
    error_name: Mapped[str | None]
    input_tokens: Mapped[int | None]
    cache_read_tokens: Mapped[int | None]
    cache_write_tokens: Mapped[int | None]
    output_tokens: Mapped[int | None]
    reasoning_tokens: Mapped[int | None]
    message_cost_usd: Mapped[Decimal | None]
    call_count: Mapped[int | None] = mapped_column(Integer)
    reported_cost_usd: Mapped[Decimal | None]
    cost_basis: Mapped[str | None]
    copied_from: Mapped[str | None]

    __table_args__ = (Index("ix_messages__session_id", "session_id"),)
