"""The cost formula, once, and its use on whole tables.

    cost of a call = input x price(input) + cache read x price(cache read) + cache write x price(cache write)
                   + output x price(output) + reasoning x price(reasoning)

with disjoint buckets, prices in USD per token, and the row of the price book that holds at the call's own time for its whole context
(input + cache read + cache write). A bucket with tokens and without a price makes the whole call unpriced: NULL, never 0. Everything is
DECIMAL, so that parts sum to their message, messages to their session and sessions to the total, exactly.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from opencode_monitor.db.bulk import staged
from opencode_monitor.db.types import Money, UtcDateTime
from opencode_monitor.models import CostBasis, Message, Part, StepEvent
from opencode_monitor.pricing.catalog import MINUTES_OF_DAY, PriceCell, find_cell
from opencode_monitor.pricing.lookup import find_cells, load_cells
from opencode_monitor.pricing.paid import charge_calls
from opencode_monitor.pricing.shares import cut_money, weighed_parts
from opencode_monitor.pricing.tokens import TokenBuckets

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from sqlalchemy.orm import InstrumentedAttribute

PRICE_OF_BUCKET = {
    "input_tokens": "input_usd_per_token",
    "cache_read_tokens": "cache_read_usd_per_token",
    "cache_write_tokens": "cache_write_usd_per_token",
    "output_tokens": "output_usd_per_token",
    "reasoning_tokens": "reasoning_usd_per_token",
}
"""The formula as data: each bucket is paid at its own price."""

_MINUTES = ("from_minute", "to_minute")
_CELL_COLUMNS: tuple[sa.Column[object], ...] = (
    sa.Column("model_id", sa.Text()),
    sa.Column("price_id", sa.Text()),
    sa.Column("valid_from", UtcDateTime()),
    sa.Column("valid_to", UtcDateTime()),
    sa.Column("min_context_tokens", sa.BigInteger()),
    sa.Column("max_context_tokens", sa.BigInteger()),
    sa.Column("from_minute", sa.Integer()),
    sa.Column("to_minute", sa.Integer()),
    *(sa.Column(price, Money()) for price in PRICE_OF_BUCKET.values()),
)


def call_cost(step: type[StepEvent], cell: sa.FromClause) -> sa.ColumnElement[Decimal | None]:
    """Return the formula as SQL over a step and the price cell that holds for it, in USD.

    Args:
        step: The mapped class with the five buckets.
        cell: A selectable with the five prices per token.
    """
    terms = [
        sa.case((getattr(step, bucket) == 0, sa.literal(0)), else_=getattr(step, bucket) * cell.c[price])
        for bucket, price in PRICE_OF_BUCKET.items()
    ]
    total: sa.ColumnElement[Decimal | None] = sa.cast(terms[0], Money())
    for term in terms[1:]:
        total += sa.cast(term, Money())
    return total


def cell_cost(buckets: TokenBuckets, cell: PriceCell) -> Decimal | None:
    """Return the formula's result for one call in USD, or None where a bucket with tokens has no price."""
    total = Decimal(0)
    for bucket, price in PRICE_OF_BUCKET.items():
        tokens, usd = getattr(buckets, bucket), getattr(cell, price)
        if tokens and usd is None:
            return None
        total += tokens * (usd or Decimal(0))
    return total


def calculate_cost(
    input_tokens: int,
    output_tokens: int,
    model: str,
    *,
    cache_read_tokens: int = 0,
    cache_write_tokens: int = 0,
    reasoning_tokens: int = 0,
    at: datetime | None = None,
    connection: sa.Connection | None = None,
) -> Decimal | None:
    """Calculate what one call costs at list price.

    Args:
        input_tokens: Uncached prompt tokens.
        output_tokens: Visible output tokens.
        model: "vendor/model" as OpenCode writes it, or a name of the plan's `model_pricing` table ("gpt-4o").
        cache_read_tokens: Prompt tokens read from the provider's cache.
        cache_write_tokens: Prompt tokens written to it.
        reasoning_tokens: Reasoning tokens beside the output.
        at: When the call was made; now where absent.
        connection: Where to look prices up, the user's own included; the packaged prices where absent.

    Returns:
        USD, exact; None where the model, or a bucket that has tokens, has no price: unknown is not 0.

    Raises:
        ValueError: A count is negative.
    """
    buckets = TokenBuckets(input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens)
    if any(getattr(buckets, bucket) < 0 for bucket in PRICE_OF_BUCKET):
        raise ValueError("token counts cannot be negative")
    at = at or datetime.now(UTC)
    cell = find_cell(find_cells(model, at=at, connection=connection), at, buckets.context_tokens)
    return None if cell is None else cell_cost(buckets, cell)


