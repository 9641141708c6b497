from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import generations
import stores
from commands import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def made(make_database: Callable[[stores.Store], Path]) -> Path:
    """One call of a model with a price, and two of one without."""
    store = stores.Store()
    session = stores.add_session(store, stores.START_MS)
    stores.add_call(store, session, stores.START_MS)
    for number in range(2):
        stores.add_call(store, session, stores.START_MS + stores.DAY_MS * (number + 1), model=stores.UNPRICED)
    return make_database(store)


def totals(database: Path) -> dict[str, Any]:
    result: dict[str, Any] = run("--db", database, "models", "--last", "all", "--json").json["totals"]
    return result


class TestMissing:
    def test_missing_names_the_models_and_what_to_do(self, made: Path) -> None:
        outcome = run("--db", made, "pricing", "missing")
        as_json = run("--db", made, "pricing", "missing", "--json")

        assert outcome.stdout == (
            f"       2 calls  {stores.UNPRICED}   opencode-monitor pricing set {stores.UNPRICED} --input USD --output USD\n"
        )
        assert as_json.json["schema"] == "opencode-monitor/pricing-missing@1"
        assert as_json.json["rows"] == [{"model": stores.UNPRICED, "calls": 2}]

    def test_missing_nothing_says_so(self, sample_database: Path) -> None:
        assert run("--db", sample_database, "pricing", "missing").stdout == "Every call has a price.\n"


class TestSet:
    def test_set_prices_the_calls_that_had_none(self, made: Path) -> None:
        outcome = run(
            "--db", made, "pricing", "set", stores.UNPRICED, "--input", "1", "--output", "2", "--cache-read", "0.1", "--cache-write", "0"
        )

        # Each call: 10 input, 2000 cache read, 300 cache write, 150 output.
        added = 2 * (10 * 1 + 2_000 * Decimal("0.1") + 150 * 2) / 1_000_000
        total = Decimal("0.004005") + added
        assert (outcome.exit_code, outcome.stderr) == (0, "")
        assert outcome.stdout == (
            f"Set {stores.UNPRICED}. Total cost $0.004005 (2 calls unpriced) before, ${total:.6f} (0 calls unpriced) now.\n"
        )
        assert Decimal(totals(made)["cost_usd"]) == total
        assert totals(made)["unpriced_calls"] == 0

    def test_set_leaves_calls_that_have_a_price(self, made: Path) -> None:
        arguments = (
            "--db",
            made,
            "pricing",
            "set",
            stores.SONNET,
            "--input",
            "0",
            "--output",
            "1000",
            "--cache-read",
            "0",
            "--cache-write",
            "0",
        )
        before = totals(made)["cost_usd"]

        run(*arguments)
        kept = totals(made)["cost_usd"]
        repriced = run("--db", made, "pricing", "reprice", "--yes")

        assert (before, kept) == ("0.004005", "0.004005")
        assert repriced.exit_code == 0
        assert totals(made)["cost_usd"] == "0.15"

    def test_set_from_a_day_on_leaves_the_days_before(self, made: Path) -> None:
        outcome = run(
            "--db", made, "--tz", "UTC", "pricing", "set", stores.UNPRICED, "--input", "0", "--output", "1000", "--cache-read", "0",
            "--cache-write", "0", "--from", "2026-09-03",
        )  # fmt: skip

        rows = run("--db", made, "--tz", "UTC", "daily", "--last", "all", "--no-zero-days", "--json").json["rows"]
        assert outcome.exit_code == 0
        assert [(row["period"], row["cost_usd"]) for row in rows] == [
            ("2026-09-01", "0.004005"),
            ("2026-09-02", None),
            ("2026-09-03", "0.15"),
        ]

    def test_set_price_without_cache_leaves_calls_with_cache_unpriced(self, made: Path) -> None:
        outcome = run("--db", made, "pricing", "set", stores.UNPRICED, "--input", "1", "--output", "2")

        assert outcome.exit_code == 0
        assert outcome.stderr == (
            "2 calls of it still without a price: give every kind of token that they used a price (--cache-read, --cache-write, ...),"
            " with --replace.\n"
        )
        assert totals(made)["unpriced_calls"] == 2

    @pytest.mark.parametrize(
        ("model", "price", "message"),
        [
            ("qwen", "1", "'qwen' has no vendor."),
            ("a/b", "-1", ""),
            ("a/b", "free", ""),
            ("a/b", "NaN", ""),
            ("a/b", "1e400", ""),
            ("a/b", "100000", ""),
            ("/b", "1", "'/b' has no vendor."),
        ],
    )
    def test_set_impossible_price_is_one_line_and_changes_nothing(self, database: Path, model: str, price: str, message: str) -> None:
        outcome = run("--db", database, "pricing", "set", model, "--input", price, "--output", "1")

        assert (outcome.exit_code, outcome.stdout) == (2, "")
        assert outcome.stderr.startswith(f"opencode-monitor: error: {message}")
        assert outcome.stderr.count("\n") == 1
        assert run("--db", database, "pricing", "show", "a/b", "--json").json["rows"] == []

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--mode", "turbo"), "a/b: there is no mode 'turbo'. Use one of standard, batch, priority, flex, fast"),
            (("--context-over", "-1"), "a/b: a tier cannot start at -1 tokens"),
            (("--cache-write-1h", "-0.5"), "a/b: the one-hour cache write price -0.5 is negative"),
            (("--from", "2026-09-03", "--to", "2026-09-02"), "a/b: the price would end at 2026-09-03T00:00:00+00:00, before it begins"),
        ],
    )
    def test_set_impossible_option_is_one_line(self, database: Path, options: tuple[str, ...], message: str) -> None:
        outcome = run("--db", database, "pricing", "set", "a/b", "--input", "1", "--output", "1", *options)

        assert (outcome.exit_code, outcome.stderr) == (2, f"opencode-monitor: error: {message}\n")

    def test_set_unknown_bucket_is_one_line(self, database: Path) -> None:
        outcome = run("--db", database, "pricing", "set", "a/b", "--input", "1", "--output", "1", "--audio", "1")

        assert (outcome.exit_code, outcome.stderr) == (2, "opencode-monitor: error: No such option '--audio'.\n")

    def test_set_prices_that_contradict_are_refused_until_replaced(self, database: Path) -> None:
        def set_(price: str, *options: str) -> Any:
            return run("--db", database, "pricing", "set", "a/b", "--input", price, "--output", "1", *options)

        first = set_("1", "--from", "2026-09-01", "--to", "2026-09-30")
        same_start = set_("2", "--from", "2026-09-01", "--to", "2026-09-30")
        inside = set_("2", "--from", "2026-09-15")
        after = set_("3", "--from", "2026-10-01")
        replaced = set_("4", "--from", "2026-09-01", "--to", "2026-09-30", "--replace")
        rows = run("--db", database, "pricing", "show", "a/b", "--json").json["rows"]

        assert [outcome.exit_code for outcome in (first, same_start, inside, after, replaced)] == [0, 1, 1, 0, 0]
        assert same_start.stderr == (
            "opencode-monitor: error: a/b: you have a price from 2026-09-01 00:00 UTC on already."
            " Put this one in its place with --replace.\n"
        )
        assert "overlaps with yours from 2026-09-01 00:00 UTC on" in inside.stderr
        assert [(row["price_id"], row["input_usd_per_mtok"], row["is_replaced"]) for row in rows] == [
            ("a/b|standard|0|2026-09-01|user", "1", True),
            ("a/b|standard|0|2026-09-01|user#02", "4", False),
            ("a/b|standard|0|2026-10-01|user", "3", False),
        ]

    @settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.sampled_from(["Pacific/Kiritimati", "America/St_Johns", "Asia/Kathmandu", "Pacific/Niue", "UTC"]))
    def test_set_from_a_day_is_midnight_in_the_users_zone(self, database: Path, zone: str) -> None:
        run("--db", database, "--tz", zone, "pricing", "set", "a/b", "--input", "1", "--output", "1", "--from", "2026-09-02", "--replace")

        rows = run("--db", database, "pricing", "show", "a/b", "--json").json["rows"]
        midnight = datetime(2026, 9, 2, tzinfo=ZoneInfo(zone))
        assert midnight in {datetime.fromisoformat(row["effective_from"]) for row in rows}

    def test_set_without_a_price_is_a_usage_error(self, database: Path) -> None:
        outcome = run("--db", database, "pricing", "set", "a/b", "--input", "1")

        assert (outcome.exit_code, outcome.stderr) == (2, "opencode-monitor: error: Missing option '--output'.\n")


