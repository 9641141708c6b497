"""Carried cost: the input side of each call, spread over what was in its context.

A call pays for its whole context again. Its tokens are laid out in the order in which the provider sees them: first the base (system
prompt and tool definitions, what no stored part explains), then the parts that came before the call, each as long as its estimate. Over
the same line lie the three ways in which the provider bills: what it read from its cache comes first, then what it wrote to the cache,
then the rest.

    base = max(0, context - sum of the parts),   context = cache read + cache write + input
    cost of a part in a call = its tokens below `cache read` x price(cache read) + those of the next `cache write` x price(cache write)
                             + those above x price(input)

Where the parts are estimated longer than the whole context they are scaled down to it. Every token of a call lies on exactly one part or
on the base, and is paid at its own price: so nothing is divided, and the rows of a session sum to the input side of its calls to the last
digit.

The context begins anew with a compaction that was answered: its summary stays. A tool's output that OpenCode pruned is gone from the calls
after. So the calls of a session fall into spans, in each of which a part has one length and one place, and a running sum gives the place.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from opencode_monitor.db.bulk import staged
from opencode_monitor.db.dialect import integer_division
from opencode_monitor.db.types import Money
from opencode_monitor.models import (
    CarriedCost,
    Compaction,
    CostBasis,
    ErrorEvent,
    Message,
    Part,
    PricePeriodRow,
    Session,
    SessionStats,
    StepEvent,
    TextMessage,
    ToolCall,
)
from opencode_monitor.pricing.cost import in_scope
from opencode_monitor.pricing.shares import placed_parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from decimal import Decimal

    from sqlalchemy.orm import InstrumentedAttribute

CHARS_PER_TOKEN = 4
"""How many characters a token is taken to have: one measure for all parts, so that it matters against the base alone."""

BASE_SUFFIX = ":context"
"""What the id of a session's base ends in, after the session's id."""

CHUNK_PARTS = 100_000
"""About how many parts one statement looks at: pairs of calls and parts are many, and memory is to stay below 1 GB."""

_SESSION_ID = (sa.Column("session_id", sa.Text()),)
PRUNED_AT = "pruned_at_ms"
"""The key of `parts.extra` with the time at which OpenCode took a tool's output out of the context."""


def forget_carried(connection: sa.Connection, scope: sa.FromClause | None = None) -> None:
    """Drop the carried costs of sessions whose rows or prices changed; they are then open.

    Args:
        connection: In the transaction of the change.
        scope: A selectable with the `session_id`s; None for all sessions.
    """
    connection.execute(sa.delete(CarriedCost).where(in_scope(CarriedCost.session_id, scope)))


def open_sessions(session_id: str | None = None) -> sa.Select[str, int]:
    """Return the statement that selects the sessions with priced calls and without carried costs, and how many parts each has.

    Args:
        session_id: Look at this one alone.
    """
    priced = sa.select(Message.session_id).where(Message.cost_basis == CostBasis.CALCULATED.value)
    return (
        sa.select(Session.session_id, sa.func.coalesce(SessionStats.part_count, 0))
        .join(SessionStats, SessionStats.session_id == Session.session_id, isouter=True)
        .where(
            Session.session_id.in_(priced),
            Session.session_id.not_in(sa.select(CarriedCost.session_id)),
            sa.true() if session_id is None else Session.session_id == session_id,
        )
        .order_by(Session.session_id)
    )


def chunks(sessions: Sequence[tuple[str, int]], *, parts: int = CHUNK_PARTS) -> Iterator[list[str]]:
    """Group sessions, in their order, into chunks of about so many parts.

    Args:
        sessions: (session_id, number of parts), in the database's order.
        parts: After how many parts a chunk ends.
    """
    chunk: list[str] = []
    size = 0
    for session_id, count in sessions:
        chunk.append(session_id)
        size += count
        if size >= parts:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def carry_costs(connection: sa.Connection, session_ids: Sequence[str]) -> int:
    """Compute the carried costs of sessions that have none.

    Args:
        connection: In a transaction of the caller's.
        session_ids: Neighbours in the database's order, so that it finds their rows together.

    Returns:
        How many rows were written.
    """
    if not session_ids:
        return 0
    with staged(connection, "carrying_sessions", _SESSION_ID, [(session_id,) for session_id in session_ids]) as scope:
        statement = _carried(_Scope(scope, session_ids[0], session_ids[-1]))
        columns = [column.name for column in CarriedCost.__table__.columns]
        with _hashed_joins(connection):
            connection.execute(postgresql.insert(CarriedCost).from_select(columns, statement))
        written = sa.select(sa.func.count()).select_from(CarriedCost).where(in_scope(CarriedCost.session_id, scope))
        return connection.scalar(written) or 0


