"""One placed part to its core row and the rows of its own tables. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from opencode_monitor.ingest.classify import ErrorClass, classify_error, classify_tool_error
from opencode_monitor.ingest.file_operations import touched_files
from opencode_monitor.ingest.placed import STAND_IN, model_id_of
from opencode_monitor.ingest.rows import (
    AttachmentRow,
    CompactionRow,
    ErrorRow,
    FileOperationRow,
    PartRow,
    PatchRow,
    StepRow,
    TextRow,
    ThinkingRow,
    ToolCallRow,
)
from opencode_monitor.ingest.tools import child_session, has_timed_out, skill_name, stated_server
from opencode_monitor.ingest.values import as_boolean, as_json, as_milliseconds, as_object, as_text, as_time, error_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from opencode_monitor.ingest.placed import PlacedPart

PART_TYPE = {
    "text": "text",
    "reasoning": "thinking",
    "tool": "tool_call",
    "step-start": "step_start",
    "step-finish": "step_finish",
    "file": "attachment",
}
"""OpenCode's part type -> ours; every other keeps its name."""

_TOOL_STATUS = {"completed": "success"}
_ID_KEYS = frozenset({"id", "sessionID", "messageID", "type"})


class Setting(NamedTuple):
    """What a session's parts do not say themselves.

    Attributes:
        directory: Where the session works.
        file_tools: Tools of other makers that work on files -> what they do to them.
    """

    directory: str | None = None
    file_tools: Mapping[str, str] = {}


def add_part(rows: dict[str, list[Sequence[Any]]], part: PlacedPart, sequence_number: int, setting: Setting) -> None:
    """Add the core row, and the rows of the part's own tables."""
    record = part.record
    created_at = as_time(part.created_ms)
    common = (record.part_id, record.session_id, created_at)
    data = record.data
    part_type = PART_TYPE.get(record.part_type, record.part_type)
    content: str | None = None
    written_chars: int | None = None
    extra: dict[str, Any] = {}
    if part_type == "text":
        text = as_text(data.get("text")) or ""
        rows["text_messages"].append(TextRow(record.part_id, *common, part.message.role, text))
        written_chars = len(text) if part.message.role == "assistant" else None
        extra = {key: data[key] for key in ("synthetic", "ignored") if data.get(key)}
    elif part_type == "thinking":
        content = as_text(data.get("text"))
        written_chars = len(content or "")
        rows["thinking_blocks"].append(ThinkingRow(record.part_id, *common, part.thinking_tokens, part.duration_ms))
    elif part_type == "tool_call":
        written_chars = _add_tool_call(rows, part, common, setting)
        extra = _tool_extra(as_object(data.get("state")))
    elif part_type in ("step_start", "step_finish"):
        rows["step_events"].append(_step_row(part, common))
    elif part_type == "patch":
        files = data.get("files")
        rows["patches"].append(PatchRow(record.part_id, *common, as_text(data.get("hash")), None if files is None else as_json(files)))
    elif part_type == "attachment":
        rows["attachments"].append(_attachment_row(part, common))
    elif part_type == "compaction":
        rows["compactions"].append(CompactionRow(record.part_id, *common, as_boolean(data.get("auto")), as_boolean(data.get("overflow"))))
    elif part_type == "error":
        rows["errors"].append(_call_error_row(record.data, common))
    else:
        content = as_text(data.get("prompt"))
        extra = {key: value for key, value in data.items() if key not in _ID_KEYS and key != "prompt"}
        if part_type == "retry" and isinstance(data.get("error"), dict):
            rows["errors"].append(_call_error_row(data["error"], common))
    rows["parts"].append(
        PartRow(
            part_id=record.part_id,
            session_id=record.session_id,
            message_id=record.message_id,
            part_type=part_type,
            sequence_number=sequence_number,
            created_at=created_at,
            ended_at=as_time(part.ended_ms),
            content=content,
            written_chars=written_chars,
            extra=as_json(extra) if extra else None,
        )
    )


