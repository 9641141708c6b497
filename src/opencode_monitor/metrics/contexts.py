"""What each call had in its context: parts and calls on one line.

A call sees what comes before the first part that it produced. The context begins anew with a compaction that was answered: its summary
stays. A tool's output that OpenCode pruned is gone from the calls after. So the calls of a session fall into epochs (since the last
compaction) and these into spans (since the last pruning), in each of which a part has one length and one place, and a running sum gives
the place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from opencode_monitor.db.dialect import integer_division
from opencode_monitor.models import Compaction, CostBasis, ErrorEvent, Message, OmittedText, Part, StepEvent, TextMessage, ToolCall
from opencode_monitor.pricing.cost import in_scope
from opencode_monitor.pricing.shares import placed_parts

if TYPE_CHECKING:
    from sqlalchemy.orm import InstrumentedAttribute

CHARS_PER_TOKEN = 4
"""How many characters a token is taken to have: one measure for all parts, so that it matters against the base alone."""

PRUNED_AT = "pruned_at_ms"
"""The key of `parts.extra` with the time at which OpenCode took a tool's output out of the context."""


class ContextScope:
    """The sessions looked at, and the range that they lie in: an engine skips what is stored outside of it."""

    def __init__(self, sessions: sa.FromClause, first: str, last: str) -> None:
        self.sessions = sessions
        self.first = first
        self.last = last

    def holds(self, session_id: InstrumentedAttribute[str]) -> sa.ColumnElement[bool]:
        """Return the condition that a row belongs to them."""
        return sa.and_(session_id.between(self.first, self.last), in_scope(session_id, self.sessions))


def context_line(scope: ContextScope) -> sa.CTE:
    """Return the parts and the priced calls of some sessions in their order, once for each span.

    Args:
        scope: The sessions.

    Returns:
        session_id, epoch, span, position, number (a short key of the row), size (of a part, in tokens) and through (of all parts of the
        span up to there); part_id of a part; read, write, context (in tokens) and price_id of a call.
    """
    steps = _steps(scope)
    restarts = _restarts(scope, steps)
    prunings = _prunings(scope, steps)
    return _line(_calls(steps, restarts, prunings), _parts(scope, restarts, prunings))


def _steps(scope: ContextScope) -> sa.CTE:
    """Return the calls with recorded usage, each at the place of the first part that it produced: it saw what comes before."""
    amounts = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "price_id")
    conditions = (scope.holds(Part.session_id), scope.holds(Message.session_id))
    placed = placed_parts(amounts, *conditions, of_steps=scope.holds(StepEvent.session_id))
    step = (
        sa.select(
            placed.c.session_id,
            placed.c.message_id,
            sa.func.min(placed.c.sequence_number).label("position"),
            *(sa.func.max(placed.c[amount]).label(amount) for amount in amounts),  # of the step's own part: the others have none
        )
        .group_by(placed.c.session_id, placed.c.message_id, placed.c.step_number)
        .subquery("step")
    )
    return (
        sa.select(
            step.c.session_id,
            step.c.position,
            *(step.c[amount] for amount in amounts),
            sa.cast(sa.extract("epoch", Message.created_at) * 1000, sa.BigInteger).label("at_ms"),
            Message.parent_message_id,
            sa.and_(Message.cost_basis == CostBasis.CALCULATED.value, step.c.price_id.is_not(None)).label("is_priced"),
        )
        .join(Message, Message.message_id == step.c.message_id)
        .where(step.c.input_tokens.is_not(None), scope.holds(Message.session_id))
        .cte("steps")
    )


def _restarts(scope: ContextScope, steps: sa.CTE) -> sa.CTE:
    """Return where the context begins anew: at a compaction, for the calls after its summary; one that failed changes nothing."""
    return (
        sa.select(
            Part.session_id,
            sa.func.min(Part.sequence_number).label("begins"),
            sa.func.min(steps.c.position).label("answered_at"),
        )
        .join(Compaction, Compaction.part_id == Part.part_id)
        .join(steps, sa.and_(steps.c.session_id == Part.session_id, steps.c.parent_message_id == Part.message_id))
        .where(scope.holds(Part.session_id))
        .group_by(Part.session_id, Part.message_id)
        .cte("restarts")
    )


