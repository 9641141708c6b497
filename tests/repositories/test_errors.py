"""Errors by category: counted once, with what the failed calls of tools cost."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from opencode_monitor.models import ErrorEvent, ToolCall
from opencode_monitor.pricing.book import resolve_aliases
from opencode_monitor.pricing.cost import price_calls
from opencode_monitor.repositories import ErrorCount, ErrorRepository, Filters, TimeRange
from opencode_monitor.testing.builders import NOON, add_call, add_session

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

NO_ERRORS = ErrorCount(category=None, severity=None, errors=0, retryable=0, tool_errors=0, sessions=0, cost_usd=None, unpriced_errors=0)


def add_error(
    session: Session, part_id: str, category: str, severity: str = "low", *, tool: str | None = None, retryable: bool = False
) -> None:
    """Add an error of a part; with a tool, the call of it that failed."""
    session_id = "ses_2" if part_id.startswith("msg_2") else "ses_1"
    common = {"part_id": part_id, "session_id": session_id, "created_at": NOON}
    if tool:
        session.add(ToolCall(tool_call_id=part_id, tool_name=tool, status="error", **common))
    session.add(
        ErrorEvent(error_id=part_id, error_data={}, error_category=category, error_severity=severity, is_retryable=retryable, **common)
    )
    session.flush()


def fail(session: Session) -> None:
    """Add errors of two sessions, a fork's copy among them, and one of a model without a price."""
    add_session(session)
    add_session(session, "ses_2")
    output = ((0, 0, 0, 100, 0),)  # 0.0015 USD
    add_call(session, "msg_1", steps=output, written=((1, 1, 2),))
    add_call(session, "msg_2", "ses_2", steps=output, written=((1,),), created_at=NOON + timedelta(days=1))
    add_call(session, "msg_3", steps=output, written=((1,),), model_id="ollama/qwen3-coder")
    add_call(session, "msg_4", steps=output, written=((1,),), copied_from="msg_1")
    add_error(session, "msg_1_01", "timeout", "medium", tool="bash", retryable=True)
    add_error(session, "msg_1_03", "file_error", tool="edit")
    add_error(session, "msg_2_01", "timeout", "medium", tool="bash", retryable=True)
    add_error(session, "msg_2_02", "network", "medium", retryable=True)
    add_error(session, "msg_3_01", "not_found", tool="bash")
    add_error(session, "msg_4_01", "timeout", "medium", tool="bash", retryable=True)
    resolve_aliases(session.connection())
    price_calls(session.connection())


@pytest.fixture
def repository(filled: Callable[[Callable[[Session], None]], Session]) -> ErrorRepository:
    """Errors of two sessions, a fork's copy among them, and one of a model without a price."""
    return ErrorRepository(filled(fail))


def counted(rows: list[ErrorCount]) -> list[tuple[object, ...]]:
    return [(row.category, row.severity, row.errors, row.retryable, row.tool_errors, row.sessions, row.cost_usd) for row in rows]


def test_by_category_errors_are_counted_with_the_cost_of_failed_calls(repository: ErrorRepository) -> None:
    rows = repository.by_category()

    assert counted(rows) == [
        ("timeout", "medium", 2, 2, 2, 2, Decimal("0.001875")),
        ("file_error", "low", 1, 0, 1, 1, Decimal("0.00075")),
        ("network", "medium", 1, 1, 0, 1, None),  # of a model call: what it cost is not recorded
        ("not_found", "low", 1, 0, 1, 1, None),  # no price
    ]
    assert [row.unpriced_errors for row in rows] == [0, 0, 0, 1]


def test_total_is_the_sum_of_the_rows(repository: ErrorRepository) -> None:
    total = repository.total()

    assert counted([total]) == [(None, None, 5, 3, 4, 2, Decimal("0.002625"))]
    assert total.unpriced_errors == 1


@pytest.mark.parametrize(("sort", "first"), [("errors", "timeout"), ("sessions", "timeout"), ("cost", "timeout")])
def test_by_category_sort_and_limit_choose_the_rows(repository: ErrorRepository, sort: str, first: str) -> None:
    assert [row.category for row in repository.by_category(sort=sort, limit=1)] == [first]
    assert len(repository.by_category(sort=sort)) == 4


def test_by_category_of_a_tool_or_a_range_leaves_out_the_rest(repository: ErrorRepository) -> None:
    day = TimeRange(NOON, NOON + timedelta(days=1))

    assert [(row.category, row.errors) for row in repository.by_category(filters=Filters(tool=("bash",)))] == [
        ("timeout", 2),
        ("not_found", 1),
    ]
    assert [(row.category, row.errors) for row in repository.by_category(day)] == [("file_error", 1), ("not_found", 1), ("timeout", 1)]
    assert repository.total(TimeRange(NOON - timedelta(days=9), NOON)) == NO_ERRORS
    assert repository.total(filters=Filters(tool=("read",))) == NO_ERRORS
