"""The estimates on the command line: a list of their own, and beside the cost of every report."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import stores
from commands import run

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[[stores.Store], Path]

MINUTE_MS = 60_000
TITLE_USD = Decimal("0.00084")  # 660 tokens written to a haiku's cache and 3 of output


@pytest.fixture
def store() -> stores.Store:
    """A session of two days with a title and a call that was cut off, and one of a model without a price."""
    store = stores.Store()
    stores.add_project(store)
    session = stores.add_session(store, stores.START_MS, title="Fix the cart")
    stores.add_user(store, session, stores.START_MS, text="x" * 40)
    stores.add_call(store, session, stores.START_MS + MINUTE_MS, model=stores.SONNET)
    message = stores.add_call(store, session, stores.START_MS + stores.DAY_MS, model=stores.SONNET, steps=0, counted=False)
    del message["time"]["completed"], message["finish"]
    message |= {"cost": 0, "tokens": {"input": 0, "output": 0, "reasoning": 0, "cache": {"read": 0, "write": 0}}}
    stores.add_part(store, message, stores.START_MS + stores.DAY_MS + 1, "step-start", snapshot="abc")
    free = stores.add_session(store, stores.START_MS + MINUTE_MS, title="\x1b[31mred")
    stores.add_user(store, free, stores.START_MS + MINUTE_MS, model=stores.UNPRICED)
    stores.add_call(store, free, stores.START_MS + 2 * MINUTE_MS, model=stores.UNPRICED)
    return store


def document(database: Path, *arguments: object) -> dict[str, Any]:
    outcome = run("--db", database, "--tz", "UTC", *arguments, "--last", "all", "--json")
    assert outcome.exit_code == 0, outcome.stderr
    return outcome.json


class TestUnrecorded:
    def test_unrecorded_json_lists_each_estimate_with_its_method(self, make_database: Make, store: stores.Store) -> None:
        found = document(make_database(store), "unrecorded")

        assert found["schema"] == "opencode-monitor/unrecorded@1"
        assert [(row["kind"], row["method"], row["model_id"], row["message_id"] is None) for row in found["rows"]] == [
            ("cut", "previous_call", stores.SONNET, False),
            ("title", "title_prompt", stores.UNPRICED, True),
            ("title", "title_prompt", stores.HAIKU, True),
        ]
        # The cache of a day ago is gone: 2,310 tokens, the 150 written, the 16 characters read, and the wrapping of the tool.
        cut_usd = (2_310 + 150 + 4 + 60) * Decimal("3.75") / 10**6
        assert [row["estimated_cost_usd"] for row in found["rows"]] == [str(cut_usd.normalize()), None, str(TITLE_USD)]
        assert found["totals"].pop("without_message")["calls"] == 0
        assert found["totals"] == {
            "estimated_unrecorded_usd": str((cut_usd + TITLE_USD).normalize()),
            "estimated_unrecorded_calls": 3,
            "unpriced_estimates": 1,
            "kinds": {
                "title": {"estimated_unrecorded_usd": str(TITLE_USD), "estimated_unrecorded_calls": 2, "unpriced_estimates": 1},
                "cut": {"estimated_unrecorded_usd": str(cut_usd.normalize()), "estimated_unrecorded_calls": 1, "unpriced_estimates": 0},
            },
        }

    def test_unrecorded_table_sums_by_kind_and_says_what_it_leaves_out(self, make_database: Make, store: stores.Store) -> None:
        outcome = run("--db", make_database(store), "--tz", "UTC", "unrecorded", "--last", "all", "--limit", "1")

        lines = [line.split() for line in outcome.stdout.splitlines()]
        assert outcome.exit_code == 0
        assert lines[0] == ["Estimated,", "not", "recorded", "·", "all", "time", "·", "UTC", "·", "list", "prices,", "USD"]
        assert lines[3][3:] == ["cut", stores.SONNET, "previous_call", "2.5K", "0", "$0.0095"]
        assert [line for line in lines if line[:1] == ["Total"]] == [
            ["Total", "2", "calls", "title", "$0.0008"],
            ["Total", "1", "call", "cut", "$0.0095"],
        ]
        assert outcome.stderr == "the latest 1 of 3 calls; all with --json\n"

    def test_unrecorded_range_without_any_says_so(self, make_database: Make, store: stores.Store) -> None:
        database = make_database(store)

        outcome = run("--db", database, "unrecorded", "--since", "2020-01-01", "--until", "2020-01-02")
        as_json = run("--db", database, "unrecorded", "--since", "2020-01-01", "--until", "2020-01-02", "--json").json

        other = run("--db", database, "unrecorded", "--last", "all", "--agent", "nobody")

        assert "Nothing that OpenCode did not record in this range." in outcome.stdout
        assert other.stdout.splitlines()[1] == "Nothing that OpenCode did not record matches the filter: agent nobody."
        assert (as_json["rows"], as_json["totals"]["estimated_unrecorded_usd"]) == ([], "0")

    def test_unrecorded_reprice_prices_all_estimates_by_the_book_of_today(self, make_database: Make, store: stores.Store) -> None:
        database = make_database(store)
        model = ("pricing", "set", stores.HAIKU, "--input", "2", "--cache-write", "2.5", "--output", "10", "--from", "2026-01-01")
        run("--db", database, *model)
        kept = document(database, "unrecorded")["totals"]["estimated_unrecorded_usd"]

        outcome = run("--db", database, "unrecorded", "--reprice")
        as_json = run("--db", database, "unrecorded", "--reprice", "--json").json

        assert kept == "0.010305"
        assert outcome.exit_code == 0, outcome.stderr
        assert outcome.stdout.splitlines() == [
            "Before: $0.010305 for 3 calls, 1 without a price",
            "After: $0.011145 for 3 calls, 1 without a price",
        ]
        assert (as_json["schema"], as_json["rows"]) == ("opencode-monitor/unrecorded-reprice@1", [])
        same = {"estimated_unrecorded_usd": "0.011145", "estimated_unrecorded_calls": 3, "unpriced_estimates": 1}
        assert as_json["totals"] == {"before": same, "after": same}

    def test_unrecorded_reprice_of_a_range_is_refused(self, make_database: Make, store: stores.Store) -> None:
        outcome = run("--db", make_database(store), "unrecorded", "--reprice", "--last", "7d")

        assert outcome.exit_code == 2
        assert "--reprice prices all estimates" in outcome.stderr


@pytest.fixture
def cut_off(store: stores.Store, duckdb_at_head: Path, tmp_path: Path) -> Path:
    """A database of a store one of whose messages is cut off, with its parts whole."""
    path = stores.write_sqlite(store, tmp_path / "cut")
    message = next(message for message in store.messages if message["role"] == "assistant")
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE message SET data = substr(data, 1, 60) WHERE id = ?", (message["id"],))
    database = Path(shutil.copy(duckdb_at_head, tmp_path / "cut.duckdb"))
    run("--db", database, "import", path)
    return database


class TestOrphans:
    def test_unrecorded_shows_calls_whose_message_cannot_be_read(self, cut_off: Path, store: stores.Store) -> None:
        message = next(message for message in store.messages if message["role"] == "assistant")

        found = document(cut_off, "unrecorded")
        table = run("--db", cut_off, "--tz", "UTC", "unrecorded", "--last", "all").stdout

        step = {
            "input_tokens": 10,
            "cache_read_tokens": 2_000,
            "cache_write_tokens": 300,
            "output_tokens": 150,
            "reasoning_tokens": 0,
            "reported_cost_usd": "0.001",
        }
        assert found["totals"]["without_message"] == {"calls": 1, **step, "unreported_calls": 0}
        assert [one["message_id"] for one in found["without_message"]] == [message["id"]]
        assert found["without_message"][0].items() >= step.items()
        assert [line.split() for line in table.splitlines()][-1] == ["Total", "1", "call", "2.3K", "150", "$0.0010"]

    def test_reports_say_what_is_in_no_sum_for_want_of_its_message(self, cut_off: Path, store: stores.Store) -> None:
        warnings = [document(cut_off, *arguments)["warnings"] for arguments in (["models"], ["daily"], ["models", "--model", "*haiku*"])]
        own, other = (run("--db", cut_off, "session", session["id"]).stderr for session in store.sessions)

        said = "1 call whose message is gone or cannot be read is in no sum ($0.0010 by OpenCode): opencode-monitor unrecorded --last all"
        assert [said in texts for texts in warnings] == [True, True, False]
        assert (said in own, "in no sum" in other) == (True, False)


class TestReports:
    @pytest.mark.parametrize("name", ["daily", "weekly", "monthly", "models", "sessions"])
    def test_report_json_has_the_estimates_beside_the_cost(self, make_database: Make, store: stores.Store, name: str) -> None:
        found = document(make_database(store), name)

        rows, totals = found["rows"], found["totals"]
        assert sum(row["estimated_unrecorded_calls"] for row in rows) == totals["estimated_unrecorded_calls"] == 3
        assert sum(row["unpriced_estimates"] for row in rows) == totals["unpriced_estimates"] == 1
        known = [Decimal(row["estimated_unrecorded_usd"]) for row in rows if row["estimated_unrecorded_usd"] is not None]
        assert sum(known) == Decimal(totals["estimated_unrecorded_usd"]) == Decimal("0.010305")
        assert Decimal(totals["cost_usd"]) == store.truth["model"][stores.SONNET][-1]

    def test_models_json_has_a_row_for_a_model_that_wrote_titles_alone(self, make_database: Make, store: stores.Store) -> None:
        rows = {row["model"]: row for row in document(make_database(store), "models")["rows"]}

        titles, unpriced = rows[stores.HAIKU], rows[stores.UNPRICED]
        assert (titles["calls"], titles["cost_usd"], titles["estimated_unrecorded_usd"]) == (0, "0", str(TITLE_USD))
        assert (unpriced["calls"], unpriced["cost_usd"], unpriced["estimated_unrecorded_usd"]) == (1, None, None)

    def test_daily_json_counts_an_estimate_to_the_day_of_the_call(self, make_database: Make, store: stores.Store) -> None:
        rows = document(make_database(store), "daily", "--no-zero-days")["rows"]

        assert [(row["period"], row["estimated_unrecorded_calls"]) for row in rows] == [("2026-09-01", 2), ("2026-09-02", 1)]

    def test_daily_split_estimates_stand_on_their_day_and_in_no_table(self, make_database: Make, store: stores.Store) -> None:
        database = make_database(store)

        rows = document(database, "daily", "--by", "model")["rows"]
        table = run("--db", database, "--tz", "UTC", "daily", "--by", "model", "--last", "all").stdout

        assert [(row["period"], row["model"]) for row in rows] == [
            ("2026-09-01", stores.HAIKU),
            ("2026-09-01", stores.SONNET),
            ("2026-09-01", stores.UNPRICED),
            ("2026-09-02", stores.SONNET),
        ]
        assert (stores.UNPRICED in table, stores.HAIKU in table) == (True, False)

    def test_report_table_tells_of_the_estimates_below(self, make_database: Make, store: stores.Store) -> None:
        outcome = run("--db", make_database(store), "models", "--last", "all")

        shares = "titles 2, cut off 1; 1 without a price"
        remark = f"≈ $0.01 more for 3 calls that OpenCode did not record ({shares}): an estimate, not in the cost"
        assert remark in outcome.stderr.splitlines()

    @pytest.mark.parametrize("number", ["paid", "reported"])
    def test_report_of_another_number_says_that_estimates_are_at_list_price(
        self, make_database: Make, store: stores.Store, number: str
    ) -> None:
        database = make_database(store)

        models = run("--db", database, "models", "--last", "all", "--cost", number)
        session = run("--db", database, "session", store.sessions[0]["id"], "--cost", number)

        assert "≈ $0.01 more at list price for 3 calls" in models.stderr
        assert "≈ $0.01 more at list price for 2 calls" in session.stderr

    def test_session_json_has_the_estimates_of_each_message(self, make_database: Make, store: stores.Store) -> None:
        outcome = run("--db", make_database(store), "session", store.sessions[0]["id"], "--json")

        found = outcome.json
        assert [row["estimated_unrecorded_usd"] for row in found["rows"]] == ["0", "0", "0.009465"]
        assert found["totals"]["estimated_unrecorded_usd"] == "0.010305"
        assert Decimal(found["totals"]["cost_usd"]) == store.truth["session"][store.sessions[0]["id"]][-1]

    def test_session_tree_tells_of_the_estimates_below(self, make_database: Make, store: stores.Store) -> None:
        outcome = run("--db", make_database(store), "session", store.sessions[1]["id"])

        remark = "≈ — more for 1 call that OpenCode did not record (titles 1; 1 without a price): an estimate, not in the cost"
        assert outcome.stderr.splitlines() == ["≥ 1 call has no price and is not in the cost: opencode-monitor pricing missing", remark]
