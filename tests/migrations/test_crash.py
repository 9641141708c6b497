"""A migration that dies, is refused or runs out of room leaves a database that opens, and is wholly the old one or wholly the new one."""

from __future__ import annotations

import collections
import contextlib
import random
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from commands import run
from killed import Run, run_migration
from old_parts import COLUMNS, load_many
from opencode_monitor.db.checksum import Checksum, checksum
from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.db.migrate import downgrade, upgrade
from opencode_monitor.db.revision import HEAD_REVISION, REVISIONS, current_revision
from opencode_monitor.models import PART_SUBTYPES, Base

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROGRAM = Path(sys.executable).with_name("opencode-monitor")
# With `--full`, and without.
KILLS = {True: 25, False: 8}
KILLS_IN_COMMIT = {True: 5, False: 2}
KILLS_DOWN = {True: 5, False: 3}
MOVE = "denormalize_parts"
OLD_COLUMNS = COLUMNS[:29]
MADE_BY_THE_MOVE = {"parts_legacy", *(subtype.__tablename__ for subtype in PART_SUBTYPES)}
# Narrow rows of every type: what counts is their number.
NARROW_PARTS = """
    INSERT INTO parts (part_id, session_id, part_type, content, tool_name, file_path, file_operation, tokens_input, cost_usd, created_at)
    SELECT 'prt_' || i, 'ses_' || i % 1600, part_type, CASE WHEN part_type IN ('text', 'thinking') THEN 'text ' || i END,
           CASE WHEN part_type = 'tool_call' THEN 'bash' END, CASE WHEN i % 3 = 0 THEN '/a/' || i % 900 END,
           CASE WHEN i % 3 = 0 THEN 'edit' END, CASE WHEN part_type = 'step_finish' THEN i END, CASE WHEN i % 5 = 0 THEN i / 1e6 END,
           TIMESTAMP '2026-01-01 00:00:00' + i * INTERVAL '1 second'
    FROM (SELECT i, ['text', 'tool_call', 'step_start', 'step_finish', 'thinking', 'error', 'patch', 'wormhole'][1 + i % 8] AS part_type
          FROM generate_series(1, {many}) AS numbers (i)) typed
"""


class Old(NamedTuple):
    """A database of the old schema, and the checksum of its table."""

    file: Path
    parts: Checksum


class New(NamedTuple):
    """The same database after an upgrade, with how long it and the way back took, and when its commit began and ended."""

    file: Path
    up: Run
    down: Run


def tell(line: str) -> None:
    """Show a result, where pytest shows what passing tests print (`-rP`)."""
    print(line)  # noqa: T201 - as it says


def url_of(file: Path) -> str:
    return f"duckdb:///{file}"


def checksum_of(file: Path, table: str = "parts") -> Checksum:
    engine = create_database_engine(url_of(file))
    with engine.connect() as connection:
        return checksum(connection, table, ["part_id"], OLD_COLUMNS)


def look_into(file: Path) -> tuple[str | None, set[str]]:
    """Open a database as the next program would; return its revision and its tables."""
    engine = create_database_engine(url_of(file))
    with engine.connect() as connection:
        return current_revision(connection), set(sa.inspect(connection).get_table_names())


def migrate_copy(template: Path, file: Path, revision: str, **options: Any) -> Run:
    """Migrate a copy of a database, in the place of what the run before left there."""
    for path in (file, file.with_name(f"{file.name}.wal")):
        path.unlink(missing_ok=True)
    shutil.copyfile(template, file)
    return run_migration(file, revision, **options)


def make_old(file: Path, many: int) -> Old:
    """Make a database of many parts that stands at baseline."""
    upgrade(url_of(file), "baseline")
    engine = create_database_engine(url_of(file))
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO sessions (session_id) SELECT 'ses_' || i FROM generate_series(0, 1550) AS numbers (i)")
        connection.exec_driver_sql(NARROW_PARTS.format(many=many))
    with engine.connect() as connection:
        connection.exec_driver_sql("CHECKPOINT")
    return Old(file, checksum_of(file))


@pytest.fixture(scope="module")
def old(many: int, tmp_path_factory: pytest.TempPathFactory) -> Old:
    """Make the database that is killed; to be copied."""
    return make_old(tmp_path_factory.mktemp("old") / "old.duckdb", many)


@pytest.fixture(scope="module")
def new(old: Old, tmp_path_factory: pytest.TempPathFactory) -> New:
    """Migrate the old database up and down to the end, to know how long that takes."""
    directory = tmp_path_factory.mktemp("new")
    up = migrate_copy(old.file, directory / "new.duckdb", "head")
    down = migrate_copy(directory / "new.duckdb", directory / "back.duckdb", "baseline", up=False)
    return New(directory / "new.duckdb", up, down)


