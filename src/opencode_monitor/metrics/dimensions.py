"""The dimensions: what the spend can be told apart by. Each is declared once, here, and every measure can be summed up by it.

A dimension of calls is asked of a message; one of parts (tool, file, type of part, error) of the parts that a call produced, over which
its tokens and cost are shared. Rows of either sum to the same total.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sa

from opencode_monitor.db.local_time import local_time
from opencode_monitor.db.types import UtcDateTime
from opencode_monitor.models import (
    ErrorEvent,
    IngestedSession,
    KnownSource,
    Message,
    Project,
    Session,
    ToolCall,
    UnrecordedCall,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from sqlalchemy.orm import InstrumentedAttribute

WeekStart = Literal["monday", "sunday"]


class Interval(StrEnum):
    """How long a period of a report is."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """Which days and weeks count.

    Attributes:
        tz: The IANA zone whose days count.
        week_start: The first day of a week: Monday (ISO 8601) or Sunday.
    """

    tz: str = "UTC"
    week_start: WeekStart = "monday"


UTC_CALENDAR = Calendar()
"""Days of UTC, weeks from Monday."""


@dataclass(frozen=True, slots=True)
class CallColumns:
    """Where rows of one kind, messages or estimated calls, have what the dimensions of calls ask."""

    created_at: InstrumentedAttribute[datetime | None]
    model_id: InstrumentedAttribute[str | None]
    session_id: InstrumentedAttribute[str]
    agent: sa.ColumnElement[str]


def title_agent() -> sa.ColumnElement[str]:
    """Return the agent of an estimated call: that of the message which was cut off, `title` for a title."""
    is_title = UnrecordedCall.kind.in_(("title", "message_title"))
    return sa.case((is_title, "title"), else_=sa.func.coalesce(Message.agent, "unknown"))


OF_MESSAGES = CallColumns(Message.created_at, Message.model_id, Message.session_id, sa.func.coalesce(Message.agent, "unknown"))
OF_ESTIMATES = CallColumns(UnrecordedCall.created_at, UnrecordedCall.model_id, UnrecordedCall.session_id, title_agent())
"""Estimated calls, joined with the message that each was made for, if there is one."""


def period(interval: Interval | Literal["hour"], created_at: Any, calendar: Calendar) -> sa.ColumnElement[Any]:
    """Return the first day of the period that an instant belongs to; of an hour, the instant at which it begins.

    Args:
        interval: How long a period is.
        created_at: The instant, as stored: UTC.
        calendar: Whose days count.
    """
    local = local_time(created_at, calendar.tz)
    if interval == "hour":
        # An hour that the clocks repeat is two: both begin at instants of their own.
        return sa.type_coerce(created_at - (local - sa.func.date_trunc("hour", local)), UtcDateTime())
    if interval == Interval.DAY:
        return sa.cast(local, sa.Date)
    if interval == Interval.WEEK and calendar.week_start == "sunday":
        day = sa.cast(sa.cast(local, sa.Date) + 1, sa.DateTime)
        return sa.cast(sa.func.date_trunc("week", day), sa.Date) - 1
    return sa.cast(sa.func.date_trunc(str(interval), local), sa.Date)


def project_name() -> sa.ColumnElement[str]:
    """Return what a project is called: its name, else its working tree, else the directory of its sessions."""
    return sa.func.coalesce(Project.name, Project.worktree, Session.directory, "unknown")


def session_machines() -> sa.Subquery:
    """Return the machine that each session was read from, `session_id` and `host`: of several, the one with the best form of it."""
    place = sa.func.row_number().over(
        partition_by=IngestedSession.session_id,
        order_by=(
            IngestedSession.source_rank.desc().nulls_last(),
            IngestedSession.changed_at.desc().nulls_last(),
            IngestedSession.source_id,
        ),
    )
    known = (
        sa.select(IngestedSession.session_id, KnownSource.host, place.label("place"))
        .join(KnownSource, KnownSource.source_id == IngestedSession.source_id)
        .subquery("known_sources")
    )
    return sa.select(known.c.session_id, known.c.host).where(known.c.place == 1).subquery("machines")


def _provider(model_id: Any) -> sa.ColumnElement[str]:
    return sa.func.coalesce(sa.func.split_part(model_id, "/", 1), "unknown")


def _vendor(model_id: Any) -> sa.ColumnElement[str]:
    """Return who made a model as far as its name tells: of "openrouter/anthropic/claude" it is anthropic."""
    maker = sa.case((sa.func.split_part(model_id, "/", 3) != "", sa.func.split_part(model_id, "/", 2)), else_=_provider(model_id))
    return sa.func.coalesce(maker, "unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """One dimension.

    Attributes:
        name: What it is asked for by.
        key: The name of its column in a row: the four lengths of time share one.
        title: Its heading in a table.
        text: What it is, in a phrase.
        kind: What its values are: text, day or instant.
        needs: Which tables it needs beside its own: sessions, machines, tool_calls, errors or files.
    """

    name: str
    key: str
    title: str
    text: str
    kind: Literal["text", "day", "instant"] = "text"
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CallDimension(Dimension):
    """One that is asked of calls; `column` makes its expression."""

    column: Callable[[CallColumns, Calendar], sa.ColumnElement[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartDimension(Dimension):
    """One that is asked of parts with their shares; `column` makes its expression."""

    column: Callable[[sa.FromClause], sa.ColumnElement[Any]]


def _time(name: Interval | Literal["hour"], title: str) -> CallDimension:
    return CallDimension(
        name=str(name),
        key="period",
        title=title,
        text=f"the {name} of the call",
        column=lambda columns, calendar: period(name, columns.created_at, calendar),
        kind="instant" if name == "hour" else "day",
    )


def _of_calls(name: str, title: str, text: str, column: Callable[[CallColumns], sa.ColumnElement[Any]], *needs: str) -> CallDimension:
    key = "session_id" if name == "session" else name
    return CallDimension(name=name, key=key, title=title, text=text, column=lambda columns, _: column(columns), needs=needs)


def _of_parts(name: str, title: str, text: str, column: Callable[[sa.FromClause], sa.ColumnElement[Any]], *needs: str) -> PartDimension:
    return PartDimension(name=name, key=name.replace("-", "_"), title=title, text=text, column=column, needs=needs)


_MACHINES = session_machines()
# One row a part, whatever is stored: a second error must not count the part's cost twice.
_ERRORS = (
    sa.select(ErrorEvent.part_id, sa.func.min(sa.func.coalesce(ErrorEvent.error_category, "unknown")).label("category"))
    .group_by(ErrorEvent.part_id)
    .subquery("part_errors")
)

CALL_DIMENSIONS = {
    dimension.name: dimension
    for dimension in (
        _time(Interval.DAY, "Day"),
        _time(Interval.WEEK, "Week of"),
        _time(Interval.MONTH, "Month"),
        _time("hour", "Hour"),
        _of_calls("model", "Model", '"provider/model" as OpenCode names it', lambda of: sa.func.coalesce(of.model_id, "unknown")),
        _of_calls("provider", "Provider", "who was called and bills", lambda of: _provider(of.model_id)),
        _of_calls("vendor", "Vendor", "who made the model, where its name tells; else the provider", lambda of: _vendor(of.model_id)),
        _of_calls("agent", "Agent", "who called", lambda of: of.agent),
        _of_calls("project", "Project", "its name, else its working tree, else the directory", lambda _: project_name(), "sessions"),
        _of_calls("session", "Session", "a sub-agent's counts for itself", lambda of: of.session_id.expression),
        _of_calls(
            "machine", "Machine", "where the session was read from", lambda _: sa.func.coalesce(_MACHINES.c.host, "unknown"), "machines"
        ),
    )
}
"""The dimensions of calls by their name."""

PART_DIMENSIONS = {
    dimension.name: dimension
    for dimension in (
        _of_parts("tool", "Tool", "the tool that was called", lambda _: ToolCall.tool_name.expression, "tool_calls"),
        _of_parts("server", "Server", "the MCP server of the tool", lambda _: ToolCall.mcp_server.expression, "tool_calls"),
        _of_parts("skill", "Skill", "the skill that was loaded", lambda _: ToolCall.skill_name.expression, "tool_calls"),
        _of_parts("file", "File", "the file that a tool touched", lambda shares: shares.c.file_path, "files"),
        _of_parts("part-type", "Part", "text, thinking, a call of a tool", lambda shares: shares.c.part_type),
        _of_parts("error", "Error", "the category of the error", lambda _: _ERRORS.c.category, "errors"),
    )
}
"""The dimensions of parts by their name."""

DIMENSIONS: dict[str, CallDimension | PartDimension] = {**CALL_DIMENSIONS, **PART_DIMENSIONS}
"""All dimensions by their name."""


def is_of_parts(names: Iterable[str]) -> bool:
    """Tell whether parts have to be asked to tell the spend apart by some dimensions, and not calls."""
    return any(name in PART_DIMENSIONS for name in names)


def joined_parts(shares: sa.Subquery, names: Iterable[str]) -> sa.FromClause:
    """Return the shares of parts, joined with what some dimensions of parts, or of their calls, need.

    Args:
        shares: What `part_shares` returned, or for files `file_shares`.
        names: The dimensions.
    """
    names = list(names)
    needs = {need for name in names for need in DIMENSIONS[name].needs}
    source: sa.FromClause = shares
    if "tool_calls" in needs:
        source = source.outerjoin(ToolCall, ToolCall.part_id == shares.c.part_id)
    if "errors" in needs:
        source = source.outerjoin(_ERRORS, _ERRORS.c.part_id == shares.c.part_id)
    if any(name in CALL_DIMENSIONS for name in names):
        source = source.join(Message, Message.message_id == shares.c.message_id)
    return source


def joined(statement: sa.Select[*tuple[Any, ...]], names: Iterable[str], session_id: Any) -> sa.Select[*tuple[Any, ...]]:
    """Join what some dimensions of calls need.

    Args:
        statement: It selects from rows that have a session.
        names: The dimensions.
        session_id: Where those rows have their session.
    """
    needs = {need for name in names for need in DIMENSIONS[name].needs}
    if "sessions" in needs:
        statement = statement.join(Session, Session.session_id == session_id, isouter=True).join(
            Project, Project.project_id == Session.project_id, isouter=True
        )
    if "machines" in needs:
        statement = statement.join(_MACHINES, _MACHINES.c.session_id == session_id, isouter=True)
    return statement
