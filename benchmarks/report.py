"""Measure `opencode-monitor daily --json` beside what others take to answer the same question from OpenCode's own store.

    python benchmarks/report.py [STORE]... [--runs 7] [--calls 3000 10000 30000] [--ccusage PATH] [--tokscale PATH]

Each STORE is a data directory with an opencode.db or a storage/; without any they are made (`make_store.py`), one after the other. Each is
imported once, unmeasured. Then run in turn, each as a process of its own, and the best of the runs counts:

    daily     `daily --json --last all`, the whole command, on the loaded database
    query     what of it is the question itself: the sums by day of UTC, in a process that has started and opened the database
    zone      the same by day of Europe/Berlin
    sqlite3   the least that a tool without a database of its own can do: json_extract and GROUP BY over opencode.db
    ccusage   `ccusage opencode daily --json --offline`, where it is installed or named
    tokscale  `tokscale graph --opencode`, likewise; it prices by a list in its cache, and fetches one where it has none

Beside the seconds and the CPU's stands the sum that each finds. Only `daily` leaves out what a fork copied, and prices every call by the
list of its day. At the end stands how each grows with the store. The aims: ten times the records take `daily` 1.3 times as long at most,
and the query of a store of 40,000 calls less than 20 ms.
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
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

_AGGREGATE = """
    SELECT date(time_created / 1000, 'unixepoch') AS day, count(*), sum(json_extract(data, '$.tokens.input')),
           sum(json_extract(data, '$.tokens.output')), sum(json_extract(data, '$.tokens.reasoning')),
           sum(json_extract(data, '$.tokens.cache.read')), sum(json_extract(data, '$.tokens.cache.write')),
           sum(json_extract(data, '$.cost'))
    FROM message WHERE json_extract(data, '$.role') = 'assistant' GROUP BY day ORDER BY day
"""


_MOST_GROWTH = 1.3
_MOST_QUERY_MS = 20
_ZONES = {"query": "UTC", "zone": "Europe/Berlin"}
_CALLS = (3_000, 10_000, 30_000)


class _Run(NamedTuple):
    """What a command took, and what it answered; `failure` is why it did not."""

    seconds: float = float("inf")
    cpu_seconds: float = float("inf")
    usd: float | None = None
    failure: str = ""


def _aggregate(database: Path) -> float:
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        return float(sum(row[-1] or 0 for row in connection.execute(_AGGREGATE)))


def _query_seconds(database: Path, tz: str) -> tuple[float, float]:
    """Time the query alone, by the clock and of the CPU; the first answer is left out, which also pays for SQLAlchemy's compilation."""
    from opencode_monitor.database import open_database  # noqa: PLC0415 - the other references do not pay for it
    from opencode_monitor.repositories import CostRepository, Interval  # noqa: PLC0415 - the same

    with open_database(database)() as session:
        costs = CostRepository(session)
        costs.by_period(Interval.DAY, tz=tz)
        started, cpu_started = time.perf_counter(), time.process_time()
        costs.by_period(Interval.DAY, tz=tz)
        return time.perf_counter() - started, time.process_time() - cpu_started


