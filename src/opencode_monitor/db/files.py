"""Whole DuckDB files: back up and restore. A file is replaced by renaming, so a crash leaves the old one or the new one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import sqlalchemy as sa

from opencode_monitor.db.dialect import owner_only
from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.db.lock import migration_connection
from opencode_monitor.db.revision import current_revision
from opencode_monitor.errors import DatabaseBusyError, DatabaseError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Measured: moving 2,000,000 parts takes a file from 565 MB to 1,911 MB while the old table is kept.
FREE_SPACE_FACTOR = 3.5
_MEGABYTE = 1_000_000
_HEADER = 3 * 4096  # of a DuckDB file, before its first block
_COPY = """
import os, shutil, sys
if os.path.lexists(sys.argv[2]):
    os.unlink(sys.argv[2])
new = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
with open(sys.argv[1], "rb") as source, open(new, "wb") as target:
    shutil.copyfileobj(source, target, 1 << 20)
    target.flush()
    os.fsync(target.fileno())
"""


def database_file(url: str | sa.URL) -> Path:
    """Return the file of a DuckDB database; behind a link the file itself, as a rename would replace the link.

    Raises:
        DatabaseError: It is on a server, or in memory.
    """
    parsed = sa.make_url(url)
    if parsed.get_backend_name() != "duckdb" or parsed.database in (None, "", ":memory:"):
        raise DatabaseError("only a DuckDB file can be copied. On PostgreSQL use pg_dump and pg_restore.")
    return Path(str(parsed.database)).expanduser().resolve()


def backup_name(file: Path, revision: str | None, now: datetime) -> Path:
    """Return where a backup of a file goes by itself: `<file>.<revision>.<time>.bak`."""
    return file.with_name(f"{file.name}.{revision or 'base'}.{now.astimezone(UTC):%Y%m%dT%H%M%SZ}.bak")


def back_up(url: str | sa.URL, target: Path, *, wait_seconds: float = 30.0, connection: sa.Connection | None = None) -> str | None:
    """Copy a database file while nobody writes to it, and open the copy to see that it is one.

    Args:
        url: The DuckDB database.
        target: The new file; it must not exist.
        wait_seconds: How long to wait for the file's lock.
        connection: One to the file, outside of a transaction, where the caller holds its lock already.

    Returns:
        The revision that the copy stands at.

    Raises:
        SchemaError: There is no database.
        DatabaseError: The target exists, the disk is full, or the copy cannot be opened.
    """
    file = database_file(url)
    if target.exists():
        raise DatabaseError(f"{target} exists. Name another file.")
    if not file.exists():
        raise SchemaError(f"no database at {file}.", hint="Run: opencode-monitor db upgrade && opencode-monitor import")
    with nullcontext(connection) if connection is not None else migration_connection(url, wait_seconds=wait_seconds) as holder:
        return _copy_held(holder, file, target)


def _copy_held(connection: sa.Connection, file: Path, target: Path) -> str | None:
    partial = target.with_name(f"{target.name}.partial")
    connection.exec_driver_sql("CHECKPOINT")
    connection.commit()
    try:
        # In another process: closing a copy's descriptor in this one would drop DuckDB's lock on the file.
        copied = subprocess.run(  # noqa: S603 - this interpreter, and paths as arguments
            [sys.executable, "-I", "-c", _COPY, str(file), str(partial)], capture_output=True, text=True, check=False
        )
        if copied.returncode:
            reason = copied.stderr.strip().rpartition("\n")[2] or "unknown reason"
            raise DatabaseError(f"cannot copy {file} to {target}: {reason}")
        revision = _check_whole(partial)
        partial.replace(target)
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()
    return revision


def require_backup(url: str | sa.URL, backup: Path) -> Path:
    """Refuse to restore what is no backup at the first sight, before somebody is asked whether to.

    Args:
        url: The DuckDB database.
        backup: What is to take its place.

    Returns:
        The database's file.

    Raises:
        DatabaseError: The backup is not there, or is the database itself; or the database is no file.
    """
    file = database_file(url)
    if not backup.is_file():
        raise DatabaseError(f"no backup at {backup}")
    if file.exists() and file.samefile(backup):
        raise DatabaseError(f"{backup} is the database itself. Name a backup.")
    return file


def restore(url: str | sa.URL, backup: Path, *, wait_seconds: float = 30.0) -> str | None:
    """Put a backup in the database's place, while nobody uses it.

    Args:
        url: The DuckDB database; its file is replaced, whatever state it is in.
        backup: A file that `back_up` made; it is kept.
        wait_seconds: How long to wait for the file's lock.

    Returns:
        The revision that the database stands at now.

    Raises:
        DatabaseError: The backup is not there, is no database or not a whole one; the database is as it was.
        DatabaseBusyError: Another process holds the database for longer than the wait.
    """
    file = require_backup(url, backup)
    revision = _check_whole(backup)
    with _held(url, file, wait_seconds):
        # Not before: what lies there may be another process's, which still writes it.
        fresh = fresh_name(file)
        try:
            with owner_only():
                shutil.copyfile(backup, fresh)
            _check_whole(fresh)
            put_in_place(fresh, file)
        except OSError as error:
            raise DatabaseError(f"cannot write {fresh}: {error.strerror or error}. {file} is as it was.") from error
        finally:
            with suppress(FileNotFoundError):
                fresh.unlink()
    return revision


@contextmanager
def _held(url: str | sa.URL, file: Path, wait_seconds: float) -> Iterator[None]:
    """Hold the lock of the file that is about to be replaced: what another process wrote meanwhile would be lost."""
    if not file.exists():
        yield
        return
    with ExitStack() as stack:
        try:
            connection = stack.enter_context(migration_connection(url, wait_seconds=wait_seconds))
            connection.exec_driver_sql("CHECKPOINT")
            connection.commit()
        except DatabaseBusyError:
            raise
        except (DatabaseError, sa.exc.DBAPIError):
            # It cannot be read any more, which is a reason for a restore and no obstacle to it. Its log stays until the copy is there:
            # it may hold rows that were committed and lie nowhere else.
            pass
        yield


def fresh_name(file: Path) -> Path:
    """Return where a database is made that shall take a file's place, without what an earlier try has left there.

    Only for the holder of the file's lock: others may be at work there.
    """
    fresh = file.with_name(f"{file.name}.new")
    for left in (fresh, fresh.with_name(f"{fresh.name}.wal")):
        with suppress(FileNotFoundError):
            left.unlink()
    return fresh


def left_behind(file: Path) -> list[Path]:
    """List what a killed restore, retirement or backup of a database has left beside it; while one runs, it is what that one writes."""
    new = file.with_name(f"{file.name}.new")
    partial = file.parent.glob(f"{escape(file.name)}.*.partial") if file.parent.is_dir() else ()
    return [path for path in (new, new.with_name(f"{new.name}.wal"), *sorted(partial)) if path.is_file()]


def put_in_place(fresh: Path, file: Path) -> None:
    """Rename a finished database to the one that it replaces: whoever opens it sees the old one or the new one.

    The holder of the old file's lock keeps it meanwhile; who waits for it opens the new file. The old file's log, where one is left, goes
    with the old file: DuckDB would replay it on the new one.
    """
    _sync(fresh)
    log = file.with_name(f"{file.name}.wal")
    aside = file.with_name(f"{log.name}.old")
    has_log = log.exists()
    if has_log:
        log.replace(aside)
    try:
        fresh.replace(file)
    except OSError:
        if has_log:
            aside.replace(log)
        raise
    if os.name == "posix":
        _sync(file.parent)
    with suppress(FileNotFoundError):
        aside.unlink()


def _sync(path: Path) -> None:
    """Bring a file or the names in a directory to the disk; after a power cut, the new name must not lead to an empty file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_free_space(file: Path, work: str = "migration", factor: float = FREE_SPACE_FACTOR) -> None:
    """Refuse work on a database file where the disk would run full on the way.

    Args:
        file: The database file.
        work: What it is, for the message.
        factor: How many times the file's size it takes.

    Raises:
        DatabaseError: There is less room than that; the message has both figures.
    """
    if not file.exists():
        return
    needed = int(file.stat().st_size * factor)
    free = shutil.disk_usage(file.parent).free
    if free < needed:
        raise DatabaseError(
            f"the {work} of {file} needs about {needed / _MEGABYTE:,.0f} MB of free disk, and there are {free / _MEGABYTE:,.0f} MB."
            " Make room, or move the database and use --db."
        )


def _check_whole(file: Path) -> str | None:
    """Open a file to see that it is a database of this program, and that no part of it was cut off.

    Returns:
        The revision that it stands at.

    Raises:
        DatabaseError: It is something else.
    """
    engine = create_database_engine(f"duckdb:///{quote(str(file))}", read_only=True)
    try:
        with engine.connect() as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                raise DatabaseError(f"{file} is a DuckDB database, but not one of this program")
            blocks, block_size = connection.exec_driver_sql("SELECT total_blocks, block_size FROM pragma_database_size()").one()
            expected = _HEADER + blocks * block_size
            if file.stat().st_size < expected:
                raise DatabaseError(f"{file} is cut off: it has {file.stat().st_size:,} of {expected:,} bytes")
            return current_revision(connection)
    finally:
        engine.dispose()
