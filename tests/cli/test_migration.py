"""`db upgrade`, `db downgrade` and `db retire-legacy`: backups, the closing table, and when the old table may go."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
import pytest
import sqlalchemy as sa

from commands import run
from opencode_monitor.cli.progress import shown_phases
from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.db.migrate import upgrade
from opencode_monitor.db.progress import Phase
from opencode_monitor.db.revision import HEAD_REVISION

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

OLD = (
    "INSERT INTO sessions (session_id, title, created_at) VALUES ('ses_1', 'One', '2026-05-04 12:00:00')",
    "INSERT INTO messages (message_id, session_id, role) VALUES ('msg_1', 'ses_1', 'user')",
    """INSERT INTO parts (part_id, session_id, part_type, content, tool_name, cost_usd) VALUES
       ('prt_1', 'ses_1', 'text', 'hello', NULL, NULL), ('prt_2', 'ses_1', 'tool_call', NULL, 'bash', 0.1),
       ('prt_3', NULL, 'odd', 'x', NULL, NULL)""",
)
VALUES = "SELECT part_id, session_id, part_type, content, tool_name, cost_usd FROM parts ORDER BY part_id"


def execute(url: str, *statements: str) -> None:
    engine = create_database_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
    engine.dispose()


def read(url: str, statement: str) -> Sequence[tuple[Any, ...]]:
    engine = create_database_engine(url)
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(sa.text(statement)).all()]
    engine.dispose()
    return rows


@pytest.fixture(scope="module", params=["duckdb", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def prepared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Make a database before the move, with a row of a lost session, and one at head whose move is older than a week; to be copied."""
    if request.param == "duckdb":
        urls = {name: f"duckdb:///{tmp_path_factory.mktemp('prepared') / name}.duckdb" for name in ("old", "moved")}
    else:
        server: str = request.getfixturevalue("postgres_server")
        urls = {name: server.replace("/postgres?", f"/prepared_{uuid.uuid4().hex}?") for name in ("old", "moved")}
        run_on(server, f"CREATE DATABASE {name_of(urls['old'])}")
    upgrade(urls["old"], "migration_audit")
    execute(urls["old"], *OLD)
    if request.param == "duckdb":
        shutil.copy(file_of(urls["old"]), file_of(urls["moved"]))
    else:
        run_on(server, f"CREATE DATABASE {name_of(urls['moved'])} TEMPLATE {name_of(urls['old'])}")
    assert run("--db", urls["moved"], "-q", "db", "upgrade", "--no-backup").exit_code == 0
    execute(urls["moved"], "UPDATE migration_audit SET created_at = created_at - INTERVAL '7 days'")
    return urls


def copied(url: str, tmp_path: Path) -> Iterator[str]:
    """Yield a copy for one test."""
    if url.startswith("duckdb"):
        shutil.copy(file_of(url), tmp_path / "monitor.duckdb")
        yield f"duckdb:///{tmp_path / 'monitor.duckdb'}"
        return
    copy = url.replace(name_of(url), f"test_{uuid.uuid4().hex}")
    server = url.replace(name_of(url), "postgres")
    run_on(server, f"CREATE DATABASE {name_of(copy)} TEMPLATE {name_of(url)}")
    yield copy
    run_on(server, f"DROP DATABASE {name_of(copy)} WITH (FORCE)")


def file_of(url: str) -> Path:
    return Path(url.removeprefix("duckdb:///"))


def name_of(url: str) -> str:
    return str(sa.make_url(url).database)


