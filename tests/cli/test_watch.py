"""`watch` beside a store that grows, moves from one generation to the next, or cannot be read for a while; in real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import duckdb
import pytest
import sqlalchemy as sa
import watchfiles

import forked
import generations
import stores
from commands import run
from opencode_monitor.cli.watch import log_line, shown_states, status_line
from opencode_monitor.db.bulk import BulkCounts
from opencode_monitor.db.engine import LOADING_SETTINGS, create_database_engine
from opencode_monitor.errors import SchemaError
from opencode_monitor.ingest import readers
from opencode_monitor.ingest.pipeline import ImportSummary, import_sources
from opencode_monitor.ingest.watch import Watcher, WatchState, WatchStopped
from opencode_monitor.integrity.fingerprint import differences, fingerprint
from opencode_monitor.sources.discover import find_sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE_S = 60
"""How long something may take on a machine that has other things to do; what it takes is not measured here."""
NOT_THE_SAME_TWICE = {
    "model_pricing.updated_at",
    "sources.first_imported_at",
    "sources.last_imported_at",
    "sources.state",
    "source_sessions.imported_at",
    "session_resource_metrics.updated_at",
}


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.2)


HOLDER = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


class Watch:
    """A running `watch`, with what it has said so far."""

    def __init__(self, database: Path, *arguments: object, quiet: bool = False) -> None:
        self.log = database.with_suffix(".log")
        options = ["-q"] if quiet else []
        with self.log.open("wb") as log:
            self.process = forked.start("opencode-monitor", "--db", database, *options, "watch", *arguments, stderr=log, stdout=log)

    def said(self) -> str:
        return "\n".join(line for line in self.log.read_text().splitlines() if "nanobind" not in line and "leaked" not in line)

    def wait_for(self, text: str) -> None:
        wait_until(lambda: text in self.said() or not self.process.is_running(), text)
        assert text in self.said()

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.kill(number)
        assert not self.process.is_running(PATIENCE_S)
        return self.process.wait()


@pytest.fixture
def database(duckdb_at_head: Path, tmp_path: Path) -> Path:
    file = tmp_path / "monitor" / "monitor.duckdb"
    file.parent.mkdir()
    file.write_bytes(duckdb_at_head.read_bytes())
    return file


@pytest.fixture
def watch(database: Path) -> Iterator[Callable[..., Watch]]:
    started: list[Watch] = []

    def start(*arguments: object, **options: Any) -> Watch:
        started.append(Watch(database, *arguments, **options))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


def value(database: Path, query: str) -> Any:
    """Ask the database as a report does: read only, and as often as it takes while the watch writes."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with duckdb.connect(str(database), read_only=True) as connection:
                row = connection.execute(query).fetchone()
                assert row is not None
                return row[0]
        except duckdb.IOException:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def has_rows(database: Path, count: int) -> bool:
    """Tell whether so many messages and parts have arrived, without the steps that stand in for those still to come."""
    query = "SELECT (SELECT count(*) FROM messages) + (SELECT count(*) FROM parts WHERE part_id NOT LIKE '%:%')"
    return bool(value(database, query) == count)


