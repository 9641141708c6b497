"""The MCP server: its answers in this process, and the whole of it by the SDK's own client over standard input and output."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from mcp import Client, StdioServerParameters, stdio_client
from mcp.types import CallToolRequestParams, CallToolResult, TextContent

import stores
from commands import run
from opencode_monitor.cli.context import State
from opencode_monitor.cli.mcp import answers as answers_module
from opencode_monitor.cli.mcp.answers import Answers
from opencode_monitor.cli.mcp.server import _call
from opencode_monitor.cli.usage_report import NAMELESS_CALLS
from opencode_monitor.exports.privacy import hashed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

TOOLS = ["summary", "trend", "top_sessions", "session", "anomalies", "pricing_missing"]
PRIVATE = ("shop", "/home/", "cart", "fix", "round", "def total", "look around", "fork #1")
"""What the sample's prompts, answers, code, titles and paths are made of."""

LAST_DAY = datetime(2026, 9, 8, 20, tzinfo=UTC)


def tools_of(database: Path, *, tz: str = "UTC", **shown: bool) -> Answers:
    return Answers(State(database=str(database), tz=tz, wait="0.2s", quiet=True), **shown)


def result_of(answers: Answers, tool: str, **arguments: Any) -> CallToolResult:
    return _call(lambda: answers, CallToolRequestParams(name=tool, arguments=arguments))


def text_of(result: CallToolResult) -> str:
    (content,) = result.content
    assert isinstance(content, TextContent)
    return content.text


def ask(answers: Answers, tool: str, **arguments: Any) -> dict[str, Any]:
    """Return the answer of a tool, which says the same as text and as an object."""
    result = result_of(answers, tool, **arguments)
    assert not result.is_error, text_of(result)
    document: dict[str, Any] = json.loads(text_of(result))
    assert result.structured_content == document
    return document


def refused(answers: Answers, tool: str, **arguments: Any) -> str:
    result = result_of(answers, tool, **arguments)
    assert (result.is_error, result.structured_content) == (True, None)
    return text_of(result)


@pytest.fixture
def on_the_last_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it be the evening of the sample's last day."""
    monkeypatch.setattr(answers_module, "now", lambda: LAST_DAY)


class TestSummary:
    @pytest.mark.parametrize(("by", "grouping"), [("model", "model"), ("agent", "agent")])
    def test_summary_rows_and_totals_are_those_of_the_store(
        self, sample_database: Path, sample: stores.Store, by: str, grouping: str
    ) -> None:
        document = ask(tools_of(sample_database), "summary", last="all", by=by)

        assert {row[by]: (row["calls"], Decimal(row["cost_usd"])) for row in document["rows"] if row["calls"]} == {
            key: (sums[0], sums[6]) for key, sums in sample.truth[grouping].items()
        }
        assert (document["totals"]["calls"], document["totals"]["cost_usd"]) == (sample.total[0], str(sample.total[6]))
        assert (document["tz"], document["range"], document["cost"]) == ("UTC", {"since": None, "until": None}, "list")

    def test_summary_says_the_same_as_the_report(self, sample_database: Path) -> None:
        report = run("--db", sample_database, "--tz", "UTC", "models", "--last", "all", "--json").json

        document = ask(tools_of(sample_database), "summary", last="all", limit=1)

        assert document["totals"] == report["totals"]
        assert (document["warnings"], document["fees"]) == (report["warnings"], report["fees"])
        assert (len(document["rows"]), document["rows_left_out"]) == (1, len(report["rows"]) - 1)
        assert document["rows"][0].items() <= report["rows"][0].items()

    def test_summary_cost_that_is_not_known_is_null_and_counted(self, make_database: Callable[[stores.Store], Path]) -> None:
        store = stores.Store()
        stores.add_call(store, stores.add_session(store, stores.START_MS), stores.START_MS, model=stores.UNPRICED)

        document = ask(tools_of(make_database(store)), "summary", last="all")

        assert (document["totals"]["cost_usd"], document["totals"]["unpriced_calls"]) == (None, 1)
        assert document["warnings"][0].startswith("1 call has no price and is not in the cost")

    def test_summary_project_is_a_hash_unless_paths_may_be_told(self, sample_database: Path) -> None:
        (hidden,) = ask(tools_of(sample_database), "summary", last="all", by="project")["rows"]
        (told,) = ask(tools_of(sample_database, show_paths=True), "summary", last="all", by="project")["rows"]

        assert (hidden["project"], told["project"]) == (hashed("shop"), "shop")


