"""An import looks for what has changed, and reads nothing else."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

import generations
import stores
from opencode_monitor.db.bulk import BulkCounts
from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.ingest import batches, pipeline
from opencode_monitor.ingest.pipeline import ImportSummary, import_sources
from opencode_monitor.sources import json_tree, sqlite_access
from opencode_monitor.sources.discover import find_all_sources

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=1)

_touched: list[Path] | None = None


def _note_files(audited: str, arguments: tuple[Any, ...]) -> None:
    """Note every file that is opened and every directory that is listed while somebody asks for it."""
    if _touched is not None and audited in ("open", "os.scandir") and isinstance(arguments[0], str):
        _touched.append(Path(arguments[0]))


sys.addaudithook(_note_files)


@pytest.fixture
def engine(migrated_duckdb_url: str) -> Iterator[sa.Engine]:
    """Open an empty database at head: what is read of a source does not depend on the engine."""
    engine = create_database_engine(migrated_duckdb_url)
    yield engine
    engine.dispose()


@pytest.fixture
def at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take what is read once for something that nobody writes to any more, on a day that is no session's turn."""
    monkeypatch.setattr(json_tree, "_REST_MS", -60_000)
    monkeypatch.setattr(json_tree, "_is_turn_of", lambda _session, _at: False)
    monkeypatch.setattr(sqlite_access, "_COARSE_NS", 0)


def load(engine: sa.Engine, *paths: Path, now: datetime = NOW, **options: Any) -> ImportSummary:
    return import_sources(engine, find_all_sources(paths, {}), now=now, **options)


def load_and_watch_files(engine: sa.Engine, *paths: Path, **options: Any) -> tuple[ImportSummary, list[Path]]:
    """Import, and return the files of OpenCode that were opened and the directories that were listed."""
    global _touched  # noqa: PLW0603 - an audit hook can be neither given an argument nor taken away
    _touched = []
    try:
        summary = load(engine, *paths, **options)
        return summary, [file for file in _touched if any(file.is_relative_to(path) for path in paths)]
    finally:
        _touched = None


