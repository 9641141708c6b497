from __future__ import annotations

import csv
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import duckdb
import msgspec
import pytest
import sqlalchemy as sa

from opencode_monitor.exports.files import write_statement
from opencode_monitor.exports.privacy import PRIVACY, Privacy
from opencode_monitor.exports.tables import TABLES, table_statement
from opencode_monitor.models import PART_SUBTYPES, Base, FileOperation, Message, Part, Project, Session, ToolCall
from opencode_monitor.testing.builders import NOON

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy.orm import Session as DatabaseSession

HOSTILE = '=HYPERLINK("http://evil"),\n"quoted"; \x1b[31m\N{RIGHT-TO-LEFT OVERRIDE}'
PRIVATE = "-----BEGIN PRIVATE KEY-----"


def store(session: DatabaseSession) -> None:
    """Add a session with one tool call of hostile and private content, and a part without a time."""
    session.add(Session(session_id="ses_1", title=HOSTILE, directory="/home/dev/shop", created_at=NOON))
    session.flush()
    session.add(Message(message_id="msg_1", session_id="ses_1", role="assistant", created_at=NOON, message_cost_usd=Decimal("0.4305")))
    session.add(Part(part_id="prt_1", session_id="ses_1", message_id="msg_1", part_type="tool_call", sequence_number=1, created_at=NOON))
    session.add(Part(part_id="prt_2", session_id="ses_1", message_id="msg_1", part_type="thinking", sequence_number=2, content=PRIVATE))
    session.flush()
    session.execute(sa.update(Part).where(Part.part_id == "prt_2").values(created_at=None))
    common = {"part_id": "prt_1", "session_id": "ses_1", "created_at": NOON}
    session.add(ToolCall(tool_call_id="prt_1", **common, tool_name="read", tool_args={"key": [1, HOSTILE]}, tool_result=PRIVATE))
    session.add(FileOperation(file_op_id="prt_1", **common, file_path="/home/dev/shop/a.py", operation="read", file_size=12))


@pytest.fixture
def stored(filled: Callable[[Callable[[DatabaseSession], None]], DatabaseSession]) -> DatabaseSession:
    """A session with one tool call of hostile and private content, and a part without a time."""
    return filled(store)


def test_privacy_every_column_of_every_exported_table_is_judged() -> None:
    columns = {name: set(Base.metadata.tables[name].columns.keys()) for name in TABLES}

    assert {name: set(rule) for name, rule in PRIVACY.items()} == columns


def test_tables_all_parts_of_the_plan_can_be_exported() -> None:
    assert {"sessions", "messages", "parts", *(model.__tablename__ for model in PART_SUBTYPES)} <= set(TABLES)


def test_write_statement_csv_holds_exact_money_utc_times_and_no_formula(stored: DatabaseSession, tmp_path: Path) -> None:
    written = write_statement(stored.connection(), table_statement("messages"), tmp_path / "messages.csv")
    write_statement(stored.connection(), table_statement("sessions"), tmp_path / "sessions.csv")

    with (tmp_path / "messages.csv").open(newline="", encoding="utf-8") as file:
        (message,) = csv.DictReader(file)
    with (tmp_path / "sessions.csv").open(newline="", encoding="utf-8") as file:
        (session,) = csv.DictReader(file)
    assert written == 1
    assert message["message_cost_usd"] == "0.4305"
    assert message["reported_cost_usd"] == ""
    assert message["created_at"] == "2026-05-04T12:00:00.000000Z"
    assert session["title"] == "'" + HOSTILE


def test_write_statement_jsonl_has_money_as_text_unknown_as_null_and_json_as_json(stored: DatabaseSession, tmp_path: Path) -> None:
    for name in ("messages", "tool_calls"):
        write_statement(stored.connection(), table_statement(name), tmp_path / f"{name}.jsonl")

    (message,) = (msgspec.json.decode(line) for line in (tmp_path / "messages.jsonl").read_bytes().splitlines())
    (call,) = (msgspec.json.decode(line) for line in (tmp_path / "tool_calls.jsonl").read_bytes().splitlines())
    assert (message["message_cost_usd"], message["paid_cost_usd"]) == ("0.4305", None)
    assert list(message) == list(Base.metadata.tables["messages"].columns.keys())
    assert call["tool_args"] == {"key": [1, HOSTILE]}
    assert call["tool_result"] == PRIVATE


