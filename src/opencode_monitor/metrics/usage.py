"""The sums over messages that every aggregate and report is made of, each said once."""

from __future__ import annotations

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


def known_cost() -> sa.ColumnElement[Decimal | None]:
    """Return the sum of what is known of the cost of messages in USD: NULL where there are calls and none has a price, 0 without calls."""
    return sa.case(
        (
            sa.and_(
                sa.func.count().filter(_IS_CALL, Message.cost_basis == CostBasis.UNPRICED.value) > 0,
                sa.func.count().filter(_IS_CALL, Message.cost_basis == CostBasis.CALCULATED.value) == 0,
            ),
            sa.null(),
        ),
        else_=sa.func.coalesce(sa.func.sum(Message.message_cost_usd).filter(_BILLED), sa.cast(0, Money())),
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
        "cost_usd": known_cost(),
        "reported_cost_usd": sa.func.coalesce(sa.func.sum(Message.reported_cost_usd).filter(_BILLED), sa.cast(0, Money())),
        "unpriced_calls": calls(_BILLED, Message.cost_basis == CostBasis.UNPRICED.value),
        "copied_calls": calls(Message.copied_from.is_not(None)),
        "unrecorded_calls": sa.func.count().filter(_IS_UNRECORDED),
    }