@pytest.mark.usefixtures("on_the_last_day")
class TestTrend:
    def test_trend_days_are_those_of_the_store_and_the_idle_ones(self, sample_database: Path, sample: stores.Store) -> None:
        document = ask(tools_of(sample_database), "trend", since="2026-08-30", until="2026-09-09")

        by_day = {row["period"]: Decimal(row["cost_usd"]) for row in document["rows"]}
        days = [f"2026-09-0{day}" for day in range(1, 9)]  # before the first call nothing is known
        assert list(by_day) == days
        assert by_day == {day: sample.truth["day"].get(day, (0,) * 7)[6] for day in days}
        assert [row["is_complete"] for row in document["rows"]] == [True] * 7 + [False]
        assert document["range"] == {"since": "2026-08-30T00:00:00+00:00", "until": "2026-09-10T00:00:00+00:00"}

    def test_trend_week_that_the_range_cuts_is_not_complete(self, sample_database: Path) -> None:
        document = ask(tools_of(sample_database, tz="Europe/Berlin"), "trend", every="week", since="2026-08-29", until="2026-09-08")

        assert [(row["period"], row["is_complete"]) for row in document["rows"]] == [
            ("2026-08-31", True),
            ("2026-09-07", False),
        ]
        assert document["tz"] == "Europe/Berlin"

    def test_trend_month_by_default_looks_a_year_back(self, sample_database: Path) -> None:
        document = ask(tools_of(sample_database), "trend", every="month")

        assert document["range"]["since"] == "2025-09-09T00:00:00+00:00"
        assert [row["period"] for row in document["rows"]] == ["2026-09-01"]

    @pytest.mark.parametrize("last", ["all", "2d"])
    def test_trend_without_calls_says_nothing_of_any_day(self, duckdb_at_head: Path, last: str) -> None:
        document = ask(tools_of(duckdb_at_head), "trend", last=last)

        assert document["rows"] == []


class TestSessions:
    def test_top_sessions_are_the_most_expensive_without_titles(self, sample_database: Path, sample: stores.Store) -> None:
        most = sorted(sample.truth["session"].items(), key=lambda item: -item[1][6])[:3]

        document = ask(tools_of(sample_database), "top_sessions", last="all", limit=3)

        assert [(row["session_id"], Decimal(row["cost_usd"])) for row in document["rows"]] == [(key, sums[6]) for key, sums in most]
        assert all("title" not in row and row["project"] == hashed("shop") for row in document["rows"])

    def test_top_sessions_titles_are_told_where_they_may_be(self, sample_database: Path) -> None:
        document = ask(tools_of(sample_database, show_titles=True), "top_sessions", last="all", sort="started")

        assert {row["title"] for row in document["rows"]} == {"Fix the cart", "Fix the cart (fork #1)", "look around (@general subagent)"}

    def test_session_sums_are_its_own_and_those_with_sub_agents(self, sample_database: Path, sample: stores.Store) -> None:
        child = next(session for session in sample.sessions if "parentID" in session)
        own, of_child = (sample.truth["session"][key][6] for key in (child["parentID"], child["id"]))

        document = ask(tools_of(sample_database), "session", session_id=child["parentID"], limit=2)

        totals = document["totals"]
        assert (Decimal(totals["own"]["cost_usd"]), Decimal(totals["with_sub_agents"]["cost_usd"])) == (own, own + of_child)
        assert (totals["session_id"], totals["sub_agent_sessions"], "title" in totals) == (child["parentID"], 1, False)
        assert document["tools"] == [{"tool": "read", "calls": totals["own"]["calls"], "errors": 0}]
        costs = [Decimal(row["cost_usd"]) for row in document["rows"]]
        assert (costs, len(costs)) == (sorted(costs, reverse=True), 2)
        assert document["rows_left_out"] + 2 == totals["messages"] - 1

    def test_session_calls_whose_model_is_not_stored_are_sent_to_no_price_list(self, make_database: Callable[[stores.Store], Path]) -> None:
        store = stores.Store()
        session = stores.add_session(store, stores.START_MS)
        stores.add_call(store, session, stores.START_MS, model=stores.UNPRICED)
        database = make_database(store)
        with duckdb.connect(str(database)) as connection:
            connection.execute("UPDATE messages SET model_id = NULL")

        document = ask(tools_of(database), "session", session_id=session["id"])

        assert document["warnings"][0] == f"1 {NAMELESS_CALLS[0]}"

    def test_session_beginning_of_several_ids_is_refused_as_on_the_command_line(self, sample_database: Path) -> None:
        told = run("--db", sample_database, "session", "ses_").stderr

        assert f"opencode-monitor: error: {refused(tools_of(sample_database), 'session', session_id='ses_')}\n" == told


