from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencode_monitor.ingest.mapping import UNRECORDED_STEPS, SessionRows, map_session
from opencode_monitor.ingest.rows import ROW_TYPES
from opencode_monitor.sources.decode import decode_object
from opencode_monitor.sources.records import MessageRecord, PartRecord, SessionBundle, SessionRecord, SessionTotals, SourceIssue

CREATED_MS = 1_788_253_200_000  # 2026-09-01 09:00 UTC
CREATED = datetime(2026, 9, 1, 9, tzinfo=UTC)
TOKENS = {"input": 10, "output": 30, "reasoning": 20, "cache": {"read": 200, "write": 5}}
SUBTYPES = tuple(table for table, row in ROW_TYPES.items() if "part_id" in row._fields and table != "parts")  # type: ignore[attr-defined]


def session(version: str | None = "1.18.33", **fields: Any) -> SessionRecord:
    values: dict[str, Any] = {
        "project_id": "prj",
        "parent_session_id": None,
        "title": "One",
        "directory": "/home/dev",
        "created_ms": CREATED_MS,
        "updated_ms": CREATED_MS + 60_000,
    }
    return SessionRecord(session_id="ses_1", version=version, **values | fields)


def message(message_id: str = "msg_1", **fields: Any) -> MessageRecord:
    values: dict[str, Any] = {
        "parent_message_id": "msg_0",
        "role": "assistant",
        "agent": "build",
        "provider_id": "anthropic",
        "model_id": "claude-sonnet-4-5",
        "created_ms": CREATED_MS,
        "completed_ms": CREATED_MS + 5_000,
        "finish": "stop",
        "reported_cost": 0.25,
        "tokens": TOKENS,
        "error": None,
    }
    return MessageRecord(message_id=message_id, session_id="ses_1", **values | fields)


def part(part_type: str, part_id: str = "prt_1", message_id: str = "msg_1", **data: Any) -> PartRecord:
    return PartRecord(part_id=part_id, message_id=message_id, session_id="ses_1", part_type=part_type, data={"type": part_type, **data})


def map_records(*records: MessageRecord | PartRecord, of: SessionRecord | None = None) -> SessionRows:
    messages = [record for record in records if isinstance(record, MessageRecord)]
    parts = [record for record in records if isinstance(record, PartRecord)]
    return map_session(SessionBundle(of or session(), messages, parts, []))


def rows(out: SessionRows, table: str) -> list[dict[str, Any]]:
    return [row._asdict() for row in out.rows[table]]  # type: ignore[attr-defined] # every row type is a NamedTuple


def buckets(row: dict[str, Any]) -> tuple[int | None, ...]:
    return tuple(row[f"{name}_tokens"] for name in ("input", "cache_read", "cache_write", "output", "reasoning"))


