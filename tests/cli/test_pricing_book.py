"""The commands on the whole book: list, alias, files, sources, and pricing anew."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

import stores
from commands import run
from opencode_monitor.cli.app import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CHEAP = ("--input", "0", "--output", "1000", "--cache-read", "0", "--cache-write", "0")


class Terminal(io.StringIO):
    """A standard output that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def made(make_database: Callable[[stores.Store], Path]) -> Path:
    """One call of a model with a price, and two of one without."""
    store = stores.Store()
    session = stores.add_session(store, stores.START_MS)
    stores.add_call(store, session, stores.START_MS)
    for number in range(2):
        stores.add_call(store, session, stores.START_MS + stores.DAY_MS * (number + 1), model=stores.UNPRICED)
    return make_database(store)


def total(database: Path) -> tuple[str | None, int]:
    totals = run("--db", database, "models", "--last", "all", "--json").json["totals"]
    return totals["cost_usd"], totals["unpriced_calls"]


def verify(database: Path) -> int:
    return run("--db", database, "db", "verify").exit_code


class TestList:
    def test_list_has_the_rows_in_force_of_every_mode_and_tier(self, sample_database: Path) -> None:
        outcome = run("--db", sample_database, "pricing", "list", "--provider", "openai", "--model", "gpt-5.4", "--json")
        opus = ("--provider", "anthropic", "--model", "claude-opus-4-6")
        earlier = run("--db", sample_database, "pricing", "list", *opus, "--at", "2026-03-12", "--json")

        found = [(row["mode"], row["min_context_tokens"]) for row in outcome.json["rows"]]
        assert outcome.json["schema"] == "opencode-monitor/pricing-list@1"
        assert found[:2] == [("standard", 0), ("standard", 272_000)]
        assert ("priority", 0) in found
        assert [row["min_context_tokens"] for row in earlier.json["rows"] if row["mode"] == "standard"] == [0, 200_000]

    def test_list_names_daily_hours_and_what_is_not_confirmed(self, sample_database: Path) -> None:
        shown = run("--db", sample_database, "pricing", "show", "deepseek/deepseek-chat").stdout.splitlines()

        assert any(line.split()[:4] == ["1970-01-01,", "00:30-16:30", "0", "0.27"] for line in shown)
        assert shown[-1].startswith("*")
        assert shown[-1].split()[-2:] == ["vendor-notice,", "assumed"]

    def test_list_as_a_table_and_of_nothing(self, sample_database: Path) -> None:
        outcome = run("--db", sample_database, "pricing", "list", "--model", "claude-sonnet-4-?", "--provider", "anthropic")

        assert outcome.exit_code == 0
        shown = outcome.stdout.splitlines()
        assert shown[2].split() == [
            "anthropic/claude-sonnet-4-0",
            "standard",
            "1970-01-01",
            "0",
            "3",
            "15",
            "—",
            "0.3",
            "3.75",
            "6",
            "genai-prices",
        ]
        assert not any("…" in line for line in shown)
        assert run("--db", sample_database, "pricing", "list", "--model", "gpt_5").stdout == "The book has no such price.\n"


