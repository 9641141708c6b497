from __future__ import annotations

import json
import os
import shutil
import signal
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import Session as DatabaseSession

import forked
import stores
from opencode_monitor.db.bulk import BulkCounts
from opencode_monitor.errors import SourceError
from opencode_monitor.ingest import batches, taken_ids, writing
from opencode_monitor.ingest.pipeline import ImportSummary, import_sources
from opencode_monitor.integrity.cost_check import check_costs
from opencode_monitor.models import Base
from opencode_monitor.pricing.book import add_periods
from opencode_monitor.pricing.catalog import user_period
from opencode_monitor.repositories import CostRepository, Interval
from opencode_monitor.sources.discover import SourceLocation, find_sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
BOOKKEEPING = {"sources", "source_sessions"}
PER_MILLION = {  # what the ledger's provider takes: input, cache read, cache write, output
    "claude-sonnet-4-5": ("3", "0.30", "3.75", "15"),
    "claude-haiku-4-5": ("1", "0.10", "1.25", "5"),
    "anthropic/claude-sonnet-4.5": ("3", "0.30", "3.75", "15"),
    "deepseek-chat": ("0.28", "0.028", "0", "0.42"),
}
STORES = ("json-1.1.65", "sqlite-1.3.2", "upgraded-1.1.65-to-1.2.27", "sqlite-1.18.33")

Rows = dict[str, list[tuple[Any, ...]]]


def load(engine: sa.Engine, *paths: Path, now: datetime = NOW, full: bool = False, **options: Any) -> ImportSummary:
    locations = [location for path in paths for location in find_sources(path, {})]
    return import_sources(engine, locations, now=now, full=full, **options)


def dump(engine: sa.Engine, without: Iterable[str] = ()) -> Rows:
    """Read every row of every table, in the order of its key, but for when a source was looked through."""
    rows: Rows = {}
    with engine.connect() as connection:
        for table in Base.metadata.sorted_tables:
            if table.name not in without:
                columns = [sa.cast(column, sa.Text) for column in table.columns if str(column) != "sources.state"]
                found = connection.execute(sa.select(*columns).order_by(*table.primary_key.columns)).all()
                rows[table.name] = [tuple(row) for row in found]
    return rows


def set_deepseek_price(engine: sa.Engine) -> None:
    period = user_period("deepseek", "deepseek-chat", input="0.28", output="0.42", cache_read="0.028", cache_write="0")
    with engine.begin() as connection:
        add_periods(connection, [period], now=NOW)


def stored_sums(engine: sa.Engine) -> dict[str, dict[str, stores.Sums]]:
    """Sum what an import stored by the same groupings as a synthetic store's truth."""
    groups: dict[str, dict[str, stores.Sums]] = {}
    columns = (
        "sum(call_count), sum(input_tokens), sum(cache_read_tokens), sum(cache_write_tokens), sum(output_tokens), sum(reasoning_tokens),"
        " sum(message_cost_usd)"
    )
    keys = {"day": "CAST(CAST(created_at AS DATE) AS VARCHAR)", "model": "model_id", "session": "session_id", "agent": "agent"}
    with engine.connect() as connection:
        for name, key in keys.items():
            rows = connection.execute(
                sa.text(f"SELECT {key}, {columns} FROM messages WHERE call_count > 0 AND copied_from IS NULL GROUP BY 1 ORDER BY 1")
            )
            groups[name] = {row[0]: (*map(int, row[1:7]), Decimal(row[7])) for row in rows}  # type: ignore[misc] # seven columns
    return groups


