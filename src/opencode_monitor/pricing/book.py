"""The price book in the database: seeded, extended by the user, and matched to the models in use."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, date, datetime
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from opencode_monitor.db.bulk import upsert
from opencode_monitor.models import Message, Model, ModelAlias, ModelPricing, PricePeriodRow, StepEvent
from opencode_monitor.pricing.catalog import PriceCell, PricePeriod, price_cells
from opencode_monitor.pricing.seeds import resolve_model, seed_periods

if TYPE_CHECKING:
    from collections.abc import Sequence

_PERIOD_COLUMNS = tuple(field.name for field in fields(PricePeriod))
# `model_pricing` has one row per model name, as the plan has it: the price of the vendor that made the model.
_MAKERS = (
    "anthropic",
    "openai",
    "google",
    "xai",
    "mistral",
    "deepseek",
    "moonshotai",
    "minimax",
    "zai",
    "cohere",
    "meta",
)


NO_MODEL = "(no model)"
"""How calls are listed whose model OpenCode does not store: those of deleted messages, and the hidden ones of 2.x."""


def seed_price_book(connection: sa.Connection, *, now: datetime) -> None:
    """Put the packaged prices into the book; a package with newer prices adds to it.

    Args:
        connection: In a transaction of the caller's.
        now: Rows that begin later are provisional: announced prices have been called off before.
    """
    seed_version = version("genai-prices")
    rows = sa.select(sa.func.count()).select_from(PricePeriodRow)
    seeded = rows.where(PricePeriodRow.source == "genai-prices", PricePeriodRow.source_version == seed_version)
    confirmable = rows.where(PricePeriodRow.status == "provisional", PricePeriodRow.effective_from <= now)
    if connection.execute(seeded).scalar_one() and not connection.execute(confirmable).scalar_one():
        return
    add_periods(connection, seed_periods(now.date()), now=now)


def add_periods(connection: sa.Connection, periods: Sequence[PricePeriod], *, now: datetime) -> None:
    """Add rows to the book and bring the plan's `model_pricing` up to date.

    Args:
        connection: In a transaction of the caller's.
        periods: Rows; one with an id that the book has replaces it.
        now: The time that "current" means.
    """
    rows = [tuple(getattr(period, column) for column in _PERIOD_COLUMNS) for period in periods]
    upsert(connection, PricePeriodRow.__table__, _PERIOD_COLUMNS, rows)  # type: ignore[arg-type] # a mapped class's table is a Table
    _refresh_model_pricing(connection, now=now)


def resolve_aliases(connection: sa.Connection) -> None:
    """Find the price entry of every model that has none yet; a model that stays without is unpriced."""
    unresolved = sa.select(Model.model_id, Model.vendor, Model.model_name).where(Model.model_id.not_in(sa.select(ModelAlias.model_id)))
    found = [
        (model_id, *entry, "rule")
        for model_id, vendor, model_name in connection.execute(unresolved).all()
        if (entry := resolve_model(vendor, model_name)) is not None
    ]
    upsert(connection, ModelAlias.__table__, ("model_id", "price_vendor", "price_model", "source"), found)  # type: ignore[arg-type] # as above


def load_cells(connection: sa.Connection) -> list[tuple[str, PriceCell]]:
    """Return the prices of all models in use, as (model_id, cell); the cells of a model do not overlap.

    A model's own rows (the user's, under the name that OpenCode writes) stand beside those of the entry that it resolves to.
    """
    own = sa.and_(PricePeriodRow.vendor == Model.vendor, PricePeriodRow.model == Model.model_name)
    target = sa.and_(PricePeriodRow.vendor == ModelAlias.price_vendor, PricePeriodRow.model == ModelAlias.price_model)
    rows = connection.execute(
        sa.select(Model.model_id, *(getattr(PricePeriodRow, column) for column in _PERIOD_COLUMNS))
        .select_from(Model)
        .join(ModelAlias, ModelAlias.model_id == Model.model_id, isouter=True)
        .join(PricePeriodRow, sa.or_(own, target))
        .where(PricePeriodRow.mode == "standard")
    ).all()
    periods: dict[str, list[PricePeriod]] = {}
    for model_id, *values in rows:
        periods.setdefault(model_id, []).append(_period(values))
    return [(model_id, cell) for model_id, own_periods in periods.items() for cell in price_cells(own_periods)]


def find_periods(model: str, *, at: datetime, connection: sa.Connection | None = None) -> list[PricePeriod]:
    """Return the rows that price one model.

    Args:
        model: "vendor/model" as OpenCode writes it; without a vendor, the name of a model at its maker.
        at: The time that "announced" is judged by, for the packaged prices.
        connection: Where to look; the packaged prices where absent.
    """
    vendor, slash, name = model.partition("/")
    if not slash:
        vendor, name = next(((maker, model) for maker in _MAKERS if resolve_model(maker, model)), ("", model))
    if connection is not None:
        return _stored_periods(connection, vendor, name)
    entry = resolve_model(vendor, name)
    return [row for row in _packaged(at.date()) if (row.vendor, row.model) == entry and row.mode == "standard"]


@lru_cache(maxsize=4)
def _packaged(day: date) -> tuple[PricePeriod, ...]:
    return tuple(seed_periods(day))


def _stored_periods(connection: sa.Connection, vendor: str, model: str) -> list[PricePeriod]:
    """Return the rows under the model's own name, and those of the entry that it resolves to."""
    alias = connection.execute(
        sa.select(ModelAlias.price_vendor, ModelAlias.price_model).where(ModelAlias.model_id == f"{vendor}/{model}")
    ).one_or_none()
    names = {(vendor, model), tuple(alias) if alias else resolve_model(vendor, model)} - {None}
    rows = connection.execute(
        sa.select(*(getattr(PricePeriodRow, column) for column in _PERIOD_COLUMNS)).where(
            sa.or_(*(sa.and_(PricePeriodRow.vendor == name[0], PricePeriodRow.model == name[1]) for name in names if name)),
            PricePeriodRow.mode == "standard",
        )
    ).all()
    return [_period(row) for row in rows]


