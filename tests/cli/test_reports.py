from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

import stores
from commands import Outcome, run

Make = Callable[[stores.Store], Path]

USAGE_FIELDS = [
    "sessions",
    "calls",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cost_usd",
    "reported_cost_usd",
    "paid_cost_usd",
    "unpriced_calls",
    "unreported_calls",
    "paid_unknown_calls",
    "copied_calls",
]
OWN_FIELDS = {
    "daily": ["period"],
    "weekly": ["period"],
    "monthly": ["period"],
    "models": ["model"],
    "sessions": ["session_id", "title", "project", "agent", "parent_session_id", "started_at"],
}
PERIODS = ("daily", "weekly", "monthly")
SUMMED = [name for name in USAGE_FIELDS if name != "sessions"] + ["unrecorded_calls"]
HOSTILE = "\x1b]0;owned\x07\x1b[31mred\x9b5m \u202eltr\u2066 line\nbreak\rover\ttab [bold]markup[/bold] 日本"
SHORT_MODEL = "A model without a slash is what stands behind its provider; with one it is the whole name: nobody*/*, or */nobody*"


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def report(database: Path | str, name: str, *arguments: str, tz: str = "UTC") -> Outcome:
    whole = ("--no-zero-days",) if name in PERIODS else ()
    outcome = run("--db", database, "--tz", tz, name, *(arguments or ("--last", "all")), *whole, "--json")
    assert outcome.exit_code == 0, outcome.stderr
    return outcome


def number(value: object) -> Decimal:
    assert isinstance(value, int | str)
    return Decimal(value)