def price_calls(connection: sa.Connection, scope: sa.FromClause | None = None, *, again: bool = False) -> None:
    """Price the calls that have no price row yet, and share each step's cost over its parts.

    A call that was priced once keeps its price row: a change of prices never re-prices the past on its own.

    Args:
        connection: In a transaction of the caller's.
        scope: A selectable with the `session_id`s to look at; None for all sessions.
        again: Price the calls anew that were priced before.
    """
    todo = _ToDo._make(connection.execute(_counted_to_do(scope)).one())
    if todo.stale:
        copy_call_facts(connection, scope)
    copies = sa.select(Message.message_id).where(Message.copied_from.is_not(None))
    if todo.stale or todo.billed_copies:
        _zero_copies(connection, copies, scope)
    if todo.stale or todo.former_copies:
        _forget_zeros(connection, copies, scope)
    if any(todo) or again:
        price_steps(connection, scope, again=again)
    sum_costs(connection, scope)


class _ToDo(NamedTuple):
    """How many steps need what: to count all of it takes less than one update that finds nothing.

    Attributes:
        stale: Say another model or time than their message.
        billed_copies: Are copies made by a fork, and not known to cost nothing.
        former_copies: Cost nothing as if they were copies.
        unpriced: Are calls without a price row.
    """

    stale: int
    billed_copies: int
    former_copies: int
    unpriced: int


# To make a statement takes longer than some of them run. Those of every batch are kept by their scope, which `staged` makes once for each
# name.


@lru_cache(maxsize=8)
def _counted_to_do(scope: sa.FromClause | None) -> sa.Select[*tuple[Any, ...]]:
    is_copy = Message.copied_from.is_not(None)
    counted = (
        sa.and_(Message.message_id.is_not(None), _is_stale()),
        sa.and_(is_copy, _is_billed()),
        sa.and_(sa.not_(is_copy), _costs_as_copy()),
        sa.and_(is_call(), StepEvent.price_id.is_(None)),
    )
    return (
        sa.select(*(sa.func.count().filter(condition) for condition in counted))
        .select_from(StepEvent)
        .join(Message, Message.message_id == StepEvent.message_id, isouter=True)
        .where(in_scope(StepEvent.session_id, scope))
    )


def _is_stale() -> sa.ColumnElement[bool]:
    """Return the condition that a step says another model or time than its message."""
    return sa.or_(StepEvent.model_id.is_distinct_from(Message.model_id), StepEvent.called_at.is_distinct_from(Message.created_at))


def _is_billed() -> sa.ColumnElement[bool]:
    """Return the condition that a call costs something, or is not known to cost nothing."""
    is_open = sa.or_(StepEvent.step_cost_usd.is_(None), StepEvent.step_cost_usd != 0, StepEvent.price_id.is_not(None))
    return sa.and_(StepEvent.input_tokens.is_not(None), is_open)


def _costs_as_copy() -> sa.ColumnElement[bool]:
    """Return the condition that a step has what only a copy's has: a cost without a price row."""
    return sa.and_(StepEvent.step_cost_usd.is_not(None), StepEvent.price_id.is_(None))


def copy_call_facts(connection: sa.Connection, scope: sa.FromClause | None) -> None:
    """Bring the model and the time of calls in line with their messages; an import writes both with the call, so that seldom one differs.

    Those are steps that came without their message, and calls whose message says something else by now. A call of another model has no
    price until it is priced by that one's.

    Args:
        connection: In a transaction of the caller's.
        scope: A selectable with the `session_id`s to look at; None for all sessions.
    """
    is_mispriced = sa.and_(StepEvent.model_id.is_distinct_from(Message.model_id), StepEvent.price_id.is_not(None))
    connection.execute(
        sa.update(StepEvent)
        .values(
            model_id=Message.model_id,
            called_at=Message.created_at,
            step_cost_usd=sa.case((is_mispriced, sa.null()), else_=StepEvent.step_cost_usd),
            paid_cost_usd=sa.case((is_mispriced, sa.null()), else_=StepEvent.paid_cost_usd),
            price_id=sa.case((is_mispriced, sa.null()), else_=StepEvent.price_id),
        )
        .where(Message.message_id == StepEvent.message_id, _is_stale(), in_scope(StepEvent.session_id, scope))
    )


def sum_costs(connection: sa.Connection, scope: sa.FromClause | None) -> None:
    """Bring what is paid, the messages and the parts up to date with the list costs of their steps.

    Args:
        connection: In a transaction of the caller's.
        scope: A selectable with the `session_id`s to look at; None for all sessions.
    """
    charge_calls(connection, scope)
    sum_messages(connection, scope)
    share_steps(connection, scope)


