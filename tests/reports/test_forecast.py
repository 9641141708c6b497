"""What is expected, within which range, and how good forecasts were."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencode_monitor.reports.backtest import backtest
from opencode_monitor.reports.forecast import Horizon, against_budget, forecast, span_of
from opencode_monitor.reports.spend import Amount

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

WEDNESDAY = date(2026, 6, 17)


def history(until: date, count: int, usd: Callable[[date], object]) -> dict[date, Amount]:
    """Make the days before one, each with what a function says it cost."""
    days = [until - timedelta(days=number) for number in range(count, 0, -1)]
    return {day: Amount(Decimal(str(usd(day)))) for day in days}


def by_class(day: date) -> int:
    return 2 if day.weekday() > 4 else 10


def foretell(days: Mapping[date, Amount], horizon: str = "month-end", today: date = WEDNESDAY, **options: Any) -> Any:
    """Forecast; untyped, as its decimals are compared with whole numbers."""
    return forecast(days, horizon=Horizon(horizon), today=today, **options)


class TestSpan:
    @pytest.mark.parametrize(
        ("horizon", "today", "first", "last"),
        [
            ("month-end", date(2026, 6, 17), date(2026, 6, 1), date(2026, 6, 30)),
            ("month-end", date(2026, 12, 31), date(2026, 12, 1), date(2026, 12, 31)),
            ("month-end", date(2028, 2, 1), date(2028, 2, 1), date(2028, 2, 29)),
            ("7d", date(2026, 12, 30), date(2026, 12, 31), date(2027, 1, 6)),
            ("30d", date(2026, 2, 27), date(2026, 2, 28), date(2026, 3, 29)),
        ],
    )
    def test_span_of_is_the_month_or_the_days_after_today(self, horizon: str, today: date, first: date, last: date) -> None:
        assert span_of(Horizon(horizon), today) == (first, last)


class TestExpected:
    def test_forecast_month_end_is_the_recorded_and_the_means_of_the_days_left(self) -> None:
        days = {**history(WEDNESDAY, 60, by_class), WEDNESDAY: Amount(Decimal(4))}

        found = foretell(days)

        # 1 to 16 June: 12 weekdays and 4 days of weekends, 128. Today 4 so far, a weekday of 10. Then 9 weekdays and 4 of weekends: 98.
        assert (found.recorded_usd, found.expected_usd, found.days_left) == (132, 236, 14)
        assert (found.weekday_usd, found.weekend_usd, found.history_days) == (10, 2, 28)
        assert found.straight_line_usd == 240
        assert (found.first, found.last) == (date(2026, 6, 1), date(2026, 6, 30))

    def test_forecast_today_that_has_cost_more_than_a_mean_day_counts_as_what_it_cost(self) -> None:
        days = {**history(WEDNESDAY, 60, by_class), WEDNESDAY: Amount(Decimal(70))}

        assert (foretell(days).recorded_usd, foretell(days).expected_usd) == (198, 296)

    @pytest.mark.parametrize(("horizon", "expected", "line"), [("7d", 54, 56), ("30d", 236, 240)])
    def test_forecast_days_to_come_begin_tomorrow(self, horizon: str, expected: int, line: int) -> None:
        found = foretell({**history(WEDNESDAY, 60, by_class), WEDNESDAY: Amount(Decimal(999))}, horizon)

        assert (found.recorded_usd, found.expected_usd, found.straight_line_usd) == (0, expected, line)

    def test_forecast_idle_days_count_as_0_and_old_ones_do_not_count(self) -> None:
        days = history(WEDNESDAY, 90, lambda day: 500 if day < WEDNESDAY - timedelta(days=28) else 10)
        idle = [day for day in days if day.weekday() == 0]

        found = foretell({day: amount for day, amount in days.items() if day not in idle}, "7d")

        assert (found.weekday_usd, found.weekend_usd) == (8, 10)

    def test_forecast_last_day_of_a_month_has_only_today_left(self) -> None:
        today = date(2026, 6, 30)

        found = foretell({**history(today, 60, by_class), today: Amount(Decimal(3))}, today=today)

        assert (found.days_left, found.recorded_usd, found.expected_usd) == (1, 229, 236)

    def test_forecast_first_day_of_a_month_has_no_straight_line(self) -> None:
        assert foretell(history(date(2026, 6, 1), 60, by_class), today=date(2026, 6, 1)).straight_line_usd is None

    def test_forecast_days_of_unknown_cost_are_no_idle_days(self) -> None:
        days = history(WEDNESDAY, 60, lambda _: 10)
        unknown = {day: Amount(None, 4) if day.day % 2 else amount for day, amount in days.items()}

        found = foretell(unknown, "7d")

        assert (found.weekday_usd, found.expected_usd, found.history_days, found.unknown_calls) == (10, 70, 14, 56)

    def test_forecast_below_two_weeks_of_history_is_a_line_without_a_range(self) -> None:
        days = history(WEDNESDAY, 13, by_class)

        found = foretell(days, "7d")

        # Nine weekdays and four days of weekends, 98 on 13 days, and seven to come.
        assert found.expected_usd == Decimal("52.769230769231")
        assert (found.likely_low_usd, found.likely_high_usd, found.outcomes) == (None, None, ())
        assert (found.weekday_usd, found.history_days) == (found.weekend_usd, 13)
        assert foretell(history(WEDNESDAY, 14, by_class), "7d").likely_low_usd is not None

    def test_forecast_without_history_knows_only_what_is_recorded(self) -> None:
        found = foretell({WEDNESDAY: Amount(Decimal(5))})

        assert (found.recorded_usd, found.expected_usd, found.likely_high_usd, found.weekday_usd) == (5, None, None, None)
        assert foretell({}).expected_usd is None

    def test_forecast_begins_with_the_first_spend_where_that_is_given(self) -> None:
        days = history(WEDNESDAY, 7, lambda _: 28)

        assert foretell(days, "7d").weekday_usd == 28
        assert foretell(days, "7d", begun=date(2026, 1, 1)).weekend_usd == 7


class TestRange:
    def test_forecast_range_holds_the_expected_and_is_the_same_again(self) -> None:
        days = history(WEDNESDAY, 60, lambda day: 5 + day.toordinal() * 7 % 11)

        found = foretell(days)

        assert found.recorded_usd < found.likely_low_usd < found.expected_usd < found.likely_high_usd
        assert found == foretell(dict(reversed(days.items())))

    def test_forecast_range_of_days_alike_is_that_of_their_level(self) -> None:
        # Only the level varies: 80 % of a lognormal one of 0.2 lie between exp(-0.256) and exp(0.256), times 70.
        found = foretell(history(WEDNESDAY, 60, lambda _: 10), "7d")

        assert float(found.likely_low_usd) == pytest.approx(54.2, abs=1.5)
        assert float(found.likely_high_usd) == pytest.approx(90.5, abs=2.5)

    def test_forecast_range_reaches_to_the_expected_that_one_day_has_raised(self) -> None:
        days = history(WEDNESDAY, 60, lambda day: 10_000 if day == date(2026, 6, 9) else 1)

        found = foretell(days, "7d")

        assert found.likely_low_usd <= found.expected_usd <= found.likely_high_usd

    @hypothesis.settings(max_examples=15)
    @given(costs=st.lists(st.decimals(0, 1000, places=6), min_size=20, max_size=60), factor=st.sampled_from([2, 10, 1024]))
    def test_forecast_other_currency_says_the_same(self, costs: list[Decimal], factor: int) -> None:
        amounts = iter(costs)
        days = history(WEDNESDAY, len(costs), lambda _: next(amounts))
        scaled = {day: Amount((amount.usd or Decimal(0)) * factor) for day, amount in days.items()}
        begun = min(days)

        found, other = (foretell(one, begun=begun, paths=100) for one in (days, scaled))

        assert other.recorded_usd == factor * found.recorded_usd
        assert abs(other.expected_usd - factor * found.expected_usd) < Decimal("1e-8")
        assert float(other.likely_high_usd) == pytest.approx(factor * float(found.likely_high_usd), rel=1e-6, abs=1e-2)
        assert found.likely_low_usd <= found.expected_usd.quantize(Decimal("1e-6")) <= found.likely_high_usd


class TestBudget:
    DAYS = {**history(WEDNESDAY, 60, by_class), WEDNESDAY: Amount(Decimal(4))}  # noqa: RUF012 - never written

    def test_against_budget_tells_when_it_is_used_up_at_the_mean_pace(self) -> None:
        # 132 recorded, 138 with today; 148 and 158 on Thursday and Friday, 162 after the weekend, 172 on Monday.
        outlook = against_budget(foretell(self.DAYS), Decimal(165))

        assert (outlook.used_share, outlook.expected_share, outlook.is_over, outlook.will_be_over) == (0.8, 1.4303, False, True)
        assert outlook.reached_on == date(2026, 6, 22)
        assert outlook.over_probability == 1.0

    def test_against_budget_that_holds_is_never_reached(self) -> None:
        outlook = against_budget(foretell(self.DAYS), Decimal(1000))

        assert (outlook.will_be_over, outlook.reached_on, outlook.over_probability) == (False, None, 0.0)

    def test_against_budget_already_over_is_over(self) -> None:
        outlook = against_budget(foretell(self.DAYS), Decimal(100))

        assert (outlook.is_over, outlook.will_be_over, outlook.used_share, outlook.reached_on) == (True, True, 1.32, None)

    def test_against_budget_without_history_has_only_what_is_used(self) -> None:
        outlook = against_budget(foretell({WEDNESDAY: Amount(Decimal(5))}), Decimal(10))

        assert (outlook.used_share, outlook.expected_share, outlook.over_probability, outlook.will_be_over) == (0.5, None, None, False)


class TestBacktest:
    def test_backtest_of_days_alike_is_never_wrong(self) -> None:
        found = backtest(history(WEDNESDAY, 90, lambda _: 10), horizon=Horizon.WEEK, today=WEDNESDAY)

        assert found.errors is not None
        assert (found.errors.mape, found.errors.wape, found.errors.bias, found.coverage) == (0, 0, 0, 1)
        assert found.errors == found.straight_line

    def test_backtest_is_made_on_each_morning_whose_span_is_over(self) -> None:
        found = backtest(history(date(2026, 7, 1), 61, lambda _: 10), horizon=Horizon.MONTH_END, today=date(2026, 7, 1))

        # From 15 May on, two weeks after the first spend on the 1st; not on 1 June, where there is no straight line.
        assert (found.first, found.last, found.forecasts) == (date(2026, 5, 15), date(2026, 6, 30), 17 + 29)

    def test_backtest_errors_are_those_of_what_came(self) -> None:
        # 10 a day, and from the middle of June on 20: what was said before is half of what came.
        days = history(date(2026, 6, 23), 50, lambda day: 20 if day >= date(2026, 6, 16) else 10)

        found = backtest(days, horizon=Horizon.WEEK, today=date(2026, 6, 23), begun=date(2026, 5, 4), max_forecasts=1)

        # One forecast, on the last morning whose seven days are over: of 16 to 22 June.
        assert (found.forecasts, found.first) == (1, date(2026, 6, 15))
        assert found.errors is not None
        assert (found.errors.mape, found.errors.wape, found.errors.bias, found.coverage) == (0.5, 0.5, -0.5, 0)

    def test_backtest_beats_the_straight_line_where_weekends_differ(self) -> None:
        found = backtest(history(date(2026, 7, 1), 120, by_class), horizon=Horizon.MONTH_END, today=date(2026, 7, 1), max_forecasts=30)

        assert found.errors is not None
        assert found.straight_line is not None
        assert found.errors.wape == 0
        assert found.straight_line.wape > 0.03

    def test_backtest_takes_at_most_so_many_forecasts(self) -> None:
        found = backtest(history(WEDNESDAY, 200, by_class), horizon=Horizon.WEEK, today=WEDNESDAY, max_forecasts=20)

        assert 15 <= found.forecasts <= 20

    def test_backtest_without_history_has_none(self) -> None:
        found = backtest(history(WEDNESDAY, 15, by_class), horizon=Horizon.DAYS_30, today=WEDNESDAY)

        assert (found.forecasts, found.errors, found.coverage, found.first) == (0, None, None, None)
