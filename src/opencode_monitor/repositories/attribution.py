"""What the parts of the spend are: tokens and cost by tool, by type of part and by file.

A call's cost and tokens lie on the parts that it produced (`pricing/shares.py`), at the time of its message. So the rows of each view,
those without a tool or a file among them, sum to `CostRepository.total` of the same range, in every bucket and in each of the three costs,
to the last digit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from opencode_monitor.db.dialect import integer_division
from opencode_monitor.db.types import Money
from opencode_monitor.metrics.usage import CostNumber
from opencode_monitor.models import FileOperation, Message, Part, StepEvent, ToolCall
from opencode_monitor.pricing.cost import PRICE_OF_BUCKET
from opencode_monitor.pricing.shares import SHARE_UNITS, cut_money, cut_tokens, reported_steps, weighed_parts
from opencode_monitor.repositories.costs import TimeRange
from opencode_monitor.repositories.rows import Rows

if TYPE_CHECKING:
    from decimal import Decimal

    from sqlalchemy.orm import InstrumentedAttribute
    from sqlalchemy.orm import Session as DatabaseSession

UNKNOWN_PARTS = {
    CostNumber.LIST: "unpriced_parts",
    CostNumber.REPORTED: "unreported_parts",
    CostNumber.PAID: "paid_unknown_parts",
}
"""Which sum counts the parts that have no such cost."""

_BUCKETS = tuple(PRICE_OF_BUCKET)
_FAILED = ("error", "timeout")
# Where a message has the cost that its parts share.
_OF_MESSAGE: dict[CostNumber, InstrumentedAttribute[Decimal | None]] = {
    CostNumber.LIST: Message.message_cost_usd,
    CostNumber.REPORTED: Message.reported_cost_usd,
    CostNumber.PAID: Message.paid_cost_usd,
}
_TOOL_GROUPS: dict[str, Any] = {"name": ToolCall.tool_name, "server": ToolCall.mcp_server, "skill": ToolCall.skill_name}


@dataclass(frozen=True, slots=True, kw_only=True)
class PartUsage:
    """Tokens and cost of what some parts were made with; money in USD.

    Attributes:
        parts: How many parts of assistant messages; those that a fork copied are left out here and in every sum.
        input_tokens: Their share of the uncached prompt tokens of their calls.
        cache_read_tokens: Of the prompt tokens read from the provider's cache.
        cache_write_tokens: Of the prompt tokens written to it.
        output_tokens: Of the visible output.
        reasoning_tokens: Of the reasoning.
        cost_usd: At list price; None where none of the parts has a known cost, "at least" where some have none.
        reported_cost_usd: Of what OpenCode stored; None and "at least" as above.
        paid_cost_usd: Out of pocket, flat fees left out; None and "at least" as above.
        unpriced_parts: Parts of calls without a price.
        unreported_parts: Parts of calls for which OpenCode stored no cost.
        paid_unknown_parts: Parts of calls of which nobody can say what was paid.
    """

    parts: int
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_usd: Decimal | None
    reported_cost_usd: Decimal | None
    paid_cost_usd: Decimal | None
    unpriced_parts: int
    unreported_parts: int
    paid_unknown_parts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PartTypeUsage(PartUsage):
    """Usage of one type of part; `part_type` is None for a cost that OpenCode stored with a message that has no step to bear it."""

    part_type: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUsage(PartUsage):
    """Usage of one tool, MCP server or skill; `tool` is its name, None for all that is none's.

    Attributes:
        calls: Calls of the tool; it was called once for each of its parts.
        errors: Of these, the ones that failed or ran out of time.
        failed_cost_usd: What writing those cost, at list price; "at least" where some have no price.
        failed_reported_cost_usd: The same of what OpenCode stored.
        failed_paid_cost_usd: The same out of pocket.
        failed_unpriced_parts: Failed ones without a price.
        failed_unreported_parts: Failed ones of calls for which OpenCode stored no cost.
        failed_paid_unknown_parts: Failed ones of which nobody can say what was paid.
    """

    tool: str | None
    calls: int
    errors: int
    failed_cost_usd: Decimal | None
    failed_reported_cost_usd: Decimal | None
    failed_paid_cost_usd: Decimal | None
    failed_unpriced_parts: int
    failed_unreported_parts: int
    failed_paid_unknown_parts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FileUsage(PartUsage):
    """Usage of one file; `file` is None for all that touched none.

    A part that touched several files counts with each, and its tokens and cost are shared equally among them.

    Attributes:
        reads: How often a tool read it.
        changes: How often a tool wrote, edited or deleted it.
    """

    file: str | None
    reads: int
    changes: int


class AttributionRepository:
    """Sums over parts. A part belongs to the time of its message."""

    def __init__(self, session: DatabaseSession) -> None:
        self.session = session

    def by_part_type(
        self,
        time_range: TimeRange = TimeRange(),
        *,
        sort: str = "cost",
        limit: int | None = None,
        cost_number: CostNumber = CostNumber.LIST,
    ) -> Rows[PartTypeUsage]:
        """Return one row per type of part.

        Args:
            time_range: What to look at.
            sort: `cost`, `tokens` or `parts` (most first, unknown costs last).
            limit: At most so many rows.
            cost_number: Which of the three numbers `cost` means.
        """
        shares = _shares(time_range)
        statement = _sums(shares, {"part_type": shares.c.part_type}, sort, limit, cost_number)
        return Rows(PartTypeUsage, (PartTypeUsage(**row) for row in self._mappings(statement)))

    def by_tool(
        self,
        time_range: TimeRange = TimeRange(),
        *,
        by: str = "name",
        sort: str = "cost",
        limit: int | None = None,
        cost_number: CostNumber = CostNumber.LIST,
    ) -> Rows[ToolUsage]:
        """Return one row per tool, and one for what is no call of a tool.

        Args:
            time_range: What to look at.
            by: `name`; or `server` or `skill`, for a row per MCP server or per skill, and one for all the rest.
            sort: `cost`, `tokens`, `calls` or `errors` (most first, unknown costs last).
            limit: At most so many rows.
            cost_number: Which of the three numbers `cost` means.
        """
        shares = _shares(time_range)
        is_failed = ToolCall.status.in_(_FAILED)
        extra: dict[str, sa.ColumnElement[Any]] = {
            "calls": sa.func.count(ToolCall.tool_call_id),
            "errors": sa.func.count().filter(is_failed),
            **{f"failed_{number.field}": _known_cost(shares, number, is_failed) for number in CostNumber},
            **{
                f"failed_{UNKNOWN_PARTS[number]}": sa.func.count().filter(shares.c[_mark(number, False)], is_failed)
                for number in CostNumber
            },
        }
        source = shares.outerjoin(ToolCall, ToolCall.part_id == shares.c.part_id)
        statement = _sums(shares, {"tool": _TOOL_GROUPS[by]}, sort, limit, cost_number, extra).select_from(source)
        return Rows(ToolUsage, (ToolUsage(**row) for row in self._mappings(statement)))

    def by_file(
        self,
        time_range: TimeRange = TimeRange(),
        *,
        sort: str = "cost",
        limit: int | None = None,
        cost_number: CostNumber = CostNumber.LIST,
    ) -> Rows[FileUsage]:
        """Return one row per file, and one for what touched none.

        Args:
            time_range: What to look at.
            sort: `cost`, `tokens`, `reads` or `changes` (most first, unknown costs last).
            limit: At most so many rows.
            cost_number: Which of the three numbers `cost` means.
        """
        shares = _shares_of_files(_shares(time_range))
        extra: dict[str, sa.ColumnElement[Any]] = {
            "reads": sa.func.count().filter(shares.c.operation == "read"),
            "changes": sa.func.count().filter(shares.c.operation != "read"),
        }
        statement = _sums(shares, {"file": shares.c.file_path}, sort, limit, cost_number, extra)
        return Rows(FileUsage, (FileUsage(**row) for row in self._mappings(statement)))

    def _mappings(self, statement: sa.Select[Any]) -> list[dict[str, Any]]:
        return [dict(row) for row in self.session.execute(statement).mappings()]


def _shares(time_range: TimeRange) -> sa.Subquery:
    """Return every part of the calls of a range with its tokens, its costs, and whether each of these is known or not."""
    conditions = [Message.copied_from.is_(None), sa.or_(Message.role == "assistant", Message.call_count > 0)]
    if time_range.start is not None:
        conditions.append(Message.created_at >= time_range.start)
    if time_range.end is not None:
        conditions.append(Message.created_at < time_range.end)
    weighed = weighed_parts((*_BUCKETS, "paid_cost_usd"), *conditions, reported=reported_steps(*conditions))
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
        return sa.case((_OF_MESSAGE[number].is_(None), sa.null()), (weighed.c.is_step, whole - given), else_=cut)

    costs = {
        CostNumber.LIST: Part.part_cost_usd,
        CostNumber.REPORTED: share_cost(CostNumber.REPORTED),
        CostNumber.PAID: share_cost(CostNumber.PAID),
    }
    of_parts = (
        sa.select(
            Part.part_id,
            Part.part_type,
            *(share(bucket).label(bucket) for bucket in _BUCKETS),
            *(sa.cast(cost, Money()).label(number.field) for number, cost in costs.items()),
            *(
                sa.and_(Message.call_count > 0, column.is_not(None) if is_known else column.is_(None)).label(_mark(number, is_known))
                for number, column in _OF_MESSAGE.items()
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
            *(sa.cast(0, sa.BigInteger) for _ in _BUCKETS),
            *(Message.reported_cost_usd if number is CostNumber.REPORTED else nothing for number in costs),
            *(sa.false() for _ in CostNumber for _ in (True, False)),
        )
        .select_from(Message)
        .join(with_step, with_step.c.message_id == Message.message_id, isouter=True)
        .where(*conditions, Message.reported_cost_usd != 0, with_step.c.message_id.is_(None))
    )
    return of_parts.union_all(of_no_part).subquery("shares")


def _mark(number: CostNumber, is_known: bool) -> str:
    """Name the column that says whether a cost of a part's call is known, or unknown; a part of no call is neither."""
    return f"is_{number}_{'known' if is_known else 'unknown'}"


