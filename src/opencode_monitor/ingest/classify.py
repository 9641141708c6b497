"""What kind of error, how bad, and whether trying again may help. Pure: no input, no output.

What a program says of its own errors is trusted first: OpenCode's name of the error, the provider's code, the HTTP status. Only then is the
text read, by tables: the texts of OpenCode's own tools, then what the world says. Paths and addresses are taken out of a text before, as
`src/auth/invalid_token.py` is no error of authentication.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from opencode_monitor.ingest.error_texts import (
    CALL_RULES,
    CATEGORY_AT_LEAST,
    CATEGORY_BY_NAME,
    CATEGORY_BY_STATUS,
    CODES,
    TEXT_RULES,
    TOOL_RULES,
    VAGUE_CODES,
    Rules,
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
CATEGORIES = frozenset(_SEVERITY)
"""All that an error can be."""

_RETRYABLE = frozenset({"timeout", "rate_limit", "network", "server_error"})
_LEAST_SERVER_STATUS = 500

_CODE = re.compile(r"\b(?:" + "|".join(map(re.escape, sorted(CODES, key=len, reverse=True))) + r")\b")
_VAGUE_CODE = re.compile(r"\b(?:" + "|".join(map(re.escape, VAGUE_CODES)) + r")\b")

# A text is read so far: what went wrong stands at its beginning, and a tool may have put a whole page behind it.
_TEXT_CHARS = 2_000
_BODY_CHARS = 4_000
# Addresses and paths of any system, quoted or not. A lone slash between words, as in "I/O", is none.
_PLACE = re.compile(
    r"""
    \b[a-z][a-z0-9+.-]{1,20}://\S+
    | (?<![\w.@~-]) (?: (?:[A-Za-z]:|\.{0,2}) [/\\] [^\s'"`<>|,;)\]]+ | [\w.@~-]++ (?:[/\\][\w.@~-]++)+ [/\\]? )
    """,
    re.ASCII | re.VERBOSE,
)


class ErrorClass(NamedTuple):
    """The plan's three judgements of an error; severity is low, medium, high or critical."""

    category: str
    severity: str
    retryable: bool


def classify_error(
    name: str | None, message: str, *, status: int | None = None, retryable: bool | None = None, body: str | None = None
) -> ErrorClass:
    """Judge the error of a failed model call, or one that has a name.

    Args:
        name: OpenCode's error name; None for an error that is only a text.
        message: The error's text.
        status: The HTTP status of a failed call.
        retryable: OpenCode's own word, which wins over ours.
        body: The provider's answer; only its codes are looked at, as it may quote the prompt.
    """
    category = _call_category(name, message[:_TEXT_CHARS], status, (body or "")[:_BODY_CHARS])
    return ErrorClass(category, _SEVERITY[category], (category in _RETRYABLE) if retryable is None else retryable)


def classify_tool_error(message: str, *, name: str | None = None) -> ErrorClass:
    """Judge the error that a tool ended in.

    Args:
        message: The error's text.
        name: What OpenCode 2.x calls its kind; None before.
    """
    category = _tool_category(name, message[:_TEXT_CHARS])
    return ErrorClass(category, _SEVERITY[category], category in _RETRYABLE)


def _call_category(name: str | None, message: str, status: int | None, body: str) -> str:
    named = CATEGORY_BY_NAME.get(name or "")
    if named is not None:
        return named
    text = _PLACE.sub(" ", message)
    found = _by_text(CALL_RULES, text) or _by_code(_CODE, CODES, text) or _by_code(_CODE, CODES, body)
    if found is not None:
        return found
    if status in CATEGORY_BY_STATUS:
        return CATEGORY_BY_STATUS[status]
    if status is not None and status >= _LEAST_SERVER_STATUS:
        return "server_error"
    return (
        _by_code(_VAGUE_CODE, VAGUE_CODES, body)
        or _by_text(TEXT_RULES, text)
        or _by_code(_VAGUE_CODE, VAGUE_CODES, text)
        or CATEGORY_AT_LEAST.get(name or "", "unknown")
    )


def _tool_category(name: str | None, message: str) -> str:
    named = CATEGORY_BY_NAME.get(name or "")
    if named is not None:
        return named
    if not message.strip():
        return "unknown"
    text = _PLACE.sub(" ", message)
    return _by_code(_CODE, CODES, text) or _by_text(TOOL_RULES, text) or _by_text(TEXT_RULES, text) or "tool_error"


def _by_code(pattern: re.Pattern[str], codes: dict[str, str], text: str) -> str | None:
    found = pattern.search(text)
    return codes[found.group()] if found else None


def _by_text(rules: Rules, text: str) -> str | None:
    return next((category for category, pattern in rules if pattern.search(text)), None)
