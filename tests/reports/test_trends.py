"""Means of periods, and how far they moved."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencode_monitor.reports.periods import period_after, periods_before
from opencode_monitor.reports.trends import Amount, PeriodCost, TrendPoint, sum_periods, trend

FIRST = date(2026, 9, 1)
IDLE = "idle"
UNKNOWN = "unknown"


def costs(*usd: str) -> list[PeriodCost]:
    """Make days; one of "1+" has an unknown call beside what is known."""
    made = []
    for number, text in enumerate(usd):
        day = FIRST + timedelta(days=number)
        if text == IDLE:
            made.append(PeriodCost(period=day, count=0, usd=Decimal(0)))
        elif text == UNKNOWN:
            made.append(PeriodCost(period=day, count=2, usd=None, unknown=2))
        else:
            made.append(PeriodCost(period=day, count=2, usd=Decimal(text.rstrip("+")), unknown=int(text.endswith("+"))))
    return made


def means(points: list[TrendPoint]) -> list[tuple[Amount | None, Amount | None]]:
    return [(point.mean, point.before) for point in points]


def exactly(usd: int | str) -> Amount:
    return Amount(Decimal(usd))


def at_least(usd: int | str) -> Amount:
    return Amount(Decimal(usd), is_least=True)


def test_trend_means_are_of_the_last_periods_and_of_those_before() -> None:
    points = trend(costs("1", "3", "5", "0.5", IDLE), window=2)

    assert means(points) == [
        (None, None),
        (exactly(2), None),
        (exactly(4), None),
        (exactly("2.75"), exactly(2)),
        (exactly("0.25"), exactly(4)),
    ]
    assert [(point.change_usd, point.change_percent) for point in points[2:]] == [
        (None, None),
        (Decimal("0.75"), Decimal("37.50")),
        (Decimal("-3.75"), Decimal("-93.75")),
    ]


def test_trend_change_from_nothing_has_no_percent() -> None:
    point = trend(costs(IDLE, "2"), window=1)[-1]

    assert (point.change_usd, point.change_percent) == (Decimal(2), None)


@pytest.mark.parametrize(
    ("days", "mean"),
    [
        (("2", UNKNOWN), at_least(1)),
        (("2", "3+"), at_least("2.5")),
        ((IDLE, UNKNOWN), Amount(None)),
        ((UNKNOWN, UNKNOWN), Amount(None)),
        ((IDLE, IDLE), exactly(0)),
        (("0", UNKNOWN), at_least(0)),
    ],
)
def test_trend_unknown_cost_is_never_0(days: tuple[str, str], mean: Amount) -> None:
    assert trend(costs(*days), window=2)[-1].mean == mean


def test_trend_change_against_an_unknown_mean_is_unknown() -> None:
    points = trend(costs(UNKNOWN, "2", UNKNOWN), window=1)

    assert [(point.change_usd, point.change_percent) for point in points] == [(None, None)] * 3


def test_trend_period_of_now_is_in_its_own_means_alone() -> None:
    days = costs("2", "4", "1", "6")

    points = trend(days, window=2, current=days[2].period)

    assert [point.is_incomplete for point in points] == [False, False, True, False]
    assert means(points)[2:] == [(at_least("2.5"), None), (exactly(5), None)]


def test_trend_mean_is_rounded_where_money_ends() -> None:
    assert trend(costs("1", IDLE, IDLE), window=3)[-1].mean == exactly("0.333333333333")


@given(
    days=st.lists(st.sampled_from([IDLE, UNKNOWN, "0", "1", "2.5+", "0.000000000001", "7"]), max_size=20),
    window=st.integers(1, 6),
    now=st.integers(0, 25),
)
def test_trend_any_days_mean_times_window_is_the_sum_of_the_window(days: list[str], window: int, now: int) -> None:
    periods = costs(*days)
    current = FIRST + timedelta(days=now)

    points = trend(periods, window=window, current=current)

    assert [point.cost for point in points] == periods
    for place, point in enumerate(points):
        complete = [cost for cost in periods[:place] if cost.period != current]
        last = [*complete, point.cost]
        for amount, part, is_growing in (
            (point.mean, last[-window:], point.is_incomplete),
            (point.before, last[-2 * window : -window], False),
        ):
            whole = sum_periods(part)
            if len(part) < window:
                assert amount is None
            elif whole.usd is None:
                assert amount == Amount(None)
            else:
                assert amount is not None
                assert amount.usd is not None
                assert abs(amount.usd * window - whole.usd) <= window * Decimal("5e-13")
                assert amount.is_least == (whole.is_least or is_growing)


@given(days=st.lists(st.sampled_from([IDLE, UNKNOWN, "1", "2.5+"]), max_size=12), cut=st.integers(0, 12))
def test_sum_periods_parts_make_up_the_whole(days: list[str], cut: int) -> None:
    periods = costs(*days)

    whole, first, second = (sum_periods(part) for part in (periods, periods[:cut], periods[cut:]))

    assert (whole.usd or 0) == (first.usd or 0) + (second.usd or 0)
    assert whole.usd is not None or (first.usd or second.usd) in {None, Decimal(0)}


@pytest.mark.parametrize(
    ("period", "interval", "count", "expected"),
    [
        (date(2026, 3, 1), "day", 13, date(2026, 2, 16)),
        (date(2026, 3, 2), "week", 2, date(2026, 2, 16)),
        (date(2026, 3, 1), "month", 13, date(2025, 2, 1)),
        (date(1, 3, 1), "month", 13, date(1, 1, 1)),
        (date(1, 1, 8), "week", 13, date(1, 1, 1)),
    ],
)
def test_periods_before_counts_back(period: date, interval: str, count: int, expected: date) -> None:
    assert periods_before(period, interval, count) == expected


def test_period_after_of_december_is_january() -> None:
    assert period_after(date(2026, 12, 1), "month") == date(2027, 1, 1)
