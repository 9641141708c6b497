"""What was carried, and what that cost: `carried_costs` with what each row stands for. Names only, never content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from opencode_monitor.db.types import Money
from opencode_monitor.metrics.carried import BASE_SUFFIX, open_sessions
from opencode_monitor.metrics.time_range import ALL_TIME, TimeRange
from opencode_monitor.models import Attachment, CarriedCost, FileOperation, Message, Part, ToolCall

if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal

    from sqlalchemy.orm import Session as DatabaseSession

_IS_BASE = CarriedCost.carrier_id == CarriedCost.session_id + BASE_SUFFIX


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedPart:
    """One part, and what carrying it cost beside what making it cost; money in USD.

    Attributes:
        tool: The tool that was called.
        role: Whose message it is in.
        file: The file that the tool touched (the first of several) or that was attached.
        size_tokens: Its estimated length.
        carrying_calls: How many priced calls had it in their context.
        cached_cost_usd: Read from the provider's cache.
        uncached_cost_usd: Sent without the cache, or written to it.
        produced_cost_usd: Its share of the step that produced it; None where that has no price, or where the user made it.
    """

    part_id: str
    session_id: str
    part_type: str
    tool: str | None
    role: str
    file: str | None
    created_at: datetime | None
    size_tokens: int
    carrying_calls: int
    cached_cost_usd: Decimal
    uncached_cost_usd: Decimal
    carried_cost_usd: Decimal
    produced_cost_usd: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedTotal:
    """All of it; money in USD.

    Attributes:
        parts: How many parts were carried.
        parts_cost_usd: What carrying those cost.
        base_cost_usd: What the bases cost: system prompts and tool definitions, which no part explains.
        carried_cost_usd: Both: the input side of the priced calls of the sessions looked at.
        open_sessions: Sessions with priced calls whose carried costs are not computed; nothing of them is in the sums.
    """

    parts: int
    parts_cost_usd: Decimal
    base_cost_usd: Decimal
    cached_cost_usd: Decimal
    uncached_cost_usd: Decimal
    carried_cost_usd: Decimal
    open_sessions: int


class CarriedRepository:
    """Carried costs. A part belongs to the time at which it was made, and the base to its session's beginning."""

    def __init__(self, session: DatabaseSession) -> None:
        self.session = session

    def most_carried(
        self, time_range: TimeRange = ALL_TIME, *, session_id: str | None = None, limit: int | None = None
    ) -> list[CarriedPart]:
        """Return the parts whose carrying cost most.

        Args:
            time_range: When they were made.
            session_id: Of this session alone.
            limit: At most so many rows.
        """
        # Of several files the first counts: its row has the part's own id.
        first_file = (
            sa.select(FileOperation.part_id, sa.func.min(FileOperation.file_path).label("file"))
            .where(FileOperation.file_op_id == FileOperation.part_id)
            .group_by(FileOperation.part_id)
            .subquery("first_file")
        )
        carried = self._in_range(sa.select(CarriedCost), time_range, session_id).where(sa.not_(_IS_BASE))
        top = carried.order_by(CarriedCost.carried_cost_usd.desc(), CarriedCost.carrier_id).limit(limit).subquery("top")
        names = ("session_id", "created_at", "size_tokens", "carrying_calls", "cached_cost_usd", "uncached_cost_usd", "carried_cost_usd")
        statement = (
            sa.select(
                Part.part_id,
                Part.part_type,
                ToolCall.tool_name.label("tool"),
                Message.role,
                sa.func.coalesce(first_file.c.file, Attachment.file_name).label("file"),
                *(top.c[name] for name in names),
                Part.part_cost_usd.label("produced_cost_usd"),
            )
            .select_from(top)
            .join(Part, Part.part_id == top.c.carrier_id)
            .join(Message, Message.message_id == Part.message_id)
            .join(ToolCall, ToolCall.part_id == Part.part_id, isouter=True)
            .join(Attachment, Attachment.part_id == Part.part_id, isouter=True)
            .join(first_file, first_file.c.part_id == Part.part_id, isouter=True)
            .order_by(top.c.carried_cost_usd.desc(), Part.part_id)
        )
        return [CarriedPart(**row) for row in self.session.execute(statement).mappings().all()]

    def total(self, time_range: TimeRange = ALL_TIME, *, session_id: str | None = None) -> CarriedTotal:
        """Return the sums; arguments as for `most_carried`."""

        def usd(column: Any, *conditions: sa.ColumnElement[bool]) -> sa.ColumnElement[Decimal]:
            total = sa.func.sum(column)
            return sa.func.coalesce(total.filter(*conditions) if conditions else total, sa.cast(0, Money()))

        sums: list[sa.ColumnElement[Any]] = [
            sa.func.count().filter(sa.not_(_IS_BASE)).label("parts"),
            usd(CarriedCost.carried_cost_usd, sa.not_(_IS_BASE)).label("parts_cost_usd"),
            usd(CarriedCost.carried_cost_usd, _IS_BASE).label("base_cost_usd"),
            *(usd(getattr(CarriedCost, name)).label(name) for name in ("cached_cost_usd", "uncached_cost_usd", "carried_cost_usd")),
        ]
        statement: sa.Select[Any] = sa.select(*sums)
        row = self.session.execute(self._in_range(statement, time_range, session_id)).mappings().one()
        waiting = open_sessions(session_id).order_by(None).subquery()
        number = self.session.scalar(sa.select(sa.func.count()).select_from(waiting)) or 0
        return CarriedTotal(**row, open_sessions=number)

    def _in_range(self, statement: sa.Select[Any], time_range: TimeRange, session_id: str | None) -> sa.Select[Any]:
        statement = statement.where(*time_range.holds(CarriedCost.created_at))
        return statement if session_id is None else statement.where(CarriedCost.session_id == session_id)
