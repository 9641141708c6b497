"""The measures: what can be summed up over calls, or over the parts that they produced. Each is declared once, here.

Reports, rows of JSON, exports and gauges take name, title and unit of a measure from its declaration, and its value from its expression.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from opencode_monitor.db.distinct import distinct_count
from opencode_monitor.db.types import Money
from opencode_monitor.models import Message

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

    from sqlalchemy.orm import InstrumentedAttribute

IS_BILLED = Message.copied_from.is_(None)
"""Copies made by a fork were billed with their originals."""

_IS_UNRECORDED = sa.and_(IS_BILLED, Message.role == "assistant", sa.func.coalesce(Message.call_count, 0) == 0)


class CostNumber(StrEnum):
    """The three numbers that a call can be said to cost.

    Attributes:
        LIST: Ours: tokens times the list price of the call's own time.
        REPORTED: What OpenCode stored, untouched.
        PAID: Out of pocket: the list price under the user's own statements, flat fees left out.
    """

    LIST = "list"
    REPORTED = "reported"
    PAID = "paid"

    @property
    def field(self) -> str:
        """Which measure is the number."""
        return {CostNumber.LIST: "cost_usd", CostNumber.REPORTED: "reported_cost_usd", CostNumber.PAID: "paid_cost_usd"}[self]

    @property
    def unknown_field(self) -> str:
        """Which measure counts the calls that have no such number."""
        return {CostNumber.LIST: "unpriced_calls", CostNumber.REPORTED: "unreported_calls", CostNumber.PAID: "paid_unknown_calls"}[self]

    @property
    def unknown_parts_field(self) -> str:
        """Which measure counts the parts of calls that have no such number."""
        return self.unknown_field.removesuffix("calls") + "parts"


class Unit(StrEnum):
    """What a measure counts in; money is in US dollars."""

    COUNT = "count"
    TOKENS = "tokens"
    USD = "USD"


class Additivity(StrEnum):
    """How the values of the groups of a dimension make up the whole.

    Attributes:
        SUM: They sum to it.
        KNOWN: Those that are known sum to it; it is unknown where there are calls and all of them are.
        DISTINCT: They do not: several groups may count the same thing, such as a session with two models.
    """

    SUM = "sum"
    KNOWN = "known"
    DISTINCT = "distinct"


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure.

    Attributes:
        name: Its name in rows, JSON and exports.
        title: Its heading in a table.
        unit: What it counts in.
        additivity: How groups make up the whole.
        text: What it is, in a sentence.
        of_calls: Makes its expression over messages.
        of_parts: Makes its expression over parts with their shares, see `metrics/part_shares.py`; None where parts have no such measure.
    """

    name: str
    title: str
    unit: Unit
    additivity: Additivity
    text: str
    of_calls: Callable[[], sa.ColumnElement[Any]] | None = None
    of_parts: Callable[[sa.FromClause], sa.ColumnElement[Any]] | None = None


