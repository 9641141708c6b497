"""The revision that puts the model and the time of a call beside its tokens: filled from the messages, and gone without a trace."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import pytest
import sqlalchemy as sa

from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.db.migrate import downgrade, upgrade

pytestmark = pytest.mark.usefixtures("kept_open")

BEFORE = "tool_facts"
MODEL = "anthropic/claude-sonnet-4-5"
ROWS = (
    "INSERT INTO sessions (session_id) VALUES ('ses_1')",
    f"INSERT INTO models (model_id, vendor, model_name) VALUES ('{MODEL}', 'anthropic', 'claude-sonnet-4-5')",
    (
        "INSERT INTO messages (message_id, session_id, role, model_id, created_at) VALUES"
        f" ('msg_1', 'ses_1', 'assistant', '{MODEL}', '2026-05-04 12:00:00.123'), ('msg_2', 'ses_1', 'assistant', NULL, NULL)"
    ),
    (
        "INSERT INTO parts (part_id, session_id, message_id, part_type, sequence_number) VALUES"
        " ('prt_1', 'ses_1', 'msg_1', 'step_finish', 1), ('prt_2', 'ses_1', 'msg_2', 'step_finish', 2),"
        " ('prt_3', 'ses_1', 'msg_lost', 'step_finish', 3)"
    ),
    (
        "INSERT INTO step_events (step_id, part_id, session_id, message_id, event, created_at, input_tokens, step_cost_usd) VALUES"
        " ('prt_1', 'prt_1', 'ses_1', 'msg_1', 'finish', '2026-05-04 12:00:09', 7, 0.000000000007),"
        " ('prt_2', 'prt_2', 'ses_1', 'msg_2', 'finish', NULL, NULL, NULL),"
        " ('prt_3', 'prt_3', 'ses_1', 'msg_lost', 'finish', NULL, 3, NULL)"
    ),
)
KEPT = "SELECT step_id, part_id, session_id, message_id, event, created_at, input_tokens, step_cost_usd FROM step_events ORDER BY 1"
FACTS = "SELECT step_id, model_id, called_at FROM step_events ORDER BY 1"


def ask(url: str, *statements: str) -> list[list[tuple[object, ...]]]:
    engine = create_database_engine(url)
    with engine.connect() as connection:
        answers = [[tuple(row) for row in connection.execute(sa.text(statement)).all()] for statement in statements]
    engine.dispose()
    return answers


def test_call_facts_up_and_down_with_data(empty_database_url: str) -> None:
    upgrade(empty_database_url, BEFORE)
    engine = create_database_engine(empty_database_url)
    with engine.begin() as connection:
        for statement in ROWS:
            connection.execute(sa.text(statement))
    engine.dispose()
    before = ask(empty_database_url, KEPT)

    upgrade(empty_database_url, "call_facts")
    up = ask(empty_database_url, KEPT, FACTS)
    downgrade(empty_database_url, BEFORE)
    down = ask(empty_database_url, KEPT)
    inspected = create_database_engine(empty_database_url)
    with inspected.connect() as connection:
        columns = {column["name"] for column in sa.inspect(connection).get_columns("step_events")}
        indexes = {index["name"] for index in sa.inspect(connection).get_indexes("step_events")}
    inspected.dispose()
    upgrade(empty_database_url, "call_facts")
    again = ask(empty_database_url, KEPT, FACTS)

    facts = [("prt_1", MODEL, datetime(2026, 5, 4, 12, 0, 0, 123_000)), ("prt_2", None, None), ("prt_3", None, None)]  # noqa: DTZ001 - as stored
    assert before[0][0][-1] == Decimal("0.000000000007")
    assert up == again == [before[0], facts]
    assert down == before
    assert not columns & {"model_id", "called_at"}
    assert "ix_step_events__session_id" in indexes
