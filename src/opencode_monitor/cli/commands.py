"""Where each command is, so that none is imported before it is asked for."""

from __future__ import annotations

from collections import UserDict
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import click

REPORTS = {
    **dict.fromkeys(("daily", "weekly", "monthly", "models", "agents", "projects", "by"), "reports"),
    **dict.fromkeys(("tools", "files", "parts"), "attribution"),
    "trend": "trend",
    "errors": "failures",
    "sessions": "sessions",
    "session": "session",
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


class Commands(UserDict[str, "click.Command"]):
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
