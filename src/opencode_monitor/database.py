"""Open a database for a program's own code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opencode_monitor.db.engine import create_database_engine, session_factory
from opencode_monitor.db.revision import require_head
from opencode_monitor.settings import database_url_of, load_settings

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.orm import Session, sessionmaker


def open_database(database: str | Path | None = None, *, read_only: bool = True, wait_seconds: float = 30.0) -> sessionmaker[Session]:
    """Open a database that stands at head.

    Args:
        database: A URL, or the path of a DuckDB file; the one of the settings where absent.
        read_only: Refuse writing; several processes may then read a DuckDB file at once.
        wait_seconds: How long to wait for DuckDB's file lock.

    Returns:
        A factory of sessions: `with factory() as session` to read, `with factory.begin() as session` for one transaction.

    Raises:
        SchemaError: The database is missing, behind or ahead of this program.
        DatabaseBusyError: Another process holds it for longer than the wait.
    """
    url = load_settings().database_url if database is None else database_url_of(database)
    engine = create_database_engine(url, wait_seconds=wait_seconds, read_only=read_only)
    with engine.connect() as connection:
        require_head(connection)
    return session_factory(engine)
