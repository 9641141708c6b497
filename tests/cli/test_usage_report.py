"""What all reports over usage share: filters, formats, periods without calls, the range before, pictures."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import struct
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import stores
from commands import Outcome, run
from opencode_monitor.cli.reports import CALL_DIMENSIONS, PART_DIMENSIONS, PERIOD_SPLITS
from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.metrics import dimensions

if TYPE_CHECKING:
    from collections.abc import Iterator

CALL, TWO_CALLS = "0.004005", "0.00801"  # USD: what one of the store's costs, and two
HOSTILE = "=cmd|'/C calc'!A1 \x1b[31m| *x* <b>&lt;"


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, duckdb_at_head: Path) -> Iterator[Path]:
    """Import a fortnight: three calls in the first week, one priced and one unpriced in the second."""
    store = stores.Store()
    stores.add_project(store)
    session = stores.add_session(store, ms("2026-09-01T10:00"), title=HOSTILE)
    other = stores.add_session(store, ms("2026-09-08T10:00"))
    for at, owner, model in (
        ("2026-09-01T10:00", session, stores.SONNET),
        ("2026-09-01T22:30", session, stores.SONNET),
        ("2026-09-03T10:00", session, stores.GPT),
        ("2026-09-08T10:00", other, stores.SONNET),
        ("2026-09-10T10:00", other, stores.UNPRICED),
    ):
        stores.add_call(store, owner, ms(at), model=model, buckets=(10, 2_000, 0 if model == stores.GPT else 300, 150, 0))
    directory = tmp_path_factory.mktemp("usage")
    stores.write_json(store, directory)
    database = Path(shutil.copy(duckdb_at_head, directory / "monitor.duckdb"))
    assert run("--db", database, "-q", "import", directory).exit_code == 0
    with create_database_engine(f"duckdb:///{database}", read_only=True).connect() as connection:  # as in `sample_database`
        connection.rollback()
        yield database


@pytest.fixture(scope="module")
def total(made: Path) -> dict[str, Any]:
    """What a whole report says of the fortnight."""
    found: dict[str, Any] = ask(made, "daily", "--last", "all", "--json").json["totals"]
    return found


def ask(database: Path, *arguments: object, tz: str = "UTC") -> Outcome:
    outcome = run("--db", database, "--tz", tz, *arguments)
    assert outcome.exit_code == 0, outcome.stderr
    return outcome


def rows(database: Path, *arguments: object, tz: str = "UTC") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(database, *arguments, "--json", tz=tz).json["rows"]
    return found


FIRST_WEEK = ("--since", "2026-09-01", "--until", "2026-09-07")
SECOND_WEEK = ("--since", "2026-09-08", "--until", "2026-09-14")
THIRD_WEEK = ("--since", "2026-09-15", "--until", "2026-09-21")


class TestPeriods:
    def test_daily_days_without_calls_cost_nothing_from_the_first_call_on(self, made: Path) -> None:
        found = rows(made, "daily", "--since", "2026-08-20", "--until", "2026-09-05")

        assert [(row["period"], row["calls"], row["cost_usd"] == "0") for row in found] == [
            ("2026-09-01", 2, False),
            ("2026-09-02", 0, True),
            ("2026-09-03", 1, False),
            ("2026-09-04", 0, True),
            ("2026-09-05", 0, True),
        ]

    def test_daily_without_zero_days_has_the_days_with_calls(self, made: Path) -> None:
        found = rows(made, "daily", *FIRST_WEEK, "--no-zero-days")

        assert [row["period"] for row in found] == ["2026-09-01", "2026-09-03"]

    def test_daily_ends_with_the_last_import_as_nothing_is_known_of_later_days(self, made: Path) -> None:
        document = ask(made, "daily", "--since", "2026-09-01", "--until", "2099-12-31", "--json").json

        last = datetime.fromisoformat(document["rows"][-1]["period"]).date()
        assert last <= datetime.now(UTC).date()
        assert document["incomplete_period"] in {None, last.isoformat()}

    def test_weekly_week_that_the_range_cuts_is_marked(self, made: Path) -> None:
        cut = ask(made, "weekly", "--since", "2026-09-02", "--until", "2026-09-10")
        whole = ask(made, "weekly", "--since", "2026-08-31", "--until", "2026-09-13")
        document = ask(made, "weekly", "--since", "2026-09-02", "--until", "2026-09-10", "--json").json

        assert [line.split("  ")[0] for line in cut.stdout.splitlines() if line.startswith("2026")] == ["2026-08-31 °", "2026-09-07 °"]
        assert "° the range has only a part of this week\n" in cut.stderr
        assert "°" not in whole.stdout + whole.stderr
        assert document["cut_periods"] == ["2026-08-31", "2026-09-07"]

    def test_daily_day_that_begins_before_the_range_is_marked(self, made: Path) -> None:
        table = ask(made, "daily", "--since", "2026-09-01T00:30", "--until", "2026-09-02").stdout

        assert [line.split("  ")[0] for line in table.splitlines() if line.startswith("2026")] == ["2026-09-01 °", "2026-09-02"]

    @pytest.mark.parametrize(("start", "expected"), [("monday", ["2026-08-31", "2026-09-07"]), ("sunday", ["2026-08-30", "2026-09-06"])])
    def test_weekly_weeks_begin_as_asked(self, made: Path, start: str, expected: list[str]) -> None:
        found = rows(made, "weekly", "--since", "2026-09-01", "--until", "2026-09-10", "--week-start", start)

        assert [(row["period"], row["calls"]) for row in found] == [(expected[0], 3), (expected[1], 2)]

    def test_daily_split_has_a_row_for_each_day_and_model(self, made: Path) -> None:
        found = rows(made, "daily", *FIRST_WEEK, "--by", "model")

        assert [(row["period"], row["model"], row["calls"]) for row in found] == [
            ("2026-09-01", stores.SONNET, 2),
            ("2026-09-03", stores.GPT, 1),
        ]

    def test_by_hour_says_the_hour_in_the_zone(self, made: Path) -> None:
        table = ask(made, "by", "hour", *FIRST_WEEK, tz="Asia/Kathmandu")

        assert re.findall(r"^\S+ \d\d:\d\d \+0545", table.stdout, re.MULTILINE) == [
            "2026-09-01 15:00 +0545",
            "2026-09-02 04:00 +0545",
            "2026-09-03 15:00 +0545",
        ]


class TestCompare:
    def test_models_beside_the_week_before_sum_to_both_totals(self, made: Path) -> None:
        document = ask(made, "models", *SECOND_WEEK, "--compare", "--json").json

        by_model = {row["model"]: (row["cost_usd"], row["before_usd"], row["change_usd"]) for row in document["rows"]}
        assert by_model[stores.SONNET] == (CALL, TWO_CALLS, f"-{CALL}")
        assert by_model[stores.UNPRICED] == (None, "0", None)
        assert by_model[stores.GPT][0] == "0"
        assert sum(Decimal(before) for _, before, _ in by_model.values()) == Decimal(document["totals"]["before_usd"])
        assert document["compared_with"] == {"since": "2026-09-01T00:00:00+00:00", "until": "2026-09-08T00:00:00+00:00"}

    def test_daily_each_day_stands_beside_that_of_the_week_before(self, made: Path) -> None:
        found = rows(made, "daily", *SECOND_WEEK, "--compare")

        before = {row["period"]: row["before_usd"] for row in found}
        assert (before["2026-09-08"], before["2026-09-09"]) == (TWO_CALLS, "0")
        assert Decimal(before["2026-09-10"]) > 0

    @pytest.mark.parametrize("form", ["table", "csv"])
    def test_models_that_are_used_no_more_stand_in_every_form(self, made: Path, form: str) -> None:
        text = ask(made, "models", *SECOND_WEEK, "--compare", "--format", form).stdout

        assert any(line.startswith(stores.GPT) for line in text.splitlines())

    @pytest.mark.parametrize(
        "command",
        [("tools",), ("files",), ("parts",), ("models",), ("daily", "--by", "model"), ("by", "model", "day"), ("by", "week", "tool")],
    )
    @pytest.mark.parametrize("days", [SECOND_WEEK, THIRD_WEEK])
    def test_compare_column_before_sums_to_its_total(self, made: Path, command: tuple[str, ...], days: tuple[str, ...]) -> None:
        document = ask(made, *command, *days, "--compare", "--json").json

        known = [Decimal(row["before_usd"]) for row in document["rows"] if row["before_usd"] is not None]
        assert sum(known) == Decimal(document["totals"]["before_usd"]) > 0

    def test_compare_tools_used_no_more_were_not_called(self, made: Path) -> None:
        found = {row["tool"]: row for row in rows(made, "tools", *THIRD_WEEK, "--compare")}

        assert [found["read"][name] for name in ("calls", "errors", "cost_usd", "failed_unpriced_parts")] == [0, 0, "0", 0]
        assert Decimal(found["read"]["before_usd"]) > 0

    def test_compare_limit_holds_for_what_is_used_no_more_too(self, made: Path) -> None:
        found = rows(made, "models", *SECOND_WEEK, "--compare", "--limit", 2)

        assert [row["model"] for row in found] == [stores.SONNET, stores.UNPRICED]

    def test_compare_table_shows_the_change(self, made: Path) -> None:
        table = ask(made, "models", *SECOND_WEEK, "--compare").stdout

        assert "against 2026-09-01 … 2026-09-07" in table
        sonnet = next(line for line in table.splitlines() if line.startswith("anthropic/"))
        assert sonnet.split()[-4:] == ["$0.0040", "$0.0080", "▼", "-50%"]

    def test_compare_with_a_time_before_the_first_call_is_unknown(self, made: Path) -> None:
        document = ask(made, "daily", *FIRST_WEEK, "--compare", "--json").json
        table = ask(made, "daily", *FIRST_WEEK, "--compare").stdout.splitlines()

        assert {(row["before_usd"], row["change_usd"]) for row in [*document["rows"], document["totals"]]} == {(None, None)}
        assert document["warnings"][-1] == "the first call is of 2026-09-01: of the range before it nothing is known"
        assert table[-1].split()[-2:] == ["—", "—"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("daily", "--last", "all"), "--compare needs a range that begins somewhere. Use --last 30d, or --since."),
            (("weekly", "--last", "10d"), "--compare of weeks needs a range of whole weeks. Use --last 12w."),
            (("monthly", "--last", "40d"), "--compare of months needs a range of months. Use --last 3m, or 1y."),
            (("by", "hour"), "--compare is of days, weeks, months, models and the like, not of hours."),
            (("daily", "--since", "2026-09-01T10:00"), "--compare needs whole days. Leave the times of --since and --until out."),
            (("daily", "--since", "0001-01-05", "--until", "0001-02-20"), "--compare: the range before it is before the first year."),
        ],
    )
    def test_compare_without_a_range_before_says_why(self, made: Path, arguments: tuple[str, ...], message: str) -> None:
        outcome = run("--db", made, "--tz", "UTC", *arguments, "--compare")

        assert (outcome.exit_code, outcome.stderr) == (2, f"opencode-monitor: error: {message}\n")


class TestFilters:
    @pytest.mark.parametrize(
        ("arguments", "calls"),
        [
            (("--model", "claude-*"), 3),
            (("--provider", "openai", "--provider", "ollama"), 2),
            (("--model", "anthropic/*", "--provider", "openai"), 0),
            (("--agent", "plan"), 0),
            (("--project", "sh?p"), 5),
        ],
    )
    def test_daily_filters_choose_the_calls(self, made: Path, arguments: tuple[str, ...], calls: int) -> None:
        document = ask(made, "daily", "--last", "all", *arguments, "--json").json

        assert document["totals"]["calls"] == sum(row["calls"] for row in document["rows"]) == calls
        assert set(document["filters"]) == {word.removeprefix("--") for word in arguments if word.startswith("--")}

    def test_models_of_a_session_by_the_beginning_of_its_id(self, made: Path) -> None:
        first = next(row["session_id"] for row in rows(made, "sessions", "--last", "all") if row["calls"] == 3)

        found = rows(made, "models", "--last", "all", "--session", first[:-1])

        assert {row["model"]: row["calls"] for row in found} == {stores.SONNET: 2, stores.GPT: 1}

    def test_daily_of_a_tool_counts_its_parts(self, made: Path) -> None:
        document = ask(made, "monthly", "--last", "all", "--tool", "re*", "--json").json
        (read,) = (row for row in rows(made, "tools", "--last", "all") if row["tool"] == "read")

        assert "calls" not in document["totals"]
        assert (document["totals"]["parts"], document["totals"]["cost_usd"]) == (read["parts"], read["cost_usd"])
        assert document["rows"][0]["parts"] == read["parts"]

    def test_head_says_what_was_asked_for(self, made: Path) -> None:
        table = ask(made, "daily", *FIRST_WEEK, "--model", "claude-*", "--model", "gpt-5")

        assert table.stdout.startswith("Daily cost · 2026-09-01 … 2026-09-07 · UTC · model claude-* or gpt-5 · list prices")

    def test_filter_that_is_empty_is_refused(self, made: Path) -> None:
        outcome = run("--db", made, "daily", "--model", "", "--json")

        assert (outcome.exit_code, outcome.error["message"]) == (2, "--model is empty. Leave it out to count everything.")


class TestFormats:
    def test_csv_has_the_fields_of_json_and_runs_nothing(self, made: Path) -> None:
        objects = rows(made, "sessions", "--last", "all")

        outcome = ask(made, "sessions", "--last", "all", "--format", "csv")

        lines = list(csv.DictReader(io.StringIO(outcome.stdout)))
        assert list(lines[0]) == list(objects[0])
        assert [line["session_id"] for line in lines] == [row["session_id"] for row in objects]
        assert [line["cost_usd"] for line in lines] == [row["cost_usd"] or "" for row in objects]
        assert [line["title"] for line in lines if line["title"].startswith("'")] == ["'" + HOSTILE.replace("\x1b", "�")]
        assert outcome.stderr.startswith("Sessions cost · all time · UTC")

    def test_jsonl_is_the_rows_alone(self, made: Path) -> None:
        outcome = ask(made, "models", "--last", "all", "--format", "jsonl")

        assert [json.loads(line) for line in outcome.stdout.splitlines()] == rows(made, "models", "--last", "all")

    def test_markdown_shows_stored_text_as_it_is(self, made: Path) -> None:
        text = ask(made, "sessions", "--last", "all", "--format", "md").stdout

        lines = text.splitlines()
        assert lines[2].startswith("| Session | Started | Title |")
        assert lines[3].startswith("|---|---|---|")
        assert r"=cmd\|'/C calc'!A1 �[31m\| \*x\* \<b\>\&lt;".replace("[", r"\[") in text
        assert lines[-1].startswith("| **Total** |")

    def test_columns_are_those_and_in_that_order(self, made: Path) -> None:
        chosen = ("models", *FIRST_WEEK, "--columns", "calls, model")

        as_csv = ask(made, *chosen, "--format", "csv", "--no-header").stdout
        table = ask(made, *chosen).stdout.splitlines()

        assert as_csv.splitlines() == [f"2,{stores.SONNET}", f"1,{stores.GPT}"]
        assert (table[1].split(), table[3].split()) == (["calls", "model"], ["2", stores.SONNET])

    def test_columns_unknown_one_names_those_there_are(self, made: Path) -> None:
        outcome = run("--db", made, "models", *FIRST_WEEK, "--columns", "usd")

        assert outcome.exit_code == 2
        assert "--columns: there is no 'usd'. Use some of: model, sessions, calls, " in outcome.stderr

    def test_columns_named_twice_are_refused(self, made: Path) -> None:
        outcome = run("--db", made, "models", "--columns", "calls,model,calls", "--format", "json")

        assert (outcome.exit_code, outcome.error["message"]) == (2, "--columns names 'calls' twice.")

    def test_output_file_goes_by_its_name_and_is_for_its_owner(self, made: Path, tmp_path: Path) -> None:
        file = tmp_path / "models.json"

        outcome = ask(made, "models", "--last", "all", "-o", file)

        assert json.loads(file.read_text())["schema"] == "opencode-monitor/models@1"
        assert (outcome.stdout, outcome.stderr) == ("", f"Wrote {file}.\n")
        assert oct(os.stat(file).st_mode & 0o777) == "0o600"  # noqa: PTH116 - the mode alone

    def test_output_into_no_directory_is_refused_in_json_too(self, made: Path, tmp_path: Path) -> None:
        outcome = run("--db", made, "models", "--format", "json", "-o", tmp_path / "none" / "x.json")

        assert (outcome.exit_code, outcome.error["code"]) == (2, "usage")

    def test_json_and_another_format_contradict_each_other(self, made: Path) -> None:
        outcome = run("--db", made, "models", "--json", "--format", "csv")

        assert (outcome.exit_code, outcome.error["message"], outcome.error["hint"]) == (
            2,
            "--json cannot be combined with --format csv.",
            "Use one of the two.",
        )


class TestChart:
    def test_chart_draws_the_days_split_by_model(self, made: Path, tmp_path: Path) -> None:
        file = tmp_path / "days.svg"

        ask(made, "daily", *FIRST_WEEK, "--by", "model", "--chart", file)

        drawn = file.read_text(encoding="utf-8")
        assert ("Daily cost" in drawn, stores.SONNET in drawn, stores.GPT in drawn) == (True, True, True)
        assert "2026-09-01 … 2026-09-07 · UTC · list prices, USD" in drawn

    def test_chart_png_has_its_size(self, made: Path, tmp_path: Path) -> None:
        file = tmp_path / "models.png"

        ask(made, "models", "--last", "all", "--chart", file)

        data = file.read_bytes()
        assert (data[:8], struct.unpack(">I", data[16:20])[0]) == (b"\x89PNG\r\n\x1a\n", 1800)

    def test_chart_of_names_has_no_bar_that_is_not_complete(self, made: Path, tmp_path: Path) -> None:
        ask(made, "by", "tool", "--last", "all", "--chart", tmp_path / "tools.svg")

        drawn = (tmp_path / "tools.svg").read_text(encoding="utf-8")
        assert ("(no tool)" in drawn, "not complete" in drawn) == (True, False)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("by", "hour"), "--chart draws days, weeks or months, which another dimension may split, or one other dimension."),
            (("by", "model", "agent"), "--chart draws days, weeks or months, which another dimension may split, or one other dimension."),
            (("by", "day", "model", "agent"), "--chart draws one dimension, or two. Leave the others out."),
        ],
    )
    def test_chart_of_what_cannot_be_drawn_says_so(self, made: Path, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
        outcome = run("--db", made, *arguments, "--last", "all", "--chart", tmp_path / "x.svg")

        assert (outcome.exit_code, outcome.stderr) == (2, f"opencode-monitor: error: {message}\n")
        assert list(tmp_path.glob("*.svg")) == []


class TestBy:
    def test_dimensions_of_the_command_are_those_that_are_declared(self) -> None:
        assert tuple(dimensions.CALL_DIMENSIONS) == CALL_DIMENSIONS
        assert tuple(dimensions.PART_DIMENSIONS) == PART_DIMENSIONS
        assert set(PERIOD_SPLITS) <= set(dimensions.DIMENSIONS)

    @pytest.mark.parametrize("name", [*CALL_DIMENSIONS, *PART_DIMENSIONS])
    def test_by_every_dimension_sums_to_the_total_in_every_form(self, made: Path, total: dict[str, Any], name: str) -> None:
        document = ask(made, "by", name, "--last", "all", "--json").json
        table = ask(made, "by", name, "--last", "all").stdout

        assert sum(Decimal(row["cost_usd"] or 0) for row in document["rows"]) == Decimal(total["cost_usd"])
        assert document["totals"]["input_tokens"] == total["input_tokens"] == sum(row["input_tokens"] for row in document["rows"])
        assert table.splitlines()[0].startswith(f"Cost by {name} · all time · UTC")

    @pytest.mark.parametrize("names", [("day", "week"), ("model", "model")])
    def test_by_dimensions_that_make_no_sense_together_are_refused(self, made: Path, names: tuple[str, ...]) -> None:
        outcome = run("--db", made, "by", *names)

        assert (outcome.exit_code, "Name each dimension once, and one length of time at most." in outcome.stderr) == (2, True)


def test_group_without_a_command_shows_its_help_as_it_is() -> None:
    outcome = run("report")

    assert (outcome.exit_code, outcome.stdout) == (2, "")
    assert outcome.stderr.splitlines()[0] == "Usage: opencode-monitor report [OPTIONS] COMMAND [ARGS]..."


def test_demo_does_not_take_another_database(made: Path) -> None:
    outcome = run("--db", made, "demo")

    assert (outcome.exit_code, outcome.stderr) == (
        2,
        "opencode-monitor: error: demo has a database of its own, made anew each time. Leave --db out.\n",
    )


def test_report_has_all_reports_under_one_name(made: Path) -> None:
    short, long = ask(made, "models", *FIRST_WEEK), ask(made, "report", "models", *FIRST_WEEK)

    assert short == long
