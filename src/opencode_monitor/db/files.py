"""Whole DuckDB files: back up and restore. A file is replaced by renaming, so a crash leaves the old one or the new one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import sqlalchemy as sa

from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.db.revision import current_revision
from opencode_monitor.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Callable

# Measured: moving 2,000,000 parts takes a file from 565 MB to 1,911 MB while the old table is kept.
FREE_SPACE_FACTOR = 3.5
_MEGABYTE = 1_000_000
_COPY = "import shutil, sys; shutil.copyfile(sys.argv[1], sys.argv[2])"


def database_file(url: str | sa.URL) -> Path:
    """Return the file of a DuckDB database.

    Raises:
        DatabaseError: It is on a server, or in memory.
    """
    parsed = sa.make_url(url)
    if parsed.get_backend_name() != "duckdb" or parsed.database in (None, "", ":memory:"):
        raise DatabaseError("only a DuckDB file can be copied. On PostgreSQL use pg_dump and pg_restore.")
    return Path(str(parsed.database)).expanduser()


def backup_name(file: Path, revision: str | None, now: datetime) -> Path:
    """Return where a backup of a file goes by itself: `<file>.<revision>.<time>.bak`."""
    return file.with_name(f"{file.name}.{revision or 'base'}.{now.astimezone(UTC):%Y%m%dT%H%M%SZ}.bak")


def back_up(url: str | sa.URL, target: Path, *, wait_seconds: float = 30.0) -> str | None:
    """Copy a database file while nobody writes to it, and open the copy to see that it is one.

    Args:
        url: The DuckDB database.
        target: The new file; it must not exist.
        wait_seconds: How long to wait for the file's lock.

    Returns:
        The revision that the copy stands at.

    Raises:
        DatabaseError: The target exists, the disk is full, or the copy cannot be opened.
    """
    file = database_file(url)
    if target.exists():
        raise DatabaseError(f"{target} exists. Name another file.")
    if not file.exists():
        raise DatabaseError(f"no database at {file}")
    partial = target.with_name(f"{target.name}.partial")
    engine = create_database_engine(url, wait_seconds=wait_seconds)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("CHECKPOINT")
            # In another process: closing a copy's descriptor in this one would drop DuckDB's lock on the file.
            copied = subprocess.run(  # noqa: S603 - this interpreter, and paths as arguments
                [sys.executable, "-I", "-c", _COPY, str(file), str(partial)], capture_output=True, text=True, check=False
            )
        if copied.returncode:
            reason = copied.stderr.strip().rpartition("\n")[2] or "unknown reason"
            raise DatabaseError(f"cannot copy {file} to {target}: {reason}")
        partial.chmod(0o600)
        revision = _revision_of(partial)
        partial.replace(target)
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()
        engine.dispose()
    return revision


def restore(url: str | sa.URL, backup: Path, *, wait_seconds: float = 30.0) -> str | None:
    """Put a backup in the database's place.

    Args:
        url: The DuckDB database; its file is replaced.
        backup: A file that `back_up` made; it is kept.
        wait_seconds: How long to wait for the file's lock.

    Returns:
        The revision that the database stands at now.

    Raises:
        DatabaseError: The backup is not there or is no database; the database is as it was.
    """
    file = database_file(url)
    if not backup.is_file():
        raise DatabaseError(f"no backup at {backup}")
    revision = _revision_of(backup)

    def copy(fresh: Path) -> None:
        shutil.copyfile(backup, fresh)

    _replace(url, file, copy, wait_seconds)
    return revision


def require_free_space(file: Path) -> None:
    """Refuse to migrate where the disk would run full on the way.

    Args:
        file: The database file.

    Raises:
        DatabaseError: There is less room than a migration takes; the message has both figures.
    """
    if not file.exists():
        return
    needed = int(file.stat().st_size * FREE_SPACE_FACTOR)
    free = shutil.disk_usage(file.parent).free
    if free < needed:
        raise DatabaseError(
            f"the migration of {file} needs about {needed / _MEGABYTE:,.0f} MB of free disk, and there are {free / _MEGABYTE:,.0f} MB."
            " Make room, or move the database and use --db."
        )


def _replace(url: str | sa.URL, file: Path, copy: Callable[[Path], None], wait_seconds: float) -> None:
    fresh = file.with_name(f"{file.name}.new")
    with suppress(FileNotFoundError):
        fresh.unlink()
    if file.exists():
        # Wait for whoever uses the file; what comes after the look is refused by the lock of the new file or sees a whole one.
        engine = create_database_engine(url, wait_seconds=wait_seconds)
        with engine.connect() as connection:
            connection.exec_driver_sql("CHECKPOINT")
        engine.dispose()
    try:
        before = os.umask(0o077)
        try:
            copy(fresh)
        finally:
            os.umask(before)
        _revision_of(fresh)
        fresh.replace(file)
    except (OSError, duckdb.Error) as error:
        raise DatabaseError(f"cannot write {fresh}: {str(error).partition(chr(10))[0]}. {file} is as it was.") from error
    finally:
        with suppress(FileNotFoundError):
            fresh.unlink()


def _revision_of(file: Path) -> str | None:
    engine = create_database_engine(f"duckdb:///{file}", read_only=True)
    try:
        with engine.connect() as connection:
            return current_revision(connection)
    finally:
        engine.dispose()
