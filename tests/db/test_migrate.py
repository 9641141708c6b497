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
        connection.execute(sa.text("CREATE TABLE owners (owner_id TEXT PRIMARY KEY)"))
        connection.execute(sa.text("INSERT INTO owners VALUES ('o')"))
        connection.execute(
            sa.text(
                "CREATE TABLE things (thing_id TEXT PRIMARY KEY, owner_id TEXT NOT NULL REFERENCES owners (owner_id), extra TEXT,"
                " number INTEGER DEFAULT 3 NOT NULL, cost NUMERIC(38, 12))"
            )
        )
        connection.execute(sa.text("CREATE INDEX ix_things__owner_id ON things (owner_id)"))
        connection.execute(sa.text("INSERT INTO things VALUES ('a', 'o', 'x', 7, 0.000000000001), ('b', 'o', NULL, 8, NULL)"))
        before = sa.inspect(connection).get_columns("things")

    with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        drop_columns(
            "things",
            "extra",
            kept=[
                sa.Column("thing_id", sa.Text(), nullable=False),
                sa.Column("owner_id", sa.Text(), nullable=False),
                sa.Column("number", sa.Integer(), server_default=sa.text("3"), nullable=False),
                sa.Column("cost", sa.Numeric(38, 12)),
                sa.PrimaryKeyConstraint("thing_id", name="pk_things"),
                sa.ForeignKeyConstraint(["owner_id"], ["owners.owner_id"], name="fk_things__owner_id__owners"),
            ],
            indexes={"ix_things__owner_id": ["owner_id"]},
        )

    with engine.connect() as connection:
        inspector = sa.inspect(connection)
        assert _described(inspector.get_columns("things")) == _described([column for column in before if column["name"] != "extra"])
        assert inspector.get_pk_constraint("things")["constrained_columns"] == ["thing_id"]
        assert [key["referred_table"] for key in inspector.get_foreign_keys("things")] == ["owners"]
        assert [index["column_names"] for index in inspector.get_indexes("things")] == [["owner_id"]]
        assert not inspector.has_table("things_kept")
        rows = connection.execute(sa.text("SELECT thing_id, number, CAST(cost AS TEXT) FROM things ORDER BY 1")).all()
    assert [tuple(row) for row in rows] == [("a", 7, "0.000000000001"), ("b", 8, None)]


def _described(columns: list[ReflectedColumn]) -> list[tuple[str, str, bool, str | None]]:
    return [(column["name"], str(column["type"]), column["nullable"], column["default"]) for column in columns]
