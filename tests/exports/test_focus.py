from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from opencode_monitor.exports.focus import focus_rows
from opencode_monitor.exports.tables import table_statement
from opencode_monitor.ingest.settle import recharge
from opencode_monitor.models import Message, Project
from opencode_monitor.pricing.adjustments import Adjustment, Billing
from opencode_monitor.repositories import BillingRepository, CostRepository, TimeRange
from opencode_monitor.testing.builders import NOON, Step, add_call, add_project, add_session, settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session as DatabaseSession

ALL_TIME = TimeRange()
JULY = datetime(2026, 7, 1, tzinfo=UTC)
# The columns that every FOCUS 1.2 dataset must have.
MANDATORY = {
    *("BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart"),
    *("ChargeCategory", "ChargeClass", "ChargeDescription", "ChargePeriodEnd", "ChargePeriodStart", "ContractedCost", "EffectiveCost"),
    *("InvoiceIssuerName", "ListCost", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName", "ServiceCategory", "ServiceName"),
}


def as_dicts(session: DatabaseSession, time_range: TimeRange = ALL_TIME, **options: Any) -> list[dict[str, Any]]:
    columns, rows = focus_rows(session, time_range, now=JULY, **options)
    return [dict(zip([column.name for column in columns], row, strict=True)) for row in rows]


def spend(session: DatabaseSession) -> None:
    """Add two calls of a day and model, one of another day, one without a price, and a fork's copy."""
    add_project(session, name="shop")
    add_session(session, project_id="prj_1")
    sonnet = "anthropic/claude-sonnet-4"
    add_call(session, "msg_1", model_id=sonnet, steps=[Step(1_000_000, output_tokens=10)])
    add_call(session, "msg_2", model_id=sonnet, steps=[Step(2_000_000)])
    add_call(session, "msg_3", model_id=sonnet, steps=[Step(1_000)], created_at=NOON.replace(day=31, hour=23))
    add_call(session, "msg_4", model_id="acme/unknown", steps=[Step(7, reasoning_tokens=3)])
    add_call(session, "msg_5", model_id=sonnet, steps=[Step(1_000_000, output_tokens=10)])
    settle(session)
    session.get_one(Message, "msg_5").copied_from = "msg_1"


@pytest.fixture
def spent(filled: Callable[[Callable[[DatabaseSession], None]], DatabaseSession]) -> DatabaseSession:
    """Two calls of a day and model, one of another day, one without a price, and a fork's copy."""
    return filled(spend)


def test_focus_rows_have_the_mandatory_columns_and_mark_their_own(spent: DatabaseSession) -> None:
    columns, _ = focus_rows(spent, TimeRange(), now=JULY)
    names = [column.name for column in columns]

    assert set(names) >= MANDATORY
    assert len(set(names)) == len(names)
    assert {name for name in names if name.startswith("x_")} == {
        *("x_InputTokens", "x_CacheReadTokens", "x_CacheWriteTokens", "x_OutputTokens", "x_ReasoningTokens"),
        *("x_Calls", "x_ReportedCost", "x_UnpricedCalls"),
    }


def test_focus_rows_are_per_day_model_and_price_and_sum_to_the_total(spent: DatabaseSession) -> None:
    rows = as_dicts(spent)

    known = [row for row in rows if row["ListCost"] is not None]
    assert [(row["ChargePeriodStart"].day, row["SkuId"], row["x_Calls"], row["ConsumedQuantity"]) for row in rows] == [
        (4, "acme/unknown", 1, 10),
        (4, "anthropic/claude-sonnet-4", 2, 3_000_010),
        (31, "anthropic/claude-sonnet-4", 1, 1_000),
    ]
    total = CostRepository(spent).total()
    assert sum(row["ListCost"] for row in known) == sum(row["EffectiveCost"] for row in known) == total.cost_usd
    assert sum(row["x_Calls"] for row in rows) == total.calls
    (unknown,) = (row for row in rows if row["ListCost"] is None)
    assert (unknown["BilledCost"], unknown["x_UnpricedCalls"], unknown["SkuPriceId"]) == (None, 1, None)


def test_focus_rows_periods_are_the_utc_day_and_its_month(spent: DatabaseSession) -> None:
    last = as_dicts(spent)[-1]

    assert (last["ChargePeriodStart"], last["ChargePeriodEnd"]) == (datetime(2026, 5, 31, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC))
    assert (last["BillingPeriodStart"], last["BillingPeriodEnd"]) == (datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC))


