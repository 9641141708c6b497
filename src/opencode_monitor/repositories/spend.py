"""Spend at the grain that it is judged by: day, project, model, agent, session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from opencode_monitor.metrics.dimensions import CALL_DIMENSIONS, OF_MESSAGES, UTC_CALENDAR, Calendar, Interval, joined, period
from opencode_monitor.metrics.filters import EVERYTHING, Filters
from opencode_monitor.metrics.measures import IS_BILLED, CostNumber, call_measures, message_cost
from opencode_monitor.metrics.time_range import ALL_TIME, TimeRange
from opencode_monitor.models import Message, Session

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date, datetime
    from decimal import Decimal

    from sqlalchemy.orm import Session as DatabaseSession


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


_NAMES = ("project", "model", "agent")


class SpendRepository:
    """Spend by day and by all that it is told apart by; copies made by a fork are in none of it."""

    def __init__(self, session: DatabaseSession) -> None:
        self.session = session

    def rows(
        self, time_range: TimeRange, *, tz: str, cost_number: CostNumber = CostNumber.LIST, filters: Filters = EVERYTHING
    ) -> list[SpendRow]:
        """Return the spend of a range; calls whose time is not known belong to no day and are left out.

        Args:
            time_range: What to look at.
            tz: The IANA zone whose days count.
            cost_number: Which of the three numbers.
            filters: Whose calls count.
        """
        keys: dict[str, Any] = {"day": _day(tz), **{name: _column(name) for name in _NAMES}, "session_id": Message.session_id}
        columns = call_measures()
        usd, unknown = columns[cost_number.field], columns[cost_number.unknown_field]
        statement = sa.select(*(column.label(name) for name, column in keys.items()), usd.label("usd"), unknown.label("unknown_calls"))
        statement = joined(statement.select_from(Message), _NAMES, Message.session_id).where(*_is_billed(time_range, filters))
        rows = self.session.execute(statement.group_by(*keys.values()).order_by(*keys.values())).mappings()
        return [SpendRow(**row) for row in rows]

    def days(
        self, time_range: TimeRange, *, tz: str, cost_number: CostNumber = CostNumber.LIST, filters: Filters = EVERYTHING
    ) -> list[DaySpend]:
        """Return what each day with calls cost; arguments as for `rows`."""
        columns, day = call_measures(), _day(tz)
        statement = sa.select(
            day.label("day"),
            columns[cost_number.field].label("usd"),
            columns["calls"].label("calls"),
            columns[cost_number.unknown_field].label("unknown_calls"),
        ).where(*_is_billed(time_range, filters))
        return [DaySpend(**row) for row in self.session.execute(statement.group_by(day).order_by(day)).mappings()]

    def unmatched(self, filters: Filters) -> list[str]:
        """Return the kinds of filters, such as `project`, whose patterns no call has ever matched."""
        kinds = [kind for kind in filters.given() if kind != "tool"]
        if not kinds:
            return []
        counts = [sa.func.count().filter(filters.condition(kind)).label(kind) for kind in kinds]
        row = self.session.execute(sa.select(*counts).select_from(Message).where(Message.call_count > 0)).mappings().one()
        return [kind for kind in kinds if not row[kind]]

    def first_days(
        self, dimension: str, *, tz: str, cost_number: CostNumber = CostNumber.LIST, filters: Filters = EVERYTHING
    ) -> dict[str, date]:
        """Return the first day with spend of each key of a dimension.

        Args:
            dimension: `project`, `model` or `agent`.
            tz: The IANA zone whose days count.
            cost_number: Which of the three numbers.
            filters: Whose calls count.
        """
        key = _column(dimension)
        statement = sa.select(key.label("key"), sa.func.min(_day(tz)).label("day")).select_from(Message)
        statement = joined(statement, (dimension,), Message.session_id).group_by(key)
        rows = self.session.execute(statement.where(*_is_billed(ALL_TIME, filters), message_cost(cost_number) > 0)).all()
        return {row.key: row.day for row in rows}

    def span(self, *, tz: str, cost_number: CostNumber = CostNumber.LIST, filters: Filters = EVERYTHING) -> tuple[date, date] | None:
        """Return the first and the last day with spend; None where there is none.

        Args:
            tz: The IANA zone whose days count.
            cost_number: Which of the three numbers.
            filters: Whose calls count.
        """
        statement = sa.select(sa.func.min(_day(tz)), sa.func.max(_day(tz)))
        first, last = self.session.execute(statement.where(*_is_billed(ALL_TIME, filters), message_cost(cost_number) > 0)).one()
        return None if first is None else (first, last)

    def parents(self) -> dict[str, str]:
        """Return the session that each sub-agent's session was started from."""
        statement = sa.select(Session.session_id, Session.parent_session_id).where(Session.parent_session_id.is_not(None))
        return {row.session_id: row.parent_session_id for row in self.session.execute(statement).all()}

    def sessions_begun_before(self, at: datetime, *, filters: Filters = EVERYTHING) -> set[str]:
        """Return the sessions with calls before an instant and after it, of those calls that count."""
        statement = (
            sa.select(Message.session_id)
            .where(*_is_billed(ALL_TIME, filters))
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
            Message.created_at.is_(None), IS_BILLED
        )
        return int(self.session.scalars(statement).one())


def _day(tz: str) -> sa.ColumnElement[date]:
    return period(Interval.DAY, Message.created_at, Calendar(tz=tz))


def _column(name: str) -> sa.ColumnElement[str]:
    return CALL_DIMENSIONS[name].column(OF_MESSAGES, UTC_CALENDAR)


def _is_billed(time_range: TimeRange, filters: Filters = EVERYTHING) -> list[sa.ColumnElement[bool]]:
    return [
        Message.created_at.is_not(None),
        IS_BILLED,
        Message.call_count > 0,
        *time_range.holds(Message.created_at),
        *filters.of_calls(),
    ]
