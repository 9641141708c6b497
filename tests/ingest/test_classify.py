from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencode_monitor.ingest.classify import CATEGORIES, ErrorClass, classify_error, classify_tool_error

# What programs say when they fail: OpenCode's tools, MCP, Node and Bun, providers and gateways; one JSON object a line.
TEXTS = [json.loads(line) for line in (Path(__file__).parents[1] / "fixtures" / "errors.jsonl").read_text("utf-8").splitlines()]
SEVERITIES = ("low", "medium", "high", "critical")


class TestClassifyError:
    @pytest.mark.parametrize("error", [text for text in TEXTS if text["of"] == "call"], ids=lambda error: error["text"][:60] or "(empty)")
    def test_classify_error_of_a_call_has_its_category(self, error: dict[str, Any]) -> None:
        found = classify_error(error.get("name"), error["text"], status=error.get("status"), body=error.get("body"))

        assert found.category == error["category"]

    @pytest.mark.parametrize(
        ("name", "message", "expected"),
        [
            ("ProviderAuthError", "whatever", ErrorClass("auth", "critical", retryable=False)),
            ("UnknownError", "Your credit balance is too low", ErrorClass("resource", "critical", retryable=False)),
            ("ContextOverflowError", "", ErrorClass("context_overflow", "high", retryable=False)),
            ("MessageOutputLengthError", "", ErrorClass("output_length", "high", retryable=False)),
            ("provider.internal", "", ErrorClass("server_error", "high", retryable=True)),
            ("provider.content-filter", "", ErrorClass("api_error", "high", retryable=False)),
            ("provider.rate-limit", "", ErrorClass("rate_limit", "medium", retryable=True)),
            ("UnknownError", "ECONNRESET", ErrorClass("network", "medium", retryable=True)),
            ("provider.timeout", "", ErrorClass("timeout", "medium", retryable=True)),
            ("permission.rejected", "", ErrorClass("permission", "medium", retryable=False)),
            ("StructuredOutputError", "", ErrorClass("parse_error", "medium", retryable=False)),
            ("provider.invalid-request", "", ErrorClass("validation", "medium", retryable=False)),
            ("UnknownError", "no idea", ErrorClass("unknown", "medium", retryable=False)),
            ("MessageAbortedError", "timed out", ErrorClass("aborted", "low", retryable=False)),
            ("ProviderModelNotFoundError", "", ErrorClass("not_found", "low", retryable=False)),
        ],
    )
    def test_classify_error_category_decides_severity_and_retry(self, name: str, message: str, expected: ErrorClass) -> None:
        assert classify_error(name, message) == expected

    @pytest.mark.parametrize(
        ("status", "category"),
        [
            (400, "api_error"),
            (401, "auth"),
            (402, "resource"),
            (403, "permission"),
            (404, "not_found"),
            (408, "timeout"),
            (413, "context_overflow"),
            (422, "validation"),
            (429, "rate_limit"),
            (499, "aborted"),
            (500, "server_error"),
            (504, "timeout"),
            (524, "timeout"),
            (529, "server_error"),
            (599, "server_error"),
            (None, "api_error"),
        ],
    )
    def test_classify_error_status_decides_where_the_text_says_nothing(self, status: int | None, category: str) -> None:
        assert classify_error("APIError", "???", status=status).category == category

    def test_classify_error_opencodes_own_word_wins(self) -> None:
        assert classify_error("APIError", "", status=429, retryable=False) == ErrorClass("rate_limit", "medium", retryable=False)
        assert classify_error("APIError", "", status=400, retryable=True) == ErrorClass("api_error", "high", retryable=True)

    def test_classify_error_body_that_quotes_the_prompt_decides_nothing(self) -> None:
        body = json.dumps({"error": {"message": "you asked: fix the timeout, the invalid api key and the 500 of the rate limit"}})

        assert classify_error("APIError", "???", status=400, body=body).category == "api_error"


class TestClassifyToolError:
    @pytest.mark.parametrize("error", [text for text in TEXTS if text["of"] == "tool"], ids=lambda error: error["text"][:60] or "(empty)")
    def test_classify_tool_error_has_its_category(self, error: dict[str, Any]) -> None:
        assert classify_tool_error(error["text"]).category == error["category"]

    @pytest.mark.parametrize(
        ("name", "category"),
        [("permission.rejected", "permission"), ("aborted", "aborted"), ("tool.unknown", "validation"), (None, "network")],
    )
    def test_classify_tool_error_kind_of_2x_decides_before_the_text(self, name: str | None, category: str) -> None:
        assert classify_tool_error("fetch failed", name=name).category == category

    @pytest.mark.parametrize(
        ("message", "expected"),
        [
            ("Timed out after 120000ms", ErrorClass("timeout", "medium", retryable=True)),
            ("ENOSPC: no space left on device", ErrorClass("resource", "critical", retryable=False)),
            ("Error: oldString not found in content", ErrorClass("file_error", "low", retryable=False)),
            ("???", ErrorClass("tool_error", "medium", retryable=False)),
        ],
    )
    def test_classify_tool_error_category_decides_severity_and_retry(self, message: str, expected: ErrorClass) -> None:
        assert classify_tool_error(message) == expected

    @pytest.mark.parametrize(
        "place",
        [
            "/home/dev/invalid/api_key/timeout.py",
            "src/auth/forbidden/500.ts",
            "./network/socket.rs",
            "C:\\work\\unauthorized\\parse_error.cs",
            "https://example.org/rate-limit/503?q=permission",
        ],
    )
    def test_classify_tool_error_words_in_a_place_say_nothing(self, place: str) -> None:
        assert classify_tool_error(f"odd thing at {place}").category == "tool_error"
        assert classify_tool_error(f"odd thing at '{place}', line 502").category == "tool_error"

    @pytest.mark.parametrize("piece", ["a", "a/", "/ ", ".", "input length ", "must read ", "session ", "expected ", "\\", "a@", "://"])
    def test_classify_tool_error_text_of_any_length_is_read_at_once(self, piece: str) -> None:
        text = piece * 200_000

        assert classify_tool_error(text).category in CATEGORIES
        assert classify_error("APIError", text, body=text).category in CATEGORIES


def test_classify_every_category_but_the_derived_is_reached_by_a_text() -> None:
    assert {text["category"] for text in TEXTS} == CATEGORIES
    assert len(CATEGORIES) == 17


@given(st.text(), st.none() | st.text(), st.none() | st.integers(), st.none() | st.text())
def test_classify_anything_gives_one_of_the_categories(message: str, name: str | None, status: int | None, body: str | None) -> None:
    for found in (classify_error(name, message, status=status, body=body), classify_tool_error(message, name=name)):
        assert found.category in CATEGORIES
        assert found.severity in SEVERITIES