class TestShow:
    def test_show_lists_what_holds(self, database: Path) -> None:
        run("--db", database, "pricing", "set", stores.SONNET, "--input", "2.5", "--output", "7", "--from", "2026-09-01")

        rows = run("--db", database, "pricing", "show", stores.SONNET, "--json").json["rows"]
        table = run("--db", database, "pricing", "show", stores.SONNET)

        base = [(row["source"], row["input_usd_per_mtok"], row["output_usd_per_mtok"]) for row in rows if row["min_context_tokens"] == 0]
        assert ("genai-prices", "3", "15") in base
        assert base[-1] == ("user", "2.5", "7")
        assert [row["effective_from"] for row in rows] == sorted(row["effective_from"] for row in rows)
        assert table.exit_code == 0
        assert "2026-09-01" in table.stdout.splitlines()[-1]

    def test_show_at_a_time_is_what_prices_a_call_then(self, sample_database: Path) -> None:
        def at(day: str) -> list[tuple[int, str]]:
            outcome = run("--db", sample_database, "pricing", "show", "anthropic/claude-opus-4-6", "--at", day, "--json")
            return [(row["min_context_tokens"], row["input_usd_per_mtok"]) for row in outcome.json["rows"] if row["prices_calls"]]

        assert at("2026-03-12") == [(0, "5"), (200_000, "10")]
        assert at("2026-03-13") == [(0, "5")]

    def test_show_names_the_entry_that_a_rule_found(self, sample_database: Path) -> None:
        outcome = run("--db", sample_database, "pricing", "show", "anthropic/claude-sonnet-4-5-20250929")

        assert outcome.stdout.splitlines()[-1] == "As anthropic/claude-sonnet-4-5."

    def test_show_unknown_model_says_how_to_set_it(self, sample_database: Path) -> None:
        outcome = run("--db", sample_database, "pricing", "show", "a/\x1b[31mb")

        assert outcome.exit_code == 0
        assert outcome.stdout == ("No price for a/�[31mb. Set one: opencode-monitor pricing set a/�[31mb --input USD --output USD\n")


def test_missing_calls_of_no_known_model_offer_no_price_to_set(tmp_path: Path, empty_database: Path) -> None:
    generations.write_sqlite_v2(generations.known_session(), tmp_path / "opencode", hidden={"cost": 0.5, "tokens_input": 5})
    run("--db", empty_database, "import", tmp_path / "opencode")

    outcome = run("--db", empty_database, "pricing", "missing")

    assert outcome.stdout == "       1 call   (no model)   OpenCode does not say which\n"
