"""What becomes of the rows of the 29-column table: up, down, and up again, value for value."""

from __future__ import annotations

import json
import math
import random
import shutil
import uuid
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from old_parts import (
    COLUMNS,
    COSTS,
    EARLY,
    EVERYTHING,
    LATE,
    MESSAGES,
    ODD_JSON,
    ROWS,
    SESSIONS,
    STEP,
    THINKING,
    TOOL,
    TRICKY,
    TYPES,
    load_parents,
    load_rows,
    row,
)
from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.db.migrate import MigrationError, downgrade, upgrade
from opencode_monitor.db.revision import HEAD_REVISION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

BEFORE, AFTER = "migration_audit", "denormalize_parts"
STUB_TITLE = "(recovered: parts without a session)"

CHILDREN = {
    "tool_calls": "tool_call_id",
    "file_operations": "file_op_id",
    "errors": "error_id",
    "thinking_blocks": "thinking_id",
    "text_messages": "message_id",
    "step_events": "step_id",
    "patches": "patch_id",
    "attachments": "attachment_id",
    "compactions": "compaction_id",
}


class Database:
    """A database under test: what it holds, and where it stands."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = create_database_engine(url, wait_seconds=5)

    @contextmanager
    def kept_open(self) -> Iterator[Database]:
        """Keep a connection: DuckDB takes 20 ms to open a file, and a test does it for each of its statements."""
        with self.engine.connect():
            yield self
        self.engine.dispose()

    def upgrade(self, revision: str = AFTER) -> None:
        upgrade(self.url, revision)

    def downgrade(self, revision: str = BEFORE) -> None:
        downgrade(self.url, revision)

    def run(self, sql: str, **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.text(sql), values)

    def read(self, sql: str, **values: Any) -> Sequence[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            return [tuple(found) for found in connection.execute(sa.text(sql), values)]

    def load(self, rows: Iterable[dict[str, Any]], columns: Sequence[str] = COLUMNS) -> None:
        with self.engine.begin() as connection:
            load_rows(connection, rows, columns)

    def load_parents(self) -> None:
        with self.engine.begin() as connection:
            load_parents(connection)

    def tables(self) -> set[str]:
        with self.engine.connect() as connection:
            return set(sa.inspect(connection).get_table_names())

    def columns(self, table: str) -> Sequence[tuple[Any, ...]]:
        return self.read(
            "SELECT column_name, data_type, is_nullable, column_default, numeric_precision, numeric_scale FROM information_schema.columns"
            " WHERE table_name = :table ORDER BY ordinal_position",
            table=table,
        )

    def primary_key(self, table: str) -> list[str]:
        with self.engine.connect() as connection:
            return sa.inspect(connection).get_pk_constraint(table)["constrained_columns"]

    def content(self, *tables: str) -> dict[str, Sequence[tuple[Any, ...]]]:
        """Read whole tables as text: a text tells NaN, -0 and the last digit of a double apart, and keeps JSON as written."""
        contents: dict[str, Sequence[tuple[Any, ...]]] = {}
        with self.engine.connect() as connection:
            for table in tables:
                names = connection.execute(sa.text(f"SELECT * FROM {table} LIMIT 0")).keys()
                texts = ", ".join(f"CAST({name} AS TEXT)" for name in names)
                contents[table] = sorted((tuple(found) for found in connection.execute(sa.text(f"SELECT {texts} FROM {table}"))), key=repr)
        return contents

    def differences(self, left: str, right: str, columns: Sequence[str] = COLUMNS) -> Sequence[tuple[Any, ...]]:
        """Let the engine compare two tables: what the first holds and the second does not."""
        texts = ", ".join(f"CAST({name} AS TEXT)" if name in {"tool_args", "error_data"} else name for name in columns)
        return self.read(f"SELECT part_id FROM (SELECT {texts} FROM {left} EXCEPT ALL SELECT {texts} FROM {right}) d")


@pytest.fixture
def database(empty_database_url: str, make_once: Callable[[str, Callable[[Path], None]], Path]) -> Iterator[Database]:
    """Make a database that stands before the revision, with the sessions and messages that parts refer to; the file is made once."""

    def write(file: Path) -> None:
        with Database(f"duckdb:///{file}").kept_open() as made:
            made.upgrade(BEFORE)
            made.load_parents()

    if empty_database_url.startswith("duckdb"):
        shutil.copy(make_once(BEFORE, write), empty_database_url.removeprefix("duckdb:///"))
    with Database(empty_database_url).kept_open() as database:
        if not empty_database_url.startswith("duckdb"):
            database.upgrade(BEFORE)
            database.load_parents()
        yield database


@pytest.fixture(scope="module", params=["duckdb", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def new_database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Database]:
    """Make databases for the whole module, as `database` does for one test."""

    def make() -> Database:
        if request.param == "duckdb":
            url = f"duckdb:///{tmp_path_factory.mktemp('lasting') / 'monitor.duckdb'}"
        else:
            server: str = request.getfixturevalue("postgres_server")
            name = f"lasting_{uuid.uuid4().hex}"
            with psycopg.connect(server, autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {name}".encode())
            url = server.replace("/postgres?", f"/{name}?")
        database = Database(url)
        database.upgrade(BEFORE)
        database.load_parents()
        return database

    return make


@pytest.fixture(scope="module")
def migrated(new_database: Callable[[], Database]) -> Iterator[Database]:
    """Make a database with all of ROWS, after the upgrade; for reading."""
    with new_database().kept_open() as database:
        database.load(ROWS)
        database.upgrade()
        yield database


def ids(rows: Iterable[dict[str, Any]]) -> list[str]:
    return sorted(values["part_id"] for values in rows)


# --- Where the rows are after the upgrade ---------------------------------------------------------------------------------------------


def test_upgrade_parts_legacy_keeps_the_old_rows(migrated: Database) -> None:
    kept = migrated.read("SELECT part_id, content, CAST(tool_args AS TEXT), cost_usd, part_cost_usd FROM parts_legacy")

    expected = {values["part_id"]: values for values in ROWS}
    assert len(kept) == len(ROWS)
    for part_id, content, tool_args, cost, part_cost in kept:
        values = expected[part_id]
        assert (content, tool_args, part_cost) == (values["content"], values["tool_args"], values["part_cost_usd"])
        assert repr(cost) == repr(values["cost_usd"])
    assert [name for name, *_ in migrated.columns("parts_legacy")] == list(COLUMNS)
    assert migrated.primary_key("parts_legacy") == ["part_id"]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("parts", ROWS),
        ("tool_calls", [values for values in ROWS if values["part_type"] == "tool_call" and values["tool_name"] is not None]),
        ("file_operations", ["tool file", "tool strings", "empty", "file op", "all tool_call", "all file_operation"]),
        (
            "errors",
            ["tool error", "tool timeout", "tool null", "error", "error nothing", "all tool_call", "all error"],
        ),
        ("thinking_blocks", [values for values in ROWS if values["part_type"] == "thinking"]),
        ("text_messages", [values for values in ROWS if values["part_type"] == "text" and values["content"] is not None]),
        ("step_events", [values for values in ROWS if values["part_type"] in {"step", "step_start", "step_finish"}]),
        ("patches", ["patch", "all patch"]),
        ("attachments", ["file", "attachment", "all file", "all attachment"]),
        ("compactions", ["compaction", "all compaction"]),
    ],
)
def test_upgrade_each_table_has_the_parts_of_its_type(migrated: Database, table: str, expected: list[Any]) -> None:
    found = migrated.read(f"SELECT part_id FROM {table}")

    assert sorted(part_id for (part_id,) in found) == (ids(expected) if isinstance(expected[0], dict) else sorted(expected))


@pytest.mark.parametrize(("table", "key"), CHILDREN.items())
def test_upgrade_each_row_has_its_parts_id_session_and_time(migrated: Database, table: str, key: str) -> None:
    strays = migrated.read(
        f"SELECT c.part_id FROM {table} c LEFT JOIN parts p ON p.part_id = c.part_id WHERE p.part_id IS NULL OR c.{key} <> c.part_id"
        " OR c.session_id <> p.session_id OR c.created_at IS DISTINCT FROM p.created_at"
    )

    assert strays == []


@pytest.mark.parametrize(
    ("columns", "table", "expected"),
    [
        (
            "session_id, message_id, part_type, created_at, ended_at, content, written_chars, part_cost_usd, CAST(extra AS TEXT)",
            "parts",
            {
                "tool": ("ses_a", "msg_bot", "tool_call", EARLY, LATE, None, len(ODD_JSON), Decimal("1e-12"), None),
                "thinking": ("ses_a", None, "thinking", EARLY, LATE, "hmm 🎉", 5, None, None),
                "text user": ("ses_a", "msg_user", "text", LATE, None, None, None, None, None),
                "text bot": ("ses_a", "msg_bot", "text", EARLY, None, None, 2, None, None),
                "text null": ("ses_a", None, "text", None, None, None, None, None, None),
                "file": ("ses_a", None, "file", None, None, "see", None, None, None),
            },
        ),
        (
            "tool_name, CAST(tool_args AS TEXT), tool_result, execution_time_ms, status, call_id, child_session_id",
            "tool_calls",
            {
                "tool": ("bash", ODD_JSON, "done", 12.5, "success", "call_1", "ses_child"),
                "tool null": ("x", "null", None, None, None, None, None),
                "tool strings": (TRICKY, '"text"', TRICKY, None, None, None, None),
                "empty": ("", None, "", None, None, None, None),
            },
        ),
        (
            "file_path, operation, git_branch, git_commit, git_diff, file_size",
            "file_operations",
            {
                "tool file": ("/a/ü.py", "edit", "main", "abc", "-1\n+2", None),
                "file op": ("/a/ü.py", "edit", "main", "abc", "-1\n+2", None),
                "tool strings": (TRICKY, TRICKY, None, None, None, None),
            },
        ),
        (
            "CAST(error_data AS TEXT), error_message, error_category, error_severity, is_retryable",
            "errors",
            {
                "error": ('{"code":  1}', "too slow", "timeout", None, False),
                "tool error": ('{"code":  1}', "too slow", "timeout", None, False),
                "tool timeout": ("{}", None, None, None, False),
                "tool null": ("null", None, None, None, False),
            },
        ),
        ("thinking_tokens, thinking_time_ms", "thinking_blocks", {"thinking": (-5, None), "thinking nothing": (None, None)}),
        (
            "role, content, token_count",
            "text_messages",
            {
                "text user": ("user", TRICKY, None),
                "text bot": ("assistant", "é🎉", None),
                "text lost message": ("unknown", "?", None),
                "text big": ("unknown", "é\n" * 500_000, None),
                "text empty": ("unknown", "", None),
            },
        ),
        (
            "message_id, event, input_tokens, output_tokens, reasoning_tokens, cache_read_tokens, cache_write_tokens, step_cost_usd",
            "step_events",
            {
                "step finish": ("msg_bot", "finish", 10, -1, 0, 2**62, 4, None),
                "step": (None, "finish", 10, -1, 0, 2**62, 4, None),
                "step start": (None, "start", 0, None, None, None, None, None),
            },
        ),
        ("git_commit, CAST(files AS TEXT)", "patches", {"patch": ("abc", None)}),
        ("mime, file_name, size", "attachments", {"file": (None, "a.png", None), "attachment": (None, "b.png", None)}),
        ("auto, overflow", "compactions", {"compaction": (None, None)}),
    ],
)
def test_upgrade_values_are_in_their_columns(migrated: Database, columns: str, table: str, expected: dict[str, tuple[Any, ...]]) -> None:
    found = {part_id: tuple(values) for part_id, *values in migrated.read(f"SELECT part_id, {columns} FROM {table}")}

    assert {part_id: found[part_id] for part_id in expected} == expected


@pytest.mark.parametrize(
    ("part_id", "legacy"),
    [
        ("tool", None),
        ("step finish", None),
        ("tool nothing", None),
        ("tool unnamed", {name: str(value) for name, value in TOOL.items() if name != "tool_name"}),
        ("tool path", {"file_path": "/a"}),
        ("tool timeout", {"was_null": "error_data"}),
        ("file op only path", {"file_path": "/b", "git_diff": TRICKY}),
        ("unknown", {"tool_result": TRICKY}),
        ("no type", {"was_null": "part_type"}),
        ("nothing", {"was_null": "session_id part_type"}),
        ("cost 0.1", None),
        ("cost 1e-17", {"cost_usd": "1e-17"}),
        ("foreign cost 0.1", {"cost_usd": "0.1"}),
        ("all wormhole", {name: str(value) for name, value in EVERYTHING.items()}),
        ("all step", {name: str(value) for name, value in EVERYTHING.items() if name not in STEP}),
        ("all text", {name: str(value) for name, value in EVERYTHING.items()}),
        ("all tool_call", {name: str(value) for name, value in (THINKING | STEP).items()}),
        ("all file", {name: str(value) for name, value in EVERYTHING.items() if name != "file_path"}),
        ("all patch", {name: str(value) for name, value in EVERYTHING.items() if name != "git_commit"}),
    ],
)
def test_upgrade_extra_holds_what_no_column_does(migrated: Database, part_id: str, legacy: dict[str, str] | None) -> None:
    ((extra,),) = migrated.read("SELECT CAST(extra AS TEXT) FROM parts WHERE part_id = :part_id", part_id=part_id)

    assert (None if extra is None else json.loads(extra)) == (None if legacy is None else {"legacy": legacy})


@pytest.mark.parametrize(("name", "money"), [(name, money) for name, (_, money) in COSTS.items()])
def test_upgrade_reported_cost_is_the_double_rounded_to_picodollars(migrated: Database, name: str, money: str | None) -> None:
    ((cost,),) = migrated.read("SELECT reported_cost_usd FROM step_events WHERE part_id = :part_id", part_id=f"cost {name}")

    assert cost == (None if money is None else Decimal(money))


def test_upgrade_sequence_number_follows_time_and_then_id(migrated: Database) -> None:
    found = migrated.read("SELECT session_id, sequence_number, part_id FROM parts ORDER BY session_id, sequence_number")

    def session_of(values: dict[str, Any]) -> str:
        return "ses_missing" if values["session_id"] is None else str(values["session_id"])

    sessions = sorted({session_of(values) for values in ROWS})
    expected = []
    for session_id in sessions:
        own = [values for values in ROWS if session_of(values) == session_id]
        own.sort(key=lambda values: (values["created_at"] is None, values["created_at"] or EARLY, values["part_id"]))
        expected += [(session_id, number, values["part_id"]) for number, values in enumerate(own, start=1)]
    assert sorted(found) == sorted(expected)
    assert [part_id for session_id, _, part_id in found if session_id == "ses_order"] == ["B", "_", "b", "a"]


def test_upgrade_lost_sessions_get_a_stub_and_others_stay(migrated: Database) -> None:
    found = dict(migrated.read("SELECT session_id, title FROM sessions"))

    assert found == dict.fromkeys(SESSIONS, "kept") | dict.fromkeys(("", "ses_lost", "ses_missing"), STUB_TITLE)


# --- Down again -----------------------------------------------------------------------------------------------------------------------


def test_downgrade_restores_the_old_table_value_for_value(database: Database) -> None:
    database.load(ROWS)
    database.run("CREATE TABLE kept AS SELECT * FROM parts")
    content, columns = database.content("parts", "sessions"), database.columns("parts")
    tables = database.tables()

    database.upgrade()
    database.downgrade()

    assert database.differences("parts", "kept") == []
    assert database.differences("kept", "parts") == []
    assert database.content("parts", "sessions") == content
    assert database.columns("parts") == columns
    assert database.primary_key("parts") == ["part_id"]
    assert database.tables() == tables
    with pytest.raises(sa.exc.IntegrityError):
        database.run("INSERT INTO parts (part_id) VALUES ('tool')")


def test_upgrade_after_a_downgrade_equals_the_first(database: Database) -> None:
    database.load(ROWS)
    tables = ("parts", "parts_legacy", "sessions", *CHILDREN)

    database.upgrade()
    first = database.content(*tables)
    database.downgrade()
    database.upgrade()

    assert database.content(*tables) == first


def test_downgrade_baseline_rows_survive_the_whole_history(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    database.upgrade("baseline")
    database.load_parents()
    columns = COLUMNS[:29]
    database.load(ROWS, columns)
    database.run("CREATE TABLE kept AS SELECT * FROM parts")
    shape = database.columns("parts")

    database.upgrade("head")
    database.downgrade("baseline")

    assert database.differences("parts", "kept", columns) == []
    assert database.differences("kept", "parts", columns) == []
    assert database.columns("parts") == shape
    assert database.primary_key("parts") == ["part_id"]
    database.engine.dispose()


def test_downgrade_and_upgrade_of_a_full_database_go_through(database: Database) -> None:
    database.load(ROWS)
    database.run("INSERT INTO session_stats (session_id, part_count, total_cost_usd) VALUES ('ses_a', 3, 1.5)")
    database.run("INSERT INTO session_resource_metrics (session_id, total_cost_usd) VALUES ('ses_a', 1.5)")
    database.run("UPDATE messages SET message_cost_usd = 0.75")
    kept = database.content("sessions", "messages", "session_stats", "session_resource_metrics", "parts")

    database.upgrade(HEAD_REVISION)
    tables = database.tables()
    database.run("UPDATE messages SET copied_from = 'msg', reported_cost_usd = 1, call_count = 1")
    database.run("INSERT INTO source_sessions VALUES ('src', 'ses_a', 'signature', 1, current_timestamp, 30, current_timestamp, NULL)")
    database.run("INSERT INTO gone_messages VALUES ('msg_a', 'ses_a', current_timestamp)")
    database.run("INSERT INTO model_aliases (model_id, price_vendor, price_model, source) VALUES ('a/b', 'a', 'b', 'user')")
    database.downgrade()
    back = database.content(*kept)
    database.downgrade("base")
    at_base = database.tables()
    database.upgrade(HEAD_REVISION)

    assert back == kept
    assert at_base == {"alembic_version"}
    assert database.tables() == tables
    assert not any(database.content(*tables - {"alembic_version", "migration_audit"}).values())


# Table, columns, and (part, values) of rows as a program writes them after the upgrade.
NEW_ROWS = (
    (
        "tool_calls",
        "tool_call_id, tool_name, tool_args, tool_result, execution_time_ms, status, call_id, child_session_id",
        ("tool_call", "'id', 'edit', CAST('[1,  2]' AS JSON), 'r', 1.25, 'error', 'call', 'ses_b'"),
    ),
    (
        "file_operations",
        "file_op_id, file_path, operation, git_diff, file_size",
        ("tool_call", "'f2', '/second', 'write', NULL, 7"),
        ("tool_call", "'f1', '/first', 'edit', '+', 7"),
        ("tool_call", "'f3', '/third', 'delete', NULL, NULL"),
    ),
    (
        "errors",
        "error_id, error_data, error_message, error_category, error_severity, is_retryable",
        ("tool_call", "'e1', CAST('{}' AS JSON), 'm', 'permission', 'low', TRUE"),
        ("error", "'e2', CAST('{\"name\": 1}' AS JSON), NULL, 'api', 'high', FALSE"),
    ),
    ("thinking_blocks", "thinking_id, thinking_tokens, thinking_time_ms", ("thinking", "'th', 9, 2.5")),
    ("text_messages", "message_id, role, content, token_count", ("text", "'tx', 'assistant', 'said', 2")),
    ("step_events", "step_id, message_id, event", ("step_start", "'s1', 'msg_bot', 'start'")),
    (
        "step_events",
        "step_id, event, reason, input_tokens, output_tokens, reasoning_tokens, cache_read_tokens, cache_write_tokens, reported_cost_usd",
        ("step_finish", "'s2', 'finish', 'stop', 1, 2, 3, 4, 5, 0.123456789012"),
    ),
    ("patches", "patch_id, git_commit, files", ("patch", "'p', 'fff', CAST('[]' AS JSON)")),
    ("attachments", "attachment_id, mime, file_name, size", ("attachment", "'a', 'image/png', 'i.png', 3")),
    ("compactions", "compaction_id, auto, overflow", ("compaction", "'c', TRUE, FALSE")),
)


def test_downgrade_rows_written_since_are_in_the_old_table(database: Database) -> None:
    database.load([row("old", "text", content="x", cost_usd=0.25)])
    database.upgrade()
    for number, part_type in enumerate(
        ["tool_call", "thinking", "text", "step_start", "step_finish", "error", "patch", "attachment", "compaction", "subtask"], start=2
    ):
        database.run(
            "INSERT INTO parts (part_id, session_id, message_id, part_type, sequence_number, created_at, content, part_cost_usd, extra)"
            " VALUES (:id, 'ses_a', 'msg_bot', :type, :number, :at, :content, 0.5, CAST('{\"title\": \"t\"}' AS JSON))",
            id=f"new {part_type}",
            type=part_type,
            number=number,
            at=EARLY,
            content="c" if part_type in {"thinking", "subtask"} else None,
        )
    for table, columns, *rows in NEW_ROWS:
        for part, values in rows:
            database.run(
                f"INSERT INTO {table} (part_id, session_id, created_at, {columns}) VALUES (:part_id, 'ses_a', :at, {values})",
                part_id=f"new {part}",
                at=EARLY,
            )

    database.downgrade()

    def new(part_type: str, **values: Any) -> dict[str, Any]:
        common = {"message_id": "msg_bot", "created_at": EARLY, "part_cost_usd": Decimal("0.5")}
        return row(f"new {part_type}", part_type, **common, **values)

    expected = [
        new("attachment", file_path="i.png"),
        new("compaction"),
        new("error", error_data='{"name": 1}', error_category="api"),
        new("patch", git_commit="fff"),
        new("step_finish", cost_usd=0.123456789012)
        | {"tokens_input": 1, "tokens_output": 2, "tokens_reasoning": 3, "tokens_cache_read": 4, "tokens_cache_write": 5},
        new("step_start"),
        new("subtask", content="c"),
        new("text", content="said"),
        new("thinking", content="c", thinking_tokens=9),
        new("tool_call", tool_name="edit", tool_args="[1,  2]", tool_result="r", execution_time_ms=1.25, call_id="call")
        | {"tool_status": "error", "child_session_id": "ses_b", "file_path": "/first", "file_operation": "edit", "git_diff": "+"}
        | {"error_data": "{}", "error_message": "m", "error_category": "permission"},
        row("old", "text", content="x", cost_usd=0.25),
    ]
    columns = ", ".join(f"CAST({name} AS TEXT)" if name in {"tool_args", "error_data"} else name for name in COLUMNS)
    found = database.read(f"SELECT {columns} FROM parts")
    assert sorted(found) == [tuple(values[name] for name in COLUMNS) for values in expected]


def test_downgrade_several_rows_of_one_part_keep_the_first_of_each_table(database: Database) -> None:
    database.load([values for values in ROWS if values["part_id"].startswith("all ")])
    content = database.content("parts")
    database.upgrade()
    for table, key in CHILDREN.items():
        columns = ", ".join(name for name, *_ in database.columns(table) if name != key)
        database.run(f"INSERT INTO {table} ({key}, {columns}) SELECT {key} || '1', {columns} FROM {table}")

    database.downgrade()

    assert database.content("parts") == content


def test_downgrade_values_written_over_since_are_kept(database: Database) -> None:
    database.load(
        [
            row("error", "error"),
            row("cost", "step_finish", cost_usd=1e-17),
            row("infinite", "step_finish", cost_usd=math.inf),
            row("unpriced", "step_finish", cost_usd=1.5),
        ]
    )
    database.upgrade()
    database.run("UPDATE errors SET error_data = CAST('{\"a\":  1}' AS JSON)")
    database.run("UPDATE step_events SET reported_cost_usd = 0.5 WHERE part_id <> 'unpriced'")
    database.run("UPDATE step_events SET reported_cost_usd = NULL WHERE part_id = 'unpriced'")

    database.downgrade()

    assert database.read("SELECT part_id, CAST(error_data AS TEXT), cost_usd FROM parts ORDER BY part_id") == [
        ("cost", None, 0.5),
        ("error", '{"a":  1}', None),
        ("infinite", None, 0.5),
        ("unpriced", None, None),
    ]


def test_downgrade_stub_session_with_aggregates_stays(database: Database) -> None:
    database.load([row("a", "text", session_id="ses_used"), row("b", "text", session_id="ses_unused")])
    database.upgrade()
    database.run("INSERT INTO session_resource_metrics (session_id) VALUES ('ses_used')")

    database.downgrade()

    assert database.read("SELECT session_id FROM sessions WHERE title = :title", title=STUB_TITLE) == [("ses_used",)]


def test_downgrade_retired_legacy_table_is_not_needed(database: Database) -> None:
    database.load(ROWS)
    content = database.content("parts")
    database.upgrade()
    database.run("DROP TABLE parts_legacy")

    database.downgrade()

    assert database.content("parts") == content


def break_revision(repository_copy: Path, url: str, whole: str, broken: str) -> Config:
    """Change a piece of the revision in a copy of the scripts; return the configuration that runs the copy."""
    (revision,) = (repository_copy / "alembic/versions").glob("*_denormalize_parts.py")
    text = revision.read_text()
    assert whole in text
    revision.write_text(text.replace(whole, broken))
    config = Config(repository_copy / "alembic.ini")
    config.attributes["database_url"] = url
    return config


def test_upgrade_count_mismatch_raises_and_changes_nothing(database: Database, repository_copy: Path) -> None:
    database.load(ROWS)
    content, tables = database.content("parts", "sessions"), database.tables()
    config = break_revision(repository_copy, database.url, '"l.part_id, l.git_commit", IN_PATCHES)', '"l.part_id, l.git_commit", "FALSE")')

    with pytest.raises(MigrationError, match="patches holds 0 rows where parts_legacy has 2; nothing was changed"):
        command.upgrade(config, "head")

    assert database.read("SELECT version_num FROM alembic_version") == [(BEFORE,)]
    assert database.tables() == tables
    assert database.content("parts", "sessions") == content
    database.upgrade()
    assert database.read("SELECT count(*) FROM patches") == [(2,)]


def test_upgrade_changed_value_raises_and_changes_nothing(database: Database, repository_copy: Path) -> None:
    database.load(ROWS)
    content = database.content("parts", "sessions")
    config = break_revision(
        repository_copy, database.url, '"l.part_id, l.thinking_tokens", IN_THINKING', '"l.part_id, l.thinking_tokens + 1", IN_THINKING'
    )

    with pytest.raises(MigrationError, match="would change thinking_tokens of the moved rows; nothing was changed"):
        command.upgrade(config, "head")

    assert database.read("SELECT version_num FROM alembic_version") == [(BEFORE,)]
    assert database.content("parts", "sessions") == content


def load_without_key(database: Database, rows: list[dict[str, Any]]) -> None:
    """Load the old table as a tool might that made it without its primary key."""
    database.load(rows)
    database.run("CREATE TABLE keyless AS SELECT * FROM parts")
    database.run("DROP TABLE parts")
    database.run("ALTER TABLE keyless RENAME TO parts")


def test_upgrade_rows_without_an_id_of_their_own_are_refused_untouched(database: Database) -> None:
    load_without_key(database, [row("one", "text", content="x"), row("two", "text")])
    database.run("INSERT INTO parts (part_id, content) VALUES ('one', 'y'), ('one', 'z'), (NULL, 'n')")
    content, tables = database.content("sessions"), database.tables()

    with pytest.raises(MigrationError) as refused:
        database.upgrade()

    message = str(refused.value)
    assert message.startswith("4 rows of parts share their part_id with another row or have none")
    query = message.partition("List them with: ")[2]
    assert sorted(database.read(query), key=str) == [("one", 3), (None, 1)]
    assert database.read("SELECT version_num FROM alembic_version") == [(BEFORE,)]
    assert (database.content("sessions"), database.tables()) == (content, tables)


def test_upgrade_table_without_its_key_moves_and_comes_back(database: Database) -> None:
    load_without_key(database, ROWS)
    content = database.content("parts", "sessions")

    database.upgrade()
    upgraded = database.read("SELECT count(*) FROM parts")
    database.downgrade()

    assert upgraded == [(len(ROWS),)]
    assert database.content("parts", "sessions") == content


def test_upgrade_table_with_indexes_and_a_foreign_key_moves_and_comes_back(database: Database) -> None:
    database.load([values for values in ROWS if values["session_id"] == "ses_a"])
    database.run("CREATE TABLE owned AS SELECT * FROM parts")
    database.run("DROP TABLE parts")
    columns = database.read(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'owned' ORDER BY ordinal_position"
    )
    typed = ", ".join(f"{name} {data_type}" for name, data_type in columns)
    database.run(f"CREATE TABLE parts ({typed}, PRIMARY KEY (part_id), FOREIGN KEY (session_id) REFERENCES sessions (session_id))")
    database.run("INSERT INTO parts SELECT * FROM owned")
    database.run("DROP TABLE owned")
    database.run("CREATE INDEX by_session ON parts (session_id)")
    database.run("CREATE INDEX by_type ON parts (part_type)")
    content = database.content("parts", "sessions")

    database.upgrade()
    legacy = database.read("SELECT count(*) FROM parts_legacy")
    database.downgrade()

    assert legacy == [(len(content["parts"]),)]
    assert database.content("parts", "sessions") == content


def test_upgrade_and_downgrade_keep_their_proof(database: Database) -> None:
    database.load(ROWS)

    database.upgrade()
    database.downgrade()

    proofs = database.read(
        "SELECT direction, phase, row_count, CAST(fingerprint AS TEXT) FROM migration_audit"
        " WHERE table_name = 'parts' AND phase IN ('before', 'after') ORDER BY created_at"
    )
    assert [proof[:3] for proof in proofs] == [
        ("upgrade", "before", len(ROWS)),
        ("upgrade", "after", len(ROWS)),
        ("downgrade", "before", len(ROWS)),
        ("downgrade", "after", len(ROWS)),
    ]
    assert len({proof[3] for proof in proofs}) == 1


# --- Anything -------------------------------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
JSON_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
JSON_TEXT = st.builds(
    lambda value, ascii_only, separators, indent: json.dumps(value, ensure_ascii=ascii_only, separators=separators, indent=indent),
    JSON_VALUE,
    st.booleans(),
    st.sampled_from([(",", ":"), (", ", ": "), (" ,", "  :\t")]),
    st.sampled_from([None, 1]),
)
VALUE_OF = {
    "session_id": st.sampled_from(["ses_a", "ses_b", "ses_lost", "ses_missing", ""]),
    "part_type": st.sampled_from([part_type for part_type in TYPES if part_type is not None]) | TEXT,
    "tool_args": JSON_TEXT,
    "error_data": JSON_TEXT,
    "tool_status": st.sampled_from(["success", "error", "timeout"]) | TEXT,
    "message_id": st.sampled_from([message_id for message_id, _ in MESSAGES]) | TEXT,
    "execution_time_ms": st.floats(),
    "cost_usd": st.floats() | st.floats(0, 10),
    "thinking_tokens": st.integers(-(2**31), 2**31 - 1),
    "part_cost_usd": st.decimals(-(10**20), 10**20, places=12, allow_nan=False),
    **dict.fromkeys(["created_at", "ended_at"], st.datetimes()),
    **dict.fromkeys([name for name in COLUMNS if name.startswith("tokens_")], st.integers(-(2**63), 2**63 - 1)),
}


@st.composite
def old_rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Generate values for each column, NULL among them, and deal them out to many rows of every type."""
    pools = {name: [None, *draw(st.lists(VALUE_OF.get(name, TEXT), min_size=2, max_size=6))] for name in COLUMNS[1:]}
    deal = random.Random(draw(st.integers(0, 2**32)))  # noqa: S311 - no secret
    rows = []
    for number in range(100):
        part_type = TYPES[number % len(TYPES)] if number % 3 else deal.choice(pools["part_type"])
        rows.append({name: deal.choice(pool) for name, pool in pools.items()} | {"part_id": f"{number}", "part_type": part_type})
    return rows


@pytest.fixture(scope="module")
def lasting(new_database: Callable[[], Database]) -> Iterator[Database]:
    """Make a database that stands before the revision, for one example after the other."""
    with new_database().kept_open() as database:
        yield database


@pytest.mark.sized
@settings(
    max_examples={"full": 5}.get(settings.get_current_profile_name(), 2),
    deadline=None,
    database=None,
    # An example is two migrations: shrinking one would take minutes and say no more than the rows that differ.
    phases=[Phase.generate],
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(rows=old_rows())
def test_downgrade_anything_survives_value_for_value(lasting: Database, rows: list[dict[str, Any]]) -> None:
    lasting.run("DELETE FROM parts")
    lasting.load(rows)
    content = lasting.content("parts", "sessions")

    lasting.upgrade()
    upgraded = lasting.read("SELECT count(*) FROM parts")
    lasting.downgrade()

    assert lasting.content("parts", "sessions") == content
    assert upgraded == [(len(rows),)]
