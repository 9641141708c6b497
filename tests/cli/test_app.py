from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

import forked
import stores
from commands import run, run_program
from opencode_monitor import __version__
from opencode_monitor.cli.app import cli
from opencode_monitor.cli.commands import SUMMARIES

if TYPE_CHECKING:
    from pathlib import Path

    import click


def on_terminal(*arguments: object, **environment: str) -> str:
    """Run the program with a terminal as its standard output, and return what arrives there."""
    ours, theirs = pty.openpty()
    try:
        process = forked.start("opencode-monitor", *arguments, env={**os.environ, **environment}, stdout=theirs)
        os.close(theirs)
        chunks = []
        while True:
            try:
                chunk = os.read(ours, 65_536)
            except OSError:  # the other end has left
                break
            if not chunk:
                break
            chunks.append(chunk)
        assert process.wait() == 0
    finally:
        os.close(ours)
    return b"".join(chunks).decode()


class TestStart:
    def test_cli_without_a_database_shows_the_first_steps(self, tmp_path: Path) -> None:
        outcome = run("--db", tmp_path / "none.duckdb")

        assert outcome.exit_code == 0
        assert [line.partition(":")[2].strip() for line in outcome.stdout.splitlines()] == [
            "opencode-monitor import",
            "opencode-monitor demo",
            "opencode-monitor --help",
        ]
        assert not (tmp_path / "none.duckdb").exists()

    def test_cli_with_a_database_shows_the_days(self, sample_database: Path) -> None:
        outcome = run("--db", sample_database, "--tz", "UTC")

        assert outcome.exit_code == 0
        head = r"Daily cost · \d{4}-\d\d-\d\d … \d{4}-\d\d-\d\d · UTC · list prices, USD; OpenCode's own figures: --cost reported\n"
        assert re.match(head, outcome.stdout)

    @pytest.mark.parametrize("option", ["-h", "--help"])
    def test_cli_help_lists_every_command(self, option: str) -> None:
        outcome = run(option)

        assert outcome.exit_code == 0
        for name in cli.commands:
            assert re.search(rf"^  {name}  +[A-Z]", outcome.stdout, re.MULTILINE), name

    def test_cli_summary_of_every_command_is_stated(self) -> None:
        assert sorted(SUMMARIES) == sorted(cli.commands)

    def test_cli_version_is_that_of_the_package(self) -> None:
        outcome = run("--version")

        assert (outcome.exit_code, outcome.stdout) == (0, f"opencode-monitor, version {__version__}\n")

    def test_cli_every_command_has_help(self) -> None:
        waiting: list[tuple[tuple[str, ...], click.Command]] = [((name,), found) for name, found in cli.commands.items()]
        while waiting:
            path, found = waiting.pop()
            result = CliRunner().invoke(cli, [*path, "--help"])
            assert (result.exit_code, bool(found.help)) == (0, True), path
            waiting += [((*path, name), child) for name, child in getattr(found, "commands", {}).items()]

    def test_main_help_of_every_command_imports_nothing_heavy(self) -> None:
        program = """
import contextlib, io, sys
import click
from opencode_monitor.cli.app import cli, main
helped, waiting = [], [((), cli)]
while waiting:
    path, command = waiting.pop()
    with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.suppress(SystemExit):
        main([*path, "--help"])
    assert shown.getvalue().startswith("Usage: "), path
    helped.append(path)
    waiting += [((*path, name), child) for name, child in getattr(command, "commands", {}).items()]
heavy = {"sqlalchemy", "duckdb", "_duckdb", "alembic", "pydantic", "rich", "genai_prices", "psycopg", "nanoarrow", "mcp"}
print(len(helped) > 40, sorted(heavy & set(sys.modules)))
"""
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

        assert (done.returncode, done.stdout, done.stderr) == (0, "True []\n", "")

    def test_main_leaves_nothing_to_the_collector_at_its_exit(self) -> None:
        program = """
import atexit, gc
atexit.register(lambda: print(gc.get_freeze_count() > 1_000, len(gc.get_objects()) < 1_000))  # the first registered is the last called
from opencode_monitor.cli.app import main
main(["--version"])
"""
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

        assert (done.returncode, done.stdout.splitlines()[-1], done.stderr) == (0, "True True", "")

    @pytest.mark.parametrize("arguments", [["--help"], ["report", "--help"], ["statusline", "--help"]])
    def test_main_help_imports_no_other_command(self, arguments: list[str]) -> None:
        program = f"""
import sys
import tempfile
from opencode_monitor.cli.app import main
try:
    main({arguments!r})
finally:
    print(sorted({{"opencode_monitor.cli.reports", "opencode_monitor.cli.pricing"}} & set(sys.modules)), file=sys.stderr)
"""
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

        assert (done.returncode, done.stderr) == (0, "[]\n")


