"""`anomalies` and `forecast`: what they print, and the codes they end with."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

import stores
from commands import Outcome, run
from opencode_monitor.cli.app import main

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = "\x1b]0;owned\x07\x1b[31mred \u202eltr line\nbreak"
NOW = datetime.now(UTC)
DAYS = 40


def noon(days_ago: int) -> int:
    """Return the Unix milliseconds of a past day's noon in UTC."""
    return int((NOW - timedelta(days=days_ago)).replace(hour=12, minute=0, second=0, microsecond=0).timestamp() * 1000)


def day(days_ago: int) -> str:
    return (NOW - timedelta(days=days_ago)).date().isoformat()


def spiky() -> stores.Store:
    """Make forty days of 1.50 USD; three days ago the runaway of a hostile title cost 30 USD more, with another model."""
    store = stores.Store()
    stores.add_project(store)
    for number in range(DAYS, 0, -1):
        session = stores.add_session(store, noon(number))
        stores.add_call(store, session, noon(number), buckets=(0, 0, 0, 100_000, 0))
    runaway = stores.add_session(store, noon(3), title=HOSTILE)
    stores.add_call(store, runaway, noon(3) + 60_000, model=stores.GPT, agent="general", buckets=(0, 0, 0, 3_000_000, 0))
    return store


def loaded(store: stores.Store, directory: Path, at_head: Path) -> Path:
    stores.write_json(store, directory / "opencode")
    database = directory / "made.duckdb"
    shutil.copy(at_head, database)
    outcome = run("--db", database, "-q", "import", directory / "opencode")
    assert outcome.exit_code == 0, outcome.stderr
    return database


@pytest.fixture(scope="module")
def spiky_database(tmp_path_factory: pytest.TempPathFactory, duckdb_at_head: Path) -> Path:
    """A database with the runaway, to be read only."""
    return loaded(spiky(), tmp_path_factory.mktemp("spiky"), duckdb_at_head)


def ask(database: Path | str, *arguments: object) -> Outcome:
    return run("--db", database, "--tz", "UTC", *arguments)


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


def on_terminal(database: Path, *arguments: str) -> list[str]:
    """Return the lines that a terminal shows, as wide as $COLUMNS."""
    stream = Terminal()
    with contextlib.redirect_stdout(stream), contextlib.suppress(SystemExit):
        main(["--db", str(database), "--tz", "UTC", "-q", *arguments])
    return re.sub(r"\x1b\[[\d;]*m", "", stream.getvalue()).splitlines()


