"""What went wrong: errors of tools and of model calls, by category, and what the failed calls cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from opencode_monitor.db.types import Money
from opencode_monitor.metrics.filters import EVERYTHING, Filters
from opencode_monitor.metrics.measures import IS_BILLED
from opencode_monitor.metrics.time_range import ALL_TIME, TimeRange
from opencode_monitor.models import CostBasis, ErrorEvent, Message, Part, ToolCall

if TYPE_CHECKING:
    from decimal import Decimal

    from sqlalchemy.orm import Session as DatabaseSession


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorCount:
    """Errors of one kind; money in USD.

    Attributes:
        category: What kind; None where it was never judged.
        severity: low, medium, high or critical.
        errors: How many; copies that a fork made are left out here and in every sum.
        retryable: Of these, the ones where trying again may help.
        tool_errors: Of these, the ones that a tool ended in; the others are of model calls.
        sessions: In how many sessions.
        cost_usd: What writing the calls of tools that failed cost, at list price; None where nothing of it is known. What a failed model
            call cost is not recorded: see `UnrecordedRepository`.
        unpriced_errors: Errors of tools whose calls have no price.
    """

    category: str | None
    severity: str | None
    errors: int
    retryable: int
    tool_errors: int
    sessions: int
    cost_usd: Decimal | None
    unpriced_errors: int


class ErrorRepository:
    """Counts of errors. An error belongs to the time of its message."""

    def __init__(self, session: DatabaseSession) -> None:
        self.session = session

    def by_category(
        self, time_range: TimeRange = ALL_TIME, *, filters: Filters = EVERYTHING, sort: str = "errors", limit: int | None = None
    ) -> list[ErrorCount]:
        """Return one row per category and severity.

        Args:
            time_range: What to look at.
            filters: Whose calls count; with a tool only the errors that it ended in.
            sort: `errors`, `sessions` or `cost` (most first, unknown costs last).
            limit: At most so many rows.
        """
        counts = self._counts()
        statement = (
            _errors(time_range, filters)
            .add_columns(ErrorEvent.error_category.label("category"), ErrorEvent.error_severity.label("severity"), *counts.values())
            .group_by(ErrorEvent.error_category, ErrorEvent.error_severity)
            .order_by(
                counts["cost_usd" if sort == "cost" else sort].desc().nulls_last(),
                ErrorEvent.error_category.asc().nulls_last(),
                ErrorEvent.error_severity.asc().nulls_last(),
            )
            .limit(limit)
        )
        return [ErrorCount(**row) for row in self.session.execute(statement).mappings()]

    def total(self, time_range: TimeRange = ALL_TIME, *, filters: Filters = EVERYTHING) -> ErrorCount:
        """Return the sum over all categories.

        Args:
            time_range: What to look at.
            filters: Whose calls count; with a tool only the errors that it ended in.
        """
        nothing = (sa.null().label("category"), sa.null().label("severity"))
        statement = _errors(time_range, filters).add_columns(*nothing, *self._counts().values())
        return ErrorCount(**self.session.execute(statement).mappings().one())

    @staticmethod
    def _counts() -> dict[str, sa.Label[Any]]:
        is_tools = ToolCall.tool_call_id.is_not(None)
        unpriced = sa.func.count().filter(is_tools, Message.cost_basis == CostBasis.UNPRICED.value)
        priced = sa.func.count().filter(is_tools, Message.cost_basis == CostBasis.CALCULATED.value)
        known = sa.func.coalesce(sa.func.sum(Part.part_cost_usd).filter(is_tools), sa.cast(0, Money()))
        is_unknown = sa.or_(sa.func.count().filter(is_tools) == 0, sa.and_(unpriced > 0, priced == 0))
        counts: dict[str, sa.ColumnElement[Any]] = {
            "errors": sa.func.count(ErrorEvent.error_id),
            "retryable": sa.func.count().filter(ErrorEvent.is_retryable.is_(True)),
            "tool_errors": sa.func.count().filter(is_tools),
            "sessions": sa.func.count(ErrorEvent.session_id.distinct()),
            "cost_usd": sa.cast(sa.case((is_unknown, sa.null()), else_=known), Money()),
            "unpriced_errors": unpriced,
        }
        return {name: count.label(name) for name, count in counts.items()}


def _errors(time_range: TimeRange, filters: Filters) -> sa.Select[Any]:
    return (
        sa.select()
        .select_from(ErrorEvent)
        .join(Part, Part.part_id == ErrorEvent.part_id)
        .join(Message, Message.message_id == Part.message_id)
        .outerjoin(ToolCall, ToolCall.part_id == ErrorEvent.part_id)
        .where(IS_BILLED, *time_range.holds(Message.created_at), *filters.of_calls(), *filters.of_parts())
    )
