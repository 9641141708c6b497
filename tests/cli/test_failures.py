from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

import stores
from commands import Outcome, run
from opencode_monitor.cli.render import show_usd

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HOSTILE = "\x1b[31mred\u202eltr"


def failed(error: str) -> dict[str, Any]:
    return {"status": "error", "input": {"command": "x"}, "error": error}


@pytest.fixture
def failing(make_database: Callable[[stores.Store], Path]) -> Path:
    """A database with failed calls of tools, and one failed model call."""
    store = stores.Store()
    stores.add_project(store)
    session = stores.add_session(store, stores.START_MS)
    message = stores.add_call(store, session, stores.START_MS)
    for number, error in enumerate(["Timed out after 120000ms", "fetch failed", f"{HOSTILE} timed out"]):
        stores.add_part(store, message, stores.START_MS + number, "tool", tool="bash", callID=f"c{number}", state=failed(error))
    stores.add_part(
        store, message, stores.START_MS + 9, "tool", tool="skill", callID="c9", state={"status": "completed", "input": {"name": "a"}}
    )
    broken = stores.add_call(store, session, stores.START_MS + 60_000)
    broken["error"] = {"name": "APIError", "data": {"message": "Overloaded", "statusCode": 529, "isRetryable": True}}
    return make_database(store)


def report(database: Path, *arguments: str) -> Outcome:
    outcome = run("--db", database, "--tz", "UTC", *arguments, "--last", "all")
    assert outcome.exit_code == 0, outcome.stderr
    return outcome


def test_errors_json_counts_by_category(failing: Path) -> None:
    document = report(failing, "errors", "--json").json

    assert document["schema"] == "opencode-monitor/errors@1"
    assert [(row["category"], row["severity"], row["errors"], row["retryable"], row["tool_errors"]) for row in document["rows"]] == [
        ("timeout", "medium", 2, 2, 2),
        ("network", "medium", 1, 1, 1),
        ("server_error", "high", 1, 1, 0),
    ]
    assert document["rows"][2]["cost_usd"] is None
    costs = [Decimal(row["cost_usd"]) for row in document["rows"][:2]]
    assert sum(costs) == Decimal(document["totals"]["cost_usd"]) > 0


def test_errors_table_has_rows_and_a_total(failing: Path) -> None:
    lines = [line.split() for line in report(failing, "errors", "--limit", "1").stdout.splitlines()]

    assert ["timeout", "medium", "2", "2", "2", "1"] in [line[:6] for line in lines]
    assert ["Total", "4", "3", "4", "1"] in [line[:5] for line in lines]
    assert not any(line[:1] == ["network"] for line in lines)


@pytest.mark.parametrize("options", [(), ("--limit", "1"), ("--tool", "*"), ("--by", "server"), ("--by", "skill")])
def test_tools_total_is_the_sum_of_all_rows_calls_of_tools_errors_and_failed_cost(failing: Path, options: tuple[str, ...]) -> None:
    rows = report(failing, "tools", "--json").json["rows"]

    document = report(failing, "tools", *options, "--json").json
    table = report(failing, "tools", *options).stdout

    failed_usd = sum((Decimal(row["failed_cost_usd"]) for row in rows), Decimal(0))
    totals = document["totals"]
    assert {row["tool"]: row["calls"] for row in rows} == {"bash": 3, "read": 2, "skill": 1, None: 0}
    assert (totals["calls"], totals["errors"], totals["failed_unpriced_parts"]) == (6, 3, 0)
    assert Decimal(totals["failed_cost_usd"]) == failed_usd > 0
    assert table.splitlines()[-1].split()[:5] == ["Total", "6", "3", "50.0%", show_usd(failed_usd)]


def test_tools_total_failed_cost_is_unknown_where_that_of_each_failed_call_is(make_database: Callable[[stores.Store], Path]) -> None:
    store = stores.Store()
    session = stores.add_session(store, stores.START_MS)
    message = stores.add_call(store, session, stores.START_MS, model=stores.UNPRICED)
    stores.add_part(store, message, stores.START_MS, "tool", tool="bash", callID="c0", state=failed("fetch failed"))
    stores.add_call(store, session, stores.START_MS + 60_000)

    outcome = report(make_database(store), "tools")

    assert outcome.stdout.splitlines()[-1].split()[:5] == ["Total", "3", "1", "33.3%", "—"]


