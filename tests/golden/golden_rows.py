"""What the golden databases hold, written down: rows of the first revision, and rows that each later one has room for.

Rows are never changed: there are files that hold them. A new revision gets an entry of its own in SINCE, or rows by its columns' types.
"""

from __future__ import annotations

import math
from datetime import datetime
from decimal import Decimal
from typing import Any

Rows = dict[str, list[dict[str, Any]]]

EARLY = datetime(2026, 1, 5, 9, 30, 0, 123456)  # noqa: DTZ001 - as the database has it: UTC without a zone
LATE = datetime(2026, 1, 5, 9, 30, 59)  # noqa: DTZ001 - the same
TRICKY = "“quotes” ' \" \\ \\u0041 %s %% :name {x} $1\r\n\t🎉 é e\u0301 \u2028"
ODD_JSON = '{ "cmd" :  "ls",\n\t"n": 1.0, "n": 1e2, "ü": "\\u00fc" }'
MONEY = Decimal("0.123456789012")
MOST_MONEY = Decimal("99999999999999999999999999.999999999999")

OLD: Rows = {
    "projects": [
        {"project_id": "prj_1", "worktree": "/home/dev/ü", "name": TRICKY, "vcs": "git", "created_at": EARLY, "updated_at": LATE},
        {"project_id": "prj_2"},
    ],
    "models": [
        {"model_id": "anthropic/claude-sonnet-4-5", "model_name": "claude-sonnet-4-5", "vendor": "anthropic"},
        {"model_id": "ollama/ü:1b", "model_name": "ü:1b", "vendor": "ollama"},
    ],
    "sessions": [
        {"session_id": "ses_1", "project_id": "prj_1", "model_id": "anthropic/claude-sonnet-4-5", "title": TRICKY, "directory": "/home/dev"}
        | {"opencode_version": "1.0.1", "created_at": EARLY, "updated_at": LATE},
        {"session_id": "ses_2", "parent_session_id": "ses_1", "title": ""},
    ],
    "messages": [
        {"message_id": "msg_user", "session_id": "ses_1", "role": "user", "created_at": EARLY},
        {"message_id": "msg_bot", "session_id": "ses_1", "parent_message_id": "msg_user", "role": "assistant", "agent": "build"}
        | {"model_id": "anthropic/claude-sonnet-4-5", "created_at": EARLY, "completed_at": LATE, "finish": "stop"}
        | {"input_tokens": 1_000, "cache_read_tokens": 2_000, "cache_write_tokens": 0, "output_tokens": 50, "reasoning_tokens": 7},
        {"message_id": "msg_cut", "session_id": "ses_2", "role": "assistant", "error_name": "MessageAbortedError"},
    ],
    "parts": [
        {"part_id": "prt_01", "session_id": "ses_1", "part_type": "step_start", "message_id": "msg_bot", "created_at": EARLY},
        {"part_id": "prt_02", "session_id": "ses_1", "part_type": "text", "message_id": "msg_user", "content": TRICKY, "created_at": EARLY},
        {"part_id": "prt_03", "session_id": "ses_1", "part_type": "thinking", "content": "hmm 🎉", "thinking_tokens": 7, "ended_at": LATE},
        {"part_id": "prt_04", "session_id": "ses_1", "part_type": "tool_call", "message_id": "msg_bot", "tool_name": "edit"}
        | {"tool_args": ODD_JSON, "tool_result": TRICKY, "execution_time_ms": 12.5, "call_id": "call_1", "tool_status": "success"}
        | {"file_path": "/a/ü.py", "file_operation": "edit", "git_branch": "main", "git_commit": "abc", "git_diff": "-1\n+2"},
        {"part_id": "prt_05", "session_id": "ses_1", "part_type": "tool_call", "tool_name": "task", "child_session_id": "ses_2"}
        | {"tool_args": " null ", "error_data": '{"code":  1}', "error_category": "timeout", "error_message": "too slow"},
        {"part_id": "prt_06", "session_id": "ses_1", "part_type": "error", "error_category": ""},
        {"part_id": "prt_07", "session_id": "ses_1", "part_type": "patch", "git_commit": "fff"},
        {"part_id": "prt_08", "session_id": "ses_1", "part_type": "attachment", "file_path": "a.png"},
        {"part_id": "prt_09", "session_id": "ses_1", "part_type": "compaction", "created_at": LATE},
        {"part_id": "prt_10", "session_id": "ses_1", "part_type": "step_finish", "message_id": "msg_bot", "created_at": LATE}
        | {"tokens_input": 1_000, "tokens_output": 50, "tokens_reasoning": 7, "tokens_cache_read": 2_000, "tokens_cache_write": 0}
        | {"cost_usd": 0.1 + 0.2},
        # What belongs to no type, to no session, to no time; and costs that no NUMERIC holds.
        {"part_id": "prt_11", "session_id": None, "part_type": None, "content": "", "cost_usd": math.inf, "tokens_output": -1},
        {
            "part_id": "prt_12",
            "session_id": "ses_lost",
            "part_type": "wormhole",
            "tool_args": ODD_JSON,
            "git_diff": TRICKY,
            "cost_usd": 1e-17,
        },
        {"part_id": "prt_13", "session_id": "ses_2", "part_type": "file_operation", "file_path": "/b", "thinking_tokens": -(2**31)},
    ],
    "session_stats": [
        {"session_id": "ses_1", "message_count": 2, "part_count": 10, "tool_call_count": 2, "error_count": 2, "file_operation_count": 1}
        | {"duration_ms": 0.1 + 0.2},
    ],
}


