"""Spend at the grain that it is judged by: day, project, model, agent, session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from opencode_monitor.db.patterns import matches
from opencode_monitor.metrics.usage import CostNumber, usage_columns
from opencode_monitor.models import Message, Project, Session
from opencode_monitor.repositories.costs import project_name
from opencode_monitor.repositories.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date, datetime
    from decimal import Decimal

    from sqlalchemy.orm import Session as DatabaseSession

    from opencode_monitor.repositories.costs import TimeRange


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendRow:
    """What one session spent on one day with one model and one agent.

    Attributes:
        day: The day of the calls, in the asked zone.
        project: As in `CostRepository.by_project`.
        model: "vendor/model".
        agent: Who called.
        session_id: The session itself, which may be a sub-agent's.
        usd: What is known of the asked number; None where it is known of no call.
        unknown_calls: Calls of which it is not known.
    """

    day: date
    project: str
    model: str
    agent: str
    session_id: str
    usd: Decimal | None
    unknown_calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendScope:
    """Whose calls count: those that match every pattern that is given. `*` is any text, `?` any one character, letter by letter.

    Attributes:
        project: A pattern for what a project is called, as in `CostRepository.by_project`.
        model: A pattern for "vendor/model"; one without a slash is for what stands after the vendor.
        agent: A pattern for who called.
    """

    project: str | None = None
    model: str | None = None
    agent: str | None = None


EVERYTHING = SpendScope()
"""The scope of all calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DaySpend:
    """What one day's calls cost.

    Attributes:
        day: The day of the calls, in the asked zone.
        usd: What is known of the asked number; None where it is known of no call.
        calls: All of them.
        unknown_calls: Those of which it is not known.
    """

    day: date
    usd: Decimal | None
    calls: int
    unknown_calls: int


class SpendRepository:
    """Spend by day and by all that it is told apart by; copies made by a fork are in none of it."""

    def __init__(self, session: DatabaseSession) -> None:
        self.session = session

    def rows(self, time_range: TimeRange, *, tz: str, cost_number: CostNumber = CostNumber.LIST) -> Rows[SpendRow]:
        """Return the spend of a range; calls whose time is not known belong to no day and are left out.

        Args:
            time_range: What to look at.
            tz: The IANA zone whose days count.
            cost_number: Which of the three numbers.
        """
        keys: dict[str, Any] = {"day": _day(tz), **_dimensions(), "session_id": Message.session_id}
        columns = usage_columns()
        usd, unknown = columns[cost_number.field], columns[cost_number.unknown_field]
        statement = (
            sa.select(*(column.label(name) for name, column in keys.items()), usd.label("usd"), unknown.label("unknown_calls"))
            .where(*_is_billed(time_range))
            .group_by(*keys.values())
            .order_by(*keys.values())
        )
        return Rows(SpendRow, (SpendRow(**row) for row in self.session.execute(_with_projects(statement)).mappings()))

    def days(
        self, time_range: TimeRange, *, tz: str, cost_number: CostNumber = CostNumber.LIST, scope: SpendScope = EVERYTHING
    ) -> Rows[DaySpend]:
        """Return what each day with calls cost; calls whose time is not known belong to no day and are left out.

        Args:
            time_range: What to look at.
            tz: The IANA zone whose days count.
            cost_number: Which of the three numbers.
            scope: Whose calls count.
        """
        columns, day = usage_columns(), _day(tz)
        statement = sa.select(
            day.label("day"),
            columns[cost_number.field].label("usd"),
            columns["calls"].label("calls"),
            columns[cost_number.unknown_field].label("unknown_calls"),
        ).where(*_is_billed(time_range), *_is_within(scope))
        rows = self.session.execute(_with_projects(statement).group_by(day).order_by(day)).mappings()
        return Rows(DaySpend, (DaySpend(**row) for row in rows))

    def unmatched(self, scope: SpendScope) -> list[str]:
        """Return which patterns of a scope, `project`, `model` or `agent`, no call has ever matched."""
        given = _patterns(scope)
        if not given:
            return []
        statement = sa.select(*(sa.func.count().filter(condition).label(name) for name, condition in given.items()))
        counts = self.session.execute(_with_projects(statement).where(Message.call_count > 0)).mappings().one()
        return [name for name in given if not counts[name]]

    def first_days(self, dimension: str, *, tz: str, cost_number: CostNumber = CostNumber.LIST) -> dict[str, date]:
        """Return the first day with spend of each key of a dimension.

        Args:
            dimension: `project`, `model` or `agent`.
            tz: The IANA zone whose days count.
            cost_number: Which of the three numbers.
        """
        key = _dimensions()[dimension]
        statement = _with_projects(sa.select(key.label("key"), sa.func.min(_day(tz)).label("day"))).group_by(key)
        rows = self.session.execute(statement.where(*_is_billed(None), _cost(cost_number) > 0)).all()
        return {row.key: row.day for row in rows}

    def span(self, *, tz: str, cost_number: CostNumber = CostNumber.LIST, scope: SpendScope = EVERYTHING) -> tuple[date, date] | None:
        """Return the first and the last day with spend; None where there is none.

        Args:
            tz: The IANA zone whose days count.
            cost_number: Which of the three numbers.
            scope: Whose calls count.
        """
        statement = sa.select(sa.func.min(_day(tz)), sa.func.max(_day(tz))).where(
            *_is_billed(None), *_is_within(scope), _cost(cost_number) > 0
        )
        first, last = self.session.execute(statement if scope.project is None else _with_projects(statement)).one()
        return None if first is None else (first, last)

    def parents(self) -> dict[str, str]:
        """Return the session that each sub-agent's session was started from."""
        statement = sa.select(Session.session_id, Session.parent_session_id).where(Session.parent_session_id.is_not(None))
        return {row.session_id: row.parent_session_id for row in self.session.execute(statement).all()}

    def sessions_begun_before(self, at: datetime) -> set[str]:
        """Return the sessions with calls before an instant and after it."""
        statement = (
            sa.select(Message.session_id)
            .where(*_is_billed(None))
            .group_by(Message.session_id)
            .having(sa.and_(sa.func.min(Message.created_at) < at, sa.func.max(Message.created_at) >= at))
        )
        return set(self.session.scalars(statement).all())

    def titles(self, session_ids: Iterable[str]) -> dict[str, str]:
        """Return the titles of some sessions, of those that have one."""
        statement = sa.select(Session.session_id, Session.title).where(
            Session.session_id.in_(list(session_ids)), Session.title.is_not(None)
        )
        return {row.session_id: row.title for row in self.session.execute(statement).all()}

    def calls_without_time(self) -> int:
        """Return how many calls belong to no day, as their time is not known."""
        statement = sa.select(sa.cast(sa.func.coalesce(sa.func.sum(Message.call_count), 0), sa.Integer)).where(
            Message.created_at.is_(None), Message.copied_from.is_(None)
        )
        return int(self.session.scalars(statement).one())