class TestAlias:
    def test_alias_says_how_many_calls_it_prices_and_is_taken_back(self, made: Path) -> None:
        aliased = run("--db", made, "pricing", "alias", stores.UNPRICED, stores.SONNET)
        priced = total(made)
        listed = run("--db", made, "pricing", "alias")
        removed = run("--db", made, "pricing", "alias", stores.UNPRICED, "--remove")
        kept = total(made)
        as_json = run("--db", made, "pricing", "alias", "--json")

        assert aliased.stdout == f"{stores.UNPRICED} costs what {stores.SONNET} costs. 2 calls without a price have one now.\n"
        assert priced == ("0.012015", 0)
        assert listed.stdout == f"{stores.UNPRICED} costs what {stores.SONNET} costs (standard)\n"
        assert removed.stdout == f"{stores.UNPRICED} is priced by the rules again.\n"
        assert kept == priced
        assert as_json.json["rows"] == []

    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (("a/b", "openai/gpt-99"), 1, "the book has no prices of openai/gpt-99."),
            (("a/b", "anthropic/claude-opus-4-1", "--mode", "fast"), 1, "the book has no fast prices of anthropic/claude-opus-4-1,"),
            (("b", "openai/gpt-5"), 2, "'b' has no vendor."),
            (("a/b", "--remove"), 1, "a/b has no alias of yours."),
            (("a/b",), 2, "Name the model and what prices it, or the model and --remove."),
            (("a/b", "openai/gpt-5", "--remove"), 2, "Name the model and what prices it, or the model and --remove."),
        ],
    )
    def test_alias_that_makes_no_sense_is_one_line(self, database: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
        outcome = run("--db", database, "pricing", "alias", *arguments)

        assert (outcome.exit_code, outcome.stdout) == (code, "")
        assert outcome.stderr.startswith(f"opencode-monitor: error: {message}")
        assert outcome.stderr.count("\n") == 1

    def test_alias_mode_prices_by_that_mode(self, database: Path) -> None:
        run("--db", database, "pricing", "alias", stores.GPT, "openai/gpt-5", "--mode", "priority")

        rows = run("--db", database, "pricing", "show", stores.GPT, "--json").json["rows"]
        assert {row["mode"] for row in rows} == {"priority"}

    def test_missing_says_that_a_mode_has_no_price(self, made: Path) -> None:
        run("--db", made, "pricing", "alias", stores.UNPRICED, "openai/gpt-4o", "--mode", "batch")  # sold in batches since October

        assert run("--db", made, "pricing", "missing").stdout.endswith("(aliased to batch prices, and there are none at that time)\n")


class TestFiles:
    @pytest.mark.parametrize("name", ["prices.csv", "prices.json"])
    def test_export_and_import_of_the_book_change_nothing(self, database: Path, tmp_path: Path, name: str) -> None:
        file = tmp_path / name
        run("--db", database, "pricing", "set", "a/b", "--input", "1", "--output", "2", "--from", "2026-09-01")

        exported = run("--db", database, "pricing", "export", "-o", file)
        before = file.read_bytes()
        imported = run("--db", database, "pricing", "import", file, "--json")
        run("--db", database, "pricing", "export", "-o", file)

        assert exported.stderr.startswith("Wrote ")
        assert (imported.exit_code, imported.json["totals"]["added"]) == (0, 0)
        assert imported.json["totals"]["rows"] > 2_500
        assert file.read_bytes() == before

    def test_export_prints_the_rows_asked_for(self, database: Path) -> None:
        run("--db", database, "pricing", "set", "a/b", "--input", "1", "--output", "2")

        as_csv = list(csv.DictReader(io.StringIO(run("--db", database, "pricing", "export", "--source", "user").stdout)))
        as_json = json.loads(run("--db", database, "pricing", "export", "--provider", "a", "--model", "?", "--json").stdout)["rows"]

        assert [(row["vendor"], row["model"], row["output_usd_per_mtok"], row["reasoning_usd_per_mtok"]) for row in as_csv] == [
            ("a", "b", "2", "")
        ]
        assert [{name: value or "" for name, value in row.items()} for row in as_json] == as_csv

    def test_import_prices_calls_that_had_none(self, made: Path, tmp_path: Path) -> None:
        vendor, _, model = stores.UNPRICED.partition("/")
        file = tmp_path / "mine.csv"
        file.write_text(
            "vendor,model,input_usd_per_mtok,output_usd_per_mtok,cache_read_usd_per_mtok,cache_write_5m_usd_per_mtok\n"
            f"{vendor},{model},0,1000,0,0\n"
        )

        outcome = run("--db", made, "pricing", "import", file)

        assert outcome.stdout == "Read 1 price: 1 new. 2 calls without a price have one now.\n"
        assert total(made) == ("0.304005", 0)

    def test_import_lists_every_bad_row_and_loads_none(self, made: Path, tmp_path: Path) -> None:
        file = tmp_path / "mine.csv"
        file.write_text("vendor,model,input_usd_per_mtok,output_usd_per_mtok\na,good,1,1\na,b,-1,1\na,c,\x1b[31m,1\n")

        outcome = run("--db", made, "pricing", "import", file)
        as_json = run("--db", made, "pricing", "import", file, "--json")

        assert outcome.exit_code == 1
        assert outcome.stderr.splitlines() == [
            f"{file}, line 3: a/b: the input price -1 is negative",
            f"{file}, line 4: a/c: the input price '\\x1b[31m' is not a number",
            f"opencode-monitor: error: {file}: 2 bad rows; nothing was imported.",
        ]
        assert as_json.error["code"] == "price_refused"
        assert "line 3: a/b: the input price -1 is negative" in as_json.error["message"]
        assert run("--db", made, "pricing", "show", "a/good", "--json").json["rows"] == []

    def test_export_to_a_terminal_does_not_steer_it(self, made: Path) -> None:
        run("--db", made, "pricing", "set", "acme/a\x1b[31m", *CHEAP)
        terminal = Terminal()

        with contextlib.redirect_stdout(terminal), contextlib.suppress(SystemExit):
            main(["--db", str(made), "pricing", "export", "--source", "user"])
        piped = run("--db", made, "pricing", "export", "--source", "user").stdout

        assert "a\x1b[31m," in piped
        assert terminal.getvalue() == piped.replace("\x1b", "�")

    @pytest.mark.parametrize(
        ("name", "content", "code", "message"),
        [
            ("prices.txt", b"", 2, "the name must end in .csv or .json."),
            ("prices.csv", b"\xff", 1, "is not UTF-8 text: invalid start byte at byte 0"),
            ("missing.csv", None, 1, "No such file or directory"),
        ],
    )
    def test_import_file_that_is_none_is_one_line(
        self, database: Path, tmp_path: Path, name: str, content: bytes | None, code: int, message: str
    ) -> None:
        file = tmp_path / name
        if content is not None:
            file.write_bytes(content)

        outcome = run("--db", database, "pricing", "import", file)

        assert (outcome.exit_code, outcome.stderr.count("\n")) == (code, 1)
        assert message in outcome.stderr


class TestSources:
    @pytest.fixture
    def models_json(self, home: Path) -> Path:
        """OpenCode's own list, where it keeps it, with a price for the model that has none."""
        file = home / ".cache" / "opencode" / "models.json"
        file.parent.mkdir(parents=True)
        vendor, _, model = stores.UNPRICED.partition("/")
        document = {
            vendor: {"models": {model: {"cost": {"input": 0, "output": 1000, "cache_read": 0, "cache_write": 0}}}},
            "odd": {"models": {"one": {"cost": {"input": "1", "output": 1}}}},
        }
        file.write_text(json.dumps(document))
        seen = datetime(2026, 10, 1, tzinfo=UTC).timestamp()
        os.utime(file, (seen, seen))
        return file

    def test_diff_then_refresh_reads_opencodes_list_and_prices_old_calls(self, made: Path, models_json: Path) -> None:
        run("--db", made, "pricing", "refresh", "--offline")
        models_json.write_text(models_json.read_text().replace("1000", "2000"))
        planned = run("--db", made, "pricing", "diff")
        refreshed = run("--db", made, "pricing", "refresh")
        again = run("--db", made, "pricing", "refresh", "--offline", "--json")

        assert total(made) == ("0.304005", 0)
        assert "output 1000 → 2000" not in planned.stdout  # a later price is a row of its own, from the file's time on
        assert "output 2000" in planned.stdout
        assert "1 prices would be added: opencode-monitor pricing refresh" in planned.stdout
        assert "models.json:odd/one: the input price is '1'" in planned.stdout
        assert refreshed.stderr.startswith("Nothing is fetched.")
        assert refreshed.stdout.splitlines()[-1] == "1 new price. 0 calls without a price have one now."
        assert again.json["totals"] == {"added": 0, "calls_priced": 0}
        assert {row["source"] for row in again.json["rows"]} == {"genai-prices", "opencode-cache", "vendor-notice"}

    def test_diff_of_a_list_older_than_the_one_read_is_none(self, made: Path, models_json: Path) -> None:
        run("--db", made, "pricing", "refresh", "--offline")
        models_json.write_text(models_json.read_text().replace("1000", "2000"))
        earlier = datetime(2026, 9, 1, tzinfo=UTC).timestamp()
        os.utime(models_json, (earlier, earlier))

        planned = run("--db", made, "pricing", "diff")
        refreshed = run("--db", made, "pricing", "refresh", "--offline", "--json")

        assert "The book is up to date." in planned.stdout
        assert refreshed.json["totals"]["added"] == 0

    def test_import_reads_opencodes_list_and_lists_what_is_odd(
        self, make_database: Callable[[stores.Store], Path], models_json: Path
    ) -> None:
        store = stores.Store()
        stores.add_call(store, stores.add_session(store, stores.START_MS), stores.START_MS, model=stores.UNPRICED)

        database = make_database(store)

        assert models_json.exists()
        assert total(database) == ("0.15", 0)
        skipped = run("--db", database, "doctor", "--show", "skipped")
        assert skipped.stdout == "models.json:odd/one: the input price is '1'\n"

    def test_diff_ranks_where_opencodes_cost_is_not_ours(self, made: Path) -> None:
        run("--db", made, "pricing", "set", stores.UNPRICED, *CHEAP)

        rows = [row for row in run("--db", made, "pricing", "diff", "--json").json["rows"] if row["kind"] == "reported"]
        table = run("--db", made, "pricing", "diff")

        found = [(row["model"], row["calls"], row["reported_cost_usd"], row["list_cost_usd"], row["difference_usd"]) for row in rows]
        assert found == [
            (stores.UNPRICED, 2, "0.002", "0.3", "-0.298"),
            (stores.SONNET, 1, "0.001", "0.004005", "-0.003005"),
        ]
        assert "Where OpenCode's stored cost is not ours:" in table.stdout


class TestReprice:
    def test_reprice_shows_acts_and_is_undone(self, made: Path) -> None:
        run("--db", made, "pricing", "set", stores.SONNET, *CHEAP)

        dry = run("--db", made, "pricing", "reprice", "--dry-run")
        unchanged = total(made)
        done = run("--db", made, "pricing", "reprice", "--yes", "--reason", "contract", "--json")
        repriced, clean = total(made), verify(made)
        runs = run("--db", made, "pricing", "reprice", "--runs")
        undone = run("--db", made, "pricing", "reprice", "--undo")

        assert (unchanged[0], repriced[0], total(made)[0]) == ("0.004005", "0.15", "0.004005")
        assert ["anthropic/claude-sonnet-4-5", "2026-09-01", "1", "$0.004005", "$0.150000", "0", "0"] in [
            line.split() for line in dry.stdout.splitlines()
        ]
        assert done.json["rows"] == [
            {
                "model": stores.SONNET,
                "day": "2026-09-01",
                "calls": 1,
                "old_cost_usd": "0.004005",
                "new_cost_usd": "0.15",
                "newly_priced": 0,
                "unpriced": 0,
            }
        ]
        run_id = done.json["totals"]["run"]
        assert runs.stdout == f"{run_id}  1 call  $0.004005 → $0.150000  all models from the beginning to the end  contract\n"
        assert undone.stdout == f"Undid run {run_id}: 1 call costs again what it did.\n"
        assert run("--db", made, "pricing", "reprice", "--runs").stdout.endswith("contract  (undone)\n")
        assert (clean, verify(made)) == (0, 0)

    def test_reprice_unknown_costs_are_no_zero(self, made: Path) -> None:
        run("--db", made, "pricing", "alias", stores.UNPRICED, stores.SONNET)
        run("--db", made, "pricing", "alias", stores.UNPRICED, "--remove")

        dry = run("--db", made, "pricing", "reprice", "--dry-run")
        run("--db", made, "pricing", "set", stores.SONNET, *CHEAP)
        part = run("--db", made, "pricing", "reprice", "--dry-run")
        done = run("--db", made, "pricing", "reprice", "--model", stores.UNPRICED, "--yes", "--json")
        runs = run("--db", made, "pricing", "reprice", "--runs")
        as_json = run("--db", made, "pricing", "reprice", "--runs", "--json").json["rows"]
        clean = verify(made)
        run("--db", made, "pricing", "reprice", "--undo")
        run("--db", made, "pricing", "reprice", "--yes")
        both = run("--db", made, "pricing", "reprice", "--runs")

        assert dry.stdout.splitlines()[-1].split() == ["Total", "2", "$0.008010", "—", "0", "2"]
        assert part.stdout.splitlines()[-1].split() == ["Total", "3", "$0.012015", "≥", "$0.150000", "0", "2"]
        assert (done.json["totals"]["new_cost_usd"], done.json["totals"]["unpriced"], clean) == (None, 2, 0)
        assert "  2 calls  $0.008010 → —  " in runs.stdout
        assert [(row["old_cost_usd"], row["new_cost_usd"], row["unpriced"]) for row in as_json] == [("0.00801", None, 2)]
        assert "  3 calls  $0.012015 → ≥ $0.150000  " in both.stdout.splitlines()[0]

    def test_reprice_without_a_terminal_needs_yes(self, made: Path) -> None:
        run("--db", made, "pricing", "set", stores.SONNET, *CHEAP)

        outcome = run("--db", made, "pricing", "reprice")

        assert outcome.exit_code == 2
        assert "Look first with --dry-run, then say --yes." in outcome.stderr
        assert total(made)[0] == "0.004005"

    def test_reprice_where_nothing_changes_says_so(self, made: Path) -> None:
        outcome = run("--db", made, "pricing", "reprice", "--model", "claude-*", "--since", "2026-09-01", "--until", "2026-09-02")

        assert (outcome.exit_code, outcome.stdout) == (0, "Every call has the price that the book has for it.\n")
        assert run("--db", made, "pricing", "reprice", "--runs").stdout == "Nothing was ever priced anew.\n"

    def test_reprice_undo_of_an_unknown_run_is_one_line(self, made: Path) -> None:
        outcome = run("--db", made, "pricing", "reprice", "--undo", "never")

        assert (outcome.exit_code, outcome.stderr) == (
            1,
            "opencode-monitor: error: no re-pricing 'never' that could be undone. See: opencode-monitor pricing reprice --runs\n",
        )


def test_pricing_commands_all_take_json(made: Path, tmp_path: Path) -> None:
    file = tmp_path / "empty.json"
    file.write_text('{"rows": []}')
    commands: list[tuple[Any, ...]] = [
        ("list", "--provider", "xai"),
        ("show", stores.SONNET),
        ("missing",),
        ("set", "a/b", "--input", "1", "--output", "1"),
        ("alias", "a/c", "a/b"),
        ("alias",),
        ("export", "--provider", "a"),
        ("import", file),
        ("diff",),
        ("refresh", "--offline"),
        ("reprice", "--dry-run"),
        ("reprice", "--runs"),
    ]

    for command in commands:
        outcome = run("--db", made, "pricing", *command, "--json")
        assert (outcome.exit_code, outcome.stderr) == (0, ""), command
        assert outcome.json["schema"].startswith("opencode-monitor/pri"), command


def test_total_is_decimal_text(made: Path) -> None:
    assert Decimal(total(made)[0] or "") == Decimal("0.004005")
