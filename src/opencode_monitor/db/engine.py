"""Engines and sessions: one way to open the database, with every failure told in one line."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import NullPool, StaticPool

from opencode_monitor.db.dialect import MEMORY, make_spill_directory, owner_only
from opencode_monitor.errors import DatabaseBusyError, DatabaseError, SchemaError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["create_database_engine", "is_out_of_memory", "mask_url", "session_factory", "write_log_back"]

RETRY_SECONDS = 0.03
"""Between two tries to open a file that another process holds; opening takes about 15 ms."""

DUCKDB_SETTINGS = {
    # DuckDB's own default is 80 % of the machine, on which somebody works. A migration of two million rows passed with
    # 1 GB and failed with 400 MB; `?memory_limit=4GB` in the URL overrides it.
    "memory_limit": "1GB",
    # A checkpoint rewrites the part of a table that is not full yet. After every 16 MB of log, DuckDB's default, a load
    # of long texts spent most of its time so: 21,000 rows a second instead of 30,000, and a file a third larger.
    "checkpoint_threshold": "256MB",
    # A monitor of private sessions fetches no code from the network: the wheel contains what is used. Loading that stays allowed, as
    # DuckDB needs it to replay the log of a process that was killed, where a table in it has a default such as now().
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": True,
    # A missing table is an error, not a Python variable that happens to have its name.
    "python_enable_replacements": False,
}

LOADING_SETTINGS = {
    # An import's own memory, and that of what reads for it, lie on top: 800 MB together. Texts of more than 100 kB each need more: see
    # `is_out_of_memory`.
    "memory_limit": "300MB",
}
"""What differs for an engine that loads much."""

LOADING_ROW_GROUP = 2_048
"""Rows in a row group of a table that is loaded, DuckDB's least. Full groups are written with their transaction, compressed and once; what
does not fill one goes through the log, and the last group of a table is written again by each checkpoint that finds something added to it.
With 122,880 rows, DuckDB's default, an import of 1.4 GB wrote most of its tool output three times; with 8,192 rows it took a third more
processor time than with 2,048. Queries take the same time."""

_LOADED = "monitor"  # what the file is called inside DuckDB where it is attached

_HOLDER = re.compile(r"Conflicting lock is held in (?P<program>.+?) \(PID (?P<pid>\d+)\)")
_POSTGRESQL_SCHEMES = {"postgres", "postgresql", "postgresql+psycopg"}
_SECRET_PARAMETERS = {"motherduck_token", "password", "sslpassword"}


def create_database_engine(url: str | sa.URL, *, wait_seconds: float = 30.0, read_only: bool = False, loading: bool = False) -> sa.Engine:
    """Make an engine for a DuckDB file or a PostgreSQL database; nothing is opened yet.

    Opening raises this package's errors, unwrapped: `DatabaseBusyError` when another process holds the file for longer
    than `wait_seconds`, `SchemaError` when it is absent and `read_only`, otherwise `DatabaseError`.

    Args:
        url: `duckdb:///PATH` or `postgresql://USER@HOST/NAME`.
        wait_seconds: How long to wait for the file's lock, or for the server's answer.
        read_only: Refuse writing; several processes may then read a DuckDB file at once.
        loading: Much is going to be written: keep memory low, and write everything once. No other engine of this process can have the
            file open meanwhile.

    Raises:
        UsageError: For any other kind of URL.
        DatabaseError: When the driver for PostgreSQL is not installed.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "duckdb":
        return _create_duckdb_engine(parsed, wait_seconds=wait_seconds, read_only=read_only, loading=loading and not read_only)
    return _create_postgresql_engine(parsed, wait_seconds=wait_seconds, read_only=read_only)


def is_out_of_memory(error: sa.exc.DBAPIError) -> bool:
    """Tell whether DuckDB failed for its memory limit: it has 2,048 rows of a column in memory at once, however long they are."""
    return isinstance(error.orig, duckdb.OutOfMemoryException) or "failed to pin block" in str(error.orig)


def write_log_back(connection: sa.Connection, *, can_wait: bool = False) -> bool:
    """Have DuckDB bring what was committed from its log into the file now, and not only when the last connection closes.

    Args:
        connection: Outside a transaction; none is open afterwards.
        can_wait: Where another connection of this process is writing, for which DuckDB refuses, do not fail.

    Returns:
        Whether all is in the file.

    Raises:
        DBAPIError: It is not, and cannot wait.
    """
    if connection.dialect.name != "duckdb":
        return True
    try:
        with owner_only():
            connection.exec_driver_sql("CHECKPOINT")
    except sa.exc.DBAPIError as error:
        if can_wait and isinstance(error.orig, duckdb.TransactionException):
            return False
        raise
    finally:
        connection.rollback()
    return True


def session_factory(engine: sa.Engine) -> sessionmaker[Session]:
    """Make the factory whose `begin()` opens one transaction at the edge."""
    return sessionmaker(engine)


def mask_url(url: str | sa.URL) -> str:
    """Write a database URL so that it can be printed: without passwords.

    Raises:
        UsageError: When it is no URL.
    """
    parsed = _parse(url)
    hidden = {name: "***" for name in parsed.query if name in _SECRET_PARAMETERS}
    return parsed.update_query_dict(hidden).render_as_string(hide_password=True)


def _parse(url: str | sa.URL) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):
        # The text itself stays out of the message: it may hold a password.
        raise UsageError("the database URL cannot be read.", hint="Use duckdb:///PATH or postgresql://USER@HOST/NAME.") from None
    if parsed.drivername in _POSTGRESQL_SCHEMES:
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername == "duckdb":
        database = parsed.database or MEMORY
        return parsed.set(database=database if database == MEMORY else str(Path(database).expanduser()))
    raise UsageError(f"'{parsed.drivername}' databases are not supported.", hint="Use duckdb:///PATH or postgresql://USER@HOST/NAME.")


