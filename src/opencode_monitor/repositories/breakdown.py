"""What one message, or a few sessions, are made of: calls with the prices that they got, and parts with their shares.

No text that a user or a model wrote is read: types, tools, files and sizes say what a part is.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from opencode_monitor.metrics.measures import TOKEN_MEASURES, CostNumber
from opencode_monitor.metrics.part_shares import part_shares
from opencode_monitor.models import FileOperation, Message, Part, PricePeriodRow, StepEvent, ToolCall
from opencode_monitor.pricing.shares import placed_parts, reported_steps

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from decimal import Decimal

    from sqlalchemy.orm import Session as DatabaseSession


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPrice:
    """The row of the price book that priced a call; USD per million tokens, None where it names no price.

    Attributes:
        price_id: Its key.
        vendor: Whose list it is of.
        model: The model in that list.
        mode: The processing mode.
        min_context_tokens: What the call's context had to exceed; 0 for the base price.
        effective_from: Since when it holds.
        source: Who says so.
        input_usd_per_mtok: Uncached prompt tokens.
        cache_read_usd_per_mtok: Prompt tokens read from the provider's cache.
        cache_write_usd_per_mtok: Prompt tokens written to it, for five minutes.
        output_usd_per_mtok: Visible output.
        reasoning_usd_per_mtok: Reasoning; the price of output where the row names none.
    """

    price_id: str
    vendor: str
    model: str
    mode: str
    min_context_tokens: int
    effective_from: datetime
    source: str
    input_usd_per_mtok: Decimal | None
    cache_read_usd_per_mtok: Decimal | None
    cache_write_usd_per_mtok: Decimal | None
    output_usd_per_mtok: Decimal | None
    reasoning_usd_per_mtok: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepUsage:
    """One step of a message, a call of the model, with its own tokens and costs; money in USD.

    Attributes:
        step_number: Its place in the message, from 1.
        step_id: Its key.
        part_id: The part that is the end of it.
        input_tokens: None where its usage was not recorded; so are the others.
        cache_read_tokens: As of `Usage`.
        cache_write_tokens: As of `Usage`.
        output_tokens: As of `Usage`.
        reasoning_tokens: As of `Usage`.
        cost_usd: At list price; None where it has no price.
        reported_cost_usd: What OpenCode's cost of the message comes to for it; None where OpenCode stored none.
        paid_cost_usd: Out of pocket; None where it is not known.
        price: What priced it; None where nothing did.
    """

    step_number: int
    step_id: str
    part_id: str
    input_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    cost_usd: Decimal | None
    reported_cost_usd: Decimal | None
    paid_cost_usd: Decimal | None
    price: StepPrice | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartShare:
    """One part with its share of its step; money in USD.

    Attributes:
        part_id: Its key; None for a cost that OpenCode stored with a message that has no step to bear it.
        session_id: Its session.
        message_id: Its message.
        part_type: text, thinking, tool_call and so on.
        created_at: When it was made, in UTC.
        tool: The tool that was called.
        status: How that ended.
        files: The files that it touched.
        is_of_call: Whether a call that was billed made it; a user's part, or a copy of a fork's, has no share.
        step_number: The step that it belongs to, from 1; None in a message without a step.
        is_step: Whether it is the end of its step, which has what the others leave.
        written_chars: How many characters the model wrote for it: what it weighs.
        step_chars: The same of all parts of its step.
        input_tokens: Its share of the tokens of its step, as are the others.
        cache_read_tokens: As above.
        cache_write_tokens: As above.
        output_tokens: As above.
        reasoning_tokens: As above.
        cost_usd: Its share at list price; None where that is not known of its message.
        reported_cost_usd: Of what OpenCode stored; None as above.
        paid_cost_usd: Out of pocket; None as above.
    """

    part_id: str | None
    session_id: str
    message_id: str
    part_type: str | None
    created_at: datetime | None
    tool: str | None
    status: str | None
    files: tuple[str, ...]
    is_of_call: bool
    step_number: int | None
    is_step: bool
    written_chars: int
    step_chars: int
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_usd: Decimal | None
    reported_cost_usd: Decimal | None
    paid_cost_usd: Decimal | None


class BreakdownRepository:
    """Calls and parts of single messages, and the costliest parts of sessions."""

    def __init__(self, session: DatabaseSession) -> None:
        self.session = session

    def steps(self, message_id: str) -> list[StepUsage]:
        """Return the steps of a message in their order."""
        reported = reported_steps(Message.message_id == message_id)
        statement = (
            sa.select(StepEvent, reported.c.reported_cost_usd, PricePeriodRow)
            .join(Part, Part.part_id == StepEvent.part_id)
            .join(reported, reported.c.step_id == StepEvent.step_id, isouter=True)
            .join(PricePeriodRow, PricePeriodRow.price_id == StepEvent.price_id, isouter=True)
            .where(StepEvent.message_id == message_id, StepEvent.event == "finish")
            .order_by(Part.sequence_number)
        )
        return [_step(number, *row) for number, row in enumerate(self.session.execute(statement).all(), 1)]

    def parts(self, message_id: str) -> list[PartShare]:
        """Return the parts of a message in their order; their shares sum to the message exactly.

        A cost that no part bears comes last.
        """
        of_message = Message.message_id == message_id
        shares = part_shares(of_message)
        rows = self._shares(self._statement(shares, of_message).where(Part.message_id == message_id).order_by(Part.sequence_number))
        rest = (
            sa.select(*(shares.c[name] for name in (*TOKEN_MEASURES, *(number.field for number in CostNumber))), Message.session_id)
            .join(Message, Message.message_id == shares.c.message_id)
            .where(shares.c.part_id.is_(None))
        )
        for row in self.session.execute(rest).mappings():
            rows.append(_of_no_part(message_id, dict(row)))
        return rows

    def costliest(self, session_ids: Sequence[str], *, limit: int, cost_number: CostNumber = CostNumber.LIST) -> list[PartShare]:
        """Return the most expensive parts of some sessions, those without a cost left out.

        Args:
            session_ids: The sessions.
            limit: At most so many parts.
            cost_number: Which of the three numbers to go by.
        """
        of_sessions = Message.session_id.in_(session_ids)
        shares = part_shares(of_sessions)
        cost = shares.c[cost_number.field]
        statement = self._statement(shares, of_sessions).where(cost > 0).order_by(cost.desc(), Part.part_id).limit(limit)
        return self._shares(statement)

    def _statement(self, shares: sa.Subquery, *conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
        placed = placed_parts((), *conditions)
        of_step = (placed.c.message_id, placed.c.step_number)
        weighed = sa.select(
            placed.c.part_id,
            placed.c.step_number,
            placed.c.step_id,
            placed.c.weight,
            sa.cast(sa.func.sum(placed.c.weight).over(partition_by=of_step), sa.BigInteger).label("step_chars"),
        ).subquery("of_step")
        return (
            sa.select(
                Part.part_id,
                Part.session_id,
                Part.message_id,
                Part.part_type,
                Part.created_at,
                ToolCall.tool_name.label("tool"),
                ToolCall.status,
                shares.c.part_id.is_not(None).label("is_of_call"),
                sa.case((weighed.c.step_number >= 0, weighed.c.step_number + 1)).label("step_number"),
                weighed.c.step_id.is_not(None).label("is_step"),
                sa.func.coalesce(weighed.c.weight, 0).label("written_chars"),
                sa.func.coalesce(weighed.c.step_chars, 0).label("step_chars"),
                *(sa.func.coalesce(shares.c[name], 0).label(name) for name in TOKEN_MEASURES),
                *(shares.c[number.field] for number in CostNumber),
            )
            .select_from(Part)
            .join(shares, shares.c.part_id == Part.part_id, isouter=True)
            .join(weighed, weighed.c.part_id == Part.part_id, isouter=True)
            .join(ToolCall, ToolCall.part_id == Part.part_id, isouter=True)
        )

    def _shares(self, statement: sa.Select[Any]) -> list[PartShare]:
        rows = [dict(row) for row in self.session.execute(statement).mappings()]
        files = self._files([row["part_id"] for row in rows])
        return [PartShare(**row, files=tuple(files[row["part_id"]])) for row in rows]

    def _files(self, part_ids: Iterable[str]) -> dict[str, list[str]]:
        statement = sa.select(FileOperation.part_id, FileOperation.file_path).where(FileOperation.part_id.in_(list(part_ids)))
        files: dict[str, list[str]] = defaultdict(list)
        for part_id, path in self.session.execute(statement.order_by(FileOperation.part_id, FileOperation.file_op_id)).all():
            files[part_id].append(path)
        return files


def _step(number: int, step: StepEvent, reported: Decimal | None, price: PricePeriodRow | None) -> StepUsage:
    return StepUsage(
        step_number=number,
        step_id=step.step_id,
        part_id=step.part_id,
        **{name: getattr(step, name) for name in TOKEN_MEASURES},
        cost_usd=step.step_cost_usd,
        reported_cost_usd=reported,
        paid_cost_usd=step.paid_cost_usd,
        price=None if price is None else _price(price),
    )


def _price(row: PricePeriodRow) -> StepPrice:
    return StepPrice(
        price_id=row.price_id,
        vendor=row.vendor,
        model=row.model,
        mode=row.mode,
        min_context_tokens=row.min_context_tokens,
        effective_from=row.effective_from,
        source=row.source,
        input_usd_per_mtok=row.input_usd_per_mtok,
        cache_read_usd_per_mtok=row.cache_read_usd_per_mtok,
        cache_write_usd_per_mtok=row.cache_write_5m_usd_per_mtok,
        output_usd_per_mtok=row.output_usd_per_mtok,
        reasoning_usd_per_mtok=row.output_usd_per_mtok if row.reasoning_usd_per_mtok is None else row.reasoning_usd_per_mtok,
    )


def _of_no_part(message_id: str, sums: dict[str, Any]) -> PartShare:
    return PartShare(
        **sums,
        part_id=None,
        message_id=message_id,
        part_type=None,
        created_at=None,
        tool=None,
        status=None,
        files=(),
        is_of_call=True,
        step_number=None,
        is_step=False,
        written_chars=0,
        step_chars=0,
    )