def _day(tz: str) -> sa.ColumnElement[date]:
    return sa.cast(sa.func.timezone(tz, sa.func.timezone("UTC", Message.created_at)), sa.Date)


def _cost(cost_number: CostNumber) -> sa.ColumnElement[Decimal | None]:
    columns = {
        CostNumber.LIST: Message.message_cost_usd,
        CostNumber.REPORTED: Message.reported_cost_usd,
        CostNumber.PAID: Message.paid_cost_usd,
    }
    return columns[cost_number].expression


def _dimensions() -> dict[str, sa.ColumnElement[str]]:
    return {
        "project": project_name(),
        "model": sa.func.coalesce(Message.model_id, "unknown"),
        "agent": sa.func.coalesce(Message.agent, "unknown"),
    }


def _patterns(scope: SpendScope) -> dict[str, sa.ColumnElement[bool]]:
    """Return the condition that each pattern that is given makes, by what it is for."""
    columns = _dimensions()
    model = columns["model"]
    if scope.model is not None and "/" not in scope.model:
        columns["model"] = sa.func.substr(model, sa.func.strpos(model, "/") + 1)
    given = {"project": scope.project, "model": scope.model, "agent": scope.agent}
    return {name: matches(columns[name], pattern) for name, pattern in given.items() if pattern is not None}


def _is_within(scope: SpendScope) -> list[sa.ColumnElement[bool]]:
    return list(_patterns(scope).values())


def _is_billed(time_range: TimeRange | None) -> list[sa.ColumnElement[bool]]:
    conditions = [Message.created_at.is_not(None), Message.copied_from.is_(None), Message.call_count > 0]
    if time_range is not None and time_range.start is not None:
        conditions.append(Message.created_at >= time_range.start)
    if time_range is not None and time_range.end is not None:
        conditions.append(Message.created_at < time_range.end)
    return conditions


def _with_projects(statement: sa.Select[*tuple[Any, ...]]) -> sa.Select[*tuple[Any, ...]]:
    return (
        statement.select_from(Message)
        .join(Session, Session.session_id == Message.session_id)
        .join(Project, Project.project_id == Session.project_id, isouter=True)
    )
