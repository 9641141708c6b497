from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session as DatabaseSession

import stores
from commands import run
from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.errors import SourceError
from opencode_monitor.ingest.pipeline import ImportSummary, import_sources
from opencode_monitor.ingest.readers import Reader
from opencode_monitor.repositories import CostRepository, ImportIssueRepository, Usage
from opencode_monitor.sources import discover
from opencode_monitor.sources.database import DatabaseSource
from opencode_monitor.sources.discover import find_all_sources, find_sources

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from opencode_monitor.ingest.mapping import RecordId, SessionRows

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
REPLACED = "text held NUL or lone surrogates; replaced by U+FFFD"


@pytest.fixture
def duckdb(migrated_duckdb_url: str) -> Iterator[sa.Engine]:
    """Open an empty database at head, where one engine is enough."""
    engine = create_database_engine(migrated_duckdb_url)
    with engine.connect():  # as in `engine`
        yield engine
    engine.dispose()


def load(engine: sa.Engine, path: Path) -> ImportSummary:
    return import_sources(engine, find_sources(path, {}), now=NOW)


def issues(engine: sa.Engine) -> dict[str, str]:
    with engine.connect() as connection:
        return {row.record: row.reason for row in connection.execute(sa.text("SELECT record, reason FROM import_issues"))}


def total(engine: sa.Engine) -> Usage:
    with DatabaseSession(engine) as session:
        return CostRepository(session).total()


def values(engine: sa.Engine, statement: str) -> list[tuple[object, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(statement))]


def two_calls() -> stores.Store:
    """Make a session with two calls: the first one's records are spoiled, the second one's are the neighbours."""
    store = stores.Store()
    stores.add_project(store)
    session = stores.add_session(store, stores.START_MS)
    stores.add_user(store, session, stores.START_MS)
    stores.add_call(store, session, stores.START_MS + 10_000)
    stores.add_call(store, session, stores.START_MS + 20_000)
    return store


UNREADABLE = {
    "empty": (b"", "empty file"),
    "cut": (b'{"id": "prt_1", "type": "te', "not valid JSON"),
    "binary": (b"\x00\xff\xfe\x01", "not UTF-8"),
    "list": (b"[1, 2]", "not a JSON object"),
    "null": (b"null", "not a JSON object"),
}


