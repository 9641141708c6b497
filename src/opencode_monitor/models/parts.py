"""The parts of messages: one core table and nine focused ones."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Boolean, Double, ForeignKey, Index, Integer, false, func
from sqlalchemy.orm import Mapped, mapped_column

from opencode_monitor.db.base import Base
from opencode_monitor.db.types import Json
from opencode_monitor.models.usage import WRITE_ONCE


class Part(Base):
    """One part of a message: what all parts share.

    Attributes:
        part_type: text, thinking, tool_call, file_operation, error, step_start, step_finish, patch, attachment, compaction, subtask, agent,
            retry, snapshot; an unknown one under its own name.
        sequence_number: Its place in the session, by time and then id, from 1.
        content: The text of a part that has no table for it (thinking, subtask); a text part's lies in `text_messages`.
        written_chars: How many characters the model wrote for it; NULL where the model wrote nothing. The weight that shares a step's cost.
        part_cost_usd: Its share of its step's cost in USD; the parts of a message sum to the message exactly.
        extra: What belongs to no table.
    """

    __tablename__ = "parts"

    part_id: Mapped[str] = mapped_column(primary_key=True)
    session_id: Mapped[str] = mapped_column(ForeignKey("sessions.session_id"), info=WRITE_ONCE)
    message_id: Mapped[str | None]
    part_type: Mapped[str] = mapped_column(info=WRITE_ONCE)
    sequence_number: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime | None] = mapped_column(server_default=func.now())
    ended_at: Mapped[datetime | None]
    content: Mapped[str | None]
    written_chars: Mapped[int | None]
    part_cost_usd: Mapped[Decimal | None]
    extra: Mapped[dict[str, Any] | None]

    __table_args__ = (Index("idx_parts_session", "session_id"), Index("idx_parts_type", "part_type"))


class PartSubtype(Base):
    """What every table below `parts` shares: questions about one subtype need no join."""

    __abstract__ = True

    part_id: Mapped[str] = mapped_column(ForeignKey("parts.part_id"), info=WRITE_ONCE, sort_order=-3)
    session_id: Mapped[str] = mapped_column(info=WRITE_ONCE, sort_order=-2)
    created_at: Mapped[datetime | None] = mapped_column(sort_order=-1)


FAILED = ("error", "timeout")
"""The statuses of a tool's call that failed."""


class ToolCall(PartSubtype):
    """One call of a tool.

    Attributes:
        status: success, error, timeout, running, pending.
        execution_time_ms: From its start to its end, in milliseconds.
        child_session_id: The sub-agent's session that the call started or continued.
        skill_name: The skill that it loaded.
        mcp_server: The MCP server whose tool it is; NULL for OpenCode's own, and where nothing says it.
    """

    __tablename__ = "tool_calls"

    tool_call_id: Mapped[str] = mapped_column(primary_key=True, sort_order=-4)
    tool_name: Mapped[str]
    tool_args: Mapped[dict[str, Any] | None]
    tool_result: Mapped[str | None]
    execution_time_ms: Mapped[float | None] = mapped_column(Double)
    status: Mapped[str | None]
    call_id: Mapped[str | None]
    child_session_id: Mapped[str | None]
    skill_name: Mapped[str | None]
    mcp_server: Mapped[str | None]

    __table_args__ = (
        Index("idx_tool_calls_name", "tool_name", postgresql_using="hash"),
        Index("ix_tool_calls__session_id", "session_id"),
    )


class FileOperation(PartSubtype):
    """One file that a tool touched: operation is read, write, edit or delete."""

    __tablename__ = "file_operations"

    file_op_id: Mapped[str] = mapped_column(primary_key=True, sort_order=-4)
    file_path: Mapped[str]
    operation: Mapped[str]
    git_branch: Mapped[str | None]
    git_commit: Mapped[str | None]
    git_diff: Mapped[str | None]
    file_size: Mapped[int | None]

    __table_args__ = (
        Index("idx_file_ops_path", "file_path", postgresql_using="hash"),
        Index("ix_file_operations__session_id", "session_id"),
    )


