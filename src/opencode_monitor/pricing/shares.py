"""How a step is shared over the parts that it produced: one weighing, for its cost and for its tokens.

The parts up to a step's finish are that step's; what follows the last finish belongs to the last step. A part weighs what the model
wrote for it, in characters. Shares are cut, never rounded up, so that they never exceed the whole; what is cut off stays with the step's
own part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from opencode_monitor.db.dialect import integer_division
from opencode_monitor.db.types import Money
from opencode_monitor.models import Message, Part, StepEvent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

SHARE_UNITS = 10**9
"""Into how many units a whole is cut."""


def placed_parts(
    amounts: Sequence[str], *conditions: sa.ColumnElement[bool], of_steps: sa.ColumnElement[bool] | None = None
) -> sa.Subquery:
    """Return parts with the step that each belongs to.

    Args:
        amounts: Columns of `StepEvent` to have on the step's own part; they are NULL on every other part.
        conditions: Which parts, and which messages; a message has to be looked at with all its parts.
        of_steps: The same of `StepEvent`, to spare reading them all.

    Returns:
        part_id, session_id, message_id, sequence_number, weight, step_id (of the step's own part alone), step_number (from 0 in each
        message, negative in a message without a step), and the amounts.
    """
    finish = sa.and_(StepEvent.part_id == Part.part_id, StepEvent.event == "finish", sa.true() if of_steps is None else of_steps)
    finishes_so_far = sa.func.count(StepEvent.step_id).over(partition_by=Part.message_id, order_by=Part.sequence_number, rows=(None, 0))
    finishes_before = finishes_so_far - sa.case((StepEvent.step_id.is_not(None), 1), else_=0)
    steps_in_message = sa.func.count(StepEvent.step_id).over(partition_by=Part.message_id)
    return (
        sa.select(
            Part.part_id,
            Part.session_id,
            Part.message_id,
            Part.sequence_number,
            sa.func.coalesce(Part.written_chars, 0).label("weight"),
            StepEvent.step_id,
            sa.func.least(finishes_before, steps_in_message - 1).label("step_number"),
            *(getattr(StepEvent, amount) for amount in amounts),
        )
        .join(Message, Message.message_id == Part.message_id)
        .join(StepEvent, finish, isouter=True)
        .where(*conditions)
        .subquery("placed")
    )


def weighed_parts(amounts: Sequence[str], *conditions: sa.ColumnElement[bool]) -> sa.Subquery:
    """Return parts with what their step has to share, and how many of `SHARE_UNITS` of it are theirs.

    Args:
        amounts: Columns of `StepEvent` to share.
        conditions: As for `placed_parts`.

    Returns:
        part_id, message_id, step_number, is_step, units (0 for the step's own part, which gets what the others leave), and the amounts
        of the whole step on each of its parts.
    """
    placed = placed_parts(amounts, *conditions)
    of_step = (placed.c.message_id, placed.c.step_number)
    whole = sa.func.sum(placed.c.weight).over(partition_by=of_step)
    is_step = placed.c.step_id.is_not(None)
    units = sa.func.coalesce(integer_division(placed.c.weight * SHARE_UNITS, whole), 0)
    return sa.select(
        placed.c.part_id,
        placed.c.message_id,
        placed.c.step_number,
        is_step.label("is_step"),
        sa.case((is_step, 0), else_=units).label("units"),
        *(sa.func.max(placed.c[amount]).over(partition_by=of_step).label(amount) for amount in amounts),
    ).subquery("weighed")


def cut_money(amount: sa.ColumnElement[Any], units: sa.ColumnElement[int]) -> sa.ColumnElement[Decimal]:
    """Return units of an amount of USD, cut to its twelve places; 0 of an unknown one."""
    # Casting rounds half away from zero; half a unit of the last place less makes that rounding down.
    half_unit: sa.ColumnElement[Decimal] = sa.literal_column("0.0000000000005")
    nothing = sa.cast(0, Money())
    return sa.case(
        (units == 0, nothing),
        else_=sa.func.greatest(sa.cast(amount * _fraction(units) - half_unit, Money()), nothing),
    )


def cut_tokens(tokens: sa.ColumnElement[Any], units: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    """Return units of a count of tokens, cut to whole tokens; 0 of an unknown one."""
    cut = sa.func.floor(sa.cast(sa.func.coalesce(tokens, 0), sa.Numeric(19, 0)) * _fraction(units))
    return sa.cast(cut, sa.BigInteger)


def _fraction(units: sa.ColumnElement[int]) -> sa.ColumnElement[Decimal]:
    return sa.cast(units, sa.Numeric(10, 0)) * sa.cast(sa.literal_column("0.000000001"), sa.Numeric(9, 9))
