"""Measure the questions of docs/queries.md on the table of 29 columns and on the ten tables that took its place.

    python benchmarks/queries.py [--parts 2000000] [--runs 5] [--keep DIRECTORY]

A database of the old schema is made (`make_parts.py`), copied, and the copy migrated to head. Each question then runs on both in turn, each
time in a process of its own, three processes a side, so that what disturbs the machine disturbs both sides alike. A process runs the
statements once and then measures the runs, more of them where they are short: executing and fetching, through SQLAlchemy as in the program.
The best of all runs counts; the ratio is after / before; memory is the highest resident size of a process.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from opencode_monitor.db.engine import create_database_engine

if TYPE_CHECKING:
    from collections.abc import Sequence

_ROOT = Path(__file__).parents[1]
_DOCUMENT = _ROOT / "docs" / "queries.md"
_MB = 1_000_000
# The same tool call on both sides, whose session is asked for too.
_MIDDLE = """
    SELECT part_id, session_id FROM parts WHERE part_type = 'tool_call' AND created_at >= TIMESTAMP '2025-07-01' ORDER BY created_at LIMIT 1
"""
_ROUNDS = 3
_SHORTEST_MS = 500  # a query of a millisecond needs more than five runs to meet a quiet moment


class Question(NamedTuple):
    """One question, with the statements that answer it before and after the migration."""

    title: str
    before: list[str]
    after: list[str]


class _Usage(NamedTuple):
    milliseconds: float
    rows: int
    peak_mb: float


def read_questions(document: str) -> list[Question]:
    """Return the questions of the document: each section with a number, and its two blocks of SQL."""
    questions = []
    for title, section in re.findall(r"^## (\d+\. .+?)\n(.*?)(?=^## |\Z)", document, re.MULTILINE | re.DOTALL):
        before, after = (
            [statement.strip() for statement in block.split(";") if statement.strip()]
            for block in re.findall(r"^```sql\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
        )
        questions.append(Question(title, before, after))
    return questions


def _measure(file: Path, statements: list[str], runs: int) -> _Usage:
    """Run the statements of one side, in this process."""
    engine = create_database_engine(f"duckdb:///{file}", read_only=True)
    with engine.connect() as connection:
        part_id, session_id = connection.execute(sa.text(_MIDDLE)).one()
        values = {"part_id": part_id, "session_id": session_id}
        prepared = [(sql, {name: value for name, value in values.items() if f":{name}" in sql}) for sql in statements]
        timings: list[float] = []
        rows = 0
        while len(timings) <= runs or sum(timings) < _SHORTEST_MS:
            started = time.perf_counter()
            counts = [len(connection.execute(sa.text(sql), used).all()) for sql, used in prepared]
            timings.append((time.perf_counter() - started) * 1000)
            rows = counts[0]
    kilobyte = 1024 if sys.platform == "linux" else 1
    return _Usage(min(timings[1:]), rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilobyte / _MB)


def _measure_apart(file: Path, number: int, side: str, runs: int) -> _Usage:
    command = [sys.executable, __file__, "--database", str(file), "--question", str(number), "--side", side, "--runs", str(runs)]
    return _Usage(*json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))


def _best(usages: Sequence[_Usage]) -> _Usage:
    return _Usage(min(usage.milliseconds for usage in usages), usages[0].rows, max(usage.peak_mb for usage in usages))


def _compare(directory: Path, parts: int, runs: int) -> None:
    before, after = directory / f"before-{parts}.duckdb", directory / f"after-{parts}.duckdb"
    if not before.exists():
        subprocess.run([sys.executable, Path(__file__).with_name("make_parts.py"), before, "--parts", str(parts)], check=True)
    if not after.exists():
        shutil.copy(before, after)
        # In a process of its own: a child begins with the highest memory that its parent ever had, and would report that.
        environment = {**os.environ, "OPENCODE_MONITOR_DATABASE_URL": f"duckdb:///{after}"}
        subprocess.run([sys.executable, "-m", "alembic", "upgrade", "head"], cwd=_ROOT, env=environment, check=True)
    questions = read_questions(_DOCUMENT.read_text(encoding="utf-8"))
    width = max(len(question.title) for question in questions)
    print(f"{parts:,} parts; best of {runs}")
    print(f"{'':{width}}{'rows':>9}{'before ms':>11}{'after ms':>10}{'ratio':>7}{'before MB':>11}{'after MB':>10}")
    for number, question in enumerate(questions):
        rounds = [(_measure_apart(before, number, "before", runs), _measure_apart(after, number, "after", runs)) for _ in range(_ROUNDS)]
        old, new = (_best(side) for side in zip(*rounds, strict=True))
        if old.rows != new.rows:
            sys.exit(f"{question.title}: {old.rows} rows before, {new.rows} after")
        times = f"{old.milliseconds:>11.1f}{new.milliseconds:>10.1f}{new.milliseconds / old.milliseconds:>7.2f}"
        print(f"{question.title:{width}}{new.rows:>9,}{times}{old.peak_mb:>11.0f}{new.peak_mb:>10.0f}", flush=True)


def _main() -> None:
    parser = argparse.ArgumentParser(description="Measure the questions of docs/queries.md before and after the migration.")
    parser.add_argument("--parts", type=int, default=2_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="where the two databases stay; made anew elsewhere without it")
    parser.add_argument("--database", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--question", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--side", choices=("before", "after"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.database is not None:
        question = read_questions(_DOCUMENT.read_text(encoding="utf-8"))[options.question]
        print(json.dumps(_measure(options.database, getattr(question, options.side), options.runs)))
    elif options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
        _compare(options.keep, options.parts, options.runs)
    else:
        with tempfile.TemporaryDirectory(prefix="opencode-monitor-bench-") as directory:
            _compare(Path(directory), options.parts, options.runs)


if __name__ == "__main__":
    _main()
