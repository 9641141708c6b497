"""Measure pricing and the metrics of sessions beside bare sums over the same rows.

    python benchmarks/cost.py [--calls 1000000] [--runs 3] [--keep FILE]

The database has one step with usage per message and ten messages per session, of eight models with tiers, price changes and one without a
price; DuckDB makes the rows itself, so that the same number makes the same database.

What is compared:

- the bare sum of calls: `SELECT SUM((a + b + c + d + e) * 0.000003)` over the five buckets of all steps: every count read once, and one
  constant price;
- choosing prices: the same sum with each call's own price, by model, time, context and minute of the day, as a query that writes nothing;
- pricing: what an import does for as many calls without a price: price row, list and paid cost of each call, and the sums of each message;
- the bare sum of sessions: `SELECT session_id, SUM(...)` of the five buckets and the cost over all messages, grouped by session;
- metrics: `session_stats` and `session_resource_metrics` of all sessions, computed and written.

Each line is the median of its runs; a writing one begins anew from the same rows every time.
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
from opencode_monitor.metrics.aggregate import aggregate_sessions
from opencode_monitor.models import Message, Model, StepEvent
from opencode_monitor.pricing import cost
from opencode_monitor.pricing.book import resolve_aliases, seed_price_book
from opencode_monitor.pricing.paid import charge_calls

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = datetime(2026, 11, 1, tzinfo=UTC)
CALLS_PER_SESSION = 10
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
    models = "[" + ", ".join(f"'{model}'" for model in _MODELS) + "]"
    buckets = """
        hash(i, 1) % 9000 AS input_tokens, hash(i, 2) % 190000 AS cache_read_tokens,
        CASE WHEN hash(i) % 8 IN (0, 1, 2, 6) THEN hash(i, 3) % 12000 ELSE 0 END AS cache_write_tokens,
        hash(i, 4) % 2500 AS output_tokens, hash(i, 5) % 700 AS reasoning_tokens
    """
    with engine.begin() as connection:
        seed_price_book(connection, now=NOW)
        for model in _MODELS:
            vendor, _, name = model.partition("/")
            connection.execute(sa.insert(Model).values(model_id=model, vendor=vendor, model_name=name))
        for statement in (
            f"""
            INSERT INTO sessions BY NAME
            SELECT {session} AS session_id, 'Session ' || i AS title, {at.replace("i * ", f"i * {CALLS_PER_SESSION} * ")} AS created_at
            FROM range({sessions}) numbers (i)
            """,
            f"""
            INSERT INTO messages BY NAME
            SELECT 'msg_' || {identity} AS message_id, {session_of} AS session_id, 'assistant' AS role, 'build' AS agent,
                   {models}[CAST(1 + hash(i) % 8 AS BIGINT)] AS model_id, {at} AS created_at, {at} + INTERVAL 7 SECOND AS completed_at,
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
                   'msg_' || {identity} AS message_id, {at} AS created_at, 'finish' AS event, {buckets}
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
    tokens: sa.ColumnElement[Any] = sa.literal(0)
    for bucket in cost.PRICE_OF_BUCKET:
        tokens += getattr(StepEvent, bucket)
    connection.execute(sa.select(sa.func.sum(tokens * sa.literal_column("0.000003")))).all()


def choose_prices(connection: sa.Connection) -> None:
    """Sum what the calls cost, each at its own price, and write nothing."""
    with cost.staged_cells(connection) as cell:
        priced = cost.priced_steps(cell).subquery()
        connection.execute(sa.select(sa.func.sum(priced.c.cost), sa.func.count(priced.c.price_id))).all()


def bare_sum_of_sessions(connection: sa.Connection) -> None:
    """Sum the five buckets and the cost of each session's messages."""
    names = (*cost.PRICE_OF_BUCKET, "message_cost_usd")
    sums = sa.select(Message.session_id, *(sa.func.sum(getattr(Message, name)).label(name) for name in names))
    grouped = sums.group_by(Message.session_id).subquery()
    connection.execute(sa.select(*(sa.func.sum(column) for column in grouped.c if column.key != "session_id"))).all()


def _time(engine: sa.Engine, runs: int, work: Callable[[sa.Connection], None]) -> float:
    """Return the median of some runs in seconds; what they write is rolled back."""
    seconds = []
    with engine.connect() as connection:
        for _ in range(runs):
            transaction = connection.begin()
            started = time.perf_counter()
            work(connection)
            seconds.append(time.perf_counter() - started)
            transaction.rollback()
    return statistics.median(seconds)


def _main() -> None:
    parser = argparse.ArgumentParser(description="Measure pricing and metrics beside bare sums over the same rows.")
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="make the database here and keep it, or measure the one that is here")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write is not None:
        write_database(options.write, options.calls)
        return
    with tempfile.TemporaryDirectory(prefix="opencode-monitor-bench-") as directory:
        file: Path = options.keep or Path(directory) / "monitor.duckdb"
        if not file.exists():
            # In a process of its own, whose memory is not counted.
            subprocess.run([sys.executable, __file__, "--write", file, "--calls", str(options.calls)], check=True)
        _measure(file, options.calls, options.runs)


def _measure(file: Path, calls: int, runs: int) -> None:
    engine = create_database_engine(f"duckdb:///{file}")
    sessions = -(-calls // CALLS_PER_SESSION)
    print(f"{calls:,} calls, {sessions:,} sessions, median of {runs} runs")
    print(f"{'':34}{'seconds':>9}{'rows/s':>14}{'x bare sum':>12}{'peak MB':>9}")
    bare = _line("bare sum of calls", calls, _time(engine, runs, bare_sum_of_calls), None)
    _line("choosing prices, nothing written", calls, _time(engine, runs, choose_prices), bare)
    _line("pricing, written", calls, _time(engine, runs, _price), bare)
    with engine.begin() as connection:
        _price(connection)
    bare = _line("bare sum of sessions", calls, _time(engine, runs, bare_sum_of_sessions), None)
    _line("metrics, written", calls, _time(engine, runs, lambda connection: aggregate_sessions(connection, None, now=NOW)), bare)
    with engine.begin() as connection:
        started = time.perf_counter()
        cost.share_steps(connection, None)
        _line("shares of parts, written", calls, time.perf_counter() - started, None)
    engine.dispose()


def _price(connection: sa.Connection) -> None:
    cost.price_steps(connection, None)
    charge_calls(connection)
    cost.sum_messages(connection)


def _line(name: str, rows: int, seconds: float, bare: float | None) -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    ratio = "" if bare is None else f"{seconds / bare:.1f}"
    print(f"{name:34}{seconds:9.3f}{rows / seconds:14,.0f}{ratio:>12}{peak:9,.0f}", flush=True)
    return seconds


if __name__ == "__main__":
    _main()
