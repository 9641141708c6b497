"""What each exported column may tell a stranger: the rule by which an export is redacted.

Every column is named here. One that is not, such as a new one, cannot be exported, so that nothing private leaves by being forgotten.
"""

from __future__ import annotations

import hashlib
from enum import Enum


class Privacy(Enum):
    """What becomes of a column in a redacted export.

    Attributes:
        PUBLIC: It stays: ids that OpenCode made up, times, counts, money, names of models, agents and tools.
        PATH: A hash takes its place: equal paths stay equal, and a name cannot be read.
        CONTENT: It is left out: prompts, answers, code, the output of tools, and what is made of them, such as titles.
    """

    PUBLIC = "public"
    PATH = "path"
    CONTENT = "content"


_PATHS = {
    # A project's id is no secret of OpenCode's making: up to 0.5 its directory's name, later the first commit of its repository.
    "projects": ("project_id", "worktree", "name"),
    "sessions": ("project_id", "directory"),
    "file_operations": ("file_path", "git_branch", "git_commit"),
    "attachments": ("file_name",),
    "patches": ("git_commit",),
    "step_events": ("snapshot",),
}
_CONTENT = {
    "sessions": ("title",),
    "messages": ("summary_title",),
    "parts": ("content", "extra"),
    "tool_calls": ("tool_args", "tool_result"),
    "file_operations": ("git_diff",),
    "errors": ("error_data", "error_message"),
    "text_messages": ("content",),
    "patches": ("files",),
}
_TOKENS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
_OF_PART = ("part_id", "session_id", "created_at")
_PUBLIC = {
    "projects": ("vcs", "created_at", "updated_at"),
    "models": ("model_id", "model_name", "vendor"),
    "sessions": ("session_id", "parent_session_id", "model_id", "opencode_version", "created_at", "updated_at"),
    "messages": (
        *("message_id", "session_id", "parent_message_id", "role", "agent", "model_id", "created_at", "completed_at", "finish"),
        *("error_name", *_TOKENS, "call_count", "message_cost_usd", "reported_cost_usd", "paid_cost_usd", "cost_basis"),
        *("copied_from", "added_chars"),
    ),
    "parts": (
        *("part_id", "session_id", "message_id", "part_type", "sequence_number", "created_at", "ended_at", "written_chars"),
        "part_cost_usd",
    ),
    "tool_calls": (
        "tool_call_id",
        *_OF_PART,
        "tool_name",
        "skill_name",
        "mcp_server",
        "execution_time_ms",
        "status",
        "call_id",
        "child_session_id",
    ),
    "file_operations": ("file_op_id", *_OF_PART, "operation", "file_size"),
    "errors": ("error_id", *_OF_PART, "error_category", "error_severity", "is_retryable"),
    "thinking_blocks": ("thinking_id", *_OF_PART, "thinking_tokens", "thinking_time_ms"),
    "text_messages": ("message_id", *_OF_PART, "role", "token_count"),
    "step_events": (
        *("step_id", *_OF_PART, "message_id", "event", "reason", *_TOKENS, "reported_cost_usd", "step_cost_usd", "price_id"),
        *("paid_cost_usd", "model_id", "called_at"),
    ),
    "patches": ("patch_id", *_OF_PART),
    "attachments": ("attachment_id", *_OF_PART, "mime", "size"),
    "compactions": ("compaction_id", *_OF_PART, "auto", "overflow"),
    "session_stats": (
        *("session_id", "message_count", "part_count", "tool_call_count", "error_count", "file_operation_count", "duration_ms"),
        "total_cost_usd",
    ),
}

PRIVACY: dict[str, dict[str, Privacy]] = {
    table: {
        **dict.fromkeys(public, Privacy.PUBLIC),
        **dict.fromkeys(_PATHS.get(table, ()), Privacy.PATH),
        **dict.fromkeys(_CONTENT.get(table, ()), Privacy.CONTENT),
    }
    for table, public in _PUBLIC.items()
}
"""For each table that can be exported, what each of its columns tells."""


def hashed(text: str) -> str:
    """Return what stands for a path or a name where these may not be told; equal ones stay equal, here and in exported tables.

    Who can guess a path can check the guess, so this hides names and is no secret.
    """
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
