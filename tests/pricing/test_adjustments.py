"""The user's statements as values: what is refused, when each holds, and fees to the last digit."""

from __future__ import annotations

import calendar
from contextlib import nullcontext
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from opencode_monitor.errors import PriceError
from opencode_monitor.pricing.adjustments import (
    BUCKET_OF_WORD,
    Billing,
    billing_cells,
    describe_period,
    fee_of_day,
    fees_of_days,
    make_adjustment,
    make_billing,
    refuse_excess,
    refuse_overlap,
)

JUNE, JULY, AUGUST = (datetime(2026, month, 1, tzinfo=UTC) for month in (6, 7, 8))


def period(kind: str = "subscription", start: datetime | None = None, end: datetime | None = None, provider: str = "acme") -> Billing:
    return make_billing(provider, kind, effective_from=start, effective_to=end)


@pytest.mark.parametrize(
    ("target", "multiplier", "bucket", "message"),
    [
        ("", "0.9", None, "'' names no provider. Write PROVIDER or PROVIDER/MODEL-GLOB, such as anthropic/claude-*."),
        ("acme/", "0.9", None, "'acme/' names no provider. Write PROVIDER or PROVIDER/MODEL-GLOB, such as anthropic/claude-*."),
        ("acme", "-0.1", None, "acme: the multiplier -0.1 is not a number from 0 to 100."),
        ("acme", "100.1", None, "acme: the multiplier 100.1 is above 100."),
        ("acme", "ten", None, "acme: the multiplier 'ten' is not a number."),
        ("acme", "sNaN", None, "acme: the multiplier sNaN is not a number from 0 to 100."),
        ("acme", "0.1234567", None, "acme: the multiplier 0.1234567 has more than 6 decimals, which cannot be stored exactly."),
        ("acme", "0.9", "tokens", "unknown bucket 'tokens'. Use input, cache-read, cache-write, output, reasoning."),
    ],
)
def test_make_adjustment_nonsense_is_refused(target: str, multiplier: str, bucket: str | None, message: str) -> None:
    with pytest.raises(PriceError) as refused:
        make_adjustment(target, multiplier, bucket=bucket)

    assert str(refused.value) == message


def test_make_adjustment_period_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(PriceError, match="acme: it would end at 2026-06-01, before it begins"):
        make_adjustment("acme", "0.9", effective_from=JULY, effective_to=JUNE)


@pytest.mark.parametrize(
    ("provider", "kind", "fee", "message"),
    [
        ("acme/model", "metered", None, "'acme/model' is no provider."),
        ("acme", "gratis", None, "unknown kind of billing 'gratis'. Use metered, subscription, free, local."),
        ("acme", "free", "20", "acme: free billing has no monthly fee. Use subscription."),
        ("acme", "subscription", "-20", "acme: the monthly fee -20 is not a number from 0 to 1000000."),
        ("acme", "subscription", "1e7", "acme: the monthly fee 1e7 is above 1000000."),
    ],
)
def test_make_billing_nonsense_is_refused(provider: str, kind: str, fee: str | None, message: str) -> None:
    with pytest.raises(PriceError) as refused:
        make_billing(provider, kind, monthly_fee=fee)

    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    ("old", "new", "is_refused"),
    [
        ((None, None), (JUNE, None), True),
        ((JUNE, AUGUST), (JULY, None), True),
        ((JUNE, None), (None, JULY), True),
        ((JUNE, JULY), (JULY, None), False),
        ((JULY, None), (JUNE, JULY), False),
        ((JULY, None), (JULY, AUGUST), False),  # the same beginning: it takes the old one's place
    ],
)
def test_refuse_overlap_periods_of_one_provider(
    old: tuple[datetime | None, datetime | None], new: tuple[datetime | None, datetime | None], is_refused: bool
) -> None:
    known = [period(start=old[0], end=old[1]), period(provider="other")]

    if not is_refused:
        refuse_overlap(period("metered", *new), known)
        return
    with pytest.raises(PriceError, match=rf"acme is subscription .* already \(id {known[0].billing_id}\)"):
        refuse_overlap(period("metered", *new), known)


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ({"target": "a"}, {"target": "a"}, True),
        ({"target": "a"}, {"target": "b"}, False),
        ({"target": "a*c"}, {"target": "*bc"}, True),
        ({"target": "a*c"}, {"target": "*bd"}, False),
        ({"target": "a?"}, {"target": "a"}, False),
        ({"target": "[ab]"}, {"target": "b"}, True),
        ({"target": "[!ab]"}, {"target": "b"}, False),
        ({"target": "[]-]"}, {"target": "]"}, True),
        ({"target": "a["}, {"target": "a["}, True),
        ({"target": "**"}, {"target": "a/x"}, True),
        ({"target": "a/x-*"}, {"target": "a/*-y"}, True),
        ({"target": "a/x-*"}, {"target": "a/y-*"}, False),
        ({"target": "a", "bucket": "input"}, {"target": "a", "bucket": "output"}, False),
        ({"target": "a", "bucket": "input"}, {"target": "a"}, True),
        ({"target": "a", "effective_to": JULY}, {"target": "a", "effective_from": JULY}, False),
        ({"target": "a", "effective_to": AUGUST}, {"target": "a", "effective_from": JULY}, True),
    ],
)
def test_refuse_excess_only_mark_ups_that_can_meet(one: dict[str, Any], other: dict[str, Any], meet: bool) -> None:
    adjustments = [make_adjustment(multiplier="100", **one), make_adjustment(multiplier="10.1", **other)]

    for order in (adjustments, adjustments[::-1]):
        with pytest.raises(PriceError, match="more than 1000") if meet else nullcontext():
            refuse_excess(order)


