"""How a step is shared over the parts that it produced: one weighing, for each of its costs and for its tokens.

The parts up to a step's finish are that step's; what follows the last finish belongs to the last step. A part weighs what the model
wrote for it, in characters. Shares are cut, never rounded up, so that they never exceed the whole; what is cut off stays with the step's
own part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from opencode_monitor.db.dialect import integer_division, wide_division
from opencode_monitor.db.types import Money
from opencode_monitor.models import Message, Part, StepEvent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

SHARE_UNITS = 10**9
"""Into how many units a whole is cut."""

# OpenCode adds costs up as floating-point numbers: a message and its steps that differ by less than this, in USD, say the same.
_SAME: sa.ColumnElement[Decimal] = sa.literal_column("0.000000001")
_BUCKETS = (
    StepEvent.input_tokens,
    StepEvent.cache_read_tokens,
    StepEvent.cache_write_tokens,
    StepEvent.output_tokens,
    StepEvent.reasoning_tokens,
)


def placed_parts(
    amounts: Sequence[str | sa.Label[Any]],
    *conditions: sa.ColumnElement[bool],
    of_steps: sa.ColumnElement[bool] | None = None,
    reported: sa.Subquery | None = None,
    key: sa.ColumnElement[Any] | None = None,
) -> sa.Subquery:
    """Return parts with the step that each belongs to.

    Args:
        amounts: Columns of `StepEvent`, or what follows from it and its message, to have on the step's own part; they are NULL on every
            other part.
        conditions: Which parts, and which messages; a message has to be looked at with all its parts.
        of_steps: The same of `StepEvent`, to spare reading them all.
        reported: What `reported_steps` made; its amount stands for the step's own `reported_cost_usd`.
        key: What else tells the part, such as the number of its row; to be had as part_key.

    Returns:
        part_id, session_id, message_id, sequence_number, weight, step_id (of the step's own part alone), step_number (from 0 in each
        message, negative in a message without a step), and the amounts.
    """
    finish = sa.and_(StepEvent.part_id == Part.part_id, StepEvent.event == "finish", sa.true() if of_steps is None else of_steps)
    finishes_so_far = sa.func.count(StepEvent.step_id).over(partition_by=Part.message_id, order_by=Part.sequence_number, rows=(None, 0))
    finishes_before = finishes_so_far - sa.case((StepEvent.step_id.is_not(None), 1), else_=0)
    steps_in_message = sa.func.count(StepEvent.step_id).over(partition_by=Part.message_id)
    columns = [getattr(StepEvent, amount) if isinstance(amount, str) else amount for amount in amounts]
    if key is not None:
        columns.append(key.label("part_key"))
    if reported is not None:
        columns.append(reported.c.reported_cost_usd)
    placed = (
        sa.select(
            Part.part_id,
            Part.session_id,
            Part.message_id,
            Part.sequence_number,
            sa.func.coalesce(Part.written_chars, 0).label("weight"),
            StepEvent.step_id,
            sa.func.least(finishes_before, steps_in_message - 1).label("step_number"),
            *columns,
        )
        .join(Message, Message.message_id == Part.message_id)
        .join(StepEvent, finish, isouter=True)
    )
    if reported is not None:
        placed = placed.join(reported, reported.c.step_id == StepEvent.step_id, isouter=True)
    return placed.where(*conditions).subquery("placed")


def weighed_parts(
    amounts: Sequence[str | sa.Label[Any]],
    *conditions: sa.ColumnElement[bool],
    of_steps: sa.ColumnElement[bool] | None = None,
    reported: sa.Subquery | None = None,
    key: sa.ColumnElement[Any] | None = None,
) -> sa.Subquery:
    """Return parts with what their step has to share, and how many of `SHARE_UNITS` of it are theirs.

    Args:
        amounts: As for `placed_parts`; what is to be shared.
        conditions: As for `placed_parts`.
        of_steps: As for `placed_parts`.
        reported: As for `placed_parts`; `reported_cost_usd` is then one of the amounts.
        key: As for `placed_parts`.

    Returns:
        part_id, message_id, step_number, is_step, units (0 for the step's own part, which gets what the others leave), and the amounts
        of the whole step on each of its parts.
    """
    placed = placed_parts(amounts, *conditions, of_steps=of_steps, reported=reported, key=key)
    names = [amount if isinstance(amount, str) else amount.name for amount in amounts]
    if reported is not None:
        names.append("reported_cost_usd")
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
        *(() if key is None else (placed.c.part_key,)),
        *(sa.func.max(placed.c[name]).over(partition_by=of_step).label(name) for name in names),
    ).subquery("weighed")


def reported_steps(*conditions: sa.ColumnElement[bool]) -> sa.Subquery:
    """Return what OpenCode's cost of a message comes to for each of its steps; they sum to it, to the last digit.

    Where OpenCode stored a cost with every call and these sum to the message's, a step has its own. Elsewhere (it stored none with them, or
    one that the message contradicts) the message's is shared by the list cost of its steps; by their tokens where that is not known, or
    0. What is left, such as OpenCode's own rounding, is the largest step's, the last of equal ones.

    Args:
        conditions: Which messages.

    Returns:
        step_id and reported_cost_usd, of the steps of messages with a reported cost.
    """
    of_message = StepEvent.message_id
    is_call = StepEvent.input_tokens.is_not(None)
    given = sa.func.coalesce(StepEvent.reported_cost_usd, sa.cast(0, Money()))
    # In the last place of money, as whole numbers.
    listed = sa.cast(sa.func.coalesce(StepEvent.step_cost_usd, 0) * sa.literal_column("1000000000000"), sa.Numeric(38, 0))
    tokens = sum((sa.func.coalesce(bucket, 0) for bucket in _BUCKETS), sa.literal(0))
    weight = sa.case((Message.message_cost_usd > 0, listed), else_=sa.cast(tokens, sa.Numeric(38, 0)))
    of_steps = (
        sa.select(
            StepEvent.step_id,
            StepEvent.message_id,
            Message.reported_cost_usd.label("whole"),
            given.label("given"),
            sa.func.sum(given).over(partition_by=of_message).label("all_given"),
            sa.func.max(given).over(partition_by=of_message).label("most_given"),
            sa.func.count().filter(is_call, StepEvent.reported_cost_usd.is_(None)).over(partition_by=of_message).label("calls_without"),
            weight.label("weight"),
            sa.func.sum(weight).over(partition_by=of_message).label("all_weight"),
        )
        .join(Message, Message.message_id == StepEvent.message_id)
        .where(StepEvent.event == "finish", Message.reported_cost_usd.is_not(None), *conditions)
        .subquery("of_steps")
    )
    left = of_steps.c.whole - of_steps.c.all_given
    is_own = sa.and_(of_steps.c.calls_without == 0, sa.func.abs(left) < _SAME, of_steps.c.most_given + left >= 0)
    units = sa.func.coalesce(wide_division(of_steps.c.weight * SHARE_UNITS, of_steps.c.all_weight), 0)
    cut = (
        sa.select(
            of_steps.c.step_id,
            of_steps.c.message_id,
            of_steps.c.whole,
            sa.case((is_own, of_steps.c.given), else_=cut_money(of_steps.c.whole, units)).label("amount"),
        )
    ).subquery("cut")
    place = sa.func.row_number().over(partition_by=cut.c.message_id, order_by=(cut.c.amount.desc(), cut.c.step_id.desc()))
    rest = cut.c.whole - sa.func.sum(cut.c.amount).over(partition_by=cut.c.message_id)
    return sa.select(
        cut.c.step_id, sa.cast(cut.c.amount + sa.case((place == 1, rest), else_=0), Money()).label("reported_cost_usd")
    ).subquery("reported_steps")


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
