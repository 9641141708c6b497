"""Measure the migration of the 29-column table, up and down, beside a bare copy of the same rows.

    python benchmarks/migrate.py [--parts 2000000] [--runs 2]

A database of the old schema is made (`make_parts.py`). Three things run in turn, each as a process of its own on a fresh copy of it, and
the best of the runs counts:

    copy    CREATE TABLE AS SELECT of the old table, in one transaction, and a checkpoint: no key, no index, no check
    up      the revisions from resource_metrics to head, with their own checks
    down    back from head to resource_metrics

Seconds are those of the work itself, memory is the highest resident size of the process, the program's own memory limit in force.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.db.migrate import downgrade, upgrade

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_BEFORE = "resource_metrics"
_MB = 1_000_000


class _Usage(NamedTuple):
    seconds: float
    peak_mb: float


def _copy(url: str) -> None:
    engine = create_database_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE parts_copy AS SELECT * FROM parts")
    with engine.connect() as connection:
        connection.exec_driver_sql("CHECKPOINT")
    engine.dispose()


_STEPS: Mapping[str, Callable[[str], object]] = {"copy": _copy, "up": upgrade, "down": lambda url: downgrade(url, _BEFORE)}


def _measure(step: str, file: Path) -> _Usage:
    """Run one step, in this process."""
    started = time.perf_counter()
    _STEPS[step](f"duckdb:///{file}")
    seconds = time.perf_counter() - started
    kilobyte = 1024 if sys.platform == "linux" else 1
    return _Usage(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilobyte / _MB)


def _measure_apart(step: str, file: Path) -> _Usage:
    command = [sys.executable, __file__, "--database", str(file), "--step", step]
    return _Usage(*json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))


def _compare(directory: Path, parts: int, runs: int) -> None:
    old, copied, migrated = (directory / f"{name}.duckdb" for name in ("old", "copied", "migrated"))
    subprocess.run([sys.executable, Path(__file__).with_name("make_parts.py"), old, "--parts", str(parts)], check=True)
    best: dict[str, _Usage] = {}
    for _ in range(runs):
        shutil.copy(old, copied)
        shutil.copy(old, migrated)
        for step, file in (("copy", copied), ("up", migrated), ("down", migrated)):
            usage = _measure_apart(step, file)
            known = best.get(step, usage)
            best[step] = _Usage(min(known.seconds, usage.seconds), max(known.peak_mb, usage.peak_mb))
    print(f"{parts:,} parts, {old.stat().st_size / _MB:,.0f} MB; best of {runs}")
    print(f"{'':6}{'seconds':>9}{'rows/s':>10}{'x copy':>8}{'peak MB':>9}")
    for step, usage in best.items():
        ratio = usage.seconds / best["copy"].seconds
        print(f"{step:6}{usage.seconds:>9.2f}{parts / usage.seconds:>10,.0f}{ratio:>8.2f}{usage.peak_mb:>9.0f}")


def _main() -> None:
    parser = argparse.ArgumentParser(description="Measure the migration beside a bare copy of the same rows.")
    parser.add_argument("--parts", type=int, default=2_000_000)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--database", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--step", choices=_STEPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step is not None:
        print(json.dumps(_measure(options.step, options.database)))
        return
    with tempfile.TemporaryDirectory(prefix="opencode-monitor-bench-") as directory:
        _compare(Path(directory), options.parts, options.runs)


if __name__ == "__main__":
    _main()