def replay(store: stores.Store, connection: sqlite3.Connection) -> Iterator[None]:
    """Write a store's rows into an open database one message at a time, as they were made: a message begins without usage."""
    for session in store.sessions:
        row = (session["id"], session["projectID"], None, session["directory"], session["title"], session["version"])
        at = session["time"]["created"]
        connection.execute("INSERT INTO session VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*row, at, at))
        for message in (message for message in store.messages if message["sessionID"] == session["id"]):
            made = message["time"]["created"]
            begun = {key: value for key, value in message.items() if key not in ("cost", "tokens", "finish")}
            of_message = (message["id"], session["id"], made, made, stores._data(begun))
            connection.execute("INSERT INTO message VALUES (?, ?, ?, ?, ?)", of_message)
            for part in generations.parts_of(store, message):
                values = (part["id"], message["id"], session["id"], made, made, stores._data(part))
                connection.execute("INSERT INTO part VALUES (?, ?, ?, ?, ?, ?)", values)
            connection.execute(
                "UPDATE message SET data = ?, time_updated = ? WHERE id = ?", (stores._data(message), made + 5_000, message["id"])
            )
            connection.execute("UPDATE session SET time_updated = ? WHERE id = ?", (session["time"]["updated"], session["id"]))
            yield


@pytest.mark.long
def test_watch_growing_database_is_imported_while_reports_run(
    watch: Callable[..., Watch], database: Path, migrated_duckdb_url: str, tmp_path: Path
) -> None:
    store = generations.known_session("1.18.33")
    data = tmp_path / "opencode"
    empty = stores.Store()
    stores.add_project(empty)
    path = stores.write_sqlite(empty, data)
    following = watch(data, quiet=True)

    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as opencode:
        opencode.execute("PRAGMA journal_mode = WAL")
        seen = []
        for _ in replay(store, opencode):
            written = opencode.execute("SELECT (SELECT count(*) FROM message) + (SELECT count(*) FROM part)").fetchone()[0]
            wait_until(partial(has_rows, database, written), f"{written} rows")
            seen.append(written)
        daily = run("--db", database, "--tz", "UTC", "daily", "--last", "all", "--json")
        wait_until(lambda: value(database, "SELECT sum(call_count) FROM messages") == 2, "both calls")
        exit_code = following.end()

    engine, other = create_database_engine(f"duckdb:///{database}"), create_database_engine(migrated_duckdb_url)
    import_sources(other, find_sources(data, {}))
    with engine.connect() as connection, other.connect() as undisturbed:
        differ = differences(fingerprint(connection), fingerprint(undisturbed))
    assert seen == sorted(seen)
    assert daily.exit_code == 0, daily.stderr
    assert run("--db", database, "--tz", "UTC", "daily", "--last", "all", "--json").json["totals"]["calls"] == 2
    assert set(differ) <= NOT_THE_SAME_TWICE
    assert (exit_code, following.said()) == (0, "")


@pytest.mark.long
def test_watch_outlives_every_change_of_store(watch: Callable[..., Watch], database: Path, tmp_path: Path) -> None:
    store = generations.known_session()
    data = tmp_path / "home" / "opencode"
    following = watch(data)
    following.wait_for("waiting: no OpenCode data yet")

    stores.write_json(store, data)
    wait_until(lambda: value(database, "SELECT count(*) FROM messages WHERE call_count > 0") == 2, "the JSON tree")
    stores.add_call(store, store.sessions[0], stores.START_MS + 120_000)
    path = stores.write_sqlite(store, data)
    wait_until(lambda: value(database, "SELECT count(*) FROM messages WHERE call_count > 0") == 3, "the database of 1.x")
    stores.add_call(store, store.sessions[0], stores.START_MS + 180_000)
    generations.write_sqlite_v2(store, data)
    wait_until(lambda: value(database, "SELECT count(*) FROM messages WHERE call_count > 0") == 4, "the tables of 2.x")
    whole = path.read_bytes()
    path.write_bytes(b"no database" * 100)
    following.wait_for(f"waiting: {path} is not a SQLite database")
    path.write_bytes(whole)
    beta = stores.Store(counter=9_000)
    stores.add_call(beta, stores.add_session(beta, stores.START_MS), stores.START_MS)
    stores.write_sqlite(beta, data, "opencode-beta.db")
    wait_until(lambda: value(database, "SELECT count(*) FROM messages WHERE call_count > 0") == 5, "another channel's database")

    cost = value(database, "SELECT sum(total_cost_usd) FROM session_resource_metrics")  # the watch may be at the sums of `statusline`
    assert cost == store.total[6] + beta.total[6]
    assert following.end(signal.SIGINT) == 130
    assert following.said().splitlines()[-1] == "interrupted; what was finished is kept, run the command again to go on"


@pytest.mark.long
def test_watch_polls_and_waits_for_a_database_in_use(watch: Callable[..., Watch], database: Path, tmp_path: Path) -> None:
    store = generations.known_session("1.18.33")
    data = tmp_path / "opencode"
    stores.write_json(store, data)
    polling = watch(data, "--poll")
    polling.wait_for("imported 13 new, 0 changed")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, database], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    stores.add_call(store, store.sessions[0], stores.START_MS + 120_000)
    stores.write_json(store, data)
    polling.wait_for("waiting: database is in use by")
    holder.communicate()
    wait_until(lambda: value(database, "SELECT count(*) FROM messages") == 4, "the second import")

    assert polling.end() == 0
    lines = polling.said().splitlines()
    assert lines[1].startswith("waiting: database is in use by 'python")
    assert (lines[0], lines[-1]) == ("imported 13 new, 0 changed", "imported 5 new, 1 changed")


def test_status_line_says_what_is_watched_and_what_came() -> None:
    at = datetime(2026, 12, 1, 12, 30, 5, tzinfo=UTC)
    state = WatchState(sources=2, imports=3, new=1_234, changed=5, at=at)

    assert status_line(WatchState(sources=1), ZoneInfo("UTC")) == "watching 1 source · 0 new, 0 changed"
    assert status_line(state, ZoneInfo("Europe/Berlin")) == "watching 2 sources · 1,234 new, 5 changed, last at 13:30:05"
    assert status_line(replace(state, problem="no OpenCode data yet"), ZoneInfo("UTC")).startswith(
        "waiting: no OpenCode data yet · 1,234 new"
    )


def test_log_line_tells_of_an_import_or_of_a_wait() -> None:
    summary = ImportSummary(counts=BulkCounts(new=3, changed=1), skipped=Counter({"empty file": 2}))

    assert log_line(WatchState(sources=1, last=summary)) == "imported 3 new, 1 changed, 2 skipped"
    assert log_line(WatchState(sources=1, problem="it is locked")) == "waiting: it is locked"
    assert log_line(WatchState(sources=2)) == "watching 2 sources"


