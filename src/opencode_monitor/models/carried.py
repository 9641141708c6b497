"""What it cost to carry each part through the calls that came after it."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from sqlalchemy import Index, Integer
from sqlalchemy.orm import Mapped, mapped_column

from opencode_monitor.db.base import Base


class CarriedCost(Base):
    """The input side of a session's calls, spread over what was in their context; the rows of a session sum to it.

    Wholly derived, and dropped with each change of its session's rows or prices, hence without foreign keys: the row of the base has no
    part, and checking two million ids against `parts` would cost more than computing them.

    Attributes:
        carrier_id: A part's id, or "<session_id>:context" for the base: what every call begins with and no part explains.
        created_at: The part's own time; of the base, its session's (UTC).
        carrying_calls: How many priced calls had it in their context.
        size_tokens: Its estimated length; of the base, the longest.
        cached_cost_usd: What reading it from the provider's cache cost, all calls together.
        uncached_cost_usd: What sending it without the cache and writing it to the cache cost.
        carried_cost_usd: Both together.
    """

    __tablename__ = "carried_costs"

    carrier_id: Mapped[str] = mapped_column(primary_key=True)
    session_id: Mapped[str]
    created_at: Mapped[datetime | None]
    carrying_calls: Mapped[int] = mapped_column(Integer)
    size_tokens: Mapped[int]
    cached_cost_usd: Mapped[Decimal]
    uncached_cost_usd: Mapped[Decimal]
    carried_cost_usd: Mapped[Decimal]

    __table_args__ = (Index("ix_carried_costs__session_id", "session_id"),)
