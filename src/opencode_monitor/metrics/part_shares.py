"""The parts of calls with what each has of its call's tokens and of the three costs: what every question about parts is asked of.

A call's cost and tokens lie on the parts that it produced (`pricing/shares.py`). All rows together have what all messages together have, in
every bucket and in each of the costs, to the last digit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from opencode_monitor.db.dialect import integer_division
from opencode_monitor.db.types import Money
from opencode_monitor.metrics.measures import IS_BILLED, TOKEN_MEASURES, CostNumber, mark, message_cost
from opencode_monitor.models import FileOperation, Message, Part, StepEvent
from opencode_monitor.pricing.shares import SHARE_UNITS, cut_money, cut_tokens, reported_steps, weighed_parts

if TYPE_CHECKING:
    from decimal import Decimal


def part_shares(*conditions: sa.ColumnElement[bool]) -> sa.Subquery:
    """Return every part of the calls of some messages with its tokens, its costs, and whether each of these is known or not.

    Args:
        conditions: Which messages.

    Returns:
        part_id and part_type (NULL for a cost that OpenCode stored with a message that has no step to bear it), message_id, the five
        buckets, the three costs, and the columns that `measures.mark` names.
    """
    conditions = (IS_BILLED, sa.or_(Message.role == "assistant", Message.call_count > 0), *conditions)
    weighed = weighed_parts((*TOKEN_MEASURES, "paid_cost_usd"), *conditions, reported=reported_steps(*conditions))
    of_step = (weighed.c.message_id, weighed.c.step_number)
    nothing = sa.cast(0, Money())

    def share(bucket: str) -> sa.ColumnElement[int]:
        whole = sa.func.coalesce(weighed.c[bucket], 0)
        cut = cut_tokens(whole, weighed.c.units)
        given = sa.cast(sa.func.sum(cut).over(partition_by=of_step), sa.BigInteger)
        return sa.case((weighed.c.is_step, whole - given), else_=cut)

    def share_cost(number: CostNumber) -> sa.ColumnElement[Decimal | None]:
        whole = sa.func.coalesce(weighed.c[number.field], nothing)
        cut = cut_money(whole, weighed.c.units)
        given = sa.func.sum(cut).over(partition_by=of_step)
        # Where it is not known of one call of a message, it is not known of the message: its parts then say nothing either.
        return sa.case((message_cost(number).is_(None), sa.null()), (weighed.c.is_step, whole - given), else_=cut)

    costs = {
        CostNumber.LIST: Part.part_cost_usd,
        CostNumber.REPORTED: share_cost(CostNumber.REPORTED),
        CostNumber.PAID: share_cost(CostNumber.PAID),
    }
    of_parts = (
        sa.select(
            Part.part_id,
            Part.part_type,
            weighed.c.message_id,
            *(share(bucket).label(bucket) for bucket in TOKEN_MEASURES),
            *(sa.cast(cost, Money()).label(number.field) for number, cost in costs.items()),
            *(
                sa.and_(Message.call_count > 0, cost.is_not(None) if is_known else cost.is_(None)).label(mark(number, is_known=is_known))
                for number, cost in ((number, message_cost(number)) for number in CostNumber)
                for is_known in (True, False)
            ),
        )
        .select_from(weighed)
        .join(Part, Part.part_id == weighed.c.part_id)
        .join(Message, Message.message_id == weighed.c.message_id)
    )
    # A join and not NOT IN: PostgreSQL scans a list too long for its work_mem once for each row.
    finishes = sa.select(StepEvent.message_id).where(StepEvent.event == "finish", StepEvent.message_id.is_not(None))
    with_step = finishes.distinct().subquery("with_step")
    of_no_part = (
        sa.select(
            sa.cast(sa.null(), sa.Text()),
            sa.cast(sa.null(), sa.Text()),
            Message.message_id,
            *(sa.cast(0, sa.BigInteger) for _ in TOKEN_MEASURES),
            *(Message.reported_cost_usd if number is CostNumber.REPORTED else nothing for number in costs),
            *(sa.false() for _ in CostNumber for _ in (True, False)),
        )
        .select_from(Message)
        .join(with_step, with_step.c.message_id == Message.message_id, isouter=True)
        .where(*conditions, Message.reported_cost_usd != 0, with_step.c.message_id.is_(None))
    )
    return of_parts.union_all(of_no_part).subquery("shares")


def file_shares(shares: sa.Subquery) -> sa.Subquery:
    """Share each part's tokens and costs equally over the files that it touched; the rest stays with the first.

    Args:
        shares: What `part_shares` returned.

    Returns:
        A row for each file that a part touched, with file_path and operation, and one for a part that touched none; else as `shares`.
    """
    number = sa.func.row_number().over(partition_by=FileOperation.part_id, order_by=FileOperation.file_op_id)
    operations = sa.select(
        FileOperation.part_id,
        FileOperation.file_path,
        FileOperation.operation,
        number.label("number"),
        sa.func.count().over(partition_by=FileOperation.part_id).label("files"),
    ).subquery("operations")
    others = operations.c.files - 1
    is_first = sa.func.coalesce(operations.c.number, 1) == 1

    def share(whole: sa.ColumnElement[Any], cut: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        return sa.case((operations.c.part_id.is_(None), whole), (is_first, whole - others * cut), else_=cut)

    def share_cost(cost: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        cut = cut_money(cost, integer_division(sa.literal(SHARE_UNITS), operations.c.files))
        return sa.cast(sa.case((cost.is_(None), sa.null()), else_=share(cost, cut)), Money())

    return (
        sa.select(
            shares.c.part_id,
            shares.c.part_type,
            shares.c.message_id,
            operations.c.file_path,
            operations.c.operation,
            *(share(shares.c[bucket], integer_division(shares.c[bucket], operations.c.files)).label(bucket) for bucket in TOKEN_MEASURES),
            *(share_cost(shares.c[number.field]).label(number.field) for number in CostNumber),
            *(shares.c[mark(number, is_known=is_known)] for number in CostNumber for is_known in (True, False)),
        )
        .select_from(shares.outerjoin(operations, operations.c.part_id == shares.c.part_id))
        .subquery("shares_of_files")
    )
