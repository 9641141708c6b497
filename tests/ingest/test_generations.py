"""Every form that OpenCode has stored its data in ends in the same rows, and each session counts once."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session as DatabaseSession

import generations
import stores
from opencode_monitor.db.bulk import BulkCounts
from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.ingest.pipeline import ImportSummary, import_sources
from opencode_monitor.integrity.checks import run_checks
from opencode_monitor.models import Base
from opencode_monitor.repositories import CostRepository, Filters, OrphanRepository, OrphanSpend, TimeRange
from opencode_monitor.sources.discover import find_all_sources
from shipped_schemas import FRESH, write_shipped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from opencode_monitor.repositories import Usage

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=1)


@pytest.fixture
def duckdb(migrated_duckdb_url: str) -> Iterator[sa.Engine]:
    """Open an empty database at head, where one engine is enough."""
    engine = create_database_engine(migrated_duckdb_url)
    with engine.connect():  # as in `engine`
        yield engine
    engine.dispose()


def load(engine: sa.Engine, *paths: Path, now: datetime = NOW, full: bool = False) -> ImportSummary:
    return import_sources(engine, find_all_sources(paths, {}), now=now, full=full)


def read(engine: sa.Engine, query: str) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query)).all()]


def total(engine: sa.Engine) -> Usage:
    with DatabaseSession(engine) as session:
        return CostRepository(session).total()


def findings(engine: sa.Engine) -> list[str]:
    with engine.connect() as connection:
        return [f"{finding.check}: {finding.subject} {finding.detail}" for result in run_checks(connection) for finding in result.findings]


def execute(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def database_of(real: Path, tmp_path: Path, name: str) -> Path:
    path = tmp_path / name / "opencode.db"
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript((real / "v2-2.0.26" / f"{name}.sql").read_text())
    return path


def ledger(store: Path, *, title: bool) -> tuple[int, ...]:
    """Sum a ledger's answered lines: calls, input, cache read, cache write, output."""
    lines = [json.loads(line) for line in (store / "ledger.jsonl").read_text().splitlines()]
    counted = [line for line in lines if line["status"] == 200 and line["title"] is title]
    return (len(counted), *(sum(line[name] for line in counted) for name in ("input", "cache_read", "cache_write", "output")))


class TestRealStores:
    def test_import_tree_with_steps_equals_the_ledger(self, engine: sa.Engine, real: Path) -> None:
        load(engine, real / "g2-0.5.29")

        found = total(engine)
        counts = (found.calls, found.input_tokens, found.cache_read_tokens, found.cache_write_tokens, found.output_tokens)
        assert counts == ledger(real / "g2-0.5.29", title=False)
        assert (found.cost_usd, found.reported_cost_usd) == (Decimal("0.2008545"), Decimal("0.2008545"))
        assert read(engine, "SELECT project_id, worktree FROM projects") == [("home-dev-shop", "/home/dev/shop")]
        assert read(engine, "SELECT DISTINCT project_id, directory FROM sessions") == [("home-dev-shop", "/home/dev/shop")]
        assert findings(engine) == []

    def test_import_tree_without_steps_tells_what_is_missing(self, engine: sa.Engine, real: Path) -> None:
        summary = load(engine, real / "g0-0.1.174")

        found = total(engine)
        missing = [int(row[0].partition(" ")[0]) for row in read(engine, "SELECT reason FROM import_issues")]
        assert (found.calls, found.input_tokens, found.cache_read_tokens, found.cache_write_tokens, found.output_tokens) == (
            4,
            16,
            32_569,
            10_776,
            247,
        )
        assert found.calls + sum(missing) == ledger(real / "g0-0.1.174", title=False)[0]
        assert (summary.issues, summary.skipped) == (3, {})
        tools = read(engine, "SELECT tool_name, status, count(*) FROM tool_calls GROUP BY 1, 2 ORDER BY 1, 2")
        assert tools == [
            ("bash", "success", 2),
            ("edit", "error", 1),
            ("grep", "success", 1),
            *[("read", "error", 1)],
            *[("read", "success", 2), ("write", "error", 1)],
        ]
        assert findings(engine) == []

    def test_import_fresh_v2_database_has_the_titles_too(self, engine: sa.Engine, real: Path, tmp_path: Path) -> None:
        load(engine, database_of(real, tmp_path, "opencode-2.0.26"))

        assert total(engine).reported_cost_usd == Decimal("0.04278")
        by_agent = read(engine, "SELECT agent, count(*), sum(reported_cost_usd) FROM messages WHERE call_count > 0 GROUP BY 1 ORDER BY 1")
        assert by_agent == [
            ("build", 7, Decimal("0.02499")),
            ("general", 1, Decimal("0.00357")),
            ("hidden", 4, Decimal("0.01188")),
            ("plan", 2, Decimal("0.00234")),
        ]
        assert read(engine, "SELECT child_session_id FROM tool_calls WHERE tool_name = 'subagent'") == [("ses_ee23fe0f4ffeylWZL6V350JpvY",)]
        assert findings(engine) == []

    def test_import_upgraded_v2_database_counts_each_row_once(self, engine: sa.Engine, real: Path, tmp_path: Path) -> None:
        summary = load(engine, database_of(real, tmp_path, "opencode-1.15.10-then-2.0.26"))
        again = load(engine, tmp_path / "opencode-1.15.10-then-2.0.26", now=LATER)

        found = total(engine)
        assert (found.reported_cost_usd, found.calls, found.unpriced_calls) == (Decimal("0.02856"), 8, 8)
        assert again.counts == BulkCounts(unchanged=summary.counts.new)
        assert findings(engine) == []