def statements_of(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have every statement noted that SQLite runs from now on; `EXPLAIN` reads no row."""
    statements: list[str] = []
    connect = sqlite3.connect

    def note(statement: str) -> None:
        if not statement.startswith("EXPLAIN"):
            statements.append(statement)

    def connect_and_note(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.set_trace_callback(note)
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_and_note)
    return statements


def read(engine: sa.Engine, query: str) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query)).all()]


def records(store: stores.Store) -> int:
    return len(store.sessions) + len(store.messages) + len(store.parts)


def rewrite(path: Path, **changes: Any) -> None:
    """Write a record anew in its place, as OpenCode does."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes, indent=2))


class TestDatabase:
    def test_import_again_unchanged_reads_no_rows(self, engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sqlite_access, "_COARSE_NS", 0)
        store = stores.sample()
        stores.write_sqlite(store, tmp_path)
        load(engine, tmp_path)
        statements = statements_of(monkeypatch)

        again = load(engine, tmp_path, now=LATER)

        assert (again.read, again.counts) == (0, BulkCounts(unchanged=records(store)))
        assert [statement for statement in statements if "FROM part" in statement or "FROM message" in statement] == []
        assert "SELECT count(*) FROM sqlite_master" in statements

    def test_import_again_written_just_now_reads_no_bodies(
        self, engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = stores.sample()
        path = stores.write_sqlite(store, tmp_path)
        load(engine, tmp_path)
        with sqlite3.connect(path) as connection:  # the files are not what they were, the sessions are
            connection.execute("CREATE TABLE event (id text)")
        connection.close()
        statements = statements_of(monkeypatch)

        again = load(engine, tmp_path, now=LATER)

        assert again.counts == BulkCounts(unchanged=records(store))
        assert [statement for statement in statements if "FROM part" in statement] != []
        assert [statement for statement in statements if "data" in statement] == []

    def test_import_row_changed_in_place_reads_its_session_only(
        self, engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = stores.sample()
        path = stores.write_sqlite(store, tmp_path)
        load(engine, tmp_path)
        text = next(part for part in store.parts if part["type"] == "text" and part["text"] != "Please fix it.")
        data = json.dumps({"type": "text", "text": "Longer by now."})
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE part SET data = ?, time_updated = time_updated + 1 WHERE id = ?", (data, text["id"]))
        connection.close()
        statements = statements_of(monkeypatch)

        summary = load(engine, tmp_path, now=LATER)

        assert summary.counts == BulkCounts(changed=1, unchanged=records(store) - 1)
        assert read(engine, f"SELECT content FROM text_messages WHERE part_id = '{text['id']}'") == [("Longer by now.",)]
        assert {statement.partition(" FROM ")[2] for statement in statements if "data" in statement} == {
            f"{table} WHERE session_id = '{text['sessionID']}'" for table in ("message", "part")
        }

    @pytest.mark.usefixtures("at_rest")
    def test_import_since_does_not_take_the_rest_for_read(self, engine: sa.Engine, tmp_path: Path) -> None:
        store = stores.sample()
        stores.write_sqlite(store, tmp_path)
        since = datetime.fromtimestamp((stores.START_MS + 5 * stores.DAY_MS) / 1000, UTC)

        some = load(engine, tmp_path, since=since)
        rest = load(engine, tmp_path, now=LATER)

        assert 0 < some.counts.new < records(store)
        assert some.counts.new + rest.counts.new == records(store)

    @pytest.mark.usefixtures("at_rest")
    def test_import_killed_while_it_reads_looks_at_everything_again(self, engine: sa.Engine, tmp_path: Path) -> None:
        store = stores.sample()
        path = stores.write_sqlite(store, tmp_path)
        load(engine, tmp_path)
        state = read(engine, "SELECT state FROM sources")
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE part SET time_updated = time_updated + 1")
        connection.close()

        def stop(_done: int, _total: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            load(engine, tmp_path, now=LATER, progress=stop)
        stopped = read(engine, "SELECT state FROM sources")
        load(engine, tmp_path, now=LATER)

        assert state != [(None,)]
        assert stopped == [(None,)]
        assert read(engine, "SELECT state FROM sources") not in (state, stopped)

    @pytest.mark.usefixtures("at_rest")
    def test_import_stopped_before_a_better_copy_was_read_reads_the_other(
        self, engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(batches, "BATCH_RECORDS", 1)
        store = stores.sample()
        old, new = tmp_path / "a-old", tmp_path / "b-new"
        for directory in (old, new):
            directory.mkdir()
            stores.write_sqlite(store, directory)
            for session in store.sessions:
                session["time"]["updated"] += stores.DAY_MS

        def stop(_done: int, _total: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            load(engine, old, new, progress=stop)
        shutil.rmtree(new)
        load(engine, old, now=LATER)

        assert read(engine, "SELECT count(*) FROM sessions") == [(len(store.sessions),)]

    def test_import_killed_before_its_end_is_known_to_have_been(
        self, engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stores.write_sqlite(stores.sample(), tmp_path)

        def stop(*_arguments: Any, **_options: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(pipeline, "backfill", stop)
        with pytest.raises(KeyboardInterrupt):
            load(engine, tmp_path)
        monkeypatch.undo()
        stopped = read(engine, "SELECT state FROM sources")
        load(engine, tmp_path, now=LATER)

        assert stopped == [(None,)]
        assert read(engine, "SELECT state FROM sources") != [(None,)]

    def test_import_of_a_killed_source_that_is_not_there_any_more_is_mended_once(self, engine: sa.Engine, tmp_path: Path) -> None:
        stores.write_sqlite(stores.sample(), tmp_path)
        load(engine, tmp_path)
        with engine.begin() as connection:
            connection.execute(
                sa.text(
                    "INSERT INTO sources (source_id, kind, path, host, username, first_imported_at, last_imported_at)"
                    " SELECT 'gone', kind, '/gone', host, username, first_imported_at, last_imported_at FROM sources"
                )
            )

        load(engine, tmp_path, now=LATER)

        assert read(engine, "SELECT count(*) FROM sources WHERE state IS NULL") == [(0,)]

    @pytest.mark.usefixtures("at_rest")
    def test_import_copy_laid_over_with_an_older_time_is_noticed(self, engine: sa.Engine, tmp_path: Path) -> None:
        store = generations.known_session()
        path = stores.write_sqlite(store, tmp_path)
        load(engine, tmp_path)
        stores.add_call(store, store.sessions[0], stores.START_MS + 500_000)
        (tmp_path / "other").mkdir()
        other = stores.write_sqlite(store, tmp_path / "other")
        os.utime(other, (0, 0))
        other.replace(path)

        summary = load(engine, path, now=LATER)

        assert (summary.counts.new, summary.counts.changed) == (5, 1)


class TestTree:
    def test_import_again_unchanged_reads_no_parts(self, engine: sa.Engine, tmp_path: Path) -> None:
        store = stores.sample()
        storage = stores.write_json(store, tmp_path)
        load(engine, tmp_path)

        again, touched = load_and_watch_files(engine, tmp_path, now=LATER)

        assert again.counts == BulkCounts(unchanged=records(store))
        # Written within the last minutes, so every directory is looked at, and nothing in it opened.
        assert {file.name for file in touched if file.parent == storage / "part"} == {message["id"] for message in store.messages}
        assert [file for file in touched if file.suffix == ".json"] == [storage / "project" / f"{stores.PROJECT_ID}.json"] * 2

    @pytest.mark.usefixtures("at_rest")
    def test_import_again_at_rest_looks_at_messages_only(self, engine: sa.Engine, tmp_path: Path) -> None:
        store = stores.sample()
        storage = stores.write_json(store, tmp_path)
        load(engine, tmp_path)

        again, touched = load_and_watch_files(engine, tmp_path, now=LATER)

        assert again.counts == BulkCounts(unchanged=records(store))
        assert {file for file in touched if file.is_relative_to(storage / "part")} == {storage / "part"}

    @pytest.mark.usefixtures("at_rest")
    def test_import_running_session_at_rest_is_read_again_when_its_message_is_written(self, engine: sa.Engine, tmp_path: Path) -> None:
        store = stores.sample()
        storage = stores.write_json(store, tmp_path)
        load(engine, tmp_path)
        message = store.messages[-1]
        text = next(part for part in store.parts if part["messageID"] == message["id"] and part["type"] == "text")
        rewrite(storage / "part" / message["id"] / f"{text['id']}.json", text="Longer by now.")
        rewrite(storage / "message" / message["sessionID"] / f"{message['id']}.json", finish="length")

        summary = load(engine, tmp_path, now=LATER)

        assert summary.counts == BulkCounts(changed=2, unchanged=records(store) - 2)
        assert read(engine, f"SELECT content FROM text_messages WHERE part_id = '{text['id']}'") == [("Longer by now.",)]

    @pytest.mark.usefixtures("at_rest")
    @pytest.mark.parametrize("how", ["its turn", "not at rest", "full"])
    def test_import_part_written_in_place_is_found(
        self, engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
    ) -> None:
        store = stores.sample()
        storage = stores.write_json(store, tmp_path)
        load(engine, tmp_path)
        text = next(part for part in store.parts if part["type"] == "text" and part["text"] != "Please fix it.")
        rewrite(storage / "part" / text["messageID"] / f"{text['id']}.json", text="Longer by now.")
        overlooked = load(engine, tmp_path)
        if how == "its turn":
            monkeypatch.setattr(json_tree, "_is_turn_of", lambda session_id, _at: session_id == text["sessionID"])
        elif how == "not at rest":
            monkeypatch.setattr(json_tree, "_REST_MS", 60_000)

        summary = load(engine, tmp_path, now=LATER, full=how == "full")

        assert overlooked.read == 0
        assert summary.counts == BulkCounts(changed=1, unchanged=records(store) - 1)

    @pytest.mark.parametrize("how", ["nothing", "a part comes", "its parts go", "a message is at work"])
    def test_import_again_just_copied_looks_at_parts_where_one_can_have_changed(
        self, engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
    ) -> None:
        monkeypatch.setattr(json_tree, "_SETTLED_MS", 0)
        monkeypatch.setattr(json_tree, "_is_turn_of", lambda _session, _at: False)
        store = stores.sample()
        storage = stores.write_json(store, tmp_path)
        message = store.messages[-1]
        of_session = {one["id"] for one in store.messages if one["sessionID"] == message["sessionID"]}
        if how == "a message is at work":
            monkeypatch.setattr(json_tree, "message_id_time_ms", lambda name, at_ms: at_ms if name == message["id"] else 0)
        load(engine, tmp_path)
        time.sleep(0.02)
        if how == "its parts go":
            shutil.rmtree(storage / "part" / message["id"])
        if how == "a part comes":
            new = storage / "part" / message["id"] / "prt_zzzzzzzzzzzzzzzzzzzzzzzzzz.json"
            new.write_text(json.dumps({"type": "text", "text": "One more."}))

        summary, touched = load_and_watch_files(engine, tmp_path, now=LATER)

        listed = {file.name for file in touched if file.parent == storage / "part"}
        assert listed == (set() if how == "nothing" else of_session)
        assert summary.counts.new == (1 if how == "a part comes" else 0)
        assert (summary.read > 0) == (how in ("a part comes", "its parts go"))

    def test_import_tree_that_was_still_being_copied_is_read_whole_then(self, engine: sa.Engine, tmp_path: Path) -> None:
        store = stores.sample()
        storage = stores.write_json(store, tmp_path)
        for path in storage.rglob("*.json"):
            os.utime(path, (1_700_000_000, 1_700_000_000))  # as a copy that keeps the times of the files does
        (storage / "part").rename(tmp_path / "part")
        load(engine, tmp_path)
        (tmp_path / "part").rename(storage / "part")

        summary = load(engine, tmp_path, now=LATER)

        assert summary.counts.new == len(store.parts)

    def test_import_parts_of_deleted_messages_are_read_once(self, engine: sa.Engine, tmp_path: Path) -> None:
        store = stores.sample()
        storage = stores.write_json(store, tmp_path)
        message = store.messages[-1]
        (storage / "message" / message["sessionID"] / f"{message['id']}.json").unlink()
        load(engine, tmp_path)

        again, touched = load_and_watch_files(engine, tmp_path, now=LATER)
        parts = [part for part in store.parts if part["messageID"] == message["id"]]
        (storage / "part" / message["id"] / f"{parts[0]['id']}.json").unlink()
        after, read_then = load_and_watch_files(engine, tmp_path, now=LATER)

        assert again.counts == BulkCounts(unchanged=records(store) - 1)
        assert [file for file in touched if file.suffix == ".json" and file.is_relative_to(storage / "part")] == []
        assert after.read > 0
        assert {file.name for file in read_then if file.parent.name == message["id"]} == {f"{part['id']}.json" for part in parts[1:]}

    def test_import_tree_beside_the_database_that_took_it_over_is_not_looked_through(self, engine: sa.Engine, tmp_path: Path) -> None:
        store = stores.sample()
        storage = stores.write_json(store, tmp_path)
        stores.write_sqlite(store, tmp_path)
        load(engine, tmp_path)

        again, touched = load_and_watch_files(engine, tmp_path, now=LATER)
        alone, _ = load_and_watch_files(engine, storage, now=LATER)

        assert again.counts == BulkCounts(unchanged=records(store))
        assert {file for file in touched if file.is_relative_to(storage / "part")} == {storage / "part"}
        assert (alone.read, alone.counts.new, alone.counts.changed) == (0, 0, 0)

    @pytest.mark.usefixtures("at_rest")
    def test_import_steps_that_only_a_tree_left_beside_its_database_holds_are_loaded_once(self, engine: sa.Engine, tmp_path: Path) -> None:
        store = stores.sample()
        storage = stores.write_json(store, tmp_path)
        gone = store.messages.pop(3)  # its file was deleted, its parts stayed, and the database has taken over neither
        (storage / "message" / gone["sessionID"] / f"{gone['id']}.json").unlink()
        orphans = [part for part in store.parts if part["messageID"] == gone["id"]]
        store.parts = [part for part in store.parts if part["messageID"] != gone["id"]]
        database = stores.write_sqlite(store, tmp_path)
        of_orphans = f"FROM step_events WHERE message_id = '{gone['id']}' AND event = 'finish'"
        calls = "SELECT sum(input_tokens) FROM messages"

        load(engine, database)
        before, sums = read(engine, f"SELECT count(*) {of_orphans}"), read(engine, calls)
        summary = load(engine, tmp_path, now=LATER)
        again = load(engine, tmp_path, now=LATER)
        numbers = read(engine, "SELECT DISTINCT count(*) OVER (PARTITION BY session_id, sequence_number) FROM parts")
        (storage / "part" / gone["id"] / f"{orphans[0]['id']}.json").unlink()
        changed = load(engine, tmp_path, now=LATER)

        steps = [part for part in orphans if part["type"] == "step-finish"]
        assert before == [(0,)]
        assert (summary.counts.new, again.read) == (len(orphans), 0)
        assert read(engine, f"SELECT step_id, step_cost_usd, session_id {of_orphans} ORDER BY step_id") == [
            (part["id"], None, gone["sessionID"]) for part in steps
        ]
        assert numbers == [(1,)]
        assert read(engine, calls) == sums
        assert changed.read > 0

    @pytest.mark.usefixtures("at_rest")
    def test_import_state_of_another_make_is_not_trusted(self, engine: sa.Engine, tmp_path: Path) -> None:
        store = stores.sample()
        storage = stores.write_json(store, tmp_path)
        load(engine, tmp_path)
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE sources SET state = 'looked at on Monday'"))

        again, touched = load_and_watch_files(engine, tmp_path, now=LATER)

        assert again.counts == BulkCounts(unchanged=records(store))
        assert len([file for file in touched if file.parent == storage / "part"]) == len(store.messages)
