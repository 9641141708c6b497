"""What the user says of the bill: adjustments of the list price, and how a provider charges."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from sqlalchemy import Numeric
from sqlalchemy.orm import Mapped, mapped_column

from opencode_monitor.db.base import Base


class PriceAdjustment(Base):
    """A discount or a mark-up on the list price; all that apply to a bucket of a call are multiplied.

    Attributes:
        provider: A pattern for the vendor part of the model's id, such as "anthropic" or "*".
        model_glob: A pattern for the rest of it; NULL for every model.
        bucket: The token bucket that it applies to (input_tokens, ...); NULL for all five.
        multiplier: 0.9 for ten per cent less, 1.1 for ten per cent more.
        effective_from: First instant at which it applies; NULL where it always did.
        effective_to: First instant at which it no longer applies; NULL where it goes on.
    """

    __tablename__ = "price_adjustments"

    adjustment_id: Mapped[str] = mapped_column(primary_key=True)
    provider: Mapped[str]
    model_glob: Mapped[str | None]
    bucket: Mapped[str | None]
    multiplier: Mapped[Decimal] = mapped_column(Numeric(9, 6))
    effective_from: Mapped[datetime | None]
    effective_to: Mapped[datetime | None]
    note: Mapped[str | None]
    recorded_at: Mapped[datetime]


class ProviderBilling(Base):
    """How a provider charges in a period; periods of one provider do not overlap, and where there is none, calls are metered.

    Attributes:
        provider_id: The vendor part of the model's id.
        kind: metered, subscription, free or local; calls cost money out of pocket only where they are metered.
        monthly_fee_usd: A flat fee per calendar month; never spread over calls.
        effective_from: First instant of the period; NULL where it has no beginning.
        effective_to: First instant after it; NULL where it goes on.
    """

    __tablename__ = "provider_billing"

    billing_id: Mapped[str] = mapped_column(primary_key=True)
    provider_id: Mapped[str]
    kind: Mapped[str]
    monthly_fee_usd: Mapped[Decimal | None]
    effective_from: Mapped[datetime | None]
    effective_to: Mapped[datetime | None]
    note: Mapped[str | None]
    recorded_at: Mapped[datetime]
