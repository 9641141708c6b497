"""Denormalisation (US-11): the 29-column `parts` becomes one core table and nine focused ones.

Each row keeps its place in the core table and fills the table of its own type: a tool call that touched a file also `file_operations`, one
that failed also `errors`. Values that stand in columns foreign to the row's type, or that a new column cannot hold exactly, go to
`parts.extra` under "legacy", as text; so does, under "was_null", the name of each column that was NULL where the new schema wants a value.
A part whose session is missing gets a stub session (title "(recovered: parts without a session)"); no row is dropped. An old table that
was loaded without its primary key is refused, before anything is touched, if rows have no id or share one.

The old table stays as `parts_legacy`. Everything runs in one transaction. At its end counts are checked, and the old rows are read back
from the new tables: their checksum, column by column, has to be the one that was taken before, and both go to `migration_audit`. A
mismatch raises, and nothing has happened. The downgrade proves itself in the same way.

The downgrade rebuilds all 29 columns (and `part_cost_usd`) from the new tables, rows written since included, and drops `parts_legacy`. What
the old table has no column for is lost with it: extra values beyond "legacy", a part's second file or error, file sizes, thinking times,
step reasons, snapshots and own costs, patch files, attachment types and sizes, compaction flags, error severity and retryability. A stub
session goes, unless something else refers to it by now, such as its aggregates: DuckDB deletes no row in the transaction that deletes
what referred to it.

Revision ID: denormalize_parts
Revises: migration_audit
Created: 2026-11-23 09:20 UTC
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import sqlalchemy as sa
from alembic import context, op

from opencode_monitor.db.migrate import MigrationError, Proof, count_rows, plan_phases, start_phase

if TYPE_CHECKING:
    from collections.abc import Sequence

revision = "denormalize_parts"
down_revision = "migration_audit"
branch_labels = None
depends_on = None

USD = sa.Numeric(38, 12)
STUB_SESSION_TITLE = "(recovered: parts without a session)"
STUB_SESSION_ID = "ses_missing"

# Which rows have a row of their own in which table; the same words decide where each value lives.
IN_TOOL_CALLS = "l.part_type = 'tool_call' AND l.tool_name IS NOT NULL"
IN_FILE_OPERATIONS = "l.part_type IN ('tool_call', 'file_operation') AND l.file_path IS NOT NULL AND l.file_operation IS NOT NULL"
IN_ERRORS = (
    "(l.part_type = 'error' OR (l.part_type = 'tool_call' AND (l.error_data IS NOT NULL OR l.error_category IS NOT NULL "
    "OR l.error_message IS NOT NULL OR l.tool_status IN ('error', 'timeout'))))"
)
IN_THINKING_BLOCKS = "l.part_type = 'thinking'"
IN_TEXT_MESSAGES = "l.part_type = 'text' AND l.content IS NOT NULL"
IN_STEP_EVENTS = "l.part_type IN ('step', 'step_start', 'step_finish')"
IN_PATCHES = "l.part_type = 'patch'"
IN_ATTACHMENTS = "l.part_type IN ('file', 'attachment')"
IN_COMPACTIONS = "l.part_type = 'compaction'"
# By way of its text, which is exact and the same on both engines: PostgreSQL's own cast of a float to NUMERIC stops after 15 digits. CASE,
# because infinity and whatever is too large must not reach the cast.
MONEY = "CASE WHEN abs({value}) < 1e20 THEN CAST(CAST({value} AS TEXT) AS NUMERIC(38, 12)) END"
COST = MONEY.format(value="l.cost_usd")
# A float that the money type rounds stays as text beside it. Texts are compared, as they tell 0 from -0 and NaN from nothing.
COST_IS_EXACT = f"CAST(CAST(CAST({COST} AS TEXT) AS DOUBLE PRECISION) AS TEXT) = CAST(l.cost_usd AS TEXT)"

# Column of the old table -> the condition under which a table of its own holds it.
OWNED_WHEN = {
    "tool_name": IN_TOOL_CALLS,
    "tool_args": IN_TOOL_CALLS,
    "tool_result": IN_TOOL_CALLS,
    "execution_time_ms": IN_TOOL_CALLS,
    "call_id": IN_TOOL_CALLS,
    "tool_status": IN_TOOL_CALLS,
    "child_session_id": IN_TOOL_CALLS,
    "file_path": f"({IN_FILE_OPERATIONS}) OR {IN_ATTACHMENTS}",
    "file_operation": IN_FILE_OPERATIONS,
    "git_branch": IN_FILE_OPERATIONS,
    "git_commit": f"({IN_FILE_OPERATIONS}) OR {IN_PATCHES}",
    "git_diff": IN_FILE_OPERATIONS,
    "error_data": IN_ERRORS,
    "error_category": IN_ERRORS,
    "error_message": IN_ERRORS,
    "thinking_tokens": IN_THINKING_BLOCKS,
    "tokens_input": IN_STEP_EVENTS,
    "tokens_output": IN_STEP_EVENTS,
    "tokens_reasoning": IN_STEP_EVENTS,
    "tokens_cache_read": IN_STEP_EVENTS,
    "tokens_cache_write": IN_STEP_EVENTS,
    "cost_usd": f"{IN_STEP_EVENTS} AND {COST_IS_EXACT}",
}
# As the old table has them.
COLUMN_ORDER = (
    *("part_id", "session_id", "part_type", "content", "tool_name", "tool_args", "tool_result", "execution_time_ms", "file_path"),
    *("file_operation", "git_branch", "git_commit", "git_diff", "error_data", "error_category", "thinking_tokens", "message_id"),
    *("created_at", "ended_at", "call_id", "tool_status", "child_session_id", "error_message", "tokens_input", "tokens_output"),
    *("tokens_reasoning", "tokens_cache_read", "tokens_cache_write", "cost_usd", "part_cost_usd"),
)
# As a proof reads them, six at a time: neighbours stand in the same new table.
OLD_COLUMNS = (
    *("part_id", "session_id", "part_type", "message_id", "created_at", "ended_at"),
    *("tool_name", "tool_args", "tool_result", "execution_time_ms", "call_id", "tool_status"),
    *("child_session_id", "part_cost_usd", "content", "thinking_tokens", "error_category", "error_message"),
    *("error_data", "file_path", "file_operation", "git_branch", "git_commit", "git_diff"),
    *("tokens_input", "tokens_output", "tokens_reasoning", "tokens_cache_read", "tokens_cache_write", "cost_usd"),
)
# Column of the old table -> when its NULL becomes a stand-in, and where that stands: one that was written over since is NULL no more.
WAS_NULL = {
    "session_id": ("l.session_id IS NULL", f"p.session_id = '{STUB_SESSION_ID}'"),
    "part_type": ("l.part_type IS NULL", "p.part_type = 'unknown'"),
    "error_data": (f"{IN_ERRORS} AND l.error_data IS NULL", "CAST(e.error_data AS TEXT) = '{}'"),
}
CHILDREN = (
    "tool_calls",
    "file_operations",
    "errors",
    "thinking_blocks",
    "text_messages",
    "step_events",
    "patches",
    "attachments",
    "compactions",
)
INDEXES = (
    ("idx_parts_session", "parts", "session_id"),
    ("idx_parts_type", "parts", "part_type"),
    ("idx_tool_calls_name", "tool_calls", "tool_name"),
    ("ix_tool_calls__session_id", "tool_calls", "session_id"),
    ("idx_file_ops_path", "file_operations", "file_path"),
    ("ix_file_operations__session_id", "file_operations", "session_id"),
    ("idx_errors_category", "errors", "error_category"),
    ("ix_errors__session_id", "errors", "session_id"),
    ("ix_text_messages__session_id", "text_messages", "session_id"),
    ("ix_step_events__session_id", "step_events", "session_id"),
)
# Which rows of the old table each new table gets.
ROWS_OF = {
    "parts": "TRUE",
    "tool_calls": IN_TOOL_CALLS,
    "file_operations": IN_FILE_OPERATIONS,
    "errors": IN_ERRORS,
    "thinking_blocks": IN_THINKING_BLOCKS,
    "text_messages": IN_TEXT_MESSAGES,
    "step_events": IN_STEP_EVENTS,
    "patches": IN_PATCHES,
    "attachments": IN_ATTACHMENTS,
    "compactions": IN_COMPACTIONS,
}
FAMILY = ("parts", "parts_legacy", *CHILDREN)
STUB_SESSIONS = {"sessions": f"title = '{STUB_SESSION_TITLE}' AND created_at IS NULL"}
ANY_LENGTH = ("tool_name", "file_path", "error_category")


def _is_duckdb() -> bool:
    return op.get_context().dialect.name == "duckdb"


def upgrade() -> None:
    is_empty = False
    if not context.is_offline_mode():
        _refuse_unidentified_rows()
        rows = count_rows("parts l", ROWS_OF)
        is_empty = not rows["parts"]
        moves = {f"move {table}": count for table, count in rows.items()}
        plan_phases({"checksum": rows["parts"], "create": 0, **moves, "index": 0, "validate": rows["parts"], "prove": rows["parts"]})
    proof = Proof(op.get_context(), revision, "upgrade", OLD_COLUMNS, family=FAMILY, added=STUB_SESSIONS)
    proof.before("parts")
    start_phase("create")
    _set_aside_old_table()
    _create_tables()
    if not is_empty:
        _move_up()
    start_phase("index")
    # At the end: DuckDB builds an index faster over the finished table.
    for name, table, column in INDEXES:
        # PostgreSQL's usual index refuses a value above 2,700 bytes, which a path can be; its hash index takes any.
        op.create_index(name, table, [column], postgresql_using="hash" if column in ANY_LENGTH else None)
    if not context.is_offline_mode() and not is_empty:
        start_phase("validate")
        _check_counts()
    start_phase("prove")
    # A new database has nothing to move or to read back, and each of the statements that would do so takes longer than to make its table.
    proof.after("parts_legacy" if is_empty else _old_rows)


def downgrade() -> None:
    if not context.is_offline_mode():
        rows = count_rows("parts", {"parts": "TRUE"})["parts"]
        plan_phases({"checksum": rows, "rebuild parts": rows, "drop": 0, "prove": rows})
    proof = Proof(op.get_context(), revision, "downgrade", OLD_COLUMNS, family=FAMILY, added=STUB_SESSIONS)
    proof.before(_old_rows)
    start_phase("rebuild parts")
    op.execute(f"CREATE TABLE parts_rebuilt AS SELECT * FROM {_old_rows(COLUMN_ORDER)} AS rebuilt")
    start_phase("drop")
    for table in CHILDREN:
        op.drop_table(table)
    op.drop_table("parts")
    # Absent where its owner retired it.
    op.drop_table("parts_legacy", if_exists=True)
    op.rename_table("parts_rebuilt", "parts")
    op.execute(
        "ALTER TABLE parts ADD PRIMARY KEY (part_id)" if _is_duckdb() else "ALTER TABLE parts ADD CONSTRAINT pk_parts PRIMARY KEY (part_id)"
    )
    op.execute(
        f"DELETE FROM sessions WHERE title = '{STUB_SESSION_TITLE}' AND created_at IS NULL"
        " AND NOT EXISTS (SELECT 1 FROM messages m WHERE m.session_id = sessions.session_id)"
        " AND NOT EXISTS (SELECT 1 FROM session_stats t WHERE t.session_id = sessions.session_id)"
        " AND NOT EXISTS (SELECT 1 FROM session_resource_metrics r WHERE r.session_id = sessions.session_id)"
    )
    start_phase("prove")
    proof.after("parts")


def _refuse_unidentified_rows() -> None:
    """Refuse an old table that was loaded without its primary key and has rows that no id tells apart.

    Raises:
        MigrationError: With their number, and the query that lists them; nothing was touched yet.
    """
    unidentified = "SELECT part_id, count(*) AS rows FROM parts GROUP BY part_id HAVING part_id IS NULL OR count(*) > 1"
    connection = op.get_bind()
    if sa.inspect(connection).get_pk_constraint("parts")["constrained_columns"]:
        return
    rows = connection.scalar(sa.text(f"SELECT coalesce(sum(u.rows), 0) FROM ({unidentified}) u"))
    if rows:
        message = (
            f"{rows} rows of parts share their part_id with another row or have none, and the new tables need one id for each row."
            f" Nothing was changed. List them with: {unidentified}"
        )
        raise MigrationError(message)


def _set_aside_old_table() -> None:
    """Keep the old table as `parts_legacy`; its indexes go, the name of its primary key is free for the new table."""
    if context.is_offline_mode():
        op.rename_table("parts", "parts_legacy")
        if not _is_duckdb():
            op.execute("ALTER TABLE parts_legacy RENAME CONSTRAINT pk_parts TO pk_parts_legacy")
        return
    inspector = sa.inspect(op.get_bind())
    indexes, key = inspector.get_indexes("parts"), inspector.get_pk_constraint("parts")
    if _is_duckdb() and (indexes or inspector.get_foreign_keys("parts")):
        # A table that its owner gave an index or a foreign key: DuckDB cannot rename it and still be queried in this transaction.
        op.execute("CREATE TABLE parts_legacy AS SELECT * FROM parts")
        op.drop_table("parts")
        return
    for index in indexes:
        op.drop_index(str(index["name"]), table_name="parts")
    op.rename_table("parts", "parts_legacy")
    if not _is_duckdb() and key["name"]:
        op.execute(f'ALTER TABLE parts_legacy RENAME CONSTRAINT "{key["name"]}" TO pk_parts_legacy')


def _create_tables() -> None:
    op.create_table(
        "parts",
        sa.Column("part_id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text()),
        sa.Column("part_type", sa.Text(), nullable=False),
        sa.Column("sequence_number", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(), server_default=sa.func.now()),
        sa.Column("ended_at", sa.TIMESTAMP()),
        sa.Column("content", sa.Text()),
        sa.Column("written_chars", sa.BigInteger()),
        sa.Column("part_cost_usd", USD),
        sa.Column("extra", sa.JSON()),
        sa.PrimaryKeyConstraint("part_id", name="pk_parts"),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.session_id"], name="fk_parts__session_id__sessions"),
    )
    _create_child(
        "tool_calls",
        "tool_call_id",
        sa.Column("tool_name", sa.Text(), nullable=False),
        sa.Column("tool_args", sa.JSON()),
        sa.Column("tool_result", sa.Text()),
        sa.Column("execution_time_ms", sa.Double()),
        sa.Column("status", sa.Text()),
        sa.Column("call_id", sa.Text()),
        sa.Column("child_session_id", sa.Text()),
    )
    _create_child(
        "file_operations",
        "file_op_id",
        sa.Column("file_path", sa.Text(), nullable=False),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("git_branch", sa.Text()),
        sa.Column("git_commit", sa.Text()),
        sa.Column("git_diff", sa.Text()),
        sa.Column("file_size", sa.BigInteger()),
    )
    _create_child(
        "errors",
        "error_id",
        sa.Column("error_data", sa.JSON(), nullable=False),
        sa.Column("error_message", sa.Text()),
        sa.Column("error_category", sa.Text()),
        sa.Column("error_severity", sa.Text()),
        sa.Column("is_retryable", sa.Boolean(), server_default=sa.false()),
    )
    _create_child(
        "thinking_blocks",
        "thinking_id",
        sa.Column("thinking_tokens", sa.BigInteger()),
        sa.Column("thinking_time_ms", sa.Double()),
    )
    _create_child(
        "text_messages",
        "message_id",
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("token_count", sa.BigInteger()),
    )
    _create_child(
        "step_events",
        "step_id",
        sa.Column("message_id", sa.Text()),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("snapshot", sa.Text()),
        sa.Column("input_tokens", sa.BigInteger()),
        sa.Column("cache_read_tokens", sa.BigInteger()),
        sa.Column("cache_write_tokens", sa.BigInteger()),
        sa.Column("output_tokens", sa.BigInteger()),
        sa.Column("reasoning_tokens", sa.BigInteger()),
        sa.Column("reported_cost_usd", USD),
        sa.Column("step_cost_usd", USD),
        sa.Column("price_id", sa.Text()),
    )
    _create_child("patches", "patch_id", sa.Column("git_commit", sa.Text()), sa.Column("files", sa.JSON()))
    _create_child(
        "attachments",
        "attachment_id",
        sa.Column("mime", sa.Text()),
        sa.Column("file_name", sa.Text()),
        sa.Column("size", sa.BigInteger()),
    )
    _create_child("compactions", "compaction_id", sa.Column("auto", sa.Boolean()), sa.Column("overflow", sa.Boolean()))


def _create_child(table: str, key: str, *columns: sa.Column[object]) -> None:
    """Create a table below `parts`, with the session and time copied from the part."""
    op.create_table(
        table,
        sa.Column(key, sa.Text(), nullable=False),
        sa.Column("part_id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP()),
        *columns,
        sa.PrimaryKeyConstraint(key, name=f"pk_{table}"),
        sa.ForeignKeyConstraint(["part_id"], ["parts.part_id"], name=f"fk_{table}__part_id__parts"),
    )


def _move_up() -> None:
    op.execute(
        f"""
        INSERT INTO sessions (session_id, title)
        SELECT DISTINCT coalesce(l.session_id, '{STUB_SESSION_ID}'), '{STUB_SESSION_TITLE}' FROM parts_legacy l
        WHERE NOT EXISTS (SELECT 1 FROM sessions s WHERE s.session_id = coalesce(l.session_id, '{STUB_SESSION_ID}'))
        """
    )
    start_phase("move parts")
    op.execute(
        f"""
        INSERT INTO parts (part_id, session_id, message_id, part_type, sequence_number, created_at, ended_at, content, written_chars,
                           part_cost_usd, extra)
        SELECT l.part_id, coalesce(l.session_id, '{STUB_SESSION_ID}'), l.message_id, coalesce(l.part_type, 'unknown'),
               row_number() OVER (PARTITION BY coalesce(l.session_id, '{STUB_SESSION_ID}')
                                  ORDER BY l.created_at ASC NULLS LAST, l.part_id COLLATE "C"),
               l.created_at, l.ended_at,
               CASE WHEN {IN_TEXT_MESSAGES} THEN NULL ELSE l.content END,
               CASE WHEN l.part_type = 'thinking' OR (l.part_type = 'text' AND m.role = 'assistant') THEN length(l.content)
                    WHEN l.part_type = 'tool_call' THEN length(CAST(l.tool_args AS TEXT)) END,
               l.part_cost_usd,
               {_extra_json()}
        FROM parts_legacy l LEFT JOIN messages m ON m.message_id = l.message_id
        """
    )
    _fill(
        "tool_calls",
        "tool_call_id, tool_name, tool_args, tool_result, execution_time_ms, status, call_id, child_session_id",
        "l.part_id, l.tool_name, l.tool_args, l.tool_result, l.execution_time_ms, l.tool_status, l.call_id, l.child_session_id",
        IN_TOOL_CALLS,
    )
    _fill(
        "file_operations",
        "file_op_id, file_path, operation, git_branch, git_commit, git_diff",
        "l.part_id, l.file_path, l.file_operation, l.git_branch, l.git_commit, l.git_diff",
        IN_FILE_OPERATIONS,
    )
    _fill(
        "errors",
        "error_id, error_data, error_message, error_category",
        "l.part_id, coalesce(l.error_data, CAST('{}' AS JSON)), l.error_message, l.error_category",
        IN_ERRORS,
    )
    _fill("thinking_blocks", "thinking_id, thinking_tokens", "l.part_id, l.thinking_tokens", IN_THINKING_BLOCKS)
    _fill(
        "text_messages",
        "message_id, role, content",
        "l.part_id, coalesce((SELECT m.role FROM messages m WHERE m.message_id = l.message_id), 'unknown'), l.content",
        IN_TEXT_MESSAGES,
    )
    _fill(
        "step_events",
        "step_id, message_id, event, input_tokens, output_tokens, reasoning_tokens, cache_read_tokens, cache_write_tokens,"
        " reported_cost_usd",
        "l.part_id, l.message_id, CASE WHEN l.part_type = 'step_start' THEN 'start' ELSE 'finish' END, l.tokens_input, l.tokens_output,"
        f" l.tokens_reasoning, l.tokens_cache_read, l.tokens_cache_write, {COST}",
        IN_STEP_EVENTS,
    )
    _fill("patches", "patch_id, git_commit", "l.part_id, l.git_commit", IN_PATCHES)
    _fill("attachments", "attachment_id, file_name", "l.part_id, l.file_path", IN_ATTACHMENTS)
    _fill("compactions", "compaction_id", "l.part_id", IN_COMPACTIONS)


def _fill(table: str, columns: str, values: str, condition: str) -> None:
    start_phase(f"move {table}")
    op.execute(
        f"""
        INSERT INTO {table} (part_id, session_id, created_at, {columns})
        SELECT l.part_id, coalesce(l.session_id, '{STUB_SESSION_ID}'), l.created_at, {values}
        FROM parts_legacy l WHERE {condition}
        """
    )


def _extra_json() -> str:
    """SQL for `extra`: the values that no other column of the new tables holds, or NULL where there are none."""
    foreign = {
        column: f"CASE WHEN coalesce({owned}, FALSE) THEN NULL ELSE CAST(l.{column} AS TEXT) END" for column, owned in OWNED_WHEN.items()
    }
    marks = " || ".join(f"CASE WHEN {condition} THEN ' {column}' ELSE '' END" for column, (condition, _) in WAS_NULL.items())
    foreign["was_null"] = f"nullif(trim({marks}), '')"
    anything = " OR ".join(f"({value}) IS NOT NULL" for value in foreign.values())
    if _is_duckdb():
        # Put together as text: to take the NULLs out of an object, json_merge_patch needs 2 GB for a value of 50 MB.
        members = ", ".join(f"""'"{name}":' || CAST(to_json({value}) AS TEXT)""" for name, value in foreign.items())
        document = f"""CAST('{{"legacy":{{' || concat_ws(',', {members}) || '}}}}' AS JSON)"""
    else:
        pairs = ", ".join(f"'{name}', {value}" for name, value in foreign.items())
        document = f"json_build_object('legacy', json_strip_nulls(json_build_object({pairs})))"
    return f"CASE WHEN {anything} THEN {document} END"


def _old_rows(names: Sequence[str]) -> str:
    """SQL for some columns of the old table's rows, read from the new tables; only those that hold one of the columns are joined."""
    kept = [*OWNED_WHEN, "was_null"]
    parts = "parts"
    if _is_duckdb():
        # All at once: each call by itself parses the document, and a value of 50 MB ran out of memory.
        paths = ", ".join(f"'$.legacy.{column}'" for column in kept)
        parts = f"(SELECT *, json_extract_string(extra, [{paths}]) AS legacy FROM parts)"

    def legacy(column: str) -> str:
        return f"p.legacy[{kept.index(column) + 1}]" if _is_duckdb() else f"p.extra #>> '{{legacy,{column}}}'"

    def value(column: str, sql_type: str, *homes: str) -> str:
        candidates = [*homes, legacy(column)]
        return nullable(column, f"coalesce({', '.join(f'CAST({candidate} AS {sql_type})' for candidate in candidates)})")

    def nullable(column: str, kept: str) -> str:
        if column in WAS_NULL:
            _, stand_in = WAS_NULL[column]
            kept = f"CASE WHEN {stand_in} AND position('{column}' IN {legacy('was_null')}) > 0 THEN NULL ELSE {kept} END"
        return kept

    # The text kept beside a rounded cost counts as long as the cost is the one that it was rounded to.
    exact_cost = f"CAST({legacy('cost_usd')} AS DOUBLE PRECISION)"
    cost = f"""coalesce(CASE WHEN s.reported_cost_usd IS NOT DISTINCT FROM {MONEY.format(value=exact_cost)} OR s.part_id IS NULL
                             THEN {exact_cost} END, CAST(CAST(s.reported_cost_usd AS TEXT) AS DOUBLE PRECISION))"""
    expressions = {
        "part_id": "p.part_id",
        "session_id": nullable("session_id", "p.session_id"),
        "part_type": nullable("part_type", "p.part_type"),
        "content": "coalesce(p.content, x.content)",
        "tool_name": value("tool_name", "TEXT", "t.tool_name"),
        "tool_args": value("tool_args", "JSON", "t.tool_args"),
        "tool_result": value("tool_result", "TEXT", "t.tool_result"),
        "execution_time_ms": value("execution_time_ms", "DOUBLE PRECISION", "t.execution_time_ms"),
        "file_path": value("file_path", "TEXT", "f.file_path", "a.file_name"),
        "file_operation": value("file_operation", "TEXT", "f.operation"),
        "git_branch": value("git_branch", "TEXT", "f.git_branch"),
        "git_commit": value("git_commit", "TEXT", "f.git_commit", "c.git_commit"),
        "git_diff": value("git_diff", "TEXT", "f.git_diff"),
        "error_data": value("error_data", "JSON", "e.error_data"),
        "error_category": value("error_category", "TEXT", "e.error_category"),
        "thinking_tokens": value("thinking_tokens", "INTEGER", "b.thinking_tokens"),
        "message_id": "p.message_id",
        "created_at": "p.created_at",
        "ended_at": "p.ended_at",
        "call_id": value("call_id", "TEXT", "t.call_id"),
        "tool_status": value("tool_status", "TEXT", "t.status"),
        "child_session_id": value("child_session_id", "TEXT", "t.child_session_id"),
        "error_message": value("error_message", "TEXT", "e.error_message"),
        "tokens_input": value("tokens_input", "BIGINT", "s.input_tokens"),
        "tokens_output": value("tokens_output", "BIGINT", "s.output_tokens"),
        "tokens_reasoning": value("tokens_reasoning", "BIGINT", "s.reasoning_tokens"),
        "tokens_cache_read": value("tokens_cache_read", "BIGINT", "s.cache_read_tokens"),
        "tokens_cache_write": value("tokens_cache_write", "BIGINT", "s.cache_write_tokens"),
        "cost_usd": cost,
        "part_cost_usd": "p.part_cost_usd",
    }
    selected = ",\n".join(f"{expressions[name]} AS {name}" for name in dict.fromkeys(names))

    def first(table: str, key: str, alias: str) -> str:
        """SQL that joins a part's row of a table; of several, as files may be, the first: the old table has room for one."""
        if not re.search(rf"\b{alias}\.", selected):
            return ""
        earlier = f"SELECT 1 FROM {table} q WHERE q.part_id = r.part_id AND q.{key} < r.{key}"
        return f"LEFT JOIN (SELECT * FROM {table} r WHERE NOT EXISTS ({earlier})) {alias} ON {alias}.part_id = p.part_id"

    return f"""(
        SELECT {selected}
        FROM {parts} p
        {first("tool_calls", "tool_call_id", "t")}
        {first("file_operations", "file_op_id", "f")}
        {first("errors", "error_id", "e")}
        {first("thinking_blocks", "thinking_id", "b")}
        {first("text_messages", "message_id", "x")}
        {first("step_events", "step_id", "s")}
        {first("patches", "patch_id", "c")}
        {first("attachments", "attachment_id", "a")}
    )"""


def _check_counts() -> None:
    """Compare the counts of every table with the old one.

    Raises:
        MigrationError: A count differs.
    """
    connection = op.get_bind()
    for table, condition in ROWS_OF.items():
        before = connection.scalar(sa.text(f"SELECT count(*) FROM parts_legacy l WHERE {condition}"))
        after = connection.scalar(sa.text(f"SELECT count(*) FROM {table}"))
        if before != after:
            message = f"{table} holds {after} rows where parts_legacy has {before}; nothing was changed"
            raise MigrationError(message)
