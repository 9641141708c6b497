"""One lock for everything that changes the schema, so that two migrations never run at once, whoever starts them.

DuckDB's own lock on the file does it: the connection that is open holds it. On a PostgreSQL server it is an advisory lock of the database,
which the server releases with the connection, however that ends.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import sqlalchemy as sa

from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.errors import DatabaseBusyError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Any number would do, as long as every release uses the same.
LOCK_KEY = 0x6F63_6D6F_6E69_746F
_RETRY_SECONDS = 0.1
_HOLDER = sa.text(
    """
    SELECT a.pid, a.usename, to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS since
    FROM pg_locks l
    JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND l.classid = CAST(:high AS oid) AND l.objid = CAST(:low AS oid)
    """
)


@contextmanager
def migration_connection(url: str | sa.URL, *, wait_seconds: float = 30.0) -> Iterator[sa.Connection]:
    """Open the one connection that may change the schema; another process that wants to has to wait until it is closed.

    Args:
        url: The database; a DuckDB file is made where there is none.
        wait_seconds: How long to wait for another process.

    Yields:
        A connection outside of any transaction.

    Raises:
        DatabaseBusyError: Another process holds the lock for longer.
    """
    engine = create_database_engine(url, wait_seconds=wait_seconds)
    try:
        with engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                _lock(connection, wait_seconds)
            yield connection
    finally:
        # Closes the connection, and with it goes the lock.
        engine.dispose()


def _lock(connection: sa.Connection, wait_seconds: float) -> None:
    deadline = time.monotonic() + wait_seconds
    while not connection.scalar(sa.select(sa.func.pg_try_advisory_lock(LOCK_KEY))):
        if time.monotonic() >= deadline:
            raise DatabaseBusyError(
                f"database is being migrated by {_holder(connection)}; waited {wait_seconds:g} s.", hint="Let it finish, or use --wait 5m."
            )
        # Not in a transaction: an open one would hold back the server's clean-up.
        connection.rollback()
        time.sleep(_RETRY_SECONDS)
    connection.commit()


def _holder(connection: sa.Connection) -> str:
    row = connection.execute(_HOLDER, {"high": LOCK_KEY >> 32, "low": LOCK_KEY & 0xFFFF_FFFF}).first()
    return "another process" if row is None else f"the server's process {row.pid} (user {row.usename}, connected since {row.since} UTC)"
