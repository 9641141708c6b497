"""What the readers of OpenCode's databases share: columns by name, projects, rows that tell of changes, and issues."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any

from opencode_monitor.errors import SourceError
from opencode_monitor.sources import shapes
from opencode_monitor.sources.decode import REPLACED, clean, decode_object, is_storable_id
from opencode_monitor.sources.issues import report
from opencode_monitor.sources.sqlite_access import Row, SessionRows, Snapshot, describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from opencode_monitor.sources.records import ProjectRecord, SessionRecord, SourceIssue

NO_ID = "its id is not text; not loaded"


class SqliteReader:
    """A state of a database, and the columns that its tables happen to have.

    Args:
        path: The database file.
        snapshot: The open database.
        required: The tables without which there is nothing to read, and the columns of each.
        known_as: Whose tables they are, for the message about one that is missing.

    Attributes:
        damage: What kept something from being read since it was opened, one line; None if nothing did.

    Raises:
        SourceError: A table or column is missing, or the file is damaged.
    """

    kind = "sqlite"

    def __init__(self, path: Path, snapshot: Snapshot, required: Mapping[str, Sequence[str]], known_as: str) -> None:
        self.path = path
        self.damage: str | None = None
        self._connection = snapshot.connection
        with self._reading():
            self._columns = {table: self._table_columns(table) for table in (*required, "project")}
        for table, columns in required.items():
            if not self._columns[table]:
                raise SourceError(f"{path} has no table {table}: it is not a database of {known_as}")
            missing = [column for column in columns if column not in self._columns[table]]
            if missing:
                raise SourceError(f"{path}: table {table} has no column {', '.join(missing)}; this shape is not known")

    def _table_columns(self, table: str) -> frozenset[str]:
        return frozenset(row[1] for row in self._connection.execute(f"PRAGMA table_info({table})"))

    def _column(self, table: str, column: str) -> str:
        return column if column in self._columns[table] else "NULL"

    def _row_stamps(self, rows: SessionRows, count: str = "count(*)") -> dict[str, Row]:
        """Map each session to the number of its rows in a table, their last id, their last change and the sum of their changes."""
        updated = self._column(rows.table, "time_updated")
        # Masked to 40 bits, no wrong value can make the sum overflow.
        facts = f"{count}, max(id), max({updated}), sum({updated} & 0xFFFFFFFFFF)"
        try:
            # NOT INDEXED: one pass over the table and a sort of short rows; the index on session_id would jump about in the file.
            found = self._connection.execute(f"SELECT session_id, {facts} FROM {rows.table} NOT INDEXED GROUP BY session_id").fetchall()  # noqa: S608 - own names
        except sqlite3.Error as error:
            self._note_damage(error)
            return self._salvaged_stamps(rows, facts)
        return {row[0]: row[1:] for row in found if is_storable_id(row[0])}

    def _salvaged_stamps(self, rows: SessionRows, facts: str) -> dict[str, Row]:
        """Ask for one session after the other, where a pass over the table fails: the rows of most lie elsewhere than the damage."""
        stamps: dict[str, Row] = {}
        for session_id in self._salvaged_ids(rows.table, "session_id"):
            stamps[session_id] = (0, "damaged", None, None)
            # Without the index, each question would be one more pass that fails.
            with self._salvaging():
                query = f"SELECT {facts} FROM {rows.table} WHERE session_id = ?"  # noqa: S608 - own names
                stamps[session_id] = self._connection.execute(query, (session_id,)).fetchone() if rows.is_indexed else stamps[session_id]
        return stamps

    def _salvaged_ids(self, table: str, column: str) -> list[str]:
        """Return what can be read of a column with ids: from its index, and from the table as far as it is whole."""
        found: set[str] = set()
        for way in ("", "NOT INDEXED"):
            with self._salvaging():
                rows = self._connection.execute(f"SELECT DISTINCT {column} FROM {table} {way}")  # noqa: S608 - own names
                found.update(row[0] for row in rows if is_storable_id(row[0]))
        return sorted(found)

    def _session_rows(self, table: str, select: str) -> dict[str, Row]:
        """Map each session to its own row."""
        try:
            return {row[0]: row for row in self._connection.execute(select).fetchall() if is_storable_id(row[0])}
        except sqlite3.Error as error:
            self._note_damage(error)
        found: dict[str, Row] = {}
        for session_id in self._salvaged_ids(table, "id"):
            with self._salvaging():
                found.update((row[0], row) for row in self._connection.execute(f"{select} WHERE id = ?", (session_id,)))
        return found

    def _strays(self, table: str, is_session: Callable[[object], bool]) -> Iterator[object]:
        """Yield the ids of the rows of a table that belong to no session."""
        with self._salvaging():
            # The index tells at once that there are none, as nearly always; a damaged one is not believed.
            owners = self._connection.execute(f"SELECT DISTINCT session_id FROM {table}")  # noqa: S608 - own name
            if all(is_session(owner) for (owner,) in owners) and self.damage is None:
                return
        with self._salvaging():
            for record_id, owner in self._connection.execute(f"SELECT id, session_id FROM {table}"):  # noqa: S608 - own name
                if not is_session(owner):
                    yield record_id

    def _projects(self, issues: list[SourceIssue]) -> list[ProjectRecord]:
        if "id" not in self._columns["project"]:
            return []
        names = ("worktree", "name", "vcs", "time_created", "time_updated")
        columns = ", ".join(self._column("project", name) for name in names)
        rows: list[Row] = []
        with self._salvaging():
            rows.extend(self._connection.execute(f"SELECT id, {columns} FROM project ORDER BY id"))  # noqa: S608 - own names
        projects = []
        for project_id, worktree, name, vcs, created, updated in rows:
            notes: list[str] = []
            if is_storable_id(project_id):
                shape = {
                    "worktree": worktree,
                    "name": name,
                    "vcs": vcs,
                    "time": {"created": created, "updated": updated},
                }
                projects.append(shapes.project_record(storable(shape, notes), project_id=project_id, notes=notes))
            else:
                notes.append(NO_ID)
            report(issues, f"project:{shown(project_id)}", notes, loaded=is_storable_id(project_id))
        return projects

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise describe(self.path, error) from error

    @contextlib.contextmanager
    def _salvaging(self) -> Iterator[None]:
        """Keep what was read before the damage, and go on behind it."""
        try:
            yield
        except sqlite3.Error as error:
            self._note_damage(error)

    def _note_damage(self, error: sqlite3.Error) -> None:
        self.damage = self.damage or str(describe(self.path, error, partly=True))


def tables_of(path: Path, snapshot: Snapshot) -> set[str]:
    """Return the names of a database's tables.

    Args:
        path: The database file, for an error.
        snapshot: The open database.

    Raises:
        SourceError: The file is damaged.
    """
    try:
        return {row[0] for row in snapshot.connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error as error:
        raise describe(path, error) from error


def session_of_row(row: Mapping[str, Any], *, place: str, issues: list[SourceIssue]) -> SessionRecord:
    """Map a row of a session table.

    Args:
        row: Its columns by name.
        place: How an issue names it.
        issues: Takes what could not be used.

    Returns:
        The record.
    """
    notes: list[str] = []
    project_id = row["project_id"]
    shape = {
        "parentID": row["parent_id"],
        "title": row["title"],
        "directory": row["directory"],
        "version": row["version"],
        "time": {"created": row["time_created"], "updated": row["time_updated"]},
    }
    if project_id is not None and not is_storable_id(project_id):
        notes.append("project_id is not text")
        project_id = None
    session = shapes.session_record(storable(shape, notes), session_id=row["id"], project_id=project_id, notes=notes)
    report(issues, place, notes, loaded=True)
    return session


def decode(raw: bytes | None, notes: list[str]) -> dict[str, Any] | None:
    """Decode the JSON object of a row, and note what is wrong with it."""
    if not raw:
        notes.append("no data")
        return None
    data, note = decode_object(raw)
    if note is not None:
        notes.append(note)
    return data


def storable(shape: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """Take out what no database of ours can store in text."""
    cleaned: dict[str, Any]
    cleaned, changed = clean(shape)
    if changed:
        notes.append(REPLACED)
    return cleaned


def shown(record_id: object) -> str:
    """Show an id in an issue, which must be storable even if the id is not."""
    return str(record_id) if is_storable_id(record_id) else ascii(record_id)
