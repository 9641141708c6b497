"""What is paid out of pocket, on whole tables: the list cost of each call under the user's statements."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from opencode_monitor.db.bulk import staged, upsert
from opencode_monitor.db.types import Money, UtcDateTime
from opencode_monitor.errors import PriceError
from opencode_monitor.models import Message, Model, PriceAdjustment, PricePeriodRow, ProviderBilling, StepEvent
from opencode_monitor.pricing.adjustments import (
    BUCKET_OF_WORD,
    Adjustment,
    Billing,
    billing_cells,
    refuse_excess,
    refuse_overlap,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from decimal import Decimal

    from sqlalchemy.orm import InstrumentedAttribute

_ADJUSTMENT_COLUMNS = tuple(field.name for field in fields(Adjustment))
_BILLING_COLUMNS = tuple(field.name for field in fields(Billing))
_BUCKETS = tuple(BUCKET_OF_WORD.values())
# What a call's bucket costs has twelve decimals, and so has the factor; their product is kept whole until the call is summed.
_FACTOR = sa.Numeric(18, 12)
_EXACT = sa.Numeric(38, 24)
_CELL_COLUMNS: tuple[sa.Column[Any], ...] = (
    sa.Column("model_id", sa.Text()),
    sa.Column("valid_from", UtcDateTime()),
    sa.Column("valid_to", UtcDateTime()),
    sa.Column("is_metered", sa.Boolean()),
    *(sa.Column(bucket, _FACTOR) for bucket in _BUCKETS),
)
_PRICE_OF_BUCKET: dict[str, sa.ColumnElement[Decimal | None]] = {
    "input_tokens": PricePeriodRow.input_usd_per_mtok.expression,
    "cache_read_tokens": PricePeriodRow.cache_read_usd_per_mtok.expression,
    "cache_write_tokens": PricePeriodRow.cache_write_5m_usd_per_mtok.expression,
    "output_tokens": PricePeriodRow.output_usd_per_mtok.expression,
    "reasoning_tokens": sa.func.coalesce(PricePeriodRow.reasoning_usd_per_mtok, PricePeriodRow.output_usd_per_mtok),
}


def load_adjustments(connection: sa.Connection) -> list[Adjustment]:
    """Return all discounts and mark-ups, in the order of what they are about."""
    statement = sa.select(*(getattr(PriceAdjustment, name) for name in _ADJUSTMENT_COLUMNS)).order_by(
        PriceAdjustment.provider, PriceAdjustment.model_glob, PriceAdjustment.bucket, PriceAdjustment.effective_from
    )
    return [Adjustment(**row) for row in connection.execute(statement).mappings().all()]


def load_billings(connection: sa.Connection) -> list[Billing]:
    """Return how each provider charges, by provider and time."""
    statement = sa.select(*(getattr(ProviderBilling, name) for name in _BILLING_COLUMNS)).order_by(
        ProviderBilling.provider_id, ProviderBilling.effective_from.asc().nulls_first()
    )
    return [Billing(**row) for row in connection.execute(statement).mappings().all()]


def add_adjustment(connection: sa.Connection, adjustment: Adjustment, *, now: datetime) -> None:
    """Store an adjustment; what is paid follows with the next `charge_calls`.

    Args:
        connection: In a transaction of the caller's.
        adjustment: It takes the place of one with the same id.
        now: When it was said.

    Raises:
        PriceError: All mark-ups together are too much.
    """
    others = [one for one in load_adjustments(connection) if one.adjustment_id != adjustment.adjustment_id]
    refuse_excess([*others, adjustment])
    _store(connection, PriceAdjustment, _ADJUSTMENT_COLUMNS, adjustment, now)


def add_billing(connection: sa.Connection, billing: Billing, *, now: datetime) -> None:
    """Store how a provider charges; what is paid follows with the next `charge_calls`.

    Args:
        connection: In a transaction of the caller's.
        billing: It takes the place of one with the same id.
        now: When it was said.

    Raises:
        PriceError: Another period of the provider overlaps it.
    """
    refuse_overlap(billing, load_billings(connection))
    _store(connection, ProviderBilling, _BILLING_COLUMNS, billing, now)


def remove_statement(connection: sa.Connection, model: type[PriceAdjustment | ProviderBilling], identity: str) -> None:
    """Remove an adjustment or a billing period.

    Args:
        connection: In a transaction of the caller's.
        model: Which of the two.
        identity: Its id.

    Raises:
        PriceError: There is none with this id.
    """
    key: InstrumentedAttribute[str] = model.adjustment_id if issubclass(model, PriceAdjustment) else model.billing_id
    if connection.scalar(sa.select(key).where(key == identity)) is None:
        raise PriceError(f"nothing has the id {identity}. See them with --list.")
    connection.execute(sa.delete(model).where(key == identity))


def charge_calls(connection: sa.Connection, scope: sa.FromClause | None = None) -> None:
    """Set what each call cost out of pocket, from its list cost and the user's statements; rows that are right already stay untouched.

    Args:
        connection: In a transaction of the caller's.
        scope: A selectable with the `session_id`s to look at; None for all sessions.
    """
    adjustments, billings = load_adjustments(connection), load_billings(connection)
    is_call = sa.and_(
        StepEvent.input_tokens.is_not(None),
        sa.true() if scope is None else StepEvent.session_id.in_(sa.select(scope.c.session_id)),
    )
    if not adjustments and not billings:
        connection.execute(
            sa.update(StepEvent)
            .values(paid_cost_usd=StepEvent.step_cost_usd)
            .where(is_call, StepEvent.paid_cost_usd.is_distinct_from(StepEvent.step_cost_usd))
        )
        return
    models = connection.execute(sa.select(Model.model_id, Model.vendor, Model.model_name)).all()
    cells = [
        (model_id, cell.valid_from, cell.valid_to, cell.is_metered, *(cell.factors[bucket] for bucket in _BUCKETS))
        for model_id, vendor, name in models
        for cell in billing_cells(vendor, name, adjustments, billings)
    ]
    copy = sa.select(Message.message_id).where(Message.copied_from.is_not(None)).subquery("copy")
    with staged(connection, "billing_cells", _CELL_COLUMNS, cells) as cell:
        holds = sa.and_(
            cell.c.model_id == StepEvent.model_id, StepEvent.called_at >= cell.c.valid_from, StepEvent.called_at < cell.c.valid_to
        )
        charged = (
            sa.select(StepEvent.step_id, _paid_cost(cell, copy).label("paid"), StepEvent.paid_cost_usd.label("before"))
            .join(copy, copy.c.message_id == StepEvent.message_id, isouter=True)
            .join(cell, holds, isouter=True)
            .join(PricePeriodRow, PricePeriodRow.price_id == StepEvent.price_id, isouter=True)
            .where(is_call)
            .subquery("charged")
        )
        connection.execute(
            sa.update(StepEvent)
            .values(paid_cost_usd=charged.c.paid)
            .where(StepEvent.step_id == charged.c.step_id, charged.c.paid.is_distinct_from(charged.c.before))
        )


def _paid_cost(cell: sa.FromClause, copy: sa.FromClause) -> sa.ColumnElement[Decimal | None]:
    """Return what a call cost out of pocket in USD; see `pricing.adjustments`."""
    exact: sa.ColumnElement[Decimal] = sa.literal_column("0")
    for bucket in _BUCKETS:
        tokens = getattr(StepEvent, bucket)
        listed = sa.cast(tokens * _PRICE_OF_BUCKET[bucket] * sa.literal_column("0.000001"), Money())
        exact += sa.cast(sa.case((tokens == 0, sa.literal_column("0")), else_=sa.cast(listed * cell.c[bucket], _EXACT)), _EXACT)
    return sa.case(
        (copy.c.message_id.is_not(None), sa.cast(0, Money())),
        (cell.c.model_id.is_(None), StepEvent.step_cost_usd),
        (sa.not_(cell.c.is_metered), sa.cast(0, Money())),
        (StepEvent.step_cost_usd.is_(None), sa.null()),
        else_=_half_even(sa.cast(exact, _EXACT)),
    )


def _half_even(exact: sa.ColumnElement[Decimal]) -> sa.ColumnElement[Decimal]:
    """Round an amount that is not negative to twelve decimals, a half to the even neighbour; a cast takes a half up on both engines."""
    rounded = sa.cast(exact, Money())
    was_half = rounded - exact == sa.literal_column("0.0000000000005")
    # Half of an odd amount has one decimal too many, and the cast changes it.
    is_odd = sa.cast(rounded * sa.literal_column("0.5"), Money()) * sa.literal_column("2") != rounded
    return sa.case((sa.and_(was_half, is_odd), rounded - sa.literal_column("0.000000000001")), else_=rounded)


def _store(
    connection: sa.Connection,
    model: type[PriceAdjustment | ProviderBilling],
    columns: Sequence[str],
    statement: Adjustment | Billing,
    now: datetime,
) -> None:
    row = (*(getattr(statement, column) for column in columns), now)
    upsert(connection, model.__table__, (*columns, "recorded_at"), [row])  # type: ignore[arg-type] # a mapped class's table is a Table
