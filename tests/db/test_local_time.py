"""Local times in SQL are those that Python's own zones say, on both engines."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from opencode_monitor.db.local_time import local_time
from opencode_monitor.db.types import UtcDateTime

if TYPE_CHECKING:
    from collections.abc import Iterator

# Around the clocks' changes of Berlin and St. John's in 2026, the end of a year, and before 1970.
BEGINNINGS = (
    datetime(2026, 3, 8, 4, 30, tzinfo=UTC),
    datetime(2026, 3, 29, 0, 0, 0, 1, tzinfo=UTC),
    datetime(2026, 10, 25, 0, 59, 59, 999_999, tzinfo=UTC),
    datetime(2026, 12, 31, 9, 14, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 123_456, tzinfo=UTC),
)


@pytest.fixture(scope="module")
def instants() -> list[datetime]:
    return [beginning + timedelta(minutes=minutes) for beginning in BEGINNINGS for minutes in range(0, 200, 13)]


@pytest.fixture
def connection(empty_engine: sa.Engine) -> Iterator[sa.Connection]:
    with empty_engine.begin() as connection:
        yield connection


def test_local_time_is_what_the_clocks_of_the_zone_showed(connection: sa.Connection, instants: list[datetime]) -> None:
    table = sa.Table("instants", sa.MetaData(), sa.Column("created_at", UtcDateTime()))
    table.create(connection)
    connection.execute(table.insert(), [{"created_at": instant} for instant in [*instants, None]])

    for tz in ("UTC", "Europe/Berlin", "Asia/Kathmandu", "Pacific/Kiritimati", "America/St_Johns"):
        found = connection.execute(sa.select(table.c.created_at, local_time(table.c.created_at, tz))).all()

        expected = {instant: instant.astimezone(ZoneInfo(tz)).replace(tzinfo=None) for instant in instants}
        assert {instant: local for instant, local in found if instant is not None} == expected, tz
        assert [local for instant, local in found if instant is None] == [None], tz


@pytest.mark.parametrize("name", ["UTC", "Etc/UTC"])
def test_local_time_of_utc_is_what_is_stored(name: str) -> None:
    column = sa.column("created_at", UtcDateTime())

    assert str(local_time(column, name)) == "created_at"