def _prunings(scope: ContextScope, steps: sa.CTE) -> sa.CTE:
    """Return the tool calls whose output was pruned, with the place of the first call after that."""
    pruned_at = sa.cast(sa.func.json_extract_path_text(Part.extra, PRUNED_AT), sa.BigInteger)
    pruned = (
        sa.select(Part.part_id, Part.session_id, pruned_at.label("at_ms"))
        .where(Part.part_type == "tool_call", Part.extra.is_not(None), scope.holds(Part.session_id))
        .subquery("pruned")
    )
    return (
        sa.select(pruned.c.part_id, pruned.c.session_id, sa.func.min(steps.c.position).label("since"))
        .join(steps, sa.and_(steps.c.session_id == pruned.c.session_id, steps.c.at_ms > pruned.c.at_ms))
        .group_by(pruned.c.part_id, pruned.c.session_id)
        .cte("prunings")
    )


def _calls(steps: sa.CTE, restarts: sa.CTE, prunings: sa.CTE) -> sa.CTE:
    """Return the priced calls with the epoch (where the context began) and the span (where the last pruning took effect) of each."""
    spans = sa.select(prunings.c.session_id, prunings.c.since).distinct().subquery("spans")
    in_order: dict[str, Any] = {"partition_by": steps.c.session_id, "order_by": steps.c.position}
    epoch = sa.func.max(restarts.c.begins).over(**in_order, rows=(None, -1))  # the summary itself is made of the old context
    span = sa.func.max(spans.c.since).over(**in_order, rows=(None, 0))
    placed = (
        sa.select(steps, sa.func.coalesce(epoch, 0).label("epoch"), sa.func.coalesce(span, 0).label("span"))
        .join(restarts, sa.and_(restarts.c.session_id == steps.c.session_id, restarts.c.answered_at == steps.c.position), isouter=True)
        .join(spans, sa.and_(spans.c.session_id == steps.c.session_id, spans.c.since == steps.c.position), isouter=True)
        .subquery("placed_calls")
    )
    return sa.select(placed).where(placed.c.is_priced).cte("calls")