class TestParts:
    @pytest.mark.parametrize(
        ("record", "part_type", "table", "expected"),
        [
            (part("text", text="hi"), "text", "text_messages", {"message_id": "prt_1", "role": "assistant", "content": "hi"}),
            (
                part("reasoning", text="hm", time={"start": CREATED_MS, "end": CREATED_MS + 70}),
                "thinking",
                "thinking_blocks",
                {"thinking_tokens": None, "thinking_time_ms": 70.0},
            ),
            (
                part("tool", tool="bash", callID="c1", state={"status": "running", "input": {"command": "ls"}}),
                "tool_call",
                "tool_calls",
                {"tool_name": "bash", "tool_args": '{"command":"ls"}', "status": "running", "call_id": "c1", "tool_result": None},
            ),
            (
                part("step-start", snapshot="abc"),
                "step_start",
                "step_events",
                {"event": "start", "snapshot": "abc", "message_id": "msg_1", "input_tokens": None},
            ),
            (
                part("step-finish", reason="stop", cost=0.5, tokens=TOKENS),
                "step_finish",
                "step_events",
                {"event": "finish", "reason": "stop", "input_tokens": 10, "reasoning_tokens": 20, "reported_cost_usd": Decimal("0.5")},
            ),
            (part("patch", hash="c0ffee", files=["/a"]), "patch", "patches", {"git_commit": "c0ffee", "files": '["/a"]'}),
            (
                part("file", mime="image/png", filename="a.png", url="data:image/png;base64,iVBORw0KGgo="),
                "attachment",
                "attachments",
                {"mime": "image/png", "file_name": "a.png", "size": 8},
            ),
            (part("file", mime="text/plain", url="file:///a"), "attachment", "attachments", {"file_name": None, "size": None}),
            (part("compaction", auto=True, overflow=False), "compaction", "compactions", {"auto": True, "overflow": False}),
            (
                part("retry", attempt=1, error={"name": "APIError", "data": {"message": "slow", "statusCode": 429, "isRetryable": True}}),
                "retry",
                "errors",
                {"error_message": "slow", "error_category": "rate_limit", "error_severity": "medium", "is_retryable": True},
            ),
        ],
        ids=lambda value: value.part_type if isinstance(value, PartRecord) else None,
    )
    def test_map_session_part_type_decides_the_table(
        self, record: PartRecord, part_type: str, table: str, expected: dict[str, Any]
    ) -> None:
        out = map_records(message(tokens=None, finish=None), record)

        (core,) = rows(out, "parts")
        assert (core["part_id"], core["part_type"], core["sequence_number"]) == ("prt_1", part_type, 1)
        (row,) = rows(out, table)
        assert {name: row[name] for name in expected} == expected
        assert (row["part_id"], row["session_id"], row["created_at"]) == ("prt_1", "ses_1", core["created_at"])
        assert [name for name in SUBTYPES if out.rows[name]] == [table]

    @pytest.mark.parametrize(
        ("record", "content", "extra"),
        [
            (part("subtask", prompt="look", agent="general", description="d"), "look", {"agent": "general", "description": "d"}),
            (part("agent", name="plan"), None, {"name": "plan"}),
            (part("snapshot", snapshot="abc"), None, {"snapshot": "abc"}),
            (part("retry", attempt=2), None, {"attempt": 2}),
            (part("hologram", depth=3, id="prt_1", sessionID="ses_1", messageID="msg_1"), None, {"depth": 3}),
        ],
        ids=lambda value: value.part_type if isinstance(value, PartRecord) else None,
    )
    def test_map_session_part_without_a_table_keeps_the_rest(self, record: PartRecord, content: str | None, extra: dict[str, Any]) -> None:
        out = map_records(message(tokens=None, finish=None), record)

        (core,) = rows(out, "parts")
        assert (core["part_type"], core["content"], json.loads(core["extra"])) == (record.part_type, content, extra)
        assert [name for name in SUBTYPES if out.rows[name]] == []

    @pytest.mark.parametrize(
        ("state", "status", "execution_ms", "category"),
        [
            ({"status": "completed", "time": {"start": CREATED_MS, "end": CREATED_MS + 12}}, "success", 12.0, None),
            ({"status": "error", "error": "Timed out", "time": {"start": CREATED_MS, "end": CREATED_MS + 9}}, "timeout", 9.0, "timeout"),
            ({"status": "error", "error": "permission denied"}, "error", None, "permission"),
            ({"status": "error"}, "error", None, "unknown"),
            ({"status": "pending", "raw": "{"}, "pending", None, None),
            ({"status": "running", "time": {"start": CREATED_MS + 9, "end": CREATED_MS}}, "running", None, None),
            ("completed", None, None, None),
        ],
    )
    def test_map_session_tool_state_decides_status_and_error(
        self, state: object, status: str | None, execution_ms: float | None, category: str | None
    ) -> None:
        out = map_records(message(tokens=None, finish=None), part("tool", tool="bash", state=state))

        (call,) = rows(out, "tool_calls")
        assert (call["status"], call["execution_time_ms"]) == (status, execution_ms)
        assert [row["error_category"] for row in rows(out, "errors")] == ([category] if category else [])

    @pytest.mark.parametrize(
        ("compacted", "extra"),
        [(CREATED_MS + 9, {"title": "x", "pruned_at_ms": CREATED_MS + 9}), (None, {"title": "x"}), ("soon", {"title": "x"})],
    )
    def test_map_session_pruned_output_keeps_its_time(self, compacted: object, extra: dict[str, Any]) -> None:
        state = {"status": "completed", "title": "x", "output": "long", "time": {"start": CREATED_MS, "compacted": compacted}}

        out = map_records(message(tokens=None, finish=None), part("tool", tool="read", state=state))

        (core,) = rows(out, "parts")
        assert json.loads(core["extra"]) == extra
        assert rows(out, "tool_calls")[0]["tool_result"] == "long"

    def test_map_session_tool_files_and_child_are_found(self) -> None:
        patch = "*** Add File: a\n*** Delete File: b\n"
        state = {"status": "completed", "input": {"patchText": patch}, "metadata": {"diff": "@@", "sessionId": "ses_child"}}
        out = map_records(message(tokens=None, finish=None), part("tool", tool="patch", state=state))

        assert [(row["file_op_id"], row["file_path"], row["operation"], row["git_diff"]) for row in rows(out, "file_operations")] == [
            ("prt_1", "/home/dev/a", "write", "@@"),
            ("prt_1:1", "/home/dev/b", "delete", None),
        ]
        assert rows(out, "tool_calls")[0]["child_session_id"] == "ses_child"

    def test_map_session_tool_error_of_2x_keeps_its_kind(self) -> None:
        state = {"status": "error", "error": "No, look at the tests first.", "errorType": "permission.rejected"}

        out = map_records(message(tokens=None, finish=None), part("tool", tool="edit", state=state))

        (error,) = rows(out, "errors")
        assert (error["error_category"], error["error_message"]) == ("permission", "No, look at the tests first.")
        assert json.loads(error["error_data"]) == {"name": "permission.rejected", "message": "No, look at the tests first."}

    def test_map_session_call_error_the_providers_answer_counts(self) -> None:
        data = {
            "message": "Bad Request",
            "statusCode": 400,
            "isRetryable": False,
            "responseBody": '{"error": {"code": "insufficient_quota"}}',
        }

        out = map_records(message(tokens=None, finish=None, error={"name": "APIError", "data": data}))

        (error,) = rows(out, "errors")
        assert (error["error_category"], error["error_severity"], error["is_retryable"]) == ("resource", "critical", False)

    @pytest.mark.parametrize(
        ("metadata", "output", "status", "extra"),
        [
            ({"exit": 0}, "ok", "success", None),
            ({"exit": 2}, "2 failed", "success", {"exit_code": 2}),
            ({"exit": None}, "x\n\n(Command timed out after 120000 ms)", "timeout", None),
        ],
    )
    def test_map_session_command_that_ends_badly_is_no_error(
        self, metadata: dict[str, Any], output: str, status: str, extra: dict[str, Any] | None
    ) -> None:
        state = {"status": "completed", "input": {"command": "make"}, "output": output, "metadata": metadata}

        out = map_records(message(tokens=None, finish=None), part("tool", tool="bash", state=state))

        (core,) = rows(out, "parts")
        assert rows(out, "tool_calls")[0]["status"] == status
        assert (json.loads(core["extra"]) if core["extra"] else None) == extra
        assert rows(out, "errors") == []

    def test_map_session_thinking_of_2x_has_its_time(self) -> None:
        times = {"created": CREATED_MS + 100, "completed": CREATED_MS + 350}

        out = map_records(message(tokens=None, finish=None), part("reasoning", text="hm", time=times))

        assert rows(out, "thinking_blocks")[0]["thinking_time_ms"] == 250.0

    def test_map_session_skill_and_server_of_a_call_are_kept(self) -> None:
        out = map_records(
            message(tokens=None, finish=None),
            part("tool", "prt_1", tool="skill", state={"status": "completed", "input": {"name": "deploy"}}),
            part("tool", "prt_2", tool="execute", state={"status": "completed", "metadata": {"toolCalls": [{"tool": "github.search"}]}}),
        )

        assert [(row["skill_name"], row["mcp_server"]) for row in rows(out, "tool_calls")] == [("deploy", None), (None, "github")]

    def test_map_session_user_text_was_not_written_by_the_model(self) -> None:
        out = map_records(message(role="user", tokens=None, finish=None), part("text", text="please", synthetic=True, ignored=False))

        (core,) = rows(out, "parts")
        assert (core["written_chars"], core["extra"]) == (None, '{"synthetic":true}')
        assert rows(out, "text_messages")[0]["role"] == "user"

    def test_map_session_written_characters_are_counted_by_type(self) -> None:
        out = map_records(
            message(tokens=None, finish=None),
            part("text", "prt_1", text="12345"),
            part("reasoning", "prt_2", text="1234567"),
            part("tool", "prt_3", tool="bash", state={"status": "running", "input": {"a": 1}}),
            part("step-start", "prt_4"),
        )

        assert [row["written_chars"] for row in rows(out, "parts")] == [5, 7, len('{"a":1}'), None]