def outcome(file: Path, old: Old) -> str:
    """Say which of the two a database is, having compared every value of the old table; "mixed" where it is neither."""
    revision, tables = look_into(file)
    if revision not in REVISIONS:
        return "mixed"
    if REVISIONS.index(revision) < REVISIONS.index(MOVE):
        return "mixed" if tables & MADE_BY_THE_MOVE or checksum_of(file) != old.parts else "old"
    if checksum_of(file, "parts_legacy") != old.parts:
        return "mixed"
    # What is left of the way up goes through, and the way down gives the rows back.
    upgrade(url_of(file))
    revision, tables = look_into(file)
    downgrade(url_of(file), "baseline")
    return "new" if revision == HEAD_REVISION and tables >= {*Base.metadata.tables} and checksum_of(file) == old.parts else "mixed"


def kill_often(
    start: Callable[..., Run], whole: Run, *, over_the_run: int, in_commit: int, check: Callable[[], str]
) -> collections.Counter[str]:
    """Kill a migration at random moments: some spread over its whole time, the rest inside the commit of the move and as long after."""
    chance = random.Random(20_261_126)  # noqa: S311 - moments, no secrets
    assert whole.commit_at is not None
    assert whole.committed_at is not None
    moments = [whole.seconds * (number + chance.random()) / over_the_run for number in range(over_the_run)]
    commits = [2 * (whole.committed_at - whole.commit_at) * (number + chance.random()) / in_commit for number in range(in_commit)]
    counts: collections.Counter[str] = collections.Counter()
    for moment, is_in_commit in [*((moment, False) for moment in moments), *((moment, True) for moment in commits)]:
        kill_after = moment
        # One that was done before its moment, as the machine has more time for it by now, is killed a little earlier.
        while not start(kill_after=kill_after, in_commit=is_in_commit).killed:
            kill_after *= 0.9
        counts[check()] += 1
    return counts


@pytest.mark.sized
@pytest.mark.long
def test_upgrade_killed_at_many_moments_leaves_the_old_database_or_the_new_one(old: Old, new: New, tmp_path: Path, is_full: bool) -> None:
    file = tmp_path / "killed.duckdb"
    kills, in_commit = KILLS[is_full], KILLS_IN_COMMIT[is_full]

    counts = kill_often(
        lambda **when: migrate_copy(old.file, file, "head", **when),
        new.up,
        over_the_run=kills - in_commit,
        in_commit=in_commit,
        check=lambda: outcome(file, old),
    )

    tell(f"{kills} kills of an upgrade of {old.parts.rows:,} parts, {new.up.seconds:.1f} s long: {dict(counts)}")
    assert (counts.total(), counts["mixed"]) == (kills, 0)
    assert counts["old"] > 0
    # Not a stray file but what DuckDB itself looks for when it opens the database.
    assert {path.name for path in tmp_path.iterdir()} <= {"killed.duckdb", "killed.duckdb.wal"}


@pytest.mark.sized
@pytest.mark.long
def test_downgrade_killed_at_some_moments_leaves_the_new_database_or_the_old_one(old: Old, new: New, tmp_path: Path, is_full: bool) -> None:
    file = tmp_path / "killed.duckdb"
    kills = KILLS_DOWN[is_full]

    counts = kill_often(
        lambda **when: migrate_copy(new.file, file, "baseline", up=False, **when),
        new.down,
        over_the_run=kills - 1,
        in_commit=1,
        check=lambda: outcome(file, old),
    )

    tell(f"{kills} kills of a downgrade of {old.parts.rows:,} parts, {new.down.seconds:.1f} s long: {dict(counts)}")
    assert (counts.total(), counts["mixed"]) == (kills, 0)
    assert {path.name for path in tmp_path.iterdir()} <= {"killed.duckdb", "killed.duckdb.wal"}


# --- Refused, or out of room ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Old:
    """Make a database of the old schema with some thousand odd rows; to be copied."""
    file = tmp_path_factory.mktemp("odd") / "old.duckdb"
    upgrade(url_of(file), "baseline")
    engine = create_database_engine(url_of(file))
    with engine.begin() as connection:
        load_many(connection, 4_000, OLD_COLUMNS)
    with engine.connect() as connection:
        connection.exec_driver_sql("CHECKPOINT")
    return Old(file, checksum_of(file))


@contextmanager
def while_moving(do: Callable[[sa.Connection], object]) -> Iterator[None]:
    """Do something once in the middle of the move: when the thinking blocks have been filled, and before anything is checked."""
    done = False

    def look(connection: sa.Connection, _cursor: object, statement: str, *_: object) -> None:
        nonlocal done
        if not done and "INSERT INTO thinking_blocks" in statement:
            done = True
            do(connection)

    event.listen(sa.Engine, "after_cursor_execute", look)
    try:
        yield
    finally:
        event.remove(sa.Engine, "after_cursor_execute", look)
    assert done