def run_on(server: str, statement: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(statement.encode())


@pytest.fixture
def old_url(prepared: dict[str, str], tmp_path: Path) -> Iterator[str]:
    yield from copied(prepared["old"], tmp_path)


@pytest.fixture
def moved_url(prepared: dict[str, str], tmp_path: Path) -> Iterator[str]:
    yield from copied(prepared["moved"], tmp_path)


def by_table(rows: list[dict[str, Any]]) -> dict[str, tuple[int | None, int | None, bool | None]]:
    return {row["table"]: (row["rows_before"], row["rows_after"], row["equal"]) for row in rows}


def test_upgrade_ends_with_rows_and_checksums_of_every_table(old_url: str) -> None:
    outcome = run("--db", old_url, "db", "upgrade", "--json")

    assert outcome.exit_code == 0, outcome.stderr
    rows = outcome.json["rows"]
    assert by_table(rows) == {
        "sessions": (1, 2, True),
        "messages": (1, 1, True),
        "parts (29 columns)": (3, 3, True),
        "parts": (None, 3, None),
        "text_messages": (None, 1, None),
        "tool_calls": (None, 1, None),
        "parts_legacy": (None, 3, None),
    }
    compared = {row["table"]: (row["checksum_before"], row["checksum_after"]) for row in rows if row["equal"] is not None}
    assert all(before == after and len(before) == 12 for before, after in compared.values())
    assert len({before for before, _ in compared.values()}) == 3
    assert {row["table"]: row["remark"] for row in rows}["sessions"] == "+1 stub"
    totals = outcome.json["totals"]
    assert (totals["revision_before"], totals["revision_after"], totals["moved_rows"]) == ("migration_audit", HEAD_REVISION, 3)


def test_upgrade_table_of_people_names_what_was_read_back(old_url: str) -> None:
    outcome = run("--db", old_url, "db", "upgrade")

    (line,) = [line for line in outcome.stdout.splitlines() if line.startswith("parts (29 columns)")]
    words = line.split()
    assert words[3:5] == ["3", "3"]
    assert words[5] == words[6]
    assert line.rstrip().endswith("yes     read back")
    assert outcome.stdout.splitlines()[-1] == f"The database is at {HEAD_REVISION}."
    assert "checksum: 3 rows; 0 % done" in outcome.stderr


def test_upgrade_quiet_says_nothing_on_standard_error(old_url: str) -> None:
    assert run("--db", old_url, "-q", "db", "upgrade").stderr == ""


def test_downgrade_ends_with_the_same_table_and_gives_the_rows_back(old_url: str) -> None:
    before = read(old_url, VALUES)
    run("--db", old_url, "-q", "db", "upgrade", "--no-backup")

    outcome = run("--db", old_url, "db", "downgrade", "migration_audit", "--yes", "--json")

    assert outcome.exit_code == 0, outcome.stderr
    found = by_table(outcome.json["rows"])
    assert found["parts (29 columns)"] == (3, 3, True)
    assert found["tool_calls"] == (1, None, None)
    assert found["messages"] == (1, 1, True)
    assert found["sessions"][2] is True
    assert read(old_url, VALUES) == before


def test_downgrade_to_where_it_stands_does_nothing(old_url: str) -> None:
    outcome = run("--db", old_url, "db", "downgrade", "migration_audit", "--yes")

    assert (outcome.exit_code, outcome.stdout, outcome.stderr) == (0, "The database is at migration_audit.\n", "")


def test_downgrade_further_than_the_history_is_a_usage_error(old_url: str) -> None:
    outcome = run("--db", old_url, "db", "downgrade", "-5", "--yes")

    assert (outcome.exit_code, outcome.stderr) == (2, "opencode-monitor: error: there are no 5 revisions below migration_audit\n")


def test_downgrade_backs_up_a_file_and_says_so_where_it_cannot(moved_url: str, tmp_path: Path) -> None:
    outcome = run("--db", moved_url, "db", "downgrade", "-1", "--yes")

    backups = list(tmp_path.glob("*.bak"))
    assert outcome.exit_code == 0
    if moved_url.startswith("duckdb"):
        assert outcome.stderr == f"A backup is at {backups[0]}\n"
        assert run("--db", backups[0], "db", "current").stdout == f"{HEAD_REVISION}\n"
        assert backups[0].stat().st_mode & 0o777 == 0o600
    else:
        assert (backups, outcome.stderr) == ([], "No backup is made of a database on a server. Have one: pg_dump\n")
    assert outcome.stdout.startswith("Nothing to move: these revisions leave the rows where they are.\n")
    assert "NO" not in outcome.stdout.split()


def test_downgrade_that_moves_nothing_counts_rows_and_reads_none(moved_url: str) -> None:
    outcome = run("--db", moved_url, "db", "downgrade", "-1", "--yes", "--no-backup", "--json")

    rows = {row["table"]: row for row in outcome.json["rows"]}
    messages = {key: rows["messages"][key] for key in ("rows_before", "rows_after", "checksum_before", "equal", "remark")}
    assert messages == {"rows_before": 1, "rows_after": 1, "checksum_before": None, "equal": None, "remark": "rows only"}
    assert {row["checksum_after"] for row in rows.values()} == {None}


def test_upgrade_that_moves_shows_the_checksums_of_the_other_tables(old_url: str) -> None:
    outcome = run("--db", old_url, "db", "upgrade", "--no-backup")

    assert outcome.stderr.count("  checksum messages: 1 row; 0 % done\n") == 2


@pytest.mark.parametrize(
    ("command", "megabytes"),
    [
        (("upgrade",), "4,500"),
        (("upgrade", "--no-backup"), "3,500"),
        (("downgrade", "-1", "--yes"), "2,000"),
        (("downgrade", "-1", "--yes", "--no-backup"), "1,000"),
    ],
)
def test_migration_asks_for_the_room_that_its_revisions_take(
    prepared: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], megabytes: str
) -> None:
    if not prepared["old"].startswith("duckdb"):
        pytest.skip("a server has its own disk")
    file = tmp_path / "monitor.duckdb"
    shutil.copy(file_of(prepared["old" if command[0] == "upgrade" else "moved"]), file)
    os.truncate(file, 10**9)  # sparse: it takes no room
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: FullDisk(10**10, 10**10 - 500_000_000, 500_000_000))

    outcome = run("--db", file, "db", *command)

    assert outcome.exit_code == 1
    assert f"needs about {megabytes} MB of free disk, and there are 500 MB." in outcome.stderr
    assert list(tmp_path.glob("*.bak")) == []


