"""Measure `opencode-monitor daily --json` beside what others take to answer the same question from OpenCode's own store.

    python benchmarks/report.py [STORE] [--runs 7] [--calls 10000] [--ccusage PATH]

STORE is a data directory with an opencode.db or a storage/; without it one is made (`make_store.py`). It is imported once, unmeasured. Then
run in turn, each as a process of its own, and the best of the runs counts:

    daily     `daily --json --last all`, the whole command, on the loaded database
    query     what of it is the question itself: the sums by day, in a process that has started and opened the database
    sqlite3   the least that a tool without a database of its own can do: json_extract and GROUP BY over opencode.db
    ccusage   `ccusage opencode daily --json --offline`, where it is installed or named

Beside the seconds stands the sum that each finds. Only `daily` leaves out what a fork copied and prices every call by the list of its day.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

_AGGREGATE = """
    SELECT date(time_created / 1000, 'unixepoch') AS day, count(*), sum(json_extract(data, '$.tokens.input')),
           sum(json_extract(data, '$.tokens.output')), sum(json_extract(data, '$.tokens.reasoning')),
           sum(json_extract(data, '$.tokens.cache.read')), sum(json_extract(data, '$.tokens.cache.write')),
           sum(json_extract(data, '$.cost'))
    FROM message WHERE json_extract(data, '$.role') = 'assistant' GROUP BY day ORDER BY day
"""


def _aggregate(database: Path) -> float:
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        return float(sum(row[-1] or 0 for row in connection.execute(_AGGREGATE)))


def _query_seconds(database: Path) -> float:
    """Time the query alone; the first answer is left out, which also pays for SQLAlchemy's compilation."""
    from opencode_monitor.database import open_database  # noqa: PLC0415 - the other references do not pay for it
    from opencode_monitor.repositories import CostRepository, Interval  # noqa: PLC0415 - the same

    with open_database(database)() as session:
        costs = CostRepository(session)
        costs.by_period(Interval.DAY, tz="UTC")
        started = time.perf_counter()
        costs.by_period(Interval.DAY, tz="UTC")
        return time.perf_counter() - started


def _run(command: list[str | Path], environment: dict[str, str]) -> tuple[float, Any]:
    """Run a command that prints JSON; return its seconds and what it printed."""
    started = time.perf_counter()
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stderr.decode(errors='replace')}")
    return seconds, json.loads(done.stdout)


def _measure(store: Path, database: Path, ccusage: str | None, runs: int) -> dict[str, tuple[float, float | None]]:
    """Return the best seconds of each, and the USD that it found."""
    ours: list[str | Path] = [sys.executable, "-m", "opencode_monitor", "--db", database, "--quiet"]
    _, summary = _run([*ours, "import", "--json", store], {})
    print(f"{store}: {summary['totals']['new']:,} records", flush=True)
    myself: list[str | Path] = [sys.executable, __file__]
    commands: dict[str, list[str | Path]] = {
        "daily": [*ours, "--tz", "UTC", "daily", "--json", "--last", "all"],
        "query": [*myself, "--reference", "query", database],
    }
    if (store / "opencode.db").exists():
        commands["sqlite3"] = [*myself, "--reference", "sqlite3", store / "opencode.db"]
    if ccusage:
        commands["ccusage"] = [ccusage, "opencode", "daily", "--json", "--offline", "-z", "UTC"]
    best: dict[str, tuple[float, float | None]] = {}
    for _ in range(runs):
        for name, command in commands.items():
            seconds, answer = _run(command, {"OPENCODE_DATA_DIR": str(store), "LOG_LEVEL": "0"})
            usd: float | None = None
            if name == "query":
                seconds = answer
            else:
                usd = answer if name == "sqlite3" else float(answer["totals"]["cost_usd" if name == "daily" else "totalCost"])
            best[name] = min(best.get(name, (seconds, usd)), (seconds, usd), key=lambda measured: measured[0])
    return best


def _print_table(store: Path, ccusage: str | None, runs: int) -> None:
    with tempfile.TemporaryDirectory(prefix="opencode-monitor-bench-") as directory:
        best = _measure(store, Path(directory, "monitor.duckdb"), ccusage, runs)
    print(f"{'':9}{'seconds':>9}{'x daily':>9}{'USD':>14}   best of {runs}")
    for name, (seconds, usd) in best.items():
        print(f"{name:9}{seconds:>9.3f}{seconds / best['daily'][0]:>9.2f}{'' if usd is None else f'{usd:,.6f}':>14}")


def _main() -> None:
    parser = argparse.ArgumentParser(description="Measure a report beside other ways to the same sums.")
    parser.add_argument("store", type=Path, nargs="?")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--calls", type=int, default=10_000, help="the size of the store that is made without STORE")
    parser.add_argument("--ccusage", default=shutil.which("ccusage"), help="its executable; default: the one on PATH")
    parser.add_argument("--reference", choices=("query", "sqlite3"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reference == "query":
        print(_query_seconds(options.store))
    elif options.reference == "sqlite3":
        print(_aggregate(options.store))
    elif options.store is not None:
        _print_table(options.store, options.ccusage, options.runs)
    else:
        with tempfile.TemporaryDirectory(prefix="opencode-monitor-bench-") as directory:
            make_store = Path(__file__).with_name("make_store.py")
            subprocess.run([sys.executable, make_store, directory, "--calls", str(options.calls)], check=True)
            _print_table(Path(directory), options.ccusage, options.runs)


if __name__ == "__main__":
    _main()