def test_tools_failed_cost_is_at_least_where_a_failed_call_has_no_price(make_database: Callable[[stores.Store], Path]) -> None:
    store = stores.Store()
    stores.add_project(store)
    session = stores.add_session(store, stores.START_MS)
    for number, model in enumerate((stores.SONNET, stores.UNPRICED)):
        message = stores.add_call(store, session, stores.START_MS + number * 60_000, model=model)
        stores.add_part(store, message, stores.START_MS + number, "tool", tool="bash", callID=f"c{number}", state=failed("fetch failed"))

    line, total = (line for line in report(make_database(store), "tools").stdout.splitlines() if line.startswith(("bash", "Total")))

    assert line.split()[:5] == ["bash", "2", "2", "100.0%", "≥"]
    assert total.split()[:5] == ["Total", "4", "2", "50.0%", "≥"]


def test_errors_of_calls_without_a_price_are_said(make_database: Callable[[stores.Store], Path]) -> None:
    store = stores.Store()
    stores.add_project(store)
    session = stores.add_session(store, stores.START_MS)
    for number, model in enumerate((stores.SONNET, stores.UNPRICED)):
        message = stores.add_call(store, session, stores.START_MS + number * 60_000, model=model)
        stores.add_part(store, message, stores.START_MS + number, "tool", tool="bash", callID=f"c{number}", state=failed("fetch failed"))
    database = make_database(store)

    outcome = report(database, "errors")

    assert "≥ $" in outcome.stdout
    assert outcome.stderr.splitlines() == ["1 failed call of a tool has no price and is not in the cost: opencode-monitor pricing missing"]


def test_errors_of_a_tool_leave_out_model_calls(failing: Path) -> None:
    rows = report(failing, "errors", "--tool", "bash", "--sort", "cost", "--json").json["rows"]

    assert [row["category"] for row in rows] == ["timeout", "network"]


def test_errors_without_any_say_where_to_look(failing: Path) -> None:
    outcome = run("--db", failing, "--tz", "UTC", "errors", "--since", "2020-01-01", "--until", "2020-01-02")

    assert (outcome.exit_code, outcome.stdout.splitlines()[1]) == (
        0,
        "No errors in this range. Look further back with --last all, or run: opencode-monitor import",
    )


@pytest.mark.parametrize(("group", "title", "first"), [("skill", "Skill", "(no skill)"), ("server", "Server", "(no MCP server)")])
def test_tools_by_skill_and_server_sum_to_the_total(failing: Path, group: str, title: str, first: str) -> None:
    document = report(failing, "tools", "--by", group, "--json").json
    table = report(failing, "tools", "--by", group).stdout

    assert [row["tool"] for row in document["rows"]] == ([None, "a"] if group == "skill" else [None])
    assert sum(Decimal(row["cost_usd"]) for row in document["rows"]) == Decimal(document["totals"]["cost_usd"])
    assert (sum(row["calls"] for row in document["rows"]), document["totals"]["calls"]) == (6, 6)
    assert title in table
    assert first in table


@pytest.mark.parametrize("stated", ["notes_read", "notes_read=steal", "=", "a=read,b=Read"])
def test_import_file_tools_that_make_no_sense_are_refused(
    tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch, stated: str
) -> None:
    store = stores.Store()
    stores.add_call(store, stores.add_session(store, stores.START_MS), stores.START_MS)
    stores.write_json(store, tmp_path / "opencode")
    monkeypatch.setenv("OPENCODE_MONITOR_FILE_TOOLS", stated)

    outcome = run("--db", empty_database, "import", tmp_path / "opencode")

    assert outcome.exit_code == 2
    assert "Use tool=OPERATION with one of read, write, edit, delete." in outcome.stderr
