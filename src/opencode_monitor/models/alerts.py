"""What alerts remember, and the messages that they send."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Mapped, mapped_column

from opencode_monitor.db.base import Base


class AlertStateRow(Base):
    """How one alert of the configuration stood when it was evaluated last.

    Attributes:
        alert_name: What the configuration calls it.
        state: ok, firing or resolved.
        subject: What fired: days, periods or checks, separated by line feeds; empty for a measure that has none, and where nothing did.
        changed_at: Since when it is in this state.
        evaluated_at: When it was looked at last.
        seen_firing_at: When its condition was met last.
        told_at: When a message was made of its firing last.
    """

    __tablename__ = "alert_states"

    alert_name: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str]
    subject: Mapped[str]
    changed_at: Mapped[datetime]
    evaluated_at: Mapped[datetime]
    seen_firing_at: Mapped[datetime | None]
    told_at: Mapped[datetime | None]


class AlertDeliveryRow(Base):
    """One message for one channel, before it is sent and for a while after.

    Attributes:
        delivery_id: What a receiver tells the message by, however often it comes.
        channel: What the configuration calls it.
        event: firing or resolved.
        payload: The message as it leaves, with no more than the channel may have.
        attempts: How many runs have tried to send it.
        failure: Why the last of them did not.
        claimed_at: When a run began to send it.
        delivered_at: When it was sent; None while it waits.
    """

    __tablename__ = "alert_deliveries"

    delivery_id: Mapped[str] = mapped_column(primary_key=True)
    alert_name: Mapped[str]
    channel: Mapped[str]
    event: Mapped[str]
    payload: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    attempts: Mapped[int]
    failure: Mapped[str | None]
    claimed_at: Mapped[datetime | None]
    delivered_at: Mapped[datetime | None]
