"""The plan's table of current prices, kept up from the book."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from opencode_monitor.db.bulk import upsert
from opencode_monitor.models import ModelPricing, PricePeriodRow

if TYPE_CHECKING:
    from datetime import datetime

# `model_pricing` has one row per model name, as the plan has it: the price of the vendor that made the model.
MAKERS = (
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


def refresh_model_pricing(connection: sa.Connection, *, now: datetime) -> None:
    """Keep the plan's table: the base price of each maker's model that holds now, per 1,000 tokens; only what differs is written.

    Args:
        connection: In a transaction of the caller's.
        now: The time that "current" means.
    """
    current = connection.execute(_current_prices(now)).all()
    rows = [(row.model, row.vendor, row.input_usd_per_mtok / 1000, row.output_usd_per_mtok / 1000, now.astimezone(UTC)) for row in current]
    columns = ("model_name", "vendor", "input_token_cost_per_1k", "output_token_cost_per_1k", "updated_at")
    known = {
        row.model_name: tuple(row)
        for row in connection.execute(
            sa.select(
                ModelPricing.model_name,
                ModelPricing.vendor,
                ModelPricing.input_token_cost_per_1k,
                ModelPricing.output_token_cost_per_1k,
            )
        ).all()
    }
    ended = sorted(set(known) - {row[0] for row in rows})
    if ended:
        connection.execute(sa.delete(ModelPricing).where(ModelPricing.model_name.in_(ended)))
    upsert(connection, ModelPricing.__table__, columns, [row for row in rows if row[:4] != known.get(row[0])])  # type: ignore[arg-type] # a mapped class's table is a Table


def _current_prices(now: datetime) -> sa.Select[Any]:
    row = PricePeriodRow
    # As when calls are priced, a row that was recorded again is gone, though the new one may end before it would have.
    last_edition = sa.func.row_number().over(
        partition_by=(row.vendor, row.model, row.effective_from, row.source),
        order_by=(row.recorded_at.desc().nulls_last(), row.price_id.desc()),
    )
    editions = (
        sa.select(
            row.vendor,
            row.model,
            row.price_id,
            row.precedence,
            row.effective_from,
            row.effective_to,
            row.input_usd_per_mtok,
            row.output_usd_per_mtok,
            last_edition.label("edition"),
        )
        .where(
            row.vendor.in_(MAKERS),
            row.mode == "standard",
            row.min_context_tokens == 0,
            row.status != "provisional",
            row.daily_from_minute.is_(None),
        )
        .subquery("editions")
    )
    winner = sa.func.row_number().over(
        partition_by=(editions.c.vendor, editions.c.model),
        order_by=(editions.c.precedence.desc(), editions.c.effective_from.desc(), editions.c.price_id.desc()),
    )
    holding = (
        sa.select(editions, winner.label("place"))
        .where(
            editions.c.edition == 1,
            editions.c.effective_from <= now,
            sa.or_(editions.c.effective_to.is_(None), editions.c.effective_to > now),
        )
        .subquery("holding")
    )
    maker = sa.func.row_number().over(
        partition_by=holding.c.model,
        order_by=sa.case({maker: place for place, maker in enumerate(MAKERS)}, value=holding.c.vendor),
    )
    # What holds and is not known whole has no place in a table without unknown prices; nothing below it stands in.
    by_maker = (
        sa.select(holding, maker.label("maker"))
        .where(holding.c.place == 1, holding.c.input_usd_per_mtok.is_not(None), holding.c.output_usd_per_mtok.is_not(None))
        .subquery("by_maker")
    )
    return sa.select(by_maker).where(by_maker.c.maker == 1)
