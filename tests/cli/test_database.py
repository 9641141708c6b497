from __future__ import annotations

import io
import json
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import duckdb
import pytest
import sqlalchemy as sa

from commands import run
from opencode_monitor.cli.context import State
from opencode_monitor.db.migrate import upgrade
from opencode_monitor.db.revision import HEAD_REVISION
from opencode_monitor.errors import SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import stores


@contextmanager
def held(database: Path, *, read_only: bool = False) -> Iterator[int]:
    """Let another process hold the file; yield its number."""
    program = f"import duckdb; c = duckdb.connect({str(database)!r}, read_only={read_only}); print('ready', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield process.pid
        finally:
            process.communicate(b"\n")


def set_revision(database: Path, revision: str) -> None:
    with duckdb.connect(str(database)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [revision])


class TestState:
    def test_sessions_keep_the_file_open_until_the_first_of_them_is_closed(self, database: Path) -> None:
        """DuckDB opens a file twice in a process only in the same way, so that another way tells whether it is open."""
        state = State(database=str(database), tz=None, wait="0s", quiet=True)

        factory = state.sessions()
        with pytest.raises(duckdb.ConnectionException, match="different configuration"):
            duckdb.connect(str(database))
        with factory() as session:
            session.execute(sa.text("SELECT 1"))

        with duckdb.connect(str(database)) as connection:
            assert connection.execute("SELECT count(*) > 0 FROM sessions").fetchone() == (True,)

    def test_close_without_a_session_closes_the_file(self, database: Path) -> None:
        state = State(database=str(database), tz=None, wait="0s", quiet=True)
        state.sessions()

        state.close()

        duckdb.connect(str(database)).close()

    def test_sessions_of_another_schema_leave_the_file_closed(self, database: Path) -> None:
        set_revision(database, "baseline")
        state = State(database=str(database), tz=None, wait="0s", quiet=True)

        with pytest.raises(SchemaError, match="schema is baseline"):
            state.sessions()

        duckdb.connect(str(database)).close()