def write_upgraded(store: stores.Store, directory: Path) -> Path:
    """Write what 2.x leaves of a database of 1.x: both forms of the session in one file."""
    stores.write_sqlite(store, directory)
    return generations.write_sqlite_v2(store, directory)


WRITERS: dict[str, Callable[[stores.Store, Path], Path]] = {
    "metadata": generations.write_metadata_style,
    "inline": generations.write_inline_style,
    "parts": generations.write_parts_style,
    "json": stores.write_json,
    "sqlite-v1": stores.write_sqlite,
    "sqlite-v2": generations.write_sqlite_v2,
    "export-v1": lambda store, directory: generations.write_export_v1(store, directory / "export.json"),
    "export-v2": lambda store, directory: generations.write_export_v2(store, directory / "export.json"),
}
DUCKDB_WRITERS: dict[str, Callable[[stores.Store, Path], Path]] = {
    "sqlite-v1-then-v2": write_upgraded,
    "sqlite-v1-fresh": partial(write_shipped, until=FRESH),
}
"""Forms that differ in what is to be left alone only: one engine is enough for them."""
# What every generation tells of a session, whatever ids its parts have.
VIEWS = {
    "sessions": "SELECT session_id, title, directory, opencode_version, model_id, created_at, updated_at FROM sessions",
    "messages": "SELECT message_id, role, CASE WHEN role = 'assistant' THEN model_id END, created_at, completed_at, input_tokens,"
    " cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, call_count, message_cost_usd, reported_cost_usd, cost_basis"
    " FROM messages ORDER BY 1",
    "parts": "SELECT message_id, part_type, count(*), sum(written_chars) FROM parts WHERE part_type <> 'step_start'"
    " GROUP BY 1, 2 ORDER BY 1, 2",
    "part_costs": "SELECT message_id, sum(part_cost_usd) FROM parts GROUP BY 1 ORDER BY 1",
    "tool_calls": "SELECT tool_name, CAST(tool_args AS TEXT), tool_result, execution_time_ms, status, call_id FROM tool_calls"
    " ORDER BY call_id",
    "file_operations": "SELECT file_path, operation FROM file_operations ORDER BY 1",
    "text_messages": "SELECT p.message_id, t.role, t.content FROM text_messages t JOIN parts p ON p.part_id = t.part_id ORDER BY 1",
    "step_events": "SELECT message_id, input_tokens, output_tokens, step_cost_usd, price_id FROM step_events WHERE event = 'finish'"
    " ORDER BY 1",
    "gone": "SELECT message_id FROM gone_messages",
    "models": "SELECT model_id FROM models ORDER BY 1",
    "errors": "SELECT error_id FROM errors",
    "metrics": "SELECT total_input_tokens, total_output_tokens, total_cost_usd, tool_call_count, message_count, avg_response_time_ms,"
    " total_execution_time_ms, created_at, call_count, unpriced_calls, unrecorded_calls FROM session_resource_metrics",
    "stats": "SELECT message_count, tool_call_count, error_count, file_operation_count, duration_ms, total_cost_usd FROM session_stats",
    "issues": "SELECT record, reason FROM import_issues",
    **{table: f"SELECT count(*) FROM {table}" for table in ("thinking_blocks", "patches", "attachments", "compactions")},
    "unrecorded": "SELECT count(*) FROM unrecorded_calls",
    "carried": "SELECT count(*) FROM carried_costs",
    "omitted": "SELECT count(*) FROM omitted_texts",
    "source_sessions": "SELECT DISTINCT session_id, gone_at FROM source_sessions",
}
# Tables that an import reads or does not touch, and what is another thing for each form of store.
NOT_COMPARED = {
    *("price_periods", "price_sources", "model_pricing", "model_aliases", "price_adjustments", "price_runs", "price_changes"),
    *("provider_billing", "budgets", "alert_states", "alert_deliveries", "migration_audit", "projects", "sources"),
}