class TestDerived:
    def test_map_session_usage_without_a_step_makes_one(self) -> None:
        out = map_records(message(), part("text", text="hi"))

        (step,) = rows(out, "step_events")
        assert (step["step_id"], step["event"], buckets(step)) == ("msg_1:step", "finish", (10, 200, 5, 30, 20))
        assert step["reported_cost_usd"] == Decimal("0.25")
        assert [row["part_id"] for row in rows(out, "parts")] == ["prt_1", "msg_1:step"]
        assert out.derived == {"msg_1:step"}
        assert out.records == 3  # the session, the message and the text; what is derived is no record

    def test_map_session_usage_with_a_step_makes_none(self) -> None:
        out = map_records(message(), part("step-finish", tokens=TOKENS))

        assert [row["step_id"] for row in rows(out, "step_events")] == ["prt_1"]
        assert out.derived == set()

    def test_map_session_unreadable_step_falls_back_to_the_message(self) -> None:
        out = map_records(message(), part("step-finish", tokens={"input": -1, "output": 1}))

        steps = {row["step_id"]: buckets(row) for row in rows(out, "step_events")}
        assert steps == {"prt_1": (None,) * 5, "msg_1:step": (10, 200, 5, 30, 20)}
        assert rows(out, "messages")[0]["call_count"] == 1
        reason = "tokens.input is -1; the usage that its message holds is counted instead"
        assert out.issues == [SourceIssue("part:prt_1", reason, loaded=True)]

    @pytest.mark.parametrize("own", [None, {"input": -2, "output": 1}])
    def test_map_session_unreadable_step_that_nothing_stands_in_for_is_not_counted(self, own: object) -> None:
        bad = part("step-finish", tokens={"input": -1, "output": 1})
        others = () if own else (part("step-finish", "prt_2", tokens=TOKENS),)

        out = map_records(message(tokens=own or TOKENS), bad, *others)

        assert rows(out, "messages")[0]["call_count"] == len(others)
        assert out.issues == [SourceIssue("part:prt_1", "tokens.input is -1; its usage is not counted", loaded=True)]

    def test_map_session_failed_call_makes_an_error(self) -> None:
        error = {"name": "APIError", "data": {"message": "Overloaded", "statusCode": 529, "isRetryable": True}}
        out = map_records(message(error=error, tokens={"input": 0, "output": 0}, finish=None), part("text", text="hi"))

        (row,) = rows(out, "errors")
        assert (row["error_id"], row["part_id"], row["error_category"], row["is_retryable"]) == (
            "msg_1:error",
            "msg_1:error",
            "server_error",
            True,
        )
        assert json.loads(row["error_data"]) == error
        assert out.derived == {"msg_1:error"}
        assert rows(out, "messages")[0]["error_name"] == "APIError"
        assert rows(out, "messages")[0]["call_count"] == 0


