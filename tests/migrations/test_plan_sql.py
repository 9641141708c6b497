"""The queries of the project's plan, word for word, on both engines: what the plan promised must run as it stands there.

The plan's other SQL makes tables and columns; `docs/schema.md` tells where ours differ.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.db.migrate import upgrade
from opencode_monitor.ingest.settle import backfill
from opencode_monitor.pricing.book import add_periods
from opencode_monitor.pricing.catalog import user_period
from opencode_monitor.testing.builders import NOON, SONNET, add_call, add_session

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

# "Analytics Queries"
DAILY_COST_TRENDS = """
-- Daily cost trends
SELECT
    DATE(created_at) as date,
    SUM(total_cost_usd) as daily_cost,
    SUM(total_input_tokens + total_output_tokens) as daily_tokens
FROM session_resource_metrics
GROUP BY DATE(created_at)
ORDER BY date DESC;
"""
COST_BY_MODEL = """
-- Cost by model
SELECT
    m.model_name,
    COUNT(*) as sessions,
    SUM(srm.total_cost_usd) as total_cost,
    AVG(srm.total_cost_usd) as avg_cost_per_session
FROM session_resource_metrics srm
JOIN sessions s ON srm.session_id = s.session_id
JOIN models m ON s.model_id = m.model_id
GROUP BY m.model_name
ORDER BY total_cost DESC;
"""
COST_ANOMALIES = """
-- Cost anomaly detection
WITH daily_costs AS (
    SELECT DATE(created_at) as date, SUM(total_cost_usd) as cost
    FROM session_resource_metrics
    GROUP BY DATE(created_at)
),
baseline AS (
    SELECT AVG(cost) as avg_cost, STDDEV(cost) as stddev_cost
    FROM daily_costs
)
SELECT dc.date, dc.cost, b.avg_cost
FROM daily_costs dc, baseline b
WHERE dc.cost > b.avg_cost + (2 * b.stddev_cost);  -- Anomaly: >2 std dev
"""

# "Data Integrity Validation"
COUNTS_MATCH = """
-- Verify counts match
SELECT
    COUNT(*) as old_count,
    (SELECT COUNT(*) FROM parts) as new_core_count,
    (SELECT COUNT(*) FROM tool_calls) as tool_count,
    (SELECT COUNT(*) FROM file_operations) as file_count,
    (SELECT COUNT(*) FROM errors) as error_count
FROM parts_legacy;
"""
NO_DATA_LOSS = """
-- Verify no data loss
SELECT
    pl.part_id,
    CASE
        WHEN p.part_id IS NULL THEN 'MISSING IN NEW SCHEMA'
        ELSE 'OK'
    END as status
