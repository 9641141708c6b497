from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOBODY = 65534

SCHEMA = """
CREATE TABLE project (id text PRIMARY KEY, worktree text, vcs text, name text, time_created integer,
    time_updated integer);
CREATE TABLE session (id text PRIMARY KEY, project_id text, parent_id text, directory text, title text, version text,
    time_created integer, time_updated integer);
CREATE TABLE message (id text PRIMARY KEY, session_id text, time_created integer, time_updated integer, data text);
CREATE TABLE part (id text PRIMARY KEY, message_id text, session_id text, time_created integer, time_updated integer,
    data text);
"""
INDEXES = """
CREATE INDEX message_session_idx ON message (session_id, time_created, id);
CREATE INDEX part_session_idx ON part (session_id);
"""


@pytest.fixture
def real() -> Path:
    """Stores that OpenCode itself has written."""
    return Path(__file__).parents[1] / "fixtures" / "opencode"


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """An empty JSON tree."""
    directory = tmp_path / "storage"
    directory.mkdir()
    return directory


@pytest.fixture
def write(storage: Path) -> Callable[[str, object], Path]:
    """Write one file of the JSON tree: bytes as they are, anything else as JSON."""

    def write_record(name: str, content: object) -> Path:
        path = storage / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path

    return write_record


@pytest.fixture
def make_database(tmp_path: Path) -> Callable[..., Path]:
    """Write a database of OpenCode 1.2, from rows of columns."""

    def make(*, schema: str = SCHEMA + INDEXES, name: str = "opencode.db", directory: Path | None = None, **tables: Any) -> Path:
        path = (directory or tmp_path) / name
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.executescript(schema)
            for table, rows in tables.items():
                for row in rows:
                    columns, marks = ", ".join(row), ", ".join("?" * len(row))
                    connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", list(row.values()))
        return path

    return make


@pytest.fixture
def public_directory() -> Iterator[Path]:
    """A directory that other users may enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def unprivileged() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """Permissions do not bind root: for a while, be somebody whom they bind."""

    @contextlib.contextmanager
    def become_nobody() -> Iterator[None]:
        if os.geteuid() != 0:
            yield
            return
        os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)

    return become_nobody