def _add_tool_call(
    rows: dict[str, list[Sequence[Any]]], part: PlacedPart, common: tuple[str, str, datetime | None], setting: Setting
) -> int:
    """Add a tool call, the files it touched and the error it ended in; return how much of it the model wrote."""
    record = part.record
    tool = as_text(record.data.get("tool")) or "unknown"
    state = as_object(record.data.get("state"))
    tool_input = state.get("input")
    arguments = as_json(tool_input) if tool_input is not None else as_text(state.get("raw")) and as_json(state.get("raw"))
    tool_input = as_object(tool_input)
    metadata = as_object(state.get("metadata"))
    status = as_text(state.get("status"))
    output = as_text(state.get("output"))
    error = as_text(state.get("error"))
    kind = as_text(state.get("errorType"))
    judged = classify_tool_error(error or "", name=kind) if status == "error" else None
    timed_out = judged.category == "timeout" if judged else has_timed_out(tool, metadata, output)
    rows["tool_calls"].append(
        ToolCallRow(
            record.part_id,
            *common,
            tool_name=tool,
            tool_args=arguments,
            tool_result=output,
            execution_time_ms=part.duration_ms,
            status="timeout" if timed_out else _TOOL_STATUS.get(status or "", status),
            call_id=as_text(record.data.get("callID")),
            child_session_id=child_session(tool, tool_input, metadata, output or error),
            skill_name=skill_name(tool, tool_input, metadata),
            mcp_server=stated_server(tool, metadata),
        )
    )
    touched = touched_files(tool, tool_input, metadata, directory=setting.directory, declared=setting.file_tools)
    for number, file in enumerate(touched):
        file_op_id = record.part_id if number == 0 else f"{record.part_id}:{number}"
        rows["file_operations"].append(FileOperationRow(file_op_id, *common, file.path, file.operation, file.diff, file.size))
    if judged:
        stored = {"message": error} if kind is None else {"name": kind, "message": error}
        rows["errors"].append(_error_row(stored, error, judged, common))
    return len(arguments or "")


def _tool_extra(state: dict[str, Any]) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    if title := as_text(state.get("title")):
        extra["title"] = title
    # From then on OpenCode sends the call without its output; no cost of its own.
    if pruned_at_ms := as_milliseconds(as_object(state.get("time")).get("compacted")):
        extra["pruned_at_ms"] = pruned_at_ms
    # A command that ends badly is no error to OpenCode, nor here: it is an answer that the model asked for.
    exit_code = as_object(state.get("metadata")).get("exit")
    if exit_code and isinstance(exit_code, int):
        extra["exit_code"] = exit_code
    return extra


def _step_row(part: PlacedPart, common: tuple[str, str, datetime | None]) -> StepRow:
    data, buckets = part.record.data, part.buckets
    return StepRow(
        part.record.part_id,
        *common,
        message_id=part.record.message_id,
        event="start" if part.record.part_type == "step-start" else "finish",
        reason=as_text(data.get("reason")),
        snapshot=as_text(data.get("snapshot")),
        input_tokens=buckets.input_tokens if buckets else None,
        cache_read_tokens=buckets.cache_read_tokens if buckets else None,
        cache_write_tokens=buckets.cache_write_tokens if buckets else None,
        output_tokens=buckets.output_tokens if buckets else None,
        reasoning_tokens=buckets.reasoning_tokens if buckets else None,
        reported_cost_usd=part.reported_cost,
        model_id=model_id_of(part.message),
        # The time of a stand-in is not the message's, which may be stored.
        called_at=None if part.message.role == STAND_IN else as_time(part.message.created_ms),
    )


def _attachment_row(part: PlacedPart, common: tuple[str, str, datetime | None]) -> AttachmentRow:
    data = part.record.data
    url = as_text(data.get("url")) or ""
    # A data: URL holds the file itself in base64, four characters for three bytes; it is not stored a second time.
    encoded = url.partition(",")[2] if url.startswith("data:") else ""
    size = len(encoded) * 3 // 4 - encoded[-2:].count("=") if encoded else None
    return AttachmentRow(part.record.part_id, *common, as_text(data.get("mime")), as_text(data.get("filename")), size)


def _call_error_row(error: dict[str, Any], common: tuple[str, str, datetime | None]) -> ErrorRow:
    data = as_object(error.get("data"))
    message = as_text(data.get("message"))
    status = data.get("statusCode")
    judged = classify_error(
        error_name(error),
        message or "",
        status=status if isinstance(status, int) else None,
        retryable=as_boolean(data.get("isRetryable")),
        body=as_text(data.get("responseBody")),
    )
    return _error_row(error, message, judged, common)


def _error_row(error: dict[str, Any], message: str | None, judged: ErrorClass, common: tuple[str, str, datetime | None]) -> ErrorRow:
    return ErrorRow(common[0], *common, as_json(error), message, judged.category, judged.severity, judged.retryable)
