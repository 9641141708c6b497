"""A loaded database of the old schema goes up and down again by the commands that its owner types, and nothing of it is lost."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

import forked
from commands import run
from old_parts import COLUMNS, JSON_COLUMNS, load_many, load_rows, row
from opencode_monitor.db.checksum import checksum
from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.db.migrate import downgrade, upgrade
from opencode_monitor.integrity.fingerprint import differences, fingerprint

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence

    from opencode_monitor.db.checksum import Checksum

ROOT = Path(__file__).parents[2]
OLD_COLUMNS = COLUMNS[:29]
# But for session_stats, which the program computes anew when it has reached head, and stubs, which stay as long as it counts their parts.
OLD_TABLES = {
    "projects": "projects",
    "models": "models",
    "messages": "messages",
    "sessions": "(SELECT * FROM sessions WHERE title <> '(recovered: parts without a session)')",
}
# With `--full`, and without: divided by three, as a text of two characters that are three bytes.
MEGABYTES = {True: 50_000_001, False: 5_000_001}

# What a program adds after the upgrade: a hundred messages in a new session, each with a start, a text, a tool call and a finish.
NEW_WORK = """
    INSERT INTO sessions (session_id, title) VALUES ('ses_new', 'written since');
    INSERT INTO messages (message_id, session_id, role)
    SELECT 'msg_new_' || i, 'ses_new', 'assistant' FROM generate_series(1, 100) AS numbers (i);
    INSERT INTO parts (part_id, session_id, message_id, part_type, sequence_number, created_at)
    SELECT 'prt_new_' || i || '_' || part_type, 'ses_new', 'msg_new_' || i, part_type, 4 * i + place, TIMESTAMP '2026-06-01 00:00:00'
    FROM generate_series(1, 100) AS numbers (i),
         (VALUES (1, 'step_start'), (2, 'text'), (3, 'tool_call'), (4, 'step_finish')) AS kinds (place, part_type);
    INSERT INTO text_messages (message_id, part_id, session_id, role, content)
    SELECT part_id, part_id, session_id, 'assistant', 'said ' || part_id
    FROM parts WHERE session_id = 'ses_new' AND part_type = 'text';
    INSERT INTO tool_calls (tool_call_id, part_id, session_id, tool_name, tool_args)
    SELECT part_id, part_id, session_id, 'bash', CAST('[1,  2]' AS JSON)
    FROM parts WHERE session_id = 'ses_new' AND part_type = 'tool_call';
    INSERT INTO step_events (step_id, part_id, session_id, message_id, event, output_tokens, reported_cost_usd)
    SELECT part_id, part_id, session_id, message_id, 'finish', 7, 0.000000000001
    FROM parts WHERE session_id = 'ses_new' AND part_type = 'step_finish'
"""
NEW_WORK_IN_OLD_TABLE = """
    SELECT part_type, count(*), count(DISTINCT message_id), count(content), min(content), max(tool_name), max(CAST(tool_args AS TEXT)),
           sum(tokens_output), max(cost_usd)
    FROM parts WHERE session_id = 'ses_new' GROUP BY part_type ORDER BY part_type
"""


def command(program: str, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENCODE_MONITOR_")}
    return forked.run(program, *arguments, cwd=ROOT, env=environment | {"OPENCODE_MONITOR_DATABASE_URL": url})


def load(engine: sa.Engine, parts: int, *, possible_tokens: bool) -> None:
    """Fill a database at baseline, and put a copy of the table beside it."""
    with engine.begin() as connection:
        load_many(connection, parts, OLD_COLUMNS, possible_tokens=possible_tokens)
        connection.exec_driver_sql("CREATE TABLE kept AS SELECT * FROM parts")


def old_parts(engine: sa.Engine) -> Checksum:
    with engine.connect() as connection:
        return checksum(connection, "parts", ["part_id"], OLD_COLUMNS)


def others(engine: sa.Engine) -> dict[str, Checksum]:
    """Return the checksums of the old schema's other tables, which the move has to leave alone."""
    with engine.connect() as connection:
        inspector = sa.inspect(connection)
        return {
            table: checksum(
                connection,
                relation,
                inspector.get_pk_constraint(table)["constrained_columns"],
                [column["name"] for column in inspector.get_columns(table)],
            )
            for table, relation in OLD_TABLES.items()
        }


def new_tables(engine: sa.Engine) -> dict[str, Checksum]:
    with engine.connect() as connection:
        found = fingerprint(connection, leave_out=frozenset({"updated_at", "recorded_at", "read_at", "total_execution_time_ms"}))
    return {table: value for table, value in found.items() if table != "migration_audit"}


def missing(engine: sa.Engine, left: str, right: str) -> Sequence[str]:
    """Let the engine itself compare: what the one table holds and the other does not."""
    texts = ", ".join(f"CAST({name} AS TEXT)" if name in JSON_COLUMNS else name for name in OLD_COLUMNS)
    with engine.connect() as connection:
        return connection.scalars(
            sa.text(f"SELECT part_id FROM (SELECT {texts} FROM {left} EXCEPT SELECT {texts} FROM {right}) d ORDER BY 1 LIMIT 20")
        ).all()


