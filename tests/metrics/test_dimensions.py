"""Every dimension, filter and range against the same sums made by hand, on one small database that the examples only read."""

from __future__ import annotations

import shutil
import uuid
from collections import defaultdict
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.metrics.dimensions import CALL_DIMENSIONS, PART_DIMENSIONS, Calendar, WeekStart
from opencode_monitor.metrics.filters import Filters
from opencode_monitor.metrics.measures import MEASURES, TOKEN_MEASURES, Additivity, CostNumber
from opencode_monitor.metrics.time_range import TimeRange
from opencode_monitor.models import ErrorEvent, FileOperation, IngestedSession, KnownSource, Message, ToolCall
from opencode_monitor.pricing.book import seed_price_book
from opencode_monitor.repositories import AttributionRepository, CostRepository
from opencode_monitor.testing.builders import NOON, SONNET, add_call, add_project, add_session, settle
from properties import on_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from opencode_monitor.repositories import PartUsage, Usage

LOCAL = "ollama/qwen3-coder"
ROUTED = "openrouter/anthropic/claude-sonnet-4.5"
ZONES = ("UTC", "Europe/Berlin", "Asia/Kathmandu", "Pacific/Kiritimati", "America/St_Johns")
# Around both days on which Berlin changes its clocks, and around midnight where days begin early, late, and at a quarter to.
INSTANTS = (
    "2026-03-28T23:30",
    "2026-03-29T00:59",
    "2026-03-29T01:00",
    "2026-03-29T10:00",
    "2026-03-29T18:15",
    "2026-10-24T22:00",
    "2026-10-25T00:30",
    "2026-10-25T01:30",
    "2026-10-25T02:29",
    "2026-10-31T23:59",
    "2026-11-01T10:00",
    "2026-11-01T18:14",
)
SESSIONS = {"ses_1": ("shop", "laptop"), "ses_2": ("/home/dev/api", "laptop"), "ses_3": ("shop", "server")}
MODELS, AGENTS = (SONNET, ROUTED, LOCAL), ("build", "plan", "build")
TOOLS = ("bash", "read", "webfetch")
SUMMED = [name for name, measure in MEASURES.items() if measure.additivity is Additivity.SUM and measure.of_calls]


