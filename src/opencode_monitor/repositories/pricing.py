"""The price book: current prices, the user's own, and what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import select

from opencode_monitor.db.patterns import matches
from opencode_monitor.db.types import Money
from opencode_monitor.errors import PriceError
from opencode_monitor.models import CostBasis, Message, ModelAlias, ModelPricing, PriceChange, PricePeriodRow, PriceRun, PriceSource
from opencode_monitor.pricing.book import add_periods, stored_periods, unpriced_models
from opencode_monitor.pricing.catalog import PricePeriod
from opencode_monitor.pricing.history import find_conflicts
from opencode_monitor.repositories.base import Repository
from opencode_monitor.repositories.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from decimal import Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedDifference:
    """How far what OpenCode stored and the list are apart, for one model; money in USD.

    Attributes:
        model: "vendor/model" as OpenCode names it.
        calls: Calls whose stored cost is another than ours.
        reported_cost_usd: What OpenCode stored for them.
        list_cost_usd: What they cost at list price.
    """

    model: str
    calls: int
    reported_cost_usd: Decimal
    list_cost_usd: Decimal


class PricingRepository(Repository[ModelPricing]):
    """The plan's table of current base prices, and the dated book behind it."""

    model = ModelPricing

    def periods(self, vendor: str, model: str) -> Sequence[PricePeriodRow]:
        """Return the rows of the book for an entry, oldest first."""
        return self.session.scalars(
            select(PricePeriodRow)
            .where(PricePeriodRow.vendor == vendor, PricePeriodRow.model == model)
            .order_by(PricePeriodRow.mode, PricePeriodRow.effective_from, PricePeriodRow.min_context_tokens, PricePeriodRow.price_id)
        ).all()

    def find(self, *, provider: str | None = None, model: str | None = None, source: str | None = None) -> Rows[PricePeriod]:
        """Return rows of the book as values, in a fixed order.

        Args:
            provider: The provider's id.
            model: A pattern of the model's id.
            source: Who says so.
        """
        conditions = []
        if provider is not None:
            conditions.append(PricePeriodRow.vendor == provider)
        if model is not None:
            conditions.append(matches(PricePeriodRow.model, model))
        if source is not None:
            conditions.append(PricePeriodRow.source == source)
        return Rows(PricePeriod, stored_periods(self.session.connection(), *conditions))

    def alias(self, model_id: str) -> ModelAlias | None:
        """Return which entry of the book prices a model as OpenCode names it, or None."""
        return self.session.get(ModelAlias, model_id)

    def aliases(self) -> Sequence[ModelAlias]:
        """Return the user's aliases."""
        return self.session.scalars(select(ModelAlias).where(ModelAlias.source == "user").order_by(ModelAlias.model_id)).all()

    def missing(self) -> list[tuple[str, int]]:
        """Return the models with calls that have no price, as (model_id, calls), most calls first."""
        return unpriced_models(self.session.connection())

    def add(self, periods: Sequence[PricePeriod], *, now: datetime) -> None:
        """Add rows to the book; calls that were priced before keep their price."""
        add_periods(self.session.connection(), periods, now=now)

    def set(self, periods: Sequence[PricePeriod], *, now: datetime, replacing: bool = False) -> None:
        """Add the user's own prices.

        Args:
            periods: Rows made by `user_period`.
            now: When they are set.
            replacing: They may take the place of the user's own that begin at the same time.

        Raises:
            PriceError: One of them contradicts another of the user's.
        """
        for _, reason in find_conflicts(self.find(source="user"), periods, replacing=replacing):
            raise PriceError(reason)
        self.add(periods, now=now)

    def sources(self) -> Sequence[PriceSource]:
        """Return which edition of each source the book has read."""
        return self.session.scalars(select(PriceSource).order_by(PriceSource.source)).all()

    def runs(self) -> Sequence[PriceRun]:
        """Return the re-pricings, the latest first."""
        return self.session.scalars(select(PriceRun).order_by(PriceRun.run_id.desc())).all()

    def unknown_of_runs(self) -> dict[str, tuple[int, int]]:
        """Return by run how many of its calls had no price before, and how many have none after."""
        statement = sa.select(
            PriceChange.run_id,
            sa.func.count().filter(PriceChange.old_cost_usd.is_(None)),
            sa.func.count().filter(PriceChange.new_cost_usd.is_(None)),
        ).group_by(PriceChange.run_id)
        return {run_id: (before, after) for run_id, before, after in self.session.execute(statement).all()}

    def differences(self) -> Rows[ReportedDifference]:
        """Return the models whose stored cost is another than their cost at list price, the largest difference first."""
        reported = sa.cast(sa.func.sum(Message.reported_cost_usd), Money())
        listed = sa.cast(sa.func.sum(Message.message_cost_usd), Money())
        model = sa.func.coalesce(Message.model_id, "unknown")
        statement = (
            select(model, sa.cast(sa.func.sum(Message.call_count), sa.BigInteger), reported, listed)
            .where(
                Message.cost_basis == CostBasis.CALCULATED.value,
                Message.reported_cost_usd.is_not(None),
                Message.reported_cost_usd != Message.message_cost_usd,
            )
            .group_by(model)
            .order_by(sa.func.abs(reported - listed).desc(), model)
        )
        return Rows(
            ReportedDifference,
            (
                ReportedDifference(model=row[0], calls=row[1], reported_cost_usd=row[2], list_cost_usd=row[3])
                for row in self.session.execute(statement)
            ),
        )
