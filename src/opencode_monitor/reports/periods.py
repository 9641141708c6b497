"""Periods of a report: days, weeks and months without a gap."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opencode_monitor.metrics.dimensions import WeekStart

_LAST_MONTH = 12
_WEEK = 7


def period_of(day: date, interval: str, week_start: WeekStart = "monday") -> date:
    """Return the first day of the period that a day belongs to.

    Args:
        day: Any day.
        interval: day, week or month.
        week_start: The first day of a week.
    """
    if interval == "month":
        return day.replace(day=1)
    if interval == "week":
        return day - timedelta(days=(day.weekday() + (week_start == "sunday")) % _WEEK)
    return day


def each_period(first: date, last: date, interval: str, week_start: WeekStart = "monday") -> Iterator[date]:
    """Yield the first day of each period from that of one day to that of another, both included; arguments as for `period_of`."""
    period, end = period_of(first, interval, week_start), period_of(last, interval, week_start)
    while period <= end:
        yield period
        period = period_after(period, interval)


def period_after(period: date, interval: str) -> date:
    """Return the first day of the next period.

    Args:
        period: The first day of one.
        interval: day, week or month.
    """
    if interval == "month":
        return date(period.year + period.month // _LAST_MONTH, period.month % _LAST_MONTH + 1, 1)
    return period + timedelta(days=_WEEK if interval == "week" else 1)


def periods_before(period: date, interval: str, count: int) -> date:
    """Return the first day of the period so many before one that is given by its first day; no earlier one than there is."""
    if interval == "month":
        month = max(period.year * _LAST_MONTH + period.month - 1 - count, _LAST_MONTH)
        return date(month // _LAST_MONTH, month % _LAST_MONTH + 1, 1)
    days = count * (_WEEK if interval == "week" else 1)
    return date.fromordinal(max(period.toordinal() - days, 1))
