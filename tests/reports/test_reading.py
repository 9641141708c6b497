"""Judgements of real databases."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from opencode_monitor.ingest.settle import backfill
from opencode_monitor.pricing.book import seed_price_book
from opencode_monitor.reports.anomalies import Scope
from opencode_monitor.reports.detectors import Settings
from opencode_monitor.reports.forecast import Horizon
from opencode_monitor.reports.reading import find_anomalies, make_forecasts, read_days, root_of, run_backtests
from opencode_monitor.reports.spend import Dimension
from opencode_monitor.repositories import CostRepository
from opencode_monitor.testing.builders import NOON, add_call, add_session

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

ZONES = ("UTC", "Europe/Berlin", "Asia/Kathmandu", "Pacific/Kiritimati", "America/St_Johns")
USD = Decimal("1.5")  # USD, 100,000 output tokens of SONNET


def add_days(session: Session, count: int, *, end: datetime) -> None:
    """Add a call of 1.50 USD on each day before an instant, at its hour, each in a session of its own."""
    for number in range(count, 0, -1):
        at = end - timedelta(days=number)
        add_session(session, f"ses_{number:03d}", created_at=at)
        add_call(session, f"msg_{number:03d}", f"ses_{number:03d}", created_at=at, steps=((0, 0, 0, 100_000, 0),))


def settle(session: Session) -> None:
    seed_price_book(session.connection(), now=NOON)
    backfill(session.connection(), now=NOON)


@pytest.mark.parametrize(
    ("tz", "at", "day"),
    [
        # In each zone, an hour after the midnight at which a day of 23 hours begins, and one that ends a day of 25.
        ("Europe/Berlin", datetime(2026, 3, 28, 23, 30, tzinfo=UTC), date(2026, 3, 29)),
        ("Europe/Berlin", datetime(2026, 10, 25, 22, 30, tzinfo=UTC), date(2026, 10, 25)),
        ("America/St_Johns", datetime(2026, 3, 8, 4, 0, tzinfo=UTC), date(2026, 3, 8)),
        ("America/St_Johns", datetime(2026, 11, 2, 3, 0, tzinfo=UTC), date(2026, 11, 1)),
        ("Asia/Kathmandu", datetime(2026, 10, 24, 18, 30, tzinfo=UTC), date(2026, 10, 25)),
        ("Pacific/Kiritimati", datetime(2026, 10, 24, 10, 30, tzinfo=UTC), date(2026, 10, 25)),
    ],
)
def test_find_anomalies_day_is_that_of_the_zone(session: Session, tz: str, at: datetime, day: date) -> None:
    zone = ZoneInfo(tz)
    add_days(session, 9, end=datetime.combine(day, datetime.min.time(), tzinfo=zone).astimezone(UTC) + timedelta(hours=12))
    add_session(session, "ses_x", created_at=at)
    add_call(session, "msg_x", "ses_x", created_at=at, steps=((0, 0, 0, 1_000_000, 0),))
    settle(session)

    found = find_anomalies(
        session,
        scopes=[Scope.TOTAL],
        first=day - timedelta(days=2),
        end=day + timedelta(days=2),
        now=at + timedelta(days=9),
        tz=zone,
        settings=Settings(),
    )

    (finding,) = found.findings
    assert (finding.day, finding.actual_usd, finding.expected_usd) == (day, 10 * USD, USD)
    by = {drivers.by: drivers.rows[0] for drivers in finding.drivers}
    assert (by[Dimension.SESSION].key, by[Dimension.SESSION].impact_usd) == ("ses_x", 10 * USD)
    assert (by[Dimension.MODEL].usual_usd, by[Dimension.MODEL].impact_usd) == (USD, 9 * USD)
    assert found.judged == 3


def test_read_days_sum_to_the_total_in_any_zone(session: Session) -> None:
    add_session(session)
    for number in range(20):
        at = datetime(2026, 10, 24, 10, tzinfo=UTC) + timedelta(hours=3 * number)
        add_call(session, f"msg_{number}", created_at=at, steps=((number + 1, 0, 0, 0, 0),))
    settle(session)
    total = CostRepository(session).total().cost_usd

    for tz in ZONES:
        days = read_days(session, first=None, now=datetime(2026, 11, 1, tzinfo=UTC), tz=ZoneInfo(tz))
        assert sum((amount.usd or 0 for amount in days.values()), Decimal(0)) == total, tz


def test_find_anomalies_of_sessions_counts_sub_agents_and_what_came_after_the_range(session: Session) -> None:
    day = NOON.date()
    for number in range(24):
        at = NOON - timedelta(days=number % 8 + 1)
        add_session(session, f"ses_{number}", created_at=at)
        add_call(session, f"msg_{number}", f"ses_{number}", created_at=at, steps=((0, 0, 0, 100_000, 0),))
    add_session(session, "ses_x")
    add_session(session, "ses_child", parent_session_id="ses_x")
    add_call(session, "msg_x", "ses_x", steps=((0, 0, 0, 100_000, 0),))
    add_call(session, "msg_child", "ses_child", created_at=NOON + timedelta(days=1), steps=((0, 0, 0, 900_000, 0),))
    settle(session)

    found = find_anomalies(
        session,
        scopes=[Scope.SESSION],
        first=day,
        end=day + timedelta(days=1),
        now=NOON + timedelta(days=2),
        tz=ZoneInfo("UTC"),
        settings=Settings(),
    )

    assert [(one.key, one.day, one.actual_usd, one.expected_usd) for one in found.findings] == [("ses_x", day, 10 * USD, USD)]


def test_find_anomalies_of_an_empty_database_finds_nothing(session: Session) -> None:
    found = find_anomalies(session, scopes=list(Scope), first=None, end=NOON.date(), now=NOON, tz=ZoneInfo("UTC"), settings=Settings())

    assert (found.findings, found.unjudged, found.judged) == ((), (), 0)


def test_find_anomalies_first_day_with_spend_lies_before_what_is_read(session: Session) -> None:
    # 80 days: 56 are read before the first judged one, and all of them are history.
    add_days(session, 80, end=NOON)
    add_call(session, "msg_x", "ses_001", steps=((0, 0, 0, 1_000_000, 0),))
    settle(session)

    (finding,) = find_anomalies(
        session,
        scopes=[Scope.MODEL],
        first=NOON.date(),
        end=NOON.date() + timedelta(days=1),
        now=NOON,
        tz=ZoneInfo("UTC"),
        settings=Settings(),
    ).findings

    assert (finding.basis, finding.compared_with, finding.is_complete) == ("weekdays", 40, False)


def test_make_forecasts_and_backtests_are_those_of_the_days(session: Session) -> None:
    add_days(session, 40, end=NOON)
    settle(session)

    month, week = make_forecasts(session, horizons=[Horizon.MONTH_END, Horizon.WEEK], now=NOON, tz=ZoneInfo("UTC"))
    (tested,) = run_backtests(session, horizons=[Horizon.WEEK], now=NOON, tz=ZoneInfo("UTC"))

    # Noon is on 4 May: three days of May are recorded, 28 are left.
    assert (month.recorded_usd, month.expected_usd, month.history_days) == (3 * USD, 31 * USD, 28)
    assert (week.recorded_usd, week.expected_usd, week.straight_line_usd) == (Decimal(0), 7 * USD, 7 * USD)
    assert tested.forecasts == 19
    assert tested.errors is not None
    assert tested.errors.wape == 0


@pytest.mark.parametrize(
    ("session_id", "root"),
    [("ses_3", "ses_1"), ("ses_2", "ses_1"), ("ses_1", "ses_1"), ("ses_4", "ses_gone"), ("ses_5", "ses_5"), ("ses_7", "ses_7")],
)
def test_root_of_is_where_it_was_started(session_id: str, root: str) -> None:
    parents = {"ses_3": "ses_2", "ses_2": "ses_1", "ses_4": "ses_gone", "ses_5": "ses_6", "ses_6": "ses_5", "ses_7": "ses_7"}

    assert root_of(session_id, parents) == root
