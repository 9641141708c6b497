from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

import generations
import stores
from commands import run
from opencode_monitor.cli import importing
from opencode_monitor.db.engine import LOADING_SETTINGS
from opencode_monitor.db.migrate import upgrade
from opencode_monitor.db.revision import HEAD_REVISION
from opencode_monitor.errors import DatabaseBusyError
from opencode_monitor.ingest import readers
from opencode_monitor.settings import database_url_of, default_database_path, load_settings

REAL = Path(__file__).parents[1] / "fixtures" / "opencode"


def records(store: stores.Store) -> int:
    return len(store.sessions) + len(store.messages) + len(store.parts)


class TestImport:
    @pytest.mark.parametrize("umask", [0o000, 0o022])
    def test_import_absent_database_is_made_for_its_owner_only(self, tmp_path: Path, sample: stores.Store, umask: int) -> None:
        stores.write_json(sample, tmp_path / "opencode")
        database = tmp_path / "new" / "deep" / "monitor.duckdb"
        before = os.umask(umask)
        try:
            outcome = run("--db", database, "import", tmp_path / "opencode")
        finally:
            os.umask(before)

        assert (outcome.exit_code, outcome.stderr) == (0, "")
        assert outcome.stdout == (
            f"Read {records(sample)} records of 1 source: {records(sample)} new, 0 changed, 0 unchanged, 0 skipped.\n"
        )
        assert stat.S_IMODE(database.stat().st_mode) == 0o600
        assert stat.S_IMODE(database.parent.stat().st_mode) == 0o700
        assert [file.name for file in database.parent.iterdir()] == ["monitor.duckdb"]

    def test_import_default_database_and_data_are_where_they_belong(self, home: Path, sample: stores.Store) -> None:
        stores.write_json(sample, home / ".local" / "share" / "opencode")

        imported = run("import")
        daily = run("daily", "--last", "all", "--json")

        assert imported.exit_code == 0
        assert (home / ".local" / "share" / "opencode-monitor" / "monitor.duckdb").is_file()
        assert daily.json["totals"]["calls"] == sample.total[0]

    @pytest.mark.parametrize("named", ["option", "environment"])
    def test_import_without_content_says_so_and_content_fills_in(
        self, tmp_path: Path, empty_database: Path, sample: stores.Store, monkeypatch: pytest.MonkeyPatch, named: str
    ) -> None:
        stores.write_json(sample, tmp_path / "opencode")
        database = empty_database
        if named == "environment":
            monkeypatch.setenv("OPENCODE_MONITOR_NO_CONTENT", "true")

        left_out = run("--db", database, "import", tmp_path / "opencode", *(["--no-content"] if named == "option" else []))
        daily = run("--db", database, "daily", "--last", "all", "--json").json["totals"]
        filled = run("--db", database, "import", "--content", "--json", tmp_path / "opencode").json["totals"]
        again = run("--db", database, "import", "--no-content", "--json", tmp_path / "opencode").json["totals"]

        assert left_out.stderr == "Texts were left out (--no-content); what was stored before stays.\n"
        assert daily["cost_usd"] == str(sample.total[6])
        assert (filled["content"], filled["new"], filled["read"]) == (True, 0, records(sample))
        assert (again["content"], again["read"]) == (False, 0)

    def test_import_setting_that_is_neither_yes_nor_no_is_one_line(
        self, tmp_path: Path, empty_database: Path, sample: stores.Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stores.write_json(sample, tmp_path)
        monkeypatch.setenv("OPENCODE_MONITOR_NO_CONTENT", "maybe")

        outcome = run("--db", empty_database, "import", tmp_path)

        assert (outcome.exit_code, outcome.stdout) == (2, "")
        assert outcome.stderr == "opencode-monitor: error: $OPENCODE_MONITOR_NO_CONTENT is 'maybe'. Use true or false.\n"

    def test_load_settings_empty_variables_are_as_good_as_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("NO_CONTENT", "WORKING_TREES", "TZ", "COST", "DB", "DATABASE_URL"):
            monkeypatch.setenv(f"OPENCODE_MONITOR_{name}", "")

        settings = load_settings()

        assert settings.database_url == database_url_of(default_database_path())
        assert (settings.no_content, settings.working_trees, settings.tz, settings.cost) == (False, True, None, "list")

    def test_import_out_of_memory_goes_on_with_more(
        self, tmp_path: Path, empty_database: Path, sample: stores.Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stores.write_sqlite(sample, tmp_path / "opencode")
        monkeypatch.setitem(LOADING_SETTINGS, "memory_limit", "16MB")  # too little even for this

        outcome = run("--db", empty_database, "import", tmp_path / "opencode")
        daily = run("--db", empty_database, "daily", "--last", "all", "--json").json["totals"]

        assert outcome.exit_code == 0
        assert daily["cost_usd"] == str(sample.total[6])

    def test_import_that_is_done_does_not_fail_for_the_status_line(
        self, tmp_path: Path, empty_database: Path, sample: stores.Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stores.write_sqlite(sample, tmp_path / "opencode")

        def busy(*_arguments: object) -> None:
            raise DatabaseBusyError("database is in use by another process")

        monkeypatch.setattr(importing, "leave_sums", busy)

        outcome = run("--db", empty_database, "import", tmp_path / "opencode")

        assert (outcome.exit_code, outcome.stderr) == (0, "no sums were left for statusline: database is in use by another process\n")
        assert f"{records(sample)} new" in outcome.stdout

    def test_import_database_from_the_environment(self, tmp_path: Path, sample: stores.Store, monkeypatch: pytest.MonkeyPatch) -> None:
        stores.write_json(sample, tmp_path / "opencode")
        monkeypatch.setenv("OPENCODE_MONITOR_DB", str(tmp_path / "named.duckdb"))
        monkeypatch.setenv("OPENCODE_DATA_DIR", str(tmp_path / "opencode"))

        outcome = run("import")

        assert outcome.exit_code == 0
        assert (tmp_path / "named.duckdb").is_file()

    def test_import_again_is_all_unchanged(self, database: Path, sample_database: Path, sample: stores.Store) -> None:
        outcome = run("--db", database, "import", sample_database.parent, "--json")

        assert outcome.json["schema"] == "opencode-monitor/import@1"
        assert outcome.json["totals"] == {
            "sources": 1,
            "read": 0,
            "new": 0,
            "changed": 0,
            "unchanged": records(sample),
            "skipped": 0,
            "skipped_reasons": {},
            "issues": 0,
            "lost_readers": {},
            "content": True,
        }

    def test_import_without_its_reading_processes_says_so_in_a_line(
        self, tmp_path: Path, empty_database: Path, sample: stores.Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stores.write_json(sample, tmp_path / "opencode")
        monkeypatch.setattr(readers, "LEAST_RECORDS", 1)
        monkeypatch.setattr(readers, "_PROGRAM", "opencode_monitor.no_such_module")
        arguments = ("--db", empty_database, "import", tmp_path / "opencode", "--full", "--jobs", "1")

        outcome = run(*arguments)
        as_json = run(*arguments, "--json")
        quiet = run("-q", *arguments)
        without = run(*arguments, "--jobs", "0")

        line = (
            "lost 1 reading process (exit code 1): the import read the rest itself, slower, and nothing is missing. If that happens"
            " each time, memory is short or the installation broken; import --jobs 0 starts none."
        )
        assert (outcome.exit_code, outcome.stderr) == (0, f"opencode-monitor: warning: {line}\n")
        assert f"{records(sample)} new" in outcome.stdout
        assert (as_json.exit_code, as_json.stderr, as_json.json["warnings"]) == (0, "", [line])
        assert as_json.json["totals"]["lost_readers"] == {"exit code 1": 1}
        assert [(other.exit_code, other.stderr) for other in (quiet, without)] == [(0, ""), (0, "")]

    def test_import_full_reads_everything_again(self, database: Path, sample_database: Path, sample: stores.Store) -> None:
        totals = run("--db", database, "import", sample_database.parent, "--full", "--json").json["totals"]

        assert (totals["read"], totals["new"], totals["changed"], totals["unchanged"]) == (records(sample), 0, 0, records(sample))

    def test_import_since_takes_what_changed_after(self, tmp_path: Path, empty_database: Path, sample: stores.Store) -> None:
        stores.write_sqlite(sample, tmp_path)
        last = max(session["time"]["updated"] for session in sample.sessions)
        late = [session["id"] for session in sample.sessions if session["time"]["updated"] >= stores.START_MS + 6 * stores.DAY_MS]

        outcome = run("--db", empty_database, "--tz", "UTC", "import", tmp_path, "--since", "2026-09-07T09:00")
        rows = run("--db", empty_database, "sessions", "--last", "all", "--json").json["rows"]

        assert outcome.exit_code == 0
        assert 0 < len(late) < len(sample.sessions)
        assert {row["session_id"] for row in rows} == set(late)
        assert last >= stores.START_MS + 6 * stores.DAY_MS

    def test_import_bad_records_are_counted_and_told(self, tmp_path: Path, empty_database: Path, sample: stores.Store) -> None:
        storage = stores.write_json(sample, tmp_path / "opencode")
        for part in sample.parts[:2]:
            stores.write_record(storage / "part" / part["messageID"] / f"{part['id']}.json", b"")

        outcome = run("--db", empty_database, "import", tmp_path / "opencode")
        skipped = run("--db", empty_database, "doctor", "--show", "skipped")

        assert outcome.exit_code == 0
        assert outcome.stdout.splitlines()[1:] == ["  skipped 2: empty file"]
        assert outcome.stderr == (
            f"opencode-monitor: warning: skipped 2 of {records(sample)} records (unreadable JSON)."
            " List: opencode-monitor doctor --show skipped\n"
        )
        assert sorted(skipped.stdout.splitlines()) == sorted(
            f"part/{part['messageID']}/{part['id']}.json: empty file" for part in sample.parts[:2]
        )

    def test_import_records_that_are_no_json_are_one_line(self, tmp_path: Path, sample: stores.Store) -> None:
        storage = stores.write_json(sample, tmp_path / "opencode")
        parts = sorted((storage / "part").glob("*/*.json"))
        for number, part in enumerate(parts[:3]):
            part.write_text("[" * 2 + " " * number + "}")

        outcome = run("--db", tmp_path / "monitor.duckdb", "import", tmp_path / "opencode")

        assert outcome.stdout.splitlines()[1:] == ["  skipped 3: not valid JSON"]

    def test_import_dry_run_lists_and_makes_nothing(self, tmp_path: Path, sample: stores.Store) -> None:
        stores.write_json(sample, tmp_path / "opencode")
        stores.write_sqlite(sample, tmp_path / "opencode")

        outcome = run("--db", tmp_path / "monitor.duckdb", "import", tmp_path / "opencode", "--dry-run")

        directory = tmp_path / "opencode"
        assert outcome.stdout.splitlines() == [f"sqlite       {directory / 'opencode.db'}", f"json         {directory / 'storage'}"]
        assert not (tmp_path / "monitor.duckdb").exists()

    def test_import_several_paths_reads_each_source_once(self, tmp_path: Path, empty_database: Path) -> None:
        store = generations.known_session()
        database = stores.write_sqlite(store, tmp_path / "opencode")
        tree = generations.write_inline_style(store, tmp_path / "opencode")
        export = generations.write_export_v2(store, tmp_path / "export.json")
        directory = tmp_path / "opencode"

        listed = run("--db", empty_database, "import", export, directory, tree.parent, database, "--dry-run")
        imported = run("--db", empty_database, "import", export, directory, tree.parent, database, "--json")

        assert listed.stdout.splitlines() == [f"sqlite       {database}", f"json-project {tree}", f"export       {export}"]
        assert (imported.json["totals"]["sources"], imported.json["totals"]["read"]) == (3, records(store))

    def test_import_one_wrong_path_of_several_reads_nothing(self, tmp_path: Path) -> None:
        database = stores.write_sqlite(generations.known_session(), tmp_path / "opencode")
        (tmp_path / "notes.json").write_text('{"title": "shopping"}')

        missing = run("--db", tmp_path / "monitor.duckdb", "import", database, tmp_path / "nowhere")
        other = run("--db", tmp_path / "monitor.duckdb", "import", tmp_path / "notes.json")

        assert (missing.exit_code, f"{tmp_path / 'nowhere'} does not exist" in missing.stderr) == (1, True)
        reason = "is neither a database nor an export of OpenCode: it has no info.id and messages"
        assert other.stderr == f"opencode-monitor: error: {tmp_path / 'notes.json'} {reason}\n"

    @pytest.mark.parametrize("name", ["a?b.duckdb", "a%20b#c.duckdb", "a b.duckdb", "é.duckdb"])
    def test_import_database_of_any_name_is_that_file(self, tmp_path: Path, name: str) -> None:
        store = stores.Store()
        stores.add_call(store, stores.add_session(store, stores.START_MS), stores.START_MS)
        stores.write_json(store, tmp_path / "opencode")

        imported = run("--db", tmp_path / name, "import", tmp_path / "opencode")
        again = run("--db", tmp_path / name, "daily", "--last", "all", "--json")

        assert (imported.exit_code, again.exit_code) == (0, 0)
        assert sorted(file.name for file in tmp_path.glob("*") if file.is_file()) == [name]
        assert again.json["totals"]["calls"] == 1

    def test_import_source_is_left_as_it_was(self, empty_database: Path) -> None:
        before = {file.name: (file.stat().st_size, file.stat().st_mtime_ns) for file in (REAL / "sqlite-1.3.2").iterdir()}

        outcome = run("--db", empty_database, "import", REAL / "sqlite-1.3.2")

        assert outcome.exit_code == 0
        assert {file.name: (file.stat().st_size, file.stat().st_mtime_ns) for file in (REAL / "sqlite-1.3.2").iterdir()} == before

    def test_import_database_behind_head_is_refused(self, tmp_path: Path, sample: stores.Store) -> None:
        stores.write_json(sample, tmp_path / "opencode")
        upgrade(f"duckdb:///{tmp_path / 'monitor.duckdb'}", "call_accounting")

        outcome = run("--db", tmp_path / "monitor.duckdb", "import", tmp_path / "opencode")

        assert (outcome.exit_code, outcome.stdout) == (5, "")
        assert outcome.stderr.startswith(f"opencode-monitor: error: schema is call_accounting, this version needs {HEAD_REVISION}.")
        assert "Run: opencode-monitor db upgrade" in outcome.stderr

    def test_import_file_that_is_no_duckdb_is_refused(self, tmp_path: Path, sample: stores.Store) -> None:
        stores.write_json(sample, tmp_path / "opencode")
        (tmp_path / "monitor.duckdb").write_bytes(b"something else" * 1000)

        outcome = run("--db", tmp_path / "monitor.duckdb", "import", tmp_path / "opencode")

        assert outcome.exit_code == 1
        assert outcome.stderr == f"opencode-monitor: error: {tmp_path / 'monitor.duckdb'} is not a DuckDB database\n"
        assert (tmp_path / "monitor.duckdb").read_bytes() == b"something else" * 1000


class TestDemo:
    def test_demo_shows_two_reports_and_keeps_to_its_own_place(self, home: Path) -> None:
        first = run("--tz", "UTC", "demo")
        second = run("--tz", "UTC", "demo")

        database = home / ".cache" / "opencode-monitor" / "demo" / "demo.duckdb"
        lines = first.stdout.splitlines()
        assert (first.exit_code, lines[0]) == (0, "A sample that this command made, not your data.")
        assert [line.partition(" · ")[0] for line in lines if " · " in line] == ["Daily cost", "Models cost"]
        assert any(line.startswith("anthropic/claude-sonnet-4-5") for line in lines)
        totals = [line.split() for line in lines if line.startswith("Total")]
        assert totals[0][1:] == totals[1][1:]
        assert first.stderr.endswith(f"More of it: opencode-monitor --db {database} sessions\n")
        assert (second.exit_code, second.stdout) == (0, first.stdout)
        assert database.is_file()
        assert not (home / ".local").exists()