class FullDisk(NamedTuple):
    """What the system says of a disk."""

    total: int
    used: int
    free: int


def test_downgrade_without_backup_makes_none(moved_url: str, tmp_path: Path) -> None:
    outcome = run("--db", moved_url, "db", "downgrade", "-1", "--yes", "--no-backup")

    assert (outcome.exit_code, list(tmp_path.glob("*.bak")), outcome.stderr) == (0, [], "")


def test_retire_legacy_within_the_week_says_until_when(old_url: str) -> None:
    run("--db", old_url, "-q", "db", "upgrade", "--no-backup")
    ((at,),) = read(old_url, "SELECT created_at + INTERVAL '7 days' FROM migration_audit WHERE table_name = 'parts' AND phase = 'after'")

    outcome = run("--db", old_url, "db", "retire-legacy", "--yes")

    assert (outcome.exit_code, outcome.stdout) == (1, "")
    expected = f"parts_legacy stays until {at:%Y-%m-%d %H:%M} UTC, 7 days after its migration. A shorter time: --after 0d."
    assert outcome.stderr == f"opencode-monitor: error: {expected}\n"
    assert read(old_url, "SELECT count(*) FROM parts_legacy") == [(3,)]


@pytest.mark.parametrize(
    ("damage", "check"),
    [
        ("UPDATE parts_legacy SET content = 'other' WHERE part_id = 'prt_1'", "fingerprints (1)"),
        ("DELETE FROM session_stats", "session"),
        ("UPDATE messages SET input_tokens = -1", "tokens (1)"),
    ],
)
def test_retire_legacy_where_something_does_not_hold_is_refused(moved_url: str, damage: str, check: str) -> None:
    execute(moved_url, damage)
    if "session_stats" in damage:
        execute(moved_url, "DELETE FROM session_resource_metrics")
        check = "metrics (2)"

    outcome = run("--db", moved_url, "db", "retire-legacy", "--yes")

    assert outcome.exit_code == 1
    assert outcome.stderr.startswith("opencode-monitor: error: parts_legacy stays: there are findings in ")
    assert check in outcome.stderr
    assert read(moved_url, "SELECT count(*) FROM parts_legacy") == [(3,)]