class TestFiles:
    @pytest.mark.parametrize(
        ("kind", "how"),
        [
            *(("part", how) for how in UNREADABLE),
            *((kind, how) for kind in ("project", "session", "message") for how in ("cut", "list")),
        ],
    )
    def test_import_unreadable_file_is_an_issue_and_its_neighbours_load(
        self, duckdb: sa.Engine, tmp_path: Path, kind: str, how: str
    ) -> None:
        content, reason = UNREADABLE[how]
        store = two_calls()
        storage = stores.write_json(store, tmp_path)
        session, message = store.sessions[0], store.messages[1]
        text = next(part for part in store.parts if part["messageID"] == message["id"] and part["type"] == "text")
        record = {
            "project": f"project/{stores.PROJECT_ID}.json",
            "session": f"session/{stores.PROJECT_ID}/{session['id']}.json",
            "message": f"message/{session['id']}/{message['id']}.json",
            "part": f"part/{message['id']}/{text['id']}.json",
        }[kind]
        stores.write_record(storage / record, content)

        summary = load(duckdb, tmp_path)

        found = issues(duckdb)
        assert list(found) == [record]
        assert found[record].startswith(reason)
        assert (summary.issues, sum(summary.skipped.values())) == (1, 1)
        # Without its own record nothing says which model a message was of: its step is stored, and in no sum.
        calls = 1 if kind == "message" else 2
        assert (total(duckdb).calls, total(duckdb).unpriced_calls, total(duckdb).cost_usd) == (calls, 0, store.total[6] * calls / 2)
        assert values(duckdb, "SELECT count(*) FROM gone_messages") == [(0,)]

    def test_import_wrong_types_are_issues_and_the_rest_loads(self, duckdb: sa.Engine, tmp_path: Path) -> None:
        store = two_calls()
        session, message = store.sessions[0], store.messages[1]
        session |= {"title": ["a"], "version": 1.18}
        message |= {"agent": {"name": "build"}, "finish": 7, "error": "bad", "parentID": 1}
        text, tool = (
            next(part for part in store.parts if part["messageID"] == message["id"] and part["type"] == kind) for kind in ("text", "tool")
        )
        text["text"] = {"no": "text"}
        tool |= {"state": "completed", "tool": None}
        stores.write_json(store, tmp_path)

        load(duckdb, tmp_path)

        assert issues(duckdb) == {
            f"session/{stores.PROJECT_ID}/{session['id']}.json": "title is not text; version is not text",
            f"message/{session['id']}/{message['id']}.json": (
                "error is not an object; parentID is not text; agent is not text; finish is not text"
            ),
        }
        assert values(duckdb, f"SELECT title, opencode_version FROM sessions WHERE session_id = '{session['id']}'") == [(None, None)]
        assert values(duckdb, f"SELECT content FROM text_messages WHERE part_id = '{text['id']}'") == [("",)]
        assert values(duckdb, f"SELECT tool_name, status FROM tool_calls WHERE part_id = '{tool['id']}'") == [("unknown", None)]
        assert (total(duckdb).calls, total(duckdb).cost_usd) == (2, store.total[6])

    def test_import_unknown_part_type_is_kept_under_its_name(self, duckdb: sa.Engine, tmp_path: Path) -> None:
        store = two_calls()
        hologram = stores.add_part(store, store.messages[1], stores.START_MS + 12_000, "hologram", depth=3)
        untyped = stores.add_part(store, store.messages[1], stores.START_MS + 12_000, "text", text="x")
        untyped["type"] = {}
        stores.write_json(store, tmp_path)

        load(duckdb, tmp_path)

        folder = f"part/{store.messages[1]['id']}"
        assert issues(duckdb) == {
            f"{folder}/{hologram['id']}.json": "unknown part type 'hologram'; kept under its own name",
            f"{folder}/{untyped['id']}.json": "part has no type; not loaded",
        }
        assert values(duckdb, f"SELECT part_type, CAST(extra AS VARCHAR) FROM parts WHERE part_id = '{hologram['id']}'") == [
            ("hologram", '{"depth":3}')
        ]
        assert (total(duckdb).calls, total(duckdb).cost_usd) == (2, store.total[6])


def locked(path: Path) -> Callable[[], None]:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    return other.close


def overwritten(path: Path) -> None:
    path.write_bytes(b"This is no database.\n" * 100)


