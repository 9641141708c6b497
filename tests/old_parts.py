"""The old schema's data as tests load it: rows of every oddity, and as many mixtures of them as wanted.

Everything is the same on every run: rows are made of their number, by the engine itself.
"""

from __future__ import annotations

import math
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

COLUMNS = (
    *("part_id", "session_id", "part_type", "content", "tool_name", "tool_args", "tool_result", "execution_time_ms", "file_path"),
    *("file_operation", "git_branch", "git_commit", "git_diff", "error_data", "error_category", "thinking_tokens", "message_id"),
    *("created_at", "ended_at", "call_id", "tool_status", "child_session_id", "error_message", "tokens_input", "tokens_output"),
    *("tokens_reasoning", "tokens_cache_read", "tokens_cache_write", "cost_usd", "part_cost_usd"),
)
PARTS = sa.table("parts", *(sa.column(name) for name in COLUMNS))
JSON_COLUMNS = {"tool_args", "error_data"}
TYPES = (
    *("tool_call", "file_operation", "error", "thinking", "text", "step", "step_start", "step_finish", "patch", "file", "attachment"),
    *("compaction", "wormhole", None),
)

EARLY = datetime(2026, 3, 1, 12, 0, 0, 123456)  # noqa: DTZ001 - as the database has it: UTC without a zone
LATE = datetime(2026, 3, 1, 12, 0, 7)  # noqa: DTZ001 - the same
TRICKY = "“quotes” ' \" \\ \\u0041 %s %% :name {x} $1\r\n\t🎉 é e\u0301 \u2028"
ODD_JSON = '{ "cmd" :  "ls",\n\t"n": 1.0, "n": 1e2, "ü": "\\u00fc\\u0000" }'

TOOL = {
    "tool_name": "bash",
    "tool_args": ODD_JSON,
    "tool_result": "done",
    "execution_time_ms": 12.5,
    "call_id": "call_1",
    "tool_status": "success",
    "child_session_id": "ses_child",
}
FILE = {"file_path": "/a/ü.py", "file_operation": "edit", "git_branch": "main", "git_commit": "abc", "git_diff": "-1\n+2"}
ERROR = {"error_data": '{"code":  1}', "error_category": "timeout", "error_message": "too slow"}
THINKING = {"thinking_tokens": -5}
STEP = {
    "tokens_input": 10,
    "tokens_output": -1,
    "tokens_reasoning": 0,
    "tokens_cache_read": 2**62,
    "tokens_cache_write": 4,
    "cost_usd": 0.1,
}
EVERYTHING = TOOL | FILE | ERROR | THINKING | STEP

# What a double may be, and what the money column makes of it.
COSTS: dict[str, tuple[float, str | None]] = {
    "0.1": (0.1, "0.100000000000"),
    "0.1 + 0.2": (0.1 + 0.2, "0.300000000000"),
    "1e-17": (1e-17, "0.000000000000"),
    "many digits": (123456.7890123456789, "123456.789012345670"),
    "large": (123456789012345.67, "123456789012345.670000000000"),
    "negative": (-2.5, "-2.500000000000"),
    "zero": (0.0, "0.000000000000"),
    "negative zero": (-0.0, "0.000000000000"),
    "too large": (1e20, None),
    "largest": (1.7976931348623157e308, None),
    "infinity": (math.inf, None),
    "negative infinity": (-math.inf, None),
    "not a number": (math.nan, None),
}


def row(part_id: str, part_type: str | None, **values: Any) -> dict[str, Any]:
    """Build a row of the old table, NULL where nothing is said."""
    return dict.fromkeys(COLUMNS) | {"part_id": part_id, "part_type": part_type, "session_id": "ses_a"} | values