def test_retire_legacy_without_a_proof_is_refused(moved_url: str) -> None:
    execute(moved_url, "DELETE FROM migration_audit")

    outcome = run("--db", moved_url, "db", "retire-legacy", "--yes", "--after", "0d")

    assert outcome.exit_code == 1
    assert "parts_legacy stays: migration_audit has no proof of its move" in outcome.stderr


def test_retire_legacy_drops_the_table_and_the_downgrade_works_without_it(moved_url: str, tmp_path: Path) -> None:
    before = read(moved_url, "SELECT part_id, session_id, part_type, content, tool_name, cost_usd FROM parts_legacy ORDER BY part_id")
    indexes = index_names(moved_url)

    outcome = run("--db", moved_url, "db", "retire-legacy", "--yes")
    again = run("--db", moved_url, "db", "retire-legacy", "--yes")
    verified = run("--db", moved_url, "db", "verify")
    indexes_then = index_names(moved_url)
    down = run("--db", moved_url, "-q", "db", "downgrade", "baseline", "--yes", "--no-backup")
    back = read(moved_url, VALUES)
    up = run("--db", moved_url, "-q", "db", "upgrade", "--no-backup")

    assert outcome.exit_code == 0, outcome.stderr
    assert outcome.stdout.startswith("parts_legacy is retired. The database takes ")
    assert (again.exit_code, again.stderr) == (1, "opencode-monitor: error: there is no parts_legacy: it was retired before\n")
    assert verified.exit_code == 0, verified.stdout
    assert indexes_then == indexes
    assert len(indexes) > 10
    assert (down.exit_code, up.exit_code) == (0, 0)
    assert back == before
    if moved_url.startswith("duckdb"):
        assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.glob("monitor*")} == {"monitor.duckdb": 0o600}


def test_retire_legacy_keeps_the_tables_of_other_schemas(moved_url: str) -> None:
    if not moved_url.startswith("duckdb"):
        pytest.skip("a server's table is dropped where it is")
    execute(
        moved_url,
        "CREATE SCHEMA mine",
        "CREATE TABLE mine.notes (note_id INTEGER PRIMARY KEY, body TEXT)",
        "CREATE TABLE mine.notes_read (note_id INTEGER REFERENCES mine.notes (note_id))",
        "CREATE TABLE mine.parts_legacy (body TEXT)",
        "INSERT INTO mine.notes VALUES (1, 'remember')",
        "INSERT INTO mine.notes_read VALUES (1), (1)",
        "INSERT INTO mine.parts_legacy VALUES ('own')",
    )

    outcome = run("--db", moved_url, "-q", "db", "retire-legacy", "--yes")

    assert outcome.exit_code == 0, outcome.stderr
    assert read(moved_url, "SELECT * FROM mine.notes") == [(1, "remember")]
    assert read(moved_url, "SELECT * FROM mine.notes_read") == [(1,), (1,)]
    assert read(moved_url, "SELECT * FROM mine.parts_legacy") == [("own",)]
    assert read(moved_url, "SELECT count(*) FROM parts") == [(3,)]