def ledger_sums(store: Path) -> dict[str, tuple[int, int, int, int, int]]:
    """Sum the answered lines of a ledger that a store of 1.x can hold, by model: calls, input, cache read, cache write, output."""
    sums: dict[str, tuple[int, int, int, int, int]] = {}
    for line in (store / "ledger.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["status"] == 200 and not record["title"]:
            known = sums.get(record["model"], (0, 0, 0, 0, 0))
            added = (1, record["input"], record["cache_read"], record["cache_write"], record["output"])
            sums[record["model"]] = tuple(map(sum, zip(known, added, strict=True)))  # type: ignore[assignment] # five of them
    return sums


def copy_upgraded(real: Path, directory: Path) -> Path:
    """Lay the JSON tree of 1.1.65 and the database of 1.2.27 side by side, as OpenCode left them."""
    shutil.copytree(real / "json-1.1.65" / "storage", directory / "storage")
    for name in ("opencode.db", "opencode.db-wal"):
        shutil.copy(real / "upgraded-1.1.65-to-1.2.27" / name, directory / name)
    return directory


class TestRealStores:
    @pytest.mark.parametrize("name", STORES)
    def test_import_sources_real_store_equals_the_ledger(self, engine: sa.Engine, real: Path, name: str) -> None:
        expected = ledger_sums(real / name)
        set_deepseek_price(engine)

        summary = load(engine, real / name)

        with DatabaseSession(engine) as session:
            rows = [row for row in CostRepository(session).by_model() if row.calls]
        buckets = {
            row.model.partition("/")[2]: (
                row.calls,
                row.input_tokens,
                row.cache_read_tokens,
                row.cache_write_tokens,
                row.output_tokens + row.reasoning_tokens,
            )
            for row in rows
        }
        assert buckets == expected
        costs = {
            model: sum((Decimal(price) * count for price, count in zip(PER_MILLION[model], sums[1:], strict=True)), Decimal(0)) / 10**6
            for model, sums in expected.items()
        }
        assert {row.model.partition("/")[2]: row.cost_usd for row in rows} == costs
        assert sum(row.unpriced_calls for row in rows) == 0
        assert summary.counts.changed == 0
        assert summary.counts.new == summary.read
        assert not summary.skipped

    def test_import_sources_era_that_bills_reasoning_twice_differs_by_exactly_the_reasoning(
        self, imported: Callable[..., sa.Engine]
    ) -> None:
        engine = imported("sqlite-1.3.2")

        with DatabaseSession(engine) as session:
            rows = {row.model: row for row in CostRepository(session).by_model() if row.calls}
            reasoning = {
                model: row.reasoning_tokens * Decimal(PER_MILLION[model.partition("/")[2]][3]) / 10**6 for model, row in rows.items()
            }
            surplus = {
                model: None if row.reported_cost_usd is None or row.cost_usd is None else row.reported_cost_usd - row.cost_usd
                for model, row in rows.items()
            }
        assert surplus == reasoning
        assert rows["openrouter/anthropic/claude-sonnet-4.5"].reported_cost_usd == Decimal("0.0167613")
        assert surplus["openrouter/anthropic/claude-sonnet-4.5"] == Decimal("0.00204")

    @pytest.mark.parametrize("name", STORES)
    def test_import_sources_real_store_passes_the_recomputation(self, imported: Callable[..., sa.Engine], name: str) -> None:
        with imported(name).connect() as connection:
            check = check_costs(connection, now=NOW)

        assert (check.found, check.differences) == (0, [])
        assert check.rows["step_events"] > 0

    @pytest.mark.parametrize("name", ["json-1.1.65", "sqlite-1.3.2", "sqlite-1.18.33"])
    def test_import_sources_twice_changes_nothing(self, engine: sa.Engine, real: Path, name: str) -> None:
        first = load(engine, real / name)
        before = dump(engine, {"sources"})

        again = load(engine, real / name, now=NOW + timedelta(days=1))
        after_again = dump(engine, {"sources"})
        full = load(engine, real / name, now=NOW + timedelta(days=2), full=True)

        assert again.counts == BulkCounts(unchanged=first.counts.new)
        assert again.read == 0
        assert after_again == before
        assert full.counts == BulkCounts(unchanged=first.counts.new)
        # A full read says when it was done; that a session was settled again, its aggregates do.
        when = {"sources", "source_sessions", "session_resource_metrics", "import_issues"}
        assert dump(engine, when) == {table: rows for table, rows in before.items() if table not in when}

    def test_import_sources_upgraded_store_counts_each_session_once(self, engine: sa.Engine, real: Path, tmp_path: Path) -> None:
        store = copy_upgraded(real, tmp_path / "opencode")
        expected = ledger_sums(real / "upgraded-1.1.65-to-1.2.27")

        load(engine, store)

        with DatabaseSession(engine) as session:
            costs = CostRepository(session)
            calls = {row.model.partition("/")[2]: row.calls for row in costs.by_model() if row.calls}
            sessions = costs.by_session()
        assert calls == {model: sums[0] for model, sums in expected.items()}
        assert len(sessions) == len({row.session_id for row in sessions}) == 13

    @pytest.mark.parametrize("first", ["json", "sqlite"])
    def test_import_sources_one_after_the_other_equals_both_together(
        self, engine: sa.Engine, other_engine: sa.Engine, real: Path, tmp_path: Path, first: str
    ) -> None:
        store = copy_upgraded(real, tmp_path / "opencode")
        locations = sorted(find_sources(store, {}), key=lambda location: location.kind != first)

        import_sources(other_engine, locations, now=NOW)
        for location in locations:
            import_sources(engine, [location], now=NOW)

        assert [location.kind for location in locations] == [first, "sqlite" if first == "json" else "json"]
        assert dump(engine, BOOKKEEPING) == dump(other_engine, BOOKKEEPING)

    def test_import_sources_fork_adds_its_new_calls_only(self, imported: Callable[..., sa.Engine]) -> None:
        with imported("sqlite-1.18.33").connect() as connection:
            by_basis = connection.execute(
                sa.text(
                    "SELECT cost_basis, count(*), sum(message_cost_usd) FROM messages"
                    " WHERE session_id = 'ses_df9c142b9ffeKvcjJ6r3N1jKH9' AND role = 'assistant' GROUP BY 1 ORDER BY 1"
                )
            ).all()
            parts = connection.execute(
                sa.text(
                    "SELECT DISTINCT part_cost_usd FROM parts JOIN messages ON messages.message_id = parts.message_id"
                    " WHERE cost_basis = 'copied'"
                )
            ).all()
            originals = connection.execute(
                sa.text(
                    "SELECT DISTINCT o.session_id, o.cost_basis FROM messages c JOIN messages o ON o.message_id = c.copied_from"
                    " WHERE c.role = 'assistant'"
                )
            ).all()
        assert [tuple(row) for row in by_basis] == [("calculated", 1, Decimal("0.03474825")), ("copied", 8, 0)]
        assert [tuple(row) for row in parts] == [(0,)]
        assert [tuple(row) for row in originals] == [("ses_df9c20388ffeqZk7d5HtXR4SLs", "calculated")]


class TestSyntheticStores:
    @pytest.mark.parametrize("kinds", [("json",), ("sqlite",), ("json", "sqlite")], ids="+".join)
    def test_import_sources_any_generation_reaches_the_truth(self, engine: sa.Engine, tmp_path: Path, kinds: tuple[str, ...]) -> None:
        store = stores.sample()
        for kind in kinds:
            {"json": stores.write_json, "sqlite": stores.write_sqlite}[kind](store, tmp_path / "opencode")

        load(engine, tmp_path / "opencode")

        assert stored_sums(engine) == store.truth
        with DatabaseSession(engine) as session:
            costs = CostRepository(session)
            days = costs.by_period(Interval.DAY, tz="UTC")
            total = costs.total()
        assert {str(row.period): (row.calls, row.cost_usd) for row in days} == {
            day: (sums[0], sums[6]) for day, sums in store.truth["day"].items()
        }
        assert (total.calls, total.cost_usd, total.unpriced_calls) == (store.total[0], store.total[6], 0)

    def test_import_sources_sums_exact_from_part_to_grand_total(self, engine: sa.Engine, tmp_path: Path) -> None:
        store = stores.sample()
        stores.write_sqlite(store, tmp_path)

        load(engine, tmp_path)

        with engine.connect() as connection:
            differing = connection.execute(
                sa.text(
                    "SELECT m.message_id FROM messages m LEFT JOIN parts p ON p.message_id = m.message_id"
                    " WHERE m.cost_basis IS NOT NULL GROUP BY m.message_id, m.message_cost_usd"
                    " HAVING sum(p.part_cost_usd) IS DISTINCT FROM m.message_cost_usd"
                    " UNION ALL SELECT r.session_id FROM session_resource_metrics r LEFT JOIN messages m"
                    " ON m.session_id = r.session_id AND m.copied_from IS NULL GROUP BY r.session_id, r.total_cost_usd"
                    " HAVING coalesce(sum(m.message_cost_usd), 0) <> r.total_cost_usd"
                    " UNION ALL SELECT s.session_id FROM session_stats s JOIN session_resource_metrics r ON r.session_id = s.session_id"
                    " WHERE s.total_cost_usd <> r.total_cost_usd"
                )
            ).all()
            totals = connection.execute(
                sa.text(
                    "SELECT (SELECT sum(part_cost_usd) FROM parts), (SELECT sum(step_cost_usd) FROM step_events),"
                    " (SELECT sum(message_cost_usd) FROM messages), (SELECT sum(total_cost_usd) FROM session_resource_metrics)"
                )
            ).one()
        assert differing == []
        assert {Decimal(total) for total in totals} == {store.total[6]}

    def test_import_sources_fork_before_its_original_ends_the_same(
        self, engine: sa.Engine, other_engine: sa.Engine, tmp_path: Path
    ) -> None:
        store = stores.sample()
        fork = next(session for session in store.sessions if "fork" in session["title"])
        rest, alone = stores.Store(), stores.Store()
        for target, is_wanted in ((alone, True), (rest, False)):
            target.sessions = [session for session in store.sessions if (session["id"] == fork["id"]) is is_wanted]
            target.messages = [message for message in store.messages if (message["sessionID"] == fork["id"]) is is_wanted]
            target.parts = [part for part in store.parts if (part["sessionID"] == fork["id"]) is is_wanted]
        stores.write_sqlite(rest, tmp_path / "rest")
        stores.write_sqlite(alone, tmp_path / "fork")

        load(engine, tmp_path / "fork")
        before = stored_sums(engine)
        load(engine, tmp_path / "rest")
        load(other_engine, tmp_path / "rest", tmp_path / "fork")

        assert before["session"][fork["id"]][0] > store.truth["session"][fork["id"]][0]
        assert stored_sums(engine) == store.truth
        assert dump(engine) == dump(other_engine)

    @pytest.mark.parametrize("kind", ["json", "sqlite"])
    def test_import_sources_grown_session_is_read_again(
        self, engine: sa.Engine, other_engine: sa.Engine, tmp_path: Path, kind: str
    ) -> None:
        write = {"json": stores.write_json, "sqlite": stores.write_sqlite}[kind]
        store = stores.sample()
        write(store, tmp_path)
        first = load(engine, tmp_path)
        grown = stores.Store(counter=5_000)
        session = store.sessions[0]
        size = len([record for record in (*store.messages, *store.parts) if record["sessionID"] == session["id"]])
        at = session["time"]["updated"] + 60_000
        stores.add_user(grown, session, at)
        stores.add_call(grown, session, at + 1_000)
        grown.sessions = [session]
        write(grown, tmp_path)

        summary = load(engine, tmp_path)

        added = len(grown.messages) + len(grown.parts)
        assert summary.counts == BulkCounts(new=added, changed=1, unchanged=first.counts.new - 1)
        assert summary.read == 1 + size + added
        load(other_engine, tmp_path)
        assert dump(engine) == dump(other_engine)

    def test_import_sources_message_finished_later_is_counted_then(
        self, engine: sa.Engine, other_engine: sa.Engine, tmp_path: Path
    ) -> None:
        store = stores.Store()
        session = stores.add_session(store, stores.START_MS)
        message = stores.add_call(store, session, stores.START_MS)
        finished, parts = dict(message), list(store.parts)
        message |= {"cost": 0, "tokens": {"input": 0, "output": 0}, "time": {"created": stores.START_MS}, "finish": None}
        store.parts = [part for part in parts if part["type"] != "step-finish"]
        stores.write_json(store, tmp_path)
        load(engine, tmp_path)
        running = stored_sums(engine)
        store.messages, store.parts = [finished], parts
        stores.write_json(store, tmp_path)

        load(engine, tmp_path)

        assert running["session"] == {}
        assert stored_sums(engine) == store.truth
        load(other_engine, tmp_path)
        assert dump(engine) == dump(other_engine)

    def test_import_sources_repaired_record_loses_its_issue(self, engine: sa.Engine, other_engine: sa.Engine, tmp_path: Path) -> None:
        store = stores.Store()
        session = stores.add_session(store, stores.START_MS)
        stores.add_call(store, session, stores.START_MS)
        storage = stores.write_json(store, tmp_path)
        step = next(part for part in store.parts if part["type"] == "step-finish")
        path = storage / "part" / step["messageID"] / f"{step['id']}.json"
        whole = path.read_bytes()
        path.write_bytes(whole[:40])
        broken = load(engine, tmp_path)
        sums, issues = stored_sums(engine), dump(engine)["import_issues"]
        path.write_bytes(whole)

        repaired = load(engine, tmp_path)

        assert (broken.issues, [row[3] for row in issues]) == (1, [f"part/{step['messageID']}/{step['id']}.json"])
        assert sums == store.truth  # the message has the usage too
        assert repaired.issues == 0
        assert stored_sums(engine) == store.truth
        load(other_engine, tmp_path)
        assert dump(engine) == dump(other_engine)

    def test_import_sources_since_leaves_out_what_did_not_change_after(self, engine: sa.Engine, tmp_path: Path) -> None:
        store = stores.sample()
        stores.write_sqlite(store, tmp_path)
        since = datetime.fromtimestamp((stores.START_MS + 5 * stores.DAY_MS) / 1000, UTC)
        wanted = {session["id"] for session in store.sessions if session["time"]["updated"] >= since.timestamp() * 1000}

        load(engine, tmp_path, since=since)

        assert 0 < len(wanted) < len(store.sessions)
        assert {row[0] for row in dump(engine)["sessions"]} == wanted

    def test_import_sources_unpriced_model_is_counted_without_cost(self, engine: sa.Engine, tmp_path: Path) -> None:
        store = stores.Store()
        session = stores.add_session(store, stores.START_MS)
        stores.add_call(store, session, stores.START_MS, model=stores.UNPRICED)
        stores.add_call(store, session, stores.START_MS + 10_000)
        stores.write_json(store, tmp_path)

        load(engine, tmp_path)

        with DatabaseSession(engine) as database:
            rows = {row.model: row for row in CostRepository(database).by_model()}
            total = CostRepository(database).total()
        assert (rows[stores.UNPRICED].calls, rows[stores.UNPRICED].cost_usd, rows[stores.UNPRICED].unpriced_calls) == (1, None, 1)
        assert (total.calls, total.cost_usd, total.unpriced_calls) == (2, store.truth["model"][stores.SONNET][6], 1)
        assert {row[9] for row in dump(engine)["parts"] if row[1] == store.messages[0]["id"]} <= {None}


class TestMemory:
    def test_import_sources_many_transactions_does_not_keep_indexes_in_memory(
        self, migrated_duckdb_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from opencode_monitor.db.engine import create_database_engine  # noqa: PLC0415 - the engine that a real import has

        stores.write_json(stores.sample(), tmp_path)
        monkeypatch.setattr(batches, "BATCH_RECORDS", 20)
        monkeypatch.setattr(writing, "TRANSACTION_BATCHES", 1)
        engine = create_database_engine(migrated_duckdb_url, loading=True)
        in_memory = sa.text("SELECT memory_usage_bytes FROM duckdb_memory() WHERE tag = 'ART_INDEX'")
        sizes: list[int] = []

        def measure(done: int, total: int) -> None:
            del done, total
            with engine.connect() as connection:
                sizes.append(connection.execute(in_memory).scalar_one())

        load(engine, tmp_path, progress=measure)

        # An index that something was added to takes a quarter of a megabyte at least, and there are some 50 of them.
        assert len(sizes) > 5
        assert max(sizes) < 4_000_000

    def test_import_sources_many_small_sources_does_not_keep_all_in_the_log(
        self, migrated_duckdb_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from opencode_monitor.db.engine import create_database_engine  # noqa: PLC0415 - the engine that a real import has

        roots = [tmp_path / str(number) for number in range(6)]
        for number, root in enumerate(roots):
            stores.write_json(stores.sample(seed=number, counter=number * 10_000, sessions=1), root)
        monkeypatch.setattr(batches, "BATCH_RECORDS", 70)  # each source is half a transaction
        monkeypatch.setattr(writing, "TRANSACTION_BATCHES", 1)
        log = Path(f"{sa.make_url(migrated_duckdb_url).database}.wal")
        sizes: list[int] = []

        def measure(done: int, total: int) -> None:
            del done, total
            sizes.append(log.stat().st_size if log.exists() else 0)

        summary = load(create_database_engine(migrated_duckdb_url, loading=True), *roots, progress=measure)

        assert (summary.sources, len(sizes)) == (6, 6)
        assert sizes != sorted(sizes), "it only grows"


class TestCrash:
    def test_import_sources_stopped_between_batches_goes_on(
        self, engine: sa.Engine, other_engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = stores.sample()
        stores.write_json(store, tmp_path)
        monkeypatch.setattr(batches, "BATCH_RECORDS", 100)
        monkeypatch.setattr(writing, "TRANSACTION_BATCHES", 2)
        told: list[tuple[int, int]] = []

        def stop_after_two(done: int, total: int) -> None:
            told.append((done, total))
            if len(told) == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            load(engine, tmp_path, progress=stop_after_two)
        stopped_at = len(dump(engine)["sessions"])
        summary = load(engine, tmp_path)
        load(other_engine, tmp_path)

        records = len(store.sessions) + len(store.messages) + len(store.parts)
        assert 0 < stopped_at < len(store.sessions)
        assert told[1][0] < told[1][1] == records
        assert summary.counts == BulkCounts(new=records - told[1][0], unchanged=told[1][0])
        assert dump(engine) == dump(other_engine)

    @pytest.mark.parametrize("statement", [15, 40, 62])
    def test_import_sources_failed_inside_a_batch_leaves_it_out(
        self, engine: sa.Engine, other_engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: int
    ) -> None:
        stores.write_sqlite(stores.sample(), tmp_path)
        monkeypatch.setattr(batches, "BATCH_RECORDS", 150)
        statements = 0

        def fail(*_: object) -> None:
            nonlocal statements
            statements += 1
            if statements == statement:
                raise OSError("the disk is full")

        event.listen(engine, "before_cursor_execute", fail)
        with pytest.raises(OSError, match="the disk is full"):
            load(engine, tmp_path)
        event.remove(engine, "before_cursor_execute", fail)
        after_failure = dump(engine)
        load(engine, tmp_path)
        load(other_engine, tmp_path)

        assert {row[0] for row in after_failure["sessions"]} == {row[1] for row in after_failure["source_sessions"]}
        assert {row[0] for row in after_failure["sessions"]} == {row[0] for row in after_failure["session_resource_metrics"]}
        assert dump(engine) == dump(other_engine)

    def test_import_sources_stopped_after_taking_outdated_steps_reads_their_session_again(
        self, engine: sa.Engine, other_engine: sa.Engine, tmp_path: Path
    ) -> None:
        """DuckDB does not delete a part and what refers to it in one transaction: between the two, a message has no step."""
        store = stores.Store()
        session = stores.add_session(store, stores.START_MS)
        stores.add_call(store, session, stores.START_MS)
        storage = stores.write_json(store, tmp_path)
        step = next(part for part in store.parts if part["type"] == "step-finish")
        path = storage / "part" / step["messageID"] / f"{step['id']}.json"
        whole = path.read_bytes()
        path.write_bytes(b"")
        state = path.stat()
        load(engine, tmp_path)
        derived = dump(engine)["step_events"]
        path.write_bytes(whole)

        def stop(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            if statement.startswith("DELETE FROM parts"):
                raise KeyboardInterrupt

        event.listen(engine, "before_cursor_execute", stop)
        with pytest.raises(KeyboardInterrupt):
            load(engine, tmp_path)
        event.remove(engine, "before_cursor_execute", stop)
        path.write_bytes(b"")  # as at the last import that went through: nothing but the mark tells that the step is not there
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
        between = dump(engine)
        load(engine, tmp_path)
        again = dump(engine)["step_events"]
        path.write_bytes(whole)
        load(engine, tmp_path)
        load(other_engine, tmp_path)

        assert sum("finish" in row for row in derived) == 1
        assert len(between["step_events"]) == len(derived) - 1
        assert [row[2] for row in between["source_sessions"]] == [""]
        assert again == derived
        assert dump(engine) == dump(other_engine)

    def test_import_sources_after_a_kill_that_lost_the_marks_of_copies_restores_them(self, engine: sa.Engine, tmp_path: Path) -> None:
        """As DuckDB's replay of a killed process's log has been seen to do."""
        stores.write_sqlite(stores.sample(), tmp_path)
        load(engine, tmp_path)
        before = dump(engine)
        with engine.begin() as connection:
            lost = connection.execute(sa.text("UPDATE messages SET copied_from = NULL WHERE role = 'assistant' AND cost_basis = 'copied'"))
            connection.execute(sa.text("UPDATE sources SET state = NULL"))
        damaged = dump(engine)

        again = load(engine, tmp_path)

        assert lost.rowcount != 0
        assert damaged["messages"] != before["messages"]
        assert again.read == 0
        assert dump(engine, {"sources"}) == {table: rows for table, rows in before.items() if table != "sources"}

    @pytest.mark.opened_elsewhere
    @pytest.mark.parametrize("together", [1, 2])
    def test_import_sources_killed_inside_a_transaction_goes_on(
        self, engine: sa.Engine, other_engine: sa.Engine, tmp_path: Path, together: int
    ) -> None:
        stores.write_sqlite(stores.sample(), tmp_path / "store")
        program = f"""
import os, signal
from datetime import datetime
from pathlib import Path
from sqlalchemy import event
from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.ingest import batches, pipeline, writing
from opencode_monitor.sources.discover import find_sources

batches.BATCH_RECORDS = {150 // together}
writing.TRANSACTION_BATCHES = {together}
engine = create_database_engine(os.environ["DATABASE"])
batches = 0

def kill_in_second_transaction(connection, cursor, statement, *_):
    if batches >= {together} and statement.startswith("UPDATE messages"):
        os.kill(os.getpid(), signal.SIGKILL)

def count(done, total):
    global batches
    batches += 1

event.listen(engine, "before_cursor_execute", kill_in_second_transaction)
now = datetime.fromisoformat({NOW.isoformat()!r})
pipeline.import_sources(engine, find_sources(Path({str(tmp_path / "store")!r}), {{}}), now=now, progress=count)
"""
        url = engine.url.render_as_string(hide_password=False)

        killed = forked.run(program, env={**os.environ, "DATABASE": url})
        after_kill = dump(engine)
        load(engine, tmp_path / "store")
        load(other_engine, tmp_path / "store")

        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert 0 < len(after_kill["sessions"]) < len(stores.sample().sessions)
        assert {row[0] for row in after_kill["sessions"]} == {row[1] for row in after_kill["source_sessions"]}
        assert dump(engine) == dump(other_engine)


class TestSources:
    @pytest.mark.parametrize("most", [0, 400_000])
    def test_import_sources_id_of_another_batch_is_refused_however_many_are_kept_in_memory(
        self, migrated_duckdb_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
    ) -> None:
        from opencode_monitor.db.engine import create_database_engine  # noqa: PLC0415 - as below

        monkeypatch.setattr(taken_ids, "MOST_TAKEN_IDS", most)
        monkeypatch.setattr(batches, "BATCH_RECORDS", 1)
        store = stores.sample()
        first, last = store.sessions[0], store.sessions[-1]
        taken = next(part for part in store.parts if part["sessionID"] == first["id"] and part["type"] == "text")
        text = next(part for part in store.parts if part["sessionID"] == last["id"] and part["type"] == "text")
        text["id"] = taken["id"]
        stores.write_json(store, tmp_path)
        engine = create_database_engine(migrated_duckdb_url)

        load(engine, tmp_path)

        assert [row[4] for row in dump(engine)["import_issues"]] == [f"id belongs to session {first['id']} already; not loaded"]

    def test_import_sources_one_of_two_unreadable_loads_the_other(self, engine: sa.Engine, tmp_path: Path) -> None:
        store = stores.sample()
        stores.write_json(store, tmp_path)
        (tmp_path / "opencode-beta.db").write_bytes(b"no database" * 100)

        summary = load(engine, tmp_path)

        issues = dump(engine)["import_issues"]
        assert summary.sources == 1
        assert stored_sums(engine) == store.truth
        assert list(summary.problems.values()) == [row[4] for row in issues]
        assert [row[4] for row in issues] == [f"{tmp_path / 'opencode-beta.db'} is not a SQLite database"]

    def test_import_sources_all_unreadable_raises(self, migrated_duckdb_url: str, tmp_path: Path) -> None:
        from opencode_monitor.db.engine import create_database_engine  # noqa: PLC0415 - this test alone needs one engine only

        (tmp_path / "opencode.db").write_bytes(b"no database" * 100)

        with pytest.raises(SourceError, match="is not a SQLite database"):
            import_sources(create_database_engine(migrated_duckdb_url), [SourceLocation("sqlite", tmp_path / "opencode.db")], now=NOW)