def sums(row: dict[str, Any]) -> stores.Sums:
    names = ("calls", "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
    calls, fresh, read, write, output, reasoning = (int(row[name]) for name in names)
    return (calls, fresh, read, write, output, reasoning, Decimal(row["cost_usd"]))


class TestEnvelope:
    @pytest.mark.parametrize("name", OWN_FIELDS)
    def test_report_json_has_the_promised_fields(self, sample_database: Path, name: str) -> None:
        document = report(sample_database, name).json

        incomplete = ["incomplete_period", "cut_periods"] if name in PERIODS else []
        assert list(document) == ["schema", "range", "tz", "rows", "totals", "cost", "fees", *incomplete, "warnings"]
        assert document["schema"] == f"opencode-monitor/{name}@1"
        assert (document["range"], document["tz"]) == ({"since": None, "until": None}, "UTC")
        assert set(OWN_FIELDS[name] + USAGE_FIELDS) <= set(document["rows"][0])
        assert set(USAGE_FIELDS) <= set(document["totals"])
        assert all(isinstance(row["cost_usd"], str) and isinstance(row["reported_cost_usd"], str) for row in document["rows"])
        assert all(isinstance(row["calls"], int) for row in document["rows"])

    @pytest.mark.parametrize("name", OWN_FIELDS)
    def test_report_totals_are_the_sums_of_the_rows(self, sample_database: Path, sample: stores.Store, name: str) -> None:
        document = report(sample_database, name).json

        for field in SUMMED:
            assert sum(number(row[field]) for row in document["rows"]) == number(document["totals"][field]), field
        assert sums(document["totals"]) == sample.total
        assert document["totals"]["sessions"] == len(sample.truth["session"])

    @pytest.mark.parametrize(
        ("name", "key", "grouping"), [("daily", "period", "day"), ("models", "model", "model"), ("sessions", "session_id", "session")]
    )
    def test_report_rows_reach_the_truth(self, sample_database: Path, sample: stores.Store, name: str, key: str, grouping: str) -> None:
        rows = report(sample_database, name).json["rows"]

        assert {row[key]: sums(row) for row in rows} == sample.truth[grouping]

    def test_report_json_on_any_engine_is_the_same(
        self, database_url: str, sample_database: Path, sample: stores.Store, tmp_path: Path
    ) -> None:
        stores.write_json(sample, tmp_path / "opencode")

        imported = run("--db", database_url, "import", tmp_path / "opencode")

        assert imported.exit_code == 0
        for name in OWN_FIELDS:
            expected = report(sample_database, name, tz="Asia/Kathmandu").json
            assert report(database_url, name, tz="Asia/Kathmandu").json == expected


class TestPeriods:
    # In Berlin the 25th of October 2026 has 25 hours; Kathmandu is 5:45 ahead of UTC.
    CALLS = (
        "2026-10-24T18:14:59",
        "2026-10-24T18:15:00",
        "2026-10-24T21:59:59",
        "2026-10-24T22:00:00",
        "2026-10-25T00:30:00",
        "2026-10-25T01:30:00",
        "2026-10-25T22:59:59",
        "2026-10-25T23:00:00",
        "2026-03-28T22:59:59",
        "2026-03-28T23:00:00",
        "2026-03-29T21:59:59",
        "2026-03-29T22:00:00",
    )

    @pytest.fixture
    def made(self, make_database: Make) -> Path:
        store = stores.Store()
        session = stores.add_session(store, ms(min(self.CALLS)))
        for at in self.CALLS:
            stores.add_call(store, session, ms(at))
        return make_database(store)

    @pytest.mark.parametrize(
        ("tz", "expected"),
        [
            ("UTC", {"2026-03-28": 2, "2026-03-29": 2, "2026-10-24": 4, "2026-10-25": 4}),
            ("Europe/Berlin", {"2026-03-28": 1, "2026-03-29": 2, "2026-03-30": 1, "2026-10-24": 3, "2026-10-25": 4, "2026-10-26": 1}),
            ("Asia/Kathmandu", {"2026-03-29": 2, "2026-03-30": 2, "2026-10-24": 1, "2026-10-25": 5, "2026-10-26": 2}),
        ],
    )
    def test_daily_days_are_those_of_the_calls_in_the_zone(self, made: Path, tz: str, expected: dict[str, int]) -> None:
        document = report(made, "daily", tz=tz).json

        assert {row["period"]: row["calls"] for row in document["rows"]} == expected
        assert document["tz"] == tz
        assert sum(number(row["cost_usd"]) for row in document["rows"]) == number(report(made, "daily").json["totals"]["cost_usd"])

    def test_daily_range_is_half_open_and_in_the_zone(self, made: Path) -> None:
        document = report(made, "daily", "--since", "2026-10-25", "--until", "2026-10-25", tz="Europe/Berlin").json

        assert [(row["period"], row["calls"]) for row in document["rows"]] == [("2026-10-25", 4)]
        assert document["range"] == {"since": "2026-10-25T00:00:00+02:00", "until": "2026-10-26T00:00:00+01:00"}
        assert document["totals"]["calls"] == 4

    def test_weekly_and_monthly_periods_begin_on_their_first_day(self, made: Path) -> None:
        weekly = report(made, "weekly", tz="Europe/Berlin").json["rows"]
        monthly = report(made, "monthly", tz="Europe/Berlin").json["rows"]

        assert {row["period"]: row["calls"] for row in weekly} == {"2026-03-23": 3, "2026-03-30": 1, "2026-10-19": 7, "2026-10-26": 1}
        assert {row["period"]: row["calls"] for row in monthly} == {"2026-03-01": 4, "2026-10-01": 8}

    def test_report_zone_comes_from_the_environment(self, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENCODE_MONITOR_TZ", "Asia/Kathmandu")

        outcome = run("--db", made, "daily", "--last", "all", "--json")

        assert outcome.json["tz"] == "Asia/Kathmandu"

    def test_report_empty_range_is_no_error(self, made: Path) -> None:
        empty = ("--since", "2020-01-01", "--until", "2020-01-02")

        table = run("--db", made, "--tz", "UTC", "daily", *empty)
        document = report(made, "daily", *empty).json

        assert (table.exit_code, table.stdout.splitlines()[1]) == (
            0,
            "No calls in this range. Look further back with --last all, or run: opencode-monitor import",
        )
        assert (document["rows"], document["totals"]["calls"], document["totals"]["cost_usd"]) == ([], 0, "0")

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (
                ("--last", "all", "--model", "nobody*"),
                "No calls match the filter: model nobody*. " + SHORT_MODEL,
            ),
            (
                ("--last", "all", "--model", "nobody/*", "--agent", "a", "--agent", "b"),
                "No calls match the filter: model nobody/*, agent a or b.",
            ),
            (
                ("--since", "2020-01-01", "--provider", "nobody"),
                "No calls in this range match the filter: provider nobody. Look further back with --last all.",
            ),
        ],
    )
    def test_report_filter_without_a_hit_is_said_to_be_why(self, made: Path, options: tuple[str, ...], said: str) -> None:
        outcome = run("--db", made, "--tz", "UTC", "models", *options)

        assert (outcome.exit_code, " ".join(outcome.stdout.splitlines()[1:])) == (0, said)

    def test_report_of_an_empty_database_says_what_to_run_and_not_to_look_further_back(self, empty_database: Path) -> None:
        outcome = run("--db", empty_database, "--tz", "UTC", "models", "--last", "all")

        assert (outcome.exit_code, outcome.stdout.splitlines()[1]) == (0, "No calls. Run: opencode-monitor import")


