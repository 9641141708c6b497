"""The tools as the MCP SDK serves them: one process, one client, standard input and output."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server
from mcp.types import CallToolRequestParams, CallToolResult, ListToolsResult, PaginatedRequestParams, TextContent, Tool, ToolAnnotations
from pydantic import BaseModel, ValidationError

from opencode_monitor._version import __version__
from opencode_monitor.cli.driver_errors import told
from opencode_monitor.cli.mcp.arguments import (
    AnomaliesArguments,
    Nothing,
    SessionArguments,
    SummaryArguments,
    TopSessionsArguments,
    TrendArguments,
)
from opencode_monitor.cli.render import plain
from opencode_monitor.errors import OpencodeMonitorError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from opencode_monitor.cli.mcp.answers import Answers

_INSTRUCTIONS = """What the user's OpenCode sessions cost, from a database on this machine, as of its last import. Nothing is changed.
Money is USD as decimal strings. null is unknown, which is not 0: the *_unpriced, unreported and unknown counts say of how many calls, and a
sum beside such a count is "at least". `cost` in an answer says which number was asked for: cost_usd is list price, reported_cost_usd is
OpenCode's own, paid_cost_usd is out of pocket. `range` is half-open (until is not in it) in the time zone `tz`; null is an open end.
Tell the user the warnings."""


@dataclass(frozen=True, slots=True)
class _Tool:
    description: str
    arguments: type[BaseModel]


_TOOLS = {
    "summary": _Tool(
        "What was spent in a range of days (default: the last 30): totals, and the most expensive models, agents or projects.",
        SummaryArguments,
    ),
    "trend": _Tool(
        "What each day (default: the last 30 days), week (12 weeks) or month (a year) cost, with those without calls. A period that the"
        " range or the present cuts is marked is_complete: false.",
        TrendArguments,
    ),
    "top_sessions": _Tool(
        "The most expensive sessions of a range of days (default: the last 30); a sub-agent's session is a row of its own.",
        TopSessionsArguments,
    ),
    "session": _Tool(
        "What one session cost, alone and with its sub-agents, by its most expensive messages, and which tools it called.",
        SessionArguments,
    ),
    "anomalies": _Tool(
        "The days, or sessions, of a range (default: the last 30 days) that cost more than usual, by how much, and what made the"
        " difference.",
        AnomaliesArguments,
    ),
    "pricing_missing": _Tool(
        "The models of which calls have no price, with the number of calls: what is missing from every cost_usd.",
        Nothing,
    ),
}
"""The tools by name; each is a method of `Answers`."""


def _schema(arguments: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of arguments without the titles that pydantic makes of their names: an agent pays for each word."""
    schema = arguments.model_json_schema()
    properties = {name: {key: value for key, value in one.items() if key != "title"} for name, one in schema["properties"].items()}
    return {"type": "object", "properties": properties, "required": schema.get("required", []), "additionalProperties": False}


def serve(make_answers: Callable[[], Answers]) -> None:
    """Serve until standard input ends.

    Args:
        make_answers: Returns what answers a call; asked for at each, so that a server which nobody asks anything loads no database.
    """
    anyio.run(_serve, make_answers)


async def _serve(make_answers: Callable[[], Answers]) -> None:
    listed = [
        Tool(
            name=name,
            description=tool.description,
            input_schema=_schema(tool.arguments),
            annotations=ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False),
        )
        for name, tool in _TOOLS.items()
    ]

    async def list_tools(context: ServerRequestContext[Any], params: PaginatedRequestParams | None) -> ListToolsResult:
        del context, params
        return ListToolsResult(tools=listed)

    async def call_tool(context: ServerRequestContext[Any], params: CallToolRequestParams) -> CallToolResult:
        del context
        # In a thread of its own: the SDK answers pings while a query runs, or waits for the database.
        return await anyio.to_thread.run_sync(_call, make_answers, params)

    server = Server("opencode-monitor", version=__version__, instructions=_INSTRUCTIONS, on_list_tools=list_tools, on_call_tool=call_tool)
    async with stdio_server() as (read_stream, write_stream):
        await server.run(read_stream, write_stream, server.create_initialization_options())


def _call(make_answers: Callable[[], Answers], params: CallToolRequestParams) -> CallToolResult:
    """Answer one call; what fails is told to the agent in one line, and the server goes on."""
    try:
        asked = _read(_tool(params.name).arguments, params.arguments or {})
        answer: dict[str, Any] = getattr(make_answers(), params.name)(asked)
    except Exception as error:
        failure = error if isinstance(error, OpencodeMonitorError) else told(error)
        if failure is None:
            raise
        return CallToolResult(content=[TextContent(text=plain(str(failure)))], is_error=True)
    # In ASCII, as every answer of ours in JSON; without indentation, which an agent pays for.
    return CallToolResult(content=[TextContent(text=json.dumps(answer, separators=(",", ":")))], structured_content=answer)


def _tool(name: str) -> _Tool:
    if name not in _TOOLS:
        raise UsageError(f"there is no tool {name!r}.", hint=f"Use one of: {', '.join(_TOOLS)}.")
    return _TOOLS[name]


def _read(arguments: type[BaseModel], given: dict[str, Any]) -> BaseModel:
    try:
        return arguments.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            known = ", ".join(arguments.model_fields) or "none"
            raise UsageError(f"there is no argument {name!r}.", hint=f"There are: {known}.") from None
        raise UsageError(f"{name}: {first['msg']}.") from None