@pytest.mark.sized
@pytest.mark.long
def test_alembic_on_many_odd_parts_goes_up_verifies_and_comes_down_unchanged(empty_database_url: str, many: int) -> None:
    url = empty_database_url
    upgrade(url, "baseline")
    engine = create_database_engine(url, wait_seconds=5)
    load(engine, many, possible_tokens=True)
    before, others_before = old_parts(engine), others(engine)

    up = command("alembic", url, "upgrade", "head")
    verified = command("opencode-monitor", url, "db", "verify")
    first = new_tables(engine)
    down = command("alembic", url, "downgrade", "baseline")
    after, others_after = old_parts(engine), others(engine)
    lost, added = missing(engine, "kept", "parts"), missing(engine, "parts", "kept")
    up_again = command("alembic", url, "upgrade", "head")
    again = new_tables(engine)
    with engine.begin() as connection:
        for statement in NEW_WORK.split(";"):
            connection.execute(sa.text(statement))
    downgrade(url, "baseline")
    lost_then, added_then = missing(engine, "kept", "parts"), missing(engine, "parts", "kept")
    with engine.connect() as connection:
        written_since = [tuple(found) for found in connection.execute(sa.text(NEW_WORK_IN_OLD_TABLE))]
    engine.dispose()

    runs = (up, verified, down, up_again)
    assert [one.returncode for one in runs] == [0, 0, 0, 0], "".join(one.stdout + one.stderr for one in runs)
    assert before.rows == first["parts"].rows == many
    assert before.differences(after) == []
    assert others_after == others_before
    assert (lost, added) == ([], [])
    assert differences(first, again) == []
    assert (lost_then, len(added_then)) == ([], 20)
    assert written_since == [
        ("step_finish", 100, 100, 0, None, None, None, 700, 1e-12),
        ("step_start", 100, 100, 0, None, None, None, None, None),
        ("text", 100, 100, 100, "said prt_new_100_text", None, None, None, None),
        ("tool_call", 100, 100, 0, None, "bash", "[1,  2]", None, None),
    ]


def test_verify_after_the_upgrade_names_impossible_tokens_and_nothing_else(empty_database_url: str) -> None:
    url = empty_database_url
    upgrade(url, "baseline")
    engine = create_database_engine(url, wait_seconds=5)
    load(engine, 3_000, possible_tokens=False)
    before = old_parts(engine)
    upgrade(url)
    with engine.connect() as connection:
        impossible = connection.execute(
            sa.text(
                "SELECT count(CASE WHEN tokens_output < 0 AND part_type LIKE 'step%' THEN 1 END),"
                " count(CASE WHEN tokens_cache_read > 1000000000000 AND part_type LIKE 'step%' THEN 1 END),"
                " count(CASE WHEN thinking_tokens < 0 AND part_type = 'thinking' THEN 1 END) FROM kept"
            )
        ).one()

    verified = run("--db", url, "db", "verify", "--json")

    downgrade(url, "baseline")
    after = old_parts(engine)
    engine.dispose()
    assert verified.exit_code == 3
    assert min(impossible) > 0
    findings = {found["check"]: found["findings"] for found in verified.json["rows"] if found["findings"]}
    assert findings.pop("tokens") == sum(impossible)
    # Nothing settled these sessions: `alembic` and `db upgrade` do, Alembic called from Python does not.
    assert set(findings) == {"metrics"}
    assert all(line.endswith((": impossible", ": session without metrics")) for line in verified.json["warnings"])
    assert before.differences(after) == []


@pytest.mark.sized
def test_upgrade_and_downgrade_of_megabytes_of_text_keep_them(empty_database_url: str, is_full: bool) -> None:
    size = MEGABYTES[is_full]
    up, down = "SELECT length(content) FROM text_messages", "SELECT length(content) FROM parts"

    before, after, lengths = up_and_down(empty_database_url, row("big", "text"), "content", size, up, down)

    assert lengths == [2 * size // 3] * 2
    assert before.differences(after) == []


@pytest.mark.sized
@pytest.mark.parametrize(
    ("part_type", "table"), [("tool_call", "SELECT length(tool_result) FROM tool_calls"), ("wormhole", "SELECT length(extra) FROM parts")]
)
def test_upgrade_and_downgrade_of_megabytes_of_result_keep_them(duckdb_url: str, part_type: str, table: str, is_full: bool) -> None:
    # With a type that has no result, it becomes JSON in `extra`.
    values, size = row("big", part_type, tool_name="x"), MEGABYTES[is_full]

    before, after, lengths = up_and_down(duckdb_url, values, "tool_result", size, table, "SELECT length(tool_result) FROM parts")

    assert lengths[0] >= lengths[1] == 2 * size // 3
    assert before.differences(after) == []


def up_and_down(
    url: str, values: dict[str, Any], column: str, size: int, when_up: str, when_down: str
) -> tuple[Checksum, Checksum, list[int]]:
    """Take a row with a text of so many bytes through an upgrade and a downgrade; return the checksums, and what is asked after each."""
    upgrade(url, "baseline")
    engine = create_database_engine(url, wait_seconds=5)
    with engine.begin() as connection:
        load_rows(connection, [values], OLD_COLUMNS)
        connection.execute(sa.text(f"UPDATE parts SET {column} = repeat('é\t', {size // 3})"))
    before = old_parts(engine)
    upgrade(url)
    with engine.connect() as connection:
        lengths = [connection.execute(sa.text(when_up)).scalar_one()]
    downgrade(url, "baseline")
    with engine.connect() as connection:
        lengths.append(connection.execute(sa.text(when_down)).scalar_one())
    after = old_parts(engine)
    engine.dispose()
    return before, after, lengths
