"""Measure pricing and the metrics of sessions beside bare sums over the same rows.

    python benchmarks/cost.py [--calls 1000000] [--runs 3]

The database has one step with usage per message and ten messages per session, of eight models with tiers, price changes and one without a
price; DuckDB makes the rows itself, so that the same number makes the same database.

What is compared:

- the bare sum of calls: `SELECT SUM((a + b + c + d + e) * 0.000003)` over the five buckets of all steps: every count read once, and one
  constant price;
- pricing, computed: the same sum with each call's own price, by model, time, context and minute of the day, bucket by bucket in DECIMAL;
- the bare write of calls: `UPDATE` of the same three columns with that constant price and another column's text;
- pricing of calls, written: price row, list and paid cost of each call;
- the bare sum of messages: the steps grouped by message, one sum of an integer each;
- the bare write of messages: `UPDATE` of the same four columns with other columns' values;
- sums of messages, written: what an import does after it, also for messages of many calls;
- the bare sum of sessions: `SELECT session_id, SUM(...)` of the five buckets and the cost over all messages, grouped by session;
- metrics, computed: `session_stats` and `session_resource_metrics` of all sessions, as queries;
- the bare write of sessions: `INSERT` of as many rows into both tables, with the same constants in each;
- metrics, written: the same two tables, computed and inserted.

The aim is ten times the bare sum for what is computed: a sum in a column store reads a few compressed integers and writes nothing, so that
writing alone takes longer than that. Each line is the median of its runs; a writing one begins anew from the same rows every time. CPU is
that of the process, on all cores; on a busy machine it says more than the time.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.db.migrate import upgrade
from opencode_monitor.db.types import Money, UtcDateTime
from opencode_monitor.metrics import aggregate
from opencode_monitor.models import Message, Model, Session, SessionResourceMetrics, SessionStats, StepEvent
from opencode_monitor.pricing import cost
from opencode_monitor.pricing.book import resolve_aliases, seed_price_book
from opencode_monitor.pricing.paid import charge_calls

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = datetime(2026, 11, 1, tzinfo=UTC)
CALLS_PER_SESSION = 10
Taken = tuple[float, float]
"""Seconds, and CPU seconds."""

_MODELS = (
    "anthropic/claude-sonnet-4-5",
    "anthropic/claude-opus-4-6",
    "anthropic/claude-haiku-4-5",
    "openai/gpt-5",
    "google/gemini-2.5-pro",
    "deepseek/deepseek-chat",
    "openrouter/anthropic/claude-sonnet-4.5",
    "ollama/qwen3-coder",
)


def write_database(file: Path, calls: int) -> None:
    """Make the database, unpriced.

    Args:
        file: A DuckDB file that does not exist yet.
        calls: How many messages, each with one call.
    """
    url = f"duckdb:///{file}"
    upgrade(url)
    engine = create_database_engine(url)
    sessions = -(-calls // CALLS_PER_SESSION)
    at = f"TIMESTAMP '2025-11-01' + to_milliseconds(CAST(i * (31000000000 / {calls}) AS BIGINT))"
    identity = "printf('%012x', i) || substr(md5(CAST(i AS VARCHAR)), 1, 14)"
    session_of = f"'ses_' || printf('%012x', i // {CALLS_PER_SESSION}) || substr(md5(CAST(i // {CALLS_PER_SESSION} AS VARCHAR)), 1, 14)"
    session = f"'ses_' || {identity}"
    model = "[" + ", ".join(f"'{model}'" for model in _MODELS) + "][CAST(1 + hash(i) % 8 AS BIGINT)]"
    buckets = """
        hash(i, 1) % 9000 AS input_tokens, hash(i, 2) % 190000 AS cache_read_tokens,
        CASE WHEN hash(i) % 8 IN (0, 1, 2, 6) THEN hash(i, 3) % 12000 ELSE 0 END AS cache_write_tokens,
        hash(i, 4) % 2500 AS output_tokens, hash(i, 5) % 700 AS reasoning_tokens
    """
    with engine.begin() as connection:
        seed_price_book(connection, now=NOW)
        for model_id in _MODELS:
            vendor, _, name = model_id.partition("/")
            connection.execute(sa.insert(Model).values(model_id=model_id, vendor=vendor, model_name=name))
        for statement in (
            f"""
            INSERT INTO sessions BY NAME
            SELECT {session} AS session_id, 'Session ' || i AS title, {at.replace("i * ", f"i * {CALLS_PER_SESSION} * ")} AS created_at
            FROM range({sessions}) numbers (i)
            """,
            f"""
            INSERT INTO messages BY NAME
            SELECT 'msg_' || {identity} AS message_id, {session_of} AS session_id, 'assistant' AS role, 'build' AS agent,
                   {model} AS model_id, {at} AS created_at, {at} + INTERVAL 7 SECOND AS completed_at,
                   1 AS call_count, CAST(hash(i, 6) % 90000 AS DECIMAL(38, 12)) * 0.000001 AS reported_cost_usd, {buckets}
            FROM range({calls}) numbers (i)
            """,
            f"""
            INSERT INTO parts BY NAME
            SELECT 'prt_' || {identity} AS part_id, {session_of} AS session_id, 'msg_' || {identity} AS message_id,
                   'step_finish' AS part_type, 1 + i % {CALLS_PER_SESSION} AS sequence_number, {at} AS created_at
            FROM range({calls}) numbers (i)
            """,
            f"""
            INSERT INTO step_events BY NAME
            SELECT 'prt_' || {identity} AS step_id, 'prt_' || {identity} AS part_id, {session_of} AS session_id,
                   'msg_' || {identity} AS message_id, {at} AS created_at, 'finish' AS event, {model} AS model_id, {at} AS called_at,
                   {buckets}
            FROM range({calls}) numbers (i)
            """,
        ):
            connection.exec_driver_sql(statement)
        resolve_aliases(connection)
    with engine.connect() as connection:
        connection.exec_driver_sql("CHECKPOINT")
    engine.dispose()


def bare_sum_of_calls(connection: sa.Connection) -> None:
    """Read every count once, with one constant price."""
    connection.execute(sa.select(sa.func.sum(_constant_price()))).all()


def compute_prices(connection: sa.Connection) -> None:
    """Sum what the calls cost, each at its own price, and write nothing."""
    with cost.staged_cells(connection) as cell:
        priced = cost.priced_steps(cell).subquery()
        connection.execute(sa.select(sa.func.sum(priced.c.cost), sa.func.count(priced.c.price_id))).all()


def bare_write_of_calls(connection: sa.Connection) -> None:
    """Write what pricing writes, with one constant price."""
    amount = sa.cast(_constant_price(), Money())
    connection.execute(sa.update(StepEvent).values(step_cost_usd=amount, paid_cost_usd=amount, price_id=StepEvent.model_id))


def write_prices(connection: sa.Connection) -> None:
    """Price the calls."""
    cost.price_steps(connection)
    charge_calls(connection)


def bare_sum_of_messages(connection: sa.Connection) -> None:
    """Sum one integer of each message's calls."""
    sums = sa.select(StepEvent.message_id, sa.func.sum(StepEvent.input_tokens).label("tokens")).group_by(StepEvent.message_id).subquery()
    connection.execute(sa.select(sa.func.sum(sums.c.tokens))).all()


