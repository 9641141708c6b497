"""Imports and migrations in processes of their own, killed with SIGKILL at a given moment."""

from __future__ import annotations

import json
import select
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import forked

if TYPE_CHECKING:
    from pathlib import Path

_COMMIT, _COMMITTED = b"c", b"d"

_IMPORT = """
import json, os, sys
from opencode_monitor.cli.app import main
from opencode_monitor.ingest import batches
task = json.loads(sys.argv[1])
batches.BATCH_RECORDS = task["batch_records"]
main(["--db", task["database"], "-q", "import", task["data"]])
"""

# Tells when the commit of the move begins, and when it is over.
_MIGRATE = f"""
import json, os, sys
import sqlalchemy as sa
from opencode_monitor.db.migrate import downgrade, upgrade
task = json.loads(sys.argv[1])
is_moved = is_committing = False
def look(_connection, _cursor, statement, *_):
    global is_moved, is_committing
    if is_committing:
        os.write(sys.stdout.fileno(), {_COMMITTED!r})
        is_committing = is_moved = False
    is_moved = is_moved or ("alembic_version" in statement and "'denormalize_parts'" in statement)
def tell(_connection):
    global is_committing
    if is_moved:
        is_committing = True
        os.write(sys.stdout.fileno(), {_COMMIT!r})
sa.event.listen(sa.Engine, "before_cursor_execute", look)
sa.event.listen(sa.Engine, "commit", tell)
(upgrade if task["up"] else downgrade)("duckdb:///" + task["file"], task["revision"])
"""


@dataclass(frozen=True, slots=True)
class Run:
    """What became of one process.

    Attributes:
        killed: Whether it ended by the signal; otherwise it was done before its moment.
        seconds: From its start to its end.
        commit_at: When the commit of a migration's move began, in seconds after the start; None where it was not reached.
        committed_at: When that commit was over.
    """

    killed: bool
    seconds: float
    commit_at: float | None = None
    committed_at: float | None = None


def run_import(database: Path, data: Path, batch_records: int, *, kill_after: float | None = None) -> Run:
    """Run `opencode-monitor import`.

    Args:
        database: What to write.
        data: What to read.
        batch_records: How large a batch is: with the usual size, a store of a test would be one.
        kill_after: After how many seconds the signal comes; None for a run to the end.
    """
    task = {"database": str(database), "data": str(data), "batch_records": batch_records}
    process = forked.start(_IMPORT, json.dumps(task), stdout=subprocess.DEVNULL)
    if kill_after is not None and process.is_running(kill_after):
        process.kill()
    return _outcome(process, {})


def run_migration(file: Path, revision: str, *, kill_after: float | None = None, in_commit: bool = False, up: bool = True) -> Run:
    """Migrate a database.

    Args:
        file: The database.
        revision: Where to migrate to.
        kill_after: After how many seconds the signal comes; None for a run to the end.
        in_commit: Count the seconds from the beginning of the commit of the move.
        up: Upgrade, or downgrade.
    """
    process = forked.start(_MIGRATE, json.dumps({"file": str(file), "revision": revision, "up": up}))
    assert process.stdout is not None
    deadline = None if kill_after is None or in_commit else process.started + kill_after
    seen: dict[bytes, float] = {}
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not select.select([process.stdout], [], [], left)[0]:
            process.kill()
            break
        told = process.stdout.read(1)
        if not told:
            break
        seen[told] = time.monotonic() - process.started
        if told == _COMMIT and in_commit and kill_after is not None:
            deadline = time.monotonic() + kill_after
    return _outcome(process, seen)


def _outcome(process: forked.Process, seen: dict[bytes, float]) -> Run:
    code = process.wait()
    assert code in (0, -signal.SIGKILL)
    return Run(code != 0, time.monotonic() - process.started, seen.get(_COMMIT), seen.get(_COMMITTED))
