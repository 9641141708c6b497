"""What kind of error, and which files a tool touched. Pure: no input, no output."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

# OpenCode's own error names (`packages/opencode/src/session/message-v2.ts`) -> category.
_CATEGORY_BY_NAME = {
    "ProviderAuthError": "auth",
    "MessageAbortedError": "aborted",
    "MessageOutputLengthError": "output_length",
    "ContextOverflowError": "context_overflow",
    "StructuredOutputError": "parse_error",
}
# HTTP status -> category, for an APIError; 529 is Anthropic's "overloaded".
_CATEGORY_BY_STATUS = {
    401: "auth",
    403: "permission",
    404: "not_found",
    408: "timeout",
    413: "context_overflow",
    422: "validation",
    429: "rate_limit",
}
# In this order: the first pattern that is found decides.
_CATEGORY_BY_TEXT = tuple(
    (category, re.compile(pattern, re.IGNORECASE))
    for category, pattern in (
        ("aborted", r"\babort|\bcancell?ed\b|\binterrupted\b|rejected permission|user dismissed"),
        ("timeout", r"\btim(ed|e) ?-?out\b|deadline exceeded|ETIMEDOUT"),
        ("rate_limit", r"rate.?limit|too many requests|quota"),
        ("context_overflow", r"context (length|window)|prompt is too long|maximum context|too many tokens"),
        ("auth", r"api.?key|unauthori[sz]ed|authenticat|credential|invalid token"),
        ("permission", r"permission denied|EACCES|EPERM|not permitted|forbidden|not allowed|access denied"),
        (
            "file_error",
            r"oldString|old_string|file (has been|was) modified|must read|EISDIR|ENOTDIR|is a directory|binary file",
        ),
        ("not_found", r"not found|no such (file|directory)|ENOENT|does not exist|cannot find"),
        (
            "network",
            r"network|socket|ECONN|ENOTFOUND|EAI_AGAIN|connection (was )?(closed|reset|refused)|fetch failed|DNS|certificate",
        ),
        ("resource", r"out of memory|ENOMEM|ENOSPC|EMFILE|no space left|disk full"),
        ("server_error", r"overloaded|internal server error|bad gateway|service unavailable|\b50[0234]\b"),
        ("parse_error", r"\bparse|\bsyntax ?error|unexpected token|invalid json|malformed"),
        ("validation", r"invalid|validat|expected|required|schema|unsupported|unrecognized"),
        ("tool_error", r"exit code|command failed|non-?zero|failed"),
    )
)
_SEVERITY = {
    "auth": "critical",
    "resource": "critical",
    "context_overflow": "high",
    "output_length": "high",
    "server_error": "high",
    "api_error": "high",
    "rate_limit": "medium",
    "network": "medium",
    "timeout": "medium",
    "permission": "medium",
    "parse_error": "medium",
    "validation": "medium",
    "tool_error": "medium",
    "unknown": "medium",
    "aborted": "low",
    "not_found": "low",
    "file_error": "low",
}
_RETRYABLE = frozenset({"timeout", "rate_limit", "network", "server_error"})

# OpenCode's tools that name one file in their input -> what they do to it.
_OPERATION_BY_TOOL = {
    "read": "read",
    "edit": "edit",
    "multiedit": "edit",
    "write": "write",
    "delete": "delete",
}
_PATCH_TOOLS = frozenset({"patch", "apply_patch"})
_PATCH_FILE = re.compile(r"^\*\*\* (Add|Update|Delete) File: (.+)$", re.MULTILINE)
_PATCH_OPERATION = {"Add": "write", "Update": "edit", "Delete": "delete"}


class ErrorClass(NamedTuple):
    """The plan's three judgements of an error; severity is low, medium, high or critical."""

    category: str
    severity: str
    retryable: bool


class TouchedFile(NamedTuple):
    """One file that a tool call touched; size in bytes of what was written, where the call says it."""

    path: str
    operation: str
    diff: str | None
    size: int | None


def classify_error(name: str | None, message: str, *, status: int | None = None, retryable: bool | None = None) -> ErrorClass:
    """Judge an error.

    Args:
        name: OpenCode's error name; None for a tool's error, which has only a text.
        message: The error's text.
        status: The HTTP status of a failed call.
        retryable: OpenCode's own word, which wins over ours.
    """
    category = _category(name, message, status)
    return ErrorClass(category, _SEVERITY[category], (category in _RETRYABLE) if retryable is None else retryable)


def _category(name: str | None, message: str, status: int | None) -> str:
    if name in _CATEGORY_BY_NAME:
        return _CATEGORY_BY_NAME[name]
    if status in _CATEGORY_BY_STATUS:
        return _CATEGORY_BY_STATUS[status]
    if status is not None and status >= 500:  # noqa: PLR2004 - HTTP's class of server errors
        return "server_error"
    for category, pattern in _CATEGORY_BY_TEXT:
        if pattern.search(message):
            return category
    if name == "APIError":
        return "api_error"
    return "tool_error" if name is None and message else "unknown"


def touched_files(tool: str, tool_input: Mapping[str, Any], metadata: Mapping[str, Any]) -> list[TouchedFile]:
    """List the files that a tool call read, wrote, edited or deleted.

    Args:
        tool: The tool's name.
        tool_input: What the model passed to it.
        metadata: What the tool left about its work, with a diff where there is one.
    """
    diff = metadata.get("diff")
    diff = diff if isinstance(diff, str) else None
    if tool in _PATCH_TOOLS:
        text = tool_input.get("patchText") or tool_input.get("patch") or tool_input.get("input")
        if not isinstance(text, str):
            return []
        return [TouchedFile(path.strip(), _PATCH_OPERATION[verb], diff, None) for verb, path in _PATCH_FILE.findall(text)]
    operation = _OPERATION_BY_TOOL.get(tool)
    path = tool_input.get("filePath") or tool_input.get("path")
    if operation is None or not isinstance(path, str):
        return []
    content = tool_input.get("content")
    size = len(content.encode()) if operation == "write" and isinstance(content, str) else None
    return [TouchedFile(path, operation, diff, size)]
