"""Where each command is, so that none is imported before it is asked for."""

from __future__ import annotations

from collections import UserDict
from importlib import import_module
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

REPORTS = {
    **dict.fromkeys(("daily", "weekly", "monthly", "models", "agents", "projects", "by"), "reports"),
    **dict.fromkeys(("tools", "files", "parts"), "attribution"),
    "trend": "trend",
    "errors": "failures",
    "sessions": "sessions",
    "session": "session",
    "message": "message",
    "part": "message",
    "carried": "carried",
    "unrecorded": "unrecorded",
    "forecast": "forecast",
}
"""The reports, which stand at the top level and under `report`."""

HOMES = {
    "import": "importing:import_",
    "watch": "watch",
    "demo": "importing",
    "report": "report",
    **REPORTS,
    "anomalies": "anomalies",
    "budget": "budget",
    "alert": "alert",
    "export": "export",
    "metrics": "metrics",
    "statusline": "statusline",
    "mcp": "mcp",
    "completion": "completion",
    "pricing": "pricing",
    "cost": "cost",
    "db": "database",
    "doctor": "doctor",
}
"""Where each command is: a module of this package, and what it is called there unless the same."""


SUMMARIES = {
    "agents": "What each agent cost",
    "alert": "Tell when a number is too large",
    "anomalies": "The days that cost more than usual, and why",
    "budget": "What may be spent, and how that stands",
    "by": "What was spent by any dimension, or several",
    "carried": "The parts that cost most by being sent again",
    "completion": "What the shell reads to complete commands",
    "cost": "Prove what things cost",
    "daily": "What each day cost",
    "db": "Manage the database: upgrade, verify, back up",
    "demo": "The reports on a small sample",
    "doctor": "What is in order, and what is not",
    "errors": "What went wrong, and what it cost",
    "export": "Write rows to a file for other programs",
    "files": "What working on each file cost",
    "forecast": "What the month and the next days will cost",
    "import": "Read what is new in OpenCode's data",
    "mcp": "Let an agent ask what it costs",
    "message": "One message: its calls and parts",
    "metrics": "All sums in Prometheus' text format",
    "models": "What each model cost",
    "monthly": "What each month cost",
    "part": "One part, and how its cost came about",
    "parts": "What each type of part cost",
    "pricing": "Show and set prices",
    "projects": "What each project cost",
    "report": "All reports under one name",
    "session": "One session: messages, parts, sub-agents",
    "sessions": "What each session cost",
    "statusline": "One line: what today and this month cost",
    "tools": "What each tool cost, and how often it failed",
    "trend": "What each period cost, smoothed",
    "unrecorded": "What is billed and OpenCode did not record",
    "watch": "Import what OpenCode writes, as it writes it",
    "weekly": "What each week cost",
}
"""What a list of commands says of each, so that it is printed without importing them."""


class Group(click.Group):
    """A group that lists its commands without importing them."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, SUMMARIES[name]) for name in self.list_commands(ctx)])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the name of a command, or an option of the group's own, without importing a command."""
        named = [CompletionItem(name, help=SUMMARIES[name]) for name in self.list_commands(ctx) if name.startswith(incomplete)]
        return [*named, *click.Command.shell_complete(self, ctx, incomplete)]


class Commands(UserDict[str, click.Command]):
    """The commands by name, each imported when it is asked for: all of them take longer than a status line has."""

    def __init__(self, homes: Mapping[str, str]) -> None:
        super().__init__()
        self._homes = homes

    def __getitem__(self, name: str) -> click.Command:
        module, _, attribute = self._homes[name].partition(":")
        command: click.Command = getattr(import_module(f"opencode_monitor.cli.{module}"), attribute or name)
        return command

    def __contains__(self, name: object) -> bool:
        return name in self._homes

    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    def __len__(self) -> int:
        return len(self._homes)
