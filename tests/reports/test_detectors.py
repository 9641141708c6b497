"""The three rules, by values worked out by hand."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from opencode_monitor.reports.detectors import Detector, Sensitivity, Settings, baseline_of, baseline_of_peers, standard_deviation

MONDAY = date(2026, 6, 1)
"""The tested day: a Monday, so that the 56 days before it are eight whole weeks."""


def usual(day: date, history: list[tuple[date, Decimal]], settings: Settings) -> Any:
    """Return the baseline; untyped, as its decimals are compared with whole numbers."""
    return baseline_of(day, history, settings)


def usual_of_peers(peers: list[tuple[str, Decimal]], settings: Settings) -> Any:
    return baseline_of_peers(peers, settings)


def usd(*amounts: float | str) -> list[Decimal]:
    return [Decimal(str(amount)) for amount in amounts]


def days_before(day: date, amounts: list[Decimal]) -> list[tuple[date, Decimal]]:
    """Put amounts on the days before a day, the last one on its eve."""
    return [(day - timedelta(days=len(amounts) - number), amount) for number, amount in enumerate(amounts)]


def weeks_before(day: date, *weeks: list[Decimal]) -> list[tuple[date, Decimal]]:
    """Put weeks of seven amounts, from Monday on, before a Monday."""
    return days_before(day, [amount for week in weeks for amount in week])


class TestRatio:
    SETTINGS = Settings(detector=Detector.RATIO)

    def test_baseline_of_is_twice_the_median(self) -> None:
        baseline = usual(MONDAY, days_before(MONDAY, usd(7, 1, 6, 2, 5, 3, 4)), self.SETTINGS)

        assert (baseline.expected, baseline.lower, baseline.upper) == (4, 2, 8)
        assert baseline.score(Decimal(10)) == Decimal("2.5")
        assert not baseline.is_exceeded_by(Decimal(8), Decimal(1))
        assert baseline.is_exceeded_by(Decimal("8.000000000001"), Decimal(1))

    def test_baseline_of_even_number_of_days_takes_the_mean_of_the_two_in_the_middle(self) -> None:
        assert usual(MONDAY, days_before(MONDAY, usd(1, 2, "2.1", 9)), self.SETTINGS).expected == Decimal("2.05")

    def test_baseline_of_idle_days_count_so_that_any_spend_is_found(self) -> None:
        baseline = usual(MONDAY, days_before(MONDAY, usd(0, 0, 0, 0, 3, 3, 3)), self.SETTINGS)

        assert (baseline.expected, baseline.upper, baseline.score(Decimal(2))) == (0, 0, None)
        assert baseline.is_exceeded_by(Decimal(2), Decimal(1))

    @pytest.mark.parametrize(("sensitivity", "factor"), [("low", "3"), ("medium", "2"), ("high", "1.5")])
    def test_baseline_of_sensitivity_is_the_factor(self, sensitivity: str, factor: str) -> None:
        settings = Settings(detector=Detector.RATIO, sensitivity=Sensitivity(sensitivity))

        assert usual(MONDAY, days_before(MONDAY, usd(*[10] * 9)), settings).upper == 10 * Decimal(factor)


class TestSigma:
    SETTINGS = Settings(detector=Detector.SIGMA)

    def test_baseline_of_is_the_mean_and_two_standard_deviations_of_the_sample(self) -> None:
        # Mean 5, squares of the differences 9 + 1 + 1 + 1 + 0 + 0 + 4 + 16 = 32, by 7: 2.13809... squared.
        baseline = usual(MONDAY, days_before(MONDAY, usd(2, 4, 4, 4, 5, 5, 7, 9)), self.SETTINGS)

        assert baseline.expected == 5
        assert round(baseline.upper, 12) == Decimal("9.276179870599")
        assert round(baseline.lower, 12) == Decimal("0.723820129401")
        assert round(baseline.score(Decimal(20)) or 0, 6) == Decimal("7.015608")

    def test_baseline_of_flat_history_has_no_deviation_and_finds_any_rise(self) -> None:
        baseline = usual(MONDAY, days_before(MONDAY, usd(*[5] * 10)), self.SETTINGS)

        assert (baseline.expected, baseline.upper, baseline.score(Decimal(6))) == (5, 5, None)
        assert baseline.is_exceeded_by(Decimal(6), Decimal(1))
        assert not baseline.is_exceeded_by(Decimal("5.99"), Decimal(1))

    def test_standard_deviation_of_one_value_is_0(self) -> None:
        assert standard_deviation(usd(3)) == 0

    @pytest.mark.parametrize(("sensitivity", "factor"), [("low", 3), ("medium", 2), ("high", "1.5")])
    def test_baseline_of_sensitivity_is_the_number_of_deviations(self, sensitivity: str, factor: object) -> None:
        settings = Settings(detector=Detector.SIGMA, sensitivity=Sensitivity(sensitivity))
        # Mean 10, deviation of the sample 2.
        baseline = usual(MONDAY, days_before(MONDAY, usd(8, 12, 10, 8, 12)), settings)

        assert baseline.upper == 10 + Decimal(str(factor)) * 2


class TestRobust:
    SETTINGS = Settings()

    def test_baseline_of_is_the_median_and_the_spread_of_the_same_class(self) -> None:
        # Eight weekdays: 4 6 8 10 10 12 14 16; median 10, distances 0 0 2 2 4 4 6 6, their median 3.
        weeks = [usd(4, 6, 8, 10, 10, 99, 98), usd(12, 14, 16)]

        baseline = usual(date(2026, 6, 4), days_before(date(2026, 6, 4), [one for week in weeks for one in week]), self.SETTINGS)

        assert (baseline.expected, baseline.basis, len(baseline.members)) == (10, "weekdays", 8)
        assert baseline.unit == Decimal("4.4478")
        assert baseline.upper == Decimal("25.5673")
        assert baseline.lower == 0
        assert baseline.score(Decimal("54.478")) == 10

    def test_baseline_of_days_that_hardly_vary_keeps_a_quarter_of_the_median_as_its_scale(self) -> None:
        baseline = usual(MONDAY, weeks_before(MONDAY, *[usd(10, 10, 10, 10, 10, 1, 1)] * 8), self.SETTINGS)

        assert (baseline.expected, baseline.unit, baseline.lower, baseline.upper) == (10, Decimal("2.5"), Decimal("1.25"), Decimal("18.75"))

    def test_baseline_of_a_weekend_knows_weekends_only(self) -> None:
        saturday = date(2026, 6, 6)
        history = [(saturday - timedelta(days=number), Decimal(2 if number % 7 in {0, 6} else 50)) for number in range(56, 0, -1)]

        weekend, weekday = usual(saturday, history, self.SETTINGS), usual(MONDAY, history, self.SETTINGS)

        assert (weekend.expected, weekend.upper, weekend.basis) == (2, Decimal("3.75"), "weekends")
        assert (weekday.expected, weekday.basis) == (50, "weekdays")

    def test_baseline_of_a_class_of_fewer_than_eight_days_is_that_of_all_days(self) -> None:
        saturday = date(2026, 6, 6)

        baseline = usual(saturday, days_before(saturday, usd(9, 9, 9, 9, 9, 1, 1, 9, 9, 9, 9, 9)), self.SETTINGS)

        assert (baseline.expected, baseline.basis, len(baseline.members)) == (9, "all days", 12)

    def test_baseline_of_few_idle_days_count_as_0(self) -> None:
        # Two of ten weekdays are idle: median of 0 0 8 8 8 8 12 12 12 12 is 8.
        baseline = usual(MONDAY, weeks_before(MONDAY, usd(0, 8, 8, 12, 12, 0, 0), usd(0, 8, 8, 12, 12, 0, 0)), self.SETTINGS)

        assert (baseline.expected, baseline.basis, len(baseline.members)) == (8, "weekdays", 10)

    def test_baseline_of_many_idle_days_is_that_of_the_used_ones(self) -> None:
        baseline = usual(MONDAY, weeks_before(MONDAY, *[usd(0, 0, 0, 10, 12, 0, 0)] * 4), self.SETTINGS)

        assert (baseline.expected, baseline.basis, len(baseline.members)) == (11, "weekdays with spend", 8)
        assert not baseline.is_exceeded_by(Decimal(20), Decimal(1))

    def test_baseline_of_a_class_that_was_hardly_ever_used_is_that_of_all_used_days(self) -> None:
        sunday = date(2026, 5, 31)
        history = weeks_before(MONDAY, *[usd(10, 10, 10, 10, 10, 0, 0)] * 8)[:-1]

        baseline = usual(sunday, history, self.SETTINGS)

        assert (baseline.expected, baseline.basis, len(baseline.members)) == (10, "all days with spend", 40)

    def test_baseline_of_history_without_spend_is_0(self) -> None:
        baseline = usual(MONDAY, weeks_before(MONDAY, usd(*[0] * 7)), self.SETTINGS)

        assert (baseline.expected, baseline.upper) == (0, Decimal("0.035"))

    def test_baseline_of_growth_is_that_of_the_last_four_weeks(self) -> None:
        weeks = [usd(*[level] * 7) for level in (17, 17, 18, 18, 20, 21, 22, 23)]

        baseline = usual(MONDAY, weeks_before(MONDAY, *weeks), self.SETTINGS)

        assert baseline.expected == Decimal("21.5")
        assert min(baseline.members) == MONDAY - timedelta(days=28)

    def test_baseline_of_a_quiet_month_is_that_of_eight_weeks(self) -> None:
        weeks = [usd(*[level] * 7) for level in (20, 20, 20, 20, 10, 10, 10, 10)]

        baseline = usual(MONDAY, weeks_before(MONDAY, *weeks), self.SETTINGS)

        assert (baseline.expected, len(baseline.members)) == (15, 40)

    @pytest.mark.parametrize(("sensitivity", "upper"), [("low", "22.5"), ("medium", "18.75"), ("high", "16.25")])
    def test_baseline_of_sensitivity_is_the_number_of_scales(self, sensitivity: str, upper: str) -> None:
        history = weeks_before(MONDAY, *[usd(*[10] * 7)] * 4)

        assert usual(MONDAY, history, Settings(sensitivity=Sensitivity(sensitivity))).upper == Decimal(upper)

    def test_baseline_of_one_outlier_hides_the_next_from_sigma_alone(self) -> None:
        week = usd(9, 10, 11, 10, 9, 10, 11)
        history = weeks_before(MONDAY, week, usd(9, 10, 200, 10, 9, 10, 11), week, week)

        found = {one: usual(MONDAY, history, Settings(detector=one)).is_exceeded_by(Decimal(50), Decimal(1)) for one in Detector}

        assert found == {Detector.ROBUST: True, Detector.SIGMA: False, Detector.RATIO: True}


class TestPeers:
    def test_baseline_of_peers_robust_counts_factors(self) -> None:
        # Factors of ten around the median: logarithms at distances of 0, 1 and 2 times ln 10, their median 1.
        peers = [(f"ses_{number}", amount) for number, amount in enumerate(usd("0.01", "0.1", "0.1", 1, 10, 10, 100))]

        baseline = usual_of_peers(peers, Settings())

        assert (baseline.expected, baseline.basis, len(baseline.members)) == (1, "sessions", 7)
        # 10 to the power of 3.5 x 1.4826.
        assert round(baseline.upper, 3) == Decimal("154561.029")
        assert round(baseline.score(Decimal(10) ** 5) or 0, 6) == Decimal("3.372454")

    def test_baseline_of_peers_alike_keeps_a_factor_as_its_scale(self) -> None:
        baseline = usual_of_peers([(f"ses_{number}", Decimal(2)) for number in range(20)], Settings())

        # 2 x 1.25 to the power of 3.5.
        assert round(baseline.upper, 6) == Decimal("4.367320")

    @pytest.mark.parametrize(("detector", "expected", "upper"), [("ratio", 2, "4"), ("sigma", 3, "9.928203230276")])
    def test_baseline_of_peers_classic_rules_are_those_of_days(self, detector: str, expected: int, upper: str) -> None:
        # Mean 3, squares of the differences 4 + 4 + 1 + 1 + 1 + 49 = 60, by 5: 3.4641... squared.
        peers = [(f"ses_{number}", amount) for number, amount in enumerate(usd(1, 1, 2, 2, 2, 10))]

        baseline = usual_of_peers(peers, Settings(detector=Detector(detector)))

        assert (baseline.expected, round(baseline.upper, 12)) == (expected, Decimal(upper))