def without_column(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE message DROP COLUMN data")


def without_table(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE part")


class TestDatabases:
    @pytest.mark.parametrize(
        ("spoil", "reason"),
        [
            (locked, "is locked by another program; try again"),
            (overwritten, "is not a SQLite database"),
            (without_column, ": table message has no column data; this shape is not known"),
            (without_table, " has no table part: it is not a database of OpenCode 1.2 to 1.18"),
        ],
    )
    def test_import_unusable_database_is_one_line_and_exit_1(
        self,
        migrated_duckdb_url: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        spoil: Callable[[Path], Callable[[], None] | None],
        reason: str,
    ) -> None:
        monkeypatch.setattr(discover, "DatabaseSource", partial(DatabaseSource, busy_timeout_s=0.1))
        path = stores.write_sqlite(two_calls(), tmp_path)
        release = spoil(path)

        outcome = run("--db", migrated_duckdb_url, "import", path)

        if release:
            release()
        assert (outcome.exit_code, outcome.stdout) == (1, "")
        assert outcome.stderr.startswith(f"opencode-monitor: error: {path}")
        assert outcome.stderr.endswith(f"{reason}\n")
        assert outcome.stderr.count("\n") == 1

    @pytest.mark.parametrize("name", ["missing", "missing/opencode.db"])
    def test_import_path_that_does_not_exist_is_one_line_and_exit_1(self, duckdb_url: str, tmp_path: Path, name: str) -> None:
        outcome = run("--db", duckdb_url, "import", tmp_path / name)

        assert (outcome.exit_code, outcome.stdout) == (1, "")
        assert outcome.stderr == (
            f"opencode-monitor: error: {tmp_path / name} does not exist."
            " Give an opencode.db, or the directory that OpenCode keeps its data in\n"
        )
        assert not Path(duckdb_url.removeprefix("duckdb:///")).exists()

    def test_import_empty_directory_is_one_line_and_exit_1(self, duckdb_url: str, tmp_path: Path) -> None:
        outcome = run("--db", duckdb_url, "import", tmp_path)

        assert outcome.exit_code == 1
        assert outcome.stderr.startswith(f"opencode-monitor: error: No OpenCode data in {tmp_path}.")
        assert outcome.stderr.count("\n") == 1

    def test_import_rows_of_wrong_types_are_issues_and_the_rest_loads(self, duckdb: sa.Engine, tmp_path: Path) -> None:
        store = two_calls()
        path = stores.write_sqlite(store, tmp_path)
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("INSERT INTO message VALUES (x'00ff', ?, 1, 1, '{}')", (store.sessions[0]["id"],))
            connection.execute("INSERT INTO message VALUES ('msg_blob', ?, 1, 1, x'fffe')", (store.sessions[0]["id"],))
            connection.execute("INSERT INTO message VALUES ('msg_null', ?, 'x', 'x', NULL)", (store.sessions[0]["id"],))
            connection.execute("INSERT INTO part VALUES ('prt_gone', 'msg_gone', 'ses_gone', 1, 1, '{}')")
            connection.execute("UPDATE session SET time_created = 'soon', time_updated = 1e300")

        load(duckdb, tmp_path)

        assert issues(duckdb) == {
            "message:b'\\x00\\xff'": "its id is not text; not loaded",
            "message:msg_blob": "not UTF-8",
            "message:msg_null": "no data",
            "part:prt_gone": "part of a session that is no longer stored; not loaded",
            f"session:{store.sessions[0]['id']}": "time.created is not a number; time.updated is later than the year 2200",
        }
        assert (total(duckdb).calls, total(duckdb).cost_usd) == (2, store.total[6])

    def test_import_directory_whose_name_is_not_utf_8_loads(self, engine: sa.Engine, tmp_path: Path) -> None:
        store = two_calls()
        directory = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe"))
        stores.write_json(store, directory)
        database = stores.write_sqlite(store, directory)
        load(engine, directory)
        database.write_bytes(b"no database" * 100)

        load(engine, directory)

        shown = f"{tmp_path}/\ufffd\ufffd"
        assert issues(engine) == {f"{shown}/opencode.db": f"{shown}/opencode.db is not a SQLite database"}
        assert sorted(values(engine, "SELECT path FROM sources")) == [(f"{shown}/opencode.db",), (f"{shown}/storage",)]
        assert (total(engine).calls, total(engine).cost_usd) == (2, store.total[6])

    def test_import_file_that_was_never_a_source_leaves_nothing_behind(self, engine: sa.Engine, tmp_path: Path) -> None:
        stores.write_sqlite(two_calls(), tmp_path)
        typo = tmp_path / "README.md"
        typo.write_text("# No database\n" * 100)

        summary = import_sources(engine, find_all_sources([typo, tmp_path], {}), now=NOW)

        assert list(summary.problems.values()) == [f"{typo} is not a SQLite database"]
        assert (summary.issues, issues(engine)) == (0, {})
        assert values(engine, "SELECT path FROM sources") == [(str(tmp_path / "opencode.db"),)]

    def test_import_source_that_cannot_be_read_any_more_is_told_until_it_is_gone(self, engine: sa.Engine, tmp_path: Path) -> None:
        path = stores.write_sqlite(two_calls(), tmp_path)
        load(engine, tmp_path)
        overwritten(path)
        with pytest.raises(SourceError, match="is not a SQLite database"):
            load(engine, tmp_path)

        with DatabaseSession(engine) as session:
            told = [(issue.record, issue.reason) for issue in ImportIssueRepository(session).in_order()]
            path.unlink()
            gone = (ImportIssueRepository(session).count(), ImportIssueRepository(session).in_order())
            session.execute(sa.text("UPDATE sources SET host = 'elsewhere'"))
            elsewhere = ImportIssueRepository(session).count()

        assert told == [(str(path), f"{path} is not a SQLite database")]
        assert (gone, elsewhere) == ((0, []), 1)

    def test_import_session_that_is_gone_takes_its_issues_along(self, duckdb: sa.Engine, tmp_path: Path) -> None:
        store = two_calls()
        path = stores.write_sqlite(store, tmp_path)
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE message SET data = 'x' WHERE id = ?", (store.messages[0]["id"],))
        load(duckdb, tmp_path)
        with DatabaseSession(duckdb) as session:
            before = ImportIssueRepository(session).count()
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            for table in ("session", "message", "part"):
                connection.execute(f"DELETE FROM {table}")

        load(duckdb, tmp_path)

        with DatabaseSession(duckdb) as session:
            assert (before, ImportIssueRepository(session).count()) == (1, 0)


class TestTokens:
    @pytest.mark.parametrize("kind", ["json", "sqlite"])
    def test_import_counts_that_are_none_are_issues_and_the_message_loads(self, engine: sa.Engine, tmp_path: Path, kind: str) -> None:
        store = stores.Store()
        session = stores.add_session(store, stores.START_MS)
        bad = {
            "negative": {"input": -5, "output": 1},
            "missing": {"output": 1},
            "text": {"input": "12", "output": 1},
            "nan": {"input": float("nan"), "output": 1},
            "huge": {"input": 10**18, "output": 1},
        }
        for number, tokens in enumerate(bad.values()):
            message = stores.add_call(store, session, stores.START_MS + number * 10_000, counted=False)
            message["tokens"] = tokens
            step = next(part for part in store.parts if part["messageID"] == message["id"] and part["type"] == "step-finish")
            step["tokens"] = tokens
        stores.add_call(store, session, stores.START_MS + 100_000)
        {"json": stores.write_json, "sqlite": stores.write_sqlite}[kind](store, tmp_path)

        load(engine, tmp_path)

        reasons = ("input is -5", "input is missing", "input is '12'", "input is nan", "input is 1000000000000000000")
        assert sorted(issues(engine).values()) == sorted(f"tokens.{reason}; its usage is not counted" for reason in reasons)
        rows = values(engine, "SELECT call_count, input_tokens, message_cost_usd, cost_basis FROM messages ORDER BY created_at")
        assert rows == [(0, None, None, None)] * 5 + [(1, 10, store.total[6], "calculated")]
        assert (total(engine).calls, total(engine).cost_usd, total(engine).unrecorded_calls) == (1, store.total[6], 5)

    def test_import_huge_counts_within_the_limit_are_counted_exactly(self, engine: sa.Engine, tmp_path: Path) -> None:
        store = stores.Store()
        session = stores.add_session(store, stores.START_MS)
        for number in range(3):
            stores.add_call(store, session, stores.START_MS + number * 10_000, model=stores.HAIKU, buckets=(10**11, 0, 0, 10**11 - 1, 0))
        stores.write_json(store, tmp_path)

        load(engine, tmp_path)

        assert (total(engine).input_tokens, total(engine).output_tokens) == (3 * 10**11, 3 * 10**11 - 3)
        assert total(engine).cost_usd == store.total[6]


class TestTimes:
    def test_import_missing_times_are_taken_from_the_id(self, duckdb: sa.Engine, tmp_path: Path) -> None:
        store = two_calls()
        message = store.messages[1]
        created = message["time"]["created"]
        del message["time"]
        stores.write_json(store, tmp_path)

        load(duckdb, tmp_path)

        assert list(issues(duckdb).values()) == ["time.created is missing; taken from the id"]
        assert values(duckdb, f"SELECT epoch_ms(created_at) FROM messages WHERE message_id = '{message['id']}'") == [(created,)]
        assert (total(duckdb).calls, total(duckdb).cost_usd) == (2, store.total[6])

    def test_import_times_in_seconds_are_understood(self, duckdb: sa.Engine, tmp_path: Path) -> None:
        store = two_calls()
        message = store.messages[1]
        created = message["time"]["created"]
        message["time"] = {"created": created // 1000, "completed": created // 1000 + 5}
        stores.write_json(store, tmp_path)

        load(duckdb, tmp_path)

        assert list(issues(duckdb).values()) == ["time.created is in seconds; time.completed is in seconds"]
        assert values(
            duckdb,
            f"SELECT epoch_ms(created_at), epoch_ms(completed_at) FROM messages WHERE message_id = '{message['id']}'",
        ) == [(created, created + 5_000)]
        assert (total(duckdb).calls, total(duckdb).cost_usd) == (2, store.total[6])

    def test_import_no_time_at_all_is_counted_and_shown_without_a_day(self, database_url: str, tmp_path: Path) -> None:
        store = two_calls()
        message = store.messages[1]
        message |= {"id": "odd", "time": {}}
        for part in store.parts:
            part["messageID"] = part["messageID"] if part["messageID"] in {other["id"] for other in store.messages} else "odd"
        stores.write_json(store, tmp_path)

        imported = run("--db", database_url, "import", tmp_path)
        daily = run("--db", database_url, "--tz", "UTC", "daily", "--last", "all")
        as_json = run("--db", database_url, "--tz", "UTC", "daily", "--last", "all", "--json")

        assert imported.exit_code == 0
        assert daily.exit_code == 0
        assert as_json.json["rows"][-1]["period"] is None
        assert as_json.json["totals"]["calls"] == 2
        assert as_json.json["totals"]["unpriced_calls"] == 1  # which price held, its time would say
        assert "unknown" in daily.stdout


class TestTwice:
    @pytest.mark.parametrize("order", [1, -1])
    def test_import_message_id_in_two_sessions_counts_once(self, engine: sa.Engine, tmp_path: Path, order: int) -> None:
        store = two_calls()
        first = store.sessions[0]
        second = stores.add_session(store, stores.START_MS + 500_000 * order)
        stores.add_user(store, second, stores.START_MS + 500_000 * order)
        stolen = {**store.messages[1], "sessionID": second["id"]}
        store.messages.append(stolen)
        stores.write_json(store, tmp_path)
        owner, other = (first, second) if order == 1 else (second, first)

        load(engine, tmp_path)
        before = values(engine, "SELECT * FROM messages ORDER BY message_id")
        again = import_sources(engine, find_sources(tmp_path, {}), now=NOW, full=True)

        found = issues(engine)
        assert found[f"message:{stolen['id']}"] == f"id belongs to session {owner['id']} already; not loaded"
        assert all(other["id"] in reason or owner["id"] in reason or "not that of its place" in reason for reason in found.values())
        assert values(engine, f"SELECT session_id FROM messages WHERE message_id = '{stolen['id']}'") == [(owner["id"],)]
        assert (total(engine).calls, total(engine).cost_usd) == (2, store.total[6])
        assert again.counts.new == again.counts.changed == 0
        assert values(engine, "SELECT * FROM messages ORDER BY message_id") == before

    def test_import_message_id_of_a_session_stored_before_stays_there_and_is_kept_up_to_date(
        self, duckdb: sa.Engine, tmp_path: Path
    ) -> None:
        store = two_calls()
        owner, message = store.sessions[0], store.messages[1]
        storage = stores.write_json(store, tmp_path)
        load(duckdb, tmp_path)
        earlier = stores.add_session(store, stores.START_MS - 500_000)  # comes first in the batch that both are in
        store.messages.append({**message, "sessionID": earlier["id"]})
        stores.write_json(store, tmp_path)
        stores.write_record(storage / "message" / owner["id"] / f"{message['id']}.json", {**message, "finish": "tool-calls"})

        load(duckdb, tmp_path)

        found = [row for row in values(duckdb, "SELECT record, reason FROM import_issues") if row[0] == f"message:{message['id']}"]
        assert found == [(f"message:{message['id']}", f"id belongs to session {owner['id']} already; not loaded")]
        stored = values(duckdb, f"SELECT session_id, finish FROM messages WHERE message_id = '{message['id']}'")
        assert stored == [(owner["id"], "tool-calls")]
        assert (total(duckdb).calls, total(duckdb).cost_usd) == (store.total[0], store.total[6])

    def test_import_session_that_is_gone_when_it_is_read_again_is_read_when_it_is_back(
        self, engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = two_calls()
        second = stores.add_session(store, stores.START_MS + 500_000)
        stores.add_user(store, second, stores.START_MS + 500_000)
        store.messages.append({**store.messages[1], "sessionID": second["id"]})  # has the batch read again
        storage = stores.write_json(store, tmp_path)
        places = [storage / "message" / second["id"], storage / "session" / stores.PROJECT_ID / f"{second['id']}.json"]
        read_again = Reader.again

        def without_second(reader: Reader, session_ids: Sequence[str], refused: Mapping[str, Collection[RecordId]]) -> list[SessionRows]:
            for place in places:
                place.rename(tmp_path / place.name)
            return read_again(reader, session_ids, refused)

        with monkeypatch.context() as patch:
            patch.setattr(Reader, "again", without_second)
            load(engine, tmp_path)
        before = values(engine, "SELECT session_id FROM sessions")
        for place in places:
            (tmp_path / place.name).rename(place)

        load(engine, tmp_path)

        assert before == [(store.sessions[0]["id"],)]
        assert values(engine, "SELECT session_id FROM sessions ORDER BY created_at") == [(store.sessions[0]["id"],), (second["id"],)]

    @pytest.mark.parametrize("same_session", [True, False])
    def test_import_part_id_under_two_messages_counts_once(self, engine: sa.Engine, tmp_path: Path, same_session: bool) -> None:
        store = two_calls()
        first = next(part for part in store.parts if part["messageID"] == store.messages[1]["id"] and part["type"] == "text")
        if same_session:
            stores.add_part(store, store.messages[2], stores.START_MS, "text", text="again")["id"] = first["id"]
        else:
            session = stores.add_session(store, stores.START_MS + 500_000)
            message = stores.add_call(store, session, stores.START_MS + 500_000)
            stores.add_part(store, message, stores.START_MS, "text", text="again")["id"] = first["id"]
        stores.write_json(store, tmp_path)

        load(engine, tmp_path)

        reason = (
            "id comes twice in its session; the second is not loaded"
            if same_session
            else f"id belongs to session {store.sessions[0]['id']} already; not loaded"
        )
        assert issues(engine) == {f"part:{first['id']}": reason}
        assert values(engine, f"SELECT message_id FROM parts WHERE part_id = '{first['id']}'") == [(store.messages[1]["id"],)]
        assert values(engine, "SELECT count(*) FROM parts") == [(len(store.parts) - 1,)]
        assert (total(engine).calls, total(engine).cost_usd) == (store.total[0], store.total[6])

    @pytest.mark.parametrize(("steps", "left"), [(3, 2), (1, 1)], ids=["one of three", "the only one, for which its message stands"])
    def test_import_step_id_of_another_session_counts_what_is_left_and_again_changes_nothing(
        self, engine: sa.Engine, tmp_path: Path, steps: int, left: int
    ) -> None:
        store = two_calls()
        second = stores.add_session(store, stores.START_MS + 500_000)
        message = stores.add_call(store, second, stores.START_MS + 500_000, steps=steps)
        first_step, *_, last_step = [part for part in store.parts if part["type"] == "step-finish"]
        last_step["id"] = first_step["id"]
        stores.write_json(store, tmp_path)

        load(engine, tmp_path)
        again = import_sources(engine, find_sources(tmp_path, {}), now=NOW, full=True)

        assert (again.counts.new, again.counts.changed) == (0, 0)
        row = f"SELECT call_count, input_tokens, cost_basis FROM messages WHERE message_id = '{message['id']}'"
        assert values(engine, row) == [(left, left * message["tokens"]["input"], "calculated")]
        assert total(engine).calls == 2 + left

    @pytest.mark.parametrize("has_step", [False, True], ids=["without a step", "with a step whose id is taken too"])
    def test_import_id_of_a_step_to_derive_that_another_session_has_stays_there(
        self, engine: sa.Engine, tmp_path: Path, has_step: bool
    ) -> None:
        store = two_calls()
        second = stores.add_session(store, stores.START_MS + 500_000)
        message = stores.add_call(store, second, stores.START_MS + 500_000)
        text = next(part for part in store.parts if part["type"] == "text")
        text["id"] = f"{message['id']}:step"
        first_step, *_, last_step = [part for part in store.parts if part["type"] == "step-finish"]
        last_step["id"] = first_step["id"]
        if not has_step:
            store.parts.remove(last_step)
        stores.write_json(store, tmp_path)

        load(engine, tmp_path)
        again = import_sources(engine, find_sources(tmp_path, {}), now=NOW, full=True)

        refused = {f"part:{text['id']}"} | ({f"part:{first_step['id']}"} if has_step else set())
        assert issues(engine) == dict.fromkeys(refused, f"id belongs to session {store.sessions[0]['id']} already; not loaded")
        assert (again.counts.new, again.counts.changed) == (0, 0)
        assert values(engine, f"SELECT session_id FROM parts WHERE part_id = '{text['id']}'") == [(store.sessions[0]["id"],)]
        assert values(engine, f"SELECT call_count, input_tokens FROM messages WHERE message_id = '{message['id']}'") == [(0, None)]
        assert total(engine).calls == 2


class TestText:
    @pytest.mark.parametrize("kind", ["json", "sqlite"])
    def test_import_nul_and_lone_surrogates_are_replaced(self, engine: sa.Engine, tmp_path: Path, kind: str) -> None:
        store = two_calls()
        session, message = store.sessions[0], store.messages[1]
        session["title"] = "Fix \0 the \ud83d cart"
        text, tool = (
            next(part for part in store.parts if part["messageID"] == message["id"] and part["type"] == kind) for kind in ("text", "tool")
        )
        text["text"] = "a\0b\udc00c 日本 😀"
        tool["state"] |= {"input": {"filePath": "/a\0b", "\ud800": 1}, "output": "\0", "title": "\0"}
        if kind == "json":
            stores.write_json(store, tmp_path)
        else:
            session["title"] = "Fix"
            path = stores.write_sqlite(store, tmp_path)
            with contextlib.closing(sqlite3.connect(path)) as connection, connection:
                connection.execute("UPDATE session SET title = CAST(x'46697820002074686520EDA0BD2063617274' AS TEXT)")

        summary = load(engine, tmp_path)

        assert set(issues(engine).values()) == {REPLACED}
        assert (len(issues(engine)), sum(summary.skipped.values())) == (3, 0)
        (title,) = values(engine, f"SELECT title FROM sessions WHERE session_id = '{session['id']}'")[0]
        assert str(title).replace("\ufffd\ufffd\ufffd", "\ufffd") == "Fix \ufffd the \ufffd cart"
        assert values(engine, f"SELECT content FROM text_messages WHERE part_id = '{text['id']}'") == [("a\ufffdb\ufffdc 日本 😀",)]
        ((arguments, result),) = values(
            engine, f"SELECT CAST(tool_args AS TEXT), tool_result FROM tool_calls WHERE part_id = '{tool['id']}'"
        )
        assert json.loads(str(arguments)) == {"filePath": "/a\ufffdb", "\ufffd": 1}
        assert result == "\ufffd"
        assert values(engine, f"SELECT file_path FROM file_operations WHERE part_id = '{tool['id']}'") == [("/a\ufffdb",)]
        assert (total(engine).calls, total(engine).cost_usd) == (2, store.total[6])

    def test_import_hostile_text_arrives_as_it_is(self, engine: sa.Engine, tmp_path: Path) -> None:
        store = two_calls()
        hostile = "'; DROP TABLE parts; --\t\\N\r\n\"\\\x1b[31m\u202e{}%s:x \\. é"
        store.sessions[0]["title"] = hostile
        text = next(part for part in store.parts if part["type"] == "text")
        text["text"] = hostile
        tool = next(part for part in store.parts if part["type"] == "tool")
        tool["state"]["input"] = {hostile: [hostile, 1e308, 10**25, None]}
        stores.write_json(store, tmp_path)

        load(engine, tmp_path)

        assert issues(engine) == {}
        assert values(engine, "SELECT title FROM sessions") == [(hostile,)]
        assert values(engine, f"SELECT content FROM text_messages WHERE part_id = '{text['id']}'") == [(hostile,)]
        ((arguments,),) = values(engine, f"SELECT CAST(tool_args AS TEXT) FROM tool_calls WHERE part_id = '{tool['id']}'")
        assert json.loads(str(arguments)) == {hostile: [hostile, 1e308, 10**25, None]}
