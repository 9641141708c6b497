"""`budget set`, `list`, `remove` and `check`: what they print, and the codes they end with."""

from __future__ import annotations

import calendar
import re
import shutil
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

import stores
from commands import Outcome, run
from opencode_monitor.db.engine import create_database_engine

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = datetime.now(UTC)
HOSTILE = "\x1b]0;owned\x07\x1b[31mred \u202eltr line\nbreak"
DAY_USD = Decimal("1.5")
TODAY_USD = Decimal("0.15")


def noon(days_ago: int) -> int:
    """Return the Unix milliseconds of a day's noon in UTC."""
    return int((NOW - timedelta(days=days_ago)).replace(hour=12, minute=0, second=0, microsecond=0).timestamp() * 1000)


@pytest.fixture(scope="module")
def worked_database(tmp_path_factory: pytest.TempPathFactory, duckdb_at_head: Path) -> Path:
    """A database with forty days of 1.50 USD, and today 0.15 so far and a call without a price, to be copied."""
    store = stores.Store()
    stores.add_project(store)
    for number in range(40, -1, -1):
        session = stores.add_session(store, noon(number))
        stores.add_call(store, session, noon(number), buckets=(0, 0, 0, 100_000 if number else 10_000, 0))
    stores.add_call(store, session, noon(0) + 60_000, model=stores.UNPRICED, agent="plan")
    directory = tmp_path_factory.mktemp("worked")
    stores.write_json(store, directory / "opencode")
    database = directory / "made.duckdb"
    shutil.copy(duckdb_at_head, database)
    outcome = run("--db", database, "-q", "import", directory / "opencode")
    assert outcome.exit_code == 0, outcome.stderr
    return database


@pytest.fixture
def worked(worked_database: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(worked_database, tmp_path / "worked.duckdb"))


def ask(database: Path, *arguments: object) -> Outcome:
    return run("--db", database, "--tz", "UTC", "budget", *arguments)


def set_all(database: Path, *budgets: Sequence[object]) -> None:
    for arguments in budgets:
        outcome = ask(database, "set", *arguments)
        assert outcome.exit_code == 0, outcome.stderr


class TestSet:
    def test_set_again_takes_the_place_and_says_what_was(self, worked: Path) -> None:
        first = ask(worked, "set", "all", "$1,500", "--every", "month", "--note", "as agreed")
        second = ask(worked, "set", "all", "0.000001", "--every", "week", "--model", "claude-*", "--agent", "build", "--cost", "paid")

        words = "all: $0.000001 every week, model claude-*, agent build, cost paid"
        assert (first.stdout, first.stderr) == ("all: $1,500.00 every month  (as agreed)\n", "")
        assert (second.stdout, second.stderr) == (f"{words}. Before: $1,500.00 every month  (as agreed)\n", "")
        assert ask(worked, "list").stdout == f"{words}\n"

    def test_set_as_json_has_money_as_text(self, worked: Path) -> None:
        ask(worked, "set", "all", "7", "--every", "day")

        document = ask(worked, "set", "all", "65.50", "--every", "month", "--project", "sho", "--json").json

        assert document["schema"] == "opencode-monitor/budget-set@1"
        budget = {"name": "all", "budget_usd": "65.5", "every": "month", "project": "sho", "model": None, "agent": None}
        assert document["rows"] == [budget | {"cost": "list", "note": None}]
        assert document["replaced"] == budget | {"budget_usd": "7", "every": "day", "project": None, "cost": "list", "note": None}
        assert document["warnings"] == ["all: no call matches project sho yet"]

    def test_set_pattern_that_matches_nothing_yet_is_remarked_and_stored(self, worked: Path) -> None:
        outcome = ask(worked, "set", "cart", 5, "--every", "day", "--project", "cart*", "--model", "*/*", "--agent", "buil")

        assert outcome.exit_code == 0
        assert outcome.stderr == "cart: no call matches project cart* yet\ncart: no call matches agent buil yet\n"
        assert ask(worked, "list").stdout == "cart: $5.00 every day, project cart*, model */*, agent buil\n"

    def test_set_without_a_database_makes_one(self, tmp_path: Path) -> None:
        outcome = ask(tmp_path / "new.duckdb", "set", "all", 5, "--every", "day")

        assert (outcome.exit_code, ask(tmp_path / "new.duckdb", "check").exit_code) == (0, 0)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("all", "-5", "--every", "day"), "all: USD '-5' is not an amount in USD. Use 5 or 0.50."),
            (("all", "much", "--every", "day"), "all: USD 'much' is not an amount in USD. Use 5 or 0.50."),
            (("all", "0", "--every", "day"), "all: 0 is not a budget. Use an amount above 0, such as 100 or 0.50."),
            (("all", "5"), "all: for how long? Write: budget set all 5 --every month"),
            (("all", "5", "--every", "year"), "Invalid value for '--every': 'year' is not one of 'day', 'week', 'month'."),
        ],
    )
    def test_set_without_sense_is_refused_in_one_line(self, worked_database: Path, arguments: tuple[str, ...], message: str) -> None:
        outcome = ask(worked_database, "set", *arguments)

        assert (outcome.exit_code, outcome.stderr) == (2, f"opencode-monitor: error: {message}\n")