class TestUnpriced:
    @pytest.fixture
    def made(self, make_database: Make) -> Path:
        store = stores.Store()
        session = stores.add_session(store, ms("2026-09-01T10:00:00"))
        stores.add_call(store, session, ms("2026-09-01T10:00:00"))
        stores.add_call(store, session, ms("2026-09-01T11:00:00"), model=stores.UNPRICED)
        stores.add_call(store, session, ms("2026-09-02T10:00:00"), model=stores.UNPRICED)
        return make_database(store)

    def test_report_unknown_price_is_null_and_counted(self, made: Path) -> None:
        daily = report(made, "daily").json
        models = report(made, "models").json

        assert [(row["period"], row["cost_usd"], row["unpriced_calls"]) for row in daily["rows"]] == [
            ("2026-09-01", "0.004005", 1),
            ("2026-09-02", None, 1),
        ]
        assert [(row["model"], row["cost_usd"], row["unpriced_calls"]) for row in models["rows"]] == [
            (stores.SONNET, "0.004005", 0),
            (stores.UNPRICED, None, 2),
        ]
        assert (daily["totals"]["cost_usd"], daily["totals"]["unpriced_calls"]) == ("0.004005", 2)
        assert daily["warnings"] == ["2 calls have no price and are not in the cost: opencode-monitor pricing missing"]

    def test_report_unknown_price_is_a_dash_in_the_table(self, made: Path) -> None:
        outcome = run("--db", made, "--tz", "UTC", "daily", "--last", "all", "--no-zero-days")

        first, second, total = (line.split()[-2:] for line in outcome.stdout.splitlines() if line[:4] in {"2026", "Tota"})
        assert (first, second[-1], total) == (["≥", "$0.0040"], "—", ["≥", "$0.0040"])
        assert outcome.stderr == "≥ 2 calls have no price and are not in the cost: opencode-monitor pricing missing\n"

    @pytest.mark.parametrize(
        ("number", "unknown"),
        [
            ("list", ["1 call has no price and is not in the cost: opencode-monitor pricing missing"]),
            ("paid", ["1 metered call has no price and is not in what is paid: opencode-monitor pricing missing"]),
        ],
    )
    def test_report_calls_without_a_model_are_told_apart(self, made: Path, number: str, unknown: list[str]) -> None:
        # Of the two calls without a price, no price could be set for one.
        with contextlib.closing(duckdb.connect(str(made))) as connection:
            found = connection.execute("SELECT message_id FROM messages WHERE cost_basis = 'unpriced' ORDER BY 1").fetchall()
            connection.execute("UPDATE messages SET model_id = NULL WHERE message_id = ?", found[0])

        warnings = report(made, "daily", "--last", "all", "--cost", number).json["warnings"]
        tools = report(made, "tools").json["warnings"]

        nameless = "1 call whose model OpenCode does not store has no price and is not in the cost"
        assert warnings == [*unknown, nameless]
        assert tools == ["1 call has no price and is not in the cost: opencode-monitor pricing missing", nameless]

    def test_report_quiet_leaves_out_the_remarks(self, made: Path) -> None:
        assert run("--db", made, "-q", "daily", "--last", "all").stderr == ""


