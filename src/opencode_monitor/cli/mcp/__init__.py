"""An MCP server for agents that ask what they cost: six tools that read, over standard input and output."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from opencode_monitor.cli.render import note
from opencode_monitor.extras import imports_of

if TYPE_CHECKING:
    from opencode_monitor.cli.context import State
    from opencode_monitor.cli.mcp.answers import Answers

_WAIT = "3s"
"""How long a tool waits for the database unless told: agents give up on a call that takes much longer."""


@click.command()
@click.option("--show-titles", is_flag=True, help="Let answers have the titles of sessions, which were made of your prompts.")
@click.option("--show-paths", is_flag=True, help="Let answers have the names of projects, which may be paths; else hashes stand for them.")
@click.pass_context
def mcp(context: click.Context, show_titles: bool, show_paths: bool) -> None:
    """Answer an agent's questions about costs, as an MCP server on standard input and output. See docs/mcp.md.

    It reads the database only, and opens it for each question, so that imports go on meanwhile.
    """
    with imports_of("mcp", needed_by="mcp", packages="the MCP SDK, version 2"):
        from opencode_monitor.cli.mcp.server import serve  # noqa: PLC0415 - the SDK is an extra, and takes a second
    from opencode_monitor.cli.mcp.answers import Answers  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    state: State = context.obj
    if context.find_root().get_parameter_source("wait") is ParameterSource.DEFAULT:
        state = replace(state, wait=_WAIT)
    if sys.stdin.isatty():
        note("Waiting for an MCP client on standard input; docs/mcp.md says how OpenCode starts one. Ctrl-C ends it.", quiet=state.quiet)

    def make_answers() -> Answers:

        return Answers(state, show_titles=show_titles, show_paths=show_paths)

    serve(make_answers)
