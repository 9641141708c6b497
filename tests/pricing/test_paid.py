"""What is paid, on real databases: the SQL against plain arithmetic, to the last digit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from opencode_monitor.errors import PriceError
from opencode_monitor.ingest.settle import backfill, recharge
from opencode_monitor.models import Message, PriceAdjustment, SessionResourceMetrics, StepEvent
from opencode_monitor.pricing.adjustments import make_adjustment, make_billing
from opencode_monitor.pricing.catalog import user_period
from opencode_monitor.pricing.cost import price_calls
from opencode_monitor.repositories import BillingRepository, CostRepository, PricingRepository, TimeRange
from opencode_monitor.testing.builders import NOON, add_call, add_session
from properties import on_database

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from opencode_monitor.pricing.adjustments import Adjustment, Billing

PRICES = (Decimal(3), Decimal("0.3"), Decimal("3.75"), Decimal(15), Decimal(15))
WORDS = ("input", "cache-read", "cache-write", "output", "reasoning")
COUNTS = st.one_of(st.integers(0, 3), st.integers(0, 40_000), st.just(10**12))
MULTIPLIERS = st.decimals(min_value=0, max_value=10, places=6)
DAY = timedelta(days=1)
KATHMANDU = ZoneInfo("Asia/Kathmandu")


def say(session: Session, *statements: Adjustment | Billing) -> None:
    for statement in statements:
        BillingRepository(session).add(statement, now=NOON)
    recharge(session.connection(), now=NOON)
    session.expire_all()


def settle(session: Session) -> None:
    backfill(session.connection(), now=NOON)
    session.expire_all()


def paid_of(session: Session, *message_ids: str) -> list[Decimal | None]:
    return [session.get_one(Message, message_id).paid_cost_usd for message_id in message_ids]


def test_charge_calls_without_a_statement_is_the_list_price(session: Session) -> None:
    add_session(session)
    add_call(session, steps=((1000, 0, 0, 100, 0), (500, 0, 0, 0, 1)))
    settle(session)

    message = session.get_one(Message, "msg_1")

    assert message.paid_cost_usd == message.message_cost_usd == Decimal("0.006015")
    assert session.scalars(sa.select(StepEvent.paid_cost_usd).order_by(StepEvent.step_id)).all() == [Decimal("0.0045"), Decimal("0.001515")]
    assert session.get_one(SessionResourceMetrics, "ses_1").total_paid_usd == Decimal("0.006015")


def test_charge_calls_adjustments_multiply_by_bucket_model_and_time(session: Session) -> None:
    add_session(session)
    add_call(session, "msg_1", steps=((1_000, 0, 0, 100, 0),))
    add_call(session, "msg_2", steps=((1_000, 0, 0, 100, 0),), created_at=NOON - DAY)
    add_call(session, "msg_3", model_id="anthropic/claude-haiku-4-5", steps=((1_000, 0, 0, 100, 0),))
    settle(session)

    say(
        session,
        make_adjustment("anthropic", "0.9", effective_from=NOON),
        make_adjustment("*/claude-sonnet-*", "1.1", bucket="output"),
        make_adjustment("openai", "3"),
    )

    # 0.003 input and 0.0015 output; haiku has 0.001 and 0.0005.
    assert paid_of(session, "msg_1", "msg_2", "msg_3") == [Decimal("0.004185"), Decimal("0.00465"), Decimal("0.00135")]
    assert session.get_one(Message, "msg_1").message_cost_usd == Decimal("0.0045")
    assert session.get_one(SessionResourceMetrics, "ses_1").total_paid_usd == Decimal("0.010185")


@pytest.mark.parametrize("kind", ["subscription", "free", "local"])
def test_charge_calls_unmetered_call_costs_nothing_even_without_a_price(session: Session, kind: str) -> None:
    add_session(session)
    add_call(session, "msg_1", model_id="ollama/qwen3-coder")
    add_call(session, "msg_2", model_id="ollama/qwen3-coder", created_at=NOON - DAY)
    settle(session)
    assert paid_of(session, "msg_1", "msg_2") == [None, None]

    say(session, make_billing("ollama", kind, effective_from=NOON))

    assert paid_of(session, "msg_1", "msg_2") == [Decimal(0), None]
    assert session.get_one(Message, "msg_1").message_cost_usd is None
    total = CostRepository(session).total()
    assert (total.cost_usd, total.unpriced_calls, total.paid_cost_usd, total.paid_unknown_calls) == (None, 2, Decimal(0), 1)


def test_charge_calls_billing_changes_at_midnight_utc_in_any_zone(session: Session) -> None:
    midnight = datetime(2026, 5, 1, tzinfo=UTC)
    add_session(session)
    for number, zone in enumerate((timezone(timedelta(hours=14)), timezone(-timedelta(hours=11, minutes=30)))):
        add_call(session, f"before_{number}", created_at=(midnight - timedelta(milliseconds=1)).astimezone(zone))
        add_call(session, f"after_{number}", created_at=midnight.astimezone(zone))
    settle(session)

    say(session, make_billing("anthropic", "subscription", effective_from=midnight.astimezone(timezone(timedelta(hours=9)))))

    assert paid_of(session, "before_0", "before_1", "after_0", "after_1") == [Decimal("0.0045"), Decimal("0.0045"), Decimal(0), Decimal(0)]


def test_charge_calls_copy_of_a_fork_costs_nothing(session: Session) -> None:
    add_session(session)
    add_call(session, copied_from="msg_0")
    price_calls(session.connection())

    say(session, make_adjustment("*", "2"))

    assert paid_of(session, "msg_1") == [Decimal(0)]


def test_charge_calls_call_that_is_no_copy_any_more_is_unknown_until_it_is_priced(session: Session) -> None:
    add_session(session)
    add_call(session, model_id="ollama/qwen3-coder", copied_from="msg_0")
    price_calls(session.connection())
    session.execute(sa.update(Message).values(copied_from=None))

    price_calls(session.connection())
    session.expire_all()

    message = session.get_one(Message, "msg_1")
    assert (message.message_cost_usd, message.paid_cost_usd, message.cost_basis) == (None, None, "unpriced")


def test_charge_calls_rounds_half_to_even(session: Session) -> None:
    cases = (
        ("0.000001", "0.5", "0.000000000000"),  # half a picodollar: to the even neighbour, down
        ("0.000003", "0.5", "0.000000000002"),  # one and a half: up
        ("0.000001", "0.500001", "0.000000000001"),
        ("0.000003", "0.499999", "0.000000000001"),
    )
    add_session(session)
    for number, (price, _, _) in enumerate(cases):
        add_call(session, f"msg_{number}", model_id=f"acme/{number}", steps=((1, 0, 0, 0, 0),))
        PricingRepository(session).add([user_period("acme", str(number), input=price, output=0)], now=NOON)
    settle(session)

    say(session, *(make_adjustment(f"acme/{number}", multiplier) for number, (_, multiplier, _) in enumerate(cases)))

    assert paid_of(session, "msg_0", "msg_1", "msg_2", "msg_3") == [Decimal(expected) for _, _, expected in cases]


def test_charge_calls_statement_taken_back_restores_the_list_price(session: Session) -> None:
    add_session(session)
    add_call(session)
    settle(session)
    adjustment, billing = make_adjustment("*", "2"), make_billing("anthropic", "free")
    say(session, adjustment, billing)

    BillingRepository(session).remove_billing(billing.billing_id)
    recharge(session.connection(), now=NOON)
    session.expire_all()
    doubled = paid_of(session, "msg_1")
    BillingRepository(session).remove_adjustment(adjustment.adjustment_id)
    recharge(session.connection(), now=NOON)
    session.expire_all()

    assert (doubled, paid_of(session, "msg_1")) == ([Decimal("0.009")], [Decimal("0.0045")])


def test_add_same_adjustment_again_takes_its_place(session: Session) -> None:
    bills = BillingRepository(session)
    bills.add(make_adjustment("acme", "0.9"), now=NOON)
    bills.add(make_adjustment("acme", "0.8"), now=NOON)
    bills.add(make_adjustment("acme", "0.8", bucket="input"), now=NOON)

    assert [(one.bucket, one.multiplier) for one in sorted(bills.adjustments(), key=lambda one: one.bucket or "")] == [
        (None, Decimal("0.8")),
        ("input_tokens", Decimal("0.8")),
    ]
    assert session.scalars(sa.select(PriceAdjustment.recorded_at)).all() == [NOON, NOON]


def test_remove_unknown_statement_is_refused(session: Session) -> None:
    with pytest.raises(PriceError, match="nothing has the id abc"):
        BillingRepository(session).remove_adjustment("abc")


@on_database(5)
@given(
    calls=st.lists(st.tuples(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS), min_size=1, max_size=5),
    everywhere=MULTIPLIERS,
    of_bucket=st.dictionaries(st.sampled_from(WORDS), MULTIPLIERS),
)
def test_charge_calls_on_tables_equals_plain_arithmetic(
    session: Session, calls: list[tuple[int, int, int, int, int]], everywhere: Decimal, of_bucket: dict[str, Decimal]
) -> None:
    session.rollback()
    add_session(session)
    own = user_period("acme", "m", input=PRICES[0], cache_read=PRICES[1], cache_write=PRICES[2], output=PRICES[3])
    PricingRepository(session).add([own], now=NOON)
    for number, buckets in enumerate(calls):
        add_call(session, f"msg_{number}", model_id="acme/m", steps=(buckets,))
    settle(session)

    say(
        session,
        make_adjustment("acme", str(everywhere)),
        *(make_adjustment("acme/*", str(multiplier), bucket=word) for word, multiplier in of_bucket.items()),
    )

    paid = paid_of(session, *(f"msg_{number}" for number in range(len(calls))))
    with localcontext(prec=80):
        factors = [everywhere * of_bucket.get(word, Decimal(1)) for word in WORDS]
        exact = [
            sum((count * price / 10**6 * factor for count, price, factor in zip(call, PRICES, factors, strict=True)), Decimal(0))
            for call in calls
        ]
        assert paid == [amount.quantize(Decimal("1e-12"), ROUND_HALF_EVEN) for amount in exact]
        assert CostRepository(session).total().paid_cost_usd == sum((amount or Decimal(0) for amount in paid), Decimal(0))
    if max(factors) <= 1:
        listed = [session.get_one(Message, f"msg_{number}").message_cost_usd for number in range(len(calls))]
        assert all((amount or 0) <= (most or 0) for amount, most in zip(paid, listed, strict=True))
    session.rollback()


class TestFees:
    def test_fees_range_in_the_users_zone_counts_its_days(self, session: Session) -> None:
        say(session, make_billing("acme", "subscription", monthly_fee="31", effective_from=datetime(2026, 5, 1, tzinfo=KATHMANDU)))
        bills = BillingRepository(session)

        def fee(start: datetime | None, end: datetime | None) -> list[tuple[str, Decimal]]:
            now = datetime(2026, 5, 20, 12, tzinfo=KATHMANDU)
            return [(one.provider, one.fee_usd) for one in bills.fees(TimeRange(start, end), tz=KATHMANDU, now=now)]

        first = datetime(2026, 5, 1, tzinfo=KATHMANDU)
        assert fee(first, first + 7 * DAY) == [("acme", Decimal(7))]
        assert fee(first + timedelta(hours=1), first + 7 * DAY) == [("acme", Decimal(6))]
        assert fee(first - 40 * DAY, first) == []
        assert fee(None, None) == [("acme", Decimal(20))]  # what is not due yet is left out
        assert fee(first + 30 * DAY, first + 40 * DAY) == []

    def test_fees_period_without_beginning_starts_with_the_first_call(self, session: Session) -> None:
        add_session(session)
        add_call(session, model_id="acme/m", created_at=NOON)
        add_call(session, "msg_2", model_id="acme/m", created_at=NOON + DAY)
        settle(session)

        say(session, make_billing("acme", "subscription", monthly_fee="31"), make_billing("unused", "subscription", monthly_fee="5"))

        fees = BillingRepository(session).fees(TimeRange(), tz=KATHMANDU, now=NOON + 4 * DAY)
        assert [(one.provider, one.fee_usd) for one in fees] == [("acme", Decimal(5))]

    def test_fees_without_a_fee_are_none(self, session: Session) -> None:
        say(session, make_billing("acme", "local"))

        assert BillingRepository(session).fees(TimeRange(), tz=KATHMANDU, now=NOON) == []