ROWS = [
    row("tool", "tool_call", message_id="msg_bot", created_at=EARLY, ended_at=LATE, part_cost_usd=Decimal("1e-12"), **TOOL),
    row("tool file", "tool_call", tool_name="edit", **FILE),
    row("tool error", "tool_call", tool_name="bash", tool_status="error", **ERROR),
    row("tool timeout", "tool_call", tool_name="bash", tool_status="timeout"),
    row("tool unnamed", "tool_call", **TOOL | {"tool_name": None}),
    row("tool path", "tool_call", tool_name="glob", file_path="/a"),
    row("tool null", "tool_call", tool_name="x", tool_args="null", error_data="null"),
    row("tool strings", "tool_call", tool_name=TRICKY, tool_args='"text"', tool_result=TRICKY, file_path=TRICKY, file_operation=TRICKY),
    row("tool nothing", "tool_call"),
    row("empty", "tool_call", **dict.fromkeys(["tool_name", "tool_result", "file_path", "file_operation", "content", "message_id"], "")),
    row("file op", "file_operation", **FILE),
    row("file op only path", "file_operation", file_path="/b", git_diff=TRICKY),
    row("error", "error", **ERROR),
    row("error nothing", "error"),
    row("thinking", "thinking", content="hmm 🎉", created_at=EARLY, ended_at=LATE, **THINKING),
    row("thinking nothing", "thinking"),
    row("text user", "text", content=TRICKY, message_id="msg_user", created_at=LATE),
    row("text bot", "text", content="é🎉", message_id="msg_bot", created_at=EARLY),
    row("text lost message", "text", content="?", message_id="msg_lost"),
    row("text big", "text", content="é\n" * 500_000, session_id="ses_b"),
    row("text empty", "text", content=""),
    row("text null", "text"),
    row("step", "step", **STEP),
    row("step start", "step_start", tokens_input=0),
    row("step finish", "step_finish", message_id="msg_bot", **STEP),
    row("patch", "patch", git_commit="abc"),
    row("file", "file", file_path="a.png", content="see"),
    row("attachment", "attachment", file_path="b.png"),
    row("compaction", "compaction"),
    row("unknown", "wormhole", content=TRICKY, tool_result=TRICKY),
    row("no type", None),
    row("no session", "text", session_id=None, content="x"),
    row("lost session", "text", session_id="ses_lost", content="y"),
    row("empty session", "text", session_id="", content="z"),
    row("named like the stub", "text", session_id="ses_missing", content="w", created_at=EARLY),
    row("nothing", None, session_id=None),
    *(row(f"cost {name}", "step_finish", session_id="ses_b", cost_usd=cost) for name, (cost, _) in COSTS.items()),
    *(row(f"foreign cost {name}", "text", session_id="ses_b", cost_usd=cost) for name, (cost, _) in COSTS.items()),
    *(row(f"all {part_type}", part_type, content="c", message_id="msg_bot", created_at=LATE, **EVERYTHING) for part_type in TYPES),
    # Upper case before lower, as in Python; a time before a missing one.
    *(
        row(part_id, "snapshot", session_id="ses_order", created_at=at)
        for part_id, at in [("b", LATE), ("B", LATE), ("a", None), ("_", LATE)]
    ),
]
SESSIONS = ("ses_a", "ses_b", "ses_order")
MESSAGES = (("msg_user", "user"), ("msg_bot", "assistant"))

