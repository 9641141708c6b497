"""What the parts of the spend are: tokens and cost by tool, by type of part, by file, and by every other dimension.

The rows of each view, those without a tool or a file among them, sum to `CostRepository.total` of the same range, in every bucket and in
each of the three costs, to the last digit; see `metrics/part_shares.py`. A part belongs to the time of its message.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from opencode_monitor.metrics.dimensions import (
    CALL_DIMENSIONS,
    DIMENSIONS,
    OF_MESSAGES,
    PART_DIMENSIONS,
    UTC_CALENDAR,
    Calendar,
    joined,
    joined_parts,
)
from opencode_monitor.metrics.filters import EVERYTHING
from opencode_monitor.metrics.measures import CostNumber, known_cost, mark, part_measures, total_tokens
from opencode_monitor.metrics.part_shares import file_shares, part_shares
from opencode_monitor.metrics.time_range import ALL_TIME, TimeRange
from opencode_monitor.models import Message, ToolCall
from opencode_monitor.models.parts import FAILED
from opencode_monitor.repositories.row_types import PartUsage, row_type
from opencode_monitor.repositories.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sqlalchemy.orm import Session as DatabaseSession

    from opencode_monitor.metrics.filters import Filters


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


def sum_tools(rows: Iterable[ToolUsage]) -> dict[str, Any]:
    """Return what rows of tools count beside their parts, added up: calls of tools, errors, and what the failed ones cost.

    A cost is the sum of what is known of it: None only where calls failed and it is known for none of them.

    Args:
        rows: The rows; they have no call in common.
    """
    added = list(rows)
    counts = ("calls", "errors", *(f"failed_{number.unknown_parts_field}" for number in CostNumber))
    sums: dict[str, Any] = {name: sum(getattr(row, name) for row in added) for name in counts}
    for name in (f"failed_{number.field}" for number in CostNumber):
        # A tool that never failed has a cost of 0 there, which tells nothing of those that did.
        found = [getattr(row, name) for row in added if row.errors]
        known = [usd for usd in found if usd is not None]
        sums[name] = None if found and not known else sum(known, Decimal(0))
    return sums


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


Row = TypeVar("Row", bound=PartUsage)


class AttributionRepository:
    """Sums over parts."""

    def __init__(self, session: DatabaseSession) -> None:
        self.session = session

    def total(self, time_range: TimeRange = ALL_TIME, *, filters: Filters = EVERYTHING) -> PartUsage:
        """Return the sum over all parts in a range.

        Args:
            time_range: What to look at.
            filters: Whose calls count, and which of their tools.
        """
        return self._by(PartUsage, (), time_range, filters)[0]

    def by(
        self,
        *dimensions: str,
        time_range: TimeRange = ALL_TIME,
        filters: Filters = EVERYTHING,
        calendar: Calendar = UTC_CALENDAR,
        sort: str | None = None,
        limit: int | None = None,
        cost_number: CostNumber = CostNumber.LIST,
    ) -> Rows[PartUsage]:
        """Return one row for each group of parts that some dimensions tell apart.

        Args:
            dimensions: Names out of `DIMENSIONS`: those of parts (tool, server, skill, file, part-type, error) and those of calls.
            time_range: What to look at.
            filters: Whose calls count, and which of their tools.
            calendar: Which days and weeks count.
            sort: `cost`, `tokens` or `parts` (most first, unknown costs last); else by the dimensions, in their order.
            limit: At most so many rows.
            cost_number: Which of the three numbers `cost` means.

        Returns:
            Rows with a field for each dimension, named by its `key`; all of them together sum to `total`.
        """
        return self._by(row_type(PartUsage, *dimensions), dimensions, time_range, filters, calendar, sort, limit, cost_number)

    def by_part_type(
        self,
        time_range: TimeRange = ALL_TIME,
        *,
        filters: Filters = EVERYTHING,
        sort: str = "cost",
        limit: int | None = None,
        cost_number: CostNumber = CostNumber.LIST,
    ) -> Rows[PartTypeUsage]:
        """Return one row per type of part; arguments as for `by`."""
        return self._by(PartTypeUsage, ("part-type",), time_range, filters, UTC_CALENDAR, sort, limit, cost_number)

    def by_tool(
        self,
        time_range: TimeRange = ALL_TIME,
        *,
        filters: Filters = EVERYTHING,
        by: str = "tool",
        sort: str = "cost",
        limit: int | None = None,
        cost_number: CostNumber = CostNumber.LIST,
    ) -> Rows[ToolUsage]:
        """Return one row per tool, and one for what is no call of a tool.

        Args:
            time_range: What to look at.
            filters: Whose calls count, and which of their tools.
            by: `tool`; or `server` or `skill`, for a row per MCP server or per skill, and one for all the rest.
            sort: `cost`, `tokens`, `calls` or `errors` (most first, unknown costs last).
            limit: At most so many rows.
            cost_number: Which of the three numbers `cost` means.
        """
        is_failed = ToolCall.status.in_(FAILED)

        def extra(shares: sa.FromClause) -> dict[str, sa.ColumnElement[Any]]:
            return {
                "calls": sa.func.count(ToolCall.tool_call_id),
                "errors": sa.func.count().filter(is_failed),
                **{f"failed_{number.field}": known_cost(shares, number, is_failed) for number in CostNumber},
                **{
                    f"failed_{number.unknown_parts_field}": sa.func.count().filter(shares.c[mark(number, is_known=False)], is_failed)
                    for number in CostNumber
                },
            }

        rename = {PART_DIMENSIONS[by].key: "tool"}
        return self._by(ToolUsage, (by,), time_range, filters, UTC_CALENDAR, sort, limit, cost_number, extra, rename)

    def by_file(
        self,
        time_range: TimeRange = ALL_TIME,
        *,
        filters: Filters = EVERYTHING,
        sort: str = "cost",
        limit: int | None = None,
        cost_number: CostNumber = CostNumber.LIST,
    ) -> Rows[FileUsage]:
        """Return one row per file, and one for what touched none.

        Args:
            time_range: What to look at.
            filters: Whose calls count, and which of their tools.
            sort: `cost`, `tokens`, `reads` or `changes` (most first, unknown costs last).
            limit: At most so many rows.
            cost_number: Which of the three numbers `cost` means.
        """

        def extra(shares: sa.FromClause) -> dict[str, sa.ColumnElement[Any]]:
            return {
                "reads": sa.func.count().filter(shares.c.operation == "read"),
                "changes": sa.func.count().filter(shares.c.operation != "read"),
            }

        return self._by(FileUsage, ("file",), time_range, filters, UTC_CALENDAR, sort, limit, cost_number, extra)

    def _by(
        self,
        row: type[Row],
        dimensions: Sequence[str],
        time_range: TimeRange,
        filters: Filters,
        calendar: Calendar = UTC_CALENDAR,
        sort: str | None = None,
        limit: int | None = None,
        cost_number: CostNumber = CostNumber.LIST,
        extra: Callable[[sa.FromClause], dict[str, sa.ColumnElement[Any]]] | None = None,
        rename: dict[str, str] | None = None,
    ) -> Rows[Row]:
        shares = part_shares(*time_range.holds(Message.created_at), *filters.of_calls())
        if "file" in dimensions:
            shares = file_shares(shares)
        keys = {DIMENSIONS[name].key: _column(name, shares, calendar) for name in dimensions}
        measures = {**part_measures(shares), **(extra(shares) if extra else {})}
        asked = {**{(rename or {}).get(key, key): column for key, column in keys.items()}, **measures}
        needed = [*dimensions, *(("tool",) if filters.tool else ())]
        statement = sa.select(*(column.label(name) for name, column in asked.items())).select_from(joined_parts(shares, needed))
        statement = joined(statement, dimensions, Message.session_id).where(*filters.of_parts()).group_by(*keys.values()).limit(limit)
        by_key = [column.asc().nulls_last() for column in keys.values()]
        order = by_key if sort is None else [_most(sort, measures, cost_number), *by_key]
        rows = self.session.execute(statement.order_by(*order)).mappings()
        return Rows(row, (row(**values) for values in rows))


def _column(name: str, shares: sa.Subquery, calendar: Calendar) -> sa.ColumnElement[Any]:
    if name in CALL_DIMENSIONS:
        return CALL_DIMENSIONS[name].column(OF_MESSAGES, calendar)
    return PART_DIMENSIONS[name].column(shares)


def _most(sort: str, measures: dict[str, sa.ColumnElement[Any]], cost_number: CostNumber) -> sa.ColumnElement[Any]:
    orders = {**measures, "cost": measures[cost_number.field], "tokens": total_tokens(measures)}
    return orders[sort].desc().nulls_last()