def bare_write_of_messages(connection: sa.Connection) -> None:
    """Write what the sums of messages write, from columns of the same row."""
    amount = Message.reported_cost_usd
    values = {"message_cost_usd": amount, "paid_cost_usd": amount, "call_count": Message.call_count, "cost_basis": Message.role}
    connection.execute(sa.update(Message).values(values))


def bare_sum_of_sessions(connection: sa.Connection) -> None:
    """Sum the five buckets and the cost of each session's messages."""
    names = (*cost.PRICE_OF_BUCKET, "message_cost_usd")
    sums = sa.select(Message.session_id, *(sa.func.sum(getattr(Message, name)).label(name) for name in names))
    _read_all(connection, sums.group_by(Message.session_id))


def compute_metrics(connection: sa.Connection) -> None:
    """Compute both tables, and write nothing."""
    _read_all(connection, aggregate.resource_metrics(None, now=NOW))
    _read_all(connection, aggregate.stats(None))


def bare_write_of_sessions(connection: sa.Connection) -> None:
    """Insert one and the same row for each session into both tables."""
    for model in (SessionResourceMetrics, SessionStats):
        columns = model.__table__.columns
        values = [
            Session.session_id if column.name == "session_id" else sa.cast(sa.literal_column(_constant(column.type)), column.type)
            for column in columns
        ]
        connection.execute(sa.insert(model).from_select([column.name for column in columns], sa.select(*values)))


def write_metrics(connection: sa.Connection) -> None:
    """Compute both tables and insert their rows."""
    aggregate.aggregate_sessions(connection, None, now=NOW)