def test_focus_rows_range_leaves_out_other_calls(spent: DatabaseSession) -> None:
    rows = as_dicts(spent, TimeRange(start=NOON.replace(day=5), end=JULY))

    assert [row["x_Calls"] for row in rows] == [1]


def test_focus_rows_redacted_project_is_a_hash(spent: DatabaseSession) -> None:
    open_names = {row["SubAccountId"] for row in as_dicts(spent)}
    (hashed,) = {row["SubAccountId"] for row in as_dicts(spent, redact=True)}

    assert open_names == {"shop"}
    assert hashed == spent.scalar(table_statement("projects", redact=True).with_only_columns(sa.func.md5(Project.name)))
    assert "shop" not in hashed


def test_focus_rows_statements_of_the_user_change_what_is_billed_and_not_the_list(spent: DatabaseSession) -> None:
    billing = BillingRepository(spent)
    billing.add(
        Adjustment(
            adjustment_id="anthropic",
            provider="anthropic",
            model_glob=None,
            bucket=None,
            multiplier=Decimal("0.9"),
            effective_from=None,
            effective_to=None,
            note=None,
        ),
        now=JULY,
    )
    recharge(spent.connection(), now=JULY)

    rows = [row for row in as_dicts(spent) if row["ListCost"] is not None]

    assert [row["BilledCost"] for row in rows] == [row["ListCost"] * Decimal("0.9") for row in rows]


def test_focus_rows_flat_fee_is_a_purchase_of_each_month(spent: DatabaseSession) -> None:
    of_may = Billing(
        billing_id="anthropic",
        provider_id="anthropic",
        kind="subscription",
        monthly_fee_usd=Decimal(20),
        effective_from=NOON.replace(day=1, hour=0),
        effective_to=None,
        note=None,
    )
    BillingRepository(spent).add(of_may, now=JULY)
    recharge(spent.connection(), now=JULY)

    fees = [row for row in as_dicts(spent, TimeRange(end=JULY)) if row["ChargeCategory"] == "Purchase"]

    assert [(fee["ChargePeriodStart"].month, fee["BilledCost"], fee["ChargeFrequency"]) for fee in fees] == [
        (5, Decimal(20), "Recurring"),
        (6, Decimal(20), "Recurring"),
    ]
    assert {row["EffectiveCost"] for row in as_dicts(spent) if row["ProviderName"] == "anthropic" and row["ChargeCategory"] == "Usage"} == {
        0
    }


@pytest.mark.parametrize("zone", ["America/New_York", "UTC", "Pacific/Auckland"])
def test_focus_rows_flat_fee_of_a_month_is_whole_in_every_zone(session: DatabaseSession, zone: str) -> None:
    tz = ZoneInfo(zone)
    billing = Billing(
        billing_id="anthropic",
        provider_id="anthropic",
        kind="subscription",
        monthly_fee_usd=Decimal(20),
        effective_from=datetime(2026, 5, 1, tzinfo=tz),
        effective_to=datetime(2026, 6, 1, tzinfo=tz),
        note=None,
    )
    BillingRepository(session).add(billing, now=JULY)

    may, june = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC)
    ranges = (TimeRange(), TimeRange(may, june), TimeRange(june, JULY), TimeRange(datetime(1, 1, 1, tzinfo=UTC), may))
    fees = [[(row["ChargePeriodStart"], row["BilledCost"]) for row in as_dicts(session, one, tz=tz)] for one in ranges]

    assert fees == [[(may, Decimal(20))], [(may, Decimal(20))], [], []]


def test_focus_rows_reported_cost_is_what_was_stored_with_the_message(session: DatabaseSession) -> None:
    add_session(session)
    add_call(session, "msg_1", steps=[Step(1_000), Step(3_000)], reported_cost_usd=Decimal("0.02"))
    settle(session)

    (row,) = as_dicts(session)

    assert row["x_ReportedCost"] == CostRepository(session).total().reported_cost_usd == Decimal("0.02")
