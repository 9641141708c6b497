"""`session_stats` and `session_resource_metrics` from messages, parts and calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from opencode_monitor.db.types import Money, UtcDateTime
from opencode_monitor.metrics.usage import usage_columns
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


def aggregate_sessions(connection: sa.Connection, scope: sa.FromClause | None, *, now: datetime) -> None:
    """Write both tables for some sessions, or for all: the backfill is the same code.

    Args:
        connection: In a transaction of the caller's.
        scope: A selectable with the `session_id`s to look at; None for all sessions.
        now: What `updated_at` says.
    """
    usage = (
        sa.select(
            Message.session_id,
            sa.func.count().label("message_count"),
            sa.func.avg(_milliseconds(Message.created_at, Message.completed_at))
            .filter(Message.role == "assistant")
            .label("avg_response_time_ms"),
            *(column.label(name) for name, column in usage_columns().items()),
        )
        .where(in_scope(Message.session_id, scope))
        .group_by(Message.session_id)
        .subquery("usage")
    )
    calls = _count(ToolCall, scope)
    execution = (
        sa.select(ToolCall.session_id, sa.func.sum(ToolCall.execution_time_ms).label("total"))
        .where(in_scope(ToolCall.session_id, scope), ToolCall.execution_time_ms.between(0, _LONGEST_MS))
        .group_by(ToolCall.session_id)
        .subquery("execution")
    )
    zero = sa.func.coalesce

    def cost(name: str) -> sa.ColumnElement[Decimal | None]:
        """A session without messages cost nothing."""
        return sa.case((usage.c.session_id.is_(None), sa.cast(0, Money())), else_=usage.c[name])

    _write(
        connection,
        SessionResourceMetrics,
        _beside_sessions(usage, calls, execution),
        scope,
        {
            "session_id": Session.session_id,
            "total_input_tokens": zero(usage.c.input_tokens, 0),
            "total_output_tokens": zero(usage.c.output_tokens, 0),
            "total_cost_usd": cost("cost_usd"),
            "tool_call_count": zero(calls.c.number, 0),
            "message_count": zero(usage.c.message_count, 0),
            "avg_response_time_ms": usage.c.avg_response_time_ms,
            "total_execution_time_ms": execution.c.total,
            "created_at": Session.created_at,
            "updated_at": sa.cast(sa.literal(now, UtcDateTime()), UtcDateTime()),
            "total_cache_read_tokens": zero(usage.c.cache_read_tokens, 0),
            "total_cache_write_tokens": zero(usage.c.cache_write_tokens, 0),
            "total_reasoning_tokens": zero(usage.c.reasoning_tokens, 0),
            "reported_cost_usd": cost("reported_cost_usd"),
            "call_count": zero(usage.c.calls, 0),
            "unpriced_calls": zero(usage.c.unpriced_calls, 0),
            "copied_calls": zero(usage.c.copied_calls, 0),
            "unrecorded_calls": zero(usage.c.unrecorded_calls, 0),
            "total_paid_usd": cost("paid_cost_usd"),
        },
    )
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
    _write(
        connection,
        SessionStats,
        # What both tables hold is not summed twice.
        _beside_sessions(duration, parts, errors, files).join(metrics, metrics.c.session_id == Session.session_id),
        scope,
        {
            "session_id": Session.session_id,
            "message_count": metrics.c.message_count,
            "part_count": zero(parts.c.number, 0),
            "tool_call_count": metrics.c.tool_call_count,
            "error_count": zero(errors.c.number, 0),
            "file_operation_count": zero(files.c.number, 0),
            "duration_ms": duration.c.milliseconds,
            "total_cost_usd": metrics.c.total_cost_usd,
        },
    )


def _beside_sessions(*sums: sa.Subquery) -> sa.FromClause:
    """Return all sessions with their row of each subquery, if there is one."""
    source: sa.FromClause = Session.__table__
    for one in sums:
        source = source.outerjoin(one, one.c.session_id == Session.session_id)
    return source


def _write(
    connection: sa.Connection,
    model: type[SessionStats | SessionResourceMetrics],
    source: sa.FromClause,
    scope: sa.FromClause | None,
    columns: Mapping[str, Any],
) -> None:
    rows: sa.Select[Any] = sa.select(*columns.values()).select_from(source).where(in_scope(Session.session_id, scope))
    statement = insert(model).from_select(list(columns), rows)
    new_values = {name: statement.excluded[name] for name in columns if name != "session_id"}
    # A row that says the same already is left alone: an index over it costs DuckDB more than all the sums.
    differs = sa.or_(*(getattr(model, name).is_distinct_from(value) for name, value in new_values.items() if name != "updated_at"))
    connection.execute(statement.on_conflict_do_update(index_elements=["session_id"], set_=new_values, where=differs))


def _count(model: type[Part | ToolCall | ErrorEvent | FileOperation], scope: sa.FromClause | None) -> sa.Subquery:
    return (
        sa.select(model.session_id, sa.func.count().label("number"))
        .where(in_scope(model.session_id, scope))
        .group_by(model.session_id)
        .subquery(model.__tablename__ + "_counted")
    )


def _milliseconds(start: Any, end: Any) -> sa.ColumnElement[float]:
    return sa.cast(sa.extract("epoch", sa.cast(end, UtcDateTime()) - sa.cast(start, UtcDateTime())), sa.Double) * 1000
