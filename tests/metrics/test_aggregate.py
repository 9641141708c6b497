"""Session aggregates on real databases."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from opencode_monitor.ingest.settle import backfill
from opencode_monitor.models import Message, SessionResourceMetrics, SessionStats, ToolCall
from opencode_monitor.pricing.book import seed_price_book
from opencode_monitor.testing.builders import NOON, add_call, add_session

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def settle(session: Session) -> None:
    seed_price_book(session.connection(), now=NOON)
    backfill(session.connection(), now=NOON)
    session.expire_all()


def test_aggregate_sessions_sums_tokens_cost_and_counts(session: Session) -> None:
    add_session(session)
    message = add_call(session, steps=((100, 20, 30, 40, 50),), written=((7,),), reported_cost_usd=Decimal("0.5"))
    message.completed_at = NOON + timedelta(milliseconds=1500)
    session.add(ToolCall(tool_call_id="msg_1_01", part_id="msg_1_01", session_id="ses_1", tool_name="bash", execution_time_ms=250.0))
    session.flush()
    settle(session)
    metrics = session.get_one(SessionResourceMetrics, "ses_1")
    assert (
        metrics.total_input_tokens,
        metrics.total_cache_read_tokens,
        metrics.total_cache_write_tokens,
        metrics.total_output_tokens,
        metrics.total_reasoning_tokens,
    ) == (100, 20, 30, 40, 50)
    assert metrics.total_cost_usd == Decimal("0.0017685")
    assert metrics.reported_cost_usd == Decimal("0.5")
    assert (metrics.avg_response_time_ms, metrics.total_execution_time_ms) == (1500.0, 250.0)
    assert (metrics.message_count, metrics.tool_call_count, metrics.call_count) == (1, 1, 1)
    stats = session.get_one(SessionStats, "ses_1")
    assert (stats.part_count, stats.tool_call_count, stats.duration_ms, stats.total_cost_usd) == (2, 1, 1500.0, Decimal("0.0017685"))


def test_aggregate_sessions_created_at_is_the_time_of_the_work(session: Session) -> None:
    add_session(session, created_at=NOON - timedelta(days=200))
    settle(session)
    metrics = session.get_one(SessionResourceMetrics, "ses_1")
    assert (metrics.created_at, metrics.updated_at) == (NOON - timedelta(days=200), NOON)


def test_aggregate_sessions_without_calls_cost_zero(session: Session) -> None:
    add_session(session)
    settle(session)
    assert session.get_one(SessionResourceMetrics, "ses_1").total_cost_usd == Decimal(0)


def test_aggregate_sessions_only_unpriced_calls_cost_is_unknown(session: Session) -> None:
    add_session(session)
    add_call(session, model_id="ollama/qwen3-coder")
    settle(session)
    metrics = session.get_one(SessionResourceMetrics, "ses_1")
    assert (metrics.total_cost_usd, metrics.unpriced_calls) == (None, 1)


def test_aggregate_sessions_partly_unpriced_sums_what_is_known_and_counts_the_rest(session: Session) -> None:
    add_session(session)
    add_call(session, "msg_1", model_id="ollama/qwen3-coder")
    add_call(session, "msg_2", steps=((1_000, 0, 0, 0, 0),))
    settle(session)
    metrics = session.get_one(SessionResourceMetrics, "ses_1")
    assert (metrics.total_cost_usd, metrics.unpriced_calls, metrics.call_count) == (Decimal("0.003"), 1, 2)


def test_aggregate_sessions_copies_and_failed_calls_are_counted_apart(session: Session) -> None:
    add_session(session, "ses_1")
    add_call(session, "msg_1", "ses_1", reported_cost_usd=Decimal(9))
    add_session(session, "ses_2", created_at=NOON + timedelta(hours=1))
    add_call(session, "msg_2", "ses_2", reported_cost_usd=Decimal(9))
    session.add(Message(message_id="msg_3", session_id="ses_2", role="assistant", created_at=NOON + timedelta(hours=2), call_count=0))
    session.flush()
    settle(session)
    metrics = session.get_one(SessionResourceMetrics, "ses_2")
    assert session.get_one(Message, "msg_2").copied_from == "msg_1"
    assert (metrics.call_count, metrics.copied_calls, metrics.unrecorded_calls) == (0, 1, 1)
    assert (metrics.total_cost_usd, metrics.total_input_tokens, metrics.reported_cost_usd) == (Decimal(0), 0, Decimal(0))
    assert session.get_one(SessionResourceMetrics, "ses_1").call_count == 1


def test_backfill_second_run_changes_nothing(session: Session) -> None:
    add_session(session)
    add_call(session)
    settle(session)
    backfill(session.connection(), now=NOON + timedelta(days=1))
    session.expire_all()
    assert session.get_one(SessionResourceMetrics, "ses_1").updated_at == NOON


def test_backfill_call_that_no_price_holds_for_is_not_settled_again(session: Session) -> None:
    add_session(session)
    add_call(session, model_id="openai/gpt-5", steps=((10, 0, 7, 5, 0),))  # gpt-5 has no price for cache writes
    settle(session)
    backfill(session.connection(), now=NOON + timedelta(days=1))
    session.expire_all()
    metrics = session.get_one(SessionResourceMetrics, "ses_1")
    assert (metrics.unpriced_calls, metrics.updated_at) == (1, NOON)
