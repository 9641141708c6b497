"""Alembic as functions: bring a database to a revision; and the proof that revisions which move data keep, frozen as they are."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from alembic import command, op
from alembic.config import Config
from alembic.util import CommandError

from opencode_monitor._version import __version__
from opencode_monitor.db.checksum import Checksum, checksum
from opencode_monitor.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from alembic.runtime.migration import MigrationContext

    Relation = str | Callable[[Sequence[str]], str]


class MigrationError(DatabaseError, CommandError):
    """A revision refuses the data, or its proof does not hold; the transaction rolls back, and the database is as it was.

    Alembic's own command prints its kind of error in one line, and this program does the same with its own: it is both.
    """

    code = "migration_refused"


def script_location() -> Path:
    """Return the folder of the revisions: inside an installed package, or at the top of a checkout."""
    package = Path(__file__).parents[1]
    shipped = package / "_alembic"
    return shipped if shipped.is_dir() else package.parents[1] / "alembic"


def upgrade(database_url: str, revision: str = "head", *, wait_seconds: float = 30.0) -> None:
    """Run the revisions up to one; a new DuckDB file is made where there is none.

    Args:
        database_url: The database.
        revision: Where to stop.
        wait_seconds: How long to wait for DuckDB's file lock.
    """
    command.upgrade(_config(database_url, wait_seconds), revision)


def downgrade(database_url: str, revision: str, *, wait_seconds: float = 30.0) -> None:
    """Run the revisions down to one.

    Args:
        database_url: The database.
        revision: Where to stop; `base` for an empty database.
        wait_seconds: How long to wait for DuckDB's file lock.
    """
    command.downgrade(_config(database_url, wait_seconds), revision)


def _config(database_url: str, wait_seconds: float) -> Config:
    config = Config()
    config.set_main_option("script_location", str(script_location()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["database_url"] = database_url
    config.attributes["wait_seconds"] = wait_seconds
    return config


def drop_columns(table_name: str, *names: str) -> None:
    """Drop columns of a table that no other table refers to, from a running revision.

    DuckDB drops no column of a table with an index, and not in the transaction that drops the index either: there the table is made anew.

    Args:
        table_name: The table.
        names: The columns.
    """
    context = op.get_context()
    if context.connection is None or context.as_sql or context.dialect.name != "duckdb":
        for name in names:
            op.drop_column(table_name, name)
        return
    quote = context.dialect.identifier_preparer.quote
    kept = [column["name"] for column in sa.inspect(context.connection).get_columns(table_name) if column["name"] not in names]
    table = sa.Table(table_name, sa.MetaData(), autoload_with=context.connection, include_columns=kept)
    columns = ", ".join(quote(name) for name in kept)
    staged = quote(f"{table_name}_kept")
    op.execute(f"CREATE TABLE {staged} AS SELECT {columns} FROM {quote(table_name)}")  # noqa: S608 - names of the schema
    op.drop_table(table_name)
    table.create(context.connection)
    op.execute(f"INSERT INTO {quote(table_name)} ({columns}) SELECT {columns} FROM {staged}")  # noqa: S608 - as above
    op.drop_table(f"{table_name}_kept")


class Proof:
    """That a revision moved rows and changed none: a checksum before the move and one after it, both kept in `migration_audit`.

    Nothing is computed where Alembic only prints SQL.

    Args:
        context: The running migration's.
        revision: Which one.
        direction: upgrade or downgrade.
        columns: The columns to cover; `part_id` identifies a row.
    """

    def __init__(self, context: MigrationContext, revision: str, direction: str, columns: Sequence[str]) -> None:
        self._context = context
        self._revision = revision
        self._direction = direction
        self._columns = columns
        self._started = time.monotonic()
        self._before: Checksum | None = None

    def before(self, relation: Relation) -> None:
        """Take the checksum of the rows where they are before the move.

        Args:
            relation: See `checksum`.
        """
        if not self._context.as_sql:
            self._before = self._record("before", relation)

    def after(self, relation: Relation) -> None:
        """Take the checksum of the same rows where they are now.

        Args:
            relation: See `checksum`.

        Raises:
            MigrationError: They are not the same.
        """
        if self._context.as_sql or self._before is None:
            return
        different = self._before.differences(self._record("after", relation))
        if different:
            raise MigrationError(f"{self._revision} would change {', '.join(different)} of the moved rows; nothing was changed")

    def _record(self, phase: str, relation: Relation) -> Checksum:
        connection = self._context.connection
        if connection is None:
            raise RuntimeError("a migration that runs has a connection")
        found = checksum(connection, relation, ["part_id"], self._columns)
        now = datetime.now(UTC).replace(tzinfo=None)
        connection.execute(
            sa.text(
                "INSERT INTO migration_audit (audit_id, revision, direction, phase, table_name, row_count, fingerprint, seconds,"
                " program_version, created_at) VALUES (:audit_id, :revision, :direction, :phase, 'parts', :row_count,"
                " CAST(:fingerprint AS JSON), :seconds, :program_version, :created_at)"
            ),
            {
                "audit_id": f"{self._revision}:{self._direction}:{phase}:{now.isoformat()}",
                "revision": self._revision,
                "direction": self._direction,
                "phase": phase,
                "row_count": found.rows,
                "fingerprint": json.dumps(found.as_json()),
                "seconds": time.monotonic() - self._started,
                "program_version": __version__,
                "created_at": now,
            },
        )
        return found