class TestAnomalies:
    @pytest.fixture
    def spiky(self, make_database: Callable[[stores.Store], Path], monkeypatch: pytest.MonkeyPatch) -> Path:
        """A database with three even weeks and one day that cost a hundred times as much."""
        store = stores.Store()
        stores.add_project(store)
        for day in range(22):
            at = stores.START_MS + day * stores.DAY_MS
            session = stores.add_session(store, at, title=f"Secret {day}")
            stores.add_call(store, session, at, buckets=(1000, 0, 0, 100 * (100 if day == 20 else 1), 0), steps=5)
        monkeypatch.setattr(answers_module, "now", lambda: datetime(2026, 9, 22, 20, tzinfo=UTC))
        return make_database(store)

    def test_anomalies_finding_has_its_impact_and_drivers(self, spiky: Path) -> None:
        document = ask(tools_of(spiky), "anomalies", min_usd="0.50")

        (row,) = document["rows"]
        assert (row["day"], row["actual_usd"], row["scope"], row["key"]) == ("2026-09-21", "0.765", "total", None)
        assert Decimal(row["impact_usd"]) == Decimal(row["actual_usd"]) - Decimal(row["expected_usd"])
        assert [driver["key"] for driver in row["drivers"]["project"]["rows"]] == [hashed("shop")]
        assert "Secret" not in json.dumps(document)
        assert (document["detector"], document["totals"]["findings"], document["min_usd"]) == ("robust", 1, "0.5")

    def test_anomalies_by_project_is_a_hash_unless_told(self, spiky: Path) -> None:
        (hidden,) = ask(tools_of(spiky), "anomalies", by="project", min_usd="0.50")["rows"]
        (told,) = ask(tools_of(spiky, show_paths=True, show_titles=True), "anomalies", by="project", min_usd="0.50")["rows"]

        assert (hidden["key"], told["key"]) == (hashed("shop"), "shop")
        assert told["drivers"]["session"]["rows"][0]["title"] == "Secret 20"

    def test_anomalies_too_little_history_is_a_warning(self, sample_database: Path) -> None:
        document = ask(tools_of(sample_database), "anomalies", last="all")

        assert document["rows"] == []
        assert any("not enough history" in warning for warning in document["warnings"])


def test_pricing_missing_names_the_models_and_their_calls(make_database: Callable[[stores.Store], Path], sample_database: Path) -> None:
    store = stores.Store()
    session = stores.add_session(store, stores.START_MS)
    for number in range(2):
        stores.add_call(store, session, stores.START_MS + number, model=stores.UNPRICED)

    document = ask(tools_of(make_database(store)), "pricing_missing")

    assert document["rows"] == [{"model": stores.UNPRICED, "unpriced_calls": 2}]
    assert document["totals"] == {"models": 1, "unpriced_calls": 2}
    assert ask(tools_of(sample_database), "pricing_missing")["warnings"] == []


@pytest.mark.parametrize(
    ("tool", "arguments", "told"),
    [
        ("forget", {}, f"there is no tool 'forget'. Use one of: {', '.join(TOOLS)}."),
        ("summary", {"model": "x"}, "there is no argument 'model'. There are: cost, last, since, until, by, limit."),
        ("pricing_missing", {"x": 1}, "there is no argument 'x'. There are: none."),
        ("top_sessions", {"limit": 0}, "limit: Input should be greater than or equal to 1."),
        ("session", {}, "session_id: Field required."),
        ("trend", {"since": "soon"}, "'soon' is not a date. Use 2026-10-01, 7d, today, or monday."),
        ("summary", {"last": "7d", "since": "today"}, "--last cannot be combined with --since or --until. Use one or the other."),
        ("anomalies", {"min_usd": "lots"}, "min_usd 'lots' is not an amount in USD. Use 5 or 0.50."),
        ("session", {"session_id": "\x1b[31m"}, "no session '\\x1b[31m'. List them: opencode-monitor sessions --last all"),
    ],
)
def test_call_what_makes_no_sense_is_one_line(sample_database: Path, tool: str, arguments: dict[str, Any], told: str) -> None:
    assert refused(tools_of(sample_database), tool, **arguments) == told


def test_call_database_that_fails_is_one_line(database: Path) -> None:
    import duckdb  # noqa: PLC0415 - this test alone

    with duckdb.connect(str(database)) as connection:
        connection.execute("DROP TABLE unrecorded_calls")

    told = refused(tools_of(database), "summary")

    assert re.fullmatch(r"the database failed: .*unrecorded_calls.*", told)


