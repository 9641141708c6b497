"""Two migrations never run at once, whoever starts them: real processes on both engines."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
import sqlalchemy as sa

from commands import run
from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.db.lock import migration_connection
from opencode_monitor.db.migrate import upgrade
from opencode_monitor.errors import DatabaseBusyError

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
HOLD = """
import sys
from opencode_monitor.db.lock import migration_connection
with migration_connection(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def held(url: str) -> Iterator[subprocess.Popen[bytes]]:
    """Let another process hold the lock."""
    with subprocess.Popen([sys.executable, "-c", HOLD, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        try:
            yield process
        finally:
            process.communicate(b"\n")


def alembic(url: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENCODE_MONITOR_")}
    return subprocess.Popen(
        [Path(sys.executable).with_name("alembic"), *arguments],
        cwd=ROOT,
        env=environment | {"OPENCODE_MONITOR_DATABASE_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("command", [("upgrade",), ("downgrade", "base", "--yes"), ("retire-legacy", "--yes", "--after", "0d")])
def test_command_during_another_migration_is_exit_4(database_url: str, command: tuple[str, ...]) -> None:
    with held(database_url):
        outcome = run("--db", database_url, "--wait", "0.2s", "db", *command)

    assert (outcome.exit_code, outcome.stdout) == (4, "")
    if database_url.startswith("postgresql"):
        assert re.fullmatch(
            r"opencode-monitor: error: database is being migrated by the server's process \d+ \(user postgres, connected since"
            r" \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\); waited 0\.2 s\. Let it finish, or use --wait 5m\.\n",
            outcome.stderr,
        )
    else:
        assert "database is in use by" in outcome.stderr


def test_upgrade_as_a_function_during_another_migration_raises(empty_database_url: str) -> None:
    with held(empty_database_url), pytest.raises(DatabaseBusyError, match=r"waited 0\.1 s"):
        upgrade(empty_database_url, wait_seconds=0.1)


def test_alembic_twice_at_once_runs_one_after_the_other(empty_database_url: str) -> None:
    first, second = alembic(empty_database_url, "upgrade", "head"), alembic(empty_database_url, "upgrade", "head")
    errors = [process.communicate()[1] for process in (first, second)]

    assert [first.returncode, second.returncode] == [0, 0], errors
    assert run("--db", empty_database_url, "db", "current").stdout == "import_state\n"


def test_alembic_waits_for_the_program_and_goes_on(empty_database_url: str) -> None:
    with held(empty_database_url):
        waiting = alembic(empty_database_url, "upgrade", "baseline")
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(timeout=2)
    _, errors = waiting.communicate()

    assert waiting.returncode == 0, errors


def test_migration_connection_of_a_process_that_was_killed_is_free_again(migrated_postgresql_url: str) -> None:
    with held(migrated_postgresql_url) as process:
        process.kill()
        process.wait()

        with migration_connection(migrated_postgresql_url, wait_seconds=5) as connection:
            assert connection.scalar(sa.text("SELECT 1")) == 1


def test_migration_connection_leaves_readers_and_other_databases_alone(migrated_postgresql_url: str, postgresql_url: str) -> None:
    with held(migrated_postgresql_url):
        with migration_connection(postgresql_url, wait_seconds=0) as other:
            assert not other.in_transaction()
        engine = create_database_engine(migrated_postgresql_url, read_only=True)
        with engine.connect() as reader:
            assert reader.scalar(sa.text("SELECT count(*) FROM sessions")) == 0
        engine.dispose()
        with psycopg.connect(migrated_postgresql_url) as raw:
            row = raw.execute(
                "SELECT state FROM pg_stat_activity WHERE pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')"
            ).fetchone()
    # An open transaction would hold back the server's clean-up while a migration waits or thinks.
    assert row == ("idle",)
