"""`message ID` and `part ID` as commands."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import stores
from commands import run

Make = Callable[[stores.Store], Path]
HOSTILE = "\x1b]0;pwn\x07\x1b[31m\u202e"
NUMBERS = {"list": "cost_usd", "reported": "reported_cost_usd", "paid": "paid_cost_usd"}


def of_steps(sample: stores.Store, steps: int) -> stores.Record:
    """Return a message of the sample with so many steps, and none of a fork."""
    forks = {session["id"] for session in sample.sessions if "fork" in session["title"]}
    ends = [part["messageID"] for part in sample.parts if part["type"] == "step-finish" and part["sessionID"] not in forks]
    return next(message for message in sample.messages if ends.count(message["id"]) == steps)


def total(rows: list[dict[str, Any]], name: str) -> Decimal:
    return sum((Decimal(row[name]) for row in rows), Decimal(0))


@pytest.mark.parametrize("number", NUMBERS)
def test_message_json_steps_and_parts_sum_to_it_exactly(sample_database: Path, sample: stores.Store, number: str) -> None:
    wanted = of_steps(sample, 3)
    name = NUMBERS[number]

    document = run("--db", sample_database, "message", wanted["id"], "--cost", number, "--json").json

    assert (document["schema"], document["cost"]) == ("opencode-monitor/message@1", number)
    assert (document["totals"]["message_id"], document["totals"]["session_id"]) == (wanted["id"], wanted["sessionID"])
    assert total(document["rows"], name) == total(document["steps"], name) == Decimal(document["totals"][name])
    for tokens in ("input_tokens", "cache_read_tokens", "output_tokens", "reasoning_tokens"):
        assert sum(row[tokens] for row in document["rows"]) == document["totals"][tokens]
    assert abs(total(document["rows"], "share_percent") - 100) < Decimal("0.1")
    assert [step["step_number"] for step in document["steps"]] == [1, 2, 3]


def test_message_json_step_is_tokens_times_the_prices_of_its_row(sample_database: Path, sample: stores.Store) -> None:
    (step,) = run("--db", sample_database, "message", of_steps(sample, 1)["id"], "--json").json["steps"]

    price = step["price"]
    buckets = ("input", "cache_read", "cache_write", "output", "reasoning")
    used = [(step[f"{name}_tokens"], price[f"{name}_usd_per_mtok"]) for name in buckets if step[f"{name}_tokens"]]
    assert sum(tokens * Decimal(usd) for tokens, usd in used) / 1_000_000 == Decimal(step["cost_usd"])
    assert price["price_id"].startswith(f"{price['vendor']}/{price['model']}|standard|")


def test_message_table_shows_calls_prices_and_parts(make_database: Make) -> None:
    store = stores.Store()
    session = stores.add_session(store, stores.START_MS)
    call = stores.add_call(store, session, stores.START_MS)
    database = make_database(store)

    outcome = run("--db", database, "--tz", "UTC", "message", call["id"][:14])

    lines = outcome.stdout.splitlines()
    text = " ".join(outcome.stdout.split())
    assert text.startswith(f"Message {call['id']} · assistant · build · anthropic/claude-sonnet-4-5 · 2026-09-01 09:00:00 UTC · session ")
    ids = [part["id"][:16] for part in store.parts]
    assert [line.split() for line in lines[4:-2]] == [
        ["step", "1", "of", "1", "10", "2,000", "300", "150", "0", "$0.004005", "100.0%"],
        ["price", "of", "anthropic/claude-sonnet-4-5"],
        ["USD", "per", "million,", "genai-prices", "3", "0.3", "3.75", "15", "15"],
        [ids[0], "step_start", "0", "0", "0", "0", "0", "$0", "0.0%"],
        [ids[1], "read", "…me/dev/shop/cart.py", "6", "1,275", "191", "95", "0", "$0.002554913791", "63.8%"],
        [ids[2], "text", "3", "724", "108", "54", "0", "$0.001450086204", "36.2%"],
        [ids[3], "step_finish", "1", "1", "1", "1", "0", "$0.000000000005", "0.0%"],
    ]
    assert lines[-1].split() == ["Message", "10", "2,000", "300", "150", "0", "$0.004005"]


def test_message_without_a_price_has_dashes_and_a_warning(make_database: Make) -> None:
    store = stores.Store()
    session = stores.add_session(store, stores.START_MS)
    call = stores.add_call(store, session, stores.START_MS, model=stores.UNPRICED)
    database = make_database(store)

    outcome = run("--db", database, "message", call["id"])
    document = run("--db", database, "message", call["id"], "--json").json

    assert [line.split() for line in outcome.stdout.splitlines() if "no price" in line] == [["no", "price"]]
    assert outcome.stdout.splitlines()[-1].split()[-1] == "—"
    assert {row["cost_usd"] for row in document["rows"]} == {None}
    assert document["totals"]["cost_usd"] is None
    assert document["warnings"] == ["1 call has no price and is not in the cost: opencode-monitor pricing missing"]


def test_message_of_a_user_has_parts_without_a_cost(sample_database: Path, sample: stores.Store) -> None:
    of_user = next(message for message in sample.messages if message["role"] == "user")

    outcome = run("--db", sample_database, "message", of_user["id"])
    row = run("--db", sample_database, "message", of_user["id"], "--json").json["rows"][0]

    assert outcome.stdout.splitlines()[-1].split() == ["Message"]
    assert (row["part_type"], row["is_of_call"], row["cost_usd"]) == ("text", False, None)
    assert "Please fix it." not in outcome.stdout


@pytest.mark.parametrize("number", NUMBERS)
def test_part_table_says_how_its_cost_came_about(sample_database: Path, sample: stores.Store, number: str) -> None:
    wanted = of_steps(sample, 3)
    tool = [part for part in sample.parts if part["messageID"] == wanted["id"] and part["type"] == "tool"][1]

    outcome = run("--db", sample_database, "part", tool["id"], "--cost", number)
    document = run("--db", sample_database, "part", tool["id"], "--cost", number, "--json").json

    (row,), step = document["rows"], document["step"]
    units = row["written_chars"] * 10**9 // row["step_chars"]
    exact = Decimal(step[NUMBERS[number]]) * units / 10**9
    assert 0 <= exact - Decimal(row[NUMBERS[number]]) < Decimal("1e-12")
    assert (row["part_id"], row["tool"], step["step_number"], row["step_number"]) == (tool["id"], "read", 2, 2)
    assert [line[: line.index("  ")] for line in outcome.stdout.splitlines() if line.startswith(("Step 2", "This part"))] == [
        "Step 2 of 3, list price",
        *{
            "list": [],
            "reported": ["Step 2 of 3, as OpenCode stored it"],
            "paid": ["Step 2 of 3, out of pocket"],
        }[number],
        f"This part, {row['written_chars']} of {row['step_chars']} characters",
    ]
    assert outcome.stdout.splitlines()[-1].split()[-1] == f"${row[NUMBERS[number]]}"


def test_part_end_of_a_step_has_what_the_others_leave(sample_database: Path, sample: stores.Store) -> None:
    end = next(part for part in sample.parts if part["type"] == "step-finish")

    last = run("--db", sample_database, "part", end["id"]).stdout.splitlines()[-1]

    assert last.startswith("This part, what the others leave ")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("user", "No call made it, so it has no cost of its own; what sending it cost: opencode-monitor carried"),
        ("copy", "It is a copy made by a fork: it was paid with its original."),
    ],
)
def test_part_that_no_call_made_says_why_it_has_no_cost(sample_database: Path, sample: stores.Store, kind: str, said: str) -> None:
    fork = next(session for session in sample.sessions if "fork" in session["title"])
    copies = [part for part in sample.parts if part["sessionID"] == fork["id"] and part["type"] == "tool"]
    wanted = copies[0] if kind == "copy" else next(part for part in sample.parts if part["type"] == "text")

    outcome = run("--db", sample_database, "part", wanted["id"])

    assert outcome.stdout.splitlines()[-1] == said


@pytest.mark.parametrize(("command", "prefix"), [("message", "msg"), ("part", "prt")])
def test_message_and_part_unknown_or_ambiguous_are_exit_1(sample_database: Path, sample: stores.Store, command: str, prefix: str) -> None:
    number = len(sample.messages if command == "message" else sample.parts)

    several = run("--db", sample_database, command, f"{prefix}_")
    none = run("--db", sample_database, command, "%", "--json")

    assert (several.exit_code, several.stdout) == (1, "")
    beginning = rf"{prefix}_[0-9a-f]+…"
    said = rf"opencode-monitor: error: no {command} '{prefix}_'\. {number} start with it: {beginning}, {beginning}, {beginning}, …\n"
    assert re.fullmatch(said, several.stderr)
    assert none.exit_code == 1
    assert none.error["code"] == "not_found"


def test_message_and_part_hostile_texts_do_not_reach_the_terminal(make_database: Make) -> None:
    store = stores.Store()
    session = stores.add_session(store, stores.START_MS, title=HOSTILE)
    call = stores.add_call(store, session, stores.START_MS)
    call |= {"agent": HOSTILE, "modelID": HOSTILE}
    for part in store.parts:
        if part["type"] == "tool":
            part["state"]["input"]["filePath"] = f"/{HOSTILE}"
        if part["type"] == "text":
            part["text"] = "SECRET"
    tool = stores.add_part(store, call, stores.START_MS + 80, "tool", tool=HOSTILE, state={"status": "running"})
    database = make_database(store)

    shown = [
        run("--db", database, *command, "--format", form)
        for command in (("message", call["id"]), ("part", tool["id"]), ("session", session["id"], "--costliest", "9"))
        for form in ("table", "md", "json", "jsonl")
    ]

    for outcome in shown:
        assert outcome.exit_code == 0
        assert re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", outcome.stdout + outcome.stderr) is None
        assert "SECRET" not in outcome.stdout