class TestTables:
    def test_report_fork_and_failed_calls_are_told(self, make_database: Make) -> None:
        store = stores.Store()
        session = stores.add_session(store, stores.START_MS)
        stores.add_call(store, session, stores.START_MS)
        stores.add_fork(store, session, stores.START_MS + 60_000)
        failed = stores.add_call(store, session, stores.START_MS + 70_000, counted=False)
        failed |= {"tokens": {"input": 0, "output": 0}, "error": {"name": "APIError", "data": {}}}
        store.parts = [part for part in store.parts if part["messageID"] != failed["id"]]

        document = report(make_database(store), "sessions").json

        assert document["warnings"] == [
            "1 call failed or was cut off: OpenCode stored no usage for it, the provider may bill it",
            "1 call is a copy made by a fork, counted once with its original",
        ]
        assert [(row["title"], row["calls"], row["copied_calls"], row["cost_usd"]) for row in document["rows"]] == [
            ("Fix the cart (fork #1)", 0, 1, "0"),
            ("Fix the cart", 1, 0, "0.004005"),
        ]

    def test_sessions_rows_say_where_a_session_belongs(self, sample_database: Path, sample: stores.Store) -> None:
        rows = {row["session_id"]: row for row in report(sample_database, "sessions").json["rows"]}

        child = next(session for session in sample.sessions if "parentID" in session)
        row = rows[child["id"]]
        assert (row["title"], row["project"], row["agent"], row["parent_session_id"]) == (
            "look around (@general subagent)",
            "shop",
            "general",
            child["parentID"],
        )
        assert datetime.fromisoformat(row["started_at"]).timestamp() * 1000 == child["time"]["created"]
        assert rows[child["parentID"]]["parent_session_id"] is None

    @pytest.mark.parametrize(("sort", "field"), [("cost", "cost_usd"), ("started", "started_at"), ("tokens", None)])
    def test_sessions_sort_and_limit(self, sample_database: Path, sort: str, field: str | None) -> None:
        def tokens(row: dict[str, Any]) -> int:
            return sum(int(row[name]) for name in USAGE_FIELDS if name.endswith("_tokens"))

        rows = report(sample_database, "sessions", "--last", "all", "--sort", sort).json["rows"]
        limited = report(sample_database, "sessions", "--last", "all", "--sort", sort, "--limit", "3").json["rows"]

        values = [tokens(row) if field is None else Decimal(row[field]) if field == "cost_usd" else row[field] for row in rows]
        assert values == sorted(values, reverse=True)
        assert limited == rows[:3]

    @pytest.mark.parametrize("name", ["daily", "weekly", "monthly", "models", "sessions"])
    def test_report_table_has_no_control_characters_in_a_pipe(self, sample_database: Path, sample: stores.Store, name: str) -> None:
        outcome = run("--db", sample_database, "--tz", "UTC", name, "--last", "all")

        assert outcome.exit_code == 0
        assert re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", outcome.stdout) is None
        assert outcome.stdout.splitlines()[0] == (
            f"{name.capitalize()} cost · all time · UTC · list prices, USD; OpenCode's own figures: --cost reported"
        )
        assert outcome.stdout.splitlines()[-1].split()[-1] == f"${sample.total[6]:,.2f}"
        assert all(len(line) <= 120 for line in outcome.stdout.splitlines())

    @pytest.mark.parametrize("command", [("sessions", "--last", "all"), ("session", "ses_"), ("models", "--last", "all")])
    def test_report_hostile_text_does_not_reach_the_terminal(self, make_database: Make, command: tuple[str, ...]) -> None:
        store = stores.Store()
        session = stores.add_session(store, stores.START_MS, title=HOSTILE)
        call = stores.add_call(store, session, stores.START_MS)
        call |= {"agent": HOSTILE, "modelID": HOSTILE}
        stores.add_part(store, call, stores.START_MS, "tool", tool=HOSTILE, state={"status": "running"})
        database = make_database(store)

        outcome = run("--db", database, *command, *(("--parts",) if command[0] == "session" else ()))

        assert outcome.exit_code == 0
        assert re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", outcome.stdout + outcome.stderr) is None
        assert "]0;owned" in outcome.stdout

    def test_report_hostile_text_is_escaped_in_json(self, make_database: Make) -> None:
        store = stores.Store()
        session = stores.add_session(store, stores.START_MS, title=HOSTILE)
        stores.add_call(store, session, stores.START_MS)

        outcome = report(make_database(store), "sessions")

        assert outcome.json["rows"][0]["title"] == HOSTILE
        assert re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", outcome.stdout) is None


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("daily", "--since", "2026-13-01"), "'2026-13-01' is not a date. Use 2026-10-01, 7d, today, or monday."),
            (("daily", "--last", "7d", "--since", "today"), "--last cannot be combined with --since or --until. Use one or the other."),
            (("daily", "--since", "2026-10-05", "--until", "2026-10-01"), "--since 2026-10-05 is after --until 2026-10-01."),
            (("models", "--until", "9999-12-31"), "9999-12-31 is too far away to count to its end."),
            (("--tz", "Berlin", "daily"), "unknown time zone 'Berlin'. Did you mean 'Europe/Berlin'?"),
            (("--wait", "soon", "daily"), "'soon' is not a duration. Use 30s, 5m, or 1h."),
            (("sessions", "--sort", "name"), "Invalid value for '--sort': 'name' is not one of 'started', 'cost', 'tokens'."),
            (("dayly",), "No such command 'dayly'."),
        ],
    )
    def test_report_usage_error_is_one_line_and_exit_2(self, sample_database: Path, arguments: tuple[str, ...], message: str) -> None:
        outcome = run("--db", sample_database, *arguments)
        as_json = run("--db", sample_database, *arguments, "--json")

        assert (outcome.exit_code, outcome.stdout, as_json.exit_code, as_json.stdout) == (2, "", 2, "")
        assert outcome.stderr.startswith(f"opencode-monitor: error: {message}")
        assert outcome.stderr.count("\n") == 1
        assert as_json.error["code"] == "usage"
        assert message.startswith(as_json.error["message"][: len(message)])
        assert message.endswith(as_json.error["hint"] or message)
