"""The sums over messages that every aggregate and report is made of, each said once."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from opencode_monitor.db.types import Money
from opencode_monitor.models import Message

if TYPE_CHECKING:
    from decimal import Decimal

    from sqlalchemy.orm import InstrumentedAttribute

_BILLED = Message.copied_from.is_(None)
_IS_UNRECORDED = sa.and_(_BILLED, Message.role == "assistant", sa.func.coalesce(Message.call_count, 0) == 0)


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
        """Which of `usage_columns` holds the number."""
        return {CostNumber.LIST: "cost_usd", CostNumber.REPORTED: "reported_cost_usd", CostNumber.PAID: "paid_cost_usd"}[self]

    @property
    def unknown_field(self) -> str:
        """Which of `usage_columns` counts the calls that have no such number."""
        return {CostNumber.LIST: "unpriced_calls", CostNumber.REPORTED: "unreported_calls", CostNumber.PAID: "paid_unknown_calls"}[self]


def usage_columns() -> dict[str, sa.ColumnElement[Any]]:
    """Return the sums over messages that every report and aggregate is made of, by name; copies made by a fork count apart."""

    def total(column: InstrumentedAttribute[int | None]) -> sa.ColumnElement[int]:
        return sa.cast(sa.func.coalesce(sa.func.sum(column).filter(_BILLED), 0), sa.BigInteger)

    def calls(*conditions: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
        return sa.cast(sa.func.coalesce(sa.func.sum(Message.call_count).filter(*conditions), 0), sa.BigInteger)

    def known(column: InstrumentedAttribute[Decimal | None], unknown: sa.ColumnElement[int]) -> sa.ColumnElement[Decimal | None]:
        """The sum of what is known: NULL where there are calls and it is known of none, 0 without calls."""
        is_all_unknown = sa.and_(unknown > 0, unknown == billed_calls)
        return sa.case((is_all_unknown, sa.null()), else_=sa.func.coalesce(sa.func.sum(column).filter(_BILLED), sa.cast(0, Money())))

    billed_calls = calls(_BILLED)
    unpriced_calls = calls(_BILLED, Message.message_cost_usd.is_(None))
    unreported_calls = calls(_BILLED, Message.reported_cost_usd.is_(None))
    paid_unknown_calls = calls(_BILLED, Message.paid_cost_usd.is_(None))
    return {
        "calls": billed_calls,
        "input_tokens": total(Message.input_tokens),
        "cache_read_tokens": total(Message.cache_read_tokens),
        "cache_write_tokens": total(Message.cache_write_tokens),
        "output_tokens": total(Message.output_tokens),
        "reasoning_tokens": total(Message.reasoning_tokens),
        "cost_usd": known(Message.message_cost_usd, unpriced_calls),
        "reported_cost_usd": known(Message.reported_cost_usd, unreported_calls),
        "paid_cost_usd": known(Message.paid_cost_usd, paid_unknown_calls),
        "unpriced_calls": unpriced_calls,
        "unreported_calls": unreported_calls,
        "paid_unknown_calls": paid_unknown_calls,
        "copied_calls": calls(Message.copied_from.is_not(None)),
        "unrecorded_calls": sa.func.count().filter(_IS_UNRECORDED),
    }
