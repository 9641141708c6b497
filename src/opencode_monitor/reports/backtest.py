"""How good the forecast would have been: made on each day of the stored history, and compared with what came. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from opencode_monitor.reports.forecast import MIN_HISTORY_DAYS, Horizon, forecast, span_of
from opencode_monitor.reports.spend import Amount, each_day

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_FORECASTS = 120
"""How many days to forecast from at most; of a longer history every second, third ... day is taken."""

_PATHS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """How far forecasts were from what came, as shares of it.

    Attributes:
        mape: The mean of |forecast - actual| / actual.
        wape: The sum of |forecast - actual| by the sum of the actual.
        bias: The sum of forecast - actual by the sum of the actual: above 0 where it says too much.
    """

    mape: float
    wape: float
    bias: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Backtest:
    """The forecast's own errors over the stored history.

    Attributes:
        horizon: Which forecast.
        forecasts: How many were made, each in the morning of a day, with what was known then; of spans that cost nothing there are none.
        first: The first such day; None where there is none.
        last: The last one.
        errors: The forecast's.
        straight_line: The straight line's, for the same spans.
        coverage: The share of what came that lay in the likely range.
    """

    horizon: Horizon
    forecasts: int
    first: date | None
    last: date | None
    errors: Errors | None
    straight_line: Errors | None
    coverage: float | None


def backtest(
    days: Mapping[date, Amount], *, horizon: Horizon, today: date, begun: date | None = None, max_forecasts: int = MAX_FORECASTS
) -> Backtest:
    """Forecast from each day of the past, and compare.

    Days of which no cost is known count neither in a forecast nor in what came.

    Args:
        days: All that is known, by day.
        horizon: Which forecast.
        today: The day that is not over.
        begun: The first day with spend; that of `days` where absent.
        max_forecasts: From how many days at most.
    """
    begun = begun or min((day for day, amount in days.items() if amount.usd), default=today)
    mornings = [
        day
        for day in each_day(begun + timedelta(days=MIN_HISTORY_DAYS), today)
        # On the first of a month there is no straight line to compare with.
        if day.day > 1 and span_of(horizon, day)[1] < today
    ]
    step = -(-len(mornings) // max_forecasts) or 1
    made: list[tuple[date, Decimal, Decimal, Decimal, bool]] = []
    for day in mornings[::-step][::-1]:
        found = forecast(days, horizon=horizon, today=day, begun=begun, paths=_PATHS, is_today_known=False)
        came = sum((days.get(one, Amount()).usd or Decimal(0) for one in each_day(found.first, found.last + timedelta(days=1))), Decimal(0))
        if came and found.expected_usd is not None and found.straight_line_usd is not None:
            low, high = found.likely_low_usd, found.likely_high_usd
            is_inside = low is not None and high is not None and low <= came <= high
            made.append((day, came, found.expected_usd, found.straight_line_usd, is_inside))
    if not made:
        return Backtest(horizon=horizon, forecasts=0, first=None, last=None, errors=None, straight_line=None, coverage=None)
    return Backtest(
        horizon=horizon,
        forecasts=len(made),
        first=made[0][0],
        last=made[-1][0],
        errors=_errors([(one[2], one[1]) for one in made]),
        straight_line=_errors([(one[3], one[1]) for one in made]),
        coverage=round(sum(1 for one in made if one[4]) / len(made), 4),
    )


def _errors(pairs: Sequence[tuple[Decimal, Decimal]]) -> Errors:
    """Return the errors of some forecasts beside what came."""
    actual = sum((came for _, came in pairs), Decimal(0))
    return Errors(
        mape=round(float(sum((abs(said - came) / came for said, came in pairs), Decimal(0)) / len(pairs)), 4),
        wape=round(float(sum((abs(said - came) for said, came in pairs), Decimal(0)) / actual), 4),
        bias=round(float(sum((said - came for said, came in pairs), Decimal(0)) / actual), 4),
    )
