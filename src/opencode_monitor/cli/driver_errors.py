"""Errors of the database and its drivers, told as this package's own, without importing what raised them."""

from __future__ import annotations

from opencode_monitor.errors import DatabaseError

_PACKAGES = ("sqlalchemy", "duckdb", "_duckdb", "psycopg")


def told(error: Exception) -> DatabaseError | None:
    """Return what an error of SQLAlchemy or a driver says, in one line; None for any other error.

    Args:
        error: What was raised.
    """
    if not any(kind.__module__.partition(".")[0] in _PACKAGES for kind in type(error).__mro__):
        return None
    return DatabaseError(f"the database failed: {str(error).partition(chr(10))[0]}")
