"""What will have been spent by the month's end, and over the next 7 and 30 days. Pure.

Expected = recorded so far + weekdays left x mean weekday + days of weekends left x mean day of a weekend, the means over the last
`WINDOW_DAYS` complete days, days without calls counting as 0. The day that is not over counts as what it has cost, or as a mean day where
that is more.

The likely range is the middle 80 % of `PATHS` outcomes that are drawn in two stages: first the days of the window themselves, weekdays and
weekends apart and with replacement (as the means are known from few days only); then each day to come from these. Each outcome's days to
come are multiplied by exp(N(0, `LEVEL_NOISE`)), the level that work moves to; without it the range would hold 60 to 70 % of what comes. The
seed is fixed: the same history makes the same range.

Below `MIN_HISTORY_DAYS` days of history there is no range, and the expected is a straight line: the mean of all days since the first spend.

Blind spots: a trend shows only as far as it has raised the last four weeks; what is planned (a holiday, a deadline) is not known; one very
expensive day raises the means for four weeks; a day of whose calls none has a known cost is left out, as it did not cost 0.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal, localcontext
from enum import StrEnum
from math import exp, floor
from typing import TYPE_CHECKING

from opencode_monitor.reports.spend import DIGITS, Amount, each_day, is_weekend, known_days, mean, rounded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WINDOW_DAYS = 28
"""How many complete days the means are made of."""

MIN_HISTORY_DAYS = 14
"""How many days since the first spend a likely range takes."""

LIKELY_SHARE = 0.8
"""How much of the outcomes the likely range holds."""

LEVEL_NOISE = 0.2
"""The standard deviation of the logarithm of the level of the days to come."""

PATHS = 2_000
"""How many outcomes are drawn."""

_SEED = 20_260_101
_PLACES = Decimal("0.000001")


class Horizon(StrEnum):
    """Up to when; an ISO week ends with its Sunday."""

    MONTH_END = "month-end"
    WEEK_END = "week-end"
    WEEK = "7d"
    DAYS_30 = "30d"


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What will probably have been spent; money in USD.

    Attributes:
        horizon: Up to when.
        first: The first day of the sum: of the month or of its week, else tomorrow.
        last: The last one.
        days_left: Days of it that are not over.
        recorded_usd: What of it is recorded.
        expected_usd: What it will probably come to; None without history.
        likely_low_usd: Where the likely range begins; None below `MIN_HISTORY_DAYS`.
        likely_high_usd: Where it ends.
        straight_line_usd: The month so far by its complete days, times the days of the sum; None on the first day of a month.
        weekday_usd: The mean of a day from Monday to Friday; None without history.
        weekend_usd: The mean of a Saturday or Sunday.
        history_days: Complete days that the means are made of.
        unknown_calls: Calls in the history and in the recorded whose cost is not known: all of it is at least so much.
        pace: Each day that is not over, with what it will probably add to the recorded.
        outcomes: The drawn ones, in order.
    """

    horizon: Horizon
    first: date
    last: date
    days_left: int
    recorded_usd: Decimal
    expected_usd: Decimal | None
    likely_low_usd: Decimal | None
    likely_high_usd: Decimal | None
    straight_line_usd: Decimal | None
    weekday_usd: Decimal | None
    weekend_usd: Decimal | None
    history_days: int
    unknown_calls: int
    pace: tuple[tuple[date, Decimal], ...] = field(default=(), repr=False)
    outcomes: tuple[float, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetOutlook:
    """What a forecast means for a budget.

    Attributes:
        budget_usd: The budget for the days of the forecast.
        used_share: What of it is recorded, as a share.
        expected_share: What of it will probably be used; None without history.
        is_over: Whether the recorded is more than the budget.
        will_be_over: Whether the expected is.
        over_probability: The share of the drawn outcomes that are; None without a likely range.
        reached_on: The day on which it is used up at the mean pace; None where it is not, or where it already is.
    """

    budget_usd: Decimal
    used_share: float
    expected_share: float | None
    is_over: bool
    will_be_over: bool
    over_probability: float | None
    reached_on: date | None


def forecast(
    days: Mapping[date, Amount],
    *,
    horizon: Horizon,
    today: date,
    begun: date | None = None,
    paths: int = PATHS,
    is_today_known: bool = True,
) -> Forecast:
    """Forecast what a span of days will cost.

    Args:
        days: What is known, by day: the last `WINDOW_DAYS`, and this month.
        horizon: Up to when.
        today: The day that is not over.
        begun: The first day with spend; that of `days` where absent.
        paths: How many outcomes to draw.
        is_today_known: Whether what today has cost so far is known; otherwise it counts as any day to come.
    """
    first, last = span_of(horizon, today)
    begun = begun or min((day for day, amount in days.items() if amount.usd), default=today)
    history = known_days(days, max(begun, today - timedelta(days=WINDOW_DAYS)), today)
    has_range = (today - begun).days >= MIN_HISTORY_DAYS and bool(history)
    so_far = days.get(today, Amount()).usd or Decimal(0) if is_today_known else Decimal(0)
    past = known_days(days, first, min(today, last + timedelta(days=1)))
    left = list(each_day(max(first, today), last + timedelta(days=1)))
    with localcontext(prec=DIGITS):
        before = sum((usd for _, usd in past), Decimal(0))
        recorded = before + (so_far if first <= today else 0)
        weekday, weekend = _means(history, by_class=has_range)
        pace: tuple[tuple[date, Decimal], ...] = ()
        expected = None
        if weekday is not None and weekend is not None:
            rates = [(day, weekend if is_weekend(day) else weekday) for day in left]
            pace = tuple((day, max(rate - so_far, Decimal(0)) if day == today else rate) for day, rate in rates)
            expected = recorded + sum((usd for _, usd in pace), Decimal(0))
        outcomes: tuple[float, ...] = ()
        if has_range:
            outcomes = _draw(history, left, today, so_far=float(so_far), before=float(before), paths=paths)
    low, high = _middle(outcomes, expected) if expected is not None and outcomes else (None, None)
    return Forecast(
        horizon=horizon,
        first=first,
        last=last,
        days_left=len(left),
        recorded_usd=recorded,
        expected_usd=None if expected is None else rounded(expected),
        likely_low_usd=low,
        likely_high_usd=high,
        straight_line_usd=straight_line(days, first=first, last=last, today=today),
        weekday_usd=None if weekday is None else rounded(weekday),
        weekend_usd=None if weekend is None else rounded(weekend),
        history_days=len(history),
        unknown_calls=_unknown(days, min(first, max(begun, today - timedelta(days=WINDOW_DAYS))), today),
        pace=pace,
        outcomes=outcomes,
    )


def span_of(horizon: Horizon, today: date) -> tuple[date, date]:
    """Return the first and the last day of what is forecast."""
    if horizon == Horizon.MONTH_END:
        next_month = (today.replace(day=28) + timedelta(days=4)).replace(day=1)
        return today.replace(day=1), next_month - timedelta(days=1)
    if horizon == Horizon.WEEK_END:
        monday = today - timedelta(days=today.weekday())
        return monday, monday + timedelta(days=6)
    count = 7 if horizon == Horizon.WEEK else 30
    return today + timedelta(days=1), today + timedelta(days=count)


def straight_line(days: Mapping[date, Amount], *, first: date, last: date, today: date) -> Decimal | None:
    """Return what everybody computes by hand: the month so far by the days elapsed, times the days of a span.

    Args:
        days: What is known, by day.
        first: The first day of the span.
        last: The last one.
        today: The day that is not over: it is not elapsed.
    """
    month = known_days(days, today.replace(day=1), today)
    if not month:
        return None
    with localcontext(prec=DIGITS):
        return rounded(mean([usd for _, usd in month]) * ((last - first).days + 1))


def against_budget(found: Forecast, budget: Decimal) -> BudgetOutlook:
    """Tell what a forecast means for a budget.

    Args:
        found: The forecast.
        budget: USD for its days, more than 0.
    """
    over = sum(1 for outcome in found.outcomes if outcome > float(budget))
    with localcontext(prec=DIGITS):
        return BudgetOutlook(
            budget_usd=budget,
            used_share=round(float(found.recorded_usd / budget), 4),
            expected_share=None if found.expected_usd is None else round(float(found.expected_usd / budget), 4),
            is_over=found.recorded_usd > budget,
            will_be_over=found.recorded_usd > budget or (found.expected_usd is not None and found.expected_usd > budget),
            over_probability=round(over / len(found.outcomes), 4) if found.outcomes else None,
            reached_on=_reached_on(found, budget),
        )


def _means(history: Sequence[tuple[date, Decimal]], *, by_class: bool) -> tuple[Decimal | None, Decimal | None]:
    """Return the mean weekday and the mean day of a weekend; for a class without days, or where classes are not told, the mean of all."""
    if not history:
        return None, None
    every = [usd for _, usd in history]
    weekdays = [usd for day, usd in history if not is_weekend(day)] if by_class else every
    weekends = [usd for day, usd in history if is_weekend(day)] if by_class else every
    return mean(weekdays or every), mean(weekends or every)


def _draw(
    history: Sequence[tuple[date, Decimal]], left: Sequence[date], today: date, *, so_far: float, before: float, paths: int
) -> tuple[float, ...]:
    """Draw outcomes, in order; floats are good enough for what is not an amount of anybody's."""
    chance = random.Random(_SEED)  # noqa: S311 - the same history has to make the same range
    every = [float(usd) for _, usd in history]
    weekdays = [float(usd) for day, usd in history if not is_weekend(day)] or every
    weekends = [float(usd) for day, usd in history if is_weekend(day)] or every
    to_come = [day for day in left if day != today]
    weekdays_left = sum(1 for day in to_come if not is_weekend(day))
    weekends_left = len(to_come) - weekdays_left
    outcomes = []
    for _ in range(paths):
        of_weekdays, of_weekends = chance.choices(weekdays, k=len(weekdays)), chance.choices(weekends, k=len(weekends))
        level = exp(chance.gauss(0, LEVEL_NOISE))
        coming = sum(chance.choices(of_weekdays, k=weekdays_left)) + sum(chance.choices(of_weekends, k=weekends_left))
        of_today = max(so_far, level * chance.choice(of_weekends if is_weekend(today) else of_weekdays)) if today in left else 0.0
        outcomes.append(before + of_today + level * coming)
    return tuple(sorted(outcomes))


def _middle(outcomes: Sequence[float], expected: Decimal) -> tuple[Decimal, Decimal]:
    """Return the likely range; it holds the expected, which a single expensive day can raise above most outcomes."""
    tail = (1 - LIKELY_SHARE) / 2
    low, high = (Decimal(repr(_quantile(outcomes, share))).quantize(_PLACES) for share in (tail, 1 - tail))
    nearest = expected.quantize(_PLACES)
    return min(low, nearest), max(high, nearest)


def _quantile(ordered: Sequence[float], share: float) -> float:
    position = share * (len(ordered) - 1)
    below = floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def _unknown(days: Mapping[date, Amount], first: date, last: date) -> int:
    return sum(amount.unknown_calls for day, amount in days.items() if first <= day <= last)


def _reached_on(found: Forecast, budget: Decimal) -> date | None:
    spent = found.recorded_usd
    if spent > budget:
        return None
    for day, usd in found.pace:
        spent += usd
        if spent > budget:
            return day
    return None
