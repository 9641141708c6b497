"""The sums over messages that every aggregate and report is made of, each said once."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from opencode_monitor.db.types import Money
from opencode_monitor.models import CostBasis, Message

if TYPE_CHECKING:
    from decimal import Decimal

    from sqlalchemy.orm import InstrumentedAttribute

_BILLED = Message.copied_from.is_(None)
_IS_CALL = sa.and_(_BILLED, Message.call_count > 0)
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


def known_sum(cost: InstrumentedAttribute[Decimal | None]) -> sa.ColumnElement[Decimal | None]:
    """Return the sum of what is known of a cost of messages in USD: NULL where there are calls and none has it, 0 without calls."""
    return sa.case(
        (
            sa.and_(
                sa.func.count().filter(_IS_CALL, cost.is_(None)) > 0,
                sa.func.count().filter(_IS_CALL, cost.is_not(None)) == 0,
            ),
            sa.null(),
        ),
        else_=sa.func.coalesce(sa.func.sum(cost).filter(_BILLED), sa.cast(0, Money())),
    )


def usage_columns() -> dict[str, sa.ColumnElement[Any]]:
    """Return the sums over messages that every report and aggregate is made of, by name; copies made by a fork count apart."""

    def total(column: InstrumentedAttribute[int | None]) -> sa.ColumnElement[int]:
        return sa.cast(sa.func.coalesce(sa.func.sum(column).filter(_BILLED), 0), sa.BigInteger)

    def calls(*conditions: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
        return sa.cast(sa.func.coalesce(sa.func.sum(Message.call_count).filter(*conditions), 0), sa.BigInteger)

    return {
        "calls": calls(_BILLED),
        "input_tokens": total(Message.input_tokens),
        "cache_read_tokens": total(Message.cache_read_tokens),
        "cache_write_tokens": total(Message.cache_write_tokens),
        "output_tokens": total(Message.output_tokens),
        "reasoning_tokens": total(Message.reasoning_tokens),
        "cost_usd": known_sum(Message.message_cost_usd),
        "reported_cost_usd": known_sum(Message.reported_cost_usd),
        "paid_cost_usd": known_sum(Message.paid_cost_usd),
        "unpriced_calls": calls(_BILLED, Message.cost_basis == CostBasis.UNPRICED.value),
        "unreported_calls": calls(_BILLED, Message.reported_cost_usd.is_(None)),
        "paid_unknown_calls": calls(_BILLED, Message.paid_cost_usd.is_(None)),
        "copied_calls": calls(Message.copied_from.is_not(None)),
        "unrecorded_calls": sa.func.count().filter(_IS_UNRECORDED),
    }
