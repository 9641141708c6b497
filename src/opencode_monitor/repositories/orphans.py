"""Calls whose message is gone or cannot be read: their steps are stored, and no sum holds them, as nothing says which model made them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from opencode_monitor.db.types import Money
from opencode_monitor.metrics.dimensions import CallColumns
from opencode_monitor.metrics.filters import EVERYTHING, Filters
from opencode_monitor.metrics.time_range import ALL_TIME, TimeRange
from opencode_monitor.models import Message, StepEvent
from opencode_monitor.pricing.hidden import HIDDEN_SUFFIX, LEAST_HIDDEN_USD
from opencode_monitor.pricing.tokens import BUCKETS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from sqlalchemy.orm import Session as DatabaseSession

_OF_ORPHANS = CallColumns(StepEvent.created_at, StepEvent.model_id, StepEvent.session_id, sa.literal("unknown"))
_ROUNDING_USD: sa.ColumnElement[Any] = sa.literal_column(f"{LEAST_HIDDEN_USD:f}")


@dataclass(frozen=True, slots=True, kw_only=True)
class OrphanSpend:
    """Calls without a message, and what is known of them.

    Attributes:
        calls: How many.
        input_tokens: Uncached prompt tokens.
        cache_read_tokens: Prompt tokens read from the provider's cache.
        cache_write_tokens: Prompt tokens written to it.
        output_tokens: Visible output.
        reasoning_tokens: Reasoning, beside the output.
        reported_cost_usd: As OpenCode stored it, in USD; None where there are calls and it stored a cost for none of them.
        unreported_calls: Calls for which OpenCode stored no cost.
    """

    calls: int
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    reported_cost_usd: Decimal | None
    unreported_calls: int


class OrphanRepository:
    """Calls without a message. One belongs to the session that its step names, and to the time of its step."""

    def __init__(self, session: DatabaseSession) -> None:
        self.session = session

    def total(self, time_range: TimeRange = ALL_TIME, *, filters: Filters = EVERYTHING) -> OrphanSpend:
        """Return the sum of the calls in a range.

        Args:
            time_range: What to look at.
            filters: Whose calls count. Their model, provider and agent are not known, and no tool's parts are asked for.
        """
        reported = StepEvent.reported_cost_usd
        counts = [sa.cast(sa.func.coalesce(sa.func.sum(getattr(StepEvent, name)), 0), sa.BigInteger).label(name) for name in BUCKETS]
        statement = sa.select(
            sa.func.count().label("calls"),
            *counts,
            sa.case((sa.func.count() == 0, sa.cast(0, Money())), else_=sa.func.sum(reported)).label("reported_cost_usd"),
            sa.func.count().filter(reported.is_(None)).label("unreported_calls"),
        )
        row = self.session.execute(statement.select_from(StepEvent).where(*_are_orphans(time_range, filters))).mappings().one()
        return OrphanSpend(**row)

    def calls(self, time_range: TimeRange = ALL_TIME, *, filters: Filters = EVERYTHING, limit: int | None = None) -> Sequence[StepEvent]:
        """Return the steps in a range, the latest first; arguments as for `total`, and at most so many."""
        statement = sa.select(StepEvent).where(*_are_orphans(time_range, filters))
        return self.session.scalars(statement.order_by(StepEvent.created_at.desc().nulls_last(), StepEvent.step_id).limit(limit)).all()


def _are_orphans(time_range: TimeRange, filters: Filters) -> list[sa.ColumnElement[bool]]:
    if filters.tool:
        return [sa.false()]
    hidden = aliased(Message)
    # The sums that OpenCode 2.x keeps of a session have held the call, and what is left of them is a message of ours; where its cost does
    # not reach for the call, it was none of them. A call without a cost can be in any.
    is_summed = sa.exists().where(
        hidden.message_id == StepEvent.session_id + HIDDEN_SUFFIX,
        hidden.call_count > 0,
        sa.func.coalesce(hidden.reported_cost_usd, 0) + _ROUNDING_USD >= sa.func.coalesce(StepEvent.reported_cost_usd, 0),
    )
    conditions: list[Any] = [
        StepEvent.event == "finish",
        StepEvent.input_tokens.is_not(None),
        # Few are left by this one, which needs no other table; a message that is stored again gives its steps the model later.
        StepEvent.model_id.is_(None),
        ~sa.exists().where(Message.message_id == StepEvent.message_id),
        ~is_summed,
    ]
    return [*conditions, *time_range.holds(StepEvent.created_at), *filters.of_calls(_OF_ORPHANS)]
