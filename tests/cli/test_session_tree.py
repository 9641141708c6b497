"""`session ID --tree` and `--costliest`, and the formats of `session`, as commands."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

import stores
from commands import run

Make = Callable[[stores.Store], Path]


def add_task(store: stores.Store, message: stores.Record, child: stores.Record) -> None:
    """Add the call of the tool that started a sub-agent's session."""
    at = message["time"]["created"] + 70
    state = {
        "status": "completed",
        "input": {"description": "SECRET"},
        "output": "SECRET",
        "title": "SECRET",
        "metadata": {"sessionId": child["id"]},
        "time": {"start": at, "end": at + 1},
    }
    stores.add_part(store, message, at, "tool", callID=f"call_{store.counter}", tool="task", state=state)


@pytest.fixture
def family(make_database: Make) -> tuple[Path, list[str], list[str]]:
    """A session whose first call started one, that with one of its own, unpriced, and a session that no call is known to have started."""
    store = stores.Store()
    root = stores.add_session(store, stores.START_MS, title="root")
    child = stores.add_session(store, stores.START_MS + 1_000, title="child", parent=root["id"])
    grandchild = stores.add_session(store, stores.START_MS + 2_000, title="grandchild", parent=child["id"])
    other = stores.add_session(store, stores.START_MS + 3_000, title="other", parent=root["id"])
    first = stores.add_call(store, root, stores.START_MS)
    second = stores.add_call(store, root, stores.START_MS + 60_000)
    of_child = stores.add_call(store, child, stores.START_MS + 1_000)
    of_grandchild = stores.add_call(store, grandchild, stores.START_MS + 2_000, model=stores.UNPRICED)
    of_other = stores.add_call(store, other, stores.START_MS + 3_000)
    add_task(store, first, child)
    add_task(store, of_child, grandchild)
    messages = [first, of_child, of_grandchild, second, of_other]
    return make_database(store), [one["id"] for one in (root, child, grandchild, other)], [one["id"] for one in messages]