def views(engine: sa.Engine) -> dict[str, list[tuple[Any, ...]]]:
    return {name: read(engine, query) for name, query in VIEWS.items()}


@pytest.fixture(scope="module")
def reference(duckdb_at_head: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[Any, ...]]]:
    """What the known session's tables hold after an import of the database of 1.x."""
    directory = tmp_path_factory.mktemp("reference")
    shutil.copy(duckdb_at_head, directory / "reference.duckdb")
    engine = create_database_engine(f"duckdb:///{directory / 'reference.duckdb'}")
    with engine.connect():  # as in `engine`
        load(engine, stores.write_sqlite(generations.known_session(), directory))
        found = views(engine)
    engine.dispose()
    return found


class TestMatrix:
    @pytest.mark.parametrize("form", WRITERS)
    def test_import_one_session_is_the_same_from_every_generation(
        self, engine: sa.Engine, reference: dict[str, list[tuple[Any, ...]]], tmp_path: Path, form: str
    ) -> None:
        store = generations.known_session()
        path = WRITERS[form](store, tmp_path / form / "opencode")

        summary = load(engine, path)
        again = load(engine, path, now=LATER, full=True)

        assert views(engine) == reference
        assert (total(engine).calls, total(engine).cost_usd) == (store.total[0], store.total[6])
        assert again.counts == BulkCounts(unchanged=summary.counts.new)
        assert findings(engine) == []

    @pytest.mark.parametrize("form", DUCKDB_WRITERS)
    def test_import_one_session_is_the_same_from_every_shape_of_a_database(
        self, duckdb: sa.Engine, reference: dict[str, list[tuple[Any, ...]]], tmp_path: Path, form: str
    ) -> None:
        store = generations.known_session()
        path = DUCKDB_WRITERS[form](store, tmp_path)

        summary = load(duckdb, path)
        again = load(duckdb, path, now=LATER, full=True)

        assert views(duckdb) == reference
        assert again.counts == BulkCounts(unchanged=summary.counts.new)
        assert findings(duckdb) == []

    def test_views_compare_every_table(self) -> None:
        compared = " ".join(VIEWS.values())

        missing = {table for table in Base.metadata.tables if f"FROM {table}" not in compared} - NOT_COMPARED

        assert missing == set()

    @pytest.mark.parametrize("first", ["metadata", "parts", "sqlite-v1", "export-v2"])
    def test_import_one_generation_after_another_counts_once(self, engine: sa.Engine, tmp_path: Path, first: str) -> None:
        store = generations.known_session()
        older = WRITERS[first](store, tmp_path / "older")
        newer = generations.write_sqlite_v2(store, tmp_path / "newer")

        load(engine, older)
        load(engine, newer)
        after = views(engine)
        back = load(engine, older, now=LATER)

        assert (total(engine).calls, total(engine).cost_usd) == (store.total[0], store.total[6])
        assert (back.read, views(engine)) == (0, after)
        assert {row[0].partition(":")[2] != "" for row in read(engine, "SELECT part_id FROM parts")} == {True}
        assert findings(engine) == []

    def test_import_all_generations_together_read_the_best(
        self, engine: sa.Engine, reference: dict[str, list[tuple[Any, ...]]], tmp_path: Path
    ) -> None:
        store = generations.known_session()
        paths = [write(store, tmp_path / form / "opencode") for form, write in WRITERS.items()]

        load(engine, *paths)

        assert views(engine) == reference
        assert read(engine, "SELECT source_rank, count(*) FROM source_sessions GROUP BY 1") == [(40, 1)]