def _constant_price() -> sa.ColumnElement[Any]:
    tokens: sa.ColumnElement[Any] = sa.literal(0)
    for bucket in cost.PRICE_OF_BUCKET:
        tokens += getattr(StepEvent, bucket)
    return tokens * sa.literal_column("0.000003")


def _constant(type_: sa.types.TypeEngine[Any]) -> str:
    return "'2026-11-01'" if isinstance(type_, UtcDateTime) else "7"


def _read_all(connection: sa.Connection, rows: sa.Select[Any]) -> None:
    """Let the database compute every value of every row, and answer with one."""
    inner = rows.subquery()
    connection.execute(sa.select(*(sa.func.count(column) if _is_text(column) else sa.func.max(column) for column in inner.c))).all()


def _is_text(column: sa.ColumnElement[Any]) -> bool:
    return isinstance(column.type, sa.String)


def _time(engine: sa.Engine, runs: int, work: Callable[[sa.Connection], None]) -> Taken:
    """Return the median seconds and CPU seconds of some runs; what they write is rolled back."""
    seconds, cpu_seconds = [], []
    with engine.connect() as connection:
        for _ in range(runs):
            transaction = connection.begin()
            started, started_cpu = time.perf_counter(), time.process_time()
            work(connection)
            seconds.append(time.perf_counter() - started)
            cpu_seconds.append(time.process_time() - started_cpu)
            transaction.rollback()
    return statistics.median(seconds), statistics.median(cpu_seconds)


def _main() -> None:
    parser = argparse.ArgumentParser(description="Measure pricing and metrics beside bare sums over the same rows.")
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write is not None:
        write_database(options.write, options.calls)
        return
    with tempfile.TemporaryDirectory(prefix="opencode-monitor-bench-") as directory:
        file = Path(directory) / "monitor.duckdb"
        # In a process of its own, whose memory is not counted.
        subprocess.run([sys.executable, __file__, "--write", file, "--calls", str(options.calls)], check=True)
        _measure(file, options.calls, options.runs)


def _measure(file: Path, calls: int, runs: int) -> None:
    engine = create_database_engine(f"duckdb:///{file}")
    sessions = -(-calls // CALLS_PER_SESSION)
    print(f"{calls:,} calls, {sessions:,} sessions, median of {runs} runs")
    print(f"{'':32}{'seconds':>9}{'CPU s':>8}{'rows/s':>13}{'x sum':>8}{'x write':>9}{'peak MB':>9}")

    def measure(
        name: str,
        work: Callable[[sa.Connection], None],
        bare: tuple[float, float] | None = None,
        written: tuple[float, float] | None = None,
    ) -> tuple[float, float]:
        taken = _time(engine, runs, work)
        _line(name, calls, taken, bare, written)
        return taken

    bare = measure("bare sum of calls", bare_sum_of_calls)
    measure("pricing, computed", compute_prices, bare)
    written = measure("bare write of calls", bare_write_of_calls, bare)
    measure("pricing of calls, written", write_prices, bare, written)
    with engine.begin() as connection:
        write_prices(connection)
    measure("bare sum of messages", bare_sum_of_messages, bare)
    written = measure("bare write of messages", bare_write_of_messages, bare)
    measure("sums of messages, written", cost.sum_messages, bare, written)
    with engine.begin() as connection:
        cost.sum_messages(connection)
    bare = measure("bare sum of sessions", bare_sum_of_sessions)
    written = measure("bare write of sessions", bare_write_of_sessions, bare)
    measure("metrics, written", write_metrics, bare, written)
    with engine.begin() as connection:
        write_metrics(connection)
    measure("metrics, computed", compute_metrics, bare)
    with engine.begin() as connection:
        started, started_cpu = time.perf_counter(), time.process_time()
        cost.share_steps(connection, None)
        _line("shares of parts, written", calls, (time.perf_counter() - started, time.process_time() - started_cpu))
    engine.dispose()


def _line(name: str, rows: int, taken: Taken, bare: Taken | None = None, written: Taken | None = None) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    ratios = ["" if other is None else f"{taken[1] / other[1]:.1f}" for other in (bare, written)]
    print(f"{name:32}{taken[0]:9.3f}{taken[1]:8.3f}{rows / taken[0]:13,.0f}{ratios[0]:>8}{ratios[1]:>9}{peak:9,.0f}", flush=True)


if __name__ == "__main__":
    _main()
