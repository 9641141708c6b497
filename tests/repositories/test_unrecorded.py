"""Sums of the estimates, by the same groups as the recorded spend."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import delete

from opencode_monitor.models import UnrecordedCall
from opencode_monitor.repositories import NOTHING_UNRECORDED, Calendar, TimeRange, UnrecordedRepository, UnrecordedSpend

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

LATE = datetime(2026, 5, 4, 23, 30, tzinfo=UTC)
EARLY = datetime(2026, 5, 4, 0, 30, tzinfo=UTC)
HAIKU, LOCAL = "anthropic/claude-haiku-4-5", "ollama/qwen3"


def spend(usd: str | None, calls: int, unpriced: int = 0) -> UnrecordedSpend:
    return UnrecordedSpend(
        estimated_unrecorded_usd=None if usd is None else Decimal(usd), estimated_unrecorded_calls=calls, unpriced_estimates=unpriced
    )


@pytest.fixture
def estimates(session: Session) -> UnrecordedRepository:
    """Four estimates: two of a priced model, one without a price, one without a time."""
    for number, (session_id, kind, model_id, at, usd) in enumerate(
        [
            ("ses_1", "title", HAIKU, EARLY, "0.000000000001"),
            ("ses_1", "cut", HAIKU, LATE, "0.02"),
            ("ses_2", "title", LOCAL, LATE, None),
            ("ses_2", "title", None, None, None),
        ]
    ):
        session.add(
            UnrecordedCall(
                unrecorded_id=f"id_{number}",
                session_id=session_id,
                kind=kind,
                model_id=model_id,
                created_at=at,
                input_tokens=1,
                cache_read_tokens=0,
                cache_write_tokens=0,
                output_tokens=1,
                reasoning_tokens=0,
                estimated_cost_usd=None if usd is None else Decimal(usd),
                method="title_prompt",
                method_version=1,
            )
        )
    session.flush()  # so that the queries of the test see the rows
    return UnrecordedRepository(session)


def test_total_sums_what_is_known_and_counts_the_rest(estimates: UnrecordedRepository) -> None:
    assert estimates.total(TimeRange()) == spend("0.020000000001", 4, 2)
    assert estimates.total(TimeRange(start=LATE)) == spend("0.02", 2, 1)
    assert estimates.total(TimeRange(end=LATE)) == spend("0.000000000001", 1)
    assert estimates.total(TimeRange(start=datetime(2027, 1, 1, tzinfo=UTC))) == NOTHING_UNRECORDED


def test_groups_add_up_to_the_total(estimates: UnrecordedRepository) -> None:
    known = spend("0.020000000001", 2)

    assert estimates.by("model") == {(HAIKU,): known, (LOCAL,): spend(None, 1, 1), ("unknown",): spend(None, 1, 1)}
    assert estimates.by("session") == {("ses_1",): known, ("ses_2",): spend(None, 2, 2)}
    assert list(estimates.by_kind(TimeRange()).items()) == [("title", spend("0.000000000001", 3, 2)), ("cut", spend("0.02", 1))]


@pytest.mark.parametrize(("tz", "days"), [("UTC", [date(2026, 5, 4)]), ("Europe/Berlin", [date(2026, 5, 4), date(2026, 5, 5)])])
def test_by_period_day_is_the_day_of_the_call_in_the_zone(estimates: UnrecordedRepository, tz: str, days: list[date]) -> None:
    found = estimates.by("day", calendar=Calendar(tz=tz))

    assert sorted(day for (day,) in found if day is not None) == days
    assert found[None,] == spend(None, 1, 1)
    assert sum(one.estimated_unrecorded_calls for one in found.values()) == 4


def test_calls_latest_first_and_of_a_session_earliest_first(estimates: UnrecordedRepository) -> None:
    assert [call.unrecorded_id for call in estimates.calls(TimeRange())] == ["id_1", "id_2", "id_0", "id_3"]
    assert [call.unrecorded_id for call in estimates.of_sessions(["ses_1"])] == ["id_0", "id_1"]


def test_total_empty_table_is_nothing(session: Session, estimates: UnrecordedRepository) -> None:
    session.execute(delete(UnrecordedCall))

    assert estimates.total(TimeRange()) == NOTHING_UNRECORDED
    assert estimates.by("model") == {}