def _period(values: Sequence[Any]) -> PricePeriod:
    return PricePeriod(**dict(zip(_PERIOD_COLUMNS, values, strict=True)))


def _refresh_model_pricing(connection: sa.Connection, *, now: datetime) -> None:
    """Keep the plan's table: the base price of each makers' model that holds now, per 1,000 tokens."""
    ranked = (
        sa.select(
            PricePeriodRow.model,
            PricePeriodRow.vendor,
            PricePeriodRow.input_usd_per_mtok,
            PricePeriodRow.output_usd_per_mtok,
            sa.func.row_number()
            .over(
                partition_by=PricePeriodRow.model,
                order_by=(
                    PricePeriodRow.precedence.desc(),
                    PricePeriodRow.effective_from.desc(),
                    PricePeriodRow.price_id,
                ),
            )
            .label("place"),
        )
        .where(
            PricePeriodRow.vendor.in_(_MAKERS),
            PricePeriodRow.mode == "standard",
            PricePeriodRow.min_context_tokens == 0,
            PricePeriodRow.status != "provisional",
            PricePeriodRow.effective_from <= now,
            sa.or_(PricePeriodRow.effective_to.is_(None), PricePeriodRow.effective_to > now),
            PricePeriodRow.daily_from_minute.is_(None),
            PricePeriodRow.input_usd_per_mtok.is_not(None),
            PricePeriodRow.output_usd_per_mtok.is_not(None),
        )
        .subquery()
    )
    current = connection.execute(sa.select(ranked).where(ranked.c.place == 1)).all()
    rows = [(row.model, row.vendor, row.input_usd_per_mtok / 1000, row.output_usd_per_mtok / 1000, now.astimezone(UTC)) for row in current]
    columns = ("model_name", "vendor", "input_token_cost_per_1k", "output_token_cost_per_1k", "updated_at")
    known = {
        tuple(row)
        for row in connection.execute(
            sa.select(
                ModelPricing.model_name,
                ModelPricing.vendor,
                ModelPricing.input_token_cost_per_1k,
                ModelPricing.output_token_cost_per_1k,
            )
        ).all()
    }
    upsert(connection, ModelPricing.__table__, columns, [row for row in rows if row[:4] not in known])  # type: ignore[arg-type] # as above


def unpriced_models(connection: sa.Connection) -> list[tuple[str, int]]:
    """Return the models with calls that have no price, as (model_id, calls), most calls first."""
    calls = sa.func.count()
    statement = (
        sa.select(Message.model_id, calls)
        .join(StepEvent, StepEvent.message_id == Message.message_id)
        .where(Message.cost_basis == "unpriced", StepEvent.input_tokens.is_not(None), StepEvent.step_cost_usd.is_(None))
        .group_by(Message.model_id)
        .order_by(calls.desc(), Message.model_id)
    )
    return [(model_id or NO_MODEL, count) for model_id, count in connection.execute(statement).all()]
