from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

import stores
from commands import Outcome, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HOSTILE = "\x1b]0;owned\x07\x1b[31mred\u202eltr [bold]markup[/bold]"
COSTS = {"list": "cost_usd", "reported": "reported_cost_usd", "paid": "paid_cost_usd"}
SUMMED = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", *COSTS.values())
OWN_FIELDS = {
    "agents": ["agent", "calls", "unpriced_calls"],
    "projects": ["project", "calls", "unpriced_calls"],
    "tools": ["tool", "calls", "errors", "failed_cost_usd", "failed_reported_cost_usd", "failed_paid_cost_usd", "unpriced_parts"],
    "files": ["file", "reads", "changes", "unpriced_parts", "unreported_parts"],
    "parts": ["part_type", "parts", "unpriced_parts", "paid_unknown_parts"],
}


def report(database: Path, name: str, *arguments: str) -> Outcome:
    outcome = run("--db", database, "--tz", "UTC", name, "--last", "all", *arguments)
    assert outcome.exit_code == 0, outcome.stderr
    return outcome


def number(value: object) -> Decimal:
    assert isinstance(value, int | str)
    return Decimal(value)


@pytest.mark.parametrize("name", OWN_FIELDS)
def test_views_json_rows_have_their_fields_and_sum_to_the_totals(sample_database: Path, sample: stores.Store, name: str) -> None:
    document = report(sample_database, name, "--json").json

    assert document["schema"] == f"opencode-monitor/{name}@1"
    assert set(OWN_FIELDS[name]) <= set(document["rows"][0])
    for field in SUMMED:
        assert sum(number(row[field] or 0) for row in document["rows"]) == number(document["totals"][field]), field
    assert number(document["totals"]["cost_usd"]) == sample.total[6]


def test_tools_and_files_of_the_sample_are_named_and_counted(sample_database: Path, sample: stores.Store) -> None:
    steps = sample.total[0]

    tools = report(sample_database, "tools", "--json").json["rows"]
    files = report(sample_database, "files", "--json").json["rows"]

    assert {row["tool"]: (row["calls"], row["errors"]) for row in tools} == {"read": (steps, 0), None: (0, 0)}
    assert {row["file"]: row["reads"] for row in files} == {"/home/dev/shop/cart.py": steps, None: 0}


@pytest.mark.parametrize(
    ("name", "sort", "first"), [("tools", "calls", "read"), ("parts", "parts", "step_finish"), ("files", "reads", "/home/dev/shop/cart.py")]
)
def test_views_sort_and_limit_choose_the_rows(sample_database: Path, name: str, sort: str, first: str) -> None:
    rows = report(sample_database, name, "--sort", sort, "--limit", "1", "--json").json["rows"]

    assert [row[OWN_FIELDS[name][0]] for row in rows] == [first]


@pytest.mark.parametrize(("name", "row"), [("tools", "(no tool)"), ("files", "(no file)"), ("parts", "tool_call"), ("agents", "general")])
def test_views_table_has_rows_and_a_total(sample_database: Path, name: str, row: str) -> None:
    lines = [line.split("  ")[0].strip() for line in report(sample_database, name).stdout.splitlines()]

    assert row in lines
    assert lines[-1] == "Total"


def test_views_without_calls_say_where_to_look(sample_database: Path) -> None:
    outcome = run("--db", sample_database, "--tz", "UTC", "tools", "--since", "2020-01-01", "--until", "2020-01-02")

    assert (outcome.exit_code, outcome.stdout.splitlines()[1]) == (
        0,
        "No calls in this range. Look further back with --last all, or run: opencode-monitor import",
    )


@pytest.fixture
def mixed_database(make_database: Callable[[stores.Store], Path]) -> Path:
    """A priced and an unpriced call, with a user's text and a tool of hostile names."""
    store = stores.Store()
    session = stores.add_session(store, stores.START_MS, title="never shown")
    stores.add_user(store, session, stores.START_MS, text="never shown " * 40)
    stores.add_call(store, session, stores.START_MS + 1000)
    stores.add_call(store, session, stores.START_MS + 60_000, model=stores.UNPRICED)
    for part in store.parts:
        if part["type"] == "tool":
            part["tool"] = HOSTILE
            part["state"]["input"] = {"filePath": HOSTILE}
            part["state"]["output"] = "never shown " * 100
    stores.add_call(store, session, stores.START_MS + 120_000)
    return make_database(store)


