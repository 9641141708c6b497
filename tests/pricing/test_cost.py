"""The formula as SQL and as Python, and the conservation of money, on real databases."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from opencode_monitor.models import Message, Part, StepEvent
from opencode_monitor.pricing.book import resolve_aliases, seed_price_book
from opencode_monitor.pricing.catalog import user_period
from opencode_monitor.pricing.cost import calculate_cost, price_calls
from opencode_monitor.repositories import PricingRepository
from opencode_monitor.testing.builders import NOON, SONNET, add_call, add_session
from properties import on_database

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

COUNTS = st.integers(min_value=0, max_value=10**12)
BUCKETS = st.tuples(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)


def price(session: Session) -> None:
    connection = session.connection()
    seed_price_book(connection, now=NOON)
    resolve_aliases(connection)
    price_calls(connection)
    session.expire_all()


def parts_of(session: Session, message_id: str) -> list[tuple[str, Decimal | None]]:
    rows = session.execute(
        sa.select(Part.part_type, Part.part_cost_usd).where(Part.message_id == message_id).order_by(Part.sequence_number)
    )
    return [(row.part_type, row.part_cost_usd) for row in rows.all()]


@pytest.mark.parametrize(
    ("buckets", "expected"),
    [
        ((1_000_000, 0, 0, 0, 0), "3"),
        ((0, 1_000_000, 0, 0, 0), "0.6"),  # above 200,000 tokens of context the whole request pays the tier
        ((200_000, 0, 0, 0, 0), "0.6"),
        ((0, 0, 100_000, 0, 0), "0.375"),
        ((0, 0, 0, 1_000_000, 0), "15"),
        ((0, 0, 0, 0, 1_000_000), "15"),
        ((0, 0, 0, 0, 0), "0"),
    ],
)
def test_calculate_cost_single_bucket_is_tokens_times_its_price(buckets: tuple[int, ...], expected: str) -> None:
    fresh, read, write, output, reasoning = buckets
    if fresh == 1_000_000:
        expected = "6"  # the tier, as above
    cost = calculate_cost(fresh, output, SONNET, cache_read_tokens=read, cache_write_tokens=write, reasoning_tokens=reasoning, at=NOON)
    assert cost == Decimal(expected)


def test_calculate_cost_tier_edge_is_strictly_above() -> None:
    at_the_edge = calculate_cost(200_000, 0, "anthropic/claude-sonnet-4", at=NOON)
    one_above = calculate_cost(200_001, 0, "anthropic/claude-sonnet-4", at=NOON)
    assert (at_the_edge, one_above) == (Decimal("0.6"), Decimal("1.200006"))


def test_calculate_cost_cached_context_chooses_the_tier() -> None:
    cost = calculate_cost(50_000, 1_000, "anthropic/claude-sonnet-4", cache_read_tokens=180_000, at=NOON)
    assert cost == Decimal("0.4305")


def test_calculate_cost_name_of_the_plan_finds_its_maker() -> None:
    assert calculate_cost(1_000_000, 0, "gpt-4o", at=NOON) == Decimal("2.5")


@pytest.mark.parametrize("model", ["ollama/qwen3-coder", "no-such-model", "github-copilot/no-such-model"])
def test_calculate_cost_unknown_model_is_none(model: str) -> None:
    assert calculate_cost(1000, 1000, model, at=NOON) is None


def test_calculate_cost_bucket_without_price_is_none() -> None:
    assert calculate_cost(1000, 0, "openai/gpt-5", at=NOON) is not None
    assert calculate_cost(1000, 0, "openai/gpt-5", cache_write_tokens=1, at=NOON) is None


def test_calculate_cost_price_change_holds_from_its_own_day_in_utc() -> None:
    before = calculate_cost(300_000, 0, "anthropic/claude-opus-4-6", at=datetime(2026, 3, 12, 23, 59, 59, tzinfo=UTC))
    after = calculate_cost(300_000, 0, "anthropic/claude-opus-4-6", at=datetime(2026, 3, 13, tzinfo=UTC))
    assert (before, after) == (Decimal(3), Decimal("1.5"))


def test_calculate_cost_negative_count_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        calculate_cost(-1, 0, SONNET)


@given(first=BUCKETS, second=BUCKETS)
def test_calculate_cost_below_any_tier_is_additive_and_monotonic(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    def cost(fresh: int, read: int, output: int, reasoning: int) -> Decimal:
        # gpt-5 has no tier, and no price for cache writes.
        result = calculate_cost(fresh, output, "openai/gpt-5", cache_read_tokens=read, reasoning_tokens=reasoning, at=NOON)
        assert result is not None
        return result

    one, two = (first[0], first[1], first[3], first[4]), (second[0], second[1], second[3], second[4])
    both = tuple(a + b for a, b in zip(one, two, strict=True))
    assert cost(*one) + cost(*two) == cost(*both)
    assert cost(*both) >= max(cost(*one), cost(*two))


def test_price_calls_on_a_table_equals_calculate_cost(session: Session) -> None:
    add_session(session)
    cases = [(7, 0, 0, 9, 0), (4, 150_000, 50_000, 800, 0), (4, 150_000, 49_996, 800, 0), (10**12, 0, 0, 10**12, 3), (0, 0, 0, 0, 1)]
    for number, buckets in enumerate(cases):
        add_call(session, f"msg_{number}", steps=(buckets,))
    price(session)
    for number, (fresh, read, write, output, reasoning) in enumerate(cases):
        message = session.get_one(Message, f"msg_{number}")
        expected = calculate_cost(
            fresh, output, SONNET, cache_read_tokens=read, cache_write_tokens=write, reasoning_tokens=reasoning, at=NOON
        )
        assert (message.message_cost_usd, message.cost_basis) == (expected, "calculated")


def test_price_calls_several_steps_are_priced_each_in_its_own_tier(session: Session) -> None:
    add_session(session)
    # Together above 200,000 tokens, each of them below: no step pays the tier.
    add_call(session, steps=((150_000, 0, 0, 0, 0), (150_000, 0, 0, 0, 0)), written=((), ()))
    price(session)
    assert session.get_one(Message, "msg_1").message_cost_usd == Decimal("0.9")


def test_price_calls_shares_by_written_length_and_leaves_the_rest_with_the_step(session: Session) -> None:
    add_session(session)
    add_call(session, steps=((0, 0, 0, 1, 0), (0, 0, 0, 2, 0)), written=((1, 2), ()))
    price(session)
    # A token of output is 0.000015 USD; a third and two thirds of it are cut to nano-shares.
    assert parts_of(session, "msg_1") == [
        ("text", Decimal("0.000004999999")),
        ("text", Decimal("0.000009999999")),
        ("step_finish", Decimal("0.000000000002")),
        ("step_finish", Decimal("0.00003")),
    ]


def test_price_calls_unknown_price_is_null_everywhere(session: Session) -> None:
    add_session(session)
    add_call(session, model_id="ollama/qwen3-coder", written=((5,),))
    price(session)
    message = session.get_one(Message, "msg_1")
    assert (message.message_cost_usd, message.cost_basis) == (None, "unpriced")
    assert parts_of(session, "msg_1") == [("text", None), ("step_finish", None)]
    assert PricingRepository(session).missing() == [("ollama/qwen3-coder", 1)]


def test_price_calls_one_step_without_price_leaves_the_whole_message_unpriced(session: Session) -> None:
    add_session(session)
    add_call(session, model_id="openai/gpt-5", steps=((10, 0, 0, 5, 0), (10, 0, 7, 5, 0)), written=((3,), (3,)))
    price(session)
    assert session.get_one(Message, "msg_1").message_cost_usd is None
    assert {cost for _, cost in parts_of(session, "msg_1")} == {None}


def test_price_calls_copy_costs_nothing(session: Session) -> None:
    add_session(session)
    add_call(session, written=((5,),), copied_from="msg_0")
    price(session)
    message = session.get_one(Message, "msg_1")
    assert (message.message_cost_usd, message.cost_basis) == (Decimal(0), "copied")
    assert [cost for _, cost in parts_of(session, "msg_1")] == [Decimal(0), Decimal(0)]


def test_price_calls_priced_call_keeps_its_price_until_asked(session: Session) -> None:
    add_session(session)
    add_call(session, steps=((1_000_000 - 800_001, 0, 0, 0, 0),))
    price(session)
    own = user_period("anthropic", "claude-sonnet-4-5", input=1, output=1)
    PricingRepository(session).add([own], now=NOON)
    price(session)
    kept = session.get_one(Message, "msg_1").message_cost_usd
    price_calls(session.connection(), again=True)
    session.expire_all()
    again = session.get_one(Message, "msg_1").message_cost_usd
    assert (kept, again) == (Decimal("0.599997"), Decimal("0.199999"))
    assert session.scalars(sa.select(StepEvent.price_id)).all() == [own.price_id]


def test_price_calls_call_of_another_model_is_priced_by_that_ones_price(session: Session) -> None:
    add_session(session)
    add_call(session, steps=((1_000_000 - 800_001, 0, 0, 0, 0),))
    price(session)
    message = session.get_one(Message, "msg_1")
    message.model_id, message.created_at = "ollama/qwen3-coder", datetime(2026, 5, 5, tzinfo=UTC)
    session.flush()
    price(session)
    step = session.scalars(sa.select(StepEvent)).one()
    assert (step.model_id, step.called_at) == (message.model_id, message.created_at)
    assert (step.price_id, step.step_cost_usd, step.paid_cost_usd, message.message_cost_usd) == (None, None, None, None)


def test_price_calls_call_of_another_time_keeps_its_price(session: Session) -> None:
    add_session(session)
    add_call(session)
    price(session)
    step = session.scalars(sa.select(StepEvent)).one()
    before = (step.price_id, step.step_cost_usd)
    session.get_one(Message, "msg_1").created_at = datetime(2020, 1, 1, tzinfo=UTC)
    session.flush()
    price(session)
    assert (step.called_at, step.price_id, step.step_cost_usd) == (datetime(2020, 1, 1, tzinfo=UTC), *before)


@pytest.mark.parametrize("others", [(), ("2025-06-01T12:00:00+00:00",)], ids=["whole days alone", "a day with windows too"])
def test_price_calls_minutes_of_the_day_count_where_a_price_has_them(session: Session, others: tuple[str, ...]) -> None:
    add_session(session)
    model = "deepseek/deepseek-chat"
    times = [datetime.fromisoformat(at) for at in ("2026-05-04T12:00:00+00:00", *others)]
    windows = ["2025-06-01T00:29:59+00:00", "2025-06-01T00:30:00+00:00", "2025-06-01T16:30:00+00:00"] if others else []
    for number, at in enumerate([*times, *map(datetime.fromisoformat, windows)]):
        add_call(session, f"msg_{number}", model_id=model, created_at=at, steps=((1_000_000, 0, 0, 1_000_000, 0),))
    price(session)
    for message in session.scalars(sa.select(Message)):
        assert message.message_cost_usd == calculate_cost(
            1_000_000, 1_000_000, model, at=message.created_at, connection=session.connection()
        )
        assert message.message_cost_usd is not None


def test_price_calls_user_price_prices_an_unknown_model_from_its_day(session: Session) -> None:
    add_session(session)
    add_call(session, "msg_1", model_id="ollama/qwen3-coder", created_at=datetime(2026, 4, 30, 23, 59, tzinfo=UTC))
    add_call(session, "msg_2", model_id="ollama/qwen3-coder", created_at=datetime(2026, 5, 1, tzinfo=UTC))
    own = user_period("ollama", "qwen3-coder", input="0.1", output=0, effective_from=datetime(2026, 5, 1, tzinfo=UTC))
    PricingRepository(session).add([own], now=NOON)
    price(session)
    costs = [session.get_one(Message, message_id).message_cost_usd for message_id in ("msg_1", "msg_2")]
    assert costs == [None, Decimal("0.0001")]


@on_database(6)
@given(
    calls=st.lists(
        st.lists(st.tuples(BUCKETS, st.lists(st.integers(0, 50_000_000), max_size=4)), min_size=1, max_size=3), min_size=1, max_size=4
    )
)
def test_price_calls_parts_sum_to_their_message_exactly(
    session: Session, calls: list[list[tuple[tuple[int, int, int, int, int], list[int]]]]
) -> None:
    session.rollback()
    add_session(session)
    for number, steps in enumerate(calls):
        add_call(
            session,
            f"msg_{number}",
            steps=tuple(buckets for buckets, _ in steps),
            written=tuple(tuple(lengths) for _, lengths in steps),
        )
    price(session)
    for number in range(len(calls)):
        message = session.get_one(Message, f"msg_{number}")
        costs = [cost for _, cost in parts_of(session, f"msg_{number}")]
        assert None not in costs
        assert sum(cost or 0 for cost in costs) == message.message_cost_usd
        assert min(cost or 0 for cost in costs) >= 0
    session.rollback()
