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
    they charge: another price for the same place is a new row, and a call keeps the row that priced it.

    Attributes:
        status: confirmed, assumed, or provisional (announced, prices nothing); all that ever changes.
        recorded_at: When the row came into the book; NULL for rows from before that was kept.
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
    recorded_at: Mapped[datetime | None]

    __table_args__ = (Index("ix_price_periods__vendor_model", "vendor", "model"),)


class ModelAlias(Base):
    """Which entry of the price book prices a model as OpenCode names it.

    Attributes:
        model_id: "vendor/model" as OpenCode writes it.
        source: user, or rule (found by a declared rule of the catalog).
        mode: The processing mode whose rows price it; NULL for standard.
    """

    __tablename__ = "model_aliases"

    model_id: Mapped[str] = mapped_column(primary_key=True)
    price_vendor: Mapped[str]
    price_model: Mapped[str]
    source: Mapped[str]
    mode: Mapped[str | None]


class PriceSource(Base):
    """Which edition of a source of prices the book has read last.

    Attributes:
        source: As in `price_periods`.
        version: The package's version, or the file's time.
        signature: The content's checksum, where the source is a file.
        stated_at: When the source was written, where that is known.
        read_at: When it was read.
    """

    __tablename__ = "price_sources"

    source: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[str]
    signature: Mapped[str | None]
    stated_at: Mapped[datetime | None]
    read_at: Mapped[datetime]


class PriceRun(Base):
    """One time that priced calls were priced anew because somebody asked for it.

    Attributes:
        run_id: The time of the run, UTC.
        reason: Why, in the words of who asked.
        scope: The calls looked at: the model pattern and the range of time.
        calls: How many calls changed.
        old_cost_usd: What they cost together before; calls without a price are left out, and NULL is where none had one.
        new_cost_usd: What they cost together after, likewise.
        undone_at: When the old prices were put back; NULL while the run stands.
    """

    __tablename__ = "price_runs"

    run_id: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[datetime]
    reason: Mapped[str]
    scope: Mapped[str]
    calls: Mapped[int]
    old_cost_usd: Mapped[Decimal | None]
    new_cost_usd: Mapped[Decimal | None]
    undone_at: Mapped[datetime | None]


class PriceChange(Base):
    """What one run did to one call: enough to put it back."""

    __tablename__ = "price_changes"

    run_id: Mapped[str] = mapped_column(primary_key=True)
    step_id: Mapped[str] = mapped_column(primary_key=True)
    session_id: Mapped[str]
    model_id: Mapped[str | None]
    old_price_id: Mapped[str | None]
    new_price_id: Mapped[str | None]
    old_cost_usd: Mapped[Decimal | None]
    new_cost_usd: Mapped[Decimal | None]
