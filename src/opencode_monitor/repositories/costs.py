"""What was spent: sums over messages, by period, by model, by session."""

from __future__ import annotations

from dataclasses import dataclass, fields
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from opencode_monitor.metrics.usage import CostNumber, usage_columns
from opencode_monitor.models import Message, Project, Session

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime

    from sqlalchemy.orm import Session as DatabaseSession


class Interval(StrEnum):
    """How long a period of a report is; weeks begin on Monday (ISO)."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A half-open range of time, in UTC; None leaves an end open."""

    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens and cost of some calls; money in USD.

    Attributes:
        sessions: Sessions with a call of their own among them.
        calls: Model calls with recorded usage; copies made by a fork are left out here and in every sum.
        input_tokens: Uncached prompt tokens.
        cache_read_tokens: Prompt tokens read from the provider's cache.
        cache_write_tokens: Prompt tokens written to it.
        output_tokens: Visible output.
        reasoning_tokens: Reasoning, beside the output.
        cost_usd: At list price; None where there are calls and none has a price, "at least" where some have none.
        reported_cost_usd: As OpenCode stored it; None where there are calls and it stored a cost for none of them.
        paid_cost_usd: Out of pocket, flat fees left out; None where there are calls and it is known for none of them.
        unpriced_calls: Calls without a price.
        unreported_calls: Calls for which OpenCode stored no cost.
        paid_unknown_calls: Calls of which nobody can say what was paid: metered ones without a price.
        copied_calls: Calls that a fork copied.
        unrecorded_calls: Calls stored without usage: failed, cut off, or still running.
    """

    sessions: int
    calls: int
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_usd: Decimal | None
    reported_cost_usd: Decimal | None
    paid_cost_usd: Decimal | None
    unpriced_calls: int
    unreported_calls: int
    paid_unknown_calls: int
    copied_calls: int
    unrecorded_calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodUsage(Usage):
    """Usage of one period; `period` is its first day in the report's time zone, None for calls whose time is not known."""

    period: date | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUsage(Usage):
    """Usage of one model, "vendor/model" as OpenCode names it."""

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


Row = TypeVar("Row", bound=Usage)
_OWN_SESSIONS = sa.func.count(Message.session_id.distinct()).filter(Message.role == "assistant", Message.copied_from.is_(None))
_IS_CALL = sa.or_(Message.role == "assistant", Message.call_count > 0)