class TestTokens:
    @pytest.mark.parametrize(
        ("version", "provider", "tokens", "expected"),
        [
            # output holds the reasoning before 1.3.16; the total says so where there is one
            ("1.1.65", "openai", {"input": 10, "output": 30, "reasoning": 20}, (10, 0, 0, 10, 20)),
            ("1.3.15", "openai", {"input": 10, "output": 30, "reasoning": 20}, (10, 0, 0, 10, 20)),
            ("1.3.16", "openai", {"input": 10, "output": 30, "reasoning": 20}, (10, 0, 0, 30, 20)),
            ("1.18.33", "openai", {"input": 10, "output": 30, "reasoning": 20}, (10, 0, 0, 30, 20)),
            ("1.18.33", "openai", {"input": 10, "output": 30, "reasoning": 20, "total": 40}, (10, 0, 0, 10, 20)),
            ("1.1.65", "openai", {"input": 10, "output": 30, "reasoning": 20, "total": 60}, (10, 0, 0, 30, 20)),
            (None, "openai", {"input": 10, "output": 30, "reasoning": 20}, (10, 0, 0, 30, 20)),
            ("local", "openai", {"input": 10, "output": 30, "reasoning": 20}, (10, 0, 0, 30, 20)),
            # input holds the cached tokens before 1.0.62, but for Anthropic
            ("0.9.1", "openai", {"input": 100, "output": 3, "cache": {"read": 60, "write": 0}}, (40, 60, 0, 3, 0)),
            ("0.9.1", "anthropic", {"input": 100, "output": 3, "cache": {"read": 60, "write": 5}}, (100, 60, 5, 3, 0)),
            ("1.0.62", "openai", {"input": 100, "output": 3, "cache": {"read": 60, "write": 0}}, (100, 60, 0, 3, 0)),
            # and for Anthropic alone in 1.3.4 and 1.3.5
            ("1.3.4", "anthropic", {"input": 100, "output": 3, "cache": {"read": 60, "write": 5}}, (35, 60, 5, 3, 0)),
            ("1.3.6", "anthropic", {"input": 100, "output": 3, "cache": {"read": 60, "write": 5}}, (100, 60, 5, 3, 0)),
        ],
    )
    def test_map_session_version_decides_what_the_counts_mean(
        self, version: str | None, provider: str, tokens: dict[str, Any], expected: tuple[int, ...]
    ) -> None:
        out = map_records(message(provider_id=provider, tokens=tokens), of=session(version))

        assert buckets(rows(out, "messages")[0]) == expected
        assert out.issues == []

    def test_map_session_several_steps_are_summed(self) -> None:
        # The message has the tokens of its last step only, and the cost of all.
        out = map_records(
            message(tokens={"input": 3, "output": 1}, reported_cost=0.75),
            part("step-finish", "prt_1", cost=0.25, tokens={"input": 1, "output": 10, "cache": {"read": 100, "write": 7}}),
            part("step-finish", "prt_2", cost=0.2, tokens={"input": 2, "output": 20}),
            part("step-finish", "prt_3", cost=0.3, tokens={"input": 3, "output": 1}),
        )

        (row,) = rows(out, "messages")
        assert (row["call_count"], buckets(row), row["reported_cost_usd"]) == (3, (6, 100, 7, 31, 0), Decimal("0.75"))

    def test_map_session_cost_of_the_steps_stands_in_for_the_messages(self) -> None:
        out = map_records(message(reported_cost=None), *(part("step-finish", f"prt_{n}", cost=0.1, tokens=TOKENS) for n in range(3)))

        assert rows(out, "messages")[0]["reported_cost_usd"] == Decimal("0.3")

    @pytest.mark.parametrize(
        ("tokens", "reason"),
        [
            ({"input": -5, "output": 1}, "tokens.input is -5"),
            ({"output": 1}, "tokens.input is missing"),
            ({"input": 1}, "tokens.output is missing"),
            ({"input": "12", "output": 1}, "tokens.input is '12'"),
            ({"input": 1.5, "output": 1}, "tokens.input is 1.5"),
            ({"input": True, "output": 1}, "tokens.input is True"),
            ({"input": float("nan"), "output": 1}, "tokens.input is nan"),
            ({"input": 10**18, "output": 1}, "tokens.input is 1000000000000000000"),
            ({"input": 1, "output": 1, "cache": {"read": "many"}}, "tokens.cache.read is 'many'"),
            ({"input": 1, "output": 1, "cache": 7}, "tokens.cache is 7, not an object"),
            ("lots", "tokens is 'lots', not an object"),
        ],
    )
    def test_map_session_bad_count_is_an_issue_and_not_counted(self, tokens: object, reason: str) -> None:
        out = map_records(message(tokens=tokens), message("msg_2"))

        bad, good = rows(out, "messages")
        assert (bad["message_id"], bad["call_count"], buckets(bad)) == ("msg_1", 0, (None,) * 5)
        assert buckets(good) == (10, 200, 5, 30, 20)
        assert out.issues == [SourceIssue("message:msg_1", f"{reason}; its usage is not counted", loaded=True)]

    @pytest.mark.parametrize(
        ("cost", "reason"),
        [
            ("0.1", "cost is '0.1', not a number"),
            (-0.1, "cost is -0.1, outside 0 .. 1000000 USD"),
            (float("nan"), "cost is nan, outside 0 .. 1000000 USD"),
        ],
    )
    def test_map_session_bad_cost_is_an_issue_and_the_usage_counts(self, cost: object, reason: str) -> None:
        out = map_records(message(reported_cost=cost))

        (row,) = rows(out, "messages")
        assert (row["call_count"], row["reported_cost_usd"]) == (1, None)
        assert out.issues == [SourceIssue("message:msg_1", f"{reason}; the reported cost is left out", loaded=True)]

    @pytest.mark.parametrize("fields", [{"tokens": {"input": 0, "output": 0}}, {"tokens": None, "finish": None}, {"role": "user"}])
    def test_map_session_no_usage_is_no_call_and_no_issue(self, fields: dict[str, Any]) -> None:
        out = map_records(message(**fields))

        (row,) = rows(out, "messages")
        assert (row["call_count"], buckets(row)) == (0, (None,) * 5)
        assert out.issues == []

    def test_map_session_reasoning_is_shared_by_length(self) -> None:
        out = map_records(
            message(tokens=None, finish=None),
            part("reasoning", "prt_1", text="x" * 10),
            part("reasoning", "prt_2", text="x" * 20),
            part("step-finish", "prt_3", tokens={"input": 1, "output": 1, "reasoning": 100}),
            part("reasoning", "prt_4", text="x"),
            part("step-finish", "prt_5", tokens={"input": 1, "output": 1}),
        )

        assert [row["thinking_tokens"] for row in rows(out, "thinking_blocks")] == [33, 67, None]