@pytest.mark.parametrize(("name", "cost"), [("tools", "paid"), ("files", "list"), ("parts", "reported")])
def test_views_cost_chooses_the_number_and_the_head_says_which(
    sample_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, cost: str
) -> None:
    database = tmp_path / "copy.duckdb"
    database.write_bytes(sample_database.read_bytes())
    run("--db", database, "pricing", "adjust", "*", "0.5")

    shown = report(database, name, "--cost", cost)
    document = report(database, name, "--cost", cost, "--json").json
    models = report(database, "models", "--cost", cost)
    monkeypatch.setenv("OPENCODE_MONITOR_COST", cost)
    by_setting = report(database, name)

    title = models.stdout.splitlines()[0].partition(" · UTC · ")[2]
    assert shown.stdout.splitlines()[0] == f"{name.capitalize()} · all time · UTC · {title}"
    assert by_setting.stdout == shown.stdout
    assert document["cost"] == cost
    assert shown.stdout.split()[-1] == models.stdout.split()[-1]
    assert sum(number(row[COSTS[cost]] or 0) for row in document["rows"]) == number(document["totals"][COSTS[cost]]) > 0


def test_views_paid_with_a_flat_fee_says_where_it_stands(sample_database: Path, tmp_path: Path) -> None:
    database = tmp_path / "copy.duckdb"
    database.write_bytes(sample_database.read_bytes())
    run("--db", database, "pricing", "billing", "anthropic", "subscription", "--monthly-fee", "20")

    outcome = report(database, "tools", "--cost", "paid")

    assert outcome.stderr.splitlines()[-1] == "Flat fees are owed whatever is used, and no part's: opencode-monitor daily --cost paid"


def test_tools_call_without_price_makes_the_cost_at_least(mixed_database: Path) -> None:
    outcome = report(mixed_database, "tools")

    (total,) = re.findall(r"^Total.*$", outcome.stdout, re.MULTILINE)
    assert "≥ $" in total
    assert outcome.stderr == "≥ 1 call has no price and is not in the cost: opencode-monitor pricing missing\n"


def test_carried_before_computing_says_what_to_run(mixed_database: Path) -> None:
    outcome = report(mixed_database, "carried")

    assert outcome.stdout.splitlines()[1] == "Nothing carried in this range."
    assert outcome.stderr.splitlines()[0] == "1 sessions are not computed and not shown: opencode-monitor metrics carried"


def test_carried_after_computing_rows_and_base_sum_to_the_total(mixed_database: Path) -> None:
    computed = run("--db", mixed_database, "metrics", "carried")
    document = report(mixed_database, "carried", "--json").json

    rows, totals = document["rows"], document["totals"]
    assert computed.stdout == "Carried costs of 1 session: 6 rows.\n"
    assert len(rows) == totals["parts"] == 5
    assert sum(number(row["carried_cost_usd"]) for row in rows) == number(totals["parts_cost_usd"])
    assert number(totals["parts_cost_usd"]) + number(totals["base_cost_usd"]) == number(totals["carried_cost_usd"])
    # Two priced calls of 10 + 2,000 + 300 prompt tokens.
    assert number(totals["carried_cost_usd"]) == 2 * Decimal("0.001755")
    assert {row["carrying_calls"] for row in rows} == {1, 2}
    assert document["warnings"] == ["1 call has no price and carries nothing: opencode-monitor pricing missing"]


def test_carried_and_tools_show_names_and_never_content(mixed_database: Path) -> None:
    run("--db", mixed_database, "metrics", "carried", "--session", "ses")

    shown = report(mixed_database, "carried").stdout + report(mixed_database, "tools").stdout + report(mixed_database, "files").stdout
    document = report(mixed_database, "carried", "--json").stdout

    assert "�]0;owned" in shown
    assert not set(shown) & set("\x1b\x07\u202e")
    assert "never shown" not in shown + document


def test_carried_one_session_takes_the_beginning_of_its_id_and_all_time(
    sample_database: Path, tmp_path: Path, sample: stores.Store
) -> None:
    database = tmp_path / "copy.duckdb"
    database.write_bytes(sample_database.read_bytes())
    run("--db", database, "metrics", "carried")
    session_id = sample.sessions[0]["id"]

    document: dict[str, Any] = run("--db", database, "--tz", "UTC", "carried", "--session", session_id, "--json").json

    assert {row["session_id"] for row in document["rows"]} == {session_id}
    assert document["range"] == {"since": None, "until": None}


def test_import_carried_leaves_nothing_open_and_a_reprice_opens_the_changed(database: Path, tmp_path: Path, sample: stores.Store) -> None:
    stores.write_json(sample, tmp_path)
    imported = run("--db", database, "import", tmp_path, "--carried")
    computed = report(database, "carried", "--json").json["totals"]

    run("--db", database, "pricing", "set", stores.GPT, "--input", "9", "--output", "9", "--cache-read", "9")
    run("--db", database, "pricing", "reprice", "--yes")
    repriced = report(database, "carried", "--json").json["totals"]

    assert (imported.exit_code, computed["open_sessions"]) == (0, 0), imported.stderr
    assert number(computed["carried_cost_usd"]) > 0
    assert (repriced["open_sessions"], repriced["carried_cost_usd"]) == (4, "0.69317795")