class TestListAndRemove:
    def test_list_and_check_without_budgets_say_how_to_set_one(self, worked_database: Path) -> None:
        for command in ("list", "check"):
            outcome = ask(worked_database, command)
            assert (outcome.exit_code, outcome.stdout) == (
                0,
                "No budgets. Set one: opencode-monitor budget set all 100 --every month\n",
            )
            assert ask(worked_database, command, "--json").json["rows"] == []

    def test_remove_leaves_the_others(self, worked: Path) -> None:
        set_all(worked, ("a", 1, "--every", "day"), ("b", 2, "--every", "day"))

        removed = ask(worked, "remove", "a")

        assert (removed.exit_code, removed.stdout) == (0, "Removed a\n")
        assert [row["name"] for row in ask(worked, "list", "--json").json["rows"]] == ["b"]
        assert ask(worked, "remove", "b", "--json").json["removed"] == "b"

    @pytest.mark.parametrize("command", ["remove", "check"])
    def test_unknown_name_is_an_error(self, worked_database: Path, command: str) -> None:
        outcome = ask(worked_database, command, "nope")

        message = "opencode-monitor: error: no budget 'nope'. See them: opencode-monitor budget list\n"
        assert (outcome.exit_code, outcome.stderr) == (1, message)

    @pytest.mark.parametrize("arguments", [("list",), ("check",), ("remove", "all")])
    def test_no_database_is_an_error(self, tmp_path: Path, arguments: tuple[str, ...]) -> None:
        assert ask(tmp_path / "none.duckdb", *arguments).exit_code == 5


