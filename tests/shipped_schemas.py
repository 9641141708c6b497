"""The tables of OpenCode 1.x as they were shipped: the first ones, and what each later migration added; for tests that read all of them.

A file that was upgraded has its later columns at the end, one that was made by the last version has them in the tables' own order.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from typing import TYPE_CHECKING, Any

import stores

if TYPE_CHECKING:
    from pathlib import Path

    from stores import Record

_BASE = """
CREATE TABLE project (id text PRIMARY KEY, worktree text NOT NULL, vcs text, name text, icon_url text, icon_color text,
    time_created integer NOT NULL, time_updated integer NOT NULL, time_initialized integer, sandboxes text NOT NULL);
CREATE TABLE session (id text PRIMARY KEY, project_id text NOT NULL, parent_id text, slug text NOT NULL, directory text NOT NULL,
    title text NOT NULL, version text NOT NULL, share_url text, summary_additions integer, summary_deletions integer, summary_files integer,
    summary_diffs text, revert text, permission text, time_created integer NOT NULL, time_updated integer NOT NULL,
    time_compacting integer, time_archived integer,
    FOREIGN KEY (project_id) REFERENCES project (id) ON DELETE CASCADE);
CREATE TABLE message (id text PRIMARY KEY, session_id text NOT NULL, time_created integer NOT NULL, time_updated integer NOT NULL,
    data text NOT NULL, FOREIGN KEY (session_id) REFERENCES session (id) ON DELETE CASCADE);
CREATE TABLE part (id text PRIMARY KEY, message_id text NOT NULL, session_id text NOT NULL, time_created integer NOT NULL,
    time_updated integer NOT NULL, data text NOT NULL, FOREIGN KEY (message_id) REFERENCES message (id) ON DELETE CASCADE);
CREATE TABLE todo (session_id text NOT NULL, content text NOT NULL, status text NOT NULL, priority text NOT NULL, position integer NOT NULL,
    time_created integer NOT NULL, time_updated integer NOT NULL, PRIMARY KEY (session_id, position));
CREATE TABLE permission (project_id text PRIMARY KEY, time_created integer NOT NULL, time_updated integer NOT NULL, data text NOT NULL);
CREATE TABLE session_share (session_id text PRIMARY KEY, id text NOT NULL, secret text NOT NULL, url text NOT NULL,
    time_created integer NOT NULL, time_updated integer NOT NULL);
CREATE INDEX message_session_idx ON message (session_id);
CREATE INDEX part_message_idx ON part (message_id);
CREATE INDEX part_session_idx ON part (session_id);
CREATE INDEX session_project_idx ON session (project_id);
"""
MIGRATIONS = {
    "2026-01-27": _BASE,
    "2026-02-11": "ALTER TABLE project ADD commands text",
    "2026-02-27": "ALTER TABLE session ADD workspace_id text; CREATE INDEX session_workspace_idx ON session (workspace_id)",
    "2026-03-23": "CREATE TABLE event_sequence (aggregate_id text PRIMARY KEY, seq integer NOT NULL);"
    "CREATE TABLE event (id text PRIMARY KEY, aggregate_id text NOT NULL, seq integer NOT NULL, type text NOT NULL, data text NOT NULL)",
    "2026-04-13": "CREATE TABLE session_entry (id text PRIMARY KEY, session_id text NOT NULL, type text NOT NULL,"
    " time_created integer NOT NULL, time_updated integer NOT NULL, data text NOT NULL)",
    "2026-04-27": "DROP TABLE session_entry; CREATE TABLE session_message (id text PRIMARY KEY, session_id text NOT NULL,"
    " type text NOT NULL, time_created integer NOT NULL, time_updated integer NOT NULL, data text NOT NULL)",
    "2026-04-28": "ALTER TABLE session ADD path text",
    "2026-05-01": "ALTER TABLE session ADD agent text; ALTER TABLE session ADD model text",
    "2026-05-10": "ALTER TABLE session ADD cost real NOT NULL DEFAULT 0;"
    + ";".join(
        f"ALTER TABLE session ADD tokens_{name} integer NOT NULL DEFAULT 0"
        for name in ("input", "output", "reasoning", "cache_read", "cache_write")
    ),
    "2026-05-11": "CREATE TABLE data_migration (name text PRIMARY KEY, time_completed integer NOT NULL)",
    "2026-06-15": "ALTER TABLE session_message ADD seq integer NOT NULL DEFAULT 0; ALTER TABLE session ADD metadata text",
}
"""What each migration did, by its day."""

FRESH = "fresh"


def write_shipped(store: stores.Store, directory: Path, until: str) -> Path:
    """Write a store as an OpenCode of some day would have it.

    Args:
        store: What to write.
        directory: Where to.
        until: The day of the last migration that the file went through, or `FRESH` for one that the last version made.

    Returns:
        The database file.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "opencode.db"
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA foreign_keys = ON")
        for day, statements in MIGRATIONS.items():
            if until == FRESH or day <= until:
                connection.executescript(statements)
        if until == FRESH:
            _reorder(connection)
        _fill(connection, store)
    return path


