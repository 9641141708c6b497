"""The table of budgets: up, down with rows in place, and up again."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from opencode_monitor.db.migrate import downgrade, upgrade

if TYPE_CHECKING:
    from sqlalchemy import Engine

pytestmark = pytest.mark.usefixtures("kept_open")

BEFORE, AFTER = "omitted_texts", "budgets"
MOST = Decimal("99999999999999999999999999.999999999999")


def test_budgets_up_and_down_touch_nothing_else(empty_engine: Engine, empty_database_url: str) -> None:
    upgrade(empty_database_url, BEFORE)
    with empty_engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO sessions (session_id, title) VALUES ('ses_1', 'Fix')"))
    with empty_engine.connect() as connection:
        tables = set(sa.inspect(connection).get_table_names())

    upgrade(empty_database_url, AFTER)
    with empty_engine.begin() as connection:
        connection.execute(
            sa.text("INSERT INTO budgets VALUES ('all', :usd, 'month', 'list', NULL, NULL, NULL, NULL, '2026-01-05 09:30:00')"),
            {"usd": MOST},
        )
    with empty_engine.connect() as connection:
        stored = connection.execute(sa.text("SELECT budget_usd FROM budgets")).scalar_one()
        above = set(sa.inspect(connection).get_table_names())
    downgrade(empty_database_url, BEFORE)
    with empty_engine.connect() as connection:
        below = set(sa.inspect(connection).get_table_names())
    upgrade(empty_database_url, AFTER)

    with empty_engine.connect() as connection:
        again = connection.execute(sa.text("SELECT count(*) FROM budgets")).scalar_one()
        kept = connection.execute(sa.text("SELECT title FROM sessions")).scalar_one()
    assert (stored, above - tables, below, again, kept) == (MOST, {"budgets"}, tables, 0, "Fix")