def _zero_copies(connection: sa.Connection, copies: sa.Select[str], scope: sa.FromClause | None) -> None:
    """A copy made by a fork was billed with its original."""
    connection.execute(
        sa.update(StepEvent)
        .values(step_cost_usd=sa.cast(0, Money()), paid_cost_usd=sa.cast(0, Money()), price_id=None)
        .where(StepEvent.message_id.in_(copies), _is_billed(), in_scope(StepEvent.session_id, scope))
    )


def _forget_zeros(connection: sa.Connection, copies: sa.Select[str], scope: sa.FromClause | None) -> None:
    """What turns out to be no copy has no cost until it is priced."""
    connection.execute(
        sa.update(StepEvent)
        .values(step_cost_usd=None)
        .where(StepEvent.message_id.not_in(copies), _costs_as_copy(), in_scope(StepEvent.session_id, scope))
    )


def priceable_sessions(connection: sa.Connection) -> list[str]:
    """Return the sessions with a call that has no price yet, and would get one now."""
    with staged_cells(connection) as cell:
        priced = priced_steps(cell).subquery("priced")
        return list(connection.scalars(sa.select(priced.c.session_id).where(priced.c.cost.is_not(None)).distinct()).all())


def staged_cells(connection: sa.Connection, scope: sa.FromClause | None = None) -> AbstractContextManager[sa.FromClause]:
    """Make the prices selectable of all models in use, for the time that calls were made in.

    Without the minutes of the day where none of them minds: looking at them takes as long as all the rest of the join.

    Args:
        connection: In a transaction of the caller's.
        scope: A selectable with the `session_id`s of the calls; None for all sessions.
    """
    times = sa.select(sa.func.min(StepEvent.called_at), sa.func.max(StepEvent.called_at)).where(in_scope(StepEvent.session_id, scope))
    first, last = connection.execute(times).one()
    cells = [
        (model_id, cell)
        for model_id, cell in load_cells(connection)
        if first is not None and last is not None and cell.valid_from <= last and first < cell.valid_to
    ]
    whole_days = all(cell.from_minute == 0 and cell.to_minute == MINUTES_OF_DAY for _, cell in cells)
    columns = [column for column in _CELL_COLUMNS if not whole_days or column.name not in _MINUTES]
    rows = [(model_id, *(getattr(cell, column.name) for column in columns[1:])) for model_id, cell in cells]
    return staged(connection, "price_cells", columns, rows)


def priced_steps(cell: sa.FromClause) -> sa.Select[Any]:
    """Select the calls without a price that a cell of the book holds for, with their cost; nothing is written.

    Args:
        cell: What `staged_cells` made.
    """
    return sa.select(StepEvent.step_id, StepEvent.session_id, call_cost(StepEvent, cell).label("cost"), cell.c.price_id).where(
        is_call(), StepEvent.price_id.is_(None), holds_for(cell)
    )


def price_steps(connection: sa.Connection, scope: sa.FromClause | None = None, *, again: bool = False) -> None:
    """Set the price row and the list cost of calls; what is paid is the same, as long as the user says nothing else.

    Args:
        connection: In a transaction of the caller's.
        scope: A selectable with the `session_id`s to look at; None for all sessions.
        again: Price the calls anew that were priced before.
    """
    with staged_cells(connection, scope) as cell:
        connection.execute(_priced(cell, scope, again=again))


@lru_cache(maxsize=8)
def _priced(cell: sa.FromClause, scope: sa.FromClause | None, *, again: bool) -> sa.Update:
    cost = call_cost(StepEvent, cell)
    # Joined to the table itself: a subquery of its rows would have to be matched with them again. A row of the book that names no
    # price for a bucket in use does not price the call: it stays without a price row too.
    return (
        sa.update(StepEvent)
        .values(step_cost_usd=cost, paid_cost_usd=cost, price_id=sa.case((cost.is_not(None), cell.c.price_id)))
        .where(is_call(), sa.true() if again else StepEvent.price_id.is_(None), holds_for(cell), in_scope(StepEvent.session_id, scope))
    )


def is_call() -> sa.ColumnElement[bool]:
    """Return the condition that a step is a call with usage, and no copy that a fork made: those alone have a cost without a price row."""
    return sa.and_(StepEvent.input_tokens.is_not(None), sa.or_(StepEvent.price_id.is_not(None), StepEvent.step_cost_usd.is_(None)))