class TestBusy:
    @pytest.mark.parametrize("command", [("daily",), ("session", "ses_"), ("pricing", "missing"), ("db", "upgrade"), ("import",)])
    def test_command_while_another_process_holds_the_file_is_exit_4(
        self, database: Path, sample_database: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENCODE_DATA_DIR", str(sample_database.parent))
        with held(database) as pid:
            outcome = run("--db", database, "--wait", "0.2s", *command)

        assert (outcome.exit_code, outcome.stdout) == (4, "")
        assert outcome.stderr.startswith("opencode-monitor: error: database is in use by ")
        assert outcome.stderr.endswith(f"(PID {pid}); waited 0.2 s. Stop it or use --wait 5m.\n")

    def test_command_while_busy_tells_it_in_json(self, database: Path) -> None:
        with held(database):
            outcome = run("--db", database, "--wait", "0.2s", "daily", "--json")

        assert (outcome.exit_code, outcome.error["code"]) == (4, "database_busy")

    def test_command_waits_for_the_file(self, database: Path) -> None:
        program = f"import duckdb, time; c = duckdb.connect({str(database)!r}); print('ready', flush=True); time.sleep(0.5)"
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            outcome = run("--db", database, "--wait", "30s", "daily", "--last", "all")

        assert outcome.exit_code == 0

    def test_report_beside_another_reader_works(self, database: Path) -> None:
        with held(database, read_only=True):
            outcome = run("--db", database, "--wait", "0.2s", "daily", "--last", "all")

        assert outcome.exit_code == 0


class TestSchema:
    @pytest.mark.parametrize(
        "command",
        [
            ("daily",),
            ("models", "--json"),
            ("session", "x"),
            ("pricing", "missing"),
            ("doctor", "--show", "skipped"),
            ("db", "backup", "x.bak"),
        ],
    )
    def test_command_without_a_database_says_what_to_run(self, tmp_path: Path, command: tuple[str, ...]) -> None:
        database = tmp_path / "none.duckdb"

        outcome = run("--db", database, *command)

        message, hint = f"no database at {database}.", "Run: opencode-monitor db upgrade && opencode-monitor import"
        assert (outcome.exit_code, outcome.stdout) == (5, "")
        if "--json" in command:
            assert outcome.error == {"code": "schema_out_of_date", "message": message, "hint": hint}
        else:
            assert outcome.stderr == f"opencode-monitor: error: {message} {hint}\n"
        assert not database.exists()

    @pytest.mark.parametrize("command", [("daily",), ("pricing", "set", "a/b", "--input", "1", "--output", "2")])
    def test_command_on_a_schema_that_is_behind_says_what_to_run(self, tmp_path: Path, command: tuple[str, ...]) -> None:
        database = tmp_path / "behind.duckdb"
        upgrade(f"duckdb:///{database}", "denormalize_parts")

        outcome = run("--db", database, *command)

        assert outcome.exit_code == 5
        assert outcome.stderr.startswith(f"opencode-monitor: error: schema is denormalize_parts, this version needs {HEAD_REVISION}.")
        assert "Run: opencode-monitor db upgrade" in outcome.stderr

    @pytest.mark.parametrize("command", [("daily",), ("import",)])
    def test_command_on_a_schema_that_is_ahead_changes_nothing(
        self, database: Path, sample_database: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENCODE_DATA_DIR", str(sample_database.parent))
        set_revision(database, "ffff")

        outcome = run("--db", database, *command)

        assert outcome.exit_code == 5
        assert outcome.stderr == (
            f"opencode-monitor: error: schema ffff is newer than this program (head {HEAD_REVISION})."
            " Upgrade the program; nothing was changed.\n"
        )

    def test_command_on_an_empty_database_says_what_to_run(self, tmp_path: Path) -> None:
        database = tmp_path / "empty.duckdb"
        duckdb.connect(str(database)).close()

        outcome = run("--db", database, "daily")

        assert outcome.exit_code == 5
        assert "Run: opencode-monitor db upgrade && opencode-monitor import" in outcome.stderr

    def test_command_on_another_kind_of_database_is_a_usage_error(self) -> None:
        outcome = run("--db", "mysql://root:secret@localhost/x", "daily")

        assert outcome.exit_code == 2
        assert "'mysql' databases are not supported" in outcome.stderr
        assert "secret" not in outcome.stderr


class TestCommands:
    def test_upgrade_down_and_up_again_keeps_the_costs(self, database: Path, sample: stores.Store) -> None:
        down = run("--db", database, "db", "downgrade", "call_accounting", "--yes")
        current = run("--db", database, "db", "current")
        up = run("--db", database, "db", "upgrade")
        total = run("--db", database, "daily", "--last", "all", "--json").json["totals"]

        assert (down.exit_code, down.stdout.splitlines()[-1]) == (0, "The database is at call_accounting.")
        assert current.stdout == "call_accounting\n"
        assert (up.exit_code, up.stdout.splitlines()[-1]) == (0, f"The database is at {HEAD_REVISION}.")
        assert (total["calls"], total["cost_usd"]) == (sample.total[0], str(sample.total[6]))

    def test_upgrade_absent_database_is_made_ready_for_an_import(self, tmp_path: Path) -> None:
        outcome = run("--db", tmp_path / "new.duckdb", "db", "upgrade")
        daily = run("--db", tmp_path / "new.duckdb", "daily", "--json")

        assert (outcome.exit_code, outcome.stdout) == (0, f"The database is at {HEAD_REVISION}.\n")
        assert daily.json["rows"] == []

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("upgrade", "9.9"), "no revision '9.9'. There are: baseline,"),
            (("downgrade", "9.9", "--yes"), "no revision '9.9'. There are: base, baseline,"),
        ],
    )
    def test_unknown_revision_is_a_usage_error(self, database: Path, arguments: tuple[str, ...], message: str) -> None:
        outcome = run("--db", database, "db", *arguments)

        assert outcome.exit_code == 2
        assert outcome.stderr.startswith(f"opencode-monitor: error: {message}")

    @pytest.mark.parametrize(
        ("arguments", "question"),
        [
            (("downgrade", "base"), f"Take duckdb:///{{database}} from {HEAD_REVISION} down to base? [y/N]: "),
            (("restore", "{backup}"), "Replace {database} with {backup}? [y/N]: "),
            (("retire-legacy",), "Drop parts_legacy of {database} for good? [y/N]: "),
        ],
    )
    @pytest.mark.parametrize(
        ("answer", "said"), [("n\n", "Nothing was changed.\n"), ("", "\nNothing was changed. Where nobody can answer: --yes\n")]
    )
    def test_question_without_a_yes_changes_nothing(
        self, database: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], question: str, answer: str, said: str
    ) -> None:
        names = {"database": str(database), "backup": str(database.with_name("a.bak"))}
        database.with_name("a.bak").write_bytes(database.read_bytes())
        before = database.read_bytes()

        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        outcome = run("--db", database, "db", *(argument.format(**names) for argument in arguments))

        assert (outcome.exit_code, outcome.stdout, outcome.stderr) == (1, "", question.format(**names) + said)
        assert database.read_bytes() == before

    def test_question_interrupted_is_exit_130_and_changes_nothing(self, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        class Interrupted:
            def readline(self) -> str:
                raise KeyboardInterrupt

        monkeypatch.setattr(sys, "stdin", Interrupted())
        outcome = run("--db", database, "db", "downgrade", "base")

        assert (outcome.exit_code, outcome.stderr.splitlines()[1:]) == (130, ["Nothing was changed."])
        assert run("--db", database, "db", "current").stdout == f"{HEAD_REVISION}\n"

    def test_question_without_a_yes_is_an_error_to_a_program(self, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))

        outcome = run("--db", database, "db", "downgrade", "base", "--json")

        assert (outcome.exit_code, outcome.stdout) == (1, "")
        assert json.loads(outcome.stderr.partition("[y/N]: ")[2])["error"] == {
            "code": "declined",
            "message": "Nothing was changed.",
            "hint": None,
        }

    @pytest.mark.parametrize(("name", "said"), [("none.bak", "no backup at {file}"), ("monitor.duckdb", "{file} is the database itself.")])
    def test_restore_of_no_backup_does_not_ask(self, database: Path, name: str, said: str) -> None:
        file = database.with_name(name)

        outcome = run("--db", database, "db", "restore", file)

        assert outcome.exit_code == 1
        assert outcome.stderr.startswith(f"opencode-monitor: error: {said.format(file=file)}")

    def test_downgrade_does_not_show_a_password(self, postgresql_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        url = postgresql_url.replace("postgres:@", "postgres:s3cret@")
        (tmp_path / "answer").write_text("n\n")
        with (tmp_path / "answer").open() as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            outcome = run("--db", url, "db", "downgrade", "base")

        assert outcome.exit_code == 1
        assert "s3cret" not in outcome.stdout + outcome.stderr

    def test_path_is_the_file(self, tmp_path: Path) -> None:
        assert run("--db", tmp_path / "x.duckdb", "db", "path").stdout == f"{tmp_path / 'x.duckdb'}\n"

    def test_path_of_a_server_has_no_password(self) -> None:
        outcome = run("--db", "postgresql://me:secret@db.example/monitor", "db", "path")

        assert outcome.stdout == "postgresql+psycopg://me:***@db.example/monitor\n"

    def test_current_of_an_absent_database_is_exit_5(self, tmp_path: Path) -> None:
        outcome = run("--db", tmp_path / "none.duckdb", "db", "current")

        assert outcome.exit_code == 5
        assert not (tmp_path / "none.duckdb").exists()

    def test_upgrade_where_no_directory_can_be_made_is_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("not a directory")

        outcome = run("--db", tmp_path / "file" / "x.duckdb", "db", "upgrade")

        assert outcome.exit_code == 1
        assert outcome.stderr.startswith(f"opencode-monitor: error: cannot make the directory {tmp_path / 'file'}: ")
        assert outcome.stderr.count("\n") == 1
