"""Run imports in processes of their own, and kill them with SIGKILL at a given moment.

One process imports every module and then forks for each command: DuckDB is opened in the children only. It is told what to do by lines of
JSON on its standard input, and answers each with a line.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self

import duckdb_engine  # noqa: F401 - as everything below: before the forks, so that their time is the import's
import rich.progress  # noqa: F401 - as above

from opencode_monitor.cli.app import main
from opencode_monitor.db import dialect, revision  # noqa: F401 - as above
from opencode_monitor.ingest import pipeline

if TYPE_CHECKING:
    from pathlib import Path

_STEP_S = 0.002


@dataclass(frozen=True, slots=True)
class Run:
    """What became of one import: whether it was killed or done before its moment, and how long it worked."""

    killed: bool
    seconds: float


class Importer:
    """The process that forks, as its owner sees it."""

    def __enter__(self) -> Self:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.communicate()

    def run(self, database: Path, data: Path, batch_records: int, *, kill_after: float | None = None) -> Run:
        """Run `opencode-monitor import`.

        Args:
            database: What to write.
            data: What to read.
            batch_records: How large a batch is: with the usual size, a store of a test would be one.
            kill_after: After how many seconds the signal comes; None for a run to the end.
        """
        task = {"database": str(database), "data": str(data), "batch_records": batch_records, "kill_after": kill_after}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        return Run(**json.loads(self._process.stdout.readline()))


def _import(task: dict[str, object]) -> None:
    pipeline.BATCH_RECORDS = int(str(task["batch_records"]))
    # The answers go to standard output.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    main(["--db", str(task["database"]), "-q", "import", str(task["data"])])


def _kill_at_its_moment(task: dict[str, object]) -> Run:
    started = time.monotonic()
    child = os.fork()
    if not child:
        status = 1
        try:
            _import(task)
        except SystemExit as exit_:
            status = int(str(exit_.code or 0))
        finally:
            os._exit(status)
    deadline = None if task["kill_after"] is None else started + float(str(task["kill_after"]))
    while True:
        ended, status = os.waitpid(child, os.WNOHANG if deadline else 0)
        if ended:
            break
        if deadline and time.monotonic() >= deadline:
            os.kill(child, signal.SIGKILL)
            deadline = None
        time.sleep(_STEP_S)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return Run(os.WIFSIGNALED(status), time.monotonic() - started)


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(asdict(_kill_at_its_moment(json.loads(line)))), flush=True)  # noqa: T201 - the answer
