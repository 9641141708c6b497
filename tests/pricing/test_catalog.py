from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencode_monitor.errors import PriceError
from opencode_monitor.pricing.catalog import (
    BEGIN,
    END,
    MAX_CONTEXT,
    PRECEDENCE,
    BucketPrices,
    PriceCell,
    PricePeriod,
    Source,
    Status,
    find_cell,
    make_period,
    price_cells,
    user_period,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

DAY = datetime(2026, 3, 1, tzinfo=UTC)


def period(
    price: int,
    *,
    source: Source = "genai-prices",
    status: Status = "confirmed",
    above: int = 0,
    since: datetime = BEGIN,
    until: datetime | None = None,
    daily: tuple[int, int] | None = None,
) -> PricePeriod:
    """A row whose every price is `price` USD per million tokens."""
    usd = Decimal(price)
    return make_period(
        "acme",
        "large",
        BucketPrices(input=usd, output=usd, cache_read=usd, cache_write_5m=usd),
        source=source,
        source_version="1",
        status=status,
        min_context_tokens=above,
        effective_from=since,
        effective_to=until,
        daily=daily,
    )


def price_at(rows: Sequence[PricePeriod], at: datetime = DAY, context: int = 1_000) -> int | None:
    """USD per million input tokens at one point."""
    cell = find_cell(price_cells(rows), at, context)
    return None if cell is None or cell.input_usd_per_token is None else int(cell.input_usd_per_token * 10**6)


class TestMakePeriod:
    def test_make_period_names_the_row_by_what_tells_it_apart(self) -> None:
        row = make_period(
            "anthropic",
            "claude-sonnet-4-5",
            BucketPrices(input=Decimal(3), output=Decimal(15)),
            source="genai-prices",
            source_version="0.2.3",
            min_context_tokens=200_000,
            effective_from=datetime(2026, 3, 13, tzinfo=UTC),
        )

        assert row.price_id == "anthropic/claude-sonnet-4-5|standard|200000|2026-03-13|genai-prices"
        assert row.precedence == PRECEDENCE["genai-prices"]

    def test_make_period_time_and_window_are_part_of_the_name(self) -> None:
        at_four = datetime(2025, 9, 5, 18, tzinfo=timezone(timedelta(hours=2)))

        row = period(1, since=at_four, daily=(30, 990))

        assert row.price_id == "acme/large|standard|0|2025-09-05T16:00:00Z|00:30-16:30|genai-prices"
        assert (row.daily_from_minute, row.daily_to_minute) == (30, 990)


class TestPriceCells:
    def test_price_cells_one_price_covers_all_times_and_contexts(self) -> None:
        cells = price_cells([period(7)])

        assert cells == [
            PriceCell(
                vendor="acme",
                model="large",
                price_id="acme/large|standard|0|1970-01-01|genai-prices",
                valid_from=BEGIN,
                valid_to=END,
                min_context_tokens=-1,
                max_context_tokens=MAX_CONTEXT,
                from_minute=0,
                to_minute=1440,
                input_usd_per_token=Decimal("0.000007"),
                cache_read_usd_per_token=Decimal("0.000007"),
                cache_write_usd_per_token=Decimal("0.000007"),
                output_usd_per_token=Decimal("0.000007"),
                reasoning_usd_per_token=Decimal("0.000007"),
            )
        ]

    def test_price_cells_no_rows_make_no_cells(self) -> None:
        assert price_cells([]) == []

    @pytest.mark.parametrize(("context", "usd"), [(0, 3), (199_999, 3), (200_000, 3), (200_001, 6), (10**9, 6)])
    def test_price_cells_tier_holds_strictly_above_its_threshold(self, context: int, usd: int) -> None:
        assert price_at([period(3), period(6, above=200_000)], context=context) == usd

    def test_price_cells_price_change_replaces_every_tier_of_the_old_price(self) -> None:
        change = DAY + timedelta(days=12)
        rows = [period(5), period(10, above=200_000), period(4, since=change)]

        assert price_at(rows, change - timedelta(microseconds=1), 300_000) == 10
        assert price_at(rows, change, 300_000) == 4

    def test_price_cells_user_row_without_tiers_prices_every_context(self) -> None:
        rows = [period(3), period(6, above=200_000), period(2, source="user")]

        assert [price_at(rows, context=context) for context in (1, 300_000)] == [2, 2]

    def test_price_cells_precedence_orders_the_sources(self) -> None:
        rows = [period(1, source="plan"), period(2), period(3, source="vendor-notice"), period(4, source="user")]

        assert [price_at(rows[: count + 1]) for count in range(4)] == [1, 2, 3, 4]

    def test_price_cells_notice_of_a_tier_leaves_the_catalogue_its_base_price(self) -> None:
        rows = [period(3), period(6, source="vendor-notice", above=200_000, since=DAY)]

        assert price_at(rows, DAY, 200_000) == 3
        assert price_at(rows, DAY, 200_001) == 6
        assert price_at(rows, DAY - timedelta(days=1), 200_001) == 3

    def test_price_cells_provisional_row_never_counts(self) -> None:
        rows = [period(3), period(9, since=DAY, status="provisional")]

        assert price_at(rows, DAY + timedelta(days=400)) == 3
        assert price_cells(rows[1:]) == []

    def test_price_cells_other_modes_are_passed_over(self) -> None:
        batch = replace(period(9, source="user"), mode="batch")

        assert price_at([period(3), batch]) == 3

    def test_price_cells_row_with_an_end_leaves_a_gap_or_the_row_below(self) -> None:
        ended = period(3, since=DAY, until=DAY + timedelta(days=1), source="vendor-notice")

        assert price_at([ended], DAY + timedelta(hours=23)) == 3
        assert price_at([ended], DAY + timedelta(days=1)) is None
        assert price_at([ended, period(1)], DAY + timedelta(days=1)) == 1

    @pytest.mark.parametrize(("clock", "usd"), [("00:00", 2), ("02:59", 2), ("03:00", 1), ("12:00", 1), ("21:59", 1), ("22:00", 2)])
    def test_price_cells_window_spanning_midnight_wins_over_the_day(self, clock: str, usd: int) -> None:
        rows = [period(1), period(2, daily=(22 * 60, 3 * 60))]
        hour, minute = map(int, clock.split(":"))

        assert price_at(rows, DAY.replace(hour=hour, minute=minute)) == usd

    def test_price_cells_window_is_read_in_utc(self) -> None:
        rows = [period(1), period(2, daily=(60, 240))]
        local = datetime(2026, 3, 1, 9, 30, tzinfo=timezone(timedelta(hours=8)))

        assert price_at(rows, local) == 2

    def test_price_cells_missing_price_stays_none_and_reasoning_costs_what_output_costs(self) -> None:
        row = make_period(
            "acme",
            "large",
            BucketPrices(input=Decimal(0), output=Decimal("0.0028")),
            source="genai-prices",
            source_version="1",
        )

        (cell,) = price_cells([row])

        assert cell.input_usd_per_token == Decimal(0)
        assert cell.cache_read_usd_per_token is None
        assert cell.cache_write_usd_per_token is None
        assert cell.reasoning_usd_per_token == Decimal("0.0000000028")

    def test_price_cells_reasoning_price_of_its_own_is_kept(self) -> None:
        row = replace(period(8), reasoning_usd_per_mtok=Decimal(3))

        (cell,) = price_cells([row])

        assert (cell.output_usd_per_token, cell.reasoning_usd_per_token) == (Decimal("0.000008"), Decimal("0.000003"))

    def test_price_cells_own_name_and_entry_together_keep_the_name_that_wins(self) -> None:
        own = replace(period(1, source="user", above=100), vendor="azure")

        cells = price_cells([period(3), own])

        assert [(cell.vendor, cell.max_context_tokens) for cell in cells] == [("acme", 100), ("azure", MAX_CONTEXT)]


def periods() -> st.SearchStrategy[list[PricePeriod]]:
    """Few bounds, so that rows overlap, touch and repeat."""
    days = st.integers(0, 4).map(lambda days: DAY + timedelta(days=days))
    row = st.builds(
        period,
        st.integers(1, 9),
        source=st.sampled_from(["user", "vendor-notice", "genai-prices", "plan"]),
        status=st.sampled_from(["confirmed", "confirmed", "assumed", "provisional"]),
        above=st.sampled_from([0, 0, 100, 200]),
        since=st.just(BEGIN) | days,
        until=st.none() | days,
        daily=st.none() | st.tuples(st.sampled_from([0, 30, 600, 1380]), st.sampled_from([30, 600, 990, 1380])),
    )
    rows = st.lists(row, max_size=7)
    return rows.map(lambda made: [replace(row, price_id=f"row-{index}") for index, row in enumerate(made)])


def plain_winner(rows: list[PricePeriod], at: datetime, context: int) -> str | None:
    """The rule of the price book, read aloud: pass over what does not hold, keep the better of two."""
    best: tuple[Any, ...] | None = None
    minute = at.hour * 60 + at.minute
    last_editions = {row.place: row for row in rows if row.status != "provisional"}
    for row in last_editions.values():
        if at < row.effective_from or (row.effective_to and row.effective_to <= at):
            continue
        if row.min_context_tokens and context <= row.min_context_tokens:
            continue
        if row.daily_from_minute is not None and row.daily_to_minute is not None:
            length = (row.daily_to_minute - row.daily_from_minute) % 1440
            if (minute - row.daily_from_minute) % 1440 >= length:
                continue
        in_window = row.daily_from_minute is not None
        rank = (row.precedence, row.effective_from, in_window, row.min_context_tokens, row.price_id)
        if best is None or rank > best:
            best = rank
    return None if best is None else best[-1]


class TestCellsOfAnyBook:
    @given(
        periods(),
        st.datetimes(datetime(2026, 2, 27), datetime(2026, 3, 8), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds are naive by contract
        st.integers(0, 300),
    )
    def test_find_cell_any_point_agrees_with_the_plain_rule(self, rows: list[PricePeriod], at: datetime, context: int) -> None:
        cell = find_cell(price_cells(rows), at, context)

        assert (None if cell is None else cell.price_id) == plain_winner(rows, at, context)

    @given(periods())
    def test_price_cells_any_book_are_disjoint_and_not_empty(self, rows: list[PricePeriod]) -> None:
        cells = price_cells(rows)

        for cell in cells:
            assert cell.valid_from < cell.valid_to
            assert cell.min_context_tokens < cell.max_context_tokens
            assert cell.from_minute < cell.to_minute
        for one, other in combinations(cells, 2):
            assert (
                one.valid_to <= other.valid_from
                or other.valid_to <= one.valid_from
                or one.max_context_tokens <= other.min_context_tokens
                or other.max_context_tokens <= one.min_context_tokens
                or one.to_minute <= other.from_minute
                or other.to_minute <= one.from_minute
            )

    @given(periods(), st.randoms())
    def test_price_cells_any_order_of_rows_makes_the_same_cells(self, rows: list[PricePeriod], random: Any) -> None:
        shuffled = list(rows)
        random.shuffle(shuffled)

        assert price_cells(shuffled) == price_cells(rows)


class TestUserPeriod:
    def test_user_period_prices_become_a_row_above_all_others(self) -> None:
        row = user_period("ollama", "qwen3", input="0", output=0, cache_read=Decimal("0.02"))

        assert row.price_id == "ollama/qwen3|standard|0|1970-01-01|user"
        assert (row.input_usd_per_mtok, row.output_usd_per_mtok) == (Decimal(0), Decimal(0))
        assert row.cache_read_usd_per_mtok == Decimal("0.02")
        assert row.cache_write_5m_usd_per_mtok is None
        assert (row.source, row.status, row.precedence) == ("user", "confirmed", 100)

    def test_user_period_dated_tier_holds_only_there(self) -> None:
        row = user_period(
            "acme",
            "large",
            input=9,
            output=9,
            min_context_tokens=100,
            effective_from=DAY,
            effective_to=DAY + timedelta(days=1),
        )

        rows = [period(3), row]

        assert price_at(rows, DAY, 101) == 9
        assert price_at(rows, DAY, 100) == 3
        assert price_at(rows, DAY + timedelta(days=1), 101) == 3

    @pytest.mark.parametrize(
        ("stated", "reason"),
        [
            ({"input": "-1"}, "acme/large: the input price -1 is negative"),
            ({"output": Decimal("NaN")}, "acme/large: the output price NaN is not a finite number"),
            ({"reasoning": "Infinity"}, "acme/large: the reasoning price Infinity is not a finite number"),
            ({"cache_read": "cheap"}, "acme/large: the cache read price 'cheap' is not a number"),
            (
                {"cache_write": 10_001},
                "acme/large: the cache write price 10001 is above 10000 USD per million tokens: is it per token?",
            ),
            (
                {"cache_write_1h": Decimal("1E-7")},
                ("acme/large: the one-hour cache write price 1E-7 has more than 6 decimals, which cannot be stored exactly"),
            ),
            ({"min_context_tokens": -1}, "acme/large: a tier cannot start at -1 tokens"),
            ({"effective_from": datetime(2026, 1, 1)}, "acme/large: 2026-01-01T00:00:00 has no time zone"),  # noqa: DTZ001 - the case
            (
                {"effective_from": DAY, "effective_to": DAY},
                "acme/large: the price would end at 2026-03-01T00:00:00+00:00, before it begins",
            ),
        ],
    )
    def test_user_period_price_that_cannot_be_is_refused(self, stated: dict[str, Any], reason: str) -> None:
        with pytest.raises(PriceError) as refused:
            user_period("acme", "large", **{"input": 1, "output": 1, **stated})

        assert str(refused.value) == reason

    def test_user_period_without_a_model_is_refused(self) -> None:
        with pytest.raises(PriceError, match="names no model"):
            user_period("acme", "", input=1, output=1)

    def test_user_period_highest_allowed_price_is_accepted(self) -> None:
        assert user_period("acme", "large", input=10_000, output=1).input_usd_per_mtok == Decimal(10_000)
