"""Read the database of OpenCode 1.2 to 1.18: tables `session`, `message` and `part`.

A record's JSON object is in `data`, less its ids, which are columns. Columns came and went between versions, and their
order differs between fresh and upgraded files: all are probed, and selected by name. Tables with secrets (`account`,
`control_account`, `session_share`) and the event log, which repeats everything, are not read. Source: OpenCode's
`packages/opencode/src/session/session.sql.ts`.
"""

from __future__ import annotations

import hashlib
import sqlite3
from typing import TYPE_CHECKING, Any

from opencode_monitor.sources import shapes
from opencode_monitor.sources.decode import is_storable_id
from opencode_monitor.sources.issues import report
from opencode_monitor.sources.records import (
    MessageRecord,
    PartRecord,
    ProjectRecord,
    Rank,
    SessionBundle,
    SessionRecord,
    SessionStamp,
    SourceIssue,
)
from opencode_monitor.sources.sqlite_access import Row, SessionRows, Snapshot
from opencode_monitor.sources.sqlite_reader import NO_ID, SqliteReader, decode, session_of_row, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

REQUIRED = {
    "session": ("id",),
    "message": ("id", "session_id", "data"),
    "part": ("id", "message_id", "session_id", "data"),
}
"""The tables that are read, and the columns that each cannot do without."""

_SESSION_COLUMNS = ("id", "project_id", "parent_id", "title", "directory", "time_created", "time_updated", "version")


class SqliteSource(SqliteReader):
    """An `opencode.db` of OpenCode 1.2 to 1.18, as it was when it was opened.

    Args:
        path: The database file.
        snapshot: The open database.

    Raises:
        SourceError: It lacks a table or column without which there is nothing to read.
    """

    def __init__(self, path: Path, snapshot: Snapshot) -> None:
        super().__init__(path, snapshot, REQUIRED, "OpenCode 1.2 to 1.18")
        with self._reading():
            columns = f"id, {self._column('message', 'time_created')}, CAST(data AS BLOB)"
            self._messages = SessionRows(self._connection, "message", columns)
            self._parts = SessionRows(self._connection, "part", "id, message_id, CAST(data AS BLOB)")

    def stamps(self) -> list[SessionStamp]:
        """List the sessions by the counts and times of their rows.

        Returns:
            One stamp for each session that has a row, or messages.
        """
        sessions = self._session_rows("session", self._select_sessions())
        messages = self._row_stamps(self._messages)
        parts = self._row_stamps(self._parts)
        stamps = []
        for session_id in sorted({*sessions, *messages}):
            session, of_messages, of_parts = sessions.get(session_id), messages.get(session_id), parts.get(session_id)
            text = repr((session, of_messages, of_parts))
            records = sum((session is not None, of_messages[0] if of_messages else 0, of_parts[0] if of_parts else 0))
            created_ms = shapes.time_ms(session[5], "time_created", []) if session else None
            changed_ms = shapes.time_ms(session[6], "time_updated", []) if session else None
            updates = (session and session[6], of_messages and of_messages[2], of_parts and of_parts[2])
            times = [time for update in updates if (time := shapes.time_ms(update, "time_updated", [])) is not None]
            signature = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
            stamps.append(SessionStamp(session_id, signature, records, created_ms, max(times, default=None), Rank.SQLITE_V1, changed_ms))
        return stamps

    def projects(self) -> list[ProjectRecord]:
        """Read all projects; what is wrong with them is among the loose issues.

        Returns:
            The projects by id.
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
            bundle = self.bundle(session_id)
            if bundle is not None:
                yield bundle

    def loose_issues(self) -> list[SourceIssue]:
        """List what cannot be read and belongs to no session.

        Returns:
            Rows without a usable id or session.
        """
        issues: list[SourceIssue] = []
        self._projects(issues)
        sessions = set()
        with self._salvaging():
            for (session_id,) in self._connection.execute("SELECT id FROM session"):
                if is_storable_id(session_id):
                    sessions.add(session_id)
                else:
                    issues.append(SourceIssue(f"session:{shown(session_id)}", NO_ID))
        reason = "its session_id is not text; not loaded"
        issues += [SourceIssue(f"message:{shown(message_id)}", reason) for message_id in self._strays("message", is_storable_id)]
        with self._salvaging():
            owners = self._connection.execute("SELECT DISTINCT session_id FROM message")
            sessions.update(owner for (owner,) in owners if is_storable_id(owner))
        strays = list(self._strays("part", sessions.__contains__))
        if self.damage is None:  # where something could not be read, that may have been the session
            reason = "part of a session that is no longer stored; not loaded"
            issues += [SourceIssue(f"part:{shown(part_id)}", reason) for part_id in strays]
        return issues

    def close(self) -> None:
        """Do nothing: who opened the file closes it."""

    def _select_sessions(self) -> str:
        columns = ", ".join(self._column("session", name) for name in _SESSION_COLUMNS)
        return f"SELECT {columns} FROM session"  # noqa: S608 - the names are this module's own

    def _fetch_session(self, session_id: str, rows: list[Row]) -> None:
        rows.extend(self._connection.execute(f"{self._select_sessions()} WHERE id = ?", (session_id,)))

    def bundle(self, session_id: str) -> SessionBundle | None:
        """Read one session; None if nothing of it is there."""
        issues: list[SourceIssue] = []
        rows: dict[str, list[Row]] = {"session": [], "message": [], "part": []}
        for table, fetch in (("session", self._fetch_session), ("message", self._messages.fetch), ("part", self._parts.fetch)):
            try:
                fetch(session_id, rows[table])
            except sqlite3.Error as error:
                # A damaged page says nothing about the others; what was read before it is kept.
                self._note_damage(error)
                if not issues:
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
        row = dict(zip(_SESSION_COLUMNS, rows[0], strict=True))
        return session_of_row(row, place=f"session:{session_id}", issues=issues)

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
                notes.append(NO_ID)
            elif message_id not in own_messages and self._is_stored(message_id):
                notes.append("part of a message of another session; not loaded")
            elif (data := decode(raw, notes)) is not None:
                part = shapes.part_record(data, part_id=part_id, message_id=message_id, session_id=session_id, notes=notes)
                if part is not None:
                    parts.append(part)
            if notes:
                report(issues, f"part:{shown(part_id)}", notes, loaded=part is not None)
        parts.sort(key=lambda part: (part.message_id, part.part_id))
        return parts

    def _is_stored(self, message_id: object) -> bool:
        try:
            return self._connection.execute("SELECT 1 FROM message WHERE id = ?", (message_id,)).fetchone() is not None
        except sqlite3.Error as error:
            self._note_damage(error)
            return True  # as far as anybody knows; the part waits until the file is mended


def _map_messages(session: SessionRecord, rows: Iterable[Row], issues: list[SourceIssue]) -> list[MessageRecord]:
    messages: list[MessageRecord] = []
    for message_id, time_created, raw in rows:
        notes: list[str] = []
        data: dict[str, Any] | None = None
        if not is_storable_id(message_id):
            notes.append(NO_ID)
        elif (data := decode(raw, notes)) is not None:
            messages.append(shapes.message_record(data, message_id=message_id, session=session, notes=notes, stored_created=time_created))
        if notes:
            report(issues, f"message:{shown(message_id)}", notes, loaded=data is not None)
    messages.sort(key=lambda message: (message.created_ms or 0, message.message_id))
    return messages
