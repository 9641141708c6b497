from __future__ import annotations

import csv
import shutil
from typing import TYPE_CHECKING

import pytest

from commands import run

if TYPE_CHECKING:
    from pathlib import Path

    import stores


@pytest.fixture
def store(migrated_duckdb_url: str, sample: stores.Store, sample_database: Path) -> stores.Store:
    """A store that is imported into the test's database."""
    shutil.copy(sample_database, migrated_duckdb_url.removeprefix("duckdb:///"))
    return sample


def test_export_daily_agrees_with_the_truth_of_the_store(store: stores.Store, migrated_duckdb_url: str, tmp_path: Path) -> None:
    file = tmp_path / "daily.csv"

    outcome = run("--db", migrated_duckdb_url, "--tz", "UTC", "export", "daily", "--to", file)

    assert outcome.exit_code == 0
    with file.open(newline="", encoding="utf-8") as opened:
        days = {row["period"]: row for row in csv.DictReader(opened)}
    assert file.read_text(encoding="utf-8").startswith("period,sessions,calls,input_tokens,")
    assert outcome.stderr == f"Wrote {len(days)} rows to {file} (all time, UTC).\n"
    assert {day: float(row["cost_usd"]) for day, row in days.items()} == {day: float(sums[6]) for day, sums in store.truth["day"].items()}


@pytest.mark.usefixtures("store")
def test_export_table_range_and_redact_hold(migrated_duckdb_url: str, tmp_path: Path) -> None:
    whole, later = tmp_path / "parts.csv", tmp_path / "later.csv"

    run("--db", migrated_duckdb_url, "export", "parts", "--to", whole)
    outcome = run("--db", migrated_duckdb_url, "export", "parts", "--to", later, "--redact", "--since", "2100-01-01")

    assert outcome.exit_code == 0
    assert "content" in whole.read_text().splitlines()[0].split(",")
    (head,) = later.read_text().splitlines()
    assert "content" not in head.split(",")


def test_export_focus_writes_its_rows(store: stores.Store, migrated_duckdb_url: str, tmp_path: Path) -> None:
    outcome = run("--db", migrated_duckdb_url, "-q", "export", "focus", "--to", tmp_path / "focus.csv")

    assert (outcome.exit_code, outcome.stderr) == (0, "")
    with (tmp_path / "focus.csv").open(newline="", encoding="utf-8") as opened:
        models = {row["SkuId"] for row in csv.DictReader(opened)}
    assert models == set(store.truth["model"])


@pytest.mark.usefixtures("store")
def test_export_focus_days_are_those_of_utc_in_every_zone(migrated_duckdb_url: str, tmp_path: Path) -> None:
    month = ("--since", "2026-05-01", "--until", "2026-05-31")
    for zone in ("UTC", "America/New_York"):
        outcome = run("--db", migrated_duckdb_url, "--tz", zone, "export", "focus", "--to", tmp_path / f"{zone[:2]}.csv", *month)
        assert outcome.stderr.endswith("(2026-05-01 … 2026-05-31, UTC).\n")

    assert (tmp_path / "Am.csv").read_text() == (tmp_path / "UT.csv").read_text()


@pytest.mark.usefixtures("store")
def test_metrics_textfile_is_what_is_printed_and_others_may_read_it(migrated_duckdb_url: str, tmp_path: Path) -> None:
    file = tmp_path / "opencode.prom"

    outcome = run("--db", migrated_duckdb_url, "metrics", "--textfile", file)

    assert outcome.exit_code == 0
    assert file.read_text(encoding="utf-8") == run("--db", migrated_duckdb_url, "metrics").stdout
    assert file.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("name", "file", "message"),
    [
        ("secrets", "a.csv", "nothing is called 'secrets'. Use one of: daily, focus, projects, models, sessions, messages, parts,"),
        ("daily", "a.xlsx", "the name must end in .csv, .jsonl or .parquet."),
    ],
)
def test_export_unknown_name_or_format_is_a_usage_error(
    name: str, file: str, message: str, migrated_duckdb_url: str, tmp_path: Path
) -> None:
    outcome = run("--db", migrated_duckdb_url, "export", name, "--to", tmp_path / file)

    assert outcome.exit_code == 2
    assert message in outcome.stderr
