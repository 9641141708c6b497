"""Get at the rows of OpenCode's database beside a running OpenCode, and leave its directory as it was."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opencode_monitor.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

Row = tuple[Any, ...]

_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_COARSE_NS = 2_000_000_000  # how far apart the times of two writes can have to be to differ, on FAT
_BATCH = 500  # row numbers in one statement
_NEEDS_WRITING = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}


class Snapshot:
    """One consistent state of a database file, from opening to closing.

    OpenCode keeps its database in WAL mode, where even a reader needs the `-shm` file, and makes it. Measured with
    SQLite 3.40: `nolock=1` and `vfs=unix-none` refuse a WAL database, `immutable=1` overlooks the `-wal`, and
    `mode=ro` leaves `-shm` and an empty `-wal` behind. Hence three ways:

    - `-shm` is there (OpenCode runs, or was killed): `mode=ro` on the original adds nothing.
    - No `-shm` and no `-wal`, or an empty one (OpenCode has ended): `mode=ro` on the original. At the end SQLite
      itself removes the two files, as it does whenever the last connection that could write closes; there is nothing
      in the log that it could write back.
    - No `-shm`, but a `-wal` that holds rows (a store copied while OpenCode ran): the same would fold the log into
      the file. So a temporary copy is read instead. The same goes for a directory in which SQLite may not make its
      files.

    Args:
        path: The database file.
        busy_timeout_s: How long to wait for another program's lock.

    Attributes:
        is_copy: Whether a temporary copy is read.
        connection: The connection, inside a read transaction. Text that is not UTF-8 comes with lone surrogates in
            place of its bytes.

    Raises:
        SourceError: The file is no SQLite database, is damaged, is locked, or cannot be read.
    """

    connection: sqlite3.Connection

    def __init__(self, path: Path, busy_timeout_s: float) -> None:
        self.is_copy = False
        self._path = path
        self._file = path.resolve()  # SQLite keeps its other files beside the file itself, not beside a link to it
        self._cleanup = contextlib.ExitStack()
        try:
            self._open(busy_timeout_s)
        except sqlite3.Error as error:
            self._cleanup.close()
            raise describe(path, error) from error
        except BaseException:
            self._cleanup.close()
            raise

    def close(self) -> None:
        """End the transaction, and remove what opening has made."""
        self._cleanup.close()

    def _open(self, busy_timeout_s: float) -> None:
        # The database file is not opened outside SQLite while SQLite has it open: closing any handle of it would drop
        # the process's locks.
        wal, shm = _beside(self._file, "-wal"), _beside(self._file, "-shm")
        if not shm.exists() and wal.exists() and wal.stat().st_size > 0:
            self._connect(self._copy(), "rw", busy_timeout_s)
            return
        if not shm.exists():
            self._cleanup.callback(_remove_empty_log, self._file)
        try:
            self._connect(self._file, "ro", busy_timeout_s)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _NEEDS_WRITING or not self._file.is_file():
                raise
            self._connect(self._copy(), "rw", busy_timeout_s)

    def _connect(self, path: Path, mode: str, busy_timeout_s: float) -> None:
        uri = f"{path.as_uri()}?mode={mode}"
        # An import reads ahead in a thread of its own; only one thread at a time uses the connection.
        connection = sqlite3.connect(uri, uri=True, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False)
        try:
            connection.text_factory = _decode_text
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # the snapshot is taken here, not by BEGIN
        except sqlite3.Error:
            connection.close()
            raise
        self._cleanup.callback(connection.close)
        self.connection = connection

    def _copy(self) -> Path:
        """Copy the database and its logs to a directory that only this user can read."""
        self.is_copy = True
        files = [self._file, *(_beside(self._file, suffix) for suffix in ("-wal", "-journal"))]
        try:
            directory = self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="opencode-monitor-"))
            before = [_state(file) for file in files]
            for file in files:
                if file.exists():
                    shutil.copyfile(file, Path(directory) / file.name)
            after = [_state(file) for file in files]
        except OSError as error:
            raise SourceError(f"{self._path} cannot be read: {error.strerror or error}") from error
        if before != after:
            raise SourceError(f"{self._path} was written to while it was copied; try again")
        return Path(directory) / self._file.name


class SessionRows:
    """Fetches one session's rows of a table: by the index on `session_id`, or else by row numbers from one pass.

    Without either, every session would cost a pass of its own over the whole table.

    Args:
        connection: The open database.
        table: The table; it has a column `session_id`.
        columns: What to select, as SQL.

    Attributes:
        table: As given.
        is_indexed: Whether SQLite finds a session's rows by an index.
    """

    def __init__(self, connection: sqlite3.Connection, table: str, columns: str) -> None:
        self._connection = connection
        self.table = table
        self._select = f"SELECT {columns} FROM {table}"  # noqa: S608 - the names are the calling module's own
        plan = connection.execute(f"EXPLAIN QUERY PLAN {self._select} WHERE session_id = ?", ("",)).fetchall()
        self.is_indexed = any("SEARCH" in step[3] for step in plan)
        self._row_numbers: dict[str, list[int]] | None = None
        self._damage: sqlite3.Error | None = None

    def fetch(self, session_id: str, rows: list[Row]) -> None:
        """Fetch one session's rows, in no order.

        Args:
            session_id: Which session.
            rows: Takes the selected columns of each row, the first of which is its key.

        Raises:
            sqlite3.Error: The rest of them cannot be read.
        """
        if not self.is_indexed:
            rows.extend(self._by_number(session_id))
            return
        try:
            rows.extend(self._connection.execute(f"{self._select} WHERE session_id = ?", (session_id,)))
        except sqlite3.Error:
            # The damage may be in the index alone.
            found = {row[0] for row in rows}
            rows.extend(row for row in self._by_number(session_id) if row[0] not in found)
            raise

    def _by_number(self, session_id: str) -> Iterator[Row]:
        numbers = self._numbers_of(session_id)
        for start in range(0, len(numbers), _BATCH):
            batch = numbers[start : start + _BATCH]
            marks = ",".join("?" * len(batch))
            yield from self._connection.execute(f"{self._select} WHERE rowid IN ({marks})", batch)
        if self._damage is not None:  # behind it, there may be more of any session
            raise self._damage

    def _numbers_of(self, session_id: str) -> list[int]:
        if self._row_numbers is None:
            self._row_numbers = {}
            try:
                every = self._connection.execute(f"SELECT rowid, session_id FROM {self.table} NOT INDEXED")  # noqa: S608 - own name
                for number, owner in every:
                    self._row_numbers.setdefault(owner, []).append(number)
            except sqlite3.Error as error:
                self._damage = error
        return self._row_numbers.get(session_id, [])


def describe(path: Path, error: sqlite3.Error, *, partly: bool = False) -> SourceError:
    """Put an error of SQLite into one line for people.

    Args:
        path: The database file.
        error: What SQLite raised.
        partly: The rest of the file can be read.

    Returns:
        The error to raise instead.
    """
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _LOCKED:
        return SourceError(f"{path} is locked by another program; try again")
    if code == sqlite3.SQLITE_NOTADB:
        return SourceError(f"{path} is not a SQLite database")
    loaded = "; what can be read of it is loaded" if partly else ""
    if code == sqlite3.SQLITE_CORRUPT:
        return SourceError(f"{path} is damaged ({error}){loaded}. Restore it from a backup, or recover it with: sqlite3 FILE .recover")
    return SourceError(f"{path} cannot be read: {error}{loaded}")


def state_of(path: Path) -> str | None:
    """Return sizes and times of a database file and its logs, which differ after every write to it.

    Args:
        path: The database file.

    Returns:
        The state, or None where it proves nothing: the files cannot be seen, or were written so lately that a file system with coarse times
        could give the next write the same.
    """
    path = path.resolve()
    parts = []
    latest_ns = 0
    for suffix in ("", "-wal", "-journal"):
        try:
            status = path.with_name(path.name + suffix).stat()
        except FileNotFoundError:
            status = None
        except OSError:
            return None
        if status is None or (suffix and status.st_size == 0):  # a reader makes an empty log, and takes it away again
            parts.append("-")
            continue
        parts.append(f"{status.st_ino}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}")
        latest_ns = max(latest_ns, status.st_mtime_ns, status.st_ctime_ns)
    return None if time.time_ns() - latest_ns < _COARSE_NS else " ".join(parts)


def _remove_empty_log(path: Path) -> None:
    """Let SQLite remove the `-shm` and the empty `-wal` that a read-only connection made.

    It keeps them if another program has come to use them.
    """
    wal, shm = _beside(path, "-wal"), _beside(path, "-shm")
    with contextlib.suppress(OSError, sqlite3.Error):
        if not shm.exists() or wal.stat().st_size > 0:
            return
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=0)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _state(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns


def _decode_text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
