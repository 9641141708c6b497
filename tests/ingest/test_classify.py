from __future__ import annotations

from typing import Any

import pytest

from opencode_monitor.ingest.classify import ErrorClass, TouchedFile, classify_error, touched_files


class TestClassifyError:
    @pytest.mark.parametrize(
        ("name", "message", "expected"),
        [
            ("ProviderAuthError", "whatever", ErrorClass("auth", "critical", retryable=False)),
            ("MessageAbortedError", "timed out", ErrorClass("aborted", "low", retryable=False)),
            ("MessageOutputLengthError", "", ErrorClass("output_length", "high", retryable=False)),
            ("ContextOverflowError", "", ErrorClass("context_overflow", "high", retryable=False)),
            ("StructuredOutputError", "", ErrorClass("parse_error", "medium", retryable=False)),
            ("UnknownError", "ECONNRESET", ErrorClass("network", "medium", retryable=True)),
            ("UnknownError", "no idea", ErrorClass("unknown", "medium", retryable=False)),
            ("APIError", "no idea", ErrorClass("api_error", "high", retryable=False)),
            (None, "Timed out after 120000ms", ErrorClass("timeout", "medium", retryable=True)),
            (None, "Error: oldString not found in content", ErrorClass("file_error", "low", retryable=False)),
            (None, "Error: File not found: /a", ErrorClass("not_found", "low", retryable=False)),
            (None, "EACCES: permission denied", ErrorClass("permission", "medium", retryable=False)),
            (None, "The user rejected permission to use this tool", ErrorClass("aborted", "low", retryable=False)),
            (None, "rate limit reached", ErrorClass("rate_limit", "medium", retryable=True)),
            (None, "prompt is too long", ErrorClass("context_overflow", "high", retryable=False)),
            (None, "ENOSPC: no space left on device", ErrorClass("resource", "critical", retryable=False)),
            (None, "502 Bad Gateway", ErrorClass("server_error", "high", retryable=True)),
            (None, "SyntaxError: x", ErrorClass("parse_error", "medium", retryable=False)),
            (None, "invalid arguments", ErrorClass("validation", "medium", retryable=False)),
            (None, "Command failed", ErrorClass("tool_error", "medium", retryable=False)),
            (None, "???", ErrorClass("tool_error", "medium", retryable=False)),
            (None, "", ErrorClass("unknown", "medium", retryable=False)),
        ],
    )
    def test_classify_error_name_and_text_decide(self, name: str | None, message: str, expected: ErrorClass) -> None:
        assert classify_error(name, message) == expected

    @pytest.mark.parametrize(
        ("status", "category"),
        [
            (401, "auth"),
            (403, "permission"),
            (404, "not_found"),
            (408, "timeout"),
            (413, "context_overflow"),
            (422, "validation"),
            (429, "rate_limit"),
            (500, "server_error"),
            (529, "server_error"),
            (400, "api_error"),
        ],
    )
    def test_classify_error_status_decides_before_the_text(self, status: int, category: str) -> None:
        assert classify_error("APIError", "???", status=status).category == category

    def test_classify_error_opencodes_own_word_wins(self) -> None:
        assert classify_error("APIError", "", status=429, retryable=False) == ErrorClass("rate_limit", "medium", retryable=False)
        assert classify_error("APIError", "", status=400, retryable=True) == ErrorClass("api_error", "high", retryable=True)


class TestTouchedFiles:
    @pytest.mark.parametrize(
        ("tool", "tool_input", "expected"),
        [
            ("read", {"filePath": "/a.py"}, [TouchedFile("/a.py", "read", "@@", None)]),
            ("edit", {"filePath": "/a.py"}, [TouchedFile("/a.py", "edit", "@@", None)]),
            ("multiedit", {"path": "/a.py"}, [TouchedFile("/a.py", "edit", "@@", None)]),
            ("write", {"filePath": "/a.py", "content": "é"}, [TouchedFile("/a.py", "write", "@@", 2)]),
            ("delete", {"path": "/a.py"}, [TouchedFile("/a.py", "delete", "@@", None)]),
            ("read", {"filePath": 7}, []),
            ("read", {}, []),
            ("grep", {"path": "/src"}, []),
            ("bash", {"command": "rm /a.py"}, []),
            ("patch", {"patchText": 7}, []),
            (
                "apply_patch",
                {"input": "*** Begin Patch\n*** Add File: a\n+x\n*** Update File: b c\n*** Delete File: d\n*** End Patch"},
                [TouchedFile("a", "write", "@@", None), TouchedFile("b c", "edit", "@@", None), TouchedFile("d", "delete", "@@", None)],
            ),
        ],
    )
    def test_touched_files_tool_and_input_decide(self, tool: str, tool_input: dict[str, Any], expected: list[TouchedFile]) -> None:
        assert touched_files(tool, tool_input, {"diff": "@@"}) == expected

    def test_touched_files_diff_that_is_no_text_is_left_out(self) -> None:
        assert touched_files("edit", {"filePath": "/a"}, {"diff": 1}) == [TouchedFile("/a", "edit", None, None)]
