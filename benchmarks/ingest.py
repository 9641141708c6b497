"""Measure `opencode-monitor import` beside what no import can do without: reading the store, and writing its text down.

    python benchmarks/ingest.py [STORE] [--runs 3] [--calls 10000] [--json]

STORE is a data directory with an opencode.db or a storage/; without it one is made (`make_store.py`). Six things run in turn, each as a
process of its own, and the best of the runs counts:

    scan        read every message and part, and nothing else
    decode      read them and decode their JSON
    copy        read them and write their text as it is into a one-table DuckDB file: Arrow batches of 5,000, one commit each, the settings
                of our engine
    import      the whole command on a new database: start, migrations, reading, mapping, pricing, checks
    again       the same command once more: nothing has changed
    no-content  the whole command with --no-content on another new database

Seconds are from start to end of the process. Memory is the highest resident size of the process and those that it starts, together: what
they share counts for each of them.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_BATCH = 5_000
_MB = 1_000_000
_REFERENCES = ("scan", "decode", "copy")


class _Usage(NamedTuple):
    seconds: float
    cpu_seconds: float
    peak_mb: float


def _raw_records(store: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the id and the text of every message and part of a store."""
    database = store / "opencode.db"
    if database.exists():
        with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            for table in ("message", "part"):
                yield from connection.execute(f"SELECT id, CAST(data AS BLOB) FROM {table}")
        return
    for table in ("message", "part"):
        with os.scandir(store / "storage" / table) as owners:
            for owner in owners:
                with os.scandir(owner.path) as files:
                    for file in files:
                        with open(file.path, "rb", buffering=0) as opened:  # noqa: PTH123 - a Path for each file costs seconds
                            yield file.name, opened.read()


def _scan(store: Path) -> tuple[int, int]:
    """Return how many records there are, and how many bytes of text."""
    count = size = 0
    for _, text in _raw_records(store):
        count += 1
        size += len(text)
    return count, size


def _decode(store: Path) -> None:
    import msgspec  # noqa: PLC0415 - a scan does not pay for it

    decode = msgspec.json.Decoder().decode
    for _, text in _raw_records(store):
        decode(text)


def _copy(store: Path, target: Path) -> None:
    import nanoarrow  # noqa: PLC0415 - a scan does not pay for it

    from opencode_monitor.db.engine import create_database_engine  # noqa: PLC0415 - the same

    records = _raw_records(store)
    with create_database_engine(f"duckdb:///{target}").connect() as connection:
        with connection.begin():
            connection.exec_driver_sql("CREATE TABLE raw (id VARCHAR, data VARCHAR)")
        duckdb_connection = connection.connection.driver_connection
        while rows := list(islice(records, _BATCH)):
            columns = {
                "id": nanoarrow.c_array([record_id for record_id, _ in rows], nanoarrow.string()),
                "data": nanoarrow.c_array([text.decode() for _, text in rows], nanoarrow.large_string()),
            }
            schema = nanoarrow.struct({name: array.schema for name, array in columns.items()})
            batch = nanoarrow.c_array_from_buffers(schema, len(rows), [None], children=columns.values(), null_count=0)
            with connection.begin():
                duckdb_connection.register("batch", nanoarrow.Array(batch))  # type: ignore[union-attr] # an open connection has one
                connection.exec_driver_sql("INSERT INTO raw SELECT id, data FROM batch")
                duckdb_connection.unregister("batch")  # type: ignore[union-attr] # the same


class _Peak(threading.Thread):
    """Looks 50 times a second at how much memory a process and those that it has started have together, where /proc tells."""

    def __init__(self, pid: int) -> None:
        super().__init__()
        self.resident = 0
        self.is_over = threading.Event()
        self._pid = pid

    def run(self) -> None:
        while not self.is_over.wait(0.02):
            self.resident = max(self.resident, sum(map(_resident, _with_children(self._pid))))


