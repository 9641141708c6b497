"""Column types keep their values on both engines."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from opencode_monitor.db.types import Money, UtcDateTime

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

AMOUNTS = ["13378.452435000000", "0.000000000001", "99999999999999999999999999.999999999999", "-0.1", "0"]


@pytest.mark.parametrize("amount", AMOUNTS)
def test_money_any_digits_come_back_exactly(session: Session, amount: str) -> None:
    value = session.scalar(sa.select(sa.cast(sa.literal_column(amount), Money())))
    assert value == Decimal(amount)


def test_utc_date_time_other_zone_is_stored_as_utc(session: Session) -> None:
    moment = datetime(2026, 5, 4, 1, 30, tzinfo=timezone(timedelta(hours=5, minutes=45)))
    value = session.scalar(sa.select(sa.cast(sa.literal(moment, UtcDateTime()), UtcDateTime())))
    assert value == datetime(2026, 5, 3, 19, 45, tzinfo=UTC)


def test_utc_date_time_without_zone_is_refused(session: Session) -> None:
    naive = datetime(2026, 5, 4)  # noqa: DTZ001 - what is tested
    with pytest.raises(sa.exc.StatementError, match="has no time zone"):
        session.scalar(sa.select(sa.literal(naive, UtcDateTime())))
