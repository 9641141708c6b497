"""Measure `opencode-monitor metrics carried` beside the least that could be done with the same parts: to sum one column of them.

    python benchmarks/carried.py [--parts 2000000] [--runs 3] [--keep DIRECTORY]

A database at head is made, its rows by DuckDB itself: of ten sessions one has 2,000 parts and nine have 125, five parts to a call (start,
thinking, tool call, text, finish), a compaction after every 127 calls, and prompts of which all but the news comes from the cache. Then run
in turn, each in a process of its own, on a copy without carried costs:

    sum      SELECT sum(part_cost_usd) FROM parts
    lengths  the same, and the length of every text, argument and result: what a part's size is made of
    carried  what `metrics carried` does

Seconds are those of the statements, memory is the highest resident size of the process. At the end the carried costs are held against the
input side of the calls: they must be equal to the last digit.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.db.migrate import upgrade
from opencode_monitor.ingest.carried import compute_carried
from opencode_monitor.pricing.book import seed_price_book

_MB = 1_000_000
_ORIGINAL, _DATABASE = "original.duckdb", "monitor.duckdb"
_PARTS_OF_TEN_SESSIONS = 2_000 + 9 * 125
_MODEL = "anthropic/claude-sonnet-4-5"
_QUERIES = {
    "sum": ("SELECT sum(part_cost_usd) FROM parts",),
    "lengths": (
        "SELECT sum(part_cost_usd), sum(length(content)) FROM parts",
        "SELECT sum(length(content)) FROM text_messages",
        "SELECT sum(length(CAST(tool_args AS VARCHAR))), sum(length(tool_result)) FROM tool_calls",
    ),
}
_PLACES = """
    SELECT n, i, i // 5 AS m, i // 5 % 128 AS turn, i % 5 AS place,
           'ses_' || printf('%012x', n) AS session_id,
           'msg_' || printf('%012x%06x', n, i // 5) AS message_id,
           'prt_' || printf('%012x%06x', n, i) AS part_id,
           TIMESTAMP '2026-01-05' + to_minutes(n) + to_seconds(i) AS moment
    FROM (SELECT n, unnest(range(CASE WHEN n % 10 = 0 THEN 2000 ELSE 125 END)) AS i FROM range({sessions}) numbers (n))
"""
_STATEMENTS = (
    f"INSERT INTO models VALUES ('{_MODEL}', 'claude-sonnet-4-5', 'anthropic')",
    "CREATE TEMP TABLE places AS {places}",
    "INSERT INTO sessions (session_id, created_at) SELECT session_id, min(moment) FROM places GROUP BY 1 ORDER BY 1",
    """
    INSERT INTO messages BY NAME
    SELECT message_id, session_id, moment AS created_at, CASE WHEN turn = 0 THEN 'user' ELSE 'assistant' END AS role, 'build' AS agent,
           CASE WHEN turn = 1 AND m > 1 THEN 'msg_' || printf('%012x%06x', n, m - 1) END AS parent_message_id,
           CASE WHEN turn > 0 THEN '{model}' END AS model_id,
           CASE WHEN turn > 0 THEN 1 ELSE 0 END AS call_count, CASE WHEN turn > 0 THEN 'calculated' END AS cost_basis,
           CASE WHEN turn > 0 THEN 4 END AS input_tokens, CASE WHEN turn > 0 THEN 11250 + 750 * turn END AS cache_read_tokens,
           CASE WHEN turn > 0 THEN 746 END AS cache_write_tokens, CASE WHEN turn > 0 THEN 400 END AS output_tokens,
           CASE WHEN turn > 0 THEN 0 END AS reasoning_tokens
    FROM places WHERE place = 0 ORDER BY message_id
    """,
    """
    INSERT INTO parts BY NAME
    SELECT part_id, session_id, message_id, i + 1 AS sequence_number, moment AS created_at,
           CASE WHEN turn = 0 AND place = 0 AND m > 0 THEN 'compaction' WHEN turn = 0 THEN 'text'
                ELSE ['step_start', 'thinking', 'tool_call', 'text', 'step_finish'][1 + place] END AS part_type,
           CASE WHEN turn > 0 AND place = 1 THEN repeat(md5(part_id), 1 + CAST(hash(i) % 20 AS BIGINT)) END AS content,
           0.001 AS part_cost_usd
    FROM places ORDER BY part_id
    """,
    """
    INSERT INTO text_messages (message_id, part_id, session_id, created_at, role, content)
    SELECT part_id, part_id, session_id, moment, CASE WHEN turn = 0 THEN 'user' ELSE 'assistant' END,
           repeat(md5(part_id), 1 + CAST(hash(i) % 15 AS BIGINT))
    FROM places WHERE (turn = 0 AND (place > 0 OR m = 0)) OR (turn > 0 AND place = 3) ORDER BY part_id
    """,
    """
    INSERT INTO tool_calls (tool_call_id, part_id, session_id, created_at, tool_name, tool_args, tool_result)
    SELECT part_id, part_id, session_id, moment, 'read', '{{"filePath":"/home/dev/' || md5(part_id) || '.py"}}',
           repeat(md5(part_id) || chr(10), 1 + CAST(hash(i + n) % 110 AS BIGINT))
    FROM places WHERE turn > 0 AND place = 2 ORDER BY part_id
    """,
    """
    INSERT INTO compactions (compaction_id, part_id, session_id, created_at, auto)
    SELECT part_id, part_id, session_id, moment, true FROM places WHERE turn = 0 AND place = 0 AND m > 0 ORDER BY part_id
    """,
    """
    INSERT INTO step_events (step_id, part_id, session_id, created_at, message_id, event, input_tokens, cache_read_tokens,
                             cache_write_tokens, output_tokens, reasoning_tokens, price_id)
    SELECT part_id, part_id, session_id, moment, message_id, 'finish', 4, 11250 + 750 * turn, 746, 400, 0,
           (SELECT min(price_id) FROM price_periods
            WHERE vendor = 'anthropic' AND model = 'claude-sonnet-4-5' AND mode = 'standard' AND input_usd_per_mtok = 3)
    FROM places WHERE turn > 0 AND place = 4 ORDER BY part_id
    """,
)
_INPUT_SIDE = """
    SELECT sum(input_tokens * input_usd_per_mtok + cache_read_tokens * cache_read_usd_per_mtok
               + cache_write_tokens * cache_write_5m_usd_per_mtok) * CAST('0.000001' AS DECIMAL(6, 6))
    FROM step_events JOIN price_periods USING (price_id)
"""


class _Usage(NamedTuple):
    seconds: float
    peak_mb: float


def _make(file: Path, parts: int) -> None:
    upgrade(f"duckdb:///{file}")
    engine = create_database_engine(f"duckdb:///{file}")
    with engine.begin() as connection:
        seed_price_book(connection, now=datetime.now(UTC))
    places = _PLACES.format(sessions=-(-parts * 10 // _PARTS_OF_TEN_SESSIONS))
    with engine.connect() as connection:
        for statement in _STATEMENTS:
            with connection.begin():
                connection.exec_driver_sql(statement.format(places=places, model=_MODEL))
        connection.exec_driver_sql("CHECKPOINT")
    engine.dispose()


def _ask(file: Path, *statements: str) -> list[object]:
    engine = create_database_engine(f"duckdb:///{file}", read_only=True)
    with engine.connect() as connection:
        return [connection.execute(sa.text(statement)).all()[0][0] for statement in statements]


def _run(name: str, directory: Path, parts: int) -> _Usage:
    """Run one of them in a process of its own."""
    command = [sys.executable, __file__, "--only", name, "--keep", directory, "--parts", str(parts)]
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE)
    # wait4() tells the usage of this one child; getrusage() would tell the highest of all so far.
    printed = process.stdout.read() if process.stdout else b""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{name} ended with {process.returncode}")
    kilobyte = 1024 if sys.platform == "linux" else 1
    return _Usage(float(printed), usage.ru_maxrss * kilobyte / _MB)


def _do(name: str, directory: Path, parts: int) -> float:
    """Do one of them, and return its seconds."""
    if name == "make":
        _make(directory / _ORIGINAL, parts)
        return 0.0
    engine = create_database_engine(f"duckdb:///{directory / _DATABASE}")
    started = time.perf_counter()
    if name == "carried":
        compute_carried(engine)
    else:
        with engine.connect() as connection:
            for statement in _QUERIES[name]:
                connection.execute(sa.text(statement)).all()
    return time.perf_counter() - started


def _measure(directory: Path, parts: int, runs: int) -> None:
    if not (directory / _ORIGINAL).exists():
        _run("make", directory, parts)
    database = directory / _DATABASE
    best: dict[str, _Usage] = {}
    for _ in range(runs):
        shutil.copy(directory / _ORIGINAL, database)
        for name in (*_QUERIES, "carried"):
            usage = _run(name, directory, parts)
            known = best.get(name, usage)
            best[name] = _Usage(min(known.seconds, usage.seconds), max(known.peak_mb, usage.peak_mb))
    number, calls, rows, total, expected = _ask(
        database,
        "SELECT count(*) FROM parts",
        "SELECT count(*) FROM step_events",
        "SELECT count(*) FROM carried_costs",
        "SELECT sum(carried_cost_usd) FROM carried_costs",
        _INPUT_SIDE,
    )
    print(f"{number:,} parts, {calls:,} calls, {rows:,} rows of carried cost; best of {runs}")
    print(f"{'':8}{'seconds':>9}{'parts/s':>12}{'peak MB':>9}{'x sum':>8}{'x lengths':>11}")
    for name, usage in best.items():
        ratios = f"{usage.seconds / best['sum'].seconds:>8.2f}{usage.seconds / best['lengths'].seconds:>11.2f}"
        print(f"{name:8}{usage.seconds:>9.2f}{number / usage.seconds:>12,.0f}{usage.peak_mb:>9.0f}{ratios}")  # type: ignore[operator] # a count
    print(f"carried {total} USD, input side of the calls {expected} USD: {'equal' if total == expected else 'NOT EQUAL'}")


def _main() -> None:
    parser = argparse.ArgumentParser(description="Measure the computing of carried costs.")
    parser.add_argument("--parts", type=int, default=2_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="where to make the database, or where it was left")
    parser.add_argument("--only", choices=("make", *_QUERIES, "carried"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(_do(options.only, options.keep, options.parts))
    elif options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
        _measure(options.keep, options.parts, options.runs)
    else:
        with tempfile.TemporaryDirectory(prefix="opencode-monitor-bench-") as directory:
            _measure(Path(directory), options.parts, options.runs)


if __name__ == "__main__":
    _main()