def _with_children(pid: int) -> Iterator[int]:
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return
    for child in map(int, children.split()):
        yield from _with_children(child)


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def _run(*command: str | Path) -> _Usage:
    """Run a command to its end."""
    started = time.perf_counter()
    # As an installed program, which has its bytecode: without it, each start would compile some hundred modules.
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environ)
    # wait4() tells the usage of this one child; getrusage() would tell the highest of all so far.
    peak = _Peak(process.pid)
    peak.start()
    errors = process.stderr.read() if process.stderr else b""
    peak.is_over.set()
    peak.join()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with {process.returncode}:\n{errors.decode(errors='replace')}")
    kilobyte = 1024 if sys.platform == "linux" else 1
    return _Usage(seconds, usage.ru_utime + usage.ru_stime, max(usage.ru_maxrss * kilobyte, peak.resident) / _MB)


def _measure(store: Path, runs: int) -> dict[str, _Usage]:
    """Run everything in turn, so that what disturbs the machine disturbs all alike, and keep the best of each."""
    best: dict[str, _Usage] = {}
    for _ in range(runs):
        with tempfile.TemporaryDirectory(prefix="opencode-monitor-bench-") as directory:
            database = Path(directory, "monitor.duckdb")
            import_ = (sys.executable, "-m", "opencode_monitor", "--db", database, "--quiet", "import", store)
            commands: dict[str, tuple[str | Path, ...]] = {
                "scan": (sys.executable, __file__, store, "--reference", "scan"),
                "decode": (sys.executable, __file__, store, "--reference", "decode"),
                "copy": (sys.executable, __file__, store, "--reference", "copy", "--target", Path(directory, "copy.duckdb")),
                "import": import_,
                "again": import_,
                "no-content": (*import_[:4], Path(directory, "metadata.duckdb"), "--quiet", "import", "--no-content", store),
            }
            for name, command in commands.items():
                usage = _run(*command)
                known = best.get(name, usage)
                best[name] = _Usage(
                    seconds=min(known.seconds, usage.seconds),
                    cpu_seconds=min(known.cpu_seconds, usage.cpu_seconds),
                    peak_mb=max(known.peak_mb, usage.peak_mb),
                )
    return best


def _print_table(store: Path, best: dict[str, _Usage], runs: int) -> None:
    records, size = _scan(store)
    kind = "opencode.db" if (store / "opencode.db").exists() else "storage/"
    print(f"{store}: {kind}, {records:,} messages and parts, {size / _MB:,.0f} MB of text; best of {runs}")
    head = "".join(f"{name:>10}" for name in ("seconds", "CPU s", "rows/s", "MB/s", "peak MB", *(f"x {name}" for name in _REFERENCES)))
    print(f"{'':10}{head}    (of CPU s: {', '.join(f'x {name}' for name in _REFERENCES)})")
    for name, usage in best.items():
        rates = f"{records / usage.seconds:>10,.0f}{size / _MB / usage.seconds:>10.0f}"
        ratios = "".join(f"{usage.seconds / best[reference].seconds:>10.2f}" for reference in _REFERENCES)
        of_cpu = ", ".join(f"{usage.cpu_seconds / best[reference].cpu_seconds:.2f}" for reference in _REFERENCES)
        print(f"{name:10}{usage.seconds:>10.2f}{usage.cpu_seconds:>10.2f}{rates}{usage.peak_mb:>10.0f}{ratios}    ({of_cpu})")


def _main() -> None:
    parser = argparse.ArgumentParser(description="Measure an import beside reading and copying the same store.")
    parser.add_argument("store", type=Path, nargs="?")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--calls", type=int, default=10_000, help="the size of the store that is made without STORE")
    parser.add_argument("--json", action="store_true", help="make a JSON tree, not a database")
    parser.add_argument("--reference", choices=_REFERENCES, help=argparse.SUPPRESS)
    parser.add_argument("--target", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reference == "scan":
        _scan(options.store)
    elif options.reference == "decode":
        _decode(options.store)
    elif options.reference == "copy":
        _copy(options.store, options.target)
    elif options.store is not None:
        _print_table(options.store, _measure(options.store, options.runs), options.runs)
    else:
        with tempfile.TemporaryDirectory(prefix="opencode-monitor-bench-") as directory:
            make_store: list[str | Path] = [sys.executable, Path(__file__).with_name("make_store.py"), directory]
            subprocess.run([*make_store, "--calls", str(options.calls), *(["--json"] if options.json else [])], check=True)
            _print_table(Path(directory), _measure(Path(directory), options.runs), options.runs)


if __name__ == "__main__":
    _main()
