"""Read the database of OpenCode 2.x: tables `session_v2` and `session_message`.

A row of `session_message` is a message with all that is in it. `session_v2` keeps the sums of its session, with calls in them that have no
row: titles, and other hidden ones. Queued input, credentials and the event log are not read. Columns are probed, and selected by name.
"""

from __future__ import annotations

import hashlib
import sqlite3
from typing import TYPE_CHECKING, Any

from opencode_monitor.sources import shapes, shapes_v2
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
    SessionTotals,
    SourceIssue,
)
from opencode_monitor.sources.sqlite_access import Row, SessionRows, Snapshot
from opencode_monitor.sources.sqlite_reader import NO_ID, SqliteReader, decode, session_of_row, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

REQUIRED = {"session_v2": ("id",), "session_message": ("id", "session_id", "type", "data")}
"""The tables that are read, and the columns that each cannot do without."""

_COUNT_MESSAGES = "count(*) FILTER (WHERE type NOT IN ({}))".format(", ".join(f"'{name}'" for name in sorted(shapes_v2.EVENT_TYPES)))
_TOKEN_COLUMNS = ("tokens_input", "tokens_output", "tokens_reasoning", "tokens_cache_read", "tokens_cache_write")
_SESSION_COLUMNS = (
    "id",
    "project_id",
    "parent_id",
    "title",
    "directory",
    "version",
    "time_created",
    "time_updated",
    "fork_session_id",
    "cost",
    *_TOKEN_COLUMNS,
)