FROM parts_legacy pl
LEFT JOIN parts p ON pl.part_id = p.part_id
WHERE p.part_id IS NULL;
"""

# "Query Migration Examples"
OLD_TOOL_CALLS = """
-- OLD: Get tool calls with execution time
SELECT part_id, tool_name, execution_time_ms
FROM parts
WHERE part_type = 'tool_call';
"""
NEW_TOOL_CALLS = """
-- NEW: Same query with normalized schema
SELECT p.part_id, tc.tool_name, tc.execution_time_ms
FROM parts p
JOIN tool_calls tc ON p.part_id = tc.part_id;
"""
OLD_ERRORS = """
-- OLD: Get errors by category
SELECT error_category, COUNT(*) as count
FROM parts
WHERE part_type = 'error'
GROUP BY error_category;
"""
NEW_ERRORS = """
-- NEW: Same query
SELECT error_category, COUNT(*) as count
FROM errors
GROUP BY error_category;
"""

# "Cost Analytics Queries"
DAILY_SPEND = """
-- Daily spend
SELECT DATE(created_at) as date, SUM(total_cost_usd) as cost
FROM session_resource_metrics
GROUP BY DATE(created_at);
"""
TOP_SESSIONS = """
-- Top 10 expensive sessions
SELECT session_id, total_cost_usd, total_input_tokens + total_output_tokens as tokens
FROM session_resource_metrics
ORDER BY total_cost_usd DESC
LIMIT 10;
"""
SHORT_COST_BY_MODEL = """
-- Cost by model
SELECT m.model_name, SUM(srm.total_cost_usd) as total_cost
FROM session_resource_metrics srm
JOIN sessions s ON srm.session_id = s.session_id
JOIN models m ON s.model_id = m.model_id
GROUP BY m.model_name;
"""

GPT = "openai/gpt-5"
UNPRICED = "ollama/qwen3-coder-local"
PRICES = [
    user_period("anthropic", "claude-sonnet-4-5", input=3, output=15),
    user_period("openai", "gpt-5", input="1.25", output=10),
]
PART_COLUMNS = (
    *("part_id", "session_id", "part_type", "content", "tool_name", "tool_status", "execution_time_ms", "file_path", "file_operation"),
    *("error_data", "error_category"),
)


def rows(connection: sa.Connection, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in connection.exec_driver_sql(sql)]


def add_work(
    session: Session,
    session_id: str,
    created_at: datetime = NOON,
    *,
    input_tokens: int = 100_000,
    output_tokens: int = 10_000,
    model_id: str = SONNET,
) -> None:
    """Add a session of one call; of 100,000 and 10,000 tokens, Sonnet costs 0.30 + 0.15 USD and GPT-5 0.125 + 0.10."""
    add_session(session, session_id, created_at=created_at).model_id = model_id
    steps = ((input_tokens, 0, 0, output_tokens, 0),)
    add_call(session, f"msg_{session_id}", session_id, model_id=model_id, created_at=created_at, steps=steps)


def settle(session: Session) -> sa.Connection:
    """Price and aggregate what was added."""
    connection = session.connection()
    add_periods(connection, PRICES, now=NOON)
    backfill(connection, now=NOON)
    return connection


def part(part_id: str, part_type: str, **values: Any) -> dict[str, Any]:
    """Build a row of the old table, NULL where nothing is said."""
    return dict.fromkeys(PART_COLUMNS) | {"part_id": part_id, "part_type": part_type, "session_id": "ses_1"} | values


OLD_PARTS = [
    part("prt_1", "tool_call", tool_name="bash", execution_time_ms=12.5, tool_status="success"),
    part("prt_2", "tool_call", tool_name="edit", execution_time_ms=40.0, file_path="/a.py", file_operation="edit"),
    part("prt_3", "tool_call", tool_name="bash", tool_status="error", error_data='{"code": 1}', error_category="timeout"),
    part("prt_4", "text", content="hello"),
    part("prt_5", "error", error_data='{"code": 2}', error_category="network"),
    part("prt_6", "error", error_data='{"code": 3}', error_category="timeout"),
    part("prt_7", "file_operation", file_path="/b.py", file_operation="read"),
    part("prt_8", "wormhole", session_id=None, content="of no known type, and of no session"),
]


def load_old_parts(database_url: str, revision: str) -> sa.Engine:
    """Make a database at a revision before the denormalisation, with rows in its one table."""
    upgrade(database_url, revision)
    engine = create_database_engine(database_url)
    columns = ", ".join(PART_COLUMNS)
    marks = ", ".join(f":{name}" for name in PART_COLUMNS)
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO sessions (session_id) VALUES ('ses_1')"))
        connection.execute(sa.text(f"INSERT INTO parts ({columns}) VALUES ({marks})"), OLD_PARTS)
    return engine


def test_daily_cost_trends_sessions_on_two_days_sums_each_utc_day(session: Session) -> None:
    add_work(session, "ses_1", datetime(2026, 5, 4, 0, 0, tzinfo=UTC))
    add_work(session, "ses_2", datetime(2026, 5, 4, 23, 59, 59, tzinfo=UTC))
    add_work(session, "ses_3", datetime(2026, 5, 5, 0, 0, tzinfo=UTC), model_id=GPT)
    add_work(session, "ses_4", datetime(2026, 5, 5, 1, 0, tzinfo=UTC), model_id=UNPRICED)
    connection = settle(session)

    found = rows(connection, DAILY_COST_TRENDS)

    assert found == [(date(2026, 5, 5), Decimal("0.225"), 220_000), (date(2026, 5, 4), Decimal("0.9"), 220_000)]


def test_cost_by_model_two_models_gives_sum_and_average_the_dearest_first(session: Session) -> None:
    add_work(session, "ses_1", model_id=GPT)
    add_work(session, "ses_2")
    add_work(session, "ses_3", output_tokens=0)
    connection = settle(session)

    found = rows(connection, COST_BY_MODEL)

    assert [row[:3] for row in found] == [("claude-sonnet-4-5", 2, Decimal("0.75")), ("gpt-5", 1, Decimal("0.225"))]
    assert [float(row[3]) for row in found] == pytest.approx([0.375, 0.225])


def test_cost_anomaly_detection_one_dear_day_finds_it(session: Session) -> None:
    for day in range(9):
        add_work(session, f"ses_{day}", NOON + timedelta(days=day), input_tokens=1_000 + day, output_tokens=0)
    add_work(session, "ses_dear", NOON + timedelta(days=9), input_tokens=100_000, output_tokens=0)
    connection = settle(session)

    ((day_found, cost, average),) = rows(connection, COST_ANOMALIES)

    assert (day_found, cost) == (date(2026, 5, 13), Decimal("0.3"))
    assert float(average) == pytest.approx((sum(0.003 + day * 0.000003 for day in range(9)) + 0.3) / 10)


def test_cost_anomaly_detection_ordinary_days_finds_none(session: Session) -> None:
    for day in range(10):
        add_work(session, f"ses_{day}", NOON + timedelta(days=day), input_tokens=1_000 * (1 + day % 3))
    connection = settle(session)

    found = rows(connection, COST_ANOMALIES)

    assert found == []


def test_cost_anomaly_detection_a_single_day_finds_none(session: Session) -> None:
    add_work(session, "ses_1")
    connection = settle(session)

    found = rows(connection, COST_ANOMALIES)

    assert found == []


def test_integrity_validation_after_the_upgrade_finds_nothing_and_then_the_row_that_is_taken_away(empty_database_url: str) -> None:
    engine = load_old_parts(empty_database_url, "resource_metrics")
    upgrade(empty_database_url)

    with engine.connect() as connection:
        counts = rows(connection, COUNTS_MATCH)
        missing = rows(connection, NO_DATA_LOSS)
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM parts WHERE part_id = 'prt_8'")
    with engine.connect() as connection:
        counts_then = rows(connection, COUNTS_MATCH)
        missing_then = rows(connection, NO_DATA_LOSS)
    engine.dispose()

    assert (counts, missing) == ([(8, 8, 3, 2, 3)], [])
    assert (counts_then, missing_then) == ([(8, 7, 3, 2, 3)], [("prt_8", "MISSING IN NEW SCHEMA")])


def test_query_migration_examples_before_and_after_the_upgrade_answer_alike(empty_database_url: str) -> None:
    engine = load_old_parts(empty_database_url, "baseline")
    with engine.connect() as connection:
        old_tool_calls, old_errors = rows(connection, OLD_TOOL_CALLS), rows(connection, OLD_ERRORS)
    upgrade(empty_database_url)

    with engine.connect() as connection:
        new_tool_calls, new_errors = rows(connection, NEW_TOOL_CALLS), rows(connection, NEW_ERRORS)
    engine.dispose()

    assert sorted(old_tool_calls) == sorted(new_tool_calls) == [("prt_1", "bash", 12.5), ("prt_2", "edit", 40.0), ("prt_3", "bash", None)]
    # But for this: the old query saw only the rows whose type is "error"; `errors` has those of tool calls too, here one more timeout.
    assert sorted(old_errors) == [("network", 1), ("timeout", 1)]
    assert sorted(new_errors) == [("network", 1), ("timeout", 2)]


def test_daily_spend_sessions_on_two_days_sums_each_day(session: Session) -> None:
    add_work(session, "ses_1")
    add_work(session, "ses_2", model_id=GPT)
    add_work(session, "ses_3", NOON + timedelta(days=1))
    connection = settle(session)

    found = rows(connection, DAILY_SPEND)

    assert sorted(found) == [(date(2026, 5, 4), Decimal("0.675")), (date(2026, 5, 5), Decimal("0.45"))]


def test_top_sessions_twelve_sessions_gives_the_ten_dearest_in_order(session: Session) -> None:
    for number in range(12):
        add_work(session, f"ses_{number}", input_tokens=1_000 * (number + 1), output_tokens=0)
    connection = settle(session)

    found = rows(connection, TOP_SESSIONS)

    assert found == [(f"ses_{number}", Decimal("0.003") * (number + 1), 1_000 * (number + 1)) for number in range(11, 1, -1)]


def test_top_sessions_unknown_cost_stands_where_the_engine_puts_null(session: Session) -> None:
    add_work(session, "ses_1")
    add_work(session, "ses_unpriced", model_id=UNPRICED)
    connection = settle(session)

    found = rows(connection, TOP_SESSIONS)

    # An unknown cost is NULL, not the plan's 0, and the query does not say where NULL belongs; `NULLS LAST` would.
    priced, unpriced = ("ses_1", Decimal("0.45"), 110_000), ("ses_unpriced", None, 110_000)
    assert found == ([priced, unpriced] if connection.dialect.name == "duckdb" else [unpriced, priced])


def test_cost_by_model_short_form_two_models_sums_each(session: Session) -> None:
    add_work(session, "ses_1")
    add_work(session, "ses_2")
    add_work(session, "ses_3", model_id=GPT)
    connection = settle(session)

    found = rows(connection, SHORT_COST_BY_MODEL)

    assert sorted(found) == [("claude-sonnet-4-5", Decimal("0.9")), ("gpt-5", Decimal("0.225"))]
