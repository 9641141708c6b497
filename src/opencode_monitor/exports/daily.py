"""What each day cost, as columns and rows."""

from __future__ import annotations

from dataclasses import astuple, fields
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from opencode_monitor.db.types import Money
from opencode_monitor.repositories import CostRepository, Interval, PeriodUsage, TimeRange

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from sqlalchemy.orm import Session as DatabaseSession

_TYPES: dict[str, sa.types.TypeEngine[Any]] = {"int": sa.BigInteger(), "Decimal | None": Money(), "date | None": sa.Date()}


def daily_rows(session: DatabaseSession, time_range: TimeRange, *, tz: ZoneInfo) -> tuple[list[sa.Column[Any]], list[tuple[Any, ...]]]:
    """Return the sums of `daily`, each day's beside its date.

    Args:
        session: Where to ask.
        time_range: What to look at.
        tz: The zone whose days count.

    Returns:
        The columns, named as in the report's JSON, and the rows.
    """
    # A subclass's own fields come last; of a row, the day comes first.
    *sums, period = (sa.Column(field.name, _TYPES[str(field.type)]) for field in fields(PeriodUsage))
    days = (astuple(row) for row in CostRepository(session).by_period(Interval.DAY, tz=tz.key, time_range=time_range))
    return [period, *sums], [(*day[-1:], *day[:-1]) for day in days]
