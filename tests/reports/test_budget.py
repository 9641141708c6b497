"""How budgets stand, by days that are given and by a database's calls."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencode_monitor.ingest.settle import backfill
from opencode_monitor.models import Project
from opencode_monitor.pricing.book import seed_price_book
from opencode_monitor.reports.budget import BudgetCheck, BudgetState, check_budget
from opencode_monitor.reports.forecast import Horizon
from opencode_monitor.reports.reading import check_budgets
from opencode_monitor.reports.spend import Amount
from opencode_monitor.repositories import CostNumber, Interval, SpendScope, make_budget
from opencode_monitor.testing.builders import NOON, SONNET, add_call, add_session

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from opencode_monitor.models import Message

WEDNESDAY = date(2026, 6, 17)
TOKEN = Decimal("0.000015")  # USD, one output token of SONNET
CALL = Decimal("1.5")  # USD, 100,000 of them
FREE = "ollama/qwen3-coder"


def worked() -> dict[date, Amount]:
    """Make sixty days of 10 USD on weekdays and 2 on weekends, and 4 USD so far on the Wednesday."""
    days = [WEDNESDAY - timedelta(days=number) for number in range(60, 0, -1)]
    return {**{day: Amount(Decimal(2 if day.weekday() > 4 else 10)) for day in days}, WEDNESDAY: Amount(Decimal(4))}


def check(usd: str, horizon: Horizon | None, days: dict[date, Amount] | None = None) -> BudgetCheck:
    return check_budget(worked() if days is None else days, usd=Decimal(usd), horizon=horizon, today=WEDNESDAY)


class TestCheckBudget:
    # Of June 128 before the Wednesday, 108 expected from it on. Of the week 20 before it, and 34.
    @pytest.mark.parametrize(
        ("horizon", "usd", "state"),
        [
            (Horizon.MONTH_END, "236", BudgetState.OK),
            (Horizon.MONTH_END, "235.999999999999", BudgetState.WILL_BE_OVER),
            (Horizon.MONTH_END, "132", BudgetState.WILL_BE_OVER),
            (Horizon.MONTH_END, "131.999999999999", BudgetState.OVER),
            (Horizon.WEEK_END, "54", BudgetState.OK),
            (Horizon.WEEK_END, "53.999999999999", BudgetState.WILL_BE_OVER),
            (Horizon.WEEK_END, "23.999999999999", BudgetState.OVER),
            (None, "4", BudgetState.OK),
            (None, "3.999999999999", BudgetState.OVER),
        ],
    )
    def test_check_budget_is_over_above_its_amount_and_not_at_it(self, horizon: Horizon | None, usd: str, state: BudgetState) -> None:
        assert check(usd, horizon).state == state

    def test_check_budget_of_a_month_has_share_and_outlook(self) -> None:
        found = check("200", Horizon.MONTH_END)

        assert (found.first, found.last, found.spent) == (date(2026, 6, 1), date(2026, 6, 30), Amount(Decimal(132)))
        assert found.used_share == 0.66
        assert found.forecast is not None
        assert found.outlook is not None
        assert (found.forecast.expected_usd, found.outlook.expected_share) == (Decimal(236), 1.18)
        # 68 are left: 6 more today, 24 up to Sunday, 30 up to the next Wednesday, and the Thursday's 10 are too many.
        assert found.outlook.reached_on == date(2026, 6, 25)

    def test_check_budget_of_a_week_goes_from_monday_to_sunday(self) -> None:
        found = check("100", Horizon.WEEK_END)

        assert (found.first, found.last, found.spent.usd) == (date(2026, 6, 15), date(2026, 6, 21), Decimal(24))
        assert found.forecast is not None
        assert (found.forecast.expected_usd, found.forecast.days_left) == (Decimal(54), 5)

    def test_check_budget_of_a_day_is_not_forecast(self) -> None:
        found = check("100", None)

        assert (found.first, found.last, found.spent.usd) == (WEDNESDAY, WEDNESDAY, Decimal(4))
        assert (found.forecast, found.outlook, found.used_share) == (None, None, 0.04)

    def test_check_budget_of_unknown_cost_alone_is_not_nothing(self) -> None:
        found = check("100", None, {WEDNESDAY: Amount(None, 3)})

        assert (found.spent, found.used_share, found.state, found.may_be_over) == (Amount(None, 3), None, BudgetState.OK, True)

    @pytest.mark.parametrize(("usd", "state", "may_be_over"), [("5", BudgetState.OK, True), ("4", BudgetState.OVER, False)])
    def test_check_budget_with_some_unknown_cost_is_at_least(self, usd: str, state: BudgetState, may_be_over: bool) -> None:
        found = check(usd, None, {WEDNESDAY: Amount(Decimal("4.5"), 2)})

        assert (found.spent, found.state, found.may_be_over) == (Amount(Decimal("4.5"), 2), state, may_be_over)

    def test_check_budget_without_calls_has_no_forecast(self) -> None:
        found = check("1", Horizon.MONTH_END, {})

        assert (found.spent, found.state, found.used_share) == (Amount(Decimal(0)), BudgetState.OK, 0)
        assert found.forecast is not None
        assert found.forecast.expected_usd is None

    @given(
        costs=st.dictionaries(
            st.integers(0, 31).map(lambda number: WEDNESDAY - timedelta(days=number)), st.decimals(0, 10**9, places=12), min_size=1
        ),
        usd=st.decimals(Decimal("1e-12"), 10**9, places=12),
        horizon=st.sampled_from([None, Horizon.WEEK_END]),
    )
    def test_check_budget_spent_is_the_exact_sum_of_its_days(
        self, costs: dict[date, Decimal], usd: Decimal, horizon: Horizon | None
    ) -> None:
        first = WEDNESDAY if horizon is None else date(2026, 6, 15)
        pico = sum(int(cost.scaleb(12)) for day, cost in costs.items() if day >= first)

        found = check_budget({day: Amount(cost) for day, cost in costs.items()}, usd=usd, horizon=horizon, today=WEDNESDAY)

        assert found.spent.usd is not None
        assert int(found.spent.usd.scaleb(12)) == pico
        assert (found.state == BudgetState.OVER) == (pico > int(usd.scaleb(12)))


def settle(session: Session) -> None:
    seed_price_book(session.connection(), now=NOON)
    backfill(session.connection(), now=NOON)


def call(session: Session, at: datetime, *, tokens: int = 100_000, project: str = "shop", model_id: str = SONNET) -> Message:
    """Add a call in a session of its own."""
    name = f"{at.isoformat()}_{project}"
    if session.get(Project, project) is None:
        session.add(Project(project_id=project, worktree=f"/home/dev/{project}", name=project))
        session.flush()
    add_session(session, f"ses_{name}", created_at=at).project_id = project
    return add_call(session, f"msg_{name}", f"ses_{name}", created_at=at, steps=((0, 0, 0, tokens, 0),), model_id=model_id)


@pytest.mark.parametrize(
    ("tz", "now", "every", "first", "end"),
    [
        # In Berlin 29 March has 23 hours and 25 October 25; in St John's 8 March and 1 November. Kathmandu is 5:45 ahead.
        ("Europe/Berlin", "2026-03-29T12:00", "day", "2026-03-28T23:00", "2026-03-29T22:00"),
        ("Europe/Berlin", "2026-10-25T12:00", "day", "2026-10-24T22:00", "2026-10-25T23:00"),
        ("Europe/Berlin", "2026-10-25T12:00", "week", "2026-10-18T22:00", "2026-10-25T23:00"),
        ("Europe/Berlin", "2026-03-31T12:00", "month", "2026-02-28T23:00", "2026-03-31T22:00"),
        ("America/St_Johns", "2026-11-01T12:00", "day", "2026-11-01T02:30", "2026-11-02T03:30"),
        ("America/St_Johns", "2026-03-08T12:00", "week", "2026-03-02T03:30", "2026-03-09T02:30"),
        ("Asia/Kathmandu", "2026-10-24T18:20", "week", "2026-10-18T18:15", "2026-10-25T18:15"),
    ],
)
def test_check_budgets_period_is_that_of_the_zone(session: Session, tz: str, now: str, every: str, first: str, end: str) -> None:
    start, stop, moment = (datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (first, end, now))
    second = timedelta(seconds=1)
    today_stops = min(stop, datetime.combine(moment.astimezone(ZoneInfo(tz)) + timedelta(days=1), datetime.min.time(), tzinfo=ZoneInfo(tz)))
    for tokens, at in ((1, start - second), (2, start), (4, today_stops.astimezone(UTC) - second), (8, stop)):
        call(session, at, tokens=tokens)
    settle(session)

    (found,) = check_budgets(session, [make_budget("all", CALL, every=Interval(every))], now=moment, tz=ZoneInfo(tz))

    assert (found.check.spent, found.calls) == (Amount(6 * TOKEN), 2)


def test_check_budgets_each_goes_by_the_history_of_its_own_calls(session: Session) -> None:
    for number in range(20):
        call(session, NOON - timedelta(days=number))
    for number in (1, 2):
        call(session, NOON - timedelta(days=number), tokens=1_000_000, project="till")
    settle(session)
    wanted = [
        make_budget(name, Decimal(10), every=Interval.WEEK, scope=SpendScope(project=pattern))
        for name, pattern in (("all", None), ("shop", "shop"), ("till", "t?ll"))
    ]

    everything, shop, till = check_budgets(session, wanted, now=NOON, tz=ZoneInfo("UTC"))

    # Noon is on a Monday: the week has begun with 1.50 in the shop. Its means are of 19 days with a call each.
    assert (shop.check.spent.usd, shop.calls) == (CALL, 1)
    assert shop.check.forecast is not None
    assert (shop.check.forecast.expected_usd, shop.check.forecast.history_days) == (7 * CALL, 19)
    assert shop.check.state == BudgetState.WILL_BE_OVER
    assert shop.check.outlook is not None
    assert shop.check.outlook.reached_on == date(2026, 5, 10)
    # The till has two days, both of 15.00, and is no older.
    assert till.check.forecast is not None
    assert (till.check.spent.usd, till.calls, till.check.forecast.expected_usd) == (Decimal(0), 0, 70 * CALL)
    assert (till.check.forecast.history_days, till.check.forecast.likely_low_usd) == (2, None)
    assert (everything.check.spent.usd, everything.unmatched) == (CALL, ())


def test_check_budgets_scope_number_and_unknown_cost(session: Session) -> None:
    call(session, NOON).reported_cost_usd = Decimal("0.25")
    call(session, NOON + timedelta(minutes=1), tokens=200_000).agent = "plan"
    call(session, NOON + timedelta(minutes=2), model_id=FREE)
    session.flush()
    settle(session)
    scopes = {
        "any": SpendScope(),
        "named": SpendScope(model="claude-*"),
        "vendor": SpendScope(model="anthropic/*", agent="plan"),
        "free": SpendScope(model=FREE, project="sh*"),
        "none": SpendScope(project="Shop", model="gpt-*", agent="build"),
    }
    wanted = [make_budget(name, CALL, every=Interval.DAY, scope=scope) for name, scope in scopes.items()]
    wanted.append(make_budget("reported", CALL, every=Interval.DAY, cost_number=CostNumber.REPORTED))

    found = {one.budget.name: one for one in check_budgets(session, wanted, now=NOON, tz=ZoneInfo("UTC"))}

    assert {name: (one.check.spent, one.calls) for name, one in found.items()} == {
        "any": (Amount(3 * CALL, 1), 3),
        "named": (Amount(3 * CALL), 2),
        "vendor": (Amount(2 * CALL), 1),
        "free": (Amount(None, 1), 1),
        "none": (Amount(Decimal(0)), 0),
        "reported": (Amount(Decimal("0.25"), 2), 3),
    }
    assert {name: one.check.state for name, one in found.items() if one.check.state != BudgetState.OK} == {
        "any": BudgetState.OVER,
        "named": BudgetState.OVER,
        "vendor": BudgetState.OVER,
    }
    # Letter by letter: `Shop` is not `shop`.
    assert {name: one.unmatched for name, one in found.items() if one.unmatched} == {"none": ("project", "model")}


def test_check_budgets_of_an_empty_database(session: Session) -> None:
    wanted = [make_budget("all", CALL, every=every, scope=SpendScope(agent="build")) for every in Interval]

    found = check_budgets(session, wanted, now=NOON, tz=ZoneInfo("UTC"))

    assert [(one.check.spent, one.check.state, one.calls, one.unmatched) for one in found] == [
        (Amount(Decimal(0)), BudgetState.OK, 0, ("agent",))
    ] * 3