# One call in truth: 1,000 prompt tokens that no cache served, 300 that one did, 40 visible and 60 of reasoning; how each build stored it:
# Version and provider, `input`, `output`, `reasoning`, `total`, and the version that wrote the message where it is not the session's.
ERAS = {
    "0.1 Anthropic": ("0.1.174", "anthropic", 1_000, 100, 0, None, None),
    "0.1 others: the cached tokens inside": ("0.1.174", "openai", 1_300, 100, 0, None, None),
    "0.2 others: the same": ("0.2.20", "openai", 1_300, 100, 0, None, None),
    "0.5.18: reasoning recorded, inside the output": ("0.5.29", "openai", 1_300, 100, 60, None, None),
    "0.5.18 Google: beside it": ("0.5.29", "google", 1_300, 40, 60, None, None),
    "1.0.62: the cached tokens taken out": ("1.0.62", "openai", 1_000, 100, 60, None, None),
    "1.0.66": ("1.0.66", "openai", 1_000, 100, 60, None, None),
    "1.1.57: with a total": ("1.1.65", "openai", 1_000, 100, 60, 1_400, None),
    "1.3.4 Anthropic: the cached tokens inside": ("1.3.4", "anthropic", 1_300, 100, 0, 1_700, None),
    "1.3.5 Bedrock: the same": ("1.3.5", "amazon-bedrock", 1_300, 100, 0, 1_700, None),
    "1.3.4 others": ("1.3.4", "openai", 1_000, 100, 60, 1_400, None),
    "1.3.6": ("1.3.6", "anthropic", 1_000, 100, 0, 1_400, None),
    "1.3.15": ("1.3.15", "openai", 1_000, 100, 60, 1_400, None),
    "1.3.16: disjoint": ("1.3.16", "openai", 1_000, 40, 60, 1_400, None),
    "1.18": ("1.18.33", "openai", 1_000, 40, 60, 1_400, None),
    "1.1 session continued by 1.18: the total decides": ("1.1.65", "openai", 1_000, 40, 60, 1_400, None),
    "1.18 session of an older build: the total decides": ("1.18.33", "openai", 1_000, 100, 60, 1_400, None),
    "2.x: without a total": ("2.0.26", "openai", 1_000, 40, 60, None, None),
    "1.1 session continued by 2.x": ("1.1.65", "openai", 1_000, 40, 60, None, "2.0.0"),
    "1.1 message taken over by 2.x, its total lost": ("1.1.65", "openai", 1_000, 100, 60, None, None),
}


