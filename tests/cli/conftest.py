from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import stores
from commands import run
from opencode_monitor.db.engine import create_database_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    MakeOnce = Callable[[str, Callable[[Path], None]], Path]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory of its own: nothing of the user's is read or written."""
    directory = tmp_path / "home"
    directory.mkdir()
    monkeypatch.setenv("HOME", str(directory))
    monkeypatch.setenv("TZ", "UTC")
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "OPENCODE_DB", "OPENCODE_DATA_DIR", "OPENCODE_MODELS_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name in (
        "OPENCODE_MONITOR_TZ",
        "OPENCODE_MONITOR_DATABASE_URL",
        "OPENCODE_MONITOR_DB",
        "OPENCODE_MONITOR_CONFIG",
        "NO_COLOR",
        "FORCE_COLOR",
    ):
        monkeypatch.delenv(name, raising=False)
    for name in ("OPENCODE_CONFIG", "OPENCODE_MONITOR_WORKING_TREES", "OPENCODE_MONITOR_MCP_SERVERS", "OPENCODE_MONITOR_FILE_TOOLS"):
        monkeypatch.delenv(name, raising=False)
    return directory


@pytest.fixture(scope="session")
def sample() -> stores.Store:
    """The store whose import most tests read."""
    return stores.sample()


@pytest.fixture(scope="session")
def sample_database(make_once: MakeOnce, duckdb_at_head: Path, sample: stores.Store) -> Iterator[Path]:
    """A database with the sample in it, imported by the command, to be read only."""

    def write(database: Path) -> None:
        directory = database.parent
        stores.write_json(sample, directory)
        shutil.copy(duckdb_at_head, database)
        outcome = run("--db", database, "-q", "import", directory)
        assert outcome.exit_code == 0, outcome.stderr

    database = make_once("sample", write)
    # Open as reports open it: each of them opens it within a millisecond then, not 20.
    engine = create_database_engine(f"duckdb:///{database}", read_only=True)
    with engine.connect() as connection:
        connection.rollback()
        yield database


@pytest.fixture
def database(sample_database: Path, tmp_path: Path) -> Path:
    """A copy of the sample's database, to be written."""
    return Path(shutil.copy(sample_database, tmp_path / "monitor.duckdb"))


@pytest.fixture
def empty_database(duckdb_at_head: Path, tmp_path: Path) -> Path:
    """A database at head: what an import makes where there is none, in twice the time of the import itself."""
    return Path(shutil.copy(duckdb_at_head, tmp_path / "monitor.duckdb"))


@pytest.fixture
def make_database(make_once: MakeOnce, tmp_path: Path, duckdb_at_head: Path, home: Path) -> Callable[[stores.Store], Path]:
    """Import a store into a database of its own; the same store a second time is a copy: many tests begin with the same one."""

    def make(store: stores.Store) -> Path:
        # What an import reads beside the store: a test that has set any of it gets an import of its own.
        settings = {name: value for name, value in os.environ.items() if name.startswith("OPENCODE")}
        content = json.dumps([store.projects, store.sessions, store.messages, store.parts, settings, bool([*home.iterdir()]) and str(home)])

        def write(database: Path) -> None:
            directory = database.parent / "opencode"
            stores.write_json(store, directory)
            shutil.copy(duckdb_at_head, database)
            outcome = run("--db", database, "-q", "import", directory)
            assert outcome.exit_code == 0, outcome.stderr

        made = make_once(hashlib.sha256(content.encode()).hexdigest(), write)
        return Path(shutil.copy(made, tmp_path / "made.duckdb"))

    return make