# Beyond what ROWS name one by one: what a double, a text and a JSON value may be, each where it belongs and on a type foreign to it.
ODD_TEXTS = (
    "\x01\x08\x0b\x1b[31m\x7f\x85",
    "\ufeff\u200b\u202e\u2066\u00ad",
    "\uffff\U0010ffff\U0001f469\u200d\U0001f4bb",
    "a" + "\u0301" * 40,
    "  \t\n ",
    "null",
    "''; DROP TABLE parts; --",
)
ODD_JSONS = (
    " [ ] ",
    '""',
    "-0.0",
    "1E+2",
    "123456789012345678901234567890.10",
    "[" * 60 + "]" * 60,
    '{"legacy": {"tool_name": "x", "was_null": "part_type"}}',
    '{"a": null, "a": {"": []}}\n',
    '"\\ud83c\\udf89 \\/ \\u0001"',
)
ODD_DOUBLES = (math.inf, -math.inf, math.nan, -0.0, 5e-324, 1.7976931348623157e308, 0.1 + 0.2, 1e22, 9007199254740993.0)
MORE_ROWS = [
    *(
        row(f"text {part_type} {number}", part_type, content=text, tool_name=text, tool_result=text, file_path=text, file_operation=text)
        | {"git_diff": text, "error_message": text, "call_id": text, "git_branch": text, "error_category": text}
        for number, text in enumerate(ODD_TEXTS)
        for part_type in ("tool_call", "text", "thinking", "file", "wormhole")
    ),
    *(
        row(f"json {part_type} {number}", part_type, tool_name="x", tool_args=text, error_data=text)
        for number, text in enumerate(ODD_JSONS)
        for part_type in ("tool_call", "error", "text")
    ),
    *(
        row(f"double {part_type} {number}", part_type, tool_name="x", execution_time_ms=double, cost_usd=double)
        for number, double in enumerate(ODD_DOUBLES)
        for part_type in ("tool_call", "step_finish", "text")
    ),
    *(row(part_id, "text", content=part_id) for part_id in ("ID", "id", " id ", "É", "é", "e\u0301", "x" * 3000)),
    row("", "text", content="of no name"),
]
# Columns that a mixture takes from one row.
_GROUPS = (
    ("part_id", "part_type"),
    ("session_id", "created_at", "ended_at"),
    ("message_id",),
    ("content",),
    ("tool_name", "tool_args", "tool_result", "execution_time_ms", "call_id", "tool_status", "child_session_id"),
    ("file_path", "file_operation", "git_branch", "git_commit", "git_diff"),
    ("error_data", "error_category", "error_message"),
    ("thinking_tokens", "tokens_input", "tokens_output", "tokens_reasoning", "tokens_cache_read", "tokens_cache_write"),
    ("cost_usd", "part_cost_usd"),
)
_STEP_TYPES = "('step', 'step_start', 'step_finish')"
_MAKE_TOKENS_POSSIBLE = """
    UPDATE parts SET tokens_output = CASE WHEN part_type = 'thinking' THEN tokens_output ELSE abs(tokens_output) END,
           tokens_cache_read = CASE WHEN part_type = 'thinking' THEN tokens_cache_read ELSE least(tokens_cache_read, 7) END,
           thinking_tokens = CASE WHEN part_type = 'thinking' THEN abs(thinking_tokens) ELSE thinking_tokens END
    WHERE part_type IN ('step', 'step_start', 'step_finish', 'thinking')
"""


def load_rows(connection: sa.Connection, rows: Iterable[dict[str, Any]], columns: Sequence[str] = COLUMNS) -> None:
    """Insert rows into the old table, JSON as text, so that its spacing stays."""
    expressions = {
        name: sa.cast(sa.bindparam(name, type_=sa.Text()), sa.JSON()) if name in JSON_COLUMNS else sa.bindparam(name) for name in columns
    }
    nul = "" if connection.dialect.name == "postgresql" else "\0"  # which PostgreSQL's text cannot hold
    parameters = [
        {name: values[name].replace("\0", nul) if isinstance(values[name], str) else values[name] for name in columns} for values in rows
    ]
    connection.execute(sa.insert(PARTS).values(expressions), parameters)


def load_parents(connection: sa.Connection) -> None:
    """Insert the sessions and messages that ROWS refer to."""
    sessions = [{"id": session_id} for session_id in SESSIONS]
    messages = [{"id": message_id, "role": role} for message_id, role in MESSAGES]
    connection.execute(sa.text("INSERT INTO sessions (session_id, title) VALUES (:id, 'kept')"), sessions)
    connection.execute(sa.text("INSERT INTO messages (message_id, session_id, role) VALUES (:id, 'ses_a', :role)"), messages)


def load_many(connection: sa.Connection, parts: int, columns: Sequence[str] = COLUMNS, *, possible_tokens: bool = False) -> None:
    """Fill the old tables: ROWS and MORE_ROWS, and mixtures of them up to a number of parts.

    Every second mixture repeats one of the rows, in a session of some 125; the others take the values of each group of columns from a row
    of their own, so that any values meet any type. A hundred rows share a time, one of fifty has none, one of 4,000 has a long text.

    Args:
        connection: A database of the old schema without rows.
        parts: How many rows `parts` gets.
        columns: Those that `parts` has.
        possible_tokens: Whether steps and thinking have only counts that can be; otherwise some are negative, or 2 to the power of 62.
    """
    load_parents(connection)
    load_rows(connection, [*ROWS, *MORE_ROWS], columns)
    connection.exec_driver_sql(
        "CREATE TEMPORARY TABLE seeds AS SELECT row_number() OVER (ORDER BY part_id) - 1 AS n, p.* FROM parts p"
        " WHERE coalesce(length(content), 0) < 1000"
    )
    seeds = connection.exec_driver_sql("SELECT count(*) FROM seeds").scalar_one()
    kept = connection.exec_driver_sql("SELECT count(*) FROM parts").scalar_one()
    sessions, messages = parts // 125 + 1, parts // 5 + 1
    for statement in (
        f"INSERT INTO sessions (session_id, title) SELECT 'ses_' || i, 'Session ' || i FROM generate_series(1, {sessions}) AS numbers (i)",
        _mixtures(parts - kept, seeds, sessions, messages, columns),
        "DROP TABLE seeds",
        *((_MAKE_TOKENS_POSSIBLE,) if possible_tokens else ()),
        _messages(sessions, messages, with_tokens=possible_tokens),
        "INSERT INTO projects (project_id, name) VALUES ('prj_1', 'one'), ('prj_2', NULL)",
        "INSERT INTO models (model_id, model_name, vendor) VALUES ('anthropic/claude-sonnet-4-5', 'claude-sonnet-4-5', 'anthropic')",
        "INSERT INTO session_stats (session_id, part_count, duration_ms) SELECT session_id, 1, 0.5 FROM sessions",
    ):
        connection.execute(sa.text(statement))


