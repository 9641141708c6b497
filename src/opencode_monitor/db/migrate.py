"""Alembic as functions: bring a database to a revision; and the proof that revisions which move data keep, frozen as they are."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from opencode_monitor._version import __version__
from opencode_monitor.db.checksum import Checksum, checksum

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alembic.runtime.migration import MigrationContext


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

    def before(self, relation: str) -> None:
        """Take the checksum of the rows where they are before the move."""
        if not self._context.as_sql:
            self._before = self._record("before", relation)

    def after(self, relation: str) -> None:
        """Take the checksum of the same rows where they are now.

        Raises:
            RuntimeError: They are not the same; the transaction rolls back.
        """
        if self._context.as_sql or self._before is None:
            return
        different = self._before.differences(self._record("after", relation))
        if different:
            raise RuntimeError(f"{self._revision} would change {', '.join(different)} of the moved rows; nothing was changed")

    def _record(self, phase: str, relation: str) -> Checksum:
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
