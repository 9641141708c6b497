"""Estimates of what was billed and not recorded, by the same groups as the recorded spend and always beside it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from opencode_monitor.metrics.dimensions import CALL_DIMENSIONS, OF_ESTIMATES, UTC_CALENDAR, Calendar, joined
from opencode_monitor.metrics.filters import EVERYTHING, Filters
from opencode_monitor.metrics.time_range import ALL_TIME, TimeRange
from opencode_monitor.models import Message, UnrecordedCall

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session as DatabaseSession


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

    def total(self, time_range: TimeRange = ALL_TIME, *, filters: Filters = EVERYTHING) -> UnrecordedSpend:
        """Return the sum of the estimates in a range.

        Args:
            time_range: What to look at.
            filters: Whose calls count.
        """
        return self.by(time_range=time_range, filters=filters).get((), NOTHING_UNRECORDED)

    def by(
        self,
        *dimensions: str,
        time_range: TimeRange = ALL_TIME,
        filters: Filters = EVERYTHING,
        calendar: Calendar = UTC_CALENDAR,
    ) -> dict[tuple[Any, ...], UnrecordedSpend]:
        """Return the estimates by some dimensions of calls; arguments as for `CostRepository.by`.

        The model of a title is the one that OpenCode asks for titles, its agent is called `title`.
        """
        keys = [CALL_DIMENSIONS[name].column(OF_ESTIMATES, calendar) for name in dimensions]
        return self._grouped(keys, time_range, filters, dimensions)

    def by_kind(self, time_range: TimeRange = ALL_TIME, *, filters: Filters = EVERYTHING) -> dict[str, UnrecordedSpend]:
        """Return the estimates by kind, the most calls first; arguments as for `total`."""
        found = self._grouped([UnrecordedCall.kind], time_range, filters)
        return {kind: spend for (kind,), spend in sorted(found.items(), key=lambda item: (-item[1].estimated_unrecorded_calls, item[0]))}

    def calls(self, time_range: TimeRange = ALL_TIME, *, filters: Filters = EVERYTHING) -> Sequence[UnrecordedCall]:
        """Return the estimates in a range, the latest first; arguments as for `total`."""
        statement = _within(sa.select(UnrecordedCall), time_range, filters)
        return self.session.scalars(statement.order_by(UnrecordedCall.created_at.desc().nulls_last(), UnrecordedCall.unrecorded_id)).all()

    def of_sessions(self, session_ids: Sequence[str]) -> Sequence[UnrecordedCall]:
        """Return the estimates of some sessions, the earliest first."""
        statement = sa.select(UnrecordedCall).where(UnrecordedCall.session_id.in_(session_ids))
        return self.session.scalars(statement.order_by(UnrecordedCall.created_at.asc().nulls_last(), UnrecordedCall.unrecorded_id)).all()

    def _grouped(
        self, keys: Sequence[sa.ColumnElement[Any] | Any], time_range: TimeRange, filters: Filters, dimensions: Sequence[str] = ()
    ) -> dict[tuple[Any, ...], UnrecordedSpend]:
        sums = (
            sa.func.sum(UnrecordedCall.estimated_cost_usd),
            sa.func.count(UnrecordedCall.unrecorded_id),
            sa.func.count().filter(UnrecordedCall.estimated_cost_usd.is_(None)),
        )
        statement = _within(sa.select(*keys, *sums).select_from(UnrecordedCall), time_range, filters, dimensions)
        rows = self.session.execute(joined(statement, dimensions, UnrecordedCall.session_id).group_by(*keys)).all()
        return {
            tuple(group): UnrecordedSpend(estimated_unrecorded_usd=usd, estimated_unrecorded_calls=calls, unpriced_estimates=unpriced)
            for *group, usd, calls, unpriced in rows
            if calls
        }


def _within(statement: sa.Select[Any], time_range: TimeRange, filters: Filters, dimensions: Sequence[str] = ()) -> sa.Select[Any]:
    if filters.tool:
        return statement.where(sa.false())  # no tool was called that is known of
    if filters.agent or "agent" in dimensions:
        statement = statement.join(Message, Message.message_id == UnrecordedCall.message_id, isouter=True)
    return statement.where(*time_range.holds(UnrecordedCall.created_at), *filters.of_calls(OF_ESTIMATES))
