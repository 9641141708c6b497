"""Sums of the spend on real databases."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from opencode_monitor.ingest.settle import backfill
from opencode_monitor.models import Project
from opencode_monitor.pricing.book import seed_price_book
from opencode_monitor.repositories import CostRepository, Interval, TimeRange
from opencode_monitor.testing.builders import NOON, SONNET, add_call, add_session

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

TOKEN = Decimal("0.000003")  # USD, one uncached prompt token of SONNET


def settle(session: Session) -> CostRepository:
    seed_price_book(session.connection(), now=NOON)
    backfill(session.connection(), now=NOON)
    return CostRepository(session)


@pytest.mark.parametrize(
    ("tz", "expected"),
    [
        ("UTC", [(date(2026, 3, 28), 1), (date(2026, 3, 29), 12)]),
        ("Europe/Berlin", [(date(2026, 3, 29), 13)]),
        ("America/St_Johns", [(date(2026, 3, 28), 13)]),
        ("Asia/Kathmandu", [(date(2026, 3, 29), 13)]),
        ("Pacific/Kiritimati", [(date(2026, 3, 29), 13)]),
    ],
)
def test_by_period_day_is_the_day_of_the_call_in_the_zone(session: Session, tz: str, expected: list[tuple[date, int]]) -> None:
    add_session(session, created_at=datetime(2026, 1, 1, tzinfo=UTC))
    # Berlin changes to summer time on 29 March 2026 at 01:00 UTC.
    add_call(session, "msg_1", created_at=datetime(2026, 3, 28, 23, 30, tzinfo=UTC), steps=((1, 0, 0, 0, 0),))
    add_call(session, "msg_2", created_at=datetime(2026, 3, 29, 1, 30, tzinfo=UTC), steps=((4, 0, 0, 0, 0),))
    add_call(session, "msg_3", created_at=datetime(2026, 3, 29, 0, 59, 59, tzinfo=UTC), steps=((8, 0, 0, 0, 0),))
    rows = settle(session).by_period(Interval.DAY, tz=tz)
    assert [(row.period, row.input_tokens) for row in rows] == expected
    assert sum((row.cost_usd or Decimal(0) for row in rows), Decimal(0)) == 13 * TOKEN


@pytest.mark.parametrize(("interval", "period"), [(Interval.WEEK, date(2026, 5, 4)), (Interval.MONTH, date(2026, 5, 1))])
def test_by_period_longer_intervals_begin_on_monday_and_on_the_first(session: Session, interval: Interval, period: date) -> None:
    add_session(session)
    add_call(session, created_at=datetime(2026, 5, 10, 23, tzinfo=UTC))
    assert [row.period for row in settle(session).by_period(interval, tz="UTC")] == [period]


def test_by_period_range_is_half_open(session: Session) -> None:
    add_session(session)
    for number, hours in enumerate((0, 1, 2)):
        add_call(session, f"msg_{number}", created_at=NOON + timedelta(hours=hours))
    costs = settle(session)
    assert costs.total(TimeRange(NOON, NOON + timedelta(hours=2))).calls == 2
    assert costs.total(TimeRange(NOON + timedelta(hours=1))).calls == 2
    assert costs.total(TimeRange(end=NOON)).calls == 0


def test_by_model_most_expensive_first_and_unpriced_last(session: Session) -> None:
    add_session(session)
    add_call(session, "msg_1", model_id="ollama/qwen3-coder", steps=((10**9, 0, 0, 0, 0),))
    add_call(session, "msg_2", model_id="anthropic/claude-haiku-4-5", steps=((10, 0, 0, 0, 0),))
    add_call(session, "msg_3", steps=((10, 0, 0, 0, 0),))
    rows = settle(session).by_model()
    assert [(row.model, row.cost_usd, row.unpriced_calls) for row in rows] == [
        (SONNET, 10 * TOKEN, 0),
        ("anthropic/claude-haiku-4-5", Decimal("0.00001"), 0),
        ("ollama/qwen3-coder", None, 1),
    ]


def test_by_session_names_project_agent_and_parent(session: Session) -> None:
    session.add(Project(project_id="prj", worktree="/home/dev/shop"))
    add_session(session, "ses_1").project_id = "prj"
    add_session(session, "ses_2", parent_session_id="ses_1", created_at=NOON + timedelta(minutes=1))
    add_call(session, "msg_1", "ses_1")
    add_call(session, "msg_2", "ses_2")
    rows = settle(session).by_session()
    assert [(row.session_id, row.project, row.agent, row.parent_session_id, row.started_at) for row in rows] == [
        ("ses_2", None, "build", "ses_1", NOON + timedelta(minutes=1)),
        ("ses_1", "/home/dev/shop", "build", None, NOON),
    ]


def test_by_session_sorted_by_cost_and_limited(session: Session) -> None:
    for number, tokens in enumerate((5, 50, 1)):
        add_session(session, f"ses_{number}")
        add_call(session, f"msg_{number}", f"ses_{number}", steps=((tokens, 0, 0, 0, 0),))
    rows = settle(session).by_session(sort="cost", limit=2)
    assert [(row.session_id, row.cost_usd) for row in rows] == [("ses_1", 50 * TOKEN), ("ses_0", 5 * TOKEN)]
