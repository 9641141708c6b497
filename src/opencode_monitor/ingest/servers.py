"""Which MCP server the stored tool calls are of: by the names of servers that are declared, or that a call itself has stated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from opencode_monitor.ingest.tools import BUILT_IN_TOOLS, tool_prefixes
from opencode_monitor.models import ToolCall

if TYPE_CHECKING:
    from collections.abc import Collection


def known_servers(connection: sa.Connection) -> frozenset[str]:
    """Return the servers that stored calls have by now: a name that was known once stays known."""
    return frozenset(filter(None, connection.scalars(sa.select(ToolCall.mcp_server).distinct()).all()))


def name_servers(connection: sa.Connection, servers: Collection[str]) -> None:
    """Give each call without a server the one that its tool's name begins with.

    Args:
        connection: In a transaction of the caller's.
        servers: What MCP servers there are. A name that begins with none of them stays nobody's: nothing else tells a server's tool from
            one of a plugin.
    """
    prefixes = tool_prefixes(servers)
    if not prefixes:
        return
    tools = connection.scalars(sa.select(ToolCall.tool_name).where(ToolCall.mcp_server.is_(None)).distinct()).all()
    for tool in set(tools) - BUILT_IN_TOOLS:
        server = next((server for prefix, server in prefixes if tool.startswith(prefix)), None)
        if server is not None:
            unnamed = sa.and_(ToolCall.tool_name == tool, ToolCall.mcp_server.is_(None))
            connection.execute(sa.update(ToolCall).where(unnamed).values(mcp_server=server))
