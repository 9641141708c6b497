"""The tables of alerts: up, down with rows in place, and up again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from opencode_monitor.db.migrate import downgrade, upgrade

if TYPE_CHECKING:
    from sqlalchemy import Engine

pytestmark = pytest.mark.usefixtures("kept_open")

BEFORE, AFTER = "budgets", "alert_states"
PAYLOAD = '{"b": 1, "a": 2}'


def test_alert_states_up_and_down_touch_nothing_else(empty_engine: Engine, empty_database_url: str) -> None:
    upgrade(empty_database_url, BEFORE)
    with empty_engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO sessions (session_id, title) VALUES ('ses_1', 'Fix')"))
    with empty_engine.connect() as connection:
        tables = set(sa.inspect(connection).get_table_names())

    upgrade(empty_database_url, AFTER)
    at = "'2026-01-05 09:30:00'"
    with empty_engine.begin() as connection:
        connection.execute(sa.text(f"INSERT INTO alert_states VALUES ('day', 'firing', 'a', {at}, {at}, {at}, NULL)"))
        row = f"'1-ops', 'day', 'ops', 'firing', '{PAYLOAD}', {at}, 0, NULL, NULL, NULL"
        connection.execute(sa.text(f"INSERT INTO alert_deliveries VALUES ({row})"))
    with empty_engine.connect() as connection:
        stored = connection.execute(sa.text("SELECT CAST(payload AS VARCHAR) FROM alert_deliveries")).scalar_one()
        above = set(sa.inspect(connection).get_table_names())
    downgrade(empty_database_url, BEFORE)
    with empty_engine.connect() as connection:
        below = set(sa.inspect(connection).get_table_names())
    upgrade(empty_database_url, AFTER)

    with empty_engine.connect() as connection:
        again = [
            connection.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one() for table in ("alert_states", "alert_deliveries")
        ]
        kept = connection.execute(sa.text("SELECT title FROM sessions")).scalar_one()
    assert (above - tables, below, again, kept) == ({"alert_states", "alert_deliveries"}, tables, [0, 0], "Fix")
    assert stored == PAYLOAD
