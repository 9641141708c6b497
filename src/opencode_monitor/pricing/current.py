"""The plan's table of current prices, kept up from the book."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

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
    """Keep the plan's table: the base price of each maker's model that holds now, per 1,000 tokens.

    Args:
        connection: In a transaction of the caller's.
        now: The time that "current" means.
    """
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
                    sa.case({maker: place for place, maker in enumerate(MAKERS)}, value=PricePeriodRow.vendor),
                    PricePeriodRow.precedence.desc(),
                    PricePeriodRow.effective_from.desc(),
                    PricePeriodRow.recorded_at.desc().nulls_last(),
                    PricePeriodRow.price_id.desc(),
                ),
            )
            .label("place"),
        )
        .where(
            PricePeriodRow.vendor.in_(MAKERS),
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
    upsert(connection, ModelPricing.__table__, columns, [row for row in rows if row[:4] not in known])  # type: ignore[arg-type] # a mapped class's table is a Table
