"""What the tests of the migrations share."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from opencode_monitor.db.engine import create_database_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


@pytest.fixture
def repository_copy(tmp_path: Path) -> Path:
    """Copy alembic.ini and the revisions, for a test that adds to them or breaks them."""
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "alembic", copy / "alembic", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "alembic.ini", copy)
    return copy


@pytest.fixture
def kept_open(empty_database_url: str) -> Iterator[None]:
    """Keep a connection: DuckDB takes 20 ms to open a file, and a test of a migration has it opened a dozen times."""
    engine = create_database_engine(empty_database_url)
    with engine.connect():
        yield
    engine.dispose()


@pytest.fixture(scope="session")
def many(is_full: bool) -> int:
    """Return how many parts a database has that goes through a migration: 200,000 at full size, a hundredth of it otherwise."""
    return 200_000 if is_full else 2_000