class SqliteV2Source(SqliteReader):
    """The tables of OpenCode 2.x in an `opencode.db`, as they were when it was opened.

    Args:
        path: The database file.
        snapshot: The open database.

    Raises:
        SourceError: It lacks a table or column without which there is nothing to read.
    """

    def __init__(self, path: Path, snapshot: Snapshot) -> None:
        super().__init__(path, snapshot, REQUIRED, "OpenCode 2.x")
        with self._reading():
            order = f"{self._column('session_message', 'seq')}, {self._column('session_message', 'time_created')}"
            self._messages = SessionRows(self._connection, "session_message", f"id, type, {order}, CAST(data AS BLOB)")

    def stamps(self) -> list[SessionStamp]:
        """List the sessions by the counts and times of their rows.

        Returns:
            One stamp for each session that has a row, or messages.
        """
        sessions = self._session_rows("session_v2", self._select_sessions())
        messages = self._row_stamps(self._messages, _COUNT_MESSAGES)
        stamps = []
        for session_id in sorted({*sessions, *messages}):
            session, of_messages = sessions.get(session_id), messages.get(session_id)
            signature = hashlib.blake2b(repr((session, of_messages)).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
            records = (session is not None) + (of_messages[0] if of_messages else 0)
            row = dict(zip(_SESSION_COLUMNS, session, strict=True)) if session else {}
            created_ms = shapes.time_ms(row.get("time_created"), "time_created", [])
            changed_ms = shapes.time_ms(row.get("time_updated"), "time_updated", [])
            updates = (row.get("time_updated"), of_messages and of_messages[2])
            times = [time for update in updates if (time := shapes.time_ms(update, "time_updated", [])) is not None]
            stamps.append(SessionStamp(session_id, signature, records, created_ms, max(times, default=None), Rank.SQLITE_V2, changed_ms))
        return stamps

    def filled_sessions(self) -> set[str]:
        """Return the sessions that have messages here; the others may still be in the tables of 1.x only."""
        with self._reading():
            rows = self._connection.execute("SELECT DISTINCT session_id FROM session_message").fetchall()
        return {row[0] for row in rows if is_storable_id(row[0])}

    def projects(self) -> list[ProjectRecord]:
        """Read all projects; what is wrong with them is among the loose issues."""
        return self._projects([])

    def read(self, session_ids: Iterable[str]) -> Iterator[SessionBundle]:
        """Read whole sessions.

        Args:
            session_ids: Which, in the order wanted. One that is not there is passed over.

        Yields:
            A bundle for each: messages and parts in their order.
        """
        for session_id in session_ids:
            bundle = self.bundle(session_id)
            if bundle is not None:
                yield bundle

    def _fetch_session(self, session_id: str, rows: list[Row]) -> None:
        rows.extend(self._connection.execute(f"{self._select_sessions()} WHERE id = ?", (session_id,)))

    def bundle(self, session_id: str) -> SessionBundle | None:
        """Read one session; None if nothing of it is there."""
        issues: list[SourceIssue] = []
        sessions: list[Row] = []
        rows: list[Row] = []
        for fetch, fetched in ((self._fetch_session, sessions), (self._messages.fetch, rows)):
            try:
                fetch(session_id, fetched)
            except sqlite3.Error as error:
                # A damaged page says nothing about the others; what was read before it is kept.
                self._note_damage(error)
                if not issues:
                    issues.append(SourceIssue(f"session_v2:{session_id}", f"the database is damaged here: {error}; not all is loaded"))
        if not sessions and not rows and not issues:
            return None
        totals = None
        if sessions:
            row = dict(zip(_SESSION_COLUMNS, sessions[0], strict=True))
            session = session_of_row(row, place=f"session_v2:{session_id}", issues=issues)
            totals = _totals(row, session) if len(issues) == 0 or rows else None
        else:
            session = shapes.session_stub(session_id, None)
            if not issues:  # the damage is told already
                issues.append(SourceIssue(f"session_v2:{session_id}", "its session row is missing", loaded=True))
        messages, parts = _map_messages(session, rows, issues)
        return SessionBundle(session, messages, parts, issues, totals, frozenset(message.message_id for message in messages))

    def loose_issues(self) -> list[SourceIssue]:
        """List what cannot be read and belongs to no session.

        Returns:
            Rows without a usable id or session.
        """
        issues: list[SourceIssue] = []
        self._projects(issues)
        with self._salvaging():
            for (session_id,) in self._connection.execute("SELECT id FROM session_v2"):
                if not is_storable_id(session_id):
                    issues.append(SourceIssue(f"session_v2:{shown(session_id)}", NO_ID))
        reason = "its session_id is not text; not loaded"
        strays = self._strays("session_message", is_storable_id)
        issues += [SourceIssue(f"session_message:{shown(message_id)}", reason) for message_id in strays]
        return issues

    def close(self) -> None:
        """Do nothing: who opened the file closes it."""

    def _select_sessions(self) -> str:
        columns = ", ".join(self._column("session_v2", name) for name in _SESSION_COLUMNS)
        return f"SELECT {columns} FROM session_v2"  # noqa: S608 - the names are this module's own


def _totals(row: dict[str, Any], session: SessionRecord) -> SessionTotals:
    tokens_input, output, reasoning, cache_read, cache_write = (row[column] for column in _TOKEN_COLUMNS)
    tokens = {"input": tokens_input, "output": output, "reasoning": reasoning, "cache": {"read": cache_read, "write": cache_write}}
    from_ms = session.created_ms if row["fork_session_id"] is not None else None
    return SessionTotals(row["cost"], tokens, from_ms)


def _map_messages(session: SessionRecord, rows: Iterable[Row], issues: list[SourceIssue]) -> tuple[list[MessageRecord], list[PartRecord]]:
    messages: list[tuple[object, MessageRecord]] = []
    parts: list[PartRecord] = []
    for message_id, message_type, sequence, time_created, raw in rows:
        notes: list[str] = []
        data: dict[str, Any] | None = None
        if not is_storable_id(message_id):
            notes.append(NO_ID)
        elif not is_storable_id(message_type):
            notes.append("its type is not text; not loaded")
        elif (data := decode(raw, notes)) is not None:
            mapped = shapes_v2.message_record(
                data, message_type=message_type, message_id=message_id, session=session, notes=notes, stored_created=time_created
            )
            if mapped is not None:
                messages.append((sequence, mapped[0]))
                parts += mapped[1]
        report(issues, f"session_message:{shown(message_id)}", notes, loaded=data is not None)
    messages.sort(key=lambda pair: (pair[0] if isinstance(pair[0], int) else 0, pair[1].created_ms or 0, pair[1].message_id))
    return [message for _, message in messages], parts
