"""`db verify`, `db backup` and `db restore`."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import duckdb

from commands import run
from opencode_monitor.db.revision import HEAD_REVISION

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def add_session(database: Path) -> None:
    with duckdb.connect(str(database)) as connection:
        connection.execute("INSERT INTO sessions (session_id) VALUES ('ses_odd')")


def test_verify_imported_database_is_sound(database: Path) -> None:
    outcome = run("--db", database, "db", "verify")
    assert outcome.exit_code == 0, outcome.stdout
    assert "FAIL" not in outcome.stdout


def test_verify_finding_is_listed_and_exits_3(database: Path) -> None:
    add_session(database)
    outcome = run("--db", database, "db", "verify")
    assert outcome.exit_code == 3
    assert "FAIL  metrics        Does every session have its metrics?\n        ses_odd: session without metrics" in outcome.stdout


def test_verify_json_counts_the_findings(database: Path) -> None:
    add_session(database)
    outcome = run("--db", database, "db", "verify", "--json")
    assert outcome.exit_code == 3
    assert outcome.json["totals"] == {"findings": 1}
    assert outcome.json["warnings"] == ["metrics: ses_odd: session without metrics"]
    assert {row["check"]: row["findings"] for row in outcome.json["rows"]}["metrics"] == 1


def test_backup_and_restore_bring_the_database_back(database: Path, tmp_path: Path) -> None:
    copied = run("--db", database, "db", "backup", tmp_path / "copy.bak")
    add_session(database)
    restored = run("--db", database, "db", "restore", tmp_path / "copy.bak", "--yes")
    assert (copied.exit_code, restored.exit_code) == (0, 0)
    assert copied.stdout == f"{tmp_path / 'copy.bak'} is a copy at {HEAD_REVISION}.\n"
    assert run("--db", database, "db", "verify").exit_code == 0


def test_restore_without_an_answer_changes_nothing(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    run("--db", database, "db", "backup", tmp_path / "copy.bak")
    add_session(database)
    assert run("--db", database, "db", "restore", tmp_path / "copy.bak").exit_code == 1
    assert run("--db", database, "db", "verify").exit_code == 3


def test_upgrade_of_a_database_that_is_behind_makes_a_backup_first(database: Path) -> None:
    run("--db", database, "db", "downgrade", "call_accounting", "--yes")
    first = run("--db", database, "db", "upgrade")
    (backup,) = database.parent.glob("monitor.duckdb.call_accounting.*.bak")
    assert (first.exit_code, first.stderr) == (0, f"A backup is at {backup}\n")
    assert run("--db", backup, "db", "current").stdout == "call_accounting\n"
    assert run("--db", database, "db", "verify").exit_code == 0


def test_upgrade_without_backup_makes_none(database: Path) -> None:
    run("--db", database, "db", "downgrade", "call_accounting", "--yes", "--no-backup")
    assert run("--db", database, "db", "upgrade", "--no-backup").exit_code == 0
    assert not list(database.parent.glob("*.bak"))
