"""What the provider billed and OpenCode did not record: estimates, apart from everything that is recorded."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from sqlalchemy import Index, Integer
from sqlalchemy.orm import Mapped, mapped_column

from opencode_monitor.db.base import Base
from opencode_monitor.models.usage import WRITE_ONCE


class UnrecordedCall(Base):
    """One model call that the store shows only the traces of. No sum of recorded spend holds it.

    It carries no foreign keys: an estimate comes and goes with what its session shows.

    Attributes:
        unrecorded_id: `<session_id>:title`, `<message_id>:title`, `<message_id>:cut`, `:failed`, `:unmetered`, or
            `<message_id>:lost_step:<number>`.
        message_id: The message that the call was made for or left behind; NULL for the title of a session.
        kind: title, message_title, cut, failed, unmetered or lost_step.
        created_at: When the call was made, UTC.
        input_tokens: Like the other four buckets, an estimate.
        estimated_cost_usd: The estimated tokens at list price in USD; NULL where there is no price.
        price_id: The row of the price book that priced it; a later change of prices leaves it as it is.
        method: How the prompt was estimated: see docs/cost.md.
        method_version: Counts up when a rule changes.
    """

    __tablename__ = "unrecorded_calls"

    unrecorded_id: Mapped[str] = mapped_column(primary_key=True)
    session_id: Mapped[str] = mapped_column(info=WRITE_ONCE)
    message_id: Mapped[str | None]
    kind: Mapped[str]
    model_id: Mapped[str | None]
    created_at: Mapped[datetime | None]
    input_tokens: Mapped[int]
    cache_read_tokens: Mapped[int]
    cache_write_tokens: Mapped[int]
    output_tokens: Mapped[int]
    reasoning_tokens: Mapped[int]
    estimated_cost_usd: Mapped[Decimal | None]
    price_id: Mapped[str | None]
    method: Mapped[str]
    method_version: Mapped[int] = mapped_column(Integer)

    __table_args__ = (Index("ix_unrecorded_calls__session_id", "session_id"),)
