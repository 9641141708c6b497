"""The `alembic` command as a user runs it: from the repository's root, with nothing but the database's URL set."""

from __future__ import annotations

import ast
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import psycopg
import sqlalchemy as sa

import forked
from commands import run
from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.db.migrate import upgrade
from opencode_monitor.db.revision import HEAD_REVISION, REVISIONS
from opencode_monitor.models import Base

ROOT = Path(__file__).parents[2]
ALEMBIC = Path(sys.executable).with_name("alembic")

BROKEN_REVISION = '''"""Fails after it has made a table and filled it."""

from alembic import op

revision = "broken"
down_revision = "{head}"


def upgrade() -> None:
    op.execute("CREATE TABLE half_done AS SELECT 1 AS n")
    op.execute("DELETE FROM projects")
    op.execute("INSERT INTO no_such_table VALUES (1)")
'''


def alembic(url: str, *arguments: str, folder: Path = ROOT, is_forked: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENCODE_MONITOR_")}
    environment["OPENCODE_MONITOR_DATABASE_URL"] = url
    if is_forked:
        return forked.run("alembic", *arguments, cwd=folder, env=environment)
    return subprocess.run([ALEMBIC, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False)


def read(url: str, sql: str) -> list[object]:
    engine = create_database_engine(url)
    with engine.connect() as connection:
        values = connection.scalars(sa.text(sql)).all()
    engine.dispose()
    return list(values)


def tables(url: str) -> set[str]:
    engine = create_database_engine(url)
    with engine.connect() as connection:
        names = sa.inspect(connection).get_table_names()
    engine.dispose()
    return set(names)


def run_script(url: str, script: str) -> None:
    """Run a whole script as psql or duckdb would."""
    if url.startswith("postgresql"):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(script.encode())
        return
    engine = create_database_engine(url)
    raw = engine.raw_connection()
    raw.driver_connection.execute(script)  # type: ignore[union-attr] # DuckDB's own connection, which takes several statements
    raw.close()
    engine.dispose()


def private_files(folder: Path) -> dict[str, int]:
    """Return the mode of everything in a folder."""
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def body(path: Path, function: str) -> list[str]:
    """Return the statements of a function in a file."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            return [ast.unparse(statement) for statement in node.body]
    raise AssertionError(function)


def versions(folder: Path) -> set[Path]:
    return set((folder / "alembic" / "versions").glob("*.py"))


def test_alembic_upgrade_check_and_downgrade_go_through_the_history(empty_database_url: str, tmp_path: Path) -> None:
    url = empty_database_url

    upgraded = alembic(url, "upgrade", "head")
    files = private_files(tmp_path)
    checked = alembic(url, "check")
    at_head = alembic(url, "current")
    one_down = alembic(url, "downgrade", "-1")
    files_then = private_files(tmp_path)
    at_previous = read(url, "SELECT version_num FROM alembic_version")
    down = alembic(url, "downgrade", "base")

    assert upgraded.returncode == 0, upgraded.stderr
    assert (checked.returncode, checked.stdout.strip()) == (0, "No new upgrade operations detected.")
    assert (at_head.returncode, at_head.stdout.strip()) == (0, f"{HEAD_REVISION} (head)")
    assert one_down.returncode == 0, one_down.stderr
    assert at_previous == [REVISIONS[-2]]
    assert down.returncode == 0, down.stderr
    assert tables(url) == {"alembic_version"}
    # No write-ahead log, and no directory for what does not fit into memory.
    assert files == files_then == ({"monitor.duckdb": 0o600} if url.startswith("duckdb") else {})


def test_alembic_history_tells_each_revision_in_a_line(tmp_path: Path) -> None:
    result = alembic(f"duckdb:///{tmp_path / 'none.duckdb'}", "history", is_forked=False)

    stations = re.findall(r"^(\S+) -> (\S+)(?: \(head\))?, .+\.$", result.stdout, re.MULTILINE)
    assert stations == list(zip(("<base>", *REVISIONS[:-1]), REVISIONS, strict=True))[::-1]
    assert not list(tmp_path.iterdir())


def test_alembic_sql_executes_nothing_and_its_script_does_the_same(empty_database_url: str, tmp_path: Path) -> None:
    url = empty_database_url

    up = alembic(url, "upgrade", "head", "--sql")
    down = alembic(url, "downgrade", "head:base", "--sql")
    made = tables(url) if url.startswith("postgresql") else {path.name for path in tmp_path.iterdir()}
    run_script(url, up.stdout)
    tables_up, version_up = tables(url), read(url, "SELECT version_num FROM alembic_version")
    run_script(url, down.stdout)

    assert (up.returncode, down.returncode) == (0, 0), up.stderr + down.stderr
    assert made == set()
    assert up.stdout.count("BEGIN;") == up.stdout.count("COMMIT;") == len(REVISIONS)
    assert "INSERT INTO tool_calls" in up.stdout
    assert "%%" not in up.stdout + down.stdout
    assert tables_up == {*Base.metadata.tables, "parts_legacy", "alembic_version"}
    assert version_up == [HEAD_REVISION]
    assert "CREATE TABLE parts_rebuilt" in down.stdout
    assert tables(url) - {"alembic_version"} == set()


def test_alembic_autogenerate_finds_nothing_and_then_a_dropped_index(empty_database_url: str, repository_copy: Path) -> None:
    url = empty_database_url
    upgrade(url)
    before, in_repository = versions(repository_copy), versions(ROOT)

    empty = alembic(url, "revision", "--autogenerate", "-m", "probe", folder=repository_copy)
    (probe,) = versions(repository_copy) - before
    empty_body = body(probe, "upgrade"), body(probe, "downgrade")
    probe.unlink()
    engine = create_database_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP INDEX idx_tool_calls_name")
    engine.dispose()
    checked = alembic(url, "check")
    found = alembic(url, "revision", "--autogenerate", "-m", "probe", folder=repository_copy)
    (probe,) = versions(repository_copy) - before

    assert (empty.returncode, found.returncode) == (0, 0), empty.stderr + found.stderr
    assert re.fullmatch(r"\d{4}_\d\d_\d\d_\d{4}_probe\.py", probe.name)
    assert empty_body == (["pass"], ["pass"])
    assert checked.returncode != 0
    assert "New upgrade operations detected" in checked.stdout + checked.stderr
    assert body(probe, "upgrade") == [
        "op.create_index('idx_tool_calls_name', 'tool_calls', ['tool_name'], unique=False, postgresql_using='hash')"
    ]
    assert len(body(probe, "downgrade")) == 1
    assert body(probe, "downgrade")[0].startswith("op.drop_index('idx_tool_calls_name', table_name='tool_calls'")
    assert versions(ROOT) == in_repository


def test_alembic_upgrade_failing_revision_leaves_the_previous_one(empty_database_url: str, repository_copy: Path, tmp_path: Path) -> None:
    url = empty_database_url
    upgrade(url, REVISIONS[-2])
    engine = create_database_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO projects (project_id) VALUES ('p')")
    engine.dispose()
    (repository_copy / "alembic/versions/2099_01_01_0000_broken.py").write_text(BROKEN_REVISION.format(head=HEAD_REVISION))

    result = alembic(url, "upgrade", "head", folder=repository_copy)

    assert result.returncode != 0
    assert "no_such_table" in result.stderr
    assert read(url, "SELECT version_num FROM alembic_version") == [HEAD_REVISION]
    assert tables(url) == {*Base.metadata.tables, "parts_legacy", "alembic_version"}
    assert read(url, "SELECT project_id FROM projects") == ["p"]
    assert {path.name for path in tmp_path.iterdir()} <= {"copy", "monitor.duckdb"}


def test_upgrade_refused_rows_are_one_line_on_both_commands(empty_database_url: str) -> None:
    upgrade(empty_database_url, "migration_audit")
    run_script(
        empty_database_url,
        "CREATE TABLE keyless AS SELECT * FROM parts; DROP TABLE parts; ALTER TABLE keyless RENAME TO parts;"
        " INSERT INTO parts (part_id) VALUES ('one'), ('one')",
    )

    plain = alembic(empty_database_url, "upgrade", "head")
    ours = run("--db", empty_database_url, "db", "upgrade", "--no-backup")

    said = "2 rows of parts share their part_id with another row or have none"
    assert plain.returncode == 255
    assert plain.stdout.startswith(f"FAILED: {said}")
    assert (ours.exit_code, ours.stdout, ours.stderr.count("\n")) == (1, "", 1)
    assert ours.stderr.startswith(f"opencode-monitor: error: {said}")
    assert read(empty_database_url, "SELECT version_num FROM alembic_version") == ["migration_audit"]


def test_alembic_upgrade_shows_its_phases_and_leaves_a_database_that_verifies(empty_database_url: str) -> None:
    url = empty_database_url
    upgrade(url, "migration_audit")
    run_script(
        url,
        """
        INSERT INTO sessions (session_id, created_at) VALUES ('ses_1', '2026-05-04 12:00:00');
        INSERT INTO messages (message_id, session_id, role) VALUES ('msg_1', 'ses_1', 'user');
        INSERT INTO parts (part_id, session_id, message_id, part_type, content)
        VALUES ('prt_1', 'ses_1', 'msg_1', 'text', 'x'), ('prt_2', NULL, NULL, NULL, 'y');
        """,
    )

    upgraded = alembic(url, "upgrade", "head")
    verified = run("--db", url, "db", "verify")
    down = alembic(url, "downgrade", "migration_audit")

    assert upgraded.returncode == 0, upgraded.stderr
    assert re.match(r"checksum: 2 rows; 0 % done\n(.+\n)*done: 2 rows in \d+\.\d s\n", upgraded.stderr)
    assert verified.exit_code == 0, verified.stdout
    assert down.returncode == 0, down.stderr
    assert read(url, "SELECT part_id FROM parts ORDER BY 1") == ["prt_1", "prt_2"]
    recorded = "SELECT table_name FROM migration_audit WHERE direction = 'upgrade' AND phase = 'before' AND revision = 'denormalize_parts'"
    assert sorted(map(str, read(url, recorded))) == ["messages", "parts", "sessions"]


def test_alembic_file_that_is_no_database_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "monitor.duckdb").write_text("no database")

    result = alembic(f"duckdb:///{tmp_path / 'monitor.duckdb'}", "upgrade", "head", is_forked=False)

    assert result.returncode == 255
    assert f"FAILED: {tmp_path / 'monitor.duckdb'} is not a DuckDB database" in result.stdout + result.stderr
    assert "Traceback" not in result.stderr
