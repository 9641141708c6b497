from __future__ import annotations

import shutil
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.ingest.pipeline import import_sources
from opencode_monitor.pricing.book import add_periods
from opencode_monitor.pricing.catalog import user_period
from opencode_monitor.sources.discover import find_sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import sqlalchemy as sa

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)


@pytest.fixture
def real() -> Path:
    """Stores that OpenCode itself has written, each with the provider's ledger."""
    return Path(__file__).parents[1] / "fixtures" / "opencode"


@pytest.fixture
def imported(filled_engine: Callable[[str, Callable[[sa.Engine], None]], sa.Engine], real: Path) -> Callable[..., sa.Engine]:
    """Return what opens a database with one of the real stores in it, imported once in a run, on each engine."""

    def open_imported(name: str, *, priced: bool = False) -> sa.Engine:
        """With a price for the model that the packaged list does not know, if asked for."""

        def write(engine: sa.Engine) -> None:
            if priced:
                period = user_period("deepseek", "deepseek-chat", input="0.28", output="0.42", cache_read="0.028", cache_write="0")
                with engine.begin() as connection:
                    add_periods(connection, [period], now=NOW)
            import_sources(engine, find_sources(real / name, {}), now=NOW)

        return filled_engine(f"{name}{'-priced' if priced else ''}", write)

    return open_imported


@pytest.fixture
def other_database_url(database_url: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Name a second empty database at head, of the same kind as the first."""
    if database_url.startswith("duckdb"):
        file = tmp_path / "other.duckdb"
        shutil.copy(request.getfixturevalue("duckdb_at_head"), file)
        yield f"duckdb:///{file}"
        return
    server: str = request.getfixturevalue("postgres_server")
    template: str = request.getfixturevalue("postgresql_at_head")
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY".encode())
        yield server.replace("/postgres?", f"/{name}?")
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def other_engine(other_database_url: str) -> Iterator[sa.Engine]:
    """Open the second database, to compare with."""
    engine = create_database_engine(other_database_url, wait_seconds=5)
    with engine.connect():  # as in `engine`
        yield engine
    engine.dispose()
