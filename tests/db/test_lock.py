"""Two migrations never run at once, whoever starts them: real processes on both engines."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
import sqlalchemy as sa

import forked
from commands import run
from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.db.lock import migration_connection
from opencode_monitor.db.migrate import upgrade
from opencode_monitor.db.revision import HEAD_REVISION
from opencode_monitor.errors import DatabaseBusyError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

ROOT = Path(__file__).parents[2]
HOLD = """
import sys
from opencode_monitor.db.lock import migration_connection
with migration_connection(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""


def held(url: str) -> AbstractContextManager[forked.Process]:
    """Let another process hold the lock."""
    return forked.holding(HOLD, url)


def alembic(url: str, *arguments: str) -> forked.Process:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENCODE_MONITOR_")}
    return forked.start("alembic", *arguments, cwd=ROOT, env=environment | {"OPENCODE_MONITOR_DATABASE_URL": url}, stderr=subprocess.STDOUT)


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
    told = [process.read() for process in (first, second)]

    assert [first.wait(), second.wait()] == [0, 0], told
    assert run("--db", empty_database_url, "db", "current").stdout == f"{HEAD_REVISION}\n"


def test_alembic_waits_for_the_program_and_goes_on(empty_database_url: str) -> None:
    with held(empty_database_url):
        waiting = alembic(empty_database_url, "upgrade", "baseline")
        is_waiting = waiting.is_running(1)
    told = waiting.read()

    assert is_waiting
    assert waiting.wait() == 0, told


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
