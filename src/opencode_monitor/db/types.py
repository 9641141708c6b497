"""Column types with one meaning on both engines."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import JSON, Dialect, Numeric
from sqlalchemy.types import TIMESTAMP, TypeDecorator, TypeEngine

MONEY_SCALE = 12


class Money(TypeDecorator[Decimal]):
    """USD as NUMERIC(38, 12), exact: pico-dollars hold the smallest price per token (2.8e-9 USD) without rounding.

    One precision for rows and sums, so that no cast stands between them: NUMERIC(18, 12) would refuse a row of a
    million USD, which a user's own price can reach.
    """

    impl = Numeric(38, MONEY_SCALE)
    cache_ok = True

    def process_result_value(self, value: Any | None, dialect: Dialect) -> Decimal | None:
        """Answer with a Decimal whatever the driver hands over: DuckDB's averages are doubles."""
        del dialect
        if value is None or isinstance(value, Decimal):
            return value
        # By its shortest text: the double nearest to 0.1 means 0.1, not 0.1000000000000000055.
        return Decimal(str(value))


class UtcDateTime(TypeDecorator[datetime]):
    """A point in time: aware in Python, a plain TIMESTAMP in UTC in the database.

    Plain, because DuckDB's TIMESTAMPTZ shows itself in the zone of the session, and the plan's `DATE(created_at)` must
    mean the UTC day on any machine.
    """

    impl = TIMESTAMP(timezone=False)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn an aware time into naive UTC.

        Raises:
            ValueError: For a time without a zone: nobody can tell which instant it is.
        """
        del dialect
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn naive UTC into an aware time."""
        del dialect
        return None if value is None else value.replace(tzinfo=UTC)


class Json(TypeDecorator[Any]):
    """A JSON document as text that the engine checks; key order and spacing stay as written."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Use the engine's JSON (on PostgreSQL not JSONB, which would reorder and respace)."""
        return dialect.type_descriptor(JSON(none_as_null=True))
