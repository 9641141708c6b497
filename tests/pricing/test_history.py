"""The book only grows: what it has never changes in what it charges."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from opencode_monitor.errors import PriceError
from opencode_monitor.ingest.settle import backfill
from opencode_monitor.models import Message, ModelPricing, PricePeriodRow, StepEvent
from opencode_monitor.pricing.book import add_periods, seed_price_book, stored_periods
from opencode_monitor.pricing.catalog import BEGIN, BucketPrices, PricePeriod, Source, Status, find_cell, make_period, user_period
from opencode_monitor.pricing.history import find_conflicts, plan_change
from opencode_monitor.pricing.lookup import find_cells
from opencode_monitor.repositories import PricingRepository
from opencode_monitor.testing.builders import NOON, add_call, add_session
from properties import on_database

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

DAY = timedelta(days=1)


def stated(
    usd: int | str,
    *,
    source: Source = "genai-prices",
    version: str = "1",
    above: int = 0,
    since: datetime = BEGIN,
    until: datetime | None = None,
    status: Status = "confirmed",
    model: str = "large",
) -> PricePeriod:
    price = Decimal(usd)
    return make_period(
        "acme",
        model,
        BucketPrices(input=price, output=price, cache_read=price, cache_write_5m=price),
        source=source,
        source_version=version,
        min_context_tokens=above,
        effective_from=since,
        effective_to=until,
        status=status,
    )


def usd_at(connection: sa.Connection, at: datetime = NOON, context: int = 1_000) -> tuple[Decimal | None, str | None]:
    cell = find_cell(find_cells("acme/large", at=at, connection=connection), at, context)
    if cell is None or cell.input_usd_per_token is None:
        return None, None
    return cell.input_usd_per_token * 10**6, cell.price_id


def plans_price(connection: sa.Connection, model: str = "claude-sonnet-4-5") -> tuple[Decimal, Decimal] | None:
    row = connection.execute(
        sa.select(ModelPricing.input_token_cost_per_1k, ModelPricing.output_token_cost_per_1k).where(ModelPricing.model_name == model)
    ).one_or_none()
    return None if row is None else (row[0], row[1])


class TestAddPeriods:
    def test_add_periods_other_price_is_a_new_row_that_takes_over(self, session: Session) -> None:
        connection = session.connection()
        add_periods(connection, [stated(3)], now=NOON)
        added = add_periods(connection, [stated(4, version="2")], now=NOON + DAY)

        rows = stored_periods(connection, PricePeriodRow.vendor == "acme")
        assert [(row.price_id, row.input_usd_per_mtok, row.source_version, row.recorded_at) for row in rows] == [
            ("acme/large|standard|0|1970-01-01|genai-prices", Decimal(3), "1", NOON),
            ("acme/large|standard|0|1970-01-01|genai-prices#02", Decimal(4), "2", NOON + DAY),
        ]
        assert [row.price_id for row in added] == ["acme/large|standard|0|1970-01-01|genai-prices#02"]
        assert usd_at(connection) == (Decimal(4), "acme/large|standard|0|1970-01-01|genai-prices#02")

    def test_add_periods_price_that_comes_back_is_a_third_row(self, session: Session) -> None:
        connection = session.connection()
        for usd in (3, 4, 3):
            add_periods(connection, [stated(usd)], now=NOON)

        assert usd_at(connection) == (Decimal(3), "acme/large|standard|0|1970-01-01|genai-prices#03")

    def test_add_periods_same_price_of_a_newer_edition_adds_nothing(self, session: Session) -> None:
        connection = session.connection()
        add_periods(connection, [stated("3.50")], now=NOON)

        assert add_periods(connection, [stated("3.5", version="2")], now=NOON + DAY) == []

    def test_add_periods_tier_that_is_not_stated_any_more_costs_the_base_price(self, session: Session) -> None:
        connection = session.connection()
        add_periods(connection, [stated(3), stated(6, above=200_000)], now=NOON, whole=True)
        before = usd_at(connection, context=300_000)
        add_periods(connection, [stated(3)], now=NOON + DAY, whole=True)
        again = add_periods(connection, [stated(3)], now=NOON + 2 * DAY, whole=True)

        assert before[0] == Decimal(6)
        assert usd_at(connection, context=300_000) == (Decimal(3), "acme/large|standard|200000|1970-01-01|genai-prices#02")
        assert again == []

    def test_add_periods_model_that_is_not_stated_any_more_keeps_its_price(self, session: Session) -> None:
        connection = session.connection()
        add_periods(connection, [stated(3), stated(9, model="small")], now=NOON, whole=True)
        add_periods(connection, [stated(9, model="small")], now=NOON + DAY, whole=True)

        assert usd_at(connection)[0] == Decimal(3)

    def test_add_periods_announced_price_is_confirmed_and_nothing_else_changes(self, session: Session) -> None:
        connection = session.connection()
        add_periods(connection, [stated(3), stated(5, since=NOON, status="provisional")], now=NOON - DAY)
        before = usd_at(connection)[0]
        added = add_periods(connection, [stated(3), stated(5, since=NOON)], now=NOON)

        assert (before, usd_at(connection)[0], added) == (Decimal(3), Decimal(5), [])
        assert {row.status for row in stored_periods(connection, PricePeriodRow.vendor == "acme")} == {"confirmed"}

    def test_add_periods_called_off_price_stays_provisional_and_prices_nothing(self, session: Session) -> None:
        connection = session.connection()
        add_periods(connection, [stated(3), stated(5, since=NOON, status="provisional")], now=NOON - DAY, whole=True)
        add_periods(connection, [stated(3)], now=NOON + DAY, whole=True)

        assert usd_at(connection, NOON + DAY)[0] == Decimal(3)

    def test_add_periods_replaced_price_with_an_end_does_not_come_back(self, session: Session) -> None:
        connection = session.connection()
        add_periods(connection, [stated(3, source="user")], now=NOON)
        add_periods(connection, [stated(4, source="user", until=NOON)], now=NOON)

        assert usd_at(connection, NOON - DAY)[0] == Decimal(4)
        assert usd_at(connection, NOON)[0] is None

    def test_add_periods_keeps_the_plans_table(self, session: Session) -> None:
        own = user_period("anthropic", "claude-sonnet-4-5", input=1, output=2)
        for period in (own, replace(own, input_usd_per_mtok=Decimal(7))):
            add_periods(session.connection(), [period], now=NOON)

        row = session.get_one(ModelPricing, "claude-sonnet-4-5")
        assert (row.input_token_cost_per_1k, row.output_token_cost_per_1k) == (Decimal("0.007"), Decimal("0.002"))

    def test_add_periods_replaced_price_is_not_in_the_plans_table(self, session: Session) -> None:
        connection = session.connection()
        listed = plans_price(connection)
        own = user_period("anthropic", "claude-sonnet-4-5", input=1, output=1)
        add_periods(connection, [own], now=NOON)
        add_periods(connection, [replace(own, effective_to=NOON - DAY)], now=NOON)

        # The user's price has ended: neither it nor what it took the place of holds.
        assert plans_price(connection) == listed

    def test_backfill_plans_table_follows_the_time(self, session: Session) -> None:
        connection = session.connection()
        listed = plans_price(connection)
        own = user_period("anthropic", "claude-sonnet-4-5", input=1, output=1, effective_from=NOON + DAY, effective_to=NOON + 2 * DAY)
        other = replace(own, price_id="anthropic/mine", model="mine")
        add_periods(connection, [own, other], now=NOON)
        found = []
        for day in range(4):
            backfill(connection, now=NOON + day * DAY)
            found.append((plans_price(connection), plans_price(connection, "mine")))

        mine = (Decimal("0.001"), Decimal("0.001"))
        assert found == [(listed, None), (mine, mine), (listed, None), (listed, None)]

    def test_backfill_plans_table_is_written_where_it_differs_only(self, session: Session) -> None:
        connection = session.connection()
        backfill(connection, now=NOON + DAY)
        connection.execute(sa.update(ModelPricing).values(updated_at=NOON))
        connection.execute(sa.delete(ModelPricing).where(ModelPricing.model_name == "gpt-5"))

        backfill(connection, now=NOON + DAY)

        later = connection.scalars(sa.select(ModelPricing.model_name).where(ModelPricing.updated_at > NOON)).all()
        assert later == ["gpt-5"]

    def test_backfill_after_a_new_edition_leaves_priced_calls_with_their_row(self, session: Session) -> None:
        connection = session.connection()
        add_session(session)
        add_call(session, "msg_1", model_id="acme/large")
        add_periods(connection, [stated(3)], now=NOON)
        backfill(connection, now=NOON)
        add_call(session, "msg_2", model_id="acme/large")
        add_periods(connection, [stated(4)], now=NOON + DAY)
        backfill(connection, now=NOON + DAY)
        session.expire_all()

        costs = [session.get_one(Message, message_id).message_cost_usd for message_id in ("msg_1", "msg_2")]
        kept = set(session.scalars(sa.select(StepEvent.price_id)).all())
        assert costs == [Decimal("0.0033"), Decimal("0.0044")]
        assert kept == {row.price_id for row in stored_periods(connection, PricePeriodRow.vendor == "acme")}


def test_add_periods_name_that_was_deleted_in_the_transaction_is_in_the_plans_table(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        add_periods(connection, [user_period("anthropic", "mine", input=1, output=1, effective_to=NOON)], now=NOON - DAY)
    with engine.begin() as connection:
        backfill(connection, now=NOON)
        ended = plans_price(connection, "mine")
        add_periods(connection, [user_period("anthropic", "mine", input=2, output=2, effective_from=NOON)], now=NOON)

    with engine.connect() as connection:
        assert (ended, plans_price(connection, "mine")) == (None, (Decimal("0.002"), Decimal("0.002")))


class TestSeedPriceBook:
    def test_seed_price_book_again_adds_no_row(self, session: Session) -> None:
        connection = session.connection()
        before = stored_periods(connection)

        added = seed_price_book(connection, now=NOON, again=True)

        assert added == []
        assert stored_periods(connection) == before
        assert len({row.recorded_at for row in before}) == 1

    def test_seed_price_book_later_confirms_what_came_due_and_changes_no_price(self, session: Session) -> None:
        connection = session.connection()
        before = {row.price_id: row for row in stored_periods(connection)}

        seed_price_book(connection, now=NOON + 365 * DAY)

        after = {row.price_id: row for row in stored_periods(connection)}
        assert set(after) == set(before)
        changed = [price_id for price_id, row in after.items() if row != before[price_id]]
        assert changed
        for price_id in changed:
            assert before[price_id].status == "provisional"
            assert replace(after[price_id], status="provisional") == before[price_id]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["user", "genai-prices", "opencode-cache"]),
        st.integers(1, 4),
        st.sampled_from([0, 0, 100]),
        st.sampled_from([BEGIN, NOON, NOON + DAY]),
        st.sampled_from([None, NOON + 2 * DAY]),
        st.booleans(),
    ),
    max_size=8,
)


def as_period(step: tuple[Any, ...]) -> PricePeriod:
    source, usd, above, since, until, _ = step
    return stated(usd, source=source, above=above, since=since, until=until if source == "user" else None)


@given(STEPS)
def test_plan_change_any_sequence_never_changes_a_row_and_the_last_price_holds(steps: list[tuple[Any, ...]]) -> None:
    book: dict[str, PricePeriod] = {}
    for number, step in enumerate(steps):
        period = as_period(step)
        change = plan_change(book.values(), [period], now=NOON + number * DAY, whole=step[-1] and period.source != "user")

        assert change.confirmed == []
        assert not set(book) & {row.price_id for row in change.rows}
        book.update({row.price_id: row for row in change.rows})

        # Stated once more, nothing happens; and of its own place, what was stated last is what counts.
        assert plan_change(book.values(), [period], now=NOON + number * DAY).rows == []
        same_place = [row for row in book.values() if row.place == period.place]
        assert max(same_place, key=lambda row: row.recorded_at or BEGIN).charge == period.charge


@on_database(8)
@given(STEPS)
def test_add_periods_any_sequence_never_changes_what_an_id_charges(session: Session, steps: list[tuple[Any, ...]]) -> None:
    session.rollback()
    connection = session.connection()
    known: dict[str, PricePeriod] = {}
    for number, step in enumerate(steps):
        add_periods(connection, [as_period(step)], now=NOON + number * DAY)
        found = {row.price_id: row for row in stored_periods(connection, PricePeriodRow.vendor == "acme")}

        assert {price_id: found.get(price_id) for price_id in known} == known
        known = found
    session.rollback()


class TestFindConflicts:
    @pytest.mark.parametrize(
        ("there", "new", "reason"),
        [
            (stated(1, source="user"), stated(2, source="user"), "you have a price from the beginning on already."),
            (
                stated(1, source="user", since=NOON),
                stated(2, source="user", since=NOON),
                "you have a price from 2026-05-04 12:00 UTC on already.",
            ),
            (
                stated(1, source="user", since=NOON, until=NOON + 2 * DAY),
                stated(2, source="user", since=NOON + DAY),
                (
                    "the price from 2026-05-05 12:00 UTC on overlaps with yours from 2026-05-04 12:00 UTC on, as the one from"
                    " 2026-05-04 12:00 UTC on holds until 2026-05-06 12:00 UTC"
                ),
            ),
            (
                stated(1, source="user", since=NOON + DAY),
                stated(2, source="user", since=NOON, until=NOON + 2 * DAY),
                (
                    "the price from 2026-05-04 12:00 UTC on overlaps with yours from 2026-05-05 12:00 UTC on, as the one from"
                    " 2026-05-04 12:00 UTC on holds until 2026-05-06 12:00 UTC"
                ),
            ),
        ],
    )
    def test_find_conflicts_prices_that_contradict_are_named(self, there: PricePeriod, new: PricePeriod, reason: str) -> None:
        ((row, found),) = find_conflicts([there], [new], replacing=False)

        assert row == new
        assert found.startswith(f"acme/large: {reason}")

    @pytest.mark.parametrize(
        "new",
        [
            stated(1, source="user", since=NOON),  # the same once more
            stated(2, source="user", since=NOON + 2 * DAY),  # begins where the other ends
            stated(2, source="user", since=NOON + DAY, above=100),  # of another tier
            replace(stated(2, source="user", since=NOON + DAY), mode="batch"),
            stated(2, source="user", since=NOON - DAY),  # ends where the other begins
        ],
    )
    def test_find_conflicts_prices_beside_each_other_are_none(self, new: PricePeriod) -> None:
        there = stated(1, source="user", since=NOON, until=NOON + 2 * DAY)
        new = replace(new, effective_to=there.effective_to) if new.effective_from == NOON else new

        assert find_conflicts([there], [new], replacing=False) == []

    def test_find_conflicts_replacing_takes_the_place_but_does_not_overlap(self) -> None:
        there = stated(1, source="user", since=NOON, until=NOON + 2 * DAY)
        news: Sequence[PricePeriod] = [stated(2, source="user", since=NOON), stated(3, source="user", since=NOON + DAY)]

        # The first takes the end away, so that the second has room.
        assert find_conflicts([there], news, replacing=True) == []
        assert len(find_conflicts([there], news[1:], replacing=True)) == 1

    def test_set_conflict_is_an_error_and_adds_nothing(self, session: Session) -> None:
        repository = PricingRepository(session)
        repository.set([user_period("acme", "large", input=1, output=1)], now=NOON)

        with pytest.raises(PriceError, match="--replace"):
            repository.set([user_period("acme", "large", input=2, output=2)], now=NOON)
        kept = usd_at(session.connection())
        repository.set([user_period("acme", "large", input=2, output=2)], now=NOON, replacing=True)

        assert kept == (Decimal(1), "acme/large|standard|0|1970-01-01|user")
        assert usd_at(session.connection()) == (Decimal(2), "acme/large|standard|0|1970-01-01|user#02")


def test_recorded_at_clock_that_goes_back_still_lets_the_last_one_win() -> None:
    first = replace(stated(3), recorded_at=datetime(2027, 1, 1, tzinfo=UTC))

    (row,) = plan_change([first], [stated(4)], now=NOON).rows

    assert row.recorded_at is not None
    assert row.recorded_at > datetime(2027, 1, 1, tzinfo=UTC)
