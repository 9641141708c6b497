"""`session_stats` and `session_resource_metrics` from messages, parts and calls."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from opencode_monitor.db.types import Money, UtcDateTime
from opencode_monitor.metrics.measures import TOKEN_MEASURES, call_measures
from opencode_monitor.models import (
    ErrorEvent,
    FileOperation,
    Message,
    Part,
    Session,
    SessionResourceMetrics,
    SessionStats,
    ToolCall,
)
from opencode_monitor.pricing.cost import in_scope

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from decimal import Decimal

# Thirty years. What an old database holds beyond that is no duration: one NaN spoils a sum, and PostgreSQL refuses one that overflows.
_LONGEST_MS = 1e12

_SUMMED = (
    "calls",
    *TOKEN_MEASURES,
    "cost_usd",
    "reported_cost_usd",
    "paid_cost_usd",
    "unpriced_calls",
    "copied_calls",
    "unrecorded_calls",
)


def aggregate_sessions(connection: sa.Connection, scope: sa.FromClause | None, *, now: datetime) -> None:
    """Write both tables for some sessions, or for all: the backfill is the same code.

    Args:
        connection: In a transaction of the caller's.
        scope: A selectable with the `session_id`s to look at; None for all sessions.
        now: What `updated_at` says.
    """
    has_metrics, has_stats = connection.execute(_are_stored(scope)).one()
    connection.execute(_metrics_written(scope, now, is_stored=has_metrics))
    connection.execute(_stats_written(scope, is_stored=has_stats))


def resource_metrics(scope: sa.FromClause | None, *, now: datetime) -> sa.Select[Any]:
    """Select the rows of `session_resource_metrics`, by the names of its columns; arguments as for `aggregate_sessions`."""
    measures = call_measures()
    usage = (
        sa.select(
            Message.session_id,
            sa.func.count().label("message_count"),
            sa.func.avg(_milliseconds(Message.created_at, Message.completed_at))
            .filter(Message.role == "assistant")
            .label("avg_response_time_ms"),
            *(measures[name].label(name) for name in _SUMMED),
        )
        .where(in_scope(Message.session_id, scope))
        .group_by(Message.session_id)
        .subquery("usage")
    )
    is_duration = ToolCall.execution_time_ms.between(0, _LONGEST_MS)
    calls = _count(ToolCall, scope, sa.func.sum(ToolCall.execution_time_ms).filter(is_duration).label("execution_time_ms"))

    def cost(name: str) -> sa.ColumnElement[Decimal | None]:
        """A session without messages cost nothing."""
        return sa.case((usage.c.session_id.is_(None), sa.cast(0, Money())), else_=usage.c[name])

    columns: dict[str, Any] = {
        "session_id": Session.session_id,
        "total_input_tokens": _or_zero(usage.c.input_tokens),
        "total_output_tokens": _or_zero(usage.c.output_tokens),
        "total_cost_usd": cost("cost_usd"),
        "tool_call_count": _or_zero(calls.c.number),
        "message_count": _or_zero(usage.c.message_count),
        "avg_response_time_ms": usage.c.avg_response_time_ms,
        "total_execution_time_ms": calls.c.execution_time_ms,
        "created_at": Session.created_at,
        "updated_at": sa.cast(sa.literal(now, UtcDateTime()), UtcDateTime()),
        "total_cache_read_tokens": _or_zero(usage.c.cache_read_tokens),
        "total_cache_write_tokens": _or_zero(usage.c.cache_write_tokens),
        "total_reasoning_tokens": _or_zero(usage.c.reasoning_tokens),
        "reported_cost_usd": cost("reported_cost_usd"),
        "call_count": _or_zero(usage.c.calls),
        "unpriced_calls": _or_zero(usage.c.unpriced_calls),
        "copied_calls": _or_zero(usage.c.copied_calls),
        "unrecorded_calls": _or_zero(usage.c.unrecorded_calls),
        "total_paid_usd": cost("paid_cost_usd"),
    }
    return _rows(columns, _beside_sessions(usage, calls), scope)


def stats(scope: sa.FromClause | None) -> sa.Select[Any]:
    """Select the rows of `session_stats`, by the names of its columns; those of `session_resource_metrics` are written before."""
    duration = (
        sa.select(
            Message.session_id,
            _milliseconds(sa.func.min(Message.created_at), sa.func.max(sa.func.coalesce(Message.completed_at, Message.created_at))).label(
                "milliseconds"
            ),
        )
        .where(in_scope(Message.session_id, scope))
        .group_by(Message.session_id)
        .subquery("duration")
    )
    parts, errors, files = _count(Part, scope), _count(ErrorEvent, scope), _count(FileOperation, scope)
    metrics = SessionResourceMetrics.__table__
    columns: dict[str, Any] = {
        "session_id": Session.session_id,
        "message_count": metrics.c.message_count,
        "part_count": _or_zero(parts.c.number),
        "tool_call_count": metrics.c.tool_call_count,
        "error_count": _or_zero(errors.c.number),
        "file_operation_count": _or_zero(files.c.number),
        "duration_ms": duration.c.milliseconds,
        "total_cost_usd": metrics.c.total_cost_usd,
    }
    # What both tables hold is not summed twice.
    source = _beside_sessions(duration, parts, errors, files).join(metrics, metrics.c.session_id == Session.session_id)
    return _rows(columns, source, scope)


def _beside_sessions(*sums: sa.Subquery) -> sa.FromClause:
    """Return all sessions with their row of each subquery, if there is one."""
    source: sa.FromClause = Session.__table__
    for one in sums:
        source = source.outerjoin(one, one.c.session_id == Session.session_id)
    return source


def _rows(columns: Mapping[str, Any], source: sa.FromClause, scope: sa.FromClause | None) -> sa.Select[Any]:
    return sa.select(*(value.label(name) for name, value in columns.items())).select_from(source).where(in_scope(Session.session_id, scope))


# To make a statement takes longer than some of them run. Each is kept by its scope, which `staged` makes once for each name.


@lru_cache(maxsize=8)
def _are_stored(scope: sa.FromClause | None) -> sa.Select[bool, bool]:
    has_metrics, has_stats = (
        sa.exists().select_from(model).where(in_scope(model.session_id, scope)) for model in (SessionResourceMetrics, SessionStats)
    )
    return sa.select(has_metrics, has_stats)


@lru_cache(maxsize=8)
def _metrics_written(scope: sa.FromClause | None, now: datetime, *, is_stored: bool) -> sa.Insert:
    return _written(SessionResourceMetrics, resource_metrics(scope, now=now), is_stored=is_stored)


@lru_cache(maxsize=8)
def _stats_written(scope: sa.FromClause | None, *, is_stored: bool) -> sa.Insert:
    return _written(SessionStats, stats(scope), is_stored=is_stored)


def _written(model: type[SessionStats | SessionResourceMetrics], rows: sa.Select[Any], *, is_stored: bool) -> sa.Insert:
    """Insert the rows, and update those that are stored, if any is: looking for them would take DuckDB half the time of inserting again."""
    names = [column.name for column in rows.selected_columns]
    statement = insert(model).from_select(names, rows)
    if not is_stored:
        return statement
    new_values = {name: statement.excluded[name] for name in names if name != "session_id"}
    # A row that says the same already is left alone: an index over it costs DuckDB more than all the sums.
    differs = sa.or_(*(getattr(model, name).is_distinct_from(value) for name, value in new_values.items() if name != "updated_at"))
    return statement.on_conflict_do_update(index_elements=["session_id"], set_=new_values, where=differs)


def _count(
    model: type[Part | ToolCall | ErrorEvent | FileOperation], scope: sa.FromClause | None, *sums: sa.ColumnElement[Any]
) -> sa.Subquery:
    """Return the number of a session's rows, and sums of them."""
    return (
        sa.select(model.session_id, sa.func.count().label("number"), *sums)
        .where(in_scope(model.session_id, scope))
        .group_by(model.session_id)
        .subquery(model.__tablename__ + "_counted")
    )


def _or_zero(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.func.coalesce(column, 0)


def _milliseconds(start: Any, end: Any) -> sa.ColumnElement[float]:
    return sa.cast(sa.extract("epoch", sa.cast(end, UtcDateTime()) - sa.cast(start, UtcDateTime())), sa.Double) * 1000
