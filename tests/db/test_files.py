"""Backups and replaced files, with real DuckDB files and processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.db.files import back_up, backup_name, database_file, fresh_name, put_in_place, require_free_space, restore
from opencode_monitor.db.migrate import upgrade
from opencode_monitor.db.revision import HEAD_REVISION
from opencode_monitor.errors import DatabaseBusyError, DatabaseError, SchemaError


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
    assert back_up(migrated_duckdb_url, target) == HEAD_REVISION
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
    assert restore(migrated_duckdb_url, tmp_path / "copy.bak") == HEAD_REVISION
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
    assert backup_name(Path("/data/monitor.duckdb"), "import_state", at) == Path("/data/monitor.duckdb.import_state.20260504T123001Z.bak")


@pytest.mark.parametrize("url", ["postgresql+psycopg://host/name", "duckdb:///:memory:"])
def test_database_file_without_a_file_is_refused(url: str) -> None:
    with pytest.raises(DatabaseError, match="pg_dump"):
        database_file(url)


def test_restore_over_a_database_that_another_process_holds_is_busy(migrated_duckdb_url: str, tmp_path: Path) -> None:
    add_project(migrated_duckdb_url, "prj_1")
    back_up(migrated_duckdb_url, tmp_path / "copy.bak")
    file = database_file(migrated_duckdb_url)
    script = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        with pytest.raises(DatabaseBusyError, match="is in use by"):
            restore(migrated_duckdb_url, tmp_path / "copy.bak", wait_seconds=0.1)
        assert writer.stdin is not None
        writer.stdin.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.bak", "monitor.duckdb"]


def test_restore_backup_that_is_cut_off_leaves_the_database_as_it_was(migrated_duckdb_url: str, tmp_path: Path) -> None:
    add_project(migrated_duckdb_url, "prj_1")
    backup = tmp_path / "copy.bak"
    back_up(migrated_duckdb_url, backup)
    for size in (backup.stat().st_size - 1, backup.stat().st_size // 2, 4096, 0):
        with backup.open("rb+") as cut:
            cut.truncate(size)
        with pytest.raises(DatabaseError):
            restore(migrated_duckdb_url, backup)
    assert projects(migrated_duckdb_url) == ["prj_1"]


def test_restore_another_duckdb_file_is_refused(migrated_duckdb_url: str, tmp_path: Path) -> None:
    other = create_database_engine(f"duckdb:///{tmp_path / 'other.duckdb'}")
    with other.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (i INTEGER)")
    with pytest.raises(DatabaseError, match="not one of this program"):
        restore(migrated_duckdb_url, tmp_path / "other.duckdb")
    with pytest.raises(DatabaseError, match="is the database itself"):
        restore(migrated_duckdb_url, database_file(migrated_duckdb_url))
    assert projects(migrated_duckdb_url) == []


def test_restore_over_a_database_that_cannot_be_read_brings_it_back(migrated_duckdb_url: str, tmp_path: Path) -> None:
    add_project(migrated_duckdb_url, "prj_1")
    back_up(migrated_duckdb_url, tmp_path / "copy.bak")
    file = database_file(migrated_duckdb_url)
    file.write_bytes(b"scrambled")
    file.with_name(f"{file.name}.wal").write_bytes(b"a log of what is gone")
    assert restore(migrated_duckdb_url, tmp_path / "copy.bak") == HEAD_REVISION
    assert projects(migrated_duckdb_url) == ["prj_1"]


def test_restore_backup_of_another_revision_says_where_it_stands(duckdb_url: str, tmp_path: Path) -> None:
    upgrade(duckdb_url, "baseline")
    back_up(duckdb_url, tmp_path / "copy.bak")
    upgrade(duckdb_url)
    assert restore(duckdb_url, tmp_path / "copy.bak") == "baseline"


def test_restore_while_another_process_waits_lets_it_write_to_the_new_file(migrated_duckdb_url: str, tmp_path: Path) -> None:
    add_project(migrated_duckdb_url, "prj_1")
    back_up(migrated_duckdb_url, tmp_path / "copy.bak")
    add_project(migrated_duckdb_url, "prj_2")
    script = (
        "import sys; from opencode_monitor.db.engine import create_database_engine\n"
        "for number in range(10):\n"
        "    with create_database_engine(sys.argv[1]).begin() as c:\n"
        "        c.exec_driver_sql(f\"INSERT INTO projects (project_id) VALUES ('late_{number}')\")\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, migrated_duckdb_url]) as writer:
        restore(migrated_duckdb_url, tmp_path / "copy.bak", wait_seconds=30)
        assert writer.wait() == 0
    found = projects(migrated_duckdb_url)
    assert "prj_2" not in found
    assert found[-1] == "prj_1"
    # What was committed after the restore is there, without a gap.
    assert found[:-1] == [f"late_{number}" for number in range(10)][10 - len(found[:-1]) :]


def add_project_in_the_log_alone(url: str, project_id: str) -> Path:
    """Commit a project in a process that is killed then: the row lies in the log, which is returned, and not yet in the file."""
    script = (
        "import os, signal, sys, duckdb; c = duckdb.connect(sys.argv[1])\n"
        "c.execute('INSERT INTO projects (project_id) VALUES (?)', [sys.argv[2]])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    file = database_file(url)
    assert subprocess.run([sys.executable, "-c", script, str(file), project_id], check=False).returncode == -signal.SIGKILL
    log = file.with_name(f"{file.name}.wal")
    assert log.exists()
    return log


def test_restore_that_fails_over_an_unreadable_database_keeps_what_its_log_holds(migrated_duckdb_url: str, tmp_path: Path) -> None:
    backup = tmp_path / "copy.bak"
    back_up(migrated_duckdb_url, backup)
    log = add_project_in_the_log_alone(migrated_duckdb_url, "prj_1")
    file = database_file(migrated_duckdb_url)
    header = file.read_bytes()[:4096]
    with file.open("rb+") as damaged:
        damaged.write(bytes(4096))
    # No file may grow beyond 200 kB: what the system answers then is what it answers on a full disk.
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "from pathlib import Path; from opencode_monitor.db.files import restore\n"
        "restore(sys.argv[1], Path(sys.argv[2]))\n"
    )

    outcome = subprocess.run([sys.executable, "-c", program, migrated_duckdb_url, str(backup)], capture_output=True, text=True, check=False)

    assert outcome.returncode == 1
    assert "monitor.duckdb is as it was." in outcome.stderr
    assert log.exists()
    with file.open("rb+") as damaged:
        damaged.write(header)
    assert projects(migrated_duckdb_url) == ["prj_1"]


def test_restore_over_a_missing_file_does_not_replay_its_log(migrated_duckdb_url: str, tmp_path: Path) -> None:
    back_up(migrated_duckdb_url, tmp_path / "copy.bak")
    add_project_in_the_log_alone(migrated_duckdb_url, "prj_1")
    database_file(migrated_duckdb_url).unlink()

    restore(migrated_duckdb_url, tmp_path / "copy.bak")

    assert projects(migrated_duckdb_url) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.bak", "monitor.duckdb"]


def test_put_in_place_where_the_rename_fails_puts_the_log_back(tmp_path: Path) -> None:
    file, log = tmp_path / "monitor.duckdb", tmp_path / "monitor.duckdb.wal"
    file.mkdir()  # a file cannot take its place
    log.write_text("rows")
    fresh = fresh_name(file)
    fresh.write_text("new")

    with pytest.raises(OSError, match="directory"):
        put_in_place(fresh, file)

    assert (log.read_text(), sorted(path.name for path in tmp_path.iterdir())) == (
        "rows",
        ["monitor.duckdb", "monitor.duckdb.new", "monitor.duckdb.wal"],
    )


def test_restore_while_another_process_writes_a_new_file_leaves_it_alone(migrated_duckdb_url: str, tmp_path: Path) -> None:
    back_up(migrated_duckdb_url, tmp_path / "copy.bak")
    file = database_file(migrated_duckdb_url)
    half = file.with_name(f"{file.name}.new")
    script = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        half.write_text("half of it")
        with pytest.raises(DatabaseBusyError):
            restore(migrated_duckdb_url, tmp_path / "copy.bak", wait_seconds=0.1)
        assert writer.stdin is not None
        writer.stdin.close()
    assert half.read_text() == "half of it"


def test_restore_behind_a_link_replaces_the_file_and_keeps_the_link(migrated_duckdb_url: str, tmp_path: Path) -> None:
    (tmp_path / "big").mkdir()
    link, real = database_file(migrated_duckdb_url), tmp_path / "big" / "real.duckdb"
    link.rename(real)
    link.symlink_to(real)
    back_up(migrated_duckdb_url, tmp_path / "copy.bak")
    add_project(migrated_duckdb_url, "prj_1")

    restore(migrated_duckdb_url, tmp_path / "copy.bak")

    assert (link.is_symlink(), real.is_symlink()) == (True, False)
    assert projects(f"duckdb:///{real}") == []
    assert sorted(path.name for path in real.parent.iterdir()) == ["real.duckdb"]


def test_back_up_missing_database_is_a_schema_error(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"no database at .*none\.duckdb\. Run: opencode-monitor db upgrade"):
        back_up(f"duckdb:///{tmp_path / 'none.duckdb'}", tmp_path / "copy.bak")
    assert list(tmp_path.iterdir()) == []


def test_back_up_over_what_a_killed_one_left_is_private(migrated_duckdb_url: str, tmp_path: Path) -> None:
    left = tmp_path / "copy.bak.partial"
    left.write_text("half of it")
    left.chmod(0o644)

    back_up(migrated_duckdb_url, tmp_path / "copy.bak")

    assert (tmp_path / "copy.bak").stat().st_mode & 0o777 == 0o600
    assert not left.exists()
