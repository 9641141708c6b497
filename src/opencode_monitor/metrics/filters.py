"""Filters: whose calls count."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from opencode_monitor.db.patterns import matches
from opencode_monitor.metrics.dimensions import CALL_DIMENSIONS, OF_MESSAGES, UTC_CALENDAR, CallColumns, project_name
from opencode_monitor.models import Project, Session, ToolCall

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Whose calls count: those that match one of the patterns of each kind that is given.

    In a pattern `*` is any text and `?` any one character, letter by letter.

    Attributes:
        project: Patterns for what a project is called: its name, else its working tree, else the directory of its sessions.
        model: Patterns for "provider/model"; one without a slash is for what stands after the provider.
        provider: Patterns for who was called.
        agent: Patterns for who called.
        session: Ids of sessions; a sub-agent's session counts for itself.
        tool: Patterns for the tool that was called. They choose among the parts of calls, not among calls.
    """

    project: tuple[str, ...] = ()
    model: tuple[str, ...] = ()
    provider: tuple[str, ...] = ()
    agent: tuple[str, ...] = ()
    session: tuple[str, ...] = ()
    tool: tuple[str, ...] = ()

    def given(self) -> dict[str, tuple[str, ...]]:
        """Return the patterns by kind, of the kinds that have any."""
        return {field.name: patterns for field in fields(self) if (patterns := getattr(self, field.name))}

    def of_calls(self, columns: CallColumns = OF_MESSAGES) -> list[sa.ColumnElement[bool]]:
        """Return the conditions on calls.

        Args:
            columns: Where the rows that are asked have what is filtered by; messages unless told otherwise.
        """
        return [_condition(name, patterns, columns) for name, patterns in self.given().items() if name != "tool"]

    def of_parts(self) -> list[sa.ColumnElement[bool]]:
        """Return the conditions on parts, joined with their calls of tools, beside those on their calls."""
        return [_any(ToolCall.tool_name, self.tool)] if self.tool else []

    def condition(self, kind: str) -> sa.ColumnElement[bool]:
        """Return the condition that the patterns of one kind make of messages; it is one that is given, and no tool."""
        return _condition(kind, self.given()[kind], OF_MESSAGES)


EVERYTHING = Filters()
"""All calls count."""


def _condition(name: str, patterns: Sequence[str], columns: CallColumns) -> sa.ColumnElement[bool]:
    match name:
        case "session":
            return columns.session_id.in_(patterns)
        case "project":
            # Not by a join: a filter must not change what is asked, and no session is there twice.
            sessions = sa.select(Session.session_id).join(Project, Project.project_id == Session.project_id, isouter=True)
            return columns.session_id.in_(sessions.where(_any(project_name(), patterns)))
        case "model":
            model = _column("model", columns)
            after_provider = sa.func.substr(model, sa.func.strpos(model, "/") + 1)
            return sa.or_(*(matches(model if "/" in pattern else after_provider, pattern) for pattern in patterns))
        case _:
            return _any(_column(name, columns), patterns)


def _column(name: str, columns: CallColumns) -> sa.ColumnElement[Any]:
    return CALL_DIMENSIONS[name].column(columns, UTC_CALENDAR)


def _any(column: Any, patterns: Sequence[str]) -> sa.ColumnElement[bool]:
    return sa.or_(*(matches(column, pattern) for pattern in patterns))
