"""One store written in every form that OpenCode has had, for tests that compare them; see `stores` for what it is made of."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from typing import TYPE_CHECKING, Any

import stores

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Record = dict[str, Any]

V2_SCHEMA = """
CREATE TABLE IF NOT EXISTS project (id text PRIMARY KEY, worktree text, vcs text, name text, time_created integer, time_updated integer);
CREATE TABLE session_v2 (id text PRIMARY KEY, project_id text NOT NULL, parent_id text, fork_session_id text, fork_boundary text,
    slug text, directory text NOT NULL, title text, version text NOT NULL, cost real DEFAULT 0 NOT NULL,
    tokens_input integer DEFAULT 0 NOT NULL, tokens_output integer DEFAULT 0 NOT NULL, tokens_reasoning integer DEFAULT 0 NOT NULL,
    tokens_cache_read integer DEFAULT 0 NOT NULL, tokens_cache_write integer DEFAULT 0 NOT NULL,
    time_created integer NOT NULL, time_updated integer NOT NULL, later_column text);
CREATE TABLE session_message (id text PRIMARY KEY, session_id text NOT NULL, type text NOT NULL, seq integer NOT NULL,
    time_created integer NOT NULL, time_updated integer NOT NULL, data text NOT NULL);
CREATE UNIQUE INDEX session_message_session_seq_idx ON session_message (session_id, seq);
"""


def known_session(version: str = "2.0.26") -> stores.Store:
    """Make one session that every generation can hold: a question and two calls with a tool, each of one step, without reasoning."""
    store = stores.Store()
    stores.add_project(store)
    session = stores.add_session(store, stores.START_MS, version=version)
    stores.add_user(store, session, stores.START_MS + 100)
    stores.add_call(store, session, stores.START_MS + 1_000)
    stores.add_call(store, session, stores.START_MS + 60_000, buckets=(7, 4_000, 0, 80, 0), model=stores.HAIKU)
    return store


def parts_of(store: stores.Store, message: Record) -> list[Record]:
    """Return a message's parts in their order."""
    return sorted((part for part in store.parts if part["messageID"] == message["id"]), key=lambda part: str(part["id"]))


def write_parts_style(store: stores.Store, data_directory: Path) -> Path:
    """Write the project tree of 0.2.35 to 0.5; return its `storage` directory."""
    storage = _project_storage(store, data_directory)
    for message in store.messages:
        record = {**message, **_path(message)}
        stores.write_record(storage / "session" / "message" / message["sessionID"] / f"{message['id']}.json", record)
    for part in store.parts:
        folder = storage / "session" / "part" / part["sessionID"] / part["messageID"]
        stores.write_record(folder / f"{part['id']}.json", part)
    return storage


def write_inline_style(store: stores.Store, data_directory: Path) -> Path:
    """Write the project tree of 0.2.0 to 0.2.34; return its `storage` directory."""
    storage = _project_storage(store, data_directory)
    for message in store.messages:
        parts = [_without(part, "id", "messageID", "sessionID", "callID") | _call_id(part) for part in parts_of(store, message)]
        record = {**message, **_path(message), "parts": [part for part in parts if part["type"] != "step-finish"]}
        stores.write_record(storage / "session" / "message" / message["sessionID"] / f"{message['id']}.json", record)
    return storage


def write_metadata_style(store: stores.Store, data_directory: Path) -> Path:
    """Write the project tree of 0.0 and 0.1; return its `storage` directory."""
    storage = _project_storage(store, data_directory)
    for message in store.messages:
        parts: list[Record] = []
        tools: dict[str, Record] = {}
        for part in parts_of(store, message):
            if part["type"] == "tool":
                state = part["state"]
                call = {"state": "result", "toolCallId": part["callID"], "toolName": part["tool"], "args": state["input"]}
                parts.append({"type": "tool-invocation", "toolInvocation": {**call, "result": state["output"]}})
                tools[part["callID"]] = {"title": state["title"], "time": state["time"]}
            elif part["type"] in ("text", "step-start"):
                parts.append({key: part[key] for key in ("type", "text") if key in part})
        metadata = {"time": message["time"], "sessionID": message["sessionID"], "tool": tools}
        if message["role"] == "assistant":
            path = {"cwd": "/home/dev/shop", "root": "/home/dev/shop"}
            metadata["assistant"] = {
                "system": [],
                "path": path,
                **{key: message[key] for key in ("cost", "tokens", "modelID", "providerID")},
            }
        record = {"id": message["id"], "role": message["role"], "parts": parts, "metadata": metadata}
        stores.write_record(storage / "session" / "message" / message["sessionID"] / f"{message['id']}.json", record)
    return storage


