"""The rows that mapping makes, one tuple type per table; the field names are the columns that an import writes.

Columns that the program computes in SQL (costs, copies) are not among them. Pure: named after the tables, free of the models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from decimal import Decimal


class SessionRow(NamedTuple):
    """A row of `sessions`."""

    session_id: str
    project_id: str | None
    parent_session_id: str | None
    model_id: str | None
    title: str | None
    directory: str | None
    opencode_version: str | None
    created_at: datetime | None
    updated_at: datetime | None


class ModelRow(NamedTuple):
    """A row of `models`."""

    model_id: str
    model_name: str
    vendor: str


class MessageRow(NamedTuple):
    """A row of `messages`."""

    message_id: str
    session_id: str
    parent_message_id: str | None
    role: str
    agent: str | None
    model_id: str | None
    created_at: datetime | None
    completed_at: datetime | None
    finish: str | None
    error_name: str | None
    input_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    call_count: int
    reported_cost_usd: Decimal | None
    summary_title: str | None
    added_chars: int


class PartRow(NamedTuple):
    """A row of `parts`; JSON columns are JSON text here and below."""

    part_id: str
    session_id: str
    message_id: str
    part_type: str
    sequence_number: int
    created_at: datetime | None
    ended_at: datetime | None
    content: str | None
    written_chars: int | None
    extra: str | None


class ToolCallRow(NamedTuple):
    """A row of `tool_calls`."""

    tool_call_id: str
    part_id: str
    session_id: str
    created_at: datetime | None
    tool_name: str
    tool_args: str | None
    tool_result: str | None
    execution_time_ms: float | None
    status: str | None
    call_id: str | None
    child_session_id: str | None
    skill_name: str | None
    mcp_server: str | None


class FileOperationRow(NamedTuple):
    """A row of `file_operations`."""

    file_op_id: str
    part_id: str
    session_id: str
    created_at: datetime | None
    file_path: str
    operation: str
    git_diff: str | None
    file_size: int | None


class ErrorRow(NamedTuple):
    """A row of `errors`."""

    error_id: str
    part_id: str
    session_id: str
    created_at: datetime | None
    error_data: str
    error_message: str | None
    error_category: str
    error_severity: str
    is_retryable: bool


class ThinkingRow(NamedTuple):
    """A row of `thinking_blocks`."""

    thinking_id: str
    part_id: str
    session_id: str
    created_at: datetime | None
    thinking_tokens: int | None
    thinking_time_ms: float | None


class TextRow(NamedTuple):
    """A row of `text_messages`."""

    message_id: str
    part_id: str
    session_id: str
    created_at: datetime | None
    role: str
    content: str


class StepRow(NamedTuple):
    """A row of `step_events`."""

    step_id: str
    part_id: str
    session_id: str
    created_at: datetime | None
    message_id: str
    event: str
    reason: str | None
    snapshot: str | None
    input_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    reported_cost_usd: Decimal | None
    model_id: str | None
    called_at: datetime | None


class PatchRow(NamedTuple):
    """A row of `patches`."""

    patch_id: str
    part_id: str
    session_id: str
    created_at: datetime | None
    git_commit: str | None
    files: str | None


class AttachmentRow(NamedTuple):
    """A row of `attachments`."""

    attachment_id: str
    part_id: str
    session_id: str
    created_at: datetime | None
    mime: str | None
    file_name: str | None
    size: int | None


class CompactionRow(NamedTuple):
    """A row of `compactions`."""

    compaction_id: str
    part_id: str
    session_id: str
    created_at: datetime | None
    auto: bool | None
    overflow: bool | None


class OmittedTextRow(NamedTuple):
    """A row of `omitted_texts`."""

    part_id: str
    session_id: str
    written_chars: int
    output_chars: int


ROW_TYPES: dict[str, type[Sequence[object]]] = {
    "models": ModelRow,
    "sessions": SessionRow,
    "messages": MessageRow,
    "parts": PartRow,
    "tool_calls": ToolCallRow,
    "file_operations": FileOperationRow,
    "errors": ErrorRow,
    "thinking_blocks": ThinkingRow,
    "text_messages": TextRow,
    "step_events": StepRow,
    "patches": PatchRow,
    "attachments": AttachmentRow,
    "compactions": CompactionRow,
    "omitted_texts": OmittedTextRow,
}
"""Table -> type of its rows, parents before children: the order of loading."""