class TestAnomalies:
    def test_anomalies_json_says_what_why_and_how_it_was_judged(self, spiky_database: Path) -> None:
        document = ask(spiky_database, "anomalies", "--json").json

        assert document["schema"] == "opencode-monitor/anomalies@1"
        assert (document["tz"], document["cost"], document["by"]) == ("UTC", "list", ["total"])
        assert (document["detector"], document["sensitivity"], document["min_usd"]) == ("robust", "medium", "1")
        assert document["range"]["since"] == f"{day(29)}T00:00:00+00:00"
        assert document["totals"] == {"findings": 1, "judged": 29}
        (row,) = document["rows"]
        assert (row["day"], row["scope"], row["key"]) == (day(3), "total", None)
        assert (row["actual_usd"], row["expected_usd"], row["impact_usd"]) == ("31.5", "1.5", "30")
        assert (row["is_complete"], row["unknown_calls"], row["baseline_unknown_calls"]) == (True, 0, 0)
        drivers = row["drivers"]
        assert [one["key"] for one in drivers["model"]["rows"]] == [stores.GPT]
        assert [one["key"] for one in drivers["agent"]["rows"]] == ["general"]
        assert [(one["key"], one["impact_usd"]) for one in drivers["project"]["rows"]] == [("shop", "30")]
        assert drivers["session"]["rows"][0]["title"] == HOSTILE
        for one in drivers.values():
            assert sum((Decimal(each["impact_usd"]) for each in one["rows"]), Decimal(one["other_usd"])) == Decimal(row["impact_usd"])

    def test_anomalies_table_names_the_drivers_below_each_finding(self, spiky_database: Path) -> None:
        outcome = ask(spiky_database, "anomalies", "--drivers", "1")

        lines = [re.sub(r"\s{2,}", "  ", line).strip() for line in outcome.stdout.splitlines()]
        assert outcome.exit_code == 0
        assert lines[0] == f"Anomalies · {day(29)} … {day(0)} · UTC · list prices, USD; OpenCode's own figures: --cost reported"
        assert lines[1] == "Rule: robust, medium, at least $1.00 above the expected"
        assert lines[4].startswith(f"{day(3)} total  $31.50  $1.50  $0.19-$2.81  +$30.00")
        assert lines[5] == "project shop  $31.50  $1.50  +$30.00"
        assert lines[6] == f"model {stores.GPT}  $30.00  $0.00  +$30.00"
        assert all(len(line) <= 120 for line in outcome.stdout.splitlines())

    @pytest.mark.parametrize(("columns", "usual"), [("80", "$2.81"), ("100", "$0.19-$2.81")])
    def test_tables_fit_the_terminal_and_names_give_way_to_numbers(
        self, spiky_database: Path, monkeypatch: pytest.MonkeyPatch, columns: str, usual: str
    ) -> None:
        monkeypatch.setenv("COLUMNS", columns)
        monkeypatch.setenv("TERM", "xterm")

        anomalies = on_terminal(spiky_database, "anomalies")
        forecast = on_terminal(spiky_database, "forecast", "--backtest", "--budget", "5")

        assert max(map(len, anomalies + forecast)) <= int(columns)
        (found,) = [line for line in anomalies if line.startswith(day(3))]
        assert found.split() == [day(3), "total", "$31.50", "$1.50", usual, "+$30.00", "80.0"]
        assert not [line for line in forecast if "…" in line and " … " not in line]

    def test_anomalies_hostile_title_does_not_reach_the_terminal(self, spiky_database: Path) -> None:
        shown = ask(spiky_database, "anomalies")
        as_json = ask(spiky_database, "anomalies", "--json", "--by", "all")

        assert re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", shown.stdout + shown.stderr + as_json.stdout) is None
        assert "]0;owned" in shown.stdout

    def test_anomalies_without_drivers_is_one_line_each(self, spiky_database: Path) -> None:
        assert len(ask(spiky_database, "anomalies", "--drivers", "0").stdout.splitlines()) == 5

    @pytest.mark.parametrize(("arguments", "code"), [((), 0), (("--exit-code",), 3), (("--exit-code", "--last", "2d"), 0)])
    def test_anomalies_exit_code_only_when_asked_for(self, spiky_database: Path, arguments: tuple[str, ...], code: int) -> None:
        assert ask(spiky_database, "anomalies", *arguments).exit_code == code
        assert ask(spiky_database, "anomalies", *arguments, "--json").exit_code == code

    def test_anomalies_nothing_unusual_is_said(self, spiky_database: Path) -> None:
        found = ask(spiky_database, "anomalies", "--last", "2d")
        empty = ask(spiky_database, "anomalies", "--since", "2020-01-01", "--until", "2020-01-31")

        assert (found.exit_code, found.stdout.splitlines()[2]) == (0, "Nothing unusual in this range.")
        assert empty.stdout.splitlines()[2] == "Nothing to judge in this range: no spend, or not enough history."

    @pytest.mark.parametrize("detector", ["ratio", "sigma", "robust"])
    def test_anomalies_every_detector_finds_the_runaway(self, spiky_database: Path, detector: str) -> None:
        rows = ask(spiky_database, "anomalies", "--detector", detector, "--json").json["rows"]

        assert [row["day"] for row in rows] == [day(3)]

    @pytest.mark.parametrize(("min_usd", "found"), [("30", 1), ("$30.00", 1), ("30.01", 0), ("1,000", 0)])
    def test_anomalies_least_impact(self, spiky_database: Path, min_usd: str, found: int) -> None:
        assert len(ask(spiky_database, "anomalies", "--min-usd", min_usd, "--json").json["rows"]) == found

    def test_anomalies_of_another_number(self, spiky_database: Path) -> None:
        arguments = ("anomalies", "--cost", "reported", "--json", "--min-usd")

        everything, document = (ask(spiky_database, *arguments, usd).json for usd in ("0", "1"))

        # The stored cost of each call is 0.001, and there were two of them.
        assert [(row["actual_usd"], row["expected_usd"], row["impact_usd"]) for row in everything["rows"]] == [("0.002", "0.001", "0.001")]
        assert (document["cost"], document["rows"]) == ("reported", [])

    def test_anomalies_by_every_scope(self, spiky_database: Path) -> None:
        document = ask(spiky_database, "anomalies", "--by", "all", "--json").json

        assert document["by"] == ["total", "project", "model", "agent", "session"]
        # The model and the agent of the runaway were never used before: nothing to compare them with.
        assert [(row["scope"], row["key"] if row["scope"] != "session" else None) for row in document["rows"]] == [
            ("total", None),
            ("project", "shop"),
            ("session", None),
        ]
        assert [(one["scope"], one["key"], one["reason"], one["count"]) for one in document["unjudged"]] == [
            ("model", stores.GPT, "not enough history", 1),
            ("agent", "general", "not enough history", 1),
            ("session", None, "not enough history", 9),
        ]
        assert document["warnings"] == [
            "model: not enough history for 1 day of 1 model (needs 7 days with spend before, has 0 at most)",
            "agent: not enough history for 1 day of 1 agent (needs 7 days with spend before, has 0 at most)",
            "session: not enough history for 9 sessions (needs 20 sessions on 7 days before, has 19 at most)",
        ]

    def test_anomalies_of_sessions_names_the_session(self, spiky_database: Path) -> None:
        document = ask(spiky_database, "anomalies", "--by", "session", "--json").json

        (row,) = document["rows"]
        assert (row["title"], row["actual_usd"], row["expected_usd"], row["basis"]) == (HOSTILE, "30", "1.5", "sessions")
        assert set(row["drivers"]) == {"project", "model", "agent"}

    def test_anomalies_range_is_widened_to_whole_days(self, spiky_database: Path) -> None:
        arguments = ("--since", f"{day(3)}T23:00", "--until", f"{day(3)}T23:30", "--json")

        document = ask(spiky_database, "anomalies", *arguments).json

        assert document["range"] == {"since": f"{day(3)}T00:00:00+00:00", "until": f"{day(2)}T00:00:00+00:00"}
        assert len(document["rows"]) == 1

    def test_anomalies_range_given_in_another_zone_is_that_of_the_zone(self, spiky_database: Path) -> None:
        document = ask(spiky_database, "anomalies", "--since", f"{day(3)}T23:00-05:00", "--json").json

        assert (document["range"]["since"], document["rows"]) == (f"{day(2)}T00:00:00+00:00", [])

    def test_anomalies_today_is_marked(self, tmp_path: Path, duckdb_at_head: Path) -> None:
        store = spiky()
        at = int(NOW.timestamp() * 1000)
        stores.add_call(store, stores.add_session(store, at), at, buckets=(0, 0, 0, 2_000_000, 0))

        outcome = ask(loaded(store, tmp_path, duckdb_at_head), "anomalies", "--drivers", "0")

        assert f"{day(0)} *" in outcome.stdout
        assert "* today, incomplete" in outcome.stderr

    def test_anomalies_unknown_prices_are_told_and_not_0(self, tmp_path: Path, duckdb_at_head: Path) -> None:
        store = spiky()
        # On the day of the runaway, on the same day of the week before, and on two days of which nothing else is known.
        for number in (3, 10, 48, 50):
            stores.add_call(store, stores.add_session(store, noon(number)), noon(number), model=stores.UNPRICED)
        database = loaded(store, tmp_path, duckdb_at_head)

        document = ask(database, "anomalies", "--last", "60d", "--by", "total", "--json").json
        shown = ask(database, "anomalies", "--last", "60d")

        (row,) = document["rows"]
        assert (row["actual_usd"], row["unknown_calls"], row["baseline_unknown_calls"]) == ("31.5", 1, 1)
        assert {"key": stores.UNPRICED, "actual_usd": None, "usual_usd": "0", "impact_usd": None, "unknown_calls": 1} in (
            row["drivers"]["model"]["rows"]
        )
        assert document["warnings"][:2] == [
            "total: not enough history for 7 days (needs 7 days with spend before, has 6 at most)",
            "total: 2 days not judged: the cost of none of the calls is known, which is not 0",
        ]
        assert "≥ at least: the cost of 1 call is not known (no price: opencode-monitor pricing missing)" in shown.stderr
        assert re.search(r"≥ \$31.50 +≥ \$1.50 +\$0.19-\$2.81 +≈ \+\$30.00", shown.stdout)
        assert re.search(rf"model {stores.UNPRICED} +— +\$0.00 +— ", shown.stdout)

    def test_anomalies_on_any_engine_are_the_same(self, database_url: str, spiky_database: Path, tmp_path: Path) -> None:
        stores.write_json(spiky(), tmp_path / "opencode")

        assert run("--db", database_url, "import", tmp_path / "opencode").exit_code == 0

        def without_ids(outcome: Outcome) -> str:
            return re.sub(r"ses_\w+", "ses", outcome.stdout)

        for arguments in (("anomalies", "--by", "all", "--json"), ("forecast", "--backtest", "--json")):
            assert without_ids(ask(database_url, *arguments)) == without_ids(ask(spiky_database, *arguments))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("anomalies", "--min-usd", "much"), "--min-usd 'much' is not an amount in USD. Use 5 or 0.50."),
            (("anomalies", "--min-usd", "-1"), "--min-usd '-1' is not an amount in USD. Use 5 or 0.50."),
            (("anomalies", "--min-usd", "nan"), "--min-usd 'nan' is not an amount in USD. Use 5 or 0.50."),
            (("anomalies", "--by", "tool"), "Invalid value for '--by': 'tool' is not one of"),
            (("forecast", "--budget", "0"), "--budget 0 is not a budget. Use an amount above 0."),
            (("forecast", "--budget", "1e"), "--budget '1e' is not an amount in USD. Use 5 or 0.50."),
            (("forecast", "--horizon", "year"), "Invalid value for '--horizon': 'year' is not one of"),
        ],
    )
    def test_usage_error_is_one_line_and_exit_2(self, spiky_database: Path, arguments: tuple[str, ...], message: str) -> None:
        outcome = ask(spiky_database, *arguments)

        assert (outcome.exit_code, outcome.stdout) == (2, "")
        assert outcome.stderr.startswith(f"opencode-monitor: error: {message}")
        assert outcome.stderr.count("\n") == 1


