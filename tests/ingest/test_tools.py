from __future__ import annotations

from typing import Any

import pytest

from opencode_monitor.ingest.tools import child_session, has_timed_out, skill_name, stated_server, tool_prefixes


@pytest.mark.parametrize(
    ("tool", "tool_input", "metadata", "expected"),
    [
        ("skill", {"name": "deploy"}, {"name": "deploy", "dir": "/s"}, "deploy"),
        ("skill", {"id": "team/deploy"}, {"name": "deploy"}, "team/deploy"),
        ("skill", {}, {"name": "deploy"}, "deploy"),
        ("skill", {"name": ""}, {}, None),
        ("skill", {"name": 7}, {"name": None}, None),
        ("github_skill", {"name": "deploy"}, {}, None),
    ],
)
def test_skill_name_every_generation_gives_the_skill(
    tool: str, tool_input: dict[str, Any], metadata: dict[str, Any], expected: str | None
) -> None:
    assert skill_name(tool, tool_input, metadata) == expected


@pytest.mark.parametrize(
    ("tool", "tool_input", "metadata", "text", "expected"),
    [
        ("task", {}, {"sessionId": "ses_a", "model": {}}, "done", "ses_a"),
        ("subagent", {}, {"sessionID": "ses_a", "status": "completed"}, "done", "ses_a"),
        ("mine", {}, {"sessionId": "ses_a"}, None, "ses_a"),
        ("task", {"task_id": "ses_a"}, {}, None, "ses_a"),
        ("subagent", {"sessionID": "ses_a"}, {}, "Subagent session not found: ses_a", "ses_a"),
        ("task", {}, {}, "task_id: ses_a (for resuming to continue this task if needed)\n\n<task_result>ses_b", "ses_a"),
        ("subagent", {}, {}, '<subagent sessionID="ses_a" state="completed">\nHello', "ses_a"),
        ("subagent", {}, {}, "Subagent failed (sessionID: ses_a): unknown error", "ses_a"),
        ("subagent", {}, {}, "The subagent is working in the background (sessionID: ses_a). You will be notified", "ses_a"),
        ("task", {}, {}, "I looked at task_id: ses_b", None),
        ("bash", {"task_id": "ses_a"}, {}, "task_id: ses_a", None),
        ("task", {"task_id": "T1"}, {"sessionId": 7}, None, None),
        ("task", {}, {}, None, None),
    ],
)
def test_child_session_every_generation_links_the_sub_agent(
    tool: str, tool_input: dict[str, Any], metadata: dict[str, Any], text: str | None, expected: str | None
) -> None:
    assert child_session(tool, tool_input, metadata, text) == expected


@pytest.mark.parametrize(
    ("tool", "metadata", "output", "expected"),
    [
        ("bash", {"exit": None}, "x\n\n(Command timed out after 120000 ms)", True),
        (
            "bash",
            {},
            "x\n\n<bash_metadata>\nbash tool terminated command after exceeding timeout 5000 ms\n</bash_metadata>",
            True,
        ),
        ("shell", {"timeout": True, "truncated": False}, "Command exceeded timeout of 5000 ms.", True),
        ("bash", {"exit": 0}, "grep found: (Command timed out after 120000 ms)", False),
        ("bash", {}, "(Command timed out after 120000 ms)" + "x" * 700, False),
        ("read", {}, "(Command timed out after 120000 ms)", False),
        ("bash", {"exit": 1}, "tests failed", False),
        ("bash", {}, None, False),
    ],
)
def test_has_timed_out_opencodes_own_last_words_decide(tool: str, metadata: dict[str, Any], output: str | None, *, expected: bool) -> None:
    assert has_timed_out(tool, metadata, output) is expected


@pytest.mark.parametrize(
    ("tool", "calls", "expected"),
    [
        ("execute", [{"tool": "github.search", "status": "completed"}, {"tool": "github.read", "status": "error"}], "github"),
        ("execute", [{"tool": "github.search"}, {"tool": "linear.read"}], None),
        ("execute", [], None),
        ("execute", [7, {"tool": 7}, {"tool": "plain"}], None),
        ("execute", 7, None),
        ("bash", [{"tool": "github.search"}], None),
    ],
)
def test_stated_server_only_a_run_of_code_names_it(tool: str, calls: object, expected: str | None) -> None:
    assert stated_server(tool, {"toolCalls": calls}) == expected


def test_tool_prefixes_longest_first_and_as_opencode_writes_them() -> None:
    assert tool_prefixes(["a", "my server.v2", "a_b", ""]) == [("my_server_v2_", "my server.v2"), ("a_b_", "a_b"), ("a_", "a")]
