"""Finding sessions, messages, parts and prices."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from opencode_monitor.errors import NotFoundError
from opencode_monitor.ingest.settle import backfill
from opencode_monitor.models import ModelPricing, StepEvent
from opencode_monitor.pricing.book import seed_price_book
from opencode_monitor.repositories import (
    ImportIssueRepository,
    MessageRepository,
    MetricsRepository,
    PartRepository,
    PricingRepository,
    SessionRepository,
)
from opencode_monitor.testing.builders import NOON, add_call, add_session

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def test_find_unique_prefix_returns_the_session(session: Session) -> None:
    add_session(session, "ses_abc")
    add_session(session, "ses_xyz")
    assert SessionRepository(session).find("ses_a").session_id == "ses_abc"


def test_find_exact_id_wins_over_longer_ones(session: Session) -> None:
    add_session(session, "ses_a")
    add_session(session, "ses_ab")
    assert SessionRepository(session).find("ses_a").session_id == "ses_a"


def test_find_ambiguous_prefix_names_three(session: Session) -> None:
    for name in ("a", "a1x", "a2x", "B0", "b0"):
        add_session(session, f"ses_{name}")

    with pytest.raises(NotFoundError, match=r"no session 'ses_'\. 5 start with it: ses_B…, ses_a, ses_a1…, …"):
        SessionRepository(session).find("ses_")


def test_find_wildcards_of_like_are_plain_characters(session: Session) -> None:
    add_session(session, "ses_abc")
    with pytest.raises(NotFoundError, match="no session '%'"):
        SessionRepository(session).find("%")


def test_children_oldest_first(session: Session) -> None:
    add_session(session, "ses_1")
    add_session(session, "ses_3", parent_session_id="ses_1", created_at=NOON + timedelta(hours=1))
    add_session(session, "ses_2", parent_session_id="ses_1", created_at=NOON + timedelta(hours=2))
    assert [child.session_id for child in SessionRepository(session).children("ses_1")] == ["ses_3", "ses_2"]


def test_of_session_messages_and_parts_in_their_order(session: Session) -> None:
    add_session(session)
    add_call(session, "msg_2", created_at=NOON + timedelta(seconds=1))
    add_call(session, "msg_1", written=((1, 2),))
    assert [message.message_id for message in MessageRepository(session).of_session("ses_1")] == ["msg_1", "msg_2"]
    parts = PartRepository(session)
    assert [part.part_id for part in parts.of_session("ses_1") if part.message_id == "msg_1"] == ["msg_1_01", "msg_1_02", "msg_1_03"]
    assert [step.step_id for step in parts.subtype(StepEvent).of_session("ses_1")] == ["msg_1_03", "msg_2_01"]


def test_most_expensive_leaves_unknown_costs_out(session: Session) -> None:
    for number, model_id in enumerate(("ollama/qwen3-coder", "anthropic/claude-sonnet-4-5")):
        add_session(session, f"ses_{number}")
        add_call(session, f"msg_{number}", f"ses_{number}", model_id=model_id)
    seed_price_book(session.connection(), now=NOON)
    backfill(session.connection(), now=NOON)
    assert [row.session_id for row in MetricsRepository(session).most_expensive()] == ["ses_1"]
    stats = MetricsRepository(session).stats("ses_1")
    assert stats is not None
    assert stats.total_cost_usd == Decimal("0.0045")


def test_seed_price_book_fills_the_plans_table_with_prices_per_thousand(session: Session) -> None:
    seed_price_book(session.connection(), now=NOON)
    row = session.get_one(ModelPricing, "claude-sonnet-4-5")
    assert (row.vendor, row.input_token_cost_per_1k, row.output_token_cost_per_1k) == ("anthropic", Decimal("0.003"), Decimal("0.015"))


def test_seed_price_book_twice_changes_nothing(session: Session) -> None:
    seed_price_book(session.connection(), now=NOON)
    before = {row.model_name: row.updated_at for row in PricingRepository(session).all()}
    seed_price_book(session.connection(), now=NOON + timedelta(days=1))
    session.expire_all()
    assert {row.model_name: row.updated_at for row in PricingRepository(session).all()} == before


def test_periods_of_a_dated_model_oldest_first(session: Session) -> None:
    seed_price_book(session.connection(), now=NOON)
    rows = PricingRepository(session).periods("anthropic", "claude-opus-4-6")
    standard = [(row.effective_from.date().isoformat(), row.min_context_tokens) for row in rows if row.mode == "standard"]
    assert standard == [("1970-01-01", 0), ("1970-01-01", 200_000), ("2026-03-13", 0)]


def test_import_issues_empty_database_has_none(session: Session) -> None:
    assert ImportIssueRepository(session).count() == 0
    assert ImportIssueRepository(session).in_order() == []
