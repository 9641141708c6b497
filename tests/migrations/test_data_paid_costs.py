"""The revision that adds what is paid: existing costs start as their list price, and go down without a trace of it."""

from __future__ import annotations

from decimal import Decimal

import pytest
import sqlalchemy as sa

from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.db.migrate import downgrade, upgrade

pytestmark = pytest.mark.usefixtures("kept_open")

BEFORE = "price_history"
ROWS = (
    "INSERT INTO sessions (session_id) VALUES ('ses_1')",
    (
        "INSERT INTO messages (message_id, session_id, role, message_cost_usd) VALUES ('msg_1', 'ses_1', 'assistant', 0.000000000007),"
        " ('msg_2', 'ses_1', 'assistant', NULL)"
    ),
    (
        "INSERT INTO parts (part_id, session_id, message_id, part_type, sequence_number) VALUES"
        " ('prt_1', 'ses_1', 'msg_1', 'step_finish', 1),"
        " ('prt_2', 'ses_1', 'msg_2', 'step_finish', 2)"
    ),
    (
        "INSERT INTO step_events (step_id, part_id, session_id, message_id, event, step_cost_usd) VALUES"
        " ('prt_1', 'prt_1', 'ses_1', 'msg_1', 'finish', 0.000000000007), ('prt_2', 'prt_2', 'ses_1', 'msg_2', 'finish', NULL)"
    ),
    "INSERT INTO session_resource_metrics (session_id, total_cost_usd, updated_at) VALUES ('ses_1', 0.000000000007, '2026-05-04 12:00:00')",
)
QUERIES = {
    "messages": "SELECT message_id, message_cost_usd{paid} FROM messages ORDER BY 1",
    "step_events": "SELECT step_id, step_cost_usd{paid} FROM step_events ORDER BY 1",
    "session_resource_metrics": "SELECT session_id, total_cost_usd{total} FROM session_resource_metrics",
}


def ask(url: str, *statements: str) -> list[list[tuple[object, ...]]]:
    engine = create_database_engine(url)
    with engine.connect() as connection:
        answers = [[tuple(row) for row in connection.execute(sa.text(statement)).all()] for statement in statements]
    engine.dispose()
    return answers


def test_paid_costs_up_and_down_with_data(empty_database_url: str) -> None:
    cost = Decimal("0.000000000007")
    upgrade(empty_database_url, BEFORE)
    engine = create_database_engine(empty_database_url)
    with engine.begin() as connection:
        for statement in ROWS:
            connection.execute(sa.text(statement))
    engine.dispose()
    old = [query.format(paid="", total="") for query in QUERIES.values()]
    before = ask(empty_database_url, *old)

    upgrade(empty_database_url, "paid_costs")
    up = ask(empty_database_url, *(query.format(paid=", paid_cost_usd", total=", total_paid_usd") for query in QUERIES.values()))
    downgrade(empty_database_url, BEFORE)
    down = ask(empty_database_url, *old)
    upgrade(empty_database_url)
    again = ask(empty_database_url, QUERIES["messages"].format(paid=", paid_cost_usd"))

    assert up == [
        [("msg_1", cost, cost), ("msg_2", None, None)],
        [("prt_1", cost, cost), ("prt_2", None, None)],
        [("ses_1", cost, cost)],
    ]
    assert down == before
    assert again == [up[0]]