def _shares_of_files(shares: sa.Subquery) -> sa.Subquery:
    """Share each part's tokens and costs equally over the files that it touched; the rest stays with the first."""
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
            operations.c.file_path,
            operations.c.operation,
            *(share(shares.c[bucket], integer_division(shares.c[bucket], operations.c.files)).label(bucket) for bucket in _BUCKETS),
            *(share_cost(shares.c[number.field]).label(number.field) for number in CostNumber),
            *(shares.c[_mark(number, is_known)] for number in CostNumber for is_known in (True, False)),
        )
        .select_from(shares.outerjoin(operations, operations.c.part_id == shares.c.part_id))
        .subquery("shares_of_files")
    )


def _known_cost(shares: sa.Subquery, number: CostNumber, *conditions: sa.ColumnElement[bool]) -> sa.ColumnElement[Decimal | None]:
    """Return the sum of what is known of a cost of parts: NULL where some have none and no other has one."""
    unknown, known = (sa.func.count().filter(shares.c[_mark(number, is_known)], *conditions) for is_known in (False, True))
    total = sa.func.sum(shares.c[number.field])
    filtered = total.filter(*conditions) if conditions else total
    return sa.case((sa.and_(unknown > 0, known == 0), sa.null()), else_=sa.func.coalesce(filtered, sa.cast(0, Money())))


def _sums(
    shares: sa.Subquery,
    key: dict[str, Any],
    sort: str,
    limit: int | None,
    cost_number: CostNumber,
    extra: dict[str, sa.ColumnElement[Any]] | None = None,
) -> sa.Select[Any]:
    sums: dict[str, sa.ColumnElement[Any]] = {
        "parts": sa.func.count(shares.c.part_id.distinct()),
        **{bucket: sa.cast(sa.func.sum(shares.c[bucket]), sa.BigInteger) for bucket in _BUCKETS},
        **{number.field: _known_cost(shares, number) for number in CostNumber},
        **{UNKNOWN_PARTS[number]: sa.func.count().filter(shares.c[_mark(number, False)]) for number in CostNumber},
        **(extra or {}),
    }
    orders = {**sums, "cost": sums[cost_number.field], "tokens": sum((sums[bucket] for bucket in _BUCKETS), sa.literal(0))}
    (column,) = key.values()
    return (
        sa.select(*(value.label(name) for name, value in (key | sums).items()))
        .group_by(column)
        .order_by(orders[sort].desc().nulls_last(), column.asc().nulls_last())
        .limit(limit)
    )