def _reorder(connection: sqlite3.Connection) -> None:
    """Make the tables anew with their columns in another order: only names say which is which."""
    connection.execute("PRAGMA foreign_keys = OFF")
    for table in ("project", "session", "message", "part"):
        columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
        definitions = [
            " ".join((name, kind, "NOT NULL" * required, "PRIMARY KEY" * is_key, "" if default is None else f"DEFAULT {default}"))
            for _, name, kind, required, default, is_key in reversed(columns)
        ]
        connection.executescript(f"DROP TABLE {table}; CREATE TABLE {table} ({', '.join(definitions)})")
    connection.executescript("CREATE INDEX message_session_idx ON message (session_id); CREATE INDEX part_session_idx ON part (session_id)")


def _fill(connection: sqlite3.Connection, store: stores.Store) -> None:
    at = stores.START_MS
    for project in store.projects:
        times = project["time"]
        row = {"id": project["id"], "worktree": project["worktree"], "vcs": project["vcs"], "name": project["name"], "sandboxes": "[]"}
        _insert(connection, "project", row | {"time_created": times["created"], "time_updated": times["updated"], "commands": "{}"})
    for session in store.sessions:
        calls = [message for message in store.messages if message["sessionID"] == session["id"] and message["role"] == "assistant"]
        row = {"id": session["id"], "project_id": session["projectID"], "parent_id": session.get("parentID"), "slug": "tidy-squid"}
        row |= {name: session[name] for name in ("directory", "title", "version")}
        row |= {"time_created": session["time"]["created"], "time_updated": session["time"]["updated"], "path": "", "agent": "build"}
        row |= {"workspace_id": "wrk_1", "model": '{"id": "claude-sonnet-4-5", "providerID": "anthropic"}', "metadata": "{}"}
        # Its own sums repeat what its messages have.
        row |= {"cost": sum(call["cost"] for call in calls), "tokens_input": sum(call["tokens"]["input"] for call in calls)}
        _insert(connection, "session", row)
        _insert(connection, "session_share", {"session_id": session["id"], "id": "s", "secret": "s", "url": "s", **_times(at)})
        _insert(
            connection,
            "todo",
            {"session_id": session["id"], "content": "x", "status": "pending", "priority": "low", "position": 0, **_times(at)},
        )
    for message in store.messages:
        data = stores._data(message)
        row = {"id": message["id"], "session_id": message["sessionID"], **_times(message["time"]["created"]), "data": data}
        _insert(connection, "message", row)
        # Experiments that repeat the messages.
        for table in ("session_entry", "session_message"):
            _insert(connection, table, row | {"type": message["role"], "seq": 1})
        event = {"type": "message.updated", "info": json.loads(data)}
        _insert(connection, "event", {"id": message["id"], "aggregate_id": "a", "seq": 1, "type": "message", "data": json.dumps(event)})
    for part in store.parts:
        row = {"id": part["id"], "message_id": part["messageID"], "session_id": part["sessionID"], **_times(at), "data": stores._data(part)}
        _insert(connection, "part", row)


def _times(at: int) -> Record:
    return {"time_created": at, "time_updated": at}


def _insert(connection: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    """Insert what of a row the table has columns for, if it is there."""
    columns = [column for (column,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,)) if column in row]
    if columns:
        values = [row[column] for column in columns]
        connection.execute(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", values)