@contextlib.contextmanager
def _hashed_joins(connection: sa.Connection) -> Iterator[None]:
    """Keep PostgreSQL from looking through all parts for each call: it takes the steps of a statement to yield a row or two."""
    if connection.dialect.name != "postgresql":
        yield
        return
    connection.execute(sa.text("SET LOCAL enable_nestloop = off"))
    yield
    connection.execute(sa.text("SET LOCAL enable_nestloop TO DEFAULT"))


def input_sides() -> sa.Subquery:
    """Return what the prompts of each session's priced calls cost: session_id and cost in USD, from the calls' tokens and price rows."""
    price = PricePeriodRow
    cost = (
        _cost(StepEvent.input_tokens, price.input_usd_per_mtok)
        + _cost(StepEvent.cache_read_tokens, price.cache_read_usd_per_mtok)
        + _cost(StepEvent.cache_write_tokens, price.cache_write_5m_usd_per_mtok)
    )
    return (
        sa.select(StepEvent.session_id, sa.func.sum(cost).label("cost"))
        .join(Message, Message.message_id == StepEvent.message_id)
        .join(price, price.price_id == StepEvent.price_id)
        .where(Message.cost_basis == CostBasis.CALCULATED.value, StepEvent.input_tokens.is_not(None))
        .group_by(StepEvent.session_id)
        .subquery("input_sides")
    )


class _Scope:
    """The sessions looked at, and the range that they lie in: an engine skips what is stored outside of it."""

    def __init__(self, sessions: sa.FromClause, first: str, last: str) -> None:
        self.sessions = sessions
        self.first = first
        self.last = last

    def holds(self, session_id: InstrumentedAttribute[str]) -> sa.ColumnElement[bool]:
        return sa.and_(session_id.between(self.first, self.last), in_scope(session_id, self.sessions))


def _carried(scope: _Scope) -> sa.Select[Any]:
    """Return the rows of `carried_costs` for some sessions."""
    steps = _steps(scope)
    restarts = _restarts(scope, steps)
    prunings = _prunings(scope, steps)
    line = _line(_calls(steps, restarts, prunings), _parts(scope, restarts, prunings))
    slices = sa.union_all(_slices_of_parts(line), _slices_of_bases(line)).subquery("slices")
    price = PricePeriodRow
    cached = _cost(slices.c.read_tokens, price.cache_read_usd_per_mtok)
    uncached = _cost(slices.c.written_tokens, price.cache_write_5m_usd_per_mtok) + _cost(slices.c.sent_tokens, price.input_usd_per_mtok)
    sums = (
        sa.select(
            slices.c.carrier_id,
            slices.c.session_id,
            sa.cast(sa.func.sum(slices.c.calls), sa.Integer).label("carrying_calls"),
            sa.func.max(slices.c.size_tokens).label("size_tokens"),
            sa.func.sum(cached).label("cached"),
            sa.func.sum(uncached).label("uncached"),
        )
        .join(price, price.price_id == slices.c.price_id)
        .group_by(slices.c.carrier_id, slices.c.session_id)
        .subquery("sums")
    )
    return (
        sa.select(
            sums.c.carrier_id,
            sums.c.session_id,
            sa.func.coalesce(Part.created_at, Session.created_at),
            sums.c.carrying_calls,
            sums.c.size_tokens,
            sums.c.cached,
            sums.c.uncached,
            sums.c.cached + sums.c.uncached,
        )
        .join(Session, Session.session_id == sums.c.session_id)
        .join(Part, sa.and_(Part.part_id == sums.c.carrier_id, scope.holds(Part.session_id)), isouter=True)
    )


def _cost(tokens: Any, usd_per_mtok: Any) -> sa.ColumnElement[Decimal]:
    """Price tokens as the cost formula does; without tokens the price may be unknown."""
    per_token = sa.cast(usd_per_mtok * sa.cast(sa.literal_column("0.000001"), sa.Numeric(6, 6)), Money())
    cost = sa.cast(tokens, sa.BigInteger) * per_token
    return sa.case((tokens == 0, sa.cast(0, Money())), else_=sa.cast(cost, Money()))


def _steps(scope: _Scope) -> sa.CTE:
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


def _restarts(scope: _Scope, steps: sa.CTE) -> sa.CTE:
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


