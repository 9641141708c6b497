"""A source with a damaged place: what can be read of it is loaded, so are all others, and what is mended comes later."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sqlite3
import sys
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

import generations
import stores
from commands import run
from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.ingest import watch
from opencode_monitor.ingest.pipeline import ImportSummary, import_sources
from opencode_monitor.ingest.watch import Watcher, WatchState
from opencode_monitor.integrity.fingerprint import differences, fingerprint
from opencode_monitor.sources import sqlite_access
from opencode_monitor.sources.discover import find_all_sources

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
WHEN = {
    "model_pricing.updated_at",
    "sources.first_imported_at",
    "sources.last_imported_at",
    "sources.state",
    "source_sessions.imported_at",
    "session_resource_metrics.updated_at",
}
"""What tells when something was imported."""
_CAPABILITIES = 0x20080522
_ROOT_READS_ALL = 0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH


@pytest.fixture
def engine(migrated_duckdb_url: str) -> Iterator[sa.Engine]:
    """Open an empty database at head: what is read of a source does not depend on the engine."""
    engine = create_database_engine(migrated_duckdb_url)
    with engine.connect():
        yield engine
    engine.dispose()


@pytest.fixture
def permissions_hold() -> Iterator[None]:
    """Let permissions hold for root too, in this thread and those that it starts, as they do for everybody else."""
    if os.geteuid() != 0:
        yield
        return
    if sys.platform != "linux":
        pytest.skip("root may read everything here")
    libc = ctypes.CDLL(None, use_errno=True)
    header, before = (ctypes.c_uint32 * 2)(_CAPABILITIES, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, before) == 0
    lowered = (ctypes.c_uint32 * 6)(before[0] & ~_ROOT_READS_ALL, *before[1:])
    assert libc.capset(header, lowered) == 0
    yield
    assert libc.capset(header, before) == 0


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, stores.Store, stores.Store]:
    """Write a database that is to be damaged, and a tree that is read after it; return where both are, and their records."""
    first, second = stores.sample(), stores.sample(seed=8, counter=50_000, sessions=2)
    for session in first.sessions:  # several pages of each table
        session["title"] = "Fix the cart. " * 40
    stores.write_sqlite(first, tmp_path)
    stores.write_json(second, tmp_path)
    return tmp_path, first, second


def load(engine: sa.Engine, path: Path, *, later: int = 0) -> ImportSummary:
    return import_sources(engine, find_all_sources([path], {}), now=NOW + timedelta(days=later))


def values(engine: sa.Engine, statement: str) -> list[tuple[object, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(statement))]


def calls(engine: sa.Engine) -> int:
    return int(str(values(engine, "SELECT sum(call_count) FROM messages WHERE copied_from IS NULL")[0][0]))


class TestDatabase:
    @pytest.mark.parametrize("table", ["project", "session", "part", "message_session_time_created_id_idx"])
    def test_import_damaged_page_loads_the_rest_and_all_once_mended(
        self, engine: sa.Engine, two: tuple[Path, stores.Store, stores.Store], table: str
    ) -> None:
        data, first, second = two
        database = data / "opencode.db"
        whole = database.read_bytes()
        stores.damage(database, table)

        summary = load(engine, data)
        issues = values(engine, f"SELECT reason FROM import_issues WHERE record = '{database}'")
        loaded = calls(engine)
        sessions = {row[0] for row in values(engine, "SELECT session_id FROM sessions")}
        again = load(engine, data, later=1)
        database.write_bytes(whole)
        mended = load(engine, data, later=2)

        problem = (
            f"{database} is damaged (database disk image is malformed); what can be read of it is loaded."
            " Restore it from a backup, or recover it with: sqlite3 FILE .recover"
        )
        assert list(summary.problems.values()) == list(again.problems.values()) == [problem]
        assert issues == [(problem,)]
        assert {session["id"] for session in second.sessions} <= sessions
        # A copy whose original cannot be read is taken for a call of its own, so the sum is not bounded from above.
        assert loaded > second.total[0]
        assert values(engine, "SELECT count(*) FROM gone_messages") == [(0,)]
        assert values(engine, "SELECT count(*) FROM source_sessions WHERE gone_at IS NOT NULL") == [(0,)]
        assert (mended.problems, values(engine, "SELECT count(*) FROM import_issues")) == ({}, [(0,)])
        assert calls(engine) == first.total[0] + second.total[0]
        assert values(engine, "SELECT sum(total_cost_usd) FROM session_resource_metrics") == [(first.total[6] + second.total[6],)]

    def test_import_file_cut_off_loads_the_others_and_all_once_mended(
        self, engine: sa.Engine, two: tuple[Path, stores.Store, stores.Store]
    ) -> None:
        data, first, second = two
        database = data / "opencode.db"
        whole = database.read_bytes()
        database.write_bytes(whole[: len(whole) // 2])

        summary = load(engine, data)
        loaded = calls(engine)
        database.write_bytes(whole)
        mended = load(engine, data, later=1)

        assert [f"{database} is damaged" in problem for problem in summary.problems.values()] == [True]
        assert second.total[0] <= loaded <= first.total[0] + second.total[0]
        assert (mended.problems, calls(engine)) == ({}, first.total[0] + second.total[0])

    def test_import_damaged_later_keeps_what_was_read_whole(self, engine: sa.Engine, two: tuple[Path, stores.Store, stores.Store]) -> None:
        data, *_ = two
        load(engine, data)
        with engine.connect() as connection:
            before = fingerprint(connection)
        for table in ("session", "message", "part"):
            stores.damage(data / "opencode.db", table)

        summary = load(engine, data, later=1)

        with engine.connect() as connection:
            changed = set(differences(before, fingerprint(connection)))
        assert len(summary.problems) == 1
        assert {name for name in changed - WHEN if not name.startswith("import_issues")} == set()

    def test_import_without_an_index_tells_the_damage_of_each_session(self, engine: sa.Engine, tmp_path: Path) -> None:
        store = stores.sample()
        path = stores.write_sqlite(store, tmp_path)
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("DROP INDEX part_session_idx")
        stores.damage(path, "part")

        summary = load(engine, tmp_path)

        assert len(summary.problems) == 1
        assert 0 < calls(engine) <= store.total[0]
        assert values(engine, "SELECT count(*) FROM import_issues WHERE reason LIKE 'the database is damaged here%'") == [
            (len(store.sessions),)
        ]

    @pytest.mark.parametrize("table", ["session_v2", "session_message"])
    def test_import_damaged_tables_of_2x_load_the_rest_and_all_once_mended(self, engine: sa.Engine, tmp_path: Path, table: str) -> None:
        store = generations.known_session()
        path = generations.write_sqlite_v2(store, tmp_path)
        whole = path.read_bytes()
        stores.damage(path, table)

        summary = load(engine, tmp_path)
        path.write_bytes(whole)
        mended = load(engine, tmp_path, later=1)

        assert len(summary.problems) == 1
        assert (mended.problems, calls(engine)) == ({}, store.total[0])

    def test_import_command_says_it_in_a_line_and_ends_with_1(
        self, two: tuple[Path, stores.Store, stores.Store], migrated_duckdb_url: str
    ) -> None:
        data, _, second = two
        stores.damage(data / "opencode.db", "part")
        database = migrated_duckdb_url.removeprefix("duckdb:///")

        outcome = run("--db", database, "import", data)
        again = run("--db", database, "import", data, "--json")
        shown = run("--db", database, "doctor", "--show", "skipped")
        doctor = run("--db", database, "doctor").stdout

        line = f"opencode-monitor: error: {data / 'opencode.db'} is damaged (database disk image is malformed)"
        said = [*outcome.stdout.splitlines(), *outcome.stderr.splitlines()]
        assert (outcome.exit_code, [text.startswith(line) for text in said if str(data) in text]) == (1, [True])
        (warning,) = [text for text in said if "warning" in text]
        assert warning.startswith("opencode-monitor: warning: skipped 1 of ")
        assert warning.endswith(" records (the database is damaged here). List: opencode-monitor doctor --show skipped")
        assert (again.exit_code, again.error["code"], again.json["totals"]["new"]) == (1, "source_unreadable", 0)
        assert [text.count(str(data)) for text in shown.stdout.splitlines() if str(data) in text] == [1]
        assert "1 source cannot be read whole   → opencode-monitor doctor --show skipped" in doctor
        assert second.total[0] > 0


@pytest.mark.usefixtures("permissions_hold")
class TestTree:
    @pytest.mark.parametrize("directory", ["session/{project}", "message/{session}", "part/{message}", ""])
    def test_import_directory_without_permission_loads_the_rest_and_all_once_mended(
        self, engine: sa.Engine, tmp_path: Path, directory: str
    ) -> None:
        tree, database = stores.sample(), stores.sample(seed=8, counter=50_000, sessions=2)
        storage = stores.write_json(tree, tmp_path)
        stores.write_sqlite(database, tmp_path)
        message = tree.messages[1]
        closed = storage / directory.format(project=stores.PROJECT_ID, session=message["sessionID"], message=message["id"])
        load(engine, tmp_path / "opencode.db")
        closed.chmod(0)

        try:
            summary = load(engine, tmp_path, later=1)
            loaded = calls(engine)
        finally:
            closed.chmod(0o755)
        issues = values(engine, f"SELECT reason FROM import_issues WHERE record = '{storage}'")
        mended = load(engine, tmp_path, later=2)

        (problem,) = summary.problems.values()
        assert problem.startswith(f"{closed} ")
        assert "(Permission denied)" in problem or "Permission denied." in problem
        assert issues == [(problem,)]
        assert database.total[0] <= loaded <= database.total[0] + tree.total[0]
        assert values(engine, "SELECT count(*) FROM source_sessions WHERE gone_at IS NOT NULL") == [(0,)]
        assert (mended.problems, values(engine, "SELECT count(*) FROM import_issues")) == ({}, [(0,)])
        assert calls(engine) == database.total[0] + tree.total[0]
        assert values(engine, "SELECT sum(total_cost_usd) FROM session_resource_metrics") == [(database.total[6] + tree.total[6],)]

    @pytest.mark.parametrize("directory", ["session/{project}", "message"])
    def test_import_permission_taken_later_keeps_what_was_read_whole(self, engine: sa.Engine, tmp_path: Path, directory: str) -> None:
        store = stores.sample()
        storage = stores.write_json(store, tmp_path)
        message = store.messages[1]
        load(engine, tmp_path)
        with engine.connect() as connection:
            before = fingerprint(connection)
        closed = storage / directory.format(project=stores.PROJECT_ID, session=message["sessionID"], message=message["id"])
        closed.chmod(0)

        try:
            summary = load(engine, tmp_path, later=1)
        finally:
            closed.chmod(0o755)

        with engine.connect() as connection:
            changed = set(differences(before, fingerprint(connection)))
        assert len(summary.problems) == 1
        assert {name for name in changed - WHEN if not name.startswith("import_issues")} == set()


class TestWatch:
    def test_watch_goes_on_with_the_others_and_tries_again_until_mended(
        self, engine: sa.Engine, two: tuple[Path, stores.Store, stores.Store], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sqlite_access, "_COARSE_NS", 0)
        monkeypatch.setattr(watch, "_FIRST_RETRY_S", 0.05)
        data, first, second = two
        database = data / "opencode.db"
        whole = database.read_bytes()
        stores.damage(database, "part")
        stop, shown = Event(), list[WatchState]()

        def show(state: WatchState) -> None:
            shown.append(state)
            if state.problem is not None:
                database.write_bytes(whole)
            elif any(before.problem for before in shown):
                stop.set()

        Watcher(engine, [data], {}, stop, show).run()

        problems = [state.problem for state in shown if state.problem]
        assert len(problems) == 1
        assert problems[0].startswith(f"{database} is damaged")
        assert calls(engine) == first.total[0] + second.total[0]
