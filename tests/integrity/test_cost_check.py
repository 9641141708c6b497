"""The recomputation agrees with the database, and finds exactly what was changed by hand."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from opencode_monitor.ingest.settle import backfill, recharge
from opencode_monitor.integrity import cost_check
from opencode_monitor.integrity.cost_check import check_costs
from opencode_monitor.models import ModelPricing, StepEvent
from opencode_monitor.pricing.adjustments import make_adjustment, make_billing
from opencode_monitor.pricing.book import seed_price_book, set_alias
from opencode_monitor.pricing.catalog import user_period
from opencode_monitor.pricing.seeds import Entry
from opencode_monitor.repositories import BillingRepository, PricingRepository
from opencode_monitor.testing.builders import NOON, SONNET, add_call, add_session

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

HAIKU = "anthropic/claude-haiku-4-5"
# What somebody could do by hand, and how many rows of which table must then differ.
DAMAGES = {
    "UPDATE step_events SET step_cost_usd = step_cost_usd + 0.000000000001 WHERE step_id = 'haiku_1_01'": {"step_events": 1, "messages": 1},
    "UPDATE step_events SET paid_cost_usd = 0 WHERE step_id = 'haiku_1_01'": {"step_events": 1, "messages": 1},
    "UPDATE step_events SET price_id = 'no such row' WHERE step_id = 'haiku_1_01'": {"step_events": 1},
    "UPDATE step_events SET step_cost_usd = 0 WHERE step_id = 'unknown_1_01'": {"step_events": 1, "messages": 1},
    "UPDATE step_events SET output_tokens = output_tokens + 1 WHERE step_id = 'sonnet_0_03'": {"step_events": 1},
    "UPDATE messages SET paid_cost_usd = NULL WHERE message_id = 'sonnet_0'": {"messages": 1, "session_resource_metrics": 1},
    "UPDATE messages SET cost_basis = 'copied' WHERE message_id = 'sonnet_0'": {"messages": 1},
    "UPDATE parts SET part_cost_usd = 0 WHERE part_id = 'sonnet_0_01'": {"messages": 1},
    "UPDATE session_stats SET total_cost_usd = 0 WHERE session_id = 'ses_0'": {"session_resource_metrics": 1},
    "UPDATE session_resource_metrics SET reported_cost_usd = 0 WHERE session_id = 'ses_0'": {"session_resource_metrics": 1},
    "UPDATE model_pricing SET output_token_cost_per_1k = 0.1 WHERE model_name = 'claude-haiku-4-5'": {"model_pricing": 1},
    "DELETE FROM model_pricing WHERE model_name = 'claude-haiku-4-5'": {"model_pricing": 1},
    "INSERT INTO model_pricing (model_name, vendor, input_token_cost_per_1k, output_token_cost_per_1k) VALUES ('odd', 'openai', 1, 1)": {
        "model_pricing": 1
    },
    "UPDATE price_adjustments SET multiplier = 1.2 WHERE provider = 'anth*'": {"step_events": 9},
    "UPDATE provider_billing SET kind = 'metered'": {"step_events": 3},
}


def fill_soundly(session: Session) -> None:
    """Write calls of every kind, with statements of the user's, in which everything agrees."""
    for number in range(3):
        add_session(session, f"ses_{number}")
        add_call(session, f"sonnet_{number}", f"ses_{number}", written=((7, 5),), steps=((1000, 5, 6, 100, 3), (190_000, 0, 20_000, 1, 1)))
        add_call(
            session,
            f"haiku_{number}",
            f"ses_{number}",
            model_id=HAIKU,
            reported_cost_usd=Decimal("0.5"),
            created_at=NOON + timedelta(days=number),
        )
        add_call(session, f"local_{number}", f"ses_{number}", model_id="ollama/qwen3-coder")
        add_call(session, f"unknown_{number}", f"ses_{number}", model_id="acme/unknown")
    add_session(session, "ses_empty")
    seed_price_book(session.connection(), now=NOON)
    backfill(session.connection(), now=NOON)
    bills = BillingRepository(session)
    bills.add(make_billing("ollama", "local"), now=NOON)
    bills.add(make_adjustment("anthropic/*haiku*", "0.123457", bucket="output", effective_from=NOON + timedelta(days=1)), now=NOON)
    bills.add(make_adjustment("anth*", "1.1"), now=NOON)
    recharge(session.connection(), now=NOON)


@pytest.fixture
def sound(filled: Callable[[Callable[[Session], None]], Session]) -> Session:
    """Calls of every kind, with statements of the user's, in which everything agrees."""
    return filled(fill_soundly)


def test_check_costs_sound_database_agrees_in_every_row_and_sum(sound: Session) -> None:
    check = check_costs(sound.connection(), now=NOON)

    assert (check.found, check.differences, check.remark_count) == (0, [], 0)
    assert {table: count for table, count in check.rows.items() if table != "model_pricing"} == {
        "step_events": 15,
        "messages": 12,
        "session_resource_metrics": 4,
    }
    assert check.rows["model_pricing"] > 100
    totals = {one.name: one.recomputed for one in check.sums}
    assert totals["all calls, list"] == totals["all sessions, list"] == totals["all parts, list"]
    assert totals["model acme/unknown, list"] is totals["model acme/unknown, paid"] is None
    assert totals["model ollama/qwen3-coder, paid"] == 0
    assert len(check.sums) == 5 + 2 * 4 + 2 * 3