def write_sqlite_v2(store: stores.Store, data_directory: Path, name: str = "opencode.db", hidden: Record | None = None) -> Path:
    """Write the database of 2.x, or its tables into a database of 1.x; return its path.

    Args:
        store: What to write; a session's `fork` names the session that it is a fork of.
        data_directory: Where to.
        name: The file's name.
        hidden: What each session's own sums hold beyond its messages: `cost`, `tokens_input`, ...
    """
    data_directory.mkdir(parents=True, exist_ok=True)
    path = data_directory / name
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'session_v2'").fetchone():
            connection.executescript(V2_SCHEMA)
        for project in store.projects:
            values = (project["id"], project["worktree"], project["vcs"], project["name"], stores.START_MS, stores.START_MS)
            connection.execute("INSERT OR REPLACE INTO project VALUES (?, ?, ?, ?, ?, ?)", values)
        for session in store.sessions:
            messages = [message for message in store.messages if message["sessionID"] == session["id"]]
            row = {**_v2_session(session), **_v2_sums(session, messages)}
            _insert(connection, "session_v2", row | {key: row.get(key, 0) + value for key, value in (hidden or {}).items()})
            for sequence, message in enumerate(messages):
                data = v2_message(store, message)
                created = message["time"]["created"]
                columns = {"id": message["id"], "session_id": session["id"], "type": data.pop("type"), "seq": sequence}
                _insert(
                    connection,
                    "session_message",
                    columns | {"time_created": created, "time_updated": created, "data": json.dumps(_without(data, "id"))},
                )
    return path


def write_export_v1(store: stores.Store, path: Path) -> Path:
    """Write what `opencode export` of 0.6 to 1.18 prints for the store's one session."""
    messages = [{"info": message, "parts": parts_of(store, message)} for message in store.messages]
    return stores.write_record(path, {"info": store.sessions[0], "messages": messages})


def write_export_v2(store: stores.Store, path: Path) -> Path:
    """Write what `opencode export` of 2.x prints for the store's one session."""
    info = {**store.sessions[0], "location": {"directory": store.sessions[0]["directory"]}}
    del info["directory"]
    return stores.write_record(path, {"info": info, "messages": [v2_message(store, message) for message in store.messages]})


def v2_message(store: stores.Store, message: Record) -> Record:
    """Put a message with its parts into the shape of 2.x."""
    parts = parts_of(store, message)
    if message["role"] == "user":
        return {"id": message["id"], "type": "user", "time": message["time"], "text": parts[0]["text"], "files": []}
    content: list[Record] = []
    for part in parts:
        if part["type"] == "tool":
            state = part["state"]
            kept = {"status": state["status"], "input": state["input"], "metadata": state["metadata"]}
            time = {"created": state["time"]["start"] - 5, "ran": state["time"]["start"], "completed": state["time"]["end"]}
            result = [{"type": "text", "text": state["output"]}]
            content.append({"type": "tool", "id": part["callID"], "name": part["tool"], "state": {**kept, "content": result}, "time": time})
        elif part["type"] in ("text", "reasoning"):
            content.append({"type": part["type"], "text": part["text"]})
    return {
        "id": message["id"],
        "type": "assistant",
        "time": {**message["time"], "streamed": message["time"]["created"] + 500},
        "agent": message["agent"],
        "model": {"id": message["modelID"], "providerID": message["providerID"]},
        "content": content,
        "finish": message["finish"],
        "rawFinish": message["finish"],
        "cost": message["cost"],
        "tokens": _without(message["tokens"], "total"),
    }


def _project_storage(store: stores.Store, data_directory: Path) -> Path:
    storage = data_directory / "project" / "home-dev-shop" / "storage"
    for session in store.sessions:
        record = {"id": session["id"], "version": session["version"], "title": session["title"], "time": session["time"]}
        stores.write_record(storage / "session" / "info" / f"{session['id']}.json", record)
    stores.write_record(storage / "migration", b"2")
    return storage


def _v2_session(session: Record) -> Record:
    return {
        "id": session["id"],
        "project_id": session["projectID"],
        "parent_id": session.get("parentID"),
        "fork_session_id": session.get("fork"),
        "slug": "tidy-squid",
        "directory": session["directory"],
        "title": session["title"],
        "version": session["version"],
        "time_created": session["time"]["created"],
        "time_updated": session["time"]["updated"],
    }


def _v2_sums(session: Record, messages: list[Record]) -> Record:
    """Sum a session's own calls: those that a fork copied are not among them."""
    own = [
        message
        for message in messages
        if message["role"] == "assistant" and not ("fork" in session and message["time"]["created"] < session["time"]["created"])
    ]
    take: dict[str, Callable[[Record], float]] = {
        "cost": lambda message: message["cost"],
        "tokens_input": lambda message: message["tokens"]["input"],
        "tokens_output": lambda message: message["tokens"]["output"],
        "tokens_reasoning": lambda message: message["tokens"]["reasoning"],
        "tokens_cache_read": lambda message: message["tokens"]["cache"]["read"],
        "tokens_cache_write": lambda message: message["tokens"]["cache"]["write"],
    }
    return {column: sum(value(message) for message in own) for column, value in take.items()}


def _insert(connection: sqlite3.Connection, table: str, row: Record) -> None:
    connection.execute(f"INSERT OR REPLACE INTO {table} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", list(row.values()))


def _path(message: Record) -> Record:
    return {"path": {"cwd": "/home/dev/shop", "root": "/home/dev/shop"}} if message["role"] == "assistant" else {}


def _call_id(part: Record) -> Record:
    return {"id": part["callID"]} if part["type"] == "tool" else {}


def _without(record: Record, *keys: str) -> Record:
    return {key: value for key, value in record.items() if key not in keys}