class TestEras:
    @pytest.mark.parametrize(("version", "provider", "prompt", "output", "reasoning", "total", "written_by"), ERAS.values(), ids=ERAS)
    def test_map_session_every_build_means_the_same_call(
        self, version: str, provider: str, prompt: int, output: int, reasoning: int, total: int | None, written_by: str | None
    ) -> None:
        tokens = {"input": prompt, "output": output, "reasoning": reasoning, "cache": {"read": 300, "write": 0}}
        stored = tokens if total is None else {**tokens, "total": total}

        out = map_records(message(tokens=stored, provider_id=provider, version=written_by), of=session(version))

        visible, thought = (100, 0) if reasoning == 0 else (40, 60)
        assert buckets(rows(out, "messages")[0]) == (1_000, 300, 0, visible, thought)
        assert rows(out, "messages")[0]["call_count"] == 1

    @pytest.mark.parametrize(
        ("version", "agent", "starts", "finishes", "cost", "calls", "unrecorded"),
        [
            ("0.1.174", None, 3, 0, 0, 1, 2),  # neither steps nor cost are kept: the last step's tokens are all there is
            ("0.2.25", None, 3, 0, 0.3, 1, 2),  # the cost is that of all steps
            ("0.2.26", None, 3, 3, 0.3, 3, 0),
            ("0.7.9", None, 3, 3, 0.3, 3, 0),
            ("0.8.0", "build", 1, 1, 0.1, 1, 0),
            ("1.0.30", "compaction", 0, 0, 0.1, 1, 0),  # until 1.0.68 a compaction has a cost and no step
            ("1.0.69", "compaction", 1, 1, 0.1, 1, 0),
            ("1.18.33", "build", 2, 2, 0.2, 2, 0),  # a retry inside one message
        ],
    )
    def test_map_session_steps_of_every_era_are_counted_or_told(
        self, version: str, agent: str | None, starts: int, finishes: int, cost: float, calls: int, unrecorded: int
    ) -> None:
        tokens = {"input": 10, "output": 30, "reasoning": 0, "cache": {"read": 200, "write": 5}}
        steps = [part("step-start", f"prt_{number}a") for number in range(starts)]
        steps += [part("step-finish", f"prt_{number}b", tokens=tokens, cost=0.1) for number in range(finishes)]

        out = map_records(message(tokens=tokens, agent=agent, reported_cost=cost), *steps, of=session(version))

        (row,) = rows(out, "messages")
        assert (row["call_count"], buckets(row)) == (calls, (10 * calls, 200 * calls, 5 * calls, 30 * calls, 0))
        assert row["reported_cost_usd"] == Decimal(str(cost))
        assert [issue.reason for issue in out.issues] == ([f"{unrecorded} {UNRECORDED_STEPS}"] if unrecorded else [])


