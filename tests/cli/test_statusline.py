from __future__ import annotations

import subprocess
import sys
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

import stores
from commands import run
from opencode_monitor.cli.render import show_usd
from opencode_monitor.cli.statusline import _line

if TYPE_CHECKING:
    from pathlib import Path

UTC = ZoneInfo("UTC")
KEPT = {
    "version": 1,
    "imported_at": "2026-05-04T14:02:00+00:00",
    "tz": "UTC",
    "days": {
        "2026-04-30": {"list": "100", "paid": "100"},
        "2026-05-03": {"list": "2.5", "paid": None},
        "2026-05-04": {"list": "1.25", "paid": "0"},
    },
    "unknown": {"list": {"2026-05-03": 0, "2026-05-04": 0}, "paid": {"2026-05-03": 3, "2026-05-04": 1}},
}


@pytest.mark.parametrize(
    ("number", "today", "expected"),
    [
        ("list", date(2026, 5, 4), "$1.25 today · $3.75 in May · as of 14:02"),
        ("paid", date(2026, 5, 4), "≥ $0.00 today · ≥ $0.00 in May · 4 calls of unknown cost · as of 14:02"),
        ("list", date(2026, 5, 5), "— today · ≥ $3.75 in May · as of 2026-05-04"),
        ("paid", date(2026, 5, 3), "— today · ≥ $0.00 in May · 4 calls of unknown cost · as of 2026-05-04"),
        ("list", date(2026, 6, 1), "— today · — in June · as of 2026-05-04"),
    ],
)
def test_line_sums_are_those_of_today_and_its_month(number: str, today: date, expected: str) -> None:
    assert _line(KEPT, number, today, UTC) == expected


def imported(tmp_path: Path, database: str) -> None:
    store = stores.sample()
    stores.write_json(store, tmp_path / "opencode")
    assert run("--db", database, "--tz", "UTC", "import", tmp_path / "opencode").exit_code == 0


def test_statusline_after_an_import_shows_what_daily_shows(
    tmp_path: Path, migrated_duckdb_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    last_day = max(stores.sample().truth["day"])
    monkeypatch.setattr("opencode_monitor.cli.statusline.now", lambda: datetime.fromisoformat(f"{last_day}T23:00:00+00:00"))
    imported(tmp_path, migrated_duckdb_url)
    of_day = run("--db", migrated_duckdb_url, "--tz", "UTC", "daily", "--json", "--since", last_day, "--until", last_day).json["totals"]

    outcome = run("--db", migrated_duckdb_url.removeprefix("duckdb:///"), "--tz", "UTC", "statusline")

    assert outcome.exit_code == 0
    assert outcome.stdout.startswith(f"{show_usd(Decimal(of_day['cost_usd']))} today · ")
    assert outcome.stdout.endswith(" · as of 23:00\n")


def test_statusline_after_prices_changed_shows_the_new_cost_as_of_the_import(
    tmp_path: Path, migrated_duckdb_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = datetime.fromtimestamp(stores.START_MS / 1000, UTC)
    monkeypatch.setattr("opencode_monitor.cli.statusline.now", lambda: moment)
    imported(tmp_path, migrated_duckdb_url)
    before = run("--db", migrated_duckdb_url, "--tz", "UTC", "statusline", "--cost", "paid").stdout

    run("--db", migrated_duckdb_url, "--tz", "UTC", "pricing", "adjust", "anthropic", "0")
    run("--db", migrated_duckdb_url, "--tz", "UTC", "pricing", "adjust", "openai", "0")
    after = run("--db", migrated_duckdb_url, "--tz", "UTC", "statusline", "--cost", "paid").stdout

    assert (before.split()[0], after.split()[0]) == ("$0.20", "$0.00")
    assert before.split(" · ")[-1] == after.split(" · ")[-1] == f"as of {moment:%H:%M}\n"


def test_statusline_in_another_zone_says_whose_days_they_are(tmp_path: Path, migrated_duckdb_url: str) -> None:
    imported(tmp_path, migrated_duckdb_url)

    lines = {zone: run("--db", migrated_duckdb_url, "--tz", zone, "statusline").stdout for zone in ("Etc/UTC", "Asia/Tokyo")}

    assert lines["Asia/Tokyo"] == lines["Etc/UTC"].replace("\n", " (UTC)\n")


def test_statusline_unknown_cost_number_is_a_usage_error(tmp_path: Path, migrated_duckdb_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    imported(tmp_path, migrated_duckdb_url)
    monkeypatch.setenv("OPENCODE_MONITOR_COST", "guessed")

    outcome = run("--db", migrated_duckdb_url, "statusline")

    assert outcome.exit_code == 2
    assert outcome.stderr == "opencode-monitor: error: $OPENCODE_MONITOR_COST is 'guessed'. Use list, reported, paid.\n"


def test_statusline_before_the_first_import_says_what_to_run(tmp_path: Path) -> None:
    outcome = run("--db", tmp_path / "monitor.duckdb", "statusline")

    assert (outcome.exit_code, outcome.stdout) == (1, "")
    assert outcome.stderr.endswith("Run: opencode-monitor import\n")


def test_import_cache_that_cannot_be_written_is_told_and_no_failure(tmp_path: Path, migrated_duckdb_url: str) -> None:
    (tmp_path / "home/.cache").write_text("a file in the way")
    stores.write_json(stores.sample(), tmp_path / "opencode")

    outcome = run("--db", migrated_duckdb_url, "import", tmp_path / "opencode")

    assert outcome.exit_code == 0
    assert "no sums were left for statusline: Not a directory" in outcome.stderr


def test_statusline_imports_neither_sqlalchemy_nor_duckdb(tmp_path: Path, migrated_duckdb_url: str) -> None:
    imported(tmp_path, migrated_duckdb_url)
    program = (
        "import sys; from opencode_monitor.cli.app import cli; cli(['--db', sys.argv[1], 'statusline'], standalone_mode=False);"
        "print({'sqlalchemy', 'duckdb', 'alembic', 'pydantic', 'rich'} & set(sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", program, migrated_duckdb_url], capture_output=True, text=True, check=True)

    assert done.stdout.endswith("set()\n")