class TestV2:
    def test_import_hidden_spend_is_a_call_without_a_price(self, duckdb: sa.Engine, tmp_path: Path) -> None:
        store = generations.known_session()
        generations.write_sqlite_v2(store, tmp_path, hidden={"cost": 0.0005, "tokens_input": 300, "tokens_output": 12})

        load(duckdb, tmp_path)

        found = read(
            duckdb,
            "SELECT message_id, agent, model_id, created_at, input_tokens, output_tokens, reported_cost_usd, cost_basis FROM messages"
            " WHERE agent = 'hidden'",
        )
        session_id, created = store.sessions[0]["id"], datetime.fromtimestamp(stores.START_MS / 1000, UTC).replace(tzinfo=None)
        assert found == [(f"{session_id}:hidden", "hidden", None, created, 300, 12, Decimal("0.0005"), "unpriced")]
        assert (total(duckdb).cost_usd, total(duckdb).unpriced_calls) == (store.total[6], 1)
        assert total(duckdb).reported_cost_usd == Decimal("0.0025")

    @pytest.mark.parametrize("hidden", [{"cost": -0.001}, {"cost": 1e-15}, {"tokens_input": 50}, {}])
    def test_import_sums_that_hide_nothing_make_no_call(self, duckdb: sa.Engine, tmp_path: Path, hidden: dict[str, float]) -> None:
        store = generations.known_session()
        generations.write_sqlite_v2(store, tmp_path, hidden=hidden)

        load(duckdb, tmp_path)

        assert total(duckdb).calls == store.total[0]
        assert read(duckdb, "SELECT message_id FROM messages WHERE agent = 'hidden'") == []

    def test_import_reverted_after_an_import_is_not_hidden_as_well(
        self, engine: sa.Engine, other_engine: sa.Engine, tmp_path: Path
    ) -> None:
        store = generations.known_session()
        path = generations.write_sqlite_v2(store, tmp_path, hidden={"cost": 0.0005, "tokens_input": 300})
        load(engine, path)
        last = store.messages[-1]["id"]
        execute(path, f"DELETE FROM session_message WHERE id = '{last}'", "UPDATE session_v2 SET time_updated = time_updated + 1")

        load(engine, path, now=LATER)
        load(other_engine, path, now=LATER)

        expected = (3, Decimal("0.0025"))
        assert (total(engine).calls, total(engine).reported_cost_usd) == expected
        assert read(engine, "SELECT message_id FROM gone_messages") == [(last,)]
        # Who never saw the message has its cost among the hidden spend: no more and no less.
        assert total(other_engine).reported_cost_usd == expected[1]
        assert findings(engine) == []

    def test_import_hidden_spend_that_turns_out_to_be_none_is_emptied(self, duckdb: sa.Engine, tmp_path: Path) -> None:
        store = generations.known_session()
        path = generations.write_sqlite_v2(store, tmp_path, hidden={"cost": 0.0005, "tokens_input": 300})
        load(duckdb, path)
        execute(path, "UPDATE session_v2 SET cost = 0.002, time_updated = time_updated + 1")

        load(duckdb, path, now=LATER)

        assert (total(duckdb).calls, total(duckdb).reported_cost_usd, total(duckdb).unpriced_calls) == (2, Decimal("0.002"), 0)
        assert (total(duckdb).unrecorded_calls, findings(duckdb)) == (0, [])

    def test_import_fork_of_a_fork_is_paid_once(self, duckdb: sa.Engine, tmp_path: Path) -> None:
        store = generations.known_session()
        origin = store.sessions[0]
        fork = stores.add_fork(store, origin, stores.START_MS + 200_000)
        fork["fork"] = origin["id"]
        stores.add_call(store, fork, stores.START_MS + 300_000)
        second = stores.add_fork(store, fork, stores.START_MS + 400_000)
        second["fork"] = fork["id"]
        stores.add_call(store, second, stores.START_MS + 500_000, buckets=(1, 2, 3, 4, 0))
        generations.write_sqlite_v2(store, tmp_path)

        load(duckdb, tmp_path)

        found = total(duckdb)
        assert (found.calls, found.copied_calls, found.cost_usd) == (4, 5, store.total[6])
        assert (found.reported_cost_usd, found.unpriced_calls) == (Decimal("0.004"), 0)

    def test_import_compaction_and_failed_step_with_usage_count(self, duckdb: sa.Engine, tmp_path: Path) -> None:
        store = generations.known_session()
        path = generations.write_sqlite_v2(store, tmp_path, hidden={"cost": 0.007, "tokens_input": 30, "tokens_output": 20})
        session_id = store.sessions[0]["id"]
        model = {"id": "claude-haiku-4-5", "providerID": "anthropic"}
        tokens = {"input": 10, "output": 10, "reasoning": 0, "cache": {"read": 0, "write": 0}}
        summary = {"status": "completed", "reason": "auto", "summary": "Short", "model": model, "cost": 0.003, "tokens": tokens}
        error = {"type": "provider.rate-limit", "message": "Too many requests", "status": 429}
        failed = {"agent": "build", "model": model, "content": [], "cost": 0.004, "tokens": {**tokens, "input": 20}, "error": error}
        rows: list[tuple[str, str, dict[str, Any]]] = [
            ("msg_c", "compaction", summary),
            ("msg_f", "assistant", failed),
            ("msg_n", "compaction", {"status": "failed", "reason": "manual", "summary": ""}),
            ("msg_x", "hologram", {"depth": 3}),
            ("msg_i", "idle", {"outcome": "succeeded"}),
        ]
        for number, (message_id, kind, data) in enumerate(rows, start=100):
            data["time"] = {"created": stores.START_MS + 61_000 + number}
            text = json.dumps(data).replace("'", "''")
            at = stores.START_MS
            execute(path, f"INSERT INTO session_message VALUES ('{message_id}', '{session_id}', '{kind}', {number}, {at}, {at}, '{text}')")
        execute(path, "UPDATE session_v2 SET time_updated = time_updated + 10000")

        load(duckdb, path)

        found = read(
            duckdb,
            "SELECT message_id, role, agent, call_count, error_name FROM messages WHERE message_id LIKE 'msg\\__' ESCAPE '\\' ORDER BY 1",
        )
        assert found == [
            ("msg_c", "assistant", "compaction", 1, None),
            ("msg_f", "assistant", "build", 1, "provider.rate-limit"),
            ("msg_n", "system", "compaction", 0, None),
            ("msg_x", "user", None, 0, None),
        ]
        assert total(duckdb).reported_cost_usd == Decimal("0.009")
        assert read(duckdb, "SELECT error_category, error_message FROM errors") == [("rate_limit", "Too many requests")]
        assert read(duckdb, "SELECT auto FROM compactions ORDER BY 1") == [(False,), (True,)]
        assert read(duckdb, "SELECT record, reason FROM import_issues") == [
            ("session_message:msg_x", "unknown part type 'hologram'; kept under its own name")
        ]

    def test_import_upgraded_messages_keep_their_steps_and_their_meaning(self, duckdb: sa.Engine, tmp_path: Path) -> None:
        """A copy in the tables of 2.x has neither the steps of an old message nor the total that says what its output holds."""
        store = stores.Store()
        stores.add_project(store)
        session = stores.add_session(store, stores.START_MS, version="1.1.65")
        stores.add_call(store, session, stores.START_MS, steps=3)
        stores.add_call(store, session, stores.START_MS + 60_000, model=stores.GPT, buckets=(100, 0, 0, 40, 60))
        stores.write_sqlite(store, tmp_path)
        path = generations.write_sqlite_v2(store, tmp_path)
        execute(path, "UPDATE session_message SET data = json_remove(data, '$.rawFinish', '$.time.streamed')")
        new = stores.Store(counter=900)
        new.sessions = [session]
        stores.add_call(new, session, stores.START_MS + 120_000, model=stores.GPT, buckets=(100, 0, 0, 40, 60))
        new.messages[0]["tokens"]["output"] = 40  # 2.x keeps the reasoning beside the output
        _append_v2(path, new)

        load(duckdb, path)

        found = total(duckdb)
        sums: list[tuple[Any, ...]] = [store.total, new.total]
        expected: tuple[Any, ...] = tuple(map(sum, zip(*sums, strict=True)))
        counts = (found.input_tokens, found.cache_read_tokens, found.cache_write_tokens, found.output_tokens, found.reasoning_tokens)
        assert (found.calls, *counts, found.cost_usd) == expected
        assert findings(duckdb) == []

    def test_import_what_only_the_old_tables_hold_is_read_too(self, duckdb: sa.Engine, tmp_path: Path) -> None:
        store = generations.known_session()
        never_taken_over = stores.add_session(store, stores.START_MS + 1_000_000)
        stores.add_call(store, never_taken_over, stores.START_MS + 1_000_000)
        path = stores.write_sqlite(store, tmp_path)
        taken = stores.Store(sessions=store.sessions[:1], messages=store.messages[:3], parts=store.parts)
        generations.write_sqlite_v2(taken, tmp_path)
        later = stores.Store(counter=700)
        later.sessions = [dict(store.sessions[0], time={"created": stores.START_MS, "updated": stores.START_MS})]
        stores.add_call(later, later.sessions[0], stores.START_MS + 900_000, model=stores.HAIKU)
        stores.write_sqlite(later, tmp_path)
        reverted = store.messages[2]["id"]
        execute(path, f"DELETE FROM session_message WHERE id = '{reverted}'")

        load(duckdb, path)

        assert (total(duckdb).calls, total(duckdb).cost_usd) == (4, store.total[6] + later.total[6])
        assert total(duckdb).reported_cost_usd == Decimal("0.004")
        assert findings(duckdb) == []


