"""What tokens cost: the plan's table of current prices, and the dated price book behind it."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from sqlalchemy import Index, Integer, func
from sqlalchemy.orm import Mapped, mapped_column

from opencode_monitor.db.base import Base


class ModelPricing(Base):
    """The current base price per 1,000 tokens, kept up from the price book; USD."""

    __tablename__ = "model_pricing"

    model_name: Mapped[str] = mapped_column(primary_key=True)
    vendor: Mapped[str]
    input_token_cost_per_1k: Mapped[Decimal]
    output_token_cost_per_1k: Mapped[Decimal]
    updated_at: Mapped[datetime | None] = mapped_column(server_default=func.now())


class PricePeriodRow(Base):
    """One row of the price book: what a vendor's model cost in one mode and context tier from a date on; USD per million tokens.

    A NULL price is an unknown one. Of several rows that hold at once the highest precedence wins. Rows are added, never changed in what
    they charge.
    """

    __tablename__ = "price_periods"

    price_id: Mapped[str] = mapped_column(primary_key=True)
    vendor: Mapped[str]
    model: Mapped[str]
    mode: Mapped[str]
    min_context_tokens: Mapped[int]
    effective_from: Mapped[datetime]
    effective_to: Mapped[datetime | None]
    daily_from_minute: Mapped[int | None] = mapped_column(Integer)
    daily_to_minute: Mapped[int | None] = mapped_column(Integer)
    input_usd_per_mtok: Mapped[Decimal | None]
    output_usd_per_mtok: Mapped[Decimal | None]
    reasoning_usd_per_mtok: Mapped[Decimal | None]
    cache_read_usd_per_mtok: Mapped[Decimal | None]
    cache_write_5m_usd_per_mtok: Mapped[Decimal | None]
    cache_write_1h_usd_per_mtok: Mapped[Decimal | None]
    source: Mapped[str]
    source_version: Mapped[str | None]
    status: Mapped[str]
    precedence: Mapped[int] = mapped_column(Integer)

    __table_args__ = (Index("ix_price_periods__vendor_model", "vendor", "model"),)


class ModelAlias(Base):
    """Which entry of the price book prices a model as OpenCode names it.

    Attributes:
        model_id: "vendor/model" as OpenCode writes it.
        source: user, or rule (found by a declared rule of the catalog).
    """

    __tablename__ = "model_aliases"

    model_id: Mapped[str] = mapped_column(primary_key=True)
    price_vendor: Mapped[str]
    price_model: Mapped[str]
    source: Mapped[str]