class CostRepository:
    """Sums of the spend. A call belongs to the period of its own time, not of its session's."""

    def __init__(self, session: DatabaseSession) -> None:
        self.session = session

    def total(self, time_range: TimeRange = TimeRange()) -> Usage:
        """Return the sum of all calls in a range."""
        return self._rows(Usage, {}, time_range)[0]

    def by_period(self, interval: Interval, *, tz: str, time_range: TimeRange = TimeRange()) -> list[PeriodUsage]:
        """Return one row per period with calls, oldest first; calls whose time is not known come last.

        Args:
            interval: How long a period is.
            tz: The IANA zone whose days count.
            time_range: What to look at.
        """
        local = sa.func.timezone(tz, sa.func.timezone("UTC", Message.created_at))
        period = sa.cast(sa.func.date_trunc(interval.value, local), sa.Date)
        return self._rows(PeriodUsage, {"period": period}, time_range, order_by=(period.asc().nulls_last(),))

    def by_model(self, time_range: TimeRange = TimeRange(), *, cost_number: CostNumber = CostNumber.LIST) -> list[ModelUsage]:
        """Return one row per model, the most expensive first and those of unknown cost last.

        Args:
            time_range: What to look at.
            cost_number: By which of the three numbers to order.
        """
        model = sa.func.coalesce(Message.model_id, "unknown")
        cost = usage_columns()[cost_number.field]
        return self._rows(ModelUsage, {"model": model}, time_range, order_by=(cost.desc().nulls_last(), model))

    def by_agent(
        self,
        time_range: TimeRange = TimeRange(),
        *,
        sort: str = "cost",
        limit: int | None = None,
        cost_number: CostNumber = CostNumber.LIST,
    ) -> list[AgentUsage]:
        """Return one row per agent.

        Args:
            time_range: What to look at.
            sort: `cost`, `tokens` or `calls` (most first, unknown costs last).
            limit: At most so many rows.
            cost_number: Which of the three numbers `cost` means.
        """
        agent = sa.func.coalesce(Message.agent, "unknown")
        statement = self._statement({"agent": agent}, time_range).group_by(agent).order_by(_most(sort, cost_number), agent).limit(limit)
        return [AgentUsage(**row) for row in self._mappings(statement)]

    def by_project(
        self,
        time_range: TimeRange = TimeRange(),
        *,
        sort: str = "cost",
        limit: int | None = None,
        cost_number: CostNumber = CostNumber.LIST,
    ) -> list[ProjectUsage]:
        """Return one row per project; arguments as for `by_agent`."""
        project = project_name()
        statement = (
            self._statement({"project": project}, time_range)
            .join(Session, Session.session_id == Message.session_id)
            .join(Project, Project.project_id == Session.project_id, isouter=True)
            .group_by(project)
            .order_by(_most(sort, cost_number), project)
            .limit(limit)
        )
        return [ProjectUsage(**row) for row in self._mappings(statement)]

    def by_project_and_model(self, time_range: TimeRange = TimeRange()) -> list[ProjectModelUsage]:
        """Return one row per project and model that it used, by name."""
        dimensions = {"project": project_name(), "model": sa.func.coalesce(Message.model_id, "unknown")}
        statement = (
            self._statement(dimensions, time_range)
            .join(Session, Session.session_id == Message.session_id)
            .join(Project, Project.project_id == Session.project_id, isouter=True)
            .group_by(*dimensions.values())
            .order_by(*dimensions.values())
        )
        return [ProjectModelUsage(**row) for row in self._mappings(statement)]

    def by_session(
        self,
        time_range: TimeRange = TimeRange(),
        *,
        sort: str = "started",
        limit: int | None = None,
        cost_number: CostNumber = CostNumber.LIST,
    ) -> list[SessionUsage]:
        """Return one row per session with messages in a range.

        Args:
            time_range: What to look at.
            sort: `started` (latest first), `cost` or `tokens` (most first).
            limit: At most so many rows.
            cost_number: Which of the three numbers `cost` means.
        """
        order = sa.desc(Session.created_at).nulls_last() if sort == "started" else _most(sort, cost_number)
        dimensions = {
            "session_id": Session.session_id,
            "title": Session.title,
            "project": sa.func.coalesce(Project.name, Project.worktree, Session.directory),
            "parent_session_id": Session.parent_session_id,
            "started_at": Session.created_at,
        }
        statement = (
            self._statement({**dimensions, "agent": sa.func.mode().within_group(Message.agent)}, time_range, calls_only=False)
            .join(Session, Session.session_id == Message.session_id)
            .join(Project, Project.project_id == Session.project_id, isouter=True)
            .group_by(*dimensions.values())
            .order_by(order, Session.session_id)
            .limit(limit)
        )
        return [SessionUsage(**row) for row in self._mappings(statement)]

    def of_sessions(self, session_ids: Sequence[str]) -> Usage:
        """Return the sums over some sessions."""
        statement = self._statement({}, TimeRange()).where(Message.session_id.in_(session_ids))
        return Usage(**self._mappings(statement)[0])

    def without_model(self, time_range: TimeRange = TimeRange()) -> int:
        """Return how many calls in a range have no price because OpenCode does not store their model."""
        is_nameless = sa.and_(Message.model_id.is_(None), Message.message_cost_usd.is_(None), Message.copied_from.is_(None))
        statement = sa.select(sa.cast(sa.func.coalesce(sa.func.sum(Message.call_count), 0), sa.Integer)).where(is_nameless)
        return int(self.session.execute(_within(statement, time_range)).scalar_one())

    def _rows(
        self,
        row_type: type[Row],
        dimensions: dict[str, sa.ColumnElement[Any]],
        time_range: TimeRange,
        *,
        order_by: Sequence[sa.ColumnElement[Any]] = (),
    ) -> list[Row]:
        statement = self._statement(dimensions, time_range).group_by(*dimensions.values()).order_by(*order_by)
        return [row_type(**row) for row in self._mappings(statement)]

    def _mappings(self, statement: sa.Select[Any]) -> list[dict[str, Any]]:
        return [dict(row) for row in self.session.execute(statement).mappings()]

    def _statement(self, dimensions: dict[str, Any], time_range: TimeRange, *, calls_only: bool = True) -> sa.Select[Any]:
        statement = sa.select(
            *(column.label(name) for name, column in dimensions.items()),
            _OWN_SESSIONS.label("sessions"),
            *(column.label(name) for name, column in usage_columns().items()),
        ).select_from(Message)
        if calls_only:
            statement = statement.where(_IS_CALL)
        return _within(statement, time_range)


def _within(statement: sa.Select[Any], time_range: TimeRange) -> sa.Select[Any]:
    if time_range.start is not None:
        statement = statement.where(Message.created_at >= time_range.start)
    if time_range.end is not None:
        statement = statement.where(Message.created_at < time_range.end)
    return statement


def project_name() -> sa.ColumnElement[str]:
    """Return what a project is called: its name, else its working tree, else the directory of its sessions."""
    return sa.func.coalesce(Project.name, Project.worktree, Session.directory, "unknown")


def _most(sort: str, cost_number: CostNumber) -> sa.ColumnElement[Any]:
    columns = usage_columns()
    tokens = sum((columns[name] for name in columns if name.endswith("_tokens")), sa.literal(0))
    return sa.desc({"cost": columns[cost_number.field], "tokens": tokens, "calls": columns["calls"]}[sort]).nulls_last()


NO_USAGE = Usage(
    sessions=0,
    calls=0,
    input_tokens=0,
    cache_read_tokens=0,
    cache_write_tokens=0,
    output_tokens=0,
    reasoning_tokens=0,
    cost_usd=Decimal(0),
    reported_cost_usd=Decimal(0),
    paid_cost_usd=Decimal(0),
    unpriced_calls=0,
    unreported_calls=0,
    paid_unknown_calls=0,
    copied_calls=0,
    unrecorded_calls=0,
)
"""The sums over nothing."""

USAGE_FIELDS = tuple(field.name for field in fields(Usage))
"""The names of the sums, in their order."""
