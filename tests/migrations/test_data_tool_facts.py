"""The two columns of a tool call: up, down with rows in place, and up again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from opencode_monitor.db.migrate import downgrade, upgrade

if TYPE_CHECKING:
    from sqlalchemy import Engine

pytestmark = pytest.mark.usefixtures("kept_open")

BEFORE, AFTER = "source_state", "tool_facts"
KEPT = (
    "tool_call_id, part_id, session_id, created_at, tool_name, tool_args, tool_result, execution_time_ms, status, call_id, child_session_id"
)


def test_tool_facts_up_and_down_keep_every_call(empty_engine: Engine, empty_database_url: str) -> None:
    upgrade(empty_database_url, BEFORE)
    with empty_engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO sessions (session_id, title) VALUES ('ses_1', 'Fix')"))
        for number in (1, 2):
            values = {"id": f"prt_{number}", "number": number}
            connection.execute(
                sa.text("INSERT INTO parts (part_id, session_id, part_type, sequence_number) VALUES (:id, 'ses_1', 'tool_call', :number)"),
                values,
            )
            connection.execute(
                sa.text(
                    f"INSERT INTO tool_calls ({KEPT}) VALUES (:id, :id, 'ses_1', '2026-01-05 09:30:00', 'skill',"
                    f" '{{\"name\":  \"é\"}}', 'done',"
                    " 0.1, 'success', 'call_1', 'ses_2')"
                ),
                values,
            )
        before = connection.execute(sa.text(f"SELECT {KEPT} FROM tool_calls ORDER BY 1")).all()

    upgrade(empty_database_url, AFTER)
    with empty_engine.begin() as connection:
        added = connection.execute(sa.text("SELECT skill_name, mcp_server FROM tool_calls")).all()
        connection.execute(sa.text("UPDATE tool_calls SET skill_name = 'deploy' WHERE tool_call_id = 'prt_1'"))
    downgrade(empty_database_url, BEFORE)
    with empty_engine.connect() as connection:
        below = connection.execute(sa.text(f"SELECT {KEPT} FROM tool_calls ORDER BY 1")).all()
        columns = {column["name"] for column in sa.inspect(connection).get_columns("tool_calls")}
    upgrade(empty_database_url, AFTER)

    with empty_engine.connect() as connection:
        again = connection.execute(sa.text(f"SELECT {KEPT} FROM tool_calls ORDER BY 1")).all()
    assert [tuple(row) for row in added] == [(None, None), (None, None)]
    assert below == before == again
    assert columns == set(KEPT.split(", "))
