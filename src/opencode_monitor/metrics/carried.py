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

What is in a context, and in which order, is told in `metrics/contexts.py`.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from opencode_monitor.db.bulk import staged
from opencode_monitor.db.dialect import integer_division
from opencode_monitor.db.types import Money
from opencode_monitor.metrics.contexts import ContextScope, context_line
from opencode_monitor.models import (
    CarriedCost,
    CostBasis,
    Message,
    Part,
    PricePeriodRow,
    Session,
    SessionStats,
    StepEvent,
)
from opencode_monitor.pricing.cost import in_scope

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from decimal import Decimal

BASE_SUFFIX = ":context"
"""What the id of a session's base ends in, after the session's id."""

CHUNK_PARTS = 100_000
"""About how many parts one statement looks at: pairs of calls and parts are many, and memory is to stay below 1 GB."""

_SESSION_ID = (sa.Column("session_id", sa.Text()),)


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
        statement = _carried(ContextScope(scope, session_ids[0], session_ids[-1]))
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


def _carried(scope: ContextScope) -> sa.Select[Any]:
    """Return the rows of `carried_costs` for some sessions."""
    line = context_line(scope)
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
