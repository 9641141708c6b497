"""Run migrations in processes of their own, and kill them with SIGKILL at a given moment.

One process imports everything and then forks for each migration: DuckDB is opened in the children only. It is told what to do by lines of
JSON on its standard input, and answers each with a line.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self

import sqlalchemy as sa
from sqlalchemy import event

from opencode_monitor.db.migrate import downgrade, upgrade

if TYPE_CHECKING:
    from pathlib import Path

_MOVE = "'denormalize_parts'"
_COMMIT, _COMMITTED = b"c", b"d"


@dataclass(frozen=True, slots=True)
class Run:
    """What became of one migration.

    Attributes:
        killed: Whether it ended by the signal; otherwise it was done before its moment.
        seconds: From its start to its end.
        commit_at: When the commit of the move began, in seconds after the start; None where it was not reached.
        committed_at: When that commit was over.
    """

    killed: bool
    seconds: float
    commit_at: float | None
    committed_at: float | None


class Killer:
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

    def run(
        self, template: Path, file: Path, revision: str, *, kill_after: float | None = None, in_commit: bool = False, up: bool = True
    ) -> Run:
        """Migrate a copy of a database.

        Args:
            template: The database to copy.
            file: Where the copy goes; what the run before left there is taken away.
            revision: Where to migrate to.
            kill_after: After how many seconds the signal comes; None for a run to the end.
            in_commit: Count the seconds from the beginning of the commit of the move.
            up: Upgrade, or downgrade.
        """
        task = {
            "template": str(template),
            "file": str(file),
            "revision": revision,
            "kill_after": kill_after,
            "in_commit": in_commit,
            "up": up,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        return Run(**json.loads(self._process.stdout.readline()))


def _migrate(task: dict[str, object], pipe: int) -> None:
    """Run the migration in this process, and write to the pipe when the commit of the move begins and when it is over."""
    moved = committing = False

    def look(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        nonlocal moved, committing
        if committing:
            os.write(pipe, _COMMITTED)
            committing = moved = False
        moved = moved or ("alembic_version" in statement and _MOVE in statement)

    def tell(_connection: object) -> None:
        nonlocal committing
        if moved:
            committing = True
            os.write(pipe, _COMMIT)

    event.listen(sa.Engine, "before_cursor_execute", look)
    event.listen(sa.Engine, "commit", tell)
    (upgrade if task["up"] else downgrade)(f"duckdb:///{task['file']}", str(task["revision"]))


def _fork(task: dict[str, object]) -> tuple[int, int]:
    """Start the migration in a child; return its number, and the end of the pipe that it writes to."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    status = 1
    try:
        _migrate(task, writer)
        status = 0
    finally:
        os._exit(status)


def _kill_at_its_moment(task: dict[str, object]) -> Run:
    for path in (f"{task['file']}", f"{task['file']}.wal"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108 - the path came as text
    shutil.copyfile(str(task["template"]), str(task["file"]))
    started = time.monotonic()
    child, reader = _fork(task)
    kill_after, in_commit = task["kill_after"], task["in_commit"]
    deadline = None if kill_after is None or in_commit else started + float(str(kill_after))
    seen: dict[bytes, float] = {}
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not select.select([reader], [], [], left)[0]:
            os.kill(child, signal.SIGKILL)
            break
        told = os.read(reader, 1)
        if not told:
            break
        seen[told] = time.monotonic() - started
        if told == _COMMIT and in_commit:
            deadline = time.monotonic() + float(str(kill_after))
    _, status = os.waitpid(child, 0)
    os.close(reader)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return Run(os.WIFSIGNALED(status), time.monotonic() - started, seen.get(_COMMIT), seen.get(_COMMITTED))


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(asdict(_kill_at_its_moment(json.loads(line)))), flush=True)  # noqa: T201 - the answer
