"""Spend by day, project, model, agent and session on real databases."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from opencode_monitor.ingest.settle import backfill
from opencode_monitor.metrics.measures import CostNumber
from opencode_monitor.models import Project
from opencode_monitor.pricing.book import seed_price_book
from opencode_monitor.repositories import CostRepository, SpendRepository, TimeRange
from opencode_monitor.testing.builders import NOON, SONNET, add_call, add_session

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

TOKEN = Decimal("0.000003")  # USD, one uncached prompt token of SONNET
FREE = "ollama/qwen3-coder"


def tokens(count: int) -> tuple[tuple[int, int, int, int, int], ...]:
    return ((count, 0, 0, 0, 0),)


def settle(session: Session) -> SpendRepository:
    seed_price_book(session.connection(), now=NOON)
    backfill(session.connection(), now=NOON)
    return SpendRepository(session)


def test_rows_day_is_the_day_of_the_call_in_the_zone(session: Session) -> None:
    # Berlin has 23 hours on 29 March and 25 on 25 October 2026.
    expected = {
        "UTC": {"2026-03-28": 1, "2026-03-29": 6, "2026-10-24": 8, "2026-10-25": 48},
        "Europe/Berlin": {"2026-03-29": 3, "2026-03-30": 4, "2026-10-25": 24, "2026-10-26": 32},
        "Asia/Kathmandu": {"2026-03-29": 3, "2026-03-30": 4, "2026-10-25": 24, "2026-10-26": 32},
        "Pacific/Kiritimati": {"2026-03-29": 3, "2026-03-30": 4, "2026-10-25": 24, "2026-10-26": 32},
        "America/St_Johns": {"2026-03-28": 3, "2026-03-29": 4, "2026-10-24": 24, "2026-10-25": 32},
    }
    add_session(session, created_at=datetime(2026, 1, 1, tzinfo=UTC))
    times = ("2026-03-28T23:00", "2026-03-29T00:30", "2026-03-29T22:00", "2026-10-24T22:00", "2026-10-25T00:30", "2026-10-25T23:00")
    for number, at in enumerate(times):
        created_at = datetime.fromisoformat(at).replace(tzinfo=UTC)
        add_call(session, f"msg_{number}", created_at=created_at, steps=tokens(2**number))
    repository = settle(session)

    found = {tz: repository.rows(TimeRange(), tz=tz) for tz in expected}

    for tz, rows in found.items():
        assert {row.day.isoformat(): row.usd for row in rows} == {day: count * TOKEN for day, count in expected[tz].items()}, tz
        assert sum((row.usd or 0 for row in rows), Decimal(0)) == CostRepository(session).total().cost_usd


def test_rows_are_told_apart_by_everything_and_sum_to_the_total(session: Session) -> None:
    session.add(Project(project_id="prj", worktree="/home/dev/shop", name="shop"))
    add_session(session, "ses_1").project_id = "prj"
    add_session(session, "ses_2", parent_session_id="ses_1")
    add_call(session, "msg_1", "ses_1", steps=tokens(1))
    add_call(session, "msg_2", "ses_1", steps=tokens(2))
    add_call(session, "msg_3", "ses_1", steps=tokens(4)).agent = "plan"
    add_call(session, "msg_4", "ses_1", model_id=FREE, steps=(*tokens(8), *tokens(9)))
    add_call(session, "msg_5", "ses_2", steps=tokens(16))
    copy = add_call(session, "msg_6", "ses_2", steps=tokens(32))
    session.flush()
    repository = settle(session)
    copy.copied_from = "msg_1"
    session.flush()

    rows = repository.rows(TimeRange(), tz="UTC")

    found = {(row.project, row.model, row.agent, row.session_id): (row.usd, row.unknown_calls) for row in rows}
    assert found == {
        ("shop", SONNET, "build", "ses_1"): (3 * TOKEN, 0),
        ("shop", SONNET, "plan", "ses_1"): (4 * TOKEN, 0),
        ("shop", FREE, "build", "ses_1"): (None, 2),
        ("unknown", SONNET, "build", "ses_2"): (16 * TOKEN, 0),
    }
    assert {row.day for row in rows} == {NOON.date()}
    assert repository.parents() == {"ses_2": "ses_1"}
    assert repository.titles({"ses_2", "ses_none"}) == {"ses_2": "Title of ses_2"}
    assert repository.titles(()) == {}


def test_rows_partly_unknown_are_at_least_so_much(session: Session) -> None:
    add_session(session)
    add_call(session, "msg_1", steps=tokens(5), reported_cost_usd=Decimal("0.5"))
    add_call(session, "msg_2", steps=tokens(6))

    repository = settle(session)

    (listed,) = repository.rows(TimeRange(), tz="UTC")
    (reported,) = repository.rows(TimeRange(), tz="UTC", cost_number=CostNumber.REPORTED)
    assert (listed.usd, listed.unknown_calls) == (11 * TOKEN, 0)
    assert (reported.usd, reported.unknown_calls) == (Decimal("0.5"), 1)


def test_rows_range_is_half_open_and_calls_without_a_time_are_counted_apart(session: Session) -> None:
    add_session(session)
    for number in range(3):
        add_call(session, f"msg_{number}", created_at=NOON + timedelta(hours=number), steps=tokens(2**number))
    add_call(session, "msg_9", steps=tokens(100)).created_at = None
    session.flush()
    repository = settle(session)

    rows = repository.rows(TimeRange(NOON, NOON + timedelta(hours=2)), tz="UTC")

    assert [row.usd for row in rows] == [3 * TOKEN]
    assert [row.usd for row in repository.rows(TimeRange(), tz="UTC")] == [7 * TOKEN]
    assert repository.calls_without_time() == 1


def test_first_days_and_span_are_those_with_spend(session: Session) -> None:
    add_session(session)
    free_before = datetime(2026, 4, 1, 12, tzinfo=UTC)
    add_call(session, "msg_0", created_at=free_before, model_id=FREE)
    add_call(session, "msg_1", created_at=datetime(2026, 5, 1, 23, 30, tzinfo=UTC))
    add_call(session, "msg_2", created_at=datetime(2026, 5, 3, 23, 30, tzinfo=UTC), reported_cost_usd=Decimal(1))
    repository = settle(session)

    assert repository.span(tz="UTC") == (date(2026, 5, 1), date(2026, 5, 3))
    assert repository.span(tz="Europe/Berlin") == (date(2026, 5, 2), date(2026, 5, 4))
    assert repository.span(tz="UTC", cost_number=CostNumber.REPORTED) == (date(2026, 5, 3), date(2026, 5, 3))
    assert repository.first_days("model", tz="UTC") == {SONNET: date(2026, 5, 1)}
    assert repository.first_days("agent", tz="UTC", cost_number=CostNumber.PAID) == {"build": date(2026, 5, 1)}
    assert repository.first_days("project", tz="Pacific/Kiritimati") == {"unknown": date(2026, 5, 2)}


def test_span_without_spend_is_none(session: Session) -> None:
    assert settle(session).span(tz="UTC") is None


def test_sessions_begun_before_have_calls_on_both_sides(session: Session) -> None:
    for name, hours in (("before", (-2, -1)), ("across", (-1, 0)), ("after", (0, 1))):
        add_session(session, f"ses_{name}")
        for hour in hours:
            add_call(session, f"msg_{name}_{hour}", f"ses_{name}", created_at=NOON + timedelta(hours=hour))

    assert settle(session).sessions_begun_before(NOON) == {"ses_across"}