def _create_duckdb_engine(url: sa.URL, *, wait_seconds: float, read_only: bool, loading: bool) -> sa.Engine:
    is_memory = url.database == MEMORY
    path = Path(str(url.database))
    is_attached = loading and not is_memory
    settings: dict[str, Any] = dict(DUCKDB_SETTINGS)
    if is_attached:
        # Named, so that all connections of the process share it, as they do with a file; what does not fit in memory goes beside the file.
        url = url.set(database=f"{MEMORY}{path.absolute()}")
        settings |= {**LOADING_SETTINGS, "temp_directory": f"{path}.tmp"}
    # NullPool: a pooled connection keeps the file locked against every other process while it does nothing. In memory
    # the connection is the database, so there is exactly one.
    engine = sa.create_engine(
        url,
        poolclass=StaticPool if is_memory else NullPool,
        connect_args={"config": settings, "read_only": read_only},
    )

    def connect(dialect: sa.Dialect, record: object, cargs: list[Any], cparams: dict[str, Any]) -> Any:
        del record
        if not is_memory:
            _prepare_file(path, read_only=read_only)

        def open_file() -> Any:
            connection = dialect.connect(*cargs, **cparams)
            if is_attached:
                _attach(connection, path)
            return connection

        return _open_duckdb(open_file, path, wait_seconds)

    event.listen(engine, "do_connect", connect)
    return engine


def _attach(connection: Any, path: Path) -> None:
    """Attach the file with small row groups: they cannot be asked for in any other way."""
    quoted = str(path).replace("'", "''")
    try:
        with owner_only():
            connection.execute(f"ATTACH IF NOT EXISTS '{quoted}' AS {_LOADED} (ROW_GROUP_SIZE {LOADING_ROW_GROUP})")
        connection.execute(f"USE {_LOADED}")
    except duckdb.Error:
        connection.close()
        raise
    make_spill_directory(connection, str(path))


def _prepare_file(path: Path, *, read_only: bool) -> None:
    """Make the directory of a database that is to be written, and refuse to read one that is not there."""
    if read_only:
        if not path.exists():
            raise SchemaError(f"no database at {path}.", hint="Run: opencode-monitor db upgrade && opencode-monitor import")
        return
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise DatabaseError(f"cannot make the directory {path.parent}: {error.strerror}") from error


def _open_duckdb(connect: Callable[[], Any], path: Path, wait_seconds: float) -> Any:
    """Open the file, waiting while another process holds it."""
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            return connect()
        except duckdb.Error as error:
            message = str(error)
            if "Could not set lock on file" not in message:
                raise DatabaseError(_explain(path, message)) from error
            if time.monotonic() >= deadline:
                raise DatabaseBusyError(
                    f"database is in use by {_holder(message)}; waited {wait_seconds:g} s.", hint="Stop it or use --wait 5m."
                ) from error
        time.sleep(RETRY_SECONDS)


def _explain(path: Path, message: str) -> str:
    # DuckDB recognises an SQLite file and asks for the extension that would read it.
    if "not a valid DuckDB database file" in message or "sqlite_scanner" in message:
        return f"{path} is not a DuckDB database"
    first_line = message.partition("\n")[0]
    return f"cannot open the database {path}: {first_line}"


def _holder(message: str) -> str:
    """Name the process that holds the lock as its user started it, such as `'opencode-monitor serve' (PID 22075)`."""
    match = _HOLDER.search(message)
    if match is None:
        return "another process"
    try:
        arguments = Path(f"/proc/{match['pid']}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        arguments = []
    return f"'{_command_name(arguments or [match['program']])}' (PID {match['pid']})"


def _command_name(arguments: list[str]) -> str:
    """Shorten a command line to the program and its subcommands; options and paths are nobody's business."""
    program, *rest = arguments
    if Path(program).name.startswith("python") and rest:
        if rest[0] == "-m" and len(rest) > 1:
            rest = rest[1:]
        if not rest[0].startswith("-"):
            program, *rest = rest
    words = [Path(program).name]
    for word in rest[:2]:
        if not re.fullmatch(r"[a-z][a-z-]*", word):
            break
        words.append(word)
    return " ".join(words)


def _create_postgresql_engine(url: sa.URL, *, wait_seconds: float, read_only: bool) -> sa.Engine:
    try:
        import psycopg  # noqa: PLC0415 - an optional extra, and slow to import
    except ImportError as error:
        raise DatabaseError("PostgreSQL needs psycopg.", hint="Run: pip install 'opencode-monitor-analytics[postgres]'") from error
    engine = sa.create_engine(url, pool_pre_ping=True)

    def connect(dialect: sa.Dialect, record: object, cargs: list[Any], cparams: dict[str, Any]) -> Any:
        del record
        # Added to what the URL says, and in the connection's opening packet: no statement to run, roll back or forget.
        settings = [cparams.get("options", ""), "-c TimeZone=UTC"]
        if read_only:
            settings.append("-c default_transaction_read_only=on")
        cparams["options"] = " ".join(filter(None, settings))
        cparams.setdefault("connect_timeout", max(1, round(wait_seconds)))
        try:
            return dialect.connect(*cargs, **cparams)
        except psycopg.Error as error:
            reason = str(error).partition("\n")[0]
            if url.password:
                reason = reason.replace(str(url.password), "***")
            raise DatabaseError(f"cannot open the database {mask_url(url)}: {reason}") from error

    event.listen(engine, "do_connect", connect)
    return engine
