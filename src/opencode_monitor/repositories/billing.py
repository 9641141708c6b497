"""The user's statements of the bill, and the flat fees that follow from them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from opencode_monitor.models import Message, Model, PriceAdjustment, ProviderBilling
from opencode_monitor.pricing.adjustments import Adjustment, fees_of_days
from opencode_monitor.pricing.paid import add_adjustment, add_billing, load_adjustments, load_billings, remove_statement

if TYPE_CHECKING:
    from datetime import date
    from zoneinfo import ZoneInfo

    from sqlalchemy.orm import Session as DatabaseSession

    from opencode_monitor.metrics.time_range import TimeRange
    from opencode_monitor.pricing.adjustments import Billing, Fee


class BillingRepository:
    """Discounts, mark-ups, and how providers charge; what is paid follows with `ingest.settle.recharge`."""

    def __init__(self, session: DatabaseSession) -> None:
        self.session = session

    def adjustments(self) -> list[Adjustment]:
        """Return all discounts and mark-ups."""
        return load_adjustments(self.session.connection())

    def billings(self) -> list[Billing]:
        """Return how each provider charges, by provider and time."""
        return load_billings(self.session.connection())

    def add(self, statement: Adjustment | Billing, *, now: datetime) -> None:
        """Store a statement; it takes the place of one about the same.

        Args:
            statement: An adjustment or a billing period.
            now: When it was said.

        Raises:
            PriceError: It contradicts another one.
        """
        connection = self.session.connection()
        if isinstance(statement, Adjustment):
            add_adjustment(connection, statement, now=now)
        else:
            add_billing(connection, statement, now=now)

    def remove_adjustment(self, adjustment_id: str) -> None:
        """Remove an adjustment.

        Raises:
            PriceError: There is none with this id.
        """
        remove_statement(self.session.connection(), PriceAdjustment, adjustment_id)

    def remove_billing(self, billing_id: str) -> None:
        """Remove a billing period.

        Raises:
            PriceError: There is none with this id.
        """
        remove_statement(self.session.connection(), ProviderBilling, billing_id)

    def fees(self, time_range: TimeRange, *, tz: ZoneInfo, now: datetime) -> list[Fee]:
        """Return the flat fees of a range, by provider; see `pricing.adjustments.fees_of_days`.

        A day counts where it begins in the range, and not before its time: days after today are not due. A period without a beginning
        starts with the provider's first call.

        Args:
            time_range: What to look at.
            tz: The zone whose days and months count.
            now: The current time.
        """
        begun = [one for one in self.billings() if one.monthly_fee_usd]
        begun = [replace(one, effective_from=start) for one in begun if (start := self._start(one, tz)) is not None]
        if not begun:
            return []
        earliest = min(one.effective_from for one in begun if one.effective_from is not None)
        first = _first_midnight(max(time_range.start or earliest, earliest), tz)
        end = min(time_range.end or now, now + timedelta(microseconds=1))
        midnight: dict[date, datetime] = {}
        day = first
        while (at := _midnight(day, tz)) < end:
            midnight[day] = at
            day += timedelta(days=1)
        return fees_of_days(begun, first, day - timedelta(days=1), midnight=midnight) if midnight else []

    def _start(self, billing: Billing, tz: ZoneInfo) -> datetime | None:
        """Return when a period begins: one without a beginning on the day of the provider's first call; without a call it has not begun."""
        if billing.effective_from is not None:
            return billing.effective_from
        first = self.session.scalar(
            sa.select(sa.func.min(Message.created_at))
            .join(Model, Model.model_id == Message.model_id)
            .where(Model.vendor == billing.provider_id, Message.call_count > 0)
        )
        return None if first is None else _midnight(first.astimezone(tz).date(), tz)


def _midnight(day: date, tz: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), tzinfo=tz).astimezone(UTC)


def _first_midnight(at: datetime, tz: ZoneInfo) -> date:
    """Return the first day that begins at an instant or after it."""
    day = at.astimezone(tz).date()
    return day if _midnight(day, tz) >= at else day + timedelta(days=1)
