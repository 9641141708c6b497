"""`trend` as a command."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

import stores
from commands import run

Make = Callable[[stores.Store], Path]
CALL = "0.004005"
NOW = datetime.now(UTC)


def midnight_ms(days_ago: int) -> int:
    day = NOW.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days_ago)
    return int(day.timestamp() * 1000)


@pytest.fixture
def made(make_database: Make) -> Path:
    """Calls of the last six days, each of USD 0.004005: 1, 3, none, an unpriced one and 2, and today 1."""
    store = stores.Store()
    session = stores.add_session(store, midnight_ms(5))
    for days_ago, models in (
        (5, [stores.SONNET]),
        (4, [stores.SONNET] * 3),
        (2, [stores.UNPRICED]),
        (1, [stores.SONNET] * 2),
        (0, [stores.SONNET]),
    ):
        for number, model in enumerate(models):
            stores.add_call(store, session, midnight_ms(days_ago) + number, model=model)
    return make_database(store)


def trend(database: Path, *arguments: object) -> dict[str, Any]:
    outcome = run("--db", database, "--tz", "UTC", "trend", *arguments, "--json")
    assert outcome.exit_code == 0, outcome.stderr
    return outcome.json


def day(days_ago: int) -> str:
    return (NOW - timedelta(days=days_ago)).date().isoformat()


def test_trend_json_has_each_day_and_its_means(made: Path) -> None:
    document = trend(made, "--last", "4d", "--window", "2")

    names = ("period", "calls", "usd", "unknown", "is_incomplete", "mean_usd", "mean_is_least", "before_usd", "before_is_least")
    assert [tuple(row[name] for name in names) for row in document["rows"]] == [
        (day(3), 0, "0", 0, False, "0.0060075", False, None, False),
        (day(2), 1, None, 1, False, None, False, "0.00801", False),
        (day(1), 2, "0.00801", 0, False, "0.004005", True, "0.0060075", False),
        (day(0), 1, CALL, 0, True, "0.0060075", True, None, False),
    ]
    assert [(row["change_usd"], row["change_percent"]) for row in document["rows"]] == [
        (None, None),
        (None, None),
        ("-0.0020025", "-33.33"),
        (None, None),
    ]
    assert document["totals"] == {"calls": 4, "usd": "0.012015", "unknown": 1}
    assert {name: document[name] for name in ("schema", "cost", "every", "window", "incomplete_period")} == {
        "schema": "opencode-monitor/trend@1",
        "cost": "list",
        "every": "day",
        "window": 2,
        "incomplete_period": day(0),
    }
    assert document["warnings"][0] == "1 call has no price and is not in the cost: opencode-monitor pricing missing"


def test_trend_table_marks_what_is_incomplete_unknown_and_at_least(made: Path) -> None:
    outcome = run("--db", made, "--tz", "UTC", "trend", "--last", "6d", "--window", "2")

    assert [" ".join(line.split()) for line in outcome.stdout.splitlines()[1:] if "──" not in line] == [
        "Day Calls Cost Mean of 2 2 before Change",
        f"{day(5)} 1 $0.0040 ########",
        f"{day(4)} 3 $0.01 ######################## $0.0080",
        f"{day(3)} 0 $0.00 $0.0060",
        f"{day(2)} 1 — ? — $0.0080 —",
        f"{day(1)} 2 $0.0080 ################ ≥ $0.0040 $0.0060 ≥ ▼ -33%",
        f"{day(0)} * 1 $0.0040 ######## ≥ $0.0060 — —",
        "",
        "Total 8 ≥ $0.03",
    ]
    assert "* today, incomplete: in no mean but its own\n" in outcome.stderr


def test_trend_range_in_the_middle_of_periods_is_widened_to_them(make_database: Make) -> None:
    store = stores.Store()
    session = stores.add_session(store, stores.START_MS)
    for days in (0, 5, 6, 13):  # Tuesday 1, Sunday 6, Monday 7 and Monday 14 September
        stores.add_call(store, session, stores.START_MS + days * stores.DAY_MS)
    database = make_database(store)
    middle = ("--since", "2026-09-09", "--until", "2026-09-10", "--every", "week", "--window", "1")

    weeks = trend(database, *middle)
    from_sunday = trend(database, *middle, "--week-start", "sunday")
    months = trend(database, "--since", "2026-09-09", "--until", "2026-09-10", "--every", "month", "--window", "1")

    assert weeks["range"] == {"since": "2026-09-07T00:00:00+00:00", "until": "2026-09-14T00:00:00+00:00"}
    assert [(row["period"], row["usd"], row["before_usd"]) for row in weeks["rows"]] == [("2026-09-07", CALL, "0.00801")]
    assert [(row["period"], row["usd"], row["before_usd"]) for row in from_sunday["rows"]] == [("2026-09-06", "0.00801", CALL)]
    assert [(row["period"], row["usd"], row["before_usd"]) for row in months["rows"]] == [("2026-09-01", "0.01602", None)]


def test_trend_of_a_tool_counts_parts_and_other_numbers_have_their_own_means(made: Path) -> None:
    tools = trend(made, "--last", "2d", "--window", "1", "--tool", "read")
    reported = trend(made, "--last", "3d", "--window", "2", "--cost", "reported")

    assert [(row["period"], row["parts"]) for row in tools["rows"]] == [(day(1), 2), (day(0), 1)]
    assert Decimal(tools["rows"][0]["mean_usd"]) < Decimal("0.00801")
    assert [(row["mean_usd"], row["mean_is_least"]) for row in reported["rows"]] == [("0.0005", False), ("0.0015", False), ("0.0015", True)]


def test_trend_rows_in_csv_and_markdown_are_those_of_json(made: Path) -> None:
    rows = trend(made, "--last", "4d")["rows"]

    as_csv = run("--db", made, "--tz", "UTC", "trend", "--last", "4d", "--format", "csv").stdout
    markdown = run("--db", made, "--tz", "UTC", "trend", "--last", "4d", "--format", "md").stdout

    assert [row["usd"] for row in csv.DictReader(io.StringIO(as_csv))] == [row["usd"] or "" for row in rows]
    assert markdown.count("\n| 20") == len(rows)


def test_trend_calls_without_a_time_are_in_no_period_and_said(make_database: Make) -> None:
    store = stores.Store()
    session = stores.add_session(store, stores.START_MS)
    stores.add_call(store, session, stores.START_MS)
    undated = stores.add_call(store, session, stores.START_MS + 1)
    database = make_database(store)
    with contextlib.closing(duckdb.connect(str(database))) as connection:
        connection.execute("UPDATE messages SET created_at = NULL WHERE message_id = ?", [undated["id"]])

    document = trend(database, "--last", "all")
    nothing = run("--db", database, "trend", "--since", "2020-01-01", "--until", "2020-01-02")

    assert (document["totals"]["calls"], document["warnings"][-1]) == (1, "1 call has no time, and is in no period")
    assert nothing.stdout.splitlines()[1].startswith("No calls in this range.")


@pytest.mark.parametrize("arguments", [("--since", "0001-01-02"), ("--since", "0001-01-02", "--every", "month"), ("--until", "9999-12-30")])
def test_trend_ends_of_the_calendar_do_not_fail(made: Path, arguments: tuple[str, ...]) -> None:
    assert run("--db", made, "--tz", "Asia/Kathmandu", "trend", *arguments, "--every", "week").exit_code == 0