def _part(part_type: str, **values: Any) -> dict[str, Any]:
    """Build a row of the new `parts`."""
    common = {"part_id": f"prt_new_{part_type}", "session_id": "ses_1", "message_id": "msg_bot", "part_type": part_type}
    return common | {"sequence_number": 100, "created_at": LATE} | values


def _child(key: str, part_type: str, **values: Any) -> dict[str, Any]:
    """Build a row of a table below `parts`."""
    return {key: f"new_{part_type}", "part_id": f"prt_new_{part_type}", "session_id": "ses_1", "created_at": LATE} | values


SINCE: dict[str, Rows] = {
    "resource_metrics": {
        "model_pricing": [
            {"model_name": "gpt-ü", "vendor": "openai", "input_token_cost_per_1k": MONEY, "output_token_cost_per_1k": MOST_MONEY}
            | {"updated_at": EARLY}
        ],
        "price_periods": [
            {"price_id": "price_1", "vendor": "openai", "model": "gpt-ü", "mode": "standard", "min_context_tokens": 0}
            | {"effective_from": EARLY, "effective_to": LATE, "daily_from_minute": 0, "daily_to_minute": 1_440}
            | {"input_usd_per_mtok": MONEY, "output_usd_per_mtok": MOST_MONEY, "reasoning_usd_per_mtok": Decimal("1e-12")}
            | {"cache_read_usd_per_mtok": MONEY, "cache_write_5m_usd_per_mtok": MONEY, "cache_write_1h_usd_per_mtok": MONEY}
            | {"source": "user", "source_version": "1", "status": "final", "precedence": 100},
            {"price_id": "price_2", "vendor": "openai", "model": "gpt-ü", "mode": "standard", "min_context_tokens": 200_000}
            | {"effective_from": LATE, "source": "user", "status": "final", "precedence": 100},
        ],
        "sessions": [{"session_id": "ses_priced", "title": "priced"}],
        "messages": [{"message_id": "msg_priced", "session_id": "ses_priced", "role": "assistant", "message_cost_usd": MOST_MONEY}],
        "session_resource_metrics": [
            {"session_id": "ses_priced", "total_input_tokens": 2**40, "total_output_tokens": 1, "total_cost_usd": MONEY}
            | {"tool_call_count": 1, "message_count": 1, "avg_response_time_ms": 0.1, "total_execution_time_ms": 12.5}
            | {"created_at": EARLY, "updated_at": LATE, "total_cache_read_tokens": 3, "total_cache_write_tokens": 4}
            | {"total_reasoning_tokens": 5, "reported_cost_usd": Decimal("1e-12"), "call_count": 1, "unpriced_calls": 2}
            | {"copied_calls": 3, "unrecorded_calls": 4}
        ],
        "session_stats": [{"session_id": "ses_priced", "message_count": 1, "total_cost_usd": MONEY}],
        "parts": [
            {"part_id": "prt_priced", "session_id": "ses_priced", "part_type": "text", "content": "é", "part_cost_usd": Decimal("1e-12")}
        ],
    },
    "migration_audit": {
        "migration_audit": [
            {"audit_id": "audit_1", "revision": "none", "direction": "upgrade", "phase": "before", "table_name": "parts"}
            | {"row_count": 2**40, "fingerprint": '{"rows":  0, "columns": {}}', "seconds": 0.1, "program_version": "0.0.0"}
            | {"created_at": EARLY}
        ],
    },
    "denormalize_parts": {
        "parts": [
            _part("text", ended_at=LATE, written_chars=2, part_cost_usd=MONEY, extra='{"title":  "ü"}'),
            _part("thinking", content="so 🎉", written_chars=4),
            *(_part(name) for name in ("tool_call", "error", "step_finish", "patch", "attachment", "compaction")),
        ],
        "tool_calls": [
            _child("tool_call_id", "tool_call", tool_name="bash", tool_args=ODD_JSON, tool_result=TRICKY, execution_time_ms=0.1)
            | {"status": "error", "call_id": "call_2", "child_session_id": "ses_2"}
        ],
        "file_operations": [
            _child("file_op_id", "tool_call", file_path="/a/ü.py", operation="write", git_branch="main", git_commit="abc", git_diff="+")
            | {"file_size": 2**40}
        ],
        "errors": [
            _child("error_id", "error", error_data='{"code":  1}', error_message=TRICKY, error_category="api", error_severity="high")
            | {"is_retryable": True}
        ],
        "thinking_blocks": [_child("thinking_id", "thinking", thinking_tokens=9, thinking_time_ms=2.5)],
        "text_messages": [_child("message_id", "text", role="assistant", content=TRICKY, token_count=12)],
        "step_events": [
            _child("step_id", "step_finish", message_id="msg_bot", event="finish", reason="stop", snapshot="abc", input_tokens=1)
            | {"cache_read_tokens": 2, "cache_write_tokens": 3, "output_tokens": 4, "reasoning_tokens": 5}
            | {"reported_cost_usd": MONEY, "step_cost_usd": MOST_MONEY, "price_id": "price_1"}
        ],
        "patches": [_child("patch_id", "patch", git_commit="eee", files='["a",  "ü"]')],
        "attachments": [_child("attachment_id", "attachment", mime="image/png", file_name="ü.png", size=2**40)],
        "compactions": [_child("compaction_id", "compaction", auto=True, overflow=False)],
    },
    "call_accounting": {
        "messages": [
            {"message_id": "msg_counted", "session_id": "ses_1", "role": "assistant", "message_cost_usd": MONEY, "call_count": 3}
            | {"reported_cost_usd": Decimal("1e-12"), "cost_basis": "calculated", "copied_from": "msg_bot"}
        ],
        "model_aliases": [
            {"model_id": "ollama/ü:1b", "price_vendor": "openai", "price_model": "gpt-ü", "source": "user"},
        ],
    },
    "import_state": {
        "sources": [
            {"source_id": "src_1", "kind": "json", "path": "/home/dev/ü", "host": "host", "username": "dev", "first_imported_at": EARLY}
            | {"last_imported_at": LATE}
        ],
        "source_sessions": [
            {"source_id": "src_1", "session_id": "ses_1", "signature": "1:2", "records": 2**40, "imported_at": LATE},
        ],
        "import_issues": [
            {"issue_id": "iss_1", "source_id": "src_1", "session_id": "ses_1", "record": "part/x.json", "reason": TRICKY, "seen_at": LATE},
        ],
    },
    "unrecorded_calls": {
        "messages": [
            {"message_id": "msg_titled", "session_id": "ses_1", "role": "user", "summary_title": TRICKY, "added_chars": 2**40},
        ],
    },
    "budgets": {
        "budgets": [
            {"budget_name": TRICKY, "budget_usd": MOST_MONEY, "every": "week", "cost_number": "paid", "project_glob": "ü*"}
            | {"model_glob": "anthropic/*", "agent_glob": "build", "note": TRICKY, "recorded_at": LATE},
            {"budget_name": "all", "budget_usd": MONEY, "every": "month", "cost_number": "list", "recorded_at": EARLY},
        ],
    },
    "alert_states": {
        "alert_states": [
            {"alert_name": TRICKY, "state": "firing", "subject": "2026-01-05\n2026-01-06", "changed_at": EARLY, "evaluated_at": LATE}
            | {"seen_firing_at": LATE, "told_at": EARLY},
            {"alert_name": "stale", "state": "ok", "subject": "", "changed_at": EARLY, "evaluated_at": EARLY},
        ],
        "alert_deliveries": [
            {"delivery_id": "1f-ops", "alert_name": TRICKY, "channel": "ops", "event": "firing", "payload": ODD_JSON, "created_at": EARLY}
            | {"attempts": 2**40, "failure": TRICKY, "claimed_at": LATE, "delivered_at": LATE},
            {"delivery_id": "2e-ops", "alert_name": "stale", "channel": "ops", "event": "resolved", "payload": "{}", "created_at": LATE}
            | {"attempts": 0},
        ],
    },
}