class TestErrors:
    def test_main_unknown_command_is_a_usage_error(self) -> None:
        outcome = run("nonsense")
        as_json = run("nonsense", "--json")

        assert (outcome.exit_code, outcome.stdout) == (2, "")
        assert outcome.stderr == "opencode-monitor: error: No such command 'nonsense'.\n"
        assert (as_json.exit_code, as_json.error) == (2, {"code": "usage", "message": "No such command 'nonsense'.", "hint": None})

    def test_main_error_text_does_not_steer_the_terminal(self) -> None:
        outcome = run("daily", "--since", "\x1b[31m\u202e\n")
        argument = run("non\x1b[2Jsense")

        assert re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", outcome.stderr + argument.stderr) is None
        assert (outcome.stderr.count("\n"), argument.stderr.count("\n")) == (1, 1)

    def test_main_database_that_fails_is_one_line(self, database: Path) -> None:
        import duckdb  # noqa: PLC0415 - this test alone

        with duckdb.connect(str(database)) as connection:
            connection.execute("DROP TABLE session_stats; DROP TABLE import_issues")

        outcome = run("--db", database, "doctor", "--show", "skipped")

        assert (outcome.exit_code, outcome.stdout) == (1, "")
        assert outcome.stderr.startswith("opencode-monitor: error: the database failed: ")
        assert outcome.stderr.count("\n") == 1

    def test_main_server_that_is_not_there_is_one_line_without_password(self) -> None:
        outcome = run("--db", "postgresql://me:s3cret@127.0.0.1:1/monitor", "--wait", "1s", "daily")

        assert (outcome.exit_code, outcome.stdout) == (1, "")
        assert outcome.stderr.startswith(
            "opencode-monitor: error: cannot open the database postgresql+psycopg://me:***@127.0.0.1:1/monitor: "
        )
        assert "s3cret" not in outcome.stderr
        assert outcome.stderr.count("\n") == 1


class TestProcess:
    def test_program_reader_that_leaves_is_no_error(self, sample_database: Path) -> None:
        for arguments in (("daily", "--last", "all"), ("sessions", "--last", "all", "--json")):
            with tempfile.TemporaryFile() as told:
                process = forked.start("opencode-monitor", "--db", sample_database, *arguments, stderr=told)
                assert process.stdout is not None
                process.stdout.close()
                code = process.wait()
                told.seek(0)

                assert (code, told.read()) == (0, b""), arguments

    def test_program_pipe_is_plain_and_a_terminal_is_not(self, sample_database: Path) -> None:
        arguments = ("--db", sample_database, "--tz", "UTC", "models", "--last", "all")

        piped = run_program(*arguments, TERM="xterm-256color", FORCE_COLOR="")
        shown = on_terminal(*arguments, TERM="xterm-256color", COLUMNS="120")
        without_color = on_terminal(*arguments, TERM="xterm-256color", COLUMNS="120", NO_COLOR="1")
        dumb = on_terminal(*arguments, TERM="dumb", COLUMNS="120")

        assert "\x1b" not in piped.stdout
        assert "\x1b[" in shown
        assert re.search(r"\x1b\[[\d;]*(3|4|9|10)\d[;m]", without_color) is None
        assert "\x1b" not in dumb
        assert piped.stdout.split() == re.sub(r"\x1b\[[\d;]*m", "", shown).split()

    @pytest.mark.parametrize("columns", ["60", "200"])
    def test_program_table_fits_the_terminal(self, sample_database: Path, columns: str) -> None:
        shown = on_terminal("--db", sample_database, "--tz", "UTC", "sessions", "--last", "all", COLUMNS=columns, TERM="dumb")

        assert max(len(line) for line in shown.splitlines()) <= int(columns)

    def test_program_hostile_title_does_not_reach_the_terminal(self, tmp_path: Path, empty_database: Path) -> None:
        store = stores.Store()
        session = stores.add_session(store, stores.START_MS, title="\x1b]0;owned\x07\x1b[2J\x9b31m\u202edesrever\nnext")
        stores.add_call(store, session, stores.START_MS)
        stores.write_json(store, tmp_path / "opencode")
        run("--db", empty_database, "import", tmp_path / "opencode")

        shown = on_terminal("--db", empty_database, "sessions", "--last", "all", TERM="dumb", COLUMNS="200")

        assert "]0;owned" in shown
        assert re.search("[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e]", shown) is None

    def test_program_in_the_c_locale_prints_json_and_tables(self, sample_database: Path) -> None:
        arguments = ("--db", sample_database, "--tz", "UTC", "sessions", "--last", "all")

        table = run_program(*arguments, LC_ALL="C", LANG="C")
        as_json = run_program(*arguments, "--json", LC_ALL="C", LANG="C")

        assert (table.returncode, as_json.returncode) == (0, 0)
        assert json.loads(as_json.stdout)["tz"] == "UTC"

    def test_program_interrupted_import_is_exit_130_and_keeps_its_batches(self, tmp_path: Path, sample: stores.Store) -> None:
        stores.write_json(sample, tmp_path / "opencode")
        database = tmp_path / "monitor.duckdb"
        program = f"""
import os, signal
# Whoever runs the tests in the background may have turned the signal off, which is inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)
from opencode_monitor.ingest import batches, pipeline, writing
from opencode_monitor.cli.app import main
batches.BATCH_RECORDS = 100
writing.TRANSACTION_BATCHES = 1
write, written = writing.Writer.write, []
def write_and_interrupt(*arguments, **options):
    written.append(1)
    if len(written) == 2:
        os.kill(os.getpid(), signal.SIGINT)
    write(*arguments, **options)
writing.Writer.write = write_and_interrupt
main(["--db", {str(database)!r}, "import", {str(tmp_path / "opencode")!r}])
"""
        done = forked.run(program)
        rows = run("--db", database, "sessions", "--last", "all", "--json").json["rows"]
        again = run("--db", database, "import", tmp_path / "opencode")
        total = run("--db", database, "sessions", "--last", "all", "--json").json["totals"]

        assert (done.returncode, done.stdout) == (130, "")
        assert done.stderr.strip() == "interrupted; what was finished is kept, run the command again to go on"
        assert 0 < len(rows) < len(sample.sessions)
        assert again.exit_code == 0
        assert (total["calls"], total["cost_usd"]) == (sample.total[0], str(sample.total[6]))