class TestOnce:
    def test_import_channels_and_machines_with_the_same_ids_count_once(self, engine: sa.Engine, tmp_path: Path) -> None:
        store = generations.known_session()
        stores.write_sqlite(store, tmp_path / "one")
        stores.write_sqlite(store, tmp_path / "one", "opencode-beta.db")
        stores.write_sqlite(store, tmp_path / "two")
        stores.write_json(store, tmp_path / "two")

        summary = load(engine, tmp_path / "one", tmp_path / "two")

        assert summary.sources == 4
        assert (total(engine).calls, total(engine).cost_usd) == (store.total[0], store.total[6])

    def test_import_older_copy_after_the_newer_changes_nothing(self, engine: sa.Engine, other_engine: sa.Engine, tmp_path: Path) -> None:
        store = generations.known_session()
        stores.write_sqlite(store, tmp_path / "backup")
        session = store.sessions[0]
        stores.add_call(store, session, stores.START_MS + 500_000)
        session["title"] = "Renamed"
        stores.write_sqlite(store, tmp_path / "live")

        load(engine, tmp_path / "live")
        before = views(engine)
        late = load(engine, tmp_path / "backup", now=LATER)
        load(other_engine, tmp_path / "backup")
        load(other_engine, tmp_path / "live", now=LATER)

        assert (late.read, views(engine)) == (0, before)
        assert views(other_engine) == before
        assert total(engine).cost_usd == store.total[6]

    def test_import_stale_copy_with_newer_rows_loses_to_the_live_one(self, engine: sa.Engine, tmp_path: Path) -> None:
        """A channel's database takes the JSON tree over whenever it is first started: its rows are of that day, its sessions are old."""
        store = generations.known_session()
        stale = stores.write_sqlite(store, tmp_path, "opencode-beta.db")
        execute(stale, f"UPDATE part SET time_updated = {stores.START_MS + 90 * stores.DAY_MS}")
        stores.add_call(store, store.sessions[0], stores.START_MS + 500_000)
        stores.write_sqlite(store, tmp_path)

        load(engine, tmp_path)

        assert (total(engine).calls, total(engine).cost_usd) == (3, store.total[6])

    def test_import_export_is_read_where_no_store_has_the_session(self, engine: sa.Engine, tmp_path: Path) -> None:
        store = generations.known_session()
        export = generations.write_export_v1(store, tmp_path / "export.json")
        stores.write_json(store, tmp_path / "store")
        load(engine, export)
        alone = views(engine)

        load(engine, export, tmp_path / "store", now=LATER)
        after = load(engine, export, now=LATER)

        assert (after.read, views(engine)) == (0, alone)
        assert read(engine, "SELECT source_rank FROM source_sessions ORDER BY 1") == [(5,), (20,)]

    def test_import_deleted_message_stays_and_is_marked(self, engine: sa.Engine, tmp_path: Path) -> None:
        store = generations.known_session()
        path = stores.write_sqlite(store, tmp_path)
        load(engine, path)
        last = store.messages[-1]["id"]
        execute(path, f"DELETE FROM part WHERE message_id = '{last}'", f"DELETE FROM message WHERE id = '{last}'")

        load(engine, path, now=LATER)
        marked = read(engine, "SELECT message_id, gone_at FROM gone_messages")
        cost = total(engine).cost_usd
        stores.write_sqlite(store, tmp_path)
        load(engine, path, now=LATER)

        assert marked == [(last, LATER.replace(tzinfo=None))]
        assert cost == total(engine).cost_usd == store.total[6]
        assert read(engine, "SELECT count(*) FROM gone_messages") == [(0,)]
        assert findings(engine) == []

    def test_import_deleted_session_stays_and_is_marked(self, engine: sa.Engine, tmp_path: Path) -> None:
        store = generations.known_session()
        other = stores.add_session(store, stores.START_MS + 900_000)
        stores.add_call(store, other, stores.START_MS + 900_000)
        path = stores.write_sqlite(store, tmp_path)
        load(engine, path)
        execute(path, *(f"DELETE FROM {table} WHERE {key} = '{other['id']}'" for table, key in (
            ("part", "session_id"), ("message", "session_id"), ("session", "id")
        )))  # fmt: skip

        load(engine, path, now=LATER)
        marked = read(engine, "SELECT session_id, gone_at FROM source_sessions WHERE gone_at IS NOT NULL")
        cost = total(engine).cost_usd
        stores.write_sqlite(store, tmp_path)
        load(engine, path, now=LATER)

        assert marked == [(other["id"], LATER.replace(tzinfo=None))]
        assert cost == total(engine).cost_usd == store.total[6]
        assert read(engine, "SELECT count(*) FROM source_sessions WHERE gone_at IS NOT NULL") == [(0,)]

    def test_import_steps_of_a_message_deleted_before_are_kept_and_in_no_sum(self, engine: sa.Engine, tmp_path: Path) -> None:
        store = generations.known_session()
        storage = stores.write_json(store, tmp_path)
        last = store.messages[-1]
        (storage / "message" / last["sessionID"] / f"{last['id']}.json").unlink()

        load(engine, tmp_path)

        of_message = f"WHERE message_id = '{last['id']}'"
        steps = read(engine, f"SELECT reported_cost_usd, step_cost_usd FROM step_events {of_message} AND event = 'finish'")
        assert steps == [(Decimal("0.001"), None)]
        assert read(engine, f"SELECT count(*) FROM messages {of_message}") == [(0,)]
        assert (total(engine).calls, total(engine).unpriced_calls) == (1, 0)
        assert total(engine).reported_cost_usd == Decimal("0.001")
        assert findings(engine) == []
        with DatabaseSession(engine) as session:
            orphans = OrphanRepository(session)
            assert orphans.total() == OrphanSpend(
                calls=1,
                input_tokens=7,
                cache_read_tokens=4_000,
                cache_write_tokens=0,
                output_tokens=80,
                reasoning_tokens=0,
                reported_cost_usd=Decimal("0.001"),
                unreported_calls=0,
            )
            assert [step.message_id for step in orphans.calls()] == [last["id"]]
            assert orphans.total(TimeRange(end=datetime.fromtimestamp(stores.START_MS / 1000, UTC))).calls == 0
            assert orphans.total(filters=Filters(session=("ses_other",))).reported_cost_usd == 0

    @pytest.mark.parametrize(("hidden", "told"), [(None, 1), ({"cost": 0.0005}, 1), ({"cost": 0.001, "tokens_input": 7}, 0)])
    def test_import_steps_of_a_deleted_message_that_are_in_the_sums_of_2x_are_no_orphans(
        self, engine: sa.Engine, tmp_path: Path, hidden: dict[str, float] | None, told: int
    ) -> None:
        store = generations.known_session()
        storage = stores.write_json(store, tmp_path)
        last = store.messages.pop()
        (storage / "message" / last["sessionID"] / f"{last['id']}.json").unlink()
        generations.write_sqlite_v2(store, tmp_path, hidden=hidden)

        load(engine, tmp_path)

        with DatabaseSession(engine) as session:
            assert OrphanRepository(session).total().calls == told

    def test_import_message_that_comes_after_its_steps_prices_them(self, engine: sa.Engine, tmp_path: Path) -> None:
        store = generations.known_session()
        storage = stores.write_json(store, tmp_path)
        last = store.messages[-1]
        (storage / "message" / last["sessionID"] / f"{last['id']}.json").unlink()
        load(engine, tmp_path)
        stores.write_json(store, tmp_path)

        load(engine, tmp_path, full=True, now=LATER)

        steps = "SELECT DISTINCT s.model_id, s.called_at - m.created_at FROM step_events s JOIN messages m ON m.message_id = s.message_id"
        assert read(engine, f"{steps} WHERE m.message_id = '{last['id']}'") == [(stores.HAIKU, timedelta(0))]
        assert (total(engine).cost_usd, total(engine).unpriced_calls) == (store.total[6], 0)
        assert findings(engine) == []

    def test_import_message_deleted_after_an_import_keeps_its_model(self, engine: sa.Engine, tmp_path: Path) -> None:
        store = generations.known_session()
        storage = stores.write_json(store, tmp_path)
        load(engine, tmp_path)
        last = store.messages[-1]
        (storage / "message" / last["sessionID"] / f"{last['id']}.json").unlink()

        load(engine, tmp_path, now=LATER)

        query = "SELECT m.message_id, m.model_id FROM messages m JOIN gone_messages g ON g.message_id = m.message_id"
        assert read(engine, query) == [(last["id"], stores.HAIKU)]
        steps = read(engine, f"SELECT DISTINCT model_id FROM step_events WHERE message_id = '{last['id']}'")
        assert steps == [(stores.HAIKU,)]
        assert (total(engine).cost_usd, total(engine).unpriced_calls) == (store.total[6], 0)
        assert findings(engine) == []

    @pytest.mark.parametrize("form", ["json", "sqlite-v1", "sqlite-v2", "parts"])
    def test_import_messages_without_a_session_are_counted(self, engine: sa.Engine, tmp_path: Path, form: str) -> None:
        store = generations.known_session()
        path = WRITERS[form](store, tmp_path / "opencode")
        match form:
            case "json":
                (path / "session" / stores.PROJECT_ID / f"{store.sessions[0]['id']}.json").unlink()
            case "parts":
                (path / "session" / "info" / f"{store.sessions[0]['id']}.json").unlink()
            case "sqlite-v1":
                execute(path, "DELETE FROM session")
            case _:
                execute(path, "DELETE FROM session_v2")

        load(engine, path)

        assert (total(engine).calls, total(engine).cost_usd) == (store.total[0], store.total[6])
        assert read(engine, "SELECT session_id, title FROM sessions") == [(store.sessions[0]["id"], None)]


def _append_v2(path: Path, store: stores.Store) -> None:
    """Add messages to a session of a 2.x database, and their usage to its sums."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        for number, message in enumerate(_calls(store), start=50):
            data = generations.v2_message(store, message)
            kind, at = data.pop("type"), message["time"]["created"]
            values = (message["id"], message["sessionID"], kind, number, at, at, json.dumps(data))
            connection.execute("INSERT INTO session_message VALUES (?, ?, ?, ?, ?, ?, ?)", values)
            connection.execute("UPDATE session_v2 SET cost = cost + ?, time_updated = ?", (message["cost"], at + 5_000))


def _calls(store: stores.Store) -> Iterable[dict[str, Any]]:
    return (message for message in store.messages if message["role"] == "assistant")
