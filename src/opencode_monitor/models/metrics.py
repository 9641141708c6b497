"""Aggregates per session."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from sqlalchemy import Double, ForeignKey, Index, Integer, func, text
from sqlalchemy.orm import Mapped, mapped_column

from opencode_monitor.db.base import Base
from opencode_monitor.models.usage import WRITE_ONCE


class SessionStats(Base):
    """What a session holds; `duration_ms` runs from its first message to the end of its last."""

    __tablename__ = "session_stats"

    session_id: Mapped[str] = mapped_column(ForeignKey("sessions.session_id"), primary_key=True, info=WRITE_ONCE)
    message_count: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    part_count: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    tool_call_count: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    error_count: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    file_operation_count: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    duration_ms: Mapped[float | None] = mapped_column(Double)
    total_cost_usd: Mapped[Decimal | None]


class SessionResourceMetrics(Base):
    """Tokens and cost of a session: the plan's ten columns, the other three buckets, and what the sums leave out.

    Copies made by a fork add nothing to tokens and cost: they were billed with their originals.

    Attributes:
        total_input_tokens: Uncached prompt tokens.
        total_output_tokens: Visible output tokens.
        total_cost_usd: The sum of the priced calls in USD; NULL where there are calls and none of them has a price.
        created_at: The session's own start (UTC), not the load's, so that a group by day is one by the day of the work.
        updated_at: When one of the values last changed.
        call_count: Calls with recorded usage, copies left out.
        unpriced_calls: Of these, the ones without a price.
        copied_calls: Calls that a fork copied.
        unrecorded_calls: Calls that OpenCode stored without usage: failed, cut off or still running.
        reported_cost_usd: The sum of what OpenCode stored, copies left out; NULL where there are calls and it stored a cost for none.
        total_paid_usd: The sum of what is paid per call, flat fees left out; NULL where there are calls and none of it is known.
    """

    __tablename__ = "session_resource_metrics"

    session_id: Mapped[str] = mapped_column(ForeignKey("sessions.session_id"), primary_key=True, info=WRITE_ONCE)
    total_input_tokens: Mapped[int] = mapped_column(server_default=text("0"))
    total_output_tokens: Mapped[int] = mapped_column(server_default=text("0"))
    total_cost_usd: Mapped[Decimal | None]
    tool_call_count: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    message_count: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    avg_response_time_ms: Mapped[float | None] = mapped_column(Double)
    total_execution_time_ms: Mapped[float | None] = mapped_column(Double)
    created_at: Mapped[datetime | None] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime | None] = mapped_column(server_default=func.now())
    total_cache_read_tokens: Mapped[int] = mapped_column(server_default=text("0"))
    total_cache_write_tokens: Mapped[int] = mapped_column(server_default=text("0"))
    total_reasoning_tokens: Mapped[int] = mapped_column(server_default=text("0"))
    reported_cost_usd: Mapped[Decimal | None]
    call_count: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    unpriced_calls: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    copied_calls: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    unrecorded_calls: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    total_paid_usd: Mapped[Decimal | None]

    __table_args__ = (
        Index("idx_session_metrics_cost", "total_cost_usd"),
        Index("idx_session_metrics_tokens", "total_input_tokens", "total_output_tokens"),
    )