def test_call_hostile_names_steer_nothing(make_database: Callable[[stores.Store], Path]) -> None:
    store = stores.Store()
    session = stores.add_session(store, stores.START_MS, title="\x1b]0;owned\x07\u202e" + "x" * 500)
    stores.add_call(store, session, stores.START_MS, model="evil/\x1b[2J" + "m" * 10_000, agent="a\nb")

    shown = tools_of(make_database(store), show_titles=True, show_paths=True)
    texts = [text_of(result_of(shown, tool, last="all")) for tool in ("summary", "top_sessions")]
    texts.append(text_of(result_of(shown, "session", session_id="ses_")))

    assert all(text.isascii() and text.isprintable() and len(text) < 6_000 for text in texts)
    assert not any(code in text for text in texts for code in ("\\u001b", "\\u202e", "\\n", "x" * 200, "m" * 200))


@asynccontextmanager
async def connected(database: Path, *options: str) -> AsyncIterator[Client]:
    """Start the program and connect the SDK's client to it."""
    arguments = ["-W", "error", "-m", "opencode_monitor", "--db", str(database), "--tz", "UTC", "mcp", *options]
    server = StdioServerParameters(command=sys.executable, args=arguments, env=dict(os.environ))
    async with Client(stdio_client(server)) as client:
        yield client


def test_mcp_over_stdio_has_six_tools_that_only_read_and_tell_no_content(sample_database: Path, sample: stores.Store) -> None:
    async def talk() -> tuple[Any, dict[str, CallToolResult]]:
        async with connected(sample_database) as client:
            results = {name: await client.call_tool(name, {"last": "all"}) for name in TOOLS if name not in ("session", "pricing_missing")}
            results["session"] = await client.call_tool("session", {"session_id": sample.sessions[0]["id"]})
            results["pricing_missing"] = await client.call_tool("pricing_missing", {})
            return await client.list_tools(), results

    listed, results = asyncio.run(talk())

    assert [tool.name for tool in listed.tools] == TOOLS
    assert all(tool.annotations.read_only_hint and tool.description for tool in listed.tools)
    assert all(tool.input_schema["additionalProperties"] is False for tool in listed.tools)
    assert not any(result.is_error for result in results.values())
    said = " ".join(text_of(result) for result in results.values()).lower()
    assert [word for word in PRIVATE if word in said] == []
    summary = results["summary"].structured_content
    assert (summary["totals"]["cost_usd"], summary["tz"]) == (str(sample.total[6]), "UTC")
    assert sum(Decimal(row["cost_usd"]) for row in results["trend"].structured_content["rows"]) == sample.total[6]


def test_mcp_beside_an_import_waits_for_no_lock_and_names_who_has_one(tmp_path: Path, duckdb_at_head: Path, sample: stores.Store) -> None:
    stores.write_json(sample, tmp_path / "opencode")
    database = tmp_path / "monitor.duckdb"
    hold = f"import duckdb; c = duckdb.connect({str(database)!r}); print('holding', flush=True); input()"
    told: list[str] = []

    async def talk() -> list[Any]:
        async with connected(database) as client:
            told.append(text_of(await client.call_tool("summary", {})))
            shutil.copy(duckdb_at_head, database)
            calls = [(await client.call_tool("summary", {"last": "all"})).structured_content["totals"]["calls"]]
            # The server runs on, and the import has the file for itself.
            assert run("--db", database, "--wait", "0.2s", "import", tmp_path / "opencode").exit_code == 0
            calls.append((await client.call_tool("summary", {"last": "all"})).structured_content["totals"]["calls"])
            with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                assert process.stdout.readline() == b"holding\n"
                busy = await client.call_tool("summary", {})
                told.append(text_of(busy).replace(str(process.pid), "PID"))
                process.communicate(b"\n")
            return calls

    calls = asyncio.run(talk())

    assert calls == [0, sample.total[0]]
    assert told[0] == f"no database at {database}. Run: opencode-monitor db upgrade && opencode-monitor import"
    assert re.fullmatch(r"database is in use by 'python.*' \(PID PID\); waited 3 s\. Stop it or use --wait 5m\.", told[1])


def test_mcp_without_the_extra_names_what_to_install(sample_database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("opencode_monitor.cli.mcp.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mcp.server", None)

    outcome = run("--db", sample_database, "mcp")

    assert (outcome.exit_code, outcome.stdout) == (1, "")
    assert outcome.stderr == (
        "opencode-monitor: error: mcp needs the MCP SDK, version 2. Run: pip install 'opencode-monitor-analytics[mcp]'\n"
    )
