"""The table of estimates and the two columns behind it: up, down with rows in place, and up again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from opencode_monitor.db.migrate import downgrade, upgrade

if TYPE_CHECKING:
    from sqlalchemy import Engine

pytestmark = pytest.mark.usefixtures("kept_open")

BEFORE, AFTER = "import_state", "unrecorded_calls"


def test_unrecorded_calls_up_and_down_keep_what_is_recorded(empty_engine: Engine, empty_database_url: str) -> None:
    upgrade(empty_database_url, BEFORE)
    with empty_engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO sessions (session_id, title) VALUES ('ses_1', 'Fix')"))
        connection.execute(
            sa.text("INSERT INTO messages (message_id, session_id, role, message_cost_usd) VALUES ('msg_1', 'ses_1', 'assistant', 0.5)")
        )
        connection.execute(sa.text("INSERT INTO messages (message_id, session_id, role) VALUES ('msg_2', 'ses_1', 'user')"))
    upgrade(empty_database_url, AFTER)
    with empty_engine.begin() as connection:
        connection.execute(sa.text("UPDATE messages SET summary_title = 'A title', added_chars = 7 WHERE message_id = 'msg_2'"))
        connection.execute(
            sa.text(
                "INSERT INTO unrecorded_calls (unrecorded_id, session_id, kind, input_tokens, cache_read_tokens, cache_write_tokens,"
                " output_tokens, reasoning_tokens, estimated_cost_usd, method, method_version)"
                " VALUES ('ses_1:title', 'ses_1', 'title', 1, 2, 3, 4, 5, 0.000000000001, 'title_prompt', 1)"
            )
        )
        at_head = connection.execute(sa.text("SELECT message_id, message_cost_usd, added_chars FROM messages ORDER BY 1")).all()

    downgrade(empty_database_url, BEFORE)
    with empty_engine.connect() as connection:
        below = connection.execute(sa.text("SELECT message_id, role, message_cost_usd FROM messages ORDER BY 1")).all()
        tables = sa.inspect(connection).get_table_names()
    upgrade(empty_database_url, AFTER)

    with empty_engine.connect() as connection:
        again = connection.execute(sa.text("SELECT message_id, summary_title, added_chars FROM messages ORDER BY 1")).all()
        estimates = connection.scalar(sa.text("SELECT count(*) FROM unrecorded_calls"))
    assert [(row[0], row[2]) for row in at_head] == [("msg_1", None), ("msg_2", 7)]
    assert [tuple(row)[:2] for row in below] == [("msg_1", "assistant"), ("msg_2", "user")]
    assert float(below[0][2]) == 0.5
    assert "unrecorded_calls" not in tables
    assert [tuple(row) for row in again] == [("msg_1", None, None), ("msg_2", None, None)]
    assert estimates == 0
