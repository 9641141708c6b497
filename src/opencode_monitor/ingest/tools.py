"""Whose tool a call was: a skill's name, an MCP server's. Pure: no input, no output."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BUILT_IN_TOOLS = frozenset(
    {
        "apply_patch",
        "bash",
        "batch",
        "codesearch",
        "delete",
        "edit",
        "execute",
        "glob",
        "grep",
        "invalid",
        "list",
        "lsp",
        "lsp_diagnostics",
        "lsp_hover",
        "multiedit",
        "patch",
        "plan_enter",
        "plan_exit",
        "question",
        "read",
        "shell",
        "skill",
        "subagent",
        "task",
        "todoread",
        "todowrite",
        "webfetch",
        "websearch",
        "write",
    }
)
"""OpenCode's own, of every version: none of them is a server's, whatever a server is called."""

_AGENT_TOOLS = frozenset({"task", "subagent"})
_SHELL_TOOLS = frozenset({"bash", "shell"})
# How an answer of a sub-agent begins: `packages/opencode/src/tool/task.ts`, `packages/core/src/tool/plugin/subagent.ts`.
_SESSION_IN_TEXT = re.compile(r"(?:task_id: |<subagent sessionID=\"|Subagent \w+ \(sessionID: |[^\n]{0,80}\(sessionID: )(ses_\w+)")
_TIMED_OUT = re.compile(r"terminated command after exceeding timeout \d+ ?ms|\(Command timed out after \d+ ?ms\)\s*$")
_LAST_CHARS = 600
_ODD_CHARACTER = re.compile(r"[^a-zA-Z0-9_-]")


def skill_name(tool: str, tool_input: Mapping[str, Any], metadata: Mapping[str, Any]) -> str | None:
    """Return the skill that a call loaded: `name` in 1.x, `id` in 2.x; None for any other tool."""
    if tool != "skill":
        return None
    names = (tool_input.get("name"), tool_input.get("id"), metadata.get("name"))
    return next((name for name in names if isinstance(name, str) and name), None)


def child_session(tool: str, tool_input: Mapping[str, Any], metadata: Mapping[str, Any], text: str | None) -> str | None:
    """Return the sub-agent's session that a call started or continued.

    Args:
        tool: The tool's name.
        tool_input: What the model passed: a session to go on with has its id there.
        metadata: `sessionId` in 1.x, `sessionID` in 2.x; none in the first versions, and none of a call that failed.
        text: What the call answered; OpenCode's own words in it name the session.
    """
    stated = metadata.get("sessionId") or metadata.get("sessionID")
    if isinstance(stated, str) or tool not in _AGENT_TOOLS:
        return stated if isinstance(stated, str) else None
    asked = tool_input.get("task_id") or tool_input.get("sessionID")
    if isinstance(asked, str) and asked.startswith("ses_"):
        return asked
    found = _SESSION_IN_TEXT.match(text) if text else None
    return found.group(1) if found else None


def has_timed_out(tool: str, metadata: Mapping[str, Any], output: str | None) -> bool:
    """Tell whether OpenCode ended a command for taking too long: to OpenCode that is an answer, and no error."""
    if tool not in _SHELL_TOOLS:
        return False
    # 2.x says it; 1.x has it in the last words of the answer, and no exit code.
    if metadata.get("timeout") is True:
        return True
    return metadata.get("exit") is None and output is not None and _TIMED_OUT.search(output, max(0, len(output) - _LAST_CHARS)) is not None


def stated_server(tool: str, metadata: Mapping[str, Any]) -> str | None:
    """Return the MCP server that a call itself names.

    Only the `execute` tool of 2.x does: it lists the calls that its code made as `server.tool`. A run that used several servers is none's.
    """
    calls = metadata.get("toolCalls")
    if tool != "execute" or not isinstance(calls, list):
        return None
    called = (call.get("tool") for call in calls if isinstance(call, dict))
    servers = {name.partition(".")[0] for name in called if isinstance(name, str) and "." in name}
    return servers.pop() if len(servers) == 1 else None


def tool_prefixes(servers: Iterable[str]) -> list[tuple[str, str]]:
    """Return (what the names of a server's tools begin with, the server), the longest first.

    OpenCode calls an MCP tool `<server>_<tool>`, with odd characters made underscores, and both halves may hold underscores: `a_b_c` is
    `b_c` of `a` or `c` of `a_b`. So only a name that is declared tells, and of two that fit the longer one.
    """
    prefixes = {_ODD_CHARACTER.sub("_", server) + "_": server for server in sorted(servers) if server}
    return sorted(prefixes.items(), key=lambda item: (-len(item[0]), item[0]))