class ErrorEvent(PartSubtype):
    """One error, of a tool or of a model call."""

    __tablename__ = "errors"

    error_id: Mapped[str] = mapped_column(primary_key=True, sort_order=-4)
    error_data: Mapped[dict[str, Any]]
    error_message: Mapped[str | None]
    error_category: Mapped[str | None]
    error_severity: Mapped[str | None]
    is_retryable: Mapped[bool | None] = mapped_column(Boolean, server_default=false())

    __table_args__ = (
        Index("idx_errors_category", "error_category", postgresql_using="hash"),
        Index("ix_errors__session_id", "session_id"),
    )


class ThinkingBlock(PartSubtype):
    """One block of thinking; its text is the part's content.

    Attributes:
        thinking_tokens: As the provider counted them; NULL where only the step's sum is known.
        thinking_time_ms: From its start to its end, in milliseconds.
    """

    __tablename__ = "thinking_blocks"

    thinking_id: Mapped[str] = mapped_column(primary_key=True, sort_order=-4)
    thinking_tokens: Mapped[int | None]
    thinking_time_ms: Mapped[float | None] = mapped_column(Double)


class TextMessage(PartSubtype):
    """One text of a user, an assistant or the system; `message_id` is the text part's own id, as the plan has it."""

    __tablename__ = "text_messages"

    message_id: Mapped[str] = mapped_column(primary_key=True, sort_order=-4)
    role: Mapped[str]
    content: Mapped[str]
    token_count: Mapped[int | None]

    __table_args__ = (Index("ix_text_messages__session_id", "session_id"),)


class StepEvent(PartSubtype):
    """The start or the finish of a step; a finish is one model call with its usage.

    Attributes:
        event: start or finish.
        step_cost_usd: The call at list price; NULL where it has no price.
        price_id: The row of the price book that priced it.
        paid_cost_usd: The call out of pocket: its list price after the user's adjustments, 0 where calls are not metered; NULL if unknown.
        model_id: Its message's: with `called_at` what it is priced by, without a join of text ids. NULL where the message is not stored.
        called_at: When the call was made: its message's `created_at`.
    """

    __tablename__ = "step_events"

    step_id: Mapped[str] = mapped_column(primary_key=True, sort_order=-4)
    message_id: Mapped[str | None]
    event: Mapped[str]
    reason: Mapped[str | None]
    snapshot: Mapped[str | None]
    input_tokens: Mapped[int | None]
    cache_read_tokens: Mapped[int | None]
    cache_write_tokens: Mapped[int | None]
    output_tokens: Mapped[int | None]
    reasoning_tokens: Mapped[int | None]
    reported_cost_usd: Mapped[Decimal | None]
    step_cost_usd: Mapped[Decimal | None]
    price_id: Mapped[str | None]
    paid_cost_usd: Mapped[Decimal | None]
    model_id: Mapped[str | None] = mapped_column(info=WRITE_ONCE)
    called_at: Mapped[datetime | None] = mapped_column(info=WRITE_ONCE)

    __table_args__ = (Index("ix_step_events__session_id", "session_id"),)


class Patch(PartSubtype):
    """The files that a step changed."""

    __tablename__ = "patches"

    patch_id: Mapped[str] = mapped_column(primary_key=True, sort_order=-4)
    git_commit: Mapped[str | None]
    files: Mapped[list[Any] | None] = mapped_column(Json())


class Attachment(PartSubtype):
    """A file that the user attached; size in bytes."""

    __tablename__ = "attachments"

    attachment_id: Mapped[str] = mapped_column(primary_key=True, sort_order=-4)
    mime: Mapped[str | None]
    file_name: Mapped[str | None]
    size: Mapped[int | None]


class Compaction(PartSubtype):
    """A point where the context was compacted."""

    __tablename__ = "compactions"

    compaction_id: Mapped[str] = mapped_column(primary_key=True, sort_order=-4)
    auto: Mapped[bool | None] = mapped_column(Boolean)
    overflow: Mapped[bool | None] = mapped_column(Boolean)


PART_SUBTYPES: tuple[type[PartSubtype], ...] = (
    ToolCall,
    FileOperation,
    ErrorEvent,
    ThinkingBlock,
    TextMessage,
    StepEvent,
    Patch,
    Attachment,
    Compaction,
)