def holds_for(cell: sa.FromClause) -> sa.ColumnElement[bool]:
    """Return the condition that a cell of the book holds for a call: its model, time, minute of the day, and whole context."""
    context = StepEvent.input_tokens + StepEvent.cache_read_tokens + StepEvent.cache_write_tokens
    conditions = [
        cell.c.model_id == StepEvent.model_id,
        StepEvent.called_at >= cell.c.valid_from,
        StepEvent.called_at < cell.c.valid_to,
        context > cell.c.min_context_tokens,
        context <= cell.c.max_context_tokens,
    ]
    if set(_MINUTES) <= set(cell.c.keys()):
        hour, minute_of_hour = (sa.cast(sa.extract(field, StepEvent.called_at), sa.Integer) for field in ("hour", "minute"))
        minute = hour * 60 + minute_of_hour
        conditions += [minute >= cell.c.from_minute, minute < cell.c.to_minute]
    return sa.and_(*conditions)


def sum_messages(connection: sa.Connection, scope: sa.FromClause | None = None) -> None:
    """Sum the calls of each message: what they cost at list price, and what is paid for them; NULL where that of one call is unknown.

    Args:
        connection: In a transaction of the caller's.
        scope: A selectable with the `session_id`s to look at; None for all sessions.
    """
    connection.execute(_summed(scope))


@lru_cache(maxsize=8)
def _summed(scope: sa.FromClause | None) -> sa.Update:
    calls = (
        sa.select(
            StepEvent.message_id,
            sa.func.count().label("calls"),
            sa.func.count(StepEvent.step_cost_usd).label("priced"),
            sa.func.sum(StepEvent.step_cost_usd).label("cost"),
            sa.func.count(StepEvent.paid_cost_usd).label("charged"),
            sa.func.sum(StepEvent.paid_cost_usd).label("paid"),
        )
        .where(StepEvent.input_tokens.is_not(None), in_scope(StepEvent.session_id, scope))
        .group_by(StepEvent.message_id)
        .subquery("calls")
    )
    all_priced = calls.c.priced == calls.c.calls
    values: dict[InstrumentedAttribute[Any], sa.ColumnElement[Any]] = {
        Message.call_count: calls.c.calls,
        Message.message_cost_usd: sa.case((all_priced, calls.c.cost)),
        Message.cost_basis: sa.case(
            (Message.copied_from.is_not(None), CostBasis.COPIED.value),
            (all_priced, CostBasis.CALCULATED.value),
            else_=CostBasis.UNPRICED.value,
        ),
        Message.paid_cost_usd: sa.case((calls.c.charged == calls.c.calls, calls.c.paid)),
    }
    differs = sa.or_(*(column.is_distinct_from(value) for column, value in values.items()))
    return sa.update(Message).values(values).where(Message.message_id == calls.c.message_id, differs)


def share_steps(connection: sa.Connection, scope: sa.FromClause | None) -> None:
    """Share each step's cost over the parts that it produced; the rest stays with the step."""
    connection.exec_driver_sql(_shared(scope, connection.dialect))


@lru_cache(maxsize=8)
def _shared(scope: sa.FromClause | None, dialect: sa.Dialect) -> str:
    # DuckDB matches rows by their number in a fifth less time than by a long id.
    key: sa.ColumnElement[Any] = sa.literal_column("parts.rowid") if dialect.name == "duckdb" else Part.part_id.expression
    weighed = weighed_parts(
        # Where one call of a message has no price, the message has none: its parts then say nothing either.
        [sa.case((Message.cost_basis != CostBasis.UNPRICED.value, StepEvent.step_cost_usd)).label("step_cost_usd")],
        Message.cost_basis.is_not(None),
        in_scope(Part.session_id, scope),
        in_scope(Message.session_id, scope),
        of_steps=in_scope(StepEvent.session_id, scope),
        key=key,
    )
    cost: sa.ColumnElement[Decimal | None] = weighed.c.step_cost_usd
    share = cut_money(cost, weighed.c.units)
    given = sa.func.sum(share).over(partition_by=(weighed.c.message_id, weighed.c.step_number))
    result = sa.select(
        weighed.c.part_key,
        sa.case((cost.is_(None), sa.null()), (weighed.c.is_step, cost - given), else_=share).label("cost"),
    ).subquery("result")
    statement = sa.update(Part).values(part_cost_usd=sa.cast(result.c.cost, Money())).where(key == result.c.part_key)
    # As text, because SQLAlchemy does not see that the number is a column, and would take the two for unconnected.
    return str(statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))


def in_scope(session_id: InstrumentedAttribute[str], scope: sa.FromClause | None) -> sa.ColumnElement[bool]:
    """Return the condition that a row belongs to the sessions looked at."""
    return sa.true() if scope is None else session_id.in_(sa.select(scope.c.session_id))
