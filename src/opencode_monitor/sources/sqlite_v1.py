"""Read the database of OpenCode 1.2 to 1.18: tables `session`, `message` and `part`.

A record's JSON object is in `data`, less its ids, which are columns. Columns came and went between versions, and their
order differs between fresh and upgraded files: all are probed, and selected by name. Tables with secrets (`account`,
`control_account`, `session_share`) and the event log, which repeats everything, are not read. Source: OpenCode's
`packages/opencode/src/session/session.sql.ts`.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from typing import TYPE_CHECKING, Any

from opencode_monitor.errors import SourceError
from opencode_monitor.sources import shapes
from opencode_monitor.sources.decode import REPLACED, clean, decode_object, is_storable_id
from opencode_monitor.sources.records import (
    MessageRecord,
    PartRecord,
    ProjectRecord,
    SessionBundle,
    SessionRecord,
    SessionStamp,
    SourceIssue,
)
from opencode_monitor.sources.sqlite_access import Row, SessionRows, Snapshot, describe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

_REQUIRED = {
    "session": ("id",),
    "message": ("id", "session_id", "data"),
    "part": ("id", "message_id", "session_id", "data"),
}
_NO_ID = "its id is not text; not loaded"


class SqliteSource:
    """An `opencode.db` of OpenCode 1.2 to 1.18, as it was when it was opened.

    Args:
        path: The database file.
        busy_timeout_s: How long to wait for another program's lock.

    Raises:
        SourceError: It cannot be opened, or lacks a table or column without which there is nothing to read.
    """

    kind = "sqlite"
    rank = 20

    def __init__(self, path: Path, busy_timeout_s: float = 5.0) -> None:
        self.path = path
        self._snapshot = Snapshot(path, busy_timeout_s)
        self._connection = self._snapshot.connection
        try:
            with self._reading():
                self._columns = {table: self._table_columns(table) for table in (*_REQUIRED, "project", "session_v2")}
                self._check_columns()
                self._messages = SessionRows(
                    self._connection, "message", f"id, {self._column('message', 'time_created')}, CAST(data AS BLOB)"
                )
                self._parts = SessionRows(self._connection, "part", "id, message_id, CAST(data AS BLOB)")
        except BaseException:
            self._snapshot.close()
            raise

    def stamps(self) -> list[SessionStamp]:
        """List the sessions by the counts and times of their rows.

        Returns:
            One stamp for each session that has a row, or messages.

        Raises:
            SourceError: The file is damaged.
        """
        with self._reading():
            sessions = {row[0]: row for row in self._connection.execute(self._select_sessions()) if is_storable_id(row[0])}
            messages = self._row_stamps("message")
            parts = self._row_stamps("part")
        stamps = []
        for session_id in sorted({*sessions, *messages}):
            session, of_messages, of_parts = sessions.get(session_id), messages.get(session_id), parts.get(session_id)
            text = repr((session, of_messages, of_parts))
            records = sum((session is not None, of_messages[0] if of_messages else 0, of_parts[0] if of_parts else 0))
            created_ms = shapes.time_ms(session[5], "time_created", []) if session else None
            updates = (session and session[6], of_messages and of_messages[2], of_parts and of_parts[2])
            times = [time for update in updates if (time := shapes.time_ms(update, "time_updated", [])) is not None]
            signature = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
            stamps.append(SessionStamp(session_id, signature, records, created_ms, max(times, default=None)))
        return stamps

    def projects(self) -> list[ProjectRecord]:
        """Read all projects; what is wrong with them is among the loose issues.

        Returns:
            The projects by id.

        Raises:
            SourceError: The file is damaged.
        """
        return self._projects([])

    def read(self, session_ids: Iterable[str]) -> Iterator[SessionBundle]:
        """Read whole sessions.

        Args:
            session_ids: Which, in the order wanted. One that is not there is passed over.

        Yields:
            A bundle for each: messages by time and id, parts by message and id. Parts whose message was deleted are
            among them: they were billed.
        """
        for session_id in session_ids:
            bundle = self._bundle(session_id)
            if bundle is not None:
                yield bundle

    def loose_issues(self) -> list[SourceIssue]:
        """List what cannot be read and belongs to no session.

        Returns:
            Rows without a usable id or session, and a word on sessions that only OpenCode 2.x can read.

        Raises:
            SourceError: The file is damaged.
        """
        issues: list[SourceIssue] = []
        self._projects(issues)
        with self._reading():
            sessions = set()
            for (session_id,) in self._connection.execute("SELECT id FROM session"):
                if is_storable_id(session_id):
                    sessions.add(session_id)
                else:
                    issues.append(SourceIssue(f"session:{_shown(session_id)}", _NO_ID))
            for message_id, session_id in self._connection.execute("SELECT id, session_id FROM message"):
                if is_storable_id(session_id):
                    sessions.add(session_id)
                else:
                    issues.append(SourceIssue(f"message:{_shown(message_id)}", "its session_id is not text; not loaded"))
            for part_id, session_id in self._connection.execute("SELECT id, session_id FROM part"):
                if session_id not in sessions:
                    reason = "part of a session that is no longer stored; not loaded"
                    issues.append(SourceIssue(f"part:{_shown(part_id)}", reason))
            if self._columns["session_v2"]:
                ((count,),) = self._connection.execute("SELECT count(*) FROM session_v2")
                if count:
                    reason = f"{count} sessions in the format of OpenCode 2.x, which this version does not read yet"
                    issues.append(SourceIssue("session_v2", reason))
        return issues

    def close(self) -> None:
        """Close the file, and remove what opening it has made."""
        self._snapshot.close()

    def _table_columns(self, table: str) -> frozenset[str]:
        return frozenset(row[1] for row in self._connection.execute(f"PRAGMA table_info({table})"))

    def _check_columns(self) -> None:
        if self._columns["session_v2"] and not self._columns["session"]:
            raise SourceError(f"{self.path}: databases of OpenCode 2.x are not read by this version yet")
        for table, required in _REQUIRED.items():
            if not self._columns[table]:
                raise SourceError(f"{self.path} has no table {table}: it is not a database of OpenCode 1.2 to 1.18")
            missing = [column for column in required if column not in self._columns[table]]
            if missing:
                raise SourceError(f"{self.path}: table {table} has no column {', '.join(missing)}; this shape is not known")

    def _column(self, table: str, column: str) -> str:
        return column if column in self._columns[table] else "NULL"

    def _select_sessions(self) -> str:
        names = ("project_id", "parent_id", "title", "directory", "time_created", "time_updated", "version")
        columns = ", ".join(self._column("session", name) for name in names)
        return f"SELECT id, {columns} FROM session"  # noqa: S608 - the names are this module's own

    def _row_stamps(self, table: str) -> dict[str, Row]:
        updated = self._column(table, "time_updated")
        # NOT INDEXED: one pass over the table and a sort of short rows; the index on session_id would jump about in the
        # file. Masked to 40 bits, no wrong value can make the sum overflow.
        rows = self._connection.execute(
            f"SELECT session_id, count(*), max(id), max({updated}), sum({updated} & 0xFFFFFFFFFF) "  # noqa: S608 - own names
            f"FROM {table} NOT INDEXED GROUP BY session_id"
        )
        return {row[0]: row[1:] for row in rows if is_storable_id(row[0])}

    def _projects(self, issues: list[SourceIssue]) -> list[ProjectRecord]:
        if "id" not in self._columns["project"]:
            return []
        names = ("worktree", "name", "vcs", "time_created", "time_updated")
        columns = ", ".join(self._column("project", name) for name in names)
        with self._reading():
            rows = self._connection.execute(f"SELECT id, {columns} FROM project ORDER BY id").fetchall()  # noqa: S608 - own names
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
                projects.append(shapes.project_record(_storable(shape, notes), project_id=project_id, notes=notes))
            else:
                notes.append(_NO_ID)
            _report(issues, f"project:{_shown(project_id)}", notes, loaded=is_storable_id(project_id))
        return projects

    def _bundle(self, session_id: str) -> SessionBundle | None:
        issues: list[SourceIssue] = []
        rows: dict[str, list[Row]] = {"session": [], "message": [], "part": []}
        try:
            rows["session"] += self._connection.execute(f"{self._select_sessions()} WHERE id = ?", (session_id,))
            rows["message"] += self._messages.fetch(session_id)
            rows["part"] += self._parts.fetch(session_id)
        except sqlite3.Error as error:
            # A damaged page of one session says nothing about the others; what was read before it is kept.
            issues.append(SourceIssue(f"session:{session_id}", f"the database is damaged here: {error}; not all is loaded"))
        if not rows["session"] and not rows["message"] and not issues:
            return None
        session = self._session(session_id, rows["session"], issues)
        messages = _map_messages(session, rows["message"], issues)
        own_messages = {row[0] for row in rows["message"]}
        parts = self._map_parts(session_id, rows["part"], own_messages, issues)
        return SessionBundle(session, messages, parts, issues)

    def _session(self, session_id: str, rows: Sequence[Row], issues: list[SourceIssue]) -> SessionRecord:
        if not rows and issues:  # the damage is told already
            return shapes.session_stub(session_id, None)
        if not rows:
            issues.append(SourceIssue(f"session:{session_id}", "its session row is missing", loaded=True))
            return shapes.session_stub(session_id, None)
        _, project_id, parent_id, title, directory, created, updated, version = rows[0]
        notes: list[str] = []
        shape = {
            "parentID": parent_id,
            "title": title,
            "directory": directory,
            "version": version,
            "time": {"created": created, "updated": updated},
        }
        if project_id is not None and not is_storable_id(project_id):
            notes.append("project_id is not text")
            project_id = None
        session = shapes.session_record(_storable(shape, notes), session_id=session_id, project_id=project_id, notes=notes)
        _report(issues, f"session:{session_id}", notes, loaded=True)
        return session

    def _map_parts(
        self,
        session_id: str,
        rows: Iterable[Row],
        own_messages: set[object],
        issues: list[SourceIssue],
    ) -> list[PartRecord]:
        parts = []
        for part_id, message_id, raw in rows:
            notes: list[str] = []
            part: PartRecord | None = None
            if not is_storable_id(part_id) or not is_storable_id(message_id):
                notes.append(_NO_ID)
            elif message_id not in own_messages and self._is_stored(message_id):
                notes.append("part of a message of another session; not loaded")
            elif (data := _decode(raw, notes)) is not None:
                part = shapes.part_record(data, part_id=part_id, message_id=message_id, session_id=session_id, notes=notes)
                if part is not None:
                    parts.append(part)
            _report(issues, f"part:{_shown(part_id)}", notes, loaded=part is not None)
        parts.sort(key=lambda part: (part.message_id, part.part_id))
        return parts

    def _is_stored(self, message_id: object) -> bool:
        with self._reading():
            return self._connection.execute("SELECT 1 FROM message WHERE id = ?", (message_id,)).fetchone() is not None

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise describe(self.path, error) from error


def _map_messages(session: SessionRecord, rows: Iterable[Row], issues: list[SourceIssue]) -> list[MessageRecord]:
    messages: list[MessageRecord] = []
    for message_id, time_created, raw in rows:
        notes: list[str] = []
        data: dict[str, Any] | None = None
        if not is_storable_id(message_id):
            notes.append(_NO_ID)
        elif (data := _decode(raw, notes)) is not None:
            messages.append(shapes.message_record(data, message_id=message_id, session=session, notes=notes, stored_created=time_created))
        _report(issues, f"message:{_shown(message_id)}", notes, loaded=data is not None)
    messages.sort(key=lambda message: (message.created_ms or 0, message.message_id))
    return messages


def _decode(raw: bytes | None, notes: list[str]) -> dict[str, Any] | None:
    if not raw:
        notes.append("no data")
        return None
    data, note = decode_object(raw)
    if note is not None:
        notes.append(note)
    return data


def _storable(shape: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    cleaned: dict[str, Any]
    cleaned, changed = clean(shape)
    if changed:
        notes.append(REPLACED)
    return cleaned


def _report(issues: list[SourceIssue], record: str, notes: list[str], *, loaded: bool) -> None:
    if notes:
        issues.append(SourceIssue(record, "; ".join(notes), loaded))


def _shown(record_id: object) -> str:
    """Show an id in an issue, which must be storable even if the id is not."""
    return str(record_id) if is_storable_id(record_id) else ascii(record_id)
