"""What alerts remember, and the messages that they have to send."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from opencode_monitor.models import AlertDeliveryRow, AlertStateRow
from opencode_monitor.repositories.base import Repository

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

LEASE = timedelta(minutes=5)
"""For how long a message that a run has begun to send is that run's alone; longer than sending takes, also to a receiver that is slow."""

KEPT = timedelta(days=30)
"""For how long a message is kept that was sent."""

MOST_WAITING = 50
"""How many messages of one alert wait for one channel at most."""


class AlertRepository(Repository[AlertStateRow]):
    """How alerts stood when they were evaluated last."""

    model = AlertStateRow

    def hold(self) -> None:
        """Make other runs wait until this transaction ends: of two that see the same, one tells it. A DuckDB file has one writer anyway."""
        if self.session.get_bind().dialect.name == "postgresql":
            self.session.execute(sa.text(f"LOCK TABLE {AlertStateRow.__tablename__} IN SHARE ROW EXCLUSIVE MODE"))

    def states(self, names: Collection[str]) -> dict[str, AlertStateRow]:
        """Return what is remembered of some alerts, by name."""
        rows = self.all(self.statement().where(AlertStateRow.alert_name.in_(list(names))))
        return {row.alert_name: row for row in rows}


class AlertDeliveryRepository(Repository[AlertDeliveryRow]):
    """Messages of alerts, each for one channel."""

    model = AlertDeliveryRow

    def add(self, delivery_id: str, *, alert: str, channel: str, event: str, payload: dict[str, Any], now: datetime) -> None:
        """Write down a message that is to be sent.

        Args:
            delivery_id: What its receiver tells it by.
            alert: Whose it is.
            channel: Whom it is for.
            event: firing or resolved.
            payload: What it says.
            now: When.
        """
        self.session.add(
            AlertDeliveryRow(
                delivery_id=delivery_id,
                alert_name=alert,
                channel=channel,
                event=event,
                payload=payload,
                created_at=now,
                attempts=0,
            )
        )

    def waiting(self, alerts: Collection[str]) -> Sequence[AlertDeliveryRow]:
        """Return the messages of some alerts that were not sent yet, oldest first."""
        return self.all(
            self.statement()
            .where(AlertDeliveryRow.delivered_at.is_(None), AlertDeliveryRow.alert_name.in_(list(alerts)))
            .order_by(AlertDeliveryRow.created_at, AlertDeliveryRow.delivery_id)
        )

    def claim(self, delivery_id: str, *, now: datetime) -> bool:
        """Take a message for this run to send, unless it was sent, or another run is at it.

        Args:
            delivery_id: Which one.
            now: When. A claim is over after a while: its run was killed. One of the far future was made by a clock that was wrong.
        """
        claimed_at = AlertDeliveryRow.claimed_at
        statement = (
            sa.update(AlertDeliveryRow)
            .where(
                AlertDeliveryRow.delivery_id == delivery_id,
                AlertDeliveryRow.delivered_at.is_(None),
                sa.or_(claimed_at.is_(None), claimed_at <= now - LEASE, claimed_at > now + LEASE),
            )
            .values(claimed_at=now, attempts=AlertDeliveryRow.attempts + 1)
            .returning(AlertDeliveryRow.delivery_id)
            .execution_options(synchronize_session=False)
        )
        return self.session.scalar(statement) is not None

    def settle(self, delivery_id: str, *, failure: str | None, now: datetime) -> None:
        """Remember what became of a message that was claimed.

        Args:
            delivery_id: Which one.
            failure: Why it was not taken, and goes on waiting; None where it was.
            now: When.
        """
        self.session.execute(
            sa.update(AlertDeliveryRow)
            .where(AlertDeliveryRow.delivery_id == delivery_id)
            .values(claimed_at=None, failure=failure, delivered_at=now if failure is None else None)
            .execution_options(synchronize_session=False)
        )

    def remove(self, delivery_ids: Collection[str]) -> None:
        """Remove messages."""
        if delivery_ids:
            self.session.execute(sa.delete(AlertDeliveryRow).where(AlertDeliveryRow.delivery_id.in_(list(delivery_ids))))

    def forget_sent(self, *, now: datetime) -> None:
        """Remove the messages that were sent long ago."""
        self.session.execute(sa.delete(AlertDeliveryRow).where(AlertDeliveryRow.delivered_at < now - KEPT))
