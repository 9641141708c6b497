"""What must hold of a cost whatever the tokens, the price and the time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from opencode_monitor.ingest.settle import backfill
from opencode_monitor.integrity.recompute import Tokens, bucket_costs, choose_price, read_book
from opencode_monitor.models import StepEvent
from opencode_monitor.pricing.catalog import BucketPrices, find_cell, make_period, price_cells, user_period
from opencode_monitor.pricing.cost import calculate_cost, cell_cost
from opencode_monitor.pricing.paid import charge_calls
from opencode_monitor.pricing.tokens import TokenBuckets
from opencode_monitor.repositories import CostRepository, PricingRepository
from opencode_monitor.testing.builders import NOON, add_call, add_session
from properties import on_database

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

SONNET_4 = "anthropic/claude-sonnet-4"
NAMES = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
MOST = 10**12
BUCKETS = st.tuples(*[st.integers(0, MOST)] * 5)
PRICES = st.tuples(*[st.decimals(0, 10_000, places=6)] * 5)


def cost_of(prices: tuple[Decimal, ...], buckets: tuple[int, ...]) -> Decimal | None:
    """Price one call with a book of a base price and a tier of twice as much above 200,000 tokens."""
    fresh, read, write, output, reasoning = prices
    book = [
        make_period(
            "acme",
            "m",
            BucketPrices(
                input=factor * fresh,
                cache_read=factor * read,
                cache_write_5m=factor * write,
                output=factor * output,
                reasoning=factor * reasoning,
            ),
            source="user",
            source_version="user",
            min_context_tokens=above,
        )
        for factor, above in ((1, 0), (2, 200_000))
    ]
    tokens = TokenBuckets(*buckets)
    cell = find_cell(price_cells(book), NOON, tokens.context_tokens)
    assert cell is not None
    return cell_cost(tokens, cell)


@pytest.mark.parametrize(
    ("fresh", "read", "output", "expected"),
    [
        (50_000, 180_000, 1_000, "0.4305"),  # the cached prompt lifts the whole request into the tier
        (250_000, 0, 1_000, "1.5225"),
        (200_000, 0, 1_000, "0.615"),  # exactly at the threshold: the base price
        (200_001, 0, 1_000, "1.222506"),
        (20_000, 180_000, 0, "0.114"),
        (0, 0, 0, "0"),
        (MOST, 0, MOST, "28500000"),
    ],
)
def test_calculate_cost_sonnet_4_tiers(fresh: int, read: int, output: int, expected: str) -> None:
    assert calculate_cost(fresh, output, SONNET_4, cache_read_tokens=read, at=NOON) == Decimal(expected)


@given(prices=PRICES, buckets=BUCKETS, bucket=st.integers(0, 4), more=st.integers(0, MOST))
def test_cell_cost_more_tokens_of_any_bucket_never_cost_less(
    prices: tuple[Decimal, ...], buckets: tuple[int, ...], bucket: int, more: int
) -> None:
    grown = tuple(count + (more if number == bucket else 0) for number, count in enumerate(buckets))

    before, after = cost_of(prices, buckets), cost_of(prices, grown)

    assert before is not None
    assert after is not None
    assert after >= before


@given(prices=PRICES, buckets=BUCKETS)
def test_cell_cost_is_the_sum_over_the_buckets_in_its_tier(prices: tuple[Decimal, ...], buckets: tuple[int, ...]) -> None:
    factor = 2 if sum(buckets[:3]) > 200_000 else 1

    assert (
        cost_of(prices, buckets) == sum((count * price for count, price in zip(buckets, prices, strict=True)), Decimal(0)) * factor / 10**6
    )


@pytest.mark.parametrize("missing", range(5))
def test_cell_cost_bucket_without_a_price_is_unknown_only_where_it_has_tokens(missing: int) -> None:
    kinds = ("input", "cache_read", "cache_write_5m", "output", "reasoning")
    prices = {kind: None if number == missing else Decimal(1) for number, kind in enumerate(kinds)}
    book = [make_period("acme", "m", BucketPrices(**prices), source="user", source_version="user")]
    (cell,) = price_cells(book)
    used = TokenBuckets(*(1 if number == missing else 5 for number in range(5)))
    unused = TokenBuckets(*(0 if number == missing else 5 for number in range(5)))

    # Reasoning without a price of its own costs what the answer costs.
    assert cell_cost(used, cell) == (Decimal("0.000021") if missing == 4 else None)
    if missing != 3:
        assert cell_cost(unused, cell) == Decimal("0.00002")


@given(offset=st.integers(-14 * 60, 14 * 60), seconds=st.integers(-86_400, 86_400))
def test_find_cell_change_at_midnight_utc_is_the_same_instant_in_any_zone(offset: int, seconds: int) -> None:
    change = datetime(2026, 5, 1, tzinfo=UTC)
    book = [user_period("acme", "m", input=1, output=1), user_period("acme", "m", input=2, output=2, effective_from=change)]
    at = (change + timedelta(seconds=seconds)).astimezone(timezone(timedelta(minutes=offset)))

    cell = find_cell(price_cells(book), at, 1)

    assert cell is not None
    assert cell.input_usd_per_token == Decimal("0.000001") * (2 if seconds >= 0 else 1)


@on_database(4)
@given(
    calls=st.lists(
        st.tuples(
            st.tuples(*[st.sampled_from([0, 1, 66_666, 66_667, 200_000, 200_001, MOST])] * 5),
            st.integers(-2, 2),
            st.sampled_from(["acme/tiered", "acme/partial", "acme/nightly"]),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_price_calls_sql_equals_two_programs_in_python(session: Session, calls: list[tuple[tuple[int, ...], int, str]]) -> None:
    session.rollback()
    change = datetime(2026, 5, 1, tzinfo=UTC)
    partial = BucketPrices(input=Decimal("0.0028"), output=Decimal("1.1"), cache_read=Decimal("0.000001"))
    night = make_period("acme", "nightly", partial, source="user", source_version="user", daily=(23 * 60, 60))
    PricingRepository(session).add(
        [
            user_period("acme", "tiered", input=3, output=15, cache_read="0.3", cache_write="3.75", reasoning=7),
            user_period("acme", "tiered", input=6, output="22.5", cache_read="0.6", cache_write="7.5", min_context_tokens=200_000),
            user_period("acme", "tiered", input=2, output=9, cache_read="0.2", cache_write="2.5", effective_from=change),
            make_period("acme", "partial", partial, source="user", source_version="user"),
            make_period("acme", "nightly", BucketPrices(input=Decimal(1), output=Decimal(1)), source="plan", source_version="1"),
            night,
        ],
        now=NOON,
    )
    add_session(session)
    for number, (buckets, minutes, model) in enumerate(calls):
        add_call(session, f"msg_{number}", model_id=model, steps=(buckets,), created_at=change + timedelta(minutes=minutes * 40))  # type: ignore[arg-type] # five
    connection = session.connection()
    backfill(connection, now=NOON)
    charge_calls(connection)
    session.expire_all()
    book = read_book(connection)
    known = []
    for number, (buckets, minutes, model) in enumerate(calls):
        at = change + timedelta(minutes=minutes * 40)
        step = session.scalars(sa.select(StepEvent).where(StepEvent.message_id == f"msg_{number}")).one()
        values = dict(zip(NAMES, buckets, strict=True))
        by_cells = calculate_cost(values.pop("input_tokens"), values.pop("output_tokens"), model, **values, at=at, connection=connection)
        row = choose_price(book.rows_of(model), at, sum(buckets[:3]))
        costs = None if row is None else bucket_costs(row, Tokens(*buckets))
        by_rows = None if costs is None else sum(costs.values(), Decimal(0))
        assert step.step_cost_usd == by_cells == by_rows == step.paid_cost_usd
        known += [] if by_rows is None else [by_rows]
        assert (step.price_id is None) == (by_rows is None)
    total = CostRepository(session).total()
    assert total.cost_usd == (sum(known, Decimal(0)) if known else None)
    assert total.unpriced_calls == len(calls) - len(known)
    session.rollback()