def _parts(scope: ContextScope, restarts: sa.CTE, prunings: sa.CTE) -> sa.CTE:
    """Return the parts with their epoch, their length in tokens, whole and without the output, and from which call on it is gone."""
    text = sa.select(TextMessage.part_id, sa.func.length(TextMessage.content).label("chars")).where(scope.holds(TextMessage.session_id))
    tool = sa.select(
        ToolCall.part_id,
        sa.func.coalesce(sa.func.length(sa.cast(ToolCall.tool_args, sa.Text)), 0).label("arguments"),
        sa.func.length(ToolCall.tool_result).label("output"),
    ).where(scope.holds(ToolCall.session_id))
    error = sa.select(ErrorEvent.part_id, sa.func.length(ErrorEvent.error_message).label("chars")).where(scope.holds(ErrorEvent.session_id))
    omission = sa.select(OmittedText.part_id, OmittedText.written_chars, OmittedText.output_chars).where(
        scope.holds(OmittedText.session_id)
    )
    texts, tools, errors = text.subquery("texts"), tool.subquery("tools"), error.subquery("tool_errors")
    omitted = omission.subquery("omitted")
    is_ignored = sa.func.json_extract_path_text(Part.extra, "ignored") == "true"
    stored = (
        sa.case((is_ignored, 0), else_=sa.func.coalesce(texts.c.chars, 0))
        + sa.func.coalesce(sa.func.length(Part.content), 0)
        + sa.func.coalesce(tools.c.arguments, 0)
    )
    # Texts that were left out have the length that they had.
    written = sa.case((omitted.c.part_id.is_(None), stored), (is_ignored, 0), else_=omitted.c.written_chars)
    # A tool that failed answers with its error; the error of a call itself is nothing that a later call is sent.
    answered = sa.func.coalesce(omitted.c.output_chars, tools.c.output, errors.c.chars, 0)
    output = sa.case((tools.c.part_id.is_not(None), answered), else_=0)
    in_order: dict[str, Any] = {"partition_by": Part.session_id, "order_by": Part.sequence_number, "rows": (None, 0)}
    return (
        sa.select(
            Part.session_id,
            Part.part_id,
            Part.sequence_number.label("position"),
            sa.func.coalesce(sa.func.max(restarts.c.begins).over(**in_order), 0).label("epoch"),
            _tokens(written + output).label("whole"),
            _tokens(written).label("kept"),
            prunings.c.since,
        )
        .join(Message, Message.message_id == Part.message_id)
        .join(texts, texts.c.part_id == Part.part_id, isouter=True)
        .join(tools, tools.c.part_id == Part.part_id, isouter=True)
        .join(errors, errors.c.part_id == Part.part_id, isouter=True)
        .join(omitted, omitted.c.part_id == Part.part_id, isouter=True)
        .join(restarts, sa.and_(restarts.c.session_id == Part.session_id, restarts.c.begins == Part.sequence_number), isouter=True)
        .join(prunings, prunings.c.part_id == Part.part_id, isouter=True)
        .where(scope.holds(Part.session_id), scope.holds(Message.session_id))
        .cte("sized_parts")
    )


def _tokens(characters: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    return integer_division(characters + (CHARS_PER_TOKEN - 1), CHARS_PER_TOKEN)


def _line(calls: sa.CTE, parts: sa.CTE) -> sa.CTE:
    """Return parts and calls in their order, for each span, with the length of all parts up to there."""
    span = (
        sa.select(calls.c.session_id, calls.c.epoch, calls.c.span, sa.func.max(calls.c.position).label("last"))
        .group_by(calls.c.session_id, calls.c.epoch, calls.c.span)
        .subquery("span")
    )
    size = sa.case((sa.or_(parts.c.since.is_(None), span.c.span < parts.c.since), parts.c.whole), else_=parts.c.kept)
    no_count = sa.cast(sa.null(), sa.BigInteger)
    no_text = sa.cast(sa.null(), sa.Text)
    of_parts = (
        sa.select(
            parts.c.session_id,
            span.c.epoch,
            span.c.span,
            parts.c.position,
            parts.c.part_id,
            size.label("size"),
            *(no_count.label(name) for name in ("read", "write", "context")),
            no_text.label("price_id"),
        )
        .join(span, sa.and_(span.c.session_id == parts.c.session_id, span.c.epoch == parts.c.epoch, parts.c.position < span.c.last))
        .where(size > 0)
    )
    of_calls = sa.select(
        calls.c.session_id,
        calls.c.epoch,
        calls.c.span,
        calls.c.position,
        no_text,
        sa.cast(0, sa.BigInteger),
        calls.c.cache_read_tokens,
        calls.c.cache_write_tokens,
        calls.c.input_tokens + calls.c.cache_read_tokens + calls.c.cache_write_tokens,
        calls.c.price_id,
    )
    both = sa.union_all(of_parts, of_calls).subquery("both")
    # A call stands at the first part that it produced, and before it.
    through = sa.func.sum(both.c.size).over(
        partition_by=(both.c.session_id, both.c.epoch, both.c.span),
        order_by=(both.c.position, sa.case((both.c.part_id.is_(None), 0), else_=1)),
        rows=(None, 0),
    )
    number = sa.func.row_number().over()  # a short key for what follows, in no order
    return sa.select(both, number.label("number"), sa.cast(through, sa.BigInteger).label("through")).cte("line")