def _mixtures(count: int, seeds: int, sessions: int, messages: int, columns: Sequence[str]) -> str:
    def pick(number: int) -> str:
        """SQL for the seed that a group of columns is taken from: row i's own, or for every second row any."""
        return f"CASE WHEN i % 2 = 0 THEN (i >> 1) % {seeds} ELSE i * {1_103_515_245 + 24_690 * number} % 2147483647 % {seeds} END"

    values = {name: f"g{number}.{name}" for number, group in enumerate(_GROUPS) for name in group}
    values |= {
        "part_id": "g0.part_id || ' ' || i",
        # One of a hundred refers to a session or message that does not exist.
        "session_id": f"CASE WHEN i % 4 = 3 THEN g1.session_id ELSE 'ses_' || i % {sessions + sessions // 100 + 1} END",
        "message_id": f"CASE WHEN i % 4 = 3 THEN g2.message_id ELSE 'msg_' || i % {messages + messages // 100 + 1} END",
        "content": "CASE WHEN i % 4000 = 1 THEN repeat('long: é\n ', 10000) || i ELSE g3.content END",
        "created_at": "CASE WHEN i % 50 > 0 THEN TIMESTAMP '2026-01-01 00:00:00.000001' + (i - i % 100) * INTERVAL '50 milliseconds' END",
        "ended_at": "CASE i % 997 WHEN 0 THEN TIMESTAMP '0001-01-01 00:00:00' WHEN 1 THEN TIMESTAMP '9999-12-31 23:59:59.999999'"
        " WHEN 2 THEN TIMESTAMP 'infinity' ELSE g1.ended_at END",
    }
    seed_of = [f"JOIN seeds g{number} ON g{number}.n = picked.seed_{number}" for number in range(len(_GROUPS))]
    picked = ", ".join(f"{pick(number)} AS seed_{number}" for number in range(len(_GROUPS)))
    return f"""
        INSERT INTO parts ({", ".join(columns)})
        WITH numbers AS (SELECT CAST(n AS BIGINT) AS i FROM generate_series(1, {count}) AS series (n)),
             picked AS (SELECT i, {picked} FROM numbers)
        SELECT {", ".join(values[name] for name in columns)} FROM picked {" ".join(seed_of)}
    """


def _messages(sessions: int, messages: int, *, with_tokens: bool) -> str:
    """SQL that adds messages, with the sums of their steps' tokens."""
    buckets = {
        "input_tokens": "tokens_input",
        "output_tokens": "tokens_output",
        "reasoning_tokens": "tokens_reasoning",
        "cache_read_tokens": "tokens_cache_read",
        "cache_write_tokens": "tokens_cache_write",
    }
    sums = ", ".join(f"sum({column}) AS {bucket}" for bucket, column in buckets.items())
    return f"""
        INSERT INTO messages (message_id, session_id, role, model_id, {", ".join(buckets)})
        SELECT 'msg_' || i, 'ses_' || 1 + i % {sessions}, CASE WHEN i % 5 = 0 THEN 'user' ELSE 'assistant' END,
               'anthropic/claude-sonnet-4-5', {", ".join(f"s.{bucket}" for bucket in buckets)}
        FROM generate_series(0, {messages - 1}) AS numbers (i)
        LEFT JOIN (SELECT message_id, {sums} FROM parts
                   WHERE part_type IN {_STEP_TYPES} AND tokens_input IS NOT NULL AND {"TRUE" if with_tokens else "FALSE"}
                   GROUP BY message_id) s ON s.message_id = 'msg_' || i
    """