class TestForecast:
    def test_forecast_json_has_the_promised_fields(self, spiky_database: Path) -> None:
        document = ask(spiky_database, "forecast", "--json").json

        assert document["schema"] == "opencode-monitor/forecast@1"
        assert [row["horizon"] for row in document["rows"]] == ["month-end", "7d", "30d"]
        assert (document["tz"], document["cost"], document["fees"], document["budget"]) == ("UTC", "list", [], None)
        month, week, days = document["rows"]
        assert set(month) == {
            *("horizon", "first", "last", "days_left", "recorded_usd", "expected_usd", "likely_low_usd", "likely_high_usd"),
            *("straight_line_usd", "weekday_usd", "weekend_usd", "history_days", "unknown_calls"),
        }
        assert Decimal(month["expected_usd"]) >= Decimal(month["recorded_usd"])
        assert (week["recorded_usd"], week["days_left"], days["days_left"]) == ("0", 7, 30)
        # 28 days of 1.50, and 30 more on one of them.
        spent = Decimal(week["weekday_usd"]) * 20 + Decimal(week["weekend_usd"]) * 8
        assert round(spent, 9) == 72
        assert Decimal(week["likely_low_usd"]) < Decimal(week["expected_usd"]) < Decimal(week["likely_high_usd"])

    def test_forecast_recorded_is_what_monthly_says(self, spiky_database: Path) -> None:
        forecast = ask(spiky_database, "forecast", "--horizon", "month-end", "--json").json
        monthly = ask(spiky_database, "monthly", "--last", "mtd", "--json").json

        assert forecast["rows"][0]["recorded_usd"] == monthly["totals"]["cost_usd"]
        assert forecast["range"]["since"] == monthly["range"]["since"]

    def test_forecast_table(self, spiky_database: Path) -> None:
        outcome = ask(spiky_database, "forecast", "--horizon", "7d")

        lines = outcome.stdout.splitlines()
        assert (outcome.exit_code, outcome.stderr) == (0, "")
        assert lines[0] == f"Forecast · {day(-1)} … {day(-7)} · UTC · list prices, USD; OpenCode's own figures: --cost reported"
        # On the first of a month there is no straight line.
        assert re.fullmatch(rf"in 7 days   {day(-7)} +\$0\.00 +\$18\.00 +\$\S+-\$\S+ +7 +(\$\S+|—)", lines[3])
        assert re.fullmatch(r"Mean of the last 28 complete days: \$\d.\d\d on a weekday, \$\d.\d\d on a day of a weekend", lines[5])

    @pytest.mark.parametrize(
        ("budget", "said"),
        [
            ("1000", r"Budget \$1,000.00 until \S+: 0% used, \d% expected, over in 0% of the outcomes"),
            (
                "5",
                r"Budget \$5.00 until \S+: 0% used, \d{3}% expected, over in \d+% of the outcomes; will be over, from \S+ at",
            ),
        ],
    )
    def test_forecast_budget(self, spiky_database: Path, budget: str, said: str) -> None:
        arguments = ("forecast", "--horizon", "7d", "--budget", budget)

        shown, document = ask(spiky_database, *arguments).stdout, ask(spiky_database, *arguments, "--json").json

        assert re.search(said, shown)
        assert (document["budget"]["horizon"], document["budget"]["budget_usd"], document["budget"]["is_over"]) == ("7d", budget, False)
        assert document["budget"]["will_be_over"] is (budget == "5")

    def test_forecast_backtest_shows_its_own_errors_beside_the_line(self, spiky_database: Path) -> None:
        arguments = ("forecast", "--horizon", "7d", "--backtest")

        shown, (tested,) = ask(spiky_database, *arguments).stdout, ask(spiky_database, *arguments, "--json").json["backtest"]

        assert "Forecasts from each day of the stored history, compared with what came" in shown
        assert re.search(r"\nin 7 days +\d+ +\d+\.\d% +\d+\.\d% +[+-]\d+\.\d% +\d+%\n  straight line +\d+\.\d% ", shown)
        assert (tested["horizon"], tested["forecasts"] > 10) == ("7d", True)
        assert set(tested["errors"]) == set(tested["straight_line"]) == {"mape", "wape", "bias"}
        assert 0 <= tested["coverage"] <= 1

    def test_forecast_without_enough_history_says_so(self, tmp_path: Path, duckdb_at_head: Path) -> None:
        store = stores.Store()
        for number in (3, 2):
            stores.add_call(store, stores.add_session(store, noon(number)), noon(number))
        stores.add_call(store, stores.add_session(store, noon(2)), noon(2), model=stores.UNPRICED)

        outcome = ask(loaded(store, tmp_path, duckdb_at_head), "forecast", "--backtest", "--horizon", "7d")

        assert "Mean of the last 3 complete days: $0.0027\n" in outcome.stdout
        assert outcome.stderr.splitlines() == [
            "no likely range below 14 days of history: expected is the mean of the days so far",
            "≥ all of it is at least so much: the cost of 1 call is not known (no price: opencode-monitor pricing missing)",
        ]
        assert "Not enough history to test: a forecast takes 14 days before it, and all of its days after it." in outcome.stdout

    def test_forecast_of_an_old_store_asks_whether_all_is_read(self, sample_database: Path, sample: stores.Store) -> None:
        outcome = ask(sample_database, "forecast", "--horizon", "7d")

        last = max(sample.truth["day"])
        assert outcome.stderr == f"the last day with spend is {last}: is everything read? opencode-monitor import\n"

    def test_forecast_of_an_empty_database_is_no_error(self, tmp_path: Path, duckdb_at_head: Path) -> None:
        database = shutil.copy(duckdb_at_head, tmp_path / "empty.duckdb")

        outcome = ask(database, "forecast", "--budget", "10")
        document: dict[str, Any] = ask(database, "forecast", "--json").json

        assert (outcome.exit_code, outcome.stderr) == (
            0,
            "no forecast: there is no complete day with calls yet, or none with a known cost\n",
        )
        assert {row["expected_usd"] for row in document["rows"]} == {None}

    def test_forecast_paid_shows_flat_fees_beside_it(self, spiky_database: Path, tmp_path: Path) -> None:
        database = shutil.copy(spiky_database, tmp_path / "paid.duckdb")
        run("--db", database, "--tz", "UTC", "pricing", "billing", "anthropic", "subscription", "--monthly-fee", "31")

        shown, document = ask(database, "forecast", "--cost", "paid"), ask(database, "forecast", "--cost", "paid", "--json").json

        assert "Beside it, flat fees of this month so far: anthropic $" in shown.stdout
        assert document["fees"][0]["provider"] == "anthropic"
        assert document["cost"] == "paid"