def _calls(*conditions: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.cast(sa.func.coalesce(sa.func.sum(Message.call_count).filter(*conditions), 0), sa.BigInteger)


_COST_OF_MESSAGE: dict[CostNumber, InstrumentedAttribute[Decimal | None]] = {
    CostNumber.LIST: Message.message_cost_usd,
    CostNumber.REPORTED: Message.reported_cost_usd,
    CostNumber.PAID: Message.paid_cost_usd,
}
_TOKENS = {
    "input_tokens": ("Input", Message.input_tokens, "Uncached prompt tokens."),
    "cache_read_tokens": ("Cache rd", Message.cache_read_tokens, "Prompt tokens read from the provider's cache."),
    "cache_write_tokens": ("Cache wr", Message.cache_write_tokens, "Prompt tokens written to the provider's cache."),
    "output_tokens": ("Output", Message.output_tokens, "Visible output."),
    "reasoning_tokens": ("Reason", Message.reasoning_tokens, "Reasoning, beside the output."),
}
_COSTS = {
    CostNumber.LIST: (
        "Cost at list price; NULL where there are calls and none has a price, at least so much where some have none.",
        "Calls without a price.",
    ),
    CostNumber.REPORTED: (
        "Cost as OpenCode stored it; NULL where there are calls and it stored a cost for none of them.",
        "Calls for which OpenCode stored no cost.",
    ),
    CostNumber.PAID: (
        "Cost out of pocket by the user's statements, flat fees left out; NULL where there are calls and it is known for none.",
        "Calls of which nobody can say what was paid: metered ones without a price.",
    ),
}


def message_cost(number: CostNumber) -> InstrumentedAttribute[Decimal | None]:
    """Return where a message has one of the three numbers."""
    return _COST_OF_MESSAGE[number]


def mark(number: CostNumber, *, is_known: bool) -> str:
    """Name the column of a part's shares that tells whether a cost of its call is known, or unknown; a part of no call is neither."""
    return f"is_{number}_{'known' if is_known else 'unknown'}"


def known_cost(shares: sa.FromClause, number: CostNumber, *conditions: sa.ColumnElement[bool]) -> sa.ColumnElement[Decimal | None]:
    """Return the sum of what is known of a cost of parts: NULL where there are parts and of none of them it is known.

    Args:
        shares: Parts with their shares, see `metrics/part_shares.py`.
        number: Which of the three numbers.
        conditions: Which of them.
    """
    unknown, known = (sa.func.count().filter(shares.c[mark(number, is_known=is_known)], *conditions) for is_known in (False, True))
    total = sa.func.sum(shares.c[number.field])
    filtered = total.filter(*conditions) if conditions else total
    usd = sa.func.coalesce(filtered, sa.cast(0, Money()))
    # What calls without usage produced cost something, and nobody knows what; a cost of no part is known all the same.
    is_of_no_call = sa.and_(sa.func.count(shares.c.part_id).filter(*(conditions or [sa.true()])) > 0, usd == 0)
    return sa.case((sa.and_(known == 0, sa.or_(unknown > 0, is_of_no_call)), sa.null()), else_=usd)


def _token_measure(name: str) -> Measure:
    title, column, text = _TOKENS[name]
    return Measure(
        name,
        title,
        Unit.TOKENS,
        Additivity.SUM,
        text,
        lambda: sa.cast(sa.func.coalesce(sa.func.sum(column).filter(IS_BILLED), 0), sa.BigInteger),
        lambda shares: sa.cast(sa.func.coalesce(sa.func.sum(shares.c[name]), 0), sa.BigInteger),
    )


def _cost_measure(number: CostNumber) -> Measure:
    column = _COST_OF_MESSAGE[number]

    def of_calls() -> sa.ColumnElement[Decimal | None]:
        unknown, billed = _calls(IS_BILLED, column.is_(None)), _calls(IS_BILLED)
        is_all_unknown = sa.and_(unknown > 0, unknown == billed)
        return sa.case((is_all_unknown, sa.null()), else_=sa.func.coalesce(sa.func.sum(column).filter(IS_BILLED), sa.cast(0, Money())))

    return Measure(number.field, "Cost", Unit.USD, Additivity.KNOWN, _COSTS[number][0], of_calls, lambda shares: known_cost(shares, number))


def _unknown_calls(number: CostNumber) -> Measure:
    column = _COST_OF_MESSAGE[number]
    return Measure(
        number.unknown_field,
        "Unknown",
        Unit.COUNT,
        Additivity.SUM,
        _COSTS[number][1],
        lambda: _calls(IS_BILLED, column.is_(None)),
    )


def _unknown_parts(number: CostNumber) -> Measure:
    return Measure(
        number.unknown_parts_field,
        "Unknown",
        Unit.COUNT,
        Additivity.SUM,
        f"Parts of such calls: {_COSTS[number][1]}",
        None,
        lambda shares: sa.func.count().filter(shares.c[mark(number, is_known=False)]),
    )


def _count(
    name: str,
    title: str,
    text: str,
    of_calls: Callable[[], sa.ColumnElement[int]] | None,
    of_parts: Callable[[sa.FromClause], sa.ColumnElement[int]] | None = None,
    *,
    additivity: Additivity = Additivity.SUM,
) -> Measure:
    return Measure(name, title, Unit.COUNT, additivity, text, of_calls, of_parts)


MEASURES = {
    measure.name: measure
    for measure in (
        _count(
            "sessions",
            "Sessions",
            "Sessions with a call of their own.",
            lambda: distinct_count(Message.session_id, sa.and_(Message.role == "assistant", IS_BILLED)),
            additivity=Additivity.DISTINCT,
        ),
        _count("calls", "Calls", "Model calls with recorded usage.", lambda: _calls(IS_BILLED)),
        _count(
            "parts",
            "Parts",
            "Parts of assistant messages.",
            None,
            lambda shares: sa.func.count(shares.c.part_id.distinct()),
            additivity=Additivity.DISTINCT,  # one part may touch several files
        ),
        *map(_token_measure, _TOKENS),
        *map(_cost_measure, CostNumber),
        *map(_unknown_calls, CostNumber),
        *map(_unknown_parts, CostNumber),
        _count("copied_calls", "Copied", "Calls that a fork copied; in no other sum.", lambda: _calls(Message.copied_from.is_not(None))),
        _count(
            "unrecorded_calls",
            "Unrecorded",
            "Calls stored without usage: failed, cut off, or still running.",
            lambda: sa.func.count().filter(_IS_UNRECORDED),
        ),
    )
}
"""All measures by their name, in the order in which rows have them."""

TOKEN_MEASURES = tuple(_TOKENS)
"""The names of the five disjoint buckets."""


def call_measures() -> dict[str, sa.ColumnElement[Any]]:
    """Return the expressions of the measures of calls, over messages, by name."""
    return {name: measure.of_calls() for name, measure in MEASURES.items() if measure.of_calls is not None}


def part_measures(shares: sa.FromClause) -> dict[str, sa.ColumnElement[Any]]:
    """Return the expressions of the measures of parts, over their shares, by name."""
    return {name: measure.of_parts(shares) for name, measure in MEASURES.items() if measure.of_parts is not None}


def total_tokens(columns: dict[str, sa.ColumnElement[Any]]) -> sa.ColumnElement[int]:
    """Return the sum of the five buckets of some measures."""
    return sum((columns[name] for name in TOKEN_MEASURES), sa.literal(0))