def test_watch_without_its_reading_processes_says_so_once(
    migrated_duckdb_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = stores.sample(sessions=2)
    stores.write_json(store, tmp_path / "opencode")
    monkeypatch.setattr(readers, "LEAST_RECORDS", 1)
    monkeypatch.setattr(readers, "_PROGRAM", "opencode_monitor.no_such_module")
    stop, imports = Event(), list[ImportSummary]()
    tell = shown_states(ZoneInfo("UTC"), is_terminal=False, quiet=False)

    def show(state: WatchState) -> None:
        tell(state)
        if state.last is not None:
            imports.append(state.last)
            stores.write_json(stores.sample(seed=8, counter=50_000, sessions=1), tmp_path / "opencode")
        if len(imports) == 2:
            stop.set()

    Watcher(create_database_engine(migrated_duckdb_url), [tmp_path / "opencode"], {}, stop, show, jobs=1).run()

    told = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("watching")]
    assert [summary.lost_readers for summary in imports] == [{"exit code 1": 1}] * 2
    assert told[0].startswith("opencode-monitor: warning: lost 1 reading process (exit code 1): the import read the rest itself, slower,")
    assert [line.startswith("imported ") for line in told[1:]] == [True, True]


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
@pytest.mark.parametrize("quiet", [False, True])
def test_shown_states_on_a_terminal_keep_the_warning_and_write_the_state_anew(monkeypatch: pytest.MonkeyPatch, quiet: bool) -> None:
    ours, its = os.openpty()
    state = WatchState(sources=1, new=3, last=ImportSummary(lost_readers=Counter({"killed by SIGKILL": 2})))

    with os.fdopen(ours, "rb", buffering=0) as screen, os.fdopen(its, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        show = shown_states(ZoneInfo("UTC"), is_terminal=True, quiet=quiet)
        for shown in (state, state):
            show(shown)
        terminal.write("#")
        terminal.flush()
        shown_text = ""
        while "#" not in shown_text:
            shown_text += screen.read(4096).decode()

    if quiet:
        assert shown_text == "#"
    else:
        warning, _, rest = shown_text.partition("\r\n")
        assert warning.startswith("\r\x1b[Kopencode-monitor: warning: lost 2 reading processes (2 times killed by SIGKILL): ")
        assert rest == "\r\x1b[Kwatching 1 source · 3 new, 0 changed" * 2 + "#"


def test_watch_database_that_falls_behind_is_refused(migrated_duckdb_url: str, tmp_path: Path) -> None:
    path = stores.write_sqlite(generations.known_session("1.18.33"), tmp_path / "opencode")
    engine, stop = create_database_engine(migrated_duckdb_url), Event()
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = 'baseline'"))

    with pytest.raises(SchemaError, match="Run: opencode-monitor db upgrade"):
        Watcher(engine, [path], {}, stop, lambda _: None).run()


def test_watch_place_that_is_not_there_keeps_nobody_from_the_others(migrated_duckdb_url: str, tmp_path: Path) -> None:
    path = stores.write_sqlite(generations.known_session("1.18.33"), tmp_path / "opencode")
    stop, shown = Event(), list[WatchState]()

    def show(state: WatchState) -> None:
        shown.append(state)
        stop.set()

    Watcher(create_database_engine(migrated_duckdb_url), [tmp_path / "laptop", path, path.parent], {}, stop, show).run()

    assert [(state.sources, state.new, state.problem) for state in shown] == [(1, 13, None)]


def test_watch_source_made_between_the_look_and_the_first_notice_is_found(
    migrated_duckdb_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "opencode"
    place.mkdir()
    stop, shown = Event(), list[WatchState]()

    def begin_late(*directories: Path, **options: Any) -> Any:
        if not shown:
            stores.write_json(generations.known_session("1.1.65"), place)
        return watchfiles.watch(*directories, **options)

    def show(state: WatchState) -> None:
        shown.append(state)
        stop.set()

    monkeypatch.setattr("opencode_monitor.ingest.watch.watch", begin_late)

    Watcher(create_database_engine(migrated_duckdb_url), [place], {}, stop, show).run()

    assert [(state.sources, state.new, state.problem) for state in shown] == [(1, 13, None)]


def test_watch_out_of_memory_goes_on_with_more(migrated_duckdb_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = stores.sample()
    path = stores.write_sqlite(store, tmp_path / "opencode")
    monkeypatch.setitem(LOADING_SETTINGS, "memory_limit", "16MB")  # too little even for this
    engine, larger = create_database_engine(migrated_duckdb_url, loading=True), create_database_engine(migrated_duckdb_url)
    stop, shown = Event(), list[WatchState]()

    def show(state: WatchState) -> None:
        shown.append(state)
        stop.set()

    Watcher(engine, [path], {}, stop, show, larger=larger).run()

    assert [state.problem for state in shown] == [None]
    assert shown[0].new > 0


def test_watch_stopped_during_an_import_ends_after_its_batch(migrated_duckdb_url: str, tmp_path: Path) -> None:
    path = stores.write_sqlite(generations.known_session("1.18.33"), tmp_path / "opencode")
    engine, stop = create_database_engine(migrated_duckdb_url), Event()

    def prices() -> None:
        stop.set()  # asked for once, when the import begins

    with pytest.raises(WatchStopped):
        Watcher(engine, [path], {}, stop, lambda _: None, models_cache=prices).run()

    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM messages")) == 3
