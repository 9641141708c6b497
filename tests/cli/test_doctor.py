from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import pytest

import stores
from commands import run
from opencode_monitor import __version__
from opencode_monitor.db.migrate import upgrade
from opencode_monitor.db.revision import HEAD_REVISION

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class TestDoctor:
    def test_doctor_everything_in_order_is_exit_0(self, database: Path, home: Path, sample: stores.Store) -> None:
        storage = stores.write_json(sample, home / ".local" / "share" / "opencode")
        database.chmod(0o600)

        outcome = run("--db", database, "doctor")

        lines = outcome.stdout.splitlines()
        assert outcome.exit_code == 0
        assert [line.split()[0] for line in lines] == ["ok"] * 4
        assert lines[0].startswith(f"ok    Python {platform.python_version()}, opencode-monitor {__version__}, duckdb ")
        assert lines[1] == f"ok    OpenCode data (json): {storage}"
        assert lines[2].startswith(f"ok    Database {database} (")
        assert lines[2].endswith("mode 0600), at head")
        assert lines[3] == "ok    Every call has a price"

    def test_doctor_what_is_amiss_has_a_remedy(self, make_database: Callable[[stores.Store], Path]) -> None:
        store = stores.Store()
        session = stores.add_session(store, stores.START_MS)
        stores.add_call(store, session, stores.START_MS, model=stores.UNPRICED)
        stores.add_part(store, store.messages[0], stores.START_MS, "hologram\x1b[31m")
        database = make_database(store)
        database.chmod(0o644)

        outcome = run("--db", database, "doctor")
        as_json = run("--db", database, "doctor", "--json").json
        skipped = run("--db", database, "doctor", "--show", "skipped")
        skipped_json = run("--db", database, "doctor", "--show", "skipped", "--json").json

        warnings = [line for line in outcome.stdout.splitlines() if line.startswith("warn")]
        assert outcome.exit_code == 0
        assert warnings[1:] == [
            f"warn  others can read the database: it holds prompts and code   → chmod 600 {database}",
            "warn  1 model without a price (1 call)   → opencode-monitor pricing missing",
            "warn  1 record is not as it should be   → opencode-monitor doctor --show skipped",
        ]
        assert warnings[0].startswith("warn  OpenCode data not found.")
        assert [row["level"] for row in as_json["rows"]].count("warn") == 4
        record = f"part/{store.messages[0]['id']}/{store.parts[-1]['id']}.json"
        reason = r"unknown part type 'hologram\x1b[31m'; kept under its own name"
        assert skipped.stdout == f"{record}: {reason}\n"
        assert [(row["record"], row["reason"]) for row in skipped_json["rows"]] == [(record, reason)]

    def test_doctor_without_a_database_is_exit_3(self, tmp_path: Path) -> None:
        outcome = run("--db", tmp_path / "none.duckdb", "doctor")

        assert outcome.exit_code == 3
        assert outcome.stdout.splitlines()[-1] == (
            f"FAIL  no database at {tmp_path / 'none.duckdb'}. Run: opencode-monitor db upgrade && opencode-monitor import"
        )
        assert not (tmp_path / "none.duckdb").exists()

    def test_doctor_files_of_a_killed_process_are_named_with_their_size(self, database: Path) -> None:
        names = ("new", "new.wal", "import_state.20260504T123001Z.bak.partial")
        left = [database.with_name(f"{database.name}.{name}") for name in names]
        for path in left:
            path.write_bytes(bytes(1_500_000))

        outcome = run("--db", database, "doctor")

        (line,) = [line for line in outcome.stdout.splitlines() if "left by a process" in line]
        sizes = ", ".join(f"{path} (1.5 MB)" for path in left)
        assert line == f"warn  left by a process that was killed, and can be removed: {sizes}"

    def test_doctor_schema_behind_is_exit_3(self, tmp_path: Path) -> None:
        upgrade(f"duckdb:///{tmp_path / 'behind.duckdb'}", "baseline")

        outcome = run("--db", tmp_path / "behind.duckdb", "doctor", "--json")

        assert outcome.exit_code == 3
        (failure,) = [row for row in outcome.json["rows"] if row["level"] == "FAIL"]
        assert failure["text"].startswith(f"schema is baseline, this version needs {HEAD_REVISION}.")

    @pytest.mark.parametrize("arguments", [(), ("--json",)])
    def test_doctor_nothing_skipped_says_so(self, sample_database: Path, arguments: tuple[str, ...]) -> None:
        outcome = run("--db", sample_database, "doctor", "--show", "skipped", *arguments)

        assert outcome.exit_code == 0
        if arguments:
            assert outcome.json["rows"] == []
        else:
            assert outcome.stdout == "Every record was read as it stands.\n"