def fill(session: Session) -> list[dict[str, Any]]:
    """Write a dozen calls that differ in everything that they can be told apart by, and return them with their costs."""
    add_project(session, "prj_1", name="shop")
    add_project(session, "prj_2", worktree="/home/dev/api")
    for session_id, project, parent in (("ses_1", "prj_1", None), ("ses_2", "prj_2", None), ("ses_3", "prj_1", "ses_1")):
        add_session(session, session_id, project_id=project, parent_session_id=parent)
    for host in ("laptop", "server"):
        session.add(
            KnownSource(source_id=host, kind="sqlite", path="/x", host=host, username="dev", first_imported_at=NOON, last_imported_at=NOON)
        )
    # The server's copy of the first session is older: it counts as the laptop's.
    for source_id, session_id, rank in (("laptop", "ses_1", 2), ("server", "ses_1", 1), ("laptop", "ses_2", 2), ("server", "ses_3", 2)):
        session.add(
            IngestedSession(source_id=source_id, session_id=session_id, signature="", records=1, imported_at=NOON, source_rank=rank)
        )
    for number, at in enumerate(INSTANTS):
        message = add_call(
            session,
            f"msg_{number:02d}",
            list(SESSIONS)[number % 3],
            model_id=MODELS[number // 2 % 3],
            agent=AGENTS[number // 3 % 3],
            created_at=datetime.fromisoformat(at).replace(tzinfo=UTC),
            steps=((number + 1, 10 * number, 5, 7 * number + 3, number), (100 + number, 0, 0, 11, 0)),
            written=((3, 1 + number), (2,)),
            tools=((TOOLS[number % 3],), (TOOLS[number % 2],)),
            reported_cost_usd=Decimal(number) / 1000 if number % 4 else None,
        )
        if number == 11:
            message.copied_from = "msg_00"
    for number, call in enumerate(session.query(ToolCall).order_by(ToolCall.part_id)):
        common = {"part_id": call.part_id, "session_id": call.session_id, "created_at": call.created_at}
        if call.tool_name == "read":
            for place in range(1 + number % 2):
                session.add(FileOperation(file_op_id=f"{call.part_id}:{place}", **common, file_path=f"/f{place}", operation="read"))
        if number % 5 == 0:
            session.add(ErrorEvent(error_id=call.part_id, **common, error_data={}, error_category="timeout", error_severity="low"))
    seed_price_book(session.connection(), now=NOON)
    settle(session)
    rows = session.query(Message).filter(Message.copied_from.is_(None)).order_by(Message.message_id)
    return [
        {
            "at": row.created_at,
            "model": row.model_id,
            "agent": row.agent,
            "session": row.session_id,
            "calls": 2,
            **{name: getattr(row, name) for name in TOKEN_MEASURES},
            "cost_usd": row.message_cost_usd,
            "reported_cost_usd": row.reported_cost_usd,
        }
        for row in rows
    ]


@contextmanager
def database_of_the_module(request: pytest.FixtureRequest, directory: Path) -> Iterator[str]:
    """Name a database at head, of the engine that the fixture's parameter says."""
    if request.param == "duckdb":
        yield f"duckdb:///{shutil.copy(request.getfixturevalue('duckdb_at_head'), directory / 'monitor.duckdb')}"
        return
    server: str = request.getfixturevalue("postgres_server")
    template: str = request.getfixturevalue("postgresql_at_head")
    name = f"calls_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY".encode())
        yield server.replace("/postgres?", f"/{name}?")
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(scope="module", params=["duckdb", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """Open a session on the calls, once on each engine: the tests only read them."""
    with database_of_the_module(request, tmp_path_factory.mktemp("calls")) as url:
        engine = create_database_engine(url)
        with Session(engine) as session:
            session.info["calls"] = fill(session)
            yield session
        engine.dispose()


def key(call: dict[str, Any], name: str, tz: str, week_start: WeekStart) -> Any:
    """Say by hand what a call is told apart by."""
    local = call["at"].astimezone(ZoneInfo(tz))
    day: date = local.date()
    provider, *rest = call["model"].split("/")
    return {
        "day": day,
        "week": day - timedelta(days=(day.weekday() + (week_start == "sunday")) % 7),
        "month": day.replace(day=1),
        "hour": call["at"] - timedelta(minutes=local.minute, seconds=local.second),
        "model": call["model"],
        "provider": provider,
        "vendor": rest[0] if len(rest) > 1 else provider,
        "agent": call["agent"],
        "project": SESSIONS[call["session"]][0],
        "session": call["session"],
        "machine": SESSIONS[call["session"]][1],
    }[name]


def matches(call: dict[str, Any], filters: Filters) -> bool:
    model = call["model"]
    values = {"provider": model.split("/")[0], "agent": call["agent"], "project": SESSIONS[call["session"]][0]}
    for kind, patterns in filters.given().items():
        if kind == "session":
            found = call["session"] in patterns
        elif kind == "model":
            found = any(fnmatchcase(model if "/" in pattern else model.split("/", 1)[1], pattern) for pattern in patterns)
        else:
            found = any(fnmatchcase(values[kind], pattern) for pattern in patterns)
        if not found:
            return False
    return True


def known(values: list[Decimal | None]) -> Decimal | None:
    """Sum up what is known; None where there is something and nothing of it is."""
    some = [value for value in values if value is not None]
    return None if values and not some else sum(some, Decimal(0))


FILTERS = st.builds(
    Filters,
    model=st.sampled_from([(), (), ("claude-*",), (SONNET, LOCAL), ("openrouter/*",), ("nothing",)]),
    provider=st.sampled_from([(), (), ("anthropic",), ("o*",)]),
    agent=st.sampled_from([(), (), ("plan",)]),
    project=st.sampled_from([(), (), ("shop",), ("*/api", "s?op")]),
    session=st.sampled_from([(), (), ("ses_2", "ses_3")]),
)
BOUNDS = st.sampled_from([None, *(datetime.fromisoformat(at).replace(tzinfo=UTC) for at in INSTANTS)])
RANGES = st.builds(TimeRange, BOUNDS, BOUNDS)
CALENDARS = st.builds(Calendar, tz=st.sampled_from(ZONES), week_start=st.sampled_from(["monday", "sunday"]))


@on_database(40)
@given(data=st.data())
def test_by_any_dimensions_ranges_zones_and_filters_is_what_the_calls_sum_to(session: Session, data: st.DataObject) -> None:
    calls: list[dict[str, Any]] = session.info["calls"]
    dimensions = data.draw(st.lists(st.sampled_from(sorted(CALL_DIMENSIONS)), min_size=1, max_size=2, unique=True))
    if len(set(dimensions) & {"day", "week", "month", "hour"}) > 1:
        dimensions = dimensions[:1]
    time_range, filters, calendar = data.draw(RANGES), data.draw(FILTERS), data.draw(CALENDARS)
    costs = CostRepository(session)

    rows = costs.by(*dimensions, time_range=time_range, filters=filters, calendar=calendar)
    total = costs.total(time_range, filters=filters)

    expected = defaultdict(list)
    for call in calls:
        within = (time_range.start is None or call["at"] >= time_range.start) and (time_range.end is None or call["at"] < time_range.end)
        if within and matches(call, filters):
            expected[tuple(key(call, name, calendar.tz, calendar.week_start) for name in dimensions)].append(call)
    keys = [CALL_DIMENSIONS[name].key for name in dimensions]
    found = {tuple(getattr(row, name) for name in keys): row for row in rows if row.calls}
    assert {
        group: (row.calls, row.input_tokens, row.output_tokens, row.cost_usd, row.reported_cost_usd) for group, row in found.items()
    } == {
        group: (
            sum(call["calls"] for call in some),
            sum(call["input_tokens"] for call in some),
            sum(call["output_tokens"] for call in some),
            known([call["cost_usd"] for call in some]),
            known([call["reported_cost_usd"] for call in some]),
        )
        for group, some in expected.items()
    }
    assert_sums(rows, total)


@on_database(16)
@given(data=st.data())
def test_by_any_dimensions_of_parts_sums_to_their_calls(session: Session, data: st.DataObject) -> None:
    part = data.draw(st.sampled_from(sorted(PART_DIMENSIONS)))
    other = data.draw(st.sampled_from([None, *sorted(CALL_DIMENSIONS)]))
    time_range, filters, calendar = data.draw(RANGES), data.draw(FILTERS), data.draw(CALENDARS)
    shares = AttributionRepository(session)

    rows = shares.by(part, *([other] if other else []), time_range=time_range, filters=filters, calendar=calendar)

    total = CostRepository(session).total(time_range, filters=filters)
    for name in (*TOKEN_MEASURES, *(number.field for number in CostNumber)):
        assert sum((getattr(row, name) or 0 for row in rows), Decimal(0)) == (getattr(total, name) or 0), name
    whole = shares.total(time_range, filters=filters)
    assert (whole.input_tokens, whole.cost_usd or 0) == (total.input_tokens, total.cost_usd or 0)


def assert_sums(rows: list[Usage], total: Usage) -> None:
    for name in SUMMED:
        assert sum(getattr(row, name) for row in rows) == getattr(total, name), name
    for number in CostNumber:
        assert sum((getattr(row, number.field) or Decimal(0) for row in rows), Decimal(0)) == (getattr(total, number.field) or 0), number


@pytest.mark.parametrize("tz", ZONES)
def test_by_hour_both_hours_of_a_repeated_one_are_rows_of_their_own(session: Session, tz: str) -> None:
    night = TimeRange(datetime(2026, 10, 25, tzinfo=UTC), datetime(2026, 10, 25, 2, tzinfo=UTC))

    rows: list[Any] = list(CostRepository(session).by("hour", time_range=night, calendar=Calendar(tz=tz)))

    # 00:30 and 01:30 UTC: in Berlin both are 02:30.
    assert [row.calls for row in rows] == [2, 2]
    assert rows[1].period - rows[0].period == timedelta(hours=1)


def test_by_with_a_tool_counts_the_parts_that_are_its_calls(session: Session) -> None:
    shares, filters = AttributionRepository(session), Filters(tool=("ba*",))
    (bash,) = (row for row in shares.by_tool() if row.tool == "bash")

    by_model: list[PartUsage] = list(shares.by("model", filters=filters, sort="cost"))
    total = shares.total(filters=filters)

    assert (total.parts, total.input_tokens, total.cost_usd) == (bash.parts, bash.input_tokens, bash.cost_usd)
    assert sum(row.parts for row in by_model) == bash.parts == bash.calls
    assert {row.model: row.unpriced_parts for row in by_model}[LOCAL] == bash.unpriced_parts > 0  # type: ignore[attr-defined] # made for its dimensions


def test_by_limit_and_sort_choose_the_most_expensive(session: Session) -> None:
    costs = CostRepository(session)

    (most,) = costs.by("model", sort="cost", limit=1)
    least: list[Any] = list(costs.by("model", sort="cost"))

    assert most == least[0]
    assert (least[-1].model, least[-1].cost_usd) == (LOCAL, None)