class TestCheck:
    def test_check_as_json_has_everything(self, worked: Path) -> None:
        set_all(worked, ("today", "0.6", "--every", "day"), ("claude", 1_000, "--every", "month", "--model", "claude-*"))

        outcome = ask(worked, "check", "--json")

        days = calendar.monthrange(NOW.year, NOW.month)[1]
        spent, expected = DAY_USD * (NOW.day - 1) + TODAY_USD, DAY_USD * days
        document = outcome.json
        claude, today = document["rows"]
        assert (outcome.exit_code, document["schema"], document["tz"]) == (0, "opencode-monitor/budget-check@1", "UTC")
        assert document["totals"] == {"budgets": 2, "over": 0, "will_be_over": 0}
        midnight = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
        assert (today["since"], today["until"]) == (midnight.isoformat(), (midnight + timedelta(days=1)).isoformat())
        assert (today["budget_usd"], today["spent_usd"], today["used_share"], today["state"]) == ("0.6", "0.15", 0.25, "ok")
        assert (today["calls"], today["unknown_calls"], today["may_be_over"]) == (2, 1, True)
        assert [today[name] for name in ("expected_usd", "likely_low_usd", "reached_on", "over_probability")] == [None] * 4
        assert (Decimal(claude["spent_usd"]), Decimal(claude["expected_usd"])) == (spent, expected)
        assert Decimal(claude["likely_low_usd"]) <= expected <= Decimal(claude["likely_high_usd"])
        assert (claude["since"], claude["until"][8:10]) == (midnight.replace(day=1).isoformat(), "01")
        assert (claude["unknown_calls"], claude["may_be_over"], claude["over_probability"], claude["reached_on"]) == (0, False, 0, None)
        assert claude["expected_share"] == round(float(expected / 1_000), 4)
        assert (
            "today: the cost of 1 of 2 calls is not known (no price: opencode-monitor pricing missing): it may be over"
            in (document["warnings"])
        )

    @pytest.mark.parametrize(
        ("usd", "every", "options", "state", "code"),
        [
            ("0.15", "day", (), "ok?", 0),
            ("0.149999999999", "day", (), "over", 3),
            ("month - 0.01", "month", (), "will be over?", 0),
            ("month - 0.01", "month", ("--forecast",), "will be over?", 3),
            ("month", "month", ("--forecast",), "ok?", 0),
            ("0.01", "month", (), "over", 3),
        ],
    )
    def test_check_exit_code_is_3_when_over_and_by_the_forecast_when_asked_for(
        self, worked: Path, usd: str, every: str, options: tuple[str, ...], state: str, code: int
    ) -> None:
        # What a whole month costs at 1.50 a day: today has cost less so far, so the month is never over before it ends.
        month = DAY_USD * calendar.monthrange(NOW.year, NOW.month)[1]
        amount = {"month": month, "month - 0.01": month - Decimal("0.01")}.get(usd, usd)
        set_all(worked, ("all", amount, "--every", every))

        shown = ask(worked, "check", *options)
        as_json = ask(worked, "check", *options, "--json")

        assert (shown.exit_code, as_json.exit_code) == (code, code)
        assert re.split(r"\s{2,}", shown.stdout.splitlines()[3].strip())[-1] == state
        if state.startswith("will"):
            assert f"all: will be over from {as_json.json['rows'][0]['reached_on']} at the mean pace, over in " in shown.stderr

    def test_check_of_named_ones_judges_only_these(self, worked: Path) -> None:
        set_all(worked, ("all", "0.01", "--every", "day"), ("plan", 5, "--every", "day", "--agent", "plan"))

        named = ask(worked, "check", "plan", "plan")

        assert (named.exit_code, ask(worked, "check").exit_code) == (0, 3)
        assert named.stdout.splitlines()[0] == f"Budgets · {NOW.date()} · UTC · list prices, USD"
        # A call without a price is not 0.
        assert re.split(r"\s{2,}", named.stdout.splitlines()[3].strip()) == ["plan", str(NOW.date()), "$5.00", "≥ —", *"———", "ok?"]

    def test_check_says_what_is_in_no_budget(self, worked: Path) -> None:
        outcome = run("--db", worked, "pricing", "billing", "anthropic", "subscription", "--monthly-fee", 20)
        assert outcome.exit_code == 0, outcome.stderr
        set_all(worked, ("paid", 1, "--every", "month", "--cost", "paid"), ("cart", 5, "--every", "day", "--project", "cart"))

        shown = ask(worked, "check")

        assert "flat fees are in no budget: opencode-monitor forecast --cost paid" in shown.stderr
        assert "cart: no call matches project cart yet" in shown.stderr
        assert shown.stdout.splitlines()[0].endswith("USD, each by its own cost: budget list")
        assert run("--db", worked, "-q", "budget", "check").stderr == ""

    def test_check_default_cost_is_that_of_the_settings_when_it_was_set(self, worked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENCODE_MONITOR_COST", "reported")
        set_all(worked, ("all", 5, "--every", "day"))
        monkeypatch.delenv("OPENCODE_MONITOR_COST")

        assert ask(worked, "check", "--json").json["rows"][0]["cost"] == "reported"

    def test_stored_text_does_not_reach_the_terminal(self, worked: Path) -> None:
        set_all(worked, ("all", 5, "--every", "day", "--project", "x", "--note", "y"))
        engine = create_database_engine(f"duckdb:///{worked}")
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE budgets SET project_glob = :text, note = :text"), {"text": HOSTILE})
        engine.dispose()

        outcomes = [ask(worked, "list"), ask(worked, "check"), ask(worked, "check", "--json")]

        text = "".join(outcome.stdout + outcome.stderr for outcome in outcomes)
        assert re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text) is None
        assert "]0;owned" in text