class TestPlaces:
    def test_map_session_ids_that_come_twice_are_issues(self) -> None:
        out = map_records(
            message(), message(role="user"), part("text", text="first"), part("text", text="second"), part("text", "prt_2", text="third")
        )

        assert [row["role"] for row in rows(out, "messages")] == ["assistant"]
        assert [row["content"] for row in rows(out, "text_messages")] == ["first", "third"]
        assert out.issues == [
            SourceIssue("message:msg_1", "id comes twice in its session; the second is not loaded"),
            SourceIssue("part:prt_1", "id comes twice in its session; the second is not loaded"),
        ]

    def test_map_session_orphan_parts_are_kept_and_not_summed(self) -> None:
        out = map_records(message(), part("step-finish", "prt_9", message_id="msg_gone", tokens=TOKENS, cost=1))

        orphan = next(row for row in rows(out, "parts") if row["part_id"] == "prt_9")
        assert (orphan["message_id"], orphan["created_at"]) == ("msg_gone", CREATED)
        assert [row["message_id"] for row in rows(out, "messages")] == ["msg_1"]
        assert rows(out, "messages")[0]["call_count"] == 1
        assert buckets(next(row for row in rows(out, "step_events") if row["step_id"] == "prt_9")) == (10, 200, 5, 30, 20)

    def test_map_session_several_steps_and_one_usage_tells_how_many_are_missing(self) -> None:
        out = map_records(message(), *(part("step-start", f"prt_{number}") for number in range(4)), of=session("0.1.174"))

        assert rows(out, "messages")[0]["call_count"] == 1
        assert out.issues == [SourceIssue("message:msg_1", f"3 {UNRECORDED_STEPS}", loaded=True)]

    def test_map_session_steps_with_usage_are_all_recorded(self) -> None:
        steps = [part(kind, f"prt_{number}_{kind}", tokens=TOKENS) for number in range(3) for kind in ("step-finish", "step-start")]

        out = map_records(message(), *steps, of=session("0.2.26"))

        assert rows(out, "messages")[0]["call_count"] == 3
        assert out.issues == []

    def test_map_session_sequence_follows_time_then_id(self) -> None:
        later = CREATED_MS + 10_000
        out = map_records(
            message("msg_b", created_ms=later, tokens=None, finish=None),
            message("msg_a", tokens=None, finish=None),
            part("text", "prt_4", "msg_b", text="d"),
            part("text", "prt_2", "msg_a", text="b", time={"start": CREATED_MS + 500}),
            part("text", "prt_1", "msg_a", text="a"),
            part("text", "prt_3", "msg_a", text="c", time={"start": CREATED_MS + 100}),
        )

        # Never earlier than the part before it in its message, whatever its own time says.
        assert [(row["sequence_number"], row["part_id"], row["created_at"]) for row in rows(out, "parts")] == [
            (1, "prt_1", CREATED),
            (2, "prt_2", CREATED + timedelta(milliseconds=500)),
            (3, "prt_3", CREATED + timedelta(milliseconds=500)),
            (4, "prt_4", CREATED + timedelta(seconds=10)),
        ]

    def test_map_session_part_time_comes_from_its_id_within_its_message(self) -> None:
        inside = f"prt_{((CREATED_MS + 700) * 4096) % (1 << 48):012x}00000000000001"
        far = f"prt_{((CREATED_MS + 9 * 86_400_000) * 4096) % (1 << 48):012x}00000000000002"
        out = map_records(message(tokens=None, finish=None), part("text", inside, text="a"), part("text", far, text="b"))

        assert [row["created_at"] for row in rows(out, "parts")] == [CREATED + timedelta(milliseconds=700)] * 2

    def test_map_session_without_own_times_takes_those_of_its_messages(self) -> None:
        out = map_records(
            message("msg_2", created_ms=CREATED_MS + 9_000, model_id="claude-haiku-4-5"),
            message("msg_1"),
            of=session(created_ms=None, updated_ms=None),
        )

        (row,) = rows(out, "sessions")
        assert (row["created_at"], row["updated_at"]) == (CREATED, CREATED + timedelta(seconds=9))
        assert {row["model_id"] for row in rows(out, "models")} == {"anthropic/claude-sonnet-4-5", "anthropic/claude-haiku-4-5"}


