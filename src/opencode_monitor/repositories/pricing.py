"""The price book: current prices, the user's own, and what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from opencode_monitor.models import ModelAlias, ModelPricing, PricePeriodRow
from opencode_monitor.pricing.book import add_periods, unpriced_models
from opencode_monitor.repositories.base import Repository

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from opencode_monitor.pricing.catalog import PricePeriod


class PricingRepository(Repository[ModelPricing]):
    """The plan's table of current base prices, and the dated book behind it."""

    model = ModelPricing

    def periods(self, vendor: str, model: str) -> Sequence[PricePeriodRow]:
        """Return the rows of the book for an entry, oldest first."""
        return self.session.scalars(
            select(PricePeriodRow)
            .where(PricePeriodRow.vendor == vendor, PricePeriodRow.model == model)
            .order_by(PricePeriodRow.mode, PricePeriodRow.effective_from, PricePeriodRow.min_context_tokens)
        ).all()

    def alias(self, model_id: str) -> ModelAlias | None:
        """Return which entry of the book prices a model as OpenCode names it, or None."""
        return self.session.get(ModelAlias, model_id)

    def missing(self) -> list[tuple[str, int]]:
        """Return the models with calls that have no price, as (model_id, calls), most calls first."""
        return unpriced_models(self.session.connection())

    def add(self, periods: Sequence[PricePeriod], *, now: datetime) -> None:
        """Add rows to the book; calls that were priced before keep their price."""
        add_periods(self.session.connection(), periods, now=now)
