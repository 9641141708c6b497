"""Pricing anew: shown, recorded, and undone to the last digit."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from opencode_monitor.errors import NotFoundError, PriceError
from opencode_monitor.ingest.repricing import RepriceScope, plan_repricing, reprice, undo_repricing
from opencode_monitor.ingest.settle import backfill
from opencode_monitor.integrity.checks import run_checks
from opencode_monitor.models import Message, Part, PriceChange, PriceRun, SessionResourceMetrics, SessionStats, StepEvent
from opencode_monitor.pricing.book import add_periods, remove_alias, set_alias
from opencode_monitor.pricing.catalog import user_period
from opencode_monitor.pricing.seeds import Entry
from opencode_monitor.testing.builders import NOON, SONNET, add_call, add_session
from properties import on_database

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

ALL = RepriceScope()
GPT = "openai/gpt-5"


def fill(session: Session) -> None:
    """Add two sessions: Sonnet on two days, and gpt-5 with a copy of the first call; each costs what the packaged list says."""
    add_session(session, "ses_1")
    add_session(session, "ses_2", created_at=NOON + timedelta(hours=2))
    first = ((1_000_000, 0, 0, 0, 0), (7, 0, 0, 3, 0))
    add_call(session, "msg_1", "ses_1", steps=first, written=((5, 3), (2,)))
    add_call(session, "msg_2", "ses_1", created_at=NOON + timedelta(hours=11), steps=((100, 0, 0, 10, 0),))
    add_call(session, "msg_3", "ses_2", model_id=GPT, steps=((1_000, 0, 0, 10, 0),))
    add_call(session, "msg_4", "ses_2", steps=first)
    backfill(session.connection(), now=NOON)


@pytest.fixture
def called(filled: Callable[[Callable[[Session], None]], Session]) -> Session:
    """A database with the two sessions."""
    return filled(fill)


def state(session: Session) -> dict[str, Any]:
    """Everything that a re-pricing may touch."""
    connection = session.connection()
    columns: dict[str, tuple[Any, ...]] = {
        "steps": (StepEvent.step_id, StepEvent.step_cost_usd, StepEvent.price_id),
        "messages": (Message.message_id, Message.message_cost_usd, Message.cost_basis, Message.call_count),
        "parts": (Part.part_id, Part.part_cost_usd),
        "metrics": (SessionResourceMetrics.session_id, SessionResourceMetrics.total_cost_usd, SessionResourceMetrics.unpriced_calls),
        "stats": (SessionStats.session_id, SessionStats.total_cost_usd),
    }
    return {
        name: [tuple(row) for row in connection.execute(sa.select(*selected).order_by(selected[0])).all()]
        for name, selected in columns.items()
    }


def is_clean(session: Session) -> bool:
    return all(result.count == 0 for result in run_checks(session.connection()))


def set_sonnet(session: Session, usd: int | str = 1) -> str:
    own = user_period("anthropic", "claude-sonnet-4-5", input=usd, output=usd)
    (added,) = add_periods(session.connection(), [own], now=NOON)
    return added.price_id


def test_plan_repricing_shows_model_and_day_in_the_zone_and_changes_nothing(called: Session) -> None:
    set_sonnet(called)
    before = state(called)

    days = plan_repricing(called.connection(), ALL, tz="Europe/Berlin")

    assert [(day.model, day.day, day.calls, day.old_cost_usd, day.new_cost_usd, day.newly_priced, day.unpriced) for day in days] == [
        (SONNET, date(2026, 5, 4), 2, Decimal("6.000066"), Decimal("1.00001"), 0, 0),
        (SONNET, date(2026, 5, 5), 1, Decimal("0.00045"), Decimal("0.00011"), 0, 0),
    ]
    assert state(called) == before


def test_reprice_writes_costs_sums_and_the_record(called: Session) -> None:
    price_id = set_sonnet(called)

    run_id = reprice(called.connection(), ALL, reason="contract", now=NOON)

    after = state(called)
    assert run_id == "20260504T120000Z"
    assert {row[0]: row[1] for row in after["messages"]} == {
        "msg_1": Decimal("1.00001"),
        "msg_2": Decimal("0.00011"),
        "msg_3": Decimal("0.00135"),
        "msg_4": Decimal(0),
    }
    assert {row[0]: row[1] for row in after["metrics"]} == {"ses_1": Decimal("1.00012"), "ses_2": Decimal("0.00135")}
    run = called.get_one(PriceRun, run_id)
    assert (run.reason, run.calls, run.old_cost_usd, run.new_cost_usd, run.undone_at) == (
        "contract",
        3,
        Decimal("6.000516"),
        Decimal("1.00012"),
        None,
    )
    assert run.scope == "all models from the beginning to the end"
    changes = called.scalars(sa.select(PriceChange).order_by(PriceChange.step_id)).all()
    assert {(change.new_price_id, change.model_id) for change in changes} == {(price_id, SONNET)}
    assert all(change.old_price_id and change.old_price_id.endswith("|genai-prices") for change in changes)
    assert is_clean(called)


def test_reprice_where_nothing_changes_leaves_no_run(called: Session) -> None:
    assert reprice(called.connection(), ALL, reason="", now=NOON) is None
    assert plan_repricing(called.connection(), ALL, tz="UTC") == []
    assert called.scalars(sa.select(PriceRun)).all() == []


def test_undo_repricing_puts_everything_back(called: Session) -> None:
    before = state(called)
    set_sonnet(called)
    run_id = reprice(called.connection(), ALL, reason="", now=NOON)

    undone = undo_repricing(called.connection(), None, now=NOON + timedelta(hours=1))

    assert (undone.run_id, undone.restored, undone.kept) == (run_id, 3, 0)
    assert state(called) == before
    assert is_clean(called)
    assert called.get_one(PriceRun, run_id).undone_at == NOON + timedelta(hours=1)


@pytest.mark.parametrize(
    ("scope", "changed"),
    [
        (RepriceScope(model="anthropic/*"), 3),
        (RepriceScope(model="claude-*"), 3),
        (RepriceScope(model="claude-sonnet-4-?"), 3),
        (RepriceScope(model="claude_sonnet*"), 0),
        (RepriceScope(model="gpt-*"), 0),
        (RepriceScope(start=NOON + timedelta(hours=1)), 1),
        (RepriceScope(end=NOON + timedelta(hours=1)), 2),
        (RepriceScope(start=NOON, end=NOON), 0),
    ],
)
def test_plan_repricing_scope_narrows_the_calls(called: Session, scope: RepriceScope, changed: int) -> None:
    set_sonnet(called)

    assert sum(day.calls for day in plan_repricing(called.connection(), scope, tz="UTC")) == changed


def test_reprice_call_that_lost_its_price_is_unpriced_and_undone(session: Session) -> None:
    connection = session.connection()
    add_session(session)
    add_call(session, model_id="my-proxy/large", written=((4,),))
    set_alias(connection, "my-proxy/large", Entry("openai", "gpt-5"))
    backfill(connection, now=NOON)
    before = state(session)
    remove_alias(connection, "my-proxy/large")

    (day,) = plan_repricing(connection, ALL, tz="UTC")
    reprice(connection, ALL, reason="", now=NOON)
    after = state(session)
    undo_repricing(connection, None, now=NOON)

    assert (day.old_cost_usd, day.new_cost_usd, day.unpriced) == (Decimal("0.00225"), None, 1)
    assert after["messages"] == [("msg_1", None, "unpriced", 1)]
    assert state(session) == before


def test_reprice_call_without_a_price_gets_one_and_loses_it_again(session: Session) -> None:
    connection = session.connection()
    add_session(session)
    add_call(session, model_id="my-proxy/large")
    backfill(connection, now=NOON)
    before = state(session)
    add_periods(connection, [user_period("my-proxy", "large", input=1, output=1)], now=NOON)

    (day,) = plan_repricing(connection, ALL, tz="UTC")
    reprice(connection, ALL, reason="", now=NOON)
    undo_repricing(connection, None, now=NOON)

    assert (day.old_cost_usd, day.new_cost_usd, day.newly_priced) == (None, Decimal("0.0011"), 1)
    assert state(session) == before


def test_undo_repricing_earlier_run_under_a_later_one_is_refused(called: Session) -> None:
    connection = called.connection()
    before = state(called)
    set_sonnet(called, 1)
    first = reprice(connection, ALL, reason="", now=NOON)
    set_sonnet(called, 2)
    second = reprice(connection, RepriceScope(start=NOON + timedelta(hours=1)), reason="", now=NOON)

    with pytest.raises(PriceError, match=f"run {second} changed some of the same calls since"):
        undo_repricing(connection, first, now=NOON)
    undo_repricing(connection, second, now=NOON)
    undo_repricing(connection, first, now=NOON)

    assert second == f"{first}-002"
    assert state(called) == before
    with pytest.raises(NotFoundError, match="no re-pricing '20260504T120000Z' that could be undone"):
        undo_repricing(connection, first, now=NOON)
    with pytest.raises(NotFoundError, match="there is no re-pricing to undo"):
        undo_repricing(connection, None, now=NOON)


def test_undo_repricing_call_that_was_read_anew_keeps_its_price(called: Session) -> None:
    connection = called.connection()
    set_sonnet(called)
    reprice(connection, ALL, reason="", now=NOON)
    # What an import does to a changed message: other tokens, and the computed columns are empty until they are priced.
    connection.execute(
        sa.update(StepEvent).values(input_tokens=200, step_cost_usd=None, price_id=None).where(StepEvent.message_id == "msg_2")
    )
    connection.execute(sa.update(Message).values(input_tokens=200).where(Message.message_id == "msg_2"))
    backfill(connection, now=NOON)

    undone = undo_repricing(connection, None, now=NOON)

    assert (undone.restored, undone.kept) == (2, 1)
    assert {row[0]: row[1] for row in state(called)["messages"]}["msg_2"] == Decimal("0.00021")
    assert is_clean(called)


PRICES = st.lists(st.tuples(st.integers(0, 9), st.sampled_from([None, NOON, NOON + timedelta(hours=5)])), min_size=1, max_size=3)


@on_database(5)
@given(PRICES)
def test_reprice_and_undo_of_any_prices_is_identity(called: Session, prices: list[tuple[int, datetime | None]]) -> None:
    called.rollback()
    connection = called.connection()
    states = [state(called)]
    runs = []
    for number, (usd, since) in enumerate(prices):
        own = user_period("anthropic", "claude-sonnet-4-5", input=usd, output=usd, effective_from=since)
        add_periods(connection, [own], now=NOON + timedelta(minutes=number))
        run_id = reprice(connection, ALL, reason="", now=NOON + timedelta(minutes=number))
        if run_id is not None:
            runs.append(run_id)
            states.append(state(called))

    for run_id in reversed(runs):
        assert state(called) == states.pop()
        undo_repricing(connection, run_id, now=NOON)

    assert state(called) == states[0]
    assert is_clean(called)
    called.rollback()


def test_reprice_keeps_every_row_that_ever_priced_a_call(called: Session) -> None:
    connection = called.connection()
    own = user_period("openai", "gpt-5", input=1, output=1, effective_from=datetime(2026, 1, 1, tzinfo=UTC))
    for period in (own, replace(own, input_usd_per_mtok=Decimal(4))):
        add_periods(connection, [period], now=NOON)
        reprice(connection, ALL, reason="", now=NOON)

    used = {*called.scalars(sa.select(PriceChange.old_price_id)), *called.scalars(sa.select(PriceChange.new_price_id))} - {None}
    known = set(connection.scalars(sa.text("SELECT price_id FROM price_periods")).all())
    assert len(used) == 3
    assert used <= known