class TestAnything:
    JSON = st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(10**20), 10**20)
        | st.floats()
        | st.text(max_size=8)
        | st.sampled_from(["completed", "error", CREATED_MS, "data:a;base64,AA==", "*** Add File: a"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    )
    STATE = st.dictionaries(st.sampled_from(["status", "input", "output", "error", "time", "metadata", "title", "raw"]), JSON)
    FIELDS = ("text", "time", "tool", "callID", "tokens", "cost", "files", "url", "auto", "error", "prompt", "synthetic", "metadata")
    TYPES = ("text", "reasoning", "tool", "step-start", "step-finish", "file", "patch", "compaction", "retry", "subtask", "agent", "???")

    @given(
        parts=st.lists(
            st.tuples(st.sampled_from(TYPES), st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=5), STATE | JSON, st.booleans()),
            max_size=5,
        ),
        tokens=JSON,
        cost=JSON,
        error=st.none() | st.dictionaries(st.text(max_size=5) | st.sampled_from(["name", "data"]), JSON, max_size=3),
        times=st.lists(st.none() | st.integers(1, 7_258_118_400_000), min_size=3, max_size=3),
    )
    def test_map_session_any_json_never_raises_and_every_row_has_its_part(
        self,
        parts: list[tuple[str, dict[str, Any], Any, bool]],
        tokens: Any,
        cost: Any,
        error: dict[str, Any] | None,
        times: list[int | None],
    ) -> None:
        records = [
            PartRecord(f"prt_{number}", "msg_gone" if is_orphan else "msg_1", "ses_1", part_type, _stored({**data, "state": state}))
            for number, (part_type, data, state, is_orphan) in enumerate(parts)
        ]
        failed = None if error is None else _stored(error)
        counts = _stored({"tokens": tokens})["tokens"]

        out = map_records(
            message(
                tokens=counts,
                reported_cost=cost,
                error=failed,
                created_ms=times[0],
                completed_ms=times[1],
                finish=None,
            ),
            *records,
            of=session(created_ms=times[2]),
        )

        known = [row["part_id"] for row in rows(out, "parts")]
        assert len(known) == len(set(known)) == len(records) + len(out.derived)
        assert [row["sequence_number"] for row in rows(out, "parts")] == list(range(1, len(known) + 1))
        for table in SUBTYPES:
            assert {row["part_id"] for row in rows(out, table)} <= set(known)
            assert len({row[0] for row in out.rows[table]}) == len(out.rows[table])


def _stored(value: dict[str, Any]) -> dict[str, Any]:
    """Send a value through a file, as a reader would get it."""
    data, _ = decode_object(json.dumps(value).encode())
    assert data is not None
    return data


class TestContext:
    def test_map_session_added_chars_are_what_no_model_wrote(self) -> None:
        out = map_records(
            message("msg_0", role="user", tokens=None, finish=None, summary_title="A title"),
            part("text", "prt_0", "msg_0", text="Please fix it."),
            message("msg_1"),
            part("text", "prt_1", text="Done."),
            part("tool", "prt_2", tool="read", state={"status": "completed", "input": {"filePath": "/a"}, "output": "12345"}),
            part("tool", "prt_3", tool="read", state={"status": "error", "input": {}, "error": "no"}),
            part("tool", "prt_4", tool="read", state={"status": "running", "input": {}}),
        )

        assert [(row["added_chars"], row["summary_title"]) for row in rows(out, "messages")] == [(14, "A title"), (7, None)]


class TestRefused:
    def test_map_session_leaves_out_refused_records_and_takes_none_of_them_for_hidden_spend(self) -> None:
        messages = [message(), message("msg_2")]
        parts = [
            part("step-finish", "prt_1", tokens=TOKENS),
            part("step-finish", "prt_2", tokens=TOKENS),
            part("text", "prt_3", "msg_2", text="Done."),
        ]
        totals = SessionTotals(0.5, {"input": 20, "output": 60, "reasoning": 40, "cache": {"read": 400, "write": 10}}, None)
        refused = {("message_id", "msg_2"), ("part_id", "prt_2"), ("part_id", "msg_1"), ("message_id", "prt_1")}

        out = map_session(SessionBundle(session(), messages, parts, [], totals), refused=refused)

        assert [(row["message_id"], row["call_count"]) for row in rows(out, "messages")] == [("msg_1", 1)]
        assert [row["part_id"] for row in rows(out, "parts")] == ["prt_1"]
        assert out.records == 3

    def test_map_session_derives_nothing_with_a_refused_id(self) -> None:
        failed = {"name": "APIError", "data": {"message": "Overloaded"}}
        totals = SessionTotals(0.5, {"input": 20, "output": 60, "reasoning": 40, "cache": {"read": 400, "write": 10}}, None)
        bundle = SessionBundle(session(), [message(tokens=TOKENS, error=failed)], [part("text", "prt_1", text="Done.")], [], totals)
        refused = {("part_id", "msg_1:step"), ("part_id", "msg_1:error"), ("message_id", "ses_1:hidden")}

        whole = map_session(bundle)
        out = map_session(bundle, refused=refused)

        assert {row["part_id"] for row in rows(whole, "parts")} == {"prt_1", "msg_1:error", "msg_1:step", "ses_1:hidden:step"}
        assert [row["message_id"] for row in rows(whole, "messages")] == ["msg_1", "ses_1:hidden"]
        assert [row["part_id"] for row in rows(out, "parts")] == ["prt_1"]
        assert [(row["message_id"], row["call_count"]) for row in rows(out, "messages")] == [("msg_1", 0)]
        assert out.derived == set()