def test_retire_legacy_behind_a_link_replaces_the_file_and_keeps_the_link(moved_url: str, tmp_path: Path) -> None:
    if not moved_url.startswith("duckdb"):
        pytest.skip("a server has no file")
    link, real = file_of(moved_url), tmp_path / "big" / "real.duckdb"
    real.parent.mkdir()
    link.rename(real)
    link.symlink_to(real)

    outcome = run("--db", link, "-q", "db", "retire-legacy", "--yes")

    assert outcome.exit_code == 0, outcome.stderr
    assert link.is_symlink()
    assert read(f"duckdb:///{real}", "SELECT count(*) FROM information_schema.tables WHERE table_name = 'parts_legacy'") == [(0,)]


def index_names(url: str) -> list[str]:
    engine = create_database_engine(url)
    with engine.connect() as connection:
        inspector = sa.inspect(connection)
        tables = set(inspector.get_table_names()) - {"parts_legacy"}
        names = sorted(str(index["name"]) for table in tables for index in inspector.get_indexes(table))
        keys = [f"{table}>{key['referred_table']}" for table in sorted(tables) for key in inspector.get_foreign_keys(table)]
    engine.dispose()
    return [*names, *keys]


def test_retire_legacy_json_has_both_sizes(moved_url: str) -> None:
    totals = run("--db", moved_url, "db", "retire-legacy", "--yes", "--json").json["totals"]

    assert totals["bytes_before"] >= totals["bytes_after"] > 0


def test_retire_legacy_while_another_process_holds_the_file_is_exit_4(migrated_duckdb_url: str) -> None:
    file = str(file_of(migrated_duckdb_url))
    program = f"import duckdb; c = duckdb.connect({file!r}); print('ready', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        outcome = run("--db", file, "--wait", "0.2s", "db", "retire-legacy", "--yes", "--after", "0d")
        process.communicate(b"\n")

    assert outcome.exit_code == 4
    assert run("--db", file, "db", "current").stdout == f"{HEAD_REVISION}\n"


@pytest.mark.parametrize(("after", "code"), [("soon", 2), ("7", 2), ("1w", 1)])
def test_retire_legacy_after_is_a_time_span(migrated_duckdb_url: str, after: str, code: int) -> None:
    assert run("--db", migrated_duckdb_url, "db", "retire-legacy", "--yes", "--after", after).exit_code == code


def test_retire_legacy_on_a_disk_that_is_full_leaves_everything_as_it_was(moved_url: str, tmp_path: Path) -> None:
    if not moved_url.startswith("duckdb"):
        pytest.skip("a server has its own disk")
    before = read(moved_url, "SELECT * FROM parts_legacy ORDER BY part_id")
    # No file may grow beyond 200 kB: what the system answers then is what it answers on a full disk.
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))"
    program = f"{limit}; from opencode_monitor.cli.app import main; main()"

    outcome = subprocess.run(
        [sys.executable, "-c", program, "--db", file_of(moved_url), "db", "retire-legacy", "--yes"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert outcome.returncode == 1, outcome.stderr
    assert f"error: cannot write {file_of(moved_url)}.new: " in outcome.stderr
    assert "monitor.duckdb is as it was." in outcome.stderr
    assert [path.name for path in tmp_path.glob("monitor*")] == ["monitor.duckdb"]
    assert read(moved_url, "SELECT * FROM parts_legacy ORDER BY part_id") == before


class Terminal(io.StringIO):
    """Standard error as a terminal."""

    def isatty(self) -> bool:
        return True


def test_shown_phases_on_a_terminal_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "100")
    phases = [Phase("checksum", 1_000), Phase("commit", 1_000)]

    with shown_phases(quiet=False) as show:
        for current in range(3):
            show(phases, current)

    assert "━" in terminal.getvalue()
    assert "commit, which builds DuckDB's indexes: 1,000 rows" in terminal.getvalue()


def test_shown_phases_quiet_shows_nothing_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)

    with shown_phases(quiet=True) as show:
        show([Phase("checksum", 1_000)], 0)

    assert terminal.getvalue() == ""
