"""The helpers that revisions use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations

from opencode_monitor.db.migrate import drop_columns

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import ReflectedColumn


def test_drop_columns_of_an_indexed_child_table_keeps_rows_keys_and_indexes(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO sessions (session_id) VALUES ('ses_1')"))
        connection.execute(
            sa.text(
                "INSERT INTO messages (message_id, session_id, role, agent, input_tokens, message_cost_usd)"
                " VALUES ('msg_1', 'ses_1', 'assistant', 'build', 7, 0.000000000001), ('msg_2', 'ses_1', 'user', NULL, NULL, NULL)"
            )
        )
        before = sa.inspect(connection).get_columns("messages")

    with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        drop_columns("messages", "agent", "copied_from")

    with engine.connect() as connection:
        inspector = sa.inspect(connection)
        assert _described(inspector.get_columns("messages")) == _described(
            [column for column in before if column["name"] not in {"agent", "copied_from"}]
        )
        assert inspector.get_pk_constraint("messages")["constrained_columns"] == ["message_id"]
        assert [key["referred_table"] for key in inspector.get_foreign_keys("messages")] == ["sessions"]
        assert [index["column_names"] for index in inspector.get_indexes("messages")] == [["session_id"]]
        assert not inspector.has_table("messages_kept")
        rows = connection.execute(sa.text("SELECT message_id, input_tokens, CAST(message_cost_usd AS TEXT) FROM messages ORDER BY 1")).all()
    assert [tuple(row) for row in rows] == [("msg_1", 7, "0.000000000001"), ("msg_2", None, None)]


def _described(columns: list[ReflectedColumn]) -> list[tuple[str, str, bool, str | None]]:
    return [(column["name"], str(column["type"]), column["nullable"], column["default"]) for column in columns]
