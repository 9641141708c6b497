"""What was spent: sums over calls, by any of their dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from opencode_monitor.metrics.dimensions import CALL_DIMENSIONS, OF_MESSAGES, UTC_CALENDAR, Calendar, Interval, joined
from opencode_monitor.metrics.filters import EVERYTHING
from opencode_monitor.metrics.measures import IS_BILLED, CostNumber, call_measures, total_tokens
from opencode_monitor.metrics.time_range import ALL_TIME, TimeRange
from opencode_monitor.models import Message, Project, Session
from opencode_monitor.repositories.row_types import Usage, row_type
from opencode_monitor.repositories.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime

    from sqlalchemy.orm import Session as DatabaseSession

    from opencode_monitor.metrics.filters import Filters


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodUsage(Usage):
    """Usage of one period; `period` is its first day in the report's time zone, None for calls whose time is not known."""

    period: date | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUsage(Usage):
    """Usage of one model, "provider/model" as OpenCode names it."""

    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentUsage(Usage):
    """Usage of one agent."""

    agent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectUsage(Usage):
    """Usage of one project, under its name, else its working tree, else the directory of its sessions."""

    project: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectModelUsage(Usage):
    """Usage of one model in one project."""

    project: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionUsage(Usage):
    """Usage of one session, its sub-agents' sessions left out; `started_at` in UTC."""

    session_id: str
    title: str | None
    project: str | None
    agent: str | None
    parent_session_id: str | None
    started_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageUsage(Usage):
    """Usage of one message."""

    message_id: str
    session_id: str


Row = TypeVar("Row", bound=Usage)
_IS_CALL = sa.or_(Message.role == "assistant", Message.call_count > 0)


