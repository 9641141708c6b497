"""Alembic as functions: bring a database to a revision."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config


def script_location() -> Path:
    """Return the folder of the revisions: inside an installed package, or at the top of a checkout."""
    package = Path(__file__).parents[1]
    shipped = package / "_alembic"
    return shipped if shipped.is_dir() else package.parents[1] / "alembic"


def upgrade(database_url: str, revision: str = "head", *, wait_seconds: float = 30.0) -> None:
    """Run the revisions up to one; a new DuckDB file is made where there is none.

    Args:
        database_url: The database.
        revision: Where to stop.
        wait_seconds: How long to wait for DuckDB's file lock.
    """
    command.upgrade(_config(database_url, wait_seconds), revision)


def downgrade(database_url: str, revision: str, *, wait_seconds: float = 30.0) -> None:
    """Run the revisions down to one.

    Args:
        database_url: The database.
        revision: Where to stop; `base` for an empty database.
        wait_seconds: How long to wait for DuckDB's file lock.
    """
    command.downgrade(_config(database_url, wait_seconds), revision)


def _config(database_url: str, wait_seconds: float) -> Config:
    config = Config()
    config.set_main_option("script_location", str(script_location()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["database_url"] = database_url
    config.attributes["wait_seconds"] = wait_seconds
    return config