def test_refuse_excess_what_meets_all_does_not_join_the_others() -> None:
    everywhere = [make_adjustment("*", "1.1"), make_adjustment("*/*", "0.001")]

    refuse_excess([*everywhere, make_adjustment("a", "100"), make_adjustment("b", "100"), make_adjustment("b", "9", bucket="input")])
    with pytest.raises(PriceError, match="more than 1000"):
        refuse_excess([*everywhere, make_adjustment("a", "100"), make_adjustment("b", "100"), make_adjustment("b", "9.1", bucket="input")])


GLOBS = st.text(st.sampled_from("ab*?"), min_size=1, max_size=4) | st.sampled_from(["[ab]", "[!a]b", "a[", "[]a]*"])


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(GLOBS, GLOBS, st.text(st.sampled_from("ab[]"), min_size=1, max_size=3))
def test_refuse_excess_patterns_that_match_one_name_meet(one: str, other: str, name: str) -> None:
    assume(fnmatchcase(name, one) and fnmatchcase(name, other))

    with pytest.raises(PriceError, match="more than 1000"):
        refuse_excess([make_adjustment(one, "100"), make_adjustment(other, "10.1")])


def test_billing_cells_statements_meet_where_they_hold() -> None:
    adjustments = [
        make_adjustment("acme", "0.9", effective_from=JUNE),
        make_adjustment("ac*/fast-?", "1.1", bucket="output", effective_to=AUGUST),
        make_adjustment("acme/slow", "5"),
        make_adjustment("other", "7"),
    ]

    cells = billing_cells("acme", "fast-1", adjustments, [period("free", JULY, AUGUST)])

    said = [
        (cell.valid_from.year, cell.valid_to.year, cell.is_metered, cell.factors["input_tokens"], cell.factors["output_tokens"])
        for cell in cells
    ]
    assert [cell.valid_from for cell in cells[1:]] == [JUNE, JULY, AUGUST]
    assert said == [
        (1970, 2026, True, Decimal(1), Decimal("1.1")),
        (2026, 2026, True, Decimal("0.9"), Decimal("0.99")),
        (2026, 2026, False, Decimal("0.9"), Decimal("0.99")),
        (2026, 9999, True, Decimal("0.9"), Decimal("0.9")),
    ]
    assert set(cells[0].factors) == set(BUCKET_OF_WORD.values())


def test_billing_cells_without_a_statement_there_are_none() -> None:
    assert billing_cells("acme", "fast", [make_adjustment("other", "2")], [period(provider="other")]) == []


@given(
    fee=st.decimals(min_value=0, max_value=1_000_000, places=2),
    month=st.dates(min_value=date(2000, 1, 1), max_value=date(2100, 12, 31)),
)
def test_fee_of_day_days_of_a_month_sum_to_the_fee(fee: Decimal, month: date) -> None:
    days = [month.replace(day=day) for day in range(1, calendar.monthrange(month.year, month.month)[1] + 1)]

    parts = [fee_of_day(fee, day) for day in days]

    assert sum(parts, Decimal(0)) == fee
    assert max(parts) - min(parts) <= Decimal("1e-12")
    assert min(parts) >= 0


def test_fees_of_days_begin_and_end_with_their_period() -> None:
    monthly = make_billing("acme", "subscription", monthly_fee="31", effective_from=JULY, effective_to=JULY + timedelta(days=10))
    metered = make_billing("beta", "metered", monthly_fee="20")
    days = [date(2026, 6, 25) + timedelta(days=number) for number in range(36)]
    midnight = {day: datetime(day.year, day.month, day.day, tzinfo=UTC) for day in days}

    fees = fees_of_days([monthly, metered, period(provider="none")], days[0], days[-1], midnight=midnight)

    july = Decimal(20) - fee_of_day(Decimal(20), date(2026, 7, 31))
    june = Decimal(20) - sum((fee_of_day(Decimal(20), date(2026, 6, day)) for day in range(1, 25)), Decimal(0))
    assert [(fee.provider, fee.fee_usd) for fee in fees] == [("acme", Decimal(10)), ("beta", june + july)]


def test_describe_period_says_its_ends() -> None:
    assert describe_period(None, None) == "for all time"
    assert describe_period(JUNE, JULY + timedelta(hours=2)) == "from 2026-06-01 to 2026-07-01 02:00 UTC"