def _prunings(scope: _Scope, steps: sa.CTE) -> sa.CTE:
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


def _parts(scope: _Scope, restarts: sa.CTE, prunings: sa.CTE) -> sa.CTE:
    """Return the parts with their epoch, their length in tokens, whole and without the output, and from which call on it is gone."""
    text = sa.select(TextMessage.part_id, sa.func.length(TextMessage.content).label("chars")).where(scope.holds(TextMessage.session_id))
    tool = sa.select(
        ToolCall.part_id,
        sa.func.coalesce(sa.func.length(sa.cast(ToolCall.tool_args, sa.Text)), 0).label("arguments"),
        sa.func.length(ToolCall.tool_result).label("output"),
    ).where(scope.holds(ToolCall.session_id))
    error = sa.select(ErrorEvent.part_id, sa.func.length(ErrorEvent.error_message).label("chars")).where(scope.holds(ErrorEvent.session_id))
    texts, tools, errors = text.subquery("texts"), tool.subquery("tools"), error.subquery("tool_errors")
    is_ignored = sa.func.json_extract_path_text(Part.extra, "ignored") == "true"
    written = (
        sa.case((is_ignored, 0), else_=sa.func.coalesce(texts.c.chars, 0))
        + sa.func.coalesce(sa.func.length(Part.content), 0)
        + sa.func.coalesce(tools.c.arguments, 0)
    )
    # A tool that failed answers with its error; the error of a call itself is nothing that a later call is sent.
    output = sa.case((tools.c.part_id.is_not(None), sa.func.coalesce(tools.c.output, errors.c.chars, 0)), else_=0)
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


def _slices_of_parts(line: sa.CTE) -> sa.Select[Any]:
    """Return, for each part and price, the tokens of all calls together that lie on it, by the way that they were billed."""
    part, call = line.alias("part"), line.alias("call")
    fits = call.c.through <= call.c.context

    def place(tokens: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
        """Where the length of the parts so far ends on the line of the call's tokens."""
        scaled = integer_division(tokens * call.c.context, call.c.through)
        return sa.case((fits, call.c.context - call.c.through + tokens), else_=scaled)

    pairs = (
        sa.select(
            part.c.number,
            call.c.price_id,
            call.c.read,
            (call.c.read + call.c.write).label("cached"),
            place(part.c.through - part.c.size).label("start"),
            place(part.c.through).label("end"),
        )
        .join(
            call,
            sa.and_(
                call.c.session_id == part.c.session_id,
                call.c.epoch == part.c.epoch,
                call.c.span == part.c.span,
                call.c.position > part.c.position,
            ),
        )
        .where(part.c.part_id.is_not(None), call.c.part_id.is_(None))
        .subquery("pairs")
    )
    least = sa.func.least
    read = least(pairs.c.end, pairs.c.read) - least(pairs.c.start, pairs.c.read)
    cached = least(pairs.c.end, pairs.c.cached) - least(pairs.c.start, pairs.c.cached)
    sums = (
        sa.select(
            pairs.c.number,
            pairs.c.price_id,
            sa.func.count().label("calls"),
            _sum(read).label("read"),
            _sum(cached).label("cached"),
            _sum(pairs.c.end - pairs.c.start).label("whole"),
        )
        .group_by(pairs.c.number, pairs.c.price_id)
        .subquery("sums_of_pairs")
    )
    return sa.select(
        line.c.part_id.label("carrier_id"),
        line.c.session_id,
        sums.c.price_id,
        line.c.size.label("size_tokens"),
        sums.c.calls,
        sums.c.read.label("read_tokens"),
        (sums.c.cached - sums.c.read).label("written_tokens"),
        (sums.c.whole - sums.c.cached).label("sent_tokens"),
    ).join(sums, sums.c.number == line.c.number)


def _slices_of_bases(line: sa.CTE) -> sa.Select[Any]:
    """Return the same for the base of each session."""
    base = sa.func.greatest(line.c.context - line.c.through, 0)
    read = sa.func.least(base, line.c.read)
    cached = sa.func.least(base, line.c.read + line.c.write)
    return (
        sa.select(
            line.c.session_id + BASE_SUFFIX,
            line.c.session_id,
            line.c.price_id,
            sa.func.max(base),
            sa.func.count(),
            _sum(read),
            _sum(cached - read),
            _sum(base - cached),
        )
        .where(line.c.part_id.is_(None))
        .group_by(line.c.session_id, line.c.price_id)
    )


def _sum(tokens: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    return sa.cast(sa.func.sum(tokens), sa.BigInteger)
