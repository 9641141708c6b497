"""`sessions --tree` as a command."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

import stores
from commands import run

Make = Callable[[stores.Store], Path]
HOUR_MS = 3_600_000


@pytest.fixture
def family(make_database: Make) -> tuple[Path, list[str]]:
    """A session with a sub-agent, that with one of its own a day later, and another session; calls of USD 0.004005, the last unpriced."""
    store = stores.Store()
    stores.add_project(store)
    root = stores.add_session(store, stores.START_MS, title="root")
    child = stores.add_session(store, stores.START_MS + HOUR_MS, title="child", parent=root["id"])
    grandchild = stores.add_session(store, stores.START_MS + stores.DAY_MS, title="grandchild", parent=child["id"])
    other = stores.add_session(store, stores.START_MS + stores.DAY_MS + HOUR_MS, title="other")
    for session, calls in ((root, 1), (child, 2), (other, 2)):
        for number in range(calls):
            stores.add_call(store, session, session["time"]["created"] + number)
    stores.add_call(store, grandchild, grandchild["time"]["created"], model=stores.UNPRICED)
    return make_database(store), [session["id"] for session in (root, child, grandchild, other)]


def test_sessions_tree_json_has_depth_and_sums_of_each_tree(family: tuple[Path, list[str]]) -> None:
    database, (root, child, grandchild, other) = family

    document = run("--db", database, "sessions", "--last", "all", "--tree", "--sort", "cost", "--json").json
    flat = run("--db", database, "sessions", "--last", "all", "--json").json

    names = (
        "session_id",
        "depth",
        "is_detached",
        "cost_usd",
        "tree_cost_usd",
        "tree_calls",
        "tree_unpriced_calls",
        "tree_unreported_calls",
    )
    assert [tuple(row[name] for name in names) for row in document["rows"]] == [
        (root, 0, False, "0.004005", "0.012015", 4, 1, 0),
        (child, 1, False, "0.00801", "0.00801", 3, 1, 0),
        (grandchild, 2, False, None, None, 1, 1, 0),
        (other, 0, False, "0.00801", "0.00801", 2, 0, 0),
    ]
    assert document["totals"] == flat["totals"]
    assert sum(Decimal(row["cost_usd"] or 0) for row in document["rows"]) == Decimal(document["totals"]["cost_usd"])


def test_sessions_tree_limit_counts_roots(family: tuple[Path, list[str]]) -> None:
    database, ids = family

    rows = run("--db", database, "sessions", "--last", "all", "--tree", "--sort", "cost", "--limit", "1", "--json").json["rows"]

    assert [row["session_id"] for row in rows] == ids[:3]


def test_sessions_tree_table_is_indented_with_own_and_tree_cost(family: tuple[Path, list[str]]) -> None:
    database, _ = family

    outcome = run("--db", database, "sessions", "--last", "all", "--tree", "--sort", "cost")

    rows = [line[38:].split() for line in outcome.stdout.splitlines()[3:7]]
    assert rows == [
        ["root", "build", "1", "2.5K", "$0.0040", "≥", "$0.01"],
        ["↳", "child", "build", "2", "4.9K", "$0.0080", "≥", "$0.0080"],
        ["↳", "grandchild", "build", "1", "2.5K", "—", "—"],
        ["other", "build", "2", "4.9K", "$0.0080", "$0.0080"],
    ]
    assert outcome.stdout.splitlines()[-1].split() == ["Total", "6", "14.8K", "≥", "$0.02"]
    assert [line.find("↳") - line.find("root") for line in outcome.stdout.splitlines()[4:6]] == [39, 41]
    assert "↑" not in outcome.stderr


def test_sessions_tree_child_of_a_session_outside_the_range_is_a_marked_root(family: tuple[Path, list[str]]) -> None:
    database, (_, _, grandchild, _) = family
    second_day = ("--since", "2026-09-02", "--until", "2026-09-02")

    rows = run("--db", database, "sessions", *second_day, "--tree", "--json").json["rows"]
    outcome = run("--db", database, "sessions", *second_day, "--tree")

    assert [(row["session_id"], row["depth"]) for row in rows if row["is_detached"]] == [(grandchild, 0)]
    assert [line[38:].split()[:2] for line in outcome.stdout.splitlines() if "grandchild" in line] == [["↑", "grandchild"]]
    assert "↑ started by a session that is not among these\n" in outcome.stderr


def test_sessions_tree_in_a_narrow_file_cuts_names_and_never_numbers(make_database: Make) -> None:
    store = stores.Store()
    session = stores.add_session(store, stores.START_MS, title="a title of many words " * 4)
    for depth in range(12):
        stores.add_call(
            store, session, stores.START_MS + depth, agent="an-agent-with-a-long-name", model=(stores.SONNET, stores.UNPRICED)[depth % 2]
        )
        session = stores.add_session(store, stores.START_MS + depth, title="a title of many words " * 4, parent=session["id"])
    database = make_database(store)

    lines = run("--db", database, "sessions", "--last", "all", "--tree").stdout.splitlines()

    assert max(map(len, lines)) <= 120
    assert lines[3].split()[-3:] == ["$0.0040", "≥", "$0.02"]
    assert [line.split("↳")[0].split()[-1] for line in lines[12:14]] == ["9", "10"]
