from __future__ import annotations

import shutil
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from opencode_monitor.db.engine import create_database_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    import sqlalchemy as sa

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)


@pytest.fixture
def real() -> Path:
    """Stores that OpenCode itself has written, each with the provider's ledger."""
    return Path(__file__).parents[1] / "fixtures" / "opencode"


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
