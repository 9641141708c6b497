"""Which days and sessions are found, and what made the difference."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencode_monitor.reports.anomalies import Judgement, Reason, Scope, find_days, find_sessions
from opencode_monitor.reports.detectors import Detector, Settings
from opencode_monitor.reports.drivers import Driver, Drivers, drivers_of
from opencode_monitor.reports.spend import Dimension, Spend
from spends import MONDAY, eight_weeks, spend

if TYPE_CHECKING:
    from collections.abc import Sequence

TUESDAY = MONDAY + timedelta(days=1)


def judge(
    spends: Sequence[Spend],
    *,
    first: date = MONDAY,
    end: date = TUESDAY,
    today: date = date(2026, 7, 1),
    scope: Scope = Scope.TOTAL,
    settings: Settings = Settings(),  # noqa: B008 - frozen
    limit: int = 3,
) -> Any:
    """Judge days; untyped, as the decimals of what is found are compared with whole numbers."""
    return find_days(spends, scope=scope, first=first, end=end, today=today, settings=settings, limit=limit)


class TestDays:
    def test_find_days_says_what_was_usual_and_by_how_much_it_was_more(self) -> None:
        found = judge([*eight_weeks(10), spend(MONDAY, 60)])

        (finding,) = found.findings
        assert (finding.day, finding.scope, finding.key) == (MONDAY, Scope.TOTAL, None)
        # All days alike: a scale of 10 / 4, and 3.5 of them.
        assert (finding.actual_usd, finding.expected_usd, finding.lower_usd, finding.upper_usd) == (
            60,
            10,
            Decimal("1.25"),
            Decimal("18.75"),
        )
        assert (finding.impact_usd, finding.score, finding.basis, finding.compared_with) == (50, 20.0, "weekdays", 40)
        assert (finding.unknown_calls, finding.baseline_unknown_calls, finding.is_complete) == (0, 0, True)
        assert (found.judged, found.unjudged) == (1, ())

    @pytest.mark.parametrize(("usd", "is_found"), [("18.75", False), ("18.76", True), ("0", False)])
    def test_find_days_beyond_the_usual_only(self, usd: str, is_found: bool) -> None:
        assert bool(judge([*eight_weeks(10), spend(MONDAY, usd)]).findings) == is_found

    @pytest.mark.parametrize(("min_usd", "is_found"), [("9.99", True), ("10", True), ("10.01", False)])
    def test_find_days_less_than_the_least_impact_is_left_out(self, min_usd: str, is_found: bool) -> None:
        found = judge([*eight_weeks(10), spend(MONDAY, 20)], settings=Settings(min_usd=Decimal(min_usd)))

        assert bool(found.findings) == is_found

    @pytest.mark.parametrize("detector", Detector)
    def test_find_days_tested_day_and_later_ones_are_in_no_baseline(self, detector: Detector) -> None:
        spends = [*eight_weeks(10), spend(MONDAY, 60)]
        later = [spend(MONDAY + timedelta(days=number), 10_000) for number in range(1, 20)]
        settings = Settings(detector=detector)

        assert judge([*spends, *later], settings=settings).findings == judge(spends, settings=settings).findings

    def test_find_days_today_is_marked_and_tomorrow_is_not_judged(self) -> None:
        found = judge([*eight_weeks(10), spend(MONDAY, 60), spend(TUESDAY, 90)], end=TUESDAY + timedelta(days=1), today=MONDAY)

        assert [(one.day, one.is_complete) for one in found.findings] == [(MONDAY, False)]

    def test_find_days_without_calls_cost_0(self) -> None:
        # Nine days of 20 among 56: mean 180 / 56.
        spends = [one for number, one in enumerate(eight_weeks(20)) if number % 7 == 1 or number == 0]

        (finding,) = judge([*spends, spend(MONDAY, 100)], settings=Settings(detector=Detector.SIGMA)).findings

        assert (finding.compared_with, finding.expected_usd) == (56, Decimal("3.214285714286"))

    def test_find_days_before_the_first_spend_are_no_history(self) -> None:
        spends = [*eight_weeks(20)[-10:], spend(MONDAY, 100)]
        settings = Settings(detector=Detector.SIGMA)

        (young,) = judge(spends, settings=settings).findings
        (old,) = find_days(
            spends, scope=Scope.TOTAL, first=MONDAY, end=TUESDAY, today=TUESDAY, settings=settings, since={"": date(2026, 1, 1)}
        ).findings

        assert (young.compared_with, young.expected_usd) == (10, 20)
        assert (old.compared_with, old.expected_usd) == (56, Decimal("3.571428571429"))

    @pytest.mark.parametrize(("active", "judged"), [(6, 0), (7, 1)])
    def test_find_days_with_fewer_than_seven_active_days_before_are_not_judged(self, active: int, judged: int) -> None:
        found = judge([*eight_weeks(10)[-active:], spend(MONDAY, 500)])

        assert found.judged == judged == len(found.findings)
        assert [(one.reason, one.count, one.history) for one in found.unjudged] == ([] if judged else [(Reason.HISTORY, 1, 6)])

    def test_find_days_of_unknown_cost_are_not_judged_and_in_no_baseline(self) -> None:
        history = [replace(one, usd=None, unknown_calls=3) if number % 2 else one for number, one in enumerate(eight_weeks(10))]

        found = judge(
            [*history, spend(MONDAY, 60), spend(TUESDAY, None, unknown_calls=5)],
            end=TUESDAY + timedelta(days=1),
            settings=Settings(detector=Detector.SIGMA),
        )

        (finding,) = found.findings
        assert (finding.expected_usd, finding.compared_with, finding.baseline_unknown_calls) == (10, 28, 0)
        assert [(one.reason, one.count) for one in found.unjudged] == [(Reason.UNKNOWN, 1)]

    def test_find_days_of_partly_unknown_cost_are_at_least_so_much(self) -> None:
        history = eight_weeks(10)
        history.append(spend(history[0].day, None, model="local/free", unknown_calls=2))

        (finding,) = judge([*history, spend(MONDAY, 60), spend(MONDAY, None, model="local/free", unknown_calls=7)]).findings

        assert (finding.actual_usd, finding.unknown_calls, finding.baseline_unknown_calls) == (60, 7, 2)
        (models,) = [one for one in finding.drivers if one.by == Dimension.MODEL]
        assert models.rows == (
            Driver(key="vendor/large", actual_usd=Decimal(60), usual_usd=Decimal(10), impact_usd=Decimal(50), unknown_calls=0),
            Driver(key="local/free", actual_usd=None, usual_usd=Decimal(0), impact_usd=None, unknown_calls=7),
        )
        assert models.other_usd == 0

    @pytest.mark.parametrize(("scope", "key"), [(Scope.PROJECT, "shop"), (Scope.MODEL, "vendor/large"), (Scope.AGENT, "build")])
    def test_find_days_of_each_key_for_itself(self, scope: Scope, key: str) -> None:
        other: dict[str, Any] = {"project": "api", "model": "vendor/small", "agent": "plan"}
        noise = [replace(one, usd=Decimal(500), **other) for one in [*eight_weeks(), spend(MONDAY, 0)]]

        found = judge([*eight_weeks(10), spend(MONDAY, 60), *noise], scope=scope)

        assert [(one.scope, one.key, one.actual_usd, one.expected_usd) for one in found.findings] == [(scope, key, 60, 10)]
        assert {one.by for one in found.findings[0].drivers} == set(Dimension) - {Dimension(scope.value)}
        assert judge([*eight_weeks(10), spend(MONDAY, 60), *noise]).findings == ()

    def test_find_days_project_without_a_name_is_not_the_total(self) -> None:
        (finding,) = judge([*eight_weeks(10, project=""), spend(MONDAY, 60, project="")], scope=Scope.PROJECT).findings

        assert finding.key == ""


class TestDrivers:
    def test_find_days_drivers_are_ranked_and_add_up(self) -> None:
        # 10 a day from the shop and 30 from the api: 40 is usual. On Monday the shop costs 90, the api 20, a new project 30.
        spends = [*eight_weeks(10), *eight_weeks(30, project="api", model="vendor/small")]
        monday = [
            spend(MONDAY, 90, session="ses_a"),
            spend(MONDAY, 20, project="api", model="vendor/small", session="ses_b"),
            spend(MONDAY, 30, project="web", session="ses_b"),
        ]

        (finding,) = judge([*spends, *monday]).findings

        by = {one.by: one for one in finding.drivers}
        assert (finding.expected_usd, finding.impact_usd) == (40, 100)
        assert by[Dimension.PROJECT] == Drivers(
            by=Dimension.PROJECT,
            rows=(
                Driver(key="shop", actual_usd=Decimal(90), usual_usd=Decimal(10), impact_usd=Decimal(80), unknown_calls=0),
                Driver(key="web", actual_usd=Decimal(30), usual_usd=Decimal(0), impact_usd=Decimal(30), unknown_calls=0),
            ),
            other_usd=Decimal(-10),
        )
        assert [(row.key, row.impact_usd) for row in by[Dimension.MODEL].rows] == [("vendor/large", 110)]
        assert [(row.key, row.impact_usd) for row in by[Dimension.SESSION].rows] == [("ses_a", 90), ("ses_b", 50)]
        assert by[Dimension.SESSION].other_usd == -40
        assert by[Dimension.AGENT].rows[0].usual_usd == 40

    def test_find_days_drivers_beyond_the_limit_and_below_a_twentieth_are_others(self) -> None:
        monday = [spend(MONDAY, usd, project=f"new-{usd}") for usd in (50, 40, 30, 2)]

        (finding,) = judge([*eight_weeks(10), *monday], limit=2).findings
        (all_of_it,) = judge([*eight_weeks(10), *monday], limit=9).findings

        assert [row.key for row in finding.drivers[0].rows] == ["new-50", "new-40"]
        assert finding.drivers[0].other_usd == 22
        assert [row.key for row in all_of_it.drivers[0].rows] == ["new-50", "new-40", "new-30"]
        assert all_of_it.drivers[0].other_usd == -8

    def test_find_days_baseline_of_a_driver_leaves_out_earlier_outliers(self) -> None:
        history = [*eight_weeks(10), spend(MONDAY - timedelta(days=7), 900, project="api")]

        (finding,) = judge([*history, spend(MONDAY, 60, project="api")]).findings

        (row,) = finding.drivers[0].rows
        assert (row.key, row.usual_usd, row.impact_usd, finding.drivers[0].other_usd) == ("api", 0, 60, -10)

    @given(
        actual=st.lists(st.tuples(st.sampled_from("abcde"), st.decimals(0, 10**6, places=12)), min_size=1, max_size=12),
        reference=st.lists(st.tuples(st.sampled_from("abcdef"), st.decimals(0, 10**6, places=12)), max_size=12),
        expected=st.decimals(0, 10**6, places=12),
        limit=st.integers(0, 6),
    )
    def test_drivers_of_any_spend_add_up_to_the_impact_exactly(
        self, actual: list[tuple[str, Decimal]], reference: list[tuple[str, Decimal]], expected: Decimal, limit: int
    ) -> None:
        impact = sum((usd for _, usd in actual), Decimal(0)) - expected

        found = drivers_of(
            [spend(MONDAY, usd, project=key) for key, usd in actual],
            [spend(MONDAY, usd, project=key) for key, usd in reference],
            dimension=Dimension.PROJECT,
            expected=expected,
            impact=impact,
            limit=limit,
        )

        assert sum((row.impact_usd or Decimal(0) for row in found.rows), found.other_usd) == impact
        assert all(row.impact_usd == (row.actual_usd or 0) - row.usual_usd for row in found.rows)
        assert len(found.rows) <= limit


@st.composite
def histories(draw: st.DrawFn) -> list[Spend]:
    """Draw ten weeks of spend of a few projects and models, idle days and unknown prices among them."""
    chance = random.Random(draw(st.integers(0, 10**6)))  # noqa: S311 - drawn by hypothesis
    spends = []
    for number in range(70):
        day = MONDAY + timedelta(days=7 - number)
        for _ in range(chance.choice((0, 1, 1, 2, 4))):
            usd = (
                None
                if chance.random() < 0.02
                else Decimal(chance.choice((1, 5, 10, 10, 10, 12, 90)) * 10**12 + chance.randrange(10**12)).scaleb(-12)
            )
            spends.append(
                spend(
                    day,
                    usd,
                    project=chance.choice(("shop", "api", "web")),
                    model=chance.choice(("vendor/large", "vendor/small")),
                    agent=chance.choice(("build", "plan")),
                    session=f"ses_{day}_{chance.randrange(2)}",
                    unknown_calls=usd is None,
                )
            )
    return spends


def judge_all(spends: Sequence[Spend], detector: Detector, *, min_usd: Decimal = Decimal(1)) -> list[Judgement]:
    settings = Settings(detector=detector, min_usd=min_usd)
    span: dict[str, Any] = {"first": MONDAY - timedelta(days=7), "end": MONDAY + timedelta(days=8), "today": MONDAY + timedelta(days=7)}
    days = [find_days(spends, scope=scope, settings=settings, **span) for scope in Scope if scope != Scope.SESSION]
    return [*days, find_sessions(spends, settings=settings, **span)]


class TestProperties:
    @hypothesis.settings(max_examples=12)
    @given(spends=histories(), detector=st.sampled_from(Detector))
    def test_find_any_history_drivers_add_up_to_the_impact(self, spends: list[Spend], detector: Detector) -> None:
        for found in judge_all(spends, detector):
            for finding in found.findings:
                assert finding.impact_usd == finding.actual_usd - finding.expected_usd >= 1
                assert finding.actual_usd > finding.lower_usd
                for drivers in finding.drivers:
                    assert sum((row.impact_usd or Decimal(0) for row in drivers.rows), drivers.other_usd) == finding.impact_usd

    @hypothesis.settings(max_examples=12)
    @given(spends=histories(), detector=st.sampled_from(Detector), factor=st.sampled_from([2, 7, 1000]))
    def test_find_other_currency_finds_the_same(self, spends: list[Spend], detector: Detector, factor: int) -> None:
        scaled = [one if one.usd is None else replace(one, usd=one.usd * factor) for one in spends]

        before, after = judge_all(spends, detector), judge_all(scaled, detector, min_usd=Decimal(factor))

        for one, other in zip(before, after, strict=True):
            assert (one.judged, one.unjudged) == (other.judged, other.unjudged)
            assert [(found.day, found.key, found.score) for found in one.findings] == [
                (found.day, found.key, found.score) for found in other.findings
            ]
            for found, expected in zip(other.findings, one.findings, strict=True):
                assert found.actual_usd == factor * expected.actual_usd
                assert abs(found.impact_usd - factor * expected.impact_usd) < Decimal("1e-8")

    @hypothesis.settings(max_examples=12)
    @given(spends=histories(), detector=st.sampled_from(Detector), seed=st.integers(0, 1000))
    def test_find_order_of_the_rows_does_not_matter(self, spends: list[Spend], detector: Detector, seed: int) -> None:
        shuffled = random.Random(seed).sample(spends, len(spends))  # noqa: S311 - drawn by hypothesis

        assert judge_all(shuffled, detector) == judge_all(spends, detector)

    @hypothesis.settings(max_examples=12)
    @given(spends=histories(), detector=st.sampled_from(Detector))
    def test_find_project_that_cost_nothing_changes_nothing(self, spends: list[Spend], detector: Detector) -> None:
        days = [MONDAY + timedelta(days=8 - number) for number in range(90)]
        free = [spend(day, 0, project="free", model="local/free", agent="free", session=f"ses_free_{day}") for day in days]

        assert judge_all([*spends, *free], detector) == judge_all(spends, detector)


class TestSessions:
    PEERS = tuple(
        spend(MONDAY - timedelta(days=number % 20 + 1), usd, session=f"ses_{number}", model=f"vendor/{number % 2}")
        for number, usd in enumerate([*[1] * 12, *[2] * 16, *[4] * 12])
    )

    def judge(self, *spends: Spend, settings: Settings = Settings(), today: date = date(2026, 7, 1)) -> Any:  # noqa: B008 - frozen
        return find_sessions(spends, first=MONDAY, end=TUESDAY, today=today, settings=settings)

    def test_find_sessions_one_beyond_its_peers_is_found_with_all_of_its_days(self) -> None:
        mine = [
            spend(MONDAY, 50, session="ses_x", agent="build"),
            spend(TUESDAY, 40, session="ses_x", agent="explore", model="vendor/0"),
        ]

        found = self.judge(*self.PEERS, *mine, spend(MONDAY, 4, session="ses_y"), spend(TUESDAY, 500, session="ses_z"))

        (finding,) = found.findings
        # A median of 2; half of the peers are within a factor of 2 from it. ln 45 / (1.4826 x ln 2) = 3.70.
        assert (finding.day, finding.scope, finding.key, finding.actual_usd) == (MONDAY, Scope.SESSION, "ses_x", 90)
        assert (finding.expected_usd, finding.compared_with, finding.basis) == (2, 40, "sessions")
        assert (finding.impact_usd, finding.score, finding.is_complete) == (88, 3.7, True)
        assert {one.by for one in finding.drivers} == {Dimension.PROJECT, Dimension.MODEL, Dimension.AGENT}
        (agents,) = [one for one in finding.drivers if one.by == Dimension.AGENT]
        assert [(row.key, row.usual_usd, row.impact_usd) for row in agents.rows] == [("build", 2, 48), ("explore", 0, 40)]
        assert found.judged == 2

    @pytest.mark.parametrize(("peers", "reasons"), [(19, [Reason.HISTORY]), (20, [])])
    def test_find_sessions_with_fewer_than_twenty_peers_are_not_judged(self, peers: int, reasons: list[Reason]) -> None:
        found = self.judge(*self.PEERS[:peers], spend(MONDAY, 90, session="ses_x"))

        assert [one.reason for one in found.unjudged] == reasons

    def test_find_sessions_of_one_day_are_no_history(self) -> None:
        peers = [replace(peer, day=MONDAY - timedelta(days=1)) for peer in self.PEERS]

        found = self.judge(*peers, spend(MONDAY, 90, session="ses_x"))

        assert [(one.reason, one.history) for one in found.unjudged] == [(Reason.HISTORY, 40)]

    def test_find_sessions_begun_before_or_free_or_of_unknown_cost_are_no_peers(self) -> None:
        mine = [
            spend(MONDAY, 90, session="ses_x"),
            spend(MONDAY, None, session="ses_u", unknown_calls=1),
            spend(MONDAY, 0, session="ses_0"),
        ]
        eve = MONDAY - timedelta(days=1)
        others = [
            spend(eve, 999, session="ses_before"),
            spend(eve, 0, session="ses_free"),
            spend(eve, None, session="ses_v", unknown_calls=1),
        ]

        found = find_sessions(
            [*self.PEERS, *mine, *others], first=MONDAY, end=TUESDAY, today=MONDAY, settings=Settings(), begun_before={"ses_before"}
        )

        assert [(one.key, one.compared_with, one.is_complete) for one in found.findings] == [("ses_x", 40, False)]
        assert [(one.reason, one.count) for one in found.unjudged] == [(Reason.UNKNOWN, 1)]

    @pytest.mark.parametrize(("detector", "expected"), [(Detector.RATIO, 2), (Detector.SIGMA, "2.3")])
    def test_find_sessions_by_the_classic_rules(self, detector: Detector, expected: object) -> None:
        (finding,) = self.judge(*self.PEERS, spend(MONDAY, 90, session="ses_x"), settings=Settings(detector=detector)).findings

        assert finding.expected_usd == Decimal(str(expected))