_IN_OLD: dict[str, dict[str, Any]] = {
    "text": {"content": TRICKY, "ended_at": LATE},
    "thinking": {"content": "so 🎉", "thinking_tokens": 9},
    "tool_call": {"tool_name": "bash", "tool_args": ODD_JSON, "tool_result": TRICKY, "execution_time_ms": 0.1, "call_id": "call_2"}
    | {"tool_status": "error", "child_session_id": "ses_2", "file_path": "/a/ü.py", "file_operation": "write", "git_branch": "main"}
    | {"git_commit": "abc", "git_diff": "+"},
    "error": {"error_data": '{"code":  1}', "error_message": TRICKY, "error_category": "api"},
    "step_finish": {"tokens_input": 1, "tokens_cache_read": 2, "tokens_cache_write": 3, "tokens_output": 4, "tokens_reasoning": 5}
    | {"cost_usd": 0.123456789012},
    "patch": {"git_commit": "eee"},
    "attachment": {"file_path": "ü.png"},
    "compaction": {},
}
NEW_IN_OLD: list[dict[str, Any]] = [
    {"part_id": f"prt_new_{part_type}", "session_id": "ses_1", "part_type": part_type, "message_id": "msg_bot", "created_at": LATE} | values
    for part_type, values in _IN_OLD.items()
]
"""What the rows that were written in the new tables are in the old one."""
