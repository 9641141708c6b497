"""Estimates of what was billed and not recorded, by the same groups as the recorded spend and always beside it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from opencode_monitor.models import Message, Project, Session, UnrecordedCall
from opencode_monitor.repositories.costs import project_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from sqlalchemy.orm import Session as DatabaseSession

    from opencode_monitor.db.base import Base
    from opencode_monitor.repositories.costs import Interval, TimeRange


@dataclass(frozen=True, slots=True, kw_only=True)
class UnrecordedSpend:
    """Estimated calls and what they may have cost.

    Attributes:
        estimated_unrecorded_usd: At list price, in USD; None where there are estimates and none has a price.
        estimated_unrecorded_calls: How many calls were estimated.
        unpriced_estimates: Of these, the ones without a price.
    """

    estimated_unrecorded_usd: Decimal | None
    estimated_unrecorded_calls: int
    unpriced_estimates: int


NOTHING_UNRECORDED = UnrecordedSpend(estimated_unrecorded_usd=Decimal(0), estimated_unrecorded_calls=0, unpriced_estimates=0)


class UnrecordedRepository:
    """Estimated calls. One belongs to the day, the model and the session that it was made in."""

    def __init__(self, session: DatabaseSession) -> None:
        self.session = session

    def total(self, time_range: TimeRange) -> UnrecordedSpend:
        """Return the sum of the estimates in a range."""
        return self._grouped(None, time_range).get(None, NOTHING_UNRECORDED)

    def by_period(self, interval: Interval, *, tz: str, time_range: TimeRange) -> dict[date | None, UnrecordedSpend]:
        """Return the estimates by the first day of their period.

        Args:
            interval: How long a period is.
            tz: The IANA zone whose days count.
            time_range: What to look at.
        """
        local = sa.func.timezone(tz, sa.func.timezone("UTC", UnrecordedCall.created_at))
        return self._grouped(sa.cast(sa.func.date_trunc(interval.value, local), sa.Date), time_range)

    def by_model(self, time_range: TimeRange) -> dict[str, UnrecordedSpend]:
        """Return the estimates by model; a title's is the one that OpenCode asks for titles."""
        return self._grouped(sa.func.coalesce(UnrecordedCall.model_id, "unknown"), time_range)

    def by_agent(self, time_range: TimeRange) -> dict[str, UnrecordedSpend]:
        """Return the estimates by agent: that of the message which was cut off, `title` for a title."""
        is_title = UnrecordedCall.kind.in_(("title", "message_title"))
        agent = sa.case((is_title, "title"), else_=sa.func.coalesce(Message.agent, "unknown"))
        return self._grouped(agent, time_range, (Message, Message.message_id == UnrecordedCall.message_id))

    def by_project(self, time_range: TimeRange) -> dict[str, UnrecordedSpend]:
        """Return the estimates by project, named as in `CostRepository.by_project`."""
        session = (Session, Session.session_id == UnrecordedCall.session_id)
        return self._grouped(project_name(), time_range, session, (Project, Project.project_id == Session.project_id))

    def by_session(self, time_range: TimeRange) -> dict[str, UnrecordedSpend]:
        """Return the estimates by session."""
        return self._grouped(UnrecordedCall.session_id, time_range)

    def by_kind(self, time_range: TimeRange) -> dict[str, UnrecordedSpend]:
        """Return the estimates by kind, the most calls first."""
        found = self._grouped(UnrecordedCall.kind, time_range)
        return dict(sorted(found.items(), key=lambda item: (-item[1].estimated_unrecorded_calls, item[0])))

    def calls(self, time_range: TimeRange) -> Sequence[UnrecordedCall]:
        """Return the estimates in a range, the latest first."""
        statement = _within(sa.select(UnrecordedCall), time_range)
        return self.session.scalars(statement.order_by(UnrecordedCall.created_at.desc().nulls_last(), UnrecordedCall.unrecorded_id)).all()

    def of_session(self, session_id: str) -> Sequence[UnrecordedCall]:
        """Return the estimates of one session, the earliest first."""
        statement = sa.select(UnrecordedCall).where(UnrecordedCall.session_id == session_id)
        return self.session.scalars(statement.order_by(UnrecordedCall.created_at.asc().nulls_last(), UnrecordedCall.unrecorded_id)).all()

    def _grouped(self, key: Any, time_range: TimeRange, *joins: tuple[type[Base], sa.ColumnElement[bool]]) -> dict[Any, UnrecordedSpend]:
        columns = (
            (sa.null() if key is None else key).label("key"),
            sa.func.sum(UnrecordedCall.estimated_cost_usd),
            sa.func.count(UnrecordedCall.unrecorded_id),
            sa.func.count().filter(UnrecordedCall.estimated_cost_usd.is_(None)),
        )
        statement = _within(sa.select(*columns).select_from(UnrecordedCall), time_range)
        for model, condition in joins:
            statement = statement.join(model, condition, isouter=True)
        rows = self.session.execute(statement if key is None else statement.group_by(key)).all()
        return {
            group: UnrecordedSpend(estimated_unrecorded_usd=usd, estimated_unrecorded_calls=calls, unpriced_estimates=unpriced)
            for group, usd, calls, unpriced in rows
            if calls
        }


def _within(statement: sa.Select[Any], time_range: TimeRange) -> sa.Select[Any]:
    if time_range.start is not None:
        statement = statement.where(UnrecordedCall.created_at >= time_range.start)
    if time_range.end is not None:
        statement = statement.where(UnrecordedCall.created_at < time_range.end)
    return statement