@pytest.mark.parametrize("arguments", ["no JSON {", "12", "", 12, [1, "2"], {"big": 12345678901234567890}])
def test_write_statement_jsonl_json_is_what_was_stored(arguments: object, stored: DatabaseSession, tmp_path: Path) -> None:
    stored.get_one(ToolCall, "prt_1").tool_args = arguments  # type: ignore[assignment] # a call that was no JSON is stored as its text
    stored.flush()

    write_statement(stored.connection(), table_statement("tool_calls"), tmp_path / "tool_calls.jsonl")

    (call,) = (msgspec.json.decode(line) for line in (tmp_path / "tool_calls.jsonl").read_bytes().splitlines())
    assert call["tool_args"] == arguments


def test_write_statement_parquet_has_the_types_of_the_table(stored: DatabaseSession, tmp_path: Path) -> None:
    file = tmp_path / "it's messages.parquet"

    write_statement(stored.connection(), table_statement("messages"), file)

    name = str(file).replace("'", "''")
    relation = duckdb.sql(f"SELECT message_cost_usd, created_at, input_tokens, role FROM '{name}'")
    assert relation is not None
    assert [str(type_) for type_ in relation.types] == ["DECIMAL(38,12)", "TIMESTAMP WITH TIME ZONE", "BIGINT", "VARCHAR"]
    ((cost, created_at, _, _),) = relation.fetchall()
    assert (cost, created_at.astimezone(UTC)) == (Decimal("0.4305"), NOON)


def test_table_statement_range_is_half_open_and_keeps_rows_without_a_time(stored: DatabaseSession) -> None:
    def parts(start: datetime | None, end: datetime | None) -> list[str]:
        return [row.part_id for row in stored.execute(table_statement("parts", start=start, end=end)).all()]

    assert parts(NOON, None) == ["prt_1", "prt_2"]
    assert parts(None, NOON) == ["prt_2"]


@pytest.mark.parametrize("name", TABLES)
def test_table_statement_redacted_has_neither_content_nor_a_readable_path(name: str, stored: DatabaseSession) -> None:
    statement = table_statement(name, redact=True)

    rows = [row._asdict() for row in stored.execute(statement).all()]

    assert {column.key for column in statement.selected_columns}.isdisjoint(
        column for column, privacy in PRIVACY[name].items() if privacy is Privacy.CONTENT
    )
    told = str(rows)
    assert PRIVATE not in told
    assert "HYPERLINK" not in told
    assert "/home" not in told


def test_table_statement_redacted_project_id_is_a_hash_that_joins(stored: DatabaseSession) -> None:
    # Up to 0.5, OpenCode named a project by its directory.
    stored.add(Project(project_id="home-dev-secret", worktree="/home/dev/secret"))
    stored.add(Session(session_id="ses_2", project_id="home-dev-secret", created_at=NOON))
    stored.flush()

    (project,) = stored.execute(table_statement("projects", redact=True)).all()
    of_sessions = {row.session_id: row.project_id for row in stored.execute(table_statement("sessions", redact=True)).all()}

    assert "secret" not in str(project)
    assert of_sessions == {"ses_1": None, "ses_2": project.project_id}


def test_table_statement_redacted_equal_paths_have_equal_hashes(stored: DatabaseSession) -> None:
    common = {"part_id": "prt_1", "session_id": "ses_1", "operation": "edit"}
    stored.add_all([FileOperation(file_op_id=f"prt_1:{number}", file_path=path, **common) for number, path in enumerate("ab", start=1)])
    stored.add(FileOperation(file_op_id="prt_1:3", file_path="a", **common))
    stored.flush()

    hashes = {row.file_op_id: row.file_path for row in stored.execute(table_statement("file_operations", redact=True)).all()}

    assert hashes["prt_1:1"] == hashes["prt_1:3"] != hashes["prt_1:2"]