def test_db_upgrade_row_changed_during_the_move_is_exit_1_and_leaves_the_old_database(odd: Old, tmp_path: Path) -> None:
    file = Path(shutil.copy(odd.file, tmp_path / "monitor.duckdb"))

    with while_moving(
        lambda connection: connection.exec_driver_sql("UPDATE thinking_blocks SET thinking_tokens = 4 WHERE thinking_tokens = -5")
    ):
        failed = run("--db", file, "db", "upgrade")

    assert (failed.exit_code, failed.stdout) == (1, "")
    error = failed.stderr.splitlines()[-1]
    assert error.startswith("opencode-monitor: error: ")
    assert "thinking_tokens" in error
    assert "nothing was changed" in error
    assert outcome(file, odd) == "old"
    # The backup stays: whoever reads the error may want it.
    assert sorted(path.name.split(".")[1:3] for path in tmp_path.iterdir()) == [["duckdb"], ["duckdb", "baseline"]]
    assert run("--db", file, "-q", "db", "upgrade", "--no-backup").exit_code == 0


def test_db_upgrade_row_lost_during_the_move_is_exit_1_and_leaves_the_old_database(odd: Old, tmp_path: Path) -> None:
    file = Path(shutil.copy(odd.file, tmp_path / "monitor.duckdb"))

    change = "DELETE FROM thinking_blocks WHERE part_id = 'thinking'"
    with while_moving(lambda connection: connection.exec_driver_sql(change)):
        failed = run("--db", file, "db", "upgrade", "--no-backup")

    assert (failed.exit_code, failed.stdout) == (1, "")
    assert failed.stderr.splitlines()[-1].startswith("opencode-monitor: error: thinking_blocks holds ")
    assert outcome(file, odd) == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["monitor.duckdb"]


@pytest.fixture
def small_disk(odd: Old, tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of ten times the database."""
    directory = tmp_path / "disk"
    directory.mkdir()
    size = 10 * odd.file.stat().st_size
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", directory], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"mounting a small disk is not allowed here: {mounted.stderr.strip()}")
    yield directory
    subprocess.run(["umount", directory], check=True)


def fill(directory: Path) -> None:
    """Write until the disk is full, as another program might."""
    with (directory / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while filler.write(b"\0" * 65_536):
            pass


def test_db_upgrade_disk_that_runs_full_is_exit_1_and_leaves_the_old_database(odd: Old, small_disk: Path) -> None:
    file = Path(shutil.copy(odd.file, small_disk / "monitor.duckdb"))

    with while_moving(lambda _: fill(small_disk)):
        failed = run("--db", file, "db", "upgrade", "--no-backup")
    (small_disk / "filler").unlink()

    assert (failed.exit_code, failed.stdout) == (1, "")
    assert re.match(
        r"opencode-monitor: error: the database failed: .*(No space left on device|Could not write)", failed.stderr.splitlines()[-1]
    )
    assert outcome(file, odd) == "old"
    assert {path.name for path in small_disk.iterdir()} <= {"monitor.duckdb", "monitor.duckdb.wal"}


def test_db_upgrade_file_that_may_not_grow_is_exit_1_and_leaves_the_old_database(tmp_path: Path) -> None:
    file = tmp_path / "monitor.duckdb"
    # So many that it is the move that has no room, and not a revision after it.
    old = make_old(file, 20_000)
    blocks = file.stat().st_size // 512 + 2_000

    failed = subprocess.run(
        ["sh", "-c", 'ulimit -f "$0" && exec "$@"', str(blocks), PROGRAM, "--db", file, "-q", "db", "upgrade", "--no-backup"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (failed.returncode, failed.stdout) == (1, ""), failed.stderr
    assert re.match(r"opencode-monitor: error: the database failed: .*File too large.*\n", failed.stderr)
    assert "Traceback" not in failed.stderr
    assert outcome(file, old) == "old"
    assert {path.name for path in tmp_path.iterdir()} <= {"monitor.duckdb", "monitor.duckdb.wal"}


def test_db_upgrade_memory_that_does_not_do_is_exit_1_and_leaves_the_old_database(odd: Old, tmp_path: Path) -> None:
    file = Path(shutil.copy(odd.file, tmp_path / "monitor.duckdb"))

    failed = run("--db", f"{url_of(file)}?memory_limit=16MB", "db", "upgrade", "--no-backup")

    assert (failed.exit_code, failed.stdout) == (1, "")
    assert "Out of Memory Error" in failed.stderr.splitlines()[-1]
    assert outcome(file, odd) == "old"
    assert {path.name for path in tmp_path.iterdir()} <= {"monitor.duckdb", "monitor.duckdb.wal"}
