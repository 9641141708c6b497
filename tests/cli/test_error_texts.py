"""Each error says in one line what happened and what to do, with a code that scripts can rely on: the texts, as they are promised."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb
import pytest

import stores
from commands import run
from opencode_monitor.database import open_database
from opencode_monitor.db.revision import HEAD_REVISION, REVISIONS
from opencode_monitor.testing.builders import add_session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOLD = "import duckdb, sys; c = duckdb.connect(sys.argv[-1]); print('holding', flush=True); input()"
BEHIND = REVISIONS[-2]


@dataclass(frozen=True)
class Case:
    """One error.

    Attributes:
        arguments: What leads to it; `{directory}` is where the databases are.
        exit_code: What the command ends with.
        code: The error's name in JSON.
        message: What happened.
        hint: What to do.
    """

    arguments: str
    exit_code: int
    code: str
    message: str
    hint: str


CASES = {
    "date": Case(
        "--db {directory}/head.duckdb daily --since 2026-13-01",
        2,
        "usage",
        "'2026-13-01' is not a date.",
        "Use 2026-10-01, 7d, today, or monday.",
    ),
    "range": Case(
        "--db {directory}/head.duckdb daily --since 2026-10-05 --until 2026-10-01",
        2,
        "usage",
        "--since 2026-10-05 is after --until 2026-10-01.",
        "",
    ),
    "zone": Case(
        "--db {directory}/head.duckdb --tz Berlin daily",
        2,
        "usage",
        "unknown time zone 'Berlin'.",
        "Did you mean 'Europe/Berlin'?",
    ),
    "session": Case(
        "--db {directory}/sessions.duckdb session ses_9",
        1,
        "not_found",
        "no session 'ses_9'.",
        "3 start with it: ses_91…, ses_94…, ses_9f…",
    ),
    "missing": Case(
        "--db {directory}/none.duckdb daily",
        5,
        "schema_out_of_date",
        "no database at {directory}/none.duckdb.",
        "Run: opencode-monitor db upgrade && opencode-monitor import",
    ),
    "behind": Case(
        "--db {directory}/behind.duckdb daily",
        5,
        "schema_out_of_date",
        f"schema is {BEHIND}, this version needs {HEAD_REVISION}.",
        "Run: opencode-monitor db upgrade (a backup is made first)",
    ),
    "ahead": Case(
        "--db {directory}/ahead.duckdb daily",
        5,
        "schema_out_of_date",
        f"schema ffff is newer than this program (head {HEAD_REVISION}).",
        "Upgrade the program; nothing was changed.",
    ),
    "upgrade ahead": Case(
        "--db {directory}/ahead.duckdb db upgrade",
        5,
        "schema_out_of_date",
        f"schema ffff is newer than this program (head {HEAD_REVISION}).",
        "Upgrade the program; nothing was changed.",
    ),
    "busy": Case(
        "--db {directory}/held.duckdb --wait 0.2s daily",
        4,
        "database_busy",
        "database is in use by 'opencode-monitor serve' (PID {pid}); waited 0.2 s.",
        "Stop it or use --wait 5m.",
    ),
    "no data": Case(
        "--db {directory}/none.duckdb import",
        1,
        "source_not_found",
        "OpenCode data not found. Looked in: $OPENCODE_DB, ~/.local/share/opencode/opencode.db, …/storage.",
        "Use: import PATH",
    ),
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory, duckdb_at_head: Path) -> Path:
    """A directory with a database for each case; no case writes to one."""
    directory = tmp_path_factory.mktemp("errors")
    for name in ("head", "sessions", "behind", "ahead", "held"):
        shutil.copy(duckdb_at_head, directory / f"{name}.duckdb")
    with open_database(directory / "sessions.duckdb", read_only=False).begin() as session:
        for session_id in ("ses_8", "ses_912", "ses_94a", "ses_9f0"):
            add_session(session, session_id)
    for name, revision in (("behind", BEHIND), ("ahead", "ffff")):
        with duckdb.connect(str(directory / f"{name}.duckdb")) as connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", [revision])
    return directory


@pytest.fixture(scope="module")
def serving(directory: Path) -> Iterator[int]:
    """Another process, by the name of `opencode-monitor serve`, that holds a database; its number."""
    program = directory / "opencode-monitor"
    program.write_text(HOLD)
    with _started([sys.executable, str(program), "serve", str(directory / "held.duckdb")]) as process:
        yield process.pid


@contextmanager
def _started(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"holding\n"
        try:
            yield process
        finally:
            process.communicate(b"\n")


@pytest.mark.parametrize("name", CASES)
def test_main_error_is_one_line_with_its_exit_code(name: str, directory: Path, serving: int) -> None:
    case = CASES[name]

    outcome = run(*case.arguments.format(directory=directory).split())

    told = f"opencode-monitor: error: {case.message} {case.hint}".rstrip().format(directory=directory, pid=serving)
    assert (outcome.exit_code, outcome.stdout, outcome.stderr) == (case.exit_code, "", f"{told}\n")


@pytest.mark.parametrize("name", CASES)
def test_main_error_with_json_is_an_object_of_code_message_and_hint(name: str, directory: Path, serving: int) -> None:
    case = CASES[name]

    outcome = run(*case.arguments.format(directory=directory).split(), "--json")

    assert (outcome.exit_code, outcome.stdout) == (case.exit_code, "")
    assert json.loads(outcome.stderr) == {
        "error": {"code": case.code, "message": case.message.format(directory=directory, pid=serving), "hint": case.hint or None}
    }


def test_import_skipped_records_are_a_warning_that_says_where_they_are_listed(tmp_path: Path, duckdb_at_head: Path) -> None:
    store = stores.Store()
    session = stores.add_session(store, stores.START_MS)
    for number in range(3):
        stores.add_call(store, session, stores.START_MS + number)
    storage = stores.write_json(store, tmp_path / "opencode")
    first, second, third = (f"part/{part['messageID']}/{part['id']}.json" for part in store.parts[:3])
    for place, text in ((first, b"{"), (second, b'{"id": '), (third, b"")):
        (storage / place).write_bytes(text)
    database = shutil.copy(duckdb_at_head, tmp_path / "monitor.duckdb")

    outcome = run("--db", database, "import", tmp_path / "opencode")
    listed = run("--db", database, "doctor", "--show", "skipped")

    number = len(store.sessions) + len(store.messages) + len(store.parts)
    assert outcome.exit_code == 0
    assert outcome.stderr == (
        f"opencode-monitor: warning: skipped 3 of {number} records (unreadable JSON). List: opencode-monitor doctor --show skipped\n"
    )
    assert sorted(line.partition(": ")[0] for line in listed.stdout.splitlines()) == sorted([first, second, third])