def _run(command: list[str | Path], environment: dict[str, str]) -> tuple[float, float, Any]:
    """Run a command that prints JSON; return its seconds, those of the CPU, and what it printed.

    Raises:
        ChildProcessError: It failed; with the last line that it said.
    """
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as said:
        started = time.perf_counter()
        process = subprocess.Popen(list(map(str, command)), env=os.environ | environment, stdout=answer, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        answer.seek(0)
        said.seek(0)
        try:
            if process.returncode == 0:
                return seconds, usage.ru_utime + usage.ru_stime, json.loads(answer.read())
        except ValueError:
            pass
        errors = [line.strip() for line in said.read().decode(errors="replace").splitlines() if "rror" in line]
        raise ChildProcessError(errors[-1] if errors else f"ended with {process.returncode}")


def _commands(store: Path, database: Path, peers: dict[str, str | None]) -> dict[str, list[str | Path]]:
    myself: list[str | Path] = [sys.executable, __file__, "--reference"]
    commands: dict[str, list[str | Path]] = {
        "daily": [*_OURS, "--db", database, "--tz", "UTC", "daily", "--json", "--last", "all"],
        **{name: [*myself, name, database] for name in _ZONES},
    }
    if (store / "opencode.db").exists():
        commands["sqlite3"] = [*myself, "sqlite3", store / "opencode.db"]
    arguments = {
        "ccusage": ["opencode", "daily", "--json", "--offline", "-z", "UTC"],
        "tokscale": ["graph", "--opencode", "--no-spinner"],
    }
    return commands | {name: [path, *arguments[name]] for name, path in peers.items() if path}


_OURS: tuple[str, ...] = (sys.executable, "-m", "opencode_monitor", "--quiet")
_SUM_OF: dict[str, Callable[[Any], float | None]] = {
    "daily": lambda answer: float(answer["totals"]["cost_usd"]),
    **dict.fromkeys(_ZONES, lambda _: None),
    "sqlite3": float,
    "ccusage": lambda answer: float(answer["totals"]["totalCost"]),
    "tokscale": lambda answer: float(answer["summary"]["totalCost"]),
}


def _measure(store: Path, peers: dict[str, str | None], runs: int) -> dict[str, _Run]:
    """Import a store, then run everything in turn, so that what disturbs the machine disturbs all alike, and keep the best of each."""
    with tempfile.TemporaryDirectory(prefix="opencode-monitor-bench-") as directory:
        database = Path(directory, "monitor.duckdb")
        _, _, summary = _run([*_OURS, "--db", database, "import", "--json", store], {"XDG_CACHE_HOME": directory})
        print(f"\n{store}: {summary['totals']['new']:,} records", flush=True)
        best: dict[str, _Run] = {}
        for name, command in _commands(store, database, peers).items():
            best[name] = _Run()
            environment = {"OPENCODE_DATA_DIR": str(store), "LOG_LEVEL": "0"}
            if name == "tokscale":
                environment["HOME"] = str(_home(Path(directory), store))
            for _ in range(runs):
                best[name] = _best(best[name], name, command, environment)
                if best[name].failure:
                    break
        return best


def _home(directory: Path, store: Path) -> Path:
    """Make the home of a user whose OpenCode has the store: tokscale looks nowhere else. Its own list of prices stays where it is."""
    home = directory / "home"
    for link, target in ((home / ".local/share/opencode", store.resolve()), (home / ".cache/tokscale", Path.home() / ".cache/tokscale")):
        link.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            link.symlink_to(target)
    return home


def _best(known: _Run, name: str, command: list[str | Path], environment: dict[str, str]) -> _Run:
    try:
        seconds, cpu_seconds, answer = _run(command, environment)
    except ChildProcessError as error:
        return _Run(failure=str(error))
    if name in _ZONES:
        seconds, cpu_seconds = answer
    return _Run(min(known.seconds, seconds), min(known.cpu_seconds, cpu_seconds), _SUM_OF[name](answer))


def _print_table(best: dict[str, _Run], runs: int) -> None:
    print(f"{'':9}{'seconds':>9}{'CPU s':>9}{'x daily':>9}{'USD':>14}   best of {runs}")
    for name, run in best.items():
        if run.failure:
            print(f"{name:9} failed: {run.failure[:100]}")
            continue
        usd = "" if run.usd is None else f"{run.usd:,.6f}"
        print(f"{name:9}{run.seconds:>9.3f}{run.cpu_seconds:>9.3f}{run.seconds / best['daily'].seconds:>9.2f}{usd:>14}", flush=True)


def _print_growth(results: dict[str, dict[str, _Run]]) -> None:
    """Print how the time of each grows from the first store to the last one."""
    first, last = (results[name] for name in (next(iter(results)), list(results)[-1]))
    print(f"\nFrom {next(iter(results))} to {list(results)[-1]}, by the clock and of the CPU:")
    for name in first:
        if name in last and not (first[name].failure or last[name].failure):
            clock, cpu = last[name].seconds / first[name].seconds, last[name].cpu_seconds / first[name].cpu_seconds
            aim = f"   aim: {_MOST_GROWTH} at most" if name == "daily" else ""
            print(f"{name:9}{clock:>8.2f} x{cpu:>8.2f} x{aim}")
    queries = ", ".join(f"{name} {result['query'].seconds * 1000:.0f} ms" for name, result in results.items())
    print(f"query     {queries}; aim at 40,000 calls: {_MOST_QUERY_MS} ms at most")


def _main() -> None:
    parser = argparse.ArgumentParser(description="Measure a report beside other ways to the same sums.")
    parser.add_argument("stores", type=Path, nargs="*")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--calls", type=int, nargs="+", default=_CALLS, help="the sizes of the stores that are made without STORE")
    for peer in ("ccusage", "tokscale"):
        parser.add_argument(f"--{peer}", default=shutil.which(peer), help="its executable; default: the one on PATH")
    parser.add_argument("--reference", choices=(*_ZONES, "sqlite3"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reference in _ZONES:
        print(json.dumps(_query_seconds(options.stores[0], _ZONES[options.reference])))
        return
    if options.reference == "sqlite3":
        print(_aggregate(options.stores[0]))
        return
    peers = {"ccusage": options.ccusage, "tokscale": options.tokscale}
    results: dict[str, dict[str, _Run]] = {}
    for store in options.stores:
        results[store.name] = _measure(store, peers, options.runs)
        _print_table(results[store.name], options.runs)
    for calls in () if options.stores else options.calls:
        with tempfile.TemporaryDirectory(prefix="opencode-monitor-bench-") as directory:
            make_store = Path(__file__).with_name("make_store.py")
            subprocess.run([sys.executable, make_store, directory, "--calls", str(calls)], check=True)
            results[f"{calls:,} calls"] = best = _measure(Path(directory), peers, options.runs)
            _print_table(best, options.runs)
    if len(results) > 1:
        _print_growth(results)


if __name__ == "__main__":
    _main()