def test_session_tree_nests_sub_agents_under_the_message_that_started_them(family: tuple[Path, list[str], list[str]]) -> None:
    database, (root, child, grandchild, other), (first, of_child, of_grandchild, second, of_other) = family

    outcome = run("--db", database, "session", root, "--tree")

    lines = [line for line in outcome.stdout.splitlines() if "_" in line]
    shown = [(next(word for word in line.split() if "_" in word), line.index("_") // 4) for line in lines]
    assert shown == [
        (root, 0),
        (first, 1),
        (child, 3),
        (of_child, 3),
        (grandchild, 5),
        (of_grandchild, 5),
        (second, 1),
        (other, 2),
        (of_other, 2),
    ]
    assert lines[0].endswith("root   ≥ $0.02   (own $0.0080 + sub-agents ≥ $0.0080)")
    assert " ".join(outcome.stdout.replace("│", " ").split()).count("with sub-agents ≥ $0.0080") == 1
    assert "grandchild   —" in outcome.stdout
    assert "SECRET" not in outcome.stdout


def test_session_tree_json_rows_are_of_all_sessions_and_sum_to_the_tree(family: tuple[Path, list[str], list[str]]) -> None:
    database, ids, messages = family

    document = run("--db", database, "session", ids[0], "--tree", "--json").json
    flat = run("--db", database, "session", ids[0], "--json").json

    rows, totals = document["rows"], document["totals"]
    assert [row["message_id"] for row in rows] == messages
    assert [(row["session_id"], row["depth"], row["tree_cost_usd"], row["tree_unpriced_calls"]) for row in rows] == [
        (ids[0], 0, "0.00801", 1),
        (ids[1], 1, "0.004005", 1),
        (ids[2], 2, None, 1),
        (ids[0], 0, "0.004005", 0),
        (ids[3], 1, "0.004005", 0),
    ]
    assert sum(Decimal(row["cost_usd"] or 0) for row in rows) == Decimal(totals["tree_cost_usd"]) == Decimal("0.01602")
    assert (totals["cost_usd"], totals["tree_calls"], totals["tree_unpriced_calls"]) == ("0.00801", 5, 1)
    assert [(one["session_id"], one["started_by"], one["depth"], one["tree_cost_usd"]) for one in totals["sessions"]] == [
        (ids[0], None, 0, "0.01602"),
        (ids[1], messages[0], 1, "0.004005"),
        (ids[3], None, 1, "0.004005"),
        (ids[2], messages[1], 2, None),
    ]
    assert set(flat["rows"][0]) == set(rows[0]) - {"session_id", "depth"} - {name for name in rows[0] if name.startswith("tree_")}
    assert document["warnings"][0] == "1 call has no price and is not in the cost: opencode-monitor pricing missing"


def test_session_costliest_shows_parts_with_tool_file_and_share(family: tuple[Path, list[str], list[str]]) -> None:
    database, ids, messages = family

    document = run("--db", database, "session", ids[0], "--costliest", "3", "--json").json
    of_tree = run("--db", database, "session", ids[0], "--tree", "--costliest", "99", "--json").json
    outcome = run("--db", database, "session", ids[0], "--costliest", "1")

    rows = document["rows"]
    assert document["schema"] == "opencode-monitor/session-costliest@1"
    assert (rows[0]["tool"], rows[0]["files"], rows[0]["message_id"]) == ("read", ["/home/dev/shop/cart.py"], messages[3])
    costs = [Decimal(row["cost_usd"]) for row in rows]
    assert costs == sorted(costs, reverse=True)
    assert [Decimal(row["share_percent"]) for row in rows] == [
        (100 * cost / Decimal("0.00801")).quantize(Decimal("0.01")) for cost in costs
    ]
    assert sum(Decimal(row["cost_usd"]) for row in of_tree["rows"]) == Decimal(of_tree["totals"]["cost_usd"]) == Decimal("0.01602")
    assert of_tree["totals"]["sessions"] == [ids[0], ids[1], ids[3], ids[2]]
    assert [line.split()[-2:] for line in outcome.stdout.splitlines()[3:5]] == [
        ["$0.0026", "31.9%"],
        ["$0.0055", "68.1%"],
    ]
    assert outcome.stdout.splitlines()[-1].split() == ["Total", "$0.0080"]


def test_session_costliest_of_nothing_priced_says_so(family: tuple[Path, list[str], list[str]]) -> None:
    database, ids, _ = family

    outcome = run("--db", database, "session", ids[2], "--costliest", "3")
    refused = run("--db", database, "session", ids[2], "--costliest", "3", "--parts")

    assert outcome.stdout.splitlines()[-1] == "No part of it has a cost."
    assert (refused.exit_code, refused.stderr) == (2, "opencode-monitor: error: --costliest shows parts already. Leave --parts out.\n")


def test_session_in_every_format_has_the_same_messages(family: tuple[Path, list[str], list[str]], tmp_path: Path) -> None:
    database, ids, messages = family
    command = ("--db", database, "-q", "session", ids[0], "--tree")

    as_csv = run(*command, "--format", "csv").stdout
    lines = run(*command, "--format", "jsonl").stdout
    markdown = run(*command, "--format", "md").stdout
    chosen = run(*command, "--columns", "message_id,cost_usd").stdout
    run(*command, "-o", tmp_path / "session.txt")

    assert [row["message_id"] for row in csv.DictReader(io.StringIO(as_csv))] == messages
    assert [json.loads(line)["message_id"] for line in lines.splitlines()] == messages
    assert [line.split(" | ")[0].strip("| ").replace("\\", "") for line in markdown.splitlines()[4:]] == [
        *(one[:16] for one in (messages[0], ids[1], messages[1], ids[2], messages[2], messages[3], ids[3], messages[4])),
        "**Own**",
        "**With sub-agents**",
    ]
    assert [line.split()[0] for line in chosen.splitlines()[3:8]] == messages
    assert (tmp_path / "session.txt").read_text(encoding="utf-8") == run(*command).stdout
