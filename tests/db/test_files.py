"""Backups and replaced files, with real DuckDB files and processes."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.db.files import back_up, backup_name, database_file, require_free_space, restore
from opencode_monitor.db.revision import HEAD_REVISION
from opencode_monitor.errors import DatabaseBusyError, DatabaseError

HEAD = HEAD_REVISION


def add_project(url: str, project_id: str) -> None:
    engine = create_database_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"INSERT INTO projects (project_id) VALUES ('{project_id}')")


def projects(url: str) -> list[str]:
    engine = create_database_engine(url, read_only=True)
    with engine.connect() as connection:
        return [row[0] for row in connection.exec_driver_sql("SELECT project_id FROM projects ORDER BY 1").all()]


def test_back_up_copy_holds_the_rows_and_is_private(migrated_duckdb_url: str, tmp_path: Path) -> None:
    add_project(migrated_duckdb_url, "prj_1")
    target = tmp_path / "copy.bak"
    assert back_up(migrated_duckdb_url, target) == HEAD
    assert projects(f"duckdb:///{target}") == ["prj_1"]
    assert target.stat().st_mode & 0o777 == 0o600


def test_back_up_existing_target_is_kept(migrated_duckdb_url: str, tmp_path: Path) -> None:
    target = tmp_path / "copy.bak"
    target.write_text("precious")
    with pytest.raises(DatabaseError, match=r"exists\. Name another file\."):
        back_up(migrated_duckdb_url, target)
    assert target.read_text() == "precious"


def test_back_up_into_a_missing_directory_says_so_and_leaves_nothing(migrated_duckdb_url: str, tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match=r"cannot copy .* No such file or directory"):
        back_up(migrated_duckdb_url, tmp_path / "absent" / "copy.bak")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["monitor.duckdb"]


def test_back_up_while_another_process_writes_is_busy(migrated_duckdb_url: str, tmp_path: Path) -> None:
    file = database_file(migrated_duckdb_url)
    script = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        with pytest.raises(DatabaseBusyError, match="is in use by"):
            back_up(migrated_duckdb_url, tmp_path / "copy.bak", wait_seconds=0.1)
        assert writer.stdin is not None
        writer.stdin.close()


def test_restore_puts_the_backup_back(migrated_duckdb_url: str, tmp_path: Path) -> None:
    add_project(migrated_duckdb_url, "prj_1")
    back_up(migrated_duckdb_url, tmp_path / "copy.bak")
    add_project(migrated_duckdb_url, "prj_2")
    assert restore(migrated_duckdb_url, tmp_path / "copy.bak") == HEAD
    assert projects(migrated_duckdb_url) == ["prj_1"]
    assert database_file(migrated_duckdb_url).stat().st_mode & 0o777 == 0o600


def test_restore_something_else_leaves_the_database_as_it_was(migrated_duckdb_url: str, tmp_path: Path) -> None:
    add_project(migrated_duckdb_url, "prj_1")
    (tmp_path / "other.bak").write_text("no database")
    with pytest.raises(DatabaseError, match="is not a DuckDB database"):
        restore(migrated_duckdb_url, tmp_path / "other.bak")
    assert projects(migrated_duckdb_url) == ["prj_1"]


def test_require_free_space_small_disk_is_refused_with_both_figures(tmp_path: Path) -> None:
    huge = tmp_path / "huge.duckdb"
    with huge.open("wb") as file:
        os.truncate(file.fileno(), 10**13)  # sparse: it takes no room
    with pytest.raises(DatabaseError, match=r"needs about 35,000,000 MB of free disk, and there are [\d,]+ MB"):
        require_free_space(huge)


def test_require_free_space_absent_file_needs_none(tmp_path: Path) -> None:
    require_free_space(tmp_path / "absent.duckdb")


def test_backup_name_has_revision_and_time() -> None:
    at = datetime(2026, 5, 4, 12, 30, 1, tzinfo=UTC)
    assert backup_name(Path("/data/monitor.duckdb"), HEAD, at) == Path(f"/data/monitor.duckdb.{HEAD}.20260504T123001Z.bak")


@pytest.mark.parametrize("url", ["postgresql+psycopg://host/name", "duckdb:///:memory:"])
def test_database_file_without_a_file_is_refused(url: str) -> None:
    with pytest.raises(DatabaseError, match="pg_dump"):
        database_file(url)
