"""Write a database as it was before the plan, to measure with: years of parts in the table of 29 columns.

    python benchmarks/make_parts.py FILE [--parts 2000000]

The database stands at the revision `resource_metrics`. Rows have some 0.4 KB, in the mix of real stores: two of five are the starts and
finishes of steps, a third are tool calls, of which two of five touched a file and one of twenty failed. DuckDB makes the rows itself, out
of a list of texts and of hashes of the row's number: the same number of parts makes the same database.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import sqlalchemy as sa

from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.db.migrate import upgrade

REVISION = "resource_metrics"
_PARTS_PER_SESSION = 125
_PARTS_PER_MESSAGE = 5
_SNIPPETS = 4_000
# Of a thousand parts, how many have each type.
_MIX = {
    "step_start": 200,
    "step_finish": 200,
    "tool_call": 330,
    "text": 130,
    "thinking": 90,
    "patch": 30,
    "file_operation": 10,
    "error": 4,
    "attachment": 4,
    "compaction": 2,
}


def write_parts(file: Path, parts: int) -> None:
    """Make the database.

    Args:
        file: A DuckDB file that does not exist yet.
        parts: How many rows `parts` gets.
    """
    url = f"duckdb:///{file}"
    upgrade(url, REVISION)
    engine = create_database_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TEMP TABLE snippets (id BIGINT, text VARCHAR)")
        connection.execute(sa.text("INSERT INTO snippets VALUES (:id, :text)"), _snippets())
        for statement in _statements(parts):
            connection.exec_driver_sql(statement)
    with engine.connect() as connection:
        connection.exec_driver_sql("CHECKPOINT")
    engine.dispose()


def _snippets() -> list[dict[str, object]]:
    chance = random.Random(1)  # noqa: S311 - not for secrets: the same seed has to write the same rows
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz_", k=chance.randint(2, 11))) for _ in range(2_000)]
    return [{"id": number, "text": " ".join(chance.choices(words, k=chance.randint(2, 40)))} for number in range(_SNIPPETS)]


def _statements(parts: int) -> tuple[str, ...]:
    sessions = -(-parts // _PARTS_PER_SESSION)
    messages = -(-parts // _PARTS_PER_MESSAGE)
    # One year, however many parts there are.
    at = f"TIMESTAMP '2025-01-01' + to_milliseconds(CAST(i * (31536000000 / {parts}) AS BIGINT))"
    session = f"'ses_' || printf('%012x', i // {_PARTS_PER_SESSION}) || substr(md5(CAST(i // {_PARTS_PER_SESSION} AS VARCHAR)), 1, 14)"
    message = f"'msg_' || printf('%012x', i // {_PARTS_PER_MESSAGE}) || substr(md5(CAST(i // {_PARTS_PER_MESSAGE} AS VARCHAR)), 1, 14)"
    bound, cases = 0, []
    for part_type, share in _MIX.items():
        bound += share
        cases.append(f"WHEN hash(i) % 1000 < {bound} THEN '{part_type}'")
    return (
        f"""
        INSERT INTO sessions (session_id, title, created_at)
        SELECT {session}, 'Session ' || n, {at}
        FROM (SELECT n, n * {_PARTS_PER_SESSION} AS i FROM range({sessions}) numbers (n))
        """,
        f"""
        INSERT INTO messages (message_id, session_id, role, created_at)
        SELECT {message}, {session}, CASE WHEN n % 25 = 0 THEN 'user' ELSE 'assistant' END, {at}
        FROM (SELECT n, n * {_PARTS_PER_MESSAGE} AS i FROM range({messages}) numbers (n))
        """,
        f"""
        INSERT INTO parts BY NAME
        WITH typed AS (
            SELECT i, CAST(hash(i + 1) >> 1 AS BIGINT) AS h, CASE {" ".join(cases)} END AS part_type FROM range({parts}) numbers (i)
        ),
        named AS (
            SELECT *, part_type = 'tool_call' AS is_tool, part_type = 'step_finish' AS is_finish,
                   part_type = 'file_operation' OR (part_type = 'tool_call' AND h % 5 < 2) AS has_file,
                   part_type = 'error' OR (part_type = 'tool_call' AND h // 100 % 20 = 0) AS has_error
            FROM typed
        )
        SELECT 'prt_' || printf('%012x', i) || substr(md5(CAST(i AS VARCHAR)), 1, 14) AS part_id,
               {session} AS session_id,
               {message} AS message_id,
               part_type,
               CASE WHEN part_type IN ('text', 'thinking') THEN a.text || ' ' || i || ' ' || b.text END AS content,
               CASE WHEN is_tool THEN ['read', 'bash', 'grep', 'edit', 'write', 'glob', 'task', 'list'][1 + h // 7 % 8] END AS tool_name,
               CASE WHEN is_tool THEN '{{"path":"/home/dev/module_' || h % 900 || '.py","pattern":"' || b.text || '"}}' END AS tool_args,
               CASE WHEN is_tool THEN a.text || ' ' || i || chr(10) || b.text || chr(10) || a.text END AS tool_result,
               CASE WHEN is_tool AND h % 50 > 0 THEN exp(3 + h // 1000 % 10000 / 1500.0) END AS execution_time_ms,
               CASE WHEN has_file THEN '/home/dev/src/module_' || h % 900 || '.py' END AS file_path,
               CASE WHEN has_file THEN ['read', 'write', 'edit'][1 + h // 11 % 3] END AS file_operation,
               CASE WHEN has_file THEN 'main' END AS git_branch,
               CASE WHEN part_type = 'patch' THEN sha1(CAST(i AS VARCHAR)) END AS git_commit,
               CASE WHEN has_file AND h // 11 % 3 = 2 THEN '-' || a.text || chr(10) || '+' || b.text END AS git_diff,
               CASE WHEN has_error THEN '{{"name":"ToolError","data":{{"message":"' || a.text || '"}}}}' END AS error_data,
               CASE WHEN has_error THEN ['timeout', 'permission', 'not_found', 'syntax', 'network'][1 + h // 13 % 5] END AS error_category,
               CASE WHEN has_error THEN a.text END AS error_message,
               CASE WHEN part_type = 'thinking' THEN h % 4000 END AS thinking_tokens,
               {at} AS created_at,
               {at} + to_milliseconds(h % 60000) AS ended_at,
               CASE WHEN is_tool THEN 'call_' || substr(md5(CAST(h AS VARCHAR)), 1, 24) END AS call_id,
               CASE WHEN is_tool THEN CASE WHEN has_error THEN 'error' ELSE 'success' END END AS tool_status,
               CASE WHEN is_finish THEN h % 9000 END AS tokens_input,
               CASE WHEN is_finish THEN h // 3 % 1500 END AS tokens_output,
               CASE WHEN is_finish THEN h // 5 % 700 END AS tokens_reasoning,
               CASE WHEN is_finish THEN h // 7 % 90000 END AS tokens_cache_read,
               CASE WHEN is_finish THEN h // 9 % 4000 END AS tokens_cache_write,
               CASE WHEN is_finish THEN h % 90000 / 1e6 END AS cost_usd
        FROM named
        JOIN snippets a ON a.id = h % {_SNIPPETS}
        JOIN snippets b ON b.id = h // {_SNIPPETS} % {_SNIPPETS}
        ORDER BY i
        """,
    )


def _main() -> None:
    parser = argparse.ArgumentParser(description="Write a database as it was before the plan, to measure with.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--parts", type=int, default=2_000_000)
    options = parser.parse_args()
    write_parts(options.file, options.parts)


if __name__ == "__main__":
    _main()
