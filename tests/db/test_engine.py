"""Opening databases: locks between real processes, and every failure in one line."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import subprocess
import sys
import time
from typing import TYPE_CHECKING
from unittest import mock

import pytest
import sqlalchemy as sa

from opencode_monitor.db.engine import create_database_engine, is_out_of_memory, mask_url, session_factory, write_log_back
from opencode_monitor.errors import DatabaseBusyError, DatabaseError, SchemaError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOLD = """
import sys, time, duckdb
connection = duckdb.connect(sys.argv[-2], read_only=False)
print("holding", flush=True)
time.sleep(float(sys.argv[-1]))
connection.close()
"""

COUNT = """
import sys
import sqlalchemy as sa
from opencode_monitor.db.engine import create_database_engine
engine = create_database_engine(sys.argv[1], wait_seconds=0, read_only=True)
print(engine.connect().scalar(sa.text("SELECT count(*) FROM t")))
"""


@contextlib.contextmanager
def another_process(path: Path, *, seconds: float, command: list[str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """Let another process hold the database file."""
    command = command or [sys.executable, "-c", HOLD]
    with subprocess.Popen([*command, str(path), str(seconds)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holding\n"
        try:
            yield process
        finally:
            process.kill()


def test_create_database_engine_file_held_for_too_long_names_the_holder(tmp_path: Path, duckdb_url: str) -> None:
    program = tmp_path / "opencode-monitor"
    program.write_text(HOLD)
    command = [sys.executable, str(program), "serve", "--port", "8377"]
    engine = create_database_engine(duckdb_url, wait_seconds=0.2)

    with another_process(tmp_path / "monitor.duckdb", seconds=60, command=command) as process:
        start = time.monotonic()
        with pytest.raises(DatabaseBusyError) as raised:
            engine.connect()
        waited = time.monotonic() - start

    assert str(raised.value) == (
        f"database is in use by 'opencode-monitor serve' (PID {process.pid}); waited 0.2 s. Stop it or use --wait 5m."
    )
    assert raised.value.exit_code == 4
    assert 0.2 <= waited < 5


def test_create_database_engine_file_released_in_time_opens(tmp_path: Path, duckdb_url: str) -> None:
    engine = create_database_engine(duckdb_url, wait_seconds=30)

    with another_process(tmp_path / "monitor.duckdb", seconds=0.3), engine.connect() as connection:
        answer = connection.scalar(sa.text("SELECT 1"))

    assert answer == 1


def test_create_database_engine_reader_waits_for_a_writer_too(tmp_path: Path, duckdb_url: str) -> None:
    with create_database_engine(duckdb_url).begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (n INTEGER)")
    engine = create_database_engine(duckdb_url, wait_seconds=0, read_only=True)

    with another_process(tmp_path / "monitor.duckdb", seconds=60), pytest.raises(DatabaseBusyError, match="waited 0 s"):
        engine.connect()


def test_create_database_engine_idle_engine_holds_no_lock_and_readers_share(duckdb_url: str) -> None:
    engine = create_database_engine(duckdb_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t AS SELECT 1 AS n")
    reader = create_database_engine(duckdb_url, read_only=True)

    with reader.connect() as connection:
        connection.exec_driver_sql("SELECT * FROM t").all()
        other = subprocess.run([sys.executable, "-c", COUNT, duckdb_url], capture_output=True, text=True, check=True)

    assert other.stdout == "1\n"


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["opencode-monitor"], "opencode-monitor"),
        (["/usr/bin/opencode-monitor", "db", "upgrade", "--wait", "5m"], "opencode-monitor db upgrade"),
        (["/usr/bin/python3.11", "/home/me/bin/opencode-monitor", "import"], "opencode-monitor import"),
        (["python", "-m", "opencode_monitor", "serve"], "opencode_monitor serve"),
        (["python", "-m"], "python"),
        (["python", "-c", "import duckdb"], "python"),
        (["python"], "python"),
        (["duckdb", "/home/me/private.duckdb"], "duckdb"),
    ],
)
def test_command_name_shows_program_and_subcommands_only(arguments: list[str], name: str) -> None:
    from opencode_monitor.db.engine import _command_name  # noqa: PLC0415

    assert _command_name(arguments) == name


@pytest.mark.parametrize(
    ("message", "holder"),
    [
        ("IO Error: Conflicting lock is held in /usr/bin/tool (PID 4194999).", "'tool' (PID 4194999)"),
        ("IO Error: Could not set lock on file", "another process"),
    ],
)
def test_holder_process_that_cannot_be_seen_is_named_as_duckdb_does(message: str, holder: str) -> None:
    from opencode_monitor.db.engine import _holder  # noqa: PLC0415

    assert _holder(message) == holder


def test_create_database_engine_text_file_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database " * 1000)

    with pytest.raises(DatabaseError) as raised:
        create_database_engine(f"duckdb:///{path}").connect()

    assert str(raised.value) == f"{path} is not a DuckDB database"


def test_create_database_engine_sqlite_file_is_refused_without_the_network(tmp_path: Path) -> None:
    path = tmp_path / "opencode.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (n)")

    with pytest.raises(DatabaseError) as raised:
        create_database_engine(f"duckdb:///{path}").connect()

    assert str(raised.value) == f"{path} is not a DuckDB database"


def test_create_database_engine_directory_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError) as raised:
        create_database_engine(f"duckdb:///{tmp_path}").connect()

    assert str(raised.value).startswith(f"cannot open the database {tmp_path}: ")
    assert "\n" not in str(raised.value)


def test_create_database_engine_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(DatabaseError, match=r"cannot make the directory .*/file/sub: Not a directory"):
        create_database_engine(f"duckdb:///{tmp_path / 'file' / 'sub' / 'monitor.duckdb'}").connect()


def test_create_database_engine_absent_file_read_only_says_what_to_run(tmp_path: Path, duckdb_url: str) -> None:
    engine = create_database_engine(duckdb_url, read_only=True)

    with pytest.raises(SchemaError) as raised:
        engine.connect()

    hint = "Run: opencode-monitor db upgrade && opencode-monitor import"
    assert (raised.value.lines[0], raised.value.hint) == (f"no database at {tmp_path / 'monitor.duckdb'}.", hint)
    assert str(raised.value) == f"{raised.value.lines[0]} {hint}"
    assert list(tmp_path.iterdir()) == []


def test_create_database_engine_read_only_refuses_to_write(empty_database_url: str) -> None:
    writer = create_database_engine(empty_database_url)
    with writer.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (n INTEGER)")
    writer.dispose()
    engine = create_database_engine(empty_database_url, read_only=True)

    with engine.connect() as connection, pytest.raises(sa.exc.DBAPIError, match="read-only"):
        connection.exec_driver_sql("INSERT INTO t VALUES (1)")
    engine.dispose()


def test_create_database_engine_settings_are_meant(duckdb_engine: sa.Engine) -> None:
    names = ["memory_limit", "checkpoint_threshold", "autoinstall_known_extensions", "python_enable_replacements"]

    with duckdb_engine.connect() as connection:
        settings = [connection.scalar(sa.select(sa.func.current_setting(name))) for name in names]

    assert settings == ["953.6 MiB", "244.1 MiB", False, False]


def test_create_database_engine_url_overrides_a_setting(duckdb_url: str) -> None:
    with create_database_engine(f"{duckdb_url}?memory_limit=2GB").connect() as connection:
        limit = connection.scalar(sa.text("SELECT current_setting('memory_limit')"))

    assert limit == "1.8 GiB"


@pytest.mark.parametrize("name", ["monitor.duckdb", "it's here.duckdb"])
def test_create_database_engine_loading_writes_small_row_groups(tmp_path: Path, name: str) -> None:
    url = f"duckdb:///{tmp_path / name}"
    engine = create_database_engine(url, loading=True)

    with engine.connect() as connection, engine.connect() as other:
        connection.exec_driver_sql("CREATE TABLE t AS SELECT range AS n FROM range(20000)")
        connection.commit()
        limit = connection.scalar(sa.text("SELECT current_setting('memory_limit')"))
        seen = other.scalar(sa.text("SELECT count(*) FROM t"))
    with create_database_engine(url).connect() as connection:
        sizes = connection.scalars(
            sa.text("SELECT DISTINCT count FROM pragma_storage_info('t') WHERE segment_type <> 'VALIDITY' ORDER BY 1")
        ).all()
        total = connection.scalar(sa.text("SELECT sum(n) FROM t"))

    assert limit == "286.1 MiB"
    assert (seen, total) == (20_000, sum(range(20_000)))
    assert sizes == [20_000 - 9 * 2_048, 2_048]
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_write_log_back_beside_one_that_writes_waits_or_fails(duckdb_url: str, tmp_path: Path) -> None:
    engine = create_database_engine(duckdb_url)
    log = tmp_path / "monitor.duckdb.wal"
    with engine.connect() as connection, engine.connect() as other:
        with connection.begin():
            connection.exec_driver_sql("CREATE TABLE t (n INTEGER)")
        other.exec_driver_sql("INSERT INTO t VALUES (1)")
        with connection.begin():
            connection.exec_driver_sql("CREATE TABLE u (n INTEGER)")

        waited = write_log_back(connection, can_wait=True)
        with pytest.raises(sa.exc.DBAPIError, match="other write transactions active"):
            write_log_back(connection)
        before = log.stat().st_size
        other.rollback()
        written = write_log_back(connection, can_wait=True)

        assert (waited, written) == (False, True)
        assert before > 0
        assert not log.exists() or log.stat().st_size == 0


def test_create_database_engine_loading_waits_for_the_holder_and_names_it(tmp_path: Path, duckdb_url: str) -> None:
    engine = create_database_engine(duckdb_url, wait_seconds=0.2, loading=True)

    with another_process(tmp_path / "monitor.duckdb", seconds=60) as process, pytest.raises(DatabaseBusyError) as raised:
        engine.connect()

    assert f"(PID {process.pid}); waited 0.2 s" in str(raised.value)
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT current_database()")) == "monitor"


def test_create_database_engine_loading_text_file_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no database at all, but longer than a header " * 500)

    with pytest.raises(DatabaseError, match=rf"^{re.escape(str(path))} is not a DuckDB database$"):
        create_database_engine(f"duckdb:///{path}", loading=True).connect()


def test_create_database_engine_loading_url_overrides_a_setting(duckdb_url: str) -> None:
    with create_database_engine(f"{duckdb_url}?memory_limit=2GB", loading=True).connect() as connection:
        limit = connection.scalar(sa.text("SELECT current_setting('memory_limit')"))

    assert limit == "1.8 GiB"


@pytest.mark.parametrize(("statement", "expected"), [("SELECT list(range) FROM range(9000000)", True), ("SELECT nothing", False)])
def test_is_out_of_memory_tells_it_from_other_failures(duckdb_url: str, statement: str, expected: bool) -> None:
    engine = create_database_engine(f"{duckdb_url}?memory_limit=20MB")

    with engine.connect() as connection, pytest.raises(sa.exc.DBAPIError) as raised:
        connection.exec_driver_sql(statement)

    assert is_out_of_memory(raised.value) is expected


def test_create_database_engine_memory_is_one_database() -> None:
    engine = create_database_engine("duckdb:///:memory:")

    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t AS SELECT 7 AS n")
    with engine.connect() as connection:
        answer = connection.scalar(sa.text("SELECT n FROM t"))
    engine.dispose()

    assert answer == 7


def test_create_database_engine_home_directory_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    create_database_engine("duckdb:///~/monitor.duckdb").connect().close()

    assert (tmp_path / "monitor.duckdb").exists()


@pytest.mark.postgresql
def test_create_database_engine_postgresql_session_is_in_utc(postgresql_url: str) -> None:
    engine = create_database_engine(f"{postgresql_url}&options=-c%20statement_timeout%3D12345")

    with engine.connect() as connection:
        zone = connection.scalar(sa.text("SHOW TimeZone"))
        own_option = connection.scalar(sa.text("SHOW statement_timeout"))
    engine.dispose()

    assert engine.dialect.driver == "psycopg"
    assert zone == "UTC"
    assert own_option == "12345ms"


def test_create_database_engine_postgresql_unreachable_is_one_line_without_password() -> None:
    engine = create_database_engine("postgresql://me:geheim@127.0.0.1:1/usage", wait_seconds=1)

    with pytest.raises(DatabaseError) as raised:
        engine.connect()

    message = str(raised.value)
    assert message.startswith("cannot open the database postgresql+psycopg://me:***@127.0.0.1:1/usage: ")
    assert "refused" in message
    assert "geheim" not in message
    assert "\n" not in message


def test_create_database_engine_postgresql_password_in_the_driver_message_is_masked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import psycopg  # noqa: PLC0415

    error = psycopg.OperationalError("bad parameter in 'host=x password=geheim'\nmore")
    monkeypatch.setattr(psycopg, "connect", mock.Mock(side_effect=error))

    with pytest.raises(DatabaseError, match=r"bad parameter in 'host=x password=\*\*\*'$"):
        create_database_engine("postgresql://me:geheim@127.0.0.1:1/usage").connect()


def test_create_database_engine_postgresql_without_psycopg_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)

    with pytest.raises(DatabaseError, match=re.escape("pip install 'opencode-monitor-analytics[postgres]'")):
        create_database_engine("postgresql://localhost/usage")


@pytest.mark.parametrize("url", ["mysql://me:geheim@localhost/usage", "postgresql+psycopg2://localhost/usage"])
def test_create_database_engine_other_scheme_is_a_usage_error(url: str) -> None:
    with pytest.raises(UsageError, match="not supported") as raised:
        create_database_engine(url)

    assert "geheim" not in str(raised.value)


@pytest.mark.parametrize("url", ["usage.duckdb", "", "postgresql://me:geheim@host:port/usage"])
def test_create_database_engine_no_url_is_a_usage_error(url: str) -> None:
    with pytest.raises(UsageError, match="cannot be read") as raised:
        create_database_engine(url)

    assert "geheim" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("duckdb:////data/monitor.duckdb", "duckdb:////data/monitor.duckdb"),
        ("postgresql://me:geheim@host/usage", "postgresql+psycopg://me:***@host/usage"),
        (
            "postgresql://host/usage?password=geheim&sslmode=require",
            "postgresql+psycopg://host/usage?password=%2A%2A%2A&sslmode=require",
        ),
    ],
)
def test_mask_url_hides_passwords_only(url: str, masked: str) -> None:
    assert mask_url(url) == masked


def test_session_factory_begin_commits_or_rolls_back(empty_engine: sa.Engine) -> None:
    factory = session_factory(empty_engine)
    with factory.begin() as session:
        session.execute(sa.text("CREATE TABLE t (n INTEGER)"))
        session.execute(sa.text("INSERT INTO t VALUES (1)"))

    def fail() -> None:
        with factory.begin() as session:
            session.execute(sa.text("INSERT INTO t VALUES (2)"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    with factory() as session:
        assert session.scalars(sa.text("SELECT n FROM t")).all() == [1]