def test_check_costs_in_many_small_ranges_is_the_same(sound: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = check_costs(sound.connection(), now=NOON)
    monkeypatch.setattr(cost_check, "_PARTS_AT_ONCE", 1)

    assert check_costs(sound.connection(), now=NOON) == whole


def test_check_costs_price_shifted_by_hand_finds_exactly_its_calls(sound: Session) -> None:
    price_id = sound.scalars(sa.select(StepEvent.price_id).where(StepEvent.message_id == "haiku_0")).one()
    sound.execute(
        sa.text("UPDATE price_periods SET input_usd_per_mtok = input_usd_per_mtok + 0.000001 WHERE price_id = :id"), {"id": price_id}
    )

    check = check_costs(sound.connection(), now=NOON)

    found = {(one.table, one.key) for one in check.differences}
    calls = set(sound.scalars(sa.select(StepEvent.step_id).where(StepEvent.price_id == price_id)))
    assert calls == {f"haiku_{number}_01" for number in range(3)}
    # The plan's table shows the current price, which is this one.
    assert found == {("step_events", call) for call in calls} | {("model_pricing", "claude-haiku-4-5")}
    assert {one.name for one in check.sums if not one.agrees} >= {"all calls, list", f"model {HAIKU}, list", f"model {HAIKU}, paid"}
    assert not any(one.name.startswith(f"model {SONNET}") for one in check.sums if not one.agrees)


def test_check_costs_damage_is_found_where_it_is(sound: Session) -> None:
    found = {}
    for damage in DAMAGES:
        sound.execute(sa.text(damage))
        found[damage] = dict(check_costs(sound.connection(), now=NOON).differing)
        sound.rollback()

    assert found == DAMAGES


def test_check_costs_newer_price_is_a_remark_and_no_mistake(sound: Session) -> None:
    PricingRepository(sound).add([user_period("anthropic", "claude-haiku-4-5", input=9, output=9)], now=NOON)

    check = check_costs(sound.connection(), now=NOON)

    assert (check.found, check.remark_count) == (0, 3)
    assert check.remarks[0].startswith("haiku_0_01 is priced by anthropic/claude-haiku-4-5|standard|0|")
    assert check.remarks[0].endswith("the book of today would take anthropic/claude-haiku-4-5|standard|0|1970-01-01|user")


@pytest.mark.parametrize("model", [HAIKU, "openai/claude-haiku-4-5"])
def test_check_costs_replaced_price_and_the_name_at_another_maker_agree(sound: Session, model: str) -> None:
    vendor, _, name = model.partition("/")
    prices = PricingRepository(sound)
    for price in (2, 1):
        prices.set([user_period(vendor, name, input=price, output=price)], now=NOON, replacing=True)
    add_call(sound, "newer", "ses_0", model_id=model)
    backfill(sound.connection(), now=NOON)

    check = check_costs(sound.connection(), now=NOON)

    assert (check.found, check.differences) == (0, [])
    # Three calls keep what they were priced by before the user had a price; the newer one has the last edition.
    assert check.remark_count == (3 if model == HAIKU else 0)
    assert all("|user#02" in remark for remark in check.remarks)


def test_check_costs_alias_to_a_mode_is_no_remark(sound: Session) -> None:
    connection = sound.connection()
    for model_id in ("my-proxy/large", "anthropic/claude-fable-5-2"):
        set_alias(connection, model_id, Entry("anthropic", "claude-fable-5-2", "batch"))
        add_call(sound, f"call of {model_id}", "ses_0", model_id=model_id)
    backfill(connection, now=NOON)
    ids = sound.scalars(sa.select(StepEvent.price_id).where(StepEvent.message_id.like("call of %"))).all()

    check = check_costs(connection, now=NOON)

    assert {str(price_id).split("|")[1] for price_id in ids} == {"batch"}
    assert (check.found, check.remarks) == (0, [])


def test_check_costs_period_that_ended_since_the_last_import_is_no_mistake(sound: Session) -> None:
    PricingRepository(sound).set([user_period("anthropic", "new", input=1, output=1, effective_to=NOON + timedelta(days=1))], now=NOON)
    sound.execute(sa.update(ModelPricing).values(updated_at=NOON))

    checks = [check_costs(sound.connection(), now=NOON + timedelta(days=day)) for day in (0, 2)]

    assert [check.found for check in checks] == [0, 0]


def test_check_costs_empty_database_has_nothing_to_find(session: Session) -> None:
    check = check_costs(session.connection(), now=NOON)

    assert (check.found, check.rows["step_events"]) == (0, 0)
    assert {one.recomputed for one in check.sums} == {Decimal(0)}