class CostRepository:
    """Sums of the spend. A call belongs to the period of its own time, not of its session's."""

    def __init__(self, session: DatabaseSession) -> None:
        self.session = session

    def total(self, time_range: TimeRange = ALL_TIME, *, filters: Filters = EVERYTHING) -> Usage:
        """Return the sum of all calls in a range.

        Args:
            time_range: What to look at.
            filters: Whose calls count.
        """
        return Usage(**self._mappings(self._statement({}, time_range, filters).where(_IS_CALL))[0])

    def by(
        self,
        *dimensions: str,
        time_range: TimeRange = ALL_TIME,
        filters: Filters = EVERYTHING,
        calendar: Calendar = UTC_CALENDAR,
        sort: str | None = None,
        limit: int | None = None,
        cost_number: CostNumber = CostNumber.LIST,
    ) -> Rows[Usage]:
        """Return one row for each group of calls that some dimensions tell apart.

        Args:
            dimensions: Names out of `CALL_DIMENSIONS`: day, week, month, hour, model, provider, vendor, agent, project, session, machine.
            time_range: What to look at.
            filters: Whose calls count.
            calendar: Which days and weeks count.
            sort: `cost`, `tokens` or `calls` (most first, unknown costs last); else by the dimensions, in their order.
            limit: At most so many rows.
            cost_number: Which of the three numbers `cost` means.

        Returns:
            Rows with a field for each dimension, named by its `key`; all of them together sum to `total`.
        """
        order = None if sort is None else _most(sort, cost_number)
        return self._by(row_type(Usage, *dimensions), dimensions, time_range, filters, calendar, order, limit)

    def by_period(
        self, interval: Interval, *, tz: str, time_range: TimeRange = ALL_TIME, filters: Filters = EVERYTHING
    ) -> Rows[PeriodUsage]:
        """Return one row per period with calls, oldest first; calls whose time is not known come last.

        Args:
            interval: How long a period is; weeks begin on Monday.
            tz: The IANA zone whose days count.
            time_range: What to look at.
            filters: Whose calls count.
        """
        return self._by(PeriodUsage, (interval,), time_range, filters, Calendar(tz=tz))

    def by_model(
        self, time_range: TimeRange = ALL_TIME, *, filters: Filters = EVERYTHING, cost_number: CostNumber = CostNumber.LIST
    ) -> Rows[ModelUsage]:
        """Return one row per model, the most expensive first and those of unknown cost last.

        Args:
            time_range: What to look at.
            filters: Whose calls count.
            cost_number: By which of the three numbers to order.
        """
        return self._by(ModelUsage, ("model",), time_range, filters, order=_most("cost", cost_number))

    def by_agent(
        self,
        time_range: TimeRange = ALL_TIME,
        *,
        filters: Filters = EVERYTHING,
        sort: str = "cost",
        limit: int | None = None,
        cost_number: CostNumber = CostNumber.LIST,
    ) -> Rows[AgentUsage]:
        """Return one row per agent; arguments as for `by`."""
        return self._by(AgentUsage, ("agent",), time_range, filters, order=_most(sort, cost_number), limit=limit)

    def by_project(
        self,
        time_range: TimeRange = ALL_TIME,
        *,
        filters: Filters = EVERYTHING,
        sort: str = "cost",
        limit: int | None = None,
        cost_number: CostNumber = CostNumber.LIST,
    ) -> Rows[ProjectUsage]:
        """Return one row per project; arguments as for `by`."""
        return self._by(ProjectUsage, ("project",), time_range, filters, order=_most(sort, cost_number), limit=limit)

    def by_project_and_model(self, time_range: TimeRange = ALL_TIME) -> Rows[ProjectModelUsage]:
        """Return one row per project and model that it used, by name."""
        return self._by(ProjectModelUsage, ("project", "model"), time_range, EVERYTHING)

    def by_session(
        self,
        time_range: TimeRange = ALL_TIME,
        *,
        filters: Filters = EVERYTHING,
        sort: str = "started",
        limit: int | None = None,
        cost_number: CostNumber = CostNumber.LIST,
    ) -> Rows[SessionUsage]:
        """Return one row per session with messages in a range.

        Args:
            time_range: What to look at.
            filters: Whose calls count.
            sort: `started` (latest first), `cost`, `tokens` or `calls` (most first).
            limit: At most so many rows.
            cost_number: Which of the three numbers `cost` means.
        """
        order = sa.desc(Session.created_at).nulls_last() if sort == "started" else _most(sort, cost_number)
        keys = {
            "session_id": Session.session_id,
            "title": Session.title,
            "project": sa.func.coalesce(Project.name, Project.worktree, Session.directory),
            "parent_session_id": Session.parent_session_id,
            "started_at": Session.created_at,
        }
        statement = (
            self._statement({**keys, "agent": sa.func.mode().within_group(Message.agent)}, time_range, filters)
            .join(Session, Session.session_id == Message.session_id)
            .join(Project, Project.project_id == Session.project_id, isouter=True)
            .group_by(*keys.values())
            .order_by(order, Session.session_id)
            .limit(limit)
        )
        return Rows(SessionUsage, (SessionUsage(**row) for row in self._mappings(statement)))

    def by_message(self, session_ids: Sequence[str]) -> list[MessageUsage]:
        """Return one row per message with a call, or with one that was cut off, of some sessions; in no order."""
        keys = {"message_id": Message.message_id, "session_id": Message.session_id}
        statement = self._statement(keys, ALL_TIME, EVERYTHING).where(_IS_CALL, Message.session_id.in_(session_ids))
        return [MessageUsage(**row) for row in self._mappings(statement.group_by(*keys.values()))]

    def of_sessions(self, session_ids: Sequence[str]) -> Usage:
        """Return the sums over some sessions."""
        statement = self._statement({}, ALL_TIME, EVERYTHING).where(_IS_CALL, Message.session_id.in_(session_ids))
        return Usage(**self._mappings(statement)[0])

    def span(self) -> tuple[datetime, datetime] | None:
        """Return when the first and the last call were made, in UTC; None where there is none."""
        at = Message.created_at
        first, last = self.session.execute(sa.select(sa.func.min(at), sa.func.max(at)).where(_IS_CALL)).one()
        return None if first is None or last is None else (first, last)

    def without_model(self, time_range: TimeRange = ALL_TIME, *, filters: Filters = EVERYTHING) -> int:
        """Return how many calls in a range have no price because OpenCode does not store their model."""
        is_nameless = sa.and_(Message.model_id.is_(None), Message.message_cost_usd.is_(None), IS_BILLED)
        count = sa.cast(sa.func.coalesce(sa.func.sum(Message.call_count), 0), sa.Integer)
        conditions = (*time_range.holds(Message.created_at), *filters.of_calls())
        return int(self.session.execute(sa.select(count).where(is_nameless, *conditions)).scalar_one())

    def _by(
        self,
        row: type[Row],
        dimensions: Sequence[str],
        time_range: TimeRange,
        filters: Filters,
        calendar: Calendar = UTC_CALENDAR,
        order: sa.ColumnElement[Any] | None = None,
        limit: int | None = None,
    ) -> Rows[Row]:
        chosen = [CALL_DIMENSIONS[name] for name in dimensions]
        keys = {dimension.key: dimension.column(OF_MESSAGES, calendar) for dimension in chosen}
        by_key = [column.asc().nulls_last() for column in keys.values()]
        statement = joined(self._statement(keys, time_range, filters), dimensions, Message.session_id).where(_IS_CALL)
        statement = statement.group_by(*keys.values()).order_by(*(by_key if order is None else [order, *by_key])).limit(limit)
        return Rows(row, (row(**values) for values in self._mappings(statement)))

    def _mappings(self, statement: sa.Select[Any]) -> list[dict[str, Any]]:
        return [dict(row) for row in self.session.execute(statement).mappings()]

    def _statement(self, keys: dict[str, Any], time_range: TimeRange, filters: Filters) -> sa.Select[Any]:
        columns = {**keys, **call_measures()}
        return (
            sa.select(*(column.label(name) for name, column in columns.items()))
            .select_from(Message)
            .where(*time_range.holds(Message.created_at), *filters.of_calls())
        )


def _most(sort: str, cost_number: CostNumber) -> sa.ColumnElement[Any]:
    columns = call_measures()
    orders: dict[str, sa.ColumnElement[Any]] = {
        "cost": columns[cost_number.field],
        "tokens": total_tokens(columns),
        "calls": columns["calls"],
    }
    return orders[sort].desc().nulls_last()
